"""A study rehearsed from sign-in to the last answer: model observers read it over HTTP, as browsers would.

Only a study whose design says ``simulated = true`` can be rehearsed, so that no invented rating ever stands among the
ratings of people.
"""

from __future__ import annotations

import hashlib
import http.cookiejar
import json
import queue
import re
import secrets
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanward.config import STUDY_BOUNDS
from scanward.errors import LinkError, SettingsError
from scanward.reading.observers import Grey, ModelObserver, ObserverNoise, scores_of
from scanward.reading.opened import Study, open_study, read_picture
from scanward.web.accounts import Accounts

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all; from one thread at a time."""

_WAIT = 60.0  # s for one answer of a server on this machine; one takes some milliseconds
_START = 60.0  # s until it takes connections
_BY = "rehearsal"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What one model observer did."""

    reader: str
    answers: int  # practice included
    sessions: int  # without practice


def observers_of(
    study: Study, *, seed: int = 0, noise: ObserverNoise | None = None, progress: Progress | None = None
) -> dict[str, ModelObserver]:
    """A model observer for each reader of the protocol, who knows the grey values of its pictures and no truth.

    Raises
    ------
    SettingsError
        A study of people: its design does not say ``simulated = true``.
    InputError
        A picture that is missing or was altered.
    """
    if not study.protocol.design.simulated:
        raise SettingsError(
            "a study of people cannot be rehearsed",
            str(study.folder),
            "make another study whose design says simulated = true: its results say so everywhere",
        )
    questions = [question.identifier for question in study.protocol.design.questions]
    scores: dict[str, dict[str, float]] = {question: {} for question in questions}
    for done, picture in enumerate(study.protocol.pictures, 1):
        grey: Grey = np.frombuffer(read_picture(study, picture), dtype="<u2").astype(np.uint16)
        grey = grey.reshape(picture.rows, picture.columns)
        for question, found in scores_of({picture.sha256: grey}, questions).items():
            scores[question].update(found)
        if progress is not None:
            progress(done, len(study.protocol.pictures))
    return {name: ModelObserver(name, scores, seed, noise or ObserverNoise()) for name in study.readers}


def rehearse(
    folder: Path, observers: Mapping[str, ModelObserver], *, progress: Progress | None = None
) -> list[Rehearsed]:
    """Serve the study on loopback, let every observer sign in and read it to its end, and stop the server.

    All read at once. A rehearsal that was broken off goes on where it was. The passphrases of the readers' accounts
    are replaced by ones that nobody knows.

    Raises
    ------
    LinkError
        The server does not start, or answers as it should not.
    """
    study = open_study(folder, pictures=False)
    total = len(observers) * sum(
        len(session.cases) for session in next(iter(study.readers.values())).sessions
    )
    passphrases = _let_in(study)
    lock = threading.Lock()
    counted = 0

    def one_more() -> None:
        nonlocal counted
        with lock:
            counted += 1
            if progress is not None:
                progress(counted, total)

    done: queue.Queue[Rehearsed | BaseException] = queue.Queue()
    stop = threading.Event()

    def read(observer: ModelObserver) -> None:
        try:
            done.put(_read_all(observer, address, passphrases[observer.name], one_more, stop))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            stop.set()
            done.put(error)

    with _served(folder) as address:
        threads = [
            threading.Thread(target=read, args=(one,), name=one.name, daemon=True)
            for one in observers.values()
        ]
        try:
            for thread in threads:
                thread.start()
            found = [done.get() for _ in threads]
        finally:
            stop.set()
            for thread in threads:
                thread.join(_WAIT)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return sorted((one for one in found if isinstance(one, Rehearsed)), key=lambda one: one.reader)


def _let_in(study: Study) -> dict[str, str]:
    """Fresh passphrases for every reader: {name: passphrase}."""
    given = {name: secrets.token_urlsafe(24) for name in study.readers}
    with Accounts(study.accounts) as accounts:
        for name, passphrase in given.items():
            if accounts.get(name) is None:
                accounts.add(name, ["reader"], passphrase, by=_BY)
            else:
                accounts.set_password(name, passphrase, by=_BY)
    return given


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """`scanward study serve` in a process of its own, on a free port of loopback; its address."""
    command = [sys.executable, "-m", "scanward.cli", "study", "serve", str(folder)]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--port", "0", "--no-washout", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    watchdog = threading.Timer(_START, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        watchdog.cancel()
        try:
            address = str(json.loads(line)["address"])
        except (ValueError, KeyError, TypeError) as error:
            raise LinkError(
                "the study's server did not start", str(folder), "see what it said above"
            ) from error
        yield address
    finally:
        watchdog.cancel()
        process.terminate()
        try:
            process.wait(_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _Browser:
    """As much of a browser as a reading page needs: cookies, the token of its page, JSON."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._token = ""
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # loopback: never through somebody's proxy
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def sign_in(self, name: str, passphrase: str) -> None:
        """Sign in by the form, as people do, and take the token of the reading page."""
        fields = {
            "csrf_token": self._token_of(self._ask("GET", "/sign-in")),
            "name": name,
            "password": passphrase,
            "next": "/study/",
        }
        self._ask(
            "POST", "/sign-in", urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded"
        )
        self._token = self._token_of(self._ask("GET", "/study/read"))

    def get(self, path: str) -> bytes:
        return self._ask("GET", path)

    def state(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._ask("GET", "/study/api/state"))
        return told

    def send(self, method: str, path: str, body: object) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(
            self._ask(method, path, json.dumps(body).encode(), "application/json")
        )
        return told

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Origin": self._address, "X-CSRF-Token": self._token}
        if kind:
            headers["Content-Type"] = kind
        request = urllib.request.Request(  # noqa: S310 - the address is our own server's
            self._address + path, data=body, headers=headers, method=method
        )
        try:
            with self._opener.open(request, timeout=_WAIT) as response:
                data: bytes = response.read(STUDY_BOUNDS.protocol_bytes)
                return data
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise LinkError(
                f"the study's server did not answer as it should: {error}",
                f"{method} {path}",
                "run the rehearsal again: it goes on where it was",
            ) from error

    @staticmethod
    def _token_of(page: bytes) -> str:
        text = page.decode("utf-8", "replace")
        found = re.search(r'name="csrf[_-]token" (?:value|content)="([^"]+)"', text)
        if found is None:
            raise LinkError("a page without its token", "/sign-in", "this is a bug: report it")
        return found.group(1)


def _read_all(
    observer: ModelObserver,
    address: str,
    passphrase: str,
    one_more: Callable[[], None],
    stop: threading.Event,
) -> Rehearsed:
    """Read every case of one reader, in the order the server gives them."""
    browser = _Browser(address)
    browser.sign_in(observer.name, passphrase)
    answers, sessions = 0, 0
    state = browser.state()
    while not state["finished"] and not stop.is_set():
        case = state["case"]
        if state["paused"]:
            browser.send("POST", "/study/api/pause", {"paused": False})
        elif case is None:
            raise LinkError(
                f"nothing to read for {observer.name}",
                str(state["waiting"]),
                "serve a rehearsal with --no-washout",
            )
        else:
            sha256 = hashlib.sha256(browser.get(case["url"])).hexdigest()
            identifier, body = _answer(observer, case, sha256, state)
            browser.send("PUT", f"/study/api/answers/{identifier}", body)
            answers += 1
            sessions = state["session"]["of"]
            one_more()
        state = browser.state()
    return Rehearsed(observer.name, answers, sessions)


def _answer(
    observer: ModelObserver, case: Mapping[str, Any], sha256: str, state: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    ratings = {
        question["identifier"]: observer.rate(sha256, question["identifier"], len(question["labels"]))
        for question in state["questions"]
    }
    # a UUID of version 4 by form; made of reader and case, so that a second attempt sends the same
    digits = hashlib.sha256(f"{observer.seed} {case['token']}".encode()).hexdigest()
    identifier = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"
    body: dict[str, Any] = {
        "identifier": identifier,
        "token": case["token"],
        "revision": 0,
        "ratings": ratings,
        "seconds": observer.seconds(sha256),
    }
    if state["settings"]["confidence"]:
        body["confidence"] = 3
    return identifier, body

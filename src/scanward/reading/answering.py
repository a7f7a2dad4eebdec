"""What the server of a study does for one reader, apart from HTTP: state, pictures, drafts, answers, pauses.

A reader sees his own cases of the open session, nothing else; every other token does not exist for him. What he sends
is checked against the frozen protocol before it is kept. Methods block on disk: a server calls them in a thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from scanward.config import ANSWER_BOUNDS, AnswerBounds
from scanward.errors import InputError, RequestError, ScanwardError
from scanward.reading.opened import Place, Study, read_picture
from scanward.reading.overview import OPENED, PAUSE
from scanward.reading.progress import Position, position
from scanward.reading.protocol import Answer, Shown
from scanward.reading.store import Draft, Kept, Store, stamp

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_Body = TypeVar("_Body")


class Pause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a pause."""

    paused: bool


Told = dict[str, Any]
"""A JSON object."""


class Desk:
    """Where readers hand in their answers.

    Parameters
    ----------
    study, store
        The frozen study and its answers.
    clock : callable
        The time now, with its zone. Washout goes by it, never by the reader's clock.
    washout : timedelta
        Between two sessions of one reader.
    """

    def __init__(
        self,
        study: Study,
        store: Store,
        clock: Callable[[], datetime],
        washout: timedelta,
        bounds: AnswerBounds = ANSWER_BOUNDS,
    ) -> None:
        self.study = study
        self.store = store
        self.clock = clock
        self.washout = washout
        self.bounds = bounds

    def position(self, reader: str) -> Position:
        """Where a reader stands now."""
        return position(
            self.study.readers[reader], self.store.answered(reader), self.clock(), washout=self.washout
        )

    # --- what a reader asks

    def state(self, reader: str) -> Told:
        """All the page needs to begin, and to go on on another computer."""
        here = self.position(reader)
        self._note_opening(reader, here)
        design = self.study.protocol.design
        draft = self.store.draft(reader, here.case.token) if here.case else None
        return {
            "study": {"title": design.title, "sha256": self.study.sha256},
            "reader": reader,
            "simulated": design.simulated,
            "questions": [msgspec.to_builtins(question) for question in design.questions],
            "settings": {
                "confidence": design.confidence,
                "marks": design.marks,
                "go_back": design.go_back,
            },
            "session": self._session(reader, here),
            "progress": _progress(here),
            "case": self._case(here.case, 0) if here.case else None,
            "next": [self._case(shown, 0) for shown in here.following[: self.bounds.preloaded]],
            "answered": list(here.done),
            "draft": msgspec.to_builtins(draft) if draft else None,
            "waiting": _waiting(here),
            "finished": here.finished,
            "paused": self._paused(reader),
        }

    def sessions(self, reader: str) -> list[Told]:
        """The reader's sessions for his first page: done, open, waiting (with the time it opens) or later."""
        answered = self.store.answered(reader)
        here = self.position(reader)
        found: list[Told] = []
        waiting = here.until
        for session in self.study.readers[reader].sessions:
            given = sum(shown.token in answered for shown in session.cases)
            status = "done" if given == len(session.cases) else "later"
            if here.session is not None and here.session.number == session.number:
                status = "open"
            elif status == "later" and waiting is not None:
                status = "waiting"
            found.append(
                {
                    "number": session.number,
                    "practice": session.number == 0,
                    "cases": len(session.cases),
                    "answered": given,
                    "status": status,
                    "opens_at": stamp(waiting) if status == "waiting" and waiting else None,
                }
            )
            if status == "waiting":
                waiting = None
        return found

    def picture(self, reader: str, token: str) -> bytes:
        """The grey values of a case of the open session: rows * columns uint16, little endian.

        ScanwardError where the file is not the one that was frozen: shown to nobody.
        """
        place = self._open_place(reader, token)
        try:
            return read_picture(self.study, place.picture)
        except InputError as error:  # the server's own file, nothing the reader sent
            raise ScanwardError(error.what, error.where, error.todo) from error

    def case(self, reader: str, token: str) -> Told:
        """A case of the open session and the reader's own answer, for going back.

        ``revision`` of the case is what the page puts into its next answer: one above the last, or 0.
        """
        place = self._open_place(reader, token)
        row = self.store.current(reader, token)
        if row is not None and not self.study.protocol.design.go_back:
            raise RequestError("no such case", token, "in this study answers are not revised", status=404)
        revision = 0 if row is None else row.answer.revision + 1
        return {
            "case": self._case(Shown(token=token, picture=place.picture.identifier), revision),
            "answer": None if row is None else msgspec.to_builtins(row.answer),
        }

    # --- what a reader sends

    def put_draft(self, reader: str, token: str, body: bytes) -> Told:
        """Keep what was clicked so far."""
        place = self._own_place(reader, token)
        draft = _decoded(body, Draft, self.bounds)
        self._check_marks(draft, place, complete=False)
        self._check_times(draft)
        if not 0 <= draft.sequence <= self.bounds.sequence:
            raise _wrong("a number out of range", "sequence", f"0 to {self.bounds.sequence}")
        self.store.put_draft(reader, token, draft, self.clock())
        return {"saved": True}

    def put_answer(self, reader: str, identifier: str, body: bytes) -> Told:
        """Keep an answer; the reply is given when it is durable."""
        answer = _decoded(body, Answer, self.bounds)
        if answer.identifier != identifier or not _UUID.fullmatch(identifier):
            raise _wrong(
                "not the identifier of the address, or no UUID", "identifier", "a UUID in small letters"
            )
        place = self._own_place(reader, answer.token)
        self._check_answer(answer, place)
        kept = self.store.put_answer(reader, place.session, answer, self.clock())
        if kept is Kept.TAKEN:
            raise RequestError(
                "another answer has this identifier",
                identifier,
                "give every answer its own UUID",
                status=409,
            )
        return {
            "saved": True,
            "duplicate": kept is Kept.DUPLICATE,
            "conflict": kept is Kept.CONFLICT,
            "progress": _progress(self.position(reader)),
        }

    def pause(self, reader: str, body: bytes) -> Told:
        """Note that a reader pauses, or goes on."""
        pause = _decoded(body, Pause, self.bounds)
        if pause.paused != self._paused(reader):
            self.store.add_event(reader, PAUSE, "yes" if pause.paused else "no", self.clock())
        return {"paused": pause.paused}

    # --- whose is it

    def _own_place(self, reader: str, token: str) -> Place:
        """A token of this reader in a session that is open or was: what is handed in late is kept too."""
        place = self.study.places.get(token)
        if place is not None and place.reader == reader:
            here = self.position(reader)
            if here.holds(token) or token in self.store.answered(reader):
                return place
        raise _unknown(token)

    def _open_place(self, reader: str, token: str) -> Place:
        """A token of this reader in the session that is open."""
        place = self.study.places.get(token)
        if place is not None and place.reader == reader and self.position(reader).holds(token):
            return place
        raise _unknown(token)

    # --- checks against the protocol

    def _check_answer(self, answer: Answer, place: Place) -> None:
        design = self.study.protocol.design
        if not 0 <= answer.revision <= (self.bounds.revisions if design.go_back else 0):
            raise _wrong(
                "a revision out of range", "revision", "answers may be revised within a session only"
            )
        if len(answer.acts) > self.bounds.acts:
            raise _wrong(f"more than {self.bounds.acts} acts", "acts", "send fewer")
        for act in answer.acts:
            if max(len(act.what), len(act.value)) > self.bounds.act_chars or not math.isfinite(act.at):
                raise _wrong("an act out of range", "acts", f"at most {self.bounds.act_chars} characters")
        if len(answer.answered_at) > self.bounds.act_chars:
            raise _wrong("no time", "answered_at", "leave it out")
        self._check_marks(answer, place, complete=True)
        self._check_times(answer)

    def _check_marks(self, given: Answer | Draft, place: Place, *, complete: bool) -> None:
        design = self.study.protocol.design
        labels = {question.identifier: len(question.labels) for question in design.questions}
        if complete and (missing := labels.keys() - given.ratings.keys()):
            raise _wrong("a question is not answered", f"ratings.{min(missing)}", "answer every question")
        for question, rating in given.ratings.items():
            if question not in labels:
                raise _wrong("no question of this study", "ratings", f"one of {', '.join(labels)}")
            if not 1 <= rating <= labels[question]:
                raise _wrong("a rating out of range", f"ratings.{question}", f"1 to {labels[question]}")
        if given.confidence is not None and not (
            design.confidence and 1 <= given.confidence <= self.bounds.confidence
        ):
            raise _wrong("a confidence that was not asked for, or out of range", "confidence", "leave it out")
        if len(given.marks) > (self.bounds.marks if design.marks else 0):
            raise _wrong("more marks than may be set", "marks", f"at most {self.bounds.marks}, if any")
        rows, columns = place.picture.rows, place.picture.columns
        if not all(0 <= x <= columns and 0 <= y <= rows for x, y in given.marks):
            raise _wrong("a mark outside the picture", "marks", "(x, y) in px of the picture")

    def _check_times(self, given: Answer | Draft) -> None:
        for name, seconds in (("seconds", given.seconds), ("away", given.away)):
            if not 0 <= seconds <= self.bounds.seconds:  # a NaN fails too
                raise _wrong("a time out of range", name, f"0 to {self.bounds.seconds:g} s")
        if given.window is not None and not all(abs(v) <= self.bounds.grey for v in given.window):
            raise _wrong("a window out of range", "window", "centre and width in grey values")

    # --- parts of the state

    def _case(self, shown: Shown, revision: int) -> dict[str, Any]:
        picture = self.study.places[shown.token].picture
        return {
            "token": shown.token,
            "rows": picture.rows,
            "columns": picture.columns,
            "bits": picture.bits,
            "window": list(picture.window),
            "revision": revision,
            "url": f"/study/api/pictures/{shown.token}",
        }

    def _session(self, reader: str, here: Position) -> dict[str, Any] | None:
        if here.session is None:
            return None
        of = max(session.number for session in self.study.readers[reader].sessions)
        return {"number": here.session.number, "of": of, "practice": here.session.number == 0}

    def _paused(self, reader: str) -> bool:
        event = self.store.last_event(reader, PAUSE)
        return event is not None and event.value == "yes"

    def _note_opening(self, reader: str, here: Position) -> None:
        """Note once that a session was opened. Without room on the disk reading goes on all the same."""
        if here.session is None:
            return
        number = str(here.session.number)
        if any(event.value == number for event in self.store.events(reader, OPENED)):
            return
        try:
            self.store.add_event(reader, OPENED, number, self.clock())
        except ScanwardError:
            return  # the next request for the state tries again


def _progress(here: Position) -> dict[str, int]:
    return {
        "answered": here.answered,
        "cases": here.cases,
        "session_answered": here.session_answered,
        "session_cases": here.session_cases,
    }


def _waiting(here: Position) -> dict[str, str] | None:
    if here.until is None:
        return None
    return {
        "until": stamp(here.until),
        "why": "Between two sessions lie some weeks, so that memory does not help.",
    }


def _unknown(token: str) -> RequestError:
    return RequestError("no such case", token[:64], "read the cases of the open session", status=404)


def _wrong(what: str, where: str, todo: str) -> RequestError:
    return RequestError(what, where, todo, status=422)


def _decoded(body: bytes, kind: type[_Body], bounds: AnswerBounds) -> _Body:
    """A body of the given kind; RequestError for everything else."""
    if len(body) > bounds.body_bytes:
        raise RequestError(f"more than {bounds.body_bytes} bytes", "body", "send less", status=413)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"not what was expected: {error}", "body", "see docs/reader-study-serving.md") from error

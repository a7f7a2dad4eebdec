"""``scanward demo --open``: an emulated scanner, its guard and the console, until interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import escape, note
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.emulator.attack import Supply
    from scanward.emulator.standing import Standing

LATER = 300  # examinations after those learned from, of all devices; then they begin anew
SEEN = 200  # that the attacker has seen
# Besides the operators of the policy. Somebody has to see accounts and configuration, too.
PHYSICIST, PHYSICISTS_ROLES = "petra", ("physicist", "administrator")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Person:
    """One who may sign in. ``key``: file of an operator's key, which the same passphrase opens; None for others."""

    name: str
    roles: tuple[str, ...]
    passphrase: str
    key: Path | None

    def as_json(self) -> dict[str, Any]:
        """What is printed, once."""
        return {
            "name": self.name,
            "roles": list(self.roles),
            "passphrase": self.passphrase,
            "key": None if self.key is None else str(self.key),
        }


def open_demo(
    out: Path,
    seed: int,
    learned: int,
    *,
    as_json: bool = False,
    browser: bool = True,
    port: int = 0,
    examinations: int | None = None,
) -> None:
    """Start everything on the bundle in ``out`` and work at the scanner until interrupted.

    Parameters
    ----------
    out : Path
        Holds ``bundle`` and ``demo.pub``. The operators' keys are left there, as ``NAME.key``.
    seed, learned : int
        The site, and how many of its examinations were learned from.
    browser : bool
        Whether a browser is opened, where there is one.
    examinations : int or None
        End after so many, for tests.
    """
    from scanward.emulator.attack import Supply
    from scanward.emulator.book import approved, bundle_with_book
    from scanward.emulator.demonstration import DEVICE
    from scanward.simulation import Donors, Site

    if not (out / "bundle").is_dir() or not (out / "demo.pub").is_file():
        raise SettingsError("no bundle of a demonstration", str(out), "leave out --open once")
    site = Site(seed)
    supply = Supply.of(
        site.devices[DEVICE], site.examinations(LATER, learned), Donors(site.examinations(SEEN))
    )
    # a socket's path must be short, so guard and console live in a folder of their own
    folder = Path(tempfile.mkdtemp(prefix="scanward-"))
    try:
        judge = bundle_with_book(out / "bundle", out / "demo.pub", approved(site, DEVICE), folder / "judge")
        with contextlib.suppress(asyncio.CancelledError):  # how it ends when somebody ends it
            asyncio.run(_run(folder, out, supply, judge[:2], seed, port, as_json, browser, examinations))
        if not as_json:
            click.echo("Everything has ended: scanner, guard and console.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(
    folder: Path,
    out: Path,
    supply: Supply,
    judge: tuple[Path, Path],
    seed: int,
    port: int,
    as_json: bool,
    browser: bool,
    examinations: int | None,
) -> None:
    from scanward.emulator.rig import Running
    from scanward.emulator.standing import standing, work_on

    note("starting an emulated gantry, its guard and the console")
    with _ended_once():
        async with standing(folder / "guard", supply.device, *judge, seed=seed) as made:
            config, people = _console(folder / "console", made, judge, port, out)
            console = await Running.start(["console", "--config", str(config), "--json"])
            try:
                address = f"{json.loads(await console.first_line())['address']}/"
                _tell(address, people, as_json)
                if browser and _has_screen():
                    await asyncio.to_thread(webbrowser.open, address)
                await work_on(made, supply, _say(as_json), seed=seed, examinations=examinations)
            finally:
                await console.end()


@contextlib.contextmanager
def _ended_once() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal cancel the task around it, once: a second one breaks into no ending."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    asked = False

    def end() -> None:
        nonlocal asked
        if not asked:
            asked = True
            task.cancel()

    for number in _ENDING:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


def _has_screen() -> bool:
    """Whether a browser has a screen to open on: one for text would take this terminal, and hold up the scanner."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _console(
    folder: Path, made: Standing, judge: tuple[Path, Path], port: int, out: Path
) -> tuple[Path, list[Person]]:
    """console.toml, the accounts with their passphrases, and the operators' keys in ``out``."""
    from scanward.emulator.standing import OPERATORS
    from scanward.keys import SigningKey, write_pair
    from scanward.web.accounts import Accounts

    folder.mkdir()
    (folder / "state").mkdir(mode=0o700)
    paths = {
        "control": made.fitting.socket,
        "audit": made.fitting.audit,
        "bundle": judge[0],
    }
    lines = [
        "[web]",
        f'listen = "127.0.0.1:{port}"',
        "[[scanner]]",
        'id = "ct1"',
        'name = "CT 1 (simulated)"',
    ]
    lines += [f"{name} = {json.dumps(str(path))}" for name, path in paths.items()]
    lines += [
        f"audit_keys = [{json.dumps(str(made.fitting.folder / 'audit.pub'))}]",
        f"bundle_keys = [{json.dumps(str(judge[1]))}]",
    ]
    (folder / "console.toml").write_text("\n".join(lines) + "\n", "utf-8")
    with Accounts(folder / "state" / "accounts.sqlite") as accounts:
        people = []
        for name, roles in [*((name, ("operator",)) for name in OPERATORS), (PHYSICIST, PHYSICISTS_ROLES)]:
            passphrase = accounts.add(name, roles)
            assert passphrase is not None
            key = None
            if name in OPERATORS:
                own = SigningKey.load(made.fitting.key_of(name))
                key, _ = write_pair(out / name, own, passphrase.encode(), force=True)
            people.append(Person(name, roles, passphrase, key))
    return folder / "console.toml", people


def _tell(address: str, people: list[Person], as_json: bool) -> None:
    if as_json:
        told = {"simulated": True, "address": address, "people": [one.as_json() for one in people]}
        click.echo(json.dumps(told))
        return
    click.echo(f"SIMULATED. The console: {address}")
    for one in people:
        key = "" if one.key is None else f"; key for acts: {escape(str(one.key))}"
        click.echo(f"  {one.name} ({' and '.join(one.roles)}): passphrase {one.passphrase}{key}")
    click.echo("A passphrase is for this run alone; it signs in, and opens the key.")
    click.echo("Every third examination is attacked. Decide what is on hold; Ctrl-C ends everything.")


def _say(as_json: bool) -> Any:
    def say(line: str) -> None:
        click.echo(json.dumps({"happened": line}) if as_json else f"SIMULATED {escape(line)}")

    return say

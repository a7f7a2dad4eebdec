"""The other ends of a guard, as processes with a journal that survives SIGKILL: gantry, host, operator's console.

A journal has one JSON object a line, each written by one system call before (or as) the thing happens; ``t`` is the
system's monotonic clock, the same for all processes. What the gantry *received* is told by its own journal, and by
nothing that the guard says.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing as mp
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.guard_rig import DEVICE
from scanward.commands import Examination
from scanward.commands.wire import Done, FromGantry, Load, Motion, Started, Stop, ToGantry, Trigger
from scanward.emulator.gantry import Gantry
from scanward.emulator.host import Answer, Host, chains_of
from scanward.emulator.play import Played, RoomDoor, patient_of, run_chain, study_of
from scanward.emulator.room import Acquired, Room
from scanward.emulator.server import GantryServer
from scanward.emulator.staff import Operator
from scanward.emulator.wires import Lines, Tls
from scanward.errors import DecodeError, SettingsError
from scanward.guard.arming import chain_digest, motion_digest
from scanward.guard.control_client import ControlClient
from scanward.keys import SigningKey
from scanward.simulation import Donors, Site
from scanward.simulation.attacks import ATTACKS
from scanward.simulation.scanner import perform

Address = tuple[str, int]
ATTACKED = "dose_x3"  # inside every hardware limit: it is for the operator to decide
PATIENCE_S = 3.0  # s after which a host that hears nothing gives up, as after silence on any link
PAUSE_S = 0.05  # s between two attempts of a host to connect


class Journal:
    """Appends lines to a file that others read while it grows."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, what: str, **more: Any) -> None:
        line = json.dumps({"t": time.monotonic(), "what": what, **more}, default=str)
        os.write(self._handle, line.encode() + b"\n")


class Tail:
    """Reads a journal as it grows; a line that is not whole yet is left for later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[dict[str, Any]] = []
        self._at = 0

    def look(self) -> list[dict[str, Any]]:
        """What is new."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        new = [json.loads(line) for line in whole.splitlines()]
        self.said += new
        return new

    def of(self, what: str, since: float = 0.0) -> list[dict[str, Any]]:
        """All of one kind from ``since`` on."""
        self.look()
        return [s for s in self.said if s["what"] == what and s["t"] >= since]


# --- gantry -----------------------------------------------------------------------------------------------
class JournalRoom(Room):
    """A room that writes down every dose."""

    journal: Journal

    def record(self, done: Acquired) -> None:
        """A scan took place."""
        self.journal(
            "acquired", load=done.load, element=done.element, aborted=done.aborted, ctdivol=done.ctdivol,
            dlp=done.dlp,
        )  # fmt: skip
        super().record(done)


class JournalGantry(GantryServer):
    """The emulated gantry with a journal of what it receives, begins and loses."""

    journal: Journal

    def hear(self, message: ToGantry) -> None:
        """Written down before anything is done with it."""
        match message:
            case Load():
                self.journal("load", id=message.id, digest=chain_digest(message.chain), n=len(message.chain))
            case Trigger():
                self.journal("trigger", id=message.id, load=message.load, element=message.element)
            case Motion():
                self.journal("motion", id=message.id, digest=motion_digest(message))
            case Stop():
                self.journal("stop", kind=message.what)
            case _:
                pass
        super().hear(message)

    def _say(self, messages: tuple[FromGantry, ...]) -> None:
        for message in messages:
            if isinstance(message, Started):
                self._begun(message)
        super()._say(messages)

    def _begun(self, message: Started) -> None:
        """What the scan will have given once it is whole: a gantry that is killed cannot say it any more."""
        load = self.gantry.load
        if load is None:
            return
        room = self.gantry.room
        scan = perform(
            self.gantry.model, load.chain[message.element].command.parameters, room.who, room.measured
        )
        wake = self.gantry.wake
        left = 0.0 if wake is None else max(0.0, (wake - self.now) / self.factor)
        self.journal(
            "begun", load=message.load, element=message.element, seconds=left, ctdivol=scan.ctdivol,
            dlp=scan.dlp,
        )  # fmt: skip

    def _lost(self, why: str, tell: Lines | None = None) -> None:
        super()._lost(why, tell)
        loss = self.losses[-1]
        self.journal(
            "safe", why=why, silence=loss.silence_s, reaction=loss.reaction_s, beam=loss.beam,
            state=self.gantry.state.value,
        )  # fmt: skip


def run_gantry(
    journal: Path, seed: int, factor: float, port: int, room_port: int, tls: Tls | None = None
) -> None:
    """A process: until it is killed."""

    async def run() -> None:
        site = Site(seed)
        said = Journal(journal)
        room = JournalRoom()
        room.journal = said
        gantry = Gantry(site.models[DEVICE], site.devices[DEVICE], room)
        server = JournalGantry(gantry, "127.0.0.1", port, room_port, tls, factor=factor)
        server.journal = said
        await server.start()
        said("ready", port=server.port, room=server.room_port)
        await asyncio.Event().wait()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run())


# --- host -------------------------------------------------------------------------------------------------
class JournalHost(Host):
    """A host that writes down what it asks and what it is answered; its names are unique for good."""

    journal: Journal
    names: itertools.count[int]
    prefix: str

    def name(self, letter: str) -> str:
        """Never used by any host before."""
        return f"{letter}{self.prefix}.{next(self.names)}"

    async def done(self, load: str, element: int, timeout: float = PATIENCE_S) -> Done | None:
        """Wait until an element has ended, and not longer than a host waits that hears nothing."""
        return await super().done(load, element, timeout)

    async def _ask(self, message: Any, yes: Any, timeout: float) -> Answer:
        timeout = min(timeout, PATIENCE_S) if isinstance(message, Trigger) else timeout
        begun = time.monotonic()
        digest = chain_digest(message.chain) if isinstance(message, Load) else ""
        self.journal("ask", kind=type(message).__name__, id=message.id, digest=digest)
        answer = await super()._ask(message, yes, timeout)
        reply = answer.message
        self.journal(
            "answer", kind=type(message).__name__, id=message.id, asked=begun, how=answer.what,
            again=getattr(reply, "again", False), reason=answer.reason, held=answer.held,
        )  # fmt: skip
        return answer


def supply(seed: int, start: int, every: int) -> Any:
    """Examinations of the guarded device without end, from number ``start`` on; one in ``every`` is attacked."""
    site = Site(seed)
    device = site.devices[DEVICE]
    donors = Donors(site.examinations(60)) if every else None
    number = start
    for count in itertools.count(1):
        while (examination := site.examination(number)).commands[0].device != device:
            number += 1
        number += 1
        if donors is not None and count % every == 0:
            attack = ATTACKS[ATTACKED]
            rng = np.random.default_rng((seed, number))
            for index in attack.eligible(examination)[-1:]:
                examination = attack.apply(examination, index, rng, donors) or examination
        yield number, examination


def run_host(
    journal: Path, seed: int, start: int, every: int, prefix: str, at: Address, room: Address
) -> None:
    """A process: plays examinations until it is killed, whatever becomes of them."""

    async def run() -> None:
        said = Journal(journal)
        device = Site(seed).devices[DEVICE]
        names = itertools.count(1)
        door: RoomDoor | None = None
        host: JournalHost | None = None
        for number, examination in supply(seed, start, every):
            while True:
                try:
                    door = door or await RoomDoor.open(*room)
                    if host is None or host.lost:
                        if host is not None:
                            await host.close()
                            host = None
                        host = await JournalHost.open(*at, device)
                        host.journal, host.names, host.prefix = said, names, prefix
                        said("connected")
                    await one(host, door, examination, said, number)
                except SettingsError:  # the guard, or the gantry's room, is not there
                    await asyncio.sleep(PAUSE_S)
                    continue
                except DecodeError:  # the room is gone
                    if door is not None:
                        await door.close()
                    door = None
                    continue
                break

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run())


async def one(host: Host, door: RoomDoor, examination: Examination, said: Journal, number: int) -> None:
    """One examination, which ends where something is not carried out."""
    host.said.clear()
    await door.enter(patient_of(examination))
    said("examination", number=number)
    played = Played()
    study, patient = study_of(examination.identifier), f"SIM-{examination.identifier[:12]}"
    for chain in chains_of(examination):
        if not await run_chain(host, door, chain, study, patient, played):
            break
    stopped = played.stopped
    said("ended", number=number, ok=stopped is None, why=stopped.reason or stopped.what if stopped else "")
    if stopped is not None:
        await asyncio.sleep(PAUSE_S)


# --- operator ---------------------------------------------------------------------------------------------
class Console(Operator):
    """Answers what comes, and what was on hold when it came."""

    def _watch(self, client: ControlClient) -> None:
        held = client.state.get("held")
        if isinstance(held, dict):
            self._answer(client, held)
        super()._watch(client)


def run_console(journal: Path, socket: Path, key: Path, name: str, each: int = 2) -> None:
    """A process: releases each second hold (or each first) and refuses the others, until it is killed."""
    said = Journal(journal)
    turn = itertools.count()

    def decide(held: dict[str, Any]) -> bool:
        wish = next(turn) % each == 0
        said("decided", id=held.get("id"), release=wish)
        return wish

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Console(socket, SigningKey.load(key), name, decide):
        said("ready")
        signal.pause()


# --- processes --------------------------------------------------------------------------------------------
class End:
    """One of these processes: killed and started again. A fork server makes the start a matter of milliseconds."""

    def __init__(self, run: Any, *arguments: Any) -> None:
        self._run, self._arguments = run, arguments
        self.process: Any = None
        self.starts = 0

    def start(self, *more: Any) -> None:
        """Start it, with ``more`` arguments for this life."""
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.guard_ends"])
        self.process = context.Process(target=self._run, args=(*self._arguments, *more), daemon=True)
        self.process.start()
        self.starts += 1

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self.process.pid)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        if self.process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGCONT)
        self.process.kill()
        self.process.join(30)
        self.process.close()
        self.process = None

"""Room and host together play an examination: patient in, chain loaded, scans begun, injector armed, dose read."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scanward.commands import Examination
from scanward.commands.wire import Element
from scanward.emulator.host import Answer, Host, What, chains_of
from scanward.emulator.wires import Lines, connect, is_loopback
from scanward.errors import DecodeError, SettingsError
from scanward.simulation.scanner import OnTable, model_named, on_table

PAUSE_S = 600.0  # gantry seconds between two patients: the room is cleaned, the tube cools


@dataclass(eq=False)
class RoomDoor:
    """The test bench's door to the room of an emulated gantry."""

    lines: Lines

    @classmethod
    async def open(cls, host: str, port: int) -> RoomDoor:
        """SettingsError when there is no room at that address, or it is not this machine's."""
        if not is_loopback(host):
            raise SettingsError("a room on another machine", host, "rooms are on 127.0.0.1 alone")
        return cls(await connect(host, port))

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """One request; the room's report. DecodeError when the room does not understand it or is gone."""
        self.lines.send(json.dumps({"do": do, **more}).encode() + b"\n")
        line = await self.lines.next()
        found = json.loads(line) if line is not None else {"error": "the room is gone"}
        if not isinstance(found, dict) or "error" in found:
            raise DecodeError(str(found.get("error")) if isinstance(found, dict) else "no answer", "the room")
        return found

    async def enter(self, who: OnTable, pause: float = PAUSE_S) -> None:
        """Another patient lies down, and whatever made the gantry safe is cleared."""
        await self.ask("enter", who=asdict(who), pause=pause)
        await self.ask("clear")

    async def close(self) -> None:
        """Leave."""
        await self.lines.close()


@dataclass
class Played:
    """What became of one examination.

    ``answers`` holds one entry for every load and every trigger, in order; ``loads`` those of loads alone, with the
    number of commands in each.
    """

    answers: list[Answer] = field(default_factory=list)
    loads: list[tuple[int, Answer]] = field(default_factory=list)
    triggers: list[Answer] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def stopped(self) -> Answer | None:
        """The first answer that was not a yes."""
        return next((a for a in self.answers if not a.ok), None)

    @property
    def commands(self) -> int:
        """Commands that were loaded or tried to be."""
        return sum(count for count, _ in self.loads)

    @property
    def released(self) -> int:
        """Commands that reached the gantry."""
        return sum(count for count, answer in self.loads if answer.ok)


def patient_of(examination: Examination) -> OnTable:
    """Who lies on the table; SettingsError when the examination is of no simulated device."""
    device = examination.commands[0].device
    model = model_named(device.manufacturer, device.model)
    if model is None:
        raise SettingsError(
            f"{device.manufacturer} {device.model} is no simulated device",
            "",
            "play examinations of scanward.simulation",
        )
    return on_table(examination, model)


def study_of(identifier: str) -> str:
    """A StudyInstanceUID of one's own making (PS3.5 B.2) out of any identifier."""
    return f"2.25.{int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=12).digest())}"


def monitors(chain: Sequence[Element], index: int) -> bool:
    """Whether an element waits for contrast: the next one begins by itself."""
    return index + 1 < len(chain) and chain[index + 1].auto


async def run_chain(
    host: Host, room: RoomDoor, chain: Sequence[Element], study: str, patient: str, played: Played
) -> bool:
    """Load one chain and trigger what has to be triggered; whether all of it was carried out."""
    load, answer = await host.load(chain, study, patient)
    played.answers.append(answer)
    played.loads.append((len(chain), answer))
    if not answer.ok:
        return False
    for index, element in enumerate(chain):
        if not element.auto:
            if monitors(chain, index):
                await room.ask("arm")  # the injector begins together with the scan
            begun = await host.trigger(load, index)
            played.answers.append(begun)
            played.triggers.append(begun)
            if not begun.ok:
                return False
        done = await host.done(load, index)
        if done is None or done.aborted:
            played.answers.append(Answer(What.LOST if host.lost else What.DECLINED, done))
            return False
    return True


async def play(
    host: Host,
    room: RoomDoor,
    examination: Examination,
    *,
    who: OnTable | None = None,
    pause: float = PAUSE_S,
) -> Played:
    """One whole examination; it ends where a load or a trigger is not carried out."""
    played = Played()
    host.said.clear()
    await room.enter(who or patient_of(examination), pause)
    study, patient = study_of(examination.identifier), f"SIM-{examination.identifier[:12]}"
    for chain in chains_of(examination):
        if not await run_chain(host, room, chain, study, patient, played):
            break
    await asyncio.sleep(0)
    played.report = await room.ask("report")
    return played

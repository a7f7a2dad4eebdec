"""One emulated scanner behind a guard, worked at without end: for whoever wants to sit at the console.

Unlike `rig`, nobody answers holds but who is at the console or a terminal. Everything is simulated, and says so.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scanward.commands import Device
from scanward.emulator import certificates
from scanward.emulator.attack import Attack, Bench, Supply
from scanward.emulator.attacks import ATTACKS
from scanward.emulator.campaign import strike
from scanward.emulator.fitting import Fitting, fit_guard
from scanward.emulator.play import RoomDoor, play
from scanward.emulator.rig import SOCKET_PATH, Running, first_verdict, gantry_arguments
from scanward.emulator.wires import address
from scanward.errors import ScanwardError, SettingsError
from scanward.simulation.scanner import model_named

FACTOR = 30.0  # gantry seconds per second: a scan lasts long enough to be watched
HOLD_S = 120.0  # a hold waits for somebody who has never seen the page
OPERATORS = ("anna", "bert")  # two, for some holds need both
EVERY = 3  # of so many examinations one is attacked
PAUSE_S = 4.0  # between two examinations

# Attacks on what is ordered, which a guard holds or halts: those on the wire are no sight.
SHOWN = (
    "dose_x8", "adult_on_child", "scan_parameters", "underdose", "aec_wrong_reference", "perfusion_x8",
    "forged_context", "signal_disruption", "perfusion_120kv",
)  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """One scanner with a guard in front of it."""

    bench: Bench
    fitting: Fitting
    guard: Running


@asynccontextmanager
async def standing(
    folder: Path,
    device: Device,
    bundle: Path,
    trusted: Path,
    *,
    seed: int = 0,
    factor: float | None = None,
    hold_s: float = HOLD_S,
) -> AsyncIterator[Standing]:
    """Start gantry and guard in ``folder``, and end them again.

    Raises
    ------
    SettingsError
        ``device`` is no simulated one, or the path is too long for a socket.
    ScanwardError
        A process does not start, or the guard gives no verdict.
    """
    model = model_named(device.manufacturer, device.model)
    if model is None:
        raise SettingsError(f"{device.manufacturer} {device.model} is no simulated device", "", "give one")
    if len(os.fsencode(folder.absolute() / "control.sock")) > SOCKET_PATH:
        raise SettingsError("the path is too long for a socket", str(folder), "give a shorter folder")
    ends = certificates.make(folder / "tls")
    async with AsyncExitStack() as stack:
        gantry = await Running.start(gantry_arguments(model.name, seed, factor or FACTOR, ends["gantry"]))
        stack.push_async_callback(gantry.end)
        where = json.loads(await gantry.first_line())
        room = await RoomDoor.open(*address(where["room"]))
        stack.push_async_callback(room.close)
        wire = address(where["link"])
        fitting = fit_guard(
            folder, model, device, bundle, trusted, wire, ("127.0.0.1", 0), tls=ends, hold_s=hold_s,
            operators=OPERATORS, two_persons=True,
        )  # fmt: skip
        guard = await Running.start(["guard", "--config", str(fitting.config)])
        stack.push_async_callback(guard.end)
        port = re.search(r"port (\d+)", await guard.first_line())
        if port is None:
            raise ScanwardError("the guard does not say its port", "", "run `scanward guard` by hand")
        bench = replace(Bench(wire, room, device, ends["host"]), address=("127.0.0.1", int(port[1])))
        await first_verdict(bench, guard)
        yield Standing(bench, fitting, guard)


async def work_on(
    made: Standing,
    supply: Supply,
    say: Callable[[str], None],
    *,
    seed: int = 0,
    attacks: Sequence[Attack] = (),
    examinations: int | None = None,
    pause_s: float | None = None,
) -> None:
    """Examine one patient after the other, and attack every third; without end, or ``examinations`` times.

    ScanwardError when the guard ends.
    """
    chosen = list(attacks) or [ATTACKS[name] for name in SHOWN]
    for number in itertools.count() if examinations is None else range(examinations):
        if not made.guard.alive:
            raise ScanwardError(f"the guard ended: {made.guard.last_words}", "", "run it by hand")
        if number % EVERY == EVERY - 1:
            say(await _attacked(made, supply, chosen[number // EVERY % len(chosen)], seed, number))
        else:
            say(await _examined(made, supply, number))
        await asyncio.sleep(PAUSE_S if pause_s is None else pause_s)


async def _examined(made: Standing, supply: Supply, number: int) -> str:
    examination = supply.examinations[number % len(supply.examinations)]
    async with made.bench.host() as host:
        played = await play(host, made.bench.room, examination)
    stopped = played.stopped
    end = "carried out" if stopped is None else f"not carried out: {stopped.reason or stopped.what}"
    return f"examination {number + 1}, as ordered: {played.released} of {played.commands} commands released; {end}"


async def _attacked(made: Standing, supply: Supply, attack: Attack, seed: int, number: int) -> str:
    outcome = await strike(attack, made.bench, supply, seed, number)
    if outcome is None:
        return f"examination {number + 1}: nobody to attack by {attack.about!r}"
    what = f"stopped by {outcome.stopped_by}" if outcome.stopped_by else "released"
    return f"examination {number + 1}, attacked ({attack.about}): {what}"

"""The demonstration's second scenario: the same bundle in the same guard, on a CANopen wire.

Host and gantry are the canopen library's own client and node (``can_host``, ``can_gantry``) on virtual buses of
python-can, which have no arbitration (docs/can.md); between them stands the relay with its gate, a judge process and an
audit writer. Needs the extra ``can``; without it the scenario is skipped, and says so.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanward.commands import Device, Examination
from scanward.emulator.attack import Scene, Supply
from scanward.emulator.attacks import ATTACKS
from scanward.emulator.fitting import OPERATOR, fit_guard
from scanward.emulator.gantry import Gantry
from scanward.emulator.host import chains_of
from scanward.emulator.play import patient_of, study_of
from scanward.emulator.staff import Operator, refuse, release
from scanward.keys import SigningKey

if TYPE_CHECKING:
    from scanward.codecs.canopen_profile import CanProfile
    from scanward.emulator.can_host import CanHost

SPEED = 200.0  # gantry seconds per second
PATIENCE_S = 15.0  # against hanging: a host sends again for so long what is withheld
CLEAN, CONTENTS = 6, ("perfusion_x8", "scan_parameters", "signal_disruption")
STEPS = CLEAN + len(CONTENTS) + 1  # of the progress bar
MOST_SCANS = 6  # of one examination: the wire's chain holds eight


@dataclass
class OnCan:
    """What the scenario found; ``skipped`` says why it was not played."""

    skipped: str = ""
    commands: int = 0
    released: int = 0
    alerted: int = 0
    load_ms: list[float] = field(default_factory=list)
    attacks: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """``can`` in ``scanward demo --json``."""
        if self.skipped:
            return {"skipped": self.skipped}
        p50, p99 = np.percentile(self.load_ms, [50, 99]) if self.load_ms else (None, None)
        return {
            "bus": "virtual, without arbitration",
            "clean": {
                "commands": self.commands,
                "released": self.released,
                "alerted": self.alerted,
                "first_trigger_ms": {
                    "p50": p50 and round(float(p50), 2),
                    "p99": p99 and round(float(p99), 2),
                },
            },
            "attacks": self.attacks,
            "seconds": round(self.seconds, 2),
        }


def missing() -> str:
    """Which library is not there, as a reason to skip; empty when all are."""
    gone = [name for name in ("can", "canopen") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(gone)} not installed (pip install 'scanward[can]')" if gone else ""


async def demonstrate_can(
    folder: Path,
    bundle: Path,
    trusted: Path,
    supply: Supply,
    seed: int,
    profile_at: tuple[Path, Path],
    step: Callable[[], None] = lambda: None,
) -> OnCan:
    """Play clean and attacked examinations of ``supply`` over two virtual buses with a guard in between.

    Parameters
    ----------
    folder : Path
        Empty; the guard's.
    profile_at : (profile, data sheet)
        Of the emulated scanner, as in ``examples/can``.
    """
    if why := missing():
        return OnCan(why)
    from scanward.codecs.canopen_profile_toml import load_profile
    from scanward.emulator.can_gantry import BusGantry
    from scanward.emulator.can_host import BusHost
    from scanward.guard.config import load_config
    from scanward.guard.relay_run import Guard, verified
    from scanward.links.can import CanLink
    from scanward.links.identifiers import Identifiers
    from scanward.transport.can import CanBus

    begun = time.perf_counter()
    profile, sheet = load_profile(profile_at[0]), profile_at[1].read_text("utf-8")
    nowhere = ("127.0.0.1", 9)  # the stream link of this configuration is never opened
    fitting = fit_guard(folder, supply.model, supply.device, bundle, trusted, nowhere, ("127.0.0.1", 0))
    name = f"scanward-{os.getpid()}-{id(supply)}"
    on_host, on_gantry = f"{name}-host", f"{name}-gantry"
    link = CanLink(profile, CanBus("virtual", on_host), CanBus("virtual", on_gantry), Identifiers().hash)
    found = OnCan()
    machine = Gantry(supply.model, _told(profile, supply.device))
    guard = Guard(verified(load_config(fitting.config)), link)
    await guard.start()
    try:
        with (
            BusGantry(profile, sheet, machine, CanBus("virtual", on_gantry), SPEED),
            BusHost(profile, sheet, CanBus("virtual", on_host)) as host,
            Operator(fitting.socket, SigningKey.load(fitting.operator), OPERATOR) as operator,
        ):
            await _ready(guard)
            await _clean(found, host.host, machine, supply, operator, step)
            for attack in CONTENTS:
                await _content(found, host.host, machine, supply, seed, attack, operator)
                step()
            await _after_arming(found, host.host, machine, supply, operator)
            await _forbidden(found, host.host, machine, operator)
            step()
    finally:
        await guard.close()
    found.seconds = time.perf_counter() - begun
    return found


def _told(profile: CanProfile, device: Device) -> Device:
    return Device(device.manufacturer, device.model, profile.device.serial, device.software)


async def _ready(guard: Any) -> None:
    async with asyncio.timeout(60):
        while guard.judge is None or guard.judge.ready is None or not guard.relay.gate.view().gantry:
            await asyncio.sleep(0.05)


def suited(examination: Examination) -> bool:
    """Short enough for the wire, and without a retake, which would be written as a chain of its own."""
    chains = chains_of(examination)
    return len(chains) == 2 and 2 <= len(examination.commands) <= MOST_SCANS and not any(
        e.auto for chain in chains for e in chain
    )  # fmt: skip


async def _play(host: CanHost, machine: Gantry, examination: Examination, scene: Scene | None = None) -> Any:
    """One examination: each chain written, each element triggered; seconds of first triggers, and the last answer."""
    from scanward.codecs.canopen_profile import Says
    from scanward.commands.wire import Load

    machine.room.enter(scene.who if scene else patient_of(examination))
    identifiers = (study_of(examination.identifier), f"SIM-{examination.identifier[:12]}")
    waited: list[float] = []
    for number, chain in enumerate(chains_of(examination)):
        load = Load(f"L{number}", "", "", chain)
        answer = await asyncio.to_thread(host.write, load, identifiers, patience=PATIENCE_S)
        if not answer.ok:
            return waited, answer
        for index, _ in enumerate(chain):
            after = len(host.told)
            answer = await asyncio.to_thread(host.trigger, index, PATIENCE_S)
            if not answer.ok:
                return waited, answer
            if index == 0:
                waited.append(1000 * answer.seconds)
            await asyncio.to_thread(host.wait, Says.DONE, Says.ABORTED, after=after, timeout=PATIENCE_S)
    return waited, answer


async def _clean(
    found: OnCan, host: CanHost, machine: Gantry, supply: Supply, operator: Operator, step: Callable[[], None]
) -> None:
    operator.decide = release
    for examination in [e for e in supply.examinations if suited(e)][:CLEAN]:
        before = len(operator.held)
        waited, _ = await _play(host, machine, examination)
        found.load_ms += waited
        found.commands += len(examination.commands)
        found.released += sum(not a.aborted for a in machine.room.acquired)
        found.alerted += len(operator.held) - before
        step()
    operator.decide = refuse


async def _content(
    found: OnCan, host: CanHost, machine: Gantry, supply: Supply, seed: int, name: str, operator: Operator
) -> None:
    """One attack of the catalogue that changes what is written."""
    few = Supply(supply.device, supply.model, tuple(filter(_short, supply.examinations)), supply.donors)
    attack = ATTACKS[name]
    scene = attack.find(few, np.random.default_rng((seed, *name.encode())))
    if scene is None:
        return
    without = Scene.of(scene.attacked, scene.model, index=scene.index)
    alone = Scene.of(scene.clean, scene.model, index=scene.index)
    held = len(operator.held)
    _, answer = await _play(host, machine, scene.attacked, scene)
    place = scene.attacked.commands[scene.index].parameters.get("AcquisitionStartLocation")
    done = [a for a in machine.room.acquired if a.parameters.get("AcquisitionStartLocation") == place]
    layers = [str(h.get("layer", "")) for h in operator.held[held:]]
    found.attacks.append(
        {
            "name": name, "tried": 1, "stopped": 0 if done else 1,
            "layer": layers[-1] if layers else ("" if done else "gate"),
            "dose_ordered_mGy": round(alone.expected_dose, 2),
            "dose_without_mGy": round(without.expected_dose, 2),
            "dose_with_mGy": round(machine.room.ledger.peak(scene.phantom), 2),
            "answer": f"{answer.code:08X}h",
        }
    )  # fmt: skip


def _short(examination: Examination) -> bool:
    chains = chains_of(examination)
    return len(chains) <= 2 and len(examination.commands) <= MOST_SCANS and not any(
        e.auto for chain in chains for e in chain
    )  # fmt: skip


async def _after_arming(
    found: OnCan, host: CanHost, machine: Gantry, supply: Supply, operator: Operator
) -> None:
    """A clean localizer is armed and done; its current is then written anew, and triggered at once by process data."""
    from scanward.commands.wire import Load

    examination = next(e for e in supply.examinations if suited(e))
    operator.decide = release
    machine.room.enter(patient_of(examination))
    chain = chains_of(examination)[0]
    identifiers = (study_of(examination.identifier), "SIM")
    await asyncio.to_thread(host.write, Load("L", "", "", chain), identifiers, patience=PATIENCE_S)
    await asyncio.to_thread(host.trigger, 0, PATIENCE_S)
    operator.decide = refuse
    given = len(machine.room.acquired)
    worse = _changed(chain, XRayTubeCurrentInmA=400.0)
    await asyncio.to_thread(host.write, Load("L", "", "", worse), identifiers)
    await asyncio.to_thread(host.trigger_by_data, 0)
    await asyncio.sleep(0.4)
    again = [a for a in machine.room.acquired[given:] if a.parameters.get("XRayTubeCurrentInmA") == 400.0]
    found.attacks.append(
        {
            "name": "write_after_arming",
            "tried": 1,
            "stopped": 0 if again else 1,
            "layer": "" if again else "gate",
        }
    )


def _changed(chain: Sequence[Any], **more: Any) -> tuple[Any, ...]:
    from dataclasses import replace

    first = chain[0]
    told = {**first.command.parameters, **more}
    return (replace(first, command=replace(first.command, parameters=told)), *chain[1:])


async def _forbidden(found: OnCan, host: CanHost, machine: Gantry, operator: Operator) -> None:
    """Frames that no host has to send: NMT reset, LSS, and storing and restoring parameters."""
    from scanward.transport.can_frames import frame_of

    before = machine.state
    frames = ("000#8101", "000#0201", "7E5#0400000000000000", "601#2310100173617665", "601#231F500000000000")
    for frame in frames:
        host._send(frame_of(frame))
    await asyncio.sleep(0.3)
    moved = machine.state is not before
    found.attacks.append(
        {
            "name": "forbidden_frames",
            "tried": len(frames),
            "stopped": 0 if moved else len(frames),
            "layer": "gate",
        }
    )

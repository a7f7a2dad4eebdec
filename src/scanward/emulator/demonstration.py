"""The second half of the demonstration: the bundle of the first half in a real guard, before an emulated scanner.

    protocol book added -> gantries and guard started -> clean examinations through both -> attacks on both

Three kinds of processes run as a user would start them, over TLS on loopback: two emulated gantries alike, and
``scanward guard`` with relay, judge and audit writer. Everything is simulated, and says so.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scanward.commands import Device, Examination
from scanward.emulator.attack import Attack, Supply
from scanward.emulator.attacks import ATTACKS
from scanward.emulator.book import approved, bundle_with_book
from scanward.emulator.campaign import Clean, Fought, clean_examinations, fight
from scanward.emulator.demonstration_can import STEPS, OnCan, demonstrate_can, missing
from scanward.emulator.rig import Rig, rig
from scanward.emulator.stealth import stealth_attack
from scanward.simulation import Donors, Site

DEVICE = (
    1  # of the simulated site: the model whose AEC is steered by a noise index, as in the published accident
)
CAN_DEVICE = 0
CAN_PROFILE = Path(__file__).resolve().parents[3] / "examples" / "can" / "emulated-ct.toml"
LATER = 1500  # examinations after those learned from, of all devices: victims are drawn from them
CLEAN, TIMES = 60, 2  # clean examinations played; victims of each attack
FACTOR = 300.0  # gantry seconds per second
HOLD_S = 20.0  # the operator answers long before


class Step(Protocol):
    """What a progress bar hands out."""

    def __call__(self, advance: float = 1, description: str | None = None) -> None:
        """Move on."""


Progress = Callable[[str, float | None], AbstractContextManager[Step]]


@contextmanager
def silent(description: str, total: float | None = None) -> Iterator[Step]:
    """No progress bar."""
    yield lambda advance=1, description=None: None


@dataclass
class Guarded:
    """Everything that the second half found."""

    device: Device
    fought: list[Fought] = field(default_factory=list)
    clean: Clean = field(default_factory=Clean)
    first_verdict_s: float = 0.0
    audit: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    can: OnCan = field(default_factory=lambda: OnCan("not asked for"))

    def as_json(self) -> dict[str, Any]:
        """Keys of ``scanward demo --json``."""
        return {
            "scanner": f"{self.device.manufacturer} {self.device.model}",
            "attacks": [f.as_json() for f in self.fought],
            "clean": self.clean.as_json(),
            "first_verdict_s": round(self.first_verdict_s, 2),
            "seconds_guarded": self.seconds,
            "unexpected": self.unexpected,
            "can": self.can.as_json(),
        }


def demonstrate(
    out: Path,
    seed: int,
    learned: int,
    progress: Progress = silent,
    *,
    attacks: Sequence[Attack] | None = None,
    clean: int | None = None,
    times: int | None = None,
) -> Guarded:
    """Run the second half on the bundle in ``out``.

    Parameters
    ----------
    out : Path
        Holds ``bundle`` and ``demo.pub`` of the first half; the guard's audit log is kept in ``out/guard``.
    seed, learned : int
        The site, and how many of its examinations were learned from: what follows them is played and attacked.
    attacks, clean, times
        Less of everything, for tests.

    Raises
    ------
    ScanwardError
        A process does not start, or the bundle is refused.
    """
    site = Site(seed)
    device = site.devices[DEVICE]
    past = site.examinations(learned)
    later = site.examinations(LATER, learned)
    supply = Supply.of(device, later, Donors(past))
    found = Guarded(device)
    # a socket's path must be short, so the guard lives in a folder of its own until it has ended
    folder = Path(tempfile.mkdtemp(prefix="scanward-"))
    given = (out / "bundle", out / "demo.pub")
    try:
        model, public, onion = bundle_with_book(*given, approved(site, DEVICE), folder / "judge")
        chosen = [*ATTACKS.values(), stealth_attack(onion)] if attacks is None else list(attacks)
        asyncio.run(
            _run(
                folder / "guard", supply, (model, public), seed, found, progress, chosen, clean or CLEAN,
                times or TIMES,
            )
        )  # fmt: skip
        kept = out / "guard"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name in ("guard.toml", "policy.toml", "device.toml", "audit.pub"):
            shutil.copyfile(folder / "guard" / name, kept / name)
        shutil.copytree(folder / "guard" / "audit", kept / "audit")
        found.audit = str(kept / "audit")
        found.can = _on_can(folder / "can", site, given, later, supply.donors, seed, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


async def _run(
    folder: Path,
    supply: Supply,
    judge: tuple[Path, Path],
    seed: int,
    found: Guarded,
    progress: Progress,
    attacks: Sequence[Attack],
    clean: int,
    times: int,
) -> None:
    begun = time.perf_counter()
    async with AsyncExitStack() as stack:
        with progress("starting two gantries and a guard", 1) as step:
            made = await stack.enter_async_context(
                rig(folder, supply.device, *judge, seed=seed, factor=FACTOR, hold_s=HOLD_S)
            )
            step()
        found.first_verdict_s = made.started_s
        begun = _taken(found, "start", begun)
        quiet = supply.examinations[:clean]
        with progress("clean examinations through the guard", len(quiet)) as step:
            found.clean = await clean_examinations(
                made.plain, made.guarded, quiet, operator=made.operator, step=step
            )
        begun = _taken(found, "clean", begun)
        with progress(
            "attacking an emulated scanner, with and without a guard", len(attacks) * times
        ) as step:
            for attack in attacks:
                found.fought.append(
                    await fight(
                        attack, made.plain, made.guarded, supply,
                        seed=seed, times=times, operator=made.operator, step=step,
                    )
                )  # fmt: skip
        _taken(found, "attacks", begun)
        _look(made, found)


def _on_can(
    folder: Path,
    site: Site,
    given: tuple[Path, Path],
    later: Sequence[Examination],
    donors: Donors,
    seed: int,
    progress: Progress,
) -> OnCan:
    """The second scenario, on the scanner that the example's CAN profile is of."""
    if not CAN_PROFILE.is_file():
        return OnCan(f"{CAN_PROFILE.name} is not there: it comes with the source, in examples/can")
    if why := missing():
        return OnCan(why)
    supply = Supply.of(site.devices[CAN_DEVICE], later, donors)
    files = (CAN_PROFILE, CAN_PROFILE.with_suffix(".eds"))
    model, public, _ = bundle_with_book(*given, approved(site, CAN_DEVICE), folder / "judge")
    with progress("the same over CANopen", STEPS) as step:
        return asyncio.run(demonstrate_can(folder / "guard", model, public, supply, seed, files, step))


def _taken(found: Guarded, name: str, begun: float) -> float:
    now = time.perf_counter()
    found.seconds[name] = round(now - begun, 2)
    return now


def _look(made: Rig, found: Guarded) -> None:
    """What should not have happened to the guard itself."""
    if not made.guard.alive:
        found.unexpected.append(f"the guard ended: {made.guard.last_words}")
    # a host that gives up, or is cut off, takes away what the operator was about to answer
    found.unexpected += [
        f"an act of the operator was refused: {why}" for why in made.operator.refused if "on hold" not in why
    ]

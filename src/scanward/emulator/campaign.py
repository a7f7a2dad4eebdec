"""Attacks with and without a guard, and clean examinations through both: what the demonstration shows.

Every attack is made on two scanners alike, with the same victim and the same draws: one alone, one with a guard in
front. *Stopped* means that its effect happened on the first and not on the second; a guard that merely remarked on it
stopped nothing. Dose is what the room's own physics says the patient got.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanward.commands import Examination
from scanward.emulator.attack import Attack, Bench, Outcome, Scene, Supply
from scanward.emulator.attacks import BY_DESIGN
from scanward.emulator.play import Played, play
from scanward.emulator.staff import Operator, Tired, refuse, release

Step = Callable[[], None]
ATTEMPTS = 3  # victims drawn for one attack until one is found on which it has its effect


@dataclass(frozen=True)
class Pair:
    """One attack on one victim, without a guard and with one."""

    without: Outcome
    guarded: Outcome | None = None
    layer: str = ""

    @property
    def stopped(self) -> bool:
        """Its effect happened without the guard, and not with it."""
        return self.without.effect and self.guarded is not None and not self.guarded.effect


@dataclass
class Fought:
    """One attack on all its victims."""

    attack: Attack
    pairs: list[Pair] = field(default_factory=list)

    @property
    def effective(self) -> list[Pair]:
        """Those that had their effect where nobody stopped them."""
        return [p for p in self.pairs if p.without.effect]

    @property
    def stopped(self) -> int:
        """How many of the effective ones the guard stopped."""
        return sum(p.stopped for p in self.effective)

    @property
    def layer(self) -> str:
        """What stopped most of them, empty when nothing did."""
        found = Counter(p.layer for p in self.effective if p.stopped and p.layer)
        return found.most_common(1)[0][0] if found else ""

    @property
    def by_design(self) -> bool:
        """Whether a guard must let it pass."""
        return self.attack.name in BY_DESIGN

    def dose(self, guarded: bool) -> float | None:
        """Mean dose (mGy) at the worst place over the victims; None without any."""
        told = [p.guarded.dose if guarded and p.guarded else p.without.dose for p in self.pairs]
        return sum(told) / len(told) if told else None

    def as_json(self) -> dict[str, Any]:
        """One object of ``attacks`` in ``scanward demo --json``."""
        ordered = [p.without.expected for p in self.pairs]
        return {
            "name": self.attack.name,
            "family": self.attack.family,
            "about": self.attack.about,
            "source": self.attack.source,
            "tried": len(self.pairs),
            "effective": len(self.effective),
            "stopped": self.stopped,
            "by_design": self.by_design,
            "layer": self.layer,
            "dose_ordered_mGy": round(sum(ordered) / len(ordered), 2) if ordered else None,
            "dose_without_mGy": _rounded(self.dose(False)),
            "dose_with_mGy": _rounded(self.dose(True)),
            "reason": next(
                (r for p in self.pairs if p.stopped and p.guarded and (r := p.guarded.as_json()["reason"])),
                "",
            ),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


async def strike(
    attack: Attack, bench: Bench, supply: Supply, seed: int, number: int, scene: Scene | None = None
) -> Outcome | None:
    """One attack on one victim; None when there is no victim for it among the supply."""
    rng = np.random.default_rng((seed, number, *attack.name.encode()))
    scene = scene or attack.find(supply, rng)
    if scene is None:
        return None
    loop = asyncio.get_running_loop()
    begun = loop.time()
    felt = await attack.script(bench, scene, rng, supply)
    refused = [a for a in felt.played.answers if not a.ok]
    return Outcome(
        attack.name, attack.effect(scene, felt), felt.dose(scene), scene.expected_dose, loop.time() - begun,
        refused[0] if refused else None, felt.facts,
    )  # fmt: skip


async def fight(
    attack: Attack,
    plain: Bench,
    guarded: Bench | None,
    supply: Supply,
    *,
    seed: int,
    times: int,
    operator: Operator | None = None,
    step: Step = lambda: None,
) -> Fought:
    """One attack ``times`` times, on both scanners."""
    fought = Fought(attack)
    for number in range(times):
        for attempt in range(ATTEMPTS):
            draw = number + 1000 * attempt
            rng = np.random.default_rng((seed, draw, *attack.name.encode()))
            scene = attack.find(supply, rng)
            if scene is None:
                break
            without = await strike(attack, plain, supply, seed, draw, scene)
            assert without is not None
            if not without.effect and attempt < ATTEMPTS - 1 and attack.family != "denial":
                continue
            after, layer = None, ""
            if guarded is not None:
                since = len(operator.held) if operator else 0
                if operator is not None:
                    operator.decide = Tired() if attack.tires else refuse
                after = await strike(attack, guarded, supply, seed, draw, scene)
                layer = _layer(after, operator, since)
                if not layer and without.effect and after is not None and not after.effect:
                    layer = "gate"  # nobody was refused by name: the connection was ended, nothing passed
            fought.pairs.append(Pair(without, after, layer))
            break
        step()
    return fought


def _layer(outcome: Outcome | None, operator: Operator | None, since: int) -> str:
    """Layer or rule that stopped it: that of the hold where it was held, else the refusal's own."""
    if outcome is None:
        return ""
    if operator is not None and outcome.answer is not None and outcome.answer.held:
        held = [str(h.get("layer", "")) for h in operator.held[since:]]
        if held:
            return held[-1]
    return outcome.stopped_by


@dataclass
class Clean:
    """Clean examinations through the guard, and the same through none.

    ``added`` is the time that the guard added to each load: its own less the median of those without a guard,
    milliseconds of real time; loads that an operator looked at are counted apart.
    """

    commands: int = 0
    released: int = 0
    alerted: int = 0
    lost: int = 0
    loads: int = 0
    examinations: int = 0
    alerted_examinations: int = 0
    guarded_ms: list[float] = field(default_factory=list)
    plain_ms: list[float] = field(default_factory=list)
    trigger_ms: list[float] = field(default_factory=list)
    plain_trigger_ms: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def added(self) -> dict[str, float | None]:
        """p50 and p99 of what the guard added to a load."""
        return _added(self.guarded_ms, self.plain_ms)

    def as_json(self) -> dict[str, Any]:
        """``clean`` in ``scanward demo --json``."""
        return {
            "examinations": self.examinations,
            "examinations_alerted": self.alerted_examinations,
            "commands": self.commands,
            "released": self.released,
            "alerted": self.alerted,
            "lost": self.lost,
            "loads": self.loads,
            "added_latency_ms": self.added,
            "added_trigger_ms": _added(self.trigger_ms, self.plain_trigger_ms),
            "reasons": dict(self.reasons.most_common(5)),
        }


def _added(guarded: Sequence[float], plain: Sequence[float]) -> dict[str, float | None]:
    if not guarded or not plain:
        return {"p50": None, "p99": None}
    base = float(np.median(plain))
    p50, p99 = np.percentile(np.asarray(guarded) - base, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


async def clean_examinations(
    plain: Bench,
    guarded: Bench,
    examinations: Sequence[Examination],
    *,
    operator: Operator | None = None,
    step: Step = lambda: None,
) -> Clean:
    """Play clean examinations on both scanners, one after the other, each on a connection that stays.

    The operator looks at what is held and releases it: it is what was ordered.
    """
    found = Clean()
    if operator is not None:
        operator.decide = release
    async with plain.host() as alone, guarded.host() as host:
        for examination in examinations:
            without = await play(alone, plain.room, examination)
            found.plain_ms += [1000 * a.seconds for _, a in without.loads if a.ok]
            _count(found, without, await play(host, guarded.room, examination))
            step()
    return found


def _count(found: Clean, without: Played, played: Played) -> None:
    found.examinations += 1
    found.commands += sum(len(a.report["acquired"]) for a in (without,))
    found.loads += len(played.loads)
    held = 0
    for count, answer in played.loads:
        if answer.held or answer.alerted:
            held += count
            found.reasons[(answer.held or answer.alerted)[:120]] += 1
        elif answer.ok:
            found.guarded_ms.append(1000 * answer.seconds)
        if answer.ok:
            found.released += count
        elif not answer.held:
            found.lost += count
            found.reasons[f"{answer.what}: {answer.reason}"[:120]] += 1
    found.alerted += held
    found.alerted_examinations += held > 0
    # a trigger is answered when the beam is on: the table's way is the same on both, and fast
    found.trigger_ms += [1000 * a.seconds for a in played.triggers if a.ok]
    found.plain_trigger_ms += [1000 * a.seconds for a in without.triggers if a.ok]


def door_to_scan(clean: Clean) -> float:
    """Seconds that the guard added to one examination, on average: its loads and triggers."""
    if not clean.examinations:
        return math.nan
    load = float(np.mean(clean.guarded_ms)) - float(np.mean(clean.plain_ms))
    trigger = float(np.mean(clean.trigger_ms)) - float(np.mean(clean.plain_trigger_ms))
    triggers = len(clean.trigger_ms) / clean.examinations
    return (load * clean.loads / clean.examinations + trigger * triggers) / 1000

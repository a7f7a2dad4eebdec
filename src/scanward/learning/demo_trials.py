"""Attacks on later examinations, tried on judge and oracle at once; and one alert put into words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.stats import betabinom, binomtest

from scanward.calibration import Calibration
from scanward.commands import RULE_LAYERS, Command, Examination, Judgement, Verdict, unit_of
from scanward.layers.onion import Onion, describe
from scanward.simulation import Attack, Donors
from scanward.simulation.oracle import Oracle

EXPLAINED = ("dose_x3", "dose_x8", "wrong_objective", "tube_voltage")  # which attack the worked example shows


class Step(Protocol):
    """What a progress bar hands out (as ``cli.output.progress`` does)."""

    def __call__(self, advance: float = 1, description: str | None = None) -> None:
        """Move on by ``advance`` pieces of work."""
        ...


Progress = Callable[[str, float | None], AbstractContextManager[Step]]


@contextmanager
def silent(description: str, total: float | None = None) -> Iterator[Step]:
    """No progress bar."""
    yield lambda advance=1, description=None: None


@dataclass(frozen=True)
class Tried:
    """One kind of attack, tried on ``tried`` later examinations."""

    attack: str
    family: str
    about: str
    tried: int
    detected: int
    oracle_detected: int
    caught_by: dict[str, int]
    example: dict[str, Any] | None
    scores: tuple[float, ...] = ()  # highest combined score of the attacked commands, one per examination
    by: tuple[str, ...] = ()  # "", "rule" or "learned": what caught it, in the same order

    @property
    def share(self) -> float:
        """Detected share of those tried, NaN when none could be."""
        return self.detected / self.tried if self.tried else math.nan

    @property
    def oracle(self) -> float:
        """The oracle's share."""
        return self.oracle_detected / self.tried if self.tried else math.nan

    @property
    def layer(self) -> str:
        """The layer that caught it most, empty when none ever did."""
        return max(self.caught_by, key=lambda name: self.caught_by[name], default="")

    def as_json(self) -> dict[str, Any]:
        """Without the raw scores."""
        low, high = interval(self.detected, self.tried)
        return {
            "attack": self.attack,
            "family": self.family,
            "about": self.about,
            "tried": self.tried,
            "detected": self.detected,
            "share": self.share if self.tried else None,
            "low": low,
            "high": high,
            "oracle": self.oracle if self.tried else None,
            "layer": self.layer,
            "caught_by": self.caught_by,
            "example": self.example,
        }


def interval(hits: int, tried: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); an examination is attacked once: trials are independent."""
    if not tried:
        return 0.0, 1.0
    found = binomtest(hits, tried).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def threshold_of(calibration: Calibration, budget: float) -> float:
    """The score above which a p-value is within the budget (a score equal to it is not)."""
    units = len(calibration.scores)
    beyond = math.floor(budget * (units + 1) + 1e-9) - 1  # clean units that may score higher
    return calibration.scores[units - 1 - beyond]


def expected_range(budget: float, units: int, number: int) -> tuple[float, float]:
    """How many of ``number`` clean examinations alert in 95 of 100 repetitions, ``units`` of calibration.

    Exact for continuous scores under exchangeability: given the calibration set the rate is Beta(k, units +
    1 - k) with k = floor(budget x (units + 1)), so the count is beta-binomial (Vovk 2012, Conditional
    validity of inductive conformal predictors, proposition 2a).
    """
    k = math.floor(budget * (units + 1) + 1e-9)
    if not 0 < k < units + 1:
        return (0.0, 0.0) if k <= 0 else (float(number), float(number))
    law = betabinom(number, k, units + 1 - k)
    return float(law.ppf(0.025)), float(law.ppf(0.975))


class Battle:
    """Attacks later examinations, and asks the judge and the oracle about the same ones."""

    def __init__(
        self,
        onion: Onion,
        oracle: Oracle,
        threshold: float,
        donors: Donors,
        later: Sequence[Examination],
        seed: int,
    ) -> None:
        self.onion, self.oracle, self.threshold = onion, oracle, threshold
        self.donors, self.later, self.seed = donors, later, seed
        self.explained: list[str] = []
        self._rank = len(EXPLAINED)

    def fight(self, attack: Attack, most: int, number: int, step: Step) -> Tried:
        """At most ``most`` later examinations, each attacked once; ``number`` seeds the draw."""
        rng = np.random.default_rng((self.seed, 31, number))
        tried = detected = known = 0
        by_layer: Counter[str] = Counter()
        scores: list[float] = []
        by: list[str] = []
        example: dict[str, Any] | None = None
        for clean in self.later:
            if tried == most:
                break
            eligible = attack.eligible(clean)
            if not eligible:
                continue
            index = int(rng.choice(eligible))
            after = attack.apply(clean, index, rng, self.donors)
            places = attack.attacked_indices(clean, after, index) if after is not None else ()
            if after is None or not places:
                continue
            tried += 1
            step()
            # A guard judges as commands come: what follows the last attacked one cannot help it.
            judged = self.onion.judge_all(after.commands[: max(places) + 1])
            told = self.oracle.scores(after)
            known += any(told[i] > self.threshold for i in places)
            scores.append(max((s for i in places if (s := judged[i].score) is not None), default=math.nan))
            caught = [i for i in places if judged[i].verdict is not Verdict.RELEASE]
            by.append("")
            if not caught:
                continue
            detected += 1
            first = judged[caught[0]]
            layer = first.layer.value if first.layer else ""
            by_layer[layer] += 1
            by[-1] = "rule" if first.layer in RULE_LAYERS else "learned"
            if example is None or (layer == by_layer.most_common(1)[0][0] != example["layer"]):
                example = _example(after, caught[0], first)
            self._explain(attack, clean, after, caught[0], first)
        step(most - tried)
        return Tried(
            attack.name, attack.family, attack.about, tried, detected, known, dict(by_layer.most_common()),
            example, tuple(scores), tuple(by),
        )  # fmt: skip

    def _explain(
        self, attack: Attack, clean: Examination, after: Examination, index: int, judgement: Judgement
    ) -> None:
        """Keep the explanation of the first alert of the best-suited attack."""
        rank = EXPLAINED.index(attack.name) if attack.name in EXPLAINED else len(EXPLAINED)
        if rank < self._rank or not self.explained:
            self._rank = rank
            before = clean.commands[index] if index < len(clean.commands) else None
            units = len(self.onion.calibrations["examination"].scores)
            self.explained = explain(attack, before, after, index, judgement, units, self.onion.budget)


def _example(examination: Examination, index: int, judgement: Judgement) -> dict[str, Any]:
    return {
        "examination": examination.identifier,
        "command": index,
        "verdict": judgement.verdict.value,
        "layer": judgement.layer.value if judgement.layer else "",
        "p_value": judgement.p_value,
        "fields": list(judgement.fields),
        "reason": judgement.reason,
    }


def explain(
    attack: Attack,
    before: Command | None,
    after: Examination,
    index: int,
    judgement: Judgement,
    units: int,
    budget: float,
) -> list[str]:
    """One alert in words: what came, what was done to it, what each layer said, and how rare that is."""
    command = after.commands[index]
    who = ", ".join(
        f"{name} {value:g} {unit_of(name)}".strip() if isinstance(value, float) else f"{name} {value}"
        for name in (
            "ProtocolName",
            "ProtocolElementName",
            "PatientAge",
            "PatientWeight",
            "WaterEquivalentDiameter",
        )
        if (value := command.value(name)) is not None
    )
    lines = [
        f"Simulated examination {after.identifier}, command {index + 1} of {len(after.commands)} on "
        f"{command.device.manufacturer} {command.device.model}.",
        f"It was for: {who}.",
    ]
    if before is not None:
        changed = [
            f"{n} {_shown(before.parameters.get(n))} -> {_shown(v)}{_unit(n)}"
            for n, v in command.parameters.items()
            if before.parameters.get(n) != v
        ]
        lines.append(f"The attack ({attack.about}) changed: {', '.join(changed) or 'the context alone'}.")
    lines.append(
        f"Verdict {judgement.verdict.value}, decided by layer {judgement.layer}: {judgement.reason}."
    )
    if judgement.p_value is not None:
        beyond = round(judgement.p_value * (units + 1)) - 1
        lines.append(
            f"Its number is as high as in {beyond} of {units} clean calibration examinations: p = "
            f"{judgement.p_value:.4f}, and {budget:g} is the budget."
        )
    for opinion in judgement.opinions:
        heaviest = sorted(opinion.objections, key=lambda o: -o.weight)[:2]
        words = "; ".join(describe(o) for o in heaviest) or opinion.reason or "no objection"
        p = f" (p = {opinion.p_value:.4f} among clean commands)" if opinion.p_value is not None else ""
        lines.append(f"  {opinion.layer.value}: {opinion.outcome.value}{p}: {words}")
    return lines


def _shown(value: float | str | None) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else value


def _unit(name: str) -> str:
    unit = unit_of(name)
    return f" {unit}" if unit not in ("", "1") else ""

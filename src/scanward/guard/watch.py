"""Drift watch: what no single verdict shows. Alert rate, p-values, and dose per protocol and site-wide. Pure.

*Alerts and p-values* are watched by Shiryaev-Roberts statistics over e-values: R <- (R + 1) e, an alarm when R reaches
``run``. As long as every e has expectation at most 1 (no drift), R - n is a supermartingale: the mean number of
examinations to a false alarm is at least ``run``, and the chance of one within n is at most n / run (Pollak 1987;
for conformal p-values Vovk et al., "Retrain or not retrain", COPA 2021). The e of a p-value is the power bet
eps p^(eps-1); that of an alert a likelihood ratio of rates. Both are made against a null with a tolerance, for a
calibration set of some hundred examinations fixes a rate only to about a third.

*Dose* is watched by two-sided CUSUMs (Page 1954) of the log of CTDIvol against the protocol's usual one, in its own
spreads: one per protocol for quick drifts, one over the site for small ones spread over many patients (salami). A drift
below the allowance is never found; `tests/test_guard_watch.py` holds the false alarms and the delays.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from scanward.config import WATCH_BOUNDS, WatchBounds

_POWERS = (0.15, 0.3, 0.5, 0.7, 0.85)  # of the bets on p-values: from few tiny ones to many smallish ones
_RATES = (2.0, 4.0, 10.0)  # times the tolerated alert rate that the likelihood ratios speak for
_LEAST_P = 1e-6


class DriftKind(StrEnum):
    """What drifts."""

    ALERTS = "alerts"  # more examinations alert than the budget promised
    P_VALUES = "p_values"  # examinations look stranger than those calibrated on
    DOSE = "dose"  # of one protocol
    SITE_DOSE = "site_dose"  # over all protocols


@dataclass(frozen=True, slots=True)
class Drift:
    """An alarm.

    ``count`` is over how many examinations (or doses) the statistic had grown; ``size``: alert rate, mean p-value, or
    the factor of the dose, over these.
    """

    kind: DriftKind
    where: str
    count: int
    size: float
    statistic: float
    threshold: float

    @property
    def reason(self) -> str:
        """For people."""
        if self.kind is DriftKind.ALERTS:
            return (
                f"{self.size:.1%} of the last {self.count} examinations alerted, more than the budget allows"
            )
        if self.kind is DriftKind.P_VALUES:
            return f"the last {self.count} examinations are stranger than those recorded (mean p {self.size:.2g})"
        where = f"of protocol {self.where}" if self.kind is DriftKind.DOSE else "of all protocols together"
        return f"the dose {where} is {self.size:.3g} times the usual one, over {self.count} scans"


@dataclass(slots=True)
class ShiryaevRoberts:
    """Sum over all possible beginnings of a change of the evidence since then; a mixture over several bets."""

    bets: int
    limit: float
    sums: list[float] = field(default_factory=list)
    count: int = 0
    total: float = 0.0

    def __post_init__(self) -> None:
        self.sums = self.sums or [0.0] * self.bets

    def step(self, evidence: tuple[float, ...], value: float) -> float | None:
        """After one more examination: the statistic when it reaches the limit (and starts anew), else None."""
        if max(self.sums) < 1.0:  # nothing speaks for a change so far: it would begin here
            self.count, self.total = 0, 0.0
        self.sums = [(r + 1.0) * e for r, e in zip(self.sums, evidence, strict=True)]
        self.count += 1
        self.total += value
        statistic = sum(self.sums) / self.bets
        if statistic < self.limit:
            return None
        self.sums = [0.0] * self.bets
        return statistic

    @property
    def mean(self) -> float:
        """Of the values since the statistic began to grow."""
        return self.total / self.count if self.count else math.nan


@dataclass(slots=True)
class Cusum:
    """Sums of what lies beyond an allowance, upwards and downwards."""

    allowance: float
    limit: float
    up: float = 0.0
    down: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0, 0])
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def step(self, z: float, log_ratio: float, doubt: float = 0.0) -> tuple[float, int, float] | None:
        """After one more value: (statistic, scans, mean log ratio since it grew) when a limit is reached.

        ``doubt`` is added to the allowance.
        """
        allowance = self.allowance + doubt
        self.up = max(0.0, self.up + z - allowance)
        self.down = max(0.0, self.down - z - allowance)
        for side, value in enumerate((self.up, self.down)):
            self.counts[side] = self.counts[side] + 1 if value > 0 else 0
            self.totals[side] = self.totals[side] + log_ratio if value > 0 else 0.0
        side = 0 if self.up >= self.down else 1
        statistic = max(self.up, self.down)
        if statistic < self.limit:
            return None
        found = statistic, self.counts[side], self.totals[side] / max(self.counts[side], 1)
        self.up = self.down = 0.0
        self.counts, self.totals = [0, 0], [0.0, 0.0]
        return found


@dataclass(slots=True)
class Usual:
    """The usual log dose of a protocol on a phantom: learned from its first doses, then kept."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def learn(self, value: float) -> None:
        """One more dose (Welford)."""
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)

    @property
    def spread(self) -> float:
        """Standard deviation of the log."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else math.nan


class Watch:
    """All statistics of one scanner.

    Parameters
    ----------
    budget : float
        Share of clean examinations that may alert, as the bundle promises it.
    usual : mapping of (protocol, phantom in cm) to (mean, spread)
        Of log CTDIvol; what is not here is learned from the first ``learn`` doses.
    """

    def __init__(
        self,
        budget: float,
        usual: Mapping[tuple[str, int], tuple[float, float]] | None = None,
        bounds: WatchBounds = WATCH_BOUNDS,
    ) -> None:
        self._bounds = bounds
        self._rate = min(budget * bounds.rate_tolerance, 0.5)
        self._given = dict(usual or {})
        self._learned: OrderedDict[tuple[str, int], Usual] = OrderedDict()
        self._doses: OrderedDict[tuple[str, int], Cusum] = OrderedDict()
        self._alerts = ShiryaevRoberts(len(_RATES), bounds.run)
        self._values = ShiryaevRoberts(len(_POWERS), bounds.run)
        self._site = Cusum(bounds.site_allowance, bounds.site_threshold)
        self.examinations = 0
        self.alerted = 0

    def examination(self, p_value: float | None, alerted: bool) -> tuple[Drift, ...]:
        """One whole examination: its least p-value (None: none was given), and whether anything alerted."""
        self.examinations += 1
        self.alerted += alerted
        found = []
        limit = self._bounds.run
        statistic = self._alerts.step(self._rate_evidence(alerted), float(alerted))
        if statistic is not None:
            found.append(Drift(DriftKind.ALERTS, "", self._alerts.count, self._alerts.mean, statistic, limit))
        if p_value is not None and 0.0 <= p_value <= 1.0:
            statistic = self._values.step(self._power_evidence(p_value), p_value)
            if statistic is not None:
                one = Drift(DriftKind.P_VALUES, "", self._values.count, self._values.mean, statistic, limit)
                found.append(one)
        return tuple(found)

    def _rate_evidence(self, alerted: bool) -> tuple[float, ...]:
        tolerated = self._rate
        rates = (min(tolerated * times, 0.5 + tolerated / 2) for times in _RATES)
        return tuple(r / tolerated if alerted else (1 - r) / (1 - tolerated) for r in rates)

    def _power_evidence(self, p_value: float) -> tuple[float, ...]:
        p, tolerance = max(p_value, _LEAST_P), 1.0 + self._bounds.tolerance
        return tuple(e * p ** (e - 1.0) / tolerance ** (1.0 - e) for e in _POWERS)

    def dose(self, protocol: str, phantom: int, ctdivol: float) -> tuple[Drift, ...]:
        """One delivered dose (CTDIvol in mGy on the phantom of ``phantom`` cm)."""
        if not (math.isfinite(ctdivol) and ctdivol > 0.0):
            return ()
        key, value = (protocol, phantom), math.log(ctdivol)
        usual = self._usual(key, value)
        if usual is None:
            return ()
        mean, spread, error = usual
        spread = max(spread, self._bounds.spread_least)
        clip = self._bounds.clip
        z = min(max((value - mean) / spread, -clip), clip)
        own = self._doses.setdefault(key, Cusum(self._bounds.allowance, self._bounds.threshold))
        self._doses.move_to_end(key)
        found = []
        for cusum, kind, where, doubt in (
            (own, DriftKind.DOSE, protocol, self._bounds.doubt),
            (self._site, DriftKind.SITE_DOSE, "", self._bounds.site_doubt),
        ):
            reached = cusum.step(z, value - mean, doubt * error)
            if reached is not None:
                statistic, count, log_ratio = reached
                found.append(Drift(kind, where, count, math.exp(log_ratio), statistic, cusum.limit))
        while len(self._doses) > self._bounds.protocols:
            self._doses.popitem(last=False)
        return tuple(found)

    def _usual(self, key: tuple[str, int], value: float) -> tuple[float, float, float] | None:
        """Mean and spread of a protocol's log dose, and the mean's standard error in spreads; None while learned."""
        given = self._given.get(key)
        if given is not None:
            return *given, 0.0
        usual = self._learned.setdefault(key, Usual())
        self._learned.move_to_end(key)
        while len(self._learned) > self._bounds.protocols:
            self._learned.popitem(last=False)
        if usual.count < self._bounds.learn:
            usual.learn(value)
            return None
        return usual.mean, usual.spread, 1.0 / math.sqrt(usual.count)

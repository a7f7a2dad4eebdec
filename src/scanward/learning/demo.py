"""The demonstration: a simulated site from its first recording to its last attack, on one page.

    simulate -> fit -> bundle written, signed, read back -> clean and attacked later examinations -> figures

Everything it measures is measured on examinations later than those learned from, with the judge that came out
of the bundle. Everything it makes is simulated, and says so.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scanward import bundle
from scanward.bundle import BundleFacts
from scanward.calibration import Calibration, units_needed
from scanward.commands import FIELDS, RULE_LAYERS, Command, Examination, Judgement, Verdict
from scanward.errors import SettingsError
from scanward.keys import SigningKey
from scanward.layers.onion import Onion
from scanward.learning import fit as fitting
from scanward.learning.demo_trials import Battle, Progress, Step, Tried, expected_range, silent, threshold_of
from scanward.learning.seen import seen
from scanward.links.identifiers import Identifiers
from scanward.simulation import ATTACKS, Donors, Site
from scanward.simulation.attacks import dose_attack
from scanward.simulation.oracle import Oracle

NOTICE = (
    "Simulated data: no real scanner, no real patient. Scanward is not a medical device and must not be "
    "connected to a clinical scanner outside an approved study."
)
CURVE = (0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 8.0)  # dose factors
LATER, ATTACKED, FOR_EACH_FACTOR = 1000, 100, 50  # examinations: clean, for each attack, each dose factor
STEPS = 300  # training steps of the masked network; `train` takes twice as many
CAUGHT = 0.95  # share from which a dose factor counts as caught
ORACLE_UNITS = 2000  # clean examinations that set the oracle's threshold; more would only take time
LATENCY_COMMANDS = 400


@dataclass(frozen=True)
class Plan:
    """What to simulate and to try.

    Attributes
    ----------
    examinations : int
        Clean examinations to learn from, a quarter of them for calibration alone.
    budget : float
        Share of clean examinations that may alert.
    later : int
        Clean examinations after those; attacks are made out of them.
    attacked, curve : int
        Examinations attacked in each way, and with each dose factor.
    """

    examinations: int = 1200
    budget: float = 0.005
    seed: int = 0
    later: int = LATER
    attacked: int = ATTACKED
    curve: int = FOR_EACH_FACTOR

    @classmethod
    def of(cls, examinations: int, budget: float, seed: int) -> Plan:
        """With the usual number of later and attacked examinations."""
        return cls(examinations, budget, seed, LATER, ATTACKED, FOR_EACH_FACTOR)

    def check(self) -> None:
        """SettingsError when the plan makes no sense or its budget cannot be expressed."""
        if not 0 < self.budget < 1:
            raise SettingsError(
                f"a budget of {self.budget:g} makes no sense", "--budget", "give a share in (0, 1)"
            )
        need = fitting.total_needed(self.budget)
        if math.ceil(self.examinations * fitting.CALIBRATE) < units_needed(self.budget):
            raise SettingsError(
                f"{self.examinations} examinations cannot express a budget of {self.budget:g}",
                "--examinations",
                f"give at least {need} examinations, or a larger --budget",
            )


@dataclass
class Shown:
    """Everything the demonstration found."""

    plan: Plan
    report: dict[str, Any] = field(default_factory=dict)
    bundle: dict[str, Any] = field(default_factory=dict)
    attacks: list[Tried] = field(default_factory=list)
    dose: list[tuple[float, Tried]] = field(default_factory=list)
    clean_scores: list[float] = field(default_factory=list)  # highest score of each later clean examination
    threshold: float = math.nan
    false_alerts: dict[str, Any] = field(default_factory=dict)
    calibration_curve: list[dict[str, float]] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)
    latency_ms: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def means(self) -> tuple[float, float]:
        """Mean detected share over the attacks (without the null one): ours, the oracle's."""
        real = [t for t in self.attacks if t.family != "null" and t.tried]
        return float(np.mean([t.share for t in real])), float(np.mean([t.oracle for t in real]))

    def dose_caught(self) -> tuple[float | None, float | None]:
        """Largest factor below one, and smallest above one, from which at least ``CAUGHT`` are detected."""
        low = high = None
        for factor, tried in self.dose:  # ascending: every factor further out must be caught as well
            if factor < 1 and tried.share >= CAUGHT and (low is not None or factor == self.dose[0][0]):
                low = factor
            elif factor < 1:
                break
        for factor, tried in reversed(self.dose):
            if factor < 1 or not tried.share >= CAUGHT:
                break
            high = factor
        return low, high

    def as_json(self) -> dict[str, Any]:
        """The shape of ``scanward demo --json`` and of ``demo.json`` (docs/demo.md)."""
        ours, oracle = self.means
        low, high = self.dose_caught()
        return {
            "simulated": True,
            "notice": NOTICE,
            "plan": asdict(self.plan),
            "training": self.report,
            "bundle": self.bundle,
            "false_alerts": self.false_alerts,
            "judged_attacks": [t.as_json() for t in self.attacks],
            "mean": {"detected": ours, "oracle": oracle},
            "dose": [
                {"factor": f, "tried": t.tried, "detected": t.share, "oracle": t.oracle} for f, t in self.dose
            ],
            "dose_caught": {"share": CAUGHT, "at_most": low, "at_least": high},
            "calibration_curve": self.calibration_curve,
            "explanation": self.explanation,
            "latency_ms": self.latency_ms,
            "seconds": self.seconds,
        }


def show(
    plan: Plan,
    out: Path,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda _: None,
    learning: fitting.Settings | None = None,
) -> Shown:
    """Run the whole demonstration; the bundle goes to ``out/bundle``, its public key to ``out/demo.pub``.

    Raises
    ------
    SettingsError
        A plan that makes no sense, or a budget that it cannot express.
    BundleError
        ``out`` holds something else than an earlier demonstration, or cannot be written.
    """
    plan.check()
    found = Shown(plan)
    clock = _Clock(found.seconds)
    with clock("simulate"), progress("simulating a site", plan.examinations + plan.later) as step:
        site = Site(plan.seed)
        made = []
        for index in range(plan.examinations + plan.later):
            made.append(site.examination(index))
            step()
        past, later = made[: plan.examinations], made[plan.examinations :]
    say(f"simulated: {len(past)} examinations to learn from, {len(later)} later ones")
    with clock("learn"):
        settings = learning or fitting.Settings(plan.budget, plan.seed, steps=STEPS)
        with _Phases(progress) as phases:
            fitted = fitting.fit(past, settings, phases.tick)
        found.report = _facts(fitted.report)
    say(f"learned from {found.report['commands']} commands in {found.seconds['learn']:.0f} s")
    with clock("bundle"), progress("writing and reading the bundle", 2) as step:
        onion = _through_bundle(fitted, site, past, plan, out, found, step)
    say(f"bundle signed, written to {found.bundle['directory']} and read back: it judges from here on")
    _judge_clean(onion, later, found, progress, clock)
    with clock("oracle"), progress("setting the oracle's threshold", len(past[-ORACLE_UNITS:])) as step:
        oracle = Oracle(site)
        tops = []
        for examination in past[-ORACLE_UNITS:]:
            tops.append(max(oracle.scores(examination)))
            step()
        bar = threshold_of(Calibration.of(tops), plan.budget)
    battle = Battle(onion, oracle, bar, Donors(past), later, plan.seed)
    with clock("attack"), progress("attacking", len(ATTACKS) * plan.attacked) as step:
        for number, attack in enumerate(ATTACKS.values()):
            found.attacks.append(battle.fight(attack, plan.attacked, number, step))
    with clock("dose"), progress("attacking the dose", len(CURVE) * plan.curve) as step:
        for number, factor in enumerate(CURVE):
            tried = battle.fight(dose_attack(factor), plan.curve, 100 + number, step)
            if tried.tried:
                found.dose.append((factor, tried))
    found.explanation = battle.explained
    with clock("latency"):
        found.latency_ms = latency(onion, later)
    return found


class _Clock:
    """Wall seconds of each stage, by name."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun


class _Phases:
    """Turns ``fit``'s ticks, (what, share done) of phases it alone knows, into one bar after another."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.name = ""
        self.share = 0.0
        self.bar: AbstractContextManager[Step] | None = None
        self.step: Step | None = None

    def __enter__(self) -> _Phases:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
        self.bar = self.step = None

    def tick(self, name: str, share: float) -> None:
        """As ``fit`` calls it; a phase that begins again (another fold) gets a new bar."""
        if name != self.name or share < self.share or self.step is None:
            self._close()
            self.name, self.share = name, 0.0
            self.bar = self.progress(f"learning: {name}", 100)
            self.step = self.bar.__enter__()
        self.step(100 * (share - self.share))
        self.share = share


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    """The part of the report that the demonstration shows."""
    names = ("examinations", "calibration_examinations", "commands", "devices", "role", "budget", "quality")
    return {name: report[name] for name in names if name in report}


def _through_bundle(
    fitted: fitting.Fitted,
    site: Site,
    past: Sequence[Examination],
    plan: Plan,
    out: Path,
    found: Shown,
    step: Step,
) -> Onion:
    """Write, sign, read back, verify; the judge that is returned was made from the bundle's files alone."""
    # Whoever knows the seed can make this key: it shows how signing works and protects nothing.
    key = SigningKey.from_seed(hashlib.sha256(f"scanward demo, seed {plan.seed}".encode()).digest())
    commands = [c for e in past for c in e.commands]
    hidden = Identifiers().hash  # as a guard without a site key hashes what a scanner tells
    facts = BundleFacts(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        role=commands[0].role,
        roles={n: r for c in commands for n, r in c.roles.items()},
        devices=tuple(replace(d, serial=hidden(d.serial)) for d in site.devices),
        fields=tuple(FIELDS[f.name] for f in fitted.onion.encoder.fields),
        training_data=digest(commands),
        calibration={"budget": plan.budget, "examinations": found.report.get("calibration_examinations")},
        metrics={
            "quality": fitted.report.get("quality", {}),
            "seen": seen(fitted.onion.encoder, fitting.clinical(past), fitting.CALIBRATE),
            "simulated": True,
        },
        libraries=bundle.library_versions("numpy", "onnxruntime", "scikit-learn", "lightgbm", "torch"),
    )
    manifest = bundle.write(out / "bundle", fitted.onion.part(), facts, key)
    (out / "demo.pub").write_bytes(key.verify_key.pem())
    step()
    again = bundle.read(out / "bundle", trusted=[key.verify_key], device=facts.devices[0])
    onion = Onion.from_part(again.part)
    step()
    found.bundle = {
        "directory": str(out / "bundle"),
        "public_key": str(out / "demo.pub"),
        "version": manifest.version,
        "digest": manifest.digest,
        "signed_by": manifest.key_id,
        "files": len(manifest.files),
        "bytes": sum(f.size for f in manifest.files),
    }
    return onion


def digest(commands: Sequence[Command]) -> str:
    """SHA-256 over parameters and context of ``commands``, in order: what was trained on."""
    state = hashlib.sha256()
    for c in commands:
        parts = {n: [(t.value, t.source.value) for t in told] for n, told in sorted(c.context.parts.items())}
        state.update(repr((c.examination, c.acquired_at, sorted(c.parameters.items()), parts)).encode())
    return state.hexdigest()


def _alerts(judged: Sequence[Judgement]) -> bool:
    return any(j.verdict is not Verdict.RELEASE for j in judged)


def _judge_clean(
    onion: Onion, later: Sequence[Examination], found: Shown, progress: Progress, clock: _Clock
) -> None:
    """False alerts of later clean examinations against the budget, as a count and as a curve."""
    alerts = learned = rules = commands = 0
    least: list[float] = []
    with clock("clean"), progress("judging clean examinations", len(later)) as step:
        for examination in later:
            judged = onion.judge_all(examination.commands)
            commands += len(judged)
            alerts += _alerts(judged)
            rules += any(j.layer in RULE_LAYERS for j in judged)
            ps = [1.0 if j.p_value is None else j.p_value for j in judged]
            least.append(min(ps))
            learned += min(ps) <= onion.budget
            # What layer form halts gets no score.
            found.clean_scores.append(max((j.score for j in judged if j.score is not None), default=math.nan))
            step()
    calibration = onion.calibrations["examination"]
    found.threshold = threshold_of(calibration, onion.budget)
    units, number = len(calibration.scores), len(later)
    low, high = expected_range(onion.budget, units, number)
    found.false_alerts = {
        "budget": onion.budget,
        "examinations": number,
        "commands": commands,
        "alerts": alerts,
        "share": alerts / number,
        "by_the_calibrated_number": learned,
        "by_rule_layers": rules,
        "expected_at_most": high / number,
        "within_chance": learned <= high,
    }
    # Only multiples of 1 / (units + 1) differ from each other.
    ranks = sorted({round(k) for k in np.geomspace(1, max(2, (units + 1) / 2), 40)})
    for budget in (k / (units + 1) for k in ranks):
        low, high = expected_range(float(budget), units, number)
        found.calibration_curve.append(
            {
                "budget": float(budget),
                "observed": float(np.mean(np.array(least) <= budget)),
                "low": low / number,
                "high": high / number,
            }
        )


def latency(onion: Onion, later: Sequence[Examination], most: int = LATENCY_COMMANDS) -> dict[str, float]:
    """Milliseconds of one decision, all layers, one core, in the course of whole examinations."""
    taken: list[float] = []
    for examination in later:
        state = onion.start()
        for command in examination.commands:
            begun = time.perf_counter()
            _, state = onion.judge(state, command)
            taken.append(1000 * (time.perf_counter() - begun))
        if len(taken) >= most:
            break
    p50, p99 = np.percentile(taken, [50, 99])
    return {"commands": len(taken), "p50": float(p50), "p99": float(p99)}


__all__ = ["CURVE", "NOTICE", "Plan", "Shown", "show"]

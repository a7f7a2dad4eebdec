"""Is the promise kept? Observed false alerts over rolling origins of one simulated site, against the budget.

At each origin: learn and calibrate on a window of examinations, judge the clean ones that follow. Origins
move by the length of what is tested, so no examination is tested twice. Reported in all and apart for
children, large patients, rare protocols and examinations without patient data. The promise is of all examinations
together; groups show who pays for it. Intervals: 95 %, bootstrap over examinations.

  python -m benchmarks.calibration --origins 20 --window 1000 --test 300
  python -m benchmarks.calibration --quick
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.attacked import clean_alerts
from benchmarks.common import FINAL_SEEDS, parser, percent, plain, quickly, save, sayer, table
from scanward.commands import PATIENT_FIELDS, Examination
from scanward.learning.fit import Settings, fit
from scanward.learning.resampling import interval, shares, weights
from scanward.simulation import Site

CHILD = 18.0  # years
LARGE = 0.90  # quantile of the window's patient sizes from which a patient is large
RARE = 0.005  # share of the window's examinations below which a protocol is rare


def groups(window: Sequence[Examination], test: Sequence[Examination]) -> dict[str, list[bool]]:
    """Which test examinations belong to which group, by what the window showed."""
    sizes = [s for e in window if (s := size_of(e)) is not None]
    large = float(np.quantile(sizes, LARGE)) if sizes else math.inf
    seen = Counter(protocol_of(e) for e in window)
    ages = [e.commands[0].number("PatientAge") for e in test]
    return {
        "children": [age is not None and age < CHILD for age in ages],
        "large patients": [(size_of(e) or 0.0) >= large for e in test],
        "rare protocols": [seen[protocol_of(e)] < RARE * len(window) for e in test],
        "without patient data": [
            all(e.commands[0].context.get(n) is None for n in PATIENT_FIELDS) for e in test
        ],
    }


def size_of(examination: Examination) -> float | None:
    """The largest water-equivalent diameter told in an examination (mm)."""
    told = [c.number("WaterEquivalentDiameter") for c in examination.commands]
    return max((t for t in told if t is not None), default=None)


def protocol_of(examination: Examination) -> str:
    """Name of the first command's protocol on its device."""
    first = examination.commands[0]
    return f"{first.device.key}|{first.text('ProtocolName') or ''}"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("calibration", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[-1], help="the site")
    made.add_argument("--spread", type=float, default=0.12, help="AEC residual spread")
    made.add_argument("--origins", type=int, default=20, help="times to learn anew")
    made.add_argument("--window", type=int, default=1000, help="examinations learned and calibrated on")
    made.add_argument("--test", type=int, default=300, help="examinations judged after each window")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--rounds", type=int, default=100, help="trees of the combiner")
    made.add_argument("--steps", type=int, default=200, help="steps of the deep layers")
    arguments = made.parse_args(argv)
    quickly(arguments, origins=2, window=300, test=100, rounds=40, steps=40, budget=0.02)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    site = Site(arguments.seed, aec_spread=arguments.spread)
    everything = site.examinations(arguments.window + arguments.origins * arguments.test)
    found: dict[str, list[bool]] = {}
    member: dict[str, list[bool]] = {}
    origin: list[int] = []
    for k in range(arguments.origins):
        start = k * arguments.test
        window = everything[start : start + arguments.window]
        test = everything[start + arguments.window : start + arguments.window + arguments.test]
        settings = Settings(budget=arguments.budget, seed=k, rounds=arguments.rounds, steps=arguments.steps)
        alerted = clean_alerts(fit(window, settings).onion, test)
        for name, told in alerted.items():
            found.setdefault(name, []).extend(told)
        for name, told in groups(window, test).items():
            member.setdefault(name, []).extend(told)
        origin += [k] * len(test)
        say(f"origin {k + 1}/{arguments.origins}: {sum(alerted['learned'])} of {len(test)} alerted")
    result = summary(found, member, origin, arguments.budget)
    save(arguments, "calibration", argv, result)
    out: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(out))
    return out


def summary(
    found: dict[str, list[bool]], member: dict[str, list[bool]], origin: Sequence[int], budget: float
) -> dict[str, Any]:
    """Shares of alerted examinations with intervals, in all, by group and by origin."""
    drawn = weights(len(origin), strata=origin)
    everyone = {"all": [True] * len(origin), **member}
    out: dict[str, Any] = {}
    for name, belongs in everyone.items():
        counts = np.asarray(belongs, float)[None, :]
        rates = {
            who: interval(shares(drawn, np.asarray(told, float)[None, :] * counts, counts)[:, 0])
            for who, told in found.items()
        }
        out[name] = {"examinations": int(counts.sum()), **rates}
    by_origin = [
        float(np.mean([t for t, o in zip(found["learned"], origin, strict=True) if o == k]))
        for k in sorted(set(origin))
    ]
    return {
        "budget": budget,
        "groups": out,
        "by_origin": by_origin,
        "origins_within_budget": sum(rate <= budget for rate in by_origin),
    }


def report(told: dict[str, Any]) -> str:
    """For people."""
    rows = [
        [name, str(g["examinations"]), *(percent(g[w], 2) for w in ("learned", "rules", "any"))]
        for name, g in told["groups"].items()
    ]
    head = [
        "clean examinations",
        "number",
        "alerted by the calibrated number",
        "by rule layers",
        "by any layer",
    ]
    return table(head, rows)


if __name__ == "__main__":
    main()

"""Results of a benchmark as ``results.json`` holds them, made up but in the shape and size of real ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

KINDS = {
    "Scanward": [
        "Scanward",
        "Scanward, learned layers alone",
        "Scanward without form", "Scanward without physics", "Scanward without limits",
        "Scanward without context_free", "Scanward without context_sensitive", "Scanward without procedure",
        "Scanward, adapted",
    ],
    "ceiling": ["oracle"],
    "unsupervised": [
        "kNN", "LOF", "IsolationForest", "ECOD", "COPOD", "HBOS", "PCA", "CBLOF", "INNE", "LODA", "KDE", "GMM", "ABOD",
        "MCD", "COF", "SOD", "one-class SVM", "Hotelling T2",
    ],
    "regression": ["Huber regression of dose", "Theil-Sen regression of dose"],
    "deep": ["autoencoder", "DeepSVDD", "masked network"],
    "supervised on clean commands": [
        f"{classifier}: {context}"
        for classifier in ("logistic", "naive Bayes", "kNN", "random forest", "LightGBM")
        for context in ("body part", "procedure", "protocol", "element", "age", "sex", "weight", "all contexts")
    ],
    "supervised on attacks": [f"{c}, shown attacks" for c in ("logistic", "random forest", "LightGBM", "MLP")],
    "two layers in series": [f"context-free, then {c} (either)" for c in ("logistic", "LightGBM", "MLP")],
    "list of rules": ["dose check list"],
}  # fmt: skip
KNOWN = {
    "dose_x0.3": ("dose", 0.3), "dose_x1.5": ("dose", 1.5), "dose_x3": ("dose", 3.0), "dose_x8": ("dose", 8.0),
    "ma_x3_dose_kept": ("forged dose", 3.0), "tube_voltage": ("technique", 1.4), "range_x3": ("range", 1.0),
    "rotation_time": ("technique", 1.9), "tilt": ("mechanical", 1.0), "phantom_or_fov": ("swap", 1.0),
    "mixed_fields": ("mixed", 1.2), "wrong_objective": ("context", 1.0), "adult_on_child": ("context", 2.1),
    "position": ("mechanical", 1.0), "forged_patient": ("context", 1.0), "repeat": ("procedure", 2.0),
}  # fmt: skip
HELD_OUT = (
    "aec_off", "aec_reference", "pitch", "collimation", "bow_tie", "table_height", "other_organ", "contrast_told",
    "localizer_left_out", "foreign_element", "dose_creep",
)  # fmt: skip
LEVELS = ("recurring protocols", "new protocols", "new scanner model", "software update")
STRENGTH = {
    "Scanward": 0.93, "ceiling": 0.975, "unsupervised": 0.2, "regression": 0.12, "deep": 0.16,
    "supervised on clean commands": 0.3, "supervised on attacks": 0.45, "two layers in series": 0.4,
    "list of rules": 0.1,
}  # fmt: skip


FEW = ("null", "tilt", "dose_x3", "repeat", "pitch", "aec_off", "dose factor 1.5")


def fewer(told: dict[str, Any], levels: tuple[int, ...]) -> dict[str, Any]:
    """The same with some of the levels and a few attacks of each group, where a whole report takes too long."""
    told["levels"] = [told["levels"][i] for i in levels]
    for level in told["levels"]:
        gone = [n for n in level["attacks"] if n not in FEW]
        for name in gone:
            del level["attacks"][name]
            for method in level["methods"].values():
                for figures in (method["detection"], method["of_ceiling"] or {}):
                    for budget in figures.values():
                        (budget or {"attacks": {}})["attacks"].pop(name, None)
    told["smallest"] = [one for one in told["smallest"] if one["level"] == told["levels"][0]["level"]]
    return told


def figure(rng: np.random.Generator, value: float, n: int = 2_000) -> dict[str, float | None]:
    value = float(np.clip(value, 0, 1))
    half = 1.96 * math.sqrt(max(value * (1 - value), 1e-4) / n) * float(rng.uniform(0.9, 1.1))
    return {
        "value": round(value, 6), "low": round(max(0.0, value - half), 6), "high": round(min(1.0, value + half), 6),
    }  # fmt: skip


def rising(rng: np.random.Generator, kind: str, steps: list[float]) -> list[dict[str, float | None]]:
    return [figure(rng, STRENGTH[kind] * (1 - math.exp(-2.5 * step)), 150) for step in steps]


def attack_table(final: bool) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {}

    def add(name: str, group: str, family: str, factor: float | None, cases: int = 300) -> None:
        told[name] = {
            "group": group, "family": family, "about": f"what {name} does", "cases": cases, "examinations": cases - 3,
            "dose_factor": factor, "extra_dlp": None, "tissue_mm": 120.0 if family == "range" else None,
            "motion_mm": None, "motion_deg": 17.5 if name == "tilt" else None, "image_lost": 0.5,
        }  # fmt: skip

    add("null", "null", "null", 1.0, 2_000)
    for name, (family, factor) in KNOWN.items():
        add(name, "known", family, factor)
    if final:
        for name in HELD_OUT:
            add(name, "held out", name, None)
    for factor in (0.5, 1.5):
        add(f"dose factor {factor:g}", "curve", "dose", factor, 150)
    return told


def method_figures(
    rng: np.random.Generator,
    kind: str,
    name: str,
    attacks: dict[str, Any],
    drop: float,
    ceiling: bool,
    first: bool,
) -> dict[str, Any]:
    skill = STRENGTH[kind] * (1 - drop if kind != "ceiling" else 1.0)
    if name not in ("Scanward", "oracle", "kNN"):
        skill *= float(rng.uniform(0.35, 0.97))
    real = {n: f for n, f in attacks.items() if f["group"] in ("known", "held out")}
    shown = ("dose", "technique", "mechanical") if kind == "supervised on attacks" else ()
    share = {
        n: min(1.0, max(0.0, skill + 0.35 * math.sin(3.1 * i + 1) * (1 - skill) + float(rng.normal(0, 0.02))))
        for i, (n, f) in enumerate(real.items())
        if f["family"] not in shown
    }

    def mean(group: str | None = None, factor: float = 1.0) -> dict[str, Any] | None:
        values = [v for n, v in share.items() if group is None or real[n]["group"] == group]
        return figure(rng, factor * float(np.mean(values)), 20_000) if values else None

    def detection(factor: float) -> dict[str, Any]:
        return {
            "mean": mean(None, factor), "known": mean("known", factor), "held out": mean("held out", factor),
            "attacks": {n: figure(rng, v * factor, 300) for n, v in share.items()},
        }  # fmt: skip

    false = 0.005 * (1 + 4 * drop) * float(rng.uniform(0.7, 1.1))
    rates = [10 ** (k / 10) for k in range(-40, -9)]
    rises = [float(np.mean(list(share.values()))) * (r / 0.005) ** 0.18 for r in rates]
    curve = [figure(rng, min(1.0, v)) for v in rises]

    def clean(budget: float) -> dict[str, Any]:
        scale = budget / 0.005
        return {
            "examinations": figure(rng, false * scale, 12_500), "commands": figure(rng, false * scale * 0.4, 30_000),
            "null": figure(rng, false * scale, 2_000),
            "holds_per_1000": {"value": 1000 * false * scale, "low": 900 * false * scale, "high": 1100 * false * scale},
        }  # fmt: skip

    top = 0.975
    return {
        "worlds": 3 if name != "COF" else 1,
        "clean": {"0.005": clean(0.005), "0.001": None if kind == "deep" else clean(0.001)},
        "detection": {"0.005": detection(1.0), "0.001": None if kind == "deep" else detection(0.8)},
        "of_ceiling": None
        if not ceiling or kind == "ceiling"
        else {
            "0.005": {
                "mean": mean(None, 1 / top), "known": mean("known", 1 / top), "held out": mean("held out", 1 / top),
                "attacks": {n: figure(rng, min(1.0, v / top), 300) for n, v in share.items()},
            },
            "0.001": None,
        },
        "auroc": {
            "mean": figure(rng, 0.5 + skill / 2),
            "attacks": {n: figure(rng, 0.5 + v / 2, 300) for n, v in share.items()},
        },
        "aupr": {p: figure(rng, skill * s) for p, s in (("0.5", 1.0), ("0.1", 0.9), ("0.01", 0.6))},
        "f1": {p: figure(rng, skill * s) for p, s in (("0.5", 1.0), ("0.1", 0.9), ("0.01", 0.5))},
        "missed_harm": {
            "dose": figure(rng, 1 - skill), "tissue": figure(rng, 0.8 * (1 - skill)), "motion": None,
            "image": figure(rng, 0.5 * (1 - skill)),
        },
        "roc": {
            "false_alerts": rates, "detection": [c["value"] for c in curve], "low": [c["low"] for c in curve],
            "high": [None if not first and k == 0 else c["high"] for k, c in enumerate(curve)],
        },
        "calibration": {
            "asked": [0.001, 0.002, 0.005, 0.01, 0.02, 0.05],
            "observed": [figure(rng, a * false / 0.005, 12_500) for a in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)],
        },
        "microseconds": None if name == "SOD" else float(10 ** rng.uniform(1, 4.5)),
    }  # fmt: skip


def results(
    *, seed: int = 0, final: bool = True, methods: int = 80, recorded: bool = True, unfinished: bool = False
) -> dict[str, Any]:
    """About eighty methods, four simulated levels and a recording, 27 attacks and the null attack."""
    rng = np.random.default_rng((seed, 6))
    # The first of each kind, then the second of each, so that few methods are of every kind as well.
    in_turn = [(i, kind, n) for kind, names in KINDS.items() for i, n in enumerate(names)]
    kept = sorted(in_turn, key=lambda one: one[0])[:methods]
    named = {n: kind for _, kind, n in in_turn if any(n == m for _, _, m in kept)}
    worlds = [f"site {site}, spread 0.12, three makers" for site in (104, 105, 106)]
    levels = []
    for i, level in enumerate(LEVELS):
        attacks = attack_table(final)
        levels.append(
            {
                "level": level, "set": "spread 0.12", "worlds": worlds, "simulated": True,
                "examinations": 37_500 if i == 0 else 12_000, "commands": 97_412 if i == 0 else 31_004,
                "calibration": [2_500, 2_500, 2_500], "attacks": attacks,
                "methods": {
                    n: method_figures(rng, kind, n, attacks, 0.12 * i, True, i == 0)
                    for n, kind in named.items()
                    if not (n == "Scanward, adapted" and i == 0)
                },
            }
        )  # fmt: skip
    if recorded:
        attacks = attack_table(False)
        levels.append(
            {
                "level": LEVELS[0], "set": "covid_ctset", "worlds": ["covid_ctset, by time"], "simulated": False,
                "examinations": 812, "commands": 812, "calibration": [999], "attacks": attacks,
                "methods": {
                    n: method_figures(rng, kind, n, attacks, 0.3, False, False)
                    for n, kind in named.items()
                    if kind not in ("ceiling", "two layers in series")
                },
            }
        )  # fmt: skip
    main = levels[0]["methods"]
    against = max(
        (n for n, kind in named.items() if kind not in ("Scanward", "ceiling", "supervised on attacks")),
        key=lambda n: main[n]["detection"]["0.005"]["mean"]["value"],
    )

    def row(level: str, other: str) -> dict[str, Any]:
        endpoint = "mean detection at 0.5 % false alerts"
        difference = {"value": 0.5, "low": 0.48, "high": 0.52}
        return {
            "level": level,
            "endpoint": endpoint,
            "ours": "Scanward",
            "against": other,
            "difference": difference,
            "p": 2e-5,
        }

    return {
        "format": "scanward-benchmark-1",
        "size": "full",
        "final": final,
        "plan": {
            "seed": 0, "version": "0.6.0", "budgets": [0.005, 0.001], "shown": ["dose_x3", "tilt"],
            "simulated": [{"seed": s, "spread": 0.12} for s in (104, 105, 106)],
            "recorded": [{"name": "covid_ctset", "sha256": "ab" * 32}] if recorded else [],
        },
        "plan_sha256": "5e" * 32,
        "command": "scanward benchmark --size full --final --out build/benchmark",
        "finished": False,
        "missing": [
            [worlds[0], LEVELS[1], "COF", "failed: singular matrix"],
            *([[w, LEVELS[3], "MLP, shown attacks", "not measured yet"] for w in worlds] if unfinished else []),
        ],
        "machine": {"processor": "x86_64", "cores": 2, "python": "3.11.7", "packages": {"numpy": "2.4.6"}},
        "worlds": [
            *(
                {
                    "name": w, "about": f"SIMULATED {w}", "simulated": True, "learn": 7_500, "calibrate": 2_500,
                    "tests": [{"level": x, "examinations": 4_000, "commands": 10_342} for x in LEVELS],
                }
                for w in worlds
            ),
            *(
                [{
                    "name": "covid_ctset, by time", "about": "chest CT of one hospital", "simulated": False,
                    "learn": 2_997, "calibrate": 999,
                    "tests": [{"level": LEVELS[0], "examinations": 812, "commands": 812}],
                }] if recorded else []
            ),
        ],
        "methods": [
            {
                "name": n, "kind": kind, "context": kind != "regression", "about": f"{kind}: {n}",
                "facts": {w: {"chosen": {"k": 5, "scale": "robust"}, "seconds": 12.3} for w in worlds},
            }
            for n, kind in named.items()
        ],
        "levels": levels,
        "comparisons": {
            "primary": {
                "what": "named before anything was measured", **row(LEVELS[0], against), "set": "spread 0.12",
                "claim": True,
            },
            "others": [
                {**row(level, n), "p_holm": 0.003, "claim": True}
                for level in LEVELS
                for n, kind in named.items()
                if kind not in ("Scanward", "ceiling")
            ]
            + [
                {
                    **row(LEVELS[0], against), "endpoint": "where 0.5 % alert, rules included", "set": "spread 0.12",
                    "difference": {"value": 0.4, "low": 0.37, "high": 0.43}, "p_holm": 0.004, "claim": True,
                    "rules_included": True,
                }
            ],
            "first": True,
            "method": "Paired bootstrap of whole examinations within worlds, 20000 draws.",
        },
        "smallest": [
            {
                "level": level, "set": "spread 0.12", "method": n,
                "more": {
                    "factors": [1.2, 1.5, 2.0, 3.0, 5.0, 8.0],
                    "detection": rising(rng, kind, [f - 1 for f in (1.2, 1.5, 2.0, 3.0, 5.0, 8.0)]),
                    "at_95": {"value": 2.4, "low": 2.1, "high": None} if n == "Scanward" else None, "reached": 0.97,
                },
                "less": {
                    "factors": [0.8, 0.5, 0.3, 0.1],
                    "detection": rising(rng, kind, [1 / f - 1 for f in (0.8, 0.5, 0.3, 0.1)]),
                    "at_95": {"value": 0.4, "low": 0.31, "high": 0.45} if n == "oracle" else None, "reached": 0.4,
                } if kind != "deep" else None,
            }
            for level in LEVELS
            for n, kind in named.items()
        ],
        "openings": [
            {
                "date": "2026-11-22 23:10", "version": "0.6.0", "commit": "ab" * 20, "plan_sha256": "5e" * 32,
                "sites": [104, 105, 106], "attacks": 11, "why": "the table of version 0.6.0",
            }
        ] if final else [],
    }  # fmt: skip

"""Sections of docs/results.md, each made of one result file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks import calibration, latency, throughput
from benchmarks.common import figure, percent, table

Told = dict[str, Any]
AIM_MEAN, AIM_EACH = 0.95, 0.90  # of the oracle's detection


def detection(told: Told) -> str:
    """Attacks, baselines, false alerts, smallest doses, ablation."""
    asked = told["options"]
    out = [
        f"Sites {_list(asked['seeds'])}; {asked['examinations']} examinations each to learn from, "
        f"{asked['test']} later ones to test on, budget {100 * asked['budget']:g} %; "
        f"{told['split']}."
    ]
    for one in told["spreads"]:
        out += [f"### AEC residual spread {one['spread']:g}", _verdict(one), _attacks(one), _clean(one)]
        out += [_baselines(one), _smallest(one), _sites(one), _ablation(one)]
    return "\n\n".join(part for part in out if part)


def _list(values: Any) -> str:
    return ", ".join(str(v) for v in values)


def _verdict(one: Told) -> str:
    """What was aimed at, and whether it was reached."""
    ratio = one["mean_ratio"]["value"]
    short = [
        name
        for name, a in one["attacks"].items()
        if name != "null" and a["ratio"]["value"] is not None and a["ratio"]["value"] < AIM_EACH
    ]
    null = one["attacks"]["null"]["ours"]
    lines = [
        f"* {100 * AIM_MEAN:g} % of the oracle on average: "
        f"{'reached' if ratio >= AIM_MEAN else 'not reached'}, {percent(one['mean_ratio'])}.",
        f"* {100 * AIM_EACH:g} % of the oracle on every attack: "
        + ("reached." if not short else f"not reached on {_list(short)}."),
        f"* Null attack alerted: {percent(null, 2)}.",
    ]
    return "\n".join(lines)


def _attacks(one: Told) -> str:
    rows = [
        [
            f"`{name}`",
            f"{a['attacked']} in {a['examinations']}",
            *(percent(a[who]) for who in ("ours", "learned", "rules", "oracle")),
            percent(a["ratio"]),
        ]
        for name, a in one["attacks"].items()
    ]
    mean = one["mean"]
    rows.append(
        ["**mean of attacks**", ""]
        + [percent(mean[who]) for who in ("ours", "learned", "rules", "oracle")]
        + [percent(one["mean_ratio"])]
    )
    head = ["attack", "attacked", "ours", "learned alone", "rules alone", "oracle", "ours / oracle"]
    return table(head, rows)


def _clean(one: Told) -> str:
    clean = one["clean_alerts"]
    return (
        f"Of {one['clean_examinations']} later clean examinations alerted: by any layer "
        f"{percent(clean['any'], 2)}, by the calibrated number {percent(clean['learned'], 2)}, by the rules "
        f"{percent(clean['rules'], 2)}; by the oracle {percent(clean['oracle'], 2)}."
    )


def _baselines(one: Told) -> str:
    known = {"ours", "learned", "rules", "oracle"}
    others = [who for who in one["mean"] if who not in known]
    if not others:
        return ""
    best = one["mean"]["oracle"]["value"]
    rows = []
    for who in ["ours", *sorted(others, key=lambda w: -one["mean"][w]["value"])]:
        mean = one["mean"][who]
        clean = one["clean_alerts"]["any" if who == "ours" else who]
        share = f"{100 * mean['value'] / best:.0f} %" if best else "-"
        rows.append([who, percent(mean), share, percent(clean, 2)])
    head = ["detector", "mean detection over attacks", "of the oracle's", "clean examinations alerted"]
    return table(head, rows)


def _smallest(one: Told) -> str:
    if not one["smallest"]:
        return ""
    rows = []
    for seed, told in zip(one["seeds"], one["smallest"], strict=True):
        for direction in ("more", "less"):
            d = told[direction]
            rows.append([f"{direction} dose, site {seed}", figure(d["ours"]), figure(d["oracle"])])
    head = ["smallest factor caught with 95 % probability", "ours", "oracle"]
    return table(head, rows) + "\n\nA dash: not even the largest factor tried (x8, x0.1) is caught so often."


def _sites(one: Told) -> str:
    if len(one["per_site"]) < 2:
        return ""
    rows = [
        [
            str(s["seed"]),
            *(f"{100 * s['mean'][w]:.1f} %" for w in ("ours", "oracle")),
            f"{100 * s['ratio']:.1f} %" if s["ratio"] is not None else "-",
            f"{100 * s['clean_alerts']['any']:.2f} %",
        ]
        for s in one["per_site"]
    ]
    return table(["site", "ours, mean", "oracle, mean", "ours / oracle", "clean alerted, any layer"], rows)


def _ablation(one: Told) -> str:
    if not one["ablation"]:
        return ""
    kinds = list(one["ablation"][0])
    count = len(one["ablation"])
    rows = []
    for kind in kinds:
        mean = sum(a[kind]["mean"] for a in one["ablation"]) / count
        clean = sum(a[kind]["clean_alerts"] for a in one["ablation"]) / count
        whole = {
            n: sum(a[kinds[0]]["attacks"][n] or 0 for a in one["ablation"]) / count for n in one["attacks"]
        }
        here = {n: sum(a[kind]["attacks"][n] or 0 for a in one["ablation"]) / count for n in one["attacks"]}
        loss, name = max((whole[n] - here[n], n) for n in whole if n != "null")
        worst = f"`{name}` -{100 * loss:.0f} points" if loss > 0 else ""
        rows.append([kind, f"{100 * mean:.1f} %", worst, f"{100 * clean:.2f} %"])
    head = ["left out", "mean detection", "largest loss", "clean examinations alerted"]
    return table(head, rows)


def origins(told: Told) -> str:
    """The promise over rolling origins."""
    o = told["options"]
    return (
        f"{o['origins']} origins, each learned from and calibrated on {o['window']} examinations and tested on "
        f"the next {o['test']}; budget {100 * told['budget']:g} %. Origins within the budget: "
        f"{told['origins_within_budget']} of {len(told['by_origin'])}.\n\n" + calibration.report(told)
    )


def late(module: str, name: str = "report") -> Callable[[Told], str]:
    """The words of a benchmark of the guard, whose module is loaded when its figures are there."""
    return lambda told: str(getattr(importlib.import_module(f"benchmarks.{module}"), name)(told))


SECTIONS: dict[str, Callable[[Told], str]] = {
    "benchmark": late("published", "section"),
    "detection": detection,
    "benchmark_recordings": late("published", "section"),
    "calibration": origins,
    "latency": latency.report,
    "throughput": throughput.report,
    "audit": late("audit"),
    "guard_latency": late("guard_latency", "shown"),
    "can_relay": late("can_relay"),
    "dicom_link": late("dicom_link", "shown"),
    "guard_clean": late("guard_clean"),
    "guard_faults": late("guard_faults"),
    "guard_attacks": late("guard_attacks"),
    "guard_soak": late("guard_soak"),
    "tampering_phantoms": late("tampering_phantoms"),
    "tampering_speed": late("tampering_speed"),
    "tampering_quality": late("tampering_quality"),
    "tampering_films": late("tampering_films"),
    "forensics": late("forensics"),
    "forensics_mias": late("forensics"),
    "mrmc_monte_carlo": late("mrmc_monte_carlo"),
    "mrmc_speed": late("mrmc_speed"),
    "console_history": late("console_history"),
    "signatures": late("signatures"),
    "dicom_node": late("dicom_node"),
}

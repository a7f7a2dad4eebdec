"""The section of the results page about forged pictures."""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.common import figure, percent, table
from scanward.forensics.evaluation import Row, worst
from scanward.forensics.opinions import Opinions
from scanward.forensics.processing import PLAIN

KNOWN = "generator:known"
AIM = 0.99  # AUC on the generator that is learned from


def report(told: dict[str, Any]) -> str:
    """The section of the results page."""
    rows = [msgspec.convert(one, Row) for one in told["rows"]]
    names = list(dict.fromkeys(r.method for r in rows))
    share = f"{100 * told['false_alarms']:g} %"
    out = [
        f"{told['kind']}. {told['genuine']} genuine test pictures of {told['women']} women; each method learned from "
        f"{told['learned_from']} pictures. Generators: {told['generators']}. AUC, and in brackets its interval of "
        f"95 % by woman; *Pd* is the share found where {share} of genuine pictures are alarmed at. `unseen`: in no "
        "training of that method (a classical family: in a training of its own, without its group)."
    ]
    if told.get("options", {}).get("runs"):
        out.append("The generators were trained beforehand (`--runs`), on women of no other part.")
    out += [
        f"Measured by a process of its own, on the same pictures: {who}." for who in told.get("apart", [])
    ]
    known = [r for r in rows if r.method == Opinions.name and r.family == KNOWN and r.processing == PLAIN]
    if known and known[0].auc.value is not None:
        reached = "reached" if known[0].auc.value >= AIM else "not reached"
        out.append(f"AUC {AIM:g} on the known generator was aimed at: {reached}.")
    families = list(dict.fromkeys(r.family for r in rows if r.processing == PLAIN))
    for what, cell in (
        ("AUC", lambda r: figure(_told(r.auc), 3)),
        (f"Pd at {share}", lambda r: percent(_told(r.found), 0)),
    ):
        body = []
        for unseen in (False, True):
            for family in families:
                found = {
                    r.method: r
                    for r in rows
                    if r.family == family and r.unseen is unseen and r.processing == PLAIN
                }
                if found:
                    body.append(
                        [f"`{family}`", _seen(family, unseen)]
                        + [cell(found[n]) if n in found else "-" for n in names]
                    )
        out += [f"### {told['kind']}: {what}", table(["family", "", *names], body)]
    lines = []
    for name in names:
        least = worst([r for r in rows if r.method == name])
        if least is not None:
            lines.append(f"* {name}: `{least.family}`, AUC {figure(_told(least.auc), 3)}.")
    if lines:
        out += ["The unseen family that each method tells least:", "\n".join(lines)]
    placed = [r for r in rows if r.pixel_auc.value is not None or r.iou.value is not None]
    if placed:
        body = [
            [
                r.method,
                f"`{r.family}`",
                _seen(r.family, r.unseen),
                figure(_told(r.pixel_auc), 3),
                figure(_told(r.iou), 3),
            ]
            for r in placed
        ]
        out += [
            f"### {told['kind']}: where",
            table(["method", "family", "", "pixel AUC", "intersection over union"], body),
        ]
    chains = list(dict.fromkeys(r.processing for r in rows))
    if len(chains) > 1:
        body = []
        for chain in chains:
            for family in (KNOWN, "all forged"):
                found = {
                    r.method: r
                    for r in rows
                    if r.processing == chain and r.family == family and (family != KNOWN or not r.unseen)
                }
                if found:
                    body.append(
                        [chain, f"`{family}`"]
                        + [
                            f"{figure(_told(found[n].auc), 3)}; {percent(_told(found[n].found), 0)}"
                            if n in found
                            else "-"
                            for n in names
                        ]
                    )
        out += [
            f"### {told['kind']}: after processing",
            f"AUC; Pd at {share}. All but `none` on the forged women's pictures alone."
            + (" `mias256`: the same films out of another file." if "mias256" in chains else ""),
            table(["processing", "family", *names], body),
        ]
    for one in told["attack"]:
        if one["row"] is None:
            continue
        row = msgspec.convert(one["row"], Row)
        before = next(r for r in rows if r.method == one["method"] and r.family == KNOWN)
        out += [
            f"### {told['kind']}: an attacker who may ask",
            f"The known generator trained {one['steps']} steps against a stand-in of {one['method']} (fitted to "
            f"{one['queries']} of its scores, correlation {one['fit']:.2f}), keeping "
            f"{100 * one['kept']:.0f} % of its change: AUC {figure(_told(before.auc), 3)} before, "
            f"{figure(_told(row.auc), 3)} after; Pd {percent(_told(before.found), 0)} before, "
            f"{percent(_told(row.found), 0)} after.",
        ]
    return "\n\n".join(out)


def _seen(family: str, unseen: bool) -> str:
    if family == "all forged":
        return "both"
    return "unseen" if unseen else "learned"


def _told(estimate: Any) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

"""What ``scanward demo`` shows of its second half: attacks with and without the guard, and what it cost."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import print_table

if TYPE_CHECKING:
    from scanward.emulator.demonstration import Guarded

_DOSES = ("dose_ordered_mGy", "dose_without_mGy", "dose_with_mGy")
_COLUMNS = (
    "name", "family", "about", "source", "tried", "effective", "stopped", "by_design", "layer",
    "dose_ordered_mGy", "dose_without_mGy", "dose_with_mGy", "reason",
)  # fmt: skip


def write_attacks(guarded: Guarded, path: Path) -> Path:
    """The table as CSV, reasons in full."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("simulated", *_COLUMNS))
        for row in (f.as_json() for f in guarded.fought):
            writer.writerow(("yes", *(row[name] for name in _COLUMNS)))
    return path


def print_guarded(guarded: Guarded) -> None:
    """Both tables."""
    rows = []
    for fought in guarded.fought:
        told = fought.as_json()
        rows.append(
            (
                told["name"],
                told["about"],
                _stopped(told),
                told["layer"],
                *(_dose(told[name]) for name in _DOSES),
            )
        )
    print_table(
        ("attack", "what it does", "stopped", "by", "ordered mGy", "without guard", "with guard"),
        rows,
        title=f"Attacks on an emulated {guarded.device.manufacturer} {guarded.device.model} (simulated)",
        caption="dose: mean of the largest at one place, on the attacked command's phantom; stopped: of those that "
        "had their effect without the guard",
    )
    clean = guarded.clean
    added, trigger = (clean.as_json()[name] for name in ("added_latency_ms", "added_trigger_ms"))
    print_table(
        ("what", "figure"),
        [
            ("clean examinations through the guard", clean.examinations),
            ("commands ordered / released", f"{clean.commands} / {clean.released}"),
            (
                "commands an operator had to look at",
                f"{clean.alerted} in {clean.alerted_examinations} examinations",
            ),
            ("commands lost", clean.lost),
            ("time added to a load", _latency(added)),
            ("time added to a trigger", _latency(trigger)),
            ("guard started to first verdict", f"{guarded.first_verdict_s:.1f} s"),
            ("second half of the demonstration", f"{sum(guarded.seconds.values()):.0f} s"),
        ],
        title="Clean examinations with the guard inline (simulated)",
    )
    _print_can(guarded)


def _print_can(guarded: Guarded) -> None:
    can = guarded.can.as_json()
    if "skipped" in can:
        click.echo(f"\nThe same over CANopen: skipped, {can['skipped']}")
        return
    clean = can["clean"]
    rows = [
        (a["name"], f"{a['stopped']} of {a['tried']}", a["layer"], *(_dose(a.get(name)) for name in _DOSES))
        for a in can["attacks"]
    ]
    print_table(
        ("attack", "stopped", "by", "ordered mGy", "without guard", "with guard"),
        rows,
        title="The same bundle before a CANopen wire (simulated; bus: virtual)",
        caption=f"clean: {clean['released']} of {clean['commands']} commands released, {clean['alerted']} looked at; "
        f"first trigger answered after {_latency(clean['first_trigger_ms'])}",
    )


def _stopped(told: dict[str, Any]) -> str:
    if not told["tried"]:
        return "no victim"
    if not told["effective"]:
        return "no effect"
    share = f"{told['stopped']} of {told['effective']}"
    return f"{share} (by design)" if told["by_design"] else share


def _dose(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _latency(told: dict[str, float | None]) -> str:
    if told["p50"] is None or told["p99"] is None:
        return "not measured"
    return f"{told['p50']:.1f} ms (median), {told['p99']:.1f} ms (99 %)"

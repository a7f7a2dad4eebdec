"""``scanward demo``: everything at once, on a simulated site."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.demo_guarded import print_guarded, write_attacks
from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.emulator.demonstration import Guarded
    from scanward.learning.demo import Shown

_REASON = 64  # characters of an example reason in the table; the files hold all of it


@click.command("demo", short_help="Try everything on a simulated site.")
@click.option(
    "--examinations",
    type=click.IntRange(40, 100_000),
    default=1200,
    show_default=True,
    help="Clean examinations to learn from.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.005,
    show_default=True,
    help="Share of clean examinations that may alert.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another site.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("scanward-demo"),
    show_default=True,
    help="Folder for bundle, table and plots.",
)
@click.option(
    "--no-guard", is_flag=True, help="Learn and judge only: start no emulated scanner and no guard."
)
@click.option(
    "--open",
    "open_page",
    is_flag=True,
    help="Afterwards (at once, where --out has a bundle) work at an emulated scanner, and open the operator's console.",
)
@click.option(
    "--no-browser", is_flag=True, help="With --open: print the console's address, and open nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything found as JSON.")
def demo_command(
    examinations: int,
    budget: float,
    seed: int,
    out: Path,
    no_guard: bool,
    open_page: bool,
    no_browser: bool,
    as_json: bool,
) -> None:
    """Simulate a site, learn it, and put the guard between an emulated host and gantry.

    Three simulated scanners, adult and child protocols, automatic exposure control, operators' freedom. The
    judge is trained, written as a signed bundle and read back; later examinations are judged as they are, and
    attacked in seventeen ways. What an oracle detects that knows the simulator is the ceiling.

    Then two emulated gantries are started, one of them behind a guard that uses this bundle, over TLS on
    loopback. Clean examinations and attacks are sent to both: dose delivered, commands stopped, time added. Needs
    no network beyond this machine, no GPU and no data. All of it is simulated.

    With --open an emulated scanner is worked at until interrupted, a guard before it, and the operator's console opens
    in a browser: some examinations are attacked, and you decide on what is held.

    \b
    Example:
      scanward demo
      scanward demo --seed 7 --out /tmp/demo
      scanward demo --json | jq .mean
      scanward demo --open
    """
    # One thread per library, before numpy is loaded: on small matrices more threads only wait for each other,
    # and two runs of the same seed then add up their numbers in the same order.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from scanward.learning.demo import NOTICE, Plan, show
    from scanward.learning.plots import PLOTS, draw

    if no_browser and not open_page:
        raise SettingsError("--no-browser belongs to --open", "", "leave it out, or add --open")
    note(NOTICE)
    plan = Plan.of(examinations, budget, seed)
    if open_page and (out / "bundle").is_dir() and (out / "demo.pub").is_file():
        note(f"taking the bundle in {out}")
        _open(out, seed, examinations, as_json, not no_browser)
        return
    plan.check()
    out.mkdir(parents=True, exist_ok=True)
    shown = show(plan, out, progress, note)
    with progress("drawing", len(PLOTS)) as step:
        files = draw(shown, out, step)
    files.append(_write_csv(shown, out / "demo.csv"))
    guarded = None
    if not no_guard:
        from scanward.emulator.demonstration import demonstrate

        note("starting two emulated gantries, and a guard in front of one of them")
        guarded = demonstrate(out, seed, examinations, progress)
        files.append(write_attacks(guarded, out / "attacks.csv"))
    files.append(_write_json(shown, guarded, out / "demo.json", files))
    if as_json:
        if open_page:  # demo.json has what was found; here lines follow until it is interrupted
            _open(out, seed, examinations, as_json, not no_browser)
        else:
            print_json(_whole(shown, guarded, files))
        return
    _print(shown)
    if guarded is not None:
        print_guarded(guarded)
    click.echo(f"\nPlots, table and bundle are in {out}: {', '.join(sorted(p.name for p in files))}, bundle/")
    click.echo("Next, with recordings of your own: scanward inspect recordings/")
    click.echo("                                   scanward train recordings/ --model scanner-1")
    click.echo(NOTICE)
    if open_page:
        _open(out, seed, examinations, as_json, not no_browser)


def _open(out: Path, seed: int, learned: int, as_json: bool, browser: bool) -> None:
    from scanward.cli.demo_open import open_demo

    open_demo(out, seed, learned, as_json=as_json, browser=browser)


def _whole(shown: Shown, guarded: Guarded | None, files: list[Path]) -> dict[str, Any]:
    more = {} if guarded is None else guarded.as_json()
    return {**shown.as_json(), **more, "files": [str(path) for path in files]}


def _write_csv(shown: Shown, path: Path) -> Path:
    """The table as CSV, reasons in full."""
    columns = (
        "attack",
        "family",
        "about",
        "tried",
        "detected",
        "share",
        "low",
        "high",
        "oracle",
        "layer",
        "reason",
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("simulated", *columns))
        for row in (t.as_json() for t in shown.attacks):
            row["reason"] = row["example"]["reason"] if row["example"] else ""
            writer.writerow(("yes", *(row[name] for name in columns)))
    return path


def _write_json(shown: Shown, guarded: Guarded | None, path: Path, files: list[Path]) -> Path:
    text = json.dumps(_whole(shown, guarded, [*files, path]), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _print(shown: Shown) -> None:
    rows = []
    for tried in shown.attacks:
        facts = tried.as_json()
        reason = tried.example["reason"] if tried.example else ""
        rows.append(
            (
                tried.attack,
                tried.about,
                tried.tried,
                f"{100 * tried.share:.0f} ({100 * facts['low']:.0f}-{100 * facts['high']:.0f})",
                f"{100 * tried.oracle:.0f}",
                tried.layer,
                reason if len(reason) <= _REASON else f"{reason[:_REASON]}...",
            )
        )
    ours, oracle = shown.means
    print_table(
        (
            "attack",
            "what it does",
            "tried",
            "detected %",
            "oracle %",
            "caught most by",
            "for example, because",
        ),
        rows,
        title="Simulated attacks on later examinations (detected: with 95 % interval)",
        caption=f"mean of the attacks without null: detected {100 * ours:.1f} %, oracle {100 * oracle:.1f} % "
        f"(ratio {100 * ours / oracle:.0f} %)",
    )
    low, high = shown.dose_caught()
    alerts = shown.false_alerts
    print_table(
        ("what", "figure"),
        [
            ("examinations learned from / for calibration alone", _learned_from(shown)),
            ("budget: clean examinations that may alert", f"{100 * alerts['budget']:g} %"),
            (
                "later clean examinations that alerted",
                f"{alerts['alerts']} of {alerts['examinations']} ({100 * alerts['share']:.2f} %): "
                f"{alerts['by_the_calibrated_number']} by the calibrated number, "
                f"{alerts['by_rule_layers']} by rule layers",
            ),
            (
                "chance allows the calibrated number",
                f"at most {100 * alerts['expected_at_most']:.2f} % in 95 of 100 repetitions: "
                f"{'kept' if alerts['within_chance'] else 'NOT KEPT'}",
            ),
            ("dose caught with 95 % and more, low side", f"x{low:g} and less" if low else "none tried"),
            ("dose caught with 95 % and more, high side", f"x{high:g} and more" if high else "none tried"),
            (
                "one decision, all layers, one core",
                f"{shown.latency_ms['p50']:.2f} ms (median), {shown.latency_ms['p99']:.2f} ms (99 %)",
            ),
            ("whole demonstration", f"{sum(shown.seconds.values()):.0f} s"),
        ],
        title="Simulated site: promise, dose, time",
    )
    click.echo("\nOne alert explained (simulated):")
    for line in shown.explanation:
        click.echo(f"  {line}")


def _learned_from(shown: Shown) -> str:
    report = shown.report
    return f"{report['examinations']} / {report['calibration_examinations']}"

"""``scanward benchmark``: every method side by side, on simulated sites and on recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import Step, note, print_json, print_table, progress
from scanward.config import BENCHMARK_BOUNDS
from scanward.errors import LearningError, SettingsError

if TYPE_CHECKING:
    from scanward.learning.benchmark.measuring import Source
    from scanward.learning.benchmark.plan import Plan, Recorded
    from scanward.learning.benchmark.running import Event, Outcome
    from scanward.learning.benchmark.store import Store

_PATH = click.Path(path_type=Path)
_OUT = Path("benchmark")


@click.group(
    "benchmark",
    invoke_without_command=True,
    short_help="Compare detectors of anomalous commands, side by side.",
)
@click.option(
    "--size", type=click.Choice(["small", "full"]), default="small", show_default=True, help="How much."
)
@click.option("--out", type=_PATH, default=_OUT, show_default=True, help="Folder of the run and its report.")
@click.option(
    "--methods",
    "wanted",
    multiple=True,
    metavar="NAME|KIND",
    help="Methods by name or kind (--list names them); repeatable.  [default: those of the size]",
)
@click.option(
    "--recordings",
    multiple=True,
    type=_PATH,
    metavar="PATH",
    help="Recordings measured beside the simulated sites; repeatable.",
)
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=_PATH,
    help="How tables are to be read: one for all --recordings, or one for each, which are then data sets of their own.",
)
@click.option("--idc", "collection", default="", metavar="COLLECTION", help="CT of Imaging Data Commons too.")
@click.option(
    "--idc-series", type=click.IntRange(1), default=400, show_default=True, help="Series fetched at most."
)
@click.option(
    "--idc-megabytes",
    type=click.FloatRange(1, 500_000),
    default=50_000.0,
    show_default=True,
    help="Megabytes fetched at most.",
)
@click.option(
    "--sites", type=click.IntRange(0), help="Simulated sites; 0 for none.  [default: as the size has it]"
)
@click.option(
    "--spread",
    "spreads",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="AEC spread of all sites; repeatable.  [default: as the size has it]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, BENCHMARK_BOUNDS.seed),
    default=0,
    show_default=True,
    help="Seed of learning, attacks and bootstrap.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, BENCHMARK_BOUNDS.workers),
    default=1,
    show_default=True,
    help="Processes at work, each with a site in memory (about 1 GB at full size).",
)
@click.option(
    "--final", is_flag=True, help="Open the locked sites and the held-out attacks: once a release, logged."
)
@click.option(
    "--why", default="", metavar="TEXT", help="Reason of an opening; needed when this version was opened."
)
@click.option("--yes", is_flag=True, help="Do not ask before opening.")
@click.option("--fresh", is_flag=True, help="Take away what an earlier run kept in OUT.")
@click.option("--list", "only_list", is_flag=True, help="Only list the methods.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json (with --list: the methods).")
@click.pass_context
def benchmark_group(context: click.Context, /, **given: Any) -> None:
    """Measure every detector on the same commands: ours, the oracle's ceiling, and what others use.

    Simulated sites (and your recordings) are divided: earlier examinations teach, others set every method's threshold
    by one rule, later ones are attacked. OUT gets results.json, a report and every answer; a run that was stopped goes
    on when it is given the same options again, and more --methods may be added later.

    Simulated figures compare methods; they promise nothing about a hospital.

    \b
    Example:
      scanward benchmark
      scanward benchmark --size full --out night/ --workers 2
      scanward benchmark --recordings acquisitions.csv --dialect dialect.toml --sites 0 --out ours/
      scanward benchmark --methods Scanward --methods unsupervised --out some/
      scanward benchmark report night/
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    _benchmark(**given)


def _refuse_options(context: click.Context) -> None:
    """Options of a run before the name of another command would do nothing."""
    from click.core import ParameterSource

    for option in context.command.params:
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise SettingsError(
                f"{option.opts[0]} is an option of a run",
                f"scanward benchmark {context.invoked_subcommand}",
                "leave it out, or give it after the command",
            )


def _benchmark(
    *,
    size: str,
    out: Path,
    wanted: tuple[str, ...],
    recordings: tuple[Path, ...],
    dialects: tuple[Path, ...],
    collection: str,
    idc_series: int,
    idc_megabytes: float,
    sites: int | None,
    spreads: tuple[float, ...],
    seed: int,
    workers: int,
    final: bool,
    why: str,
    yes: bool,
    fresh: bool,
    only_list: bool,
    as_json: bool,
) -> None:
    from scanward.learning.benchmark import plan as planning
    from scanward.learning.benchmark import registry
    from scanward.learning.benchmark.running import run
    from scanward.learning.benchmark.store import Store

    found = registry.methods(planning.SHOWN)
    names = registry.chosen(found, wanted or (("all",) if only_list else ()), size)
    if only_list:
        _list([m for m in found if m.name in names], as_json=as_json)
        return
    recorded, sources = _recorded(recordings, dialects, out, collection, idc_series, idc_megabytes)
    plan = planning.make(
        size,
        final=final,
        seed=seed,
        sites=sites or None,
        spreads=spreads,
        recorded=recorded,
        simulated=sites != 0,
    )
    if final:
        _open(plan, out, why, yes=yes, fresh=fresh)
    elif why or yes:
        raise SettingsError("nothing is opened", "--why" if why else "--yes", "give it with --final alone")
    news = _News()
    try:
        with progress("benchmark", total=100.0) as step:
            news.step = step
            outcome = run(
                plan, out, registry.methods, names, sources=sources, workers=workers, fresh=fresh, tell=news,
                started=news.started,
            )  # fmt: skip
        results, written = _report(Store.at(out)[0], _command(plan, wanted), workers)
    except KeyboardInterrupt:
        note(f"interrupted; every finished method is kept in {out}: give the same options again to go on")
        raise
    _finish(results, written, outcome, as_json=as_json)


def _report(store: Store, command: str, workers: int) -> tuple[dict[str, Any], list[Path]]:
    """Figures and report of what is kept."""
    from scanward.learning.benchmark import report
    from scanward.learning.benchmark.assembling import assemble
    from scanward.learning.benchmark.store import RESULTS, write_json

    with progress("figures", total=100.0) as step:
        done = 0.0

        def tick(what: str, share: float) -> None:
            nonlocal done
            step(max(0.0, 90 * share - done), what)
            done = max(done, 90 * share)

        results = assemble(store, command, tick, workers)
        write_json(store.out / RESULTS, results)
        step(90 - done, "report")
        return results, report.write(results, store.out)


@benchmark_group.command("report", short_help="Write the report of a run again.")
@click.argument("out", type=_PATH, metavar="OUT")
@click.option(
    "--workers",
    type=click.IntRange(1, BENCHMARK_BOUNDS.workers),
    default=1,
    show_default=True,
    help="Processes at work.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def report_command(out: Path, workers: int, as_json: bool) -> None:
    """Work out every figure of a run again from the answers kept in OUT, and write the report.

    Of a run that has not finished: from what is there, saying what is missing.

    \b
    Example:
      scanward benchmark report night/
    """
    from scanward.learning.benchmark.store import RESULTS, Store, read_json

    store, _ = Store.at(out)
    before = read_json(out / RESULTS) if (out / RESULTS).exists() else {}
    results, written = _report(store, str(before.get("command", "")), workers)
    _finish(results, written, None, as_json=as_json)


@benchmark_group.command("openings", short_help="Show when locked sites were opened.")
@click.option("--log", type=_PATH, help="Another log.  [default: this user's]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def openings_command(log: Path | None, as_json: bool) -> None:
    """Every opening of the locked sites from this account: when, by which version and plan, and why.

    \b
    Example:
      scanward benchmark openings
    """
    from scanward.learning.benchmark import openings

    found = openings.read(log)
    if as_json:
        print_json({"openings": [o.as_json() for o in found]})
    elif found:
        print_table(*openings.rows(found), title="openings of the locked sites")
    else:
        note("the locked sites have not been opened from this account")


# --- what was given


def _recorded(
    recordings: tuple[Path, ...],
    dialects: tuple[Path, ...],
    out: Path,
    collection: str,
    series: int,
    megabytes: float,
) -> tuple[list[Recorded], list[Source]]:
    """Data sets of the plan, and where they lie."""
    from scanward.learning.benchmark.measuring import Source
    from scanward.learning.benchmark.plan import Recorded, digest_of, text_digest
    from scanward.learning.benchmark.store import IDC
    from scanward.recordings import load_dialect

    if dialects and (not recordings or len(dialects) not in (1, len(recordings))):
        raise SettingsError(
            f"{len(dialects)} dialects for {len(recordings)} recordings",
            "--dialect",
            "give one for all of them, or one for each in the same order",
        )
    sets: list[tuple[tuple[Path, ...], Path | None]] = []
    if len(dialects) > 1:
        sets = [((path,), dialect) for path, dialect in zip(recordings, dialects, strict=True)]
    elif recordings:
        sets = [(recordings, dialects[0] if dialects else None)]
    recorded: list[Recorded] = []
    sources: list[Source] = []
    for paths, dialect in sets:
        read = load_dialect(dialect) if dialect else None
        name = (read.name if read else "") or paths[0].stem or "recordings"
        recorded.append(Recorded(name, digest_of(paths), digest_of([dialect]) if dialect else ""))
        sources.append(Source(name, paths, dialect))
    if collection:
        name = f"IDC {collection}"
        told = text_digest(collection)
        recorded.append(Recorded(name, told, kind="idc", series=series, megabytes=megabytes))
        sources.append(Source(name, (), folder=out / IDC / collection, collection=collection))
    return recorded, sources


def _open(plan: Plan, out: Path, why: str, *, yes: bool, fresh: bool) -> None:
    """Ask, and record the opening, unless this very run was opened before and just goes on."""
    from scanward.learning.benchmark import openings

    if not fresh and openings.is_open(plan, out):
        return
    openings.check(plan, out, why)
    sites = ", ".join(str(w.seed) for w in plan.simulated)
    text = (
        f"Open the locked sites ({sites}) for version {plan.version}? It is logged, and done once a release"
    )
    if not yes:
        click.confirm(text, abort=True, err=True)
    opening = openings.record(plan, out, why)
    note(f"opened: {opening.why}; put this into docs/results.md (scanward benchmark openings)")


def _command(plan: Plan, wanted: Sequence[str]) -> str:
    """The command that makes these figures, without what only says where files lie."""
    import shlex

    from scanward.learning.benchmark import plan as planning

    words = ["scanward", "benchmark", "--size", plan.size]
    for one in plan.recorded:
        words += ["--idc", one.name.partition(" ")[2]] if one.kind == "idc" else ["--recordings", one.name]
    count = len({w.seed for w in plan.simulated})
    if count != planning.SIZES[plan.size].sites:
        words += ["--sites", str(count)]
    if count and plan.simulated != planning.make(plan.size, final=plan.final, sites=count).simulated:
        for spread in dict.fromkeys(w.spread for w in plan.simulated):
            words += ["--spread", f"{spread:g}"]
    if plan.seed:
        words += ["--seed", str(plan.seed)]
    for word in wanted:
        words += ["--methods", word]
    return shlex.join([*words, *(["--final"] if plan.final else [])])


# --- what is said


class _News:
    """Events of a run as a progress bar, remarks and failures."""

    def __init__(self) -> None:
        self.step: Step | None = None
        self.total = 1.0

    def started(self, total: float) -> None:
        """How much there is to do; the bar counts hundredths of it."""
        self.total = max(total, 1.0)

    def __call__(self, event: Event) -> None:
        from scanward.learning.benchmark.running import News

        if event.kind is News.FAILED:
            note(f"failed: {event.text}")
        elif event.kind is News.REMARK:
            note(event.text)
        elif self.step is not None:
            text = event.text if event.kind is News.STAGE else None
            self.step(100 * event.amount / self.total, text)


def _list(methods: Sequence[Any], *, as_json: bool) -> None:
    rows = [(m.name, m.kind.value, "yes" if m.context else "no", m.about) for m in methods]
    if as_json:
        keys = ("name", "kind", "context", "about")
        print_json({"methods": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    print_table(("method", "kind", "context columns", "what it is"), rows)


def _finish(
    results: dict[str, Any], written: Sequence[Path], outcome: Outcome | None, *, as_json: bool
) -> None:
    if as_json:
        print_json(results)
    else:
        _summary(results)
    for path in written:
        note(f"written: {path}")
    if results["missing"]:
        note(f"{len(results['missing'])} cells are missing: the run has not finished, or methods failed")
    if outcome is not None and outcome.failed:
        first = outcome.failed[0]
        raise LearningError(
            f"{len(outcome.failed)} methods failed, the first: {first}",
            "log.txt",
            "the report has all others; give the same options again to try again",
        )


def _summary(results: dict[str, Any]) -> None:
    """The primary figures, one table a level."""
    for level in results["levels"]:
        rows, budget = [], f"{level['budget']:g}"
        origin = " (SIMULATED)" if level["simulated"] else ""
        for name, told in level["methods"].items():
            found = (told.get("detection") or {}).get(budget) or {}
            clean = (told.get("clean") or {}).get(budget) or {}
            rows.append((name, _percent(found.get("mean")), _percent(clean.get("examinations"))))
        rows.sort(key=lambda row: -(row[1] if row[1] is not None else -1.0))
        print_table(
            ("method", "detected %", "false alerts %"),
            rows,
            title=f"{level['level']}{origin}, threshold for {100 * level['budget']:g} %",
        )


def _percent(told: Any) -> float | None:
    value = told.get("value") if isinstance(told, dict) else None
    return None if value is None else round(100 * float(value), 1)

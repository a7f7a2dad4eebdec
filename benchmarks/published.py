"""The open benchmark's report, shortened for docs/results.md; the whole report lies beside the run's results.json.

`scanward benchmark` measures; this only puts its results.json where `benchmarks.run_all --page` finds it.

  scanward benchmark --size full --final --out night
  python -m benchmarks.published night --out build/bench/benchmark.json
  python -m benchmarks.run_all --page --only benchmark
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import OUT, parser, plain
from scanward.learning.benchmark.report import blocks
from scanward.learning.benchmark.report_blocks import Block, Drawing, Heading, Paragraph, Table
from scanward.learning.benchmark.report_markdown import markdown
from scanward.learning.benchmark.report_view import PRIMARY_BUDGET, View

WHOLE = (
    "top",
    "in-short",
    "aims",
    "simulated",
    "levels",
    "openings",
    "failed",
)  # sections that stay as they are
MAIN = 4  # rows of each kind at the level of the primary comparison
ELSEWHERE = 2  # and at the others
ALL = ("Scanward", "ceiling")  # kinds whose rows all stay
LONGEST = 12  # rows of a table that has no kinds and is no table of attacks
LEFT_OUT = ("Cells that are not there yet", "All other comparisons", "Methods: what they are")
CURVE = "roc"  # of a method: but for the point at the budget only plots need it, and it is most of the file


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Shorten and save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    made = parser("published", __doc__)
    made.add_argument(
        "run", type=Path, nargs="?", default=OUT / "run", help="folder of a run of scanward benchmark"
    )
    arguments = made.parse_args(argv)
    results = _results(arguments.run, quick=arguments.quick)
    if not results:
        print(
            f"{arguments.run}: no results.json; run scanward benchmark --out with this folder first",
            file=sys.stderr,
        )
        return {}
    told = {
        "benchmark": "benchmark",
        "command": results["command"],
        "machine": results["machine"],
        "results": _without_curves(results),
        "opening": _json(arguments.run / "opening.json"),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(plain(told)) + "\n", "utf-8")
    return told


def _results(run: Path, *, quick: bool) -> dict[str, Any]:
    if quick and not (run / "results.json").exists():
        _tiny(run)
    return _json(run / "results.json")


def _tiny(run: Path) -> None:
    """A run of seconds: shows that the page can be written, measures nothing."""
    from scanward.learning.benchmark import plan, registry
    from scanward.learning.benchmark.assembling import assemble
    from scanward.learning.benchmark.running import run as measured
    from scanward.learning.benchmark.store import RESULTS, Store, write_json

    sizes = {"learn": 160, "recurring": 60, "others": 30, "cases": 6, "null": 10, "on_curve": 4}
    measured(plan.smaller(plan.make("small"), **sizes), run, registry.methods, ("kNN", "Hotelling T2"))
    write_json(run / RESULTS, assemble(Store.at(run)[0], "scanward benchmark --methods kNN"))


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _without_curves(results: Mapping[str, Any]) -> dict[str, Any]:
    levels = [
        {
            **level,
            "methods": {
                name: {**one, CURVE: _point(one.get(CURVE), float(level.get("budget", PRIMARY_BUDGET)))}
                for name, one in level["methods"].items()
            },
        }
        for level in results["levels"]
    ]
    return {**results, "levels": levels}


def _point(curve: Mapping[str, Any] | None, rate: float) -> dict[str, Any] | None:
    """The one point of a curve at which methods are compared where no threshold holds."""
    known = [k for k, found in enumerate((curve or {}).get("false_alerts", ())) if found]
    if curve is None or not known:
        return None
    at = min(known, key=lambda k: abs(math.log(curve["false_alerts"][k] / rate)))
    return {name: [values[at]] if isinstance(values, list) else values for name, values in curve.items()}


def section(told: Mapping[str, Any]) -> str:
    """The section of docs/results.md."""
    view = View(told["results"])
    main_level = f"level-{view.main.key}" if view.main else ""
    kept = list(_kept(list(blocks(view)), main_level))
    opened = told.get("opening") or {}
    head = [f"Plan {told['results']['plan_sha256'][:12]}, made by {', '.join(told['results']['made_by'])}."]
    if opened:
        head.append(
            f"Locked sites opened {opened['date']} UTC by version {opened['version']}, commit {opened['commit'][:10]}: "
            f"{opened['why']}."
        )
    return " ".join(head) + "\n\n" + markdown(kept, "").rstrip() + "\n\n" + _compared(told["results"])


def _kept(found: Sequence[Block], main_level: str) -> Iterator[Block]:
    """The report without plots and without what is long: whole sections, the head of long tables."""
    anchor, waiting = "", None
    for block in found:
        if isinstance(block, Heading):
            anchor = block.anchor
            # Headings of the page itself are of levels 1 and 2; that of the report is its title, not ours.
            waiting = replace(block, level=3) if anchor != "top" else None
            continue
        short = _shortened(block, anchor, main_level)
        if short is None:
            continue
        if waiting is not None:
            yield waiting
            waiting = None
        yield short


def _shortened(block: Block, anchor: str, main_level: str) -> Block | None:
    if isinstance(block, Drawing):
        return None
    if isinstance(block, Table):
        if block.caption.startswith(LEFT_OUT):
            return None
        level = anchor.startswith("level-")
        if level and anchor != main_level and not block.caption.startswith("Methods by kind"):
            return None
        if any(group.name for group in block.groups) and not block.caption.startswith("Each attack"):
            most = MAIN if anchor == main_level else ELSEWHERE
            groups = tuple(
                group if group.name in ALL else replace(group, rows=group.rows[:most])
                for group in block.groups
            )
            cut = any(len(a.rows) != len(b.rows) for a, b in zip(block.groups, groups, strict=True))
            said = f"{block.caption} (of each kind the first {most})" if cut else block.caption
            return replace(block, groups=groups, caption=said, folded=False)
        if level or anchor in WHOLE:
            return replace(block, folded=False)
        rows = sum(len(group.rows) for group in block.groups)
        return replace(block, folded=False) if rows <= LONGEST else None
    if anchor in WHOLE or anchor == main_level:
        return block
    return block if isinstance(block, Paragraph) and anchor == "comparisons" else None


def _compared(results: Mapping[str, Any]) -> str:
    """All secondary comparisons counted: shown better, shown worse, neither; and which were lost."""
    counts: dict[str, Counter[str]] = {}
    worse: dict[str, list[str]] = {}
    for one in results["comparisons"]["others"]:
        level = f"{one['level']}, {one['set']}" if one.get("set") else one["level"]
        found = one.get("difference")
        if found is None or found.get("value") is None:
            word = "not measured"
        elif one.get("claim"):
            word = "better"
        elif one.get("p_holm") is not None and one["p_holm"] < 0.05 and found["value"] < 0:
            word = "worse"
            worse.setdefault(level, []).append(one["against"])
        else:
            word = "neither shown"
        counts.setdefault(level, Counter())[word] += 1
    simulated = any(level["simulated"] for level in results["levels"])
    origin = "SIMULATED" if simulated else "Recorded commands, injected attacks"
    words = ("better", "neither shown", "worse", "not measured")
    lines = [
        "**Scanward against each baseline, p corrected by Holm: how many.** " + origin,
        "",
        "| level | " + " | ".join(words) + " | shown worse than |",
        "| :--- | " + "---: | " * len(words) + ":--- |",
    ]
    for level, told in counts.items():
        named = worse.get(level, [])
        more = f" and {len(named) - 8} more" if len(named) > 8 else ""
        lines.append(
            f"| {level} | "
            + " | ".join(str(told[w]) for w in words)
            + f" | {', '.join(named[:8]) or '-'}{more} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

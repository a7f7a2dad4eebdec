"""What a faster arrangement costs in quality: as many images for both, three seeds each, on the same phantoms.

The figure is the paired difference of AUC, genuine minus both sides modified, of `tampering_phantoms`: how much a model
deceives. `tampering_speed` says how much faster it is.

  python -m benchmarks.tampering_quality --images 1000 --seeds 0 1 2
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks import tampering_phantoms
from benchmarks.common import save
from scanward.tampering.evaluation.processing import PLAIN
from scanward.tampering.evaluation.report import percent, shown
from scanward.tampering.evaluation.results import Confirmation

NAME = "tampering_quality"
BASE, OURS = "reference-64", "scanward-64"


def report(told: dict[str, Any]) -> str:
    """The section of the results page."""
    found = msgspec.convert(told["confirmation"], Confirmation)
    lines = [
        f"Phantoms of {found.rows} x {found.columns} px; every run was shown {told['options']['images']} images of "
        "either domain. Genuine AUC: "
        + ", ".join(f"`{c.name}` {shown(c.genuine[PLAIN], 3)}" for c in found.classifiers)
        + ".",
        "",
        "| preset | seed | " + " | ".join(f"genuine - both, {c.name}" for c in found.classifiers) + " | "
        "lesions removed | plausible insertions |",
        "|---|---|" + "---|" * (len(found.classifiers) + 2),
    ]
    means: dict[tuple[str, str], list[float]] = {}
    for one in told["training"]:
        tamper = next(t for t in found.tampers if one["name"] in t.name)
        cells = []
        for classifier in found.classifiers:
            detection = next(
                d
                for d in tamper.detection
                if (d.classifier, d.processing, d.condition) == (classifier.name, PLAIN, "both")
            )
            cells.append(shown(detection.difference))
            means.setdefault((one["preset"], classifier.name), []).append(
                float(detection.difference.value or 0)
            )
        lines.append(
            f"| `{one['preset']}` | {one['seed']} | {' | '.join(cells)} | {percent(tamper.removed)} | "
            f"{percent(tamper.plausible)} |"
        )
    for classifier in found.classifiers:
        base, ours = (statistics.mean(means[name, classifier.name]) for name in (BASE, OURS))
        lines.append(
            f"\nMean over the seeds by `{classifier.name}`: `{BASE}` {base:.3f}, `{OURS}` {ours:.3f}: "
            f"{abs(ours - base):.3f} {'better' if ours >= base else 'worse'}."
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save, print."""
    words = sys.argv[1:] if argv is None else list(argv)
    usual = ["--presets", BASE, OURS, "--images", "1000", "--seeds", "0", "1", "2"]
    arguments = tampering_phantoms.options([*usual, *words])
    arguments.out = arguments.out.with_name(f"{NAME}.json") if "--out" not in words else arguments.out
    told = tampering_phantoms.run(arguments, "quality", (PLAIN,), all_controls=False)
    save(arguments, NAME, words, told)
    if not arguments.json:
        print(report(told | {"options": vars(arguments)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

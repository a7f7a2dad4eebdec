"""Figures of an evaluation: ROC curves before and after, scores against what is left of lesions, marked pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from scanward.tampering.evaluation.confirm import Seen
from scanward.tampering.evaluation.measures import REMOVED
from scanward.tampering.evaluation.sets import Images, Pictures
from scanward.tampering.marking import write_marked

LEAST_SIDE = 128  # px that a small picture is enlarged to
SAMPLES = 6  # pictures of each direction on a sheet
GAIN = 2.0  # by which the change is amplified to be seen
SIDES = {
    "genuine": ("healthy", "cancer", "black"),
    "after removal": ("healthy", "removed", "tab:blue"),
    "after insertion": ("inserted", "cancer", "tab:orange"),
    "after both": ("inserted", "removed", "tab:red"),
}


def draw_figure(seen: Seen, path: Path, *, phantom: bool) -> None:
    """ROC curves, and scores after removal against the light left of each lesion; PNG or SVG by the suffix.

    One row for each classifier. Curves of a classifier that is not assessable are drawn all the same: the tables
    say that nothing is claimed by them.
    """
    names = sorted({name for name, _ in seen.scores})
    figure = Figure(figsize=(9, 4.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        _draw_roc(row[0], seen, name)
        _draw_scatter(row[1], seen, name)
    kind = "phantoms" if phantom else "mammograms"
    figure.suptitle(f"{seen.name}: {kind}, genuine and modified for research", fontsize=10)
    figure.savefig(path, dpi=110)


def _draw_roc(axes: Axes, seen: Seen, name: str) -> None:
    for title, (left, right, colour) in SIDES.items():
        healthy, cancer = seen.scores[name, left], seen.scores[name, right]
        truth = np.concatenate([np.zeros(len(healthy)), np.ones(len(cancer))])
        scores = np.concatenate([healthy, cancer])
        false, true, _ = roc_curve(truth, scores)
        axes.plot(
            false, true, color=colour, label=f"{title}: {roc_auc_score(truth, scores):.2f}", linewidth=1.4
        )
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    axes.set(title=f"classifier {name}", xlabel="healthy called cancer", ylabel="cancer called cancer")
    axes.set_aspect("equal")
    axes.legend(fontsize=8, loc="lower right", title="AUC", title_fontsize=8)


def _draw_scatter(axes: Axes, seen: Seen, name: str) -> None:
    before, after = seen.scores[name, "cancer"], seen.scores[name, "removed"]
    left = np.clip(seen.remaining, -1.5, 2)
    axes.scatter(np.ones(len(before)), before, s=6, color="lightgrey", label="genuine")
    axes.scatter(left, after, s=6, color="tab:blue", label="after removal")
    axes.axvspan(*REMOVED, color="tab:green", alpha=0.08, label="counts as removed")
    axes.set(
        title=f"classifier {name}, cancers",
        xlabel="share of the lesion's light that is left",
        ylabel="log odds of cancer",
    )
    axes.legend(fontsize=8)


def draw_sheet(seen: Seen, test: Pictures, path: Path, *, phantom: bool) -> None:
    """Pictures to look at: genuine, modified, change, and the truth where it is known; insertions, then removals.

    Grey of the change means none. Marked as modified all over, as every picture of this wing.
    """
    rows = []
    for at, made in ((test.healthy_rows, seen.inserted), (test.cancer_rows, seen.removed)):
        some = np.linspace(0, len(at) - 1, min(SAMPLES, len(at))).astype(int)
        genuine, altered = test.x[at[some]], made[some]
        strips = [genuine, altered, (altered - genuine) * (GAIN / 2)]
        if test.twinned[at[some]].all():
            strips.append(test.twin[at[some]])
        rows += [_strip(strip) for strip in strips]
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])
    write_marked(
        path,
        sheet,
        f"Sample sheet of an evaluation{' on phantoms' if phantom else ''}: genuine, altered, change",
        text="MODIFIED PHANTOMS" if phantom else "MODIFIED - RESEARCH",
    )


def _strip(pictures: Images) -> NDArray[np.uint8]:
    """(N, rows, columns) in [-1, 1] -> one row of 8-bit pictures, small ones enlarged."""
    eight = ((pictures + 1) * 127.5).clip(0, 255).astype(np.uint8)
    times = max(1, -(-LEAST_SIDE // eight.shape[1]))
    return np.concatenate(list(eight.repeat(times, 1).repeat(times, 2)), axis=1)

"""Sample sheets and curves: what a person looks at to see whether training goes anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from scanward.tampering.curve import read_rows
from scanward.tampering.marking import write_marked

if TYPE_CHECKING:
    from scanward.tampering.batches import Batches
    from scanward.tampering.presets import Preset
    from scanward.tampering.state import State

COLUMNS = 6  # samples of each direction
SHEET_STEP = 1 << 40  # the batch that sheets show: one that no training step takes
LEAST_SIDE = 128  # px that a small picture is enlarged to
GAIN = 2.0  # by which the change is amplified to be seen


def draw_sheet(state: State, batches: Batches, preset: Preset, path: Path, *, phantom: bool) -> None:
    """Write a sheet: for both directions genuine, altered, change (grey: none) and the way back. Marked as modified."""
    rows = []
    for direction, back in (("insert", "remove"), ("remove", "insert")):
        grey, region = samples(batches, preset, direction)
        there, again = state.best(direction).eval(), state.best(back).eval()
        with torch.no_grad():
            altered = there(_with(grey, region, preset))
            returned = again(_with(altered, region, preset))
        state.best(direction).train()
        state.best(back).train()
        rows += [_strip(grey), _strip(altered), _strip((altered - grey) * GAIN / 2), _strip(returned)]
    sheet = np.concatenate(rows)
    write_marked(
        path,
        sheet,
        f"Sample sheet of training{' on phantoms' if phantom else ''}: genuine, altered, change, and back",
        text="MODIFIED PHANTOMS" if phantom else "MODIFIED - RESEARCH",
    )


def samples(batches: Batches, preset: Preset, direction: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The same `COLUMNS` genuine pictures every time, with their regions."""
    grey: list[torch.Tensor] = []
    region: list[torch.Tensor] = []
    step = SHEET_STEP
    while sum(len(g) for g in grey) < COLUMNS:
        batch = batches(step)
        grey.append(batch.healthy if direction == "insert" else batch.cancer)
        region.append(batch.healthy_region if direction == "insert" else batch.cancer_region)
        step += 1
    return torch.cat(grey)[:COLUMNS], torch.cat(region)[:COLUMNS]


def _with(grey: torch.Tensor, region: torch.Tensor, preset: Preset) -> torch.Tensor:
    return torch.cat([grey, region], 1) if preset.generator.mask_channel else grey


def _strip(pictures: torch.Tensor) -> NDArray[np.uint8]:
    """(N, 1, rows, columns) in [-1, 1] -> one row of 8-bit pictures, small ones enlarged."""
    array = ((pictures[:, 0].float().cpu().numpy() + 1) * 127.5).clip(0, 255).astype(np.uint8)
    times = max(1, -(-LEAST_SIDE // array.shape[1]))
    return np.concatenate(list(array.repeat(times, 1).repeat(times, 2)), axis=1)


def draw_curves(table: Path, path: Path) -> None:
    """Draw ``curve.csv`` as PNG; nothing when there are no rows yet."""
    rows = read_rows(table)
    if not rows:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [int(row["step"]) for row in rows]
    for name in rows[0]:
        if name == "step":
            continue
        axes = left if name in ("insert", "remove", "judge cancer", "judge healthy") else right
        axes.plot(steps, [float(row[name]) for row in rows], label=name, linewidth=1)
    for axes, title in ((left, "adversarial losses"), (right, "reconstruction losses")):
        axes.set(title=title, xlabel="step")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle("Losses of a CycleGAN say little about its pictures: look at the sheets", fontsize=9)
    draft = path.with_name(path.name + ".part")
    figure.savefig(draft, dpi=110, format="png")
    draft.replace(path)

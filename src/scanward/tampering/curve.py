"""The curve of a run: losses as CSV, the same whether the run was killed in between or not."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from scanward.errors import LearningError
from scanward.tampering.training import Losses

LOG_EVERY = 50  # steps of which one row of the curve is the mean
REMEMBERED = 3  # steps whose open sums are kept: those of two checkpoints and of one that is being written


class Curve:
    """A row per `LOG_EVERY` steps; rows after the checkpoint that is gone on from are dropped.

    Sums of a row that is not full yet stand beside the curve in ``curve.open.json``, by step, so that a resumed run
    fills the row up. A damaged curve costs its rows, never the run.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path, self._open = path, path.with_suffix(".open.json")
        self._rows = [row for row in read_rows(path) if int(row["step"]) <= step] if step else []
        self._kept = _kept(self._open) if step else {}
        self._kept = {at: kept for at, kept in self._kept.items() if at <= step}
        self._sums: Losses = dict(self._kept.get(step, {}))
        self._count = int(self._sums.pop("steps", 0))
        self.latest: Losses = {name: float(v) for name, v in self._rows[-1].items()} if self._rows else {}
        self.latest.pop("step", None)

    def add(self, step: int, losses: Losses) -> None:
        """Take the losses of one step; none where they were not looked at."""
        if losses:
            self._count += 1
            for name, value in losses.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        if step % LOG_EVERY == 0 and self._count:
            self.latest = {name: value / self._count for name, value in self._sums.items()}
            self._rows.append({"step": str(step)} | {name: f"{v:.6g}" for name, v in self.latest.items()})
            self._sums, self._count = {}, 0

    def flush(self, step: int) -> None:
        """Write what there is after ``step``, before the checkpoint of the same step.

        Raises
        ------
        LearningError
            It cannot be written (disk full).
        """
        self._kept[step] = {"steps": float(self._count)} | self._sums
        self._kept = dict(sorted(self._kept.items())[-REMEMBERED:])
        text = io.StringIO(newline="")
        if self._rows:
            writer = csv.DictWriter(text, list(self._rows[-1]), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        for path, content in ((self._path, text.getvalue()), (self._open, json.dumps(self._kept))):
            draft = path.with_name(path.name + ".part")
            try:
                if content or path.exists():
                    draft.write_text(content, encoding="utf-8", newline="")
                    draft.replace(path)
            except OSError as error:
                raise LearningError(
                    f"the curve cannot be written: {error.strerror}",
                    str(path),
                    "make room and run the same command again: it goes on from the last checkpoint",
                ) from error


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a curve that are whole; none where there is no curve."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []
    return [row for row in rows if _whole(row)]


def _whole(row: dict[str, str]) -> bool:
    try:
        return row["step"].isdecimal() and all(math.isfinite(float(value)) for value in row.values())
    except (KeyError, ValueError, TypeError, AttributeError):
        return False


def _kept(path: Path) -> dict[int, Losses]:
    try:
        found = json.loads(path.read_bytes())
        return {
            int(step): {str(name): float(value) for name, value in sums.items()}
            for step, sums in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}

"""An export table for tests: women, pictures genuine and modified, two arms, readers who rate by a model."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

import numpy as np

from scanward.reading.exporting import COLUMNS

Row = dict[str, str]


def export_rows(
    *,
    women: int = 40,
    readers: int = 4,
    arms: tuple[str, ...] = ("low", "high"),
    per_patient: int = 1,
    lesion: float = 1.5,
    hidden: float = 0.0,
    found: Mapping[str, float] | None = None,
    seed: int = 1,
) -> Iterator[Row]:
    """Half the women have cancer. ``lesion``: mean suspicion of a visible lesion; ``hidden``: without one.

    ``found``: by arm, how far modified pictures stick out as such.
    """
    rng = np.random.default_rng(seed)
    found = found or {}
    for arm in arms:
        for case in range(women):
            woman = case // per_patient
            ill = woman % 2 == 0
            depth = rng.normal(0, 0.5)
            for modified in (False, True):
                visible = ill != modified
                picture = f"{arm}-{case}-{int(modified)}"
                own = rng.normal(0, 0.3)
                modification = "none" if not modified else ("remove" if ill else "insert")
                for reader in range(readers):
                    suspicion = (lesion if visible else hidden) + depth + own + rng.normal(0, 0.8)
                    doubt = found.get(arm, 0.0) * modified + own + rng.normal(0, 0.9)
                    for question, value in (("lesion", suspicion), ("manipulation", doubt)):
                        asks = question == "lesion"
                        yield dict.fromkeys(COLUMNS, "") | {
                            "reader": f"R{reader + 1}",
                            "treatment": ("modified" if modified else "genuine") if asks else arm,
                            "case": f"c{case}" if asks else picture,
                            "truth": str(int(ill if asks else modified)),
                            "rating": str(
                                int(np.clip(np.searchsorted([-0.5, 0.3, 0.9, 1.6], value) + 1, 1, 5))
                            ),
                            "question": question,
                            "arm": arm,
                            "patient": f"P{woman + 1:03d}",
                            "modification": modification,
                            "pathology": "cancer" if ill else "no cancer",
                            "picture": picture,
                        }


def as_csv(rows: Iterator[Row] | list[Row], *, simulated: bool = False) -> bytes:
    """The table as the export writes it."""
    text = io.StringIO(newline="")
    columns = [*COLUMNS, "simulated"] if simulated else list(COLUMNS)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | ({"simulated": "yes"} if simulated else {}))
    return text.getvalue().encode()

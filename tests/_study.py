"""A small study for tests of the reading page, the server and the export: real, and made in a moment."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scanward.reading.creating import build
from scanward.reading.planning import Case
from scanward.reading.protocol import Arm, Design, Modification, Pathology, Sessions
from scanward.reading.sources import Original, Source, Twin

SECRET = bytes(range(32))  # of tests alone: the same study every time


def breasts(
    number: int, rows: int, columns: int, *, bits: int = 16
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Breast ``number`` like a phantom's (half an ellipse with tissue on black), without and with a bright mass."""
    random = np.random.default_rng([17, number])
    down, across = np.mgrid[:rows, :columns]
    inside = ((down - rows / 2) / (rows * 0.45)) ** 2 + (across / (columns * 0.8)) ** 2 < 1
    tissue = 0.35 + 0.15 * random.random((rows, columns)) + 0.1 * np.sin(down / rows * 6 + number)
    y, x = rows * random.uniform(0.35, 0.65), columns * random.uniform(0.2, 0.45)
    radius = max(2.0, 0.07 * rows)
    mass = 0.3 * np.exp(-((down - y) ** 2 + (across - x) ** 2) / (2 * radius**2))
    found = []
    for picture in (tissue, tissue + mass):
        levels = np.floor(np.where(inside, np.clip(picture, 0, 1), 0) * ((1 << bits) - 1))
        found.append((levels.astype(np.uint16) << np.uint16(16 - bits)).astype(np.uint16))
    return found[0], found[1]


def source(picture: NDArray[np.uint16], where: str) -> Source:
    return Source(
        where=where, sha256=hashlib.sha256(picture.tobytes()).hexdigest(), read=lambda: (picture, 16)
    )


def originals(
    cases: int, rows: int = 32, columns: int = 32, *, bits: int = 16, per_patient: int = 1
) -> list[Original]:
    """Half of them with cancer (twin: removed), half without (twin: inserted)."""
    found = []
    for number in range(cases):
        patient = number // per_patient
        ill = patient % 2 == 0
        healthy, cancer = breasts(number, rows, columns, bits=bits)
        genuine, modified = (cancer, healthy) if ill else (healthy, cancer)
        name = f"woman-{patient:04d}-{number % per_patient}"
        found.append(
            Original(
                case=Case(name, f"woman-{patient:04d}", Pathology.CANCER if ill else Pathology.NO_CANCER),
                source=source(genuine, f"{name}.png"),
                twins={
                    "": Twin(
                        source(modified, f"{name}-modified.png"),
                        Modification.REMOVE if ill else Modification.INSERT,
                    )
                },
            )
        )
    return found


def small_study(
    folder: Path,
    *,
    readers: int = 3,
    cases: int = 8,
    rows: int = 32,
    columns: int = 32,
    bits: int = 12,
    practice: int = 0,
    session_cases: int = 1000,
    washout_days: float = 0.0,
    arms: tuple[Arm, ...] = (),
    name: str = "study",
    **design: object,
) -> Path:
    """A STUDY folder of ``cases`` pictures for each reader (an even number: each breast genuine and modified).

    Two sessions or more (twins are never in one); ``arms`` (one of rows x columns where none are given) multiply the
    pictures. Further options are those of `Design`. The same arguments give the same study, tokens and all.
    """
    arms = arms or (Arm(name="only", rows=rows, columns=columns, bits=bits),)
    ways = 2 if design.get("pairing", "paired") == "paired" else 1
    women = cases // (ways * len(arms))
    whole = Design(
        title=str(design.pop("title", "A small study")),
        readers=readers,
        patients=women,
        practice=practice,
        arms=arms,
        sessions=Sessions(cases=session_cases, washout_days=washout_days, block=10),
        **design,  # type: ignore[arg-type]
    )
    there = originals(women + women % 2 + practice + practice % 2, rows, columns)
    build(there, whole, folder / name, phantom=True, secret=SECRET, created="2026-01-01T00:00:00+00:00")
    return folder / name

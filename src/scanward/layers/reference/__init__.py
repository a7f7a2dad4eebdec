"""Published dose figures carried over as numbers with their sources: facts to compare with, no text.

Age bands are half-open in years, 131 meaning no upper end. A figure without a phantom is never compared.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

# NEMA XR-25: the alert value in mGy that recorded dose reports of three makers carry.
XR25_ALERT_CTDIVOL = 1000.0
ADULT_AGE = 18.0  # years; an age nobody told is an adult's: missing context must not object


@dataclass(frozen=True, slots=True)
class DoseFigure:
    """One published dose: CTDIvol in mGy, DLP in mGy.cm (None: not given), for ``age_low <= age < age_high``.

    ``region`` is one of head, chest, chest angiography, abdomen, trunk, torso, brain perfusion, cardiac ...
    """

    region: str
    phantom: str
    age_low: float
    age_high: float
    ctdivol: float | None
    dlp: float | None = None
    exam: str = ""
    jurisdiction: str = ""
    source: str = ""


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _read(name: str) -> tuple[DoseFigure, ...]:
    with files(__name__).joinpath(name).open(encoding="utf-8") as file:
        return tuple(
            DoseFigure(
                row["region"],
                row["phantom"],
                float(row["age_low"]),
                float(row["age_high"]),
                _number(row["CTDIvol_mGy"]),
                _number(row.get("DLP_mGycm")),
                row.get("exam") or "",
                row.get("jurisdiction") or "",
                row["source"],
            )
            for row in csv.DictReader(file)
        )


@cache
def reference_levels() -> tuple[DoseFigure, ...]:
    """Diagnostic reference levels (US adult 2017 and child 2022, UK 2022): information, never limits."""
    return _read("drl.csv")


@cache
def notification_values() -> tuple[DoseFigure, ...]:
    """Default notification values (NEMA XR-25, AAPM 2011). Carried from memory: a site must check them."""
    return _read("notification.csv")


@cache
def statutory_values() -> tuple[DoseFigure, ...]:
    """Values a law sets on standard phantoms: information, never limits for one patient."""
    return _read("statutory.csv")


# Words in BodyPartExamined, ProtocolName ... that tell a region, the most particular first.
_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("brain perfusion", ("perfusion",)),
    ("cardiac", ("cardiac", "heart", "coronary", "calcium score")),
    ("chest angiography", ("ctpa", "pulmonary emb")),
    ("trunk", ("chest-abdomen", "chestabdomen", "chest abdomen", "thorax abdomen", "tap", "cap")),
    ("neck", ("neck", "cervical", "cspine", "carotid")),
    ("head", ("head", "brain", "skull", "sinus", "orbit", "temporal", "stroke", "dental", "face")),
    ("chest", ("chest", "thorax", "lung", "hrct")),
    ("abdomen", ("abdomen", "pelvis", "liver", "kidney", "renal", "pancreas", "colon", "kub", "urogr")),
    ("spine", ("spine",)),
    ("extremity", ("extremit", "knee", "foot", "ankle", "hand", "wrist", "elbow", "shoulder", "leg", "hip")),
)
TORSO = frozenset({"chest", "chest angiography", "abdomen", "trunk"})


@lru_cache(maxsize=4096)
def region_of(text: str) -> str:
    """Region that a folded text speaks of, "" when none: whole words, or beginnings of words."""
    for region, words in _WORDS:
        for word in words:
            at = text.find(word)
            while at >= 0:
                starts = at == 0 or not text[at - 1].isalnum()
                end = at + len(word)
                if starts and (len(word) > 3 or end == len(text) or not text[end].isalnum()):
                    return region
                at = text.find(word, at + 1)
    return ""

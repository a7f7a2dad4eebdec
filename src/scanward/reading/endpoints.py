"""The endpoints of a study: each a named table of ratings, out of the export table or of any other.

The export table has one row a rating, with the columns reader, treatment, case, truth, rating, question, arm, patient,
modification (none, insert, remove), pathology (cancer, no cancer) and others. Session 0 is practice and left out. Out
of the rest come

- ``manipulation``: treatments are the arms, cases are pictures, positive is what was modified. The arms show pictures
  of the same women: their figures are correlated, which the patients tell.
- ``lesion, ARM``: treatments are genuine and modified, positive is a cancer in the *original*, whatever was done later.
  A picture and its modified twin are one case.
- ``lesion insertion, ARM``: negatives are the normal originals, as they are (genuine) and with a lesion inserted
  (modified); positives are the genuine cancers, in both treatments with the same ratings. What falls from genuine to
  modified falls by false alarms on inserted lesions alone.
- ``lesion removal, ARM``: positives are the cancers, as they are and with the lesion removed; negatives are the genuine
  normals, in both treatments. What falls, falls by missed cancers alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scanward.errors import InputError
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.table import Table
from scanward.reading.protocol import Modification, Pathology

GENUINE, MODIFIED = "genuine", "modified"
INSERTION, REMOVAL = "insertion", "removal"
_EXPORT = ("question", "arm", "patient", "modification", "pathology")


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One table of ratings, and what it asks.

    Parameters
    ----------
    name : str
        "lesion, low", "lesion insertion, low", "manipulation", or "ratings" for a plain table.
    question : str
        lesion, manipulation, or "" for a plain table.
    arm : str
        The arm it belongs to, "" where the arms are its treatments or there are none.
    part : str
        "", "insertion" or "removal".
    ratings : Ratings
    positive : str
        What the truth of a positive case says, in words: for tables and axes.
    """

    name: str
    question: str
    arm: str
    part: str
    ratings: Ratings
    positive: str


def is_export(table: Table) -> bool:
    """Whether a table is the export of a study."""
    return all(name in table.columns for name in _EXPORT)


def is_simulated(table: Table) -> bool:
    """Whether any of its ratings comes from a model observer (a column ``simulated`` that is not no, 0 or empty)."""
    return any(
        text.strip().lower() not in ("", "no", "0", "false")
        for name, column in table.columns.items()
        if name.lower() == "simulated"  # a spreadsheet may have changed its case
        for text in column
    )


def endpoints(table: Table) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """All endpoints of a table, and remarks on what was left out.

    Raises
    ------
    InputError
        What `Table.ratings` refuses; an export of which no row can be analysed.
    """
    if not is_export(table):
        return (Endpoint("ratings", "", "", "", table.ratings(), "positive"),), ()
    _check(table)
    found: list[Endpoint] = []
    remarks: list[str] = []
    session = table.columns.get("session", ("",) * len(table))
    practice = {row for row, text in enumerate(session) if text == "0"}
    if practice:
        remarks.append(f"{len(practice)} ratings of practice cases were left out")
    for question in dict.fromkeys(table.columns["question"]):
        asked = enumerate(table.columns["question"])
        rows = [row for row, text in asked if text == question and row not in practice]
        known = [row for row in rows if table.columns["truth"][row]]
        if not rows:
            continue
        if not known:
            remarks.append(f"question '{question}': no truth is known, so it is not analysed")
        elif question == "lesion":
            for arm in dict.fromkeys(table.columns["arm"][row] for row in known):
                found += _lesion(table, arm, [row for row in known if table.columns["arm"][row] == arm])
        else:
            positive = "modified" if question == "manipulation" else "positive"
            ratings = _ratings(table, known, [table.columns["treatment"][row] for row in known])
            found.append(Endpoint(question, question, "", "", ratings, positive))
    if not found:
        raise InputError("no question whose truth is known", table.source, "give the whole export of a study")
    return tuple(found), tuple(remarks)


def _check(table: Table) -> None:
    for name, allowed in (
        ("modification", [one.value for one in Modification]),
        ("pathology", [one.value for one in Pathology]),
    ):
        for row, text in enumerate(table.columns[name]):
            if text not in allowed:
                raise InputError(f"{name} {text[:40]!r}", table.where(row), f"use {', '.join(allowed)}")
    for row, (question, treatment, modification) in enumerate(
        zip(
            table.columns["question"],
            table.columns["treatment"],
            table.columns["modification"],
            strict=True,
        )
    ):
        genuine = modification == Modification.NONE
        if question == "lesion" and treatment != (GENUINE if genuine else MODIFIED):
            raise InputError(
                f"treatment {treatment[:40]!r} of a picture with modification {modification}",
                table.where(row),
                f"of the question lesion it is {GENUINE} or {MODIFIED}",
            )


def _lesion(table: Table, arm: str, rows: list[int]) -> list[Endpoint]:
    modification, pathology = table.columns["modification"], table.columns["pathology"]
    rows.sort(key=lambda row: modification[row] != Modification.NONE)  # genuine is the first treatment
    positive = "cancer in the original"
    treatments = [table.columns["treatment"][row] for row in rows]
    whole = Endpoint(f"lesion, {arm}", "lesion", arm, "", _ratings(table, rows, treatments), positive)
    found = [whole]
    for part, kind, changed in (
        (INSERTION, Modification.INSERT, Pathology.NO_CANCER),
        (REMOVAL, Modification.REMOVE, Pathology.CANCER),
    ):
        genuine = [row for row in rows if modification[row] == Modification.NONE]
        altered = [row for row in rows if modification[row] == kind and pathology[row] == changed]
        kept = [row for row in genuine if pathology[row] != changed]  # of the other class: in both treatments
        if altered and kept:
            treatments = [GENUINE] * len(genuine) + [MODIFIED] * (len(altered) + len(kept))
            ratings = _ratings(table, [*genuine, *altered, *kept], treatments)
            found.append(Endpoint(f"lesion {part}, {arm}", "lesion", arm, part, ratings, positive))
    return found


def _ratings(table: Table, rows: Sequence[int], treatments: Sequence[str]) -> Ratings:
    ratings = table.ratings(rows, treatment=treatments)
    return ratings.select(readers=sorted(ratings.readers, key=_natural))


def _natural(name: str) -> list[tuple[int, str]]:
    """R2 before R10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]

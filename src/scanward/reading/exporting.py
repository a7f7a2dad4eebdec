"""From answers and key to the table that is analysed: one row a rating, CSV in the convention of the field.

=========================  ============================================================================================
question                   what the columns say
=========================  ============================================================================================
manipulation               treatment: the arm; case: the picture; truth: 1 where the picture was modified
lesion                     treatment: genuine or modified; case: the original's, shared by its twin; truth: 1 for cancer
any other                  treatment: the arm; case: the picture; truth: empty
=========================  ============================================================================================

``rating`` is the reader's last answer, ``revisions`` how often he revised it; ``seconds`` in view and ``away`` are
added up over the revisions. ``marks`` are "x y;x y" in px. ``answered_at`` is when the server took it. This is the
only module that opens the key.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import msgspec

from scanward.errors import InputError
from scanward.reading.opened import Study, open_study, read_key
from scanward.reading.protocol import Modification, Pathology, Truth
from scanward.reading.store import Row, Standing, Store

COLUMNS = (
    "reader",
    "treatment",
    "case",
    "truth",
    "rating",
    "question",
    "arm",
    "patient",
    "modification",
    "pathology",
    "picture",
    "session",
    "position",
    "seconds",
    "away",
    "confidence",
    "revisions",
    "marks",
    "answered_at",
)
SIMULATED = "simulated"  # a column that only rehearsals have


@dataclass(frozen=True)
class Export:
    """The table, and what is missing from it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    answers: int
    unanswered: int
    conflicts: int
    late: int


def export(folder: Path, *, key: Path | None = None, practice: bool = False) -> Export:
    """The table of a study, whole or as far as it has come.

    Parameters
    ----------
    key : Path, optional
        The key, if it is not in the study's folder.
    practice : bool
        Whether practice cases are rows too; they are never analysed.

    Raises
    ------
    InputError
        No study, another key than the protocol's, no answers.
    """
    study = open_study(folder, pictures=False)
    truths = {truth.picture: truth for truth in read_key(study, key).truths}
    with _answers(study) as store:
        merged, standing = _merged(store.every_answer())
    simulated = study.protocol.design.simulated
    table: list[tuple[str, ...]] = []
    answers = unanswered = 0
    for reader in study.protocol.readers:
        for session in reader.sessions:
            if session.number == 0 and not practice:
                continue
            for shown in session.cases:
                given = merged.get((reader.name, shown.token))
                if given is None:
                    unanswered += 1
                    continue
                answers += 1
                lines = _lines(study, given, truths[shown.picture])
                table.extend((*line, "yes") if simulated else line for line in lines)
    return Export(
        (*COLUMNS, SIMULATED) if simulated else COLUMNS,
        tuple(table),
        answers,
        unanswered,
        standing[Standing.CONFLICT],
        standing[Standing.LATE],
    )


def _answers(study: Study) -> Store:
    if not study.answers.is_file():
        raise InputError("no answers yet", str(study.answers), "serve the study and let it be read first")
    return Store(study.answers, study.sha256)


@dataclass(frozen=True, slots=True)
class _Given:
    """The answer that counts, with the time of all its revisions."""

    row: Row
    seconds: float
    away: float
    revisions: int


def _merged(rows: Iterable[Row]) -> tuple[dict[tuple[str, str], _Given], Counter[Standing]]:
    """What counts of each case, and how many answers have which standing. Acts, most of an answer, are let go."""
    merged: dict[tuple[str, str], _Given] = {}
    standing: Counter[Standing] = Counter()
    for row in rows:
        standing[row.standing] += 1
        if row.standing is not Standing.COUNTS:
            continue
        bare = replace(row, answer=msgspec.structs.replace(row.answer, acts=()))
        case = (row.reader, row.answer.token)
        other = merged.get(case)
        if other is None:
            merged[case] = _Given(bare, row.answer.seconds, row.answer.away, 0)
            continue
        merged[case] = _Given(
            max(other.row, bare, key=lambda one: one.answer.revision),
            other.seconds + row.answer.seconds,
            other.away + row.answer.away,
            other.revisions + 1,
        )
    return merged, standing


def _lines(study: Study, given: _Given, truth: Truth) -> Iterator[tuple[str, ...]]:
    answer = given.row.answer
    place = study.places[answer.token]
    picture = place.picture
    for question in study.protocol.design.questions:
        treatment, case, positive = picture.arm, picture.identifier, ""
        if question.identifier == "manipulation":
            positive = "1" if truth.modification is not Modification.NONE else "0"
        elif question.identifier == "lesion":
            treatment = "genuine" if truth.modification is Modification.NONE else "modified"
            case, positive = truth.case, "1" if truth.pathology is Pathology.CANCER else "0"
        yield (
            given.row.reader,
            treatment,
            case,
            positive,
            str(answer.ratings[question.identifier]),
            question.identifier,
            picture.arm,
            truth.patient,
            truth.modification.value,
            truth.pathology.value,
            picture.identifier,
            str(place.session),
            str(place.position),
            _seconds(given.seconds),
            _seconds(given.away),
            "" if answer.confidence is None else str(answer.confidence),
            str(given.revisions),
            ";".join(f"{x:g} {y:g}" for x, y in answer.marks),
            given.row.received_at,
        )


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def history(folder: Path) -> Iterator[str]:
    """Every answer ever taken, one JSON object a line, in the order of arrival. No truth in it, no key needed.

    Conflicts, late answers and all revisions are there, with acts and windows.
    """
    study = open_study(folder, pictures=False)
    with _answers(study) as store:
        for row in store.every_answer():
            place = study.places[row.answer.token]
            yield json.dumps(
                {
                    "serial": row.serial,
                    "reader": row.reader,
                    "session": row.session,
                    "position": place.position,
                    "picture": place.picture.identifier,
                    "standing": row.standing.value,
                    "received_at": row.received_at,
                    "answer": msgspec.to_builtins(row.answer),
                },
                sort_keys=True,
            )


def write_table(table: Export, path: Path) -> None:
    """Write the table as CSV (RFC 4180, UTF-8, line feeds), whole or not at all."""
    with _Whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(table.rows)


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write lines, whole or not at all."""
    with _Whole(path) as file:
        for line in lines:
            file.write(line + "\n")


class _Whole:
    """A text file that appears under its name when it is complete. Mode 0600: it tells truths."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> TextIO:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        self._temporary = Path(name)
        self._file = os.fdopen(handle, "w", encoding="utf-8", newline="")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

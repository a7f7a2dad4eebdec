"""Ratings of cases by readers under treatments, as one dense table: the vocabulary of the whole analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Who rated what, and how.

    Parameters
    ----------
    score : float64 (treatments, readers, cases)
        The rating; larger means more suspicious. NaN: this reader did not read this case under this treatment.
    truth : bool (cases,)
        Whether the case is positive (abnormal, modified, ...).
    patient : intp (cases,)
        Index of the patient into ``patients``: what is resampled. Without clusters every case is its own patient.
    treatments, readers, cases, patients : tuple of str
        Names, in the order of the axes.

    Raises
    ------
    InputError
        Shapes that do not fit, infinite ratings, names that occur twice.
    """

    score: Floats
    truth: NDArray[np.bool_]
    patient: NDArray[np.intp]
    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    patients: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = (len(self.treatments), len(self.readers), len(self.cases))
        if self.score.shape != shape or self.truth.shape != shape[2:] or self.patient.shape != shape[2:]:
            raise InputError(
                f"ratings of shape {self.score.shape}, truth {self.truth.shape}, patients {self.patient.shape}",
                f"{shape[0]} treatments, {shape[1]} readers, {shape[2]} cases",
                "give (treatments, readers, cases), (cases,) and (cases,)",
            )
        if np.isinf(self.score).any():
            raise InputError("an infinite rating", "score", "give finite ratings, NaN where nothing was read")
        for what in ("treatments", "readers", "cases", "patients"):
            names = getattr(self, what)
            if len(set(names)) != len(names):
                raise InputError(f"a name occurs twice among the {what}", what, "give every name once")
        if self.patient.size and not 0 <= self.patient.min() <= self.patient.max() < len(self.patients):
            raise InputError("a patient's index beyond the names of patients", "patient", "count from 0")

    @property
    def clustered(self) -> bool:
        """Whether some patient has more than one case."""
        return len(np.unique(self.patient)) < len(self.cases)

    @property
    def fully_crossed(self) -> bool:
        """Whether every reader read every case under every treatment."""
        return not np.isnan(self.score).any()

    def select(
        self, *, treatments: Sequence[str] | None = None, readers: Sequence[str] | None = None
    ) -> Ratings:
        """The ratings of some treatments and readers, in the order given; cases nobody read any more go.

        Raises
        ------
        InputError
            A name that is not there.
        """
        chosen = []
        for what, wanted, names in (
            ("treatment", treatments, self.treatments),
            ("reader", readers, self.readers),
        ):
            wanted = names if wanted is None else wanted
            for name in wanted:
                if name not in names:
                    raise InputError(f"no {what} '{name}'", what, f"there are {', '.join(names)}")
            chosen.append([names.index(name) for name in wanted])
        score = self.score[np.ix_(chosen[0], chosen[1], range(len(self.cases)))]
        kept = np.flatnonzero(~np.isnan(score).all(axis=(0, 1)))
        kept_patients, patient = np.unique(self.patient[kept], return_inverse=True)
        return Ratings(
            score=score[:, :, kept],
            truth=self.truth[kept],
            patient=patient.astype(np.intp),
            treatments=tuple(self.treatments[i] for i in chosen[0]),
            readers=tuple(self.readers[i] for i in chosen[1]),
            cases=tuple(self.cases[i] for i in kept),
            patients=tuple(self.patients[i] for i in kept_patients),
        )


def dense(
    reader: Sequence[str],
    treatment: Sequence[str],
    case: Sequence[str],
    truth: Sequence[int],
    rating: Sequence[float],
    patient: Sequence[str] | None = None,
) -> Ratings:
    """Ratings from a tidy table of one row a rating (the field's convention, for instance MRMCaov's).

    Parameters
    ----------
    reader, treatment, case, patient : sequences of n names
        Names keep the order of their first appearance. Without ``patient`` every case is its own patient.
    truth : n times 0 or 1
        Of the case: the same in all its rows.
    rating : n finite numbers

    Raises
    ------
    InputError
        No rows, a cell rated twice, a case with two truths or two patients, a truth that is neither 0 nor 1,
        a rating that is not finite. ``where`` names the row, counted from 1.
    """
    count = len(reader)
    owners = list(case) if patient is None else list(patient)
    if count == 0:
        raise InputError("no ratings", "table", "give at least one row")
    if {len(treatment), len(case), len(truth), len(rating), len(owners)} != {count}:
        raise InputError("columns of different lengths", "table", "give one value a row in every column")
    names: dict[str, dict[str, int]] = {"reader": {}, "treatment": {}, "case": {}, "patient": {}}
    index = {
        what: np.array(
            [names[what].setdefault(str(name), len(names[what])) for name in column], dtype=np.intp
        )
        for what, column in (
            ("reader", reader),
            ("treatment", treatment),
            ("case", case),
            ("patient", owners),
        )
    }
    score = np.full(tuple(len(names[what]) for what in ("treatment", "reader", "case")), np.nan)
    case_truth = np.full(len(names["case"]), -1)
    case_patient = np.full(len(names["case"]), -1, dtype=np.intp)
    for row in range(count):
        t, r, c, p = (index[what][row] for what in ("treatment", "reader", "case", "patient"))
        where = f"row {row + 1}"
        if truth[row] not in (0, 1):
            raise InputError(
                f"truth {truth[row]!r}", where, "give 1 for a positive case and 0 for a negative"
            )
        if not np.isfinite(rating[row]):
            raise InputError(f"rating {rating[row]!r}", where, "leave out rows of cases that were not read")
        if case_truth[c] not in (-1, truth[row]):
            raise InputError(f"case '{case[row]}' with two truths", where, "a case is positive or negative")
        if case_patient[c] not in (-1, p):
            raise InputError(f"case '{case[row]}' of two patients", where, "a case belongs to one patient")
        if not np.isnan(score[t, r, c]):
            raise InputError(
                f"case '{case[row]}' rated twice by reader '{reader[row]}' under '{treatment[row]}'",
                where,
                "keep one rating a reader, treatment and case",
            )
        score[t, r, c], case_truth[c], case_patient[c] = rating[row], truth[row], p
    return Ratings(
        score=score,
        truth=case_truth.astype(bool),
        patient=case_patient,
        treatments=tuple(names["treatment"]),
        readers=tuple(names["reader"]),
        cases=tuple(names["case"]),
        patients=tuple(names["patient"]),
    )

"""What the analysis of one file finds, as plain data: it becomes JSON, tables, pages and plots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scanward.reading.endpoints import Endpoint
from scanward.reading.mrmc.decisions import Decision
from scanward.reading.mrmc.results import Analysis

FORMAT = "scanward-mrmc-1"
SIMULATED = "SIMULATED: these ratings come from model observers, not from people"


@dataclass(frozen=True)
class Cell:
    """One reader's figure of merit under one treatment.

    ``se``: from cases alone, NaN where it cannot be had. ``positives``, ``negatives``: cases this reader rated.
    """

    treatment: str
    reader: str
    positives: int
    negatives: int
    value: float
    se: float


@dataclass(frozen=True)
class Absent:
    """An analysis that was asked for and cannot be had, and why."""

    method: str
    covariance: str
    random: str
    why: str


@dataclass(frozen=True)
class Measured:
    """All analyses of one figure of merit of one endpoint. ``means``: over readers, by treatment."""

    merit: str
    chance: float | None
    cells: tuple[Cell, ...]
    analyses: tuple[Analysis, ...]
    absent: tuple[Absent, ...]

    @property
    def means(self) -> dict[str, float]:
        """The mean over the readers who have a figure, by treatment; NaN where none has."""
        by_treatment: dict[str, list[float]] = {}
        for cell in self.cells:
            by_treatment.setdefault(cell.treatment, []).append(cell.value)
        return {name: _mean(values) for name, values in by_treatment.items()}


@dataclass(frozen=True, eq=False)
class Finding:
    """One endpoint: its ratings (for curves) and everything measured on them."""

    endpoint: Endpoint
    measured: tuple[Measured, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """Everything the analysis of one file gives.

    ``source``: the file's name; ``sha256``: its hash. ``title``: the study's, "" without one. ``simulated``: SIMULATED
    must stand on every table and plot. ``decisions``: claims, Holm-corrected over the primary ones. ``decided_by``: the
    analysis the claims rest on, in words.
    """

    source: str
    sha256: str
    title: str
    simulated: bool
    version: str
    level: float
    findings: tuple[Finding, ...]
    decisions: tuple[Decision, ...]
    decided_by: str
    warnings: tuple[str, ...]

    @property
    def notice(self) -> str:
        """What must stand on every table and plot; "" for ratings of people."""
        return SIMULATED if self.simulated else ""

    def as_json(self) -> dict[str, Any]:
        """Plain types at full precision; NaN and infinities become None."""
        return {
            "format": FORMAT,
            "scanward": self.version,
            "source": self.source,
            "sha256": self.sha256,
            "title": self.title,
            "simulated": self.simulated,
            "notice": self.notice,
            "level": self.level,
            "endpoints": [_finding(one) for one in self.findings],
            "decided_by": self.decided_by,
            "decisions": [one.as_json() for one in self.decisions],
            "warnings": list(self.warnings),
        }


def _finding(finding: Finding) -> dict[str, Any]:
    endpoint, ratings = finding.endpoint, finding.endpoint.ratings
    return {
        "name": endpoint.name,
        "question": endpoint.question,
        "arm": endpoint.arm,
        "part": endpoint.part,
        "positive": endpoint.positive,
        "treatments": list(ratings.treatments),
        "readers": list(ratings.readers),
        "cases": len(ratings.cases),
        "positives": int(ratings.truth.sum()),
        "negatives": int((~ratings.truth).sum()),
        "patients": len(ratings.patients),
        "fully_crossed": ratings.fully_crossed,
        "clustered": ratings.clustered,
        "merits": [_measured(one) for one in finding.measured],
        "warnings": list(finding.warnings),
    }


def _measured(measured: Measured) -> dict[str, Any]:
    return {
        "merit": measured.merit,
        "chance": measured.chance,
        "means": {name: _number(value) for name, value in measured.means.items()},
        "cells": [
            {
                "treatment": cell.treatment,
                "reader": cell.reader,
                "positives": cell.positives,
                "negatives": cell.negatives,
                "value": _number(cell.value),
                "se": _number(cell.se),
            }
            for cell in measured.cells
        ],
        "analyses": [one.as_json() for one in measured.analyses],
        "absent": [vars(one) for one in measured.absent],
    }


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

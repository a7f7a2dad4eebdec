# ruff: noqa: S608 - statements are put together out of this module's texts; values are bound
"""CT alerts out of the history: dose of an examination over a reference, of a patient over a time, examined again.

All three look at doses as the guard recorded them (what the gantry told, or the guard's own forecast where that is
larger), so none is missed while this console is down. A dose counts on its own phantom alone; phantoms are not summed.

* *reference*: CTDIvol and DLP of one examination at ``factor`` times the references of the rule. A diagnostic reference
  level is a value for the typical dose of many patients (ICRP 135), no limit for one: the alert says so.
* *cumulative*: DLP of one patient's examinations within the rule's hours, at each multiple of its value.
* *repeat*: examinations of one patient within the rule's hours, by the same body part where the rule names one.

The CTDIvol of an examination is its largest scan's and what dose reports added; overlapping scans are not summed here
(the guard's caps do that, at each z). Patients are known by the keyed hashes of the audit log alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from scanward.config import ALERTING_BOUNDS, AlertingBounds
from scanward.console.alerting.alert import Alert, one_line
from scanward.console.alerting.rules import DoseRule
from scanward.console.alerting.spool import Progress
from scanward.console.history_store import HistoryStore

_DOSE: Final = """
SELECT d.scanner, d.log_id, d.seq, d.at, d.kind, d.examination, d.patient, d.phantom, d.ctdivol, d.dlp,
       j.body_part, j.protocol, j.age
FROM doses d LEFT JOIN judged j ON j.id = (
    SELECT max(id) FROM judged WHERE examination = d.examination AND scanner = d.scanner AND log_id = d.log_id
    AND load = d.load AND element = d.element AND at <= d.at)
"""


class Memory(Protocol):
    """What is remembered of earlier looks."""

    def has_fired(self, what: str) -> bool:
        """Whether this was said already."""
        ...


@dataclass(frozen=True, slots=True)
class Dose:
    """One dose of the history. ``report``: added by a dose report, of the examination as a whole."""

    scanner: str
    log: str
    seq: int
    at: float
    report: bool
    examination: str
    patient: str
    phantom: int
    ctdivol: float
    dlp: float
    body_part: str
    protocol: str
    age: float | None


class DoseLook:
    """Looks at new doses, from where it stopped. `step` blocks.

    Parameters
    ----------
    cursors : mapping of (scanner, log) to record number
    names : mapping of scanner to its name
    """

    def __init__(
        self,
        rules: Sequence[DoseRule],
        cursors: Mapping[tuple[str, str], int],
        names: Mapping[str, str],
        memory: Memory,
        bounds: AlertingBounds = ALERTING_BOUNDS,
    ) -> None:
        self._rules, self._cursors, self._names = rules, dict(cursors), names
        self._memory, self._bounds = memory, bounds
        self._said: dict[str, float] = {}

    def step(self, store: HistoryStore, now: float) -> tuple[list[Alert], Progress, bool]:
        """Alerts of doses not looked at yet, how far it came, whether there is more."""
        found: list[Alert] = []
        progress, more = Progress.none(), False
        with store.reading() as db:
            logs = db.execute("SELECT scanner, log_id FROM logs ORDER BY id").fetchall()
            for scanner, log in [(row["scanner"], row["log_id"]) for row in logs]:
                if (scanner, log) not in self._cursors:
                    found += self._first(db, scanner, log, now)
                    progress.cursors[scanner, log] = self._cursors[scanner, log]
                fresh = self._new(db, scanner, log)
                for dose in fresh:
                    found += self._judge(db, dose, progress)
                if fresh:
                    self._cursors[scanner, log] = progress.cursors[scanner, log] = fresh[-1].seq
                more = more or len(fresh) == self._bounds.dose_batch
        return found, progress, more

    def _first(self, db: sqlite3.Connection, scanner: str, log: str, now: float) -> list[Alert]:
        """A log that was never looked at: what is older than the first look reaches is counted and told."""
        old = now - 3600.0 * self._bounds.dose_first_hours
        row = db.execute(
            "SELECT count(*) AS n, max(seq) AS seq FROM doses WHERE scanner = ? AND log_id = ? AND at < ?",
            (scanner, log, old),
        ).fetchone()
        self._cursors[scanner, log] = row["seq"] or 0
        if not row["n"]:
            return []
        text = (
            f"{row['n']} doses older than {self._bounds.dose_first_hours:g} h were not compared with the rules, for"
            " this log is looked at for the first time"
        )
        return [Alert(scanner, self._names.get(scanner, scanner), "dose_skipped", log[:32], text, now)]

    def _new(self, db: sqlite3.Connection, scanner: str, log: str) -> list[Dose]:
        rows = db.execute(
            f"{_DOSE} WHERE d.scanner = ? AND d.log_id = ? AND d.seq > ? ORDER BY d.seq LIMIT ?",
            (scanner, log, self._cursors[scanner, log], self._bounds.dose_batch),
        )
        return [_dose(row) for row in rows]

    def _judge(self, db: sqlite3.Connection, dose: Dose, progress: Progress) -> Iterator[Alert]:
        for rule in self._rules:
            if rule.scanners and dose.scanner not in rule.scanners:
                continue
            if rule.repeats is not None:
                found = self._repeat(db, rule, dose)
            elif rule.most_dlp is not None:
                found = self._cumulative(db, rule, dose)
            else:
                found = self._reference(db, rule, dose)
            for what, alert in found:
                if what not in self._said and not self._memory.has_fired(what):
                    progress.fired[what] = self._said[what] = dose.at
                    while len(self._said) > self._bounds.dose_batch:  # the others are on disk by now
                        self._said.pop(next(iter(self._said)))
                    yield alert

    def _reference(self, db: sqlite3.Connection, rule: DoseRule, dose: Dose) -> Iterator[tuple[str, Alert]]:
        if dose.phantom != rule.phantom or not dose.examination:
            return
        rows = db.execute(
            f"{_DOSE} WHERE d.examination = ? AND d.scanner = ? AND d.phantom = ? AND d.seq <= ? AND d.log_id = ?",
            (dose.examination, dose.scanner, rule.phantom, dose.seq, dose.log),
        )
        doses = [_dose(row) for row in rows]
        scans = [one for one in doses if not one.report]
        ours = [one for one in scans if _fits(rule, one)]
        if not ours:
            return
        # A report tells of the examination as a whole: it counts where all of it is of this rule.
        reports = [one for one in doses if one.report] if len(ours) == len(scans) else []
        ctdivol = max(one.ctdivol for one in ours) + sum(one.ctdivol for one in reports)
        dlp = sum(one.dlp for one in (*ours, *reports))
        for quantity, value, reference, unit in (
            ("CTDIvol", ctdivol, rule.ctdivol, "mGy"),
            ("DLP", dlp, rule.dlp, "mGy.cm"),
        ):
            if reference is None or value < rule.factor * reference:
                continue
            source = f" ({rule.source})" if rule.source else ""
            text = (
                f"{rule.name}: {quantity} {value:.4g} {unit} ({rule.phantom} cm phantom) is {value / reference:.2f}"
                f" times the reference of {reference:g} {unit}{source}; examination {dose.examination[:16]}."
                " A reference is for many patients together, no limit for one."
            )
            facts = {
                "rule": rule.name,
                "quantity": quantity,
                "value": value,
                "reference": reference,
                "unit": unit,
            }
            what = f"reference {rule.name} {dose.scanner} {dose.examination} {quantity} {rule.factor:g}"
            yield what, self._alert("dose_reference", dose, what, text, {**facts, "phantom": rule.phantom})

    def _cumulative(self, db: sqlite3.Connection, rule: DoseRule, dose: Dose) -> Iterator[tuple[str, Alert]]:
        assert rule.most_dlp is not None
        patient = dose.patient or self._patient(db, dose)
        if dose.phantom != rule.phantom or not patient:
            return
        rows = db.execute(
            f"{_DOSE} WHERE d.at > ? AND d.at <= ? AND d.phantom = ? AND (d.patient = ? OR (d.patient = '' AND"
            " d.examination IN (SELECT examination FROM doses WHERE patient = ? AND examination <> '')))",
            (dose.at - 3600.0 * rule.hours, dose.at, rule.phantom, patient, patient),
        )
        ours = [one for one in map(_dose, rows) if self._of_rule(rule, one)]
        total = sum(one.dlp for one in ours)
        if not any(one.seq == dose.seq and one.log == dose.log for one in ours):
            return
        if int(total / rule.most_dlp) <= int((total - dose.dlp) / rule.most_dlp):
            return  # it crosses no multiple of the rule's value
        text = (
            f"{rule.name}: DLP {total:.4g} mGy.cm ({rule.phantom} cm phantom) of one patient in {_span(rule.hours)}, in"
            f" {len({one.examination for one in ours})} examinations; the rule's value is {rule.most_dlp:g}. Last"
            f" examination {dose.examination[:16]}, patient {patient[:16]}."
        )
        what = f"cumulative {rule.name} {dose.scanner} {dose.log} {dose.seq}"
        facts = {
            "rule": rule.name,
            "value": total,
            "most": rule.most_dlp,
            "unit": "mGy.cm",
            "phantom": rule.phantom,
        }
        yield what, self._alert("dose_cumulative", dose, what, text, facts)

    def _repeat(self, db: sqlite3.Connection, rule: DoseRule, dose: Dose) -> Iterator[tuple[str, Alert]]:
        assert rule.repeats is not None
        if not dose.patient or dose.report or not _fits(rule, dose):
            return
        rows = db.execute(
            f"{_DOSE} WHERE d.at > ? AND d.at <= ? AND d.patient = ? AND d.kind = 'dose'",
            (dose.at - 3600.0 * rule.hours, dose.at, dose.patient),
        )
        examinations = {
            one.examination for one in map(_dose, rows) if one.examination and self._of_rule(rule, one)
        }
        if len(examinations) < rule.repeats or not dose.examination:
            return
        text = (
            f"{rule.name}: {len(examinations)} examinations of one patient in {_span(rule.hours)}"
            f"{f', {rule.body_part}' if rule.body_part else ''}. Last examination {dose.examination[:16]}, patient"
            f" {dose.patient[:16]}."
        )
        what = f"repeat {rule.name} {dose.scanner} {dose.examination}"
        facts = {"rule": rule.name, "examinations": len(examinations), "hours": rule.hours}
        yield what, self._alert("dose_repeat", dose, what, text, facts)

    @staticmethod
    def _patient(db: sqlite3.Connection, dose: Dose) -> str:
        """Whose examination a dose report is of: of the doses of the same examination."""
        row = db.execute(
            "SELECT patient FROM doses WHERE examination = ? AND examination <> '' AND patient <> '' LIMIT 1",
            (dose.examination,),
        ).fetchone()
        return row["patient"] if row else ""

    @staticmethod
    def _of_rule(rule: DoseRule, dose: Dose) -> bool:
        return (not rule.scanners or dose.scanner in rule.scanners) and _fits(rule, dose)

    def _alert(self, kind: str, dose: Dose, what: str, text: str, facts: dict[str, Any]) -> Alert:
        name = self._names.get(dose.scanner, dose.scanner)
        return Alert(
            dose.scanner, name, kind, what, one_line(text, self._bounds.text_chars), dose.at, facts=facts
        )


def _fits(rule: DoseRule, dose: Dose) -> bool:
    """Whether a scan is one of those that a rule is about. Unknown is not within any range."""
    if rule.body_part and dose.body_part.upper() != rule.body_part.upper():
        return False
    if rule.protocol and dose.protocol != rule.protocol:
        return False
    return rule.ages is None or (dose.age is not None and rule.ages[0] <= dose.age <= rule.ages[1])


def _dose(row: sqlite3.Row) -> Dose:
    return Dose(
        row["scanner"],
        row["log_id"],
        row["seq"],
        row["at"],
        row["kind"] == "dose_report",
        row["examination"],
        row["patient"],
        row["phantom"],
        max(0.0, row["ctdivol"] or 0.0),
        max(0.0, row["dlp"] or 0.0),
        row["body_part"] or "",
        row["protocol"] or "",
        row["age"],
    )


def _span(hours: float) -> str:
    return f"{hours:g} h" if hours <= 72 else f"{hours / 24:g} days"

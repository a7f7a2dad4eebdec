"""What the device page says, in words. Whatever comes from a guard or a host is text in which nothing hides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from scanward.console.device_bundle import Copy
from scanward.console.drift import Level, Tail, Uniformity
from scanward.console.drift_report import DriftReport, FieldDrift, Week
from scanward.console.history_shown import mapping, moment, number, row_view, visible
from scanward.console.settings import ScannerSettings
from scanward.console.shadow_report import Cause, ShadowReport
from scanward.console.state import Reach, ScannerState

DAY: Final = 86_400.0
DOUBT: Final = 0.01  # p-value below which the page says that something is not chance
# Shape before the word, so that colour is never the only sign.
MARKS: Final = {Level.SAME: "●", Level.FEW: "○", Level.MOVED: "◐", Level.DRIFTED: "▲"}
REACHED: Final = {
    Reach.UP: "connected",
    Reach.SILENT: "SILENT: connected, and nothing heard",
    Reach.DOWN: "NOT REACHED",
    Reach.REFUSED: "REFUSED",
}
_GATE: Final = (("phase", "Phase"), ("mode", "Mode"), ("log", "Audit log"))


def scanner_view(state: ScannerState, settings: ScannerSettings, now: float) -> dict[str, Any]:
    """Links and policy of one scanner, as its guard told them last."""
    told = state.as_json(labels=False)
    gate, policy, watch = (_table(told.get(name)) for name in ("gate", "policy", "watch"))
    weakenings = policy.get("weakenings")
    known = bool(gate)
    return {
        "id": state.id,
        "name": state.name,
        "link": state.reach.value,
        "link_word": REACHED[state.reach],
        "link_why": visible(state.why),
        "heard": f"{max(0.0, now - state.since):.0f} s ago" if state.since else "never",
        "fresh": state.reach is Reach.UP,
        "address": str(settings.control),
        "local": settings.control.local,
        "known": known,
        "host": "connected" if gate.get("host") else "not connected",
        "gantry": "connected" if gate.get("gantry") is True else "not connected",
        "gate": [(label, _text(gate.get(name))) for name, label in _GATE],
        "log_bad": known and gate.get("log") != "ok",
        "policy": {name: _text(policy.get(name)) for name in ("name", "version", "digest")}
        if policy
        else None,
        "weakenings": [_text(one) for one in weakenings] if isinstance(weakenings, list) else [],
        "watch": _watch(watch),
    }


def bundle_view(
    folder: Path | None, copy: Copy | None, log: Mapping[str, Any] | None, now: float
) -> dict[str, Any]:
    """The console's copy beside what the guard's log says it judges with.

    ``state``: none (console.toml names none), refused, other (another one judges), unknown (nobody told which one
    judges), same.
    """
    judging = str(log["bundle"]) if log is not None else ""
    view: dict[str, Any] = {
        "state": "none",
        "folder": str(folder or ""),
        "judging": visible(judging),
        "budget": None if log is None or log["budget"] is None else f"{100 * log['budget']:.3g}",
        "trouble": visible(copy.trouble) if copy else "",
        "facts": [],
    }
    if copy is None:
        return view
    if copy.manifest is None:
        return {**view, "state": "refused"}
    manifest, facts = copy.manifest, copy.manifest.facts
    devices = "; ".join(
        " ".join(x for x in (d.manufacturer, d.model, d.serial[:12]) if x) or "not named"
        for d in facts.devices
    )
    shown = [
        ("Version", str(manifest.version)),
        ("Digest", manifest.digest),
        ("Created", f"{facts.created}, {age_of(copy.created, now)} (as told by whoever trained it)"),
        (
            "Signed by",
            f"{manifest.key_id}, a trusted key; signature and files hold, looked at {moment(copy.looked)}",
        ),
        ("For", visible(devices)),
        ("Values", facts.role.value),
        ("Written by", f"Scanward {visible(manifest.scanward)}"),
    ]
    if copy.reference is not None:
        reference = copy.reference
        shown.append(("Budget", f"{100 * reference.budget:.3g} % of clean examinations"))
        shown.append(("Calibrated on", f"{reference.units} examinations"))
        learned = f"{reference.examinations} examinations, {reference.commands} commands"
        shown.append(("Learned from", learned if reference.commands else "it does not say"))
    state = "unknown" if not judging else "same" if judging == manifest.digest else "other"
    return {**view, "state": state, "facts": shown}


def alarm_view(row: Mapping[str, Any]) -> dict[str, str]:
    """An alarm of the guard's own watch over many examinations."""
    return {
        "time": moment(row["at"]),
        "kind": _text(mapping(row["data"]).get("kind_", "")),
        "reason": visible(row["text"]),
    }


def drift_view(report: DriftReport) -> dict[str, Any]:
    """The drift report in words and rows of tables."""
    reference = report.reference
    return {
        "made": moment(report.made),
        "since": moment(report.since),
        "commands": f"{report.commands:,}",
        "every": report.every,
        "examinations": f"{report.examinations:,}",
        "told": bool(reference.fields),
        "level": report.level.value,
        "mark": MARKS[report.level],
        "loud": [f.name for f in report.fields if f.stability.level in (Level.MOVED, Level.DRIFTED)],
        "fields": [_field_view(one) for one in report.fields],
        "uniformity": _uniformity_view(report.uniformity),
        "tail": _tail_view(report.tail),
        "budget": f"{100 * reference.budget:.3g}",
        "foreign": report.foreign,
        "odd": report.odd,
        "weeks": [_week_view(one) for one in report.weeks],
    }


def shadow_view(report: ShadowReport, scanner: str, names: Mapping[str, str]) -> dict[str, Any]:
    """What was, or would have been, held or halted."""
    asked = {"scanner": scanner, "since": moment(report.since)[:10]}
    share = report.stopped / report.examinations if report.examinations else 0.0
    return {
        "since": moment(report.since),
        "examinations": f"{report.examinations:,}",
        "commands": f"{report.commands:,}",
        "held": report.held,
        "halted": report.halted,
        "stopped": report.stopped,
        "share": percent(share),
        "in_shadow": report.in_shadow,
        "layers": [_cause_view(one, {**asked, "layer": one.name}) for one in report.layers],
        "protocols": [_cause_view(one, {**asked, "protocol": one.name}) for one in report.protocols],
        "fields": [(visible(name), count) for name, count in report.fields],
        "budgets": [(f"{100 * one.budget:.3g}", one.examinations) for one in report.budgets],
        "rows": [row_view(row, names) for row in report.rows],
        "more": f"{report.more:,}" if report.more else "",
    }


def age_of(then: float, now: float) -> str:
    """How long ago, in days or years."""
    days = (now - then) / DAY
    if days < 0:
        return "which is in the future"
    if days < 1:
        return "less than a day ago"
    return f"{days:.0f} days ago" if days < 730 else f"{days / 365.25:.1f} years ago"


def percent(share: float) -> str:
    """A share in per cent, to two digits."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.2g}"


# --- inside


def _watch(told: Mapping[str, Any]) -> str:
    if not told:
        return ""
    return f"{_text(told.get('examinations'))} examinations since its start, {_text(told.get('alerted'))} alerted"


def _field_view(one: FieldDrift) -> dict[str, Any]:
    level = one.stability.level
    return {
        "name": visible(one.name),
        "unit": one.unit,
        "index": f"{one.stability.index:.3f}",
        "chance": f"{one.stability.chance:.3f}",
        "level": level.value,
        "mark": MARKS[level],
        "unseen": percent(one.unseen),
        "loud": level in (Level.MOVED, Level.DRIFTED),
        "bins": [(visible(b.name), f"{100 * b.before:.1f}", f"{100 * b.now:.1f}") for b in one.bins],
    }


def _uniformity_view(found: Uniformity | None) -> dict[str, Any] | None:
    if found is None:
        return None
    how = "more small p-values than there should be", "stranger"
    if not found.above:
        how = "fewer small p-values than there should be", "more ordinary"
    return {
        "examinations": found.examinations,
        "units": found.units,
        "distance": f"{found.distance:.3f}",
        "chance": _chance(found.p_value),
        "loud": found.p_value < DOUBT,
        "way": f"{how[0]}: examinations look {how[1]} than those it was calibrated on",
    }


def _tail_view(found: Tail | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "beyond": found.beyond,
        "expected": f"{found.expected:.3g}",
        "chance": _chance(found.p_value),
        "loud": found.p_value < DOUBT,
    }


def _week_view(week: Week) -> dict[str, Any]:
    worst = week.worst
    return {
        "since": moment(week.since)[:10],
        "examinations": week.examinations,
        "commands": week.commands,
        "distance": f"{week.uniformity.distance:.3f}" if week.uniformity else "",
        "chance": _chance(week.uniformity.p_value) if week.uniformity else "",
        "strange": week.uniformity is not None and week.uniformity.p_value < DOUBT,
        "beyond": str(week.tail.beyond) if week.tail else "",
        "expected": f"{week.tail.expected:.3g}" if week.tail else "",
        "many": week.tail is not None and week.tail.p_value < DOUBT,
        "worst": f"{visible(worst.name)}: {worst.stability.index:.2f}, {worst.stability.level.value}"
        if worst
        else "",
        "mark": MARKS[worst.stability.level] if worst else "",
    }


def _cause_view(one: Cause, asked: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": visible(one.name) or "not named",
        "halted": one.halted,
        "alerted": one.alerted,
        "examinations": one.examinations,
        "link": f"/history?{urlencode(asked)}" if one.name else "",
    }


def _chance(p_value: float) -> str:
    return "less than 1 in 10,000" if p_value < 1e-4 else f"{percent(p_value)} %"


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return "not told" if value is None else number(value)

"""What an operator's terminal shows: the state, what is on hold and why, news. Text from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scanward.cli.output import escape
from scanward.commands import unit_of

# The parameters that a radiographer knows a scan by; the rest is shown with `s`.
_MAIN = (
    "AcquisitionType",
    "KVP",
    "XRayTubeCurrentInmA",
    "RevolutionTime",
    "SpiralPitchFactor",
    "ScanLength",
    "CTDIvol",
    "DLP",
    "CTDIwPhantomType",
)
_TOLD = ("ProtocolName", "BodyPartExamined", "PatientAge", "PatientSex", "PatientWeight")

HELP = """\
  r REQUEST REASON   release it (the reason is recorded as typed: do not name the patient)
  n REQUEST [REASON] refuse it
  c REQUEST          call for a second person
  s                  show everything again, every parameter included
  e [MINUTES]        begin emergency access;  x  end it;  w NUMBER REASON  say why it was needed
  m MODE             set CLINICAL, QA or SERVICE
  q                  leave (nothing is released by leaving)"""


def state_lines(state: dict[str, Any], *, every: bool = False) -> Iterator[str]:
    """The whole state."""
    policy, gate = _dict(state, "policy"), _dict(state, "gate")
    yield f"policy {_text(policy, 'name')!r} version {policy.get('version')}"
    for weakening in policy.get("weakenings") or ():
        yield f"WARNING: {escape(str(weakening))}"
    left = state.get("mode_seconds_left")
    mode = f"{_text(gate, 'mode')}" + (f", {_minutes(left)} left" if isinstance(left, int | float) else "")
    yield f"mode {mode}; {_text(gate, 'phase')}; log {_text(gate, 'log')}" + (
        "" if gate.get("gantry") else "; the gantry is not connected"
    )
    yield from emergency_lines(_dict(state, "emergency"))
    for alert in state.get("alerts") or ():
        if isinstance(alert, dict) and int(alert.get("count", 1)) > 1:
            yield f"{alert['count']} times: {_text(alert, 'kind')}: {_text(alert, 'reason')}"
    yield from examination_lines(state.get("examination"))
    held = state.get("held")
    if isinstance(held, dict):
        yield from held_lines(held, every=every)
    else:
        yield "nothing is on hold"


def emergency_lines(view: dict[str, Any]) -> Iterator[str]:
    """Emergency access, and what it still waits for."""
    if view.get("on"):
        yield (
            f"EMERGENCY ACCESS by {_text(view, 'operator')}: {_minutes(view.get('seconds_left'))} left, "
            f"{view.get('loads')} loads so far"
        )
    for grant in view.get("unexplained") or ():
        yield (
            f"emergency access {grant.get('number')} by {_text(grant, 'operator')} waits for a reason: "
            f"w {grant.get('number')} REASON"
        )


def nameless(state: dict[str, Any]) -> dict[str, Any]:
    """The state without patients' names: what is printed as JSON is kept somewhere."""
    view = _dict(state, "examination")
    if not view:
        return state
    return {**state, "examination": {name: value for name, value in view.items() if name != "label"}}


def examination_lines(view: object) -> Iterator[str]:
    """Who lies on the table and what they have received, for a person to compare."""
    if not isinstance(view, dict) or not view:
        return
    label = _dict(view, "label")
    who = ", ".join(f"{escape(str(n))} {escape(str(v))}" for n, v in label.items())
    source = f" [{_text(view, 'label_source')}]" if who else ""
    goal = ", ".join(escape(str(v)) for v in _dict(view, "objective").values())
    yield f"EXAMINATION  {who or 'nobody told whose'}{source}" + (f"; for {goal}" if goal else "")
    if view.get("disagree"):
        yield f"  SOURCES DISAGREE on {escape(', '.join(map(str, view['disagree'])))}"
    for row in view.get("dose") or ():
        if isinstance(row, dict):
            yield (
                f"  {_number(row, 'phantom')} cm phantom: CTDIvol {_number(row, 'ctdivol')} mGy so far, "
                f"{_number(row, 'forecast_ctdivol')} with what is loaded (alert at {_number(row, 'alert_ctdivol')}); "
                f"DLP {_number(row, 'dlp')}, {_number(row, 'forecast_dlp')} (alert at {_number(row, 'alert_dlp')})"
            )


def second_lines(held: object, request: int) -> Iterator[str]:
    """That a release was the first of two, where it was."""
    if isinstance(held, dict) and request and held.get("request") == request and held.get("released_by"):
        yield "it is still on hold: another operator has to release it too, within the same time"


def held_lines(held: dict[str, Any], *, every: bool = False) -> Iterator[str]:
    """What is on hold, and why."""
    left = held.get("seconds_left", held.get("seconds"))
    yield f"ON HOLD  request {held.get('request')}  ({_seconds(left)} left, then it is refused)"
    if held.get("persons") == 2:
        first = next((s for s in held.get("released_by") or () if isinstance(s, dict)), None)
        done = f": {_text(first, 'operator')} did ({_text(first, 'reason')})" if first else ""
        yield f"  TWO OPERATORS have to release it{done}"
    if held.get("called"):
        yield f"  called for a second person: {escape(', '.join(map(str, held['called'])))}"
    yield f"  why: {_text(held, 'reason')}"
    yield f"  layer {_text(held, 'layer')}; fields {', '.join(map(escape, map(str, held.get('fields') or ())))}"
    motion = held.get("motion")
    if isinstance(motion, dict):
        yield f"  motion {_text(motion, 'axis')} to {motion.get('target')} at {motion.get('speed')} per s"
    if held.get("triggers") not in (None, 1):
        yield f"  a session: each element may be triggered {escape(str(held['triggers']))} times"
    findings = held.get("findings") or ()
    for index, element in enumerate(held.get("chain") or ()):
        command = _dict(element, "command")
        auto = " (starts by itself)" if element.get("auto") else ""
        yield f"  element {index + 1}{auto}: {_values(_dict(command, 'parameters'), _MAIN, every=every)}"
        told = {
            name: "/".join(f"{_value(name, t.get('value'))} [{t.get('source')}]" for t in values)
            for name, values in _dict(command, "context").items()
            if every or name in _TOLD
        }
        if told:
            yield "    for: " + ", ".join(f"{escape(n)} {escape(v)}" for n, v in told.items())
        if index < len(findings) and findings[index].get("reason"):
            verdict = findings[index].get("verdict")
            yield f"    {escape(str(verdict))}: {_text(findings[index], 'reason')}"
    yield "  RELEASE never means safe: it means that somebody takes this decision."


def event_line(event: dict[str, Any]) -> str:
    """One line for one event that is not a hold."""
    kind, data = str(event.get("kind", "")), _dict(event, "data")
    if kind == "repeated":
        return f"the same again, {data.get('count')} times by now (no. {data.get('of')})"
    facts = [f"{escape(str(k))} {escape(_short(v))}" for k, v in data.items() if v not in ("", None, [], {})]
    return escape(kind.replace("_", " ")) + (": " + ", ".join(facts) if facts else "")


def _values(parameters: dict[str, Any], names: tuple[str, ...], *, every: bool) -> str:
    chosen = [n for n in names if n in parameters]
    chosen += [n for n in sorted(parameters) if n not in names] if every else []
    shown = ", ".join(f"{escape(n)} {escape(_value(n, parameters[n]))}" for n in chosen)
    more = len(parameters) - len(chosen)
    return f"{shown}, and {more} more (s shows them)" if more > 0 else shown


def _value(name: str, value: object) -> str:
    unit = unit_of(name)
    unit = "" if unit in ("", "1") else f" {unit}"
    return f"{value:g}{unit}" if isinstance(value, int | float) else str(value)


def _number(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return f"{value:.4g}" if isinstance(value, int | float) else "?"


def _short(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _minutes(seconds: object) -> str:
    return f"{seconds / 60.0:.0f} min" if isinstance(seconds, int | float) else "no limit"


def _seconds(seconds: object) -> str:
    return f"{seconds:.0f} s" if isinstance(seconds, int | float) else "?"


def _dict(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: dict[str, Any], key: str) -> str:
    return escape(str(document.get(key, "")))

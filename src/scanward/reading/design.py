"""``design.toml`` -> `scanward.reading.protocol.Design`. An error names the line, the key and the cure."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from scanward.config import STUDY_BOUNDS
from scanward.errors import InputError, SettingsError
from scanward.reading.protocol import (
    LESION,
    MANIPULATION,
    Arm,
    Design,
    Hypothesis,
    Planning,
    Question,
    Sessions,
)

PAIRINGS = ("paired", "unpaired")
RANDOM = ("readers and cases", "cases", "readers")
AIMS = ("superiority", "non-inferiority", "equivalence")
KNOWN = {question.identifier: question for question in (LESION, MANIPULATION)}

Where = tuple[str | int, ...]
_CHANCE = 0.5  # the null of one area, which a hypothesis has when nothing is said
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TABLES: dict[str, type[msgspec.Struct]] = {
    "": Design,
    "arms": Arm,
    "questions": Question,
    "hypotheses": Hypothesis,
    "sessions": Sessions,
    "planning": Planning,
}


def read_design(path: Path) -> Design:
    """Read and check a design.

    Raises
    ------
    InputError
        No such file, too large, not UTF-8.
    SettingsError
        Not TOML, an unknown key, a value of another kind or beyond its bounds, names that do not fit each other.
    """
    try:
        if path.stat().st_size > STUDY_BOUNDS.design_bytes:
            raise InputError(
                f"larger than {STUDY_BOUNDS.design_bytes} bytes", str(path), "this is no design of a study"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the design cannot be read: {error.strerror}", str(path), "check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8", str(path), "save the design as UTF-8") from error
    return parse_design(text, str(path))


def parse_design(text: str, name: str = "design.toml") -> Design:
    """A design out of its text; ``name`` is that of the file, for errors. Raises `SettingsError`."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        raise SettingsError(f"not TOML: {error}", name, "correct it") from error
    lines = _lines(text)

    def fail(at: Where, what: str, todo: str) -> SettingsError:
        return SettingsError(f"{_dotted(at)}: {what}" if at else what, _place(name, lines, at), todo)

    values = _with_nulls(_with_known_questions(values, fail))
    _refuse_unknown(values, fail)
    try:
        design = msgspec.convert(values, Design)
    except msgspec.ValidationError as error:
        what, at = _said(str(error))
        raise fail(at, what, "give what docs/reader-study.md says") from error
    check_design(design, fail)
    return design


Fail = Callable[[Where, str, str], SettingsError]


def _plain_fail(at: Where, what: str, todo: str) -> SettingsError:
    return SettingsError(what, _dotted(at), todo)


# --- lines and names


def _lines(text: str) -> dict[Where, int]:
    """Where keys stand: of a valid document, one key or table header a line. What is inside a value is not found."""
    found: dict[Where, int] = {}
    table: Where = ()
    arrays: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([A-Za-z0-9_-]+)\s*\]", line)
        key = re.match(r"\s*([A-Za-z0-9_-]+)\s*=", line)
        if header:
            name = header[2]
            if header[1] == "[[":
                arrays[name] = arrays.get(name, -1) + 1
                table = (name, arrays[name])
            else:
                table = (name,)
            found.setdefault(table, number)
            found.setdefault((name,), number)
        elif key:
            found.setdefault((*table, key[1]), number)
    return found


def _place(name: str, lines: Mapping[Where, int], at: Where) -> str:
    while at:
        if at in lines:
            return f"{name}, line {lines[at]}"
        at = at[:-1]
    return name


def _dotted(at: Where) -> str:
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")


def _said(message: str) -> tuple[str, Where]:
    """What msgspec says, and where: it ends in " - at `$.arms[0].rows`"."""
    what, _, place = message.partition(" - at `$")
    parts = re.findall(r"\[(\d+)\]|\.([A-Za-z0-9_-]+)|(\[\.\.\.\])", place)
    at = tuple(int(index) if index else name for index, name, _ in parts if index or name)
    return what[:1].lower() + what[1:].replace("`", "'"), at


def _refuse_unknown(values: Mapping[str, Any], fail: Fail) -> None:
    for table, kind in _TABLES.items():
        part = values if not table else values.get(table, {})
        entries: list[tuple[Where, Any]] = [((table,) if table else (), part)]
        if isinstance(part, list):
            entries = [((table, index), entry) for index, entry in enumerate(part)]
        for at, entry in entries:
            if not isinstance(entry, dict):
                continue
            known = kind.__struct_fields__
            for key in entry:
                if key not in known:
                    near = difflib.get_close_matches(key, known, 1)
                    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                    raise fail((*at, key), "no such setting", hint)


def _with_known_questions(values: dict[str, Any], fail: Fail) -> dict[str, Any]:
    """The two questions of the published study may be given by name, or with parts of them put otherwise."""
    given = values.get("questions")
    if not isinstance(given, list):
        return values
    full: list[Any] = []
    for index, one in enumerate(given):
        entry = {"identifier": one} if isinstance(one, str) else one
        if isinstance(entry, dict):
            identifier = entry.get("identifier")
            known = KNOWN.get(identifier) if isinstance(identifier, str) else None
            if known is not None:
                entry = msgspec.structs.asdict(known) | entry
            elif isinstance(one, str):
                raise fail(("questions", index), f"no question '{one}' is known", f"use {', '.join(KNOWN)}")
        full.append(entry)
    return values | {"questions": full}


def _with_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """Of the lesion question a difference of areas is tested: against 0, and equivalent within 0.05 of it."""
    given = values.get("hypotheses")
    if not isinstance(given, list):
        return values
    usual = {"null": 0.0, "low": -0.05, "high": 0.05}
    full = [
        usual | one if isinstance(one, dict) and one.get("question") == LESION.identifier else one
        for one in given
    ]
    return values | {"hypotheses": full}


# --- bounds


def check_design(design: Design, fail: Fail = _plain_fail) -> None:
    """Refuse a design that makes no sense, or asks for more than `scanward.config.STUDY_BOUNDS` allow.

    Raises
    ------
    SettingsError
        ``where`` is the key.
    """
    bounds = STUDY_BOUNDS

    def number(at: Where, value: float, low: float, high: float) -> None:
        if not low <= value <= high:  # nor is NaN
            raise fail(at, f"{str(value)[:40]} is not from {low:g} to {high:g}", "give a number within")

    def text(at: Where, value: str, most: int) -> None:
        if not value.strip() or len(value) > most or not value.isprintable():
            raise fail(at, f"not 1 to {most} printable characters", "give one line of text")

    def name(at: Where, value: str) -> None:
        if not _NAME.fullmatch(value) or len(value) > bounds.name_chars:
            raise fail(
                at,
                f"{value[:40]!r} is no name",
                f"use up to {bounds.name_chars} letters, digits, - and _",
            )

    text(("title",), design.title, bounds.title_chars)
    number(("readers",), design.readers, 1, bounds.readers)
    if design.pairing not in PAIRINGS:
        raise fail(("pairing",), f"{design.pairing[:40]!r}", f"use one of: {', '.join(PAIRINGS)}")
    number(("patients",), design.patients, 0, bounds.patients)
    number(("per_patient",), design.per_patient, 1, bounds.per_patient)
    number(("practice",), design.practice, 0, bounds.practice)
    number(("seed",), design.seed, 0, 2**53)
    number(("alpha",), design.alpha, 1e-6, 0.5)
    number(("power",), design.power, 0.5, 0.9999)
    number(("sessions", "cases"), design.sessions.cases, 2, bounds.session_cases)
    number(("sessions", "washout_days"), design.sessions.washout_days, 0, bounds.washout_days)
    number(("sessions", "block"), design.sessions.block, 2, bounds.block)
    number(("arms",), len(design.arms), 1, bounds.arms)
    for index, arm in enumerate(design.arms):
        at: Where = ("arms", index)
        name((*at, "name"), arm.name)
        number((*at, "bits"), arm.bits, 8, 16)
        if (arm.rows == 0) != (arm.columns == 0):
            raise fail(at, "rows without columns", "give both, or neither to show pictures at their own size")
        if arm.rows:
            number((*at, "rows"), arm.rows, bounds.least_side, bounds.side)
            number((*at, "columns"), arm.columns, bounds.least_side, bounds.side)
    number(("questions",), len(design.questions), 1, bounds.questions)
    for index, question in enumerate(design.questions):
        at = ("questions", index)
        name((*at, "identifier"), question.identifier)
        text((*at, "text"), question.text, bounds.text_chars)
        number((*at, "labels"), len(question.labels), 2, bounds.labels)
        for label in question.labels:
            text((*at, "labels"), label, bounds.label_chars)
    if design.planning.random not in RANDOM:
        raise fail(
            ("planning", "random"), f"{design.planning.random[:40]!r}", f"use one of: {', '.join(RANDOM)}"
        )
    number(("planning", "reader_sd"), design.planning.reader_sd, 0, 0.3)
    number(("planning", "correlation"), design.planning.correlation, 0, 0.99)
    _unique(("arms",), [arm.name for arm in design.arms], fail)
    _unique(("questions",), [question.identifier for question in design.questions], fail)
    number(("hypotheses",), len(design.hypotheses), 0, bounds.hypotheses)
    for index, hypothesis in enumerate(design.hypotheses):
        _check_hypothesis(design, hypothesis, ("hypotheses", index), fail, number)


def _unique(at: Where, names: list[str], fail: Fail) -> None:
    for index, one in enumerate(names):
        if one in names[:index]:
            raise fail((*at, index), f"{one!r} is there twice", "give every one a name of its own")


def _check_hypothesis(
    design: Design,
    it: Hypothesis,
    at: Where,
    fail: Fail,
    number: Callable[[Where, float, float, float], None],
) -> None:
    asked = [question.identifier for question in design.questions if question.identifier in KNOWN]
    if it.question not in asked:
        raise fail(
            (*at, "question"),
            f"no truth is known for a question {it.question[:40]!r} of this design",
            f"use one of: {', '.join(asked) or 'lesion, manipulation (and ask it)'}",
        )
    if it.aim not in AIMS:
        raise fail((*at, "aim"), f"{it.aim[:40]!r}", f"use one of: {', '.join(AIMS)}")
    arms = [arm.name for arm in design.arms]
    if it.arm and it.arm not in arms:
        raise fail((*at, "arm"), f"no arm {it.arm[:40]!r}", f"use one of: {', '.join(arms)}")
    number((*at, "null"), it.null, -1, 1)
    number((*at, "margin"), it.margin, 1e-6, 0.5)
    number((*at, "low"), it.low, -1, 1)
    number((*at, "high"), it.high, -1, 1)
    if it.question == LESION.identifier and it.null not in (0.0, _CHANCE):
        raise fail((*at, "null"), f"{it.null:g}", "leave it out: a difference is tested against 0")
    if it.effect is not None:
        number((*at, "effect"), it.effect, -1, 1)
    if it.aim == "equivalence" and not it.low < it.high:
        raise fail((*at, "low"), f"{it.low:g} is not below {it.high:g}", "give low < high")

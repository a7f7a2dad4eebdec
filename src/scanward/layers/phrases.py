"""Saying in words and units what was expected."""

from __future__ import annotations

import math

import numpy as np

from scanward.commands import Objection, Severity, unit_of
from scanward.layers.classifier import Classifier
from scanward.layers.conditional import in_units
from scanward.layers.encoding import FIRST, MISSING, UNKNOWN, Encoder, View
from scanward.layers.usual import UsualValues

SHOWN = 3  # expected values named at most
WIDTH = 3.0  # an expected range is this many spreads to either side


def with_unit(text: str, name: str) -> str:
    """A value with its unit; a pure number has none."""
    unit = unit_of(name)
    return f"{text} {unit}" if unit and unit != "1" else text


def range_objection(
    encoder: Encoder, field: int, view: View, expected: float, spread: float, reason: str, weight: float
) -> Objection:
    """An objection to a continuous value, with the range expected in its place."""
    name = encoder.fields[field].name
    low = in_units(encoder, field, expected - WIDTH * spread)
    high = in_units(encoder, field, expected + WIDTH * spread)
    number = view.numbers[field]
    found = None if math.isnan(number) else in_units(encoder, field, number)
    text = with_unit(f"{low:.4g} to {high:.4g}", name)
    return Objection(name, reason, found, text, low, high, severity=Severity.ALERT, weight=weight)


def value_objection(
    encoder: Encoder, usual: UsualValues, field: int, view: View, reason: str, weight: float
) -> Objection:
    """An objection to a discrete value, with the values usual in its place."""
    level, row = usual.row(view)
    part = slice(encoder.offsets[field], encoder.offsets[field + 1])
    order = np.argsort(usual.surprise[level][row][part])
    codes = [int(c) for c in order[:SHOWN] if usual.surprise[level][row][part][c] < 3.0]
    return code_objection(encoder, field, view, codes or [int(order[0])], reason, weight)


def code_objection(
    encoder: Encoder, field: int, view: View, codes: list[int], reason: str, weight: float
) -> Objection:
    """An objection to a value of which only better codes are known."""
    learned = encoder.fields[field]
    values = tuple(learned.values[c - FIRST] for c in codes if c >= FIRST and c - FIRST < len(learned.values))
    texts = [v if isinstance(v, str) else f"{v:g}" for v in values] or (
        ["nothing"] if MISSING in codes else []
    )
    if learned.kind == "continuous":
        texts, values = _bin(encoder, field, codes[0]), ()
    return Objection(
        learned.name,
        reason,
        _found(encoder, field, view),
        with_unit(" or ".join(texts), learned.name),
        values=values,
        severity=Severity.ALERT,
        weight=weight,
    )


def class_objection(
    encoder: Encoder, classifier: Classifier, view: View, best: int, reason: str, weight: float
) -> Objection:
    """An objection to what a command claims to be for, with the class it looks like."""
    field = classifier.target
    if not classifier.edges:
        return code_objection(encoder, field, view, [best], reason, weight)
    name = encoder.fields[field].name
    at = best - FIRST
    low = in_units(encoder, field, classifier.edges[at - 1]) if at > 0 else None
    high = in_units(encoder, field, classifier.edges[at]) if at < len(classifier.edges) else None
    text = (
        f"below {high:.4g}"
        if low is None
        else f"{low:.4g} or more"
        if high is None
        else f"{low:.4g} to {high:.4g}"
    )
    found = _found(encoder, field, view)
    return Objection(
        name, reason, found, with_unit(text, name), low, high, severity=Severity.ALERT, weight=weight
    )


def _bin(encoder: Encoder, field: int, code: int) -> list[str]:
    if code < FIRST:
        return ["nothing"] if code == MISSING else []
    edges = encoder.fields[field].edges
    at = code - FIRST
    low = f"{in_units(encoder, field, edges[at - 1]):.4g}" if at > 0 else "less"
    high = f"{in_units(encoder, field, edges[at]):.4g}" if at < len(edges) else "more"
    return [f"{low} to {high}"]


def _found(encoder: Encoder, field: int, view: View) -> float | str | None:
    learned = encoder.fields[field]
    code = view.codes[field]
    if code == MISSING:
        return None
    if learned.kind == "category":
        return "a value never seen" if code == UNKNOWN else learned.values[code - FIRST]
    number = view.numbers[field]
    return None if math.isnan(number) else in_units(encoder, field, number)

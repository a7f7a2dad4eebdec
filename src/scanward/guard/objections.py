"""What layers objected to, as an operator is shown it: gravest first, texts and numbers of them bounded. Pure.

Everything here was told by a host or learned from hosts: it is text of anybody.
"""

from __future__ import annotations

from collections.abc import Iterator

from scanward.commands import RULE_LAYERS, LayerName, Objection, Value
from scanward.config import CONTROL_BOUNDS, ControlBounds
from scanward.guard.events import Objected
from scanward.guard.policy_terms import ElementAnswer


def objected(
    answer: ElementAnswer, elements: int, bounds: ControlBounds = CONTROL_BOUNDS
) -> tuple[Objected, ...]:
    """What every layer said of one of ``elements`` elements: gravest first, rules before what was learned."""
    most = min(bounds.objections, max(1, bounds.objections_all // max(1, elements)))
    said = sorted(_said(answer), key=lambda s: (-s[1].severity, s[0] not in RULE_LAYERS, -s[1].weight))
    return tuple(_shown(layer, one, p_value, bounds) for layer, one, p_value in said[:most])


def clipped(value: Value | None, bounds: ControlBounds = CONTROL_BOUNDS) -> Value | None:
    """A text of at most ``text_chars`` characters; a number as it is."""
    if not isinstance(value, str) or len(value) <= bounds.text_chars:
        return value
    return value[: bounds.text_chars - 1] + "…"


def _said(answer: ElementAnswer) -> Iterator[tuple[LayerName, Objection, float | None]]:
    for one in answer.disputed:
        yield LayerName.CONTEXT_SENSITIVE, one, None
    for opinion in answer.opinions:
        for one in opinion.objections:
            yield opinion.layer, one, opinion.p_value


def _shown(layer: LayerName, one: Objection, p_value: float | None, bounds: ControlBounds) -> Objected:
    return Objected(
        str(clipped(one.field, bounds)),
        clipped(one.found, bounds),
        str(clipped(one.expected, bounds)),
        str(clipped(one.reason, bounds)),
        layer,
        one.severity.name,
        one.weight,
        p_value,
    )

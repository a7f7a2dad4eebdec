"""Opinion, objection, verdict: what layers say and what policy makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from scanward.commands.model import Value


class LayerName(StrEnum):
    """The seven skins of the onion, from the outside in, and the number made of the last three."""

    FORM = "form"
    PHYSICS = "physics"
    LIMITS = "limits"
    PROTOCOL_BOOK = "protocol_book"
    CONTEXT_FREE = "context_free"
    CONTEXT_SENSITIVE = "context_sensitive"
    PROCEDURE = "procedure"


RULE_LAYERS = (LayerName.FORM, LayerName.PHYSICS, LayerName.LIMITS, LayerName.PROTOCOL_BOOK)
LEARNED_LAYERS = (LayerName.CONTEXT_FREE, LayerName.CONTEXT_SENSITIVE, LayerName.PROCEDURE)


class Severity(IntEnum):
    """How grave an objection is. INFORMATION is shown and never counts."""

    INFORMATION = 0
    ALERT = 1
    HALT = 2


class Outcome(StrEnum):
    """What a layer answers."""

    PASS = "pass"  # noqa: S105 - not a password
    OBJECT = "object"
    ABSTAIN = "abstain"


class Verdict(StrEnum):
    """Made by the policy out of opinions."""

    RELEASE = "RELEASE"
    ALERT = "ALERT"
    HALT = "HALT"


@dataclass(frozen=True, slots=True)
class Objection:
    """One field that a layer objects to, with what was expected in its place.

    ``expected`` is for people ("120 kV", "3.9 to 5.1 mGy"); ``low``/``high`` and ``values`` say the same to
    machines. ``weight`` orders the objections of one layer (nats of surprise for learned layers).
    """

    field: str
    reason: str
    found: Value | None = None
    expected: str = ""
    low: float | None = None
    high: float | None = None
    values: tuple[Value, ...] = ()
    severity: Severity = Severity.ALERT
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one layer says of one command: never an action.

    ``features`` are the numbers a learned layer hands to the combiner (fixed names and order per layer);
    ``score`` is the layer's own summary of them (higher is stranger, in nats); ``p_value`` explains and
    promises nothing.
    """

    layer: LayerName
    outcome: Outcome
    objections: tuple[Objection, ...] = ()
    score: float | None = None
    p_value: float | None = None
    features: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def severity(self) -> Severity:
        """The gravest objection, INFORMATION when there is none."""
        return max((o.severity for o in self.objections), default=Severity.INFORMATION)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with everything that led to it."""

    verdict: Verdict
    opinions: tuple[Opinion, ...]
    p_value: float | None = None
    score: float | None = None
    layer: LayerName | None = None  # the layer that decided; None on RELEASE
    fields: tuple[str, ...] = ()
    reason: str = ""

"""What a bundle learned from, as bins that today's commands are sorted into. numpy alone, no layer is run.

The bundle's encoder turns a command into one code per field; how often each code was learned from stands in the
manifest's metrics (``seen``, made by training). Codes become bins here: "not told", "not among those learned" (met less
than three times, or never), and the rest: single values, those rarer than 2 % together; of a continuous field,
neighbours with about a tenth of the training each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanward.bundle import Bundle
from scanward.commands import FIELDS, Command, Context, Told, Value
from scanward.console.history_shown import visible
from scanward.errors import BundleError
from scanward.layers.encoding import FIRST, MISSING, UNKNOWN, Encoder, Learned

RARE: Final = 0.02  # of the training: a value that is rarer shares a bin with all others that are
TENTHS: Final = (
    10  # bins of a continuous field, and values of any other that have a bin of their own: at most
)
_UNLEARNED: Final = 1  # the bin of values that were not learned
_AGAIN: Final = "train the bundle again with this version"


@dataclass(frozen=True)
class FieldReference:
    """One field: ``bin_of`` (codes,) is the bin of each code, ``names`` and ``counts`` are the bins'."""

    name: str
    unit: str
    bin_of: NDArray[np.int64]
    names: tuple[str, ...]
    counts: tuple[float, ...]
    unseen: int  # the bin of values that training never met, -1 where there is none


@dataclass(frozen=True)
class Reference:
    """Of one bundle.

    Attributes
    ----------
    digest : str
        SHA-256 of its manifest, as verdicts name it.
    examinations, commands : int
        How many it learned from; 0 where it does not say.
    effective : float
        How many independent draws that is (`drift.effective`).
    fields : tuple of FieldReference, in the order of the encoder's fields
        Empty where it does not say.
    budget : float
        Share of clean examinations that may alert.
    units : int
        Examinations of its calibration.
    """

    digest: str
    encoder: Encoder
    examinations: int
    commands: int
    effective: float
    fields: tuple[FieldReference, ...]
    budget: float
    units: int

    def codes(self, commands: Sequence[Command]) -> NDArray[np.int64]:
        """(N, F) code of each field of each command."""
        return self.encoder.rows(tuple(commands)).codes


def reference_of(bundle: Bundle) -> Reference:
    """What a verified bundle says of its training.

    Raises
    ------
    BundleError
        When it is of another kind or version than this one understands.
    """
    settings = bundle.part.settings
    try:
        encoder = Encoder.from_settings(settings["encoder"])
        budget, units = float(settings["budget"]), len(settings["calibrations"]["examination"])
        seen = bundle.manifest.facts.metrics.get("seen")
        examinations, commands, draws = 0, 0, 0.0
        fields: tuple[FieldReference, ...] = ()
        if isinstance(seen, Mapping):
            examinations, commands = int(seen["examinations"]), int(seen["commands"])
            draws, late = float(seen["effective"]), seen["unlearned"]
            if not 0.0 <= draws <= examinations <= commands:
                raise ValueError("not the numbers of a training")
            fields = tuple(
                _field(one, seen["fields"][one.name], _share(late["fields"][one.name], late["commands"]))
                for one in encoder.fields
            )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        what = f"what the bundle learned from is not understood ({type(error).__name__}: {error})"
        raise BundleError(what, todo=_AGAIN) from error
    return Reference(bundle.manifest.digest, encoder, examinations, commands, draws, fields, budget, units)


def command_of(parameters: str, context: str) -> Command:
    """A command out of the history's JSON. It came from a host: whatever is no value is left out."""
    return Command(
        {name: value for name, told in _object(parameters).items() if (value := _value(told)) is not None},
        Context({name: parts for name, told in _object(context).items() if (parts := _told(told))}),
    )


# --- inside


def _field(field: Learned, counts: Sequence[object], unlearned: float) -> FieldReference:
    if len(counts) != field.size or not all(type(c) is int and c >= 0 for c in counts):
        raise ValueError(f"not the counts of {field.name}")
    seen = np.array(counts, dtype=np.float64)
    groups = _neighbours(seen) if field.kind == "continuous" else _values(seen)
    bins: list[tuple[str, list[int]]] = [("not told", [MISSING]), ("not among those learned", [UNKNOWN])]
    bins += [(_name(field, codes), codes) for codes in groups]
    bin_of = np.zeros(field.size, dtype=np.int64)
    for at, (_, codes) in enumerate(bins):
        bin_of[codes] = at
    known = FIELDS.get(field.name)
    return FieldReference(
        field.name,
        known.unit if known is not None and known.unit != "1" else "",
        bin_of,
        tuple(name for name, _ in bins),
        _expected([float(seen[codes].sum()) for _, codes in bins], unlearned),
        _UNLEARNED,
    )


def _expected(counts: list[float], unlearned: float) -> tuple[float, ...]:
    """Counts of the bins as they are to be expected of commands that nothing was learned from.

    What is not among the values learned would be one of the rarest: so its share comes out of the last bin.
    """
    more = unlearned * sum(counts) - counts[_UNLEARNED]
    taken = min(max(more, 0.0), counts[-1]) if len(counts) > _UNLEARNED + 1 else 0.0
    counts[_UNLEARNED] += taken
    counts[-1] -= taken
    return tuple(counts)


def _share(count: object, of: object) -> float:
    if type(count) is not int or type(of) is not int or not 0 <= count <= of:
        raise ValueError("not a share")
    return count / of if of else 0.0


def _neighbours(seen: NDArray[np.float64]) -> list[list[int]]:
    """Bins of a continuous field, each of codes side by side with a tenth of the training together."""
    total = float(seen[FIRST:].sum())
    found: list[list[int]] = []
    done, last = 0.0, -1
    for code in range(FIRST, len(seen)):
        # A code belongs to the tenth in which its middle lies.
        tenth = min(TENTHS - 1, int(TENTHS * (done + seen[code] / 2.0) / total)) if total else 0
        done += float(seen[code])
        if found and tenth == last:
            found[-1].append(code)
        else:
            found.append([code])
        last = tenth
    return found


def _values(seen: NDArray[np.float64]) -> list[list[int]]:
    """Single values, the commonest first, then all others together."""
    total = float(seen.sum())
    order = sorted(range(FIRST, len(seen)), key=lambda code: (-seen[code], code))
    own = [code for code in order[:TENTHS] if seen[code] >= RARE * total]
    rest = sorted(set(order) - set(own))
    return [[code] for code in own] + ([rest] if rest else [])


def _name(field: Learned, codes: Sequence[int]) -> str:
    if field.kind == "continuous":
        low, high = codes[0] - FIRST, codes[-1] - FIRST
        least = _edge(field, low - 1)
        most = _edge(field, high)
        if not least or not most:
            return f"below {most}" if most else f"from {least}" if least else "any value"
        return f"{least} to {most}"
    if len(codes) > 1:
        return f"{len(codes)} other values"
    value = field.values[codes[0] - FIRST]
    return visible(value) if isinstance(value, str) else f"{value:.5g}"


def _edge(field: Learned, at: int) -> str:
    """An edge between two codes in the field's own unit; "" beyond the first and the last."""
    if not 0 <= at < len(field.edges):
        return ""
    value = math.exp(field.edges[at]) if field.log else field.edges[at]
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _object(told: str) -> dict[str, Any]:
    try:
        found = json.loads(told)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _value(told: object) -> Value | None:
    if isinstance(told, str):
        return told
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    try:
        return float(told)
    except OverflowError:
        return None


def _told(told: object) -> tuple[Told, ...]:
    """What the best source said: codes ask for no more."""
    first = told[0] if isinstance(told, list) and told else None
    value = _value(first.get("value")) if isinstance(first, dict) else None
    return () if value is None else (Told(value),)

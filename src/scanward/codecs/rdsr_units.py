"""Units of measurement in dose reports: UCUM codes and the misspellings that real reports carry.

A number whose unit is not known, or is of another kind of quantity, is never taken: the caller gets a
``UnitError`` and rejects the event. Guessing a unit would let a command pass at a thousandth of its dose.

Source: UCUM 2.1 (case sensitive); PS3.16 CID 82 and TID 10013; misspellings seen in recorded reports.
"""

from __future__ import annotations

from scanward.codecs.values import tidy

# code -> (kind of quantity, how many of the kind's base unit)
_UNITS: dict[str, tuple[str, float]] = {
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "min": ("time", 60.0),
    "um": ("length", 1e-3),
    "mm": ("length", 1.0),
    "cm": ("length", 10.0),
    "m": ("length", 1000.0),
    "V": ("voltage", 1e-3),
    "kV": ("voltage", 1.0),
    "nA": ("current", 1e-6),
    "uA": ("current", 1e-3),
    "mA": ("current", 1.0),
    "A": ("current", 1000.0),
    "uGy": ("dose", 1e-3),
    "mGy": ("dose", 1.0),
    "cGy": ("dose", 10.0),
    "Gy": ("dose", 1000.0),
    "uGy.cm": ("dose length", 1e-3),
    "mGy.cm": ("dose length", 1.0),
    "mGy.m": ("dose length", 100.0),
    "mGy.mm": ("dose length", 0.1),
    "Gy.cm": ("dose length", 1000.0),
    "uA.s": ("charge", 1e-3),
    "mA.s": ("charge", 1.0),
    "A.s": ("charge", 1000.0),
    "deg": ("angle", 1.0),
    "1": ("ratio", 1.0),
    "%": ("ratio", 0.01),
}
# Not UCUM, but what makers write and what can mean only one thing.
_ALIASES = {
    "mGycm": "mGy.cm",  # GE, Siemens before VA40, Spectrum Dynamics
    "mGy*cm": "mGy.cm",
    "Gycm": "Gy.cm",
    "mAs": "mA.s",
    "uAs": "uA.s",
    "µA": "uA",
    "μA": "uA",
    "µGy": "uGy",
    "μGy": "uGy",
    "": "1",
    "no units": "1",
    "ratio": "1",
    "X-ray sources": "1",  # GE
    "X-Ray sources": "1",
}


class UnitError(ValueError):
    """A unit that is unknown, or of another kind of quantity than the field."""


def convert(value: float, unit: str, wanted: str) -> float:
    """``value`` in ``unit`` as a number of ``wanted`` (a code of this table).

    ``{curly}`` annotations count as the unit 1 (UCUM 12). Raises UnitError.
    """
    written = unit.strip()
    code = "1" if written.startswith("{") and written.endswith("}") else _ALIASES.get(written, written)
    if code not in _UNITS:
        raise UnitError(f"unit {written!r} is not known")
    kind, factor = _UNITS[code]
    wanted_kind, wanted_factor = _UNITS[wanted]
    if kind != wanted_kind:
        raise UnitError(f"unit {written or 'none'!r} is a {kind}, {wanted!r} was expected")
    return value if factor == wanted_factor else tidy(value * factor / wanted_factor)

"""Units, numbers, ages and times as tables write them. Problems name the kind of fault, never the cell.

A cell that does not parse may be anything, a shifted patient name included; so no message repeats it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from scanward.codecs.values import tidy

# To the unit of the field (left) from another unit: multiply by.
_FACTORS: dict[str, dict[str, float]] = {
    "kV": {"V": 1e-3},
    "mA": {"uA": 1e-3, "A": 1e3},
    "mAs": {"uAs": 1e-3, "As": 1e3},
    "ms": {"s": 1e3, "us": 1e-3, "min": 6e4},
    "s": {"ms": 1e-3, "us": 1e-6, "min": 60.0},
    "mm": {"cm": 10.0, "m": 1e3, "um": 1e-3, "in": 25.4},
    "m": {"cm": 1e-2, "mm": 1e-3, "in": 0.0254, "ft": 0.3048},
    "mm/s": {"cm/s": 10.0, "m/s": 1e3},
    "kg": {"g": 1e-3, "lb": 0.45359237},
    "a": {"mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25},
    "mGy": {"uGy": 1e-3, "cGy": 10.0, "Gy": 1e3},
    "mGy.cm": {"mGy.mm": 0.1, "mGy.m": 100.0, "Gy.cm": 1e3, "cGy.cm": 10.0},
    "deg": {"rad": 180 / math.pi},
    "1": {"%": 1e-2},
    "%": {"1": 100.0},
}

# What people write for a unit; the left of it is compared without case and spaces.
_SPELLINGS = {
    "kvp": "kV", "kv": "kV", "v": "V", "ma": "mA", "ua": "uA", "a": "A",
    "mas": "mAs", "uas": "uAs", "as": "As", "ms": "ms", "msec": "ms", "s": "s", "sec": "s",
    "seconds": "s", "us": "us", "min": "min", "minutes": "min", "mm": "mm", "cm": "cm", "m": "m", "um": "um",
    "in": "in", "inch": "in", "inches": "in", "ft": "ft", "mm/s": "mm/s", "cm/s": "cm/s", "m/s": "m/s",
    "kg": "kg", "g": "g", "lb": "lb", "lbs": "lb", "y": "a", "yr": "a", "yrs": "a", "year": "a", "years": "a",
    "mo": "mo", "month": "mo", "months": "mo", "wk": "wk", "week": "wk", "weeks": "wk", "d": "d", "day": "d",
    "days": "d", "mgy": "mGy", "ugy": "uGy", "cgy": "cGy", "gy": "Gy", "mgy.cm": "mGy.cm",
    "mgycm": "mGy.cm", "mgy*cm": "mGy.cm", "mgy.mm": "mGy.mm", "mgy.m": "mGy.m", "gy.cm": "Gy.cm",
    "cgy.cm": "cGy.cm", "deg": "deg", "°": "deg", "degrees": "deg", "rad": "rad", "1": "1", "%": "%",
    "hu": "HU",
}  # fmt: skip

_MICRO = {ord("\u00b5"): "u", ord("\u03bc"): "u"}  # the micro sign, and the Greek letter

AGE_STRING = "AS"  # the DICOM value representation: 034Y, 006M, 003W, 012D


class CellProblem(Exception):
    """A cell that cannot be used; its text is the reason without the cell."""


def canonical_unit(text: str, target: str) -> str | None:
    """The table's spelling of ``text``; None when unknown. ``a`` is a year for ages, else ampere."""
    squeezed = "".join(text.split()).translate(_MICRO)
    if target == "a" and squeezed in {"a", AGE_STRING}:
        return squeezed
    if squeezed == target or squeezed in _FACTORS.get(target, {}):
        return squeezed
    return _SPELLINGS.get(squeezed.casefold())


def units_for(target: str) -> tuple[str, ...]:
    """Every unit that can be converted to ``target``, itself first."""
    more = (AGE_STRING,) if target == "a" else ()
    return (target, *_FACTORS.get(target, {}), *more)


def factor(unit: str, target: str) -> float | None:
    """What a value in ``unit`` is multiplied by to be in ``target``; None when that makes no sense."""
    if unit == target:
        return 1.0
    return _FACTORS.get(target, {}).get(unit)


_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_COMMA = re.compile(r"[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_NAN = re.compile(r"[+-]?nan", re.IGNORECASE)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)


def is_comma_number(text: str) -> bool:
    """Whether ``text`` is a number written with a decimal comma, and not one without any mark."""
    return "," in text and _COMMA.fullmatch(text.strip()) is not None


def is_number(text: str) -> bool:
    """Whether ``text`` is a finite number with a decimal point or none."""
    return _PLAIN.fullmatch(text.strip()) is not None and math.isfinite(float(text))


def finite(value: float) -> float:
    """``value``, or a CellProblem for NaN and infinity."""
    if math.isnan(value):
        raise CellProblem("is NaN")
    if math.isinf(value):
        raise CellProblem("is infinite")
    return value


def parse_number(text: str, decimal: str = ".") -> float:
    """A finite number: ASCII digits, one decimal mark, no thousands marks (nobody could tell them apart)."""
    text = text.strip()
    if (_COMMA if decimal == "," else _PLAIN).fullmatch(text):
        return finite(float(text.replace(",", ".") if decimal == "," else text))
    if _NAN.fullmatch(text):
        raise CellProblem("is NaN")
    if _INFINITE.fullmatch(text):
        raise CellProblem("is infinite")
    raise CellProblem("is not a number")


def scaled(value: float, by: float) -> float:
    """``value`` times a unit's factor, without the last digit's noise (350 ms is 0.35 s)."""
    return value if by == 1.0 else finite(tidy(value * by))


_DATE = r"(\d{4})[-./]?(\d{2})[-./]?(\d{2})"
_TIME = r"(\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?"
_DATE_ONLY = re.compile(_DATE, re.ASCII)
_TIME_ONLY = re.compile(_TIME, re.ASCII)
_DATE_TIME = re.compile(_DATE + r"(?:[T ]?" + _TIME + r")?\s*(?:Z|[+-]\d{2}:?\d{2})?", re.ASCII)


def parse_time(text: str, pattern: str = "") -> float:
    """Seconds of a date and time: DICOM DT or DA+TM, ISO 8601, ``seconds``, or a strptime ``pattern``.

    An offset from UTC is left out, as in ``codecs.values``: one device keeps one wall clock, and only order
    and differences are used.
    """
    text = text.strip()
    if pattern == "seconds":
        return parse_number(text)
    try:
        if pattern:
            moment = datetime.strptime(text, pattern)
            return _epoch(moment.replace(tzinfo=UTC))
        match = _DATE_TIME.fullmatch(text)
        if match is None:
            raise CellProblem("is not a date and time")
        year, month, day, hour, minute, second, fraction = match.groups()
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), min(int(second or 0), 59),
            int((fraction or "0")[:6].ljust(6, "0")), tzinfo=UTC,
        )  # fmt: skip
        return _epoch(moment) + (1.0 if second == "60" else 0.0)  # a leap second (PS3.5 6.2, TM)
    except (ValueError, OverflowError) as error:
        raise CellProblem("is not a date and time") from error


def parse_date_and_time(date: str, time: str) -> float:
    """Seconds of a DA and a TM cell."""
    day, clock = _DATE_ONLY.fullmatch(date.strip()), _TIME_ONLY.fullmatch(time.strip())
    if day is None:
        raise CellProblem("is not a date")
    if clock is None:
        raise CellProblem("is not a time of day")
    return parse_time(date.strip() + "T" + time.strip())


def _epoch(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()

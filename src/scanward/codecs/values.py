"""Plain DICOM texts as numbers: ages, dates, times. Pure, and None for whatever cannot be read.

Sources: PS3.5 table 6.2-1 (AS, DA, TM, DT).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime

DAYS_PER_YEAR = 365.25

_AGE = re.compile(r"(\d{1,3})\s*([DWMY])")
_DATE = re.compile(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})")  # dots: ACR-NEMA 300, which PS3.5 asks to accept
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
_MOMENT = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?(?:[+\-]\d{4})?")


def age_in_years(text: str) -> float | None:
    """Age String (``018M``, ``034Y``, ``003W``, ``010D``) in years, or None when it is not one.

    >>> age_in_years("006M")
    0.5
    """
    match = _AGE.fullmatch(text.strip().upper())
    if match is None:
        return None
    count = int(match[1])
    return {
        "D": count / DAYS_PER_YEAR,
        "W": count * 7 / DAYS_PER_YEAR,
        "M": count / 12,
        "Y": float(count),
    }[match[2]]


def parse_date(text: str) -> date | None:
    """DA as a date, or None."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


def parse_time(text: str) -> float | None:
    """TM as seconds since midnight, or None. Minutes, seconds may be missing; a leap second counts as 59."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return None
    fraction = float(f"0.{match[4]}") if match[4] else 0.0
    return hour * 3600 + minute * 60 + min(second, 59) + fraction


def seconds_of(date_text: str, time_text: str = "") -> float | None:
    """DA and TM as seconds on a naive clock (as if UTC): for order and differences. None without a date."""
    day = parse_date(date_text)
    if day is None:
        return None
    clock = parse_time(time_text) if time_text.strip() else 0.0
    if clock is None:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + clock


def parse_moment(text: str) -> float | None:
    """DT as seconds on a naive clock. The offset from UTC is left out: one device keeps one wall clock."""
    match = _MOMENT.fullmatch(text.strip())
    return None if match is None else seconds_of(match[1], match[2] or "")


def age_between(birth: str, study: str) -> float | None:
    """Age in years at ``study`` (both DA), as coarse as an Age String would be; None when unknown.

    Coarse on purpose: years from two years on, months from three months on, weeks below. Kept to the day,
    it would be the birth date again.
    """
    born, seen = parse_date(birth), parse_date(study)
    if born is None or seen is None or seen < born:
        return None
    months = (seen.year - born.year) * 12 + seen.month - born.month - (seen.day < born.day)
    if months >= 24:
        return float(months // 12)
    if months >= 3:
        return months / 12
    return (seen - born).days // 7 * 7 / DAYS_PER_YEAR


def tidy(value: float) -> float:
    """``value`` without the dust that a change of unit leaves (12 significant digits)."""
    return float(f"{value:.12g}") if math.isfinite(value) else value

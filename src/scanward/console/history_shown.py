"""How the history looks on a page: times, numbers, and texts of anybody, in which nothing hides."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# Shape before the word, so that colour is never the only sign.
MARKS: Final = {"RELEASE": "○", "ALERT": "▲", "HALT": "■", "": "–"}
SAID: Final = {"RELEASE": "RELEASE", "ALERT": "ALERT", "HALT": "HALT", "": "not judged"}


def visible(text: object) -> str:
    """A text with what cannot be seen written out: controls, and what turns the direction of writing (U+202E)."""
    if not isinstance(text, str):
        return str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _HIDDEN else c for c in text)


def short(text: object, most: int = 60) -> str:
    """A visible text, cut for a table."""
    shown = visible(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def many(count: int, one: str, more: str = "") -> str:
    """``1 record``, ``2 records``."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def moment(at: float | None) -> str:
    """A time by the console's clock, to the second; "" for none."""
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s since 1970"


def zone() -> str:
    """What the clock of `moment` is called."""
    return datetime.now().astimezone().strftime("UTC%z")


def number(value: object) -> str:
    """A number to five digits; any other value as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return visible(value)
    return f"{value:.5g}"


def texts(told: str) -> list[str]:
    """A JSON list of texts."""
    try:
        found = json.loads(told)
    except ValueError:
        return []
    return [visible(one) for one in found] if isinstance(found, list) else []


def mapping(told: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(told)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def row_view(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """One row of ``judged`` as tables show it. ``names``: of scanners by id."""
    verdict = str(row["verdict"])
    return {
        "id": row["id"],
        "time": moment(row["at"]),
        "scanner": names.get(row["scanner"], row["scanner"]),
        "what": short(row["protocol"]) if row["kind"] == "command" else "motion",
        "body_part": short(row["body_part"], 30),
        "age": "" if row["age"] is None else f"{row['age']:.3g}",
        "element": f"{row['element'] + 1} of {row['elements']}",
        "mark": MARKS.get(verdict, "?"),
        "verdict": SAID.get(verdict, visible(verdict)),
        "layer": visible(row["layer"]),
        "fields": short(", ".join(texts(row["fields"])), 120),
        "reason": visible(row["reason"]),
        "p_value": "" if row["p_value"] is None else f"{row['p_value']:.4g}",
        "outcome": "on hold" if row["outcome"] == "pending" and row["held"] is not None else row["outcome"],
        "why": visible(row["why"]),
        "operator": short(row["operator"], 40),
        "mode": visible(row["mode"]),
        "carried": moment(row["carried"]),
        "emergency": row["emergency"],
        "examination": visible(row["examination"][:12]),
    }


def parameters_view(row: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, value, and whether it was objected to, of every parameter; those objected to first."""
    objected = set(texts(row["fields"]))
    found = [(visible(k), number(v), visible(k) in objected) for k, v in mapping(row["parameters"]).items()]
    return sorted(found, key=lambda one: (not one[2], one[0]))


def context_view(row: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]], bool]]:
    """Name, (value, source) of everybody who told, and whether they say different things."""
    found = []
    for name, told in sorted(mapping(row["context"]).items()):
        if not isinstance(told, list):
            continue
        said = [
            (number(t.get("value", "")), visible(t.get("source", ""))) for t in told if isinstance(t, dict)
        ]
        found.append((visible(name), said, len({value for value, _ in said}) > 1))
    return found

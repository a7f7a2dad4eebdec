"""What an alert is: of which scanner, how grave, whom it concerns, and what counts as the same one again. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from scanward.config import ALERTING_BOUNDS
from scanward.console.shared import ADMINISTRATOR, OPERATOR, PHYSICIST

_DIGITS: Final = str.maketrans("0123456789", "##########")


class Severity(StrEnum):
    """How grave an alert is."""

    INFORMATION = "information"
    WARNING = "warning"
    SERIOUS = "serious"

    @property
    def rank(self) -> int:
        """0, 1, 2."""
        return _RANKS.index(self)


_RANKS: Final = (Severity.INFORMATION, Severity.WARNING, Severity.SERIOUS)


@dataclass(frozen=True, slots=True)
class Kind:
    """What every alert of a kind has in common. ``audience``: the roles that it concerns."""

    severity: Severity
    audience: frozenset[str]
    title: str


def _kind(severity: Severity, title: str, *audience: str) -> Kind:
    return Kind(severity, frozenset(audience), title)


_I, _W, _S = _RANKS
KINDS: Final[Mapping[str, Kind]] = {
    # of the guard, as docs/control.md names them
    "held": _kind(_W, "a command is held", OPERATOR, PHYSICIST),
    "one_of_two": _kind(_W, "a second person has to release", OPERATOR, PHYSICIST),
    "called": _kind(_W, "a second person is called for", OPERATOR, PHYSICIST),
    "halted": _kind(_S, "a command was halted", OPERATOR, PHYSICIST),
    "alert": _kind(_W, "a finding that held nothing", OPERATOR, PHYSICIST),
    "released": _kind(_I, "a release with a note", PHYSICIST),
    "trigger_refused": _kind(_W, "a trigger was refused", OPERATOR, PHYSICIST),
    "act_refused": _kind(_W, "an operator's act was refused", OPERATOR, ADMINISTRATOR),
    "control_wrong": _kind(_S, "a wrong signature at the control channel", ADMINISTRATOR),
    "emergency_begin": _kind(_S, "emergency access", OPERATOR, PHYSICIST, ADMINISTRATOR),
    "emergency_end": _kind(_I, "emergency access ended", PHYSICIST, ADMINISTRATOR),
    "emergency_reason": _kind(_I, "emergency access was explained", PHYSICIST, ADMINISTRATOR),
    "drift": _kind(_W, "drift", PHYSICIST),
    "mode": _kind(_I, "another mode", PHYSICIST, ADMINISTRATOR),
    "mode_refused": _kind(_I, "a mode was refused", PHYSICIST, ADMINISTRATOR),
    "log": _kind(_S, "the guard's audit log", PHYSICIST, ADMINISTRATOR),
    "stop": _kind(_I, "a stop passed", PHYSICIST),
    "gantry_lost": _kind(_W, "the gantry is not connected", OPERATOR, ADMINISTRATOR),
    "judge_gone": _kind(_S, "the judge is gone: nothing is released", OPERATOR, ADMINISTRATOR),
    "judge_ready": _kind(_I, "the judge is ready", ADMINISTRATOR),
    # of this console
    "unreachable": _kind(_S, "a guard cannot be heard", OPERATOR, ADMINISTRATOR),
    "reachable": _kind(_I, "a guard is heard again", OPERATOR, ADMINISTRATOR),
    "gap": _kind(_W, "a guard was not heard for a while", PHYSICIST, ADMINISTRATOR),
    "undelivered": _kind(_S, "alerts cannot be delivered", ADMINISTRATOR),
    "spool": _kind(_S, "alerts are kept in memory alone", ADMINISTRATOR),
    "test": _kind(_S, "a test of this console's alerts", ADMINISTRATOR, PHYSICIST, OPERATOR),
    "dose_reference": _kind(_W, "dose of an examination above a reference", PHYSICIST),
    "dose_cumulative": _kind(_W, "dose of a patient's examinations together", PHYSICIST),
    "dose_repeat": _kind(_W, "a patient examined again", PHYSICIST),
    "dose_skipped": _kind(_I, "doses that were not looked at", PHYSICIST),
}
OTHER: Final = _kind(_I, "news of a guard", ADMINISTRATOR)  # of a kind that a later guard may have
# The state of an examination and what becomes of a hold: of use on the page alone.
SILENT: Final = frozenset({"examination", "armed", "unheld", "void", "repeated", "emergency"})


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, or several of the same cause.

    Attributes
    ----------
    scanner, name : str
        Its id and name in console.toml; "" for the console itself.
    kind : str
        Of `KINDS`.
    cause : str
        What has the same scanner, kind and cause is the same alert again. "": any of this kind (a flood).
    text : str
        For people; may hold words of a host. Never a patient's name: nothing here comes from an examination's label.
    at : float
        s since 1970, the console's clock.
    count : int
        How many of the same cause.
    facts : mapping
        Plain JSON values for programs.
    """

    scanner: str
    name: str
    kind: str
    cause: str
    text: str
    at: float
    count: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity | None = None

    @property
    def meaning(self) -> Kind:
        """What its kind says."""
        return KINDS.get(self.kind, OTHER)

    @property
    def gravity(self) -> Severity:
        """Its own severity, or its kind's."""
        return self.meaning.severity if self.severity is None else self.severity

    @property
    def title(self) -> str:
        """One line."""
        kind = (
            self.meaning.title if self.kind in KINDS else f"{self.meaning.title} ({one_line(self.kind, 40)})"
        )
        return f"{self.name}: {kind}" if self.name else kind

    @property
    def key(self) -> tuple[str, str, str]:
        """Names the cause among all scanners."""
        return self.scanner, self.kind, self.cause


def cause_of(*parts: object) -> str:
    """A short name of a cause. Digits do not make one: a value that creeps is the same finding again."""
    told = json.dumps([str(part).translate(_DIGITS) for part in parts])
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def one_line(text: str, most: int = ALERTING_BOUNDS.title_chars) -> str:
    """Text of anybody in one line: nothing in it ends a line, steers a terminal or turns the reading direction."""
    cleaned = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: 2 * most]
    )
    cleaned = " ".join(cleaned.encode("utf-8", "replace").decode("utf-8").split())
    return cleaned if len(cleaned) <= most else f"{cleaned[: most - 3]}..."

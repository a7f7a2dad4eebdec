"""Entries and books: nothing that was read is ever lost silently."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from scanward.commands import Command, Origin


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something read that is not a usable command, and why. ``judge`` answers it with HALT by layer form."""

    origin: Origin
    reason: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A command that was already read (the same irradiation event in a cumulative report)."""

    origin: Origin
    command: Command


Entry = Command | Rejected | Duplicate


@dataclass(frozen=True)
class Recording:
    """Everything read from one or more paths, in input order.

    The books balance by construction: every entry is exactly one of command, duplicate, rejected.
    """

    entries: tuple[Entry, ...]
    files: int = 0
    # What a reader did that a user should know (quirk rules applied, files passed over).
    notes: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[Command, ...]:
        """The usable commands, in input order."""
        return tuple(e for e in self.entries if isinstance(e, Command))

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What could not be used, with reasons."""
        return tuple(e for e in self.entries if isinstance(e, Rejected))

    @property
    def duplicates(self) -> tuple[Duplicate, ...]:
        """What was seen before."""
        return tuple(e for e in self.entries if isinstance(e, Duplicate))

    def books(self) -> dict[str, Any]:
        """``read = commands + duplicates + rejected``, with the reasons counted."""
        return {
            "files": self.files,
            "read": len(self.entries),
            "commands": len(self.commands),
            "duplicates": len(self.duplicates),
            "rejected": len(self.rejected),
            "reasons": dict(Counter(r.reason for r in self.rejected).most_common()),
        }

"""What the gantry received against what the log says: pure, and written without a look at how the relay reads it.

Two witnesses that know nothing of each other: the gantry's journal (`guard_ends`) and the guard's audit log. Both
tell the system's monotonic clock, so that "before" means before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanward.audit.frames import Kind
from scanward.audit.reading import read

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the log: when it was written (s, monotonic), in which life of a relay, and what it says."""

    at: float
    life: int
    said: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.said.get("kind", ""))


def entries(folder: Path) -> list[Entry]:
    """The relay's records, oldest first. AuditError when the chain is broken."""
    found: list[Entry] = []
    life = 0
    for record in read(folder):
        if record.kind is not Kind.RECORD:
            continue
        said = json.loads(record.payload)
        life += said.get("kind") == "start"
        found.append(Entry(record.moment.monotonic_ns / 1e9, life, said))
    return found


@dataclass
class Checked:
    """What the comparison found. ``wrong`` must be empty."""

    loads: int = 0
    triggers: int = 0
    motions: int = 0
    wrong: list[str] = field(default_factory=list)
    by_operator: int = 0  # loads that an operator released
    committed: int = 0  # triggers passed on before their record, as the rule for a committed chain wants it
    unknown: int = 0  # releases and triggers of which the next life said that they may have been sent
    unknown_sent: int = 0  # of these: the gantry had received them
    lives: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return {**vars(self), "wrong": self.wrong[:50]}


def compare(journal: Sequence[Told], log: Sequence[Entry]) -> Checked:
    """All rules, over the whole of both."""
    made = Checked(lives=max((e.life for e in log), default=0))
    for kind in ("load", "trigger", "motion"):
        again = Counter(said["id"] for said in journal if said["what"] == kind)
        made.wrong += [f"{kind} {name} reached the gantry {n} times" for name, n in again.items() if n > 1]
    _loads(made, journal, log)
    _triggers(made, journal, log)
    _unknown(made, journal, log)
    return made


def _before(log: Iterable[Entry], kind: str, received: Told) -> Entry | None:
    """The last record of that kind about this id that was written before the gantry received it."""
    found = None
    for entry in log:
        if entry.kind == kind and entry.said.get("id") == received["id"] and entry.at <= received["t"]:
            found = entry
    return found


def _by_id(log: Sequence[Entry]) -> dict[str, list[Entry]]:
    index: dict[str, list[Entry]] = {}
    for entry in log:
        index.setdefault(str(entry.said.get("id", "")), []).append(entry)
    return index


def _loads(made: Checked, journal: Sequence[Told], log: Sequence[Entry]) -> None:
    """Loads and motions: judged, released after the verdict, and the very same thing."""
    index = _by_id(log)
    for got in journal:
        if got["what"] not in ("load", "motion"):
            continue
        about = index.get(got["id"], [])
        name = f"{got['what']} {got['id']}"
        if got["what"] == "load":
            made.loads += 1
        else:
            made.motions += 1
        release = _before(about, "release", got)
        if release is None:
            made.wrong.append(f"{name} reached the gantry without a record of its release before it")
            continue
        if release.said["digest"] != got["digest"]:
            made.wrong.append(f"{name} is not what was released")
        verdict = _before(about, "verdict", got)
        if verdict is None or verdict.said["request"] != release.said["request"] or verdict.at > release.at:
            made.wrong.append(f"{name} was released without a verdict")
            continue
        if verdict.said["verdict"] == "RELEASE":
            continue
        act = _before(about, "operator", got)
        if (
            verdict.said["verdict"] == "ALERT"
            and act is not None
            and act.said["decision"] == "release"
            and act.said["request"] == release.said["request"]
            and act.said["digest"] == got["digest"]
        ):
            made.by_operator += 1
        else:
            made.wrong.append(f"{name} was released against the verdict {verdict.said['verdict']}")


def _triggers(made: Checked, journal: Sequence[Told], log: Sequence[Entry]) -> None:
    """Triggers: of a load that is there, recorded before, one for each element."""
    index = _by_id(log)
    loaded: set[str] = set()
    begun: Counter[tuple[str, int]] = Counter()
    for got in journal:
        if got["what"] == "load":
            loaded.add(got["id"])
        if got["what"] != "trigger":
            continue
        made.triggers += 1
        name = f"trigger {got['id']} of {got['load']}/{got['element']}"
        record = _before(index.get(got["id"], []), "trigger", got)
        if record is not None:
            if (record.said["load"], record.said["element"]) != (got["load"], got["element"]):
                made.wrong.append(f"{name} is not what was recorded")
        elif any(element < got["element"] for load, element in begun if load == got["load"]):
            made.committed += 1  # the chain had begun: it does not wait for a log that has failed
            if not any(e.kind in ("trigger", "sent", "alert") for e in index.get(got["id"], [])):
                made.wrong.append(f"{name} passed before its record, and the log never told of it")
        else:
            made.wrong.append(f"{name} reached the gantry without a record before it")
        if got["load"] not in loaded:
            made.wrong.append(f"{name}: the gantry holds no such load")
        begun[got["load"], got["element"]] += 1
    made.wrong += [f"{load}/{element} was begun {n} times" for (load, element), n in begun.items() if n > 1]


def _unknown(made: Checked, journal: Sequence[Told], log: Sequence[Entry]) -> None:
    """What a life left open is told by the next one as unknown, and never reaches the gantry after that."""
    received = {
        (said["what"], said["id"]): said["t"] for said in journal if said["what"] in ("load", "trigger")
    }
    starts = {e.life: e.at for e in log if e.kind == "start"}
    told: dict[int, set[str]] = {}
    for entry in log:
        if entry.kind == "unknown":
            told.setdefault(entry.life, set()).add(str(entry.said.get("id")))
    for life in range(1, made.lives):
        left: dict[int, dict[str, Any]] = {}
        for entry in (e for e in log if e.life == life):
            if entry.kind in ("release", "trigger"):
                left[int(entry.said["record"])] = entry.said
            elif entry.kind in ("sent", "withdrawn"):
                left.pop(int(entry.said.get("token", 0)), None)
        for said in left.values():
            made.unknown += 1
            if said["id"] not in told.get(life + 1, set()):
                made.wrong.append(f"{said['kind']} {said['id']} was left open and is not told as unknown")
            at = received.get(("load" if said["kind"] == "release" else "trigger", said["id"]))
            if at is None:
                continue
            made.unknown_sent += 1
            if at > starts[life + 1]:
                made.wrong.append(f"{said['kind']} {said['id']} was sent after it was told as unknown")

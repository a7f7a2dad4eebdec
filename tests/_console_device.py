"""A small site for the tests of the device page: a signed bundle that knows what it learned from, rows of a history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import _bundle
from scanward.bundle import Bundle
from scanward.commands import Command, Examination
from scanward.console.history_store import HistoryStore
from scanward.layers.base import Part
from scanward.layers.encoding import Encoder, learn_encoder
from scanward.learning.seen import seen
from scanward.simulation import Site

UNITS = 199
BUDGET = 0.05
LEARNED, LATER = 300, 160
KEY = _bundle.KEY
DAY = 86_400.0


@dataclass(frozen=True)
class World:
    """Examinations learned from, later ones of the same site, and the encoder that was learned."""

    early: tuple[Examination, ...]
    later: tuple[Examination, ...]
    encoder: Encoder


@cache
def world() -> World:
    """Made once."""
    site = Site(11)
    early, later = tuple(site.examinations(LEARNED)), tuple(site.examinations(LATER, LEARNED))
    return World(early, later, learn_encoder(tuple(c for e in early[:225] for c in e.commands)))


def told_of_training() -> dict[str, Any]:
    """What training says: the encoder was learned from three quarters."""
    return seen(world().encoder, world().early, 0.25)


def part() -> Part:
    """What the console reads of a bundle's part."""
    scores = [at / UNITS for at in range(UNITS)]
    return Part(
        {
            "encoder": world().encoder.settings(),
            "budget": BUDGET,
            "calibrations": {"examination": scores, "command": scores[:20]},
        },
        {},
        {},
    )


def bundle_in(folder: Path, version: int = 7, part_: Part | None = None, **metrics: Any) -> Path:
    """A signed bundle on the disk. ``metrics`` replace what it says it learned from."""
    told = metrics or {"seen": told_of_training()}
    facts = replace(_bundle.FACTS, metrics=told, version=version, fields=())
    folder.mkdir(parents=True, exist_ok=True)
    return _bundle.lay(_bundle.files_of(part_ or part(), facts), folder)


def bundle(**metrics: Any) -> Bundle:
    """The same in memory, verified."""
    told = metrics or {"seen": told_of_training()}
    return _bundle.check(_bundle.files_of(part(), replace(_bundle.FACTS, metrics=told, fields=())))


# --- rows of a history

ROW: dict[str, Any] = {
    "scanner": "ct1",
    "log_id": "l",
    "seq": 1,
    "at": 0.0,
    "life": 1,
    "load": "L",
    "kind": "command",
    "digest": "",
    "examination": "",
    "patient": "",
    "element": 0,
    "elements": 1,
    "mode": "CLINICAL",
    "verdict": "RELEASE",
    "layer": "",
    "fields": "[]",
    "reason": "",
    "p_value": None,
    "bundle": "",
    "outcome": "released",
    "protocol": "",
    "body_part": "",
    "parameters": "{}",
    "context": "{}",
}


def insert(store: HistoryStore, rows: Iterable[dict[str, Any]]) -> None:
    """Rows of ``judged``; what they do not say is as in `ROW`."""
    with store.writing() as db:
        for row in rows:
            told = ROW | row
            names = ", ".join(told)
            places = ", ".join(f":{name}" for name in told)
            db.execute(f"INSERT INTO judged ({names}) VALUES ({places})", told)


def row_of(command: Command, **changes: Any) -> dict[str, Any]:
    """A row as the import makes it of a command."""
    context = {
        name: [{"value": one.value, "source": one.source.value} for one in told]
        for name, told in command.context.parts.items()
    }
    return {
        "examination": command.examination or "",
        "protocol": command.text("ProtocolName") or "",
        "parameters": json.dumps(dict(command.parameters)),
        "context": json.dumps(context),
        **changes,
    }


def rows_of(
    examinations: Sequence[Examination],
    since: float,
    until: float,
    change: Callable[[Command], Command] = lambda command: command,
    **changes: Any,
) -> list[dict[str, Any]]:
    """All commands of examinations, evenly over a time, an examination within a minute."""
    step = (until - since) / len(examinations)
    return [
        row_of(
            change(command), at=since + n * step + m, seq=1000 * n + m, examination=one.identifier, **changes
        )
        for n, one in enumerate(examinations)
        for m, command in enumerate(one.commands)
    ]

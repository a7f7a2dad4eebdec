"""A webhook: one HTTPS POST with a JSON object for each record."""

from __future__ import annotations

import json
from contextlib import suppress

from scanward.shipping.events import Event, Source
from scanward.shipping.http import Poster


def body_of(event: Event, source: Source) -> bytes:
    """``{"source", "log", "seq", "hash", "time", "kind", "record"}``; ``record`` is the record's JSON or its text."""
    told: dict[str, object] = {
        "source": source.name,
        "log": event.log_id,
        "seq": event.seq,
        "hash": event.hash,
        "time": event.time,
        "kind": event.kind,
        "record": event.text,
    }
    with suppress(ValueError):
        told["record"] = json.loads(event.text)
    return json.dumps(told, ensure_ascii=True).encode("ascii")


def deliver(poster: Poster, event: Event, source: Source) -> None:
    """Post one record. ``Idempotency-Key`` names it, so that a receiver can drop what came twice."""
    poster.post(body_of(event, source), {"Idempotency-Key": event.uri})

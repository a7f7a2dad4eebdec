"""Where events go: each sink takes some and returns when they are out, or raises ShippingError."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Protocol

from scanward.config import SHIPPING_BOUNDS, ShippingBounds
from scanward.errors import InputError, ShippingError
from scanward.shipping.atna import audit_message
from scanward.shipping.events import Event, Source
from scanward.shipping.fhir import batch, ndjson_line
from scanward.shipping.http import Poster
from scanward.shipping.syslog import SyslogSender, dicom_message, record_message
from scanward.shipping.webhook import body_of, deliver


class Form(StrEnum):
    """What events are made into."""

    SYSLOG = "syslog"
    ATNA = "atna"
    FHIR = "fhir"
    WEBHOOK = "webhook"


class Sink(Protocol):
    """Takes events in order."""

    def deliver(self, events: Sequence[Event]) -> None:
        """Send all of them."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class SyslogSink:
    """Syslog messages: of the records themselves, or DICOM audit messages inside."""

    def __init__(self, sender: SyslogSender, source: Source, *, dicom: bool) -> None:
        self._sender, self._source, self._dicom = sender, source, dicom

    def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            # A checkpoint stays a line in both, so that the server can be a witness.
            if self._dicom and not event.is_checkpoint:
                data = dicom_message(audit_message(event, self._source), event, self._source)
            else:
                data = record_message(event, self._source)
            self._sender.send(data)

    def close(self) -> None:
        self._sender.close()


class FhirSink:
    """Batches of AuditEvents posted to a FHIR server."""

    def __init__(self, poster: Poster, source: Source, bounds: ShippingBounds = SHIPPING_BOUNDS) -> None:
        self._poster, self._source, self._bounds = poster, source, bounds

    def deliver(self, events: Sequence[Event]) -> None:
        size = self._bounds.bundle_events
        for at in range(0, len(events), size):
            self._poster.post(batch(events[at : at + size], self._source))

    def close(self) -> None:
        """Nothing is held."""


class WebhookSink:
    """One POST for each event."""

    def __init__(self, poster: Poster, source: Source) -> None:
        self._poster, self._source = poster, source

    def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            deliver(self._poster, event, self._source)

    def close(self) -> None:
        """Nothing is held."""


class FileSink:
    """One event a line, appended to a file."""

    def __init__(self, path: Path, form: Form, source: Source) -> None:
        lines: dict[Form, Callable[[Event], str]] = {
            Form.SYSLOG: lambda e: record_message(e, source).decode("utf-8"),
            Form.ATNA: lambda e: audit_message(e, source),
            Form.FHIR: lambda e: ndjson_line(e, source),
            Form.WEBHOOK: lambda e: body_of(e, source).decode("ascii"),
        }
        self._line = lines[form]
        try:
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot be written: {error.strerror}", str(path), "choose another file"
            ) from error
        self._path = path

    def deliver(self, events: Sequence[Event]) -> None:
        try:
            for event in events:
                self._file.write(self._line(event) + "\n")
            self._file.flush()
        except OSError as error:
            raise ShippingError(
                f"the file cannot be written: {error.strerror}", str(self._path), "free some space"
            ) from error

    def close(self) -> None:
        self._file.close()

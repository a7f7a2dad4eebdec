"""A study over DICOMweb: its list by QIDO-RS (PS3.18 10.6), its objects by WADO-RS (10.4), with bounds on both.

Plain ``http.client``: no redirects are followed (one could lead anywhere, with our credentials), every answer has a
length it may not exceed, and nothing is held in memory but the piece that is being written.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from scanward import __version__
from scanward.config import FETCH_BOUNDS, FetchBounds
from scanward.errors import DecodeError, InputError, LinkError, SettingsError
from scanward.forensics.fetching_folder import Landing
from scanward.forensics.multipart import boundary_of, parts
from scanward.transport.dicom_part10 import is_uid

_CHUNK: Final = 256 << 10
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_ACCEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_INSTANCE: Final = "00080018"


@dataclass(frozen=True, slots=True)
class WebArchive:
    """A DICOMweb service.

    Attributes
    ----------
    url : str
        Its base, as ``https://pacs.example.org/dicom-web``.
    headers : mapping
        Sent with every request, as ``{"Authorization": "Bearer ..."}``. Over plain http to another machine refused.
    context : SSLContext, optional
        For https; the system's authorities when None.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    context: ssl.SSLContext | None = field(default=None, compare=False)


def fetch_by_web(
    source: WebArchive, study: str, landing: Landing, bounds: FetchBounds = FETCH_BOUNDS
) -> None:
    """Fetch a study into ``landing``.

    Raises
    ------
    InputError
        A base that is none, or no such study.
    LinkError
        The service cannot be reached, refuses, breaks a bound, or does not send what it listed.
    """
    base = _base(source)
    until = time.monotonic() + bounds.whole_seconds
    query = f"{base.path}/studies/{study}/instances?includefield={_INSTANCE}&limit={bounds.instances + 1}"
    with _answer(source, base, query, "application/dicom+json", bounds) as answer:
        if answer.status == 204:
            raise InputError("the archive has no such study", study, "check the Study Instance UID")
        listed = _listed(_whole(answer, bounds.list_bytes, base), base)
    if not listed:
        raise InputError("the archive has no such study", study, "check the Study Instance UID")
    if len(listed) > bounds.instances:
        raise LinkError(f"a study of more than {bounds.instances} objects", study, "this is no study")
    landing.total = len(listed)
    with _answer(source, base, f"{base.path}/studies/{study}", _ACCEPT, bounds) as answer:
        _land(answer, landing, len(listed), bounds, until, base)
    missing = listed - landing.instances()
    if missing:
        raise LinkError(
            f"{len(listed) - len(missing)} of {len(listed)} objects came", study, "look at the archive's log"
        )


def _land(
    answer: http.client.HTTPResponse,
    landing: Landing,
    most: int,
    bounds: FetchBounds,
    until: float,
    base: SplitResult,
) -> None:
    def read() -> bytes:
        if time.monotonic() > until:
            raise LinkError("the answer does not end", base.geturl(), "look at the archive's log")
        return _read(answer, base)

    try:
        boundary = boundary_of(answer.getheader("Content-Type", ""))
        for number, (_, body) in enumerate(parts(read, boundary, bounds.head_bytes)):
            if number >= most:
                raise LinkError("more objects than were listed", base.geturl(), "fetch it anew")
            landing.take(body)
    except DecodeError as error:
        raise LinkError(
            f"an answer that is no study: {error.what}", base.geturl(), "look at the archive"
        ) from error


def _base(source: WebArchive) -> SplitResult:
    try:
        base = urlsplit(source.url.rstrip("/"))
        port = base.port
    except ValueError as error:
        raise SettingsError("not an address", source.url[:8], "give http(s)://HOST/PATH") from error
    plain = all("!" <= c <= "~" for c in source.url)
    if (
        base.scheme not in ("http", "https")
        or not base.hostname
        or base.query
        or base.fragment
        or port == 0
        or base.username is not None
        or not plain
    ):
        todo = "give http(s)://HOST[:PORT]/PATH, and credentials as a header"
        # Not quoted whole: it may hold a password.
        raise SettingsError("not the base of a DICOMweb service", source.url.partition(":")[0][:20], todo)
    if source.headers and base.scheme == "http" and base.hostname not in _LOCAL:
        raise SettingsError("credentials over plain http", base.hostname, "use https")
    if any(c in text for pair in source.headers.items() for text in pair for c in "\r\n\0"):
        raise SettingsError("a header of more than one line", "headers", "give one line each")
    return base


@contextmanager
def _answer(
    source: WebArchive, base: SplitResult, target: str, accept: str, bounds: FetchBounds
) -> Iterator[http.client.HTTPResponse]:
    """One request; LinkError unless the status is 200 or 204, InputError for 404."""
    host = base.hostname or ""
    connection: http.client.HTTPConnection
    if base.scheme == "https":
        context = source.context or ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, base.port, timeout=bounds.connect_seconds, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, base.port, timeout=bounds.connect_seconds)
    own = {"Accept": accept, "User-Agent": f"Scanward/{__version__}"}
    try:
        answer = _asked(connection, target, {**own, **source.headers}, base, bounds)
        if answer.status == 404:
            raise InputError(
                "the archive has no such study", base.geturl(), "check Study Instance UID and base"
            )
        if answer.status in (401, 403):
            raise LinkError(f"refused ({answer.status})", base.geturl(), "give credentials that may read")
        if 300 <= answer.status < 400:
            raise LinkError(f"a redirect ({answer.status})", base.geturl(), "give the address it leads to")
        if answer.status not in (200, 204):
            raise LinkError(f"status {answer.status}", base.geturl(), "look at the archive's log")
        yield answer
    finally:
        connection.close()


def _asked(
    connection: http.client.HTTPConnection,
    target: str,
    headers: Mapping[str, str],
    base: SplitResult,
    bounds: FetchBounds,
) -> http.client.HTTPResponse:
    try:
        connection.connect()
        if connection.sock is not None:
            connection.sock.settimeout(bounds.answer_seconds)
        connection.request("GET", target, headers=dict(headers))
        return connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreached(error, base) from error


def _read(answer: http.client.HTTPResponse, base: SplitResult) -> bytes:
    """The next piece; b"" at the end. An answer that breaks off is an error."""
    try:
        piece = answer.read1(_CHUNK)
        if not piece and answer.length:  # fewer bytes than Content-Length said
            raise http.client.IncompleteRead(b"", answer.length)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreached(error, base) from error
    return piece


def _unreached(error: Exception, base: SplitResult) -> LinkError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return LinkError(
        f"the archive cannot be read ({reason})", base.geturl(), "check address, network, certificate"
    )


def _whole(answer: http.client.HTTPResponse, most: int, base: SplitResult) -> bytes:
    found = bytearray()
    while piece := _read(answer, base):
        found += piece
        if len(found) > most:
            raise LinkError(f"a list of more than {most} bytes", base.geturl(), "this is no study")
    return bytes(found)


def _listed(text: bytes, base: SplitResult) -> frozenset[str]:
    """SOP Instance UIDs of a QIDO-RS answer (PS3.18 F.2)."""
    todo = "look whether this is the base of a DICOMweb service"
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LinkError("a list that is no JSON", base.geturl(), todo) from error
    found: set[str] = set()
    for one in told if isinstance(told, list) else [told]:
        value = one.get(_INSTANCE) if isinstance(one, dict) else None
        values = value.get("Value") if isinstance(value, dict) else None
        uid = values[0] if isinstance(values, list) and values else None
        if not isinstance(uid, str) or not is_uid(uid):
            raise LinkError("a list without SOP Instance UIDs", base.geturl(), todo)
        found.add(uid)
    return frozenset(found)

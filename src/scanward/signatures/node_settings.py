"""What a node is told: where it listens, who may call, where objects go on to, and TLS for both.

Nothing here needs pynetdicom or a key.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from scanward.config import DICOM_BOUNDS, NODE_BOUNDS, DicomBounds, NodeBounds
from scanward.errors import SettingsError
from scanward.transport.dicom import Peer, title_problem


class OnDoubt(StrEnum):
    """What becomes of an object that is not genuine."""

    REFUSE = "refuse"  # a failure to the sender, nothing goes on
    FLAG = "flag"  # it goes on as it is, is told and counted
    QUARANTINE = "quarantine"  # refused, and a copy is kept in a folder


@dataclass(frozen=True, slots=True)
class NodeTls:
    """Contexts of both directions; both ask the peer for a certificate of the site's authority."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """A node's side of the network.

    Attributes
    ----------
    title : str
        Its AE title, as acceptor and as caller of the next hop.
    listen : (host, port)
        Port 0 takes a free one.
    callers : frozenset of str
        AE titles that may send.
    onward : Peer
        The next hop.
    hosts : frozenset of str
        Addresses that may connect; empty: any.
    """

    title: str
    listen: tuple[str, int]
    callers: frozenset[str]
    onward: Peer
    hosts: frozenset[str] = frozenset()
    tls: NodeTls | None = None
    bounds: NodeBounds = NODE_BOUNDS

    def __post_init__(self) -> None:
        """SettingsError for AE titles that are none."""
        for option, each in (("--title", self.title), *(("--caller", one) for one in sorted(self.callers))):
            if problem := title_problem(each):
                raise SettingsError(problem, f"{option} {each!r}", "write it as the peer is configured")

    def dicom_bounds(self) -> DicomBounds:
        """The bounds of the node's associations."""
        bounds = self.bounds
        return replace(
            DICOM_BOUNDS,
            pdu_bytes=bounds.pdu_bytes,
            # headers of PDUs and the command set come on top of the object
            unanswered_bytes=bounds.object_bytes + bounds.object_bytes // 64 + (1 << 20),
            associations=bounds.associations,
            idle_seconds=bounds.idle_seconds,
            association_seconds=bounds.association_seconds,
            connect_seconds=bounds.connect_seconds,
            answer_seconds=bounds.answer_seconds,
        )

    @property
    def plain(self) -> bool:
        """Whether anybody on the way can read and change what passes, beyond this machine."""
        return self.tls is None and not (_here(self.listen[0]) and _here(self.onward.host))


def _here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def address_of(text: str, option: str) -> tuple[str, int]:
    """``host:port``, ``[::1]:port`` or ``:port`` (of this machine alone).

    Raises
    ------
    SettingsError
        Something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{text!r} is no address", option, "give HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def peer_of(text: str, option: str, tls: NodeTls | None = None, name: str = "") -> Peer:
    """``TITLE@host:port``; ``name`` is what its certificate must carry instead of the host.

    Raises
    ------
    SettingsError
        Something else, or no AE title.
    """
    title, at, address = text.rpartition("@")
    if not at or title_problem(title):
        raise SettingsError(f"{text!r} is no application entity", option, "give TITLE@HOST:PORT")
    host, port = address_of(address, option)
    if port == 0:
        raise SettingsError("port 0 cannot be called", option, "give the port that it listens on")
    return Peer(host, port, title.strip(), tls.client if tls else None, name)


def tls_of(certificate: Path, key: Path, authority: Path) -> NodeTls:
    """Contexts for both directions: TLS 1.2 or later (PS3.15 B.9 to B.13 follow BCP 195), certificates of both sides.

    Raises
    ------
    SettingsError
        A file that cannot be used.
    """
    found = []
    for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(kind)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            # A callable, so that OpenSSL never asks on a terminal that nobody watches.
            context.load_cert_chain(certificate, key, lambda: b"")
            context.load_verify_locations(authority)
        except (OSError, ValueError) as error:
            reason = (
                getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            )
            todo = "give PEM files that fit, the key without a passphrase"
            raise SettingsError(
                f"TLS files that cannot be used ({reason})", str(certificate), todo
            ) from error
        found.append(context)
    return NodeTls(*found)

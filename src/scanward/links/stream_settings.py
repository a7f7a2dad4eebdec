"""What a stream link is told: where to listen, where the gantry is, who both may be, and for which device."""

from __future__ import annotations

from dataclasses import dataclass, field

from scanward.commands.model import Device
from scanward.config import STREAM_BOUNDS, TCP_BOUNDS, StreamBounds, TcpBounds
from scanward.links.identifiers import Identifiers
from scanward.transport.tls import Pins, TlsFiles


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One stream link.

    Attributes
    ----------
    device : Device
        The scanner, ``serial`` in clear; what it leaves empty is not asked for.
    listen, gantry : (address, port)
        Where the host connects to, and where the gantry listens.
    tls : TlsFiles or None
        None is plain TCP: ``unsafe_plaintext``.
    host_pins, gantry_pins : Pins
        Who the peers may be; of no use without TLS.
    site_key : bytes or None
        Under which identifiers are hashed.
    heartbeat_s, silence_s : float
        Seconds between two heartbeats of ours; seconds of silence after which a peer is lost.
    """

    device: Device
    listen: tuple[str, int]
    gantry: tuple[str, int]
    tls: TlsFiles | None = None
    passphrase: bytes | None = field(default=None, repr=False)
    host_pins: Pins = field(default_factory=Pins)
    gantry_pins: Pins = field(default_factory=Pins)
    site_key: bytes | None = field(default=None, repr=False)
    heartbeat_s: float = 1.0
    silence_s: float = 3.0
    bounds: TcpBounds = TCP_BOUNDS
    lines: StreamBounds = STREAM_BOUNDS


def stranger(expected: Device, said: Device, identifiers: Identifiers) -> str:
    """How ``said`` (its serial number hashed) is another device than ``expected``; "" when it is not.

    A name that the configuration leaves empty is not asked for; one that the peer leaves empty is missing.
    """
    pairs = (
        ("Manufacturer", expected.manufacturer, said.manufacturer),
        ("ManufacturerModelName", expected.model, said.model),
    )
    for name, wanted, found in pairs:
        if wanted and wanted.strip().casefold() != found.strip().casefold():
            return f"another device: {name} is {found!r}"
    if expected.serial and identifiers.hash(expected.serial) != said.serial:
        return "another device: DeviceSerialNumber differs"
    return ""

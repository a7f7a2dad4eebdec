"""``guard.toml``: what one guard is told. Every error names its line and the cure; docs/guard.md lists the keys.

Paths are relative to the folder of the file. Nothing is looked at here but the file itself: whether keys,
certificates, policy and bundle can be used is asked by `config_check` and at the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from scanward.commands.model import Device
from scanward.config import RELAY_BOUNDS
from scanward.errors import SettingsError
from scanward.guard.toml_lines import Section, parse
from scanward.transport.tls import Pins, TlsFiles

_NAMES = r"[A-Za-z0-9._-]{1,253}"
_DIGEST = r"[0-9a-f]{64}"
_TITLE = r"[!-\[\]-~]{1,16}"  # PS3.8 9.3.1: no backslash, here no spaces either
_ENTITY = re.compile(rf"(?P<title>{_TITLE})@(?P<host>[^@]+):(?P<port>\d{{1,5}})")


class LinkType(StrEnum):
    """Which wire."""

    STREAM = "stream"
    CAN = "can"
    DICOM = "dicom"


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """``[judge]``. ``keys``: public keys whose bundles count; ``versions``: memory of the highest accepted."""

    bundle: Path
    keys: tuple[Path, ...]
    versions: Path


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """``[policy]``: policy and device profile, whose signatures count, and the versions accepted so far."""

    path: Path
    profile: Path
    keys: tuple[Path, ...]
    versions: Path


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """``[audit]``: folder of the log, key of its checkpoints, and where they are witnessed (None: nowhere)."""

    folder: Path
    key: Path
    witness: Path | None


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """``[control]``: the socket that operators' terminals connect to, and where consoles elsewhere do.

    ``listen`` None: nowhere. With it, ``tls`` and ``pins`` say who we are and who a console may be.
    """

    socket: Path
    listen: tuple[str, int] | None = None
    tls: TlsFiles | None = None
    pins: Pins = field(default_factory=Pins)


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """``[host]``, ``[gantry]`` and ``[tls]`` of a stream link."""

    listen: tuple[str, int]
    gantry: tuple[str, int]
    tls: TlsFiles | None
    host_pins: Pins
    gantry_pins: Pins
    heartbeat_s: float
    silence_s: float


@dataclass(frozen=True, slots=True)
class CanConfig:
    """``[can]``: the profile of the gantry, and a bus on each side. ``record``: a log of every frame, or None."""

    profile: Path
    interface: str
    host: str
    gantry: str
    options: tuple[tuple[str, int], ...] = ()
    record: Path | None = None


@dataclass(frozen=True, slots=True)
class WorklistConfig:
    """``[worklist]``: the guard's own source of context. ``tls`` None: plain."""

    title: str
    server: str
    address: tuple[str, int]
    name: str
    tls: TlsFiles | None
    wait_s: float


@dataclass(frozen=True)
class GuardConfig:
    """All of ``guard.toml``.

    Attributes
    ----------
    judge : JudgeConfig or None
        None is for `scanward record` alone: there is no bundle before something was recorded.
    device : Device
        ``serial`` in clear, as the scanner tells it.
    site_key : Path or None
        Under which identifiers are hashed; the one of training.
    stream : StreamConfig or None
        Set for a stream link.
    can : CanConfig or None
        Set for a CANopen link.
    dicom : Section or None
        The table of a DICOM link, for `dicom_config`: that guard is a process of another kind.
    worklist : WorklistConfig or None
        Who is asked about the patient.
    doses : Path or None
        The socket on which a receiver of dose reports tells what was delivered.
    weakenings : tuple of str
        Everything ``unsafe_...`` in the file.
    """

    path: Path
    device: Device
    link: LinkType
    site_key: Path | None
    policy: PolicyConfig
    judge: JudgeConfig | None
    audit: AuditConfig
    control: ControlConfig
    stream: StreamConfig | None
    can: CanConfig | None = None
    dicom: Section | None = field(default=None, repr=False, compare=False)
    weakenings: tuple[str, ...] = ()
    worklist: WorklistConfig | None = None
    doses: Path | None = None


def load_config(path: Path) -> GuardConfig:
    """Read ``guard.toml``.

    Raises
    ------
    SettingsError
        Not there, or wrong: what, in which line, what to do.
    """
    try:
        with path.open("rb") as file:
            data = file.read(RELAY_BOUNDS.config_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(
            f"the configuration cannot be read: {reason}", str(path), "give the path of a guard.toml"
        ) from error
    return parse_config(data, path)


def parse_config(data: bytes, path: Path) -> GuardConfig:
    """The configuration in ``data``, with paths relative to the folder of ``path``."""
    top, _ = parse(data, str(path), RELAY_BOUNDS.config_bytes, SettingsError)
    reader = _Reader(path.absolute().parent)
    device = reader.device(top.section("device", needed=True))
    link = top.section("link", needed=True)
    kind: LinkType = link.choice("type", LinkType)
    heartbeat = link.number("heartbeat", 1.0, low=0.05, high=60.0, unit="s")
    silence = link.number("silence", 3.0, low=0.1, high=300.0, unit="s")
    if silence < 2 * heartbeat:
        raise link.fail("shorter than two heartbeats", "silence", f"give at least {2 * heartbeat:g}")
    stream = reader.stream(top, heartbeat, silence) if kind is LinkType.STREAM else None
    can = reader.can(top.section("can", needed=True)) if kind is LinkType.CAN else None
    dicom = top.section("dicom", needed=True) if kind is LinkType.DICOM else None  # read by `dicom_config`
    link.done()
    asked = None
    if "worklist" in top:
        section = top.section("worklist")
        if stream is None:
            raise section.fail("only a stream link asks a worklist", None, "remove the table")
        asked = reader.worklist(section, stream.tls)
    doses = reader.doses(top.section("doses"), kind) if "doses" in top else None
    site = top.section("site")
    site_key = reader.path(site, "key", None)
    site.done()
    config = GuardConfig(
        path,
        device,
        kind,
        site_key,
        reader.policy(top.section("policy", needed=True)),
        reader.judge(top.section("judge")) if "judge" in top else None,
        reader.audit(top.section("audit", needed=True)),
        reader.control(top.section("control", needed=True)),
        stream,
        can,
        dicom,
        tuple(reader.weak),
        asked,
        doses,
    )
    top.done()
    return config


class _Reader:
    """Sections to dataclasses; remembers what weakens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.weak: list[str] = []

    def path(self, section: Section, key: str, *default: Any) -> Any:
        """A path, relative to the configuration's folder."""
        text = section.text(key, *default, most=4096)
        if text is None:
            return None
        if not text:
            raise section.fail("is empty", key, "give a path")
        return self._folder / text

    def paths(self, section: Section, key: str) -> tuple[Path, ...]:
        """At least one path."""
        texts = section.texts(key, most=64)
        if not texts or not all(texts):
            raise section.fail("needs at least one path", key, f'write {key} = ["site.pub"]')
        return tuple(self._folder / text for text in texts)

    def device(self, section: Section) -> Device:
        """Maker and model are needed: a guard stands before one scanner."""
        found = Device(
            section.text("Manufacturer", most=64, pattern=r".*\S.*"),
            section.text("ManufacturerModelName", most=64, pattern=r".*\S.*"),
            section.text("DeviceSerialNumber", "", most=64),
            section.text("SoftwareVersions", "", most=64),
        )
        section.done()
        return found

    def stream(self, top: Section, heartbeat: float, silence: float) -> StreamConfig:
        """[host], [gantry], [tls]."""
        host, gantry = top.section("host", needed=True), top.section("gantry", needed=True)
        tls = self._tls(top.section("tls", needed=True))
        found = StreamConfig(
            _address(host, "listen", least=0),
            _address(gantry, "connect", least=1),
            tls,
            self._pins(host, tls),
            self._pins(gantry, tls),
            heartbeat,
            silence,
        )
        host.done()
        gantry.done()
        return found

    def _tls(self, section: Section) -> TlsFiles | None:
        if section.flag("unsafe_plaintext", False):
            left = [key for key in ("certificate", "key", "authority", "crl") if key in section]
            if left:
                raise section.fail("unsafe_plaintext contradicts it", left[0], "keep one of the two")
            self.weak.append("tls.unsafe_plaintext")
            section.done()
            return None
        found = TlsFiles(
            self.path(section, "certificate"),
            self.path(section, "key"),
            self.path(section, "authority"),
            self.path(section, "crl", None),
        )
        section.done()
        return found

    def _pins(self, section: Section, tls: TlsFiles | None) -> Pins:
        names, digests = section.texts("names", (), most=16), section.texts("fingerprints", (), most=16)
        for key, values, pattern in (("names", names, _NAMES), ("fingerprints", digests, _DIGEST)):
            for value in values:
                _matching(section, key, value.lower() if key == "fingerprints" else value, pattern)
        if tls is not None and not names and not digests:
            todo = 'write names = ["..."]: the DNS name in its certificate'
            raise section.fail("nobody may connect: neither names nor fingerprints", None, todo)
        if tls is None and (names or digests):
            raise section.fail(
                "is asked of nobody without TLS", "names" if names else "fingerprints", "remove it"
            )
        return Pins(frozenset(names), frozenset(digest.lower() for digest in digests))

    def can(self, section: Section) -> CanConfig:
        """[can]. ``port`` is that of a multicast bus towards the host; the gantry's has the next one."""
        port = section.whole("port", 0, high=65535)
        found = CanConfig(
            self.path(section, "profile"),
            section.text("interface", "socketcan", most=64),
            section.text("host", most=64, pattern=r"\S+"),
            section.text("gantry", most=64, pattern=r"\S+"),
            (("port", port),) if port else (),
            self.path(section, "record", None),
        )
        if found.host == found.gantry:
            raise section.fail(
                "both sides are the same bus", "gantry", "give two buses: the guard stands between"
            )
        section.done()
        return found

    def worklist(self, section: Section, tls: TlsFiles | None) -> WorklistConfig:
        """[worklist]. Its TLS uses the files of [tls]."""
        match = _ENTITY.fullmatch(section.text("server"))
        if match is None or not 0 < int(match["port"]) < 65536:
            raise section.fail("is no application entity", "server", 'write server = "RIS@192.0.2.9:104"')
        plain = bool(section.flag("unsafe_plaintext", False))
        name = section.text("name", "", most=253)
        if plain:
            self.weak.append("worklist.unsafe_plaintext")
        elif tls is None or not name:
            todo = (
                'write name = "...", the DNS name in its certificate (and [tls]), or unsafe_plaintext = true'
            )
            raise section.fail("anybody on the network could answer in its name", None, todo)
        found = WorklistConfig(
            section.text("title", "SCANWARD", pattern=_TITLE),
            match["title"],
            (match["host"], int(match["port"])),
            name,
            None if plain else tls,
            section.number("wait", 0.5, low=0.05, high=1.5, unit="s"),
        )
        section.done()
        return found

    def doses(self, section: Section, kind: LinkType) -> Path:
        """[doses]."""
        if kind is LinkType.DICOM:
            todo = "put it into guard.toml of that guard, and here write relay = ... into [dicom.reports]"
            raise section.fail("only a guard between host and gantry keeps accounts of dose", None, todo)
        found: Path = self.path(section, "socket", "run/doses.sock")
        section.done()
        return found

    def policy(self, section: Section) -> PolicyConfig:
        """[policy]."""
        found = PolicyConfig(
            self.path(section, "path"),
            self.path(section, "profile"),
            self.paths(section, "keys"),
            self.path(section, "versions", "state/policy-versions.json"),
        )
        section.done()
        return found

    def judge(self, section: Section) -> JudgeConfig:
        """[judge]."""
        found = JudgeConfig(
            self.path(section, "bundle"),
            self.paths(section, "keys"),
            self.path(section, "versions", "state/bundle-versions.json"),
        )
        section.done()
        return found

    def audit(self, section: Section) -> AuditConfig:
        """[audit]."""
        found = AuditConfig(
            self.path(section, "dir"), self.path(section, "key"), self.path(section, "witness", None)
        )
        section.done()
        return found

    def control(self, section: Section) -> ControlConfig:
        """[control]."""
        socket = self.path(section, "socket", "run/control.sock")
        if "listen" not in section:
            section.done()  # the keys of TLS without it are unknown ones
            return ControlConfig(socket)
        tls = TlsFiles(
            self.path(section, "certificate"),
            self.path(section, "key"),
            self.path(section, "authority"),
            self.path(section, "crl", None),
        )
        found = ControlConfig(socket, _address(section, "listen", least=0), tls, self._pins(section, tls))
        section.done()
        return found


def _matching(section: Section, key: str, value: str, pattern: str) -> None:
    if not re.fullmatch(pattern, value):
        todo = "give the DNS name in its certificate"
        if key == "fingerprints":
            todo = "give 64 hexadecimal digits: openssl x509 -fingerprint -sha256, without the colons"
        raise section.fail(f"{value!r} is none", key, todo)


def _address(section: Section, key: str, *, least: int) -> tuple[str, int]:
    text: str = section.text(key, most=300)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not least <= int(port) <= 65535:
        raise section.fail(f"{text!r} is no address", key, f'write {key} = "127.0.0.1:4711"')
    return host, int(port)

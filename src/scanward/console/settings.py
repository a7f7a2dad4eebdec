"""``console.toml``: what one console is told. Every error names its line and the cure; docs/console.md lists the keys.

Paths are relative to the folder of the file. Nothing is looked at here but the file itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scanward.config import ALERTING_BOUNDS, CONSOLE_BOUNDS
from scanward.errors import SettingsError
from scanward.guard.toml_lines import Section, parse
from scanward.transport.tls import TlsFiles

_ID: Final = r"[a-z0-9][a-z0-9-]{0,31}"  # stands in addresses
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True)
class WebSettings:
    """``[web]``. Without certificate and key only loopback is served, or a proxy (``behind_proxy``)."""

    listen: tuple[str, int]
    hosts: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    state: Path
    behind_proxy: bool
    idle_seconds: float

    @property
    def accounts(self) -> Path:
        """The file of accounts."""
        return self.state / "accounts.sqlite"

    @property
    def history(self) -> Path:
        """The file of history (`history_store`)."""
        return self.state / "history.sqlite"

    @property
    def records(self) -> Path:
        """The file of the console's own record (`records`)."""
        return self.state / "console.sqlite"

    @property
    def spool(self) -> Path:
        """The folder of alerts on their way out."""
        return self.state / "spool"


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """How a guard's control channel is reached: by ``socket``, or by ``address`` with TLS."""

    socket: Path | None = None
    address: tuple[str, int] | None = None
    tls: TlsFiles | None = None
    name: str = ""

    @property
    def local(self) -> bool:
        """Whether it is a socket of this machine."""
        return self.socket is not None

    def __str__(self) -> str:
        return str(self.socket) if self.address is None else f"{self.address[0]}:{self.address[1]}"


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """One ``[[scanner]]``.

    Attributes
    ----------
    id : str
        Short; stands in addresses.
    audit : Path or None
        Folder of the guard's log, or a copy of it: history and audit pages.
    audit_keys : tuple of Path
        Public keys whose checkpoints of that log count.
    audit_witness : Path or None
        Where its checkpoints are witnessed.
    bundle : Path or None
        A copy of the bundle: pictures and drift.
    bundle_keys : tuple of Path
        Public keys whose bundles count.
    """

    id: str
    name: str
    control: ControlAddress
    audit: Path | None = None
    audit_keys: tuple[Path, ...] = ()
    audit_witness: Path | None = None
    bundle: Path | None = None
    bundle_keys: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ConsoleSettings:
    """All of ``console.toml``. ``alerts``, ``dose_alerts`` and ``oidc`` are as written: their own readers take them."""

    path: Path
    web: WebSettings
    scanners: tuple[ScannerSettings, ...]
    alerts: tuple[Section, ...] = field(default=(), repr=False, compare=False)
    oidc: Section | None = field(default=None, repr=False, compare=False)
    dose_alerts: tuple[Section, ...] = field(default=(), repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """What paths in the file are relative to."""
        return self.path.absolute().parent


def load_settings(path: Path) -> ConsoleSettings:
    """Read ``console.toml``.

    Raises
    ------
    SettingsError
        Not there, or wrong: what, in which line, what to do.
    """
    try:
        with path.open("rb") as file:
            data = file.read(CONSOLE_BOUNDS.config_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(
            f"the configuration cannot be read: {reason}", str(path), "give the path of a console.toml"
        ) from error
    return parse_settings(data, path)


def parse_settings(data: bytes, path: Path) -> ConsoleSettings:
    """The settings in ``data``, with paths relative to the folder of ``path``."""
    top, _ = parse(data, str(path), CONSOLE_BOUNDS.config_bytes, SettingsError)
    reader = _Reader(path.absolute().parent)
    web = reader.web(top.section("web", needed=True))
    sections = top.sections("scanner", most=CONSOLE_BOUNDS.scanners)
    if not sections:
        raise top.fail("no scanner", None, "add [[scanner]] with id, name and control")
    scanners: list[ScannerSettings] = []
    for section in sections:
        found = reader.scanner(section)
        if found.id in {other.id for other in scanners}:
            raise section.fail(f"{found.id!r} stands twice", "id", "give each scanner its own")
        scanners.append(found)
    alerts = top.sections("alert", most=ALERTING_BOUNDS.routes)
    dose_alerts = top.sections("dose_alert", most=ALERTING_BOUNDS.dose_rules)
    oidc = top.section("oidc") if "oidc" in top else None
    top.done()
    return ConsoleSettings(path, web, tuple(scanners), alerts, oidc, dose_alerts)


class _Reader:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, section: Section, key: str, *default: Any) -> Any:
        text = section.text(key, *default, most=4096)
        if text is None:
            return None
        if not text:
            raise section.fail("is empty", key, "give a path")
        return self._folder / text

    def _paths(self, section: Section, key: str) -> tuple[Path, ...]:
        texts = section.texts(key, (), most=64)
        if not all(texts):
            raise section.fail("has an empty path", key, f'write {key} = ["site.pub"]')
        return tuple(self._folder / text for text in texts)

    def web(self, section: Section) -> WebSettings:
        """[web]."""
        found = WebSettings(
            _address(section, "listen", least=0),
            section.texts("hosts", (), most=64),
            self._path(section, "certificate", None),
            self._path(section, "key", None),
            self._path(section, "state", "state"),
            section.flag("behind_proxy", False),
            60.0
            * section.number("idle", CONSOLE_BOUNDS.idle_seconds / 60.0, low=1.0, high=720.0, unit="min"),
        )
        for host in found.hosts:
            if not _NAME.fullmatch(host.strip("[]").replace(":", "-")):
                raise section.fail(f"{host!r} is no name of a host", "hosts", "give it without port")
        if (found.certificate is None) != (found.key is None):
            raise section.fail(
                "a certificate without its key, or a key alone",
                "key" if found.certificate is None else "certificate",
                "give both",
            )
        section.done()
        return found

    def scanner(self, section: Section) -> ScannerSettings:
        """One [[scanner]]."""
        found = ScannerSettings(
            section.text("id", pattern=_ID),
            section.text("name", most=64, pattern=r".*\S.*"),
            self._control(section),
            self._path(section, "audit", None),
            self._paths(section, "audit_keys"),
            self._path(section, "audit_witness", None),
            self._path(section, "bundle", None),
            self._paths(section, "bundle_keys"),
        )
        if found.bundle is not None and not found.bundle_keys:
            raise section.fail("whose bundles count?", "bundle", 'add bundle_keys = ["site.pub"]')
        section.done()
        return found

    def _control(self, section: Section) -> ControlAddress:
        text = section.text("control", most=4096)
        if "tls" not in section:
            if re.fullmatch(r".+:\d{1,5}", text) and "/" not in text:
                todo = "add [scanner.tls] with certificate, key, authority and name, or give a socket's path"
                raise section.fail(f"{text!r} without TLS: anybody could answer in its name", "control", todo)
            if not text:
                raise section.fail("is empty", "control", "give the path of the guard's control socket")
            return ControlAddress(socket=self._folder / text)
        address = _split(section, "control", text, least=1)
        tls = section.section("tls")
        files = TlsFiles(
            self._path(tls, "certificate"),
            self._path(tls, "key"),
            self._path(tls, "authority"),
            self._path(tls, "crl", None),
        )
        name = tls.text("name", most=253)
        if not _NAME.fullmatch(name):
            raise tls.fail(f"{name!r} is none", "name", "give the DNS name in the guard's certificate")
        tls.done()
        return ControlAddress(address=address, tls=files, name=name)


def _address(section: Section, key: str, *, least: int) -> tuple[str, int]:
    return _split(section, key, section.text(key, most=300), least=least)


def _split(section: Section, key: str, text: str, *, least: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not least <= int(port) <= 65535:
        raise section.fail(f"{text!r} is no address", key, f'write {key} = "127.0.0.1:8443"')
    return host, int(port)

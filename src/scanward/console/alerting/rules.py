"""``[[alert]]`` and ``[[dose_alert]]`` of console.toml: where alerts go, which doses are one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from scanward.console.alerting.alert import KINDS, Alert, Severity
from scanward.console.settings import ConsoleSettings
from scanward.console.shared import ROLES
from scanward.guard.toml_lines import Section

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9.-]{1,253}")


class To(StrEnum):
    """What a route speaks."""

    SYSLOG = "syslog"
    ATNA = "atna"
    WEBHOOK = "webhook"
    MAIL = "mail"


class Security(StrEnum):
    """How a mail server is spoken to."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "unsafe_plaintext"


@dataclass(frozen=True, slots=True)
class Route:
    """One ``[[alert]]``: a destination and what goes there.

    Attributes
    ----------
    scanners, kinds, roles : frozenset of str
        Which alerts; empty: all. ``roles``: those that concern one of them.
    least : Severity
    host, port : str, int
        Of a syslog or mail server. ``url``: of a webhook.
    ca, certificate, key : Path or None
        PEM files: whom to believe, and what to show.
    secret : Path or None
        Holds the password of a mail account or the token of a webhook.
    """

    name: str
    to: To
    scanners: frozenset[str]
    kinds: frozenset[str]
    roles: frozenset[str]
    least: Severity
    host: str = ""
    port: int = 0
    url: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    unsafe_plaintext: bool = False
    security: Security = Security.STARTTLS
    user: str = ""
    secret: Path | None = None
    sender: str = ""
    recipients: tuple[str, ...] = ()

    def takes(self, alert: Alert) -> bool:
        """Whether an alert goes there. What concerns the console itself goes wherever its kind does."""
        return (
            alert.gravity.rank >= self.least.rank
            and (not self.scanners or not alert.scanner or alert.scanner in self.scanners)
            and (not self.kinds or alert.kind in self.kinds)
            and (not self.roles or bool(alert.meaning.audience & self.roles))
        )

    @property
    def where(self) -> str:
        """For people."""
        return self.url or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DoseRule:
    """One ``[[dose_alert]]``. Exactly one of its three questions is asked (`doses`).

    Attributes
    ----------
    phantom : int
        cm, 16 or 32: a dose on another one is not compared; 0 where doses are only counted.
    ctdivol, dlp : float or None
        References for one examination, mGy and mGy.cm; an alert at ``factor`` times these.
    most_dlp : float or None
        mGy.cm of one patient within ``hours``.
    repeats : int or None
        Examinations of one patient within ``hours``.
    """

    name: str
    scanners: frozenset[str]
    body_part: str = ""
    protocol: str = ""
    ages: tuple[float, float] | None = None
    phantom: int = 0
    ctdivol: float | None = None
    dlp: float | None = None
    factor: float = 1.0
    source: str = ""
    most_dlp: float | None = None
    repeats: int | None = None
    hours: float = 24.0


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """All of it."""

    routes: tuple[Route, ...] = ()
    doses: tuple[DoseRule, ...] = ()

    def routes_of(self, alert: Alert) -> list[str]:
        """Names of the routes that an alert goes to."""
        return [route.name for route in self.routes if route.takes(alert)]


def read_settings(settings: ConsoleSettings) -> AlertSettings:
    """The tables of a console.toml, which are taken out of it: once.

    Raises
    ------
    SettingsError
        What is wrong, in which line, what to do.
    """
    known = {scanner.id for scanner in settings.scanners}
    routes: list[Route] = []
    for section in settings.alerts:
        route = _route(section, settings.folder, known)
        if route.name in {other.name for other in routes}:
            raise section.fail(f"{route.name!r} stands twice", "name", "give each its own")
        routes.append(route)
    doses: list[DoseRule] = []
    for section in settings.dose_alerts:
        rule = _dose_rule(section, known)
        if rule.name in {other.name for other in doses}:
            raise section.fail(f"{rule.name!r} stands twice", "name", "give each its own")
        doses.append(rule)
    return AlertSettings(tuple(routes), tuple(doses))


def _route(section: Section, folder: Path, known: set[str]) -> Route:
    to: To = section.choice("to", To)
    common: dict[str, Any] = {
        "name": section.text("name", pattern=_NAME),
        "to": to,
        "scanners": _words(section, "scanners", known),
        "kinds": _words(section, "kinds", KINDS),
        "roles": _words(section, "roles", ROLES),
        "least": section.choice("least", Severity, Severity.WARNING),
        "ca": _path(section, folder, "ca"),
        "certificate": _path(section, folder, "certificate"),
        "key": _path(section, folder, "key"),
    }
    if (common["certificate"] is None) != (common["key"] is None):
        raise section.fail("a certificate without its key, or a key alone", None, "give both")
    more = {To.MAIL: _mail, To.WEBHOOK: _webhook}.get(to, _syslog)(section, folder)
    section.done()
    return Route(**common, **more)


def _syslog(section: Section, folder: Path) -> dict[str, Any]:
    host, port = _server(section, 6514)
    return {"host": host, "port": port, "unsafe_plaintext": section.flag("unsafe_plaintext", False)}


def _webhook(section: Section, folder: Path) -> dict[str, Any]:
    plain, url = section.flag("unsafe_plaintext", False), section.text("url", most=2048)
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("https", "http") or not _is_host(parts.hostname or "") or parts.port == 0
        wrong = wrong or parts.username is not None or not url.isascii() or " " in url
    except ValueError:
        wrong = True
    if wrong:
        raise section.fail(f"{url!r} is no address", "url", "give https://host/path")
    if not plain and not url.startswith("https://"):
        raise section.fail("an address without TLS", "url", "give https://, or unsafe_plaintext = true")
    return {"url": url, "unsafe_plaintext": plain, "secret": _path(section, folder, "token_file")}


def _mail(section: Section, folder: Path) -> dict[str, Any]:
    security: Security = section.choice("security", Security, Security.STARTTLS)
    host, port = _server(section, 465 if security is Security.TLS else 587)
    found = {
        "host": host,
        "port": port,
        "security": security,
        "user": section.text("user", "", most=256),
        "secret": _path(section, folder, "password_file"),
        "sender": section.text("from", most=320),
        "recipients": section.texts("recipients", most=64),
    }
    if bool(found["user"]) != (found["secret"] is not None):
        raise section.fail(
            "a user without a password, or a password alone", None, "give user and password_file"
        )
    if found["user"] and security is Security.NONE:
        raise section.fail(
            "a password would go over the wire in clear", "security", 'write security = "starttls"'
        )
    if not found["recipients"]:
        raise section.fail("to nobody", "recipients", 'write recipients = ["physics@hospital.example"]')
    for key, addresses in (("from", [found["sender"]]), ("recipients", found["recipients"])):
        for address in addresses:
            if not _is_address(address):
                raise section.fail(f"{address!r} is no address", key, "give name@host, nothing around it")
    return found


def _server(section: Section, port: int) -> tuple[str, int]:
    text = section.text("server", most=300)
    host, colon, given = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, given = text, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not _is_host(host) or not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 65535:
        raise section.fail(f"{text!r} is no server", "server", f'write server = "host.example:{port}"')
    return host, int(given)


def _is_host(text: str) -> bool:
    """Whether it can be looked up at all."""
    return bool(_HOST.fullmatch(text)) and all(0 < len(label) < 64 for label in text.rstrip(".").split("."))


def _is_address(text: str) -> bool:
    try:
        Address(addr_spec=text)
    except (ValueError, IndexError, MessageError):
        return False
    return bool(_ADDRESS.fullmatch(text)) and text.isascii()


def _path(section: Section, folder: Path, key: str) -> Path | None:
    text = section.text(key, None, most=4096)
    if text == "":
        raise section.fail("is empty", key, "give a path")
    return None if text is None else folder / text


def _words(
    section: Section, key: str, known: Sequence[str] | set[str] | Mapping[str, object]
) -> frozenset[str]:
    words = section.texts(key, (), most=256)
    for word in words:
        if word not in known:
            raise section.fail(f"{word!r} is not known", key, f"use some of {', '.join(sorted(known))}")
    return frozenset(words)


def _dose_rule(section: Section, known: set[str]) -> DoseRule:
    name = section.text("name", pattern=_NAME)
    scanners = _words(section, "scanners", known)
    only = {
        "body_part": section.text("body_part", "", most=64),
        "protocol": section.text("protocol", "", most=128),
        "ages": section.pair("age") if "age" in section else None,
    }
    asked = [key for key in ("reference", "cumulative", "repeat") if key in section]
    if len(asked) != 1:
        raise section.fail(
            "asks nothing, or several things", None, "add one of reference, cumulative and repeat"
        )
    table = section.section(asked[0])
    more: dict[str, Any]
    if asked[0] == "reference":
        more = _reference(table)
    elif asked[0] == "cumulative":
        more = {
            "phantom": _phantom(table),
            "most_dlp": table.number("dlp", low=1e-3, high=1e9, unit="mGy.cm"),
            "hours": 24.0 * table.number("days", low=0.01, high=3660.0, unit="days"),
        }
    else:
        more = {
            "repeats": table.whole("examinations", low=2, high=1000),
            "hours": table.number("hours", low=0.1, high=8760.0, unit="h"),
        }
    table.done()
    section.done()
    return DoseRule(name, scanners, **only, **more)


def _reference(table: Section) -> dict[str, Any]:
    found = {
        "phantom": _phantom(table),
        "ctdivol": table.number("ctdivol", None, low=1e-3, high=1e6, unit="mGy"),
        "dlp": table.number("dlp", None, low=1e-3, high=1e9, unit="mGy.cm"),
        "source": table.text("source", "", most=200),
        "factor": table.number("factor", 1.0, low=0.01, high=1000.0),
    }
    if found["ctdivol"] is None and found["dlp"] is None:
        raise table.fail("a reference without a dose", None, "give ctdivol (mGy), dlp (mGy.cm) or both")
    return found


def _phantom(table: Section) -> int:
    phantom: int = table.whole("phantom", low=16, high=32)
    if phantom not in (16, 32):
        raise table.fail(
            "is none", "phantom", "give 16 or 32 (cm): a dose without its phantom is not compared"
        )
    return phantom

"""``guard.toml`` of a DICOM guard: what ``[dicom]`` says beside the tables that every guard has.

    [link]
    type = "dicom"
    # [device], [site], [policy], [audit], [control] as docs/guard.md has them; [judge] names the bundle, if any

    [dicom]
    title = "SCANWARD"                       # our AE title
    listen = "0.0.0.0:11112"
    hosts = ["10.1.2.3"]                     # addresses that may connect; left out: any
    unsafe_plaintext = true                  # or [dicom.tls]

    [dicom.tls]                              # mutual: peers must show a certificate of `authority`
    certificate = "guard.crt"
    key = "guard.key"
    authority = "site-ca.crt"

    [dicom.protocols]
    callers = ["PROTOMGR"]                   # AE titles that may send protocols
    scanner = "CT1@10.1.2.9:104"             # where released ones go
    book = ["protocols/"]                    # the approved ones; nobody else may write there

    [dicom.reports]
    callers = ["CT1"]
    folder = "received/"
    relay = "run/doses.sock"                 # [doses] socket of the guard before the scanner, on this machine

    [dicom.worklist]
    server = "RIS@10.1.2.4:104"

Every error names its line and the cure. Paths are relative to the folder of the file.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from scanward import keys
from scanward.errors import SettingsError
from scanward.guard.config import GuardConfig, LinkType, load_config
from scanward.guard.protocol_process import JudgeSettings
from scanward.guard.toml_lines import Section
from scanward.transport.dicom import Peer, title_problem

_PLACE = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")
_LISTEN = re.compile(r"(?P<host>[^@]*):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Tls:
    """Contexts for both directions; both ask the peer for a certificate of the site's authority."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@dataclass(frozen=True)
class ProtocolSettings:
    """Protocols on their way to one scanner."""

    callers: frozenset[str]
    scanner: Peer
    judge: JudgeSettings


@dataclass(frozen=True)
class ReportSettings:
    """Dose reports on their way into quarantine."""

    callers: frozenset[str]
    folder: Path
    site_key: bytes | None
    relay: Path | None = None


@dataclass(frozen=True)
class DicomSettings:
    """Everything the service needs. ``weakenings`` names what is ``unsafe_...``."""

    title: str
    listen: tuple[str, int]
    hosts: frozenset[str]
    tls: Tls | None
    protocols: ProtocolSettings | None
    reports: ReportSettings | None
    worklist: Peer | None
    weakenings: tuple[str, ...] = ()


def load(path: Path) -> tuple[DicomSettings, GuardConfig]:
    """The settings in a guard's configuration, and the configuration itself.

    Raises
    ------
    SettingsError
        Unreadable, malformed, not of a DICOM guard: what, line, cure.
    """
    config = load_config(path)
    if config.link is not LinkType.DICOM or config.dicom is None:
        raise SettingsError(
            f"the configuration is for a link of type {config.link.value}",
            str(path),
            'give one with [link] type = "dicom"',
        )
    return settings_of(config.dicom, config), config


def settings_of(section: Section, config: GuardConfig) -> DicomSettings:
    """A ``[dicom]`` table as settings; SettingsError as `load`."""
    folder = config.path.absolute().parent
    site_key = keys.load_site_key(config.site_key) if config.site_key else None
    title = _title(section, "title", section.text("title"))
    listen = _LISTEN.fullmatch(section.text("listen"))
    if listen is None or not 0 <= int(listen["port"]) < 65536:
        raise section.fail("is no address to listen on", "listen", 'write it like "0.0.0.0:11112"')
    hosts = frozenset(section.texts("hosts", ()))
    plain = bool(section.flag("unsafe_plaintext", False))
    tls = _tls(section.section("tls"), folder) if "tls" in section else None
    if tls is None and not plain:
        todo = "give [dicom.tls], or say unsafe_plaintext = true: anybody on the network can then read and change"
        raise section.fail("associations would be neither encrypted nor authenticated", None, todo)
    if tls is not None and plain:
        raise section.fail("both [dicom.tls] and unsafe_plaintext", "unsafe_plaintext", "leave one out")
    context = tls.client if tls else None
    protocols = reports = worklist = None
    if "protocols" in section:
        protocols = _protocols(section.section("protocols"), folder, context, config, site_key)
    if "reports" in section:
        reports = _reports(section.section("reports"), folder, site_key)
    if "worklist" in section:
        inner = section.section("worklist")
        worklist = _place(inner, "server", context)
        inner.done()
    if protocols is None and reports is None:
        raise section.fail("nothing to receive", None, "give [dicom.protocols], [dicom.reports] or both")
    section.done()
    weak = ("dicom.unsafe_plaintext",) if plain else ()
    address = (listen["host"] or "0.0.0.0", int(listen["port"]))  # noqa: S104 - as the site wrote it
    return DicomSettings(title, address, hosts, tls, protocols, reports, worklist, weak)


def _title(section: Section, key: str, title: str) -> str:
    if problem := title_problem(title):
        raise section.fail(problem, key, "write it as the peer is configured")
    return title


def _callers(section: Section) -> frozenset[str]:
    found = frozenset(_title(section, "callers", each) for each in section.texts("callers"))
    if not found:
        raise section.fail("nobody may send", "callers", "name the AE titles of the senders")
    return found


def _place(section: Section, key: str, context: ssl.SSLContext | None) -> Peer:
    match = _PLACE.fullmatch(section.text(key))
    if match is None or not 0 < int(match["port"]) < 65536:
        raise section.fail("is no application entity", key, 'write it like "CT1@10.1.2.9:104"')
    name = section.text(f"{key}_name", "")
    return Peer(match["host"], int(match["port"]), _title(section, key, match["title"]), context, name)


def _protocols(
    section: Section,
    folder: Path,
    context: ssl.SSLContext | None,
    config: GuardConfig,
    site_key: bytes | None,
) -> ProtocolSettings:
    callers, scanner = _callers(section), _place(section, "scanner", context)
    book = tuple(folder / each for each in section.texts("book", ()))
    for each in book:
        _refuse_open(section, each)
    section.done()
    bundle = config.judge.bundle if config.judge else None
    trusted = tuple(keys.VerifyKey.load(path).raw for path in config.judge.keys) if config.judge else ()
    return ProtocolSettings(callers, scanner, JudgeSettings(config.device, book, bundle, trusted, site_key))


def _refuse_open(section: Section, path: Path) -> None:
    """Whoever can write into the book approves protocols: that must be its owner alone."""
    try:
        inside = [path, *path.rglob("*")] if path.is_dir() else [path]
        loose = [each for each in inside if each.stat().st_mode & 0o022]
    except OSError as error:
        raise section.fail(f"cannot be read ({error.strerror})", "book", "check the path") from error
    if loose:
        raise section.fail(f"others can write to {loose[0]}", "book", f"run `chmod -R go-w {path}`")


def _reports(section: Section, folder: Path, site_key: bytes | None) -> ReportSettings:
    callers, where = _callers(section), folder / section.text("folder")
    relay = section.text("relay", "")
    if len(os.fsencode(folder / relay)) > 107:  # sun_path of unix(7)
        raise section.fail("the path of a socket has at most 107 bytes", "relay", "choose a shorter one")
    section.done()
    return ReportSettings(callers, where, site_key, folder / relay if relay else None)


def _tls(section: Section, folder: Path) -> Tls:
    names = {key: folder / section.text(key) for key in ("certificate", "key", "authority")}
    section.done()
    found = []
    for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(kind)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 B.9 to B.13 follow BCP 195: 1.2 or later
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(names["certificate"], names["key"])
            context.load_verify_locations(names["authority"])
        except (OSError, ssl.SSLError) as error:
            raise section.fail(
                f"cannot be used ({error})", "certificate", "give PEM files that fit"
            ) from error
        found.append(context)
    return Tls(*found)

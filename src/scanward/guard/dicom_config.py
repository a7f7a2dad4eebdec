"""``[dicom]`` of ``guard.toml``: who may send what, where it goes, where the guard asks. Validated, every error
names its line.

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
    Manufacturer = "ACME"
    ManufacturerModelName = "CT 9000"
    bundle = "bundle/"                       # optional, with the keys that may have signed it
    trust = ["site.pub"]

    [dicom.reports]
    callers = ["CT1"]
    folder = "received/"
    site_key = "site.sitekey"

    [dicom.worklist]
    server = "RIS@10.1.2.4:104"

    [dicom.audit]
    folder = "audit-dicom/"                  # of its own: one log has one writer
    key = "guard-audit.key"
    witness = "/mnt/witness"
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from scanward import keys
from scanward.commands import Device
from scanward.errors import ScanwardError, SettingsError
from scanward.guard.protocol_process import JudgeSettings
from scanward.guard.toml_lines import Section, parse
from scanward.transport.dicom import Peer, title_problem

_PLACE = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")
_LISTEN = re.compile(r"(?P<host>[^@]*):(?P<port>\d{1,5})")
_MAX_FILE = 1 << 20  # bytes of the configuration


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


@dataclass(frozen=True)
class AuditSettings:
    """The log of this process."""

    folder: Path
    key: Path
    witness: Path | None


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
    audit: AuditSettings | None
    weakenings: tuple[str, ...] = ()


def load(path: Path) -> DicomSettings:
    """The ``[dicom]`` table of a file; what else is in the file is another's business.

    Raises
    ------
    SettingsError
        Unreadable, malformed, or settings that make no sense: what, line, cure.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", str(path), "check the path") from error
    top, _ = parse(data, str(path), _MAX_FILE, SettingsError)
    return settings_of(top.section("dicom", needed=True), path.parent)


def settings_of(section: Section, folder: Path) -> DicomSettings:
    """A ``[dicom]`` table as settings; paths in it are relative to ``folder``."""
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
    protocols = reports = worklist = audit = None
    if "protocols" in section:
        protocols = _protocols(section.section("protocols"), folder, context)
    if "reports" in section:
        reports = _reports(section.section("reports"), folder)
    if "worklist" in section:
        inner = section.section("worklist")
        worklist = _place(inner, "server", context)
        inner.done()
    if "audit" in section:
        audit = _audit(section.section("audit"), folder)
    if protocols is None and reports is None:
        raise section.fail("nothing to receive", None, "give [dicom.protocols], [dicom.reports] or both")
    if audit is None:
        raise section.fail(
            "nothing is recorded", None, "give [dicom.audit]: what is not recorded is not released"
        )
    section.done()
    weak = ("dicom.unsafe_plaintext",) if plain else ()
    address = (listen["host"] or "0.0.0.0", int(listen["port"]))  # noqa: S104 - as the site wrote it
    return DicomSettings(title, address, hosts, tls, protocols, reports, worklist, audit, weak)


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


def _protocols(section: Section, folder: Path, context: ssl.SSLContext | None) -> ProtocolSettings:
    callers, scanner = _callers(section), _place(section, "scanner", context)
    device = Device(
        section.text("Manufacturer", pattern=r".*\S.*"),
        section.text("ManufacturerModelName", pattern=r".*\S.*"),
        section.text("DeviceSerialNumber", ""),
    )
    book = tuple(folder / each for each in section.texts("book", ()))
    for each in book:
        _refuse_open(section, each)
    bundle = section.text("bundle", "")
    trusted = tuple(_key(section, folder / each) for each in section.texts("trust", ()))
    if bundle and not trusted:
        raise section.fail("a bundle that anybody may have signed", "trust", "name the public keys to trust")
    site_key = _site_key(section, folder)
    section.done()
    judge = JudgeSettings(device, book, folder / bundle if bundle else None, trusted, site_key)
    return ProtocolSettings(callers, scanner, judge)


def _refuse_open(section: Section, path: Path) -> None:
    """Whoever can write into the book approves protocols: that must be its owner alone."""
    try:
        inside = [path, *path.rglob("*")] if path.is_dir() else [path]
        loose = [each for each in inside if each.stat().st_mode & 0o022]
    except OSError as error:
        raise section.fail(f"cannot be read ({error.strerror})", "book", "check the path") from error
    if loose:
        raise section.fail(f"others can write to {loose[0]}", "book", f"run `chmod -R go-w {path}`")


def _key(section: Section, path: Path) -> bytes:
    try:
        return keys.VerifyKey.load(path).raw
    except ScanwardError as error:
        raise section.fail(error.what, "trust", error.todo) from error


def _site_key(section: Section, folder: Path) -> bytes | None:
    name = section.text("site_key", "")
    if not name:
        return None
    try:
        return keys.load_site_key(folder / name)
    except ScanwardError as error:
        raise section.fail(error.what, "site_key", error.todo) from error


def _reports(section: Section, folder: Path) -> ReportSettings:
    callers, where = _callers(section), folder / section.text("folder")
    site_key = _site_key(section, folder)
    section.done()
    return ReportSettings(callers, where, site_key)


def _audit(section: Section, folder: Path) -> AuditSettings:
    where, key, witness = section.text("folder"), section.text("key"), section.text("witness", "")
    section.done()
    return AuditSettings(folder / where, folder / key, folder / witness if witness else None)


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

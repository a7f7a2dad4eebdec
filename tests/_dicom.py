"""Peers for the tests of the DICOM link: DCMTK's and Orthanc's programs on loopback, protocols, recorders."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scanward.codecs.defined_protocol import dataset_bytes, encode_defined_protocol
from scanward.codecs.defined_protocol_approval import encode_approval
from scanward.codecs.defined_protocol_build import approval, constrain, element, protocol
from scanward.codecs.defined_protocol_model import Protocol
from scanward.commands import Device
from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.guard.dicom_config import DicomSettings, ProtocolSettings, ReportSettings
from scanward.guard.protocol_process import JudgeSettings
from scanward.transport.dicom import Peer

DEFINED = "1.2.840.10008.5.1.4.1.1.200.1"
HEAD_PHANTOM = "IEC Head Dosimetry Phantom"
LOCAL = "127.0.0.1"


def program(name: str) -> str:
    """The path of a peer's program; the test is skipped where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        package = "orthanc" if name == "Orthanc" else "dcmtk"
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found


def head(ctdivol: float = 60.0, kvp: tuple[float, ...] = (100, 120), **more: Any) -> Protocol:
    """A head protocol: a localizer and a spiral."""
    return protocol(
        more.pop("name", "CT Head Routine"),
        element(1, constrain("KVP", equal=100), name="Scout", acquisition_type="CONSTANT_ANGLE"),
        element(
            2,
            constrain("KVP", one_of=kvp, default=120),
            constrain("CTDIvol", at_most=ctdivol),
            constrain("CTDIwPhantomType", equal=HEAD_PHANTOM),
            constrain("NoiseIndex", between=(3, 5)),
            name="Head",
            acquisition_type="SPIRAL",
        ),
        **more,
    )


def file_of(made: Protocol) -> bytes:
    """The protocol as a PS3.10 file."""
    return dataset_bytes(encode_defined_protocol(made))


def book_in(folder: Path, *protocols: Protocol) -> Path:
    """A folder with these protocols and their approval."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in protocols:
        (folder / f"{each.uid}.dcm").write_bytes(file_of(each))
    said = approval(protocols, "Doe^Jane", "20260101000000")
    (folder / "approval.dcm").write_bytes(dataset_bytes(encode_approval(said)))
    return folder


@dataclass
class Records:
    """A recorder that keeps; ``broken`` makes it fail."""

    kept: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    broken: Exception | None = None

    def __call__(self, kind: str, data: Mapping[str, object]) -> None:
        if self.broken is not None:
            raise self.broken
        json.dumps(data)  # what is recorded must be plain
        self.kept.append((kind, dict(data)))

    def of(self, kind: str) -> list[dict[str, object]]:
        """Data of all records of one kind."""
        return [data for each, data in self.kept if each == kind]


def settings(
    tmp: Path,
    *,
    scanner: Peer | None = None,
    book: Path | None = None,
    reports: Path | None = None,
    callers: frozenset[str] = frozenset({"SENDER"}),
    reporters: frozenset[str] | None = None,
) -> DicomSettings:
    """Settings of a service on a free port, plain."""
    judge = JudgeSettings(Device("ACME", "CT 9000"), (book,) if book else ())
    protocols = ProtocolSettings(callers, scanner, judge) if scanner else None
    received = ReportSettings(reporters or callers, reports, b"k" * 32) if reports else None
    return DicomSettings("GUARD", (LOCAL, 0), frozenset(), None, protocols, received, None)


def brisk(**changes: Any) -> DicomBounds:
    """Bounds with short clocks, so that a test of a passed deadline is over soon."""
    from dataclasses import replace

    short = {"negotiation_seconds": 1.0, "pdu_seconds": 1.0, "idle_seconds": 2.0, "hold_seconds": 2.0}
    return replace(DICOM_BOUNDS, **{**short, **changes})


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[Any], seconds: float = 30.0) -> None:
    """Until something listens on ``port``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"{process.args} ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((LOCAL, port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nothing listens on {port}")


@contextmanager
def running(command: list[str], port: int, **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """A peer's program until the block ends."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more
    )
    try:
        wait_for(port, process)
        yield process
    finally:
        process.kill()
        process.wait()


# DCMTK knows these classes as no storage classes and accepts them only where a profile says so.
_STORESCP = """\
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Protocols]
PresentationContext1 = 1.2.840.10008.5.1.4.1.1.200.1\\Plain
PresentationContext2 = 1.2.840.10008.5.1.4.1.1.200.3\\Plain
[[Profiles]]
[Scanner]
PresentationContexts = Protocols
"""


@contextmanager
def storescp(folder: Path) -> Iterator[Peer]:
    """DCMTK's storage SCP as the scanner; what it received lies in ``folder``."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder.parent / f"{folder.name}.cfg"
    config.write_text(_STORESCP)
    command = [program("storescp"), "-aet", "SCANNER", "-xf", str(config), "Scanner"]
    command += ["-od", str(folder), str(port)]
    with running(command, port):
        yield Peer(LOCAL, port, "SCANNER")


def storescu(
    port: int, *files: Path, title: str = "SENDER", called: str = "GUARD", options: tuple[str, ...] = ("-R",)
) -> subprocess.CompletedProcess[str]:
    """DCMTK's storage SCU."""
    return subprocess.run(
        [
            program("storescu"),
            "-v",
            *options,
            "-aet",
            title,
            "-aec",
            called,
            LOCAL,
            str(port),
            *map(str, files),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Orthanc:
    """An Orthanc on loopback, asked over its REST API."""

    def __init__(self, http: int, dicom: int) -> None:
        self.http, self.dicom = http, dicom

    def get(self, path: str) -> Any:
        """GET, parsed."""
        with urllib.request.urlopen(f"http://{LOCAL}:{self.http}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """POST: status and answer."""
        request = urllib.request.Request(f"http://{LOCAL}:{self.http}{path}", data=body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


@contextmanager
def orthanc(folder: Path, guard_port: int = 0) -> Iterator[Orthanc]:
    """Orthanc with its storage in ``folder``; knows the guard as modality ``guard``."""
    http, dicom = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpServerEnabled": True,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "DicomCheckCalledAet": False,
        "UnknownSopClassAccepted": True,
        "DicomModalities": {"guard": ["GUARD", LOCAL, guard_port or 1]},
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config))
    with running([program("Orthanc"), str(path)], http) as process:
        wait_for(dicom, process)
        yield Orthanc(http, dicom)


@contextmanager
def worklist_server(folder: Path, *entries: str) -> Iterator[Peer]:
    """DCMTK's worklist server; entries are texts for dump2dcm."""
    place = folder / "WORKLIST"
    place.mkdir(parents=True)
    (place / "lockfile").touch()
    for index, entry in enumerate(entries):
        dump = folder / f"{index}.dump"
        dump.write_text(entry)
        target = str(place / f"{index}.wl")
        subprocess.run([program("dump2dcm"), str(dump), target], check=True, capture_output=True, timeout=60)
    port = free_port()
    with running([program("wlmscpfs"), "-dfr", "-dfp", str(folder), str(port)], port):
        yield Peer(LOCAL, port, "WORKLIST")

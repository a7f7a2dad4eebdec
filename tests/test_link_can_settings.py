"""A guard on CAN from its configuration: signed profile, two buses, frames recorded."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from _can import EXAMPLES, HEARTBEAT, HOST_BEAT
from scanward.codecs.can_logs import read_candump
from scanward.codecs.canopen_profile_toml import KIND
from scanward.commands import Device
from scanward.errors import LinkError, PolicyError, ScanwardError, SettingsError
from scanward.guard.can_link import can_link, facts_of, profile_of
from scanward.guard.config import GuardConfig, parse_config
from scanward.guard.policy_signing import sign
from scanward.keys import SigningKey
from scanward.links.base import Side
from scanward.links.can_recorder import FrameRecorder
from scanward.transport.can import CanBus
from scanward.transport.can_frames import frame_of

KEY = SigningKey.from_seed(bytes([7]) * 32)
GUARD = """
[device]
Manufacturer = "Simulated Sigma"
ManufacturerModelName = "S-128"
[link]
type = "can"
[can]
profile = "emulated-ct.toml"
interface = "virtual"
host = "HOST"
gantry = "GANTRY"
record = "frames.log"
[policy]
path = "policy.toml"
profile = "device.toml"
keys = ["site.pub"]
versions = "versions.json"
[audit]
dir = "log"
key = "guard.key"
[control]
socket = "control.sock"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("emulated-ct.toml", "emulated-ct.eds"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    signed(tmp_path)
    (tmp_path / "site.pub").write_bytes(KEY.verify_key.pem())
    return tmp_path


def signed(folder: Path) -> None:
    path = folder / "emulated-ct.toml"
    sign(path, KIND, path.read_bytes(), KEY)


def config(folder: Path, text: str = GUARD) -> GuardConfig:
    names = {"HOST": f"{folder.name}-host", "GANTRY": f"{folder.name}-gantry"}
    for name, value in names.items():
        text = text.replace(name, value)
    return parse_config(text.encode(), folder / "guard.toml")


DEVICE = Device("Simulated Sigma", "S-128")


def test_a_link_from_its_configuration_records_both_sides(folder: Path) -> None:
    pytest.importorskip("can", reason="the extra 'can' is not installed")

    async def run() -> None:
        link = can_link(config(folder), DEVICE, None)
        host = CanBus("virtual", f"{folder.name}-host")
        gantry = CanBus("virtual", f"{folder.name}-gantry")
        try:
            await link.start(_Nobody())  # type: ignore[arg-type]
            host.send(HOST_BEAT)
            gantry.send(HEARTBEAT)
            async with asyncio.timeout(20):
                while len(seen(folder)) < 2:
                    await asyncio.sleep(0.01)
        finally:
            host.close()
            gantry.close()
            await link.close()

    asyncio.run(run())
    assert {("host", str(HOST_BEAT)), ("gantry", str(HEARTBEAT))} <= set(seen(folder))


def seen(folder: Path) -> list[tuple[str, str]]:
    text = (folder / "frames.log").read_text("ascii")
    return [(one.channel, str(one.frame)) for one in read_candump(text.splitlines())]


class _Nobody:
    def __getattr__(self, name: str) -> object:
        return lambda *_: None


def test_the_check_opens_nothing(folder: Path) -> None:
    facts = facts_of(config(folder, GUARD.replace('"virtual"', '"socketcan"')))
    assert facts["profile"] == "Emulated CT scanner, version 1"
    assert not (folder / "frames.log").exists()


def test_a_bus_that_is_not_there_leaves_nothing_open(folder: Path) -> None:
    pytest.importorskip("can", reason="the extra 'can' is not installed")
    text = GUARD.replace('"virtual"', '"socketcan"')
    with pytest.raises(LinkError):
        can_link(config(folder, text), DEVICE, None)
    with pytest.raises(LinkError, match="cannot be recorded"):
        can_link(config(folder, GUARD.replace("frames.log", "nowhere/frames.log")), DEVICE, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('interface = "virtual"', 'interface = "pcan"'), "no CAN interface"),
        (('interface = "virtual"', 'interface = "udp_multicast"'), "no port"),
        (('profile = "emulated-ct.toml"', 'profile = "none.toml"'), "cannot open"),
        (('keys = ["site.pub"]', 'keys = ["none.pub"]'), "none.pub"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(folder: Path, change: tuple[str, str], says: str) -> None:
    pytest.importorskip("can", reason="the extra 'can' is not installed")
    with pytest.raises(ScanwardError, match=re.escape(says)):
        can_link(config(folder, GUARD.replace(*change, 1)), DEVICE, None)


@pytest.mark.parametrize(
    "what", ["altered", "unsigned", "other key", "other sheet", "no digest", "other device", "older"]
)
def test_a_profile_that_is_not_the_sites_is_refused(folder: Path, what: str) -> None:
    path, sheet = folder / "emulated-ct.toml", folder / "emulated-ct.eds"
    text, device = path.read_text(), DEVICE
    match what:
        case "altered":
            path.write_text(text.replace("201#0202", "201#0204"))
        case "unsigned":
            (folder / "emulated-ct.toml.sig").unlink()
        case "other key":
            sign(path, KIND, path.read_bytes(), SigningKey.from_seed(bytes([8]) * 32))
        case "other sheet":
            sheet.write_text(sheet.read_text().replace("HighLimit=8", "HighLimit=9"))
        case "no digest":
            path.write_text(re.sub("eds_sha256 = .*", "", text))
            signed(folder)
        case "other device":
            device = Device("Simulated Sigma", "S-64")
        case "older":
            path.write_text(text.replace("version = 1", "version = 2", 1))
            signed(folder)
            profile_of(config(folder), DEVICE)
            path.write_text(text)
            signed(folder)
    with pytest.raises(PolicyError if what != "other sheet" else SettingsError):
        profile_of(config(folder), device)


def test_a_recorder_that_cannot_keep_up_counts_what_it_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanward.links.can_recorder._WAITING", 1)
    recorder = FrameRecorder(tmp_path / "x.log")
    for _ in range(20_000):
        recorder(Side.HOST, frame_of("080#"), 1.0, False)
    recorder.close()
    written = (tmp_path / "x.log").read_text().count("\n")
    assert written + recorder.lost == 20_000

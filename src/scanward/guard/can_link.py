"""A guard on CAN: its profile, signed like policy and device profile, and its two buses.

What a profile calls inert or a stop passes unjudged, so it is trusted as little as a policy without a signature: the
signature covers the profile's bytes, these name the SHA-256 of the data sheet, the device must be the guard's, and no
older version is accepted than the highest before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scanward import keys
from scanward.codecs.canopen_profile import CanProfile
from scanward.codecs.canopen_profile_toml import KIND, read_profile, sheet_of
from scanward.commands import Device
from scanward.config import CAN_BOUNDS
from scanward.errors import PolicyError, SettingsError
from scanward.guard.config import GuardConfig
from scanward.guard.policy_floor import PolicyFloor
from scanward.guard.policy_signing import read_bytes, read_signed
from scanward.links.can import CanLink
from scanward.links.can_recorder import FrameRecorder
from scanward.links.identifiers import Identifiers
from scanward.transport.can import CanBus


def profile_of(config: GuardConfig, device: Device, accept: bool = True) -> CanProfile:
    """The verified profile of a guard's wire.

    Parameters
    ----------
    device : Device
        Of the guard, with its serial number hashed.
    accept : bool
        False: versions are checked and not remembered.

    Raises
    ------
    ScanwardError
        PolicyError for one that is unsigned, altered, older or of another device; SettingsError or DecodeError for
        what is in it.
    """
    assert config.can is not None
    path = config.can.profile
    profile = signed_profile(path, [keys.VerifyKey.load(key) for key in config.policy.keys])
    own = profile.device
    if (own.manufacturer, own.model) != (device.manufacturer, device.model):
        raise PolicyError(
            f"it is for {own.manufacturer} {own.model}, this is {device.manufacturer} {device.model}",
            str(path),
            "give the one of this device",
        )
    floor = PolicyFloor(config.policy.versions)
    (floor.accept if accept else floor.check)(KIND, device, profile.version, profile.digest)
    return profile


def signed_profile(path: Path, trusted: Sequence[keys.VerifyKey]) -> CanProfile:
    """A profile whose signature, and the digest of whose data sheet, are right; errors as `profile_of`."""
    return parsed_profile(read_signed(path, KIND, trusted).data, path)


def parsed_profile(data: bytes, path: Path) -> CanProfile:
    """The profile in ``data`` with the data sheet beside ``path``; PolicyError when it does not name its digest."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError("not UTF-8", str(path), "save it as UTF-8") from error
    name, digest = sheet_of(text, str(path))
    if not digest:
        raise PolicyError(
            "a signature would not cover its data sheet", str(path), "add eds_sha256 to [profile]"
        )
    sheet = read_bytes(path.parent / name, CAN_BOUNDS.eds_bytes)
    made = read_profile(text, sheet.decode("utf-8", "replace"), str(path))
    return replace(made, digest=hashlib.sha256(data).hexdigest())  # as of every signed text


def can_link(config: GuardConfig, device: Device, site_key: bytes | None) -> CanLink:
    """Verify the profile, open both buses; errors as `profile_of`, LinkError when a bus cannot be opened."""
    assert config.can is not None
    profile, can = profile_of(config, device), config.can
    here: dict[str, Any] = dict(can.options)
    # Linux hands a group's frames to every socket on the port: two groups on one port would hear each other.
    there = {name: value + 1 if name == "port" else value for name, value in here.items()}
    if can.interface == "udp_multicast" and not here:
        raise SettingsError("no port", "[can]", "give port: the host's bus has it, the gantry's the next")
    opened: list[CanBus] = []
    try:
        opened.append(CanBus(can.interface, can.host, **here))
        opened.append(CanBus(can.interface, can.gantry, **there))
        recorder = FrameRecorder(can.record) if can.record else None
    except BaseException:
        for bus in opened:
            bus.close()
        raise
    closing = recorder.close if recorder else None
    return CanLink(profile, opened[0], opened[1], Identifiers(site_key).hash, recorder, closing)


def facts_of(config: GuardConfig) -> dict[str, Any]:
    """What ``[can]`` leads to, for ``scanward guard --check``; opens no bus. Errors as `profile_of`."""
    assert config.can is not None
    site_key = keys.load_site_key(config.site_key) if config.site_key else None
    device = replace(config.device, serial=Identifiers(site_key).hash(config.device.serial))
    profile = profile_of(config, device, accept=False)
    return {
        "type": "can",
        "host": config.can.host,
        "gantry": config.can.gantry,
        "profile": f"{profile.name}, version {profile.version}",
        "frames recorded in": str(config.can.record or "nowhere"),
    }

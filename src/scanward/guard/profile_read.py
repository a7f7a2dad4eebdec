"""A device profile from TOML: every error names its line and the cure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scanward.commands import FIELDS, Device, Kind
from scanward.commands.wire import Axis
from scanward.config import POLICY_BOUNDS, PolicyBounds
from scanward.errors import PolicyError
from scanward.guard.events import Envelope
from scanward.guard.policy_floor import PolicyFloor
from scanward.guard.policy_signing import PROFILE, read_signed
from scanward.guard.profile import AxisRange, DeviceProfile, DoseRate, serves
from scanward.guard.toml_lines import Section, parse
from scanward.keys import VerifyKey

# Of these a profile must say something: without them the relay can bound no dose. An acquisition must tell KVP; a
# localizer, whose tube does not turn, has no RevolutionTime.
RANGED = ("KVP", "RevolutionTime")
REQUIRED = ("KVP",)


def load_profile(
    path: Path,
    trusted: Sequence[VerifyKey],
    *,
    device: Device | None = None,
    floor: PolicyFloor | None = None,
    bounds: PolicyBounds = POLICY_BOUNDS,
) -> DeviceProfile:
    """Read, verify, and accept a device profile.

    ``device`` is the scanner it is to be used with (None: not asked), ``floor`` the memory of versions.

    Raises
    ------
    PolicyError
        Refused: not signed by a trusted key, malformed, of another device, or older than accepted before.
    """
    text = read_signed(path, PROFILE, trusted, bounds)
    profile = parse_profile(text.data, text.where, text.digest, bounds)
    refuse_other(profile.device, device, text.where)
    if floor is not None:
        floor.accept(PROFILE, profile.device, profile.version, profile.digest)
    return profile


def refuse_other(bound: Device, device: Device | None, where: str) -> None:
    """PolicyError when what is bound to ``bound`` shall be used with another ``device``."""
    if device is not None and not serves(bound, device):
        raise PolicyError(
            f"it is for {bound.manufacturer} {bound.model} {bound.serial}".rstrip()
            + f", this is {device.manufacturer} {device.model} {device.serial}".rstrip(),
            where,
            "give the one of this device",
        )


def parse_profile(
    data: bytes, where: str, digest: str = "", bounds: PolicyBounds = POLICY_BOUNDS
) -> DeviceProfile:
    """The profile in ``data``; PolicyError naming line and cure when there is none."""
    top, _ = parse(data, where, bounds.file_bytes, PolicyError)
    head(top, PROFILE)
    version = top.whole("version", low=1)
    device = device_of(top.section("device", needed=True))
    ranges = envelopes(top.section("ranges", needed=True))
    for name in RANGED:
        if name not in ranges:
            raise top.fail(f"[ranges] says nothing of {name}", "ranges", f"add {name} = [least, largest]")
    if not {"XRayTubeCurrentInmA", "MaximumXRayTubeCurrent", "AECMaximumTubeCurrent"} & set(ranges):
        raise top.fail(
            "[ranges] says nothing of the tube current", "ranges", "add XRayTubeCurrentInmA = [0, largest]"
        )
    required = top.texts("required", REQUIRED)
    axes = _axes(top.section("motion"))
    runtime = envelopes(top.section("runtime"), around_zero=True)
    rates = tuple(_rate(row) for row in top.sections("dose", most=bounds.rows))
    top.done()
    return DeviceProfile(version, device, digest, ranges, required, axes, runtime, rates)


def head(top: Section, kind: str) -> None:
    """Check the first key of a file; PolicyError on an empty file or one of another kind."""
    if not top.keys():
        raise top.fail("it is empty", None, f'start from an example; the first key is kind = "{kind}"')
    if top.text("kind") != kind:
        raise top.fail(f"another kind of file than {kind!r}", "kind", "give the right file")


def device_of(section: Section) -> Device:
    """The device that a file is bound to; the serial number is its keyed hash, or "" for every one."""
    device = Device(
        section.text("Manufacturer", pattern=r".*\S.*"),
        section.text("ManufacturerModelName", pattern=r".*\S.*"),
        section.text("DeviceSerialNumber", ""),
    )
    section.done()
    return device


def envelopes(section: Section, *, around_zero: bool = False) -> dict[str, Envelope]:
    """``name = [low, high]`` for every numeric field named; ``around_zero``: differences, so low <= 0 <= high."""
    found: dict[str, Envelope] = {}
    for name in tuple(section.keys()):
        low, high = section.pair(name)
        known = FIELDS.get(name)
        if known is not None and known.kind is not Kind.NUMBER:
            raise section.fail("is no number", name, "name numeric fields only")
        if around_zero and not low <= 0 <= high:
            raise section.fail(f"[{low:g}, {high:g}] does not hold 0", name, "write [-down, up]")
        found[name] = Envelope(low, high)
    return found


def _axes(section: Section) -> dict[Axis, AxisRange]:
    found = {}
    for axis in Axis:
        if axis.value in section:
            row = section.section(axis.value)
            low, high = row.pair("range")
            found[axis] = AxisRange(low, high, row.number("speed", low=0.001, high=2000.0, unit="per s"))
            row.done()
    section.done()
    return found


def _rate(row: Section) -> DoseRate:
    phantom = row.whole("phantom_cm")
    if phantom not in (16, 32):
        raise row.fail("there are phantoms of 16 and of 32 cm", "phantom_cm", "give 16 or 32")
    rate = DoseRate(
        row.number("KVP", low=40, high=160, unit="kV"),
        phantom,
        row.number("mGy_per_mAs", low=1e-4, high=10.0, unit="mGy/mAs"),
    )
    row.done()
    return rate

"""A guard's folder for an emulated scanner: keys, certificates, device profile, policy, ``guard.toml``.

What a site writes by hand (docs/guard.md), written here from the simulated model's own technical data, so that the
demonstration, the benchmarks and the tests start the guard that a site would start.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanward.commands import Device
from scanward.commands.wire import Axis
from scanward.emulator import certificates
from scanward.emulator.wires import Tls
from scanward.guard import policy_signing
from scanward.keys import SigningKey, write_pair
from scanward.simulation.constants import HEAD_OVER_BODY, KVP_RATIO, Model
from scanward.simulation.scanner import MOST_SCAN_MM, TRAVEL

OPERATOR = "operator"
HEIGHT_MM = 90.0  # how far from its usual height a table is moved without an operator
TABLE_MM = 1800.0


@dataclass(frozen=True)
class Fitting:
    """Where everything is.

    Attributes
    ----------
    config : Path
        ``guard.toml``.
    host, gantry : Tls or None
        What the two ends need; None for plain TCP.
    operator : Path
        Private key of the first operator, named ``OPERATOR`` unless told otherwise.
    """

    folder: Path
    config: Path
    host: Tls | None
    gantry: Tls | None
    operator: Path
    socket: Path
    audit: Path

    def key_of(self, operator: str) -> Path:
        """Private key of an operator by his id in the policy."""
        return self.folder / f"{operator}.key"


def _device(device: Device, serial: str = "") -> str:
    return (
        "[device]\n"
        f'Manufacturer = "{device.manufacturer}"\n'
        f'ManufacturerModelName = "{device.model}"\n'
        f'DeviceSerialNumber = "{serial}"\n'
    )


def profile_text(model: Model, device: Device) -> str:
    """The device profile: the hardware's own limits and dose."""
    currents = (
        "XRayTubeCurrentInmA",
        "MaximumXRayTubeCurrent",
        "AECMinimumTubeCurrent",
        "AECMaximumTubeCurrent",
    )
    ranges = {
        "KVP": (min(model.kvps), max(model.kvps)),
        **dict.fromkeys(currents, (0.0, model.max_ma)),
        "RevolutionTime": (min(model.rotations), max(model.rotations)),
        "SpiralPitchFactor": (min(model.pitches), max(model.pitches)),
        "TotalCollimationWidth": (0.5, max(total for _, total, _ in model.collimations)),
        "TableHeight": (TRAVEL[Axis.TABLE_HEIGHT].low, TRAVEL[Axis.TABLE_HEIGHT].high),
        "ScanLength": (0.0, MOST_SCAN_MM),
        "GantryDetectorTilt": (TRAVEL[Axis.GANTRY_TILT].low, TRAVEL[Axis.GANTRY_TILT].high),
    }
    lines = [
        "# Device profile of an emulated scanner: simulated, no scanner's real data.",
        'kind = "scanward.device-profile"',
        "version = 1",
        'required = ["KVP"]',
        _device(device),
        "[ranges]",
        *(f"{name} = [{low:g}, {high:g}]" for name, (low, high) in ranges.items()),
    ]
    for axis, travel in TRAVEL.items():
        lines += [
            f"[motion.{axis}]",
            f"range = [{travel.low:g}, {travel.high:g}]",
            f"speed = {travel.speed:g}",
        ]
    lines += ["[runtime]", "TableHeight = [-50, 50]"]
    narrow = max(factor for *_, factor in model.collimations)
    for phantom, over in ((32, 1.0), (16, HEAD_OVER_BODY)):
        for kvp in model.kvps:
            rate = model.mgy_per_100_mas / 100 * KVP_RATIO[kvp] * narrow * over
            lines += ["[[dose]]", f"phantom_cm = {phantom}", f"KVP = {kvp:g}", f"mGy_per_mAs = {rate:.5f}"]
    return "\n".join(lines) + "\n"


# Example figures for the simulated site, as in examples/policy: a medical physicist sets a real site's.
_CAPS = (
    (16, 0, 16, 120, 2500, 500, 6000),
    (16, 16, 131, 600, 6000, 1500, 15000),
    (32, 0, 16, 60, 2000, 250, 5000),
    (32, 16, 131, 200, 6000, 1000, 15000),
)


def policy_text(
    model: Model,
    device: Device,
    operators: Mapping[str, SigningKey],
    hold_s: float,
    *,
    two_persons: bool = False,
) -> str:
    """A clinical policy with the default verdicts, the example's caps, and these operators.

    With ``two_persons`` a physics alert, sources that disagree on the patient, and 1.5 times an alert cap need two.
    """
    lines = [
        "# Policy of an emulated scanner: figures are examples for the simulated site, not advice.",
        'kind = "scanward.policy"',
        'name = "Emulated scanner (simulated)"',
        "version = 1",
        _device(device),
        "[times]",
        f"hold_seconds = {hold_s:g}",
        "arming_seconds = 900",
        "[runtime]",
        "TableHeight = [-20, 20]",
        f"[motion.{Axis.TABLE_Z}]",
        f"range = [{-TABLE_MM:g}, {TABLE_MM:g}]",
        "speed = 150",
        f"[motion.{Axis.TABLE_HEIGHT}]",
        f"range = [{max(0.0, model.table_height - HEIGHT_MM):g}, {model.table_height + HEIGHT_MM:g}]",
        "speed = 30",
        f"[motion.{Axis.GANTRY_TILT}]",
        "range = [-25, 25]",
        "speed = 5",
        "[emergency]",
        "most_minutes = 30",
    ]
    for name, key in operators.items():
        lines += [
            f"[operators.{name}]",
            f'name = "Emulated {name} (simulated)"',
            f'key = "{key.verify_key.raw.hex()}"',
            'may = ["release", "refuse", "emergency"]',
        ]
    if two_persons:
        lines += [
            "[two_persons]",
            'layers = ["physics"]',
            'disputes = ["PatientID", "PatientAge", "PatientSex"]',
            "dose_factor = 1.5",
            f"hold_seconds = {hold_s:g}",
        ]
    names = ("phantom_cm", "alert_CTDIvol", "alert_DLP", "absolute_CTDIvol", "absolute_DLP")
    for phantom, low, high, *caps in _CAPS:
        figures = dict(zip(names, (phantom, *caps), strict=True))
        lines += ["[[modes.CLINICAL.caps]]", f"age = [{low}, {high}]"]
        lines += [f"{name} = {value}" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def config_text(
    device: Device, fitting: Fitting, gantry: tuple[str, int], listen: tuple[str, int], bundle_key: str
) -> str:
    """``guard.toml``."""
    tls = "unsafe_plaintext = true" if fitting.host is None else (
        'certificate = "tls/guard.pem"\nkey = "tls/guard.key"\nauthority = "tls/authority.pem"'
    )  # fmt: skip
    pins = {
        end: "" if fitting.host is None else f'names = ["scanward-{end}"]\n' for end in ("host", "gantry")
    }
    return (
        f"# The guard of an emulated scanner (simulated).\n{_device(device, device.serial)}"
        '[link]\ntype = "stream"\n'
        f'[host]\nlisten = "{listen[0]}:{listen[1]}"\n{pins["host"]}'
        f'[gantry]\nconnect = "{gantry[0]}:{gantry[1]}"\n{pins["gantry"]}'
        f"[tls]\n{tls}\n"
        '[policy]\npath = "policy.toml"\nprofile = "device.toml"\nkeys = ["site.pub"]\n'
        f'[judge]\nbundle = "bundle"\nkeys = ["{bundle_key}"]\n'
        '[audit]\ndir = "audit"\nkey = "audit.key"\n'
        '[control]\nsocket = "control.sock"\n'
    )


def fit_guard(
    folder: Path,
    model: Model,
    device: Device,
    bundle: Path,
    trusted: Path,
    gantry: tuple[str, int],
    listen: tuple[str, int],
    *,
    tls: dict[str, Tls] | None = None,
    hold_s: float = 20.0,
    operators: Sequence[str] = (OPERATOR,),
    two_persons: bool = False,
) -> Fitting:
    """Write a whole guard's folder.

    Parameters
    ----------
    bundle, trusted : Path
        A signed bundle and the public key that it is trusted by; the bundle is copied.
    gantry, listen : (address, port)
        Where the emulated gantry is, and where its host shall connect to.
    tls : from ``certificates.make(folder / "tls")``
        None for plain TCP, which the guard calls unsafe.
    operators : sequence of str
        Ids of the policy's operators; the key of each is ``ID.key``.
    two_persons : bool
        Whether the policy names holds that need two of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    site, audit = SigningKey.generate(), SigningKey.generate()
    keys = {name: SigningKey.generate() for name in operators}
    write_pair(folder / "site", site)
    for name, key in keys.items():
        write_pair(folder / name, key)
    write_pair(folder / "audit", audit)
    shutil.copytree(bundle, folder / "bundle", dirs_exist_ok=True)
    shutil.copyfile(trusted, folder / "bundle.pub")
    policy = policy_text(model, device, keys, hold_s, two_persons=two_persons)
    for name, kind, text in (
        ("device.toml", policy_signing.PROFILE, profile_text(model, device)),
        ("policy.toml", policy_signing.POLICY, policy),
    ):
        (folder / name).write_text(text, "utf-8")
        policy_signing.sign(folder / name, kind, text.encode(), site)
    made = Fitting(
        folder, folder / "guard.toml", tls["host"] if tls else None, tls["gantry"] if tls else None,
        folder / f"{operators[0]}.key", folder / "control.sock", folder / "audit",
    )  # fmt: skip
    made.config.write_text(config_text(device, made, gantry, listen, "bundle.pub"), "utf-8")
    return made


__all__ = ["OPERATOR", "Fitting", "certificates", "fit_guard", "policy_text", "profile_text"]

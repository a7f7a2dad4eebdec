"""A draft of policy and device profile: from the templates, and from what a bundle learned of the device.

A draft is read by a person and signed by a person. What was recorded is not what the hardware can do: the draft's
ranges are the largest values recorded, with a note to replace them by the maker's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib import resources

from scanward.commands import FIELDS, PHANTOM_DIAMETER_CM, Device, Kind, LayerName
from scanward.errors import PolicyError
from scanward.layers.base import Part
from scanward.layers.form import DeviceProfile as Recorded
from scanward.layers.form import FormLayer
from scanward.layers.identities import Learned
from scanward.layers.physics import PhysicsLayer
from scanward.layers.ranges import folded

_RATES = {"dose_over_pitch", "dose_increment", "dose_rotations", "dose_per_rotation"}
_MARGIN = 1.1  # of a learned constant; recorded ones scatter by about 1 %
_RANGED = (
    "KVP",
    "XRayTubeCurrentInmA",
    "MaximumXRayTubeCurrent",
    "AECMinimumTubeCurrent",
    "AECMaximumTubeCurrent",
    "RevolutionTime",
    "SpiralPitchFactor",
    "TotalCollimationWidth",
    "TableSpeed",
    "TableHeight",
    "ScanLength",
    "GantryDetectorTilt",
)
_FROM_ZERO = frozenset(
    {"XRayTubeCurrentInmA", "MaximumXRayTubeCurrent", "AECMinimumTubeCurrent", "AECMaximumTubeCurrent",
     "TableSpeed", "ScanLength"}
)  # fmt: skip


def template(name: str) -> str:
    """The commented example ``policy.toml`` or ``device.toml``."""
    return resources.files("scanward.guard").joinpath("templates", name).read_text("utf-8")


def for_device(text: str, device: Device) -> str:
    """A template bound to ``device``; its serial is the keyed hash, "" for every one of the model."""
    for key, value in (
        ("Manufacturer", device.manufacturer),
        ("ManufacturerModelName", device.model),
        ("DeviceSerialNumber", device.serial),
    ):
        if not value.isprintable():
            raise PolicyError(f"{key} holds characters that do not print", key, "give its name as text")
        quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text = re.sub(rf'(?m)^{key} = ".*?"', lambda _, k=key, q=quoted: f"{k} = {q}", text, count=1)  # type: ignore[misc]
    return text


def with_operators(text: str, people: Mapping[str, str]) -> str:
    """The policy template with these operators (id to key in hexadecimal digits) in place of its example.

    From two on, what one of them alone does not release is switched on.
    """
    if not people:
        return text
    if len(people) > 1:
        text = re.sub(
            r"(?m)^# \[two_persons\]\n(?:# \w+ = .*\n)+",
            lambda m: m[0].replace("# ", "", 1).replace("\n# ", "\n"),
            text,
        )
    start = text.index("[operators.anna]")
    end = text.index("# --- how long")
    tables = "".join(
        f'[operators.{who}]\nname = "{who}"\nkey = "{key}"\nmay = ["release", "refuse", "emergency"]\n'
        for who, key in people.items()
    )
    return f"{text[:start]}{tables}\n{text[end:]}"


def largest_dose(part: Part, device: Device) -> float | None:
    """The largest CTDIvol of one recorded command (mGy), None where none was recorded."""
    recorded = FormLayer.from_part(part.scoped(LayerName.FORM)).devices.get(device.key)
    field = recorded.pooled.fields.get("CTDIvol") if recorded else None
    return field.high if field else None


def profile_of(part: Part, device: Device) -> str:
    """The device profile's template with ranges and dose rates that a bundle learned.

    Raises
    ------
    PolicyError
        When the bundle knows no such device.
    """
    form = FormLayer.from_part(part.scoped(LayerName.FORM))
    recorded = form.devices.get(device.key)
    if recorded is None:
        known = "; ".join(sorted(form.devices)) or "none"
        raise PolicyError(
            f"the bundle knows no {device.manufacturer} {device.model}", "--model", f"it knows {known}"
        )
    text = for_device(template("device.toml"), device)
    text = _replaced(text, r"(?ms)^\[ranges\]\n.*?(?=^#|^\[|\Z)", _ranges(recorded))
    physics = PhysicsLayer.from_part(part.scoped(LayerName.PHYSICS))
    learned = [one for rows in physics.learned.get(device.key, {}).values() for one in rows]
    return _replaced(text, r"(?ms)^\[\[dose\]\].*\Z", _dose(rates(learned)))


def _replaced(text: str, pattern: str, new: str) -> str:
    return re.sub(pattern, lambda _: new, text, count=1)


def _ranges(recorded: Recorded) -> str:
    lines = ["[ranges]", "# DRAFT, from recordings: replace by what the maker says that the hardware can do."]
    for name in _RANGED:
        seen = recorded.pooled.fields.get(name)
        if seen is None or seen.kind is not Kind.NUMBER:
            if name == "XRayTubeCurrentInmA":
                lines.append(f"{name} = [0, {FIELDS[name].high:g}]  # not recorded: the form's own maximum")
            if name in ("KVP", "RevolutionTime"):
                known = FIELDS[name]
                lines.append(
                    f"{name} = [{known.low:g}, {known.high:g}]  # not recorded: the form's own range"
                )
            continue
        low = 0.0 if name in _FROM_ZERO else seen.low
        lines.append(f"{name} = [{_toml(low)}, {_toml(seen.high)}]  # {seen.count} recorded")
    return "\n".join(lines) + "\n\n"


def _toml(value: float) -> str:
    return f"{value:.12g}"


def rates(learned: list[Learned]) -> dict[tuple[int, float], float]:
    """Upper bound of CTDIvol per effective mAs by phantom (cm) and tube voltage (kV)."""
    phantoms = {folded(name): cm for name, cm in PHANTOM_DIAMETER_CM.items()}
    found: dict[tuple[int, float], float] = {}
    for one in learned:
        if one.identity not in _RATES or not {"KVP", "CTDIwPhantomType"} <= set(one.levels):
            continue
        for key, cell in one.cells.items():
            told = dict(zip(one.levels, key, strict=False))
            kvp, name = told.get("KVP"), told.get("CTDIwPhantomType")
            phantom = phantoms.get(folded(name)) if isinstance(name, str) else None
            if cell is None or phantom is None or not isinstance(kvp, float) or not math.isfinite(cell[1]):
                continue
            place = (phantom, kvp)
            found[place] = max(found.get(place, 0.0), cell[1] * _MARGIN)
    return found


def _dose(found: Mapping[tuple[int, float], float]) -> str:
    if not found:
        return "# No [[dose]]: the bundle learned no CTDIvol per mAs. The relay then knows only what the host states.\n"
    rows = [
        f"[[dose]]\nphantom_cm = {phantom}\nKVP = {_toml(kvp)}\nmGy_per_mAs = {rate:.4g}\n"
        for (phantom, kvp), rate in sorted(found.items())
    ]
    return "# From the bundle's constants, a tenth added.\n" + "".join(rows)

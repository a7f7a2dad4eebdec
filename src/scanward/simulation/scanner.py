"""What a simulated gantry can do and what happens when it does it: hardware limits, AEC, tube heat, contrast.

Pure functions and data: the state machine that is told what to do lives in ``emulator``. A gantry obeys within its
*hardware* limits. They are wider than anything clinical, and that is why a guard is needed: 140 kV, 800 mA and
thirty rotations on one slice are all legal.

Models, kept small on purpose and all of them assumptions unless a source is named:

* **AEC**: the reference (noise index, or quality reference mAs) names the current at a reference patient; the
  patient's attenuation, as the *localizer* measured it, multiplies it. A noise index halved is four times the
  dose: noise goes with the inverse root of dose. A localizer taken off the centre magnifies the patient, and the
  dose goes with it: 40 mm too high gives 20 to 35 % more.
* **Heat**: kV x mA x s x 1.35 heat units (constant potential), cooling exponentially.
* **Contrast**: it arrives at the monitored vessel one transit after the injection began and stays for a while.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scanward.commands import BODY_PHANTOM, PHANTOM_DIAMETER_CM, Command, Examination, Value
from scanward.commands.wire import Axis
from scanward.simulation import constants as k
from scanward.simulation.constants import MODELS, Model
from scanward.simulation.elements import LOCALIZER, SEQUENCED, SPIRAL, STATIONARY
from scanward.simulation.physics import consequences, dose_constant, kvp_ratio, max_ma

MARK = "Simulated"  # how the manufacturer of every simulated device begins
HEAT_UNITS_PER_J = 1.35  # heat units of a constant-potential generator, per kV x mA x s
CAPACITY_PER_KW = 70_000.0  # heat units: 7 million for a tube of 100 kW
COOLING_S = 420.0  # time constant
UNREPORTED_LOCALIZER = 0.004  # mGy per mA at 120 kV, for makers that report no dose of a localizer
SOURCE_TO_CENTRE_MM = 600.0  # of the tube to the isocentre
CLEARANCE_MM = 150.0  # how far the table may be from the patient's centre before something is hit
POSITIONING_MM_S = 200.0  # the table on its way to the start of a scan
CONTRAST_STAYS_S = 14.0
MONITOR_INTERVAL_S = 1.0  # from one monitoring rotation to the next
DOSE_AT_NOISE_10 = 7.5  # mGy at the reference patient with a noise index of 10


@dataclass(frozen=True)
class Travel:
    """Where an axis ends and how fast it goes."""

    low: float
    high: float
    speed: float


TRAVEL = {
    Axis.TABLE_Z: Travel(-2200.0, 2200.0, 500.0),  # mm, mm/s
    Axis.TABLE_HEIGHT: Travel(0.0, 400.0, 40.0),  # mm, mm/s
    Axis.GANTRY_TILT: Travel(-30.0, 30.0, 6.0),  # degrees, degrees/s
}
MOST_SCAN_MM = 2000.0


@dataclass(frozen=True)
class OnTable:
    """Who lies on the table, as nature has it: nothing of this is told by the host.

    Attributes
    ----------
    size : float
        True water-equivalent diameter, mm.
    centre : float
        TableHeight (mm) at which the patient is in the isocentre.
    attenuation : mapping of phantom (cm) to float
        Log of the current that AEC needs over that of the reference patient.
    transit : float
        Seconds from the injection to the contrast in the monitored vessel.
    """

    age: float = 60.0
    size: float = 280.0
    centre: float = 150.0
    attenuation: Mapping[int, float] = field(default_factory=dict)
    transit: float = 16.0

    @property
    def child(self) -> bool:
        """Under 13 years."""
        return self.age < 13


@dataclass(frozen=True)
class Performed:
    """One scan as the gantry does it: what it uses, how long it takes, what it gives.

    ``reported`` is False where the maker reports no dose. ``low`` and ``high`` (mm) include over-ranging.
    """

    parameters: Mapping[str, Value]
    seconds: float
    ctdivol: float
    dlp: float
    phantom_cm: int
    low: float
    high: float
    heat: float
    reported: bool = True


def model_named(manufacturer: str, name: str) -> Model | None:
    """The simulated model of that maker and name, None when there is none."""
    return next((m for m in MODELS if (m.manufacturer, m.name) == (manufacturer, name)), None)


def _number(told: Mapping[str, Value], name: str) -> float | None:
    value = told.get(name)
    return value if isinstance(value, float) and math.isfinite(value) else None


# --- what the hardware refuses ----------------------------------------------------------------------------
def refusal(model: Model, told: Mapping[str, Value]) -> str:
    """Why this gantry cannot do a scan, in words; empty when it can. Clinical sense is not asked for."""
    kind = told.get("AcquisitionType")
    if kind not in (LOCALIZER, SPIRAL, SEQUENCED, STATIONARY):
        return f"AcquisitionType {kind} is not one of this gantry's"
    needed = ["KVP", "XRayTubeCurrentInmA", "ScanLength", "AcquisitionStartLocation"]
    if kind != LOCALIZER:
        needed += ["TotalCollimationWidth", "RevolutionTime"]
        needed += {SPIRAL: ["SpiralPitchFactor"], STATIONARY: ["NumberOfRotations"]}.get(str(kind), [])
    missing = [name for name in needed if _number(told, name) is None]
    if missing:
        return f"without {', '.join(missing)}"
    kvp, ma, length = (float(told[n]) for n in ("KVP", "XRayTubeCurrentInmA", "ScanLength"))
    limits = {
        "XRayTubeCurrentInmA": (ma, 1.0, max_ma(model, kvp) if kvp in model.kvps else model.max_ma),
        "ScanLength": (length, 0.0, MOST_SCAN_MM),
        "GantryDetectorTilt": (_number(told, "GantryDetectorTilt") or 0.0, *_ends(Axis.GANTRY_TILT)),
        "TableHeight": (_number(told, "TableHeight") or 0.0, *_ends(Axis.TABLE_HEIGHT)),
        "AcquisitionStartLocation": (float(told["AcquisitionStartLocation"]), *_ends(Axis.TABLE_Z)),
        "AcquisitionEndLocation": (_direction(told, length)[1], *_ends(Axis.TABLE_Z)),
    }
    if kind != LOCALIZER:
        widest = max(total for _, total, _ in model.collimations)
        limits["TotalCollimationWidth"] = (float(told["TotalCollimationWidth"]), 0.5, widest)
        limits["RevolutionTime"] = (
            float(told["RevolutionTime"]),
            min(model.rotations),
            2 * max(model.rotations),
        )
    if kind == SPIRAL:
        limits["SpiralPitchFactor"] = (float(told["SpiralPitchFactor"]), 0.05, 3.4)
    if kind == STATIONARY:
        limits["NumberOfRotations"] = (float(told["NumberOfRotations"]), 1.0, 400.0)
    if kvp not in model.kvps:
        return f"KVP {kvp:g} kV is not one of {', '.join(f'{v:g}' for v in model.kvps)}"
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            return f"{name} {value:g} is beyond {low:g} to {high:g}"
    return ""


def _ends(axis: Axis) -> tuple[float, float]:
    return TRAVEL[axis].low, TRAVEL[axis].high


def _direction(told: Mapping[str, Value], length: float) -> tuple[float, float]:
    """Start and end of the range (mm): the end's side is as told, its distance follows from the length."""
    begin = _number(told, "AcquisitionStartLocation") or 0.0
    end = _number(told, "AcquisitionEndLocation")
    sign = 1.0 if end is not None and end > begin else -1.0
    return begin, begin + sign * length


# --- what it does -----------------------------------------------------------------------------------------
def aec_reference(model: Model, told: Mapping[str, Value]) -> float | None:
    """The current (mA) at the reference patient; None when AEC is off or has nothing to go by."""
    if told.get("ExposureModulationType") in (None, "NONE", "OFF"):
        return None
    rotation, kvp = _number(told, "RevolutionTime"), _number(told, "KVP")
    if not rotation or not kvp:
        return None
    per_mas = (_number(told, "SpiralPitchFactor") or 1.0) / rotation
    wanted = _number(told, model.aec_reference)
    if not wanted or wanted <= 0:
        return None
    if model.aec_reference == "NoiseIndex":
        total = _number(told, "TotalCollimationWidth") or 0.0
        constant = dose_constant(model, str(told.get("FilterType")), total, _phantom(told))
        return float(
            DOSE_AT_NOISE_10 * (k.NOISE_INDEX_AT_REFERENCE / wanted) ** 2
            / (constant * kvp_ratio(kvp)) * per_mas
        )  # fmt: skip
    return float(wanted * per_mas * (120.0 / kvp) ** model.aec_kvp_power)


def _phantom(told: Mapping[str, Value]) -> str:
    return str(told.get("CTDIwPhantomType") or BODY_PHANTOM)


def phantom_cm(told: Mapping[str, Value]) -> int:
    """Diameter of the phantom that a dose of this command speaks of (32 when it names none)."""
    return PHANTOM_DIAMETER_CM.get(_phantom(told), 32)


def magnified(true_size: float, height: float, centre: float) -> float:
    """The size that a localizer measures (mm) when the patient lies ``height - centre`` off the isocentre."""
    off = max(-CLEARANCE_MM, min(CLEARANCE_MM, height - centre))
    return true_size * SOURCE_TO_CENTRE_MM / (SOURCE_TO_CENTRE_MM - off)


def current(model: Model, told: Mapping[str, Value], who: OnTable, measured: float | None = None) -> float:
    """The mean current (mA) that the tube gives: AEC's within its limits, else the one told.

    ``measured`` is the size that the last localizer measured; None before there was one.
    """
    asked = _number(told, "XRayTubeCurrentInmA") or 0.0
    reference = aec_reference(model, told)
    if reference is None:
        return asked
    seen = 0.0 if measured is None else model.aec_slope * (measured - who.size)
    value = reference * math.exp(who.attenuation.get(phantom_cm(told), 0.0) + seen)
    low, high = _number(told, "AECMinimumTubeCurrent"), _number(told, "AECMaximumTubeCurrent")
    value = min(value, high if high is not None else math.inf, max_ma(model, float(told["KVP"])))
    value = max(value, low if low is not None else 0.0)
    return max(model.ma_step, round(value / model.ma_step) * model.ma_step)


def perform(
    model: Model, told: Mapping[str, Value], who: OnTable, measured: float | None = None
) -> Performed:
    """The scan that follows from a command that ``refusal`` had nothing against. KeyError otherwise."""
    done = dict(told)
    done["XRayTubeCurrentInmA"] = current(model, told, who, measured)
    done.setdefault("CTDIwPhantomType", BODY_PHANTOM)
    done.setdefault("FilterType", "")
    figures = consequences(model, done)
    done.update({name: value for name, value in figures.items() if name in told})
    kvp, ma = float(done["KVP"]), float(done["XRayTubeCurrentInmA"])
    length = float(done["ScanLength"])
    begin, end = _direction(told, length)
    reported = "CTDIvol" in figures
    ctdi = float(figures.get("CTDIvol", UNREPORTED_LOCALIZER * ma * kvp_ratio(kvp)))
    dlp = float(figures.get("DLP", ctdi * length / 10))
    # over-ranging: what DLP says beyond the range is given on both sides of it
    beam = 10 * dlp / ctdi if ctdi > 0 else length
    middle = (begin + end) / 2
    seconds = float(figures["ExposureTimeInms"]) / 1000
    return Performed(
        done, seconds, ctdi, dlp, phantom_cm(told), middle - beam / 2, middle + beam / 2,
        kvp * ma * seconds * HEAT_UNITS_PER_J, reported,
    )  # fmt: skip


def part_of(scan: Performed, share: float, forward: bool) -> Performed:
    """What was given when the beam went off after a share of the time; a table that moved covered only a part."""
    share = min(max(share, 0.0), 1.0)
    stationary = scan.parameters.get("AcquisitionType") == STATIONARY
    low, high = scan.low, scan.high
    if not stationary:
        low, high = (low, low + share * (high - low)) if forward else (high - share * (high - low), high)
    ctdi = scan.ctdivol * share if stationary else scan.ctdivol
    return Performed(
        scan.parameters, scan.seconds * share, ctdi, scan.dlp * share, scan.phantom_cm, low, high,
        scan.heat * share, scan.reported,
    )  # fmt: skip


def forward(told: Mapping[str, Value]) -> bool:
    """Whether the table runs towards larger z during a scan."""
    begin, end = _direction(told, _number(told, "ScanLength") or 0.0)
    return end > begin


# --- tube ---------------------------------------------------------------------------------------------------
def capacity(model: Model) -> float:
    """Heat units that the anode can hold."""
    return CAPACITY_PER_KW * model.max_kw


def cooled(heat: float, seconds: float) -> float:
    """Heat units left after a while."""
    return heat * math.exp(-max(seconds, 0.0) / COOLING_S)


# --- who lies there -----------------------------------------------------------------------------------------
def on_table(examination: Examination, model: Model) -> OnTable:
    """The patient for whom an examination of the site was made, as nature has it.

    The console forecast the currents of ``examination`` from its localizer: so AEC, told the same, gives the same.
    """
    commands = examination.commands
    logs: dict[int, list[float]] = {}
    for command in commands:
        asked = command.number("XRayTubeCurrentInmA")
        reference = aec_reference(model, command.parameters)
        if asked and reference:
            logs.setdefault(phantom_cm(command.parameters), []).append(math.log(asked / reference))
    heights = [h for c in commands if (h := c.number("TableHeight")) is not None]
    monitoring = monitored(commands)
    rotations = commands[monitoring].number("NumberOfRotations") if monitoring is not None else None
    size = next((s for c in commands if (s := c.number("WaterEquivalentDiameter")) is not None), 280.0)
    age = next((a for c in commands if (a := c.number("PatientAge")) is not None), 60.0)
    return OnTable(
        age, size, heights[0] if heights else model.table_height,
        {cm: sum(many) / len(many) for cm, many in logs.items()},
        transit=MONITOR_INTERVAL_S * ((rotations or 5.0) - 1.0),
    )  # fmt: skip


def monitored(commands: tuple[Command, ...]) -> int | None:
    """Index of the last stationary scan that a helical one follows: the monitoring of a bolus; None without."""
    found = None
    for i in range(len(commands) - 1):
        kinds = commands[i].text("AcquisitionType"), commands[i + 1].text("AcquisitionType")
        fixed = commands[i].text("ProtocolElementName") != "Monitoring"
        if kinds == (STATIONARY, SPIRAL) and not fixed:
            found = i
    return found

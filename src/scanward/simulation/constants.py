"""Every constant of the simulated site, each with its source.

Sources, by the short names used below:

* ``REF``: recorded dose-report events collected in the reference table of techniques (OpenREM's public test
  files), and what was measured on them: mGy per 100 effective mAs, tube-voltage ratios, over-ranging.
* ``DRL``: the reference table of diagnostic reference levels (ACR DIR 2017 and 2022, UK 2022, RP 185, ...).
* ``CTSET``: the published metadata of COVID-CTset (one SOMATOM Scope).
* ``DESIGN``: the rates stated in the project's design (operators deviate in 1-2 % of scans).
* ``assumption:`` no source; a plausible value, chosen before any detector was run, and never tuned.
"""

from __future__ import annotations

from dataclasses import dataclass

from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM

# --- tube voltage -----------------------------------------------------------------------------------------
# CTDIvol relative to 120 kV at the same mAs. 80/100/120/140: REF, SOMATOM Definition Flash QA series
# (6.26/13.17/21.95/33.83 mGy). 70: assumption: extrapolated with the same slope. 110, 130 and
# 135: interpolated, kV^2.9.
KVP_RATIO = {
    70.0: 0.19, 80.0: 0.285, 100.0: 0.600, 110.0: 0.777, 120.0: 1.0, 130.0: 1.261, 135.0: 1.407, 140.0: 1.541,
}  # fmt: skip

# Head (16 cm) over body (32 cm) phantom at the same mAs. REF: LightSpeed VCT sequenced head 22.26 mGy at
# 140 mAs = 15.9 per 100 mAs against 8.5-8.7 for its body rows.
HEAD_OVER_BODY = 1.85


@dataclass(frozen=True)
class Model:
    """One simulated scanner model: what its maker built in.

    mGy, mm, s, kV, mA, kW. ``overrange``: (per feed, per collimation) added to ScanLength before
    DLP is formed.
    """

    manufacturer: str
    name: str
    mgy_per_100_mas: float  # 120 kV, body phantom, widest collimation, body filter
    kvps: tuple[float, ...]
    collimations: tuple[tuple[float, float, float], ...]  # (single, total, dose factor), narrow to wide
    rotations: tuple[float, ...]
    pitches: tuple[float, ...]
    filters: dict[str, tuple[str, float]]  # kind -> (FilterType, dose factor)
    fields_of_view: tuple[float, ...]
    kernels: dict[str, str]
    max_ma: float
    max_kw: float
    ma_step: float
    length_step: float
    dlp_decimals: int
    overrange: tuple[float, float]
    exposure_is_effective: bool
    localizer_dose_per_ma: (
        float | None
    )  # mGy per mA at 120 kV; None: the maker reports no dose for localizers
    localizer_kvp: float
    localizer_ma: float
    aec_slope: float  # per mm of water-equivalent diameter
    aec_kvp_power: float
    aec_name: str
    aec_reference: str  # the field that steers the AEC
    child_body_phantom: str
    tilts: bool
    table_height: float
    style: str  # how protocol names are written
    software: str = "SIM 1.0"  # SoftwareVersions


MODELS: tuple[Model, ...] = (
    Model(
        manufacturer="Simulated Sigma",
        name="S-128",
        mgy_per_100_mas=6.71,  # REF: Siemens 6.65-6.77
        kvps=(70.0, 80.0, 100.0, 120.0, 140.0),  # REF: Flash 80-140; 70: assumption
        # REF: 0.6 x 32 = 19.2, 0.6 x 64 = 38.4. Over-beaming of narrow beams:
        # assumption (REF allows about 2 %)
        collimations=((0.6, 3.6, 1.30), (0.6, 19.2, 1.06), (0.6, 38.4, 1.0)),
        rotations=(0.28, 0.33, 0.5, 1.0),  # REF: 0.28, 0.5, 1.0; 0.33: assumption
        pitches=(0.2, 0.55, 0.6, 0.8, 0.9, 1.0, 1.2, 1.4, 3.2),  # REF rows: 0.2, 0.55-1.4, 3.2
        # assumption: names and factors of bow-tie filters
        filters={"head": ("WEDGE_2", 1.0), "body": ("WEDGE_3", 1.0), "cardiac": ("WEDGE_1", 0.93)},
        fields_of_view=(300.0, 500.0),  # CTSET: 500; 300: assumption
        kernels={
            "soft": "Br40",
            "brain": "Hr40",
            "lung": "Bl57",
            "bone": "Br64",
            "vessel": "Bv36",
            "scout": "T20",
        },
        max_ma=800.0,  # REF: Flash rows up to 800 mA
        max_kw=100.0,  # assumption
        ma_step=1.0,  # REF: 72, 79, 176 mA
        length_step=1.0,  # REF: lengths in whole mm
        dlp_decimals=2,  # REF: 55.12
        overrange=(-0.48, -0.29),  # REF: lengths hold the over-range; DLP/CTDIvol is 2.2-3.4 cm shorter
        exposure_is_effective=True,  # the known quirk: Exposure includes pitch at this maker
        localizer_dose_per_ma=0.0040,  # REF: 0.14 mGy at 35 mA, 120 kV
        localizer_kvp=120.0,
        localizer_ma=35.0,  # REF
        aec_slope=0.0105,  # assumption: between constant mA and constant noise
        aec_kvp_power=2.4,  # assumption
        aec_name="XYZ_EC",  # REF
        aec_reference="QualityReferenceMAs",
        child_body_phantom=BODY_PHANTOM,
        tilts=True,
        table_height=163.0,  # CTSET
        style="{area}^{index:02d}_{name}",
    ),
    Model(
        manufacturer="Simulated Gamma",
        name="G-64",
        mgy_per_100_mas=8.58,  # REF: GE 8.5-8.7
        kvps=(80.0, 100.0, 120.0, 140.0),  # REF
        collimations=((0.625, 5.0, 1.35), (0.625, 20.0, 1.04), (0.625, 40.0, 1.0)),  # REF; factors assumption
        rotations=(0.35, 0.4, 0.5, 0.6, 0.7, 1.0),  # REF
        pitches=(0.516, 0.969, 0.984, 1.375),  # REF: 0.969, 0.984, 1.375; 0.516: assumption
        # assumption
        filters={"head": ("HEAD", 1.0), "body": ("BODY", 1.0), "cardiac": ("CARDIAC_SMALL", 0.90)},
        fields_of_view=(250.0, 320.0, 500.0),  # assumption: small, medium, large
        kernels={
            "soft": "STANDARD",
            "brain": "SOFT",
            "lung": "LUNG",
            "bone": "BONEPLUS",
            "vessel": "DETAIL",
            "scout": "SCOUT",
        },
        max_ma=700.0,  # REF: AEC 10-700 mA
        max_kw=85.0,  # assumption
        ma_step=5.0,  # REF: 85, 100, 560 mA
        length_step=0.5,  # assumption (REF: 468.12, 443.75)
        dlp_decimals=2,  # REF: 246.69
        overrange=(1.17, 0.0),  # REF: 1.16-1.19 feeds in the three recorded GE spirals
        exposure_is_effective=False,
        localizer_dose_per_ma=None,  # REF: GE localizer events carry no CTDIvol
        localizer_kvp=120.0,
        localizer_ma=10.0,  # REF
        aec_slope=0.0150,  # assumption: close to constant noise
        aec_kvp_power=2.7,  # assumption
        aec_name="ANGULAR_Z",  # assumption
        aec_reference="NoiseIndex",
        child_body_phantom=HEAD_PHANTOM,  # assumption: small fields report on the 16 cm phantom
        tilts=True,
        table_height=140.0,  # assumption
        style="{index}.{index2} {name}",
    ),
    Model(
        manufacturer="Simulated Tau",
        name="T-80",
        mgy_per_100_mas=5.62,  # REF: Toshiba/Canon 5.5-5.75
        kvps=(80.0, 100.0, 120.0, 135.0),  # 120 REF; 135: assumption
        collimations=((0.5, 4.0, 1.28), (0.5, 20.0, 1.05), (0.5, 40.0, 1.0)),  # 40 REF; others assumption
        rotations=(0.35, 0.5, 0.6, 0.75, 1.0),  # REF: 0.5; others assumption
        pitches=(0.238, 0.637, 0.813, 1.388),  # REF: 0.813; others assumption
        # assumption
        filters={"head": ("SMALL", 1.0), "body": ("LARGE", 1.0), "cardiac": ("MEDIUM", 0.95)},
        fields_of_view=(240.0, 320.0, 400.0, 500.0),  # assumption
        kernels={
            "soft": "FC18",
            "brain": "FC26",
            "lung": "FC55",
            "bone": "FC30",
            "vessel": "FC43",
            "scout": "FL03",
        },
        max_ma=600.0,  # REF: AEC 10-600 mA
        max_kw=72.0,  # assumption
        ma_step=5.0,  # REF: 95, 140, 150 mA
        length_step=1.0,  # REF: 487.00, 366.00
        dlp_decimals=1,  # REF: 251.20, 136.90
        overrange=(0.0, 0.9),  # assumption, within REF (-1.3 and +6.2 cm in two events)
        exposure_is_effective=False,
        localizer_dose_per_ma=None,  # REF
        localizer_kvp=120.0,
        localizer_ma=30.0,  # REF
        aec_slope=0.0130,  # assumption
        aec_kvp_power=2.5,  # assumption
        aec_name="3D/3D",  # REF
        aec_reference="NoiseIndex",
        child_body_phantom=BODY_PHANTOM,
        tilts=True,
        table_height=95.0,  # assumption
        style="{name} #{index}",
    ),
)

DEVICE_SHARE = (0.45, 0.33, 0.22)  # assumption

# --- AEC and rounding -------------------------------------------------------------------------------------
AEC_SPREAD = 0.12  # DESIGN: residual spread of log mA
AEC_MAX_FACTOR = 2.5  # assumption: AEC upper limit over the element's reference
AEC_MIN_FACTOR = 0.12  # assumption
REFERENCE_SIZE = {
    "head": 172.0,
    "neck": 190.0,
    "chest": 270.0,
    "abdomen": 288.0,
    "limb": 115.0,
}  # assumption (mm)
SITE_DOSE_SPREAD = 0.15  # assumption: how sites differ from the same published technique (log)
NOISE_INDEX_AT_REFERENCE = 10.0  # REF: noise 10 HU for chest
CTDI_DECIMALS = 2  # REF

# --- geometry ---------------------------------------------------------------------------------------------
LENGTH_SPREAD = 0.07  # assumption: log length between patients of one stature
START_SPREAD_MM = 12.0  # assumption
TABLE_HEIGHT_SPREAD_MM = 12.0  # assumption, CTSET shows about this much
RECON_SPREAD_MM = 10.0  # assumption
LOCALIZER_SPEED_MM_S = 100.0  # assumption
MONITOR_MIN_ROTATIONS, MONITOR_MEAN_EXTRA = (
    3,
    4.0,
)  # REF: three rotations in the recorded Flash; spread assumption
MAX_RANGE_MM = 2000.0  # assumption: travel of the table

# --- operators' freedom (DESIGN: 1-2 % of scans each; the manner is assumption throughout) ------------------
RETAKE_RATE = 0.013  # per scan
RETAKE_CHILD_FACTOR = 1.8  # children move
RETAKE_HEAD_FACTOR = 1.3  # so do the confused
RETAKE_AGAIN_RATE = 0.04  # a third sending of the same element
RETAKE_SHORT_SHARE, RETAKE_SHORT_LOG, RETAKE_SHORT_SPREAD = 0.7, -0.6, 0.25
SKIP_RATE = 0.012
CANCEL_RATE = 0.010  # per examination of three commands: half of it before each further one
MANUAL_RATE = 0.010
MANUAL_SPREAD = 0.20  # log mA about the size-matched current
MANUAL_STEP = 25.0  # mA: people choose round numbers; 10 below 100 mA
KVP_UP_RATE, KVP_DOWN_RATE = 0.020, 0.020  # for large and for small patients, see choices.kvp_options
KVP_ANY_RATE = 0.0004
KVP_SIZE_SCALE = 0.16  # relative size at which the habit sets in
FOV_RATE, FOV_ANY_RATE = 0.045, 0.0005  # at the edge of a field of view, and elsewhere
SLOW_ROTATION_RATE = 0.015  # for large patients
RANGE_RATE, RANGE_LOG, RANGE_SPREAD = 0.015, 0.25, 0.08
TILT_RATE = 0.02  # sequenced heads, away from the orbits: -5 to -20 degrees in steps of 0.5
TILT_LOW, TILT_HIGH, TILT_STEP = 5.0, 20.0, 0.5
FEET_FIRST_RATE = 0.012  # per examination of the trunk: lines and pumps
PRONE_RATE = 0.008  # per examination of the trunk: pain, interventions
TURNED_RATE = 0.0008  # per command: the patient was turned within the examination
MOVED_RATE = 0.012  # table height changed between two commands
MOVED_RETAKE_RATE = 0.35
TEAM_FACTOR = (1.20, 0.85, 1.05)  # night, day, evening: how freely each shift deviates; mild

# --- patients (see patients.py) -----------------------------------------------------------------------------
ADULT_AGE_MEAN, ADULT_AGE_SPREAD, ADULT_AGE_LIMITS = 61.0, 17.0, (18.0, 97.0)  # assumption
HEIGHT_M = {"M": 1.755, "F": 1.625}  # assumption: adult medians
HEIGHT_SPREAD = 0.040  # log
BMI_MEDIAN, BMI_SPREAD = 26.8, 0.185  # assumption
CHILD_WEIGHT_SPREAD = 0.13  # log, assumption
BODY_FILL = 0.70  # assumption: abdomen area = weight / (1000 kg/m3 x height x this)
SIZE_SPREAD = 0.050  # log, assumption: build at equal weight and height
HEAD_SIZE_SPREAD = 0.035
LIMB_SIZE_SPREAD = 0.15
CHEST_FACTOR, NECK_FACTOR = 0.93, 0.66  # of the abdomen's water-equivalent diameter; assumption
LOCALIZER_SIZE_NOISE = 0.015  # log, assumption: the localizer against the truth; AEC acts on the localizer's
WEIGHT_MISSING_RATE, HEIGHT_MISSING_RATE = 0.35, 0.40  # assumption
UNKNOWN_PATIENT_RATE = 0.06  # of emergencies; assumption

# --- time -------------------------------------------------------------------------------------------------
EXAMINATIONS_PER_DAY = 60  # assumption: three scanners of one hospital
HOUR_WEIGHTS = (1, 1, 1, 1, 1, 1, 2, 3, 6, 8, 8, 8, 7, 7, 8, 8, 6, 5, 4, 3, 3, 2, 2, 1)  # assumption
LOCALIZER_PAUSE_S, SCAN_PAUSE_S, RETAKE_PAUSE_S = 35.0, 25.0, 60.0  # assumption: medians, log spread 0.4
CHILD_SHARE_OF_ALL_AGE_PROTOCOLS = 0.30  # assumption

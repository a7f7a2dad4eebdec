"""Commands for the tests of the three outer layers: real tables of shared data, and a small clean scanner.

Built here from the CSV files, because these layers lie below the table readers.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

from hypothesis import strategies as st

from scanward.commands import (
    BODY_PHANTOM,
    FIELDS,
    HEAD_PHANTOM,
    Command,
    Context,
    Device,
    Origin,
    Role,
    Told,
    Value,
)

SCOPE = Device("SIEMENS", "SOMATOM Scope", "s1", "VC30")
GE = Device("GE", "Revolution CT", "g1")
CLEAN = Device("Example", "One", "e1", "1.0")


def covid_ctset(data: Path) -> list[Command]:
    """1,119 series of one Siemens scanner, in order of examination (role performed, no phantom stated)."""
    path = data / "ct" / "covid_ctset" / "covid_ctset_series.csv"
    names = {
        "KVP": "KVP", "XRayTubeCurrent": "XRayTubeCurrentInmA", "Exposure": "Exposure",
        "ExposureTime": "ExposureTimeInms", "CTDIvol": "CTDIvol", "SpiralPitchFactor": "SpiralPitchFactor",
        "TableFeedPerRotation": "TableFeedPerRotation", "TableSpeed": "TableSpeed",
        "SingleCollimationWidth": "SingleCollimationWidth", "TotalCollimationWidth": "TotalCollimationWidth",
        "TableHeight": "TableHeight", "GantryDetectorTilt": "GantryDetectorTilt",
        "DataCollectionDiameter": "DataCollectionDiameter",
        "ReconstructionDiameter": "ReconstructionDiameter", "SliceThickness": "SliceThickness",
        "EstimatedDoseSaving": "EstimatedDoseSaving",
    }  # fmt: skip
    texts = ("ExposureModulationType", "FilterType", "FocalSpots", "ConvolutionKernel", "PatientPosition")
    commands = []
    with path.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda r: int(r["ExamOrder"]))
    for number, row in enumerate(rows):
        parameters: dict[str, Value] = {"AcquisitionType": "SPIRAL"}
        parameters |= {field: float(row[column]) for column, field in names.items() if row[column]}
        parameters |= {field: row[field] for field in texts}
        context = Context(
            {
                "PatientAge": (Told(float(row["PatientAge_years"])),),
                "BodyPartExamined": (Told(row["BodyPartExamined"]),),
                "ProtocolName": (Told(row["ProtocolName"]),),
            }
        )
        exam = row["PatientID"]
        commands.append(
            Command(parameters, context, SCOPE, examination=exam, origin=Origin(path.name, number))
        )
    return commands


def ge_protocols(data: Path) -> list[Command]:
    """531 programmed scans of one GE scanner (role commanded; phantom from the field of view)."""
    path = data / "ct" / "ge_revolution_protocols" / "protocol_scan_groups.csv"
    names = {
        "kV": "KVP", "mA": "XRayTubeCurrentInmA",
        "RotationSpeed_s": "RevolutionTime", "NoiseIndex": "NoiseIndex",
        "MinmA": "AECMinimumTubeCurrent", "MaxmA": "AECMaximumTubeCurrent", "CTDIvol_mGy": "CTDIvol",
        "DLP_mGycm": "DLP", "RangeLength_mm": "ScanLength",
        "Start_mm_S_positive": "AcquisitionStartLocation",
        "End_mm_S_positive": "AcquisitionEndLocation", "AxialInterval_mm": "AxialInterval",
    }  # fmt: skip
    types = {"Helical": "SPIRAL", "Axial": "SEQUENCED", "Cardiac": "SEQUENCED", "Cine": "STATIONARY"}
    commands = []
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if row["ScanKind"] != "Scan":
                continue
            parameters: dict[str, Value] = {"AcquisitionType": types.get(row["ScanType"], row["ScanType"])}
            parameters |= {field: float(row[column]) for column, field in names.items() if row[column]}
            parameters |= {"FilterType": row["SFOV"], "Rows": row["Rows"], "ScanKindOfMaker": row["ScanType"]}
            if row["PitchField_as_exported"]:
                parameters["PitchCode"] = row["PitchField_as_exported"]
            head = "Head" in row["SFOV"]
            parameters["CTDIwPhantomType"] = HEAD_PHANTOM if head else BODY_PHANTOM
            age = 40.0 if row["AgeGroup"] == "ADULT" else 6.0
            context = Context({"BodyPartExamined": (Told(row["Anatomy"]),), "PatientAge": (Told(age),)})
            exam = row["ProtocolIndex"]
            commands.append(
                Command(
                    parameters,
                    context,
                    GE,
                    Role.COMMANDED,
                    examination=exam,
                    origin=Origin(path.name, number),
                )
            )
    return commands


_MGY_PER_MAS = {(120.0, HEAD_PHANTOM): 0.14, (120.0, BODY_PHANTOM): 0.067, (100.0, BODY_PHANTOM): 0.041}


def clean_scanner(count: int, seed: int = 0) -> list[Command]:
    """A scanner whose figures agree with each other up to rounding: spirals, sequences, monitoring.

    Figures are rounded as a dose report rounds them; nothing here is taken from the simulation room.
    """
    rng = random.Random(seed)
    commands = []
    for number in range(count):
        kind = rng.choices(("body", "low", "head", "sequence", "monitor"), (50, 20, 15, 10, 5))[0]
        commands.append(_clean_command(kind, rng, number))
    return commands


def _clean_command(kind: str, rng: random.Random, number: int) -> Command:
    voltage = 100.0 if kind == "low" else 120.0
    phantom = HEAD_PHANTOM if kind in ("head", "sequence") else BODY_PHANTOM
    wide = rng.random() < 0.7
    collimation = 10.0 if kind == "monitor" else 38.4 if wide else 19.2
    current = float(round(min(max(rng.lognormvariate(5.0, 0.5), 20), 700)))
    rotation = rng.choice((0.5, 1.0)) if kind != "monitor" else 0.5
    constant = _MGY_PER_MAS[(voltage, phantom)] * (1.0 if wide or kind == "monitor" else 1.09)
    constant *= 1 + rng.uniform(-0.004, 0.004)
    parameters: dict[str, Value] = {
        "KVP": voltage, "RevolutionTime": rotation, "TotalCollimationWidth": collimation,
        "XRayTubeCurrentInmA": current, "CTDIwPhantomType": phantom, "FilterType": "0",
        "ConvolutionKernel": rng.choice(("Br40", "Br60", "Hr40")),
        "TableHeight": float(rng.randint(120, 180)),
    }  # fmt: skip
    length = float(rng.randint(120, 180) if phantom == HEAD_PHANTOM else rng.randint(250, 700))
    start = float(rng.randint(-50, 50))
    if kind == "monitor":
        rotations = float(rng.randint(1, 12))
        parameters |= {"AcquisitionType": "STATIONARY", "NumberOfRotations": rotations}
        length, over = 10.0, 0.0
        parameters["XRayTubeCurrentInmA"] = current = float(rng.randint(30, 50))
        dose = constant * current * rotation * rotations
        exposure = current * rotation
    elif kind == "sequence":
        parameters |= {"AcquisitionType": "SEQUENCED", "TableFeedPerRotation": collimation}
        dose, exposure, over = constant * current * rotation, current * rotation, 0.0
    else:
        pitch = rng.choice((0.6, 0.9, 1.2))
        feed = round(pitch * collimation, 1)
        parameters |= {
            "AcquisitionType": "SPIRAL", "SpiralPitchFactor": pitch, "TableFeedPerRotation": feed,
            "TableSpeed": float(round(feed / rotation)),
        }  # fmt: skip
        dose, over = constant * current * rotation / pitch, 2.0 * collimation * pitch
        exposure = current * rotation / pitch
    shown = round(dose, 2)
    parameters |= {
        "CTDIvol": shown, "DLP": round(dose * (length + over) / 10, 1), "ScanLength": length,
        "AcquisitionStartLocation": start, "AcquisitionEndLocation": start - length,
        "Exposure": float(round(exposure)),
    }  # fmt: skip
    region = "HEAD" if phantom == HEAD_PHANTOM else "CHEST"
    context = Context(
        {"BodyPartExamined": (Told(region),), "PatientAge": (Told(float(rng.randint(20, 80))),)}
    )
    return Command(parameters, context, CLEAN, examination=str(number // 3), origin=Origin("", number))


def halves(commands: list[Command], seed: int = 1) -> tuple[list[Command], list[Command]]:
    """Whole examinations, one half to learn from and one held out."""
    examinations = sorted({c.examination or "" for c in commands})
    random.Random(seed).shuffle(examinations)
    first = set(examinations[: len(examinations) // 2])
    return (
        [c for c in commands if c.examination in first],
        [c for c in commands if c.examination not in first],
    )


_HOSTILE = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=12),
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.none(),
    st.sampled_from(
        ["SPIRAL", "STATIONARY", HEAD_PHANTOM, BODY_PHANTOM, "", "nan", 0.0, -0.0, 1e308, 5e-324]
    ),
)
_NAMES = st.one_of(st.sampled_from(sorted(FIELDS)), st.text(max_size=8))


@st.composite
def hostile_commands(draw: st.DrawFn) -> Command:
    """A clean command with anything at all in some of its fields, any device, any context."""
    base = draw(st.sampled_from(clean_scanner(40, seed=5)))
    parameters = {**base.parameters, **draw(st.dictionaries(_NAMES, _HOSTILE, max_size=6))}
    for name in draw(st.lists(st.sampled_from(sorted(base.parameters)), max_size=3)):
        parameters.pop(name, None)
    sources = st.lists(_HOSTILE.map(Told), min_size=1, max_size=2).map(tuple)
    told = draw(st.dictionaries(_NAMES, sources, max_size=3))
    device = draw(st.sampled_from([CLEAN, Device(), Device("x", "y")]))
    return Command(parameters, Context({**base.context.parts, **told}), device)

"""Imaging Data Commons without images: its index of CT parameters, one row a series, as commands.

``idc-index`` offers it apart (``ct_index``, some 270,000 series): kV, least and largest current, exposure, pitch,
tilt, diameters, thickness, kernel, filter. It has no rotation time, no collimation, no dose, no range and no
acquisition numbers, so what is learned of these commands is learned of less; but hundreds of thousands cost one file.

One acquisition may be several series. Rows of one study that agree in everything the tube and the table did
(``_ACQUISITION``) are taken for reconstructions of one: the first is the command, the others are duplicates. Current
and exposure are the middle of the least and the largest, which is not their mean.
"""

from __future__ import annotations

import logging
import math
from importlib import import_module
from pathlib import Path
from typing import Any

from scanward.codecs.values import age_in_years, seconds_of
from scanward.commands import FIELDS, Command, Context, Device, Origin, Role, Source, Told, Value
from scanward.errors import InputError, LinkError
from scanward.recordings.books import Duplicate, Entry, Recording, Rejected
from scanward.recordings.idc import notes_of, without_blank_ages
from scanward.recordings.idc_index import INSTALL, installed_index, query, read_rows
from scanward.recordings.pseudonyms import NO_SITE_KEY_NOTE, Pseudonyms

_ALONE = {  # column: field
    "KVP": "KVP",
    "SpiralPitchFactor": "SpiralPitchFactor",
    "GantryDetectorTilt": "GantryDetectorTilt",
    "DataCollectionDiameter": "DataCollectionDiameter",
    "ReconstructionDiameter": "ReconstructionDiameter",
    "SliceThickness": "SliceThickness",
}
_RANGES = {
    "XRayTubeCurrent": "XRayTubeCurrentInmA",
    "Exposure": "Exposure",
    "ExposureTime": "ExposureTimeInms",
}
_NEVER_ZERO = frozenset(
    {"KVP", "SpiralPitchFactor", "DataCollectionDiameter", "SliceThickness"}
)  # 0: not told
_COLUMNS: dict[str, type] = {
    "SeriesInstanceUID": str,
    "ImageType": list,
    "ScanOptions": list,
    "ConvolutionKernel": list,
    "FilterType": str,
    **dict.fromkeys(_ALONE, float),
    **{f"{name}_{end}": float for name in _RANGES for end in ("min", "max")},
}
_SERIES: dict[str, type] = dict.fromkeys(
    (
        "collection_id", "Modality", "SeriesInstanceUID", "StudyInstanceUID", "PatientAge", "PatientSex", "StudyDate",
        "StudyDescription", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "SeriesNumber",
    ),
    str,
)  # fmt: skip
_KINDS = (("SCOUT", "CONSTANT_ANGLE"), ("HELI", "SPIRAL"), ("AXIAL", "SEQUENCED"), ("CINE", "STATIONARY"))
_ACQUISITION = (
    "AcquisitionType", "KVP", "SpiralPitchFactor", "GantryDetectorTilt", "DataCollectionDiameter",
    "MinimumXRayTubeCurrent", "MaximumXRayTubeCurrent",
)  # fmt: skip


def fetch_ct_index() -> Path:
    """The index of CT parameters, fetched by ``idc-index`` unless it was before.

    Raises
    ------
    InputError
        When ``idc-index`` is not installed.
    LinkError
        When the file does not come.
    """
    todo = "check the network, or give the file ct_index.parquet of an idc-index-data release"
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        client: Any = import_module("idc_index").IDCClient()
        client.fetch_index("ct_index")
    except ImportError as error:
        raise InputError("Imaging Data Commons needs idc-index", "its index of CT", INSTALL) from error
    except OSError as error:  # those of requests are OSErrors
        raise LinkError("the index of CT parameters cannot be fetched", "idc-index", todo) from error
    finally:  # on loading, it makes the whole program's log speak
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    place = client.indices_overview.get("ct_index", {}).get("file_path")
    if not place:
        raise LinkError("the index of CT parameters did not come", "idc-index", todo)
    return Path(place)


def parameters_recording(
    collection: str,
    ct_index: Path,
    *,
    site_key: bytes | None = None,
    index: Path | None = None,
) -> Recording:
    """Commands of a collection out of the two indexes alone; every series one entry, ordered by study and series.

    Parameters
    ----------
    ct_index : the index of CT parameters (``fetch_ct_index``)
    index : the main index; the installed one when None

    Raises
    ------
    InputError, DecodeError
        As ``idc_index.query``; and when not one series of the collection is in ``ct_index``.
    """
    pseudonyms = Pseudonyms(site_key)
    wanted = query(collection, index=index)
    filters = [("collection_id", "==", collection), ("Modality", "==", "CT")]
    about = {r["SeriesInstanceUID"]: r for r in read_rows(index or installed_index(), _SERIES, filters)}
    told = {
        r["SeriesInstanceUID"]: r for r in read_rows(ct_index, _COLUMNS) if r["SeriesInstanceUID"] in about
    }
    if not told:
        raise InputError(
            "no series of the collection is in the index of CT", str(ct_index), "give one as new"
        )
    entries: list[Entry] = []
    seen: set[str] = set()
    for row, one in enumerate(wanted):
        origin = Origin(f"Imaging Data Commons, {collection}", row)
        if one.series not in told:
            entries.append(Rejected(origin, "not in the index of CT parameters"))
            continue
        entry = _entry(about[one.series], told[one.series], origin, pseudonyms)
        if isinstance(entry, Command) and entry.event is not None:
            repeated = entry.event in seen
            seen.add(entry.event)
            entry = Duplicate(origin, entry) if repeated else entry
        entries.append(entry)
    kept, blank = without_blank_ages(entries)
    notes = list(notes_of(wanted, blank))
    if pseudonyms.is_default:
        notes.append(NO_SITE_KEY_NOTE)
    return Recording(kept, 0, tuple(notes))


def _entry(series: dict[str, Any], row: dict[str, Any], origin: Origin, pseudonyms: Pseudonyms) -> Entry:
    kinds = [part.upper() for part in row["ImageType"]]
    if kinds[:1] == ["DERIVED"]:
        return Rejected(origin, "derived images only, without those they were made from")
    parameters: dict[str, Value] = {}
    for column, name in _ALONE.items():
        value = row[column]
        if not math.isnan(value) and not (value == 0 and name in _NEVER_ZERO):
            parameters[name] = value
    for column, name in _RANGES.items():
        low, high = row[f"{column}_min"], row[f"{column}_max"]
        if not math.isnan(low) and not math.isnan(high):
            parameters[name] = (low + high) / 2
            if name == "XRayTubeCurrentInmA":
                parameters["MinimumXRayTubeCurrent"], parameters["MaximumXRayTubeCurrent"] = low, high
    for name, problem in ((n, _problem(n, v)) for n, v in parameters.items()):
        if problem:
            return Rejected(origin, f"{name} {problem}")
    if not parameters:
        return Rejected(origin, "no machine field is present")
    if row["ConvolutionKernel"]:
        parameters["ConvolutionKernel"] = "\\".join(row["ConvolutionKernel"])
    if row["FilterType"]:
        parameters["FilterType"] = row["FilterType"]
    kind = _acquisition_type(kinds, [o.upper() for o in row["ScanOptions"]], parameters)
    if kind:
        parameters["AcquisitionType"] = kind
    study = series["StudyInstanceUID"]
    return Command(
        parameters=parameters,
        context=_context(series),
        device=Device(series["Manufacturer"], series["ManufacturerModelName"]),
        role=Role.PERFORMED,
        examination=pseudonyms.examination(study),
        acquired_at=seconds_of(series["StudyDate"].replace("-", "")),
        order=float(series["SeriesNumber"]) if series["SeriesNumber"].isdecimal() else 0.0,
        event=pseudonyms.event(study, *(repr(parameters.get(n)) for n in _ACQUISITION)),
        origin=origin,
    )


def _problem(name: str, value: Value) -> str:
    low = FIELDS[name].low
    if not isinstance(value, float) or not math.isfinite(value):
        return "is not a finite number"
    return "is negative" if low is not None and low >= 0 > value else ""


def _acquisition_type(kinds: list[str], options: list[str], parameters: dict[str, Value]) -> str:
    """DICOM's word for how it was acquired, from what makers write under Scan Options; empty when unknown."""
    if "LOCALIZER" in kinds[2:3]:
        return "CONSTANT_ANGLE"
    for word, kind in _KINDS:
        if any(word in option for option in options):
            return kind
    return "SPIRAL" if "SpiralPitchFactor" in parameters else ""


def _context(series: dict[str, Any]) -> Context:
    parts: dict[str, Value] = {}
    age = age_in_years(series["PatientAge"])
    if age is not None:
        parts["PatientAge"] = age
    for name in ("PatientSex", "BodyPartExamined", "StudyDescription"):
        if series[name]:
            parts[name] = series[name] if name == "StudyDescription" else series[name].upper()
    return Context({name: (Told(value, Source.HOST),) for name, value in parts.items()})

"""Dose reports made from PS3.16 TID 10011-10015 and 10040-10046: from the templates, not from the codec."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"
ENHANCED_DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.76"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def code(value: str, meaning: str = "", scheme: str = "DCM") -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning or value
    return ds


def _item(kind: str, name: str | Dataset, children: Iterable[Dataset] = ()) -> Dataset:
    ds = Dataset()
    ds.RelationshipType, ds.ValueType = "CONTAINS", kind
    ds.ConceptNameCodeSequence = [code(name) if isinstance(name, str) else name]
    children = list(children)
    if children:
        ds.ContentSequence = children
    return ds


def container(name: str, *children: Dataset) -> Dataset:
    return _item("CONTAINER", name, children)


def num(name: str | Dataset, value: Any, unit: str, *children: Dataset) -> Dataset:
    """A NUM item; ``value`` None makes an empty measurement, text is written as it stands."""
    ds = _item("NUM", name, children)
    ds.MeasuredValueSequence = []
    if value is not None:
        measured = Dataset()
        measured.MeasurementUnitsCodeSequence = [code(unit, unit, "UCUM")]
        measured.add(DataElement(0x0040A30A, "DS", value, validation_mode=IGNORE))
        ds.MeasuredValueSequence = [measured]
    return ds


def text(name: str, value: str) -> Dataset:
    ds = _item("TEXT", name)
    ds.TextValue = value
    return ds


def coded(name: str, value: str, meaning: str = "", scheme: str = "DCM") -> Dataset:
    ds = _item("CODE", name)
    ds.ConceptCodeSequence = [code(value, meaning, scheme)]
    return ds


def uid(name: str, value: str) -> Dataset:
    ds = _item("UIDREF", name)
    ds.UID = value
    return ds


def moment(name: str, value: str) -> Dataset:
    ds = _item("DATETIME", name)
    ds.DateTime = value
    return ds


def table(name: str, columns: Sequence[tuple[str, str, Sequence[float]]]) -> Dataset:
    """A TABLE item with columns (concept, unit, numbers), PS3.3 C.18.10."""
    ds = _item("TABLE", name)
    values, cells, headings = Dataset(), [], []
    for number, (concept, unit, numbers) in enumerate(columns, 1):
        heading = Dataset()
        heading.TableColumnNumber = number
        heading.ConceptNameCodeSequence = [code(concept)]
        heading.MeasurementUnitsCodeSequence = [code(unit, unit, "UCUM")]
        headings.append(heading)
        for row, value in enumerate(numbers, 1):
            cell = Dataset()
            cell.TableRowNumber, cell.TableColumnNumber = row, number
            cell.SelectorAttributeVR, cell.SelectorFLValue = "FL", value
            cells.append(cell)
    values.NumberOfTableColumns, values.NumberOfTableRows = len(columns), len(columns[0][2])
    values.TableColumnDefinitionSequence, values.CellValuesSequence = headings, cells
    ds.TabulatedValuesSequence = [values]
    return ds


def source(
    name: str,
    kvp: Any = "120",
    current: Any = "200",
    maximum: Any = "300",
    rotation: Any = "0.5",
    *more: Dataset,
    unit_s: str = "s",
) -> Dataset:
    """CT X-Ray Source Parameters, TID 10013 rows 13-17."""
    return container(
        "113831",
        text("113832", name),
        num("113733", kvp, "kV"),
        num("113833", maximum, "mA"),
        num("113734", current, "mA"),
        num("113834", rotation, unit_s),
        *more,
    )


def event(
    *more: Dataset,
    uid_value: str | None = "1.2.3.1",
    kind: tuple[str, str] = ("SCT", "116152004"),
    parameters: Sequence[Dataset] | None = None,
    dose: Sequence[Dataset] | None = None,
    protocol: str = "Thorax routine",
    started: str = "20200102030405",
) -> Dataset:
    """CT Acquisition, TID 10013: a plausible spiral of one source unless told otherwise."""
    if parameters is None:
        parameters = [
            num("113824", "5", "s"),
            num("113825", "300", "mm"),
            num("113826", "0.6", "mm"),
            num("113827", "38.4", "mm"),
            num("113828", "0.8", "{ratio}"),
            num("113823", "1", "{X-Ray sources}"),
            source("A"),
        ]
    if dose is None:
        dose = [num("113830", "8", "mGy"), coded("113835", "113691"), num("113838", "240", "mGy.cm")]
    children = [
        text("125203", protocol),
        coded("123014", "816094009", "Chest", "SCT"),
        coded("113820", kind[1], "type", kind[0]),
        moment("111526", started),
        container("113822", *parameters),
        container("113829", *dose),
        *more,
    ]
    if uid_value:
        children.insert(3, uid("113769", uid_value))
    return container("113819", *children)


def report(*events: Dataset, sop_class: str = DOSE_SR, title: str = "113701", **header: Any) -> Dataset:
    """A report with these events (or other content) under its root; ``header`` sets attributes by keyword."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=["instance"])
    ds.StudyInstanceUID = "1.2.3"
    ds.StudyDate, ds.StudyTime = "20200102", "030000"
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "SR", "ACME", "Ring 1"
    ds.DeviceSerialNumber = "S-4711"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Doe^Jane", "P-0815", "19800203"
    ds.PatientSex, ds.PatientAge = "F", "039Y"
    for keyword, value in header.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    if sop_class != SECONDARY_CAPTURE:
        ds.ValueType = "CONTAINER"
        ds.ConceptNameCodeSequence = [code(title)]
        ds.ContentSequence = list(events)
    return ds


def to_bytes(ds: Dataset) -> bytes:
    """The data set as a PS3.10 file."""
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()

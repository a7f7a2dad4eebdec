"""What a dialect says of a table: which columns make which field, in what unit, from whom.

Pure data. ``dialect_toml`` reads and writes it, ``plan`` fits it to the columns of one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as member
from enum import StrEnum

from scanward.commands import FIELDS, Group, Kind, Mode, Role, Source, Value

FORMAT = 1  # of a dialect file; a later one may mean other things by the same keys

# What stands for "nothing was given" in any cell of any table, beside the empty cell.
DEFAULT_MISSING = ("", "NA", "N/A", "null", "NULL")

# Columns by another DICOM keyword than the field's own, with the unit that PS3.6 and PS3.3 give them.
ALIASES: dict[str, tuple[str, str]] = {
    "XRayTubeCurrent": ("XRayTubeCurrentInmA", "mA"),
    "XRayTubeCurrentInuA": ("XRayTubeCurrentInmA", "uA"),
    "ExposureTime": ("ExposureTimeInms", "ms"),
    "ExposureTimeInuS": ("ExposureTimeInms", "us"),
    "ExposureInmAs": ("Exposure", "mAs"),
    "ExposureInuAs": ("Exposure", "uAs"),
    "FocalSpot": ("FocalSpots", ""),
}

# Columns with a meaning of their own that are not fields of a command.
DEVICE_COLUMNS = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
EXAMINATION_COLUMN = "StudyInstanceUID"
EVENT_COLUMN = "IrradiationEventUID"
ORDER_COLUMNS = ("AcquisitionNumber", "InstanceNumber")
TIME_COLUMNS = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")

# Columns that name a person, a place or an instance: never kept, never shown.
IDENTIFYING_COLUMNS = frozenset(
    {
        "PatientID", "PatientName", "PatientBirthDate", "PatientBirthTime", "OtherPatientIDs",
        "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers",
        "IssuerOfPatientID", "AccessionNumber", "StudyID",
        "InstitutionName", "InstitutionAddress", "StationName", "OperatorsName", "PerformingPhysicianName",
        "ReferringPhysicianName", "RequestingPhysician", "DeviceSerialNumber",
        EXAMINATION_COLUMN, EVENT_COLUMN,
    }
)  # fmt: skip


def is_identifying(column: str) -> bool:
    """Whether a column names a person, a place or an instance: by DICOM keyword, or what it hints at."""
    if column in IDENTIFYING_COLUMNS or column.endswith(("UID", "UIDs")):
        return True
    squeezed = "".join(c for c in column.casefold() if c.isalnum())
    if squeezed in {"id", "mrn", "name", "surname", "firstname", "lastname", "dob", "ssn", "nhs"}:
        return True
    hints = ("patientid", "patientname", "birth", "accession", "address", "phone", "physician", "operator")
    return any(hint in squeezed for hint in hints)


class Combine(StrEnum):
    """How several columns make one value. Missing parts are left out; all missing is missing."""

    FIRST = "first"  # the first that is present
    JOIN = "join"  # texts with "/" between them (a missing part is empty), e.g. HeadFirst/Supine
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SPAN = "span"  # largest minus smallest, e.g. start and end of a range


JOIN_MARK = "/"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field of a command and where it comes from.

    ``unit`` is the unit of the cells; ``factor`` turns it into ``target_unit``, the unit of the field.
    ``constant`` (in ``unit``) takes the place of columns. ``values`` replaces whole cells (text to text,
    or to a number in the unit of the field; the empty text makes the value missing);
    ``signs`` reads numbers with a leading letter (S20.5 and I300.0).
    """

    field: str
    columns: tuple[str, ...] = ()
    kind: Kind = Kind.CATEGORY
    group: Group = Group.MACHINE
    unit: str = ""
    target_unit: str = ""
    factor: float = 1.0
    role: Role | None = None
    source: Source = Source.HOST
    combine: Combine = Combine.FIRST
    values: Mapping[str, Value] = member(default_factory=dict)
    signs: Mapping[str, float] = member(default_factory=dict)
    missing: tuple[str, ...] = ()
    constant: Value | None = None
    optional: bool = False

    @property
    def is_context(self) -> bool:
        """Whether the value belongs to the context and not to the parameters."""
        return self.group in (Group.PATIENT, Group.OBJECTIVE)


@dataclass(frozen=True, slots=True)
class ModeRule:
    """Rows whose ``column`` equals one of ``equals``, or contains one of ``contains`` without case."""

    mode: Mode
    column: str
    equals: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()

    def applies(self, text: str) -> bool:
        """Whether the rule speaks of a row with this cell."""
        return text in self.equals or any(part.casefold() in text.casefold() for part in self.contains)


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """A constant, or the column that tells it."""

    constant: str = ""
    column: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of table is to be read. The default reads columns named by DICOM keywords.

    ``keywords`` lets columns named by DICOM keywords speak for themselves where no rule uses them;
    ``ignore`` names columns that must not.
    """

    name: str = ""
    description: str = ""
    role: Role = Role.PERFORMED
    mode: Mode = Mode.CLINICAL
    source: Source = Source.HOST
    keywords: bool = True
    ignore: tuple[str, ...] = ()
    missing: tuple[str, ...] = DEFAULT_MISSING
    delimiter: str = ""
    encoding: str = ""
    decimal: str = ""
    fields: tuple[FieldRule, ...] = ()
    device: Mapping[str, DeviceRule] = member(default_factory=dict)
    examination: tuple[str, ...] = ()
    event: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    time_format: str = ""
    modes: tuple[ModeRule, ...] = ()
    where: str = ""  # the file it was read from, for messages

    def columns(self) -> tuple[str, ...]:
        """Every column the dialect needs, in the order it names them."""
        named = [c for rule in self.fields if not rule.optional for c in rule.columns]
        named += [told.column for told in self.device.values() if told.column]
        named += [*self.examination, *self.event, *self.order, *self.time]
        named += [rule.column for rule in self.modes]
        return tuple(dict.fromkeys(named))


def known_rule(name: str, column: str, *, unit: str = "", source: Source = Source.HOST) -> FieldRule:
    """The rule of a column that carries a known field under its own name."""
    known = FIELDS[name]
    return FieldRule(name, (column,), known.kind, known.group, unit or known.unit, known.unit, source=source)


def split_source(name: str) -> tuple[str, Source | None]:
    """``PatientAge@worklist`` is the field and who told it; without the mark, None."""
    base, mark, source = name.partition("@")
    if mark and source in set(Source):
        return base, Source(source)
    return name, None

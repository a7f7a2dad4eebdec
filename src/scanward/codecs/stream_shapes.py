"""The shapes of the stream link's lines, and of a command as JSON: types and bounds, nothing else.

msgspec checks against these while it decodes: an unknown key, a wrong type, a number that is not finite or a
text beyond its bound is refused before an object of ours exists. Bounds are those of `config.StreamBounds`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from scanward.commands.model import Mode, Role, Source
from scanward.commands.wire import Axis, Channel, GantryState, StopKind
from scanward.config import STREAM_BOUNDS as B

# Visible ASCII and the space: an identifier is shown, logged and compared, and must look like what it is.
Id = Annotated[str, Meta(min_length=1, max_length=B.id_chars, pattern=r"\A[ -~]*\Z")]
MaybeId = Annotated[str, Meta(max_length=B.id_chars, pattern=r"\A[ -~]*\Z")]
# No control characters (C0, DEL, C1), as DICOM LO has it: they move cursors and split lines.
Text = Annotated[str, Meta(max_length=B.text_chars, pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z")]
# Of the scanner, twice DICOM LO: it stands in every element's record, and a record must fit into the log.
Short = Annotated[str, Meta(max_length=2 * B.id_chars, pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z")]
Name = Annotated[str, Meta(max_length=B.name_chars, pattern=r"\A[A-Za-z][A-Za-z0-9_]*\Z")]
Count = Annotated[int, Meta(ge=0, lt=B.elements)]
Dose = Annotated[float, Meta(ge=0.0)]
Values = Annotated[dict[Name, float | Text], Meta(max_length=B.fields)]
Roles = Annotated[dict[Name, Role], Meta(max_length=B.fields)]


class Shape(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every object inside a line."""


class Line(Shape, tag_field="type", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every line: ``type`` names which."""


class DeviceShape(Shape, frozen=True):
    """The scanner, by DICOM keywords."""

    Manufacturer: Short = ""
    ManufacturerModelName: Short = ""
    DeviceSerialNumber: Short = ""
    SoftwareVersions: Short = ""


class HelloLine(Line, tag="hello", frozen=True):
    """First line of either end. Every key is written, also where it has its usual value."""

    protocol: Literal[1]
    channel: Channel
    device: DeviceShape


class ElementShape(Shape, frozen=True):
    """One acquisition."""

    parameters: Values
    roles: Roles = {}
    context: Values = {}
    auto: bool = False


class LoadLine(Line, tag="load", frozen=True):
    """The whole remaining chain."""

    id: Id
    chain: Annotated[list[ElementShape], Meta(min_length=1, max_length=B.elements)]
    StudyInstanceUID: MaybeId = ""
    PatientID: Text = ""
    triggers: Annotated[int, Meta(ge=1, le=B.triggers)] = 1


class TriggerLine(Line, tag="trigger", frozen=True):
    """Begin one element."""

    id: Id
    load: Id
    element: Count
    runtime: Values = {}


class MotionLine(Line, tag="motion", frozen=True):
    """Move without scanning."""

    id: Id
    axis: Axis
    target: float
    speed: Dose


class CancelLine(Line, tag="cancel", frozen=True):
    """Give a load up."""

    id: Id
    load: Id


class LoadedLine(Line, tag="loaded", frozen=True):
    """The gantry's echo."""

    load: Id
    chain: Annotated[list[Values], Meta(max_length=B.elements)]


class InjectionLine(Line, tag="injection", frozen=True):
    """The injector has begun."""

    load: MaybeId = ""


class StartedLine(Line, tag="started", frozen=True):
    """Beam on."""

    load: Id
    element: Count


class DoneLine(Line, tag="done", frozen=True):
    """Element ended."""

    load: Id
    element: Count
    CTDIvol: Dose | None = None
    DLP: Dose | None = None
    aborted: bool = False
    reason: Text = ""


class MovedLine(Line, tag="moved", frozen=True):
    """Motion ended."""

    id: Id
    position: float


class StoppedLine(Line, tag="stopped", frozen=True):
    """A stop was carried out."""

    what: StopKind = StopKind.ALL


class StatusLine(Line, tag="status", frozen=True):
    """What the gantry is doing."""

    state: GantryState
    detail: Text = ""


class DeclinedLine(Line, tag="declined", frozen=True):
    """The gantry refuses."""

    id: Id
    reason: Text = ""


class HeldLine(Line, tag="held", frozen=True):
    """Waits for the operator."""

    id: Id
    reason: Text
    deadline: float


class RefusedLine(Line, tag="refused", frozen=True):
    """Not passed on. ``id`` is empty when no message could be read at all."""

    id: MaybeId
    reason: Text
    layer: MaybeId = ""
    fields: Annotated[list[Text], Meta(max_length=B.fields)] = []
    again: bool = False


class AlertedLine(Line, tag="alerted", frozen=True):
    """Passed on, with a finding."""

    id: Id
    reason: Text


HostLine = HelloLine | LoadLine | TriggerLine | MotionLine | CancelLine
GantryLine = (
    HelloLine
    | LoadedLine
    | InjectionLine
    | StartedLine
    | DoneLine
    | MovedLine
    | StoppedLine
    | StatusLine
    | DeclinedLine
)
GuardLine = GantryLine | HeldLine | RefusedLine | AlertedLine


class ToldShape(Shape, frozen=True):
    """One word on a part of the context."""

    value: float | Text
    source: Source = Source.HOST


class PlainDevice(Shape, frozen=True):
    """A device whose serial number is a keyed hash."""

    manufacturer: Text = ""
    model: Text = ""
    serial: Text = ""
    software: Text = ""


Parts = Annotated[
    dict[Name, Annotated[list[ToldShape], Meta(min_length=1, max_length=8)]], Meta(max_length=B.fields)
]


class CommandShape(Shape, frozen=True):
    """A command as JSON: for the judge's questions and the audit log."""

    parameters: Values
    role: Role
    roles: Roles = {}
    context: Parts = {}
    device: PlainDevice = PlainDevice()
    examination: Text | None = None
    acquired_at: float | None = None
    order: float = 0.0
    event: Text | None = None
    mode: Mode = Mode.CLINICAL

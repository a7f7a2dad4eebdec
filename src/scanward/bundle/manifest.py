"""The manifest: what is known of a bundle besides what it learned. Pure data and strict parsing, no clock.

The bytes of ``manifest.json`` are what is signed. They say of what kind they are (``kind``, ``schema``), so
that a signature by the same key over another sort of document can never pass for one over a bundle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed
from typing import Any, Final, TypeVar

from scanward import __version__
from scanward.bundle import canonical
from scanward.commands import Device, Field, Group, Kind, Role
from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError

KIND: Final = "scanward.bundle"
# 1: up to the first judge. 2: with what exposure control says, which a reader of 1 alone would leave out unnoticed.
SCHEMAS: Final = frozenset({1, 2})
MANIFEST, SIGNATURE, SETTINGS, ARRAYS = (
    "manifest.json",
    "signature.json",
    "settings.json",
    "arrays.safetensors",
)
GRAPHS: Final = "graphs"

# Also the guard against '../x', absolute paths, and names that differ only in what a terminal shows.
_GRAPH_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CREATED: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """Everything the manifest tells that the trainer knows.

    Attributes
    ----------
    created : str
        UTC, ``YYYY-MM-DDTHH:MM:SSZ``, from the caller: nothing in this room reads a clock.
    role : Role
        The one role the bundle was trained and judges in; ``roles`` names the fields that differ.
    devices : tuple of Device
        What it may judge. A device without ``serial`` stands for every device of that maker and model, one
        without anything for a recording that named none.
    fields : tuple of Field
        Every field used, with kind, unit and range: site parameters need no dictionary to be understood.
    training_data : str
        SHA-256 over what it was trained on, 64 hexadecimal digits.
    calibration, metrics : mapping
        JSON-able; what the conformal calibration and the held-back part gave.
    libraries : mapping of str to str
        Library name to version (``library_versions`` makes it).
    version : int or None
        Grows with every bundle of a device; None lets ``write`` take the next one.
    """

    created: str
    role: Role
    devices: tuple[Device, ...]
    fields: tuple[Field, ...]
    training_data: str
    calibration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    version: int | None = None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One listed file: path inside the bundle, bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was written or read. ``facts.version`` is never None here.

    ``digest`` is the SHA-256 of its exact bytes: the name of this one bundle. ``key_id`` is who signed it.
    """

    facts: BundleFacts
    scanward: str
    files: tuple[FileFacts, ...]
    digest: str
    key_id: str

    @property
    def version(self) -> int:
        """The monotonic version."""
        return self.facts.version or 0

    def serves(self, device: Device) -> bool:
        """Whether the bundle is for ``device``: same maker and model, and same serial where it names one."""
        return any(d.key == device.key and d.serial in ("", device.serial) for d in self.facts.devices)


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions of distributions, those that are not installed left out."""
    found = {}
    for name in names:
        try:
            found[name] = _installed(name)
        except PackageNotFoundError:
            continue
    return found


def graph_path(name: str) -> str:
    """Path of a graph inside the bundle; BundleError for a name that could leave the folder."""
    if not _GRAPH_NAME.fullmatch(name):
        raise BundleError(
            f"{name[:80]!r} cannot name a graph", todo="use letters, digits, '_', '-' and '.', 200 at most"
        )
    return f"{GRAPHS}/{name}.onnx"


def graph_name(path: str) -> str | None:
    """The inverse of ``graph_path``; None for any path that is not a graph's."""
    folder, _, file = path.partition("/")
    name = file.removesuffix(".onnx")
    return name if folder == GRAPHS and file != name and _GRAPH_NAME.fullmatch(name) else None


def encode(facts: BundleFacts, files: Mapping[str, bytes], scanward: str = __version__) -> bytes:
    """The exact manifest bytes for ``files`` (path -> content)."""
    document = {
        "kind": KIND,
        "schema": max(SCHEMAS),
        "scanward": scanward,
        "version": facts.version,
        "created": facts.created,
        "role": facts.role,
        "roles": facts.roles,
        "devices": [
            {"manufacturer": d.manufacturer, "model": d.model, "serial": d.serial, "software": d.software}
            for d in facts.devices
        ],
        "fields": [
            {
                "name": f.name,
                "kind": f.kind,
                "group": f.group,
                "unit": f.unit,
                "low": f.low,
                "high": f.high,
                "code": f.code,
            }
            for f in facts.fields
        ],
        "training_data": facts.training_data,
        "calibration": facts.calibration,
        "metrics": facts.metrics,
        "libraries": facts.libraries,
        "files": [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(files.items())
        ],
    }
    return canonical.dumps(document, MANIFEST, indent=1)


def decode(data: bytes, key_id: str, where: str, bounds: BundleBounds = BUNDLE_BOUNDS) -> Manifest:
    """Parse manifest bytes, every member typed and bounded; BundleError for anything else."""
    return _Reader(where, bounds).manifest(data, key_id)


class _Reader:
    """Typed access to parsed JSON: what is not as expected is refused with its name."""

    def __init__(self, where: str, bounds: BundleBounds) -> None:
        self.where = where
        self.bounds = bounds

    def refused(self, what: str, todo: str = "get the bundle again from where it was trained") -> BundleError:
        return BundleError(what, self.where, todo)

    def manifest(self, data: bytes, key_id: str) -> Manifest:
        top = canonical.loads(data, self.where, self.bounds)
        if not isinstance(top, dict) or top.get("kind") != KIND:
            raise self.refused("this is not the manifest of a bundle")
        schema = top.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or schema not in SCHEMAS:
            raise self.refused(
                f"schema {str(schema)[:40]!r} is not known here",
                "update Scanward, or train with this version",
            )
        top = self.record(top, "manifest", _MEMBERS)
        facts = BundleFacts(
            created=self.moment(top["created"]),
            role=self.word(Role, top["role"], "role"),
            roles={n: self.word(Role, v, "roles") for n, v in self.mapping(top["roles"], "roles").items()},
            devices=tuple(self.device(d) for d in self.items(top["devices"], "devices")),
            fields=tuple(self.field(f) for f in self.items(top["fields"], "fields")),
            training_data=self.digest(top["training_data"], "training_data"),
            calibration=self.mapping(top["calibration"], "calibration"),
            metrics=self.mapping(top["metrics"], "metrics"),
            libraries={
                n: self.text(v, "libraries") for n, v in self.mapping(top["libraries"], "libraries").items()
            },
            version=self.integer(top["version"], "version", 1, self.bounds.version),
        )
        names = [f.name for f in facts.fields]
        if len(set(names)) != len(names):
            raise self.refused("a field stands twice in the manifest")
        if not facts.devices:
            raise self.refused("the manifest names no device")
        files = self.files(top["files"])
        scanward = self.text(top["scanward"], "scanward")
        return Manifest(facts, scanward, files, hashlib.sha256(data).hexdigest(), key_id)

    def files(self, value: object) -> tuple[FileFacts, ...]:
        entries = self.items(value, "files")
        if len(entries) > self.bounds.graphs + 2:
            raise self.refused(f"{len(entries)} files (bound {self.bounds.graphs} graphs)")
        limits = {SETTINGS: self.bounds.settings_bytes, ARRAYS: self.bounds.arrays_bytes}
        found: dict[str, FileFacts] = {}
        for entry in entries:
            entry = self.record(entry, "files", frozenset({"path", "size", "sha256"}))
            path = self.text(entry["path"], "files")
            if path not in limits and graph_name(path) is None:
                raise self.refused(f"{path[:80]!r} cannot be a file of a bundle")
            if path in found:
                raise self.refused(f"{path!r} is listed twice")
            limit = limits.get(path, self.bounds.graph_bytes)
            size = self.integer(entry["size"], f"the size of {path}", 0, limit)
            found[path] = FileFacts(path, size, self.digest(entry["sha256"], "files"))
        if missing := limits.keys() - found.keys():
            raise self.refused(f"{' and '.join(sorted(missing))} not listed")
        if sum(f.size for f in found.values()) > self.bounds.total_bytes:
            raise self.refused(f"the files are larger than {self.bounds.total_bytes} bytes together")
        return tuple(found.values())

    def device(self, value: object) -> Device:
        parts = self.record(value, "devices", frozenset({"manufacturer", "model", "serial", "software"}))
        return Device(**{name: self.text(part, "devices") for name, part in parts.items()})

    def field(self, value: object) -> Field:
        parts = self.record(value, "fields", _FIELD_MEMBERS)
        return Field(
            name=self.text(parts["name"], "fields"),
            kind=self.word(Kind, parts["kind"], "fields"),
            group=self.word(Group, parts["group"], "fields"),
            unit=self.text(parts["unit"], "fields"),
            low=self.bound(parts["low"]),
            high=self.bound(parts["high"]),
            code=self.text(parts["code"], "fields"),
        )

    def record(self, value: object, name: str, members: frozenset[str]) -> dict[str, Any]:
        found = self.mapping(value, name)
        if found.keys() != members:
            odd = ", ".join(sorted(found.keys() ^ members))[:200]
            raise self.refused(f"missing or unknown in {name}: {odd}")
        return found

    def mapping(self, value: object, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.refused(f"{name} is not an object")
        return value

    def items(self, value: object, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.refused(f"{name} is not a list")
        return value

    def text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            raise self.refused(f"{name} is not text")
        return value

    def integer(self, value: object, name: str, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refused(f"{name} is not a whole number from {low} to {high}")
        return value

    def bound(self, value: object) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refused("the range of a field is not a number")
        return value

    def digest(self, value: object, name: str) -> str:
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise self.refused(f"{name}: not a SHA-256 of 64 hexadecimal digits")
        return value

    def moment(self, value: object) -> str:
        text = self.text(value, "created")
        if not _CREATED.fullmatch(text):
            raise self.refused("created is not a UTC time like 2026-01-31T12:00:00Z")
        try:
            datetime.fromisoformat(text)
        except ValueError as error:
            raise self.refused(f"created is not a time ({error})") from error
        return text

    def word(self, words: type[_Word], value: object, name: str) -> _Word:
        try:
            return words(self.text(value, name))
        except ValueError as error:
            raise self.refused(f"{name}: one of {', '.join(words)} expected") from error


_MEMBERS: Final = frozenset(
    {"kind", "schema", "scanward", "version", "created", "role", "roles", "devices", "fields"}
    | {"training_data", "calibration", "metrics", "libraries", "files"}
)
_FIELD_MEMBERS: Final = frozenset({"name", "kind", "group", "unit", "low", "high", "code"})

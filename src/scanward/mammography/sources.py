"""What an adapter tells the importer: where each picture of a published data set lies and what is known of it.

An adapter is a function ``(source folder) -> iterator of Found and Strange``. It reads lists and annotations, never
pixels; the importer (`scanward.mammography.importing`) reads pixels, turns them, and carries lesions along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scanward.mammography.manifest import Label, Lesion

Fate = Literal["rejected", "missing", "duplicate", "remark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One image of a source.

    ``name`` is unique in the source and made of letters, digits, ``-`` and ``_``. ``patient`` is the source's
    pseudonym. Lesions are in pixels of the picture *as the file has it* (before it is turned); ``rasters`` are
    lesion pictures as files, each with the lesion it belongs to, of the picture's size or to be scaled to it.
    """

    name: str
    path: Path
    patient: str
    label: Label
    laterality: str | None = None
    view: str | None = None
    birads: int | None = None
    density: str | None = None
    partition: str | None = None
    spacing: tuple[float, float] | None = None
    lesions: tuple[Lesion, ...] = ()
    rasters: tuple[tuple[Path, Lesion], ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Strange:
    """A record that does not fit: left out (``rejected``), listed without a file (``missing``), there already
    (``duplicate``), or only remarkable (``remark``: not an image of its own, the books do not count it)."""

    what: str
    where: str
    why: str
    fate: Fate = "rejected"


Adapter = Callable[..., Iterator[Found | Strange]]
"""Called with the source folder; that of a plain kind also with ``labels=``, a CSV file."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A data set that can be imported: its name on the command line, its adapter, its terms.

    ``identifying`` kinds may name people: the importer replaces their patients and file names by keyed hashes.
    ``labels`` tells whether ``--labels FILE`` is of use; such an adapter takes a keyword ``labels``.
    """

    name: str
    title: str
    read: Adapter
    licence: str
    cite: str
    layout: str  # what the source folder has to look like, for --help and docs
    phantom: bool = field(default=False)
    identifying: bool = field(default=False)
    labels: Literal["none", "optional", "required"] = field(default="none")

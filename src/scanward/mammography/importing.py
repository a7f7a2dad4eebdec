"""A data set of any kind into Scanward's own form. Every image that the source lists is accounted for.

An import holds one picture in memory per worker. ``manifest.json`` is written last: without it there is no data set.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError
from scanward.mammography.import_folder import claimed
from scanward.mammography.import_one import Brought, Job, writing
from scanward.mammography.import_workers import brought
from scanward.mammography.manifest import Books, Image, Manifest, Odd, write_manifest
from scanward.mammography.readers import Curves
from scanward.mammography.sources import Fate, Found, Kind, Strange

Progress = Callable[[int, int | None], None]
"""Called with images done and, once the source is read to its end, images in all."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TOKEN_DIGITS = 16  # hexadecimal digits of a keyed hash: 64 bits, no collision among a million


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one file, by its own name, which may name people: for a report, never for the manifest."""

    name: str
    where: str
    fate: Fate | str
    why: str


def import_dataset(
    kind: Kind,
    src: Path,
    out: Path,
    *,
    site_key: bytes | None = None,
    force: bool = False,
    curves: Curves = "curves",
    workers: int = 0,
    progress: Progress | None = None,
    tell: Callable[[Told], None] | None = None,
) -> Manifest:
    """Read the data set in ``src`` with ``kind``'s adapter and write it to ``out``.

    Parameters
    ----------
    kind : Kind
        One of `scanward.mammography.kinds`.
    src, out : Path
        The source's folder; a folder that is empty, does not exist, or holds an import that was killed.
    site_key : bytes, optional
        Key (32 bytes) under which patients and file names of plain folders are hashed. Without one a random key is
        used and forgotten: the same folder imported again gets other pseudonyms.
    force : bool
        Replace a data set that lies in ``out``.
    curves : {"curves", "all", "none"}
        VOI transformations that are applied: see `scanward.mammography.readers.read_mammogram`.
    workers : int
        Processes that read and write pictures; 0 for none but this one. A decoder that crashes takes its process
        with it: with workers that is one rejected image.
    progress, tell : callables, optional
        Told how far it is; told what became of each file, by the file's own name.

    Raises
    ------
    InputError
        The source is not laid out as its kind asks, nothing in it could be imported, or it holds too many images.
    SettingsError
        ``out`` is in use, or holds something.
    OutputError
        The disk is full or read-only. No manifest is left.
    """
    ledger = _Ledger(kind, src, out, site_key or secrets.token_bytes(32), curves, tell)
    if not src.is_dir():
        raise InputError("no such folder", str(src), "name the folder that holds the data set")
    with claimed(out, src, force=force):
        for done, (job, result) in enumerate(brought(ledger.jobs(), workers), start=1):
            ledger.enter(job, result)
            if progress is not None:
                progress(done, ledger.jobs_in_all)
        ledger.part_twins()
        if not ledger.images:
            first = next((odd.why for odd in ledger.odd), "there is no picture in it")
            raise InputError(
                f"nothing could be imported ({first})", str(src), f"{kind.name} expects: {kind.layout}"
            )
        manifest = ledger.manifest()
        with writing(out):
            write_manifest(out, manifest)
    return manifest


@dataclass(slots=True)
class _Ledger:
    """The books of one import: what was listed, and what became of each."""

    kind: Kind
    src: Path
    out: Path
    key: bytes
    curves: Curves
    tell: Callable[[Told], None] | None
    images: list[Image] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)
    listed: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"rejected": 0, "missing": 0, "duplicate": 0})
    names: set[str] = field(default_factory=set)
    seen: dict[str, str] = field(default_factory=dict)  # (patient, pixels) -> name
    files: dict[str, str] = field(default_factory=dict)  # name -> the source's own name of the file
    jobs_in_all: int | None = None

    def jobs(self) -> Iterator[Job]:
        """Jobs for what the source has; what it has not is entered at once."""
        count = 0
        for one in self.kind.read(self.src):
            if isinstance(one, Strange):
                self.strange(one)
                continue
            self._count()
            job = self._job(one)
            if job is not None:
                count += 1
                yield job
        self.jobs_in_all = count

    def strange(self, one: Strange) -> None:
        """Enter a record that the adapter could not make an image of."""
        if one.fate != "remark":
            self._count()
        self._enter(one.fate, one.what, one.where, one.why)

    def enter(self, job: Job, result: Brought) -> None:
        """Enter what became of a job."""
        where = self._where(job.found.path)
        image = result.image
        if image is None:
            self._enter("rejected", "unusable picture", where, result.why, job.found.name)
            return
        twin = f"{image.patient}\n{image.sha256}"
        if twin in self.seen:
            self._remove(image)
            why = f"the same picture as {self.seen[twin]}"
            self._enter("duplicate", "picture twice", where, why, image.name)
            return
        self.seen[twin] = image.name
        self.images.append(image)
        self.files[image.name] = where

    def part_twins(self) -> None:
        """Take out pictures that are there under two patients: whose they are nobody can say, and they would leak."""
        owners: dict[str, set[str]] = {}
        for image in self.images:
            owners.setdefault(image.sha256, set()).add(image.patient)
        kept = []
        for image in self.images:
            if len(owners[image.sha256]) == 1:
                kept.append(image)
                continue
            self._remove(image)
            why = f"the same picture under {len(owners[image.sha256])} patients: it would leak between splits"
            self._enter("rejected", "picture of several patients", self.files[image.name], why, image.name)
        self.images = kept

    def manifest(self) -> Manifest:
        """The data set as it is now."""
        self.images.sort(key=lambda image: image.name)
        for image in self.images:
            if self.tell is not None:
                self.tell(Told(image.name, self.files[image.name], "imported", "; ".join(image.remarks)))
            self.odd += [Odd(what="remark", where=image.name, why=remark) for remark in image.remarks]
        return Manifest(
            kind=self.kind.name,
            phantom=self.kind.phantom,
            licence=self.kind.licence,
            cite=self.kind.cite,
            images=tuple(self.images),
            books=Books(listed=self.listed, imported=len(self.images), **self.counts),
            odd=tuple(self.odd),
        )

    def _job(self, found: Found) -> Job | None:
        where = self._where(found.path)
        # SRC itself may be given as ../data; nothing below it may lead out
        inside = found.path.is_relative_to(self.src)
        if not inside or ".." in found.path.relative_to(self.src).parts:
            self._enter("rejected", "path", where, "leads out of the source's folder")
            return None
        if not found.path.is_file():
            self._enter("missing", "no file", where, "listed, but not there")
            return None
        if not found.patient.strip():
            self._enter("rejected", "no patient", where, "splits are by patient")
            return None
        if not found.path.resolve().is_relative_to(self.src.resolve()):
            found = replace(
                found, remarks=(*found.remarks, "its file is a link that leads out of the source's folder")
            )
        name = self._name(found.name)
        if not self.kind.identifying:
            return Job(found=replace(found, name=name), out=self.out, source=where, curves=self.curves)
        patient = self._token("p", found.patient)
        return Job(
            found=replace(found, name=name, patient=patient), out=self.out, source="", curves=self.curves
        )

    def _name(self, wanted: str) -> str:
        """A name for files: letters, digits, - and _, unlike every other one even where case is not told apart."""
        if self.kind.identifying:
            wanted = self._token("i", wanted)
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted)[:80] or "image"
        name, number = plain, 1
        while name.lower() in self.names:
            number += 1
            name = f"{plain}-{number}"
        self.names.add(name.lower())
        assert _NAME.fullmatch(name)
        return name

    def _token(self, letter: str, text: str) -> str:
        digest = hmac.new(self.key, f"{letter}\0{text}".encode("utf-8", "surrogateescape"), hashlib.sha256)
        return letter + digest.hexdigest()[:_TOKEN_DIGITS]

    def _where(self, path: Path) -> str:
        try:
            return path.relative_to(self.src).as_posix()
        except ValueError:
            return path.name

    def _enter(self, fate: Fate, what: str, where: str, why: str, name: str = "") -> None:
        if fate != "remark":
            self.counts[fate] += 1
        hidden = name or self._token("i", where) if self.kind.identifying else where
        self.odd.append(Odd(what=what, where=hidden, why=why))
        if self.tell is not None:
            self.tell(Told(name or hidden, where, fate, f"{what}: {why}"))

    def _count(self) -> None:
        self.listed += 1
        if self.listed > MAMMOGRAPHY_BOUNDS.images:
            raise InputError(
                f"more than {MAMMOGRAPHY_BOUNDS.images} images", str(self.src), "import it in parts"
            )

    def _remove(self, image: Image) -> None:
        with writing(self.out):
            for file in (image.file, image.breast, *(one.raster for one in image.lesions if one.raster)):
                (self.out / file).unlink(missing_ok=True)

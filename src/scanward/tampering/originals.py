"""Pictures to be altered, as files and as a model is shown them, and a model's change carried back into stored values.

A model is shown pictures as the importer makes them: 16 bits, tissue bright, chest wall left. What is written has the
original's own size, bit depth, orientation and grey scale: only stored values whose pixel was changed differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.breast import segment
from scanward.mammography.dicom_headers import Facts, parsing, whole_of
from scanward.mammography.dicom_pixels import read_stored
from scanward.mammography.import_one import negative, on_the_left
from scanward.mammography.manifest import MANIFEST, Image, Label, Manifest, read_manifest
from scanward.mammography.orient import chest_wall, mirrored
from scanward.mammography.pictures import Mask, Pixels, lesions_mask, load
from scanward.mammography.readers import read_mammogram

Wide = NDArray[np.int32]
Medium = Literal["dicom", "png", "tiff"]
_ENDINGS = (".dcm", ".png", ".tif", ".tiff", ".pgm")
# In a folder that `scanward.tampering.outputs` wrote, pictures of these are no mammograms.
_MAPS, _TAMPERED = "differences", ("tampered.json", "tampered.part.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture that was asked for, not read yet: a file, or an image of a data set."""

    path: Path
    folder: Path | None = None  # of its data set
    image: Image | None = None
    phantom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One picture, read.

    ``stored`` int32 (r, c) is what the file holds, in the file's orientation, in multiples of ``unit``;
    ``shown[v // unit - low]`` is what the stored value v counts for, in steps of which ``1 << shift`` make one of 16
    bits. ``pixels`` uint16 (r, c) and ``breast`` are what a model is shown, turned when ``turned``. ``lesions`` is
    their mask, turned alike; None: not known.
    """

    path: Path
    medium: Medium
    sha256: str
    stored: Wide
    low: int
    shown: Wide
    shift: int
    unit: int = 1  # stored values are multiples of it, and stay so
    eight: bool = False  # of PNG and TIFF: 8 bits, else 16
    pixels: Pixels
    breast: Mask
    turned: bool
    fixed: Mask  # pixels that are no picture (padding) and stay, in the file's orientation
    gap: tuple[int, int] | None = None  # stored values that mean padding: no change may end there
    lesions: Mask | None = None
    image: Image | None = None
    phantom: bool = False
    dataset: pydicom.Dataset | None = None
    patient: str = ""  # identifies a person when it comes out of DICOM: to be hashed
    remarks: tuple[str, ...] = ()

    @property
    def inside(self) -> Mask:
        """The breast in the file's orientation."""
        return mirrored(self.breast) if self.turned else self.breast

    @property
    def rising(self) -> bool:
        """Whether higher stored values are brighter."""
        return bool(self.shown[-1] >= self.shown[0])

    def carried(self, made: Pixels) -> Wide:
        """Stored values of a picture that a model made of `pixels`, in the file's orientation.

        The nearest stored value that counts for at least the change (at most, when it darkens); exact where the grey
        scale is linear. Where ``made`` is `pixels`, the stored value is the original's.
        """
        change = made.astype(np.int32) - self.pixels.astype(np.int32)
        if self.turned:
            change = mirrored(change)
        steps = np.where(self.fixed, 0, np.rint(change / (1 << self.shift)).astype(np.int32))
        at = np.nonzero(steps)
        table = self.shown if self.rising else self.shown[::-1]
        here = self.stored[at] // self.unit - self.low
        wanted = np.clip(self.shown[here] + steps[at], int(table[0]), int(table[-1]))
        if (np.diff(table) == 1).all():  # linear, as nearly all are
            found = wanted - int(table[0])
        else:
            up = np.searchsorted(table, wanted, side="left")
            down = np.searchsorted(table, wanted, side="right") - 1
            found = np.clip(np.where(steps[at] > 0, up, down), 0, len(table) - 1)
        values = self.unit * (self.low + (found if self.rising else len(table) - 1 - found))
        if self.gap is not None:
            first, last = self.gap
            back = np.where(self.stored[at] < first, first - 1, last + 1)
            values = np.where((values >= first) & (values <= last), back, values)
        carried = self.stored.copy()
        carried[at] = values
        return carried


def find(inputs: Sequence[Path], labels: Sequence[Label], out: Path | None = None) -> list[Item]:
    """What to read: files as they are, images of data sets that have one of ``labels``, folders by file ending.

    Of folders, what lies in ``out`` and maps of differences are left out: they are no originals.

    Raises
    ------
    InputError
        Nothing there, or nothing of these labels; a broken manifest.
    """
    items: list[Item] = []
    for path in inputs:
        if (path / MANIFEST).is_file():
            items += _of_data_set(path, read_manifest(path), labels)
        elif path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in _ENDINGS and file.is_file() and not _no_original(file, out)
            )
            if not found:
                raise InputError(
                    "no picture in this folder",
                    str(path),
                    f"give a data set (with {MANIFEST}) or files ending in {', '.join(_ENDINGS)}",
                )
            items += [Item(path=file) for file in found]
        elif path.is_file():
            items.append(Item(path=path))
        else:
            raise InputError("no such file or folder", str(path), "check the path")
        if len(items) > MAMMOGRAPHY_BOUNDS.images:
            raise InputError(
                f"more than {MAMMOGRAPHY_BOUNDS.images} images", str(path), "give fewer at a time"
            )
    if not items:
        raise InputError("no image was given", "", "name files, a folder or a data set")
    return items


def _no_original(file: Path, out: Path | None) -> bool:
    if out is not None and file.resolve().is_relative_to(out.resolve()):
        return True
    return file.parent.name == _MAPS and any((file.parent.parent / name).exists() for name in _TAMPERED)


def _of_data_set(folder: Path, manifest: Manifest, labels: Sequence[Label]) -> Iterator[Item]:
    chosen = [image for image in manifest.images if image.label in labels]
    if not chosen:
        there = sorted({image.label.value for image in manifest.images})
        raise InputError(
            f"no image is labelled {' or '.join(labels)}",
            str(folder),
            f"choose with --label: {', '.join(there)}",
        )
    for image in chosen:
        yield Item(path=folder / image.file, folder=folder, image=image, phantom=manifest.phantom)


def read(item: Item) -> Original:
    """Read one picture.

    Raises
    ------
    InputError, DecodeError
        It cannot be read, is no grey picture, or no breast is found in it.
    """
    if item.folder is not None and item.image is not None:
        return _from_data_set(item, item.folder, item.image)
    digest = file_hash(item.path)
    with item.path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return _from_dicom(item.path, digest)
    return _from_picture(item.path, digest, "png" if head[:4] == b"\x89PNG" or head[:2] == b"P5" else "tiff")


def _from_data_set(item: Item, folder: Path, image: Image) -> Original:
    pixels, breast = load(folder, image, verify=True)
    if not breast.any():
        raise DecodeError("its breast mask is empty", str(folder / image.breast), "import the data set again")
    shift = 16 - image.bits if 8 <= image.bits <= 16 else 0
    if (pixels & ((1 << shift) - 1)).any():
        shift = 0  # it holds more bits than its manifest says
    stored = pixels.astype(np.int32)
    lesions = lesions_mask(image, folder)
    return Original(
        path=item.path,
        medium="png",
        sha256=file_hash(item.path),
        stored=stored,
        low=0,
        shown=np.arange(1 << 16 - shift, dtype=np.int32),
        shift=shift,
        unit=1 << shift,
        pixels=pixels,
        breast=breast,
        turned=False,
        fixed=np.zeros(pixels.shape, dtype=np.bool_),
        lesions=lesions if lesions.any() else None,
        image=image,
        phantom=item.phantom,
        patient=image.patient,
    )


def _from_dicom(path: Path, digest: str) -> Original:
    read = read_stored(path)
    steps = np.diff(read.shown)
    if (steps < 0).any() and (steps > 0).any():
        raise DecodeError(
            "its table of grey values goes up and down: a change cannot be carried back",
            str(path),
            "store it with a linear grey scale",
        )
    pixels, breast, turned, remarks = _turned(
        read.reading.full(), path, read.reading.facts, read.reading.facts.laterality
    )
    return Original(
        path=path,
        medium="dicom",
        sha256=digest,
        stored=read.values,
        low=read.low,
        shown=read.shown,
        shift=16 - read.reading.bits,
        pixels=pixels,
        breast=breast,
        turned=turned,
        fixed=read.padding,
        gap=_gap(read.dataset, path),
        dataset=read.dataset,
        patient=read.reading.facts.patient,
        remarks=(*read.reading.remarks, *remarks),
    )


def _gap(ds: pydicom.Dataset, path: Path) -> tuple[int, int] | None:
    """Stored values of padding, both ends included (PS3.3 C.7.5.1.1.2)."""
    with parsing("a header that cannot be read", path):
        value, limit = whole_of(ds, "PixelPaddingValue"), whole_of(ds, "PixelPaddingRangeLimit")
    if value is None:
        return None
    return min(value, value if limit is None else limit), max(value, value if limit is None else limit)


def _from_picture(path: Path, digest: str, medium: Medium) -> Original:
    reading = read_mammogram(path)
    most = (1 << reading.bits) - 1
    stored = reading.pixels.astype(np.int32)
    shown = np.arange(most + 1, dtype=np.int32)
    full, remarks = reading.full(), list(reading.remarks)
    if negative(reading):
        remarks.append("bright background: taken for a negative, and written as one")
        shown = shown[::-1].copy()
        full = np.left_shift((most - stored).astype(np.uint16), np.uint16(16 - reading.bits))
    pixels, breast, turned, said = _turned(full, path, reading.facts, None)
    return Original(
        path=path,
        medium=medium,
        sha256=digest,
        stored=stored,
        low=0,
        shown=shown,
        shift=16 - reading.bits,
        eight=reading.pixels.dtype == np.uint8,
        pixels=pixels,
        breast=breast,
        turned=turned,
        fixed=np.zeros(pixels.shape, dtype=np.bool_),
        remarks=(*remarks, *said),
    )


def _turned(
    full: Pixels, path: Path, facts: Facts, laterality: str | None
) -> tuple[Pixels, Mask, bool, list[str]]:
    breast = segment(full)
    if not breast.any():
        raise DecodeError(
            "no breast found: nothing stands out from the background", str(path), "leave it out"
        )
    left, remarks = on_the_left(chest_wall(breast), facts, laterality)
    if left:
        return full, breast, False, remarks
    return mirrored(full), mirrored(breast), True, remarks


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", str(path), "check path and permissions"
        ) from error

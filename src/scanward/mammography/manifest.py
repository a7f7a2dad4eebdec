"""A data set of mammograms as Scanward keeps it: one ``manifest.json`` and 16-bit pictures beside it.

::

    OUT/manifest.json        every image, its patient, laterality, view, label and lesions; the books
    OUT/images/NAME.png      16-bit grey, oriented: chest wall left, breast pointing right, tissue bright
    OUT/breast/NAME.png      8-bit, 255 inside the breast
    OUT/lesions/NAME-1.png   8-bit, 255 inside the lesion: only where the source gives a raster and no outline

Coordinates are pixels of the stored picture, x to the right, y downwards, (0, 0) the centre of the first pixel.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path, PurePosixPath

import msgspec

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError

MANIFEST = "manifest.json"
FORMAT = "scanward-mammography-1"


class Label(StrEnum):
    """What an image shows, by its worst lesion."""

    NORMAL = "normal"
    BENIGN = "benign"
    MALIGNANT = "malignant"
    UNKNOWN = "unknown"


class LesionKind(StrEnum):
    """What a lesion is, in the BI-RADS lexicon's words (5th edition, mammography)."""

    MASS = "mass"
    CALCIFICATION = "calcification"
    ASYMMETRY = "asymmetry"
    DISTORTION = "architectural distortion"
    OTHER = "other"


class Lesion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One lesion. Located by ``outline`` or ``circle`` or ``raster``, or by none of them (place unknown).

    ``outline`` is a closed polygon of (x, y) in px (a box has four corners), ``circle`` is (x, y, radius) in px,
    ``raster`` a picture below the data set's folder. ``spiculated`` and ``biopsied`` are None where the source is
    silent.
    """

    kind: LesionKind = LesionKind.OTHER
    label: Label = Label.UNKNOWN
    outline: tuple[tuple[float, float], ...] = ()
    circle: tuple[float, float, float] | None = None
    raster: str | None = None
    spiculated: bool | None = None
    biopsied: bool | None = None
    note: str = ""

    @property
    def located(self) -> bool:
        """Whether the source says where the lesion lies."""
        return bool(self.outline) or self.circle is not None or self.raster is not None


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One mammogram. ``laterality`` is L or R and ``view`` CC, MLO or another code of CID 4014, None when unknown.

    ``sha256`` is that of the stored picture's pixels (`pixels_hash`), ``source_sha256`` that of the source file.
    ``mirrored`` says that the picture was turned to bring the chest wall to the left. ``spacing`` is mm per pixel
    in the stored picture (rows, columns). ``bits`` are those of the source. ``partition`` is the source's own
    split (train, test), when it has one: information, `scanward.mammography.splits` makes ours.
    """

    name: str
    patient: str
    label: Label
    file: str
    breast: str
    rows: int
    columns: int
    sha256: str
    source: str = ""
    source_sha256: str = ""
    laterality: str | None = None
    view: str | None = None
    birads: int | None = None
    density: str | None = None
    bits: int = 16
    spacing: tuple[float, float] | None = None
    mirrored: bool = False
    inverted: bool = False
    partition: str | None = None
    lesions: tuple[Lesion, ...] = ()
    remarks: tuple[str, ...] = ()


class Odd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record of the source that was left out (``rejected``) or is missing its other half (``missing``), and why."""

    what: str
    where: str
    why: str


class Books(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of the source: ``listed`` = ``imported`` + ``rejected`` + ``missing`` + ``duplicate``.

    ``listed`` counts the images that the source lists or holds, each once; ``missing`` those listed without a file.
    """

    listed: int
    imported: int
    rejected: int = 0
    missing: int = 0
    duplicate: int = 0

    def balance(self) -> bool:
        """Whether every image is accounted for."""
        return self.listed == self.imported + self.rejected + self.missing + self.duplicate


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole data set. ``phantom`` is true when no image is of a human being."""

    format: str = FORMAT
    kind: str
    phantom: bool
    licence: str
    cite: str
    images: tuple[Image, ...]
    books: Books
    odd: tuple[Odd, ...] = ()

    def patients(self) -> dict[str, tuple[Image, ...]]:
        """Images by patient, in the order of first appearance."""
        found: dict[str, list[Image]] = {}
        for image in self.images:
            found.setdefault(image.patient, []).append(image)
        return {patient: tuple(images) for patient, images in found.items()}


_decoder = msgspec.json.Decoder(Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` whole or not at all."""
    if not manifest.books.balance():
        raise InputError("the books of the data set do not balance", str(folder), "this is a bug: report it")
    encoded = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1)
    draft = folder / f"{MANIFEST}.part"
    draft.write_bytes(encoded + b"\n")
    draft.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Read and check a data set's manifest.

    Raises
    ------
    InputError
        No manifest, not one of ours, too large, books that do not balance, a name twice, or a path that leads
        out of the folder.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAMMOGRAPHY_BOUNDS.manifest_bytes:
            raise InputError(
                f"the manifest is larger than {MAMMOGRAPHY_BOUNDS.manifest_bytes} bytes",
                str(path),
                "split it",
            )
        manifest = _decoder.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            "no data set here: manifest.json is missing",
            str(folder),
            "make one with scanward mammo import or scanward mammo phantom",
        ) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a manifest: {error}", str(path), "import the data set again") from error
    _check(manifest, path)
    return manifest


def _check(manifest: Manifest, path: Path) -> None:
    if manifest.format != FORMAT:
        raise InputError(
            f"format {manifest.format!r} is not {FORMAT!r}", str(path), "import the data set again"
        )
    if not manifest.books.balance() or manifest.books.imported != len(manifest.images):
        raise InputError("the books do not balance", str(path), "import the data set again")
    names: set[str] = set()
    for image in manifest.images:
        if image.name in names:
            raise InputError(f"image {image.name!r} is there twice", str(path), "import the data set again")
        names.add(image.name)
        for file in (image.file, image.breast, *(lesion.raster for lesion in image.lesions if lesion.raster)):
            pure = PurePosixPath(file)
            if pure.is_absolute() or ".." in pure.parts or "\\" in file or "\0" in file or not pure.parts:
                raise InputError(
                    f"{file!r} leads out of the data set", str(path), "import the data set again"
                )
        if not image.patient:
            raise InputError(
                f"image {image.name!r} has no patient",
                str(path),
                "splits are by patient: every image needs one",
            )


def pixels_hash(pixels: bytes) -> str:
    """SHA-256 of a picture's raw pixels: equal pictures are found whatever their files are called."""
    return hashlib.sha256(pixels).hexdigest()

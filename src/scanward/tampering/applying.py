"""Applying a trained model: pictures in, modified and marked pictures out, in a folder with a manifest.

Nothing here opens a network connection: what is written stays where it was written.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError, LearningError, SettingsError
from scanward.mammography.dicom_pixels import read_stored
from scanward.mammography.manifest import Label, Lesion
from scanward.mammography.orient import mirrored
from scanward.mammography.pictures import Mask, lesion_mask
from scanward.mammography.readers import read_mammogram
from scanward.tampering import originals, outputs
from scanward.tampering.checkpoints import Direction
from scanward.tampering.dicom_outputs import Change, Names, marks_of_dicom, refuse_unsuitable, write_dicom
from scanward.tampering.marking import marks_of, write_marked
from scanward.tampering.originals import Item, Original, Wide
from scanward.tampering.outputs import DIFFERENCES, IMAGES, OFFSET, Folder, Made, Record, Tampered
from scanward.tampering.prepared import REGION_MARGIN
from scanward.tampering.presets import Preset
from scanward.tampering.scaling import Placement, difference_to_picture, mask_to_model, to_model

Circle = tuple[float, float, float]  # x, y, radius in px of the file
DOMAIN = {"insert": Label.NORMAL, "remove": Label.MALIGNANT}  # what each direction is for
_ENDING = {"dicom": "dcm", "png": "png", "tiff": "tif"}
_SMALLEST, _LARGEST = 0.04, 0.09  # radius of a region chosen by seed, of the breast's longer side


class Model(Protocol):
    """What of a run is needed (`scanward.tampering.checkpoints.Run` has it)."""

    @property
    def preset(self) -> Preset:
        """What it was trained with."""
        ...

    @property
    def step(self) -> int:
        """Steps it was trained for."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its weights."""
        ...

    def generator(self, direction: Direction) -> nn.Module:
        """A generator in evaluation mode."""
        ...


class NoPlaceError(InputError):
    """A model must be told where, and nothing says it; of a data set such an image is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is applied. ``strength`` scales its change; ``regions`` are for one picture."""

    regions: tuple[Circle, ...] = ()
    visible_mark: bool = True
    strength: float = 1.0
    seed: int = 0
    labels: tuple[Label, ...] = ()  # of data sets' images; none given: those the direction is for


def apply(
    images: Sequence[Path],
    run: Model,
    direction: Direction,
    out: Path,
    *,
    regions: Sequence[Circle] | None = None,
    visible_mark: bool = True,
    strength: float = 1.0,
    seed: int = 0,
    labels: Sequence[Label] = (),
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[Path, Record], None] | None = None,
) -> Tampered:
    """Insert or remove lesions in pictures, write them marked to ``out``, and tell in a manifest what was done.

    Parameters
    ----------
    images : paths
        DICOM, PNG, TIFF or PGM files, folders of them, or data sets (their images of ``labels``).
    run : Model
        A trained model.
    direction : {"insert", "remove"}
        What to do.
    out : Path
        A new or empty folder, or one that the same model was writing to.
    regions : circles (x, y, radius), px of the file
        Where, for a model that is told where; for one picture. Else the data set's lesions (remove), or a place in
        the breast that the seed chooses (insert).
    visible_mark : bool
        Burn words into the picture. The metadata marks are always there.
    strength : float
        Share of the model's change that is made, above 0 and at most 1.
    seed : int
        Chooses places; the same seed chooses the same.
    progress : callable
        Told how many pictures are done of how many.
    tell : callable
        Told the record of each original by its path, which may name people: for a screen, never for the manifest.

    Returns
    -------
    Tampered
        The manifest of all that the folder holds now.

    Raises
    ------
    InputError, DecodeError
        A picture that cannot be used (what was done before stays), a folder that holds something else.
    SettingsError
        Regions for a model that takes none, or for several pictures; another strength.
    LearningError
        The model's pictures are not finite; a full disk.
    """
    settings = Settings(
        regions=tuple((float(x), float(y), float(r)) for x, y, r in regions or ()),
        visible_mark=visible_mark,
        strength=strength,
        seed=seed,
        labels=tuple(labels),
    )
    if direction not in DOMAIN:
        raise SettingsError(f"no direction '{direction}'", "", "use insert or remove")
    items = originals.find(images, settings.labels or (DOMAIN[direction],), out)
    _check(settings, run, len(items))
    made = Made(
        direction=direction,
        fingerprint=run.fingerprint,
        preset=run.preset.name,
        step=run.step,
        seed=seed,
        strength=strength,
        visible_mark=visible_mark,
    )
    generator = run.generator(direction)
    left_out: list[NoPlaceError] = []
    with outputs.opened(out, made) as folder:
        for done, item in enumerate(items):
            if progress is not None:
                progress(done, len(items))
            digest = originals.file_hash(item.path)
            record = folder.known(digest, settings.regions or None)
            if record is None:
                try:
                    record = _one(item, run.preset, generator, folder, settings)
                except NoPlaceError as error:
                    if item.image is None or settings.regions:
                        raise
                    left_out.append(error)  # of a data set the others are done all the same
                    continue
                folder.enter(record)
            if tell is not None:
                tell(item.path, record)
        if progress is not None:
            progress(len(items), len(items))
        if left_out and not folder.records:
            raise left_out[0]
        return folder.finish([f"{Path(error.where).stem}: {error.what}" for error in left_out])


def _check(settings: Settings, run: Model, number: int) -> None:
    if not 0 < settings.strength <= 1:
        raise SettingsError(f"strength {settings.strength}", "--strength", "give a number above 0, at most 1")
    if settings.seed < 0:
        raise SettingsError(f"seed {settings.seed}", "--seed", "give 0 or more")
    if not settings.regions:
        return
    if len(settings.regions) > MAMMOGRAPHY_BOUNDS.lesions:
        raise SettingsError(
            f"{len(settings.regions)} regions", "--region", f"give at most {MAMMOGRAPHY_BOUNDS.lesions}"
        )
    if not run.preset.generator.mask_channel:
        raise SettingsError(
            f"a model of preset {run.preset.name} is not told where", "--region", "leave --region out"
        )
    if number != 1:
        raise SettingsError(
            f"--region for {number} pictures", "--region", "give one picture with its regions"
        )
    for x, y, radius in settings.regions:
        # no picture is wider than it has pixels; a NaN is not below anything
        if not (
            max(abs(x), abs(y), radius) <= MAMMOGRAPHY_BOUNDS.pixels**2 and x == x and y == y and radius > 0
        ):
            raise SettingsError(
                f"region ({x}, {y}, {radius})", "--region", "give x,y,radius in pixels, radius above 0"
            )


def _one(item: Item, preset: Preset, generator: nn.Module, folder: Folder, settings: Settings) -> Record:
    """Alter and write one picture. Its files are there when its record is."""
    original = originals.read(item)
    if original.dataset is not None:
        refuse_unsuitable(original.dataset, item.path)
    made = delivered(original, preset, generator, folder.made.direction, settings)
    stored, circles, by = made.stored, made.circles, made.by
    names = Names(folder.key)
    wanted = original.image.name if original.image else names.token("i", original.sha256)
    name = folder.name_for(wanted, original.sha256, circles)
    what = (
        f"{'Phantom' if original.phantom else 'Mammogram'}, lesion "
        f"{'inserted' if folder.made.direction == 'insert' else 'removed'} by Scanward preset {preset.name}, "
        f"model sha256 {folder.made.fingerprint}, step {folder.made.step}, seed {settings.seed}; "
        f"original sha256 {original.sha256}"
    )
    output = f"{IMAGES}/{name}.{_ENDING[original.medium]}"
    with outputs.disk(folder.path):
        content = _write(folder.path / output, original, stored, what, names, folder.made)
        difference = stored - original.stored
        shown = np.clip(difference + OFFSET, 0, 65535).astype(np.uint16)
        map_path = f"{DIFFERENCES}/{name}.png"
        map_bytes = write_marked(
            folder.path / map_path,
            shown,
            f"Difference map, 32768 + modified - original, of: {what}",
            source_sha256=original.sha256,
            visible=False,  # not a picture of a breast, and words would be read as changes
        )
    written, uid = _verified(folder.path / output, original.medium)
    return Record(
        name=name,
        original_sha256=original.sha256,
        original_pixels_sha256=_pixels_hash(original.stored),
        output=output,
        output_sha256=outputs.sha256(content),
        output_pixels_sha256=_pixels_hash(written),
        difference=map_path,
        difference_sha256=outputs.sha256(map_bytes),
        difference_clipped=bool((shown.astype(np.int32) != difference + OFFSET).any()),
        medium=original.medium,
        rows=original.stored.shape[0],
        columns=original.stored.shape[1],
        regions=circles,
        regions_by=by,
        visible_mark=settings.visible_mark,
        change=_change(difference, original.inside),
        uid=uid,
        patient=names.token("p", original.patient) if original.dataset is not None else original.patient,
        label=original.image.label.value if original.image else "",
        phantom=original.phantom,
        remarks=original.remarks,
    )


@dataclass(frozen=True, slots=True)
class Delivered:
    """An altered picture in memory, without a mark: ``stored`` int32 (r, c) as `Original.stored`, and where it was
    altered (`circles`, px of the file), and who chose that.
    """

    stored: Wide
    circles: tuple[Circle, ...]
    by: str


def delivered(
    original: Original, preset: Preset, generator: nn.Module, direction: str, settings: Settings
) -> Delivered:
    """What `apply` makes of one picture, before the mark. It is not to be written to disk as it is.

    Raises
    ------
    NoPlaceError
        The model must be told where, and nothing says it.
    LearningError
        The model's picture is not finite.
    """
    grey, _, placement = to_model(
        original.pixels, original.breast, preset.rows, preset.columns, preset.framing
    )
    mask, circles, by = _region(original, placement, preset, direction, settings)
    after = altered(generator, grey, mask if preset.generator.mask_channel else None, original.path)
    after = grey + np.float32(settings.strength) * (after - grey)
    pixels, _ = difference_to_picture(original.pixels, original.breast, placement, grey, after)
    return Delivered(original.carried(pixels), circles, by)


def altered(
    generator: nn.Module, grey: NDArray[np.float32], mask: Mask | None, where: Path
) -> NDArray[np.float32]:
    """What a generator makes of one picture (rows, columns), told the region when ``mask`` is not None.

    Raises
    ------
    LearningError
        It is of another size, or not finite.
    """
    shown = torch.from_numpy(np.ascontiguousarray(grey))[None, None]
    if mask is not None:
        shown = torch.cat([shown, torch.from_numpy(mask.astype(np.float32) * 2 - 1)[None, None]], 1)
    first = next(generator.parameters(), None)
    with torch.inference_mode():
        made = generator(shown if first is None else shown.to(first.device))
    if tuple(made.shape) != (1, 1, *grey.shape) or not bool(torch.isfinite(made).all()):
        raise LearningError(
            "the model's picture is of another size or not finite",
            str(where),
            "this model is broken: train it again",
        )
    back: NDArray[np.float32] = made[0, 0].float().cpu().numpy().clip(-1, 1)
    return back


def _region(
    original: Original, placement: Placement, preset: Preset, direction: str, settings: Settings
) -> tuple[Mask, tuple[Circle, ...], str]:
    """The region at the model's size, grown as in training; circles in px of the file; who chose it."""
    nothing = np.zeros((preset.rows, preset.columns), dtype=np.bool_)
    if not preset.generator.mask_channel:
        return nothing, (), "none"
    circles, by = settings.regions, "given"
    if circles:
        mask = _drawn(original, circles)
    elif direction == "remove":
        if original.lesions is None:
            raise NoPlaceError(
                "nothing says where its lesion is, and this model must be told",
                str(original.path),
                "give --region x,y,radius in pixels",
            )
        mask, by = original.lesions, "lesions"
    else:
        circles, by = (chosen(original, settings.seed),), "seed"
        mask = _drawn(original, circles)
    if not (mask & original.breast).any():
        raise NoPlaceError(
            "the region is not in the breast",
            str(original.path),
            "give --region x,y,radius in pixels of the file",
        )
    small = mask_to_model(mask, placement, preset.rows, preset.columns)
    square = np.ones((2 * REGION_MARGIN + 1,) * 2, dtype=np.bool_)
    return ndimage.binary_dilation(small, square), circles, by


def _drawn(original: Original, circles: Sequence[Circle]) -> Mask:
    """Circles of the file's pixels as a mask in the orientation that a model is shown."""
    shape = (original.stored.shape[0], original.stored.shape[1])
    mask = np.zeros(shape, dtype=np.bool_)
    for circle in circles:
        mask |= lesion_mask(Lesion(circle=circle), shape)
    return mirrored(mask) if original.turned else mask


def chosen(original: Original, seed: int) -> Circle:
    """A place that lies in the breast as a whole, by seed and picture alone; in px of the file.

    Its radius is 4 to 9 hundredths of the breast's longer side: some 6 to 14 mm of a breast of 150 mm.
    """
    inside = original.inside
    random = np.random.default_rng([seed, int(original.sha256[:16], 16)])
    step = max(1, max(inside.shape) // 512)
    small = np.pad(inside[::step, ::step], 1)  # the picture's edge is an edge of the breast
    depth = ndimage.distance_transform_edt(small)[1:-1, 1:-1] * step
    down, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    longer = max(int(down[-1] - down[0]), int(across[-1] - across[0])) + 1
    radius = min(longer * random.uniform(_SMALLEST, _LARGEST), max(float(depth.max()) * 0.9, 0.5))
    places = np.flatnonzero(depth >= radius)
    place = int(random.choice(places)) if len(places) else int(depth.argmax())
    row, column = divmod(place, depth.shape[1])
    return float(column * step), float(row * step), round(float(radius), 2)


def _write(path: Path, original: Original, stored: Wide, what: str, names: Names, made: Made) -> bytes:
    if original.dataset is not None:
        change = Change(
            direction=made.direction,
            text=what,
            visible=made.visible_mark,
            now=datetime.datetime.now(datetime.UTC),
        )
        return write_dicom(
            path,
            original.dataset,
            stored,
            change,
            names,
            patient=original.patient,
            low=original.low,
            rising=original.rising,
            within=original.inside,
            fixed=original.fixed,
        )
    return write_marked(
        path,
        stored.astype(np.uint8) if original.eight else stored.astype(np.uint16),
        what,
        source_sha256=original.sha256,
        visible=made.visible_mark,
        within=original.inside,
        facts={"Direction": made.direction, "Model": f"sha256:{made.fingerprint}"},
    )


def _verified(path: Path, medium: str) -> tuple[Wide, str]:
    """Read a written picture again: its stored values and UID. One that does not say what it is, is removed."""
    uid = ""
    if medium == "dicom":
        read = read_stored(path)
        marked, values = marks_of_dicom(read.dataset), read.values
        uid = str(read.dataset.SOPInstanceUID)
    else:
        marked, values = bool(marks_of(path)), read_mammogram(path).pixels.astype(np.int32)
    if not marked:
        path.unlink()
        raise LearningError("the written picture carries no mark", str(path), "this is a bug: report it")
    return values, uid


def _pixels_hash(values: Wide) -> str:
    return outputs.sha256(values.astype("<i4").tobytes())


def _change(difference: Wide, inside: Mask) -> outputs.Change:
    size = np.abs(difference)
    within, without = size[inside], size[~inside]
    return outputs.Change(
        inside_max=int(within.max(initial=0)),
        inside_mean=float(within.mean()) if within.size else 0.0,
        outside_max=int(without.max(initial=0)),
        outside_mean=float(without.mean()) if without.size else 0.0,
    )

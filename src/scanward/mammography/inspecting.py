"""What a data set holds, and whether it is still what was imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanward.errors import ScanwardError
from scanward.mammography.manifest import Image, Manifest
from scanward.mammography.pictures import lesion_mask, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Pictures read back: how many are as imported, and what is wrong with the others (name, why)."""

    verified: int = 0
    wrong: tuple[tuple[str, str], ...] = ()
    strangers: tuple[str, ...] = ()  # files in the folders of pictures that the manifest does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A data set in numbers. ``leaks`` are groups of names with equal pixels under different patients."""

    manifest: Manifest
    rows: tuple[
        tuple[str, str, str, int, int, int], ...
    ]  # label, laterality, view, images, patients, lesions
    patients: int
    lesions: Counter[str] = field(default_factory=Counter)
    located: int = 0
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    bits: tuple[int, ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data; docs/mammography.md lists the keys."""
        one = self.manifest
        names = ("label", "laterality", "view", "images", "patients", "lesions")
        return {
            "kind": one.kind,
            "phantom": one.phantom,
            "licence": one.licence,
            "cite": one.cite,
            "books": {
                "listed": one.books.listed,
                "imported": one.books.imported,
                "rejected": one.books.rejected,
                "missing": one.books.missing,
                "duplicate": one.books.duplicate,
            },
            "images": len(one.images),
            "patients": self.patients,
            "groups": [dict(zip(names, row, strict=True)) for row in self.rows],
            "lesions": dict(sorted(self.lesions.items())),
            "lesions_located": self.located,
            "smallest": list(self.sizes[0]),
            "largest": list(self.sizes[1]),
            "bits": list(self.bits),
            "leaks": [list(group) for group in self.leaks],
            "odd": [{"what": odd.what, "where": odd.where, "why": odd.why} for odd in one.odd],
        }


def summarise(manifest: Manifest) -> Summary:
    """Count what the manifest lists; no picture is read."""
    groups: dict[tuple[str, str, str], list[Image]] = {}
    owners: dict[str, dict[str, str]] = {}
    for image in manifest.images:
        key = (image.label.value, image.laterality or "?", image.view or "?")
        groups.setdefault(key, []).append(image)
        owners.setdefault(image.sha256, {})[image.patient] = image.name
    areas = sorted((image.rows * image.columns, image.rows, image.columns) for image in manifest.images)
    lesions = [lesion for image in manifest.images for lesion in image.lesions]
    return Summary(
        manifest=manifest,
        rows=tuple(
            (
                *key,
                len(images),
                len({one.patient for one in images}),
                sum(len(one.lesions) for one in images),
            )
            for key, images in sorted(groups.items())
        ),
        patients=len(manifest.patients()),
        lesions=Counter(lesion.kind.value for lesion in lesions),
        located=sum(lesion.located for lesion in lesions),
        sizes=(areas[0][1:], areas[-1][1:]) if areas else ((0, 0), (0, 0)),
        bits=tuple(sorted({image.bits for image in manifest.images})),
        leaks=tuple(tuple(sorted(found.values())) for found in owners.values() if len(found) > 1),
    )


def check(folder: Path, manifest: Manifest, step: Callable[[], None] | None = None) -> Check:
    """Read every picture, breast and lesion back and compare it with the manifest. One picture at a time."""
    wrong: list[tuple[str, str]] = []
    known = set()
    for image in manifest.images:
        known |= {image.file, image.breast, *(one.raster for one in image.lesions if one.raster)}
        try:
            _, breast = load(folder, image, verify=True)
            if not breast.any():
                wrong.append((image.name, "its breast is empty"))
            for lesion in image.lesions:
                if lesion.raster is not None:
                    lesion_mask(lesion, (image.rows, image.columns), folder)
        except ScanwardError as error:
            wrong.append((image.name, error.what))
        if step is not None:
            step()
    strangers = sorted(
        path.relative_to(folder).as_posix()
        for name in ("images", "breast", "lesions")
        if (folder / name).is_dir()
        for path in (folder / name).iterdir()
        if path.relative_to(folder).as_posix() not in known
    )
    bad = {name for name, _ in wrong}
    return Check(verified=len(manifest.images) - len(bad), wrong=tuple(wrong), strangers=tuple(strangers))

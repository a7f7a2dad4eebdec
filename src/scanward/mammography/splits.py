"""Splits of a data set: by patient, always. A leak between parts is an error, never a remark."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError, LeakError, SettingsError
from scanward.mammography.manifest import Image, Label, Manifest

FORMAT = "scanward-split-1"
_SEVERITY = (Label.NORMAL, Label.UNKNOWN, Label.BENIGN, Label.MALIGNANT)


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which patients are in which part. ``manifest`` is the `fingerprint` of the data set it was made for."""

    format: str = FORMAT
    kind: str
    manifest: str
    seed: int
    parts: dict[str, tuple[str, ...]]

    def part_of(self) -> dict[str, str]:
        """Patient -> part."""
        return {patient: part for part, patients in self.parts.items() for patient in patients}


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 over who is in the data set with which pictures and labels, independent of their order."""
    facts = sorted((image.name, image.patient, image.label.value, image.sha256) for image in manifest.images)
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def worst_label(images: Iterable[Image]) -> Label:
    """The worst label among a patient's images."""
    return max((image.label for image in images), key=_SEVERITY.index)


def split_by_patient(manifest: Manifest, parts: Mapping[str, float], seed: int = 0) -> Split:
    """Split patients into parts of given shares, alike in every stratum of their worst label.

    Patients who share a byte-identical picture stay together. The same data set and seed give the same split,
    whatever the order of the images.

    Parameters
    ----------
    parts : name -> share
        Shares are positive and sum to 1.

    Raises
    ------
    SettingsError
        Shares that do not sum to 1, or fewer patients than parts.
    """
    if not all(share > 0 for share in parts.values()) or not abs(sum(parts.values()) - 1) <= 1e-6:
        raise SettingsError(
            "the shares of the parts must be positive and sum to 1", "", "as train=0.7,test=0.3"
        )
    groups = _groups(manifest)
    if len(groups) < len(parts):
        raise SettingsError(
            f"{len(groups)} patients cannot fill {len(parts)} parts",
            f"data set {manifest.kind}",
            "use fewer parts",
        )
    random = np.random.default_rng([seed, len(groups)])
    names = list(parts)
    wanted = np.array([parts[name] for name in names])
    filled: dict[str, list[str]] = {name: [] for name in names}
    for label in _SEVERITY:
        stratum = [group for group, worst in groups if worst is label]
        size = sum(len(group) for group in stratum)
        given = np.zeros(len(names))
        for index in random.permutation(len(stratum)):
            # to the part that lacks most of its share of this stratum; a tie goes to the emptiest part
            lack = wanted * size - given
            emptiness = np.array([-len(filled[name]) / share for name, share in parts.items()])
            choice = max(range(len(names)), key=lambda i: (round(float(lack[i]), 9), emptiness[i]))
            filled[names[choice]].extend(stratum[index])
            given[choice] += len(stratum[index])
    empty = [name for name, patients in filled.items() if not patients]
    if empty:
        raise SettingsError(
            f"no patient falls to the part {empty[0]!r}",
            f"data set {manifest.kind}",
            "give it a larger share",
        )
    made = Split(
        kind=manifest.kind,
        manifest=fingerprint(manifest),
        seed=seed,
        parts={name: tuple(sorted(patients)) for name, patients in filled.items()},
    )
    check_split(manifest, made)
    return made


def folds_by_patient(manifest: Manifest, folds: int, seed: int = 0) -> Split:
    """Split patients into ``folds`` parts of equal size, named fold-1, fold-2, ..."""
    if folds < 2:
        raise SettingsError(f"{folds} folds", "--folds", "give at least 2")
    return split_by_patient(manifest, {f"fold-{i + 1}": 1 / folds for i in range(folds)}, seed)


def _groups(manifest: Manifest) -> list[tuple[tuple[str, ...], Label]]:
    """Patients that must stay together, with their worst label, sorted by name."""
    patients = manifest.patients()
    leader = {patient: patient for patient in patients}

    def find(patient: str) -> str:
        while leader[patient] != patient:
            leader[patient] = leader[leader[patient]]
            patient = leader[patient]
        return patient

    owner: dict[str, str] = {}
    for image in manifest.images:
        first = owner.setdefault(image.sha256, image.patient)
        one, other = sorted((find(first), find(image.patient)))
        leader[other] = one
    groups: dict[str, list[str]] = {}
    for patient in sorted(patients):
        groups.setdefault(find(patient), []).append(patient)
    return [
        (tuple(group), worst_label(image for patient in group for image in patients[patient]))
        for _, group in sorted(groups.items())
    ]


def check_split(manifest: Manifest, split: Split) -> None:
    """Refuse a split that leaks or does not fit.

    Raises
    ------
    LeakError
        A patient in two parts or in none, or a byte-identical picture in two parts.
    InputError
        The split was made for another data set.
    """
    seen: dict[str, str] = {}
    for part, patients in split.parts.items():
        for patient in patients:
            if patient in seen:
                raise LeakError(
                    f"patient {patient!r} is in the parts {seen[patient]!r} and {part!r}",
                    f"split of {split.kind}",
                    "make the split again: scanward mammo split",
                )
            seen[patient] = part
    pictures: dict[str, tuple[str, str]] = {}
    for image in manifest.images:
        if image.patient not in seen:
            raise LeakError(
                f"patient {image.patient!r} is in no part",
                f"split of {split.kind}",
                "make the split again: scanward mammo split",
            )
        part = seen[image.patient]
        name, other = pictures.setdefault(image.sha256, (image.name, part))
        if other != part:
            raise LeakError(
                f"the same picture is in the parts {other!r} ({name}) and {part!r} ({image.name})",
                f"split of {split.kind}",
                "make the split again: scanward mammo split",
            )
    if split.manifest != fingerprint(manifest):
        raise InputError(
            "the split was made for another state of the data set",
            f"split of {split.kind}",
            "make the split again: scanward mammo split",
        )


def check_disjoint(one: Manifest, other: Manifest) -> None:
    """Refuse two data sets that share a patient (of the same kind of data set) or a picture.

    Raises
    ------
    LeakError
        They do.
    """
    shared = {image.sha256 for image in one.images} & {image.sha256 for image in other.images}
    if shared:
        raise LeakError(
            f"{len(shared)} pictures are in both data sets", f"{one.kind} and {other.kind}", "leave one out"
        )
    if one.kind == other.kind:
        both = set(one.patients()) & set(other.patients())
        if both:
            raise LeakError(
                f"{len(both)} patients are in both data sets, as {sorted(both)[0]!r}",
                one.kind,
                "split by patient",
            )


def write_split(path: Path, split: Split) -> None:
    """Write a split as JSON, whole or not at all."""
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(split), indent=1) + b"\n")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise InputError(f"cannot be written: {error.strerror}", str(path), "check path and disk") from error


def read_split(path: Path) -> Split:
    """Read a split.

    Raises
    ------
    InputError
        No such file, or not a split.
    """
    try:
        if path.stat().st_size > MAMMOGRAPHY_BOUNDS.manifest_bytes:
            raise InputError("larger than any split", str(path), "check the file")
        split = msgspec.json.decode(path.read_bytes(), type=Split)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a split: {error}", str(path), "make it with scanward mammo split") from error
    if split.format != FORMAT:
        raise InputError(f"format {split.format!r} is not {FORMAT!r}", str(path), "make the split again")
    return split

"""Pictures as the evaluation takes them: model-sized, with region, patient and, for phantoms, the truth.

All pictures of an evaluation are in memory as float32 in [-1, 1], (N, rows, columns); 1,000 of 128 x 128 are 64 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from scanward.errors import InputError, LeakError
from scanward.tampering.checkpoints import hashed

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pictures:
    """N pictures of healthy and of cancerous breasts.

    ``x`` (N, rows, columns) float32 in [-1, 1], ``breast`` its mask; ``region`` where the lesion lies (cancer) or
    where one is to be put (healthy). ``twin`` is the very same picture in the other state, known of phantoms alone:
    a cancer without its lesion, a healthy one with a lesion in ``region``; rows where ``twinned`` is false are
    meaningless. ``pectoral`` is the muscle, where known.
    """

    names: tuple[str, ...]
    patients: tuple[str, ...]
    cancer: Masks  # (N,)
    x: Images
    breast: Masks
    region: Masks
    twin: Images
    twinned: Masks  # (N,)
    pectoral: Masks

    def __post_init__(self) -> None:
        """Shapes agree, and every number is finite: figures of half-read pictures would look like figures."""
        count = len(self.names)
        for field in fields(self):
            if len(getattr(self, field.name)) != count:
                raise ValueError(f"{field.name} holds {len(getattr(self, field.name))} of {count}")
        for name in ("breast", "region", "twin", "pectoral"):
            if getattr(self, name).shape != self.x.shape:
                raise ValueError(f"{name} is {getattr(self, name).shape}, pictures are {self.x.shape}")
        if not np.isfinite(self.x).all() or not np.isfinite(self.twin).all():
            raise ValueError("a picture holds numbers that are not finite")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.x.shape[1]), int(self.x.shape[2])

    @property
    def healthy_rows(self) -> Ints:
        """Indices of the healthy ones."""
        return np.flatnonzero(~self.cancer)

    @property
    def cancer_rows(self) -> Ints:
        """Indices of the cancers."""
        return np.flatnonzero(self.cancer)

    def take(self, rows: Iterable[int] | NDArray[np.integer] | Masks) -> Pictures:
        """Some of them, in the order of ``rows`` (indices, or a mask)."""
        at = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows)
        at = np.flatnonzero(at) if at.dtype == np.bool_ else at.astype(np.int64)
        return Pictures(
            names=tuple(self.names[i] for i in at),
            patients=tuple(self.patients[i] for i in at),
            **{
                f.name: getattr(self, f.name)[at] for f in fields(self) if f.name not in ("names", "patients")
            },
        )

    def fingerprint(self) -> str:
        """SHA-256 over what a classifier learns from: pictures, labels, patients, lesions."""
        digest = hashlib.sha256()
        digest.update(repr((self.x.shape, self.patients)).encode())
        digest.update(np.ascontiguousarray(self.cancer).tobytes())
        for array in (self.x, self.breast, self.region):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Data:
    """What an evaluation needs: classifiers learn from ``learn``, stop by ``validate``, all figures are of ``test``.

    ``generator_patients`` are those that the generator was trained on, hashed as its checkpoint has them
    (`scanward.tampering.checkpoints.hashed`). Nobody may be in two of these.
    """

    learn: Pictures
    validate: Pictures
    test: Pictures
    generator_patients: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse leaks, parts with one label only, and parts of unequal size.

        Raises
        ------
        LeakError
            A patient, or a picture, in two parts.
        InputError
            A part without cancers or without healthy pictures.
        """
        parts = {"learn": self.learn, "validate": self.validate, "test": self.test}
        patients = {name: frozenset(part.patients) for name, part in parts.items()}
        _disjoint(patients, "patient")
        named = {name: frozenset(hashed(set(those))) for name, those in patients.items()}
        for name, those in named.items():
            _disjoint({name: those, "the generator's training": self.generator_patients}, "patient")
        hashes = {
            name: frozenset(hashlib.sha256(x.tobytes()).hexdigest() for x in part.x)
            for name, part in parts.items()
        }
        _disjoint(hashes, "picture")
        for name, part in parts.items():
            if not part.cancer.any() or part.cancer.all():
                raise InputError(
                    f"the part '{name}' has {'no cancers' if not part.cancer.any() else 'cancers only'}",
                    "evaluation",
                    "give a data set with both, of more patients",
                )
            if part.size != self.test.size:
                raise ValueError(f"'{name}' is of {part.size}, 'test' of {self.test.size}")


def _disjoint(parts: dict[str, frozenset[str]], what: str) -> None:
    names = list(parts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if both := parts[one] & parts[other]:
                raise LeakError(
                    f"{len(both)} {what}{'s' if len(both) > 1 else ''} in two parts ('{one}' and '{other}')",
                    f"{what} {min(both)[:40]}",
                    "draw or split the parts by patient",
                )

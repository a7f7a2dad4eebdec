"""Lesions of the phantom: masses with smooth margins, masses with spicules, clusters of calcifications.

A lesion is light that is *added* to healthy tissue, so the truth is known: picture - healthy = lesion. Sizes
are in mm, brightness in shares of full scale (`phantom.FULL_SCALE`).

Malignant ones are masses with spicules and pleomorphic (many, uneven) clusters; benign ones are masses with a
smooth margin and few, even calcifications: the typical cases of the BI-RADS lexicon (5th edition), not all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.mammography.manifest import Label, LesionKind

Field = NDArray[np.float64]

DIAMETER = (10.0, 26.0)  # mm, of a mass without its spicules; of a whole cluster
BRIGHTNESS = (0.28, 0.50)  # share of full scale at the centre of a mass, at contrast 1
CALCIFICATION = (0.50, 0.95)  # the same of one calcification
EDGE_OF_MASK = 0.2  # the lesion's mask is where its light is above this share of its brightest point


@dataclass(frozen=True, slots=True)
class Growth:
    """A lesion to be drawn: what it is, ``diameter`` in mm, ``brightness`` in shares of full scale."""

    kind: LesionKind
    label: Label
    diameter: float
    brightness: float

    @property
    def spiculated(self) -> bool:
        """Whether it is a mass with radiating lines."""
        return self.kind is LesionKind.MASS and self.label is Label.MALIGNANT


def draw_growth(
    rng: np.random.Generator, label: Label, *, contrast: float = 1.0, masses: float = 0.8
) -> Growth:
    """A lesion of random size and brightness; ``masses`` is the share of masses, the others are clusters."""
    kind = LesionKind.MASS if rng.random() < masses else LesionKind.CALCIFICATION
    low, high = BRIGHTNESS if kind is LesionKind.MASS else CALCIFICATION
    return Growth(kind, label, float(rng.uniform(*DIAMETER)), contrast * float(rng.uniform(low, high)))


def light(rng: np.random.Generator, growth: Growth, x: Field, y: Field, spacing: float) -> Field:
    """The light of a lesion at (0, 0): ``x`` and ``y`` are the pixels' distances from it in mm.

    (rows, columns) of shares of full scale. Nothing is drawn finer than the picture's ``spacing`` (mm per pixel)
    can carry, so calcifications in a coarse picture are wider than real ones.
    """
    if growth.kind is LesionKind.CALCIFICATION:
        return growth.brightness * _cluster(rng, growth, x, y, spacing)
    return growth.brightness * _mass(rng, growth, x, y, spacing)


def _mass(rng: np.random.Generator, growth: Growth, x: Field, y: Field, spacing: float) -> Field:
    radius = growth.diameter / 2
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    # the margin: an ellipse, lobed by the first harmonics
    stretch = 1 + rng.uniform(0.05, 0.2) * np.cos(2 * (angle - rng.uniform(0, np.pi)))
    for harmonic in (3, 4, 5):
        stretch = stretch + rng.normal(0, 0.04) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    margin = max(0.6 * spacing, 0.12 * radius)  # width in mm of the soft edge
    body = 1 / (1 + np.exp(np.clip((distance - radius * stretch) / margin, -50, 50)))
    body *= np.sqrt(
        np.clip(1.15 - 0.6 * (distance / radius) ** 2, 0.35, None)
    )  # a ball is thickest in the middle
    if not growth.spiculated:
        return np.asarray(body)
    spicules = np.zeros_like(body)
    count = int(rng.integers(7, 13))
    at = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
    for direction, reach in zip(at, radius * rng.uniform(1.8, 3.0, count), strict=True):
        along = x * np.cos(direction) + y * np.sin(direction)
        across = -x * np.sin(direction) + y * np.cos(direction)
        width = 0.4 * spacing + 0.3
        ray = np.exp(-0.5 * (across / width) ** 2) * np.clip(1 - along / reach, 0, None) * (along > 0)
        spicules = np.maximum(spicules, ray)
    return np.asarray(np.maximum(body, 0.9 * spicules))


def _cluster(rng: np.random.Generator, growth: Growth, x: Field, y: Field, spacing: float) -> Field:
    malignant = growth.label is Label.MALIGNANT
    count = int(rng.integers(8, 18) if malignant else rng.integers(3, 6))
    spread = growth.diameter / 4
    drawn = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for _ in range(count):
        dx, dy = rng.normal(0, spread, 2)
        width = 0.4 * spacing + (rng.uniform(0.1, 0.5) if malignant else 0.4)  # mm
        bright = rng.uniform(0.4, 1.0) if malignant else 0.8
        longer = rng.uniform(1, 2) if malignant else 1.0
        turn = rng.uniform(0, np.pi)
        u = (x - dx) * np.cos(turn) + (y - dy) * np.sin(turn)
        v = -(x - dx) * np.sin(turn) + (y - dy) * np.cos(turn)
        drawn += bright * np.exp(-0.5 * ((u / (longer * width)) ** 2 + (v / width) ** 2))
    return np.asarray(np.minimum(drawn, 1.0))

"""A masked network over mixed fields: hide one field, ask what it should have been, for all fields at once.

The deep part of the context-free layer. Trained in ``learning.masked`` with random masks; here only its
forward pass, in numpy: hiding field f subtracts one embedding row and adds another, so the first layer of all F
questions costs one subtraction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import Encoder, View

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class MaskedNet:
    """Weights. C codes, F fields seen, H hidden units.

    Attributes
    ----------
    fields : (F,) int64
        Fields that go in and are asked for.
    embed : (C, H), hidden : (H,), mask : (F, H)
        First layer: one row a code, bias, one row for "hidden from you".
    w1 : (H, H), b1 : (H,), w2 : (H, C), b2 : (C,)
        Residual hidden layer and output.
    """

    fields: NDArray[np.int64]
    embed: F32
    bias: F32
    mask: F32
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    at: NDArray[np.int64]  # (F,) first code of each field
    own: NDArray[np.bool_]  # (F, C) which outputs belong to the field asked for

    def surprises(self, view: View) -> F32:
        """(F,) nats of surprise of each field's value, given all the others."""
        codes = self.at + view.code_array[self.fields]
        rows = self.embed[codes]
        first = np.maximum(rows.sum(axis=0) - rows + self.mask + self.bias, 0)  # (F, H)
        second = np.maximum(first @ self.w1 + self.b1, 0) + first  # (F, H)
        logits = np.where(self.own, second @ self.w2 + self.b2, -np.inf)  # (F, C)
        top = logits.max(axis=1)
        total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        out: F32 = (total - logits[np.arange(len(codes)), codes]).astype(np.float32)
        return out

    def likely(self, view: View, field: int) -> int:
        """Code that the network would have expected in the place of ``fields[field]``."""
        codes = self.at + view.code_array[self.fields]
        rows = self.embed[codes]
        first = np.maximum(rows.sum(axis=0) - rows[field] + self.mask[field] + self.bias, 0)
        logits = (np.maximum(first @ self.w1 + self.b1, 0) + first) @ self.w2 + self.b2
        return int(np.argmax(np.where(self.own[field], logits, -np.inf)) - self.at[field])

    def part(self) -> Part:
        """For a bundle."""
        names = ("fields", "embed", "bias", "mask", "w1", "b1", "w2", "b2")
        return Part({}, {name: getattr(self, name) for name in names})

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> MaskedNet:
        """The inverse of :meth:`part`."""
        at, own = blocks(encoder, part.arrays["fields"])
        return cls(at=at, own=own, **part.arrays)


def blocks(encoder: Encoder, fields: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """First code of each field (F,), and which of the C codes belong to it (F, C)."""
    at = np.asarray(encoder.offsets)[fields]
    end = np.asarray(encoder.offsets)[fields + 1]
    code = np.arange(encoder.offsets[-1])
    return at.astype(np.int64), (code >= at[:, None]) & (code < end[:, None])

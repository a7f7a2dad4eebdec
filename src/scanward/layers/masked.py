"""A masked network over mixed fields: hide one field, ask what it should have been, for all fields at once.

The deep part of the context-free layer. Trained in ``learning.masked`` with random masks; here only its
forward pass, in numpy: hiding field f subtracts one embedding row and adds another, so the first layer of all F
questions costs one subtraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import Encoder, View

F32 = NDArray[np.float32]


NEVER = np.float32(-1e9)  # logit of a code that does not belong to the field asked for


@dataclass(frozen=True)
class MaskedNet:
    """Weights. C codes, F fields seen, H hidden units, B codes of the largest field.

    Attributes
    ----------
    fields : (F,) int64
        Fields that go in and are asked for.
    embed : (C, H), bias : (H,), mask : (F, H)
        First layer: one row a code, bias, one row for "hidden from you".
    w1 : (H, H), b1 : (H,), w2 : (H, C), b2 : (C,)
        Residual hidden layer and output.
    at : (F,) int64
        First code of each field.
    heads : (F, H, B), head_bias : (F, B)
        ``w2`` and ``b2`` cut up by field: each question is answered over its own codes only.
    """

    fields: NDArray[np.int64]
    embed: F32
    bias: F32
    mask: F32
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    at: NDArray[np.int64]
    heads: F32
    head_bias: F32

    def surprises(self, view: View) -> tuple[F32, F32]:
        """(F,) nats of surprise of each field's value, given all the others, and what was expected instead.

        The second is (F, B): logits of the codes of each field, the likeliest at 0.
        """
        own = view.code_array[self.fields]
        rows = self.embed.take(self.at + own, axis=0)
        first = np.add.reduce(rows, axis=0) - rows  # (F, H)
        first += self.mask
        first += self.bias
        np.maximum(first, 0, out=first)
        second = first @ self.w1
        second += self.b1
        np.maximum(second, 0, out=second)
        second += first
        logits: F32 = np.matmul(second[:, None, :], self.heads)[:, 0, :]
        logits += self.head_bias
        logits -= np.maximum.reduce(logits, axis=1, keepdims=True)
        out: F32 = np.log(np.add.reduce(np.exp(logits), axis=1))
        out -= logits[self._rows, own]
        return out, logits

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.arange(len(self.fields))

    def part(self) -> Part:
        """For a bundle."""
        return Part({}, {name: getattr(self, name) for name in _STORED})

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> MaskedNet:
        """The inverse of :meth:`part`."""
        a = part.arrays
        offsets = np.asarray(encoder.offsets)
        at, end = offsets[a["fields"]], offsets[a["fields"] + 1]
        widest = int((end - at).max())
        heads = np.zeros((len(at), a["w2"].shape[0], widest), dtype=np.float32)
        head_bias = np.full((len(at), widest), NEVER, dtype=np.float32)
        for f, (low, high) in enumerate(zip(at, end, strict=True)):
            heads[f, :, : high - low] = a["w2"][:, low:high]
            head_bias[f, : high - low] = a["b2"][low:high]
        return cls(
            at=at.astype(np.int64), heads=heads, head_bias=head_bias, **{name: a[name] for name in _STORED}
        )


_STORED = ("fields", "embed", "bias", "mask", "w1", "b1", "w2", "b2")

"""A trained detector on disk: one safetensors file, whole or not there, with all that it says of itself.

::

    RUN/detector.safetensors    network, block statistics; scales, calibration, women (hashed), how it was made

No pickles. The file carries hashes of its tensors and of what it says of itself: a damaged one is refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from scanward.config import TAMPERING_BOUNDS
from scanward.errors import DecodeError, InputError, LearningError
from scanward.forensics.verdicts import Curve, Scale
from scanward.tampering.marking import write_whole

FILE = "detector.safetensors"
FORMAT = "scanward-detector-3"
_FRAME = 2048  # px: largest side that `scanward detect train` takes; memory grows with its square
_LARGE = 1e9  # no score, and nothing that scales one, comes near
_RATIO = 25.0  # logarithm of the largest likelihood ratio: no data set has e^25 pictures


class DetectorFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a detector says of itself.

    ``women`` are SHA-256 of the pseudonyms of all its parts, ``pictures`` half the hashes of their pictures and source
    files: it is never tested on one of them. ``frame`` (rows, columns), px, is what it is shown; ``calibration`` the
    numbers of genuine women used for nothing else; ``counts`` of these are of women that have one.
    """

    width: int
    frame: tuple[int, int]
    families: tuple[str, ...]
    generators: dict[str, str]  # name -> fingerprint of the weights
    scales: dict[str, Scale]
    curve: Curve
    calibration: tuple[float, ...]
    counts: dict[str, int]  # women of each part
    women: tuple[str, ...]
    pictures: tuple[str, ...]
    kind: str
    phantom: bool
    classical: int | None  # forgeries of each picture learned from; None: of all families
    seed: int
    epochs: int
    created: str
    scanward: str
    torch: str
    format: str = FORMAT


def write(run: Path, tensors: Mapping[str, Tensor], facts: DetectorFacts) -> Path:
    """Write a detector into the folder ``run``, made if it is not there.

    Raises
    ------
    LearningError
        It cannot be written.
    """
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    told = msgspec.json.encode(facts).decode()
    metadata = {"scanward": told, "sha256": fingerprint(flat), "scanward_sha256": _text_hash(told)}
    path = run / FILE
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_whole(path, save_tensors(flat, metadata))
    except OSError as error:
        raise LearningError(
            f"the detector cannot be written: {error.strerror}",
            str(path),
            "make room, or give another folder",
        ) from error
    return path


def read(run: Path) -> tuple[dict[str, Tensor], DetectorFacts]:
    """Read a detector's folder (or its file) and check it against its hashes.

    Raises
    ------
    InputError
        There is none.
    DecodeError
        Cut off, altered, none of ours.
    """
    path = run if run.is_file() else run / FILE
    try:
        if path.stat().st_size > TAMPERING_BOUNDS.checkpoint_bytes:
            raise DecodeError("larger than any detector", str(path), "train again")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            "no detector here",
            str(path),
            "train one: scanward detect train --data ... --out RUN, or check --model",
        ) from error
    try:
        metadata = _metadata(data)
        tensors = load_tensors(data)
        facts = msgspec.json.decode(metadata["scanward"], type=DetectorFacts)
        whole = metadata["sha256"] == fingerprint(tensors)
        whole = whole and metadata["scanward_sha256"] == _text_hash(metadata["scanward"])
        if not whole or facts.format != FORMAT or set(facts.scales) != {"network", "second"}:
            raise ValueError("altered")
        if not (_sound(facts) and all(_finite(tensor) for tensor in tensors.values())):
            raise ValueError("values")
    except (SafetensorError, ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise DecodeError("not a whole detector, or altered", str(path), "train it again") from error
    return tensors, facts


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, kinds, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _sound(facts: DetectorFacts) -> bool:
    """Whether every number is one that training makes: hashes tell of damage, not of who wrote the file."""
    curve = facts.curve
    numbers = [curve.slope, curve.offset, *facts.calibration, *(s.middle for s in facts.scales.values())]
    return (
        4 <= facts.width <= 256
        and facts.width % 8 == 0
        and all(16 <= side <= _FRAME for side in facts.frame)
        and all(abs(number) < _LARGE for number in numbers)
        and all(0 < scale.spread < _LARGE for scale in facts.scales.values())
        and curve.slope >= 0
        and -_RATIO <= curve.low <= 0 <= curve.high <= _RATIO
    )


def _finite(tensor: Tensor) -> bool:
    """A number that is none would be no score: every picture an alarm, or none."""
    return tensor.dtype in (torch.float32, torch.float64) and bool(torch.isfinite(tensor).all())


def _metadata(data: bytes) -> dict[str, str]:
    (length,) = struct.unpack("<Q", data[:8])
    if not 0 < length <= min(TAMPERING_BOUNDS.header_bytes, len(data) - 8):
        raise ValueError("header")
    found = json.loads(data[8 : 8 + length])["__metadata__"]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("metadata")
    return found


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

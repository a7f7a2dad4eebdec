"""Checkpoints of a training run: one safetensors file each, whole or not there, with everything to go on from.

::

    RUN/checkpoint-000004000.safetensors   networks, averaged generators, Adam's moments, pools; the full preset

A file is written beside its name, synced and moved into place; the two newest are kept. It carries a hash of its
tensors and one of what it says of itself, so that one that was damaged later is found, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from scanward.config import TAMPERING_BOUNDS
from scanward.errors import DecodeError, InputError, LearningError, ScanwardError, SettingsError
from scanward.mammography.manifest import Image
from scanward.tampering.networks import Generator
from scanward.tampering.presets import Preset, fingerprint

FORMAT = "scanward-tampering-1"
_NAME = re.compile(r"checkpoint-\d{9,}\.safetensors")
KEPT = 2  # checkpoints of a run; the older one is for the day the newer one is damaged
Direction = Literal["insert", "remove"]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a checkpoint says of itself. ``patients`` are SHA-256 of pseudonyms: to test on nobody trained on.

    ``pictures`` are hashes of the pictures and of their source files: the same films imported again under other
    pseudonyms are known by them. Empty in checkpoints of before.
    """

    preset: Preset
    step: int
    seed: int
    world: int
    data: str
    kind: str
    phantom: bool
    healthy: int
    cancer: int
    patients: tuple[str, ...]
    created: str
    scanward: str
    torch: str
    pictures: tuple[str, ...] = ()
    format: str = FORMAT


def name_of(step: int) -> str:
    """File name of the checkpoint after ``step`` steps; names sort by step."""
    return f"checkpoint-{step:09d}.safetensors"


def hashed(patients: set[str]) -> tuple[str, ...]:
    """Pseudonyms as they stand in a checkpoint."""
    return tuple(sorted(hashlib.sha256(patient.encode()).hexdigest() for patient in patients))


def marks(images: Iterable[Image]) -> frozenset[str]:
    """What tells a picture whatever it and its patient are called: half the SHA-256 of its pixels and of its source."""
    return frozenset(mark[:32] for image in images for mark in (image.sha256, image.source_sha256) if mark)


def write(run: Path, tensors: Mapping[str, Tensor], facts: Facts) -> Path:
    """Write a checkpoint; remove all but the newest two.

    Raises
    ------
    LearningError
        It cannot be written (disk full). Earlier checkpoints stay as they are.
    """
    # A tensor of its own for every name: shared or strided storage cannot be written.
    flat = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    told = msgspec.json.encode(facts).decode()
    metadata = {"scanward": told, "sha256": _tensors_hash(flat), "scanward_sha256": _text_hash(told)}
    path = run / name_of(facts.step)
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as file:
            file.write(save_tensors(flat, metadata))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(run)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise LearningError(
            f"the checkpoint cannot be written: {error.strerror}",
            str(path),
            "make room and run the same command again: it goes on from the checkpoint before",
        ) from error
    with suppress(OSError):  # what cannot be removed now is removed after the next one
        found = checkpoints(run)
        here = found.index(path)
        for damaged in found[here + 1 :]:
            # A run goes on from its newest whole checkpoint: what is newer than this was passed over. Counted among
            # the kept, it would push whole ones out.
            damaged.replace(damaged.with_suffix(".damaged"))
        for old in found[: max(here + 1 - KEPT, 0)]:
            old.unlink(missing_ok=True)
    return path


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoints(run: Path) -> list[Path]:
    """Checkpoint files of a run, oldest first."""
    return sorted(run.glob("checkpoint-*.safetensors"))


def read(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """Read one checkpoint and check it against its hash.

    Raises
    ------
    DecodeError
        Cut off, altered, not a checkpoint of ours, or larger than any.
    """
    try:
        size = path.stat().st_size
        if size > TAMPERING_BOUNDS.checkpoint_bytes:
            raise DecodeError(f"{size} bytes are more than a checkpoint has", str(path), "train again")
        data = path.read_bytes()
        metadata = _metadata(data)
        tensors = load_tensors(data)
        facts = msgspec.json.decode(metadata["scanward"], type=Facts)
        facts.preset.check()
        if _NAME.fullmatch(path.name) and path.name != name_of(facts.step):
            raise ValueError("name and step")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except (SafetensorError, SettingsError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DecodeError(
            f"not a whole checkpoint: {type(error).__name__}",
            str(path),
            "remove it: the one before is used then",
        ) from error
    told = _text_hash(metadata["scanward"])
    # checkpoints of the first days have no hash of their facts
    whole = metadata.get("sha256") == _tensors_hash(tensors) and metadata.get("scanward_sha256", told) == told
    if facts.format != FORMAT or not whole:
        raise DecodeError("the checkpoint was altered", str(path), "remove it: the one before is used then")
    return tensors, facts


def _metadata(data: bytes) -> dict[str, str]:
    (length,) = struct.unpack("<Q", data[:8]) if len(data) >= 8 else (0,)
    if not 0 < length <= min(TAMPERING_BOUNDS.header_bytes, len(data) - 8):
        raise ValueError("header length")
    header = json.loads(data[8 : 8 + length])
    found: Any = header["__metadata__"]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("metadata")
    return found


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def newest(run: Path) -> tuple[dict[str, Tensor], Facts, Path, list[str]]:
    """The newest whole checkpoint of a run, and remarks on damaged ones that were passed over.

    Raises
    ------
    InputError
        There is none.
    DecodeError
        There are some and none is whole.
    """
    found = checkpoints(run)
    if not found:
        raise InputError(
            "no checkpoint here", str(run), "train with scanward tamper train --out, or check --model"
        )
    remarks: list[str] = []
    last: ScanwardError | None = None
    for path in reversed(found):
        try:
            tensors, facts = read(path)
        except DecodeError as error:
            remarks.append(f"passed over: {error}")
            last = error
            continue
        return tensors, facts, path, remarks
    assert last is not None
    raise last


@dataclass(frozen=True, slots=True)
class Run:
    """A trained model, ready to be applied."""

    path: Path
    facts: Facts
    fingerprint: str  # SHA-256 of the checkpoint's tensors
    remarks: tuple[str, ...]
    _generators: dict[str, Generator]

    @property
    def preset(self) -> Preset:
        """What it was trained with."""
        return self.facts.preset

    @property
    def step(self) -> int:
        """Steps that it was trained for."""
        return self.facts.step

    def generator(self, direction: Direction) -> Generator:
        """The network that inserts or removes, in eval mode; averaged weights where the preset has them."""
        return self._generators[direction]


def load_run(run: Path, device: str | torch.device = "cpu") -> Run:
    """Load the newest whole checkpoint of a run (or the checkpoint file given).

    Raises
    ------
    InputError, DecodeError
        See `newest`; weights that do not fit the preset they claim.
    """
    remarks: list[str] = []
    if run.is_file():
        tensors, facts = read(run)
        path = run
    else:
        tensors, facts, path, remarks = newest(run)
    averaged = facts.preset.optimiser.ema > 0
    generators = {}
    for direction in ("insert", "remove"):
        network = Generator(facts.preset.generator)
        prefix = f"averaged.{direction}." if averaged else f"{direction}."
        load_into(network, tensors, prefix, path)
        generators[direction] = network.to(device).eval().requires_grad_(False)
    return Run(
        path=path,
        facts=facts,
        fingerprint=_tensors_hash(tensors),
        remarks=tuple(remarks),
        _generators=generators,
    )


def load_into(network: torch.nn.Module, tensors: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Load the tensors under ``prefix`` into a network that must fit them exactly."""
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DecodeError(
            "the checkpoint's weights do not fit the preset it names", str(path), "train again"
        ) from error


def same_training(found: Facts, wanted: Facts, run: Path) -> None:
    """Refuse to go on with a run that was begun with something else.

    Raises
    ------
    InputError
        Another preset, data, seed or number of processes: which is said.
    """
    differences = []
    if fingerprint(found.preset) != fingerprint(wanted.preset):
        name = found.preset.name
        differences.append(
            f"preset {name}" if name != wanted.preset.name else f"other options of preset {name}"
        )
    if found.data != wanted.data:
        differences.append("other images")
    if found.seed != wanted.seed:
        differences.append(f"seed {found.seed}")
    if found.world != wanted.world:
        differences.append(f"{found.world} processes")
    if differences:
        raise InputError(
            f"this run was begun with {' and '.join(differences)}",
            str(run),
            "give the same options to go on with it, or another --out",
        )

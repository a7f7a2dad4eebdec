"""A judge as a guard has it: learned, written to a signed bundle, read back, made again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from scanward.bundle import read, write
from scanward.commands import Examination
from scanward.keys import SigningKey, write_pair
from scanward.layers.onion import Onion
from scanward.learning.bundling import facts_of
from scanward.learning.fit import Settings, fit


def signed(train: Sequence[Examination], settings: Settings, folder: Path) -> tuple[Path, Path]:
    """Learn from ``train`` and write ``folder/model``, signed; returns it and the public key to trust."""
    key = SigningKey.from_seed(hashlib.sha256(b"benchmark").digest())
    folder.mkdir(parents=True, exist_ok=True)
    write_pair(folder / "site", key)
    fitted = fit(train, settings)
    write(folder / "model", fitted.onion.part(), facts_of(fitted, train), key)
    return folder / "model", folder / "site.pub"


def bundled(train: Sequence[Examination], settings: Settings, folder: Path) -> Onion:
    """The judge that comes out of the bundle."""
    model, _ = signed(train, settings, folder)
    trusted = [SigningKey.from_seed(hashlib.sha256(b"benchmark").digest()).verify_key]
    return Onion.from_part(read(model, trusted=trusted).part)

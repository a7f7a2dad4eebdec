"""What the tests of bundles share: keys, facts, parts, graphs made byte by byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scanward.bundle import Bundle, BundleFacts, writing
from scanward.bundle.manifest import encode
from scanward.bundle.reading import MemorySource, verify
from scanward.commands import FIELDS, Device, Role
from scanward.keys import SigningKey
from scanward.layers.base import Part

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER_KEY = SigningKey.from_seed(bytes(32))
DEVICE = Device("Acme", "CT 64", "0123abcd", "v1")
FACTS = BundleFacts(
    created="2026-01-31T12:00:00Z",
    role=Role.PERFORMED,
    roles={"NoiseIndex": Role.COMMANDED},
    devices=(DEVICE,),
    fields=(FIELDS["KVP"], FIELDS["FilterType"]),
    training_data="ab" * 32,
    calibration={"scores": [0.1, 0.25, 1e-300], "units": 200},
    metrics={"auroc": 0.97},
    libraries={"numpy": "2.0"},
    version=7,
)


# --- protobuf by hand, so that no test needs the onnx package -------------------------------------
def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def whole(number: int, value: int) -> bytes:
    """A varint field."""
    return varint(number << 3) + varint(value)


def text(number: int, *parts: bytes) -> bytes:
    """A length-delimited field."""
    data = b"".join(parts)
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(op: bytes, inputs: Iterable[bytes], outputs: Iterable[bytes], *more: bytes) -> bytes:
    return text(1, *(text(1, i) for i in inputs), *(text(2, o) for o in outputs), text(4, op), *more)


def value_info(number: int, name: bytes) -> bytes:
    """A float tensor of shape (3,)."""
    shape = text(2, text(1, whole(1, 3)))
    return text(number, text(1, name), text(2, text(1, whole(1, 1), shape)))


def model(*graph: bytes, opsets: Iterable[tuple[bytes, int]] = ((b"", 13),), more: bytes = b"") -> bytes:
    graph_field = text(7, text(2, b"g"), *graph, value_info(11, b"x"), value_info(12, b"y"))
    return whole(1, 8) + b"".join(text(8, text(1, d), whole(2, v)) for d, v in opsets) + graph_field + more


DOUBLE = model(node(b"Add", [b"x", b"x"], [b"y"]))  # y = x + x


def part() -> Part:
    return Part(
        settings={"physics": {"k": 0.1, "names": ["a", "ü"], "none": None, "on": True}, "n": 3},
        arrays={
            "forest.threshold": np.linspace(0, 1, 7, dtype=np.float32),
            "forest.child": np.arange(6, dtype=np.int32).reshape(2, 3),
            "scale": np.array(2.5),
            "nothing": np.zeros((0, 4)),
        },
        graphs={"context_free.net": DOUBLE},
    )


def files_of(p: Part | None = None, facts: BundleFacts = FACTS, key: SigningKey = KEY) -> dict[str, bytes]:
    return writing.sealed(writing.contents(p or part()), facts, key)


def resealed(files: dict[str, bytes], facts: BundleFacts = FACTS, key: SigningKey = KEY) -> dict[str, bytes]:
    """Hostile contents under an honest manifest and signature: what a stolen or careless key would sign."""
    return writing.sealed({p: d for p, d in files.items() if "/" in p or p[:2] in ("se", "ar")}, facts, key)


def with_manifest(
    change: Any, files: dict[str, bytes] | None = None, key: SigningKey = KEY
) -> dict[str, bytes]:
    """A bundle whose manifest went through ``change`` (dict -> None) before it was signed."""
    files = files or files_of()
    listed = {p: d for p, d in files.items() if not p.startswith(("manifest", "signature"))}
    document = json.loads(encode(FACTS, listed))
    change(document)
    return writing.signed(listed, json.dumps(document).encode(), key)


def check(files: dict[str, bytes], **options: Any) -> Bundle:
    return verify(MemorySource(files), "memory", **{"trusted": [KEY.verify_key], **options})


def lay(files: dict[str, bytes], directory: Path) -> Path:
    """Put files on the disk as they are."""
    for path, data in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory


def version(files_version: int) -> BundleFacts:
    return replace(FACTS, version=files_version)


def same_part(left: Part, right: Part) -> bool:
    return (
        left.settings == right.settings
        and left.graphs == right.graphs
        and left.arrays.keys() == right.arrays.keys()
        and all(
            a.dtype == right.arrays[n].dtype
            and a.shape == right.arrays[n].shape
            and a.tobytes() == right.arrays[n].tobytes()
            for n, a in left.arrays.items()
        )
    )

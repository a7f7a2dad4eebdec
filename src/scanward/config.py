"""Every bound on what comes from outside: a named field with its unit and its reason. None is inline.

The values are chosen far above what an honest installation needs, and low enough that a guard host with 2 GiB
of memory to spare is not hurt.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BundleBounds:
    """What a bundle may weigh. Sizes are checked before anything is read, parsed or allocated."""

    manifest_bytes: int = 4 << 20  # bytes; calibration scores of some 100,000 examinations
    signature_bytes: int = 4 << 10  # bytes; one key, one signature
    settings_bytes: int = 64 << 20  # bytes; vocabularies and protocol books of a large site
    arrays_bytes: int = 512 << 20  # bytes; all learned arrays together
    header_bytes: int = 8 << 20  # bytes; names and shapes; safetensors itself allows 100 MB
    arrays: int = 50_000  # arrays; a forest per field and layer
    dimensions: int = 8  # axes of one array; more has no use here
    name_chars: int = 512  # characters of an array's name
    graph_bytes: int = 64 << 20  # bytes of one ONNX graph
    graphs: int = 256  # graphs; one per field and layer
    graph_depth: int = 24  # nested messages in a graph; 5 without subgraphs, each subgraph adds 3
    total_bytes: int = 1 << 30  # bytes of all files together
    json_depth: int = 64  # nested lists and objects
    integer_bits: int = 256  # bits of an integer in JSON; a 128-bit seed is the largest honest one
    version: int = (1 << 53) - 1  # highest version; what every JSON reader holds exactly
    floor_bytes: int = 1 << 20  # bytes of the file of highest accepted versions


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """What a key file may weigh."""

    file_bytes: int = 16 << 10  # bytes; a PEM of an encrypted Ed25519 key has about 300
    passphrase_bytes: int = 1000  # bytes; OpenSSL's own callbacks stop at 1,023


BUNDLE_BOUNDS = BundleBounds()
KEY_BOUNDS = KeyBounds()

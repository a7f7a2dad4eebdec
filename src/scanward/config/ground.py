"""Bounds of the ground floor and of what is kept: keys, logs, records on their way out, bundles."""

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


@dataclass(frozen=True, slots=True)
class AuditBounds:
    """What the audit log takes and keeps. The reader holds one segment in memory at a time."""

    record_bytes: int = (
        256 << 10
    )  # bytes of one record; a chain of 100 commands with opinions has some 100 kB
    batch_bytes: int = 1 << 20  # bytes committed together; more only delays the first of them
    segment_bytes: int = 16 << 20  # bytes after which a new segment begins; some 30,000 records
    segment_ns: int = 24 * 3600 * 10**9  # ns after which a new segment begins: one a day to carry away
    reserve_bytes: int = 4 << 20  # bytes kept free for stops and emergency access; some 10,000 such records
    reserve_retry_ns: int = 5 * 10**9  # ns between two attempts to leave a full disk behind
    checkpoint_records: int = 256  # records between two checkpoints; a signature costs some 50 us
    checkpoint_ns: int = 10 * 10**9  # ns between two checkpoints: so much can be cut off unseen
    clock_jump_ns: int = 500_000_000  # ns by which the wall clock may stray from the monotonic one at once
    file_bytes: int = 64 << 20  # bytes of one segment that a reader accepts; four times what is written
    segments: int = 100_000  # segments of one log; 270 years of one a day
    witness_bytes: int = 256 << 20  # bytes of a witness file; some 700,000 checkpoints
    witness_queue: int = 64  # checkpoints waiting for a slow witness; the oldest gives way to the newest
    client_bytes: int = (
        4 << 20
    )  # bytes waiting for the writer process; 10,000 stops of 300 bytes, and a third
    client_reserved_bytes: int = 3 << 20  # bytes of these that only stops and emergency access may fill


@dataclass(frozen=True, slots=True)
class ShippingBounds:
    """How records leave the house."""

    syslog_bytes: int = 64 << 10  # bytes of one syslog message; RFC 5425 asks receivers for 8,192 at least
    response_bytes: int = 64 << 10  # bytes read of an HTTP answer; only its status counts
    connect_s: float = 10.0  # s to connect, and to wait for one write or answer
    attempts: int = 5  # attempts for one message; then the run fails and says where to go on
    first_wait_s: float = 0.5  # s before the second attempt; doubled each time
    longest_wait_s: float = 30.0  # s between two attempts at most
    bundle_events: int = 100  # FHIR AuditEvents in one posted bundle


BUNDLE_BOUNDS = BundleBounds()
KEY_BOUNDS = KeyBounds()
AUDIT_BOUNDS = AuditBounds()
SHIPPING_BOUNDS = ShippingBounds()

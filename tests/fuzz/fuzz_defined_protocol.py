"""Fuzz everything that reads a protocol object: any bytes give a result or a ScanwardError, nothing else.

    python tests/fuzz/fuzz_defined_protocol.py [--seconds 30] [--seed 0]     our own mutations
    python tests/fuzz/fuzz_defined_protocol.py --atheris [libFuzzer options] coverage-guided, needs atheris

What was read is also used: a protocol becomes a book and judges a command, goes through JSON and, where its
values allow it, through the encoder and back to itself. Data sets that pydicom read on its own, lazily, are
decoded too: they come so from the network. An input that breaks a promise is kept as ``crash-<sha256>``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import sys
import time
import warnings
from collections import Counter
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from scanward.codecs.defined_protocol import (
    dataset_bytes,
    decode_defined_protocol,
    encode_defined_protocol,
    read_dataset,
)
from scanward.codecs.defined_protocol_approval import decode_approval, encode_approval
from scanward.codecs.defined_protocol_build import approval, constrain, element, protocol
from scanward.codecs.defined_protocol_model import Equipment, book, book_from_json, to_json
from scanward.codecs.defined_protocol_performed import decode_performed_protocol, encode_performed_protocol
from scanward.codecs.dicom_files import PARSER_ERRORS
from scanward.commands import HEAD_PHANTOM, Command, Context, Device, Told
from scanward.errors import ScanwardError
from scanward.layers.protocol_book import ProtocolBookLayer

PROTOCOL = protocol(
    "CT Head",
    element(
        1,
        constrain("KVP", one_of=(100, 120), default=120),
        constrain("CTDIwPhantomType", equal=HEAD_PHANTOM),
        constrain("Focus", none_of=(3, 4), private=("ACME CT 1.0", 0x00191027)),
        name="Head",
        acquisition_type="SEQUENCED",
    ),
    patient=(constrain("PatientAge", at_least=18),),
    models=(Equipment("ACME", "Spin"),),
)
COMMAND = Command(
    {"KVP": 120.0, "AcquisitionType": "SEQUENCED", "CTDIvol": 40.0, "NoiseIndex": 3.0},
    Context({"ProtocolName": (Told("CT Head"),), "PatientAge": (Told(40.0),)}),
    Device("ACME", "Spin", "1", "2"),
)
SEEDS = (
    dataset_bytes(encode_defined_protocol(PROTOCOL)),
    dataset_bytes(encode_approval(approval([PROTOCOL], "Doe^Jane", "20260101"))),
    dataset_bytes(
        encode_performed_protocol(
            [COMMAND], uid="2.25.1", study_uid="2.25.2", series_uid="2.25.3", name="CT Head"
        )
    ),
)


def _hash(identifier: str) -> str:
    return hashlib.blake2b(identifier.encode("utf-8", "replace"), digest_size=8).hexdigest()


def one_input(data: bytes) -> str:
    """Read ``data`` as each of the three objects and use what comes out; the name of what it was."""
    was = "refused"
    with contextlib.suppress(ScanwardError):
        made = decode_defined_protocol(read_dataset(data, "fuzz"), path="fuzz", pseudonym=_hash)
        was = "protocol"
        kept = book([made])
        if book_from_json(json.loads(json.dumps(to_json(kept)))) != kept and "nan" not in repr(kept):
            raise AssertionError("a book changed on its way through JSON")
        layer = ProtocolBookLayer(kept, closed=True, require_approval=True, require_present=True)
        layer.judge(layer.start(), COMMAND)
        again = decode_defined_protocol(read_dataset(dataset_bytes(encode_defined_protocol(made)), "again"))
        if again != made and "nan" not in repr(made):
            raise AssertionError("a protocol changed on its way through a file")
    with contextlib.suppress(ScanwardError):
        decode_approval(read_dataset(data, "fuzz"), path="fuzz", pseudonym=_hash)
        was = "approval"
    with contextlib.suppress(ScanwardError):
        report = decode_performed_protocol(read_dataset(data, "fuzz"), path="fuzz", pseudonym=_hash)
        was = "performed"
        for result in report.results:
            if (result.command is None) != bool(result.reason):
                raise AssertionError(result)
    _lazily(data)
    return was


def _lazily(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            received = dcmread(BytesIO(data), force=True)
        except (*PARSER_ERRORS, OSError):
            return
    for decode in (decode_defined_protocol, decode_approval, decode_performed_protocol):
        with contextlib.suppress(ScanwardError):
            decode(received, path="fuzz", pseudonym=_hash)  # type: ignore[operator]


def _mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(132, max(133, len(data)))
        match rng.choice((0, 0, 0, 0, 1, 2, 3, 4, 4)):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[place : place + rng.choice((1, 2, 8, 64))]
            case 2:
                start = rng.randrange(132, len(data))
                data[place:place] = data[start : start + rng.choice((2, 8, 64, 256))]
            case 3:
                data[place : place + 4] = rng.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"SQ\0\0", b"\xfe\xff\0\xe0")
                )
            case _:
                data[place : place + 2] = rng.choice((b"UN", b"FD", b"LO", b"DS", b"AT", b"SQ", b"PN", b"IS"))
        if len(data) < 140:
            break
    return bytes(data)


def main() -> int:
    """Mutate for a while; exit status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, counts = random.Random(options.seed), Counter[str]()
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        data = _mutated(rng)
        try:
            counts[one_input(data)] += 1
        except BaseException:
            name = f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            Path(name).write_bytes(data)
            print(f"broken by {name}", file=sys.stderr)
            raise
    print(f"{counts.total()} inputs: {dict(counts)}")
    return 0


if __name__ == "__main__":
    if "--atheris" in sys.argv:
        import atheris

        sys.argv.remove("--atheris")
        atheris.instrument_all()
        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()
    else:
        sys.exit(main())

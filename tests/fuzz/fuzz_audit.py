"""Coverage-guided fuzzing of the audit log's reader: a report or our own error, and no gap in what was scanned.

    pip install atheris
    python tests/fuzz/fuzz_audit.py corpus/ -max_len=100000 -rss_limit_mb=1024

``corpus/`` is a folder of segments (files like 00000001.audit) to start from.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from scanward.audit import Checkpoint, verify
    from scanward.audit.frames import SEGMENT_BYTES, scan
    from scanward.errors import DecodeError, InputError
    from scanward.keys import SigningKey

KEY = SigningKey.from_seed(bytes(32)).verify_key
FOLDER = Path(tempfile.mkdtemp())


def one_input(data: bytes) -> None:
    """One mutated segment: everything in it is a frame, damage or unused, end to end; verifying gives a report."""
    position = min(SEGMENT_BYTES, len(data))
    for item in scan(data, position, bytes(32)):
        if item.offset != position or item.end <= item.offset:
            raise AssertionError((position, item))
        position = item.end
    if position != len(data):
        raise AssertionError((position, len(data)))
    (FOLDER / "00000001.audit").write_bytes(data)
    try:
        report = verify(FOLDER, [KEY], [])
    except InputError:
        return
    if report.ok:
        raise AssertionError("nobody witnessed this")
    try:
        Checkpoint.parse(data.decode("utf-8", errors="replace"))
    except DecodeError:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

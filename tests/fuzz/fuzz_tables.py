"""Fuzz tables and dialects with atheris: nothing but a Recording or one of our errors may come out.

Not run by pytest. Needs ``pip install atheris`` (a Python it supports), then:

    python tests/fuzz/fuzz_tables.py -max_len=4096 corpus/
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scanward"]):
    from scanward.errors import ScanwardError
    from scanward.recordings import examinations, parse_dialect, read

_FILE = Path(tempfile.mkdtemp(prefix="fuzz_tables")) / "table"


def one_input(data: bytes) -> None:
    """The first byte chooses what the rest is taken for."""
    if not data:
        return
    if data[0] % 4 == 0:
        with contextlib.suppress(ScanwardError):
            parse_dialect("format = 1\n" + data[1:].decode("utf-8", "replace"))
        return
    _FILE.write_bytes((b"", b"KVP,Exposure,PatientAge\n", b'{"KVP": 120}\n')[data[0] % 4 - 1] + data[1:])
    with contextlib.suppress(ScanwardError):
        recording = read([_FILE])
        books = recording.books()
        if books["read"] != books["commands"] + books["duplicates"] + books["rejected"]:
            raise AssertionError("the books do not balance")
        examinations(recording.commands)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

"""Coverage-guided fuzzing of the dose-report codec: nothing but DecodeError may come out.

    pip install atheris
    python tests/fuzz/fuzz_rdsr.py corpus/ -max_len=100000 -rss_limit_mb=1024

``corpus/`` is a folder of dose reports to start from.
"""

from __future__ import annotations

import hashlib
import sys

import atheris

with atheris.instrument_imports():
    from scanward.codecs.rdsr import decode_dose_file
    from scanward.errors import DecodeError


def _pseudonym(value: str) -> str:
    return hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).hexdigest()


def one_input(data: bytes) -> None:
    """One mutated file: a report in which every event is a command or has a reason, or a DecodeError."""
    try:
        report = decode_dose_file(data, path="fuzz", pseudonym=_pseudonym)
    except DecodeError:
        return
    for result in report.results:
        if (result.command is None) != bool(result.reason):
            raise AssertionError(result)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

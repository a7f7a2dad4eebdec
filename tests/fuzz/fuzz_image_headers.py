"""Coverage-guided fuzzing of the CT image header codec: nothing but DecodeError may come out.

    pip install atheris
    python tests/fuzz/fuzz_image_headers.py corpus/ -max_len=100000 -rss_limit_mb=1024

``corpus/`` is a folder of CT images to start from (``tests/dicom_builders/ct_images.py`` makes some).
"""

from __future__ import annotations

import hashlib
import sys

import atheris

with atheris.instrument_imports():
    from scanward.codecs.dicom_files import open_dicom
    from scanward.codecs.image_acquisitions import acquisitions
    from scanward.codecs.image_headers import read_slices
    from scanward.commands import Origin
    from scanward.errors import DecodeError


def _pseudonym(value: str) -> str:
    return hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).hexdigest()


def one_input(data: bytes) -> None:
    """One mutated file: slices that become acquisitions, or a DecodeError."""
    try:
        ds = open_dicom(data, name="fuzz")
        found = acquisitions(read_slices(ds, pseudonym=_pseudonym, origin=Origin("fuzz", 0)))
    except DecodeError:
        return
    for one in found:
        if one is None:
            raise AssertionError(found)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

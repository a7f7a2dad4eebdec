"""Recordings in: files, folders and tables become commands with context, every loss accounted for.

``read`` makes a Recording, ``examinations`` groups its commands, a Dialect explains a foreign table.
"""

from scanward.recordings.books import Duplicate, Entry, Recording, Rejected
from scanward.recordings.dialect import Dialect
from scanward.recordings.dialect_dump import dump_dialect
from scanward.recordings.dialect_toml import load_dialect, parse_dialect
from scanward.recordings.examinations import LONE_PREFIX, examinations
from scanward.recordings.pseudonyms import NO_SITE_KEY_NOTE, SITE_KEY_BYTES, Pseudonyms
from scanward.recordings.reading import read

__all__ = [
    "LONE_PREFIX",
    "NO_SITE_KEY_NOTE",
    "SITE_KEY_BYTES",
    "Dialect",
    "Duplicate",
    "Entry",
    "Pseudonyms",
    "Recording",
    "Rejected",
    "dump_dialect",
    "examinations",
    "load_dialect",
    "parse_dialect",
    "read",
]

"""Opaque records, hash-chained and signed: written in groups, read, and verified against a witness.

The room knows nothing of what the records say, and reads no clock: `process`, which runs the writer in a
process of its own, is the one place that does.
"""

from scanward.audit.checkpoints import Checkpoint
from scanward.audit.clock import ClockWatch
from scanward.audit.folder import PosixFolder
from scanward.audit.frames import Kind, Moment
from scanward.audit.reading import Finding, Record, log_id_of, read
from scanward.audit.verifying import Report, verify
from scanward.audit.witness import Courier, FileWitness, FolderWitness, witness_at, witnessed
from scanward.audit.writer import Opened, Writer

__all__ = [
    "Checkpoint",
    "ClockWatch",
    "Courier",
    "FileWitness",
    "Finding",
    "FolderWitness",
    "Kind",
    "Moment",
    "Opened",
    "PosixFolder",
    "Record",
    "Report",
    "Writer",
    "log_id_of",
    "read",
    "verify",
    "witness_at",
    "witnessed",
]

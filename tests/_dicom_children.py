"""Judges that fail, as main functions of a child process: kept apart, because a child imports their module."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

from scanward.config import DicomBounds
from scanward.guard.protocol_process import JudgeSettings, packed


def hanging(connection: Connection, settings: JudgeSettings, bounds: DicomBounds) -> None:
    """Says that it is ready, takes an object, and answers nothing."""
    connection.send_bytes(packed({"ready": True}, b""))
    connection.recv_bytes()
    time.sleep(60)


def dying(connection: Connection, settings: JudgeSettings, bounds: DicomBounds) -> None:
    """Says that it is ready, takes an object, and dies."""
    connection.send_bytes(packed({"ready": True}, b""))
    connection.recv_bytes()
    os._exit(9)

"""Durable records from threads: `Recorder` over the audit writer's process, for links that are not on a loop."""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from scanward.audit.client import Answer, DiskFull, Durable, Failed, Gone, WriterClient
from scanward.errors import AuditError, AuditFullError

PATIENCE = 5.0  # s until a record counts as not written; a durable append takes milliseconds


class DurableRecorder:
    """Records one act at a time and returns when it is on disk. Thread-safe.

    Parameters
    ----------
    folder, key, witness : Path
        See `WriterClient`. One log has one writer: not the folder of another process.
    """

    def __init__(self, folder: Path, key: Path, *, witness: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._token = 0
        self._failure = ""
        self._client = WriterClient(folder, key, witness=witness)

    def __call__(self, kind: str, data: Mapping[str, object]) -> None:
        """Record, and wait until it is durable.

        Raises
        ------
        AuditError
            It is not, or nobody knows.
        """
        payload = json.dumps({"kind": kind, **data}, allow_nan=False, default=str).encode("ascii")
        until = time.monotonic() + PATIENCE
        with self._lock:
            if self._failure:
                raise AuditError(self._failure, "audit log", "start again")
            self._token += 1
            if not self._client.send(self._token, payload):
                raise AuditError("the writer takes no record", "audit log", "look at the disk")
            while True:
                self._wait(until)
                for answer in self._client.received():
                    if self._settled(answer):
                        return

    def _wait(self, until: float) -> None:
        left = until - time.monotonic()
        writing = [self._client] if self._client.wants_write else []
        if left <= 0 or not any(select.select([self._client], writing, [], left)[:2]):
            raise AuditError("the record is not on disk in time", "audit log", "look at the disk")

    def _settled(self, answer: Answer) -> bool:
        if isinstance(answer, Durable):
            return answer.token == self._token
        if isinstance(answer, Gone) or (isinstance(answer, Failed) and answer.token == 0):
            self._failure = answer.reason if isinstance(answer, Failed) else "the writer is gone"
            raise AuditError(self._failure, "audit log", "start again")
        if isinstance(answer, Failed) and answer.token == self._token:
            raise AuditError(answer.reason, "audit log", "look at the disk")
        if isinstance(answer, DiskFull) and answer.token == self._token:
            raise AuditFullError("the disk is full", "audit log", "make room")
        return False

    def close(self) -> None:
        """Let the writer finish."""
        with self._lock:
            self._client.close()

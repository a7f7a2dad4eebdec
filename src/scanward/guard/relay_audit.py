"""The relay's end of the audit writer on its loop: records in, durability out, and how the log is.

A record that was not taken is told at once, before any later one can be durable: the gate takes the durability of
a record for that of all before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from scanward.audit.client import (
    Answer,
    DiskFull,
    Durable,
    Failed,
    Gone,
    Recovered,
    State,
    WitnessTrouble,
    WriterClient,
)
from scanward.config import AUDIT_BOUNDS, JUDGE_BOUNDS
from scanward.errors import AuditError
from scanward.guard.events import Log
from scanward.guard.relay_records import payload as record_of

_OWN = 1 << 62  # tokens above are of records that nobody waits for
_LOOK_S = 0.5  # s between two looks at how long the oldest record has waited


class AuditListener(Protocol):
    """Who writes records. All calls are on the loop."""

    def durable(self, token: int) -> None:
        """The record ``token`` is on disk."""

    def log_is(self, condition: Log, reason: str) -> None:
        """The log's condition changed."""

    def log_note(self, kind: str, data: dict[str, object]) -> None:
        """Something to be told: what was recovered at the start, trouble with the witness."""


class AuditPort:
    """One log, and the writer process behind it, replaced when it dies.

    Parameters
    ----------
    folder, key, witness : Path
        See `WriterClient`.
    patience_s : float
        A record that waits longer for the disk means that the log has failed.
    """

    def __init__(
        self,
        folder: Path,
        key: Path,
        listener: AuditListener,
        *,
        witness: Path | None = None,
        patience_s: float = 5.0,
        client: Callable[..., WriterClient] = WriterClient,
    ) -> None:
        self._folder, self._key, self._witness = folder, key, witness
        self._listener = listener
        self._patience_s = patience_s
        self._make = client
        self._client: WriterClient | None = None
        self._waiting: dict[int, float] = {}  # token -> when it was handed over, oldest first
        self._told = Log.OK
        self._full = False
        self._overflow = False
        self._lost_reserved = False
        self._reserved: dict[int, bytes] = {}  # handed over and not answered, oldest first
        self._late: list[bytes] = []  # lost with a writer, or while there was none: for the next one
        self._late_bytes = self._too_late = 0  # how much that is, and how many more there were
        self._failure = "the writer has not begun"
        self._own = _OWN
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._closed = False
        self._wait = JUDGE_BOUNDS.restart_s

    @property
    def condition(self) -> Log:
        """How the log is."""
        return self._told

    @property
    def pid(self) -> int:
        """Process id of the writer, 0 for none."""
        return self._client.process.pid if self._client else 0

    def start(self) -> None:
        """Start the writer. Records may be sent at once; ``log_is(OK)`` comes when the log is open."""
        self._tell(self._failure)
        self._begin()
        self._look()

    def send(self, token: int, payload: bytes, *, reserved: bool) -> None:
        """Hand a record over. Refused ones are told by ``log_is`` before this returns."""
        loop = asyncio.get_running_loop()
        self._waiting[token] = loop.time()
        if self._client is None or not self._client.send(token, payload, reserved):
            del self._waiting[token]
            self._overflow = True
            # Reserved records are waited for although the log is full: one that was not taken must not be taken
            # for durable when a later one is.
            self._lost_reserved = self._lost_reserved or reserved
            if reserved and self._client is None:
                self._keep(payload)
            self._tell("too many records wait for the disk" if self._client else self._failure)
        else:
            if reserved:
                self._reserved[token] = payload
            if self._client.wants_write:
                self._write_later()

    def note(self, payload: bytes, *, reserved: bool = True) -> None:
        """A record of the relay's own that nobody waits for."""
        self._own += 1
        self.send(self._own, payload, reserved=reserved)

    async def close(self) -> None:
        """Let the writer finish."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        client = self._detach()
        if client is not None:
            await asyncio.to_thread(client.close)

    def abandon(self) -> None:
        """Give the writer what waits, without waiting for it: for a relay that ends at once."""
        client = self._detach()
        if client is not None:
            client.close(2.0)

    # --- the writer

    def _begin(self) -> None:
        if self._closed:
            return
        try:
            self._client = self._make(self._folder, self._key, witness=self._witness)
        except AuditError as error:
            self._failure = error.what
            self._tell(error.what)
            asyncio.get_running_loop().call_later(self._wait, self._begin)
            return
        asyncio.get_running_loop().add_reader(self._client.fileno(), self._readable)
        self._hand_late()
        if self._client.wants_write:
            self._write_later()

    def _detach(self) -> WriterClient | None:
        client, self._client = self._client, None
        if client is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(client.fileno())
            loop.remove_writer(client.fileno())
            self._writing = False
        return client

    def _write_later(self) -> None:
        if not self._writing and self._client is not None:
            self._writing = True
            asyncio.get_running_loop().add_writer(self._client.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._client is not None
        self._client.flush()
        if not self._client.wants_write:
            asyncio.get_running_loop().remove_writer(self._client.fileno())
            self._writing = False

    def _readable(self) -> None:
        """What is durable is told once for many records, and before whatever was answered after it."""
        client = self._client
        assert client is not None
        latest = 0
        for answer in client.received():
            if isinstance(answer, Durable):
                self._waiting.pop(answer.token, None)
                self._reserved.pop(answer.token, None)
                latest = answer.token if answer.token < _OWN else latest
                self._overflow = self._overflow and client.wants_write
                self._lost_reserved = self._lost_reserved and self._overflow
                continue
            self._durable(latest)
            latest = 0
            self._heard(answer)
        self._durable(latest)
        self._tell("")

    def _durable(self, token: int) -> None:
        if token:
            self._listener.durable(token)

    def _heard(self, answer: Answer) -> None:
        match answer:
            case DiskFull(token):
                self._waiting.pop(token, None)
                self._reserved.pop(token, None)
                self._full = True
                self._tell("the disk of the log is full")
            case Failed(token, reason):
                self._waiting.pop(token, None)
                if token in self._reserved:
                    self._keep(self._reserved.pop(token))
                self._failure = reason
                self._tell(reason)
            case State(full, failure, left):
                self._full, self._failure = full, failure
                self._tell(failure or ("the disk of the log is full" if full else ""))
                self._listener.log_note("log_state", {"full": full, "failure": failure, "reserve_left": left})
            case Recovered():
                self._failure, self._wait = "", JUDGE_BOUNDS.restart_s
                self._tell("")
                self._listener.log_note(
                    "log_opened",
                    {
                        "log": answer.log_id,
                        "last": answer.last_seq,
                        "cut_bytes": answer.cut_bytes,
                        "broken": answer.broken,
                    },
                )
            case WitnessTrouble(reason):
                self._listener.log_note("witness", {"reason": reason})
            case Gone():
                self._lost()
            case _:
                return  # a checkpoint: the witness has it

    def _lost(self) -> None:
        """The writer is dead. What was not answered is not known to be on disk."""
        client = self._detach()
        lost = len(self._waiting)
        self._waiting.clear()
        for record in self._reserved.values():
            self._keep(record)
        self._reserved.clear()
        self._failure = self._failure or "the writer process ended"
        self._tell(self._failure)
        self._listener.log_note("writer_gone", {"unanswered": lost})
        if client is not None:
            client.process.kill()
            asyncio.get_running_loop().run_in_executor(None, client.close, 1.0)
        if not self._closed:
            asyncio.get_running_loop().call_later(self._wait, self._begin)
            self._wait = min(2 * self._wait, JUDGE_BOUNDS.restart_most_s)

    # --- what acts first and is recorded after: it is recorded though the writer died

    def _keep(self, record: bytes) -> None:
        if self._late_bytes + len(record) > AUDIT_BOUNDS.client_reserved_bytes // 2:
            self._too_late += 1
        else:
            self._late_bytes += len(record)
            self._late.append(record)

    def _hand_late(self) -> None:
        """To the next writer, before anything else. One that is on disk already comes twice, with its number."""
        late, more = self._late, self._too_late
        self._late, self._late_bytes, self._too_late = [], 0, 0
        if late or more:
            self.note(record_of("log_late", 0, {"records": len(late), "lost": more}))
        for record in late:
            self.note(record)

    # --- how the log is

    def _stuck(self) -> bool:
        oldest = next(iter(self._waiting.values()), None)
        return oldest is not None and asyncio.get_running_loop().time() - oldest > self._patience_s

    def _look(self) -> None:
        if self._closed:
            return
        if self._stuck():
            self._tell(f"no record became durable within {self._patience_s:g} s")
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _tell(self, reason: str) -> None:
        failed = bool(self._failure) or self._lost_reserved or self._stuck()
        condition = Log.FAILED if failed else Log.FULL if self._full or self._overflow else Log.OK
        if condition is not self._told:
            self._told = condition
            self._listener.log_is(condition, reason)

"""A child process on one end of a socketpair: started, listened to, killed and reaped without ever blocking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from scanward.errors import ScanwardError

# One command is judged on matrices of some hundred numbers: threads cost more than they save, and on a guard
# host the other cores belong to others. Read when numpy is imported, hence set from outside.
THREADS: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_REAP_S: Final = 0.05  # s between two looks at a child that was killed


class Child(asyncio.Protocol):
    """One child process.

    Parameters
    ----------
    arguments : sequence of str
        Of the interpreter that runs now, e.g. ``("-m", "scanward.guard.judge")``; the number of the child's end of
        the socketpair is appended.
    heard : callable of bytes
        Called with what the child says.
    ended : callable of str
        Called once, when the child's end is closed, whatever the reason.
    """

    def __init__(
        self, arguments: Sequence[str], heard: Callable[[bytes], None], ended: Callable[[str], None]
    ) -> None:
        self._arguments = tuple(arguments)
        self._heard = heard
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._over = False
        self._reaped = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the process; ScanwardError when the system does not."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, *self._arguments, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **THREADS},
                start_new_session=True,  # a Ctrl-C at the terminal is the relay's to answer
            )
        except OSError as error:
            ours.close()
            self._reaped.set()
            raise ScanwardError(
                f"a process cannot be started: {error.strerror}", " ".join(self._arguments), "check memory"
            ) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    def say(self, data: bytes) -> None:
        """Queue bytes for the child; nothing happens when it has ended (``ended`` tells that)."""
        if self._transport is not None and not self._over:
            self._transport.write(data)

    @property
    def waiting(self) -> int:
        """Bytes that the child has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def kill(self) -> None:
        """SIGKILL, which a stopped process hears too. ``ended`` follows."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Kill, and wait until the process is gone and reaped."""
        self._ended = _nobody
        self.kill()
        await self._reaped.wait()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Our end is ready."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The child said something."""
        if not self._over:
            self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The child's end is closed: it has ended, or is about to."""
        self._over = True
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        status = self._process.poll() if self._process is not None else 0
        if status is None:
            asyncio.get_running_loop().call_later(_REAP_S, self._reap)
            return
        self._reaped.set()
        self._ended(f"ended by signal {-status}" if status < 0 else f"ended with status {status}")


def _nobody(_: str) -> None:
    """For a child that nobody asks after any more."""

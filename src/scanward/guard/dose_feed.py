"""The receiver's end of the dose feed: tells a relay on this machine what dose reports say was delivered.

It never makes a DICOM association wait: totals are queued, and a thread sends them. After a time without the relay
everything that is remembered is told again, which raises nothing twice.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scanward.config import CONTEXT_BOUNDS, ContextBounds
from scanward.guard.dose_lines import dose_line
from scanward.links.dicom_delivered import Accounts, Delivered

_PEER: Final = struct.Struct("3i")  # pid, uid, gid
_SEND_S: Final = 5.0  # s the relay may leave the socket full: it takes 50 lines a second


class DoseFeed:
    """Sends to one socket. Use as a context manager; call it with the doses of each report, from any thread.

    Parameters
    ----------
    path : Path
        The relay's socket, ``[doses] socket`` of its guard.toml.
    tell : callable
        (kind, facts) of the feed's condition, when it changes; called from the feed's thread.
    """

    def __init__(
        self,
        path: Path,
        tell: Callable[[str, Mapping[str, object]], None] = lambda kind, facts: None,
        bounds: ContextBounds = CONTEXT_BOUNDS,
    ) -> None:
        self._path, self._tell, self._bounds = path, tell, bounds
        self._accounts = Accounts(bounds.feed_examinations, bounds.feed_events)
        self._changed: dict[tuple[str, int], Delivered] = {}
        self._news = threading.Condition()
        self._ending = False
        self._up: bool | None = None
        self._thread = threading.Thread(target=self._run, name="dose-feed", daemon=True)

    def __enter__(self) -> DoseFeed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._ending = True
            self._news.notify()
        self._thread.join(2 * _SEND_S)

    def __call__(self, doses: tuple[Delivered, ...]) -> None:
        """Doses of one report, to be told soon."""
        with self._news:
            for dose in self._accounts.add(doses):
                self._changed[dose.examination, dose.phantom] = dose
            while len(self._changed) > 3 * self._bounds.feed_examinations:  # phantoms: 16, 32, not told
                del self._changed[next(iter(self._changed))]
            self._news.notify()

    # --- the thread

    def _run(self) -> None:
        pause = self._bounds.restart_s
        while not self._over(0.0):
            sock = self._connected()
            if sock is None:
                self._is(False)
                self._over(pause)
                pause = min(2 * pause, self._bounds.restart_most_s)
                continue
            pause = self._bounds.restart_s
            with sock:
                self._is(True)
                with self._news:  # what the relay forgot with its last life, or never heard
                    self._changed = {(d.examination, d.phantom): d for d in self._accounts.all()}
                self._talk(sock)
            self._over(pause)

    def _over(self, seconds: float) -> bool:
        """Whether it is to end, after waiting up to ``seconds`` for that."""
        with self._news:
            return self._news.wait_for(lambda: self._ending, seconds)

    def _connected(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_SEND_S)
            sock.connect(str(self._path))
            _, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if uid == os.geteuid():  # else somebody else took the relay's place
                return sock
        except (OSError, ValueError):  # ValueError: a path that cannot be one
            pass
        sock.close()
        return None

    def _talk(self, sock: socket.socket) -> None:
        """Send what is new until the relay is gone or the end has come."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._ending or bool(self._changed), 1.0)
                changed, self._changed = self._changed, {}
                ending = self._ending
            try:
                for dose in changed.values():
                    sock.sendall(_line_of(dose))
                if not changed and _gone(sock):
                    return
            except OSError:
                return  # what was not sent is told again with everything else
            if ending:
                return

    def _is(self, up: bool) -> None:
        if up is not self._up:
            self._up = up
            self._tell("dose-feed", {"relay": "connected" if up else "not there"})


def _line_of(dose: Delivered) -> bytes:
    """A line; figures beyond what any examination gives are cut to that, which no cap lets pass."""
    most = CONTEXT_BOUNDS
    ctdivol, dlp = min(dose.ctdivol, most.ctdivol), min(dose.dlp, most.dlp)
    return dose_line(dose.examination, dose.phantom, ctdivol, dlp)


def _gone(sock: socket.socket) -> bool:
    """Whether the relay has closed its end; it never says anything."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False

"""Frames of both sides into a candump log, from the readers' threads, without making them wait.

Channels are called ``host`` and ``gantry`` after the side's bus; what the guard sent there is marked so (T). A disk
that is too slow loses frames of the log, never of the wire, and they are counted. Whatever identifiers a host writes
are in such a log in clear: it is as confidential as the scanner's own.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from scanward.codecs.can_logs import Logged, candump_line
from scanward.errors import LinkError
from scanward.links.base import Side
from scanward.transport.can_frames import CanFrame

_WAITING = 65_536  # frames that wait for the disk: eight seconds of a full bus


class FrameRecorder:
    """A `links.can.Tap` with a thread that writes.

    Attributes
    ----------
    lost : int
        Frames that were not written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("a", encoding="ascii")
        except OSError as error:
            raise LinkError(
                f"frames cannot be recorded ({error.strerror})", str(path), "check folder and rights"
            ) from error
        self.lost = 0
        self._queue: queue.Queue[Logged | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, name="can-recorder", daemon=True)
        self._thread.start()

    def __call__(self, side: Side, frame: CanFrame, time: float, sent: bool) -> None:
        """One frame; never blocks."""
        try:
            self._queue.put_nowait(Logged(time, side.value, frame, sent))
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def _write(self) -> None:
        while (logged := self._queue.get()) is not None:
            try:
                self._file.write(candump_line(logged) + "\n")
                if self._queue.empty():
                    self._file.flush()
            except OSError:
                self.lost += 1

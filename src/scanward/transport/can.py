"""CAN buses: SocketCAN in production, python-can's virtual and UDP-multicast buses in tests. Frames only.

The virtual and the multicast bus have **no arbitration**: frames come in the order in which they were sent, a low
identifier overtakes nothing, nothing is ever retried, and nothing takes the time that a bit takes. UDP multicast may
also lose frames and change their order, and gives a sender its own frames back: these are taken out here, by content,
which no other bus needs. What depends on any of that is not shown by a test over them.

Each bus is read by a thread of its own, because a frame with a deadline (SYNC, heartbeat, a stop) must not wait for an
event loop that is busy with something else.

python-can is LGPL, part of the extra ``can`` only, and imported when a bus is opened.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from scanward.config import CAN_BOUNDS, CanBounds
from scanward.errors import LinkError
from scanward.transport.can_frames import CanFrame

INTERFACES = ("socketcan", "virtual", "udp_multicast")
_POLL_S = 0.02  # s a reader waits for a frame before it looks whether it is to end; time-outs are at least ten of these
_ECHO_S = 0.5  # s in which a multicast frame comes back to its sender, if it does
_MOST_ECHOES = 4096  # different frames on their way; then the old ones are forgotten

OnFrame = Callable[[CanFrame, float], None]
"""Called in the reader's thread with a frame and the monotonic second it was read."""


class CanBus:
    """One bus, open from construction to ``close``.

    Parameters
    ----------
    interface : str
        One of `INTERFACES`.
    channel : str
        ``can0``, the name of a virtual bus, or a multicast address.
    options : mapping
        Passed to python-can (``port`` of a multicast bus, ``bitrate`` where the driver sets it).

    Raises
    ------
    LinkError
        When the interface is none of these, the library is not installed, or the bus cannot be opened.
    """

    def __init__(self, interface: str, channel: str, bounds: CanBounds = CAN_BOUNDS, **options: Any) -> None:
        if interface not in INTERFACES:
            raise LinkError(f"no CAN interface {interface!r}", "", f"one of {', '.join(INTERFACES)}")
        self.name = f"{interface}:{channel}"
        self._bounds = bounds
        self._sending = threading.Lock()
        self._reader: threading.Thread | None = None
        self._ending = threading.Event()
        self._module = _python_can()
        self._echoes: _Echoes | None = None
        if interface == "udp_multicast":
            options.setdefault("fd", False)
            self._echoes = _Echoes()
        try:
            self._bus = self._module.Bus(
                interface=interface,
                channel=channel,
                ignore_config=True,  # files of python-can's own must not change what was asked for
                **options,
            )
        except (self._module.CanError, OSError, ValueError, TypeError) as error:
            raise LinkError(
                f"a CAN bus that cannot be opened ({error})", self.name, "check interface and rights"
            ) from error

    def start(
        self, on_frame: OnFrame, on_wake: Callable[[float], None], on_lost: Callable[[str], None]
    ) -> None:
        """Read in a thread of its own.

        Parameters
        ----------
        on_wake : callable
            Called with the monotonic second about every 20 ms, frames or not.
        on_lost : callable
            Called once, with the reason, when the bus can no longer be read.
        """

        def read() -> None:
            woken = 0.0
            while not self._ending.is_set():
                try:
                    message = self._bus.recv(_POLL_S)
                except (self._module.CanError, OSError, ValueError) as error:
                    if not self._ending.is_set():
                        on_lost(f"{self.name}: {error}")
                    return
                now = time.monotonic()
                if message is not None:
                    frame = frame_from(message)
                    if self._echoes is None or not self._echoes.take(frame, now):
                        on_frame(frame, now)
                if now - woken >= _POLL_S:
                    woken = now
                    on_wake(now)

        self._reader = threading.Thread(target=read, name=f"can-{self.name}", daemon=True)
        self._reader.start()

    def send(self, frame: CanFrame) -> None:
        """Send; waits at most ``send_s`` for room. LinkError when the controller does not take it."""
        message = self._module.Message(
            arbitration_id=frame.id,
            data=frame.data,
            is_extended_id=frame.extended,
            is_remote_frame=frame.remote,
            dlc=frame.dlc if frame.remote else len(frame.data),
            is_fd=frame.fd,
            check=False,
        )
        until = time.monotonic() + self._bounds.send_s
        with self._sending:
            if self._echoes is not None:
                self._echoes.add(frame, time.monotonic())
            while True:
                try:
                    self._bus.send(message, timeout=self._bounds.send_s)
                    return
                except (self._module.CanError, OSError) as error:
                    if self._ending.is_set() or time.monotonic() >= until:
                        raise LinkError(
                            f"a frame that was not sent ({error})", self.name, "check the bus, and txqueuelen"
                        ) from error
                    time.sleep(0.0005)  # ENOBUFS: the queue is full for about as long as four frames take

    def close(self) -> None:
        """End the reader and the bus."""
        self._ending.set()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join()
        self._bus.shutdown()


class _Echoes:
    """Frames that were sent and will come back, for a while: one that was lost on the way must not hide another's."""

    def __init__(self) -> None:
        self._sent: dict[CanFrame, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, frame: CanFrame, now: float) -> None:
        """It is about to be sent."""
        with self._lock:
            if len(self._sent) > _MOST_ECHOES:
                self._sent = {f: times for f, times in self._sent.items() if now - times[-1] < _ECHO_S}
            self._sent.setdefault(frame, deque()).append(now)

    def take(self, frame: CanFrame, now: float) -> bool:
        """Whether a frame that came is one of our own."""
        with self._lock:
            times = self._sent.get(frame)
            while times and now - times[0] >= _ECHO_S:
                times.popleft()
            if not times:
                self._sent.pop(frame, None)
                return False
            times.popleft()
            if not times:
                del self._sent[frame]
            return True


def frame_from(message: Any) -> CanFrame:
    """A ``can.Message`` as ours."""
    remote = bool(message.is_remote_frame)
    return CanFrame(
        message.arbitration_id,
        b"" if remote else bytes(message.data),
        remote,
        bool(message.is_extended_id),
        message.dlc if remote else 0,
        bool(message.is_fd),
        bool(message.is_error_frame),
    )


def _python_can() -> Any:
    try:
        import can
    except ImportError as error:
        raise LinkError(
            "python-can is not installed", "the CANopen link", "pip install 'scanward[can]'"
        ) from error
    return can

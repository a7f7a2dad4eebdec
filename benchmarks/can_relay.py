"""The CANopen link: frames a second through the classifier, and what it adds to the time of a SYNC.

Three processes: a host that sends SYNC every 5 ms among other frames, the relay, and a gantry that notes when each SYNC
came. Between them are socket pairs with the frames of SocketCAN's raw sockets (16 bytes each): the cost of a read and a
write without a bus, so **no arbitration and no bit times**. A plain relay of two buses takes turns with the link in the
same run; what the link adds is the difference. "busy" has the relay's loop at work half of the time, as with large
loads; both relays then run with the link's own switching interval of the interpreter.

A bus of 1 Mbit/s carries some 8,000 frames a second; what was reached is told.

  python -m benchmarks.can_relay
  python -m benchmarks.can_relay --rates 1000 8000 --seconds 5
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import multiprocessing
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.common import ROOT, parser, quickly, save, sayer, table
from scanward.codecs.canopen_profile import CanProfile
from scanward.codecs.canopen_profile_toml import load_profile
from scanward.config import CAN_BOUNDS
from scanward.errors import LinkError
from scanward.links.can import CanLink
from scanward.links.can_session import CanSession
from scanward.transport.can import CanBus, OnFrame
from scanward.transport.can_frames import CanFrame, frame_of

PROFILE = ROOT / "examples" / "can" / "emulated-ct.toml"
RAW = struct.Struct("=IB3x8s")  # struct can_frame of Linux
REMOTE = 0x40000000
SYNC_S = 0.005
TICK_S = 0.00025  # of the sender; a real bus spaces 8,000 frames by 125 us each
SYNC = frame_of("080#")
END = frame_of("201#0000")._replace(id=0x7FF)
# What a host's bus carries: timed frames, process data that are looked into, frames that are refused.
BACKGROUND = tuple(
    frame_of(text)
    for text in (
        "77F#05",
        "201#0000",
        "401#D007D007",
        "701#R",
        "401#D007D007",
        "201#0000",
        "501#01",
        "401#D007D007",
    )
)
ANSWERS = {(0x1018, 1): 0x5CA1, (0x1018, 2): 0x0C7, (0x1018, 4): 42}


def packed(frame: CanFrame) -> bytes:
    """As SocketCAN's raw socket has it."""
    return RAW.pack(frame.id | (REMOTE if frame.remote else 0), frame.dlc or len(frame.data), frame.data)


def unpacked(data: bytes) -> CanFrame:
    """The inverse."""
    number, length, body = RAW.unpack(data)
    if number & REMOTE:
        return CanFrame(number & 0x7FF, b"", True, dlc=length)
    return CanFrame(number, body[:length])


class SocketBus(CanBus):
    """A bus whose other end is a process with a socket; read by a thread, as every `CanBus`."""

    def __init__(self, end: socket.socket) -> None:
        self.name = "socket pair"
        self._end = end
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(
        self, on_frame: OnFrame, on_wake: Callable[[float], None], on_lost: Callable[[str], None]
    ) -> None:
        def read() -> None:
            woken = 0.0
            while True:
                try:
                    data = self._end.recv(RAW.size)
                except TimeoutError:
                    data = b"-"
                except OSError:
                    return
                now = time.monotonic()
                if not data:
                    return
                if data != b"-":
                    on_frame(unpacked(data), now)
                if now - woken >= 0.02:
                    woken = now
                    on_wake(now)

        self._end.settimeout(0.02)
        self._thread = threading.Thread(target=read, daemon=True)
        self._thread.start()

    def send(self, frame: CanFrame) -> None:
        try:
            with self._lock:
                self._end.send(packed(frame))
        except OSError as error:
            raise LinkError(str(error), self.name, "") from error

    def close(self) -> None:
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()
        self._end.close()


# --- the two other processes


def play_host(end: socket.socket, rate: int, seconds: float, out: Connection) -> None:
    """Send; tell when each SYNC left."""
    end.settimeout(None)
    frames = itertools.cycle([packed(frame) for frame in BACKGROUND])
    sync, times, sent = packed(SYNC), [], 0
    began = time.monotonic()
    ticks, per_s = int(seconds / TICK_S), round(1 / TICK_S)
    for tick in range(ticks):
        due = began + tick * TICK_S
        while (left := due - time.monotonic()) > 0:
            time.sleep(left)
        if tick % round(SYNC_S / TICK_S) == 0:
            times.append(time.monotonic())
            end.send(sync)
            sent += 1
        for _ in range(rate * (tick + 1) // per_s - rate * tick // per_s):
            end.send(next(frames))
            sent += 1
    took = time.monotonic() - began
    time.sleep(0.2)
    out.send((times, sent, took))
    end.close()


def play_gantry(end: socket.socket, out: Connection) -> None:
    """Receive; tell when each SYNC came. Answers what the guard asks about identity."""
    end.settimeout(0.05)
    beat = packed(frame_of("701#05"))
    times: list[float] = []
    count, beaten = 0, 0.0
    while True:
        now = time.monotonic()
        if now - beaten > 0.1:
            beaten = now
            with suppress(OSError):
                end.send(beat)
        try:
            data = end.recv(RAW.size)
        except TimeoutError:
            continue
        except OSError:
            break
        if not data:
            break
        count += 1
        number = int.from_bytes(data[:4], "little")
        if number == SYNC.id:
            times.append(time.monotonic())
        elif number == 0x601 and data[8] == 0x40:
            index, sub = struct.unpack_from("<HB", data, 9)
            value = struct.pack("<BHBL", 0x43, index, sub, ANSWERS.get((index, sub), 0))
            end.send(packed(CanFrame(0x581, value)))
    out.send((times, count))
    end.close()


# --- the relay, three ways


class Nobody:
    """A sink that does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


async def plain(host: SocketBus, gantry: SocketBus, done: threading.Event, busy: bool) -> None:
    """Every frame to the other side."""
    sys.setswitchinterval(CAN_BOUNDS.switch_s)

    def pass_on(bus: SocketBus) -> OnFrame:
        def one(frame: CanFrame, now: float) -> None:
            with suppress(LinkError):  # the other end left
                bus.send(frame)

        return one

    gantry.start(pass_on(host), lambda now: None, lambda reason: None)
    host.start(pass_on(gantry), lambda now: None, lambda reason: None)
    await wait(done, busy)
    await asyncio.to_thread(host.close)
    await asyncio.to_thread(gantry.close)


async def guarded(host: SocketBus, gantry: SocketBus, done: threading.Event, busy: bool) -> None:
    """The link."""
    link = CanLink(load_profile(PROFILE), host, gantry, str)
    await link.start(Nobody())  # type: ignore[arg-type]
    await wait(done, busy)
    await link.close()


async def wait(done: threading.Event, busy: bool) -> None:
    """Until the run is over; ``busy`` keeps the loop at work half of the time."""
    load = {"chain": [{"parameters": {f"Field{n}": n * 1.5 for n in range(40)}} for _ in range(32)]}
    while not done.is_set():
        if busy:
            until = time.monotonic() + 0.01
            while time.monotonic() < until:
                json.loads(json.dumps(load))
        await asyncio.sleep(0.01)


def run(kind: str, rate: int, seconds: float) -> dict[str, Any]:
    """One run; delays of SYNC in microseconds, and the rate that was reached."""
    context = multiprocessing.get_context("fork")
    host_near, host_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gantry_near, gantry_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host_out, host_in = context.Pipe(duplex=False)
    gantry_out, gantry_in = context.Pipe(duplex=False)

    def gantry_process() -> None:
        for one in (host_near, host_far, gantry_near):
            one.close()
        play_gantry(gantry_far, gantry_in)

    def host_process() -> None:
        for one in (host_near, gantry_near, gantry_far):
            one.close()
        time.sleep(0.3)  # the gantry is heard first
        play_host(host_far, rate, seconds, host_in)

    processes = [context.Process(target=gantry_process), context.Process(target=host_process)]
    for process in processes:
        process.start()
    host_far.close()
    gantry_far.close()
    done = threading.Event()
    found: list[Any] = []

    def listen() -> None:
        found.append(host_out.recv())
        done.set()
        found.append(gantry_out.recv())

    listener = threading.Thread(target=listen)
    listener.start()
    gc.collect()
    gc.freeze()
    relay = plain if kind.startswith("plain") else guarded
    asyncio.run(relay(SocketBus(host_near), SocketBus(gantry_near), done, kind.endswith("busy")))
    listener.join()
    for process in processes:
        process.join()
    (left, sent, took), (came, count) = found
    if len(left) != len(came):
        raise RuntimeError(f"{len(left)} SYNC sent, {len(came)} came")
    delays = (np.array(came) - np.array(left)) * 1e6
    gaps = np.abs(np.diff(came) - np.diff(left)) * 1e6
    return {
        "rate": sent / took,
        "arrived": count,
        "sync": len(left),
        "delay_p50_us": float(np.median(delays)),
        "delay_p99_us": float(np.quantile(delays, 0.99)),
        "delay_max_us": float(delays.max()),
        "jitter_p50_us": float(np.median(gaps)),
        "jitter_p99_us": float(np.quantile(gaps, 0.99)),
    }


def classifier(count: int) -> dict[str, float]:
    """Frames a second through the tables alone and through the whole session, on one core."""
    profile: CanProfile = load_profile(PROFILE)
    frames = [*BACKGROUND, SYNC] * (count // (len(BACKGROUND) + 1) + 1)
    start = time.perf_counter()
    for frame in frames:
        profile.passes_at_once(frame) or profile.pattern_of(frame)
    tables = len(frames) / (time.perf_counter() - start)
    session = CanSession(profile, str)
    session.gantry_frame(frame_of("701#05"), 0.0)
    for (index, sub), value in ANSWERS.items():  # without a gantry, process data are refused unread
        session.gantry_frame(CanFrame(0x581, struct.pack("<BHBL", 0x43, index, sub, value)), 0.0)
    start = time.perf_counter()
    for number, frame in enumerate(frames):
        session.host_frame(frame, number * 1e-4)
    whole = len(frames) / (time.perf_counter() - start)
    return {"tables_frames_per_s": tables, "session_frames_per_s": whole, "frames": len(frames)}


KINDS = ("plain", "link", "plain, busy", "link, busy")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, save, print."""
    argv = sys.argv[1:] if argv is None else list(argv)
    made = parser("can_relay", __doc__)
    made.add_argument("--rates", type=int, nargs="+", default=[1000, 4000, 8000], help="frames a second")
    made.add_argument("--seconds", type=float, default=8.0, help="of each run")
    made.add_argument("--turns", type=int, default=2, help="how often each kind has its turn at each rate")
    made.add_argument("--frames", type=int, default=200_000, help="frames through the classifier")
    arguments = made.parse_args(argv)
    quickly(arguments, rates=[1000], seconds=0.5, turns=1, frames=2000)
    say = sayer()
    say("classifier")
    result: dict[str, Any] = {
        "classifier": classifier(arguments.frames),
        "bounds": {"block": CAN_BOUNDS.sdo_block},
    }
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for rate in arguments.rates:
        by_kind = runs.setdefault(str(rate), {kind: [] for kind in KINDS})
        for _ in range(arguments.turns):
            for kind in KINDS:
                say(f"{rate} frames/s: {kind}")
                by_kind[kind].append(run(kind, rate, arguments.seconds))
    result["relay"] = {
        rate: {kind: pooled(turns) for kind, turns in by_kind.items()} for rate, by_kind in runs.items()
    }
    save(arguments, "can_relay", argv, result)
    if not arguments.json:
        print(report(result))
    return result


def pooled(turns: list[dict[str, Any]]) -> dict[str, float]:
    """The median of the turns, the largest of the maxima."""
    return {
        name: float(
            max(t[name] for t in turns) if name == "delay_max_us" else np.median([t[name] for t in turns])
        )
        for name in turns[0]
    }


def report(told: dict[str, Any]) -> str:
    """For people."""
    speed = told["classifier"]
    lines = [
        f"Classifier: {speed['tables_frames_per_s']:,.0f} frames/s through the tables,"
        f" {speed['session_frames_per_s']:,.0f} frames/s through the whole session, one core.",
        "",
    ]
    rows = []
    for rate, kinds in told["relay"].items():
        for kind, t in kinds.items():
            names = ("delay_p50_us", "delay_p99_us", "delay_max_us", "jitter_p50_us", "jitter_p99_us")
            rows.append([rate, f"{t['rate']:.0f}", kind, *(f"{t[n]:.0f}" for n in names), f"{t['sync']:.0f}"])
    head = [
        "asked (1/s)",
        "reached",
        "relay",
        "SYNC p50 (us)",
        "p99",
        "max",
        "jitter p50 (us)",
        "p99",
        "SYNC sent",
    ]
    return "\n".join([*lines, table(head, rows)])


if __name__ == "__main__":
    main()

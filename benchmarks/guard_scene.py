"""A guard with gantry, host and operator around it, all of them processes, and wires that can be bad."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.guard_ends import Address, End, Tail, run_console, run_gantry, run_host
from benchmarks.guard_rig import DEVICE, GuardProcess
from scanward.emulator.fitting import OPERATOR, Fitting, fit_guard
from scanward.simulation import Site

LONG_S = 90.0  # whatever has not happened by then, on a busy machine, never will
_LOOK_S = 0.01
# The wall clock of a process and of its children, moved by so many ns as a file says: the system's stays as it is.
_CLOCK = """
import os, time
_fd = os.open(os.environ["SCANWARD_BENCH_CLOCK"], os.O_RDONLY)
_ns, _s = time.time_ns, time.time
_by = lambda: int(os.pread(_fd, 32, 0) or b"0")
time.time_ns = lambda: _ns() + _by()
time.time = lambda: _s() + _by() / 1e9
"""


def free_port() -> int:
    """A port that is free now; the guard listens there in each of its lives."""
    with sockets.socket() as found:
        found.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Wire:
    """TCP connections passed on by a cable that may be slow, silent, or cut. In this process, on its loop."""

    def __init__(self, to: Address) -> None:
        self.to = to
        self.delay = 0.0  # s, each way
        self.port = 0
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def silent(self, silent: bool) -> None:
        """Nothing passes, and nobody is told."""
        self._whole.clear() if silent else self._whole.set()

    def cut(self) -> None:
        """Every connection is reset."""
        for writer in list(self._open):
            writer.transport.abort()

    async def close(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            back, far = await asyncio.open_connection(*self.to)
            self._open |= {writer, far}
            ways = [
                asyncio.ensure_future(self._way(reader, far)),
                asyncio.ensure_future(self._way(back, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()
                    self._open.discard(end)
            self._tasks.discard(task)

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes in goes out ``delay`` later, in order."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def out() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._whole.wait()
                writer.write(data)
                if not data:
                    return

        sending = asyncio.ensure_future(out())
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    queue.put_nowait((loop.time() + self.delay, data))
            queue.put_nowait((loop.time() + self.delay, b""))
            await sending
        finally:
            sending.cancel()


@dataclass
class Scene:
    """Everything that runs. ``wires`` is None where the ends are connected without any in between."""

    folder: Path
    seed: int
    fitting: Fitting
    guard: GuardProcess
    gantry: End
    host: End
    console: End
    ports: dict[str, int]
    wires: dict[str, Wire]
    every: int
    start_at: int
    journals: dict[str, Tail] = field(default_factory=dict)

    @classmethod
    async def begin(
        cls,
        folder: Path,
        seed: int,
        bundle: Path,
        trust: Path,
        *,
        start_at: int,
        factor: float = 20.0,
        every: int = 6,
        wired: bool = False,
        hold_s: float = 5.0,
    ) -> Scene:
        """Start all of it and wait until examinations pass. ``close`` ends what has begun, even halfway."""
        folder.mkdir(parents=True, exist_ok=True)
        site = Site(seed)
        journals = {name: Tail(folder / f"{name}.jsonl") for name in ("gantry", "host", "console")}
        gantry = End(run_gantry, journals["gantry"].path, seed, factor)
        made = cls(
            folder, seed, None, None, gantry, None, None, {}, {}, every, start_at, journals,  # type: ignore[arg-type]
        )  # fmt: skip
        try:
            gantry.start(0, 0)
            ready = await made.until("gantry", "ready", 0.0)
            made.ports = {"gantry": ready["port"], "room": ready["room"], "guard": free_port()}
            at = ("127.0.0.1", made.ports["gantry"])
            host_to = ("127.0.0.1", made.ports["guard"])
            if wired:
                made.wires = {"gantry": Wire(at), "host": Wire(host_to)}
                for wire in made.wires.values():
                    await wire.start()
                at = ("127.0.0.1", made.wires["gantry"].port)
                host_to = ("127.0.0.1", made.wires["host"].port)
            made.fitting = fit_guard(
                folder / "guard", site.models[DEVICE], site.devices[DEVICE], bundle, trust, at,
                ("127.0.0.1", made.ports["guard"]), hold_s=hold_s,
            )  # fmt: skip
            made.guard = GuardProcess(made.fitting.config, made._clock())
            made.host = End(run_host, journals["host"].path, seed)
            made.room = ("127.0.0.1", made.ports["room"])
            made.host_to = host_to
            made.console = End(
                run_console, journals["console"].path, made.fitting.socket, made.fitting.operator, OPERATOR
            )
            await made.start_guard()
            made.console.start()
            made.start_host()
            await made.decided(0.0)
        except BaseException:
            await made.close()
            raise
        return made

    room: Address = ("", 0)
    host_to: Address = ("", 0)

    def _clock(self) -> dict[str, str]:
        place = self.folder / "clock"
        place.mkdir(exist_ok=True)
        (place / "sitecustomize.py").write_text(_CLOCK)
        (place / "offset").write_text("0" * 24)
        path = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH", ""))))
        return {"PYTHONPATH": path, "SCANWARD_BENCH_CLOCK": str(place / "offset")}

    def set_clock(self, seconds: float) -> None:
        """The guard's wall clock jumps to so much before or after the system's."""
        with (self.folder / "clock" / "offset").open("r+b") as file:
            os.pwrite(file.fileno(), b"%+024d" % int(seconds * 1e9), 0)

    # --- starting what was killed
    async def start_guard(self) -> None:
        """Start the relay, which starts judge and writer."""
        self.guard.start()
        await asyncio.to_thread(self.guard.wait_ready)

    def start_host(self) -> None:
        """Another host: its names and its patients are new."""
        number = self.start_at + 500 * self.host.starts
        self.host.start(number, self.every, f"{self.host.starts}", self.host_to, self.room)

    def start_gantry(self) -> None:
        """The gantry, where it was."""
        self.gantry.start(self.ports["gantry"], self.ports["room"])

    # --- waiting
    async def until(self, who: str, what: str, since: float, seconds: float = LONG_S) -> dict[str, Any]:
        """The first entry of a journal since then; TimeoutError when there is none in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.journals[who].of(what, since):
                return found[0]
            await asyncio.sleep(_LOOK_S)
        raise TimeoutError(f"no '{what}' of the {who} within {seconds:g} s")

    async def decided(self, since: float, seconds: float = LONG_S) -> dict[str, Any]:
        """The first load asked since then that the guard decided: released, held or refused for good."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for answer in self.journals["host"].of("answer", since):
                if answer["kind"] != "Load" or answer["asked"] < since:
                    continue
                verdict = answer["how"] in ("done", "declined") or answer["held"]
                if verdict or (answer["how"] == "refused" and not answer["again"]):
                    return answer
            await asyncio.sleep(_LOOK_S)
        raise TimeoutError(f"no load was decided within {seconds:g} s")

    async def close(self) -> None:
        """End everything; each end by itself, so that one that fails keeps nobody."""
        with suppress(Exception):  # a host that is gone is none that stays
            self.host.kill()
        with suppress(Exception):
            self.console.kill()
        if self.guard is not None:
            await asyncio.to_thread(self.guard.stop if self.guard.alive else self.guard.kill)
        with suppress(Exception):
            self.gantry.kill()
        for wire in self.wires.values():
            await wire.close()

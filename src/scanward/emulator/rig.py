"""Processes of a bench: gantry and guard started as a user starts them, waited for, and ended.

async with Rig.start(folder, supply_device, ...) as rig:
    rig.plain      # the gantry alone
    rig.guarded    # another gantry like it, with a guard in front
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanward.commands import Command, Device, Role
from scanward.commands.wire import Element, Refused
from scanward.emulator import certificates
from scanward.emulator.attack import Bench
from scanward.emulator.fitting import OPERATOR, Fitting, fit_guard
from scanward.emulator.play import RoomDoor
from scanward.emulator.staff import Operator
from scanward.emulator.wires import Tls, address
from scanward.errors import ScanwardError, SettingsError
from scanward.keys import SigningKey
from scanward.simulation.scanner import model_named

STARTED_S = 60.0  # a process that has not said that it is ready by then never will
ENDED_S = 10.0
# Linux: when whoever started it dies, however, it gets SIGTERM (PR_SET_PDEATHSIG), and ends as it should.
_SCANWARD = (
    "-c",
    "import ctypes, signal; ctypes.CDLL(None).prctl(1, signal.SIGTERM); from scanward.cli import main; main()",
)
SOCKET_PATH = 100  # bytes; the system takes 107
_SAID = 4000  # characters of a process' last words that are repeated in an error


@dataclass(eq=False)
class Running:
    """One ``scanward`` process."""

    process: asyncio.subprocess.Process
    name: str
    said: bytearray = field(default_factory=bytearray)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> Running:
        """Start ``scanward`` with these arguments."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *_SCANWARD, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            process_group=0,  # Ctrl-C is for who started it, and he ends it in order
        )  # fmt: skip
        made = cls(process, " ".join(["scanward", *arguments[:2]]))
        made._tasks.append(asyncio.ensure_future(made._drain(process.stderr)))
        return made

    async def _drain(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while data := await stream.read(4096):
            self.said += data
            del self.said[:-_SAID]

    async def first_line(self) -> str:
        """The line that the process says once it is ready; ScanwardError when it ends or says none."""
        stdout = self.process.stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(STARTED_S):
                line = await stdout.readline()
        except TimeoutError:
            line = b""
        self._tasks.append(asyncio.ensure_future(self._drain(stdout)))
        if not line.endswith(b"\n"):
            await self.end()
            raise ScanwardError(
                f"{self.name} did not start: {self.last_words or 'it says nothing'}", "", "run it by hand"
            )
        return line.decode("utf-8", "replace").strip()

    @property
    def last_words(self) -> str:
        """What it said last on standard error."""
        return self.said.decode("utf-8", "replace").strip()[-500:]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    async def end(self) -> None:
        """Ask it to end (SIGTERM), then see to it."""
        for number, seconds in ((signal.SIGTERM, ENDED_S), (signal.SIGKILL, ENDED_S)):
            if self.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self.process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self.process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # the transport of a process that has ended is closed by the loop's next turn
        await asyncio.sleep(0)


@dataclass
class Rig:
    """Two scanners alike, one of them guarded."""

    plain: Bench
    guarded: Bench
    operator: Operator
    fitting: Fitting
    guard: Running
    started_s: float  # from starting the guard to its first verdict


@asynccontextmanager
async def rig(
    folder: Path,
    device: Device,
    bundle: Path,
    trusted: Path,
    *,
    seed: int = 0,
    factor: float = 200.0,
    hold_s: float = 20.0,
    tls: bool = True,
) -> AsyncIterator[Rig]:
    """Start everything in ``folder`` and end it again.

    Raises
    ------
    SettingsError
        ``device`` is no simulated one.
    ScanwardError
        A process does not start, or the guard gives no verdict.
    """
    model = model_named(device.manufacturer, device.model)
    if model is None:
        raise SettingsError(f"{device.manufacturer} {device.model} is no simulated device", "", "give one")
    if len(os.fsencode(folder.absolute() / "control.sock")) > SOCKET_PATH:
        raise SettingsError("the path is too long for a socket", str(folder), "give a shorter folder")
    ends = certificates.make(folder / "tls") if tls else None
    async with AsyncExitStack() as stack:
        benches, ports = [], []
        for end in (ends["gantry"] if ends else None,) * 2:
            gantry = await Running.start(gantry_arguments(model.name, seed, factor, end))
            stack.push_async_callback(gantry.end)
            where = json.loads(await gantry.first_line())
            ports.append(address(where["link"]))
            room = await RoomDoor.open(*address(where["room"]))
            stack.push_async_callback(room.close)
            benches.append(Bench(ports[-1], room, device, ends["host"] if ends else None))
        fitting = fit_guard(
            folder, model, device, bundle, trusted, ports[1], ("127.0.0.1", 0), tls=ends, hold_s=hold_s
        )
        begun = asyncio.get_running_loop().time()
        guard = await Running.start(["guard", "--config", str(fitting.config)])
        stack.push_async_callback(guard.end)
        port = int(re.search(r"port (\d+)", await guard.first_line())[1])  # type: ignore[index]
        guarded = replace(benches[1], address=("127.0.0.1", port))
        operator = stack.enter_context(Operator(fitting.socket, SigningKey.load(fitting.operator), OPERATOR))
        await first_verdict(guarded, guard)
        ready = asyncio.get_running_loop().time() - begun
        yield Rig(benches[0], guarded, operator, fitting, guard, ready)


def gantry_arguments(model: str, seed: int, factor: float, tls: Tls | None) -> list[str]:
    """The words after ``scanward`` that start an emulated gantry on any free port."""
    files = [] if tls is None else [
        "--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key),
        "--tls-authority", str(tls.authority),
    ]  # fmt: skip
    return [
        "emulate", "gantry", "--model", model, "--seed", str(seed), "--factor", f"{factor:g}",
        "--listen", "127.0.0.1:0", "--room", "127.0.0.1:0", "--json", "--quiet", *files,
    ]  # fmt: skip


async def first_verdict(bench: Bench, guard: Running) -> None:
    """Wait until the guard answers a load with anything but "later": its judge reads the bundle first."""
    end = asyncio.get_running_loop().time() + STARTED_S
    nothing = Element(Command({"KVP": -1.0}, role=Role.COMMANDED))
    while asyncio.get_running_loop().time() < end and guard.alive:
        try:
            async with bench.host(stops=False) as host:
                _, answer = await host.load((nothing,), "2.25.1")
        except SettingsError:  # it does not listen yet
            await asyncio.sleep(0.1)
            continue
        if isinstance(answer.message, Refused) and not answer.message.again:
            return
        await asyncio.sleep(0.1)
    raise ScanwardError(f"the guard gives no verdict: {guard.last_words}", "", "run `scanward guard` by hand")

"""What the guard adds on the stream link: latency over loopback against a plain relay in the same run.

One host, one gantry (both in this process, both as quick as they can be), between them in turn a relay that only
copies bytes and the real guard with its three processes. A load is timed from the host's send to the gantry's echo
at the host, a trigger and a stop from the host's send to their arrival at the gantry. Beside them, on the same disk
and at the same time: what one durable record takes, and what the judge takes for the same loads.

  python -m benchmarks.guard_latency
  python -m benchmarks.guard_latency --model MODEL --trust SITE.pub    (a bundle of site 101, instead of learning one)
  python -m benchmarks.guard_latency --quick
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundled import signed
from benchmarks.common import FINAL_SEEDS, ROOT, parser, quickly, save, sayer, table
from scanward.codecs.stream import command_to_json
from scanward.commands import Device, Examination
from scanward.guard.events import Log
from scanward.guard.ipc import Answer, JudgeSettings, Question
from scanward.guard.judge_client import JudgeClient
from scanward.guard.relay_audit import AuditPort
from scanward.keys import SigningKey, write_pair
from scanward.learning.fit import Settings
from scanward.links.identifiers import Identifiers
from scanward.recordings import examinations, load_dialect, read
from scanward.recordings.writing import write_table
from scanward.simulation import Site

sys.path.insert(0, str(ROOT / "tests"))
from _guard_site import GuardSite, hello, load_line, trigger_line
from _stream import BEAT

MODEL = "S-128"  # the model that the example policy is for
RATES = (1, 10, 20)  # loads a second
PAUSE_S = 0.01  # s between a load and its trigger: a person's are longer, and the disk is done with the load by then
STOP = b'{"type":"stop"}\n'
PLAIN = """
import asyncio, sys
async def main():
    async def copy(a, b):
        try:
            while data := await a.read(65536):
                b.write(data)
        finally:
            b.close()
    async def serve(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, save, print."""
    words = list(sys.argv[1:] if argv is None else argv)
    made = parser("guard_latency", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="of the simulated site")
    made.add_argument("--model", type=Path, help="a bundle of this site, instead of learning one")
    made.add_argument("--trust", type=Path, help="the public key that signed it")
    made.add_argument("--examinations", type=int, default=420, help="to learn from")
    made.add_argument("--seconds", type=float, default=20.0, help="at each rate, each way")
    made.add_argument("--stops", type=int, default=2000, help="stops, idle and again while everything hangs")
    arguments = made.parse_args(words)
    quickly(arguments, examinations=240, seconds=2.0, stops=100)
    say = sayer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, trust, later, device = prepared(arguments, folder, say)
        result = asyncio.run(measured(folder, model, trust, later, device, arguments, say))
    save(arguments, "guard_latency", words, result)
    if not arguments.json:
        print(shown(result))
    return result


def prepared(
    arguments: argparse.Namespace, folder: Path, say: Any
) -> tuple[Path, Path, list[Examination], Device]:
    """Bundle, its key, later examinations of one scanner, and that scanner with its serial number in clear.

    Through tables, as at a site: so that serial numbers are hashed once in the bundle, and once in the guard.
    """
    site = Site(arguments.seed)
    count = arguments.examinations

    def through_a_table(name: str, found: list[Examination]) -> list[Examination]:
        write_table([c for e in found for c in e.commands], folder / name, folder / "dialect.toml")
        return examinations(read([folder / name], dialect=load_dialect(folder / "dialect.toml")).commands)

    after = site.examinations(600, count)
    clear = next(e.commands[0].device for e in after if e.commands[0].device.model == MODEL)
    later = [e for e in through_a_table("later.csv", after) if e.commands[0].device.model == MODEL]
    if arguments.model is not None and arguments.trust is not None:
        return arguments.model, arguments.trust, later, clear
    say(f"learning from {count} examinations")
    budget = 0.02 if arguments.quick else 0.01
    settings = Settings(budget=budget, seed=1, spoilt=1.0, rounds=60, steps=100)
    train = through_a_table("early.csv", site.examinations(count))
    return (*signed(train, settings, folder / "bundle"), later, clear)


# --- both ends


class Gantry(asyncio.Protocol):
    """One connection of a gantry that echoes at once. ``arrived``: (what, id) -> when."""

    def __init__(self, arrived: dict[tuple[str, str], float], stops: list[float], device: Device) -> None:
        self._arrived, self._stops, self._device = arrived, stops, device
        self._buffer = b""
        self._heart: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._heart is not None:
            self._heart.cancel()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._line(line, now)

    def _line(self, line: bytes, now: float) -> None:
        if line == STOP[:-1]:
            self._stops.append(now)
            return
        said = json.loads(line)
        kind = said["type"]
        if kind == "hello":
            self._transport.write(hello(said["channel"], self._device))
            if said["channel"] == "commands":
                self._beat()
        elif kind == "load":
            self._arrived[kind, said["id"]] = now
            chain = [element["parameters"] for element in said["chain"]]
            echo = {"type": "loaded", "load": said["id"], "chain": chain}
            self._transport.write(json.dumps(echo).encode() + b"\n")
        elif kind == "trigger":
            self._arrived[kind, said["id"]] = now
            whose = {"load": said["load"], "element": said["element"]}
            for answer in ("started", "done"):
                self._transport.write(json.dumps({"type": answer, **whose}).encode() + b"\n")

    def _beat(self) -> None:
        self._transport.write(BEAT)
        self._heart = asyncio.get_running_loop().call_later(1.0, self._beat)


@dataclass
class Way:
    """One way from host to gantry: through the plain relay, or through the guard. Times in ms."""

    port: int
    arrived: dict[tuple[str, str], float]
    stops: list[float]
    loads: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    triggers: list[float] = field(default_factory=list)
    held: int = 0
    reader: Any = None
    writer: Any = None
    button: Any = None
    heart: Any = None

    async def open(self, device: Device) -> None:
        """Both connections of a host."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.writer.write(hello("commands", device))
        while b'"hello"' not in await self.reader.readline():
            pass
        self.button = await asyncio.open_connection("127.0.0.1", self.port)
        self.button[1].write(hello("stop", device))
        await self.button[0].readline()
        self.heart = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            self.writer.write(BEAT)
            await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Leave."""
        self.heart.cancel()
        self.writer.close()
        self.button[1].close()

    async def until(self, *kinds: bytes) -> bytes:
        """The next line of one of these kinds."""
        while line := await self.reader.readline():
            if any(kind in line for kind in kinds):
                return bytes(line)
        raise RuntimeError("the connection ended")

    async def load(self, name: str, examination: Examination) -> None:
        """One load, and the trigger of its first element."""
        line = load_line(name, examination.commands, examination.identifier, name)
        begun = time.perf_counter()
        self.writer.write(line)
        heard = await self.until(b'"loaded"', b'"held"', b'"refused"')
        if b'"loaded"' not in heard:
            self.held += 1
            if b'"held"' in heard:
                cancel = {"type": "cancel", "id": f"C{name}", "load": name}
                self.writer.write(json.dumps(cancel).encode() + b"\n")
                await self.until(b'"refused"')
            return
        self.loads.append(1e3 * (time.perf_counter() - begun))
        self.forward.append(1e3 * (self.arrived["load", name] - begun))
        await asyncio.sleep(PAUSE_S)
        begun = time.perf_counter()
        self.writer.write(trigger_line(f"T{name}", name, 0))
        await self.until(b'"done"')
        self.triggers.append(1e3 * (self.arrived["trigger", f"T{name}"] - begun))

    async def stop(self) -> float:
        """One stop by the stop connection: ms until it is at the gantry."""
        before = len(self.stops)
        begun = time.perf_counter()
        self.button[1].write(STOP)
        while len(self.stops) == before:
            await asyncio.sleep(0)
        took = 1e3 * (self.stops[before] - begun)
        await asyncio.sleep(0.002)
        return took


# --- the run


class Beside:
    """The judge and the disk by themselves: what a question and a durable record take. Times in ms."""

    def __init__(self) -> None:
        self.judged: list[float] = []
        self.committed: list[float] = []
        self._begun: dict[int, float] = {}
        self._waiting: asyncio.Future[None] | None = None
        self.ready = asyncio.Event()
        self.open = asyncio.Event()

    def judge_ready(self, ready: Any) -> None:
        self.ready.set()

    def judge_gone(self, reason: str) -> None:
        raise RuntimeError(reason)

    def judge_refused(self, failed: Any) -> None:
        raise RuntimeError(failed.what)

    def answered(self, answer: Answer) -> None:
        self.judged.append(1e3 * (time.perf_counter() - self._begun.pop(answer.request)))
        if self._waiting is not None:
            self._waiting.set_result(None)

    def lost(self, request: int, reason: str) -> None:
        raise RuntimeError(reason)

    def durable(self, token: int) -> None:
        self.committed.append(1e3 * (time.perf_counter() - self._begun.pop(-token)))
        if self._waiting is not None:
            self._waiting.set_result(None)

    def log_is(self, condition: Log, reason: str) -> None:
        if condition is Log.OK:
            self.open.set()

    def log_note(self, kind: str, data: dict[str, object]) -> None:
        pass

    async def once(self, key: int, begin: Any) -> None:
        """Begin something and wait for its answer."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._begun[key] = time.perf_counter()
        begin()
        await self._waiting
        self._waiting = None


@contextlib.asynccontextmanager
async def plain_relay(port: int) -> AsyncIterator[int]:
    """A process that copies bytes to ``port``; its own port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLAIN, str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def measured(
    folder: Path,
    model: Path,
    trust: Path,
    later: list[Examination],
    device: Device,
    arguments: argparse.Namespace,
    say: Any,
) -> dict[str, Any]:
    """Everything, with one guard."""
    arrived: dict[tuple[str, str], float] = {}
    stops: list[float] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Gantry(arrived, stops, device), "127.0.0.1", 0)
    gantry_port = server.sockets[0].getsockname()[1]
    site = site_of(folder / "site", gantry_port, model, trust, device)
    beside, judge, port = await _beside(folder, model, trust, device)
    async with plain_relay(gantry_port) as plain_port:
        begun = time.perf_counter()
        await asyncio.to_thread(site.start)
        try:
            guard = Way(site.port, arrived, stops)
            await guard.open(device)
            first = await _first(guard, later[0], begun)
            say(f"first decision after {first:.2f} s")
            plain = Way(plain_port, arrived, stops)
            await plain.open(device)
            rates = []
            for rate in RATES:
                say(f"{rate} loads/s for {arguments.seconds:g} s, each way")
                rates.append(await _at(rate, arguments.seconds, guard, plain, later, beside, judge, port))
            say(f"{arguments.stops} stops, idle and while judge and writer hang")
            stopped = await _stops(arguments.stops, guard, plain, site)
            await guard.close()
            await plain.close()
        finally:
            await asyncio.to_thread(site.stop)
            await judge.close()
            await port.close()
            server.close()
    return {"first_decision_s": first, "rates": rates, "stops": stopped, "examinations": len(later)}


def site_of(folder: Path, port: int, model: Path, trust: Path, device: Device) -> GuardSite:
    """A guard for this device and bundle."""
    site = GuardSite.make(folder, port, None)
    text = site.config.read_text()
    text = text.replace("50f51b90a2b817b60041", device.serial).replace("SIM 1.0", device.software)
    site.config.write_text(f'{text}\n[judge]\nbundle = "{model.absolute()}"\nkeys = ["{trust.absolute()}"]\n')
    return site


async def _beside(
    folder: Path, model: Path, trust: Path, device: Device
) -> tuple[Beside, JudgeClient, AuditPort]:
    beside = Beside()
    settings = JudgeSettings(
        str(model.absolute()),
        [str(trust.absolute())],
        str(folder / "versions.json"),
        device.manufacturer,
        device.model,
        Identifiers().hash(device.serial),
        device.software,
    )
    judge = JudgeClient(settings, beside, 30.0)
    judge.start()
    write_pair(folder / "log", SigningKey.generate())
    (folder / "audit").mkdir()
    port = AuditPort(folder / "audit", folder / "log.key", beside)
    port.start()
    await beside.ready.wait()
    await beside.open.wait()
    return beside, judge, port


async def _first(guard: Way, examination: Examination, begun: float) -> float:
    """Seconds from the start of the process to its first verdict on a load."""
    for number in range(10_000):
        guard.writer.write(load_line(f"F{number}", examination.commands, examination.identifier, "F"))
        heard = await guard.until(b'"loaded"', b'"held"', b'"refused"')
        if b"audit log" not in heard and b"judge" not in heard and b"not connected" not in heard:
            return time.perf_counter() - begun
        await asyncio.sleep(0.02)
    raise RuntimeError("no verdict")


async def _at(
    rate: int,
    seconds: float,
    guard: Way,
    plain: Way,
    later: list[Examination],
    beside: Beside,
    judge: JudgeClient,
    port: AuditPort,
) -> dict[str, Any]:
    """At one rate: guard, plain relay, judge and disk in turn within each interval."""
    for way in (guard, plain):
        way.loads.clear(), way.forward.clear(), way.triggers.clear()
        way.held = 0
    beside.judged.clear()
    beside.committed.clear()
    count = max(3, int(seconds * rate))
    record = json.dumps({"kind": "release", "pad": "x" * 400}).encode()
    loop = asyncio.get_running_loop()
    start = loop.time()
    late = 0
    for number in range(count):
        due = start + number / rate
        late += loop.time() > due + 1.0 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        name, examination = f"R{rate}-{number}", later[number % len(later)]
        await plain.load(f"P{name}", examination)
        await guard.load(name, examination)
        if number % 2:
            continue  # judge and disk by themselves only half as often: there is room for the guard
        chain = [command_to_json(c) for c in examination.commands]
        request = rate * 1_000_000 + number + 1
        await beside.once(request, lambda r=request, c=chain: judge.ask(Question(r, chain=c)))
        await beside.once(-request, lambda r=request: port.send(r, record, reserved=False))
    return {
        "loads_per_s": rate,
        "loads": count,
        "late": late,
        "held_or_refused": guard.held,
        "plain_ms": percentiles(plain.loads),
        "guard_ms": percentiles(guard.loads),
        "added_ms": percentiles(np.array(guard.loads) - np.median(plain.loads)),
        "release_ms": percentiles(guard.forward),
        "trigger_ms": percentiles(guard.triggers),
        "plain_trigger_ms": percentiles(plain.triggers),
        "judge_ms": percentiles(beside.judged),
        "commit_ms": percentiles(beside.committed),
    }


async def _stops(count: int, guard: Way, plain: Way, site: GuardSite) -> dict[str, Any]:
    """Stops in turn through both, idle; then through the guard while judge and writer are stopped."""
    idle, direct = [], []
    for _ in range(count):
        direct.append(await plain.stop())
        idle.append(await guard.stop())
    for pid in site.children().values():
        os.kill(pid, signal.SIGSTOP)
    hung = [await guard.stop() for _ in range(count)]
    for pid in site.children().values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return {
        "stops": count,
        "plain_ms": percentiles(direct),
        "idle_ms": percentiles(idle),
        "hung_ms": percentiles(hung),
        "p99_ratio": float(np.percentile(hung, 99) / np.percentile(idle, 99)),
    }


def percentiles(values: Any) -> dict[str, float]:
    """Median, 99th percentile and the largest."""
    found = np.asarray(values, dtype=float)
    if not len(found):
        return {"p50": float("nan"), "p99": float("nan"), "max": float("nan")}
    return {
        "p50": float(np.median(found)),
        "p99": float(np.percentile(found, 99)),
        "max": float(found.max()),
    }


def shown(result: dict[str, Any]) -> str:
    """For a terminal."""

    def cells(found: dict[str, float]) -> str:
        return f"{found['p50']:.2f} / {found['p99']:.2f}"

    names = ("plain_ms", "guard_ms", "added_ms", "release_ms", "trigger_ms", "judge_ms", "commit_ms")
    rows = [[str(r["loads_per_s"]), *(cells(r[n]) for n in names)] for r in result["rates"]]
    stops = result["stops"]
    lines = [table(("loads/s", *names), rows)]
    lines += [
        f"stops, {n}: p50 {s['p50']:.3f} p99 {s['p99']:.3f} max {s['max']:.3f} ms"
        for n, s in ((n, stops[n]) for n in ("plain_ms", "idle_ms", "hung_ms"))
    ]
    lines.append(f"stops, p99 hung over idle: {stops['p99_ratio']:.2f}")
    lines.append(f"first decision after {result['first_decision_s']:.2f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)  # what others wrote before is not ours to wait for
    main()

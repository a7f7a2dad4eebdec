"""Memory over a million commands: the guard's relay in this process, at full rate.

All of the relay is real: codec both ways, gate, policy, desk, control server, and the audit writer in its own process.
Two parts are not: the judge answers at once that nothing objects, and host and gantry are calls in this process
instead of sockets. The log lies in memory where the system has a place for that, and old segments are carried away
(deleted) as a site would, or a million commands would fill a disk.

  python -m benchmarks.guard_soak --commands 1000000      # by hand
  python -m benchmarks.guard_soak --quick
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import FINAL_SEEDS, Say, parser, plain, quickly, save, sayer, table
from benchmarks.guard_rig import DEVICE, rss_kib
from scanward.codecs import stream
from scanward.commands import LEARNED_LAYERS, RULE_LAYERS, Device, Opinion, Outcome
from scanward.commands.wire import (
    Cancel,
    Channel,
    Done,
    FromGantry,
    Held,
    Hello,
    Load,
    Loaded,
    Refused,
    Started,
    ToGantry,
    ToHost,
    Trigger,
)
from scanward.emulator.fitting import fit_guard
from scanward.emulator.host import element_of
from scanward.guard.config import load_config
from scanward.guard.events import Log
from scanward.guard.ipc import Answer, ElementShape, Question, Ready, layer_shape
from scanward.guard.relay import Relay
from scanward.guard.relay_run import Guard, verified
from scanward.links.base import Link, Sink
from scanward.links.identifiers import Identifiers
from scanward.simulation import Site

LOAD_ID, STUDY, PATIENT = b"load-id", b"study-id", b"patient-id"  # replaced in lines that were encoded once
DIFFERENT = 200  # examinations that come again and again, each time of another patient
KEPT = 3  # segments of the log that are not carried away
SAMPLES = 200
BLOCKS = 10  # of samples, for the interval of the slope: neighbouring samples are not independent
EACH_S = 30.0


class CallLink(Link):
    """Host and gantry in this process: lines of bytes both ways, as on the wire."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.identifiers = Identifiers(None)
        self.waiting: asyncio.Future[ToHost] | None = None
        self.counts = {"loads": 0, "triggers": 0}
        self._sink: Sink | None = None

    @property
    def sink(self) -> Sink:
        """The relay."""
        assert self._sink is not None
        return self._sink

    async def start(self, sink: Sink) -> None:
        """Both ends are there."""
        self._sink = sink
        sink.gantry_up(Hello(self.device))
        sink.host_up(1, Hello(self.device, Channel.COMMANDS))

    async def close(self) -> None:
        """Nothing is open."""

    def drop(self, reason: str) -> None:
        """A soak that drops its link has failed."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(RuntimeError(f"the relay dropped both links: {reason}"))

    def say(self, line: bytes) -> asyncio.Future[ToHost]:
        """One line of the host; what it is answered in the end."""
        self.waiting = asyncio.get_running_loop().create_future()
        self.sink.host_said(1, stream.decode_host(line, self.identifiers.hide, self.device))
        return self.waiting

    def to_host(self, connection: int, message: ToHost) -> None:
        """Loaded, done, held or refused end the host's waiting."""
        line = stream.encode(message, self.identifiers.reveal)
        said = stream.decode_guard(line)
        if isinstance(said, Loaded | Done | Held | Refused) and self.waiting and not self.waiting.done():
            self.waiting.set_result(said)

    def to_gantry(self, message: ToGantry) -> None:
        """A gantry that holds what it is told, and scans in no time."""
        line = stream.encode(message, self.identifiers.reveal)
        said = stream.decode_host(line)
        if isinstance(said, Load):
            self.counts["loads"] += 1
            self.answer(Loaded(said.id, tuple(e.command.parameters for e in said.chain)))
        elif isinstance(said, Trigger):
            self.counts["triggers"] += 1
            self.answer(Started(said.load, said.element))
            self.answer(Done(said.load, said.element))

    def answer(self, message: FromGantry) -> None:
        """The gantry's words come by the loop, as from a socket."""
        line = stream.encode(message)
        asyncio.get_running_loop().call_soon(lambda: self.sink.gantry_said(stream.decode_gantry(line)))


class Content:
    """A judge that finds nothing, at once."""

    ready = Ready("b" * 64, 1, 0.005, 0.0)

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        learned = [layer_shape(Opinion(n, Outcome.PASS, p_value=0.5)) for n in LEARNED_LAYERS]
        self._shape = ElementShape(
            [*(layer_shape(Opinion(n, Outcome.PASS)) for n in RULE_LAYERS), *learned], 0.5, True
        )

    def ask(self, question: Question) -> None:
        """Answered when the loop comes round."""
        answer = Answer(question.request, [self._shape] * len(question.chain), "b" * 64)
        asyncio.get_running_loop().call_soon(self._relay.answered, answer)


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("guard_soak", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="the site")
    made.add_argument("--commands", type=int, default=1_000_000, help="loaded, judged and triggered")
    made.add_argument(
        "--seconds", type=float, default=7200.0, help="end after so long, however many there were"
    )
    arguments = made.parse_args(argv)
    quickly(arguments, commands=2000)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    memory = Path("/dev/shm")  # the log's folder is not what is measured here
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="sw-", dir=where, ignore_cleanup_errors=True) as name:
        result = asyncio.run(soaked(Path(name), arguments, sayer()))
    result["log_in_memory"] = where is not None
    save(arguments, "guard_soak", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


def lines_of(site: Site, device: Device) -> list[tuple[bytes, int]]:
    """Loads of different examinations, as lines with places for names; and how many commands each has."""
    made: list[tuple[bytes, int]] = []
    for number in itertools.count():
        examination = site.examination(number)
        if examination.commands[0].device != device:
            continue
        chain = tuple(replace(element_of(c), auto=False) for c in examination.commands)
        line = stream.encode(Load(LOAD_ID.decode(), STUDY.decode(), PATIENT.decode(), chain))
        made.append((line, len(chain)))
        if len(made) == DIFFERENT:
            return made
    raise AssertionError


async def soaked(folder: Path, asked: argparse.Namespace, say: Say) -> dict[str, Any]:
    """As many commands as asked, with samples of memory."""
    site = Site(asked.seed)
    device = site.devices[DEVICE]
    (folder / "none").mkdir()  # no bundle: nobody reads it
    (folder / "none.pub").write_bytes(b"")
    nowhere = ("127.0.0.1", 9)
    fitting = fit_guard(
        folder / "g", site.models[DEVICE], device, folder / "none", folder / "none.pub", nowhere, nowhere
    )
    link = CallLink(device)
    guard = Guard(verified(load_config(fitting.config)), link)
    guard.judge = None
    guard.relay.judge = Content(guard.relay)
    lines = lines_of(site, device)
    samples: list[tuple[int, float, int, int]] = []
    commands = refused = held = 0
    await guard.start()
    try:
        while guard.relay.view().log is not Log.OK:
            await asyncio.sleep(0.05)
        begun = time.monotonic()
        for number in itertools.count():
            seconds = time.monotonic() - begun
            if commands >= len(samples) * asked.commands / SAMPLES:
                samples.append((commands, seconds, rss_kib_here(), rss_kib(guard.audit.pid)))
                carry_away(fitting.audit)
                if len(samples) % 20 == 0:
                    say(f"{commands} commands, {samples[-1][2] / 1024:.1f} MiB")
            if commands >= asked.commands or seconds > asked.seconds:
                break
            line, count = lines[number % DIFFERENT]
            name = f"L{number}"
            answer = await say_(link, named(line, name, number))
            if not isinstance(answer, Loaded):
                refused, held = refused + isinstance(answer, Refused), held + isinstance(answer, Held)
                if isinstance(answer, Held):
                    await say_(link, stream.encode(Cancel(f"C{number}", name)))
                continue
            for index in range(count):
                ended = await say_(link, stream.encode(Trigger(f"T{number}.{index}", name, index)))
                refused += isinstance(ended, Refused)
                commands += isinstance(ended, Done)
        seconds = time.monotonic() - begun
        if guard.crashed is not None:
            raise guard.crashed
    finally:
        await guard.close()
    gc.collect()
    return {
        "commands": commands,
        "seconds": seconds,
        "commands_per_s": commands / seconds,
        "different_examinations": DIFFERENT,
        "refused": refused,
        "held": held,
        "gantry": link.counts,
        "events": guard.relay.counters.handled,
        "samples": [{"commands": c, "s": s, "relay_KiB": r, "writer_KiB": w} for c, s, r, w in samples],
        "relay": grown([(c, r) for c, _, r, _ in samples]),
        "writer": grown([(c, w) for c, _, _, w in samples]),
    }


async def say_(link: CallLink, line: bytes) -> ToHost:
    """Say and wait."""
    async with asyncio.timeout(EACH_S):
        return await link.say(line)


def named(line: bytes, name: str, number: int) -> bytes:
    """A load of another patient."""
    line = line.replace(LOAD_ID, name.encode(), 1)
    return line.replace(STUDY, b"2.25.%d" % number, 1).replace(PATIENT, b"P%d" % number, 1)


def rss_kib_here() -> int:
    """This process."""
    return rss_kib(os.getpid())


def carry_away(folder: Path) -> None:
    """All but the newest segments of the log."""
    for path in sorted(folder.glob("*.audit"))[:-KEPT]:
        path.unlink()


def grown(samples: Sequence[tuple[int, int]], since: float = 0.1) -> dict[str, Any]:
    """Memory at 10 %, 50 % and the end (MiB), and the slope from ``since`` on with its interval of 95 %.

    The slope is that of a line through the means of ten blocks of samples.
    """
    from scipy.stats import t as student

    found = np.array(samples, float)
    most = found[-1, 0]

    def at(share: float) -> float:
        return float(found[np.searchsorted(found[:, 0], share * most), 1] / 1024)

    late = found[found[:, 0] >= since * most]
    blocks = np.array([block.mean(axis=0) for block in np.array_split(late, min(BLOCKS, len(late)))])
    x, y = blocks[:, 0] / 1e5, blocks[:, 1]
    centred = x - x.mean()
    slope = float((centred * y).sum() / (centred**2).sum())
    left = y - y.mean() - slope * centred
    spread = float(np.sqrt((left**2).sum() / (len(x) - 2) / (centred**2).sum()))
    half = float(student.ppf(0.975, len(x) - 2)) * spread
    return {
        "MiB_at_10": at(0.1),
        "MiB_at_50": at(0.5),
        "MiB_at_100": float(found[-1, 1] / 1024),
        "KiB_per_100000": {"value": slope, "low": slope - half, "high": slope + half},
    }


def report(told: dict[str, Any]) -> str:
    """For people."""
    rows = []
    for name in ("relay", "writer"):
        one = told[name]
        samples = [(x["commands"], x[f"{name}_KiB"]) for x in told["samples"]]
        both = [grown(samples, since)["KiB_per_100000"] for since in (0.1, 0.5)]
        slopes = [f"{s['value']:.0f} ({s['low']:.0f} to {s['high']:.0f})" for s in both]
        rows.append([name, *(f"{one[f'MiB_at_{p}']:.1f}" for p in (10, 50, 100)), *slopes])
    return (
        f"{told['commands']} commands ({told['gantry']['loads']} loads) in {told['seconds']:.0f} s, "
        f"{told['commands_per_s']:.0f} a second; {told['different_examinations']} different examinations come again, "
        f"each time of another patient. Refused {told['refused']}, held {told['held']}. The relay's process also plays "
        "host and gantry.\n\n"
        + table(
            [
                "process",
                "MiB at 10 %",
                "at 50 %",
                "at the end",
                "slope from 10 % on, KiB per 100,000 commands",
                "slope of the second half",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()

"""A guard whose parts are killed at random moments while examinations run, and whose wires, disk and clock go bad.

An emulated gantry, host and operator (processes of their own, over loopback, without TLS) and the real guard with
relay, judge and audit writer. SIGKILL goes to one of them at a random moment; whoever was killed is started again at
once, as a service manager would (judge and writer by the relay). At the end what the gantry says that it received is
compared with the audit log (`guard_checks`): nothing unjudged, nothing without a record, nothing twice.

Then, with a wire between guard and gantry and between host and guard: delay, silence, a cut, a peer that stops
reading, a relay, judge or writer that is stopped, a disk that is full (a limit on the size of the log's files), and
a wall clock that jumps (the guard's own, not the system's).

  python -m benchmarks.guard_faults --kills 500
  python -m benchmarks.guard_faults --quick
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import FINAL_SEEDS, Say, parser, plain, quickly, save, sayer, table
from benchmarks.guard_checks import compare, entries
from benchmarks.guard_rig import DEVICE, children_of, learned
from benchmarks.guard_scene import Scene
from scanward.audit import verify
from scanward.codecs import stream
from scanward.commands.wire import Channel, Hello, Stop
from scanward.emulator.wires import connect
from scanward.keys import VerifyKey
from scanward.simulation import Site

KILLED = ("relay", "judge", "writer", "host", "gantry", "console")
AFTER_S = (0.02, 1.0)  # s after everything goes again, at a moment of which the next one is killed
LASTS_S = 5.0  # s that a wire is silent, a process stopped, the disk full
DELAY_S = 0.2  # s, each way, on both wires
JUMP_S = 3600.0


@dataclass
class Fault:
    """One fault and what came of it. Times are s on the system's monotonic clock; None: it did not happen."""

    name: str
    at: float
    healed: float
    recovered: float | None = None
    safe: float | None = None
    decided: int = 0  # loads that were asked and armed while it lasted
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def recovery(self) -> float | None:
        """From when the fault was over (a kill is over at once) to the first load decided."""
        return None if self.recovered is None else self.recovered - self.healed


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("guard_faults", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="the site, and of what is random")
    made.add_argument("--kills", type=int, default=500, help="random moments")
    made.add_argument("--seconds", type=float, default=3600.0, help="no more kills after so long")
    made.add_argument("--repeats", type=int, default=3, help="of each of the other faults")
    made.add_argument("--examinations", type=int, default=2000, help="the bundle was learned from")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--factor", type=float, default=20.0, help="gantry seconds per second")
    arguments = made.parse_args(argv)
    quickly(arguments, kills=6, repeats=1, examinations=300, budget=0.02)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    bundle = learned(arguments.seed, arguments.examinations, arguments.budget, quick=arguments.quick, say=say)
    result: dict[str, Any] = {"bundle": bundle.told}
    with tempfile.TemporaryDirectory(prefix="sw-", ignore_cleanup_errors=True) as name:
        for part, run in (("kills", kills), ("others", others)):
            say(part)
            result[part] = asyncio.run(run(Path(name) / part, bundle.model, bundle.trust, arguments, say))
    save(arguments, "guard_faults", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


# --- kills ------------------------------------------------------------------------------------------------
async def kills(
    folder: Path, bundle: Path, trust: Path, asked: argparse.Namespace, say: Say
) -> dict[str, Any]:
    """SIGKILL at random moments, in turns of all six in random order."""
    draw = random.Random(asked.seed)
    faults: list[Fault] = []
    trouble: list[str] = []
    scene = await Scene.begin(
        folder, asked.seed, bundle, trust, start_at=asked.examinations, factor=asked.factor
    )
    begun = time.monotonic()
    try:
        turn: list[str] = []
        while len(faults) < asked.kills and time.monotonic() - begun < asked.seconds:
            turn = turn or draw.sample(KILLED, len(KILLED))
            await asyncio.sleep(draw.uniform(*AFTER_S))
            faults.append(await killed(scene, turn.pop(), trouble))
            if len(faults) % 20 == 0:
                say(f"{len(faults)} killed; {sum(f.recovered is None for f in faults)} never recovered")
    finally:
        await scene.close()
    return told_of(scene, faults, trouble)


async def killed(scene: Scene, who: str, trouble: list[str]) -> Fault:
    """Kill one of them, start it again, wait until a load is decided."""
    children = scene.guard.children()
    at = time.monotonic()
    match who:
        case "relay":
            await asyncio.to_thread(scene.guard.kill)
            await scene.start_guard()
        case "judge" | "writer":
            if who not in children:  # killed before, and not there again: the next turn finds it
                return Fault(f"{who}, not there yet", at, at, at)
            with suppress(ProcessLookupError):
                os.kill(children[who], signal.SIGKILL)
        case "host":
            await asyncio.to_thread(scene.host.kill)
            scene.start_host()
        case "gantry":
            await asyncio.to_thread(scene.gantry.kill)
            scene.start_gantry()
        case "console":
            await asyncio.to_thread(scene.console.kill)
            scene.console.start()
    fault = Fault(who, at, at)
    await recovered(scene, fault, trouble)
    if who == "relay":
        left = [name for name, pid in children.items() if await lives(pid)]
        trouble += [f"the {name} of a killed relay lives on" for name in left]
    return fault


async def recovered(scene: Scene, fault: Fault, trouble: list[str]) -> None:
    """Wait until a load is decided, and look when the gantry was in its safe state."""
    try:
        fault.recovered = (await scene.decided(fault.healed))["t"]
    except TimeoutError as error:
        trouble.append(f"after {fault.name}: {error}")
    end = fault.recovered or time.monotonic()
    fault.safe = next((s["t"] for s in scene.journals["gantry"].of("safe", fault.at) if s["t"] <= end), None)
    fault.decided = sum(
        s["kind"] == "Load" and s["asked"] >= fault.at and s["how"] == "done" and s["t"] <= fault.healed
        for s in scene.journals["host"].of("answer", fault.at)
    )


async def lives(pid: int) -> bool:
    """Whether a process is still there after a while."""
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return False
        await asyncio.sleep(0.05)
    return True


# --- wires, stopped processes, disk, clock ----------------------------------------------------------------
Make = Callable[[Scene, Fault], Awaitable[None]]


async def others(
    folder: Path, bundle: Path, trust: Path, asked: argparse.Namespace, say: Say
) -> dict[str, Any]:
    """Everything else that may go bad, one after the other."""
    draw = random.Random(asked.seed)
    faults: list[Fault] = []
    trouble: list[str] = []
    scene = await Scene.begin(
        folder, asked.seed, bundle, trust, start_at=asked.examinations, factor=asked.factor, wired=True
    )
    try:
        for number in range(asked.repeats):
            for name, make in OTHERS.items():
                say(f"{number + 1} of {asked.repeats}: {name}")
                await asyncio.sleep(draw.uniform(*AFTER_S))
                fault = Fault(name, time.monotonic(), 0.0)
                await make(scene, fault)
                fault.healed = time.monotonic()
                await recovered(scene, fault, trouble)
                faults.append(fault)
    finally:
        await scene.close()
    return told_of(scene, faults, trouble)


async def slow(scene: Scene, fault: Fault) -> None:
    """Both wires are slow."""
    for wire in scene.wires.values():
        wire.delay = DELAY_S
    await asyncio.sleep(LASTS_S)
    for wire in scene.wires.values():
        wire.delay = 0.0


def silent(which: str) -> Make:
    """A wire passes nothing and is not closed."""

    async def make(scene: Scene, fault: Fault) -> None:
        scene.wires[which].silent(True)
        try:
            await asyncio.sleep(LASTS_S)
        finally:
            scene.wires[which].silent(False)

    return make


def cut(which: str) -> Make:
    """Every connection of a wire is reset; the next ones pass."""

    async def make(scene: Scene, fault: Fault) -> None:
        scene.wires[which].cut()

    return make


def stopped(who: str) -> Make:
    """SIGSTOP: there, connected, and neither reading nor writing."""

    async def make(scene: Scene, fault: Fault) -> None:
        pids = {"relay": scene.guard.pid, "host": scene.host.pid, "gantry": scene.gantry.pid}
        number = (pids | children_of(scene.guard.pid))[who]
        os.kill(number, signal.SIGSTOP)
        try:
            await asyncio.sleep(LASTS_S)
        finally:
            with suppress(ProcessLookupError):  # a judge was killed at its deadline
                os.kill(number, signal.SIGCONT)

    return make


async def full(scene: Scene, fault: Fault) -> None:
    """The log's files may not grow: new loads are refused, a stop passes."""
    writer = children_of(scene.guard.pid)["writer"]
    before = resource.prlimit(writer, resource.RLIMIT_FSIZE)
    size = max(p.stat().st_size for p in scene.fitting.audit.glob("*.audit"))
    resource.prlimit(writer, resource.RLIMIT_FSIZE, (size + 4096, before[1]))
    try:
        await asyncio.sleep(LASTS_S / 2)
        fault.facts["stop_ms"] = 1000 * await stop(scene)
        await asyncio.sleep(LASTS_S / 2)
    finally:
        resource.prlimit(writer, resource.RLIMIT_FSIZE, before)
    fault.facts["refused_for_the_log"] = sum(
        s["how"] == "refused" and "audit log" in s["reason"]
        for s in scene.journals["host"].of("answer", fault.at)
    )


async def stop(scene: Scene) -> float:
    """Seconds from a stop to the gantry, by a connection of its own."""
    lines = await connect(*scene.host_to)
    try:
        lines.send(stream.encode(Hello(Site(scene.seed).devices[DEVICE], Channel.STOP)))
        await lines.next()
        at = time.monotonic()
        lines.send(stream.encode(Stop()))
        return float((await scene.until("gantry", "stop", at, 10.0))["t"]) - at
    finally:
        await lines.close()


def jump(seconds: float) -> Make:
    """The guard's wall clock is set, and set back; nothing is to come of it but two records."""

    async def make(scene: Scene, fault: Fault) -> None:
        scene.set_clock(seconds)
        await asyncio.sleep(LASTS_S)
        scene.set_clock(0.0)

    return make


OTHERS: dict[str, Make] = {
    "delay of 200 ms each way": slow,
    "gantry's wire silent": silent("gantry"),
    "host's wire silent": silent("host"),
    "gantry's wire cut": cut("gantry"),
    "host's wire cut": cut("host"),
    "relay stopped": stopped("relay"),
    "judge stopped": stopped("judge"),
    "writer stopped": stopped("writer"),
    "gantry stopped (half-open)": stopped("gantry"),
    "host stopped (half-open)": stopped("host"),
    "disk full": full,
    "clock an hour on, and back": jump(JUMP_S),
    "clock an hour back, and on": jump(-JUMP_S),
}


# --- what came of it --------------------------------------------------------------------------------------
def told_of(scene: Scene, faults: Sequence[Fault], trouble: list[str]) -> dict[str, Any]:
    """The gantry's journal against the log, and figures for each kind of fault."""
    for tail in scene.journals.values():
        tail.look()
    journal, log = scene.journals["gantry"].said, entries(scene.fitting.audit)
    checked = compare(journal, log)
    whole = verify(scene.fitting.audit, [VerifyKey.load(scene.fitting.folder / "audit.pub")])
    checked.wrong += [f"the log: {finding.what}" for finding in whole.findings] + trouble
    if checked.lives != scene.guard.lives:
        checked.wrong.append(f"the relay lived {scene.guard.lives} times, the log tells of {checked.lives}")
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.name, []).append(fault)
    scans = aborted(journal, faults)
    ended = scene.journals["host"].of("ended")
    return {
        "faults": len(faults),
        "checked": checked.as_json(),
        "examinations": {"ended": len(ended), "whole": sum(a["ok"] for a in ended)},
        "records": len(log),
        "clock_jumps_recorded": sum(e.kind == "audit.clock_jump" for e in log),
        "by_fault": {
            name: {
                "times": len(of),
                "recovery_s": quantiles([f.recovery for f in of]),
                "safe_s": quantiles([f.safe - f.at if f.safe else None for f in of]),
                "loads_while_it_lasted": sum(f.decided for f in of),
                "scans_aborted": sum(s["fault"] == name for s in scans),
                "repeat_CTDIvol_mGy": sum(s["ctdivol"] for s in scans if s["fault"] == name),
                "repeat_DLP_mGy_cm": sum(s["dlp"] for s in scans if s["fault"] == name),
                "facts": [f.facts for f in of if f.facts],
            }
            for name, of in kinds.items()
        },
        "aborted": scans,
    }


def aborted(journal: Sequence[dict[str, Any]], faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Scans that were begun and not ended, by the fault during which it happened: dose that was given for nothing.

    A scan that its gantry did not live to end has given its share until then: of its length, hence of its DLP; the
    CTDIvol of what was scanned is the whole scan's.
    """
    found: list[dict[str, Any]] = []
    begun: dict[str, Any] | None = None

    def note(at: float, ctdivol: float, dlp: float) -> None:
        names = [f.name for f in faults if f.at <= at <= (f.recovered or math.inf)]
        found.append({"fault": names[-1] if names else "the end of the run", "ctdivol": ctdivol, "dlp": dlp})

    for said in journal:
        if said["what"] == "begun":
            begun = said
        elif said["what"] == "acquired":
            if said["aborted"]:
                note(said["t"], said["ctdivol"], said["dlp"])
            begun = None
        elif said["what"] == "ready" and begun is not None:  # another gantry: this one was killed
            at = next((f.at for f in reversed(faults) if f.at <= said["t"]), said["t"])
            share = min(1.0, max(0.0, at - begun["t"]) / max(begun["seconds"], 1e-9))
            note(at, begun["ctdivol"], share * begun["dlp"])
            begun = None
    return found


def quantiles(values: Sequence[float | None]) -> dict[str, float | int] | None:
    """Median, 99th percentile and maximum of what happened, and how often it did."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    p50, p99 = np.quantile(known, [0.5, 0.99])
    return {"times": len(known), "p50": float(p50), "p99": float(p99), "max": max(known)}


def report(told: dict[str, Any]) -> str:
    """For people."""
    bundle = told["bundle"]
    parts = [
        f"The judge's bundle was learned from {bundle['examinations']} examinations "
        f"({bundle['bytes'] / 1e6:.1f} MB). One examination in six is attacked (dose x3), so that the operator has "
        "something to decide. The recovery of a judge or a relay holds the start of Python and the reading of the "
        "bundle; the gantry's and the host's that of the emulators. A host that hears nothing for 3 s gives the "
        "examination up, which is how it learns that a gantry is gone."
    ]
    for part, title in (
        ("kills", "SIGKILL at random moments"),
        ("others", "Wires, stopped processes, disk, clock"),
    ):
        parts.append(f"### {title}\n\n{words(told[part])}\n\n{rows(told[part])}")
    return "\n\n".join(parts)


def words(one: dict[str, Any]) -> str:
    """What the comparison of journal and log found."""
    checked, done, wrong = one["checked"], one["examinations"], one["checked"]["wrong"]
    return (
        f"{one['faults']} faults in {done['ended']} examinations, {done['whole']} of which were carried out whole. "
        f"The gantry received {checked['loads']} loads ({checked['by_operator']} of them released by the operator) "
        f"and {checked['triggers']} triggers. Unjudged, unlike what was judged, without a record, sent twice, or "
        f"never recovered: **{len(wrong)}**{': ' + '; '.join(wrong[:5]) if wrong else ''}. Triggers of a chain "
        f"already begun that passed before their record, written later (docs/hazards.md, B1): {checked['committed']}. "
        "Releases and triggers that a killed relay left open, all of them told as unknown by the next one and never "
        f"sent again: {checked['unknown']}, {checked['unknown_sent']} of which had reached the gantry. The log has "
        f"{one['records']} records of {checked['lives']} lives of a relay; jumps of the clock recorded: "
        f"{one['clock_jumps_recorded']}."
    )


def rows(one: dict[str, Any]) -> str:
    """One row for each kind of fault."""
    made = []
    for name, f in one["by_fault"].items():
        facts = f["facts"]
        if facts:
            slowest, refused = max(x["stop_ms"] for x in facts), sum(x["refused_for_the_log"] for x in facts)
            name = f"{name}: a stop took {slowest:.0f} ms at most, {refused} loads were refused"
        made.append(
            [
                name,
                str(f["times"]),
                _times(f["recovery_s"]),
                _times(f["safe_s"]),
                str(f["loads_while_it_lasted"]),
                str(f["scans_aborted"]),
                f"{f['repeat_CTDIvol_mGy']:.1f}",
                f"{f['repeat_DLP_mGy_cm']:.0f}",
            ]
        )
    spread = "p50 / p99 / max (s)"
    head = [
        "fault",
        "times",
        f"over until the next load is decided, {spread}",
        f"gantry safe after, {spread}",
    ]
    head += ["loads armed meanwhile", "scans aborted", "repeat dose: CTDIvol (mGy)", "DLP (mGy cm)"]
    return table(head, made)


def _times(told: dict[str, Any] | None) -> str:
    if told is None:
        return "-"
    return f"{told['p50']:.2f} / {told['p99']:.2f} / {told['max']:.2f} ({told['times']} times)"


if __name__ == "__main__":
    main()

"""A clean list of 10,000 commands through the whole guard: lost, reordered, released twice; false alerts; time added.

The emulated host plays clean examinations, which the bundle has never seen, over TLS to the real guard (relay,
judge, audit writer) and on to the emulated gantry. Every fifth examination is played once more past a plain relay
that only copies bytes, to a second gantry alike, in the same run: the time added is the difference. Hosts and gantries
keep journals; they are compared with each other and with the audit log.

  python -m benchmarks.guard_clean --commands 10000
  python -m benchmarks.guard_clean --quick
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import FINAL_SEEDS, Say, parser, plain, quickly, save, sayer, table
from benchmarks.guard_checks import compare, entries
from benchmarks.guard_ends import End, Journal, JournalHost, Tail, run_console, run_gantry, supply
from benchmarks.guard_rig import DEVICE, GuardProcess, Learned, learned, rss_kib
from benchmarks.guard_scene import free_port
from scanward.audit import verify
from scanward.commands import Device, Examination
from scanward.emulator import certificates
from scanward.emulator.fitting import OPERATOR, fit_guard
from scanward.emulator.host import chains_of
from scanward.emulator.play import Played, RoomDoor, patient_of, run_chain, study_of
from scanward.emulator.wires import Tls
from scanward.keys import VerifyKey
from scanward.simulation import Site

COPIER = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()
async def serve(reader, writer):
    back, there = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    await asyncio.gather(copy(reader, there), copy(back, writer), return_exceptions=True)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
EVERY = 5  # one examination in so many goes past the plain relay too
LONG_S = 90.0


@dataclass
class Way:
    """A host's way to a gantry."""

    host: JournalHost
    door: RoomDoor


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("guard_clean", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="the site")
    made.add_argument("--commands", type=int, default=10_000, help="clean commands through the guard")
    made.add_argument("--seconds", type=float, default=3600.0, help="no more examinations after so long")
    made.add_argument("--examinations", type=int, default=2000, help="the bundle was learned from")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--factor", type=float, default=5000.0, help="gantry seconds per second")
    arguments = made.parse_args(argv)
    quickly(arguments, commands=60, examinations=300, budget=0.02)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    bundle = learned(arguments.seed, arguments.examinations, arguments.budget, quick=arguments.quick, say=say)
    with tempfile.TemporaryDirectory(prefix="sw-", ignore_cleanup_errors=True) as name:
        result = asyncio.run(measured(Path(name), bundle, arguments, say))
    save(arguments, "guard_clean", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


async def measured(folder: Path, bundle: Learned, asked: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Everything between the first process started and the last one ended."""
    site = Site(asked.seed)
    device = site.devices[DEVICE]
    tls = certificates.make(folder / "tls")
    names = ("host", "gantry", "plain host", "plain gantry", "console")
    tails = {name: Tail(folder / f"{name.replace(' ', '-')}.jsonl") for name in names}
    commands = 0
    memory: list[dict[str, int]] = []  # KiB of each process
    async with AsyncExitStack() as stack:
        doors, ports = [], []
        for name in ("gantry", "plain gantry"):
            end = End(run_gantry, tails[name].path, asked.seed, asked.factor, 0, 0, tls["gantry"])
            stack.callback(end.kill)
            end.start()
            ready = await said(tails[name], "ready")
            doors.append(("127.0.0.1", ready["room"]))
            ports.append(ready["port"])
        fitting = fit_guard(
            folder / "guard", site.models[DEVICE], device, bundle.model, bundle.trust, ("127.0.0.1", ports[0]),
            ("127.0.0.1", free_port()), tls=made_again(folder, tls), hold_s=20.0,
        )  # fmt: skip
        guard = GuardProcess(fitting.config)
        stack.callback(guard.kill)
        started = time.monotonic()
        guard.start()
        await asyncio.to_thread(guard.wait_ready)
        console = End(run_console, tails["console"].path, fitting.socket, fitting.operator, OPERATOR, 1)
        stack.callback(console.kill)
        console.start()
        copier = subprocess.Popen(
            [sys.executable, "-c", COPIER, str(ports[1])], stdout=subprocess.PIPE, text=True
        )
        stack.callback(ended, copier)
        assert copier.stdout is not None
        past = int(await asyncio.to_thread(copier.stdout.readline))
        ways = [
            await stack.enter_async_context(way(at, room, device, tls["host"], tails[name].path, name))
            for at, room, name in ((guard.port, doors[0], "host"), (past, doors[1], "plain host"))
        ]
        judged = await first_verdict(ways[0], tails, asked)
        begun = time.monotonic()
        for count, (_, examination) in enumerate(supply(asked.seed, asked.examinations + 20, 0), 1):
            if commands >= asked.commands or time.monotonic() - begun > asked.seconds:
                break
            await played(ways[0], examination)
            if count % EVERY == 0:
                await played(ways[1], examination)
            commands += len(examination.commands)
            if count % 100 == 1:
                pids = {"relay": guard.pid, **guard.children()}
                memory.append({"commands": commands, **{name: rss_kib(pid) for name, pid in pids.items()}})
            if count % 200 == 0:
                say(f"{commands} commands in {count} examinations")
        seconds = time.monotonic() - begun
        status = await asyncio.to_thread(guard.stop)
    for tail in tails.values():
        tail.look()
    log = entries(fitting.audit)
    whole = verify(fitting.audit, [VerifyKey.load(fitting.folder / "audit.pub")])
    checked = compare(tails["gantry"].said, log)
    checked.wrong += [finding.what for finding in whole.findings] + ["the guard crashed"] * (status != 0)
    return {
        "bundle": bundle.told,
        "first_verdict_s": judged - started,
        "seconds": seconds,
        "checked": checked.as_json(),
        **flow(tails["host"].said, tails["gantry"].said, begun),
        "alerts": alerts(tails["host"].said, begun, asked.budget),
        "time": times(tails, begun),
        "memory_KiB": memory,
    }


def made_again(folder: Path, tls: dict[str, Tls]) -> dict[str, Tls]:
    """The guard's own files lie in its folder, as its configuration says."""
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard" / "tls").symlink_to(folder / "tls")
    return tls


@asynccontextmanager
async def way(
    port: int, room: tuple[str, int], device: Device, tls: Tls, journal: Path, name: str
) -> AsyncIterator[Way]:
    """A host that is connected, and the door of its gantry's room."""
    door = await RoomDoor.open(*room)
    try:
        host = await JournalHost.open("127.0.0.1", port, device, tls)
        host.journal, host.names, host.prefix = Journal(journal), itertools.count(1), name[0]
        try:
            yield Way(host, door)
        finally:
            await host.close()
    finally:
        await door.close()


async def played(way: Way, examination: Examination) -> Played:
    """One examination, all of it, whatever is refused."""
    way.host.said.clear()
    way.host.journal("examination", id=examination.identifier)
    await way.door.enter(patient_of(examination))
    made = Played()
    study, patient = study_of(examination.identifier), f"SIM-{examination.identifier[:12]}"
    for chain in chains_of(examination):
        await run_chain(way.host, way.door, chain, study, patient, made)
    return made


async def first_verdict(way: Way, tails: dict[str, Tail], asked: argparse.Namespace) -> float:
    """When the first load was armed: the judge reads its bundle first."""
    end = time.monotonic() + LONG_S
    for _, examination in itertools.cycle(itertools.islice(supply(asked.seed, asked.examinations, 0), 5)):
        made = await played(way, examination)
        if made.loads[0][1].ok:
            return float(tails["gantry"].of("load")[0]["t"])
        if time.monotonic() > end:
            break
    raise RuntimeError("the guard releases nothing")


async def said(tail: Tail, what: str) -> dict[str, Any]:
    """The first entry of that kind."""
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        if found := tail.of(what):
            return found[0]
        await asyncio.sleep(0.02)
    raise RuntimeError(f"{tail.path.stem} does not say '{what}'")


def ended(process: subprocess.Popen[str]) -> None:
    """End it."""
    process.kill()
    process.wait(30)
    if process.stdout is not None:
        process.stdout.close()


# --- what came of it --------------------------------------------------------------------------------------
def flow(host: Sequence[dict[str, Any]], gantry: Sequence[dict[str, Any]], since: float) -> dict[str, Any]:
    """What the host sent against what the gantry received: the same, in the same order, once."""
    answers = {s["id"]: s for s in host if s["what"] == "answer"}
    asked = [s for s in host if s["what"] == "ask" and s["t"] >= since]
    got = [s for s in gantry if s["what"] in ("load", "trigger") and s["t"] >= since]
    received = {s["id"]: s for s in got}
    passed = [a["id"] for a in asked if a["id"] in received]
    done = [a["id"] for a in asked if answers.get(a["id"], {}).get("how") == "done"]
    unlike = [
        a["id"]
        for a in asked
        if a["digest"] and a["id"] in received and a["digest"] != received[a["id"]]["digest"]
    ]
    refusals: dict[str, int] = {}
    for a in asked:
        how = answers.get(a["id"], {"how": "unanswered", "reason": ""})
        if how["how"] != "done":
            words = f"{how['how']}: {how['reason']}"
            refusals[words] = refusals.get(words, 0) + 1
    return {
        "examinations": sum(s["what"] == "examination" and s["t"] >= since for s in host),
        "loads": sum(a["kind"] == "Load" for a in asked),
        "triggers": sum(a["kind"] == "Trigger" for a in asked),
        "commands": sum(s["n"] for s in got if s["what"] == "load"),
        "lost": len(set(done) - set(received)),
        "unasked": len(set(received) - {a["id"] for a in asked}),
        "twice": len(got) - len(received),
        "reordered": sum(a != b for a, b in zip(passed, [s["id"] for s in got], strict=False)),
        "changed": len(unlike),
        "not_carried_out": refusals,
    }


def alerts(host: Sequence[dict[str, Any]], since: float, budget: float) -> dict[str, Any]:
    """Examinations with a hold or a refusal by a layer, with the exact (Clopper-Pearson) interval of 95 %."""
    from scipy.stats import beta

    count, alerted, fresh = 0, 0, False
    why: dict[str, int] = {}
    for s in host:
        if s["t"] < since:
            continue
        if s["what"] == "examination":
            count, fresh = count + 1, True
        elif s["what"] == "answer" and s["kind"] == "Load":
            objected = s["held"] or (s["how"] == "refused" and not s["again"] and s["reason"])
            if objected:
                why[objected] = why.get(objected, 0) + 1
                alerted, fresh = alerted + fresh, False
    low = float(beta.ppf(0.025, alerted, count - alerted + 1)) if alerted else 0.0
    high = float(beta.ppf(0.975, alerted + 1, count - alerted)) if alerted < count else 1.0
    return {
        "examinations": count,
        "alerted": alerted,
        "share": {"value": alerted / max(1, count), "low": low, "high": high},
        "budget": budget,
        "why": dict(sorted(why.items(), key=lambda x: -x[1])[:10]),
    }


def times(tails: dict[str, Tail], since: float) -> dict[str, Any]:
    """From the host's load to the gantry's, and summed over an examination with its triggers: ms."""
    found: dict[str, Any] = {}
    whole: dict[str, dict[str, float]] = {}
    for way_, host, gantry in (("guard", "host", "gantry"), ("plain", "plain host", "plain gantry")):
        received = {s["id"]: s["t"] for s in tails[gantry].said if s["what"] in ("load", "trigger")}
        held = {s["id"] for s in tails[host].said if s["what"] == "answer" and s["held"]}
        each: dict[str, list[float]] = {"Load": [], "Trigger": []}
        sums: dict[str, float] = {}
        now = ""
        for s in tails[host].said:
            if s["t"] < since:
                continue
            if s["what"] == "examination":
                now = s["id"]
                sums[now] = 0.0
            elif s["what"] == "ask" and s["id"] in received and s["id"] not in held:
                lasted = 1000 * (received[s["id"]] - s["t"])
                each[s["kind"]].append(lasted)
                sums[now] += lasted
        whole[way_] = sums
        found[way_] = {kind.lower(): quantiles(values) for kind, values in each.items()}
    both = [whole["guard"][name] - ms for name, ms in whole["plain"].items() if name in whole["guard"]]
    found["added_to_examination"] = quantiles(both)
    return found


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile, maximum."""
    if not values:
        return {}
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {"count": len(values), "p50": float(p50), "p99": float(p99), "max": float(max(values))}


def report(told: dict[str, Any]) -> str:
    """For people."""
    bundle, alert, time_ = told["bundle"], told["alerts"], told["time"]
    share = alert["share"]
    wrong = told["checked"]["wrong"]
    not_done = "; ".join(f"{n} x {w}" for w, n in told["not_carried_out"].items()) or "none"
    parts = [
        f"{told['commands']} commands of {told['examinations']} clean examinations ({told['loads']} loads, "
        f"{told['triggers']} triggers), TLS, in {told['seconds']:.0f} s; bundle learned from "
        f"{bundle['examinations']} examinations ({bundle['bytes'] / 1e6:.1f} MB). Start of the guard to the first load "
        f"armed: {told['first_verdict_s']:.1f} s.",
        f"Lost {told['lost']}, reordered {told['reordered']}, twice at the gantry {told['twice']}, not asked for "
        f"{told['unasked']}, changed on the way {told['changed']}; against the log "
        f"(released unjudged or without a record): {len(wrong)}{': ' + '; '.join(wrong[:5]) if wrong else ''}. "
        f"Not carried out: {not_done}.",
        f"Examinations alerted: {alert['alerted']} of {alert['examinations']} = {100 * share['value']:.2f} % "
        f"({100 * share['low']:.2f} to {100 * share['high']:.2f}, exact binomial), budget {100 * alert['budget']:g} %.",
    ]
    rows = []
    for kind in ("load", "trigger"):
        for name in ("guard", "plain"):
            t = time_[name][kind]
            if t:
                rows.append(
                    [f"{kind}, {name}", *(f"{t[p]:.1f}" for p in ("p50", "p99", "max")), str(t["count"])]
                )
    t = time_["added_to_examination"]
    if t:
        name = "**added from door to scan**, whole examination"
        rows.append([name, *(f"{t[p]:.1f}" for p in ("p50", "p99", "max")), str(t["count"])])
    parts.append(table(["host to gantry", "p50 (ms)", "p99 (ms)", "max (ms)", "count"], rows))
    if memory := told.get("memory_KiB"):
        told_of = (
            f"{name} {memory[len(memory) // 10].get(name, 0) / 1024:.1f} and {memory[-1].get(name, 0) / 1024:.1f}"
            for name in ("relay", "judge", "writer")
        )
        parts.append(f"Memory of the processes after a tenth and at the end (MiB): {', '.join(told_of)}.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()

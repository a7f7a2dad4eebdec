"""Several processes at one run: each takes the next unit of work when it has done one.

Processes are spawned, not forked (neither torch nor ONNX Runtime survives a fork of its threads), each with one thread
for its mathematics. One that dies, of memory or of a library that aborts, costs the method that it was at: that is told
as failed, and a new process goes on. When the run itself dies they end with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from scanward import __version__
from scanward.errors import LearningError, ScanwardError
from scanward.learning.benchmark.running import Bench, Event, Job, News, Tell, Unit, missing_of
from scanward.learning.benchmark.store import Cell, Failed, Store

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
STOP_SECONDS = 5.0  # that a process has to end when told so
CRASHED = "its process ended"


@dataclass
class Hand:
    """One process, and what it is at."""

    process: SpawnProcess
    line: Connection
    unit: Unit | None = None
    world: str = ""
    method: str = ""


def work_in_processes(job: Job, units: Sequence[Unit], workers: int, tell: Tell) -> None:
    """Do all units. Raises what went wrong outside the methods, the first of it."""
    for name in THREADS:
        os.environ[name] = "1"  # inherited by what is spawned
    left = deque(units)
    hands: list[Hand] = []
    try:
        hands = [_hire(job) for _ in range(min(workers, len(units)))]
        for hand in hands:
            _give(hand, left)
        while busy := [h for h in hands if h.unit is not None]:
            for line in wait([h.line for h in busy]):
                hand = next(h for h in busy if h.line is line)
                if not _heard(hand, tell):  # the line is closed: the process is no more
                    again = _lost(job, hand, tell)
                    hands[hands.index(hand)] = new = _hire(job)
                    left.appendleft(again)
                    _give(new, left)
                elif hand.unit is None:
                    _give(hand, left)
    finally:
        for hand in hands:
            _end(hand)


def _hire(job: Job) -> Hand:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, job), name="scanward benchmark")
    process.start()
    theirs.close()
    return Hand(process, mine)


def _give(hand: Hand, left: deque[Unit]) -> None:
    if left:
        hand.unit, hand.world, hand.method = left.popleft(), "", ""
        with suppress(BrokenPipeError, ConnectionResetError):  # it ended meanwhile: the line will say so
            hand.line.send(hand.unit)


def _heard(hand: Hand, tell: Tell) -> bool:
    """Take one message; False when there is nobody any more."""
    try:
        said = hand.line.recv()
    except (EOFError, ConnectionResetError):
        return False
    if isinstance(said, ScanwardError):
        raise said
    if said is None:  # the unit is done
        hand.unit = None
        return True
    if said.kind is News.MEASURING:
        hand.world, hand.method = said.world, said.text
    tell(said)
    return True


def _lost(job: Job, hand: Hand, tell: Tell) -> Unit:
    """A process died: its method is told as failed. What is left of its unit goes to another."""
    assert hand.unit is not None
    hand.process.join()
    how = f"{CRASHED} ({_how(hand.process.exitcode)})"
    if not hand.method:
        raise LearningError(
            f"a world cannot be made: {how}", "benchmark", "give fewer --workers or more memory"
        )
    store = Store(job.out, job.plan.sha256)
    worlds = [w for w in store.worlds() if w["name"] == hand.world]
    missing = missing_of(store, worlds, {hand.method: job.methods()[hand.method]})
    if not missing:  # no method's doing: another process would end in the same way
        raise LearningError(f"a process gave up: {how}", "benchmark", "give fewer --workers or more memory")
    for world, level, name in missing:
        facts = {"version": __version__, "commit": job.commit}
        store.keep(world, level, name, Cell(facts, None, Failed(how, "ProcessError")))
    text = f"{hand.method}, {hand.world}: {how}"
    store.log(f"FAILED {text}")
    tell(Event(News.FAILED, text))
    return hand.unit


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}, as when memory runs out" if name == "SIGKILL" else name
    return f"signal {-code}"


def _end(hand: Hand) -> None:
    """Let an idle process go, stop a busy one; nothing that is kept can be half written."""
    if hand.unit is None:
        with suppress(BrokenPipeError, ConnectionResetError):
            hand.line.send(None)
            hand.process.join(STOP_SECONDS)
    if hand.process.is_alive():
        hand.process.terminate()
        hand.process.join(STOP_SECONDS)
    if hand.process.is_alive():
        hand.process.kill()
        hand.process.join()
    hand.line.close()
    hand.process.close()


# --- in the process


def _serve(line: Connection, job: Job) -> None:
    """Do units until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of us: who spawned us decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _one_thread()
    try:
        bench = Bench(job, line.send)
        while (unit := line.recv()) is not None:
            bench.work(unit)
            line.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # whoever gave us work is gone
    except ScanwardError as error:
        line.send(error)
    except Exception as error:  # noqa: BLE001 - the outermost frame of a process: told where it can be seen
        Store(job.out, job.plan.sha256).log(f"ERROR {traceback.format_exc()}")
        told = f"{type(error).__name__}: {error}"
        line.send(
            LearningError(f"a process of the benchmark failed ({told})", "log.txt", "see its traceback there")
        )


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _one_thread() -> None:
    """Scanward learns its folds in processes of their own, which a process of many must not."""
    from scanward.learning.benchmark import ours

    ours.SETTINGS = replace(ours.SETTINGS, workers=1)

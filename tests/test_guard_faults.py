"""Parts of a running guard are killed at random moments; and the comparison that tells what that did, rule by rule."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _trained import SEED, TRAINED, Trained
from house import REPOSITORY
from scanward.config import AUDIT_BOUNDS
from scanward.guard import relay_audit
from scanward.guard.events import Log
from scanward.guard.relay_audit import AuditPort
from scanward.guard.relay_records import payload, retell
from scanward.keys import SigningKey, write_pair

sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product

from benchmarks import guard_faults, pages, run_all
from benchmarks.guard_checks import Entry, compare, entries
from benchmarks.guard_faults import Fault, aborted
from benchmarks.guard_soak import grown

Journal = list[dict[str, Any]]


# --- the comparison itself: a sound course, and everything that can be wrong with it


def journal() -> Journal:
    """What the gantry says: a load of two elements, each begun; and a load of which only the guard's end is known."""
    return [
        {"t": 3.0, "what": "load", "id": "L1", "digest": "d1", "n": 2},
        {"t": 5.0, "what": "trigger", "id": "T1", "load": "L1", "element": 0},
        {"t": 7.0, "what": "trigger", "id": "T2", "load": "L1", "element": 1},
        {"t": 13.0, "what": "load", "id": "L2", "digest": "d2", "n": 1},
    ]


def log() -> list[Entry]:
    """What the log says of it: L2 was on hold, and released by the operator; the relay died before it said "sent"."""
    told: list[tuple[float, int, dict[str, Any]]] = [
        (0.0, 1, {"kind": "start"}),
        (1.0, 1, {"kind": "verdict", "id": "L1", "request": 1, "verdict": "RELEASE"}),
        (2.0, 1, {"kind": "release", "id": "L1", "request": 1, "digest": "d1", "record": 2}),
        (3.5, 1, {"kind": "sent", "id": "L1", "token": 2}),
        (4.0, 1, {"kind": "trigger", "id": "T1", "load": "L1", "element": 0, "record": 4}),
        (5.5, 1, {"kind": "sent", "id": "T1", "token": 4}),
        (6.0, 1, {"kind": "trigger", "id": "T2", "load": "L1", "element": 1, "record": 6}),
        (7.5, 1, {"kind": "sent", "id": "T2", "token": 6}),
        (10.0, 1, {"kind": "verdict", "id": "L2", "request": 2, "verdict": "ALERT"}),
        (11.0, 1, {"kind": "operator", "id": "L2", "request": 2, "digest": "d2", "decision": "release"}),
        (12.0, 1, {"kind": "release", "id": "L2", "request": 2, "digest": "d2", "record": 9}),
        (20.0, 2, {"kind": "start"}),
        (21.0, 2, {"kind": "unknown", "id": "L2"}),
    ]
    return [Entry(at, life, said) for at, life, said in told]


def test_a_sound_course_has_nothing_wrong() -> None:
    found = compare(journal(), log())
    assert found.wrong == []
    assert (found.loads, found.triggers, found.by_operator, found.lives) == (2, 2, 1, 2)
    assert (found.unknown, found.unknown_sent, found.committed) == (1, 1, 0)


def without(number: int) -> Callable[[Journal, list[Entry]], None]:
    """The log lacks that record."""
    return lambda _, log: log.pop(number) and None


def said(number: int, **changes: Any) -> Callable[[Journal, list[Entry]], None]:
    """A record of the log says something else."""
    return lambda _, log: log[number].said.update(changes)


def got(number: int, **changes: Any) -> Callable[[Journal, list[Entry]], None]:
    """The gantry received something else."""
    return lambda journal, _: journal[number].update(changes)


def again(number: int) -> Callable[[Journal, list[Entry]], None]:
    """The gantry received it twice."""
    return lambda journal, _: journal.append({**journal[number], "t": 14.0})


def both(*changes: Callable[[Journal, list[Entry]], None]) -> Callable[[Journal, list[Entry]], None]:
    """One change after the other."""
    return lambda journal, log: [change(journal, log) for change in changes] and None


WRONG: dict[str, tuple[Callable[[Journal, list[Entry]], None], str]] = {
    "no verdict": (without(1), "load L1 was released without a verdict"),
    "verdict of another question": (said(1, request=7), "load L1 was released without a verdict"),
    "halted": (said(1, verdict="HALT"), "load L1 was released against the verdict HALT"),
    "no release": (without(2), "load L1 reached the gantry without a record of its release before it"),
    "sent before its release": (got(0, t=1.5), "load L1 reached the gantry without a record of its release"),
    "changed after the verdict": (got(0, digest="d9"), "load L1 is not what was released"),
    "nobody released it": (without(9), "load L2 was released against the verdict ALERT"),
    "the operator refused": (said(9, decision="refuse"), "load L2 was released against the verdict ALERT"),
    "the operator saw another": (said(9, digest="d9"), "load L2 was released against the verdict ALERT"),
    "no trigger's record": (without(4), "trigger T1 of L1/0 reached the gantry without a record before it"),
    "another element": (got(1, element=1), "trigger T1 of L1/1 is not what was recorded"),
    "two triggers, one arming": (got(2, element=0), "L1/0 was begun 2 times"),
    "no load for a trigger": (got(1, load="L9"), "trigger T1 of L9/0: the gantry holds no such load"),
    "a load twice": (again(0), "load L1 reached the gantry 2 times"),
    "a trigger twice": (again(1), "trigger T1 reached the gantry 2 times"),
    "never told of": (both(without(7), without(6)), "trigger T2 of L1/1 passed before its record"),
    "not told as unknown": (without(12), "release L2 was left open and is not told as unknown"),
    "sent after the restart": (got(3, t=22.0), "release L2 was sent after it was told as unknown"),
}


@pytest.mark.parametrize("name", WRONG)
def test_everything_wrong_is_found(name: str) -> None:
    change, reason = WRONG[name]
    received, written = journal(), log()
    change(received, written)
    assert any(reason in each for each in compare(received, written).wrong), compare(received, written).wrong


def test_a_trigger_of_a_chain_already_begun_may_come_before_its_record() -> None:
    received, written = journal(), log()
    without(6)(received, written)
    found = compare(received, written)
    assert (found.wrong, found.committed) == ([], 1)


def test_dose_of_scans_that_were_cut_short_counts_with_the_fault_that_did_it() -> None:
    faults = [Fault("relay", 10.0, 10.0, 12.0), Fault("gantry", 20.0, 20.0, 25.0)]
    whole = {"load": "L", "element": 0, "ctdivol": 8.0, "dlp": 100.0}
    found = aborted(
        [
            {"t": 9.0, "what": "begun", **whole, "seconds": 4.0},
            {"t": 10.5, "what": "acquired", **whole, "dlp": 30.0, "aborted": True},
            {"t": 13.0, "what": "begun", **whole, "seconds": 1.0},
            {"t": 14.0, "what": "acquired", **whole, "aborted": False},
            {"t": 19.0, "what": "begun", **whole, "seconds": 4.0},
            {"t": 22.0, "what": "ready"},
        ],
        faults,
    )
    assert [(f["fault"], f["dlp"]) for f in found] == [("relay", 30.0), ("gantry", pytest.approx(25.0))]


def test_a_leak_shows_as_a_slope_and_flat_memory_does_not() -> None:
    noise = [50_000 + n * 7919 % 101 for n in range(200)]
    flat = grown([(1000 * n, noise[n]) for n in range(200)])["KiB_per_100000"]
    leak = grown([(1000 * n, noise[n] + 2 * n) for n in range(200)])["KiB_per_100000"]
    assert flat["low"] < 0 < flat["high"]
    assert leak["low"] > 0
    assert math.isclose(leak["value"], 200, rel_tol=0.1)


# --- the real thing


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path: a socket's has little room."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_nothing_is_released_unjudged_or_twice_while_parts_are_killed(
    small_bundle: Trained, short: Path
) -> None:
    asked = argparse.Namespace(seed=SEED, kills=12, seconds=8.0, examinations=TRAINED, factor=40.0)
    told = asyncio.run(
        guard_faults.kills(short / "k", small_bundle.model, small_bundle.trust, asked, lambda line: None)
    )
    assert told["checked"]["wrong"] == []
    assert told["faults"] >= 1
    assert told["checked"]["loads"] >= 1
    assert all(one["recovery_s"]["times"] == one["times"] for one in told["by_fault"].values())
    assert guard_faults.words(told).startswith(f"{told['faults']} faults in ")
    assert all(f"| {name} |" in guard_faults.rows(told) for name in told["by_fault"])


# --- what acts first and is recorded after


class Heard:
    """Who listens to the log's port."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def durable(self, token: int) -> None:
        self.tokens.append(token)

    def log_is(self, condition: Log, reason: str) -> None:
        return

    def log_note(self, kind: str, data: dict[str, object]) -> None:
        return


def kept(folder: Path) -> list[dict[str, Any]]:
    return [entry.said for entry in entries(folder)]


def test_reserved_records_outlive_the_death_of_their_writer(tmp_path: Path) -> None:
    """A stop, or a trigger of a chain already begun, acts first; its record is written by the next writer."""
    write_pair(tmp_path / "log", SigningKey.from_seed(bytes([9]) * 32))
    (tmp_path / "audit").mkdir()
    heard = Heard()

    async def scene() -> None:
        port = AuditPort(tmp_path / "audit", tmp_path / "log.key", heard)

        async def until(ready: Callable[[], bool]) -> None:
            async with asyncio.timeout(60):
                while not ready():
                    await asyncio.sleep(0.01)

        port.start()
        try:
            await until(lambda: port.condition is Log.OK)
            first = port.pid
            os.kill(first, signal.SIGSTOP)  # what it is handed now goes with it
            port.send(1, payload("sent", 1, {}), reserved=True)
            port.send(2, payload("load", 2, {}), reserved=False)
            os.kill(first, signal.SIGKILL)
            await until(lambda: port.pid == 0)
            port.send(3, payload("trigger", 3, {}), reserved=True)  # while there is none
            port.note(payload("stop", 0, {}))
            await until(lambda: port.condition is Log.OK)
            assert port.pid != first
            port.send(4, payload("later", 4, {}), reserved=False)
            await until(lambda: heard.tokens == [4])  # the gate has done with what it was refused
        finally:
            await port.close()

    asyncio.run(scene())
    written = kept(tmp_path / "audit")
    assert [said["kind"] for said in written] == ["log_late", "sent", "trigger", "stop", "later"]
    assert (written[0]["records"], written[0]["lost"]) == (3, 0)


def test_records_that_are_kept_for_the_next_writer_are_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "log", SigningKey.from_seed(bytes([9]) * 32))
    monkeypatch.setattr(relay_audit, "AUDIT_BOUNDS", replace(AUDIT_BOUNDS, client_reserved_bytes=2000))

    async def scene() -> None:
        port = AuditPort(tmp_path / "audit", tmp_path / "log.key", Heard())
        for number in range(1, 21):
            port.note(payload("stop", 0, {"number": number, "filler": "x" * 60}))
        port.start()
        async with asyncio.timeout(60):
            while port.condition is not Log.OK:
                await asyncio.sleep(0.01)
        await port.close()

    (tmp_path / "audit").mkdir()
    asyncio.run(scene())
    told, *stops = kept(tmp_path / "audit")
    assert 0 < told["records"] < 20
    assert told["records"] + told["lost"] == 20
    assert [said["number"] for said in stops] == list(range(1, told["records"] + 1))


def test_a_record_that_is_in_the_log_twice_counts_once_in_each_life() -> None:
    dose = {"ctdivol": 7.0, "dlp": 210.0, "phantom": 32, "z_low": None, "z_high": None}
    said = payload("dose", 5, {"examination": "e", "dose": dose})
    start = payload("start", 0, {})
    once = retell([start, said]).courses[0].doses
    assert len(once) == 1
    assert retell([start, said, said]).courses[0].doses == once
    assert len(retell([start, said, start, said]).courses[0].doses) == 2


# --- the page of results


@pytest.mark.parametrize(
    "name", [n for n in run_all.RUNS if n.startswith(("audit", "guard", "can", "dicom"))]
)
def test_every_benchmark_of_the_guard_can_be_run_and_has_a_place_on_the_page(name: str) -> None:
    text = (REPOSITORY / "benchmarks" / f"{name}.py").read_text("utf-8")
    assert re.search(r"^def main\(", text, re.MULTILINE)
    assert re.search(r"^def (report|shown)\(", text, re.MULTILINE)
    assert f"python -m benchmarks.{name}" in text
    assert name in pages.SECTIONS
    assert f"<!-- begin {name} -->" in run_all.PAGE.read_text("utf-8")

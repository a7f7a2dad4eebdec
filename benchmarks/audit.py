"""What a durable, chained, signed record costs, against a plain append and fdatasync of the same bytes.

The plain writer appends each record to a file and syncs it; the log's writer takes groups of several sizes, in
this process and in a process of its own behind its socket (as the guard has it, with so many records on their
way at a time). Rounds of all of them are interleaved, so that all meet the same disk.

  python -m benchmarks.audit --records 2000 --rounds 5
  python -m benchmarks.audit --quick
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import OUT, parser, plain, quickly, save, sayer, table
from scanward.audit import Moment, PosixFolder, Writer, verify
from scanward.audit.client import Durable, WriterClient
from scanward.keys import SigningKey, write_pair

GROUPS = (1, 4, 16, 64)
Times = tuple[float, list[float]]  # s for all records, s for each commit (or answer)


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("audit", __doc__)
    made.add_argument("--records", type=int, default=2000, help="records of each writer in each round")
    made.add_argument("--rounds", type=int, default=5, help="rounds")
    made.add_argument("--bytes", type=int, default=500, help="size of a record")
    made.add_argument("--folder", type=Path, default=OUT, help="on the disk that is measured")
    arguments = made.parse_args(argv)
    quickly(arguments, records=64, rounds=1)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    payload = (b'{"kind":"release","filler":"' + b"x" * arguments.bytes)[: arguments.bytes - 2] + b'"}'
    runs: dict[str, Callable[[Path, int], Times]] = {
        "plain append + fdatasync": lambda f, n: plain_append(f, n, payload)
    }
    for size in GROUPS:
        runs[f"writer, groups of {size}"] = lambda f, n, size=size: in_process(f, n, payload, size)
    for size in GROUPS:
        runs[f"writer process, {size} on their way"] = lambda f, n, size=size: behind_socket(
            f, n, payload, size
        )
    collected: dict[str, list[Times]] = {name: [] for name in runs}
    for number in range(arguments.rounds):
        say(f"round {number + 1} of {arguments.rounds}")
        for name, measure in runs.items():
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                collected[name].append(measure(Path(folder), arguments.records))
    say("verifying")
    result = {
        "writers": {name: summed(times, arguments.records) for name, times in collected.items()},
        "verify": verifying(arguments.folder, arguments.records * arguments.rounds, payload),
    }
    save(arguments, "audit", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


def now() -> Moment:
    """Both clocks."""
    return Moment(time.monotonic_ns(), time.time_ns())


def plain_append(folder: Path, records: int, payload: bytes) -> Times:
    """The least that durability takes: one write and one sync for each record."""
    times = []
    handle = os.open(folder / "plain.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    begin = time.perf_counter()
    for _ in range(records):
        start = time.perf_counter()
        os.write(handle, payload)
        os.fdatasync(handle)
        times.append(time.perf_counter() - start)
    total = time.perf_counter() - begin
    os.close(handle)
    return total, times


def in_process(folder: Path, records: int, payload: bytes, size: int) -> Times:
    """The writer itself: chain, checkpoints and all."""
    place = PosixFolder(folder / "log")
    writer = Writer(place, SigningKey.generate(), now())
    times = []
    begin = time.perf_counter()
    for _ in range(max(1, records // size)):
        start = time.perf_counter()
        for _ in range(size):
            writer.append(payload, now())
        writer.commit(now())
        times.append(time.perf_counter() - start)
    total = time.perf_counter() - begin
    writer.close(now())
    place.done()
    return total, times


def behind_socket(folder: Path, records: int, payload: bytes, size: int) -> Times:
    """From handing a record over to its answer, with ``size`` of them on their way."""
    key, _ = write_pair(folder / "audit", SigningKey.generate())
    client = WriterClient(folder / "log", key)
    while not client.received():
        select.select([client], [], [], 1.0)
    sent: dict[int, float] = {}
    times: list[float] = []
    token = 0
    begin = time.perf_counter()
    while len(times) < records:
        while len(sent) < size and token < records:
            token += 1
            sent[token] = time.perf_counter()
            client.send(token, payload)
        select.select([client], [client] if client.wants_write else [], [], 1.0)
        answers = [a for a in client.received() if isinstance(a, Durable)]
        times.extend(time.perf_counter() - sent.pop(answer.token) for answer in answers)
    total = time.perf_counter() - begin
    client.close()
    return total, times


def verifying(folder: Path, records: int, payload: bytes) -> dict[str, float]:
    """How fast a log is read and verified."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        key = SigningKey.generate()
        disk = PosixFolder(place / "log")
        writer = Writer(disk, key, now())
        for number in range(records):
            writer.append(payload, now())
            if number % 64 == 0:
                writer.commit(now())
        writer.close(now())
        disk.done()
        start = time.perf_counter()
        found = verify(place / "log", [key.verify_key])
        took = time.perf_counter() - start
        if not found.ok:
            raise AssertionError(found.findings)
        return {"records": found.records, "records_per_s": found.records / took}
    finally:
        shutil.rmtree(place)


def summed(times: Sequence[Times], records: int) -> dict[str, float]:
    """Records a second over all rounds, and the quantiles of single commits (ms)."""
    single = np.array([t for _, each in times for t in each]) * 1e3
    return {
        "records_per_s": records * len(times) / sum(total for total, _ in times),
        "p50_ms": float(np.quantile(single, 0.5)),
        "p99_ms": float(np.quantile(single, 0.99)),
        "max_ms": float(single.max()),
    }


def report(told: dict[str, Any]) -> str:
    """For people."""
    rows = [
        [name, f"{t['records_per_s']:.0f}", f"{t['p50_ms']:.2f}", f"{t['p99_ms']:.2f}", f"{t['max_ms']:.1f}"]
        for name, t in told["writers"].items()
    ]
    text = table(["writer", "records/s", "commit p50 (ms)", "p99 (ms)", "max (ms)"], rows)
    return f"{text}\n\nverifying: {told['verify']['records_per_s']:.0f} records/s"


if __name__ == "__main__":
    main()

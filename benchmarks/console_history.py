"""What the console's history costs: importing an audit log, and each question of its pages at so many rows.

A real log is written (loads of four elements, some of them alerted, over the days given), imported, and asked. The
questions that find nothing are the dear ones: they look at every row.

  python -m benchmarks.console_history --commands 100000
  python -m benchmarks.console_history --quick
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import OUT, parser, plain, quickly, save, sayer, table
from scanward.audit import Moment, PosixFolder, Writer
from scanward.console import history_csv, history_query
from scanward.console.history_filters import Filters
from scanward.console.history_import import Importer
from scanward.console.history_store import HistoryStore
from scanward.guard.relay_records import START, payload
from scanward.keys import SigningKey

ELEMENTS = 4
FIELDS = 30  # parameters of a command
SCANNER = "ct1"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("console_history", __doc__)
    made.add_argument("--commands", type=int, default=100_000, help="rows of the history")
    made.add_argument("--days", type=int, default=200, help="over which they spread")
    made.add_argument("--repeats", type=int, default=15, help="of each question")
    made.add_argument("--seed", type=int, default=11, help="of what is alerted")
    made.add_argument("--folder", type=Path, default=OUT, help="on the disk that is measured")
    arguments = made.parse_args(argv)
    quickly(arguments, commands=2000, repeats=2)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        say("writing the log")
        key, records = write_log(folder / "log", arguments)
        say("importing")
        store = HistoryStore(folder / "history.sqlite")
        one = Importer(store, SCANNER, folder / "log", [key.verify_key])
        steps = []
        begin = time.perf_counter()
        more = True
        while more:
            start = time.perf_counter()
            more = one.step()
            steps.append(time.perf_counter() - start)
        took = time.perf_counter() - begin
        idle = [timed(one.step) for _ in range(50)]
        say("verifying")
        verifying = timed(one.verify)
        say("asking")
        result = {
            "records": records,
            "rows": history_query.count(store, Filters(), 10**9),
            "import_records_per_s": records / took,
            "import_step_ms": quantiles(steps),
            "import_idle_ms": quantiles(idle),
            "verify_s": verifying,
            "megabytes": sum(p.stat().st_size for p in folder.glob("history.sqlite*")) / 1e6,
            "questions": asked(store, arguments.repeats),
        }
        start = time.perf_counter()
        size = sum(map(len, history_csv.pieces(store, Filters(), {SCANNER: "CT 1"})))
        result["csv"] = {"seconds": time.perf_counter() - start, "megabytes": size / 1e6}
        store.close()
    save(arguments, "console_history", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


def write_log(folder: Path, arguments: argparse.Namespace) -> tuple[SigningKey, int]:
    """A log of loads that were judged and released or refused; its key, and how many records it has."""
    chance = random.Random(arguments.seed)
    loads = max(1, arguments.commands // ELEMENTS)
    end = time.time()
    step = 86_400.0 * arguments.days / loads
    key = SigningKey.generate()
    disk = PosixFolder(folder)
    moment = Moment(1, int((end - step * loads) * 1e9))
    writer = Writer(disk, key, moment)
    writer.append(payload(START, 0, {"weakenings": []}), moment)
    written = 1
    parameters = {f"Field{n:02d}": 1.5 * n for n in range(FIELDS - 3)} | {"KVP": 120.0, "CTDIvol": 7.0}
    for number in range(loads):
        ns = int((end - step * (loads - number)) * 1e9)
        moment = Moment(ns, ns)
        odd = chance.random() < 0.01
        told = parameters | {
            "CTDIvol": round(chance.lognormvariate(2.0, 0.5), 3),
            "ProtocolName": f"Protocol {number % 300}",
        }
        context = {"PatientAge": [{"value": chance.uniform(1, 95), "source": "host"}]}
        chain = [{"command": {"parameters": told, "context": context}, "auto": False}] * ELEMENTS
        name, token = f"L{number}", 4 * number
        kinds: list[tuple[str, dict[str, object]]] = [
            (
                "load",
                {"id": name, "examination": f"{number:016x}", "patient": f"{number:016x}", "chain": chain},
            ),
            (
                "verdict",
                {
                    "id": name,
                    "request": number + 1,
                    "verdict": "ALERT" if odd else "RELEASE",
                    "layer": "context_free" if odd else "",
                    "fields": ["CTDIvol"] if odd else [],
                    "reason": "CTDIvol is unusual" if odd else "",
                    "p_values": [chance.random() for _ in range(ELEMENTS)],
                },
            ),
        ]
        if odd:
            kinds.append(
                ("refuse", {"id": name, "reason": "refused by the operator: no", "layer": "context_free"})
            )
        else:
            kinds.append(("release", {"id": name, "request": number + 1, "note": "", "mode": "CLINICAL"}))
            kinds.append(("sent", {"id": name, "token": token + 3}))
        for place, (kind, data) in enumerate(kinds, 1):
            writer.append(payload(kind, token + place, data), moment)
            written += 1
        if number % 256 == 0:
            writer.commit(moment)
    writer.close(moment)
    disk.done()
    return key, written


def asked(store: HistoryStore, repeats: int) -> dict[str, dict[str, float]]:
    """Each question of the pages, in ms."""
    with store.reading() as db:
        middle = db.execute(
            "SELECT at, id FROM judged ORDER BY at LIMIT 1 OFFSET (SELECT count(*) / 2 FROM judged)"
        ).fetchone()
    place = f"{middle['at']!r}-{middle['id']}"
    today = datetime.now().astimezone().date()
    questions: dict[str, Callable[[], object]] = {
        "first page": lambda: history_query.commands(store, Filters()),
        "page in the middle": lambda: history_query.commands(store, Filters(), place),
        "how many": lambda: history_query.count(store, Filters()),
        "verdict ALERT": lambda: history_query.commands(store, Filters(verdict="ALERT")),
        "field objected to": lambda: history_query.commands(store, Filters(field="CTDIvol")),
        "layer and outcome": lambda: history_query.commands(
            store, Filters(layer="context_free", outcome="refused")
        ),
        "protocol, found": lambda: history_query.commands(store, Filters(protocol="protocol 17")),
        "protocol, found nowhere": lambda: history_query.commands(store, Filters(protocol="nowhere")),
        "words, found nowhere": lambda: history_query.commands(store, Filters(text="nowhere")),
        "value of a parameter, found nowhere": lambda: history_query.commands(
            store, Filters(parameter="CTDIvol", low="1e6")
        ),
        "how many, found nowhere": lambda: history_query.count(store, Filters(text="nowhere")),
        "one examination": lambda: history_query.commands(store, Filters(examination=f"{7:016x}")),
        "one command": lambda: history_query.command(store, middle["id"]),
        "chart of 28 days": lambda: history_query.days(store, SCANNER, today - timedelta(days=27), today),
        "chart of 365 days": lambda: history_query.days(store, SCANNER, today - timedelta(days=364), today),
    }
    return {name: quantiles([timed(one) for _ in range(repeats)]) for name, one in questions.items()}


def timed(one: Callable[[], object]) -> float:
    """s that it takes."""
    start = time.perf_counter()
    one()
    return time.perf_counter() - start


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """In ms."""
    times = 1e3 * np.array(seconds)
    return {
        "p50": float(np.quantile(times, 0.5)),
        "p95": float(np.quantile(times, 0.95)),
        "max": float(times.max()),
    }


def report(told: dict[str, Any]) -> str:
    """For people."""
    rows = [[name, f"{t['p50']:.1f}", f"{t['p95']:.1f}"] for name, t in told["questions"].items()]
    step, idle = told["import_step_ms"], told["import_idle_ms"]
    return (
        f"{told['rows']:,} commands out of {told['records']:,} records: imported at "
        f"{told['import_records_per_s']:.0f} records/s, in steps of p95 {step['p95']:.0f} ms; a look that finds "
        f"nothing takes p95 {idle['p95']:.2f} ms; the log is verified in {told['verify_s']:.1f} s. The file has "
        f"{told['megabytes']:.0f} MB. All of it as CSV: {told['csv']['seconds']:.1f} s, "
        f"{told['csv']['megabytes']:.0f} MB.\n\n" + table(["question", "p50 (ms)", "p95 (ms)"], rows)
    )


if __name__ == "__main__":
    main()

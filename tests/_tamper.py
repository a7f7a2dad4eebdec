"""For the tests of training: tiny presets, phantoms, and a process that forks real commands off quickly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering.prepared import Domain, Prepared
from scanward.tampering.presets import Preset, change, find

SMALLEST: dict[str, str] = {
    "rows": "16",
    "columns": "16",
    "generator.filters": "2",
    "generator.blocks": "1",
    "discriminator.filters": "2",
    "discriminator.layers": "1",
    "optimiser.batch": "1",
    "optimiser.pool": "3",
}


def tiny(name: str = "scanward-64", **options: str) -> Preset:
    """A preset with the smallest networks; ``optimiser__steps="5"`` sets an option of a part."""
    return change(find(name), SMALLEST | {key.replace("__", "."): value for key, value in options.items()})


def arguments(**options: str) -> list[str]:
    """The same for the command line."""
    wanted = SMALLEST | {key.replace("__", "."): value for key, value in options.items()}
    return [word for key, value in wanted.items() for word in ("--set", f"{key}={value}")]


def phantoms(folder: Path, *, patients: int = 6, **options: Any) -> Path:
    """A data set of small phantoms."""
    write_phantoms(folder, patients=patients, rows=32, columns=32, seed=5, **options)
    return folder


def domains(healthy: int, cancer: int, side: int = 16) -> Prepared:
    """Prepared pictures without a data set: picture number i of each domain is grey level i (of thousands) all over."""

    def one(name: str, number: int) -> Domain:
        levels = np.arange(number, dtype=np.int16)[:, None, None]
        breast = np.zeros((number, side, side), np.uint8)
        breast[:, 2:-2, 1 : side // 2 + 1] = 1
        region = np.zeros_like(breast)
        region[:, 5:8, 3:6] = name == "cancer"
        return Domain(
            names=tuple(f"{name}-{i}" for i in range(number)),
            patients=tuple(f"{name}-{i}" for i in range(number)),
            grey=np.broadcast_to(levels, (number, side, side)).copy(),
            breast=breast,
            region=region,
        )

    return Prepared(
        healthy=one("healthy", healthy),
        cancer=one("cancer", cancer),
        fingerprint="0" * 64,
        kind="made",
        phantom=True,
    )


# Imports once, then forks a child for each line it reads; the child is the command `scanward ...` and nothing else.
# "die" makes it kill itself at the n-th call of os.fsync, Path.replace or of file.write (half of it written).
_FORKER = r"""
import json, os, pathlib, signal, sys
from scanward.cli import main
import scanward.cli.tamper_train, scanward.tampering.running, scanward.tampering.sheets
import torch, torch._dynamo, torch.distributed, io, resource
import matplotlib.figure, matplotlib.backends.backend_agg
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
drawn = matplotlib.figure.Figure(layout="constrained")
drawn.subplots().set(title="a")
drawn.savefig(io.BytesIO())
scanward.tampering.curve.LOG_EVERY = 5  # rows of the curve in short runs

def dying(point, count, folder):
    left = [count]
    def now():
        left[0] -= 1
        return left[0] == 0
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)
    if point == "fsync":
        genuine = os.fsync
        os.fsync = lambda handle: kill() if now() else genuine(handle)
    elif point in ("before replace", "after replace"):
        replace = pathlib.Path.replace
        def replaced(self, target):
            if now():
                if point == "after replace":
                    replace(self, target)
                kill()
            return replace(self, target)
        pathlib.Path.replace = replaced
    elif point == "half written":
        from scanward.tampering import checkpoints
        save = checkpoints.save_tensors
        def halved(tensors, metadata):
            data = save(tensors, metadata)
            if now():
                (pathlib.Path(folder) / "checkpoint-000000009.part").write_bytes(data[: len(data) // 2])
                kill()
            return data
        checkpoints.save_tensors = halved

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        _, status = os.waitpid(order["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1); os.dup2(log, 2); os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["environment"])
        if order.get("die"):
            dying(*order["die"])
        if order.get("file_size"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"],) * 2)
        sys.argv = ["scanward", *order["arguments"]]
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 99
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(status)
    print(pid, flush=True)
"""


class Commands:
    """Runs ``scanward ...`` in processes of their own, without the seconds that imports take."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._ask(None) == "ready"

    def __enter__(self) -> Commands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _ask(self, order: Mapping[str, Any] | None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if order is not None:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def start(
        self,
        words: Sequence[str | Path],
        *,
        die: tuple[str, int, Path] | None = None,
        environment: Mapping[str, str] | None = None,
        file_size: int | None = None,
    ) -> tuple[int, Path]:
        """Process id, and the file that holds all that it prints."""
        self._number += 1
        log = self._folder / f"log-{self._number}.txt"
        order = {
            "arguments": [str(word) for word in words],
            "log": str(log),
            "environment": dict(environment or {}),
            "die": [die[0], die[1], str(die[2])] if die else None,
            "file_size": file_size,
        }
        return int(self._ask(order)), log

    def wait(self, pid: int) -> int:
        """Exit status; minus the signal's number where one ended it."""
        return int(self._ask({"wait": pid}))

    def run(self, words: Sequence[str | Path], **options: Any) -> tuple[int, str]:
        """Exit status and all that was printed."""
        pid, log = self.start(words, **options)
        status = self.wait(pid)
        return status, log.read_text()

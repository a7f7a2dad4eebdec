"""What the benchmarks of the whole guard share: a bundle made once, and the guard as a process that can be killed."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import OUT, Say
from scanward.commands import Examination
from scanward.recordings import examinations as grouped
from scanward.recordings import load_dialect, read
from scanward.recordings.writing import write_table
from scanward.simulation import Site

DEVICE = 1  # of the simulated site: the one whose AEC is steered by a noise index
READY_S = 90.0  # a guard that is not ready by then, on a busy machine, never will be
_SCANWARD = "from scanward.cli import main; main()"


@dataclass(frozen=True)
class Learned:
    """A bundle, the key it is trusted by, and what it was learned from."""

    model: Path
    trust: Path
    examinations: int
    budget: float

    @property
    def told(self) -> dict[str, Any]:
        """For a result file."""
        size = sum(p.stat().st_size for p in self.model.rglob("*") if p.is_file())
        return {"examinations": self.examinations, "budget": self.budget, "bytes": size}


def learned(seed: int, examinations: int, budget: float, *, quick: bool, say: Say) -> Learned:
    """The bundle of a simulated site: made now, or by an earlier benchmark with the same words."""
    # Late: a process that only wants the guard loads no training library.
    from benchmarks.bundled import signed
    from scanward.learning.fit import Settings

    name = f"{seed}-{examinations}-{budget:g}{'-quick' if quick else ''}"
    folder = OUT.parent / "guard-bundles" / name
    folder.mkdir(parents=True, exist_ok=True)
    made = Learned(folder / "model", folder / "site.pub", examinations, budget)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            say(f"learning a bundle from {examinations} examinations of site {seed}")
            for left in folder.glob("[!l]*"):  # of an earlier one that did not end
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            settings = Settings(budget, rounds=60, steps=40) if quick else Settings(budget)
            signed(recorded(Site(seed).examinations(examinations), folder), settings, folder)
            (folder / "done").touch()
    return made


def recorded(found: Sequence[Examination], folder: Path) -> list[Examination]:
    """Written to a table and read again, as a site's recordings are: identifiers are hashed on the way."""
    write_table([c for e in found for c in e.commands], folder / "site.csv", folder / "site.toml")
    return grouped(read([folder / "site.csv"], dialect=load_dialect(folder / "site.toml")).commands)


class GuardProcess:
    """``scanward guard``: started, killed, started again. Its port is the same each time."""

    def __init__(self, config: Path, environment: Mapping[str, str] | None = None) -> None:
        self.config = config
        self._environment = dict(environment or {})
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.lives = 0

    @property
    def pid(self) -> int:
        """Of the relay."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the relay runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; `wait_ready` waits for its word."""
        with (self.config.parent / "guard.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SCANWARD, "guard", "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, **self._environment},
            )  # fmt: skip
        self.lives += 1

    def wait_ready(self) -> None:
        """Until it says where hosts connect; RuntimeError when it ends, or says nothing in time."""
        assert self.process is not None
        assert self.process.stdout is not None
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                found = re.search(r"port (\d+)", self.process.stdout.readline())
                if found:
                    self.port = int(found.group(1))
                    return
            if self.process.poll() is not None:
                break
        raise RuntimeError(
            f"the guard is not ready: {(self.config.parent / 'guard.err').read_text()[-1500:]}"
        )

    def children(self) -> dict[str, int]:
        """Process ids of judge and writer, as far as they run."""
        return children_of(self.pid) if self.alive else {}

    def kill(self) -> None:
        """SIGKILL, and reap."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(30)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


def children_of(pid: int) -> dict[str, int]:
    """Judge and writer of a relay."""
    found: dict[str, int] = {}
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):
                line = Path(f"/proc/{child}/cmdline").read_bytes()
                for name, module in (
                    ("judge", b"scanward.guard.judge"),
                    ("writer", b"scanward.audit.process"),
                ):
                    if module in line:
                        found[name] = int(child)
    return found


def rss_kib(pid: int) -> int:
    """Resident memory of a process, KiB; 0 when it is gone."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024
    return 0

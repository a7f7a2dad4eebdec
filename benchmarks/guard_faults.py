"""kill -9 of relay, judge, log's writer, host and gantry at random moments, while examinations go on.

After every kill what died is started again and the next examination is tried. At the end the log is held against
what reached the gantry:

* every load and every trigger that reached the gantry has its durable record of release, from before it was sent;
* none reached it twice;
* the log is whole.

Told besides: examinations cut short, and the time from a kill to the next load that is armed.

  python -m benchmarks.guard_faults --kills 500
  python -m benchmarks.guard_faults --model MODEL --trust SITE.pub --seed 11 --kills 20
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import FINAL_SEEDS, ROOT, parser, quickly, save, sayer, table
from benchmarks.guard_latency import percentiles, prepared, site_of
from scanward.audit.reading import segments_of
from scanward.commands import Device, Examination

sys.path.insert(0, str(ROOT / "tests"))
from _guard_site import hello, load_line, trigger_line
from _stream import Gantry, Host, host, plain_gantry

VICTIMS = ("relay", "judge", "writer", "host", "gantry")
LONGEST_S = 1.5  # s after which a kill comes at the latest; an examination takes some 0.2 s
PATIENCE_S = 60.0  # s for a load to be armed after a kill


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, save, print."""
    words = list(sys.argv[1:] if argv is None else argv)
    made = parser("guard_faults", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="of the simulated site")
    made.add_argument("--model", type=Path, help="a bundle of this site, instead of learning one")
    made.add_argument("--trust", type=Path, help="the public key that signed it")
    made.add_argument("--examinations", type=int, default=420, help="to learn from")
    made.add_argument("--kills", type=int, default=500, help="kills in all")
    arguments = made.parse_args(words)
    quickly(arguments, examinations=240, kills=5)
    say = sayer()
    with tempfile.TemporaryDirectory() as name:
        model, trust, later, device = prepared(arguments, Path(name), say)
        result = asyncio.run(Run(Path(name), model, trust, later, device, arguments, say).all())
    save(arguments, "guard_faults", words, result)
    if not arguments.json:
        print(shown(result))
    return result


@dataclass
class Run:
    """One guard after the other over one log."""

    folder: Path
    model: Path
    trust: Path
    later: list[Examination]
    device: Device
    arguments: argparse.Namespace
    say: Any
    number: int = 0
    whole: int = 0
    cut: int = 0
    recovery: dict[str, list[float]] = field(default_factory=lambda: {v: [] for v in VICTIMS})

    async def all(self) -> dict[str, Any]:
        """Kill after kill, then the reckoning."""
        rng = random.Random(self.arguments.seed)
        self.gantry = Gantry(hello=lambda c: hello(c, self.device), answer=plain_gantry)
        port = await self.gantry.start()
        self.site = site_of(self.folder / "site", port, self.model, self.trust, self.device)
        self.site.config.write_text(self.site.config.read_text().replace("127.0.0.1:0", "127.0.0.1:47811"))
        await asyncio.to_thread(self.site.start)
        try:
            await self._until_armed(time.monotonic())
            for kill in range(self.arguments.kills):
                victim = VICTIMS[kill % len(VICTIMS)]
                begun = await self._killed(victim, rng.uniform(0.0, LONGEST_S))
                self.recovery[victim].append(await self._until_armed(begun))
                if (kill + 1) % 20 == 0:
                    self.say(f"{kill + 1} kills")
        finally:
            await asyncio.to_thread(self.site.stop)
            await self.gantry.close()
        return self._reckoned()

    async def _killed(self, victim: str, after: float) -> float:
        """Examinations one after the other until the kill, and what is left of the one it met; when it was."""
        going = asyncio.create_task(self._go_on())
        await asyncio.sleep(after)
        begun = time.monotonic()
        if victim == "relay":
            assert self.site.process is not None
            self.site.process.kill()
            await asyncio.to_thread(self.site.process.wait, 30)
            assert self.site.process.stdout is not None
            self.site.process.stdout.close()
        elif victim in ("judge", "writer"):
            pid = self.site.children().get("audit" if victim == "writer" else victim)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif victim == "gantry":
            for writer in self.gantry.writers.values():
                writer.transport.abort()
        if victim in ("judge", "writer"):
            await asyncio.sleep(0.3)  # the host goes on meanwhile
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        if victim == "relay":
            await asyncio.to_thread(self.site.start)
        return begun

    async def _go_on(self) -> None:
        while True:
            async with host(self.site.port, hello=lambda c: hello(c, self.device)) as played:
                while await self._examined(played):
                    pass
            await asyncio.sleep(0.02)

    async def _examined(self, played: Host) -> bool:
        """One examination; False when the connection ended."""
        self.number += 1
        name, examination = f"L{self.number}", self.later[self.number % len(self.later)]
        played.say(load_line(name, examination.commands, f"9.{self.number}", name))
        try:
            heard = await played.hear()
            if b'"loaded"' not in heard:
                played.say(json.dumps({"type": "cancel", "id": f"C{name}", "load": name}).encode() + b"\n")
                return bool(heard)
            for index in range(len(examination.commands)):
                played.say(trigger_line(f"{name}.{index}", name, index))
                if not await played.hear_until(b'"done"'):
                    self.cut += 1
                    return False
        except asyncio.CancelledError:
            self.cut += 1
            raise
        except (TimeoutError, OSError):
            self.cut += 1
            return False
        self.whole += 1
        return True

    async def _until_armed(self, begun: float) -> float:
        """Seconds from ``begun`` until a load is armed again."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                async with host(self.site.port, hello=lambda c: hello(c, self.device)) as played:
                    while True:
                        self.number += 1
                        name, examination = f"L{self.number}", self.later[self.number % len(self.later)]
                        played.say(load_line(name, examination.commands, f"9.{self.number}", name))
                        heard = await played.hear()
                        if b'"loaded"' in heard:
                            return time.monotonic() - begun
                        if not heard or b'"held"' in heard:
                            break
                        await asyncio.sleep(0.02)
            except (OSError, AssertionError, TimeoutError):
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError("no load was armed in time after a kill")

    def _reckoned(self) -> dict[str, Any]:
        """The log against the gantry."""
        records = self.site.records()
        released = Counter(r["id"] for r in records if r["kind"] in ("release", "trigger"))
        reached = Counter(
            said["id"]
            for _, line in self.gantry.lines
            if (said := json.loads(line))["type"] in ("load", "trigger")
        )
        verdicts = {r["id"]: r["verdict"] for r in records if r["kind"] == "verdict"}
        loads = [name for name in reached if "." not in name]
        _, findings = segments_of(self.site.log)
        return {
            "kills": self.arguments.kills,
            "reached_gantry": sum(reached.values()),
            "without_record": sum(name not in released for name in reached),
            "twice": sum(count > 1 for count in reached.values()),
            "loads_without_release_verdict": sum(verdicts.get(name) != "RELEASE" for name in loads),
            "unknown_after_restart": sum(r["kind"] == "unknown" for r in records),
            "log_findings": len(findings),
            "examinations": {"whole": self.whole, "cut_short": self.cut},
            "recovery_s": {victim: percentiles(times) for victim, times in self.recovery.items()},
        }


def shown(result: dict[str, Any]) -> str:
    """For a terminal."""
    rows = [
        [victim, *(f"{found[name]:.2f}" for name in ("p50", "p99", "max"))]
        for victim, found in result["recovery_s"].items()
    ]
    lines = [f"{name}: {value}" for name, value in result.items() if name != "recovery_s"]
    return "\n".join([*lines, table(("killed", "s to the next armed load, p50", "p99", "max"), rows)])


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)  # what others wrote before is not ours to wait for
    main()

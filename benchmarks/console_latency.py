"""How long from a guard's hold to the alert painted in a browser: one browser alone, then beside raw event streams.

The control channel is the guard's own (server and desk), in this process; what it holds is made up, one load after
another, so that neither judge nor gate is in the figure. The console is the real process, the browser Chromium without
a screen. The time begins when the desk is told of the hold, and ends after the frame in which the page shows it
(MutationObserver, requestAnimationFrame, and a message after it); both are this machine's clock.

  python -m benchmarks.console_latency --holds 100
  python -m benchmarks.console_latency --quick
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from benchmarks.common import ROOT, parser, quickly, save, sayer, table
from scanward.commands import Command, Context, Device, Mode
from scanward.commands.wire import Element
from scanward.console.settings import load_settings
from scanward.guard.arming import chain_digest
from scanward.guard.control import ControlServer
from scanward.guard.control_desk import ControlDesk
from scanward.guard.core import GateView
from scanward.guard.events import Event, Log
from scanward.guard.policy import Policy
from scanward.guard.policy_read import parse_policy
from scanward.guard.profile_read import parse_profile
from scanward.guard.states import Firing, Pending, Phase
from scanward.web.accounts import Accounts

NAME = "console_latency"
EXAMPLES = ROOT / "examples" / "policy"
PATIENCE_S = 30.0
_Result = TypeVar("_Result")

# Notes when each hold was painted: its number stands in the reason that the page shows.
WATCH = """() => {
  window.__painted = {};
  const look = () => {
    const hold = document.getElementById("hold");
    const found = /hold number (\\d+)/.exec(hold && !hold.hidden ? hold.textContent : "");
    if (!found || found[1] in window.__painted) return;
    window.__painted[found[1]] = null;
    requestAnimationFrame(() => {
      const after = new MessageChannel();
      after.port1.onmessage = () => { window.__painted[found[1]] = performance.timeOrigin + performance.now(); };
      after.port2.postMessage(0);
    });
  };
  new MutationObserver(look).observe(document.documentElement,
    { subtree: true, childList: true, characterData: true, attributes: true });
}"""


class Holding:
    """The relay of a desk that is told what it holds. ``request`` is what is on hold, 0 for nothing."""

    def __init__(self) -> None:
        self.request = 0

    def handle(self, event: Event) -> None:
        """No gate is here to take it."""

    def view(self) -> GateView:
        """A gate that waits for an operator, or for nothing."""
        phase = Phase.IDLE
        return GateView(
            phase, Pending.NONE, Firing.NONE, Mode.CLINICAL, Log.OK, 1, True, (), self.request, "", (), 0.0
        )

    def now(self) -> float:
        """s."""
        return time.monotonic()

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool) -> None:
        """No log is here to keep it."""

    def course(self) -> None:
        """No examination is in progress."""

    def forget(self) -> None:
        """Nobody's name is known."""


class Guard:
    """A control channel on a loop in a thread of its own."""

    def __init__(self, path: Path) -> None:
        profile = parse_profile((EXAMPLES / "device.toml").read_bytes(), "device.toml", "d" * 64)
        policy: Policy = parse_policy(
            (EXAMPLES / "policy.toml").read_bytes(), "policy.toml", profile, "p" * 64
        )
        self.relay = Holding()
        self.desk = ControlDesk(policy, self.relay, self._publish)
        self.server = ControlServer(self.desk, lambda kind, data: None, lambda: date(2027, 1, 1))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.server.listen_locally(path))

    def _publish(self, kind: str, data: Mapping[str, Any]) -> None:
        self.server.publish(kind, data)

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """In the guard's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def hold(self, number: int) -> float:
        """Hold load ``number``; when it began, s since 1970."""

        async def begin() -> float:
            self.relay.request = number
            at = time.time()
            self.desk.told("held", held(number))
            return at

        return self.run(begin())

    def decide(self, number: int) -> None:
        """The hold is over."""

        async def end() -> None:
            self.relay.request = 0
            self.desk.told("unheld", {"request": number, "id": f"L{number}", "reason": "nobody answered"})

        self.run(end())

    def close(self) -> None:
        """Cut everybody off."""
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def held(number: int) -> dict[str, Any]:
    """What the gate says of a load of four spirals, of which one is objected to."""
    parameters: dict[str, Any] = {
        "AcquisitionType": "SPIRAL", "KVP": 120.0, "XRayTubeCurrentInmA": 200.0, "RevolutionTime": 0.5,
        "SpiralPitchFactor": 1.0, "TotalCollimationWidth": 38.4, "CTDIvol": 7.0 + number / 1000.0, "DLP": 210.0,
        "ScanLength": 300.0, "ProtocolName": "Abdomen", "BodyPartExamined": "ABDOMEN",
    }  # fmt: skip
    element = Element(Command(parameters, Context({}), Device("Simulated Sigma", "S-128")))
    chain = (element,) * 4
    reason = f"hold number {number}: CTDIvol is further from its fellows than the budget allows"
    objection = {
        "field": "CTDIvol", "found": parameters["CTDIvol"], "expected": "2 to 5 mGy", "reason": reason,
        "layer": "context_free", "severity": "ALERT", "weight": 5.2, "p_value": 0.003,
    }  # fmt: skip
    finding = {"verdict": "ALERT", "layer": "context_free", "fields": ["CTDIvol"], "reason": reason,
               "p_value": 0.003, "objections": [objection]}  # fmt: skip
    return {
        "request": number, "id": f"L{number}", "digest": chain_digest(chain, 1), "examination": "e" * 16,
        "layer": "context_free", "fields": ["CTDIvol"], "reason": reason, "seconds": 60.0, "chain": chain,
        "triggers": 1, "motion": None, "findings": [finding] * 4, "persons": 1,
    }  # fmt: skip


@contextmanager
def console(folder: Path, socket: Path) -> Iterator[tuple[str, str]]:
    """``scanward console`` for one scanner: its address, and the passphrase of the operator anna."""
    config = folder / "console.toml"
    config.write_text(
        f'[web]\nlisten = "127.0.0.1:0"\n[[scanner]]\nid = "ct1"\nname = "CT 1"\ncontrol = "{socket}"\n',
        "utf-8",
    )
    web = load_settings(config).web
    web.state.mkdir()
    with Accounts(web.accounts) as accounts:
        passphrase = accounts.add("anna", ["operator"]) or ""
    program = "from scanward.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "console", "--config", str(config), "--json"],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"], passphrase
        finally:
            process.terminate()


def listeners(address: str, cookie: str, count: int) -> subprocess.Popen[str]:
    """Raw readers of the event stream, in a process of their own; ready when it says so."""
    place = urlsplit(address)
    program = f"""
import asyncio
async def one(ready):
    reader, writer = await asyncio.open_connection({place.hostname!r}, {place.port!r})
    head = ["GET /api/events HTTP/1.1", "Host: {place.netloc}", "Cookie: " + {cookie!r}, "", ""]
    writer.write("\\r\\n".join(head).encode())
    assert b" 200 " in await reader.readline()
    ready.release()
    while await reader.read(65536):
        pass
async def all_of_them():
    ready = asyncio.Semaphore(0)
    readers = [asyncio.create_task(one(ready)) for _ in range({count})]
    for _ in readers:
        await asyncio.wait_for(ready.acquire(), 30)
    print("ready", flush=True)
    await asyncio.gather(*readers)
asyncio.run(all_of_them())
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.kill()
        raise RuntimeError("the raw readers are not all let in")
    return process


def painted(page: Any, guard: Guard, holds: int, first: int, pause: Callable[[], float]) -> list[float]:
    """ms from each of ``holds`` holds until it was painted."""
    found = []
    for number in range(first, first + holds):
        began = guard.hold(number)
        at = page.wait_for_function(f"() => window.__painted[{number}]", polling=50).json_value()
        found.append(at - 1000.0 * began)
        guard.decide(number)
        page.wait_for_function('() => document.getElementById("hold").hidden', polling=50)
        time.sleep(pause())
    return found


def told(found: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    low, high = np.percentile(found, [50, 95])
    return {"p50_ms": float(low), "p95_ms": float(high), "most_ms": float(max(found))}


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument("--holds", type=int, default=100, help="in each of the two runs")
    made.add_argument(
        "--streams", type=int, default=19, help="raw event streams beside the browser, in the second"
    )
    made.add_argument("--seed", type=int, default=11, help="of the pauses between two holds")
    arguments = made.parse_args(argv)
    quickly(arguments, holds=5, streams=3)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    from playwright.sync_api import sync_playwright

    argv = sys.argv[1:] if argv is None else list(argv)
    arguments, say = options(argv), sayer()
    random_pause = random.Random(arguments.seed)

    def pause() -> float:
        return random_pause.uniform(0.2, 0.8)

    result: dict[str, Any] = {"browser": "", "alone": {}, "beside": {}}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        guard = Guard(folder / "c")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            with console(folder, folder / "c") as (address, passphrase):
                result["browser"] = browser.version
                context = browser.new_context(viewport={"width": 1920, "height": 1080})
                page = context.new_page()
                page.goto(f"{address}/sign-in?next=/now")
                page.fill("#name", "anna")
                page.fill("#password", passphrase)
                page.click("form button[type=submit]")
                page.wait_for_url("**/now")
                page.evaluate(WATCH)
                painted(page, guard, 3, 1, pause)  # warm
                say("one browser alone")
                result["alone"] = told(painted(page, guard, arguments.holds, 10, pause))
                cookie = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())
                beside = several(browser, address, passphrase, arguments.streams, cookie)
                try:
                    say(f"beside {arguments.streams} raw streams")
                    result["beside"] = told(painted(page, guard, arguments.holds, 10_000, pause))
                finally:
                    for process in beside:
                        process.kill()
                        process.wait()
        finally:
            browser.close()
            guard.close()
    rows = [
        [what, *(f"{result[key][name]:.0f}" for name in ("p50_ms", "p95_ms", "most_ms"))]
        for what, key in (("one browser", "alone"), (f"beside {arguments.streams} raw streams", "beside"))
    ]
    print(table(["hold to painted, ms", "p50", "p95", "most"], rows))
    save(arguments, NAME, argv, result)
    return result


def several(
    browser: Any, address: str, passphrase: str, count: int, cookie: str
) -> list[subprocess.Popen[str]]:
    """Raw streams over as many sign-ins as the console wants: it lets each session have a few."""
    from scanward.config import CONSOLE_BOUNDS

    found = []
    each = CONSOLE_BOUNDS.streams_each - 1
    while count > 0:
        found.append(listeners(address, cookie, min(each, count)))
        count -= each
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/sign-in")
        page.fill("#name", "anna")
        page.fill("#password", passphrase)
        page.click("form button[type=submit]")
        page.wait_for_url("**/now")
        cookie = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())
        page.close()
    return found


if __name__ == "__main__":
    main()

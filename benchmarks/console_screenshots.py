"""Screenshots of the console's pages, for the documentation: docs/figures/console-*.png.

Weeks of a simulated scanner go through the real gate, policy and judge (`console_stage`); then its guard is started,
an emulated host sends an attacked load, the guard holds it, and the pages are photographed in Chromium as they are.

  python -m benchmarks.console_screenshots
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Say, sayer
from benchmarks.console_stage import first_held, live
from benchmarks.guard_rig import DEVICE, GuardProcess, learned
from benchmarks.study_screenshots import photograph
from benchmarks.study_stage import chromium
from scanward.commands import Examination
from scanward.emulator import certificates
from scanward.emulator.attack import Supply
from scanward.emulator.fitting import Fitting, fit_guard
from scanward.emulator.host import Host, chains_of
from scanward.emulator.wires import Tls, address
from scanward.learning.benchmark.cases import Case, cases_of
from scanward.simulation import ATTACKS, Donors, Site
from scanward.web.accounts import Accounts

FIGURES = ROOT / "docs" / "figures"
SIZE = {"width": 1440, "height": 900}
SHOWN = ("dose_x3", "adult_on_child", "dose_x1.5")  # attacks of the past, in turn
PATIENCE = 60_000  # ms for a page
HOLD_S = 900.0
_SCANWARD = ("-c", "from scanward.cli import main; main()")
# Page, file, who looks, what must stand on it before it is photographed.
PAGES = (
    ("/history?days=28", "history", "petra", "Commands, newest first"),
    ("/history?verdict=ALERT#list", "history-alerts", "petra", "Commands, newest first"),
    ("/history/notes", "history-notes", "petra", "Newest first"),
    ("/device", "device", "petra", "Device"),
    ("/device/ct1", "device-drift", "petra", "CT 1"),
    ("/audit", "audit", "petra", "whole and signed"),
    ("/audit#grants", "audit-emergency", "petra", "whole and signed"),
    ("/alerts", "alerts", "petra", "Alerts"),
    ("/accounts", "accounts", "ada", "Accounts"),
)


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.console_screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", type=Path, default=FIGURES, help="where the pictures go")
    made.add_argument("--seed", type=int, default=101, help="of the simulated site")
    made.add_argument(
        "--learned", type=int, default=2000, help="examinations of the site that the judge learns from"
    )
    made.add_argument("--budget", type=float, default=0.005, help="of the judge")
    made.add_argument(
        "--small", action="store_true", help="a judge that is made in a minute, and misses much"
    )
    made.add_argument("--past", type=int, default=120, help="examinations of the past")
    made.add_argument("--days", type=float, default=30.0, help="over which they spread")
    return made.parse_args(argv)


@contextmanager
def emulated(model: str, seed: int, tls: Tls) -> Iterator[tuple[str, int]]:
    """``scanward emulate gantry``; where it listens."""
    command = [
        sys.executable, *_SCANWARD, "emulate", "gantry", "--model", model, "--seed", str(seed), "--factor", "200",
        "--listen", "127.0.0.1:0", "--room", "127.0.0.1:0", "--json", "--quiet",
        "--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key), "--tls-authority", str(tls.authority),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield address(json.loads(process.stdout.readline())["link"])
        finally:
            process.terminate()


@contextmanager
def console(folder: Path, fitting: Fitting) -> Iterator[tuple[str, dict[str, str]]]:
    """``scanward console``; its address, and the passwords of its people."""
    state = folder / "state"
    state.mkdir()
    (folder / "console.toml").write_text(
        f'[web]\nlisten = "127.0.0.1:0"\nstate = "state"\n'
        f'[[scanner]]\nid = "ct1"\nname = "CT 1 (simulated)"\ncontrol = "{fitting.socket}"\n'
        f'audit = "{fitting.audit}"\naudit_keys = ["{fitting.folder / "audit.pub"}"]\n'
        f'bundle = "{fitting.folder / "bundle"}"\nbundle_keys = ["{fitting.folder / "bundle.pub"}"]\n',
        "utf-8",
    )
    people = {"petra": ["physicist"], "operator": ["operator"], "ada": ["administrator"]}
    with Accounts(state / "accounts.sqlite") as accounts:
        passwords = {name: str(accounts.add(name, roles)) for name, roles in people.items()}
    command = [sys.executable, *_SCANWARD, "console", "--config", str(folder / "console.toml"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["address"]).rstrip("/"), passwords
        finally:
            process.terminate()


@contextmanager
def held(port: int, fitting: Fitting, supply: Supply, case: Case) -> Iterator[None]:
    """A host that sends an examination up to its attacked command, and waits; until the block ends."""
    told = threading.Event()
    done = threading.Event()

    async def send() -> None:
        host = await Host.open("127.0.0.1", port, supply.device, fitting.host)
        try:
            *before, last = chains_of(Examination("", case.commands))
            for chain in before:
                _, answer = await host.load(chain, "2.25.4711")
                if answer.ok:
                    continue
            waiting = asyncio.ensure_future(host.load(last, "2.25.4711"))
            await asyncio.sleep(3.0)
            told.set()
            while not done.is_set():
                await asyncio.sleep(0.2)
            waiting.cancel()
        finally:
            told.set()
            await host.close()

    thread = threading.Thread(target=lambda: asyncio.run(send()), daemon=True)
    thread.start()
    told.wait(120.0)
    try:
        yield
    finally:
        done.set()
        thread.join(30.0)


def look(browser: Any, site: str, passwords: dict[str, str], out: Path, say: Say) -> None:
    """Every page, light; Now and History dark as well."""
    for scheme in ("light", "dark"):
        for who, password in passwords.items():
            context = browser.new_context(base_url=site, viewport=SIZE, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto("/sign-in")
            page.fill("#name", who)
            page.fill("#password", password)
            page.keyboard.press("Enter")
            page.wait_for_url(lambda url: "/sign-in" not in url)
            suffix = "" if scheme == "light" else "-dark"
            if who == "operator":
                page.goto("/now")
                page.wait_for_selector(
                    ".place svg", timeout=PATIENCE
                )  # where the values lie comes a little later
                photograph(page, out / f"console-now{suffix}.png", say)
            for path, name, reader, word in PAGES:
                if reader == who and (scheme == "light" or name == "history"):
                    until_shown(page, path, word)
                    photograph(page, out / f"console-{name}{suffix}.png", say)
            context.close()


def until_shown(page: Any, path: str, word: str) -> None:
    """Load ``path`` until ``word`` stands on it: the log is still being read, at first."""
    for _ in range(60):
        page.goto("about:blank")  # or an address that differs in its end alone would not be loaded again
        page.goto(path)
        if word in page.content():
            return
        time.sleep(1.0)
    raise SystemExit(f"{word!r} does not come on {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the past, start the guard and the console, photograph."""
    arguments = options(sys.argv[1:] if argv is None else argv)
    say = sayer()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    model = learned(arguments.seed, arguments.learned, arguments.budget, quick=arguments.small, say=say)
    site = Site(arguments.seed)
    device = site.devices[DEVICE]
    donors = Donors(site.examinations(arguments.learned))
    supply = Supply.of(device, site.examinations(4 * arguments.past, arguments.learned), donors)
    mine = supply.examinations[: arguments.past]
    attacked: dict[int, Examination] = {}
    for place, name in enumerate(SHOWN):
        for case in cases_of(ATTACKS[name], mine, donors, 3, arguments.seed + place):
            attacked[case.unit] = Examination("", case.commands)
    with tempfile.TemporaryDirectory(prefix="scanward-") as made:
        folder = Path(made)
        (folder / "guard").mkdir()
        tls = certificates.make(folder / "guard" / "tls")
        with emulated(supply.model.name, arguments.seed, tls["gantry"]) as gantry:
            fitting = fit_guard(
                folder / "guard", supply.model, device, model.model, model.trust, gantry, ("127.0.0.1", 0),
                tls=tls, hold_s=HOLD_S,
            )  # fmt: skip
            say(f"{len(mine)} examinations, {len(attacked)} of them attacked")
            say(str(live(fitting, mine, attacked, arguments.days, time.time() - 1800.0)))
            guard = GuardProcess(fitting.config)
            guard.start()
            try:
                guard.wait_ready()
                time.sleep(5.0)  # the judge reads its bundle
                several = cases_of(ATTACKS["dose_x3"], supply.examinations[-30:], donors, 12, 7)
                last = first_held(fitting, several)
                with (
                    console(folder, fitting) as (where, passwords),
                    held(guard.port, fitting, supply, last),
                    chromium() as browser,
                ):
                    look(browser, where, passwords, out, say)
            finally:
                guard.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

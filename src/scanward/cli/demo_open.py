"""``scanward demo --open``: an emulated scanner, its guard and the console, until interrupted."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import escape, note
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.emulator.attack import Supply
    from scanward.emulator.standing import Standing

LATER = 300  # examinations after those learned from, of all devices; then they begin anew
SEEN = 200  # that the attacker has seen


def open_demo(
    out: Path, seed: int, learned: int, *, as_json: bool, port: int = 0, examinations: int | None = None
) -> None:
    """Start everything on the bundle in ``out`` and work at the scanner until interrupted.

    Parameters
    ----------
    out : Path
        Holds ``bundle`` and ``demo.pub``. The operator's key is left there, as ``operator.key``.
    seed, learned : int
        The site, and how many of its examinations were learned from.
    examinations : int or None
        End after so many, for tests.
    """
    from scanward.emulator.attack import Supply
    from scanward.emulator.book import approved, bundle_with_book
    from scanward.emulator.demonstration import DEVICE
    from scanward.simulation import Donors, Site

    if not (out / "bundle").is_dir() or not (out / "demo.pub").is_file():
        raise SettingsError("no bundle of a demonstration", str(out), "leave out --open once")
    site = Site(seed)
    supply = Supply.of(
        site.devices[DEVICE], site.examinations(LATER, learned), Donors(site.examinations(SEEN))
    )
    # a socket's path must be short, so guard and console live in a folder of their own
    folder = Path(tempfile.mkdtemp(prefix="scanward-"))
    try:
        judge = bundle_with_book(out / "bundle", out / "demo.pub", approved(site, DEVICE), folder / "judge")
        asyncio.run(_run(folder, out, supply, judge[:2], seed, port, as_json, examinations))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(
    folder: Path,
    out: Path,
    supply: Supply,
    judge: tuple[Path, Path],
    seed: int,
    port: int,
    as_json: bool,
    examinations: int | None,
) -> None:
    from scanward.emulator.rig import Running
    from scanward.emulator.standing import standing, work_on

    note("starting an emulated gantry, its guard and the console")
    async with standing(folder / "guard", supply.device, *judge, seed=seed) as made:
        shutil.copy(made.fitting.operator, out / "operator.key")
        config, passphrase = _console(folder / "console", made, judge, port)
        console = await Running.start(["console", "--config", str(config), "--json"])
        try:
            address = str(json.loads(await console.first_line())["address"])
            told = {
                "address": f"{address}/",
                "account": made.fitting.operator.stem,
                "passphrase": passphrase,
                "key": str(out / "operator.key"),
            }
            _tell(told, as_json)
            webbrowser.open(told["address"])
            await work_on(made, supply, _say(as_json), seed=seed, examinations=examinations)
        finally:
            await console.end()


def _console(folder: Path, made: Standing, judge: tuple[Path, Path], port: int) -> tuple[Path, str]:
    """console.toml and an account for everything; its passphrase."""
    from scanward.console.shared import ROLES
    from scanward.web.accounts import Accounts

    folder.mkdir()
    (folder / "state").mkdir(mode=0o700)
    paths = {
        "control": made.fitting.socket,
        "audit": made.fitting.audit,
        "bundle": judge[0],
    }
    lines = [
        "[web]",
        f'listen = "127.0.0.1:{port}"',
        "[[scanner]]",
        'id = "ct1"',
        'name = "CT 1 (simulated)"',
    ]
    lines += [f"{name} = {json.dumps(str(path))}" for name, path in paths.items()]
    lines += [
        f"audit_keys = [{json.dumps(str(made.fitting.folder / 'audit.pub'))}]",
        f"bundle_keys = [{json.dumps(str(judge[1]))}]",
    ]
    (folder / "console.toml").write_text("\n".join(lines) + "\n", "utf-8")
    with Accounts(folder / "state" / "accounts.sqlite") as accounts:
        passphrase = accounts.add(made.fitting.operator.stem, ROLES)
    assert passphrase is not None
    return folder / "console.toml", passphrase


def _tell(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"The console (simulated): {told['address']}")
    click.echo(f"  sign in as {told['account']}, passphrase {told['passphrase']}")
    click.echo(f"  your key, for acts: {escape(told['key'])}")
    click.echo("Every third examination is attacked. Decide what is on hold; Ctrl-C ends everything.")


def _say(as_json: bool) -> Any:
    def say(line: str) -> None:
        click.echo(json.dumps({"happened": line}) if as_json else escape(line))

    return say

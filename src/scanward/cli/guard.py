"""``scanward guard``: stand between host and gantry. ``--check`` looks at everything and opens nothing.

This process becomes the relay: nothing that it imports may bring numpy (`relay_run`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from scanward.cli.output import escape, print_json
from scanward.errors import ScanwardError, SettingsError

FAILED = 2  # exit status of --check when something is refused


@click.command("guard", short_help="Stand between host and gantry.")
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The guard's configuration (TOML).",
)
@click.option("--check", is_flag=True, help="Look at everything that is configured, and open nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what happens (or --check found) as JSON.")
@click.pass_context
def guard_command(context: click.Context, config_path: Path, check: bool, as_json: bool) -> None:
    """Stand between host and gantry: hold each command until it is judged.

    The guard runs until it gets SIGTERM or Ctrl-C. Then, and when anything unforeseen happens, both links are
    dropped and the gantry goes to its own safe state. docs/guard.md explains the configuration.

    \b
    Example:
      scanward guard --config guard.toml --check
      scanward guard --config guard.toml
    """
    from scanward.guard.config import LinkType, load_config

    config = load_config(config_path)
    if config.link is LinkType.DICOM:
        from scanward.cli.dicom import run_guard  # a process of another kind: no relay, no gantry

        run_guard(config_path, check=check, as_json=as_json)
        return
    if check:
        context.exit(show_check(config, as_json))
    if config.judge is None:
        raise SettingsError(
            "no judge is configured", str(config_path), "add [judge] with bundle and keys (docs/guard.md)"
        )
    from scanward.guard.relay_run import NO_DEVICE, run, verified

    click.echo(NO_DEVICE, err=True)
    found = verified(config)
    for weakening in (*config.weakenings, *found.policy.weakenings):
        click.echo(f"warning: {weakening}", err=True)
    click.echo(
        f"device {config.device.manufacturer} {config.device.model}; policy {escape(found.policy.name)!r}"
        f" version {found.policy.version}",
        err=True,
    )
    context.exit(asyncio.run(run(found, saying(as_json))))


def saying(as_json: bool) -> Callable[[dict[str, Any]], None]:
    """Prints one line at once, for whoever started the guard waits for it: as words, or as JSON."""

    def say(facts: dict[str, Any]) -> None:
        if as_json:
            click.echo(json.dumps(facts))
        elif facts.get("ready"):
            where = f"port {facts['port']}" if facts["port"] else facts["link"]
            elsewhere = f"; consoles to port {facts['control_port']}" if facts.get("control_port") else ""
            click.echo(f"ready: hosts connect to {where}; operators to {escape(facts['control'])}{elsewhere}")
        else:
            told = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "ended")
            click.echo(f"ended: {told}")

    return say


def show_check(config: Any, as_json: bool) -> int:
    """Print what is found; the exit status."""
    from scanward.guard.config_check import check
    from scanward.guard.relay_run import NO_DEVICE

    looks = check(config)
    status = FAILED if any(look.error for look in looks) else 0
    if as_json:
        print_json(
            {
                "ok": status == 0,
                "looks": [
                    {
                        "name": look.name,
                        "facts": look.facts,
                        "warning": look.warning,
                        "error": look.error.as_json() if look.error else None,
                    }
                    for look in looks
                ],
            }
        )
        return status
    click.echo(NO_DEVICE)
    for look in looks:
        click.echo(f"{look.name}: {'REFUSED' if look.error else 'ok'}")
        for name, fact in look.facts.items():
            shown = ", ".join(map(str, fact)) if isinstance(fact, list) else str(fact)
            click.echo(f"  {name}: {escape(shown) or 'none'}")
        if look.warning:
            click.echo(f"  warning: {escape(look.warning)}")
        if look.error is not None:
            _show_error(look.error)
    return status


def _show_error(error: ScanwardError) -> None:
    click.echo(f"  error: {escape(str(error))}")

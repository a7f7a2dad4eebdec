"""``scanward record``: listen between host and gantry and keep what was carried out, judging nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from scanward.cli.guard import saying


@click.command("record", short_help="Record commands between host and gantry, judging nothing.")
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The guard's configuration (TOML); [judge] is not needed.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the recordings; made when absent.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what happens as JSON, one object a line.")
@click.pass_context
def record_command(context: click.Context, config_path: Path, out: Path, as_json: bool) -> None:
    """Stand between host and gantry and record every command that is carried out. Nothing is judged.

    This is the guard in shadow mode without a judge: the policy must say unsafe_shadow = true, and the audit
    log says so too. What the hardware cannot do is refused all the same. The recordings hold no identifiers of
    patients; `scanward train OUT --dialect OUT/dialect.toml` learns from them.

    \b
    Example:
      scanward record --config guard.toml --out recordings/
    """
    from scanward.guard.config import load_config
    from scanward.guard.relay_run import NO_DEVICE, run, verified

    config = load_config(config_path)
    click.echo(NO_DEVICE, err=True)
    found = verified(config)
    click.echo("warning: recording: every command is passed on unjudged", err=True)
    context.exit(asyncio.run(run(found, saying(as_json), out)))

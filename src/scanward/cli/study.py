"""``scanward study``: reader studies. Each command is loaded when it is used; one line here makes one known."""

from __future__ import annotations

import importlib

import click

from scanward.cli.main import Lazy, add_common_options

COMMANDS = {
    "create": Lazy("scanward.cli.study_create", "create_command", "Make a study: freeze its protocol."),
    "check": Lazy("scanward.cli.study_create", "check_command", "Check that a study is as it was made."),
    "accounts": Lazy("scanward.cli.study_accounts", "accounts_command", "Give readers and leads accounts."),
    "serve": Lazy("scanward.cli.study_serve", "serve_command", "Serve a study's pages."),
    "rehearse": Lazy("scanward.cli.study_rehearse", "rehearse_command", "Let model observers read a study."),
    "export": Lazy("scanward.cli.study_export", "export_command", "Write what was read as a tidy table."),
    "analyse": Lazy(
        "scanward.cli.study_analyse", "analyse_command", "Analyse ratings: multi-reader multi-case."
    ),
    "power": Lazy("scanward.cli.study_power", "power_command", "How many readers and cases a study needs."),
}


class StudyGroup(click.Group):
    """A group whose commands are imported one by one: making a study needs no server, serving one no SciPy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a study's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of ``cmd_name``; None for a name that is no command."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        command.short_help = lazy.summary
        add_common_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing a single one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])


@click.group("study", cls=StudyGroup, short_help="Reader studies: make, serve, export and analyse them.")
def study_group() -> None:
    """Can people tell? Make a blinded reader study, serve it, export what was read, and analyse it.

    Research only: pictures of a study may have been modified, and its pages say so.

    \b
    Example:
      scanward study create --genuine phantoms/ --modified inserted/ --modified removed/ \\
          --design examples/reader-study/design.toml --out study/
      scanward study check study/
    """

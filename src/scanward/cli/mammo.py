"""``scanward mammo``: data sets of mammograms."""

from __future__ import annotations

import click

from scanward.cli.mammo_import import import_command
from scanward.cli.mammo_inspect import inspect_command
from scanward.cli.mammo_phantom import phantom_command, split_command


@click.group("mammo", short_help="Mammograms: import data sets, phantoms, splits.")
def mammo_group() -> None:
    """Mammograms: import public data sets, make phantoms, split by patient.

    \b
    Example:
      scanward mammo import mias downloads/mini-mias/ mias/
      scanward mammo inspect mias/
      scanward mammo phantom phantoms/ --patients 200
    """


mammo_group.add_command(import_command)
mammo_group.add_command(inspect_command)
mammo_group.add_command(phantom_command)
mammo_group.add_command(split_command)

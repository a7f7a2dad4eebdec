"""``scanward mammo``: data sets of mammograms."""

from __future__ import annotations

import click


@click.group("mammo", short_help="Mammograms: import data sets, phantoms, splits.")
def mammo_group() -> None:
    """Mammograms: import public data sets, make phantoms, split by patient.

    \b
    Example:
      scanward mammo phantom phantoms/ --patients 200
    """

"""``scanward tamper``: training the CycleGAN and applying it, for defence research only."""

from __future__ import annotations

import click

from scanward.cli.tamper_apply import insert_command, remove_command
from scanward.cli.tamper_evaluate import evaluate_command
from scanward.cli.tamper_train import presets_command, train_command


@click.group("tamper", short_help="Research: a CycleGAN that inserts and removes lesions.")
def tamper_group() -> None:
    """Train a CycleGAN that inserts and removes lesions in mammograms, and apply it. For defence research only.

    Every picture that comes out says that it is modified. Nothing is ever sent to an archive.

    \b
    Example:
      scanward mammo phantom phantoms/ --patients 400
      scanward tamper train --data phantoms/ --preset scanward-64 --out run/
      scanward tamper presets
    """


tamper_group.add_command(presets_command)
tamper_group.add_command(train_command)
tamper_group.add_command(evaluate_command)
tamper_group.add_command(insert_command)
tamper_group.add_command(remove_command)

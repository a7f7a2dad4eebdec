"""``scanward tamper``: training the CycleGAN and applying it, for defence research only."""

from __future__ import annotations

import click


@click.group("tamper", short_help="Research: a CycleGAN that inserts and removes lesions.")
def tamper_group() -> None:
    """Train a CycleGAN that inserts and removes lesions in mammograms, and apply it. For defence research only.

    Every picture that comes out says that it is modified. Nothing is ever sent to an archive.
    """

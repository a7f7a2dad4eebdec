"""Fixtures shared by all tests. Add to this file; do not change what is here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

# A busy machine is no failure of the code: no deadlines. Everything else stays at hypothesis' own values.
settings.register_profile(
    "scanward", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("scanward")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings and reference tables, which is never part of the repository.

    ``SCANWARD_SHARED_DATA`` names it; otherwise ``../shared/data`` beside the repository is tried. A test
    that asks for this fixture is skipped where the folder is absent.
    """
    named = os.environ.get("SCANWARD_SHARED_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set SCANWARD_SHARED_DATA to its folder)")
    return folder

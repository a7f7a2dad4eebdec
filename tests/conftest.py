"""Fixtures shared by all tests. Add to this file; do not change what is here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from _trained import Trained
from _trained import make as make_trained

# As the command line does it (`scanward.cli.main` says why), before anything imports numpy.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# Started in the background by a shell, we inherit that Ctrl-C is ignored; so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small bundle trained on a simulated site, with tables of later examinations: see ``_trained``."""
    base = tmp_path_factory.getbasetemp()
    # Under pytest-xdist each worker has a folder of its own in one that they share.
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return make_trained(shared / "small-bundle")


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any keys or accepted versions: nothing of whoever runs the tests is read or written."""
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.delenv("SCANWARD_KEY_PASSPHRASE", raising=False)
    return home

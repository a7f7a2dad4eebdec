"""A small trained bundle for the tests of all that judges: made once a session, shared by all workers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scanward.commands import Examination

SEED = 11
TRAINED = 420  # examinations; a quarter of them can express a budget of 0.01
LATER = 60  # examinations of the same site that the bundle has never seen
BUDGET = 0.01


@dataclass(frozen=True)
class Trained:
    """Where things are: the bundle, its keys, and tables of examinations with the dialect that reads them."""

    folder: Path

    @property
    def model(self) -> Path:
        """The signed bundle."""
        return self.folder / "model"

    @property
    def key(self) -> Path:
        """Private key that signed it."""
        return self.folder / "site.key"

    @property
    def trust(self) -> Path:
        """Public key to trust."""
        return self.folder / "site.pub"

    @property
    def dialect(self) -> Path:
        """Dialect of the tables."""
        return self.folder / "site.toml"

    @property
    def later(self) -> Path:
        """A table of later, clean examinations."""
        return self.folder / "later.csv"

    def examinations(self) -> list[Examination]:
        """The later examinations, as they are read from their table."""
        from scanward.recordings import examinations, load_dialect, read

        return examinations(read([self.later], dialect=load_dialect(self.dialect)).commands)


def make(folder: Path) -> Trained:
    """The trained bundle in ``folder``, trained now unless another process has done it."""
    trained = Trained(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if not (folder / "done").exists():
            _train(trained)
            (folder / "done").touch()
    return trained


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _train(trained: Trained) -> None:
    # Late: conftest imports this module, and most tests want no training library.
    from scanward import bundle
    from scanward.keys import SigningKey, write_pair
    from scanward.learning import fit as fitting
    from scanward.learning import folds
    from scanward.learning.bundling import facts_of
    from scanward.recordings import examinations, load_dialect, read
    from scanward.recordings.writing import write_table
    from scanward.simulation import Site

    site = Site(SEED)
    table = trained.folder / "early.csv"
    write_table([c for e in site.examinations(TRAINED) for c in e.commands], table)
    write_table(
        [c for e in site.examinations(LATER, TRAINED) for c in e.commands], trained.later, trained.dialect
    )
    used = examinations(read([table], dialect=load_dialect(trained.dialect)).commands)
    # Short training: these tests ask how verdicts are made and told, not how good they are.
    settings = fitting.Settings(budget=BUDGET, seed=1, spoilt=1.0, rounds=60, steps=100)
    few, folds.ENOUGH = folds.ENOUGH, 1
    try:
        fitted = fitting.fit(used, settings)
    finally:
        folds.ENOUGH = few
    write_pair(trained.folder / "site", key := SigningKey.from_seed(bytes(range(32))))
    bundle.write(trained.model, fitted.onion.part(), facts_of(fitted, used), key)

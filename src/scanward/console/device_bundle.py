"""The console's copy of a scanner's bundle: verified as a judge verifies it, and verified again when it changes.

It is for looking at alone: no verdict comes from it. Blocks: for threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scanward.bundle import Manifest, read
from scanward.bundle.manifest import MANIFEST, SIGNATURE
from scanward.config import DRIFT_BOUNDS, DriftBounds
from scanward.console.drift_reference import Reference, reference_of
from scanward.errors import BundleError, ScanwardError
from scanward.keys import VerifyKey


@dataclass(frozen=True, slots=True)
class Copy:
    """What was found when it was last looked at.

    Attributes
    ----------
    looked : float
        s since 1970.
    manifest : Manifest or None
        Of the bundle, whose signature and files hold; None when they do not, or it cannot be read.
    trouble : str
        Why there is no manifest; why there is no ``reference``.
    """

    looked: float
    manifest: Manifest | None = None
    reference: Reference | None = None
    trouble: str = ""

    @property
    def created(self) -> float:
        """s since 1970, as whoever trained it says (training by default tells the time of its newest command)."""
        if self.manifest is None:
            return 0.0
        return datetime.fromisoformat(self.manifest.facts.created).timestamp()


class BundleCopy:
    """The bundle in ``folder``. ``keys`` are files of public keys, read each time: a key that is gone trusts nobody."""

    def __init__(
        self,
        folder: Path,
        keys: tuple[Path, ...],
        clock: Callable[[], float],
        bounds: DriftBounds = DRIFT_BOUNDS,
    ) -> None:
        self.folder, self._keys, self._clock, self._bounds = folder, keys, clock, bounds
        self._lock = threading.Lock()
        self._marks: object = None
        self._found: Copy | None = None

    def look(self) -> Copy:
        """What is there now; verified anew when its files are others than before, and from time to time."""
        with self._lock:
            now = self._clock()
            marks = self._mark()
            found = self._found
            if (
                found is None
                or marks != self._marks
                or not 0 <= now - found.looked < self._bounds.bundle_seconds
            ):
                self._found = found = self._read(now, found if marks == self._marks else None)
                self._marks = marks
            return found

    def _mark(self) -> tuple[tuple[int, int, int], ...]:
        """Of each file that says which bundle this is: inode, size, time of change."""
        marks = []
        for path in (self.folder, self.folder / MANIFEST, self.folder / SIGNATURE, *self._keys):
            try:
                facts = path.stat()
            except (OSError, ValueError):
                marks.append((0, 0, 0))
                continue
            marks.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
        return tuple(marks)

    def _read(self, now: float, before: Copy | None) -> Copy:
        try:
            bundle = read(self.folder, trusted=[VerifyKey.load(path) for path in self._keys])
        except ScanwardError as error:
            return Copy(now, trouble=str(error))
        if before is not None and before.manifest == bundle.manifest:
            return Copy(now, bundle.manifest, before.reference, before.trouble)
        try:
            return Copy(now, bundle.manifest, reference_of(bundle))
        except BundleError as error:
            return Copy(now, bundle.manifest, trouble=str(error))

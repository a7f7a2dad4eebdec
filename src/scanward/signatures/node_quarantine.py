"""A folder of objects that were not genuine: each as it came, with the report that refused it.

These files hold patients' data. The folder is made for its owner alone, and is bounded: beyond that objects are still
refused, only not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scanward.config import NODE_BOUNDS
from scanward.errors import InputError

_SUFFIXES = (".dcm", ".json")


class Quarantine:
    """Keeps files by their SHA-256; the same file twice is one.

    Parameters
    ----------
    folder : Path
        Made when it is not there; InputError when it cannot be, or when others may write there.
    most : int
        Bytes kept altogether.
    """

    def __init__(self, folder: Path, most: int = NODE_BOUNDS.quarantine_bytes) -> None:
        self._folder, self._most = folder, most
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_mode & 0o022:
                raise InputError(
                    "others may write into the quarantine", str(folder), "chmod go-w, or another folder"
                )
            for draft in folder.glob("*.part"):
                draft.unlink(missing_ok=True)
            self._used = sum(each.stat().st_size for each in folder.iterdir() if each.suffix in _SUFFIXES)
        except OSError as error:
            raise InputError(
                f"no folder for a quarantine ({error.strerror})", str(folder), "give another folder"
            ) from error

    def keep(self, file: bytes, report: Mapping[str, Any]) -> str:
        """Keep a file; its name without ending, or "" when there is no room (or the disk refuses)."""
        name = hashlib.sha256(file).hexdigest()
        told = json.dumps(report, indent=1, default=str).encode() + b"\n"
        with self._lock:
            place = self._folder / f"{name}.dcm"
            if place.exists():
                return name
            if self._used + len(file) + len(told) > self._most:
                return ""
            try:
                # The report first: a file without one is never there.
                _write(self._folder / f"{name}.json", told)
                _write(place, file)
            except OSError:
                return ""
            self._used += len(file) + len(told)
        return name


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.part")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise

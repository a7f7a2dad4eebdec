"""The folder that an import fills: claimed while it runs, whole when it ends, never mixed with anything else's files.

``unfinished`` lies in it from the first moment until the manifest is written. Who finds it without a manifest finds
an import that was killed: the next one starts clean.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scanward.errors import SettingsError
from scanward.mammography.import_one import OutputError, writing
from scanward.mammography.manifest import MANIFEST

UNFINISHED = "unfinished"
FOLDERS = ("images", "breast", "lesions")
# what phantoms know of themselves: `scanward.mammography.phantom_sets`
HEALTHY, LESIONED, PECTORAL = "healthy", "lesioned", "pectoral"
_ALL_FOLDERS = (*FOLDERS, HEALTHY, LESIONED, PECTORAL)
_OURS = frozenset((*_ALL_FOLDERS, MANIFEST, f"{MANIFEST}.part", UNFINISHED))


@contextmanager
def claimed(
    out: Path, src: Path | None, *, force: bool, folders: tuple[str, ...] = FOLDERS
) -> Iterator[None]:
    """Hold ``out`` for one import, empty but for ``folders``; released without ``unfinished`` when all went well.

    ``src`` is where it comes from, None when it comes from nowhere. Folders that stay empty are removed.

    Raises
    ------
    SettingsError
        It holds a data set (unless ``force``), something else (always), lies in the source, or another import
        is at work in it.
    OutputError
        It cannot be made or written.
    """
    _refuse(out, src, force=force)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / UNFINISHED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                "another import is at work there", str(out), "wait for it, or name another folder"
            ) from error
        with writing(out):
            (out / MANIFEST).unlink(missing_ok=True)  # first: half a data set must not look whole
            for name in _ALL_FOLDERS:
                if (out / name).is_dir():
                    shutil.rmtree(out / name)
            for name in folders:
                (out / name).mkdir()
        yield
        with writing(out):
            for name in folders:
                if not any((out / name).iterdir()):
                    (out / name).rmdir()
            (out / UNFINISHED).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _refuse(out: Path, src: Path | None, *, force: bool) -> None:
    try:
        real, source = out.resolve(), src.resolve() if src is not None else None
        if source is not None and (real == source or source in real.parents or real in source.parents):
            raise SettingsError("OUT and SRC lie in each other", str(out), "name a folder elsewhere")
        if not out.exists():
            return
        if not out.is_dir():
            raise SettingsError("OUT is a file", str(out), "name a folder")
        names = {path.name for path in out.iterdir()}
    except OSError as error:
        raise OutputError(f"cannot be looked at: {error.strerror}", str(out), "check the path") from error
    if names - _OURS:
        raise SettingsError("OUT holds something else than a data set", str(out), "name an empty folder")
    if any((out / name).is_symlink() for name in names):
        raise SettingsError("OUT holds links", str(out), "name an empty folder")
    if names and not (UNFINISHED in names and MANIFEST not in names) and not force:
        raise SettingsError("OUT holds a data set", str(out), "name another folder, or --force to replace it")

"""The highest version accepted of each device, remembered: a bundle never goes back unnoticed.

One small JSON file. Whoever can delete or change it can roll back, so it belongs to the guard's own user
(0600). Missing means that nothing was accepted yet; unreadable or damaged means that nothing is.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from scanward.bundle import canonical
from scanward.bundle.manifest import Manifest
from scanward.commands import Device, Role
from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError, RollbackError

_KIND: Final = "scanward.versions"


class VersionFloor:
    """Versions accepted so far, per device and role.

    A *line* is one device (maker, model, serial as the bundle or the caller names them) in one role. Versions
    of a line only grow, and a second bundle of the same version but other content is refused like an older
    one.
    """

    def __init__(self, path: Path, bounds: BundleBounds = BUNDLE_BOUNDS) -> None:
        self.path = path
        self._bounds = bounds

    @staticmethod
    def default_path() -> Path:
        """``$XDG_STATE_HOME/scanward/versions.json``, or under ``~/.local/state`` (XDG Base Directory)."""
        state = os.environ.get("XDG_STATE_HOME", "")
        home = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
        return home / "scanward" / "versions.json"

    def lowest(self, device: Device, role: Role) -> int:
        """Lowest version still acceptable for ``device``: give it to ``read`` as ``not_before``."""
        entry = self._load().get(_line(device, role))
        return entry[0] if entry else 0

    def highest(self) -> int:
        """Highest version accepted of any device here, 0 when none was: the next one is to be larger."""
        return max((version for version, _ in self._load().values()), default=0)

    def check(self, manifest: Manifest, device: Device | None = None) -> None:
        """RollbackError when ``manifest`` is older than, or a rival of, what was accepted. No change."""
        self._raised(self._load(), manifest, device)

    def accept(self, manifest: Manifest, device: Device | None = None) -> None:
        """``check``, then remember, atomically and durably. Writes nothing when there is nothing new.

        ``device`` is the one to be judged; without it, every device that the bundle names.
        """
        if self._raised(self._load(), manifest, device) is None:
            return
        with self._locked():
            raised = self._raised(self._load(), manifest, device)  # again: another may have come before us
            if raised is not None:
                self._store(raised)

    def _raised(
        self, lines: dict[str, tuple[int, str]], manifest: Manifest, device: Device | None
    ) -> dict[str, tuple[int, str]] | None:
        """``lines`` with ``manifest`` accepted, None when it was already."""
        raised = dict(lines)
        for one in (device,) if device else manifest.facts.devices:
            line = _line(one, manifest.facts.role)
            version, digest = lines.get(line, (0, ""))
            if manifest.version < version:
                raise RollbackError(
                    f"version {manifest.version} is older than version {version}, which was accepted before",
                    str(self.path),
                    "give the newest bundle",
                )
            if manifest.version == version and manifest.digest != digest:
                raise RollbackError(
                    f"another bundle of the same version {version} was accepted before",
                    str(self.path),
                    "train it with a larger version",
                )
            raised[line] = (manifest.version, manifest.digest)
        return raised if raised != lines else None

    def _load(self) -> dict[str, tuple[int, str]]:
        try:
            with open(self.path, "rb", opener=_no_wait) as file:
                data = file.read(self._bounds.floor_bytes + 1)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise self._trouble("cannot read the accepted versions", error) from error
        if len(data) > self._bounds.floor_bytes:
            raise BundleError("the file of accepted versions is too large", str(self.path), _RESTORE)
        document = canonical.loads(data, str(self.path), self._bounds)
        lines: dict[str, tuple[int, str]] = {}
        try:
            if document["kind"] != _KIND:
                raise ValueError("another kind of file")
            for line, (version, digest) in document["accepted"].items():
                if isinstance(version, bool) or not isinstance(version, int) or not isinstance(digest, str):
                    raise ValueError("a malformed entry")
                lines[line] = (version, digest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError("the file of accepted versions is damaged", str(self.path), _RESTORE) from error
        return lines

    def _store(self, lines: dict[str, tuple[int, str]]) -> None:
        data = canonical.dumps({"kind": _KIND, "accepted": lines}, str(self.path), self._bounds, indent=1)
        if len(data) > self._bounds.floor_bytes:
            raise BundleError(
                "too many devices to remember their versions", str(self.path), "use another file"
            )
        sibling = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            try:
                handle = os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                sibling.replace(self.path)
            finally:
                with suppress(OSError):
                    sibling.unlink(missing_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._trouble("cannot remember the accepted version", error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.path.with_name(f".{self.path.name}.lock")
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except (OSError, ValueError) as error:
            raise self._trouble("cannot remember the accepted version", error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # held for one small write; who holds it is about to let go
            yield
        finally:
            os.close(handle)

    def _trouble(self, what: str, error: OSError | ValueError) -> BundleError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return BundleError(f"{what}: {reason}", str(self.path), "check the file, its folder and the disk")


_RESTORE: Final = "restore it from a backup; remove it only if every older bundle may be accepted again"


def _no_wait(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _line(device: Device, role: Role) -> str:
    return f"{device.key}|{device.serial}|{role}"

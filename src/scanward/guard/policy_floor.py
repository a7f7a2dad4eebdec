"""The highest version accepted of each policy and device profile: neither goes back unnoticed.

The same rule as for bundles (`bundle.floor`), without numpy: the relay reads this file. Whoever can change it can
roll back, so it belongs to the guard's own user (0600). Missing means that nothing was accepted yet; damaged
means that nothing is.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Final

from scanward.commands import Device
from scanward.config import POLICY_BOUNDS, PolicyBounds
from scanward.errors import PolicyError
from scanward.guard.policy_signing import read_bytes, write_whole

_KIND: Final = "scanward.policy-versions"
_RESTORE: Final = "restore it from a backup; remove it only if every older policy may be accepted again"


class PolicyFloor:
    """Versions accepted so far. A *line* is one kind of file for one device; its versions only grow."""

    def __init__(self, path: Path, bounds: PolicyBounds = POLICY_BOUNDS) -> None:
        self.path = path
        self._bounds = bounds

    def highest(self, kind: str, device: Device) -> int:
        """Highest version accepted, 0 when none was."""
        return self._load().get(_line(kind, device), (0, ""))[0]

    def check(self, kind: str, device: Device, version: int, digest: str) -> None:
        """PolicyError when this is older than, or a rival of, what was accepted. No change."""
        _raised(self._load(), _line(kind, device), version, digest, str(self.path))

    def accept(self, kind: str, device: Device, version: int, digest: str) -> None:
        """``check``, then remember, atomically and durably. Writes nothing when there is nothing new."""
        line = _line(kind, device)
        if _raised(self._load(), line, version, digest, str(self.path)) is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.path.with_name(f".{self.path.name}.lock")
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise PolicyError(
                f"cannot remember the accepted version: {reason}", str(self.path), "check folder and disk"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # held for one small write
            raised = _raised(self._load(), line, version, digest, str(self.path))
            if raised is not None:
                document = {"kind": _KIND, "accepted": raised}
                write_whole(
                    self.path, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode(), 0o600
                )
        finally:
            os.close(handle)

    def _load(self) -> dict[str, tuple[int, str]]:
        if not self.path.exists():
            return {}
        data = read_bytes(self.path, self._bounds.floor_bytes)
        damaged = PolicyError("the file of accepted versions is damaged", str(self.path), _RESTORE)
        try:
            document: Any = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise damaged from error
        if not isinstance(document, dict) or document.get("kind") != _KIND:
            raise damaged
        lines: dict[str, tuple[int, str]] = {}
        accepted = document.get("accepted")
        if not isinstance(accepted, dict):
            raise damaged
        for line, entry in accepted.items():
            if not isinstance(entry, list) or len(entry) != 2:
                raise damaged
            version, digest = entry
            if isinstance(version, bool) or not isinstance(version, int) or not isinstance(digest, str):
                raise damaged
            lines[line] = (version, digest)
        return lines


def _raised(
    lines: dict[str, tuple[int, str]], line: str, version: int, digest: str, where: str
) -> dict[str, tuple[int, str]] | None:
    highest, known = lines.get(line, (0, ""))
    if version < highest:
        raise PolicyError(
            f"version {version} is older than version {highest}, which was accepted before",
            where,
            "give the newest one, or sign this one with a larger version",
        )
    if version == highest and digest != known:
        raise PolicyError(
            f"another one of the same version {version} was accepted before",
            where,
            "raise its version and sign it again",
        )
    return None if version == highest else {**lines, line: (version, digest)}


def _line(kind: str, device: Device) -> str:
    return f"{kind}|{device.key}|{device.serial}"

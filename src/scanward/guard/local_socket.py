"""A unix-domain socket that listens for processes of this user (or a group) alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from scanward.errors import LinkError


def unix_socket(path: Path, *, mode: int = 0o600, group: int = -1) -> socket.socket:
    """A bound socket, not blocking, that only this user (0600), or a group (0660), can open.

    Raises
    ------
    LinkError
        When the path is taken by something else, or by a guard that lives.
    """
    if mode & 0o007 or mode & 0o111:
        raise LinkError(f"a socket of mode {mode:04o} is open to others", str(path), "use 0600 or 0660")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        # Between bind and listen nobody can connect: the rights are set before there is a door.
        path.chmod(mode)
        if group >= 0:
            os.chown(path, -1, group)
    except (OSError, ValueError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LinkError(
            f"cannot listen: {reason}", str(path), "choose another path (at most 107 bytes)"
        ) from error
    except LinkError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: Path) -> None:
    """Take away a socket that a guard left behind; LinkError when it is something else, or alive."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise LinkError("something else is there", str(path), "choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        trouble = probe.connect_ex(str(path))
    if trouble not in (errno.ECONNREFUSED, errno.ENOENT):
        raise LinkError("another guard listens there", str(path), "stop it, or choose another path")
    path.unlink(missing_ok=True)

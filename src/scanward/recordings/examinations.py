"""Commands grouped into examinations, in order of time, whatever order they were read in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any

from scanward.commands import Command, Examination

LONE_PREFIX = "lone-"  # marks an examination of one command whose examination is not known


def canonical(command: Command) -> tuple[Any, ...]:
    """Everything a command says except where it was read; sortable, equal for equal commands."""
    return (
        tuple(sorted((name, repr(value)) for name, value in command.parameters.items())),
        tuple(
            sorted(
                (name, tuple((repr(t.value), str(t.source)) for t in told))
                for name, told in command.context.parts.items()
            )
        ),
        (command.device.manufacturer, command.device.model, command.device.serial, command.device.software),
        str(command.role),
        tuple(sorted((name, str(role)) for name, role in command.roles.items())),
        command.examination or "",
        command.event or "",
        str(command.mode),
    )


def in_time(command: Command) -> tuple[float, float]:
    """The first two sorting keys: acquired_at (unknown last) and order."""
    return (math.inf if command.acquired_at is None else command.acquired_at, command.order)


def examinations(commands: Iterable[Command]) -> list[Examination]:
    """Group by ``Command.examination``, order by (acquired_at, order, content).

    The result depends on the commands alone and not on the order they come in. A command without an
    examination becomes an examination of one, called ``lone-`` and a digest of its content (with a count for
    equal ones); its ``Command.examination`` stays None, by which the procedure layer knows to abstain.
    Examinations come in the order of their first command, then by identifier.
    """
    groups: dict[str, list[Command]] = {}
    lone: list[Command] = []
    for command in commands:
        if command.examination is None:
            lone.append(command)
        else:
            groups.setdefault(command.examination, []).append(command)
    result = [Examination(name, tuple(_ordered(group))) for name, group in groups.items()]
    counts: dict[str, int] = {}
    for command in _ordered(lone):
        said = repr((command.acquired_at, command.order, canonical(command))).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(said, digest_size=8).hexdigest()
        counts[digest] = counts.get(digest, 0) + 1
        again = f"-{counts[digest]}" if counts[digest] > 1 else ""
        result.append(Examination(f"{LONE_PREFIX}{digest}{again}", (command,)))
    return sorted(result, key=lambda exam: (in_time(exam.commands[0]), exam.identifier))


def _ordered(commands: list[Command]) -> list[Command]:
    if len(commands) < 2:
        return commands
    if len({in_time(command) for command in commands}) == len(commands):
        return sorted(commands, key=in_time)  # no ties: the content, slow to spell out, decides nothing
    return sorted(commands, key=lambda command: (in_time(command), canonical(command)))

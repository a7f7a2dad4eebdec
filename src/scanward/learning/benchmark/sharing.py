"""Work that rows of one world share: learned by the first, taken by the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from scanward.commands import Command
from scanward.learning.benchmark.answers import Floats
from scanward.learning.benchmark.worlds import World

T = TypeVar("T")
REMEMBERED = 400_000  # commands whose answers are kept


@dataclass
class Last(Generic[T]):
    """What was last made of a world, for the other rows that share it: one thing alone, since they are large."""

    made: tuple[World, Hashable, T] | None = None

    def of(self, world: World, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` makes, unless it was made last time of the same examinations and the same ``key``."""
        if self.made is not None:
            before, known, value = self.made
            if known == key and (before.learn is world.learn or before.learn == world.learn):
                return value
        self.made = None  # given back before more is taken
        value = make()
        self.made = (world, key, value)
        return value


@dataclass
class Remembered:
    """Answers to the commands last asked about, for the other rows that ask about the very same objects."""

    kept: dict[tuple[int, ...], tuple[list[Command], Floats]] = field(default_factory=dict)

    def of(self, histories: Sequence[Sequence[Command]], make: Callable[[list[Command]], Floats]) -> Floats:
        """What ``make`` tells of every command of ``histories``, one after the other along its first axis."""
        commands = [c for h in histories for c in h]
        key = tuple(map(id, commands))  # what is kept holds its commands, so that no identity is used again
        if key not in self.kept:
            while self.kept and len(commands) + sum(map(len, self.kept)) > REMEMBERED:
                self.kept.pop(next(iter(self.kept)))
            self.kept[key] = (commands, make(commands))
        return self.kept[key][1]

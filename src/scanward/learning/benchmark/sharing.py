"""Work that rows of one world share: learned by the first, taken by the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from scanward.learning.benchmark.worlds import World

T = TypeVar("T")


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

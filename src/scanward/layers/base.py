"""What every layer is: a pure function of (state, command), made from parts that a bundle can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, LayerName, Opinion

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


@dataclass(frozen=True)
class Part:
    """What a layer needs to be made again: plain settings, arrays and ONNX graphs. Never a pickle.

    ``settings`` must survive JSON; ``arrays`` go to safetensors; ``graphs`` hold serialized ONNX models.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    graphs: dict[str, bytes] = field(default_factory=dict)

    def scoped(self, prefix: str) -> Part:
        """The sub-part stored under ``prefix``."""
        cut = f"{prefix}."
        return Part(
            self.settings.get(prefix, {}),
            {k[len(cut) :]: v for k, v in self.arrays.items() if k.startswith(cut)},
            {k[len(cut) :]: v for k, v in self.graphs.items() if k.startswith(cut)},
        )

    @staticmethod
    def joined(parts: Mapping[str, Part]) -> Part:
        """Several parts as one, each under its own prefix (the inverse of ``scoped``)."""
        return Part(
            {name: part.settings for name, part in parts.items()},
            {f"{name}.{k}": np.asarray(v) for name, part in parts.items() for k, v in part.arrays.items()},
            {f"{name}.{k}": v for name, part in parts.items() for k, v in part.graphs.items()},
        )


State = TypeVar("State")


class Layer(Protocol[State]):
    """One skin of the onion.

    ``judge`` is pure: the same state and command give the same opinion and the same new state, and it does no
    I/O and reads no clock. ``start`` is the state at the beginning of an examination. The new state is what
    holds *if the command is sent*; a caller that does not send it keeps the old one.
    """

    @property
    def name(self) -> LayerName:
        """Which skin this is."""
        ...

    def start(self) -> State:
        """State before the first command of an examination."""
        ...

    def judge(self, state: State, command: Command) -> tuple[Opinion, State]:
        """Opinion on ``command``, and the state once it has been sent."""
        ...

    def part(self) -> Part:
        """Everything needed to make this layer again with ``from_part``."""
        ...

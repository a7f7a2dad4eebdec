"""Where a study's pictures come from: data sets, outputs of ``scanward tamper``, and plain folders with a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.reading.planning import Case
from scanward.reading.protocol import Modification

Grey = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A picture to be read: ``read`` gives 16 bits, tissue bright. ``where`` names it for errors and the key."""

    where: str
    sha256: str
    read: Callable[[], Grey]


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A modified picture and what was done to it."""

    source: Source
    modification: Modification


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """A genuine picture with its twins by arm; the twin of "" serves every arm that has none of its own."""

    case: Case
    source: Source
    twins: Mapping[str, Twin]

    def twin(self, arm: str) -> Twin:
        """The modified picture that an arm shows."""
        return self.twins[arm] if arm in self.twins else self.twins[""]

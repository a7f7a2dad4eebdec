"""How often each value was learned from: what a console compares today's commands with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scanward.commands import Examination
from scanward.layers.encoding import UNKNOWN, Encoder


def seen(encoder: Encoder, examinations: Sequence[Examination], kept: float) -> dict[str, Any]:
    """Counts for a bundle's metrics.

    ``fields`` maps each learned field to how many commands had each of its codes (`layers.encoding.Learned`). Of those
    that the encoder was learned from, hardly one has a value that it does not know; of others some always have. How
    many stands in ``unlearned``, of the last ``kept`` (0 to 1) of the examinations, which calibration kept for itself.
    ``effective`` is the number of independent draws (Kish) if all commands of an examination said the same, as what is
    known of a patient does.
    """
    rows = encoder.rows(tuple(c for e in examinations for c in e.commands)).codes
    last = examinations[len(examinations) - math.ceil(len(examinations) * kept) :]
    late = len(rows) - sum(len(e.commands) for e in last)
    names = [field.name for field in encoder.fields]
    return {
        "examinations": len(examinations),
        "commands": len(rows),
        "effective": len(rows) ** 2 / max(1, sum(len(e.commands) ** 2 for e in examinations)),
        "fields": {
            name: np.bincount(rows[:, f], minlength=encoder.fields[f].size).tolist()
            for f, name in enumerate(names)
        },
        "unlearned": {
            "commands": len(rows) - late,
            "fields": {name: int((rows[late:, f] == UNKNOWN).sum()) for f, name in enumerate(names)},
        },
    }

"""How often each value was learned from: what a console compares today's commands with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scanward.commands import Examination
from scanward.layers.encoding import Encoder


def seen(encoder: Encoder, examinations: Sequence[Examination]) -> dict[str, Any]:
    """Counts for a bundle's metrics.

    ``fields`` maps each learned field to how many commands had each of its codes (`layers.encoding.Learned`).
    """
    rows = encoder.rows(tuple(c for e in examinations for c in e.commands))
    return {
        "examinations": len(examinations),
        "commands": len(rows.codes),
        "fields": {
            field.name: np.bincount(rows.codes[:, f], minlength=field.size).tolist()
            for f, field in enumerate(encoder.fields)
        },
    }

"""Counting the steps of examinations (the tables of ``layers.steps``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from scanward.commands import Examination
from scanward.layers.encoding import ELEMENT, Encoder
from scanward.layers.steps import Steps

HALF = 0.5  # added to a count: what was never seen is possible
END = -1  # the next element of the last command


def learn_steps(encoder: Encoder, examinations: Sequence[Examination]) -> Steps:
    """Count what follows what, and how often people repeat, go back and skip, over all protocols."""
    names: dict[tuple[str, ...], int] = {}
    protocols = np.array(
        [names.setdefault(tuple(key.split("\x1f")[:2]), len(names)) for key in encoder.groups[ELEMENT]],
        dtype=np.int64,
    )
    blank = Steps.blank(protocols)
    pairs: Counter[tuple[int, int]] = Counter()
    seen: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    walks = []
    for examination in examinations:
        tokens = [encoder.view(c).groups[ELEMENT] for c in examination.commands]
        if not tokens:
            continue
        walks.append(walk := list(zip([blank.beginning(tokens[0]), *tokens], [*tokens, END], strict=True)))
        pairs.update(walk)
        sent: set[int] = set()
        run = 0
        for last, element in walk:
            same = element == last
            if sent:
                kind = "third" if run >= 2 else "again"
                seen[kind] += 1
                taken[kind] += same
                seen["back"] += 1
                taken["back"] += not same and element in sent
            run = run + 1 if same else 1
            sent.add(element)
    totals: Counter[int] = Counter()
    usual: dict[int, tuple[int, int]] = {}
    for (last, element), number in pairs.items():
        totals[last] += number
        usual[last] = max(usual.get(last, (0, 0)), (number, element))
    for walk in walks:
        for last, element in walk:
            if element != last and totals[last] > 1:
                seen["skip"] += 1
                taken["skip"] += element not in (usual[last][1], END)
    rates = {kind: (taken[kind] + HALF) / (seen[kind] + 1) for kind in ("again", "third", "back", "skip")}
    ordered = sorted((a, b, n) for (a, b), n in pairs.items())
    return Steps(
        np.array(ordered, dtype=np.int64).reshape(-1, 3),
        np.array(sorted(totals.items()), dtype=np.int64).reshape(-1, 2),
        protocols,
        rates,
    )

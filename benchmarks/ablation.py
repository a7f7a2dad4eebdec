"""What each layer, and each kind of spoilt command, is worth: the combiner learned again without it.

The layers are learned once, as ``fit`` learns them. Each combiner learns from the same judged commands, minus the
features of a layer (or minus a kind of spoilt command), and each is calibrated by itself. Rule layers are left out
of the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.attacked import Attacked
from scanward.calibration import Calibration
from scanward.commands import LEARNED_LAYERS, RULE_LAYERS, Examination, LayerName
from scanward.layers.onion import Onion
from scanward.learning.benchmark.ours import assembled, without_layer
from scanward.learning.combiner import Samples, learn_combiner
from scanward.learning.corruptions import SPOILERS
from scanward.learning.evaluate import Parts, learned, objects
from scanward.learning.folds import Settings, crosswise
from scanward.learning.resampling import mean_known


def without_kind(found: Samples, kind: str) -> Samples:
    """The samples without one kind of spoilt command."""
    keep = np.array([k != kind for k in found.kinds])
    kinds = tuple(k for k in found.kinds if k != kind)
    return Samples(found.names, found.rows[keep], found.labels[keep], kinds)


def measure(
    divided: Parts,
    test: Sequence[Examination],
    cases: Mapping[str, Sequence[Attacked]],
    settings: Settings,
    tick: Callable[[str, float], None],
) -> dict[str, dict[str, Any]]:
    """Mean detection, detection of each attack, and clean alerts with all, and with each part left out."""
    layers, found, _ = crosswise(divided.learn, settings, tick)
    bare = assembled(layers, found, divided.learn, settings)
    out = {}
    variants: dict[str, Samples] = {
        f"without {layer}": without_layer(found, layer) for layer in LEARNED_LAYERS
    }
    variants |= {f"without spoilt '{kind}'": without_kind(found, kind) for kind in SPOILERS}
    tick("ablation: nothing left out", 0.0)
    whole = _calibrated(bare, divided.calibrate)
    out["nothing left out"] = _rates(whole, test, cases)
    for layer in RULE_LAYERS:
        tick(f"ablation: without {layer}", 0.0)
        out[f"without {layer}"] = _rates(whole, test, cases, {layer})
    out["learned layers alone"] = _rates(whole, test, cases, set(RULE_LAYERS))
    for name, told in variants.items():
        tick(f"ablation: {name}", 0.0)
        combiner = learn_combiner(told, rounds=settings.rounds, seed=settings.seed)
        out[name] = _rates(_calibrated(replace(bare, combiner=combiner), divided.calibrate), test, cases)
    return out


def _calibrated(onion: Onion, calibrate: Sequence[Examination]) -> Onion:
    """The same onion with scores of whole calibration examinations (all that these examinations need)."""
    largest = []
    for examination in calibrate:
        scores = [j.score for j in onion.judge_all(examination.commands) if j.score is not None]
        if scores:
            largest.append(max(scores))
    calibration = Calibration.of(largest)
    calibration.require(onion.budget)
    return replace(onion, calibrations={**onion.calibrations, "examination": calibration})


def _rates(
    onion: Onion,
    test: Sequence[Examination],
    cases: Mapping[str, Sequence[Attacked]],
    without: set[LayerName] | None = None,
) -> dict[str, Any]:
    left_out = without or set()

    def caught(commands: Sequence[Any], indices: Sequence[int]) -> bool:
        told = onion.judge_all(commands)
        return any(learned(told[i], onion.budget) or objects(told[i], left_out) for i in indices)

    rates = {
        name: float(np.mean([caught(c.commands, c.indices) for c in made])) if made else math.nan
        for name, made in cases.items()
    }
    clean = [caught(e.commands, range(len(e.commands))) for e in test]
    return {
        "mean": float(mean_known(np.array([r for name, r in rates.items() if name != "null"]), axis=0)),
        "attacks": rates,
        "clean_alerts": float(np.mean(clean)),
    }

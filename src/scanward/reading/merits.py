"""Figures of merit by name, as they are asked for on the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scanward.errors import SettingsError
from scanward.reading.mrmc.merit import Merit

if TYPE_CHECKING:
    from scanward.reading.mrmc.partial import Over

HELP = (
    "empirical, binormal, partial:LOW-HIGH (area between two false positive rates), partial-tpr:LOW-HIGH (right of the "
    "curve, between two true positive rates), binormal-partial:LOW-HIGH, binormal-partial-tpr:LOW-HIGH, "
    "sensitivity:CUT, specificity:CUT (at a rating of CUT or more)"
)
_PARTIAL: Mapping[str, Over] = {
    "partial": "FPR",
    "partial-tpr": "TPR",
    "binormal-partial": "FPR",
    "binormal-partial-tpr": "TPR",
}


def merit_of(name: str) -> Merit:
    """The figure of merit of a name: see `HELP`. ``partial:0-0.2`` is the area over false positive rates 0 to 0.2.

    Raises
    ------
    SettingsError
        A name that is none, a cut or a range that is missing or makes no sense.
    """
    kind, _, argument = name.strip().partition(":")
    if kind in ("empirical", "binormal") and argument:
        raise SettingsError(f"figure of merit {name[:80]!r}", "merit", f"{kind} takes nothing after it")
    if kind == "empirical":
        from scanward.reading.mrmc.empirical import EmpiricalAUC

        return EmpiricalAUC()
    if kind == "binormal":
        from scanward.reading.mrmc.binormal import BinormalAUC

        return BinormalAUC()
    if kind in ("sensitivity", "specificity"):
        from scanward.reading.mrmc.binary import Sensitivity, Specificity

        cut = _number(name, argument)
        return Sensitivity(cut) if kind == "sensitivity" else Specificity(cut)
    over = _PARTIAL.get(kind)
    if over is not None:
        from scanward.reading.mrmc.partial import BinormalPartialAUC, PartialAUC

        low, dash, high = argument.partition("-")
        if not dash:
            raise SettingsError(
                f"figure of merit {name[:80]!r}", "merit", f"give a range, such as {kind}:0-0.2"
            )
        make = BinormalPartialAUC if kind.startswith("binormal") else PartialAUC
        return make(_number(name, low), _number(name, high), over)
    raise SettingsError(f"no figure of merit {name[:80]!r}", "merit", f"there are {HELP}")


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SettingsError(f"figure of merit {name[:80]!r}", "merit", f"give a number; there are {HELP}")
    return number

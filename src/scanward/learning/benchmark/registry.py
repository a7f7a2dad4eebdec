"""Every method there is, in the order of the report, and how a user's words become names of methods."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from scanward.errors import SettingsError
from scanward.learning.benchmark.answers import Kind, Method
from scanward.learning.benchmark.attack_trained import attack_trained
from scanward.learning.benchmark.ceiling import CEILING
from scanward.learning.benchmark.deep_detectors import DEEP
from scanward.learning.benchmark.dose_lists import DOSE_LISTS
from scanward.learning.benchmark.matching import adapted
from scanward.learning.benchmark.ours import OURS
from scanward.learning.benchmark.plan import AGAINST, SIZES
from scanward.learning.benchmark.regression import REGRESSION
from scanward.learning.benchmark.serial import SERIAL
from scanward.learning.benchmark.spoilt_trained import SPOILT_TRAINED
from scanward.learning.benchmark.supervised import CLEAN_ONLY
from scanward.learning.benchmark.unsupervised import UNSUPERVISED

# Short words for kinds, beside their own.
KINDS = {
    "unsupervised": Kind.UNSUPERVISED,
    "regression": Kind.REGRESSION,
    "rules": Kind.RULES,
    "deep": Kind.DEEP,
    "clean-only": Kind.CLEAN_ONLY,
    "attack-trained": Kind.ATTACK_TRAINED,
    "serial": Kind.SERIAL,
    "ours": Kind.OURS,
    "ceiling": Kind.CEILING,
    "all": None,
}


# Baselines that are also learned again with the first examinations of what is new: some of each kind that did well on
# site 11, and the opponent of the primary comparison. All of them would cost three learnings a method.
ADAPTING = ("kNN", "Hotelling T2", "robust dose regression", "LightGBM: all contexts", AGAINST)


def methods(shown: Sequence[str]) -> tuple[Method, ...]:
    """Every method; attack-trained ones are shown the attacks of these names."""
    plain = (*UNSUPERVISED, *REGRESSION, *DOSE_LISTS, *DEEP, *CLEAN_ONLY, *SPOILT_TRAINED)
    found = (
        *OURS,
        *CEILING,
        *plain,
        *SERIAL,
        *attack_trained(shown),
        *(adapted(m) for m in plain if m.name in ADAPTING),
    )
    names = [m.name for m in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise SettingsError(f"two methods are called '{twice[0]}'", "registry", "report this")
    return found


def chosen(found: Sequence[Method], wanted: Sequence[str], size: str) -> tuple[str, ...]:
    """Names of the methods that a user asks for: names (whatever their case) or kinds; none given: those of the size.

    Raises
    ------
    SettingsError
        For a word that is neither; the nearest ones are named.
    """
    words = list(wanted) or list(SIZES[size].methods) or ["all"]
    by_name = {m.name.lower(): m.name for m in found}
    names: set[str] = set()
    for word in words:
        if word.lower() in by_name:
            names.add(by_name[word.lower()])
        elif word.lower() in KINDS:
            kind = KINDS[word.lower()]
            names |= {m.name for m in found if kind is None or m.kind is kind}
        else:
            near = difflib.get_close_matches(word.lower(), [*by_name, *KINDS], 3)
            known = ", ".join(by_name.get(n, n) for n in near) or "scanward benchmark --list names them"
            raise SettingsError(f"no method and no kind is called '{word}'", "--methods", f"perhaps: {known}")
    return tuple(m.name for m in found if m.name in names)

"""Is this a phantom on the table? Words by which staff label quality assurance, in the languages seen."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Whole words only: "qa" must not be found in a name, "test" not in "testis".
_QA_WORDS = frozenset(
    {
        "qa", "qc", "qs",
        "phantom", "phantoms", "phantome", "fantom", "fantome", "fantôme", "fantoma", "catphan",
        "physics", "physicstesting", "physiker", "physik", "physique", "fysiikka", "fysik",
        "konstanzprüfung", "konstanz", "constancy", "qualitätssicherung", "laadunvarmistus",
        "calibration", "kalibrierung", "airscan", "aircal", "aircalibration",
        "warmup", "commissioning", "servicescan",
    }
)  # fmt: skip
_QA_PHRASES = re.compile(
    r"\b(?:quality (?:assurance|control|check)|daily (?:check|scan|calibration)|"
    r"(?:weekly|monthly|annual) (?:check|test)|acceptance test\w*|air cal|warm up|tube warm|laser align\w*|"
    r"water cylinder|uniformity check)\b"
)
# "Test" alone marks a test, except where it names a part of clinical work.
_TEST = re.compile(r"\b(?:test|testing|tests)\b")
_CLINICAL_TEST = re.compile(
    r"\b(?:test (?:bolus|inj\w*|dose|shot|run)|(?:bolus|timing|stress|breath(?:ing)?|valsalva) test\w*)\b"
)
_WORD = re.compile(r"[A-ZÄÖÜ]+(?=[A-ZÄÖÜ][a-zäöüß])|[A-ZÄÖÜ]?[a-zäöüßàâçéèêëîïôûù]+|[A-ZÄÖÜ]+|\d+")


def looks_like_qa(texts: Iterable[str]) -> bool:
    """Whether any of ``texts`` (protocol, study description, comment, patient name) speaks of QA.

    ``PhysicsTesting`` and ``QA_daily`` are taken apart first. An age of 100 years, a round weight or sex "O"
    are no evidence: hospitals have such patients.
    """
    return any(_speaks_of_qa(text) for text in texts)


def _speaks_of_qa(text: str) -> bool:
    words = [word.casefold() for word in _WORD.findall(text)]
    if not _QA_WORDS.isdisjoint(words) or not _QA_WORDS.isdisjoint(text.casefold().split()):
        return True
    plain = " ".join(words)
    return bool(_QA_PHRASES.search(plain) or _TEST.search(_CLINICAL_TEST.sub(" ", plain)))

"""What a signature covers: the profiles of PS3.15 annex C, and what a site asks of a signature before it believes.

=============  ======================================================================================================
profile        what is signed
=============  ======================================================================================================
base           Base RSA (C.1) leaves it to the signer: here everything that may be signed
creator        Creator RSA (C.2): everything but what a hospital may correct afterwards: patient, study, order, people
authorization  Authorization RSA (C.3): what an approver can see, that is everything again
=============  ======================================================================================================

Annex C names what a signature must have *at least*. Here each profile has all that it may have: what is left out of a
signature can be changed by anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scanward.errors import SettingsError
from scanward.signatures.elements import Element, Parsed, named
from scanward.signatures.encoding import may_be, signable

SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
STUDY: Final = 0x0020000D
SERIES: Final = 0x0020000E
PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
PROFILES: Final = ("base", "creator", "authorization")
# What a hospital corrects: the patient (groups 0010, 0012), visit and order (0032, 0038, 4008), and of the study
_CORRECTED_GROUPS: Final = frozenset({0x0010, 0x0012, 0x0032, 0x0038, 0x4008})
_CORRECTED: Final = frozenset(
    {
        0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00081030, 0x00081032,  # date, time, accession, description
        0x00080090, 0x00080092, 0x00080094, 0x00080096, 0x00081048, 0x00081049,  # physicians
        0x00081050, 0x00081052, 0x00081060, 0x00081062, 0x00081070, 0x00081072,
        0x0008103E, 0x00081080, 0x00081110, 0x00081111, 0x00081120, 0x00200010,  # series, diagnoses, references, id
        0x00400244, 0x00400245, 0x00400253, 0x00400254, 0x00400275,  # the step and the request
    }
)  # fmt: skip


def chosen(profile: str, parsed: Parsed) -> tuple[Element, ...]:
    """The elements that a profile signs in this file, in the order of tags.

    Raises
    ------
    SettingsError
        For a profile that is not there, or a file without what every profile must sign.
    """
    if profile not in PROFILES:
        raise SettingsError(f"no profile '{profile}'", "--profile", f"give one of {', '.join(PROFILES)}")
    found = tuple(
        one for one in parsed.elements if signable(one) and not (profile == "creator" and _corrected(one.tag))
    )
    present = {one.tag for one in found}
    wanted = () if profile == "base" else (SOP_CLASS, SOP_INSTANCE, STUDY, SERIES)
    lacking = [named(tag) for tag in wanted if tag not in present]
    if lacking:
        raise SettingsError(f"no {' '.join(lacking)}", f"profile {profile}", "take the profile base")
    if not found:
        raise SettingsError("nothing in it may be signed", f"profile {profile}", "look at it with dcmdump")
    return found


def _corrected(tag: int) -> bool:
    return tag in _CORRECTED or tag >> 16 in _CORRECTED_GROUPS


@dataclass(frozen=True, slots=True)
class Coverage:
    """What good signatures have to cover, together, before a file is called genuine.

    Attributes
    ----------
    always : tags that must be in the file and signed
    where_there : tags that must be signed in a file that has them
    whole : whether everything in the file that may be signed must be
    shown : whether all that says what is seen and where it is must be, see `_is_shown`
    """

    always: frozenset[int]
    where_there: frozenset[int] = frozenset()
    whole: bool = False
    shown: bool = False

    def missing(self, parsed: Parsed, covered: frozenset[int]) -> tuple[int, ...]:
        """Tags that are not covered and have to be, ascending."""
        there = {one.tag for one in parsed.elements}
        wanted = self.always | (self.where_there & there)
        if self.shown:
            wanted |= {tag for tag in there if may_be(tag) and _is_shown(tag)}
        if self.whole:
            wanted |= {tag for tag in there if may_be(tag)}
        return tuple(sorted(wanted - covered))

    @classmethod
    def of(cls, words: Sequence[str]) -> Coverage:
        """From words and tags, as a command line has them: patient, uids, pixels, everything, 0008,0060 ...

        Raises
        ------
        SettingsError
            For anything else, or nothing: an empty policy would believe everything.
        """
        always: set[int] = set()
        for word in words:
            if word == "patient":
                always |= _PATIENT
            elif word == "uids":
                always |= _UIDS
            elif word not in ("pixels", "everything"):
                always.add(_tag(word))
        if not words:
            raise SettingsError("nothing is required", "--require", "leave it out for the usual")
        there = _PATIENT_WHERE_THERE if "patient" in words else frozenset[int]()
        return cls(frozenset(always), there, whole="everything" in words, shown="pixels" in words)


WORDS: Final = ("patient", "uids", "pixels", "everything")
_PATIENT: Final = frozenset({PATIENT_NAME, PATIENT_ID})
# Who that is among others of that name and number: who issued the number, date of birth, sex.
_PATIENT_WHERE_THERE: Final = frozenset({0x00100021, 0x00100024, 0x00100030, 0x00100040})
_UIDS: Final = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
# What is seen, and where: pixels of every kind and all that says how they are read and shown (greys, palettes, size),
# curves and overlays drawn over them, frames, segments, surfaces, presentation states, radiotherapy, waveforms,
# documents.
_SHOWN_GROUPS: Final = frozenset(
    {
        0x0028, 0x0042, 0x0048, 0x0062, 0x0066, 0x0068, 0x006A, 0x0070, 0x2050, 0x3002, 0x3004, 0x3006, 0x3008, 0x300A,
        0x300C, 0x300E, 0x3010, 0x5200, 0x5400, 0x7FE0, *range(0x5000, 0x5100, 2), *range(0x6000, 0x6100, 2),
    }
)  # fmt: skip
# Character set, kind of image, modality; body part, view, side, position, orientation: left is not right; how large and
# how far apart things are; what a pixel's number means (units, real world values); the small picture beside it.
_SHOWN: Final = frozenset(
    {
        0x00080005, 0x00080008, 0x00080060, 0x00082218, 0x00180015, 0x00180050, 0x00180088, 0x00181114, 0x00181164,
        0x00182010, 0x00185100, 0x00185101, 0x00186011, 0x00200020, 0x00200032, 0x00200037, 0x00200052, 0x00200060,
        0x00200062, 0x00409096, 0x00541001, 0x00540220, 0x00880200,
    }
)  # fmt: skip
_REPORTED: Final = 0x0040A000  # from here on group 0040 is the content of structured reports


def _is_shown(tag: int) -> bool:
    group = tag >> 16
    return tag in _SHOWN or group in _SHOWN_GROUPS or (group == 0x0040 and tag >= _REPORTED)


# A signature that leaves the patient out can be put with another patient; one that leaves out how pixels are to be
# read says nothing of what is seen.
USUAL: Final = Coverage(_PATIENT | _UIDS, _PATIENT_WHERE_THERE, shown=True)


def _tag(word: str) -> int:
    digits = word.strip("() ").replace(",", "")
    try:
        if len(digits) == 8:
            return int(digits, 16)
    except ValueError:
        pass
    raise SettingsError(f"no tag or word '{word[:40]}'", "--require", f"give gggg,eeee or {', '.join(WORDS)}")

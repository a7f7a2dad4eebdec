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
CONTENT: Final = 0x0040A730
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
    """

    always: frozenset[int]
    where_there: frozenset[int] = frozenset()
    whole: bool = False

    def missing(self, parsed: Parsed, covered: frozenset[int]) -> tuple[int, ...]:
        """Tags that are not covered and have to be, ascending."""
        there = {one.tag for one in parsed.elements}
        wanted = self.always | (self.where_there & there)
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
        there: set[int] = set()
        for word in words:
            if word == "patient":
                always |= _PATIENT
            elif word == "uids":
                always |= _UIDS
            elif word == "pixels":
                there |= _PIXELS
            elif word != "everything":
                always.add(_tag(word))
        if not words:
            raise SettingsError("nothing is required", "--require", "leave it out for the usual")
        return cls(frozenset(always), frozenset(there), "everything" in words)


WORDS: Final = ("patient", "uids", "pixels", "everything")
_PATIENT: Final = frozenset({PATIENT_NAME, PATIENT_ID})
_UIDS: Final = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
# Float, double, integer pixel data; what says how to read and show them; overlays are drawn over them; the content of
# a report is what a picture is of a picture.
_PIXELS: Final = frozenset(
    {
        0x00080005, 0x7FE00008, 0x7FE00009, 0x7FE00010, 0x7FE00001, 0x7FE00002, CONTENT, 0x00420011, 0x54000100,
        *(
            0x00280000 + number
            for number in (
                0x0002, 0x0004, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x1050, 0x1051, 0x1052,
                0x1053, 0x1054, 0x1056, 0x1101, 0x1102, 0x1103, 0x1201, 0x1202, 0x1203, 0x3000, 0x3010,
            )
        ),
        *(group << 16 | number for group in range(0x6000, 0x6020, 2) for number in (0x10, 0x11, 0x50, 0x3000)),
    }
)  # fmt: skip
# A signature that leaves the patient out can be put with another patient; one that leaves out how pixels are to be
# read says nothing of what is seen.
USUAL: Final = Coverage(_PATIENT | _UIDS, _PIXELS)


def _tag(word: str) -> int:
    digits = word.strip("() ").replace(",", "")
    try:
        if len(digits) == 8:
            return int(digits, 16)
    except ValueError:
        pass
    raise SettingsError(f"no tag or word '{word[:40]}'", "--require", f"give gggg,eeee or {', '.join(WORDS)}")

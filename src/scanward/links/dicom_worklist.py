"""The guard's own question to the worklist: who is this patient, and what was asked for? (PS3.4 annex K, C-FIND)

A second source of context, which does not come from the host. It may contradict the host and that is an objection;
it never speaks where it is not sure: a worklist that is down, slow, ambiguous or malformed gives no parts and a
reason, and the layers that would have used them abstain.

The keys come from the host, so they are matched exactly: nothing that is a wildcard to the worklist is asked, and
an answer about somebody else is no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scanward.codecs.dicom_files import items_of, number_of, open_dicom, text_of
from scanward.codecs.values import age_between
from scanward.commands import FIELDS, Source, Told, Value
from scanward.errors import DecodeError, LinkError, SettingsError
from scanward.transport.dicom import Caller, Peer

if TYPE_CHECKING:
    import pydicom

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
_WILD = frozenset("*?\\")  # PS3.4 C.2.2.2.4: wildcards, and the separator of lists
_REQUESTED = "RequestedProcedureDescription"
_ACCESSION = "AccessionNumber"
_LABEL = (_ACCESSION, "PatientName", "PatientID")
_MAX_KEY = 64  # characters; LO and UI have no more
_MAX_LABEL = 200  # characters; PN has 64 in each of three spellings (PS3.5 table 6.2-1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the worklist says: context parts of source WORKLIST, or none and why.

    ``label`` names patient and request (AccessionNumber, PatientName, PatientID): for screens, and for nothing else.
    ``stranger``: it has the examination for another patient; ``down``: it could not be asked, or did not answer
    with entries.
    """

    parts: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)
    matches: int = 0
    reason: str = ""
    stranger: bool = False
    down: bool = False
    label: Mapping[str, str] = field(default_factory=dict, repr=False)


class Worklist:
    """Asks one worklist.

    Parameters
    ----------
    caller : Caller
    peer : Peer
        The worklist's address and AE title.
    """

    def __init__(self, caller: Caller, peer: Peer) -> None:
        self._caller, self._peer = caller, peer

    def ask(self, *, patient: str = "", study: str = "", accession: str = "", today: str = "") -> Answer:
        """Context of one patient (and request). Blocks up to ``answer_seconds``; never raises for the worklist.

        Parameters
        ----------
        patient, study, accession : str
            PatientID, Study Instance UID, Accession Number: at least one.
        today : str
            DICOM DA; the age is counted to the scheduled start, else to this.

        Raises
        ------
        SettingsError
            No key, or one that is no exact value.
        """
        keys = _exact(PatientID=patient, StudyInstanceUID=study, AccessionNumber=accession)
        try:
            matches = self._matches(keys)
        except (LinkError, DecodeError) as error:
            return Answer(reason=error.what, down=True)
        return answer_of(matches, keys, today)

    def examination(self, *, study: str, patient: str, today: str = "") -> Answer:
        """Context of one examination as the host names it; errors and time as `ask`, for two queries at most.

        Few worklists match Study Instance UID (PS3.4 table K.6-1 does not ask it of them), so the patient is asked
        for and the examination looked for in what comes. Where it is not there, what was requested is left out: it
        belongs to another examination; and a worklist that knows the examination may say that it is somebody else's.
        """
        keys = _exact(PatientID=patient, StudyInstanceUID=study)
        if "PatientID" not in keys:
            return self._of_study(keys, today)
        try:
            entries = self._matches({"PatientID": keys["PatientID"]})
        except (LinkError, DecodeError) as error:
            return Answer(reason=error.what, down=True)
        asked = keys.get("StudyInstanceUID", "")
        own = [entry for entry in entries if asked and text_of(entry, "StudyInstanceUID") == asked]
        found = answer_of(own or entries, {"PatientID": keys["PatientID"]}, today)
        if own or not asked:
            return found
        owner = self._of_study({"StudyInstanceUID": asked}, today)
        if owner.matches:  # none of them of this patient, or they would have come first
            return Answer({}, owner.matches, "the examination is another patient's", stranger=True)
        parts = {n: t for n, t in found.parts.items() if n != _REQUESTED}
        return replace(found, parts=parts, label={n: t for n, t in found.label.items() if n != _ACCESSION})

    def _of_study(self, keys: dict[str, str], today: str) -> Answer:
        """Of entries that name the examination; the others are what a worklist sends that does not match it."""
        try:
            matches = self._matches(keys)
        except (LinkError, DecodeError) as error:
            return Answer(reason=error.what, down=True)
        asked = keys["StudyInstanceUID"]
        return answer_of([m for m in matches if text_of(m, "StudyInstanceUID") == asked], keys, today)

    def _matches(self, keys: Mapping[str, str]) -> list[pydicom.Dataset]:
        files = self._caller.find(self._peer, MODALITY_WORKLIST, _query(keys))
        return [open_dicom(data, name="worklist entry") for data in files]


def _exact(**keys: str) -> dict[str, str]:
    """Keys that are given; SettingsError when none is, or one is more than one value."""
    found = {name: value.strip() for name, value in keys.items() if value.strip()}
    if not found:
        raise SettingsError(
            "nothing to ask the worklist by", "worklist", "give a patient, study or accession"
        )
    for name, value in found.items():
        if _WILD & set(value) or len(value) > _MAX_KEY or not value.isprintable():
            raise SettingsError(f"{name} is no exact value", "worklist", "give it without wildcards")
    return found


def _query(keys: Mapping[str, str]) -> pydicom.Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    step = Dataset()
    step.Modality = "CT"
    step.ScheduledProcedureStepStartDate = ""
    query = Dataset()
    for name in (
        "AccessionNumber",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "PatientSize",
        "PatientWeight",
        "StudyInstanceUID",
        "RequestedProcedureDescription",
    ):
        setattr(query, name, keys.get(name, ""))
    query.ScheduledProcedureStepSequence = Sequence([step])
    return query


def answer_of(matches: list[pydicom.Dataset], keys: Mapping[str, str], today: str) -> Answer:
    """What ``matches`` say together: parts on which they agree, nothing when they are of several patients.

    An entry whose key attributes are not those asked for is an answer to another question, and refused as a whole.
    """
    count = len(matches)
    if not matches:
        return Answer(reason="the worklist knows nothing of it")
    for match in matches:
        if any(text_of(match, name) != value for name, value in keys.items()):
            return Answer({}, count, "the worklist answered about somebody else")
    if len({text_of(match, "PatientID") for match in matches}) > 1:
        return Answer({}, count, "the entries are of several patients")
    label = {name: {text_of(match, name) for match in matches} for name in _LABEL}
    named = {n: " ".join(found.pop().split())[:_MAX_LABEL] for n, found in label.items() if len(found) == 1}
    told: dict[str, list[Value]] = {}
    for match in matches:
        for name, value in _parts(match, today).items():
            told.setdefault(name, []).append(value)
    agreed = {name: values[0] for name, values in told.items() if len(set(values)) == 1}
    differing = sorted(set(told) - set(agreed))
    reason = f"the entries differ in {', '.join(differing)}" if differing else ""
    parts = {n: (Told(v, Source.WORKLIST),) for n, v in agreed.items()}
    return Answer(parts, count, reason, label={n: text for n, text in named.items() if text})


def _parts(match: pydicom.Dataset, today: str) -> dict[str, Value]:
    parts: dict[str, Value] = {}
    step = next(items_of(match, "ScheduledProcedureStepSequence"), None)
    when = (text_of(step, "ScheduledProcedureStepStartDate") if step is not None else "") or today
    age = age_between(text_of(match, "PatientBirthDate"), when)
    if age is not None:
        parts["PatientAge"] = age
    for name in ("PatientSize", "PatientWeight"):
        number, known = number_of(match, name), FIELDS[name]
        low, high = known.low or 0.0, known.high or 0.0
        if number is not None and low <= number <= high:  # 0 is how systems write "not entered"
            parts[name] = number
    sex = text_of(match, "PatientSex").upper()
    if sex in ("M", "F", "O"):
        parts["PatientSex"] = sex
    requested = text_of(match, "RequestedProcedureDescription")
    if not requested:
        codes = next(items_of(match, "RequestedProcedureCodeSequence"), None)
        requested = text_of(codes, "CodeMeaning") if codes is not None else ""
    if requested:
        parts["RequestedProcedureDescription"] = requested[:256]
    return parts

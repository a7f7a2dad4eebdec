"""The guard's own question to the worklist: who is this patient, and what was asked for? (PS3.4 annex K, C-FIND)

A second source of context, which does not come from the host. It may contradict the host and that is an objection;
it never speaks where it is not sure: a worklist that is down, slow, ambiguous or malformed gives no parts and a
reason, and the layers that would have used them abstain.

The keys come from the host, so they are matched exactly: nothing that is a wildcard to the worklist is asked, and
an answer about somebody else is no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
_MAX_KEY = 64  # characters; LO and UI have no more


@dataclass(frozen=True, slots=True)
class Answer:
    """What the worklist says: context parts of source WORKLIST, or none and why.

    ``patient`` is the PatientID of all entries, "" where they tell none; ``down``: it could not be asked, or did
    not answer with entries.
    """

    parts: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)
    matches: int = 0
    reason: str = ""
    patient: str = field(default="", repr=False)
    down: bool = False


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
        keys = {"PatientID": patient, "StudyInstanceUID": study, "AccessionNumber": accession}
        keys = {name: value.strip() for name, value in keys.items() if value.strip()}
        if not keys:
            raise SettingsError(
                "nothing to ask the worklist by", "worklist", "give a patient, study or accession"
            )
        for name, value in keys.items():
            if _WILD & set(value) or len(value) > _MAX_KEY or not value.isprintable():
                raise SettingsError(f"{name} is no exact value", "worklist", "give it without wildcards")
        try:
            files = self._caller.find(self._peer, MODALITY_WORKLIST, _query(keys))
            matches = [open_dicom(data, name="worklist entry") for data in files]
        except (LinkError, DecodeError) as error:
            return Answer(reason=error.what, down=True)
        return answer_of(matches, keys, today)


def _query(keys: Mapping[str, str]) -> pydicom.Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    step = Dataset()
    step.Modality = "CT"
    step.ScheduledProcedureStepStartDate = ""
    query = Dataset()
    for name in (
        "AccessionNumber",
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
    told: dict[str, list[Value]] = {}
    for match in matches:
        for name, value in _parts(match, today).items():
            told.setdefault(name, []).append(value)
    agreed = {name: values[0] for name, values in told.items() if len(set(values)) == 1}
    differing = sorted(set(told) - set(agreed))
    reason = f"the entries differ in {', '.join(differing)}" if differing else ""
    parts = {n: (Told(v, Source.WORKLIST),) for n, v in agreed.items()}
    return Answer(parts, count, reason, text_of(matches[0], "PatientID"))


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

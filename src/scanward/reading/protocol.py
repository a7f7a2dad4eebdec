"""The words of a reader study: its design (``design.toml``), its frozen protocol, and the key that holds the truth.

::

    STUDY/protocol.json      what will be read by whom, in which order; frozen and hashed before reading begins
    STUDY/protocol.sha256    the hash of that file, as `sha256sum` prints it
    STUDY/key.json           which picture is what; mode 0600, never opened by the server; its hash is in the protocol
    STUDY/pictures/ID.raw    grey values, uint16 little endian, row by row: no format, no metadata, no compression
    STUDY/answers.sqlite     what readers answered
    STUDY/accounts.sqlite    who may sign in

What a reader is shown has passed through the same steps whether it is genuine or modified, so that neither size,
depth, rounding nor file tells. A picture has an opaque identifier; in the page of a reader it has another, which no
other reader has.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

FORMAT = "scanward-study-1"
KEY_FORMAT = "scanward-study-key-1"


class Modification(StrEnum):
    """What was done to a picture."""

    NONE = "none"
    INSERT = "insert"
    REMOVE = "remove"


class Pathology(StrEnum):
    """The truth of the lesion question: that of the *original*, whatever was done to the picture later."""

    CANCER = "cancer"
    NO_CANCER = "no cancer"


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rating from 1 to ``len(labels)``. ``identifier`` lesion and manipulation are those of the published study."""

    identifier: str
    text: str
    labels: tuple[str, ...]


LESION = Question(
    identifier="lesion",
    text="How suspicious is this image of a malignant lesion?",
    labels=("definitely not", "probably not", "possibly", "probably", "definitely"),
)
MANIPULATION = Question(
    identifier="manipulation",
    text="How likely is it that this image was modified?",
    labels=(
        "definitely genuine",
        "probably genuine",
        "possibly modified",
        "probably modified",
        "definitely modified",
    ),
)


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of showing pictures: a resolution. ``rows`` x ``columns`` px; 0: as the picture is.

    The picture keeps its proportions and is padded with 0 at the right and the lower edge.
    """

    name: str
    rows: int = 0
    columns: int = 0
    bits: int = 12


class Sessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How reading is spread over time. ``washout_days`` lie between two sessions of one reader."""

    cases: int = 100
    washout_days: float = 28.0
    block: int = 10


class Hypothesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One endpoint of the study and what is to be shown.

    ``question`` lesion: treatments are genuine and modified, truth is the original pathology. ``question``
    manipulation: truth is whether the picture was modified, one AUC an arm. ``aim`` equivalence: the (1 - 2 alpha)
    interval within ``low`` to ``high``; superiority: different from ``null``; non-inferiority: not worse by more than
    ``margin``. Of the lesion question all of these are of the difference modified - genuine (a design read from a file
    has ``null`` 0 there unless it says otherwise). ``arm`` "": each arm by itself. ``effect`` is the true value that
    the sample size is worked out for; None: a usual one (`scanward.reading.sample_size`).
    """

    question: str
    aim: str
    arm: str = ""
    primary: bool = True
    low: float = 0.45
    high: float = 0.55
    null: float = 0.5
    margin: float = 0.05
    effect: float | None = None


class Planning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the sample size is worked out from.

    ``published`` names variance components of the lesion question (`scanward.reading.mrmc.components.PUBLISHED`);
    ``components`` gives them instead, as a pilot's analysis prints them. For the manipulation question ``reader_sd`` is
    the spread of readers' true areas, ``correlation`` that of two readers' errors on the same pictures. ``random``:
    readers and cases, cases, or readers.
    """

    published: str = "van-dyke"
    components: dict[str, float] = {}
    reader_sd: float = 0.03
    correlation: float = 0.3
    random: str = "readers and cases"


class Design(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``design.toml``: everything the lead decides. Defaults are the published study's, two resolutions."""

    title: str
    readers: int = 3
    pairing: str = (
        "paired"  # paired: both of a woman's pictures are read, in different sessions; unpaired: one of them
    )
    patients: int = 0  # women to be sampled; 0: as many as there are
    per_patient: int = 1  # pictures of one woman
    arms: tuple[Arm, ...] = (Arm(name="low", rows=256, columns=256), Arm(name="high", rows=512, columns=408))
    questions: tuple[Question, ...] = (LESION, MANIPULATION)
    hypotheses: tuple[Hypothesis, ...] = ()
    sessions: Sessions = Sessions()
    planning: Planning = Planning()
    practice: int = 5  # pictures a reader sees first, never analysed
    confidence: bool = False
    marks: bool = True
    go_back: bool = True  # within a session, an answer may be revised; every revision is kept
    alpha: float = 0.05
    power: float = 0.8
    seed: int = 0
    simulated: bool = False  # a rehearsal with model observers: SIMULATED on every table and plot


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One picture of the study. ``identifier`` is random; ``window`` is (centre, width) shown first, in grey values.

    ``sha256`` is that of the raw file.
    """

    identifier: str
    arm: str
    rows: int
    columns: int
    bits: int
    window: tuple[float, float]
    sha256: str


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A picture in the hands of one reader. ``token`` is random, of this reader and this picture alone."""

    token: str
    picture: str


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one reader reads in one sitting, in this order. Number 0 is practice."""

    number: int
    cases: tuple[Shown, ...]


class Reader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pseudonymous reader: R01, R02, ..."""

    name: str
    sessions: tuple[Session, ...]


class Protocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The frozen plan. ``pictures`` are in the order of their random identifiers, which tells nothing."""

    format: str = FORMAT
    version: str
    created: str  # ISO 8601, UTC
    design: Design
    pictures: tuple[Picture, ...]
    readers: tuple[Reader, ...]
    key_sha256: str
    sample_size: dict[str, float | str] = {}


class Truth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a picture is. ``case`` names the original (shared by its modified twin and by all arms).

    ``case`` and ``patient`` are random pseudonyms (C0001, P0001); ``source`` is what the pictures' folder called it,
    ``source_sha256`` that of the file.
    """

    picture: str
    case: str
    patient: str
    modification: Modification
    pathology: Pathology
    practice: bool = False
    source: str = ""
    source_sha256: str = ""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The truth of every picture, apart from everything a server reads.

    ``secret`` (64 hexadecimal digits) is what all chance of the study came from, see `scanward.reading.chance`.
    """

    format: str = KEY_FORMAT
    created: str
    phantom: bool
    truths: tuple[Truth, ...]
    secret: str = ""


class Clicked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One act of a reader, ``at`` ms since the case was shown: ``what`` (rating, mark, window, ...) and ``value``."""

    at: float
    what: str
    value: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a reader said about a case. ``identifier`` is made by the page (UUID 4): sent twice, it counts once.

    ``ratings`` by question, 1 to the number of labels. ``marks`` (x, y) in px of the picture. ``seconds`` the case was
    in view, ``away`` those in which the page was hidden or the reader paused. ``revision`` counts from 0.
    """

    identifier: str
    token: str
    revision: int
    ratings: dict[str, int]
    confidence: int | None = None
    marks: tuple[tuple[float, float], ...] = ()
    seconds: float
    away: float = 0.0
    window: tuple[float, float] | None = None
    answered_at: str = ""
    acts: tuple[Clicked, ...] = ()


def digest(data: bytes) -> str:
    """SHA-256 of a file's bytes, hex."""
    return hashlib.sha256(data).hexdigest()

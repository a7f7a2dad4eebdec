"""Bounds of the images wing: mammograms, tampering, reader studies, their analysis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MammographyBounds:
    """What a data set of mammograms may weigh. Sizes are checked before pixels are decoded."""

    manifest_bytes: int = 256 << 20  # bytes; CBIS-DDSM with all its outlines has some 30 MB
    table_bytes: int = 256 << 20  # bytes of a list or annotation file of a source
    annotation_bytes: int = 16 << 20  # bytes of one image's annotations as XML; INbreast's have some 100 kB
    file_bytes: int = 1 << 30  # bytes of one source file; a 16-bit DDSM film has 60 MB
    pixels: int = 1 << 28  # pixels of one picture; the largest DDSM film has 40 million
    least_side: int = 16  # pixels; nothing smaller is a mammogram
    images: int = 1_000_000  # images of one data set; VinDr-Mammo has 20,000
    outline_points: int = 100_000  # corners of one lesion's outline
    lesions: int = 1_000  # lesions of one image
    decode_seconds: float = 120.0  # s to decode one JPEG; the largest takes some 5 on a slow machine


@dataclass(frozen=True, slots=True)
class PhantomBounds:
    """What a set of phantoms may weigh."""

    least_side: int = 16  # pixels; below it a lesion of 8 mm is not one pixel wide
    side: int = 4096  # pixels each way; a drawing of this size takes some 3 GB of memory
    patients: int = 100_000  # women of one set; some 6 GB of pictures at 128 x 128
    contrast_least: float = 0.01  # of the usual brightness of lesions; below it 16 bits hardly show one
    contrast: float = 10.0  # times the usual brightness; everything is white long before


@dataclass(frozen=True, slots=True)
class TamperingBounds:
    """What a run of training and its checkpoints may weigh."""

    header_bytes: int = 8 << 20  # bytes of a checkpoint's header; one has some 60 kB
    checkpoint_bytes: int = 8 << 30  # bytes of a checkpoint; the published arrangement has some 400 MB
    side: int = 4096  # pixels of the longer side that a generator is applied to
    channels: int = 1024  # filters of one layer
    blocks: int = 64  # residual blocks of a generator


@dataclass(frozen=True, slots=True)
class StudyBounds:
    """What a reader study's design may ask for, and what its files may weigh."""

    design_bytes: int = 256 << 10  # bytes of design.toml; the commented example has 6 kB
    protocol_bytes: int = 512 << 20  # bytes of a protocol or a key; 20 readers of 20,000 pictures have 40 MB
    table_bytes: int = 64 << 20  # bytes of truth.csv; 100,000 rows have some 8 MB
    title_chars: int = 200  # characters of the title; one line on the page
    text_chars: int = 500  # characters of a question; two lines on the page
    label_chars: int = 60  # characters of one answer's label
    name_chars: int = 32  # characters of an arm's or a question's name
    readers: int = 100  # readers of one study; the largest published MRMC studies have some 100
    arms: int = 8  # ways of showing pictures; every one is a session more for each reader
    questions: int = 5  # questions on one picture; more are not answered with care
    labels: int = 10  # points of a scale; keys 1 to 9 and 0
    hypotheses: int = 40  # endpoints; Holm's correction leaves nothing of more
    patients: int = 100_000  # women; some hundred times the largest studies
    per_patient: int = 16  # pictures of one woman; a screening examination has four
    pictures: int = 100_000  # pictures of one study, all arms
    least_side: int = 16  # px; nothing smaller is a mammogram
    side: int = 8192  # px of an arm; a 5-megapixel display has 2,560
    session_cases: int = 1_000  # pictures of one session; readers tire after some hundred
    washout_days: float = 730.0  # days between two sessions
    block: int = 1_000  # pictures of one block of randomisation
    practice: int = 100  # pictures for practice


@dataclass(frozen=True, slots=True)
class AnswerBounds:
    """What a reader of a study may send, and how long the server of a study waits for its disk."""

    body_bytes: int = 512 << 10  # bytes of one answer or draft; one with 1,000 acts has some 80 kB
    marks: int = 100  # marks on one picture; readers set up to five
    acts: int = 5_000  # acts recorded of one case; dragging the window makes some hundred
    act_chars: int = 200  # characters of one act's words
    seconds: float = 31_536_000.0  # s a case was in view or away; a page left open for a year
    revisions: int = 1_000  # revisions of one answer; readers make one or two
    confidence: int = 5  # points of the scale of confidence
    grey: float = 1e6  # grey values of a window's centre or width; pictures have at most 65,535
    answers: int = 2_000  # answers kept to one case, revised ones too; readers give one to three
    drafts: int = 20_000  # drafts kept of one case; every click makes one
    sequence: int = 1 << 40  # highest number of a draft; pages count from 1
    preloaded: int = 3  # cases a page may have in store beside the one in view
    busy_seconds: float = 3.0  # s to wait for a locked database; then the page keeps the answer
    events_kept: int = 100_000  # events kept of one reader: sessions begun, pauses


@dataclass(frozen=True, slots=True)
class MrmcBounds:
    """What a table of ratings may weigh, and how far a plan is searched."""

    file_bytes: int = (
        256 << 20
    )  # bytes of a table; 500,000 ratings with all columns of an export have some 80 MB
    rows: int = 2_000_000  # ratings of one table; 20 readers x 5 treatments x 5,000 cases are 500,000
    columns: int = 256  # columns of a table; an export has 21
    field_chars: int = 64 << 10  # characters of one field; marks of a reader are a list of some points
    cells: int = 20_000_000  # readers x treatments x cases of the dense table; 8 bytes each
    treatments: int = 100  # treatments of one table; a study has two to five
    readers: int = 1_000  # readers of one table; the largest published studies have some 100
    figures: int = 5_000  # readers x treatments of one table; a matrix of their covariances has 200 MB
    name_chars: int = 200  # characters of a reader's, a treatment's, a case's name
    merits: int = 32  # figures of merit of one analysis
    plan_cases: int = 1_000_000  # cases up to which a plan is searched; no study has a tenth
    plan_readers: int = 1_000  # readers up to which a plan is searched
    pairs: int = 50_000_000_000  # pairs of cases of all cells in the U-statistic: some five minutes of a core


@dataclass(frozen=True, slots=True)
class NodeBounds:
    """What a DICOM peer may cost a signing or verifying node."""

    object_bytes: int = 512 << 20  # bytes of one object; a tomosynthesis of 100 slices has some 300 MB
    pdu_bytes: int = 128 << 10  # bytes of one data PDU that is offered and accepted; peers use 16 to 128 KiB
    associations: int = 8  # at once; each may hold three copies of an object in memory
    most_associations: int = 64  # that an option may ask for
    most_object_bytes: int = (
        2 << 30
    )  # bytes that an option may ask for; longer ones have no place in a command
    busy: int = 2  # objects signed or verified at once; more only wait for the same cores
    idle_seconds: float = 60.0  # s of silence when it is the peer's turn; modalities pause between images
    association_seconds: float = 14_400.0  # s one association may last; a long study of a slow modality
    connect_seconds: float = 5.0  # s to reach the next hop; senders give up after 30 s or more
    answer_seconds: float = 120.0  # s the next hop may take to answer one object; archives index meanwhile
    stop_seconds: float = 30.0  # s that objects in work have when the node is told to stop
    names_bytes: int = 64 << 10  # bytes in which SOP class and instance must stand; some 200 come before
    quarantine_bytes: int = 16 << 30  # bytes of doubtful objects kept; beyond, they are only refused


@dataclass(frozen=True, slots=True)
class FetchBounds:
    """What an archive may send when a study is fetched."""

    instances: int = 20_000  # objects of one study; the largest CT studies have some 10,000
    object_bytes: int = 1 << 30  # bytes of one object; the same as a mammogram's file
    study_bytes: int = 64 << 30  # bytes of one study; a long cine study has some 10 GB
    list_bytes: int = 64 << 20  # bytes of a QIDO-RS answer; 20,000 objects have some 20 MB
    head_bytes: int = 16 << 10  # bytes of one part's headers; real ones have some 200
    names_bytes: int = 1 << 20  # bytes in which a received object must name itself and its study
    connect_seconds: float = 10.0  # s to reach the archive
    answer_seconds: float = 120.0  # s without a byte, or until the next object; some archives load from tape
    whole_seconds: float = 14_400.0  # s for one study altogether
    linger_seconds: float = 2.0  # s that objects of a C-MOVE may still come after it was answered


@dataclass(frozen=True, slots=True)
class FindingBounds:
    """What is written of a detector's finding as DICOM."""

    heat_side: int = 4096  # px of a heat map's longer side; beyond, every second (third ...) pixel is shown
    heat_side_least: int = (
        512  # px; a smaller picture is shown larger, or the words of the mark would not fit
    )
    regions: int = 8  # regions pointed at; more are no place but the whole picture
    words: int = 64  # sentences of evidence written


MAMMOGRAPHY_BOUNDS = MammographyBounds()
PHANTOM_BOUNDS = PhantomBounds()
TAMPERING_BOUNDS = TamperingBounds()
STUDY_BOUNDS = StudyBounds()
ANSWER_BOUNDS = AnswerBounds()
MRMC_BOUNDS = MrmcBounds()
NODE_BOUNDS = NodeBounds()
FETCH_BOUNDS = FetchBounds()
FINDING_BOUNDS = FindingBounds()


@dataclass(frozen=True)
class SignatureBounds:
    """What a file that is to be signed or verified may cost."""

    file_bytes: int = 4 << 30  # bytes of a file; longer ones do not fit 32-bit lengths anyway
    inflated_bytes: int = 1 << 30  # bytes that a deflated data set may become
    elements: int = 2_000_000  # elements and items of a file; an enhanced multi-frame CT has some 300,000
    depth: int = 32  # sequences inside sequences; structured reports go some 15 deep
    signatures: int = 64  # in one file; each costs a pass over what it signs
    certificate_bytes: int = 64 << 10  # bytes of a certificate
    timestamp_bytes: int = 256 << 10  # bytes of a certified timestamp with its certificates
    chain: int = 8  # certificates between signer and authority
    trusted_bytes: int = 64 << 20  # bytes of a file of authorities or of a revocation list
    clock_skew_seconds: float = 300.0  # s that a signer's clock may be ahead of ours
    kept_bytes: int = 64 << 20  # bytes of the buffer that each thread keeps for the next file
    overlapped_bytes: int = 4 << 20  # bytes from which on a file goes to the disk while it is hashed
    signing_at_once: int = 4  # files of a folder that wait for the disk together; more gained nothing
    signing_bytes: int = 96 << 20  # bytes of files signed at once; a longer one is signed alone


SIGNATURE_BOUNDS = SignatureBounds()

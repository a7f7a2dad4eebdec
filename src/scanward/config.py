"""Every bound on what comes from outside: a named field with its unit and its reason. None is inline.

The values are chosen far above what an honest installation needs, and low enough that a guard host with 2 GiB
of memory to spare is not hurt.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BundleBounds:
    """What a bundle may weigh. Sizes are checked before anything is read, parsed or allocated."""

    manifest_bytes: int = 4 << 20  # bytes; calibration scores of some 100,000 examinations
    signature_bytes: int = 4 << 10  # bytes; one key, one signature
    settings_bytes: int = 64 << 20  # bytes; vocabularies and protocol books of a large site
    arrays_bytes: int = 512 << 20  # bytes; all learned arrays together
    header_bytes: int = 8 << 20  # bytes; names and shapes; safetensors itself allows 100 MB
    arrays: int = 50_000  # arrays; a forest per field and layer
    dimensions: int = 8  # axes of one array; more has no use here
    name_chars: int = 512  # characters of an array's name
    graph_bytes: int = 64 << 20  # bytes of one ONNX graph
    graphs: int = 256  # graphs; one per field and layer
    graph_depth: int = 24  # nested messages in a graph; 5 without subgraphs, each subgraph adds 3
    total_bytes: int = 1 << 30  # bytes of all files together
    json_depth: int = 64  # nested lists and objects
    integer_bits: int = 256  # bits of an integer in JSON; a 128-bit seed is the largest honest one
    version: int = (1 << 53) - 1  # highest version; what every JSON reader holds exactly
    floor_bytes: int = 1 << 20  # bytes of the file of highest accepted versions


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """What a key file may weigh."""

    file_bytes: int = 16 << 10  # bytes; a PEM of an encrypted Ed25519 key has about 300
    passphrase_bytes: int = 1000  # bytes; OpenSSL's own callbacks stop at 1,023


@dataclass(frozen=True, slots=True)
class AuditBounds:
    """What the audit log takes and keeps. The reader holds one segment in memory at a time."""

    record_bytes: int = (
        256 << 10
    )  # bytes of one record; a chain of 100 commands with opinions has some 100 kB
    batch_bytes: int = 1 << 20  # bytes committed together; more only delays the first of them
    segment_bytes: int = 16 << 20  # bytes after which a new segment begins; some 30,000 records
    segment_ns: int = 24 * 3600 * 10**9  # ns after which a new segment begins: one a day to carry away
    reserve_bytes: int = 4 << 20  # bytes kept free for stops and emergency access; some 10,000 such records
    reserve_retry_ns: int = 5 * 10**9  # ns between two attempts to leave a full disk behind
    checkpoint_records: int = 256  # records between two checkpoints; a signature costs some 50 us
    checkpoint_ns: int = 10 * 10**9  # ns between two checkpoints: so much can be cut off unseen
    clock_jump_ns: int = 500_000_000  # ns by which the wall clock may stray from the monotonic one at once
    file_bytes: int = 64 << 20  # bytes of one segment that a reader accepts; four times what is written
    segments: int = 100_000  # segments of one log; 270 years of one a day
    witness_bytes: int = 256 << 20  # bytes of a witness file; some 700,000 checkpoints
    witness_queue: int = 64  # checkpoints waiting for a slow witness; the oldest gives way to the newest
    client_bytes: int = (
        4 << 20
    )  # bytes waiting for the writer process; 10,000 stops of 300 bytes, and a third
    client_reserved_bytes: int = 3 << 20  # bytes of these that only stops and emergency access may fill


@dataclass(frozen=True, slots=True)
class ShippingBounds:
    """How records leave the house."""

    syslog_bytes: int = 64 << 10  # bytes of one syslog message; RFC 5425 asks receivers for 8,192 at least
    response_bytes: int = 64 << 10  # bytes read of an HTTP answer; only its status counts
    connect_s: float = 10.0  # s to connect, and to wait for one write or answer
    attempts: int = 5  # attempts for one message; then the run fails and says where to go on
    first_wait_s: float = 0.5  # s before the second attempt; doubled each time
    longest_wait_s: float = 30.0  # s between two attempts at most
    bundle_events: int = 100  # FHIR AuditEvents in one posted bundle


@dataclass(frozen=True, slots=True)
class StreamBounds:
    """What one line of the stream link may hold. A line beyond any of these closes its connection."""

    line_bytes: int = (
        64 << 10
    )  # bytes with the line feed; a chain of 32 elements of 40 fields has about 48 KiB
    elements: int = 32  # acquisitions of one chain; a liver study in four phases has 8
    fields: int = 128  # parameters, or parts of the context, of one element; the dictionary of fields has 90
    name_chars: int = 64  # characters of a field's name; the longest DICOM keyword in use here has 45
    text_chars: int = 1024  # characters of a text; DICOM LO has 64, LT comments more
    id_chars: int = 64  # characters of an identifier; a DICOM UID has at most 64
    triggers: int = 1000  # triggers of one element; an interventional session has some hundred


@dataclass(frozen=True, slots=True)
class DicomBounds:
    """What a DICOM peer (a sender of protocols or dose reports, a scanner, a worklist) may cost."""

    pdu_bytes: int = 128 << 10  # bytes of one data PDU that we offer and accept; peers use 16 to 128 KiB
    association_pdu_bytes: int = 64 << 10  # bytes of an association PDU; 128 contexts need about 12 KiB
    unanswered_bytes: int = 16 << 20  # bytes a peer may send unanswered: one object, or all matches
    associations: int = 10  # at once; a site has one or two senders, and each costs three threads
    handshake_seconds: float = 5.0  # s for TLS; a handshake takes milliseconds
    negotiation_seconds: float = 10.0  # s from connection to association (ARTIM, PS3.8 9.1.5, leaves it open)
    pdu_seconds: float = 10.0  # s from the first to the last byte of one PDU; one byte a second is an attack
    send_seconds: float = 10.0  # s in which a peer must take what it is sent
    idle_seconds: float = 30.0  # s of silence when it is the peer's turn
    association_seconds: float = 900.0  # s one association may last altogether
    connect_seconds: float = 5.0  # s to reach the scanner or the worklist
    answer_seconds: float = 20.0  # s the scanner or the worklist may take to answer a request (DIMSE)
    judge_seconds: float = (
        10.0  # s to judge one object; a protocol takes some 50 ms, a damaged one 1 s at most
    )
    hold_seconds: float = 45.0  # s an object waits for the operator; senders give up after 60 s or more
    matches: int = 20  # worklist entries that one query may bring; more is no answer about one patient
    protocol_bytes: int = 4 << 20  # bytes of one protocol; real ones have some kilobytes
    judge_memory_bytes: int = 4 << 30  # bytes of address space of the process that judges protocols
    report_bytes: int = 8 << 20  # bytes of one dose report; the largest recorded have some 300 KiB
    quarantine_bytes: int = 4 << 30  # bytes of unreviewed reports kept; beyond, nothing more is taken
    remembered: int = 4096  # instances of which the outcome is remembered, to find repeats and exchanges


@dataclass(frozen=True, slots=True)
class PolicyBounds:
    """What a policy or a device profile may weigh, and how far its numbers may go."""

    file_bytes: int = 256 << 10  # bytes; the commented example has 12 kB
    signature_bytes: int = 4 << 10  # bytes; one key, one signature
    floor_bytes: int = 256 << 10  # bytes of the file of accepted versions
    operators: int = 256  # operators' keys; staff of a large department
    rows: int = 256  # caps, axes or dose constants of one table
    seconds: float = 86_400.0  # s; no hold, arming or pause is longer than a day
    judge_seconds: float = 30.0  # s; a scanner that waits longer for a verdict is as good as blocked
    emergency_minutes: float = 240.0  # min; longer is no emergency but a bypass
    mode_minutes: float = 720.0  # min; QA or SERVICE forgotten overnight ends by itself
    triggers: int = 1000  # triggers of one arming in an interventional session
    reason_chars: int = 500  # characters of an operator's reason
    found: int = 8  # objections written out in one reason; the rest is counted


@dataclass(frozen=True, slots=True)
class ControlBounds:
    """What the control channel takes. Whatever is exceeded ends that client's connection, nothing else."""

    line_bytes: int = 16 << 10  # bytes of a client's line; an act with a long reason has 2 kB
    clients: int = 32  # connections at once; consoles, terminals, one web page server
    clients_per_user: int = 8  # connections at once of one user of this machine; then the oldest is cut
    network_clients: int = 16  # of these, by TLS: the network can never crowd out the guard's own terminal
    queue_bytes: int = 1 << 20  # bytes that wait for a client that reads slowly; then it is cut
    handshake_seconds: float = 5.0  # s for TLS
    handshakes: float = 20.0  # TLS handshakes begun in a second; each takes some 1 ms of the relay
    idle_seconds: float = 90.0  # s without a line; a client sends a ping each 30 s
    wrong: int = 5  # wrong signatures of one connection; then it ends
    wrong_seconds: float = 1.0  # s that a denial waits after the first wrong signature; doubled each time
    wrong_longest: float = 30.0  # s that a denial waits at most
    acts: int = 30  # acts of one connection within ``acts_seconds``; quick hands, not a script
    acts_seconds: float = 10.0  # s
    wrong_records: int = 20  # wrong signatures recorded one by one within a minute; the rest as a count
    groups: int = 128  # different alerts remembered to count their repetitions
    nonce_seconds: float = 90.0  # s that a nonce may be signed on; a person types a reason meanwhile
    objections: int = 16  # objections told of one element; an operator reads three
    objections_all: int = 64  # of all elements of one hold, so that its line stays far below ``queue_bytes``
    text_chars: int = 160  # characters of each text of an objection or of the examination; the rest is cut
    labels: int = 8  # examinations whose names are kept in memory; one lies on the table
    examination_seconds: float = 1800.0  # s without any change after which the examination is forgotten


@dataclass(frozen=True, slots=True)
class TcpBounds:
    """What one connection of the stream link may cost. Whoever goes beyond is disconnected, and it is recorded."""

    handshake_s: float = 5.0  # s for TLS, and again for the hello; a slow machine needs some 0.1 s
    line_s: float = 2.0  # s from a line's first byte to its line feed; 64 KiB take 0.6 s at 1 Mbit/s
    write_bytes: int = 512 << 10  # bytes waiting for a peer that does not read; eight of the longest lines
    slow_reader_s: float = 3.0  # s that a peer may leave bytes waiting; as long as it may be silent
    lines_at_once: int = 8  # lines read from one connection before the others have their turn: some 1 ms
    strangers: int = 32  # connections whose peer is not known yet; the oldest gives way to the newest
    strangers_each: int = 8  # of these from one address: others' floods do not keep a host out
    handshakes_s: float = 100.0  # TLS handshakes begun in a second; each takes some 1 ms of the relay
    messages_s: float = 100.0  # messages of a host in a second, stops apart; an honest one has 20 at most
    messages_burst: float = 200.0  # messages of one host at once
    connections: int = 16  # connections of known peers; a host needs two, a restarted one four
    shutdown_s: float = 1.0  # s for the peer to close its half
    reconnect_s: float = 0.2  # s until the gantry is tried again; doubled each time
    reconnect_most_s: float = 2.0  # s between two tries at most
    identifiers: int = 4096  # originals of hashed identifiers kept to be passed on; a day has some hundred


@dataclass(frozen=True, slots=True)
class CanBounds:
    """What the CANopen link takes from its two buses, from a profile and from a log of frames."""

    sdo_bytes: int = 4096  # bytes of one SDO value; texts have 64, at 1 Mbit/s 4 KiB take 0.3 s
    sdo_block: int = 64  # segments of a block that the guard asks for; half of what CiA 301 allows
    sdo_blocks: int = 600  # blocks of one value; 4,096 bytes in blocks of one segment are 586
    sdo_idle_s: float = 1.0  # s between two frames of a host's transfer; clients give up after 0.3 s
    sdo_answer_s: float = 0.5  # s for the gantry to answer one frame; after that the transfer has failed
    requests: int = 8  # transfers towards the gantry waiting for the channel; a host has one at a time
    answer_s: float = 0.2  # s a host's trigger waits for the gate before it is told to ask again
    grant_s: float = 10.0  # s in which the host asks again for an approved motion; then it is judged anew
    load_interval_s: float = 0.05  # s between two loads or motions; a host asks once in seconds
    silent_s: float = 3.0  # s without a heartbeat after which an end counts as lost
    events: int = 2048  # messages waiting for the loop; beyond that the link drops both sides
    report_s: float = 1.0  # s in which the same refusal is reported once, with its count
    reports: int = 256  # different refusals counted apart in that time; the rest are counted together
    send_s: float = 0.05  # s a frame may wait for room in the controller's queue; 400 frames at 1 Mbit/s
    switch_s: float = 0.0002  # s a busy loop may keep a bus reader from the interpreter; Python's own: 0.005
    profile_bytes: int = 256 << 10  # bytes of a profile; the example has 8 KiB
    eds_bytes: int = 4 << 20  # bytes of an electronic data sheet; 10,000 entries have some 2 MiB
    entries: int = 20_000  # entries of an object dictionary; real ones have hundreds to thousands
    elements: int = 32  # acquisitions of a chain, as on the stream link
    fields: int = 128  # fields of one element, as on the stream link
    patterns: int = 512  # frames and patterns that a profile may name
    log_line_chars: int = 1024  # characters of one line of a log; an FD frame has 200
    log_lines: int = 50_000_000  # lines of a log that are read; two hours at the full rate of 1 Mbit/s


@dataclass(frozen=True, slots=True)
class JudgeBounds:
    """What relay and judge may say to each other, and for how long the relay waits."""

    frame_bytes: int = 16 << 20  # bytes; a history of 512 commands of 8 KiB, four times over
    objections: int = 64  # objections of one layer on one element; an operator reads three
    waiting: int = 64  # questions that wait for an answer; the gate has one at a time
    states: int = 512  # states kept after the histories judged last; each a few KiB
    start_s: float = 60.0  # s for a judge to load its bundle; a large one takes some 5
    ping_s: float = 1.0  # s between two questions whether it lives
    restart_s: float = 0.1  # s until a judge that died is replaced; doubled while it fails to start
    restart_most_s: float = 10.0  # s between two attempts at most
    silent: int = 8  # questions in a row that a worklist leaves open before its process is replaced


@dataclass(frozen=True, slots=True)
class RelayBounds:
    """What strangers may make the relay write and remember."""

    malformed_burst: float = 32.0  # malformed messages of one side recorded one by one; then by their number
    malformed_rate: float = 1.0  # such records a second in the long run: 50 MB a day at most
    contexts: int = 256  # examinations of which the guard's own sources are kept; a day has some hundred
    config_bytes: int = 256 << 10  # bytes of guard.toml; an honest one has 3,000
    rows: int = 10_000  # commands that wait for the disk of recordings; some hours of scanning


@dataclass(frozen=True, slots=True)
class ContextBounds:
    """What the guard's own sources (worklist, delivered doses) may cost the relay."""

    questions: int = 8  # questions on their way to the worklist; a host has one patient at a time
    query_s: float = 3.0  # s the worklist may take for each step; an honest one takes 0.05
    restart_s: float = 0.2  # s until the feed tries the relay again; doubled each time
    restart_most_s: float = 30.0  # s between two attempts at most
    feed_line_bytes: int = 512  # bytes of one line of delivered doses; an honest one has 90
    feed_lines_s: float = 50.0  # lines taken in a second in the long run; each may make a record
    feed_burst: float = 500.0  # lines taken at once; a receiver that begins again tells a day of them
    feed_clients: int = 4  # connections at once; there is one receiver
    feed_examinations: int = 1024  # examinations of which delivered doses are kept, on both ends
    feed_events: int = 1000  # events of one examination; an interventional session has some hundred
    ctdivol: float = 1e5  # mGy; no examination gives a hundredth
    dlp: float = 1e7  # mGy.cm; likewise


@dataclass(frozen=True, slots=True)
class WatchBounds:
    """How the drift watch weighs what crosses many patients. Changing one changes what it promises."""

    run: float = 100_000.0  # examinations between two false alarms of one statistic, on average and at least
    tolerance: float = 0.5  # share by which small p-values may be commoner than promised before it is drift
    rate_tolerance: float = 2.0  # times the budget that the alert rate may be before it is drift
    learn: int = 100  # doses of a protocol from which its usual dose is taken, unless it was given
    doubt: float = 2.0  # standard errors of a usual dose that was learned, added to the protocol's allowance
    site_doubt: float = 1.0  # the same over all protocols, whose errors partly cancel
    spread_least: float = 0.05  # least spread of log dose; a phantom-steady protocol must not alarm at 1 %
    clip: float = 3.0  # spreads; one wild scan is a finding of its own and no drift
    allowance: float = 0.5  # spreads of one protocol's dose that are no drift
    threshold: float = 10.0  # spreads summed beyond the allowance; mean run about 140,000 doses
    site_allowance: float = 0.2  # the same over all protocols: smaller drifts, more patients
    site_threshold: float = 25.0  # mean run about 450,000 doses
    protocols: int = 512  # protocols remembered; the one longest unused is forgotten


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
class WebBounds:
    """What a browser may cost a server of pages, and how sign-in is slowed down."""

    body_bytes: int = 1 << 20  # bytes of a request's body; an answer with all its clicks has some 50 kB
    body_seconds: float = 20.0  # s from a request's head to the end of its body; 1 MiB takes 8 s at 1 Mbit/s
    header_bytes: int = 16 << 10  # bytes of a request's head; a browser sends about 1 kB
    header_seconds: float = 10.0  # s from a connection (or the last answer's end) to a whole request's head
    handshake_seconds: float = 5.0  # s for TLS; a slow machine needs some 0.1 s
    send_seconds: float = 60.0  # s in which a browser must take what it is sent; 10 MB at 1.4 Mbit/s
    keep_alive_seconds: float = 30.0  # s of silence after an answer; a reader looks at a picture so long
    stop_seconds: float = 5.0  # s that requests in progress may take when the server stops
    connections: int = 256  # at once; a browser opens six
    connections_each: int = 96  # of these from one address: 16 browsers behind one router
    form_fields: int = 64  # fields of a form
    next_chars: int = 512  # characters of the page to go to after sign-in
    name_chars: int = 64  # characters of an account's name
    roles: int = 16  # roles of one account
    accounts: int = 10_000  # accounts of one site; a large hospital's staff
    passphrase_groups: int = 5  # groups of a generated passphrase, 16 bits each: 80 bits
    password_chars: int = 15  # characters of a chosen password at least: NIST SP 800-63B-4, 3.1.1.2
    password_bytes: int = 1024  # bytes of a password; more only costs hashing
    argon2_kib: int = 64 << 10  # KiB of memory of one hash: RFC 9106's second recommended choice
    argon2_passes: int = 3  # passes over it: the same
    argon2_lanes: int = 4  # lanes: the same
    hashes_at_once: int = 2  # hashes computed at once: 128 MiB of memory; the others wait
    account_free: int = 5  # wrong passwords for one account before delays begin; typing errors
    address_free: int = 20  # wrong passwords from one address before delays begin; a ward behind one router
    first_wait: float = 2.0  # s of the first delay; doubled by each further wrong password
    longest_wait: float = 900.0  # s of delay at most: 35,000 guesses a year, and nobody locked out for good
    forget_seconds: float = 86_400.0  # s after the last wrong password when all of them are forgotten
    alert_failures: int = 10  # wrong passwords in a row that are written down as an alert; then each doubling
    addresses: int = 4096  # addresses whose wrong passwords are remembered, in memory
    names: int = 10_000  # names whose wrong passwords are remembered, on disk
    sessions_each: int = 16  # sessions of one account at once; then the oldest ends
    devices_each: int = 16  # browsers of one account that have signed in before; then the oldest is forgotten
    idle_seconds: float = 3600.0  # s without a request after which a session ends
    absolute_seconds: float = 43_200.0  # s after which a session ends whatever happens: a working day
    seen_seconds: float = 30.0  # s between two notes of when a session was seen: spares a durable write each
    clock_slack: float = 60.0  # s that a clock may run backwards before sessions of "the future" end
    failures_minute: int = 60  # wrong passwords written down one by one in a minute; the rest as a count


@dataclass(frozen=True, slots=True)
class IdcBounds:
    """What is taken from Imaging Data Commons: its index, and the images that one run may bring."""

    index_rows: int = 10_000_000  # series in the index; version 25 lists 1,044,191
    collection_chars: int = 128  # characters of a collection's name; the longest has some 40
    text_chars: int = 256  # characters kept of a description; DICOM LO has 64
    series: int = 300_000  # series of one collection that are looked at; the largest, nlst, has 203,111 of CT
    images: int = 20_000  # images of one series; a cardiac one in ten phases has some 5,000
    fetched_megabytes: float = 500_000.0  # MB that one run may fetch; whoever wants more copies the bucket
    fetch_seconds: float = 3600.0  # s for one series; the largest has some 3 GB


@dataclass(frozen=True, slots=True)
class BenchmarkBounds:
    """What a run of the benchmark may be asked for, and what the files it keeps may weigh when read again."""

    seed: int = 2**31 - 1  # largest seed; what every library here takes
    spreads: int = 10  # AEC spreads of one plan; the full size has three
    workers: int = 64  # processes; each holds a world in memory, about 1 GB at full size
    files: int = 200_000  # files of the recordings that are hashed; a CT study has some thousand images
    slug_chars: int = 60  # characters of a name in a path; with hash and ending far below a file system's 255
    json_bytes: int = 64 << 20  # bytes of a kept JSON file; the results of a full run have some 20 MB
    array_bytes: int = 1 << 30  # bytes of the arrays of one cell, unpacked; at full size some 1 MB
    arrays: int = 64  # arrays in one file; a cell and the effects of its cases have nine each
    openings: int = 10_000  # openings of locked sites remembered; one a release
    why_chars: int = 500  # characters of the reason for an opening


@dataclass(frozen=True, slots=True)
class HistoryBounds:
    """What the console's history takes from the audit logs, and what one look at it may cost."""

    records: int = 1000  # records imported in one transaction; some 0.2 s, in which nobody waits
    read_bytes: int = 64 << 20  # bytes of a segment that are looked at; as many as a reader of the log takes
    recent: int = 512  # numbers of records remembered, since a record may come twice when its writer died
    text_chars: int = 2000  # characters kept of a reason or a name; the longest honest ones have some 300
    note_chars: int = (
        8000  # characters kept of a record that is only shown; the start of a relay has some 2,000
    )
    poll_seconds: float = 1.0  # s between two looks for new records
    findings: int = 50  # findings kept of one log; more say nothing new
    verify_seconds: float = 86_400.0  # s between two full verifications: a day
    query_seconds: float = 5.0  # s that one question may take; at 1,000,000 rows most take some 0.1 s
    idle_connections: int = 4  # connections to the file kept open for readers
    page_rows: int = 50  # rows of one page: a screen or two
    csv_rows: int = 200_000  # rows of one CSV file; spreadsheets take 1,048,576
    csv_seconds: float = 120.0  # s that one CSV file may take to read
    filter_chars: int = 200  # characters of one filter
    days: int = 366  # days of the chart, and of one search for its counts


@dataclass(frozen=True, slots=True)
class DriftBounds:
    """What the console's device page may cost, and when an examination counts."""

    commands: int = (
        20_000  # commands of one report that are sorted into bins: 1 s of work; of more, every k-th
    )
    seconds: float = 30.0  # s that a report's questions to the history may take, in a thread of its own
    keep_seconds: float = (
        600.0  # s that a report is shown before it is made anew: weeks do not change in minutes
    )
    reports: int = 64  # reports kept; a console has some ten scanners, and three spans each
    settle_seconds: float = 3600.0  # s without a command after which an examination is taken for over
    bundle_seconds: float = 60.0  # s between two looks whether the bundle on the disk is another one
    weeks: int = 13  # weeks of one report at most: a quarter of a year
    listed: int = (
        200  # commands listed in the report of what would have been halted; the history has them all
    )
    alarms: int = 50  # alarms of a guard's own watch that are listed


@dataclass(frozen=True, slots=True)
class ConsoleBounds:
    """What the console's process takes from guards and from browsers beyond `WebBounds`."""

    config_bytes: int = 1 << 20  # bytes of console.toml; ten scanners have some 5 kB
    scanners: int = 64  # scanners of one console; a large hospital has 20
    line_bytes: int = 2 << 20  # bytes of a guard's line; a snapshot with 128 causes has some 100 kB
    depth: int = 32  # objects within objects of a guard's line; a hold has 8
    connect_seconds: float = 5.0  # s to reach a guard and hear its first two lines
    ping_seconds: float = 1.0  # s between two pings to a guard
    silent_seconds: float = 3.0  # s without a line after which a scanner is shown as silent; 5 are promised
    lost_seconds: float = 10.0  # s without a line after which the connection is made anew
    reconnect_seconds: float = 0.5  # s until a guard is tried again; doubled each time
    reconnect_most: float = 4.0  # s between two tries at most: with the pings, shown as up within 5 s
    snapshot_seconds: float = 0.5  # s between two asked-for states; the guard takes 30 questions in 10 s
    refresh_seconds: float = 5.0  # s after which the state is asked for although nothing happened
    events: int = 50  # events of a scanner that a browser is shown
    event_bytes: int = 4096  # bytes of one of these; longer ones are shown without their data
    ticket_seconds: float = 60.0  # s from a ticket to its act; the guard's nonce lives 90 s
    ticket_quick: float = 5.0  # s that a ticket is left alone; older ones give way when all are taken
    tickets_local: int = 2  # tickets at once by a local socket: of its user's 4 connections, one watches
    tickets_network: int = 6  # tickets at once by TLS: of 8 network clients, one watches
    tickets_minute: int = 30  # tickets of one account in a minute; quick hands, not a script
    ticket_wait: float = 6.0  # s that a ticket is waited for when all are taken
    answer_seconds: float = 40.0  # s for the guard's answer; it lets a wrong signature wait 30 s
    act_bytes: int = 8192  # bytes of an act as a browser sends it; a long reason has 2 kB
    streams: int = 128  # event streams at once; of the server's 256 connections
    streams_each: int = 8  # event streams of one session; a browser opens six connections
    stream_gap: float = 0.05  # s between two messages of a stream at least: a burst becomes one
    stream_clock: float = (
        2.0  # s between two words of the clock on a stream; silent for 5 s: the console is gone
    )
    stream_send: float = 10.0  # s in which a browser must take a message; then it is cut off
    stream_check: float = 5.0  # s between two looks whether a stream's session still lives
    idle_seconds: float = (
        14_400.0  # s without a request after which a sign-in ends; half a shift. Watching counts not
    )
    acts_shown: int = 200  # acts on one page of the console's own record


@dataclass(frozen=True, slots=True)
class AlertingBounds:
    """How alerts leave the room: folding, spool, retries."""

    routes: int = 64  # destinations of one console
    dose_rules: int = 256  # rules about doses
    causes: int = (
        2000  # different alerts that wait for the disk at once; more are one line for each kind, counted
    )
    fold_seconds: float = 300.0  # s in which the same alert again is a count; told once when they are over
    burst: int = (
        20  # different alerts of one scanner and kind that leave one by one; the others as one, counted
    )
    burst_seconds: float = 60.0  # s in which ``burst`` counts
    samples: int = 5  # reasons quoted of a flood
    rows: int = 100_000  # alerts kept on disk; then new ones are folded by kind
    memory_rows: int = 5000  # alerts kept in memory while the disk takes none; then likewise
    keep_days: float = 90.0  # days that alerts which are out are listed
    title_chars: int = 150  # characters of an alert's title; a mail's subject
    text_chars: int = 1000  # characters of its text; with all around it far below a syslog message's 64 KiB
    write_seconds: float = 0.05  # s between two writes of the spool at least: a burst becomes one
    retry_write: float = 1.0  # s until a disk that took nothing is tried again
    batch: int = 100  # messages of one connection to a syslog server before it is asked whether it read them
    first_wait: float = 1.0  # s until a receiver that failed is tried again; doubled each time
    longest_wait: float = 300.0  # s between two tries at most
    fresh_wait: float = 5.0  # s between two tries at most while something waits that was never tried
    undelivered_seconds: float = 60.0  # s that a receiver fails before the other ones are told
    undelivered_again: float = 3600.0  # s until they are told again
    stop_seconds: float = 15.0  # s that messages under way may take when the console stops
    marks: int = 256  # causes of a guard remembered with their counts; it keeps 128 itself
    heard_seconds: float = 10.0  # s between two notes on disk of when a guard was last heard
    gap_seconds: float = 2.0  # s without a connection to a guard after which the gap itself is an alert
    dose_poll: float = 2.0  # s between two looks for new doses in the history
    dose_batch: int = 500  # doses looked at in one step
    dose_first_hours: float = 48.0  # hours back that a log is looked at when it is first seen
    secret_bytes: int = 4096  # bytes of a file with a password or a token
    listed: int = 200  # alerts on the page


BUNDLE_BOUNDS = BundleBounds()
CAN_BOUNDS = CanBounds()
STREAM_BOUNDS = StreamBounds()
TCP_BOUNDS = TcpBounds()
JUDGE_BOUNDS = JudgeBounds()
RELAY_BOUNDS = RelayBounds()
KEY_BOUNDS = KeyBounds()
AUDIT_BOUNDS = AuditBounds()
SHIPPING_BOUNDS = ShippingBounds()
DICOM_BOUNDS = DicomBounds()
POLICY_BOUNDS = PolicyBounds()
CONTROL_BOUNDS = ControlBounds()
CONTEXT_BOUNDS = ContextBounds()
WATCH_BOUNDS = WatchBounds()
MAMMOGRAPHY_BOUNDS = MammographyBounds()
PHANTOM_BOUNDS = PhantomBounds()
TAMPERING_BOUNDS = TamperingBounds()
STUDY_BOUNDS = StudyBounds()
ANSWER_BOUNDS = AnswerBounds()
MRMC_BOUNDS = MrmcBounds()
WEB_BOUNDS = WebBounds()
IDC_BOUNDS = IdcBounds()
BENCHMARK_BOUNDS = BenchmarkBounds()
HISTORY_BOUNDS = HistoryBounds()
DRIFT_BOUNDS = DriftBounds()
CONSOLE_BOUNDS = ConsoleBounds()
ALERTING_BOUNDS = AlertingBounds()

"""Bounds of what a guard takes: links, DICOM, policy, operators, judging, watching."""

from __future__ import annotations

from dataclasses import dataclass


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


STREAM_BOUNDS = StreamBounds()
TCP_BOUNDS = TcpBounds()
CAN_BOUNDS = CanBounds()
DICOM_BOUNDS = DicomBounds()
POLICY_BOUNDS = PolicyBounds()
CONTROL_BOUNDS = ControlBounds()
JUDGE_BOUNDS = JudgeBounds()
RELAY_BOUNDS = RelayBounds()
CONTEXT_BOUNDS = ContextBounds()
WATCH_BOUNDS = WatchBounds()

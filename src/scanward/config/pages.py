"""Bounds of the servers of pages: what browsers and guards may cost them."""

from __future__ import annotations

from dataclasses import dataclass


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
    streams_each: int = 4  # event streams of one session; a browser opens six connections, and acts need one
    streams_account: int = 16  # event streams of one account, however often it is signed in
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
    places: int = 24  # small pictures of one hold: as many rows as anybody reads


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

    commands: int = 10_000  # commands of one report that are sorted into bins: 1 s; of more, every k-th
    command_chars: int = 8000  # characters of a command's JSON, some 2,000; longer ones tell nothing
    seconds: float = 30.0  # s that a report's questions to the history may take, in a thread of its own
    keep_seconds: float = 600.0  # s that a report is shown before it is made anew: weeks change slowly
    reports: int = 64  # reports kept; a console has some ten scanners, and three spans each
    settle_seconds: float = 3600.0  # s without a command after which an examination is taken for over
    bundle_seconds: float = 60.0  # s between two looks whether the bundle on the disk is another one
    weeks: int = 13  # weeks of one report at most: a quarter of a year
    listed: int = 50  # commands listed of what would have been halted; the history has them all
    alarms: int = 50  # alarms of a guard's own watch that are listed


@dataclass(frozen=True, slots=True)
class OidcBounds:
    """Sign-in by OpenID Connect: what a provider may cost, and how old its words may be."""

    answer_bytes: int = 256 << 10  # bytes of an answer; a large key set has some 20 kB
    connect_seconds: float = 10.0  # s to connect, and to wait for one answer
    asking: int = 4  # questions to the provider at once; then browsers are asked to try again
    metadata_seconds: float = 3600.0  # s that addresses and keys are believed
    keys_seconds: float = 60.0  # s between two looks for a new key: anybody can send a token of a strange one
    slack_seconds: float = 60.0  # s that two clocks may differ
    token_seconds: float = 600.0  # s from an ID token's making to its use
    away_seconds: float = 600.0  # s that somebody may be at the provider
    code_chars: int = 2048  # characters of a code
    name_chars: int = 256  # characters of the claim that names the account


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


WEB_BOUNDS = WebBounds()
CONSOLE_BOUNDS = ConsoleBounds()
HISTORY_BOUNDS = HistoryBounds()
DRIFT_BOUNDS = DriftBounds()
ALERTING_BOUNDS = AlertingBounds()
OIDC_BOUNDS = OidcBounds()

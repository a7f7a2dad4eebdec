"""Edits, deletions, reorderings, truncation, splicing and replay are found, and said where."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _audit import KEY, OTHER_KEY, SMALL, Clock, FaultyFolder, payloads, records, verified, write_log
from scanward.audit import Checkpoint, ClockWatch, Kind, Moment, Record, Report, read, verify
from scanward.audit.frames import SEGMENT_BYTES, Frame, SegmentHeader, encode_frame, scan
from scanward.errors import AuditError, DecodeError, InputError
from test_fuzz_harnesses import load, mutated

groups = st.lists(st.lists(st.binary(max_size=120), min_size=1, max_size=5), min_size=4, max_size=25)


@dataclass
class Log:
    """A log on disk, its records, and what the witness saw."""

    folder: Path
    told: list[Record]
    witness: list[Checkpoint]

    @property
    def covered(self) -> int:
        return self.witness[-1].seq

    def covered_records(self) -> list[Record]:
        return [r for r in self.told if r.seq <= self.covered]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


def make(place: Path, made: list[list[bytes]], *, log_id: bytes = b"L" * 16, name: str = "log") -> Log:
    witness: list[Checkpoint] = []
    disk = FaultyFolder()
    write_log(disk, made, witness=witness.append, log_id=log_id)
    folder = disk.dump(place / name)
    return Log(folder, records(folder), witness)


def frames(data: bytes) -> list[Frame]:
    header = SegmentHeader.decode(data[:SEGMENT_BYTES], "")
    return [item for item in scan(data, SEGMENT_BYTES, header.hash, SMALL) if isinstance(item, Frame)]


def rewritten(data: bytes, change: dict[int, Frame | None], header: SegmentHeader | None = None) -> bytes:
    """The segment with some frames changed or left out, and all later hashes and checksums made to fit."""
    header = header or SegmentHeader.decode(data[:SEGMENT_BYTES], "")
    parts, head = [], b""
    told, head = header.encode()
    parts.append(told)
    for frame in frames(data):
        new = change.get(frame.seq, frame)
        if new is None:
            continue
        part, head = encode_frame(
            head, Kind(new.kind), new.seq, new.durable, new.moment, new.payload, reserved=new.reserved
        )
        parts.append(part)
    return b"".join(parts)


def naming(report: Report, seq: int) -> bool:
    """Whether a finding names record ``seq``."""
    return any(f.first_seq <= seq <= f.last_seq for f in report.findings)


# --- what is whole is left alone


@settings(max_examples=50)
@given(made=groups)
def test_an_untouched_log_is_whole(place: Path, made: list[list[bytes]]) -> None:
    log = make(place, made)
    report = verified(log.folder, log.witness)
    assert report.ok, report.findings
    assert report.notes == []
    assert report.records == len(log.told) == report.last_seq
    assert report.witnessed == log.covered == report.last_seq - 1
    assert list(payloads(log.folder).values()) == [p for group in made for p in group]


def test_a_log_of_several_lives_is_one_log(place: Path) -> None:
    disk, clock = FaultyFolder(), Clock()
    for life in range(4):
        write_log(disk, [[b"%d" % life] * 3] * 5, clock=clock, close=life % 2 == 0)
    report = verified(disk.dump(place / "lives"))
    assert report.ok
    assert report.notes == [
        "no witness was given: whoever holds the signing key could have written all of this anew"
    ]
    assert report.segments >= 4
    assert list(payloads(place / "lives").values()) == [b"0"] * 15 + [b"1"] * 15 + [b"2"] * 15 + [b"3"] * 15


# --- one careless change: the record itself is named


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_a_changed_byte_is_found_in_its_record(
    place: Path, made: list[list[bytes]], data: st.DataObject
) -> None:
    log = make(place, made)
    victim = data.draw(st.sampled_from(log.covered_records()))
    path = log.folder / victim.segment
    raw = bytearray(path.read_bytes())
    end = next(f.end for f in frames(bytes(raw)) if f.seq == victim.seq)
    at = data.draw(st.integers(victim.offset, end - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    report = verified(log.folder, log.witness)
    assert not report.ok
    assert naming(report, victim.seq), report.findings
    # The careless are found by the chain itself, save in the last group, which a crash might have torn.
    if victim.seq <= log.told[-1].seq - 3:
        exact = [f for f in report.findings if f.step in (3, 4) and f.segment == victim.segment]
        assert any(f.first_seq <= victim.seq <= f.last_seq for f in exact), report.findings


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_a_deleted_record_is_found(place: Path, made: list[list[bytes]], data: st.DataObject) -> None:
    log = make(place, made)
    victim = data.draw(st.sampled_from(log.covered_records()))
    path = log.folder / victim.segment
    raw = path.read_bytes()
    frame = next(f for f in frames(raw) if f.seq == victim.seq)
    path.write_bytes(raw[: frame.offset] + raw[frame.end :])
    report = verified(log.folder, log.witness)
    assert naming(report, victim.seq), report.findings


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_reordered_records_are_found(place: Path, made: list[list[bytes]], data: st.DataObject) -> None:
    log = make(place, made)
    first = data.draw(st.sampled_from(log.covered_records()))
    path = log.folder / first.segment
    raw = path.read_bytes()
    here = frames(raw)
    a, b = sorted(
        data.draw(st.lists(st.sampled_from(here), min_size=2, max_size=2, unique_by=lambda f: f.seq))
        if len(here) > 1
        else (here[0], here[0]),
        key=lambda f: f.seq,
    )
    if a is b or a.seq > log.covered:
        return
    middle = raw[a.end : b.offset]
    path.write_bytes(raw[: a.offset] + raw[b.offset : b.end] + middle + raw[a.offset : a.end] + raw[b.end :])
    report = verified(log.folder, log.witness)
    assert naming(report, a.seq), report.findings


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_truncation_before_the_witnessed_checkpoint_is_found(
    place: Path, made: list[list[bytes]], data: st.DataObject
) -> None:
    log = make(place, made)
    victim = data.draw(st.sampled_from(log.covered_records()))
    frame = next(f for f in frames((log.folder / victim.segment).read_bytes()) if f.seq == victim.seq)
    cut = data.draw(st.integers(frame.offset, frame.end - 1))
    for path in sorted(log.folder.glob("*.audit")):
        if path.name == victim.segment:
            path.write_bytes(path.read_bytes()[:cut])
        elif path.name > victim.segment:
            path.unlink()
    report = verified(log.folder, log.witness)
    assert naming(report, victim.seq), report.findings
    assert naming(report, log.covered)


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_a_missing_segment_is_found(place: Path, made: list[list[bytes]], data: st.DataObject) -> None:
    log = make(place, made)
    name = data.draw(st.sampled_from(sorted({r.segment for r in log.covered_records()})))
    (log.folder / name).unlink()
    if not list(log.folder.glob("*.audit")):
        with pytest.raises(InputError, match="no audit log"):
            verified(log.folder, log.witness)
        return
    report = verified(log.folder, log.witness)
    gone = [r.seq for r in log.covered_records() if r.segment == name]
    assert all(naming(report, seq) for seq in gone), report.findings


# --- one careful change: everything after it is made to fit


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_a_rewritten_chain_is_found_between_two_checkpoints(
    place: Path, made: list[list[bytes]], data: st.DataObject
) -> None:
    log = make(place, made)
    victim = data.draw(st.sampled_from(log.covered_records()))
    change = data.draw(st.sampled_from(["edit", "drop"]))
    head: bytes | None = None
    for path in sorted(log.folder.glob("*.audit")):
        raw = path.read_bytes()
        header = SegmentHeader.decode(raw[:SEGMENT_BYTES], "")
        if path.name < victim.segment:
            continue
        if head is not None:
            header = replace(header, previous_hash=head)
        told: dict[int, Frame | None] = {}
        if path.name == victim.segment:
            for frame in frames(raw):
                if frame.seq == victim.seq:
                    told[frame.seq] = (
                        None if change == "drop" else replace(frame, payload=frame.payload + b"!")
                    )
                elif change == "drop" and frame.seq > victim.seq:
                    told[frame.seq] = replace(frame, seq=frame.seq - 1)
        elif change == "drop":
            header = replace(header, first_seq=header.first_seq - 1, previous_seq=header.previous_seq - 1)
            told = {f.seq: replace(f, seq=f.seq - 1) for f in frames(raw)}
        new = rewritten(raw, told, header)
        path.write_bytes(new)
        head = frames(new)[-1].hash if frames(new) else header.encode()[1]
    report = verified(log.folder, log.witness)
    step5 = [f for f in report.findings if f.step == 5]
    assert step5, "the witness saw it"
    marks = [0, *(c.seq for c in log.witness)]
    low = max(m for m in marks if m < victim.seq) + 1
    high = min(m for m in marks if m >= victim.seq)
    assert (step5[0].first_seq, step5[0].last_seq) == (low, high)
    # The log's own checkpoints tell as well, as long as nobody signs new ones.
    alone = verified(log.folder)
    assert any(f.step == 4 and f.last_seq >= victim.seq for f in alone.findings)
    assert all(f.step == 4 for f in alone.findings)


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_a_record_spliced_in_from_another_log_is_found(
    place: Path, made: list[list[bytes]], data: st.DataObject
) -> None:
    log = make(place, made)
    other = make(place, [[p + b"?" for p in group] for group in made], log_id=b"M" * 16, name="other")
    victim = data.draw(st.sampled_from(log.covered_records()))
    donor = next((r for r in other.told if r.seq == victim.seq), None)
    if donor is None:
        return
    source = (other.folder / donor.segment).read_bytes()
    raw = (log.folder / victim.segment).read_bytes()
    theirs = next(f for f in frames(source) if f.seq == victim.seq)
    ours = next(f for f in frames(raw) if f.seq == victim.seq)
    (log.folder / victim.segment).write_bytes(
        raw[: ours.offset] + source[theirs.offset : theirs.end] + raw[ours.end :]
    )
    report = verified(log.folder, log.witness)
    assert naming(report, victim.seq), report.findings


@settings(max_examples=50)
@given(made=groups, data=st.data())
def test_a_replayed_checkpoint_is_found(place: Path, made: list[list[bytes]], data: st.DataObject) -> None:
    log = make(place, made)
    points = [r for r in log.told if r.kind is Kind.CHECKPOINT]
    if len(points) < 2:
        return
    old, victim = data.draw(st.sampled_from([(a, b) for a in points for b in points if a.seq < b.seq]))
    path = log.folder / victim.segment
    raw = path.read_bytes()
    frame = next(f for f in frames(raw) if f.seq == victim.seq)
    path.write_bytes(rewritten(raw, {victim.seq: replace(frame, payload=old.payload)}))
    report = verified(log.folder, log.witness)
    assert any(f.step == 4 and f.first_seq <= victim.seq <= f.last_seq for f in report.findings)


def test_a_segment_of_another_log_or_under_another_name_is_found(place: Path) -> None:
    made = [[b"x" * 100] * 4] * 20
    log = make(place, made, name="whole")
    other = make(place, made, log_id=b"M" * 16, name="foreign")
    second = "00000002.audit"
    original = (log.folder / second).read_bytes()
    (log.folder / second).write_bytes((other.folder / second).read_bytes())
    report = verified(log.folder, log.witness)
    assert any("another log" in f.what and f.segment == second for f in report.findings)
    (log.folder / second).write_bytes(original)
    (log.folder / second).rename(log.folder / "00000099.audit")
    report = verified(log.folder, log.witness)
    assert any("another name" in f.what and f.segment == "00000099.audit" for f in report.findings)


def test_a_log_signed_by_another_key_or_begun_anew_is_found(place: Path) -> None:
    made = [[b"a"] * 3] * 10
    log = make(place, made, name="ours")
    disk = FaultyFolder()
    write_log(disk, made, key=OTHER_KEY)
    forged = disk.dump(place / "forged")
    report = verified(forged, log.witness)
    assert {4, 5} <= {f.step for f in report.findings}
    fresh = make(place, made, log_id=b"N" * 16, name="fresh")
    report = verified(fresh.folder, log.witness)
    assert [f.what for f in report.findings] == ["the witness knows nothing of this log"]
    # The key itself, used to write everything anew under the same identity: the witness alone tells.
    anew = make(place, [[b"b"] * 3] * 10, name="anew")
    assert verified(anew.folder).ok
    report = verified(anew.folder, log.witness)
    assert {f.step for f in report.findings} == {5}
    assert report.findings[0].first_seq == 1


def test_two_histories_signed_for_one_record_are_found(place: Path) -> None:
    log = make(place, [[b"a"] * 3] * 10, name="fork")
    fork = Checkpoint.sign(KEY, b"L" * 16, log.witness[0].seq, bytes(32), 0)
    report = verified(log.folder, [*log.witness, fork])
    assert [f.step for f in report.findings] == [5]


def test_archived_segments_must_be_named(place: Path) -> None:
    log = make(place, [[b"x" * 100] * 4] * 20, name="archive")
    (log.folder / "00000001.audit").unlink()
    first = SegmentHeader.decode((log.folder / "00000002.audit").read_bytes()[:SEGMENT_BYTES], "")
    report = verified(log.folder, log.witness)
    assert [(f.step, f.first_seq, f.last_seq) for f in report.findings] == [(2, 1, first.first_seq - 1)]
    assert verify(log.folder, [KEY.verify_key], log.witness, begins_at=first.first_seq, bounds=SMALL).ok


# --- the end of a log: what a crash does, and what it does not


def test_a_torn_end_is_no_attack_and_is_recorded(place: Path) -> None:
    disk, clock = FaultyFolder(), Clock()
    write_log(disk, [[b"a"], [b"b"], [b"torn" * 20]], clock=clock, close=False)
    data = disk.files["00000001.audit"].seen
    del data[-30:]
    folder = disk.dump(place / "torn")
    report = verified(folder)
    assert report.ok
    assert "never finished" in report.notes[0]
    assert list(payloads(folder).values()) == [b"a", b"b"]
    writer = write_log(disk, [[b"c"]], clock=clock)
    assert writer.opened.cut_bytes > 0
    assert writer.opened.broken == ""
    folder = disk.dump(place / "torn")
    assert verified(folder).ok
    assert list(payloads(folder).values()) == [b"a", b"b", b"c"]
    notes = [r.payload for r in records(folder) if r.kind is Kind.NOTE]
    assert any(b'"reason": "cut"' in n and b"cut_sha256" in n for n in notes)


def test_damage_before_the_end_is_no_crash_and_no_number_is_used_again(place: Path) -> None:
    disk, clock = FaultyFolder(), Clock()
    write_log(disk, [[b"a"], [b"victim"], [b"c"], [b"d"]], clock=clock, close=False)
    data = disk.files["00000001.audit"].seen
    data[data.index(b"victim")] ^= 1
    report = verified(disk.dump(place / "damaged"))
    assert not report.ok
    assert report.findings[0].first_seq == 3
    writer = write_log(disk, [[b"e"]], clock=clock)
    assert writer.opened.broken == "record 3 is damaged, and was durable before"
    folder = disk.dump(place / "damaged")
    report = verified(folder)
    assert [(f.step, f.first_seq, f.last_seq) for f in report.findings] == [(3, 3, 5)]
    assert report.last_seq > 5
    with pytest.raises(AuditError, match="record"):
        records(folder)


def test_a_witness_turns_a_torn_end_into_a_finding(place: Path) -> None:
    log = make(place, [[b"a"] * 3] * 10, name="cut")
    path = sorted(log.folder.glob("*.audit"))[-1]
    path.write_bytes(path.read_bytes()[:-450])
    assert verified(log.folder).ok  # as after a crash
    report = verified(log.folder, log.witness)
    assert [f.step for f in report.findings] == [5]


# --- hostile bytes


@settings(max_examples=50)
@given(junk=st.binary(max_size=2000), at=st.integers(0, 3000), made=groups)
def test_any_bytes_give_a_report(place: Path, junk: bytes, at: int, made: list[list[bytes]]) -> None:
    log = make(place, made[:5])
    path = log.folder / "00000001.audit"
    raw = path.read_bytes()
    at = min(at, len(raw))
    path.write_bytes(raw[:at] + junk + raw[at + len(junk) :])
    report = verified(log.folder, log.witness)
    new = path.read_bytes()
    end = max(f.end for f in frames(raw) if f.seq <= log.covered)  # what comes after it nobody has witnessed
    if new == raw:
        assert report.ok
    if new[:end] != raw[:end]:
        assert not report.ok
    try:
        assert sum(1 for _ in read(log.folder, bounds=SMALL)) <= len(log.told)
    except AuditError:
        assert not report.ok


def test_the_fuzzing_harness_holds_on_mutated_segments(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = load("fuzz_audit", monkeypatch)
    seed = (make(place, [[b"a" * 50] * 3] * 5, name="fuzzed").folder / "00000001.audit").read_bytes()
    chance = random.Random(3)
    harness.one_input(seed)
    for _ in range(300):
        harness.one_input(mutated(seed, chance))


def test_magic_after_magic_costs_no_quadratic_time() -> None:
    head = struct.pack(">2sBBIQQqq", b"\xa5\x57", 0, 0, 200_000, 1, 0, 0, 0)
    data = head * (1 << 14)
    calls = []
    original = zlib.crc32
    try:
        zlib.crc32 = lambda *a: calls.append(len(a[0])) or original(*a)  # type: ignore[assignment,func-returns-value]
        items = list(scan(data, 0, bytes(32)))
    finally:
        zlib.crc32 = original
    assert len(items) <= 2
    assert sum(calls) < 20 * len(data)


@pytest.mark.parametrize("text", ["", "scanward-checkpoint-1", "scanward-checkpoint-1 log=00 seq=1"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        Checkpoint.parse(text)


@given(seq=st.integers(0, 2**63), wall=st.integers(-(2**62), 2**62), head=st.binary(min_size=32, max_size=32))
def test_a_checkpoint_survives_being_a_line_in_a_syslog_file(seq: int, wall: int, head: bytes) -> None:
    point = Checkpoint.sign(KEY, b"L" * 16, seq, head, wall)
    again = Checkpoint.parse(f"<85>1 - host scanward - - - {point.line}\n")
    assert again == point
    assert again.signed_by([OTHER_KEY.verify_key, KEY.verify_key])
    assert not again.signed_by([OTHER_KEY.verify_key])
    assert not replace(again, seq=seq + 1).signed_by([KEY.verify_key])


def test_a_key_is_needed(place: Path) -> None:
    log = make(place, [[b"a"]], name="nokey")
    with pytest.raises(InputError, match="no key"):
        verify(log.folder, [], None)


def test_the_hash_is_the_documented_one(place: Path) -> None:
    """An independent reading of the format, as docs/audit.md tells it."""
    log = make(place, [[b"hello"]], name="format")
    raw = (log.folder / "00000001.audit").read_bytes()
    assert raw[:8] == b"SWAUDIT1"
    header_bytes = 8 + 16 + 4 + 1 + 3 + 8 + 8 + 32 + 8 + 8
    previous = raw[header_bytes : header_bytes + 32]
    assert previous == hashlib.sha256(b"scanward audit segment 1\0" + raw[:header_bytes]).digest()
    at, seq = header_bytes + 32, 0
    while at < len(raw):
        magic, _, _, length, number = struct.unpack(">2sBBIQ", raw[at : at + 16])
        body = raw[at : at + 44 + length]
        digest = raw[at + 44 + length : at + 76 + length]
        assert magic == b"\xa5\x57"
        assert number == (seq := seq + 1)
        assert digest == hashlib.sha256(b"scanward audit record 1\0" + previous + body).digest()
        assert struct.unpack(">I", body[40:44])[0] == zlib.crc32(body[:40] + bytes(4) + body[44:])
        previous, at = digest, at + 76 + length
    assert seq == len(log.told)


# --- clocks


def test_clock_jumps_are_told_and_slewing_is_not() -> None:
    watch = ClockWatch(tolerance_ns=500_000_000)
    second = 10**9
    assert watch.seen(Moment(0, 1000 * second)) is None
    assert watch.seen(Moment(second, 1001 * second + 400_000)) is None
    jump = watch.seen(Moment(2 * second, 900 * second))
    assert jump is not None
    assert b'"audit.clock_jump"' in jump
    assert b'"jump_ns": -102000400000' in jump
    assert watch.seen(Moment(3 * second, 901 * second)) is None

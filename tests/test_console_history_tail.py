"""Following a log: the records that its own reader reads, whatever the disk did; every change of what was read."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _audit import KEY, OTHER_KEY, SMALL, Clock, FaultyFolder, PowerLossError, records, write_log
from _console_history import Log, import_all, importer, rows
from scanward.audit import Writer
from scanward.audit.frames import Kind
from scanward.config import HISTORY_BOUNDS
from scanward.console.history_store import HistoryStore
from scanward.console.history_tail import Batch, Place, Tail
from scanward.errors import InputError

KEYS = [KEY.verify_key]


def groups(count: int, size: int = 3) -> list[list[bytes]]:
    return [[b'{"kind":"x","n":%d}' % (size * n + i) for i in range(size)] for n in range(count)]


def follow(folder: Path, place: Place | None = None, most: int | None = None) -> tuple[list[Batch], Place]:
    """Everything that is there, batch by batch."""
    tail = Tail(folder, KEYS)
    place = place or tail.begin()
    found = []
    while True:
        batch = tail.read(place, most)
        found.append(batch)
        place = batch.place
        if not batch.more:
            return found, place


def payloads(batches: list[Batch]) -> list[tuple[int, bytes]]:
    return [(e.seq, e.payload) for batch in batches for e in batch.entries]


def expected(folder: Path) -> list[tuple[int, bytes]]:
    return [(r.seq, r.payload) for r in records(folder) if r.kind is not Kind.CHECKPOINT]


def findings(batches: list[Batch]) -> list[str]:
    return [f.what for batch in batches for f in batch.findings]


@pytest.mark.parametrize("most", [1, 2, 7, None])
def test_it_reads_what_the_logs_own_reader_reads(tmp_path: Path, most: int | None) -> None:
    """Over segments, checkpoints, restarts."""
    disk, clock = FaultyFolder(), Clock()
    for _ in range(3):
        write_log(disk, groups(25), clock=clock)
    folder = disk.dump(tmp_path / "log")
    assert len(list(folder.glob("*.audit"))) > 4
    batches, place = follow(folder, most=most)
    assert payloads(batches) == expected(folder)
    assert findings(batches) == []
    assert place.seq == records(folder)[-1].seq
    assert batches[-1].note == ""
    assert any(batch.checkpoint for batch in batches)


def test_it_goes_on_where_it_stopped_while_the_log_is_written(tmp_path: Path) -> None:
    disk, clock = FaultyFolder(), Clock()
    writer = write_log(disk, groups(2), clock=clock, close=False)
    folder = disk.dump(tmp_path / "log")
    batches, place = follow(folder)
    for group in groups(40, 2):
        for payload in group:
            writer.append(payload, clock())
        writer.commit(clock())
        disk.dump(folder)
        more, place = follow(folder, place)
        batches += more
    assert payloads(batches) == expected(folder)
    assert findings(batches) == []


class Watched(FaultyFolder):
    """A disk that is read between any two of its operations."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.place, self.batches = folder, None, []
        self.watching = False

    def _step(self, what: str) -> str:
        self.look()
        return super()._step(what)

    def look(self) -> None:
        if self.watching and any(name.endswith(".audit") for name in self.files):
            more, self.place = follow(self.dump(self.folder), self.place)
            self.batches += more


@pytest.mark.parametrize("kind", ["eio", "short", "enospc"])
def test_a_write_that_failed_is_read_once(tmp_path: Path, kind: str) -> None:
    """The writer says it again in a new segment; what was read of the old one before is not read twice."""
    more_segments = 0
    for number in range(40):
        folder = tmp_path / f"{kind}-{number}"
        disk, clock = Watched(folder), Clock()
        writer = Writer(disk, KEY, clock(), bounds=SMALL, new_id=lambda _: b"L" * 16)
        disk.fault = (len(disk.operations) + number, kind)
        disk.watching = True
        for group in groups(8):
            for payload in group:
                writer.append(payload, clock(), reserved=True)
            writer.commit(clock())
        disk.look()
        batches = disk.batches
        more_segments += len(list(folder.glob("*.audit"))) > 1
        assert payloads(batches) == expected(folder), number
        assert findings(batches) == [], number
    assert more_segments > 5 or kind == "short"


@pytest.mark.parametrize("keep", ["nothing", "all", "some"])
def test_after_a_power_cut_it_goes_on_with_what_was_kept(tmp_path: Path, keep: str) -> None:
    """What was not durable may be gone: then its numbers come again, with other records. That is no finding."""
    for number in range(20, 120, 7):
        disk, clock = FaultyFolder((number, "power")), Clock()
        folder = tmp_path / f"{keep}-{number}"
        place: Place | None = None
        try:
            writer = Writer(disk, KEY, clock(), bounds=SMALL, new_id=lambda _: b"L" * 16)
            for group in groups(30):
                for payload in group:
                    writer.append(payload, clock())
                writer.commit(clock())
                place = follow(disk.dump(folder), place)[1]
        except PowerLossError:
            if disk.files:
                place = follow(disk.dump(folder), place)[
                    1
                ]  # what is written and not durable can be read, too
        later = disk.after_power_loss(keep, random.Random(number))
        if not any(name.endswith(".audit") for name in later.files):
            continue
        write_log(later, groups(5), clock=clock)
        later.dump(folder)
        batches, _ = follow(folder, place)
        assert findings(batches) == [], number
        got, here = payloads(batches), expected(folder)
        assert here[-len(got) :] == got, number
        durable = place.durable if place else 0
        assert not here or not got or got[0][0] <= max(durable, 0) + 1 + len(here), number
        # nothing that came after the cut is left out
        fresh = [r for r in here if b"audit.opened" in r[1]][-1][0]
        assert [seq for seq, _ in got if seq >= fresh] == [seq for seq, _ in here if seq >= fresh], number


def changed(folder: Path, name: str, data: bytes) -> Path:
    copy = folder.with_name("changed")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / name).write_bytes(data)
    return copy


def test_every_changed_byte_that_is_read_is_found(tmp_path: Path) -> None:
    disk = FaultyFolder()
    write_log(disk, groups(20))
    folder = disk.dump(tmp_path / "log")
    name = sorted(p.name for p in folder.glob("*.audit"))[0]
    data = (folder / name).read_bytes()
    for at in range(128, len(data), 97):
        copy = changed(folder, name, data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        assert findings(follow(copy)[0]), at


def test_what_was_read_and_is_changed_later_is_found(tmp_path: Path) -> None:
    """Cut off, replaced by another log of the same name, written anew by whoever has the key."""
    disk = FaultyFolder()
    write_log(disk, groups(20))
    folder = disk.dump(tmp_path / "log")
    _, place = follow(folder)
    last = place.segment
    data = (folder / last).read_bytes()
    copy = changed(folder, last, data[: place.offset - 40])
    [batch] = follow(copy, place)[0]
    assert batch.note.startswith("what is there ends before record")
    assert batch.entries == []
    copy = changed(folder, last, data[: place.offset - 1] + b"\xff" + data[place.offset :])
    assert "is not the one that was read before" in findings(follow(copy, place)[0])[0]
    forged = FaultyFolder()
    other = [[payload.replace(b'"n":7', b'"n":8') for payload in group] for group in groups(24)]
    write_log(forged, other)  # whole, signed with the key of the log, and longer
    assert findings(follow(forged.dump(tmp_path / "forged"), place)[0])


def test_archived_segments_are_a_gap_only_if_they_were_not_read(tmp_path: Path) -> None:
    disk = FaultyFolder()
    write_log(disk, groups(30))
    folder = disk.dump(tmp_path / "log")
    names = sorted(p.name for p in folder.glob("*.audit"))
    assert len(names) > 3
    tail = Tail(folder, KEYS)
    place = tail.read(tail.begin(), 5).place
    while place.segment < names[2]:
        place = tail.read(place, 5).place
    (folder / names[0]).unlink()
    assert findings(follow(folder, place)[0]) == []
    early = Tail(folder, KEYS)
    gap = early.read(replace(place, segment=names[0], seq=3, head=b"x" * 32, durable=3))
    assert "are not here" in gap.findings[0].what


def test_a_checkpoint_of_a_stranger_counts_for_nothing(tmp_path: Path) -> None:
    disk = FaultyFolder()
    write_log(disk, groups(10), key=OTHER_KEY)
    batches, _ = follow(disk.dump(tmp_path / "log"))
    assert "not signed by a trusted key" in findings(batches)[0]
    assert not any(batch.checkpoint for batch in batches)


def test_no_log_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Tail(tmp_path / "nothing").begin()
    (tmp_path / "00000001.audit").write_bytes(b"not a segment")
    with pytest.raises(InputError):
        Tail(tmp_path).begin()


# --- the import


def test_nothing_is_imported_twice_or_lost_when_the_console_is_down(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit", replace(SMALL, segment_bytes=3000))
    log.start()
    for number in range(30):
        log.write("alert", {"reason": f"first {number}"}, number + 1)
    store = HistoryStore(tmp_path / "history.sqlite")
    assert importer(store, log).step() in (True, False)
    store.close()  # the console ends, in the midst of it
    for number in range(30):
        log.write("alert", {"reason": f"second {number}"}, number + 100)
    store = HistoryStore(tmp_path / "history.sqlite")
    import_all(importer(store, log))
    import_all(importer(store, log))
    told = [row["text"] for row in rows(store, "SELECT text FROM notes WHERE kind = 'alert' ORDER BY id")]
    assert told == [f"first {n}" for n in range(30)] + [f"second {n}" for n in range(30)]
    store.close()
    log.close()


def test_a_record_that_comes_twice_is_imported_once(tmp_path: Path) -> None:
    """Its writer died before it answered: the relay gave it to the next one."""
    log = Log(tmp_path / "audit")
    log.start()
    for number in (1, 2, 2, 3, 1, 3):
        log.write("alert", {"reason": f"{number}"}, number)
    log.start()  # numbers count anew
    log.write("alert", {"reason": "again"}, 1)
    store = HistoryStore(tmp_path / "history.sqlite")
    import_all(importer(store, log))
    assert [r["text"] for r in rows(store, "SELECT text FROM notes WHERE kind = 'alert'")] == [
        "1",
        "2",
        "3",
        "again",
    ]
    store.close()
    log.close()


def test_a_log_that_begins_anew_is_a_log_of_its_own(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "history.sqlite")
    for _ in range(2):
        log = Log(tmp_path / "audit")
        log.start()
        log.write("alert", {"reason": "one"}, 1)
        import_all(importer(store, log))
        log.close()
        shutil.rmtree(tmp_path / "audit")
    assert rows(store, "SELECT count(DISTINCT log_id) AS n FROM logs")[0]["n"] == 2
    assert rows(store, "SELECT count(*) AS n FROM notes WHERE kind = 'alert'")[0]["n"] == 2
    store.close()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
FIELDS = """id digest examination patient chain motion request verdict layer fields reason p_values elements bundle
    token load element note mode operator decision grant minutes held why loads dose act done peer user local budget"""
RECORDS = """start load motion verdict hold operator release sent withdrawn refuse declined act emergency_begin
    emergency_end emergency_reason dose dose_report mode judge_ready called one_of_two alert host gantry"""
NAMES = st.sampled_from(FIELDS.split())
KINDS = st.sampled_from(RECORDS.split()) | st.text(max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(KINDS, st.dictionaries(NAMES, JUNK, max_size=8)), max_size=12), st.binary(max_size=40)
)
def test_any_record_is_taken_or_noted(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, dict]], raw: bytes
) -> None:
    """The log is signed; what stands in it was still said by anybody."""
    folder = tmp_path_factory.mktemp("log")
    log = Log(folder / "audit")
    log.writer.append(raw, log.now())
    for number, (kind, data) in enumerate(said):
        data = {"id": "L", "request": 1, "token": 2, "chain": [{}], **data} if number % 3 else data
        body = json.dumps({"kind": kind, "record": number, **data}, allow_nan=True).encode("utf-8", "replace")
        log.writer.append(body, log.now())
    log.writer.commit(log.now())
    store = HistoryStore(folder / "history.sqlite")
    one = importer(store, log)
    import_all(one)
    assert one.standing.trouble == ""
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM notes").fetchone()[0] >= 1
        assert db.execute("SELECT seq FROM logs").fetchone()[0] >= len(said)
    store.close()
    log.close()


def test_the_bounds_hold(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit")
    log.start()
    log.write("alert", {"reason": "x" * 100_000, "more": "y" * 100_000}, 1)
    store = HistoryStore(tmp_path / "history.sqlite")
    import_all(importer(store, log))
    row = rows(store, "SELECT text, data FROM notes WHERE kind = 'alert'")[0]
    assert len(row["text"]) <= 2 * HISTORY_BOUNDS.text_chars
    assert len(row["data"]) <= HISTORY_BOUNDS.note_chars + 100
    store.close()
    log.close()


ODD = (
    5,
    True,
    "x\0\ud7ff",
    [1, [2]],
    {"a": {"b": []}},
    None,
    2**80,
    -1,
    1e308,
    ["KVP", 3, None],
    [{"element": []}],
)


@pytest.mark.parametrize("kind", [*RECORDS.split(), "", "x"])
def test_a_record_with_one_odd_part_is_taken_or_noted(tmp_path: Path, kind: str) -> None:
    """Every kind of record, every part of it, everything JSON can hold; what comes after it is taken as ever."""
    log = Log(tmp_path / "audit")
    whole = {
        "id": "L",
        "request": 1,
        "token": 3,
        "grant": 1,
        "chain": [{"command": {"parameters": {"KVP": 1.0}}}],
    }
    number = 0
    for part in FIELDS.split():
        for odd in ODD:
            for name in ("load", kind):
                number += 1
                log.write(name, {**whole, "verdict": "ALERT", part: odd}, number, commit=False)
    log.write("load", {"id": "last", "chain": [{"command": {}}]}, number + 1)
    store = HistoryStore(tmp_path / "history.sqlite")
    one = importer(store, log)
    import_all(one)
    assert one.standing.trouble == ""
    assert rows(store, "SELECT count(*) AS n FROM judged WHERE load = 'last'")[0]["n"] == 1
    store.close()
    log.close()

"""The writer process: acknowledged records survive SIGKILL, SIGSTOP holds nobody up, trouble is answered."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from _audit import KEY
from scanward.audit import Kind, Moment, read, verify, witnessed
from scanward.audit.client import (
    Answer,
    Checkpointed,
    DiskFull,
    Durable,
    Failed,
    Gone,
    Recovered,
    State,
    WitnessTrouble,
    WriterClient,
)
from scanward.audit.messages import Parser, Say, encode
from scanward.audit.process import read_clocks, serve
from scanward.errors import DecodeError
from scanward.keys import write_pair

PATIENCE_S = 60.0  # against hanging, not a measurement


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_pair(tmp_path / "audit", KEY)[0]


@pytest.fixture
def clients(tmp_path: Path, key: Path) -> Iterator[Callable[..., WriterClient]]:
    made: list[WriterClient] = []

    def make(**options: object) -> WriterClient:
        made.append(WriterClient(tmp_path / "log", key, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for client in made:
        if client.process.poll() is None:
            client.process.send_signal(signal.SIGCONT)
        if client.fileno() >= 0:
            client.close(5)


def until(client: WriterClient, done: Callable[[list[Answer]], bool]) -> list[Answer]:
    """Collect answers until ``done`` says so."""
    answers: list[Answer] = []
    deadline = time.monotonic() + PATIENCE_S
    while not done(answers):
        assert time.monotonic() < deadline, answers[-5:]
        ready = select.select([client], [client] if client.wants_write else [], [], 1.0)
        if ready[1]:
            client.flush()
        answers += client.received()
        assert done(answers) or not any(isinstance(a, Gone) for a in answers), answers[-5:]
    return answers


def of(kind: type, answers: list[Answer]) -> list[Answer]:
    return [a for a in answers if isinstance(a, kind)]


def test_records_are_answered_and_the_log_verifies(
    tmp_path: Path, clients: Callable[..., WriterClient]
) -> None:
    witness = tmp_path / "witness.txt"
    client = clients(witness=witness)
    for token in range(1, 301):
        assert client.send(token, b'{"kind":"test","n":%d}' % token, token % 7 == 0)
    answers = until(client, lambda a: len(of(Durable, a)) == 300)
    assert isinstance(answers[0], Recovered)
    assert (answers[0].last_seq, answers[0].broken) == (0, "")
    assert of(State, answers) == [State(False, "", 4 << 20)]
    client.checkpoint()
    until(client, lambda a: bool(of(Checkpointed, a)))
    last = client.close()
    assert of(Gone, last) == [Gone(())]
    assert client.process.returncode == 0
    report = verify(tmp_path / "log", [KEY.verify_key], witnessed(witness))
    assert report.ok, report.findings
    assert report.witnessed == report.last_seq - 1
    found = {r.seq: r for r in read(tmp_path / "log")}
    for answer in of(Durable, answers):
        assert isinstance(answer, Durable)
        assert found[answer.seq].payload == b'{"kind":"test","n":%d}' % answer.token
        assert found[answer.seq].reserved == (answer.token % 7 == 0)


def test_kill_at_random_moments_loses_no_acknowledged_record(
    tmp_path: Path, clients: Callable[..., WriterClient]
) -> None:
    chance = random.Random(7)
    acknowledged: dict[int, bytes] = {}
    token = 0
    last = 0
    for _ in range(30):
        client = clients(overrides={"segment_bytes": 20_000, "checkpoint_records": 5})
        answers = until(client, lambda a: bool(of(Recovered, a)))
        opened = answers[0]
        assert isinstance(opened, Recovered)
        assert opened.broken == ""
        assert opened.last_seq >= last
        told = {}
        kill_at = chance.random() * 0.04
        start = time.monotonic()
        while time.monotonic() - start < kill_at:
            token += 1
            told[token] = b"record %d " % token + b"." * chance.randrange(300)
            client.send(token, told[token])
            answers += client.received()
        client.process.kill()
        answers += client.close()
        for answer in of(Durable, answers):
            assert isinstance(answer, Durable)
            acknowledged[answer.seq] = told[answer.token]
            last = max(last, answer.seq)
    assert len(acknowledged) > 100
    report = verify(tmp_path / "log", [KEY.verify_key])
    assert report.ok, report.findings
    found = {r.seq: r.payload for r in read(tmp_path / "log")}
    assert {seq: found.get(seq) for seq in acknowledged} == acknowledged


def test_a_stopped_writer_blocks_nobody_and_stops_are_kept(clients: Callable[..., WriterClient]) -> None:
    client = clients()
    until(client, lambda a: bool(of(Recovered, a)))
    client.process.send_signal(signal.SIGSTOP)
    stop = b'{"kind":"stop","why":"' + b"x" * 250 + b'"}'
    loads = 0
    while client.send(1_000_000 + loads, b"load" * 100):
        loads += 1
        assert loads < 100_000
    for token in range(1, 10_001):
        assert client.send(token, stop, True), token
    assert client.received() == []
    assert client.dropped == 0
    assert not client.send(5_000_000, b"load" * 100)
    client.process.send_signal(signal.SIGCONT)
    answers = until(client, lambda a: len(of(Durable, a)) == 10_000 + loads)
    assert {a.token for a in of(Durable, answers)} >= set(range(1, 10_001))  # type: ignore[union-attr]


def test_what_was_dropped_is_recorded(tmp_path: Path, clients: Callable[..., WriterClient]) -> None:
    client = clients()
    until(client, lambda a: bool(of(Recovered, a)))
    client.process.send_signal(signal.SIGSTOP)
    token = 0
    while client.send(token := token + 1, b"x" * 100_000):
        assert token < 1000
    token += 1
    assert not client.send(token, b"x" * 100_000)
    client.process.send_signal(signal.SIGCONT)
    until(client, lambda a: len(of(Durable, a)) == token - 2)
    assert client.send(token + 1, b"again")
    client.close()
    noted = [r.payload for r in read(tmp_path / "log") if b"audit.overflow" in r.payload]
    assert noted == [b'{"kind": "audit.overflow", "dropped": 2}']


def test_too_large_a_record_is_refused_at_once(clients: Callable[..., WriterClient]) -> None:
    client = clients()
    assert not client.send(1, b"x" * ((256 << 10) + 1), True)
    assert client.dropped == 1


def test_asyncio_can_wait_for_answers(clients: Callable[..., WriterClient]) -> None:
    client = clients()

    async def run() -> list[Answer]:
        loop = asyncio.get_running_loop()
        answers: list[Answer] = []
        enough = asyncio.Event()

        def readable() -> None:
            answers.extend(client.received())
            if len(of(Durable, answers)) >= 50:
                enough.set()

        loop.add_reader(client.fileno(), readable)
        for token in range(1, 51):
            client.send(token, b"{}")
        await asyncio.wait_for(enough.wait(), PATIENCE_S)
        loop.remove_reader(client.fileno())
        return answers

    answers = asyncio.run(run())
    assert [a.token for a in of(Durable, answers)] == list(range(1, 51))  # type: ignore[union-attr]


def test_a_second_writer_is_refused_and_says_so(clients: Callable[..., WriterClient]) -> None:
    first = clients()
    until(first, lambda a: bool(of(Recovered, a)))
    second = clients()
    answers = until(second, lambda a: any(isinstance(x, Gone) for x in a))
    failed = of(Failed, answers)[0]
    assert isinstance(failed, Failed)
    assert "another writer has this log open" in failed.reason
    assert not second.send(1, b"x")


def test_a_missing_key_is_answered(tmp_path: Path) -> None:
    client = WriterClient(tmp_path / "log", tmp_path / "nothing.key")
    client.send(7, b"early")
    answers = until(client, lambda a: any(isinstance(x, Gone) for x in a))
    assert any("nothing.key" in a.reason for a in answers if isinstance(a, Failed))
    assert of(Gone, answers) == [Gone((7,))]
    client.close()
    assert client.process.returncode == 1


def test_a_broken_log_is_reported_at_the_start(tmp_path: Path, clients: Callable[..., WriterClient]) -> None:
    client = clients()
    for token in range(1, 4):
        client.send(token, b"victim %d" % token)
        until(client, lambda a: bool(of(Durable, a)))
    client.close()
    path = tmp_path / "log" / "00000001.audit"
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"victim 2")] ^= 1
    path.write_bytes(raw)
    again = clients()
    answers = until(again, lambda a: bool(of(Recovered, a)))
    assert isinstance(answers[0], Recovered)
    assert "damaged, and was durable before" in answers[0].broken


def test_a_witness_that_is_gone_is_told_and_stops_nothing(
    tmp_path: Path, clients: Callable[..., WriterClient]
) -> None:
    client = clients(witness=tmp_path / "nowhere" / "witness.txt")
    client.send(1, b"x")
    client.checkpoint()
    answers = until(client, lambda a: bool(of(WitnessTrouble, a)) and bool(of(Durable, a)))
    trouble = of(WitnessTrouble, answers)[0]
    assert isinstance(trouble, WitnessTrouble)
    assert "keeps nothing" in trouble.reason
    (tmp_path / "nowhere").mkdir()
    until(client, lambda a: WitnessTrouble("") in a)
    client.close()
    assert verify(tmp_path / "log", [KEY.verify_key], witnessed(tmp_path / "nowhere" / "witness.txt")).ok


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a small file system that root can mount")
def test_a_really_full_disk_takes_stops_and_no_loads(tmp_path: Path, key: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("not allowed to mount a small file system")
    try:
        client = WriterClient(place / "log", key, overrides={"reserve_bytes": 200_000})
        token = 0
        answers: list[Answer] = []
        while not of(DiskFull, answers):
            token += 1
            client.send(token, b"load" + b"x" * 20_000)
            wanted = token
            answers += until(
                client,
                lambda a, w=wanted: any(getattr(x, "token", 0) == w for x in a),  # type: ignore[misc]
            )
            assert token < 100
        assert any(isinstance(a, State) and a.full and a.reserve_left > 0 for a in answers)
        assert os.statvfs(place).f_bavail * os.statvfs(place).f_frsize < 30_000
        for number in range(20):
            client.send(10_000 + number, b"stop %d" % number, True)
        stops = until(client, lambda a: len(of(Durable, a)) == 20)
        client.close()
        assert verify(place / "log", [KEY.verify_key]).ok
        seqs = {a.seq for a in of(Durable, stops)}  # type: ignore[union-attr]
        assert {r.payload[:4] for r in read(place / "log") if r.seq in seqs} == {b"stop"}
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_stopping_the_guard_by_signal_does_not_stop_the_writer(
    tmp_path: Path, clients: Callable[..., WriterClient]
) -> None:
    client = clients()
    until(client, lambda a: bool(of(Recovered, a)))
    client.process.send_signal(signal.SIGTERM)
    client.process.send_signal(signal.SIGINT)
    client.send(1, b"last words")
    until(client, lambda a: bool(of(Durable, a)))
    client.close()
    assert client.process.returncode == 0
    kinds = [r.kind for r in read(tmp_path / "log")]
    assert kinds[-1] is Kind.CHECKPOINT


def test_the_writer_ends_when_nobody_is_left(tmp_path: Path, key: Path) -> None:
    client = WriterClient(tmp_path / "log", key)
    client.send(1, b"x")
    client._socket.close()  # as when the relay is killed
    assert client.process.wait(PATIENCE_S) in (0, 1)


def test_what_was_handed_over_before_the_relay_died_is_kept(tmp_path: Path, key: Path) -> None:
    """The relay dies while one record is being written and the next lies in the socket: a stop, perhaps."""
    ours, theirs = socket.socketpair()
    settings = {"folder": str(tmp_path / "log"), "key": str(key), "witness": ""}
    ours.sendall(encode(Say.SETTINGS, 0, json.dumps(settings).encode()))
    handed = 0

    def clocks() -> Moment:
        nonlocal handed
        ready = select.select([ours], [], [], 0)[0] if ours.fileno() >= 0 else []
        if handed == 0 and ready:  # it is open
            ours.sendall(encode(Say.APPEND, 1, b"one"))
            handed = 1
        elif handed == 1 and not select.select([theirs], [], [], 0)[0]:  # taken, not answered yet
            ours.sendall(encode(Say.APPEND_RESERVED, 2, b"a stop"))
            ours.close()
            handed = 2
        return read_clocks()

    with theirs:
        assert serve(theirs, clocks) == 0
    assert handed == 2
    assert [r.payload for r in read(tmp_path / "log") if r.kind is Kind.RECORD] == [b"one", b"a stop"]


def test_neither_process_nor_client_loads_numpy() -> None:
    code = (
        "import sys, scanward.audit.process, scanward.audit.client\n"
        "sys.exit(bool({'numpy', 'pydicom', 'click', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_messages_are_cut_anywhere_and_strangers_refused() -> None:
    stream = encode(Say.APPEND, 1, b"one") + encode(Say.APPEND_RESERVED, 2**63, b"") + encode(Say.CHECKPOINT)
    parser = Parser(10)
    got = [m for at in range(len(stream)) for m in parser.feed(stream[at : at + 1])]
    assert [(m.kind, m.token, m.body) for m in got] == [
        (Say.APPEND, 1, b"one"),
        (Say.APPEND_RESERVED, 2**63, b""),
        (Say.CHECKPOINT, 0, b""),
    ]
    with pytest.raises(DecodeError):
        list(Parser(10).feed(encode(Say.APPEND, 1, b"x" * 11)))
    with pytest.raises(DecodeError):
        list(Parser(10).feed(b"\0\0\0\0\x63" + bytes(8)))

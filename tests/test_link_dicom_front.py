"""The front: whole, bounded PDUs or nothing, whatever the bytes and however they are cut."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.config import DICOM_BOUNDS
from scanward.errors import DecodeError
from scanward.transport.dicom_front import ABORT, Ended, Front, PduReader

SMALL = replace(DICOM_BOUNDS, pdu_bytes=64, association_pdu_bytes=128, unanswered_bytes=200)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def fragment(body: bytes, control: int) -> bytes:
    return struct.pack(">LBB", len(body) + 2, 1, control) + body


def command(field: int, has_data: bool) -> bytes:
    """A command set with Command Field and Command Data Set Type."""
    value = 0x0001 if has_data else 0x0101
    return struct.pack("<HHLHHHLH", 0, 0x100, 2, field, 0, 0x800, 2, value)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` in pieces of these sizes, the rest at the end."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


honest = st.one_of(
    st.binary(max_size=40).map(lambda body: pdu(1, body)),
    st.just(pdu(5, bytes(4))),
    st.binary(max_size=40).map(lambda body: pdu(4, fragment(body, 0))),
)


@given(st.lists(honest, max_size=3), st.lists(st.integers(0, 30), max_size=20))
def test_pdus_come_out_whole_however_they_are_cut(pdus: list[bytes], sizes: list[int]) -> None:
    reader = PduReader(SMALL)
    found = [each for piece in cut(b"".join(pdus), sizes) for each in reader.feed(piece)]
    assert found == pdus
    assert not reader.partial


@given(st.binary(max_size=400), st.lists(st.integers(0, 30), max_size=20))
def test_any_bytes_give_pdus_or_our_error_and_never_more_than_was_fed(data: bytes, sizes: list[int]) -> None:
    reader, out = PduReader(SMALL), b""
    with suppress(DecodeError):  # any other error fails the test
        for piece in cut(data, sizes):
            out += b"".join(reader.feed(piece))
    assert data.startswith(out)


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (struct.pack(">BxL", 0, 4), "type 0x00"),
        (struct.pack(">BxL", 8, 4), "type 0x08"),
        (struct.pack(">BxL", 1, 129), "claims 129"),
        (struct.pack(">BxL", 4, 65), "claims 65"),
        (struct.pack(">BxL", 5, 5), "claims 5"),
        (struct.pack(">BxL", 4, 0xFFFFFFFF), "claims 4294967295"),
    ],
)
def test_a_header_is_refused_before_its_body_is_kept(header: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        list(PduReader(SMALL).feed(header))


def test_what_may_go_unanswered_is_bounded_and_an_answer_frees_it() -> None:
    reader = PduReader(SMALL)
    one = pdu(4, fragment(b"x" * 40, 0))
    for _ in range(200 // len(one)):
        list(reader.feed(one))
    with pytest.raises(DecodeError, match="unanswered"):
        list(reader.feed(one))
    reader = PduReader(SMALL)
    for _ in range(20):
        list(reader.feed(one))
        reader.answered(1)


@pytest.mark.parametrize(
    ("field", "has_data", "messages"), [(0x30, False, 1), (0x01, True, 0), (0x0FFF, False, 0)]
)
def test_messages_are_counted(field: int, has_data: bool, messages: int) -> None:
    """C-ECHO is a message by itself, C-STORE with its data set, C-CANCEL waits for no answer."""
    reader = PduReader()
    list(reader.feed(pdu(4, fragment(command(field, has_data), 3))))
    assert reader.messages == messages
    list(reader.feed(pdu(4, fragment(b"", 2))))
    assert reader.messages == messages + 1


def test_a_second_request_before_the_answer_is_refused() -> None:
    reader = PduReader(window=1)
    echo = pdu(4, fragment(command(0x30, False), 3))
    list(reader.feed(echo))
    reader.answered(1)
    list(reader.feed(echo))
    with pytest.raises(DecodeError, match="before the answer"):
        list(reader.feed(echo))
    responses = PduReader()  # where answers come this way there are many
    assert len(list(responses.feed(echo * 10))) == 10


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0\1\1", struct.pack(">LBB", 1 << 30, 1, 0), struct.pack(">LBB", 0, 1, 0)]
)
def test_fragments_must_fill_their_pdu(body: bytes) -> None:
    reader = PduReader()
    if not body:
        assert list(reader.feed(pdu(4, body))) == [pdu(4, body)]
        return
    with pytest.raises(DecodeError, match="fragments"):
        list(reader.feed(pdu(4, body)))


# --- with sockets


class Ends:
    """A front between a peer's socket and a library's."""

    def __init__(self, **changes: float) -> None:
        short = {"pdu_seconds": 0.4, "idle_seconds": 0.8, "send_seconds": 0.4, "negotiation_seconds": 0.8}
        self.peer, outer = socket.socketpair()
        self.ended: list[Ended] = []
        self.front = Front(
            outer,
            "peer",
            bounds=replace(DICOM_BOUNDS, **{**short, **changes}),  # type: ignore[arg-type]
            ended=lambda front: self.ended.append(front.reason),
        )
        self.peer.settimeout(10)
        self.front.inner.settimeout(10)
        self.front.start()

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        self.front.inner.close()
        self.front.join(10)
        assert self.front.finished.is_set()


ASSOCIATE = pdu(1, b"x" * 100)


def test_bytes_pass_both_ways_and_halves_do_not() -> None:
    with Ends(pdu_seconds=5.0) as ends:
        ends.peer.sendall(ASSOCIATE + pdu(5, bytes(4))[:7])
        assert ends.front.inner.recv(1000) == ASSOCIATE
        ends.front.inner.setblocking(False)
        time.sleep(0.2)
        with pytest.raises(BlockingIOError):
            ends.front.inner.recv(1)
        ends.front.inner.settimeout(10)
        ends.front.inner.sendall(pdu(2, b"yes"))
        assert ends.peer.recv(1000) == pdu(2, b"yes")
        ends.peer.close()
        assert ends.front.finished.wait(10)
    assert ends.ended == [Ended.PEER]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", Ended.IDLE),
        (ASSOCIATE[:50], Ended.SLOW),
        (b"\x42abcdefg", Ended.MALFORMED),
        (struct.pack(">BxL", 1, 1 << 31), Ended.TOO_LARGE),
    ],
)
def test_what_breaks_a_bound_is_answered_with_an_abort(sent: bytes, reason: Ended) -> None:
    with Ends() as ends:
        ends.peer.sendall(sent)
        assert ends.peer.recv(100) == ABORT
        assert ends.peer.recv(100) == b""
    assert ends.ended == [reason]


def test_silence_while_we_work_is_no_reason_and_afterwards_the_clock_begins_anew() -> None:
    with Ends(idle_seconds=0.6) as ends:
        ends.peer.sendall(ASSOCIATE)
        ends.front.inner.recv(1000)
        with ends.front.working():
            time.sleep(1.2)
            assert not ends.front.gone.is_set()
        time.sleep(0.3)
        assert not ends.front.gone.is_set()
        assert ends.peer.recv(100) == ABORT
    assert ends.ended == [Ended.IDLE]


def test_a_peer_that_takes_nothing_is_let_go() -> None:
    with Ends() as ends:
        stop = threading.Event()

        def write() -> None:
            try:
                while not stop.is_set():
                    ends.front.inner.sendall(pdu(4, fragment(b"y" * 60000, 0)))
            except OSError:
                return

        writer = threading.Thread(target=write)
        writer.start()
        assert ends.front.finished.wait(20)
        stop.set()
        writer.join(10)
    assert ends.ended == [Ended.SLOW]


def test_it_is_known_at_once_that_the_peer_is_gone() -> None:
    with Ends() as ends:
        ends.peer.sendall(ASSOCIATE)
        ends.front.inner.recv(1000)
        with ends.front.working():
            ends.peer.close()
            assert ends.front.gone.wait(10)


def test_a_peer_that_never_ends_is_ended() -> None:
    with Ends(association_seconds=0.5, idle_seconds=10.0) as ends:
        until = time.monotonic() + 10
        while not ends.front.finished.is_set() and time.monotonic() < until:
            try:
                ends.peer.sendall(pdu(5, bytes(4)))
                ends.front.inner.recv(1000)
            except OSError:
                break
            time.sleep(0.05)
        ends.front.finished.wait(10)
    assert ends.ended == [Ended.TOO_LONG]

"""SDO transfers against the canopen library as the other end, and against an end that does everything wrong."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.codecs.canopen_sdo import Abort, Download, Transfer, Upload, abort_code, crc16
from scanward.codecs.canopen_sdo_client import Outcome, SdoClient
from scanward.codecs.canopen_sdo_server import SdoServer
from scanward.codecs.canopen_sdo_watch import SdoWatch, Seen
from scanward.config import CAN_BOUNDS

canopen = pytest.importorskip("canopen", reason="the extra 'can' is not installed")

TEXT = (0x2040, 1)  # any length
WORD = (0x2012, 1)
VALUES = [
    b"\x01",
    b"ab",
    b"abc",
    b"abcd",
    b"abcde",
    b"seven b",
    b"eight by",
    b"x" * 14,
    b"y" * 889,
    b"z" * 890,
]


def dictionary() -> Any:
    od = canopen.ObjectDictionary()
    text = canopen.objectdictionary.ODVariable("text", *TEXT)
    text.data_type, text.access_type = canopen.objectdictionary.DOMAIN, "rw"
    record = canopen.objectdictionary.ODRecord("texts", TEXT[0])
    record.add_member(text)
    od.add_object(record)
    return od


class Memory:
    """A server of ours with a memory behind it, at the other end of canopen's client."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], bytes] = {}
        self.requests: list[Any] = []
        self.faults: list[str] = []
        self.watch = SdoWatch()
        self.seen: list[Seen] = []
        self.server = SdoServer(lambda address, write, size: 0)
        network = canopen.Network()
        network.send_message = self.send
        self.client = canopen.sdo.SdoClient(0x601, 0x581, dictionary())
        self.client.network = network
        self.client.RESPONSE_TIMEOUT = 0.02

    def send(self, can_id: int, data: bytes, remote: bool = False) -> None:
        self.take(self.watch.request(bytes(data)))
        step = self.server.frame(bytes(data), 0.0)
        if step.fault:
            self.faults.append(step.fault)
        replies = list(step.replies)
        match step.request:
            case Download() as request:
                self.requests.append(request)
                self.held[request.address] = request.data
                replies += self.server.complete_download()
            case Upload() as request:
                self.requests.append(request)
                replies += self.server.complete_upload(self.held.get(request.address, b""))
        for reply in replies:
            self.take(self.watch.answer(reply))
            self.client.on_response(0x581, reply, 0.0)

    def take(self, seen: Seen | None) -> None:
        if seen is not None:
            self.seen.append(seen)


@contextlib.contextmanager
def opened(client: Any, mode: str, size: int | None = None, crc: bool = True) -> Iterator[Any]:
    file = client.open(*TEXT, mode, size=size, block_transfer=True, buffering=7, request_crc_support=crc)
    with file:
        yield file


class TestServerAgainstCanopen:
    @pytest.mark.parametrize("value", VALUES, ids=len)
    @pytest.mark.parametrize("segmented", [False, True])
    def test_download(self, value: bytes, segmented: bool) -> None:
        memory = Memory()
        memory.client.download(*TEXT, value, force_segment=segmented)
        assert memory.held[TEXT] == value
        assert memory.seen == [Seen(TEXT, value, True)]
        small = len(value) <= 4 and not segmented
        assert memory.requests[0].transfer is (Transfer.EXPEDITED if small else Transfer.SEGMENTED)
        assert memory.faults == []

    @pytest.mark.parametrize("value", VALUES, ids=len)
    @pytest.mark.parametrize("crc", [True, False])
    def test_block_download(self, value: bytes, crc: bool) -> None:
        memory = Memory()
        with opened(memory.client, "wb", len(value), crc) as file:
            file.write(value)
        assert memory.held[TEXT] == value
        assert memory.requests[0].transfer is Transfer.BLOCK
        assert memory.seen == [Seen(TEXT, value, True)]
        assert memory.faults == []

    @pytest.mark.parametrize("value", VALUES, ids=len)
    def test_upload(self, value: bytes) -> None:
        memory = Memory()
        memory.held[TEXT] = value
        assert memory.client.upload(*TEXT) == value
        assert memory.seen == [Seen(TEXT, value, False)]
        assert memory.faults == []

    @pytest.mark.parametrize("value", VALUES, ids=len)
    @pytest.mark.parametrize("crc", [True, False])
    def test_block_upload(self, value: bytes, crc: bool) -> None:
        memory = Memory()
        memory.held[TEXT] = value
        with opened(memory.client, "rb", crc=crc) as file:
            assert file.read() == value
        assert memory.faults == []
        assert memory.seen == [Seen(TEXT, value, False)]

    def test_a_refusal_is_understood(self) -> None:
        memory = Memory()
        memory.server = SdoServer(lambda address, write, size: Abort.DEVICE_STATE if write else 0)
        with pytest.raises(canopen.SdoAbortedError) as raised:
            memory.client.download(*TEXT, b"ab")
        assert raised.value.code == 0x08000022
        with pytest.raises(canopen.SdoAbortedError) as raised:
            memory.client.upload(*TEXT)  # nothing is held
        assert raised.value.code == Abort.NO_DATA


class Node:
    """canopen's server, at the other end of our client."""

    def __init__(self) -> None:
        self.node = canopen.LocalNode(1, dictionary())
        network = canopen.Network()
        self.answers: list[bytes] = []
        network.send_message = lambda can_id, data, remote=False: self.answers.append(bytes(data))
        self.node.sdo.network = network
        self.client = SdoClient()

    def run(self, frames: list[bytes]) -> Outcome:
        queue = list(frames)
        while True:
            for frame in queue:
                self.node.sdo.on_request(0x601, bytearray(frame), 0.0)
            queue = []
            answers, self.answers = self.answers, []
            assert answers, "nobody says anything any more"
            for answer in answers:
                sent = self.client.frame(answer, 0.0)
                queue += sent.frames
                if sent.outcome is not None:
                    return sent.outcome


class TestClientAgainstCanopen:
    @pytest.mark.parametrize("value", VALUES, ids=len)
    @pytest.mark.parametrize("transfer", [Transfer.EXPEDITED, Transfer.SEGMENTED])
    def test_download(self, value: bytes, transfer: Transfer) -> None:
        node = Node()
        outcome = node.run(node.client.download(TEXT, value, transfer, 0.0))
        assert outcome == Outcome(TEXT)
        assert node.node.data_store[TEXT[0]][TEXT[1]] == value

    @pytest.mark.parametrize("value", VALUES, ids=len)
    @pytest.mark.parametrize("transfer", [Transfer.SEGMENTED, Transfer.BLOCK])
    def test_upload(self, value: bytes, transfer: Transfer) -> None:
        """canopen's server answers a block upload with a segmented one, as a server may."""
        node = Node()
        node.node.data_store[TEXT[0]] = {TEXT[1]: value}
        assert node.run(node.client.upload(TEXT, transfer, 0.0)) == Outcome(TEXT, value)

    def test_its_refusals_are_told(self) -> None:
        node = Node()
        outcome = node.run(node.client.download((0x3000, 0), b"a", Transfer.EXPEDITED, 0.0))
        assert outcome == Outcome((0x3000, 0), None, Abort.NO_OBJECT, True)
        outcome = node.run(node.client.download(TEXT, b"a" * 30, Transfer.BLOCK, 0.0))
        assert outcome.by_gantry
        assert outcome.code == Abort.COMMAND


def exchange(
    client: SdoClient, frames: list[bytes], held: bytes = b"", lose: int = -1
) -> tuple[Outcome, Any]:
    """Our client with our server; frame number ``lose`` of a block towards the server is lost once.

    A listener that hears what the server hears sees the same value.
    """
    watch = SdoWatch()
    seen: list[Seen | None] = []
    server = SdoServer(lambda address, write, size: 0)
    request = None
    queue = list(frames)
    count = 0
    for _ in range(10_000):
        if not queue:
            break
        frame = queue.pop(0)
        count += 1
        if count == lose:
            continue
        seen.append(watch.request(frame))
        step = server.frame(frame, 0.0)
        assert not step.fault, step.fault
        replies = list(step.replies)
        if step.request is not None:
            request = step.request
            done = isinstance(request, Download)
            replies += server.complete_download() if done else server.complete_upload(held)
        for reply in replies:
            seen.append(watch.answer(reply))
            sent = client.frame(reply, 0.0)
            queue += sent.frames
            if sent.outcome is not None:
                seen += [watch.request(last) for last in sent.frames]
                whole = [s for s in seen if s is not None]
                assert [s.data for s in whole] == [getattr(request, "data", held)]
                return sent.outcome, request
    raise AssertionError("no outcome")


class TestBlocksBetweenOurOwnEnds:
    @given(st.binary(min_size=1, max_size=2000))
    def test_both_ways(self, value: bytes) -> None:
        client = SdoClient()
        outcome, request = exchange(client, client.download(TEXT, value, Transfer.BLOCK, 0.0))
        assert outcome == Outcome(TEXT)
        assert request == Download(TEXT, value, Transfer.BLOCK)
        outcome, _ = exchange(client, client.upload(TEXT, Transfer.BLOCK, 0.0), value)
        assert outcome == Outcome(TEXT, value)

    @pytest.mark.parametrize("lost", [2, 3, 30, 64])
    def test_a_lost_segment_is_sent_again(self, lost: int) -> None:
        value = bytes(range(256)) * 3
        client = SdoClient()
        outcome, request = exchange(client, client.download(TEXT, value, Transfer.BLOCK, 0.0), lose=lost)
        assert outcome.code == 0
        assert request.data == value

    def test_the_check_value_of_the_crc(self) -> None:
        """CRC-16/XMODEM, the one of CiA 301, has the published check value 31C3h."""
        assert crc16(b"123456789") == 0x31C3


# --- a client that does everything wrong


def start(size: int | None, block: bool = False) -> bytes:
    command = (0xC4 if block else 0x20) | ((0x02 if block else 0x01) if size is not None else 0)
    return struct.pack("<BHBL", command, *TEXT, size or 0)


def segment(data: bytes, toggle: int, last: bool) -> bytes:
    return bytes((toggle << 4 | (7 - len(data)) << 1 | last,)) + data.ljust(7, b"\0")


def said(frames: list[bytes]) -> tuple[int, list[Any], list[str]]:
    """The last abort code, the requests and the faults that these frames lead to."""
    server = SdoServer(lambda address, write, size: 0)
    code, requests, faults = 0, [], []
    for frame in frames:
        step = server.frame(frame, 0.0)
        for reply in step.replies:
            code = abort_code(reply) if reply[0] == 0x80 else code
        if step.request is not None:
            requests.append(step.request)
        if step.fault:
            faults.append(step.fault)
    return code, requests, faults


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([start(10), segment(b"1234567", 1, False)], Abort.TOGGLE),
        ([start(10), segment(b"1234567", 0, False), segment(b"890", 0, True)], Abort.TOGGLE),
        ([start(9), segment(b"1234567", 0, False), segment(b"890", 1, True)], Abort.TOO_LONG),
        ([start(12), segment(b"1234567", 0, False), segment(b"890", 1, True)], Abort.LENGTH),
        ([start(CAN_BOUNDS.sdo_bytes + 1)], Abort.TOO_LONG),
        ([start(None), *[segment(b"1234567", n % 2, False) for n in range(1000)]], Abort.COMMAND),
        ([segment(b"1234567", 0, True)], Abort.COMMAND),
        ([start(8, block=True), b"\x01" + b"1234567", b"\x82" + b"8901234"], 0),
        ([start(8, True), b"\x01" + b"1234567", b"\x82" + b"8" * 7, b"\xd9\0\0" + bytes(5)], Abort.CRC),
        ([start(8, True), b"\x01" + b"1234567", b"\x82" + b"8" * 7, b"\xc1\0\0" + bytes(5)], Abort.CRC),
        ([start(3, True), b"\x01" + b"1234567", b"\x02" + b"1234567"], Abort.TOO_LONG),
        ([start(8, True), b"\x01" + b"1234567", b"\x00" + bytes(7)], 0),
        ([start(8, True), b"\x05" + b"1234567", b"\x81" + b"1234567", start(8, True)], 0),
        ([b"\x60" + bytes(7)], Abort.COMMAND),
        ([b"\xa1" + bytes(7)], Abort.COMMAND),
        ([b"\xa4" + struct.pack("<HBBB", *TEXT, 0, 0) + bytes(2)], Abort.BLOCK_SIZE),
        ([b"\xa4" + struct.pack("<HBBB", *TEXT, 128, 0) + bytes(2)], Abort.BLOCK_SIZE),
        ([b"\x22\x40"], Abort.COMMAND),
        ([start(10), b"\x00" * 9], Abort.COMMAND),
        ([b"\xe0" + bytes(7)], Abort.COMMAND),
    ],
)
def test_a_broken_transfer_hands_nothing_out(frames: list[bytes], code: int) -> None:
    found, requests, _ = said(frames)
    assert requests == []
    assert found == code


def test_a_second_transfer_in_the_middle_mixes_nothing() -> None:
    first = [start(10), segment(b"1234567", 0, False)]
    second = [struct.pack("<BHBL", 0x21, *WORD, 3), segment(b"abc", 0, True)]
    _, requests, faults = said([*first, *second])
    assert requests == [Download(WORD, b"abc", Transfer.SEGMENTED)]
    assert faults == ["an SDO transfer began in the middle of another"]
    _, requests, _ = said([*first, *second[:1], segment(b"890", 1, True)])
    assert requests == []


def test_what_was_handed_out_is_answered_once_and_not_after_the_client_gave_up() -> None:
    server = SdoServer(lambda address, write, size: 0)
    frame = struct.pack("<BHB", 0x2B, *WORD) + b"ab\0\0"
    assert server.frame(frame, 0.0).request == Download(WORD, b"ab", Transfer.EXPEDITED)
    assert len(server.complete_download()) == 1
    assert server.complete_download() == []
    server.frame(frame, 0.0)
    assert server.frame(struct.pack("<BHBL", 0x80, *WORD, 0), 0.0).gave_up
    assert server.complete_download() == []
    assert server.fail(Abort.GENERAL) == []


def test_a_silent_transfer_ends() -> None:
    server = SdoServer(lambda address, write, size: 0)
    server.frame(start(10), 0.0)
    assert server.tick(0.5).replies == []
    step = server.tick(2.0)
    assert abort_code(step.replies[0]) == Abort.TIMED_OUT
    client = SdoClient()
    client.download(WORD, b"ab", Transfer.EXPEDITED, 0.0)
    assert client.tick(0.1).outcome is None
    assert client.tick(2.0).outcome == Outcome(WORD, None, Abort.TIMED_OUT)


# --- a gantry that answers anything


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([struct.pack("<BHBL", 0x41, *TEXT, 10), b"\x10" + b"1234567"], Abort.TOGGLE),
        ([struct.pack("<BHBL", 0x41, *TEXT, 10), b"\x01" + b"1234567"], Abort.LENGTH),
        ([struct.pack("<BHBL", 0x41, *TEXT, 1 << 20)], Abort.TOO_LONG),
        ([struct.pack("<BHBL", 0x43, *WORD, 10)], Abort.COMMAND),  # of another entry
        ([struct.pack("<BHBL", 0x60, *TEXT, 0)], Abort.COMMAND),
        ([struct.pack("<BHBL", 0xC6, *TEXT, 5), b"\x81" + b"1234567", b"\xc9\0\0" + bytes(5)], Abort.CRC),
        ([struct.pack("<BHBL", 0xC6, *TEXT, 1 << 20)], Abort.TOO_LONG),
    ],
)
def test_a_lying_answer_ends_the_transfer(answers: list[bytes], code: int) -> None:
    client = SdoClient()
    client.upload(TEXT, Transfer.BLOCK, 0.0)
    outcome = None
    for answer in answers:
        outcome = client.frame(answer, 0.0).outcome or outcome
    assert outcome == Outcome(TEXT, None, code)
    assert not client.busy


def test_an_answer_that_belongs_to_nothing_changes_nothing() -> None:
    client = SdoClient()
    assert client.frame(struct.pack("<BHBL", 0x60, *WORD, 0), 0.0).outcome is None
    client.upload(WORD, Transfer.EXPEDITED, 0.0)
    assert client.frame(struct.pack("<BHBL", 0x80, *TEXT, 1), 0.0).outcome is None  # abort of another entry
    assert client.busy


@given(st.lists(st.binary(max_size=9), max_size=60))
def test_no_frames_whatever_break_either_end(frames: list[bytes]) -> None:
    server = SdoServer(lambda address, write, size: 0)
    client = SdoClient()
    client.upload(TEXT, Transfer.BLOCK, 0.0)
    for number, frame in enumerate(frames):
        step = server.frame(frame, number)
        assert all(len(reply) == 8 for reply in step.replies)
        assert isinstance(step.request, Download | Upload | None)
        if step.request is not None and number % 3:
            server.complete_upload(frame) if isinstance(step.request, Upload) else server.complete_download()
        sent = client.frame(frame, number)
        assert all(len(reply) == 8 for reply in sent.frames)
        if not client.busy:
            client.download(TEXT, frame or b"x", Transfer.BLOCK if number % 2 else Transfer.SEGMENTED, number)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=9)), max_size=60))
def test_no_frames_whatever_break_a_listener(frames: list[tuple[bool, bytes]]) -> None:
    watch = SdoWatch()
    for asks, frame in frames:
        seen = watch.request(frame) if asks else watch.answer(frame)
        assert seen is None or len(seen.data) <= CAN_BOUNDS.sdo_bytes


def test_a_listener_checks_the_crc_that_both_ends_agreed_on() -> None:
    value = b"1234567890"
    for crc, expected in ((crc16(value), [Seen(TEXT, value, True)]), (crc16(value) ^ 1, [])):
        watch = SdoWatch()
        frames = [
            (True, start(10, True)),
            (False, struct.pack("<BHBL", 0xA4, *TEXT, 64)),
            (True, b"\x01" + value[:7]),
            (True, b"\x82" + value[7:].ljust(7, b"\0")),
            (False, b"\xa2\x02\x40" + bytes(5)),
            (True, struct.pack("<BH", 0xC1 | 4 << 2, crc) + bytes(5)),
            (False, b"\xa1" + bytes(7)),
        ]
        assert [s for asks, f in frames if (s := watch.request(f) if asks else watch.answer(f))] == expected


@pytest.mark.parametrize("broken", ["abort", "toggle", "other", "size", "unanswered"])
def test_a_listener_believes_only_what_was_acknowledged(broken: str) -> None:
    size = 11 if broken == "size" else 10
    frames = [
        (True, start(size)),
        (False, struct.pack("<BHBL", 0x60, *(WORD if broken == "other" else TEXT), 0)),
        (True, segment(b"1234567", 0, False)),
        (False, b"\x30" + bytes(7) if broken == "toggle" else b"\x20" + bytes(7)),
        (True, segment(b"890", 1, True)),
        (False, struct.pack("<BHBL", 0x80, *TEXT, 1) if broken == "abort" else b"\x30" + bytes(7)),
    ]
    if broken == "unanswered":
        del frames[-1]
    watch = SdoWatch()
    assert [s for asks, f in frames if (s := watch.request(f) if asks else watch.answer(f))] == []

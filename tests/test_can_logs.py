"""Logs of CAN frames, one class for every format; python-can's own readers and writers are the oracle."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.codecs.can_logs import (
    ASC_END,
    Logged,
    asc_header,
    asc_line,
    candump_line,
    read_asc,
    read_candump,
)
from scanward.errors import DecodeError
from scanward.transport.can_frames import FD_LENGTHS, CanFrame, frame_of

can = pytest.importorskip("can", reason="the extra 'can' is not installed")
from can.io.asc import ASCReader, ASCWriter  # noqa: E402
from can.io.canutils import CanutilsLogReader, CanutilsLogWriter  # noqa: E402

from scanward.transport.can import frame_from  # noqa: E402


def frames(fd: bool = True) -> st.SearchStrategy[CanFrame]:
    identifiers = st.booleans().flatmap(
        lambda wide: st.tuples(st.just(wide), st.integers(0, 0x1FFFFFFF if wide else 0x7FF))
    )
    data = identifiers.flatmap(
        lambda i: st.binary(max_size=8).map(lambda d: CanFrame(i[1], d, extended=i[0]))
    )
    remote = st.builds(lambda i, dlc: CanFrame(i[1], b"", True, i[0], dlc), identifiers, st.integers(0, 8))
    wide = st.builds(
        lambda i, n: CanFrame(i[1], bytes(range(n)), extended=i[0], fd=True),
        identifiers,
        st.sampled_from(sorted(FD_LENGTHS - {0})),
    )
    return st.one_of(data, remote, wide) if fd else st.one_of(data, remote)


def logs(channels: list[str], fd: bool = True) -> st.SearchStrategy[list[Logged]]:
    one = st.tuples(st.integers(0, 10**6), st.sampled_from(channels), frames(fd), st.booleans())

    def timed(told: list[tuple[int, str, CanFrame, bool]]) -> list[Logged]:
        now, made = 0, []
        for step, channel, frame, sent in told:
            now += step
            made.append(Logged(now / 1e6, channel, frame, sent))
        return made

    return st.lists(one, max_size=20).map(timed)


def message(logged: Logged, channel: Any) -> Any:
    frame = logged.frame
    return can.Message(
        timestamp=logged.time,
        arbitration_id=frame.id,
        is_extended_id=frame.extended,
        is_remote_frame=frame.remote,
        is_fd=frame.fd,
        is_rx=not logged.sent,
        dlc=frame.dlc if frame.remote else len(frame.data),
        data=None if frame.remote else frame.data,
        channel=channel,
    )


class TestCandump:
    EXAMPLE = (
        "(1436509052.249713) vcan0 044#2A366C2BBA\n"
        "(1436509053.850870) vcan0 0F6#7ADFE07BD2 T\n"
        "\n"
        "(1436509054.000000) can1 701#R R\n"
        "(1436509054.100000) can1 00000123#R4\n"
        "(1436509054.200000) can1 123##1112233445566778899AABBCC\n"
        "(1436509054.300000) can1 20000080#0000000000000000\n"
        "(1436509054.400000) can1 123#11.22.33\n"
    )

    def test_an_example(self) -> None:
        found = list(read_candump(self.EXAMPLE.splitlines()))
        assert [str(f.frame) for f in found[:4]] == [
            "044#2A366C2BBA",
            "0F6#7ADFE07BD2",
            "701#R",
            "00000123#R4",
        ]
        assert found[4].frame.fd
        assert len(found[4].frame.data) == 12
        assert found[5].frame.error
        assert found[6].frame == frame_of("123#112233")
        assert [f.sent for f in found[:2]] == [False, True]
        assert found[0].time == 1436509052.249713
        assert found[2].channel == "can1"

    @settings(max_examples=60)
    @given(logs(["host", "gantry", "can0"]))
    def test_what_we_write_we_and_python_can_read(self, told: list[Logged]) -> None:
        text = "".join(candump_line(one) + "\n" for one in told)
        assert list(read_candump(text.splitlines())) == told
        theirs = list(CanutilsLogReader(io.StringIO(text)))
        assert [frame_from(m) for m in theirs] == [one.frame for one in told]
        assert [(m.timestamp, m.channel, not m.is_rx) for m in theirs] == [
            (one.time, one.channel, one.sent) for one in told
        ]

    @settings(max_examples=60)
    @given(logs(["vcan0", "can7"]))
    def test_what_python_can_writes_we_read(self, told: list[Logged]) -> None:
        file = io.StringIO()
        writer = CanutilsLogWriter(file)
        for one in told:
            writer.on_message_received(message(one, one.channel))
        found = list(read_candump(file.getvalue().splitlines()))
        # python-can leaves out the length that a remote frame asks for
        expected = [one.frame._replace(dlc=0) for one in told]
        assert [f.frame for f in found] == expected
        assert [(f.time, f.channel, f.sent) for f in found] == [(o.time, o.channel, o.sent) for o in told]

    @pytest.mark.parametrize(
        "line",
        [
            "nonsense",
            "(1.0) can0",
            "(1.0) can0 123",
            "(x) can0 123#",
            "(1.0) can0 12#00",
            "(1.0) can0 800#00",
            "(1.0) can0 FFFFFFFF#00",
            "(1.0) can0 123#0",
            "(1.0) can0 123#0g",
            "(1.0) can0 123#" + "00" * 9,
            "(1.0) can0 123#R9",
            "(1.0) can0 123##",
            "(1.0) can0 123##0" + "00" * 9,
            "(1.0) can0 123#00 X",
            "(1.0) can0 123#" + "0" * 2000,
        ],
    )
    def test_a_broken_line_is_our_error_with_its_number(self, line: str) -> None:
        with pytest.raises(DecodeError, match="line 2 of a CAN log"):
            list(read_candump(["(0.0) can0 123#00", line]))

    @given(st.text(max_size=80))
    def test_any_line_is_read_or_refused(self, line: str) -> None:
        try:
            found = list(read_candump([line]))
        except DecodeError:
            return
        assert len(found) <= 1


class TestAsc:
    EXAMPLE = """date Sun Nov 22 09:30:00.000 am 2026
base hex  timestamps absolute
internal events logged
// version 9.0.0
Begin Triggerblock Sun Nov 22 09:30:00.000 am 2026
   0.000000 Start of measurement
   0.015991 1  Statistic: D 0 R 0 XD 0 XR 0 E 0 O 0 B 0.00%
   2.501000 1  601             Rx   d 8 2B 11 20 01 B0 04 00 00  Length = 245890 BitCount = 126 ID = 1537
   2.502000 2  701             Tx   r
   2.503000 2  701             Rx   r 1
   2.504000 2  18EBFF00x       Rx   d 3 01 02 03
   2.505000 1  ErrorFrame
   2.506000 CANFD   1 Rx        123                                   1 0 8  8 01 02 03 04 05 06 07 08   0   0
   2.507000 1  080             Rx   d 0
End TriggerBlock
"""

    def test_an_example(self) -> None:
        found = list(read_asc(self.EXAMPLE.splitlines()))
        assert [str(f.frame) for f in found[:4]] == [
            "601#2B112001B0040000",
            "701#R",
            "701#R1",
            "18EBFF00#010203",
        ]
        assert found[4].frame.error
        assert found[5].frame.fd
        assert found[6].frame == CanFrame(0x080)
        assert [(f.time, f.channel, f.sent) for f in found[:2]] == [(2.501, "1", False), (2.502, "2", True)]

    def test_relative_times_and_decimal_numbers(self) -> None:
        lines = ["base dec  timestamps relative", "0.5 1  291 Rx d 2 16 255", "0.25 1  291 Rx d 0"]
        found = list(read_asc(lines))
        assert [(f.time, str(f.frame)) for f in found] == [(0.5, "123#10FF"), (0.75, "123#")]

    @settings(max_examples=60)
    @given(logs(["1", "2"]))
    def test_what_we_write_we_and_python_can_read(self, told: list[Logged]) -> None:
        text = asc_header(1_700_000_000.5) + "".join(asc_line(one) + "\n" for one in told) + ASC_END
        assert list(read_asc(text.splitlines())) == told
        theirs = list(ASCReader(io.StringIO(text)))
        assert [frame_from(m) for m in theirs] == [one.frame for one in told]
        assert [(m.timestamp, m.channel + 1, not m.is_rx) for m in theirs] == [
            (one.time, int(one.channel), one.sent) for one in told
        ]

    @settings(max_examples=60)
    @given(logs(["1", "2"]))
    def test_what_python_can_writes_we_read(self, told: list[Logged]) -> None:
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            writer = ASCWriter(file)
        for one in told:
            writer.on_message_received(message(one, int(one.channel) - 1))
        text = file.getvalue()
        found = list(read_asc(text.splitlines()))
        assert [f.frame for f in found] == [one.frame for one in told]
        assert [(f.channel, f.sent) for f in found] == [(o.channel, o.sent) for o in told]
        start = told[0].time if told else 0.0
        assert [f.time for f in found] == pytest.approx([o.time - start for o in told], abs=2e-6)

    @pytest.mark.parametrize(
        "line",
        [
            "1.0 1  601 Rx d 8 00",
            "1.0 1  601 Rx d 2 00 1FF",
            "1.0 1  601 Rx d 2 00 xx",
            "1.0 1  801 Rx d 0",
            "1.0 1  60g Rx d 0",
            "1.0 1  2FFFFFFFx Rx d 0",
            "1.0 1  601 Rx q 0",
            "1.0 1  601 Rx r 9",
            "1.0 CANFD 1 Rx 601 1 0 9",
            "1.0 CANFD 1 Rx 601 1 0 9 12 00",
            "1.0 1  601 Rx d 0 " + " " * 1200 + "x",
        ],
    )
    def test_a_broken_line_is_our_error_with_its_number(self, line: str) -> None:
        with pytest.raises(DecodeError, match="line 2 of a CAN log"):
            list(read_asc(["1.0 1  601 Rx d 0", line]))

    @given(st.text(max_size=80))
    def test_any_line_is_read_or_refused(self, line: str) -> None:
        try:
            found = list(read_asc([line]))
        except DecodeError:
            return
        assert len(found) <= 1

"""Commands out of logs of a CANopen bus: listened to, and recorded by a guard."""

from __future__ import annotations

from pathlib import Path

import pytest

from _can import PATIENT, STUDY, Bench, hide, load_of, profile, scan
from scanward.codecs.can_logs import ASC_END, Logged, asc_header, asc_line, candump_line
from scanward.commands import Role
from scanward.errors import DecodeError, InputError
from scanward.recordings.can import listen, read_can_log
from scanward.transport.can_frames import CanFrame, frame_of

pytest.importorskip("canopen", reason="the extra 'can' is not installed")


class Tape(Bench):
    """A bench that keeps the gantry's bus, both directions in order."""

    def __init__(self) -> None:
        self.tape: list[Logged] = []
        super().__init__()
        to_gantry = self.node.frame
        from_gantry = self.node._send

        def heard(frame: CanFrame, now: float) -> None:
            self.tape.append(Logged(now, "gantry", frame, True))
            to_gantry(frame, now)

        def told(frame: CanFrame) -> None:
            self.tape.append(Logged(self.now, "gantry", frame))
            from_gantry(frame)

        self.node.frame = heard  # type: ignore[method-assign]
        self.node._send = told
        self.node._network.send_message = lambda number, data, remote=False: told(
            CanFrame(number, bytes(data))
        )


def examination() -> tuple[Tape, list[dict[str, object]]]:
    tape = Tape()
    first, second = (
        scan(ConvolutionKernel="Br40 with a long name"),
        scan(KVP=100.0, AcquisitionStartLocation=-50.0),
    )
    assert tape.host.write(load_of(first, second), (STUDY, PATIENT)).ok
    for element in range(2):
        tape.now += 1
        while not tape.host.trigger(element).ok:
            tape.now += 1
        tape.pass_time(10)
    return tape, [dict(first.parameters), dict(second.parameters)]


def test_what_ran_is_what_is_read() -> None:
    tape, expected = examination()
    found = listen(tape.tape, profile(), hide)
    assert [dict(c.parameters) for c in found.commands] == expected
    command = found.commands[0]
    assert command.examination == hide(STUDY)
    assert command.role is Role.COMMANDED
    assert command.roles == {"CTDIvol": Role.FORECAST}
    assert command.context.get("PatientAge") == 63.0
    assert [c.order for c in found.commands] == [0.0, 1.0]
    assert found.commands[0].acquired_at < found.commands[1].acquired_at  # type: ignore[operator]
    assert found.remarks == []
    assert STUDY not in repr(found)


def test_what_was_not_seen_is_not_guessed() -> None:
    """A log that begins in the middle has no command, and says why."""
    tape, _ = examination()
    start = next(
        n for n, one in enumerate(tape.tape) if one.frame.id == 0x181 and one.frame.data[:1] == b"\x01"
    )
    found = listen(tape.tape[start - 1 : start + 1], profile(), hide)
    assert found.commands == []
    assert "was not seen before element 1 began" in found.remarks[0]


def test_a_write_that_the_gantry_refused_is_not_believed() -> None:
    tape, expected = examination()
    at = next(n for n, one in enumerate(tape.tape) if one.frame.id == 0x181)
    lie = [
        Logged(1.0, "gantry", frame_of("601#2B11200178050000"), True),
        Logged(1.0, "gantry", frame_of("581#8011200122000008")),
    ]
    found = listen([*tape.tape[:at], *lie, *tape.tape[at:]], profile(), hide)
    assert found.commands[0].parameters["KVP"] == expected[0]["KVP"]


def test_a_gantry_that_started_anew_is_unknown() -> None:
    tape, _ = examination()
    boot = Logged(0.0, "gantry", frame_of("701#00"))
    begun = [n for n, one in enumerate(tape.tape) if one.frame.id == 0x181 and one.frame.data[:1] == b"\x01"]
    found = listen([*tape.tape[: begun[1]], boot, *tape.tape[begun[1] :]], profile(), hide)
    assert len(found.commands) == 1
    assert len(found.remarks) == 1


class TestCandump:
    def test_a_guards_log_of_both_buses(self, tmp_path: Path) -> None:
        tape, expected = examination()
        path = tmp_path / "frames.log"
        lines = []
        for one in tape.tape:
            # the host's bus has transfers of its own, which the guard answers: they must not mix
            lines.append(candump_line(Logged(one.time, "host", frame_of("601#2B11200178050000"))))
            lines.append(candump_line(one))
            lines.append(candump_line(Logged(one.time, "host", frame_of("581#6011200100000000"), True)))
        path.write_text("\n".join(lines) + "\n")
        found = read_can_log(path, profile(), hide)
        assert [dict(c.parameters) for c in found.commands] == expected
        assert found.commands[0].origin.path == str(path)
        assert read_can_log(path, profile(), hide, channel="vcan7").frames == 0

    def test_a_broken_line_is_our_error(self, tmp_path: Path) -> None:
        (tmp_path / "x.log").write_text("(1.0) can0 601#0\n")
        with pytest.raises(DecodeError, match="line 1"):
            read_can_log(tmp_path / "x.log", profile(), hide)
        with pytest.raises(InputError, match="cannot be read"):
            read_can_log(tmp_path / "none.log", profile(), hide)


class TestAsc:
    def test_a_listeners_log(self, tmp_path: Path) -> None:
        tape, expected = examination()
        path = tmp_path / "frames.asc"
        body = "".join(asc_line(Logged(one.time, "1", one.frame)) + "\n" for one in tape.tape)
        path.write_text(asc_header(1_700_000_000.0) + body + ASC_END)
        found = read_can_log(path, profile(), hide)
        assert [dict(c.parameters) for c in found.commands] == expected

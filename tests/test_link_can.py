"""The CANopen session: what passes, what is withheld, what becomes a load, a trigger, a motion, a stop.

Host and gantry are canopen's own client and node (``_can``); the gate is played by the test.
"""

from __future__ import annotations

from typing import Any

import pytest

from _can import (
    EXAMPLES,
    HEARTBEAT,
    HOST_BEAT,
    PATIENT,
    STUDY,
    Bench,
    hide,
    load_of,
    read_frame,
    scan,
    sheet,
    write_frame,
)
from scanward.codecs.canopen_chain import writes
from scanward.codecs.canopen_profile_toml import read_profile
from scanward.codecs.canopen_sdo import Abort, abort_code
from scanward.commands import Role
from scanward.commands.wire import (
    Axis,
    Cancel,
    Declined,
    Done,
    GantryState,
    Held,
    Injection,
    Load,
    Loaded,
    Motion,
    Moved,
    Refused,
    Started,
    Status,
    Stop,
    StopKind,
    Stopped,
    Trigger,
)
from scanward.errors import LinkError
from scanward.links.can_loads import Phase
from scanward.transport.can_frames import CanFrame, frame_of

pytest.importorskip("canopen", reason="the extra 'can' is not installed")

TRIGGER = (0x2F00, 1)
KVP = (0x2011, 1)
WITHHELD, REFUSED = Abort.DEVICE_STATE, Abort.LOCAL_CONTROL


def quiet(bench: Bench) -> Bench:
    """Nothing is released by itself any more."""
    bench.gate = None
    return bench


def loaded(*commands: Any, autos: tuple[int, ...] = (), triggers: int = 1) -> Bench:
    """A bench whose chain was written, judged, released and read back; from here on the test is the gate."""
    bench = Bench()
    assert bench.host.write(load_of(*commands, autos=autos, triggers=triggers), (STUDY, PATIENT)).ok
    bench.now += 1
    assert bench.host.trigger(0).code == WITHHELD
    assert len(bench.messages(Loaded)) == 1
    return quiet(bench)


def last(bench: Bench, kind: type[Any]) -> Any:
    return bench.messages(kind)[-1]


# --- what becomes a load


def test_the_first_trigger_makes_a_load_out_of_what_was_written() -> None:
    bench = Bench()
    quiet(bench)
    made = load_of(scan(), scan(KVP=100.0, ContrastBolusAgent="IODINE"), autos=(1,))
    assert bench.host.write(made, (STUDY, PATIENT)).ok
    assert bench.messages(Load) == []
    bench.now += 1
    answer = bench.host.trigger(0)
    assert answer.code == WITHHELD == 0x08000022
    load = last(bench, Load)
    assert [dict(e.command.parameters) for e in load.chain] == [
        dict(e.command.parameters) for e in made.chain
    ]
    assert [e.auto for e in load.chain] == [False, True]
    assert load.examination == hide(STUDY)
    assert load.patient == hide(PATIENT)
    command = load.chain[0].command
    assert command.examination == hide(STUDY)
    assert command.role is Role.COMMANDED
    assert command.roles == {"CTDIvol": Role.FORECAST}
    assert command.context.get("PatientAge") == 63.0
    assert command.context.get("ProtocolName") == "Chest routine"
    assert command.device.model == "S-128"
    assert command.device.serial.startswith("h")  # hidden
    assert bench.writes_at_gantry(0x2F00) == []
    assert STUDY not in repr(bench.said)
    assert PATIENT not in repr(bench.said)


def test_what_is_not_confirmed_is_read_from_the_gantry_first() -> None:
    """A guard that was started after the host wrote still judges what the gantry holds."""
    bench = Bench()
    for address, data in [(KVP, 1200), ((0x2012, 1), 2000)]:
        bench.node._node.set_data(*address, data.to_bytes(2, "little"))
    bench.node._node.set_data(0x2000, 1, b"\x01")
    quiet(bench)
    assert abort_code(bench.send(write_frame(TRIGGER, b"\x01"))[0].data) == WITHHELD
    assert dict(last(bench, Load).chain[0].command.parameters) == {"KVP": 120.0, "XRayTubeCurrentInmA": 200.0}


def test_a_load_is_read_back_before_it_is_armed() -> None:
    bench = Bench()
    bench.host.write(load_of(scan()))
    quiet(bench)
    bench.now += 1
    bench.host.trigger(0)
    before = len(bench.at_gantry)
    bench.to_gantry(last(bench, Load))
    read = {frame.data[1:4] for frame in bench.at_gantry[before:] if frame.data[0] == 0x40}
    needed = bench.profile.chain.addresses(1)
    assert {index.to_bytes(2, "little") + bytes((sub,)) for index, sub in needed} <= read
    assert last(bench, Loaded).chain == (dict(scan().parameters),)


def test_a_gantry_that_holds_something_else_is_told_as_it_is() -> None:
    bench = Bench()
    bench.host.write(load_of(scan()))
    quiet(bench)
    bench.now += 1
    bench.host.trigger(0)
    bench.node._node.set_data(*KVP, (1400).to_bytes(2, "little"))  # by somebody at the gantry
    bench.to_gantry(last(bench, Load))
    assert last(bench, Loaded).chain[0]["KVP"] == 140.0
    assert "does not hold what was judged (KVP)" in bench.reports()[-1]
    bench.now += 1
    bench.send(write_frame(TRIGGER, b"\x01"))
    assert bench.messages(Trigger) == []
    assert bench.writes_at_gantry(0x2F00) == []


def test_a_gantry_that_holds_another_flag_is_no_load() -> None:
    """Context, order and "starts by itself" are not in the echo: the link itself compares them."""
    bench = Bench()
    bench.host.write(load_of(scan(), scan()))
    quiet(bench)
    bench.now += 1
    bench.host.trigger(0)
    bench.node._node.set_data(0x2031, 2, b"\x01")
    bench.to_gantry(last(bench, Load))
    assert bench.messages(Loaded) == []
    assert "does not hold what was judged" in last(bench, Declined).reason


def test_prepare_asks_for_judgement_before_the_trigger() -> None:
    bench = Bench()
    bench.host.write(load_of(scan()))
    bench.now += 1
    assert bench.host.download((0x2F00, 2), b"\x01").ok
    assert len(bench.messages(Loaded)) == 1
    assert bench.host.download((0x2F00, 2), b"\x02").code == Abort.VALUE
    assert bench.host.trigger(0).ok


@pytest.mark.parametrize("count", [0, 9, 255])
def test_a_count_that_no_chain_has_is_refused_at_once(count: int) -> None:
    bench = Bench()
    answer = bench.host.download((0x2000, 1), bytes((count,)))
    if count:
        assert answer.code == Abort.VALUE
        assert bench.writes_at_gantry(0x2000) == []
    else:
        bench.now += 1
        bench.host.trigger(0)
        assert bench.messages(Load) == []
        assert "a chain of 0 elements" in bench.reports()[-1]


# --- triggers


def test_after_release_and_read_back_the_repeated_trigger_is_put_to_the_gate_and_passed_on() -> None:
    bench = loaded()
    bench.gate = bench.release
    assert bench.host.trigger(0).ok
    assert last(bench, Trigger) == Trigger("can-t2", "can-l1", 0)
    assert bench.writes_at_gantry(0x2F00) == [b"\x01"]
    bench.pass_time(10)
    assert last(bench, Started) == Started("can-l1", 0)
    done = last(bench, Done)
    assert (done.load, done.element, done.aborted) == ("can-l1", 0, False)
    assert done.ctdivol == pytest.approx(bench.gantry.room.acquired[0].ctdivol, abs=0.01)
    # the chain is used up: the next trigger is a new load
    assert bench.host.trigger(0).code == WITHHELD
    assert last(bench, Load).id != "can-l1"
    assert len(bench.writes_at_gantry(0x2F00)) == 1


def test_a_trigger_waits_for_the_gate_and_no_longer_than_a_host_does() -> None:
    bench = loaded()
    assert bench.send(write_frame(TRIGGER, b"\x01")) == []  # nothing said yet
    assert bench.writes_at_gantry(0x2F00) == []
    bench.now += 0.5
    bench.deliver(bench.session.tick(bench.now))
    assert abort_code(bench.at_host[-1].data) == WITHHELD
    bench.to_gantry(last(bench, Trigger))  # too late
    assert bench.writes_at_gantry(0x2F00) == []
    assert last(bench, Declined).id == last(bench, Trigger).id


@pytest.mark.parametrize(("again", "code"), [(True, WITHHELD), (False, REFUSED)])
def test_a_refused_trigger_is_told(again: bool, code: int) -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.to_host(Refused(last(bench, Trigger).id, "no", again=again))
    assert abort_code(bench.at_host[-1].data) == code
    assert bench.writes_at_gantry(0x2F00) == []


def test_a_host_that_gives_its_trigger_up_is_not_served() -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.send(CanFrame(0x601, b"\x80\x00\x2f\x01" + bytes(4)))
    bench.to_gantry(last(bench, Trigger))
    assert bench.writes_at_gantry(0x2F00) == []
    assert bench.messages(Declined)


def test_one_trigger_is_sent_once() -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    trigger = last(bench, Trigger)
    bench.to_gantry(trigger)
    bench.to_gantry(trigger)
    assert bench.writes_at_gantry(0x2F00) == [b"\x01"]


def test_a_trigger_that_the_gantry_has_not_answered_is_not_sent_again() -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.deaf = True
    bench.to_gantry(last(bench, Trigger))
    bench.to_gantry(last(bench, Trigger))
    for _ in range(15):
        bench.now += 0.1
        bench.gantry_sends(HEARTBEAT)
        bench.deliver(bench.session.tick(bench.now))
    assert bench.at_gantry.count(write_frame(TRIGGER, b"\x01")) == 1


def test_a_release_of_another_trigger_or_load_sends_nothing() -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    asked = last(bench, Trigger)
    for wrong in (Trigger("can-t99", asked.load, 0), Trigger(asked.id, "can-l99", 0)):
        bench.to_gantry(wrong)
        assert last(bench, Declined).id == wrong.id
    assert bench.writes_at_gantry(0x2F00) == []
    bench.to_gantry(Load("can-l99", "", "", ()))
    assert last(bench, Declined).id == "can-l99"


def test_a_trigger_of_no_element_is_refused() -> None:
    bench = loaded()
    assert abort_code(bench.send(write_frame(TRIGGER, b"\x02"))[0].data) == Abort.VALUE
    assert abort_code(bench.send(write_frame(TRIGGER, b"\x00"))[0].data) == Abort.VALUE
    assert bench.messages(Trigger) == []


def test_a_gantry_that_says_no_is_heard_by_both() -> None:
    bench = loaded()
    bench.gantry.lose_link(0.0, "test")  # safe state: it declines everything
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.to_gantry(last(bench, Trigger))
    assert abort_code(bench.at_host[-1].data) == Abort.DEVICE_STATE
    assert last(bench, Declined).id == last(bench, Trigger).id
    assert bench.host.download(KVP, b"\xb0\x04").ok  # and nothing is locked


def test_process_data_trigger_is_dropped_until_the_chain_is_armed() -> None:
    bench = Bench()
    bench.host.write(load_of(scan()))
    bench.now += 1
    quiet(bench)
    bench.host.trigger_by_data(0)
    assert frame_of("201#0101") not in bench.at_gantry
    assert "a trigger in 201h was withheld" in bench.reports()
    bench.to_gantry(last(bench, Load))
    bench.host.trigger_by_data(0)
    assert frame_of("201#0101") not in bench.at_gantry
    bench.to_gantry(last(bench, Trigger))
    assert bench.at_gantry.count(frame_of("201#0101")) == 1
    bench.pass_time(3)
    assert bench.messages(Started)


def test_an_interventional_chain_stays_until_the_gate_refuses() -> None:
    bench = loaded(triggers=3)
    bench.gate = bench.release
    for _ in range(2):
        assert bench.host.trigger(0).ok
        bench.pass_time(10)
    assert [t.load for t in bench.messages(Trigger)] == ["can-l1"] * 2
    assert len(bench.messages(Load)) == 1
    quiet(bench)
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.to_host(Refused(last(bench, Trigger).id, "used up"))
    bench.now += 1
    bench.send(write_frame(TRIGGER, b"\x01"))
    assert len(bench.messages(Load)) == 2


# --- change after load


@pytest.mark.parametrize(
    "frame",
    [
        write_frame(KVP, (1400).to_bytes(2, "little")),
        write_frame(KVP, (1200).to_bytes(2, "little")),  # even the same value
        write_frame((0x2000, 1), b"\x02"),
        write_frame((0x2031, 1), b"\x01"),
        frame_of("401#D007E803"),  # process data: another current for element 2
    ],
)
@pytest.mark.parametrize("phase", ["judging", "loaded", "triggered"])
def test_a_write_after_the_load_voids_it_before_it_reaches_the_gantry(frame: CanFrame, phase: str) -> None:
    bench = Bench()
    bench.host.write(load_of(scan()))
    bench.now += 1
    quiet(bench)
    bench.host.trigger(0)
    load = last(bench, Load)
    if phase != "judging":
        bench.to_gantry(load)
    if phase == "triggered":
        bench.send(write_frame(TRIGGER, b"\x01"))
    order: list[str] = []
    deliver = bench.deliver

    def watched(out: Any) -> None:
        order.extend("cancel" for m, a in out.said if isinstance(a[-1], Cancel))
        order.extend("write" for f in out.gantry)
        deliver(out)

    bench.deliver = watched  # type: ignore[method-assign]
    bench.send(frame)
    assert last(bench, Cancel).load == load.id
    assert order[0] == "cancel"
    bench.deliver = deliver  # type: ignore[method-assign]
    if phase == "judging":
        bench.to_gantry(load)  # the verdict on what is no longer there
        assert bench.messages(Loaded) == []
    if phase == "triggered":
        bench.to_gantry(last(bench, Trigger))
    assert bench.writes_at_gantry(0x2F00) == []
    bench.now += 1
    bench.send(write_frame(TRIGGER, b"\x01"))
    if frame == write_frame((0x2000, 1), b"\x02"):
        assert "element 2 of the chain is empty" in bench.reports()[-1]
    else:
        assert last(bench, Load).id != load.id  # judged anew


def test_process_data_that_say_nothing_new_change_nothing() -> None:
    """They come with every SYNC; a void each time would stop every scan."""
    bench = loaded(scan(), scan())
    before = len(bench.messages(Cancel))
    bench.send(frame_of("401#D007D007"))
    assert len(bench.messages(Cancel)) == before
    assert bench.at_gantry[-1] == frame_of("401#D007D007")


def test_nothing_is_written_while_an_element_runs_or_the_next_starts_by_itself() -> None:
    bench = loaded(scan(), scan(), scan(), autos=(1,))
    bench.gate = bench.release
    assert bench.host.trigger(0).ok
    seen: list[int] = []
    for _ in range(60):
        bench.pass_time(0.5)
        code = bench.host.download((0x2012, 3), b"\xd0\x07").code
        seen.append(code)
        bench.send(frame_of("401#D007E803"))
        if not code:
            break
    # both elements ran to their end under what was judged; then the third may be changed, and is judged anew
    assert [d.element for d in bench.messages(Done)] == [0, 1]
    assert seen.count(WITHHELD) == len(seen) - 1 > 3
    assert frame_of("401#D007E803") not in bench.at_gantry[: bench.at_gantry.index(bench.at_gantry[-1])]
    assert bench.messages(Cancel)


def test_contrast_under_way_locks_until_an_element_has_ended() -> None:
    bench = loaded()
    bench.gantry_sends("181#04")
    assert last(bench, Injection).load == "can-l1"
    assert bench.host.download(KVP, b"\xb0\x04").code == WITHHELD
    bench.gantry_sends("181#0600")
    assert last(bench, Stopped) == Stopped(StopKind.ALL)
    assert bench.host.download(KVP, b"\xb0\x04").ok


# --- refused and held loads


def test_a_refused_load_stays_refused_until_something_changes() -> None:
    bench = Bench()
    bench.host.write(load_of(scan()))
    bench.now += 1
    quiet(bench)
    bench.host.trigger(0)
    bench.to_host(Held(last(bench, Load).id, "strange", 60.0))
    assert bench.host.trigger(0).code == WITHHELD
    bench.to_host(Refused(last(bench, Load).id, "too much"))
    for _ in range(3):
        bench.now += 1
        assert bench.host.trigger(0).code == REFUSED == 0x08000021
    assert len(bench.messages(Load)) == 1
    assert bench.host.download(KVP, b"\xe8\x03").ok
    bench.now += 1
    assert bench.host.trigger(0).code == WITHHELD
    assert last(bench, Load).chain[0].command.parameters["KVP"] == 100.0


def test_loads_are_not_put_to_the_gate_as_fast_as_frames_come() -> None:
    bench = Bench()
    quiet(bench)
    bench.host.write(load_of(scan()))
    for _ in range(100):
        bench.now += 0.001
        bench.send(write_frame(KVP, b"\xb0\x04"))
        bench.send(write_frame(TRIGGER, b"\x01"))
    assert 1 <= len(bench.messages(Load)) <= 3


# --- entries that act at once


def held_profile() -> Any:
    text = (EXAMPLES / "emulated-ct.toml").read_text("utf-8")
    return read_profile(
        text.replace('name = "FocalSpots"\n', 'name = "FocalSpots"\ninert = false\n'), sheet()
    )


def test_an_entry_that_acts_at_once_is_judged_with_its_chain_before_it_is_written() -> None:
    bench = Bench(made=held_profile())
    focus = (0x202B, 1)
    for address, data in writes(bench.profile, load_of(scan())).items():
        if address != focus:
            assert bench.host.download(address, data).ok
    quiet(bench)
    bench.now += 1
    code = bench.host.download(focus, b"\x01").code
    assert code == WITHHELD
    load = last(bench, Load)
    assert load.chain[0].command.parameters["FocalSpots"] == "LARGE"
    assert bench.host.download(focus, b"\x01").code == WITHHELD  # still with the gate
    assert b"\x01" not in bench.writes_at_gantry(0x202B)
    bench.to_gantry(load)
    assert bench.writes_at_gantry(0x202B)[-1] == b"\x01"
    assert last(bench, Loaded).chain[0]["FocalSpots"] == "LARGE"
    written = len(bench.node.writes)
    assert bench.host.download(focus, b"\x01").ok  # it is in force
    assert len(bench.node.writes) == written
    bench.now += 1
    assert bench.host.download(focus, b"\x02").code == WITHHELD
    assert last(bench, Cancel).load == load.id
    bench.to_host(Refused(last(bench, Load).id, "no"))
    assert bench.host.download(focus, b"\x02").code == REFUSED
    assert len(bench.node.writes) == written


# --- motions


def test_a_motion_that_is_released_at_once_is_sent_and_answered() -> None:
    bench = Bench()
    assert bench.host.motion(Axis.TABLE_Z, -120.5, 50.0).ok
    assert last(bench, Motion) == Motion("can-m1", Axis.TABLE_Z, -120.5, 50.0)
    bench.pass_time(5)
    assert bench.gantry.position[Axis.TABLE_Z] == -120.5
    assert last(bench, Moved) == Moved("can-m1", -120.5)


def test_a_motion_that_is_released_later_waits_for_the_host_to_ask_again_once() -> None:
    bench = Bench()
    bench.host.download((0x2F10, 4), b"\xf4\x01")
    quiet(bench)
    frame = write_frame((0x2F10, 1), (100).to_bytes(4, "little"))
    bench.send(frame)
    bench.now += 0.5
    bench.deliver(bench.session.tick(bench.now))
    assert abort_code(bench.at_host[-1].data) == WITHHELD
    bench.to_gantry(last(bench, Motion))
    assert bench.writes_at_gantry(0x2F10) == [b"\xf4\x01"]  # nothing moves without the host
    bench.send(frame)
    assert bench.writes_at_gantry(0x2F10)[-1] == (100).to_bytes(4, "little")
    assert len(bench.messages(Motion)) == 1
    bench.now += 1
    bench.send(frame)
    assert len(bench.messages(Motion)) == 2  # the approval was for once


@pytest.mark.parametrize("ends", ["stop", "time", "other", "parameter"])
def test_an_approval_of_a_motion_ends(ends: str) -> None:
    bench = Bench()
    bench.host.download((0x2F10, 4), b"\xf4\x01")
    quiet(bench)
    bench.send(frame_of("301#0164000000F401"))
    assert "a motion in 301h was withheld" in bench.reports()
    bench.to_gantry(last(bench, Motion))
    match ends:
        case "stop":
            bench.send("201#0200")
        case "time":
            bench.pass_time(11)
        case "other":
            bench.now += 1
            bench.send("301#01C8000000F401")
        case "parameter":
            bench.send(write_frame((0x2F10, 4), b"\xf5\x01"))
    assert last(bench, Declined).id == "can-m1"
    bench.now += 1
    bench.send(frame_of("301#0164000000F401"))
    assert frame_of("301#0164000000F401") not in bench.at_gantry


def test_a_refused_motion_is_not_judged_with_every_repetition() -> None:
    bench = Bench()
    quiet(bench)
    for _ in range(10):
        bench.now += 0.1
        bench.send("301#0164000000F401")
        if len(bench.messages(Motion)) == 1:
            bench.to_host(Refused("can-m1", "no"))
    assert len(bench.messages(Motion)) == 1
    assert not any(f.id == 0x301 for f in bench.at_gantry)


# --- stops


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("201#0200", StopKind.ALL),
        ("201#0202", StopKind.BEAM),
        ("201#0203", StopKind.MOTION),
        ("601#2F022F0001000000", StopKind.ALL),
        ("000#0201", StopKind.ALL),
        ("000#0200", StopKind.ALL),
    ],
)
def test_every_stop_passes_at_once_and_voids(text: str, what: StopKind) -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    before = len(bench.at_gantry)
    bench.send(text)
    assert bench.at_gantry[before] == frame_of(text)
    assert last(bench, Stop) == Stop(what)
    bench.to_gantry(last(bench, Trigger))
    assert bench.writes_at_gantry(0x2F00) == []


def test_stops_pass_whatever_else_is_wrong() -> None:
    stop = frame_of("201#0200")
    for bench in (Bench(up=False), Bench()):
        bench.deaf = True
        bench.send(write_frame(KVP, b"\xb0\x04"))
        bench.send(stop)
        assert bench.at_gantry[-1] == stop
    bench.deliver(bench.session.drop(bench.now))
    assert bench.at_gantry[-1] == stop  # the guard's own
    count = len(bench.at_gantry)
    bench.send(HOST_BEAT)
    bench.send("080#")
    bench.gantry_sends(HEARTBEAT)
    assert bench.send(write_frame(KVP, b"\xb0\x04")) == []
    assert bench.send("401#D007D007") == []
    assert len(bench.at_gantry) == count  # silence
    bench.send(stop)
    assert len(bench.at_gantry) == count + 1


def test_a_stop_by_sdo_interrupts_a_transfer_and_is_answered() -> None:
    bench = Bench()
    bench.deaf = True
    bench.send(write_frame(KVP, b"\xb0\x04"))  # the gantry does not answer
    bench.deaf = False
    answers = bench.send("601#2F022F0001000000")
    assert frame_of("581#60022F0000000000") in answers
    assert bench.host.download(KVP, b"\xb0\x04").ok


def test_the_gate_can_stop_a_gantry_that_was_never_heard() -> None:
    bench = Bench(up=False)
    bench.to_gantry(Stop(StopKind.BEAM))
    assert bench.at_gantry == [frame_of("201#0202")]
    with pytest.raises(LinkError):
        bench.to_gantry(Motion("m", Axis.TABLE_Z, 0.0, 1.0))


# --- default-deny


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("000#8101", "NMT command 81h"),
        ("000#8201", "NMT command 82h"),
        ("000#8001", "NMT command 80h"),
        ("000#0102", "NMT command 01h"),
        ("7E5#0400000000000000", "layer setting services (LSS)"),
        ("7E4#4400000000000000", "layer setting services (LSS)"),
        ("602#2B11200100000000", "an SDO request to another node"),
        ("080#01", "a frame 080h"),
        ("081#0000000000000000", "a frame 081h"),
        ("181#0100", "a frame 181h"),
        ("581#6011200100000000", "a frame 581h"),
        ("701#05", "a frame 701h"),
        ("201#01", "a frame 201h"),
        ("201#010100", "a frame 201h"),
        ("201#02FF", "a frame 201h"),
        ("501#0102030405060708", "a frame 501h"),
        ("181#R", "no classical data frame, in 181h"),
        ("00000201#0101", "no classical data frame, in 201h"),
    ],
)
def test_what_is_not_named_is_refused_by_name(text: str, says: str) -> None:
    bench = Bench()
    before = list(bench.at_gantry)
    bench.send(text)
    assert bench.at_gantry == before
    assert bench.reports() == [f"refused: {says}" if "classical" not in says else says]


def test_fd_frames_are_refused() -> None:
    bench = Bench()
    before = list(bench.at_gantry)
    bench.send(frame_of("201#0101")._replace(fd=True))
    bench.send(frame_of("080#")._replace(error=True))
    assert bench.at_gantry == before


@pytest.mark.parametrize(
    "address",
    [
        (0x1005, 0),
        (0x1010, 1),
        (0x1011, 1),
        (0x1017, 0),
        (0x1400, 1),
        (0x1600, 1),
        (0x1800, 1),
        (0x1A00, 1),
        (0x1F50, 1),
        (0x3000, 0),
        (0x2F00, 3),
        (0x2011, 0),
        (0x2011, 9),
        (0xFFFF, 255),
    ],
)
def test_no_other_object_is_written_by_any_kind_of_transfer(address: tuple[int, int]) -> None:
    bench = Bench()
    before = list(bench.at_gantry)
    place = bytes((address[0] & 0xFF, address[0] >> 8, address[1]))
    for command in (0x2F, 0x23, 0x22, 0x21, 0x20, 0xC0, 0xC2, 0xC6):
        answers = bench.send(CanFrame(0x601, bytes((command,)) + place + bytes(4)))
        assert abort_code(answers[0].data) == Abort.ACCESS
        bench.send("601#0F61000000000000")
        bench.send("601#8161626364656667")
    assert bench.at_gantry == before
    assert bench.node.writes == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xb0", Abort.LENGTH),
        (b"\xb0\x04\x00", Abort.LENGTH),
        (b"\xb0\x04\x00\x00", Abort.LENGTH),
    ],
)
def test_a_value_of_another_length_is_refused(data: bytes, code: int) -> None:
    bench = Bench()
    assert abort_code(bench.send(write_frame(KVP, data))[0].data) == code
    assert bench.node.writes == []


def test_a_value_that_no_field_has_is_refused() -> None:
    bench = Bench()
    assert bench.host.download((0x2010, 1), b"\x09").code == Abort.VALUE  # no AcquisitionType
    assert bench.host.download((0x2031, 1), b"\x02").code == Abort.VALUE  # no BOOLEAN
    assert bench.host.download((0x2040, 1), b"a\x1b[2J").code == Abort.VALUE  # no VISIBLE_STRING
    assert bench.host.download((0x2040, 1), b"x" * 5000).code == Abort.TOO_LONG
    assert bench.node.writes == []


def test_an_expedited_write_without_a_size_takes_that_of_the_entry() -> None:
    bench = Bench()
    answers = bench.send(CanFrame(0x601, b"\x22\x11\x20\x01\xb0\x04\xff\xff"))
    assert answers[-1].data[0] == 0x60
    assert bench.node.writes == [(KVP, b"\xb0\x04")]
    assert bench.at_gantry[-1].data == b"\x2b\x11\x20\x01\xb0\x04\x00\x00"  # framed anew


# --- what passes, and how


def test_reads_pass_whole_and_only_of_what_is_readable() -> None:
    bench = Bench()
    bench.host.download((0x2040, 1), b"Chest routine with a long name")
    assert bench.host.upload((0x2040, 1)) == b"Chest routine with a long name"
    assert bench.host.upload((0x1018, 1)) == (0x5CA1).to_bytes(4, "little")
    assert bench.host.upload((0x3333, 0)) == Abort.NO_OBJECT
    assert bench.host.upload((0x1F50, 1)) == Abort.WRITE_ONLY
    with bench.host.sdo.open(0x2040, 1, "rb", block_transfer=True) as file:
        assert file.read() == b"Chest routine with a long name"


@pytest.mark.parametrize("blocks", [False, True])
def test_a_block_download_arrives_as_one_or_is_refused_by_the_gantry(blocks: bool) -> None:
    bench = Bench(blocks=blocks)
    answer = bench.host.download((0x2040, 1), b"y" * 300, block=True)
    if blocks:
        assert answer.ok
        assert bench.node.holds((0x2040, 1)) == b"y" * 300
    else:
        assert answer.code == Abort.COMMAND  # canopen's server knows no blocks: the host hears it
        assert bench.node.writes == []


def test_timed_frames_pass_while_a_transfer_and_a_trigger_are_open() -> None:
    """Order: nothing that keeps its timing waits for a verdict."""
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.deaf = True
    before = len(bench.at_gantry)
    timed = [
        frame_of(t) for t in ("080#", "77F#05", "701#R", "080#", "201#0000", "080#", "701#R1", "000#0101")
    ]
    for frame in timed:
        bench.send(frame)
    assert bench.at_gantry[before:] == timed


def test_whatever_the_gantry_says_reaches_the_host_but_answers_on_the_channel() -> None:
    bench = Bench()
    before = len(bench.at_host)
    frames = [
        frame_of(t) for t in ("701#05", "081#3081110000000000", "181#0101", "182#00", "581#6011200100000000")
    ]
    frames.append(frame_of("18FF0001#0102"))
    for frame in frames:
        bench.gantry_sends(frame)
    assert bench.at_host[before:] == [f for f in frames if f.id != 0x581]
    assert last(bench, Status) == Status(GantryState.READY, "emergency 8130h")


def test_error_frames_are_reported_and_go_nowhere() -> None:
    bench = Bench()
    before = len(bench.at_host)
    bench.gantry_sends(CanFrame(0, error=True))
    assert len(bench.at_host) == before
    assert bench.reports() == ["an error frame: the bus has trouble"]


def test_observed_nonsense_is_reported() -> None:
    bench = Bench()
    bench.gantry_sends("181#0100")  # element 0, counted from 1
    bench.gantry_sends("081#00")
    assert len(bench.reports()) == 2
    assert bench.messages(Started) == []


# --- peers


def test_a_gantry_that_is_another_device_is_not_spoken_to() -> None:
    bench = Bench(up=False)
    bench.node._node.set_data(0x1018, 1, (7).to_bytes(4, "little"))
    bench.beat()
    assert not any(m == "gantry_up" for m, _ in bench.said)
    assert "not the device of the profile (1018h)" in bench.reports()
    before = list(bench.node.writes)
    assert abort_code(bench.send(write_frame(KVP, b"\xb0\x04"))[0].data) == WITHHELD
    assert bench.node.writes == before


def test_a_gantry_that_starts_anew_holds_nothing_that_was_judged() -> None:
    bench = loaded()
    bench.node.boot(bench.now)
    assert ("gantry_lost", ("it started anew",)) in bench.said
    bench.pass_time(2)
    assert [m for m, _ in bench.said].count("gantry_up") == 2
    bench.send(write_frame(TRIGGER, b"\x01"))
    assert bench.messages(Trigger) == []
    assert "a chain of 0 elements" in bench.reports()[-1]


def test_silent_ends_are_lost_and_what_was_loaded_with_them() -> None:
    bench = loaded()
    bench.send(write_frame(TRIGGER, b"\x01"))
    bench.deaf = True
    for _ in range(4):
        bench.now += 1
        bench.deliver(bench.session.tick(bench.now))
    lost = {m: a for m, a in bench.said if m.endswith("_lost")}
    assert lost == {"gantry_lost": ("silent",), "host_lost": (1, "silent")}
    with pytest.raises(LinkError):
        bench.to_gantry(last(bench, Trigger))
    with pytest.raises(LinkError):
        bench.session.to_host(1, Held("x", "y", 1.0), bench.now)
    bench.deaf = False
    bench.beat()
    assert bench.connection == 2
    bench.now += 1
    assert bench.session._loads.current is None


def test_a_gantry_that_does_not_answer_ends_a_write_with_a_time_out() -> None:
    bench = Bench()
    bench.deaf = True
    assert bench.send(write_frame(KVP, b"\xb0\x04")) == []
    bench.pass_time(0.7)
    assert abort_code([f for f in bench.at_host if f.id == 0x581][-1].data) == Abort.TIMED_OUT
    bench.deaf = False
    quiet(bench)
    bench.send(write_frame(TRIGGER, b"\x01"))
    assert bench.session._loads.current is None or bench.session._loads.current.phase is Phase.JUDGING
    assert bench.send(read_frame(KVP))  # whatever it holds is read, not believed


def test_refusals_are_reported_once_a_second_with_their_count() -> None:
    bench = Bench()
    for _ in range(5000):
        bench.send("7E5#0400000000000000")
    assert bench.reports() == ["refused: layer setting services (LSS)"]
    bench.pass_time(1.1)
    assert bench.reports()[1:] == ["refused: layer setting services (LSS) (4999 times more)"]

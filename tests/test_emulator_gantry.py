"""The emulated gantry as a pure state machine: interlocks, chains, stops, safe state, and that it obeys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.commands import BODY_PHANTOM, Command, Role, Value
from scanward.commands.wire import (
    Axis,
    Cancel,
    Declined,
    Done,
    Element,
    FromGantry,
    GantryState,
    Heartbeat,
    Injection,
    Load,
    Loaded,
    Motion,
    Moved,
    Started,
    Status,
    Stop,
    StopKind,
    Stopped,
    ToGantry,
    Trigger,
)
from scanward.emulator.gantry import Gantry
from scanward.simulation import MODELS, Site
from scanward.simulation.scanner import OnTable, capacity

MODEL = MODELS[0]
DEVICE = Site(1).devices[0]
BASE: dict[str, Value] = {
    "AcquisitionType": "SPIRAL",
    "KVP": 120.0,
    "XRayTubeCurrentInmA": 200.0,
    "RevolutionTime": 0.5,
    "SpiralPitchFactor": 1.0,
    "TotalCollimationWidth": 38.4,
    "ScanLength": 300.0,
    "AcquisitionStartLocation": 0.0,
    "AcquisitionEndLocation": -300.0,
    "TableHeight": 163.0,
    "GantryDetectorTilt": 0.0,
    "FilterType": "WEDGE_3",
    "CTDIwPhantomType": BODY_PHANTOM,
    "ExposureModulationType": "NONE",
    "ContrastBolusAgent": "NONE",
}


def element(auto: bool = False, **more: Value) -> Element:
    return Element(Command({**BASE, **more}, role=Role.COMMANDED), auto)


def load(*chain: Element, name: str = "L1") -> Load:
    return Load(name, "exam", "patient", chain or (element(),))


MONITORING = element(
    AcquisitionType="STATIONARY",
    NumberOfRotations=10.0,
    ScanLength=10.0,
    TotalCollimationWidth=3.6,
    XRayTubeCurrentInmA=40.0,
    ContrastBolusAgent="IODINE",
)
ARTERIAL = element(auto=True, ContrastBolusAgent="IODINE", AcquisitionStartLocation=40.0)


def gantry(**who: Any) -> Gantry:
    made = Gantry(MODEL, DEVICE)
    made.room.enter(OnTable(centre=163.0, **who))
    return made


def kinds(out: tuple[FromGantry, ...]) -> list[str]:
    return [type(m).__name__ for m in out]


def run(made: Gantry, start: float = 0.0) -> list[FromGantry]:
    """Let everything that is due happen."""
    out: list[FromGantry] = []
    while made.wake is not None:
        out += made.tick(made.wake)
    return out


def test_a_scan_from_load_to_dose() -> None:
    made = gantry()
    loaded = made.handle(load(), 0.0)
    assert loaded == (Loaded("L1", (dict(BASE),)),)
    assert made.handle(Trigger("T1", "L1", 0), 1.0) == (Status(GantryState.MOVING),)
    out = run(made)
    done = next(m for m in out if isinstance(m, Done))
    assert Started("L1", 0) in out
    assert done.ctdivol == pytest.approx(6.71)
    assert done.dlp == pytest.approx(made.room.ledger.dlp(32), rel=0.01)
    assert out[-1] == Status(GantryState.READY)


def test_it_obeys_as_often_as_it_is_told() -> None:
    """Hardware knows no 'once': that is the guard's work."""
    made = gantry()
    made.handle(load(), 0.0)
    for number in range(3):
        made.handle(Trigger(f"T{number}", "L1", 0), 100.0 * number)
        run(made)
    assert made.room.ledger.peak(32) == pytest.approx(3 * 6.71)


def test_runtime_fields_are_taken_without_a_question() -> None:
    made = gantry()
    made.handle(load(), 0.0)
    made.handle(Trigger("T1", "L1", 0, {"XRayTubeCurrentInmA": 800.0}), 0.0)
    run(made)
    assert made.room.ledger.peak(32) == pytest.approx(4 * 6.71)


# --- interlocks


def test_no_motion_while_there_is_beam_and_no_beam_while_it_moves() -> None:
    made = gantry()
    made.handle(load(), 0.0)
    made.handle(Trigger("T1", "L1", 0), 0.0)
    made.tick(0.1)
    assert made.state is GantryState.BEAM
    assert kinds(made.handle(Motion("M1", Axis.TABLE_Z, 100.0, 50.0), 0.2)) == ["Declined"]
    assert kinds(made.handle(load(name="L2"), 0.3)) == ["Declined"]
    run(made)
    made.handle(Motion("M2", Axis.TABLE_Z, 500.0, 50.0), 100.0)
    assert made.state is GantryState.MOVING
    assert made.handle(Trigger("T2", "L1", 0), 100.1) == (Declined("T2", "moving"),)


@pytest.mark.parametrize(
    ("axis", "target", "speed"),
    [
        (Axis.TABLE_Z, 5000.0, 50.0),
        (Axis.TABLE_HEIGHT, 401.0, 10.0),
        (Axis.GANTRY_TILT, 31.0, 1.0),
        (Axis.TABLE_Z, 100.0, 501.0),
        (Axis.TABLE_Z, 100.0, 0.0),
    ],
)
def test_axes_end_and_drives_have_a_speed(axis: Axis, target: float, speed: float) -> None:
    assert kinds(gantry().handle(Motion("M1", axis, target, speed), 0.0)) == ["Declined"]


def test_a_motion_takes_its_time() -> None:
    made = gantry()
    made.handle(Motion("M1", Axis.TABLE_Z, 100.0, 50.0), 0.0)
    assert made.tick(1.9) == ()
    assert made.tick(2.0) == (Moved("M1", 100.0), Status(GantryState.READY))


def test_a_table_raised_into_the_bore_hits_the_patient_and_the_hardware_does_it() -> None:
    made = gantry()
    made.handle(Motion("M1", Axis.TABLE_HEIGHT, 380.0, 40.0), 0.0)
    run(made)
    assert made.room.collisions == ["motion: table +217 mm from the patient's centre"]


def test_a_hot_tube_declines() -> None:
    made = gantry()
    made.handle(load(element(XRayTubeCurrentInmA=800.0, RevolutionTime=1.0, SpiralPitchFactor=0.2)), 0.0)
    for number in range(40):
        out = made.handle(Trigger(f"T{number}", "L1", 0), 0.0 + number * 60)
        if any(isinstance(m, Declined) for m in out):
            assert any("too hot" in m.reason for m in out if isinstance(m, Declined))
            break
        run(made)
    else:
        pytest.fail("the tube never got too hot")
    assert made.heat <= capacity(MODEL)
    assert not any(isinstance(m, Declined) for m in made.handle(Trigger("T99", "L1", 0), 1e5)), "it cools"


# --- stops


def test_a_stop_ends_the_beam_at_once_and_what_was_given_counts() -> None:
    made = gantry()
    made.handle(load(), 0.0)
    made.handle(Trigger("T1", "L1", 0), 0.0)
    made.tick(0.0)
    until = made.wake
    assert until is not None
    out = made.handle(Stop(), until / 2)
    assert kinds(out) == ["Done", "Stopped", "Status"]
    done = out[0]
    assert isinstance(done, Done)
    assert done.aborted
    assert made.state is GantryState.READY
    assert made.room.acquired[0].aborted
    assert made.room.ledger.dlp(32) == pytest.approx(done.dlp, rel=0.02)
    assert 0.4 < made.room.acquired[0].seconds / until < 0.6
    assert kinds(made.handle(Trigger("T2", "L1", 0), until)) == ["Declined"], "what was loaded is gone"


@pytest.mark.parametrize("what", [StopKind.ALL, StopKind.BEAM, StopKind.MOTION])
def test_no_stop_leaves_a_beam_on_a_table_that_stands(what: StopKind) -> None:
    made = gantry()
    made.handle(load(), 0.0)
    made.handle(Trigger("T1", "L1", 0), 0.0)
    made.tick(0.1)
    made.handle(Stop(what), 0.5)
    assert made.state is not GantryState.BEAM
    assert made.wake is None


def test_a_stop_of_motion_leaves_the_table_where_it_is() -> None:
    made = gantry()
    made.handle(Motion("M1", Axis.TABLE_Z, 100.0, 50.0), 0.0)
    out = made.handle(Stop(StopKind.MOTION), 1.0)
    assert out == (Moved("M1", 50.0), Stopped(StopKind.MOTION), Status(GantryState.READY))


def test_a_stop_with_nothing_to_stop_is_answered() -> None:
    assert gantry().handle(Stop(), 0.0) == (Stopped(StopKind.ALL),)


# --- the link


def test_without_a_link_beam_and_motion_go_off_and_nothing_begins_until_it_is_cleared() -> None:
    made = gantry()
    made.handle(load(), 0.0)
    made.handle(Trigger("T1", "L1", 0), 0.0)
    made.tick(0.1)
    out = made.lose_link(0.5, "link lost")
    assert kinds(out) == ["Done", "Status"]
    assert made.state is GantryState.SAFE
    for message in (load(name="L2"), Trigger("T2", "L1", 0), Motion("M1", Axis.TABLE_Z, 1.0, 1.0)):
        assert kinds(made.handle(message, 1.0)) == ["Declined"]
    assert made.handle(Stop(), 1.0) == (Stopped(StopKind.ALL),)
    assert made.state is GantryState.SAFE
    assert made.lose_link(2.0, "again") == ()
    assert made.clear(3.0) == (Status(GantryState.READY, "cleared in the room"),)
    assert kinds(made.handle(Trigger("T3", "L1", 0), 3.0)) == ["Declined"], "what was armed is gone"


# --- bolus tracking


def test_monitoring_waits_for_the_contrast_and_the_next_scan_begins_by_itself() -> None:
    made = gantry(transit=4.0)
    made.handle(load(MONITORING, ARTERIAL), 0.0)
    made.room.injector_armed = True
    made.handle(Trigger("T1", "L1", 0), 0.0)
    out = run(made)
    assert kinds(tuple(out)).count("Started") == 2
    assert Injection("L1") in out
    monitoring, arterial = made.room.acquired
    assert monitoring.parameters["NumberOfRotations"] == 5.0  # one at once, then each second until it came
    assert arterial.in_contrast is True


def test_without_an_injection_the_automatic_scan_does_not_begin() -> None:
    made = gantry(transit=4.0)
    made.handle(load(MONITORING, ARTERIAL), 0.0)
    made.handle(Trigger("T1", "L1", 0), 0.0)
    out = run(made)
    assert [a.element for a in made.room.acquired] == [0]
    assert made.room.acquired[0].parameters["NumberOfRotations"] == 10.0
    assert any(isinstance(m, Declined) and "no contrast" in m.reason for m in out)


def test_a_scan_begun_too_early_meets_no_contrast() -> None:
    made = gantry(transit=20.0)
    made.handle(load(MONITORING, element(ContrastBolusAgent="IODINE")), 0.0)
    made.room.inject(0.0)
    made.handle(Trigger("T1", "L1", 1), 0.0)
    run(made)
    assert made.room.acquired[0].in_contrast is False


def test_a_cancelled_load_is_gone() -> None:
    made = gantry()
    made.handle(load(), 0.0)
    made.handle(Cancel("C1", "L2"), 0.0)
    assert made.load is not None
    made.handle(Cancel("C2", "L1"), 0.0)
    assert kinds(made.handle(Trigger("T1", "L1", 0), 0.0)) == ["Declined"]


# --- whatever comes

_numbers = st.floats(allow_nan=True, allow_infinity=True)
_messages: st.SearchStrategy[ToGantry] = st.one_of(
    st.builds(
        lambda n, ma, length: load(element(XRayTubeCurrentInmA=ma, ScanLength=length), name=n),
        st.sampled_from(["L1", "L2"]),
        _numbers | st.just(200.0),
        _numbers | st.just(300.0),
    ),
    st.just(load(MONITORING, ARTERIAL)),
    st.builds(
        Trigger, st.just("T"), st.sampled_from(["L1", "L2", "?"]), st.integers(-2, 3),
        st.dictionaries(st.sampled_from(["KVP", "ScanLength", "XRayTubeCurrentInmA"]), _numbers, max_size=1),
    ),
    st.builds(Motion, st.just("M"), st.sampled_from(Axis), _numbers, _numbers),
    st.builds(Stop, st.sampled_from(StopKind)),
    st.just(Cancel("C", "L1")),
    st.just(Heartbeat()),
)  # fmt: skip


@given(st.lists(st.tuples(_messages, st.floats(0, 30)), max_size=12), st.integers(0, 12))
def test_interlocks_hold_whatever_comes(steps: list[tuple[ToGantry, float]], lost_at: int) -> None:
    made, now = gantry(), 0.0
    for number, (message, after) in enumerate(steps):
        now += after
        if number == lost_at:
            made.lose_link(now, "lost")
        made.handle(message, now)
        if made.state is GantryState.BEAM:
            assert made.wake is not None
            assert number < lost_at
        if isinstance(message, Stop):
            assert made.state is not GantryState.BEAM or message.what is StopKind.MOTION
        if number >= lost_at:
            assert made.state is GantryState.SAFE
    begins = [a.begun for a in made.room.acquired]
    assert begins == sorted(begins)
    assert made.heat <= capacity(MODEL) * 1.0001

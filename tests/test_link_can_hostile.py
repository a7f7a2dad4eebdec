"""A hostile host on the CANopen wire: whatever it sends, nothing raises, and only what is named reaches the gantry.

What may arrive is written down here a second time, from the text of the example profile, not from the tables that are
under test.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from _can import EXAMPLES, PATIENT, STUDY, Bench, load_of, scan, write_frame
from scanward.codecs.canopen_chain import assemble, writes
from scanward.commands.wire import Cancel, Load, Loaded, Motion, Refused, Stop, Trigger
from scanward.errors import LinkError
from scanward.transport.can_frames import CanFrame, frame_of

pytest.importorskip("canopen", reason="the extra 'can' is not installed")

TOML = (EXAMPLES / "emulated-ct.toml").read_text("utf-8")
EXACT = {frame_of(text) for text in re.findall(r'^frame = "([^"]+)"', TOML, re.MULTILINE)}
EXACT |= {frame_of(text) for text in ("080#", "701#R", "701#R1", "77F#00", "77F#04", "77F#05", "77F#7F")}
# Objects that change nothing before a trigger: fields, count, flags, identifiers, prepare, the two speeds.
INERT = re.compile(r"20[0-4][0-9A-F]:0[1-8]|2F00:02|2F10:0[45]")
ABORTS = 0x80


def complaint(frame: CanFrame, released: bool) -> str:
    """Why a frame has no business at the gantry; empty when it has."""
    if frame in EXACT:
        return ""
    if not frame.plain:
        return "not plain"
    if frame.id == 0x401 and len(frame.data) == 4:
        return ""
    if released and frame.id in (0x201, 0x301) and frame.data[:1] == b"\x01":
        return ""
    if frame.id != 0x601 or len(frame.data) != 8:
        return "no named frame"
    command = frame.data[0]
    if command in (0x40, 0xA4, 0x60, 0x70, 0xA3, 0xA2, 0xA1, ABORTS):
        return ""  # reads, and ends of transfers
    if command >> 5 in (0, 6) and command not in (0xC6,):
        return ""  # a segment: its beginning was looked at
    index, sub = struct.unpack_from("<HB", frame.data, 1)
    place = f"{index:04X}:{sub:02X}"
    if INERT.fullmatch(place) or (released and place in ("2F00:01", "2F10:01", "2F10:02", "2F10:03")):
        return ""
    return f"a write to {place}"


IDS = st.sampled_from(
    [0x000, 0x080, 0x081, 0x100, 0x181, 0x201, 0x301, 0x401, 0x581, 0x601, 0x602, 0x701, 0x77F, 0x7E5]
)
PLACES = st.sampled_from(
    [
        *((0x2011, 1), (0x2012, 2), (0x2000, 1), (0x2040, 1), (0x2F00, 1), (0x2F00, 2), (0x2F02, 0)),
        *((0x2F10, 1), (0x2F10, 4), (0x1400, 1), (0x1F50, 1), (0x1010, 1), (0x1018, 1)),
    ]
)
SDO = st.builds(
    lambda command, place, rest: CanFrame(0x601, struct.pack("<BHB", command, *place) + rest),
    st.one_of(
        st.integers(0, 255),
        st.sampled_from([0x2F, 0x2B, 0x23, 0x21, 0x40, 0xC6, 0xC2, 0xA4, 0x80, 0x00, 0x01]),
    ),
    PLACES,
    st.one_of(st.binary(min_size=4, max_size=4), st.integers(0, 20).map(lambda n: struct.pack("<L", n))),
)
FRAMES = st.one_of(
    SDO,
    st.builds(CanFrame, IDS, st.binary(max_size=8)),
    st.builds(CanFrame, st.integers(0, 0x7FF), st.binary(max_size=8)),
    st.builds(lambda i, n: CanFrame(i, b"", True, dlc=n), IDS, st.integers(0, 8)),
    st.builds(
        lambda i, d: CanFrame(i, d, extended=True), st.integers(0, (1 << 29) - 1), st.binary(max_size=8)
    ),
    st.sampled_from(
        [frame_of(t) for t in ("201#0101", "201#0200", "301#0164000000F401", "401#D007D007", "080#")]
    ),
)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(FRAMES, st.sampled_from([0.0, 0.001, 0.06, 0.3, 2.0])), max_size=60), st.booleans())
def test_any_frames_at_any_time(sent: list[tuple[CanFrame, float]], written: bool) -> None:
    bench = Bench()
    bench.gate = None
    if written:
        for address, data in writes(bench.profile, load_of(scan()), (STUDY, PATIENT)).items():
            if len(data) <= 4:
                bench.send(write_frame(address, data))
    before = len(bench.at_gantry)
    memory = len(bench.node.writes)
    for frame, pause in sent:
        bench.now += pause
        bench.send(frame)
        bench.deliver(bench.session.tick(bench.now))
    found = [(str(f), why) for f in bench.at_gantry[before:] if (why := complaint(f, False))]
    assert found == []
    places = {f"{index:04X}:{sub:02X}" for (index, sub), _ in bench.node.writes[memory:]}
    stopped = any(isinstance(a[-1], Stop) for _, a in bench.said)
    assert {p for p in places if not INERT.fullmatch(p) and not (p == "2F02:00" and stopped)} == set()


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 0x7FF), st.binary(max_size=8)), max_size=40))
def test_any_frames_of_the_gantry(sent: list[tuple[int, bytes]]) -> None:
    """A gantry that sends nonsense is relayed and never breaks the guard."""
    bench = Bench()
    before = len(bench.at_host)
    for number, data in sent:
        bench.now += 0.01
        bench.gantry_sends(CanFrame(number, data))
        bench.deliver(bench.session.tick(bench.now))
    relayed = [f for f in bench.at_host[before:] if f.id != 0x581]
    assert relayed == [CanFrame(n, d) for n, d in sent if n != 0x581]


def test_the_reference_bites() -> None:
    for text in (
        "000#8101",
        "201#0101",
        "301#01",
        "601#2F002F0101000000",
        "601#2310100173617665",
        "7E5#04",
        "201#R",
    ):
        assert complaint(frame_of(text), False), text


class Wire(RuleBasedStateMachine):
    """Host, gate and gantry act in any order. Whenever the gantry is told to begin, its memory must be exactly what was
    released, and each release is used once."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.bench.gate = None
        self.loads: dict[str, Load] = {}
        self.read_back: set[str] = set()
        self.released: set[str] = set()  # triggers and motions handed to the link
        self.begun: list[str] = []
        self.looked = len(self.bench.at_gantry)

    @initialize()
    def chain(self) -> None:
        for address, data in writes(self.bench.profile, load_of(scan(), scan(KVP=100.0))).items():
            if len(data) <= 4:
                self.bench.send(write_frame(address, data))
        self.look()

    def look(self) -> None:
        bench = self.bench
        for method, arguments in bench.said:
            if method in ("host_said", "gantry_said"):
                match arguments[-1]:
                    case Load() as load:
                        self.loads[load.id] = load
                    case Loaded(name, _):
                        self.read_back.add(name)
        for frame in bench.at_gantry[self.looked :]:
            assert complaint(frame, True) == "", frame
            by_data = frame.id == 0x201 and frame.data[:1] == b"\x01"
            by_sdo = frame.id == 0x601 and frame.data[:4] == b"\x2f\x00\x2f\x01"
            if by_data or by_sdo:
                self.begin()
        self.looked = len(bench.at_gantry)

    def begin(self) -> None:
        """The gantry is told to begin."""
        session = self.bench.session._loads
        name = session.beam_load
        load = self.loads[name]
        assert name in self.read_back
        self.begun.append(name)
        node, profile = self.bench.node, self.bench.profile
        chain = profile.chain
        held = {a: node.holds(a) for a in (chain.count, *chain.addresses(len(load.chain))) if a is not None}
        assert assemble(profile, held, name, self.bench.session.device, lambda text: text).chain == load.chain
        assert len(self.begun) <= len([t for t in self.released if t.startswith("can-t")])

    # --- the host

    @rule(
        place=st.sampled_from([(0x2011, 1), (0x2011, 2), (0x2012, 1)]),
        value=st.sampled_from([800, 1000, 1200]),
    )
    def write(self, place: tuple[int, int], value: int) -> None:
        self.bench.send(write_frame(place, struct.pack("<H", value)))
        self.look()

    @rule(data=st.sampled_from(["401#D007D007", "401#E803D007", "401#D007E803"]))
    def write_by_data(self, data: str) -> None:
        self.bench.send(data)
        self.look()

    @rule(element=st.integers(0, 3))
    def trigger(self, element: int) -> None:
        self.bench.send(write_frame((0x2F00, 1), bytes((element,))))
        self.look()

    @rule(element=st.integers(0, 3))
    def trigger_by_data(self, element: int) -> None:
        self.bench.send(CanFrame(0x201, bytes((1, element))))
        self.look()

    @rule(stop=st.sampled_from(["201#0200", "601#2F022F0001000000", "000#0201"]))
    def stop(self, stop: str) -> None:
        self.bench.send(stop)
        self.bench.send("000#0101")
        self.look()

    @rule(step=st.integers(0, 5))
    def segments(self, step: int) -> None:
        """Parts of a segmented write of the triggers and of a text, in any order."""
        parts = [
            "601#21002F0101000000",
            "601#0D01000000000000",
            "601#2140200103000000",
            "601#0961626300000000",
        ]
        parts += ["601#8000000000000000", "601#C6002F0101000000"]
        self.bench.send(parts[step])
        self.look()

    # --- the gate

    @rule(change=st.sampled_from(["", "", "", "load", "armed", "asked"]), element=st.integers(0, 1))
    def nearly_as_usual(self, change: str, element: int) -> None:
        """What an honest host and a gate do, with one write slipped in."""

        def slip(when: str) -> None:
            if change == when:
                self.write((0x2012, 1), 500)

        self.bench.pass_time(0.5, step=0.25)
        self.trigger(element)
        slip("load")
        if asked := self.bench.messages(Load):
            self.forward(asked[-1])
        slip("armed")
        self.trigger(element)
        slip("asked")
        if triggers := self.bench.messages(Trigger):
            self.released.add(triggers[-1].id)
            self.forward(triggers[-1])

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def gate_releases_a_load(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.loads)))
        self.forward(self.loads[name])

    @rule(data=st.data())
    def gate_releases_a_trigger(self, data: Any) -> None:
        """Any trigger it was ever asked for, in any order, more than once: the link must see to it."""
        asked = self.bench.messages(Trigger)
        if asked:
            trigger = data.draw(st.sampled_from(asked))
            self.released.add(trigger.id)
            self.forward(trigger)

    @rule(data=st.data(), again=st.booleans())
    def gate_refuses(self, data: Any, again: bool) -> None:
        asked = [m.id for kind in (Load, Trigger, Motion) for m in self.bench.messages(kind)]
        if asked:
            name = data.draw(st.sampled_from(asked))
            try:
                self.bench.to_host(Refused(name, "no", again=again))
            except LinkError:
                assert not self.bench.session._host_up
            self.look()

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def gate_cancels(self, data: Any) -> None:
        self.forward(Cancel("g", data.draw(st.sampled_from(sorted(self.loads)))))

    def forward(self, message: Any) -> None:
        try:
            self.bench.to_gantry(message)
        except LinkError:
            assert not self.bench.session._wire.gantry_up
        self.look()

    # --- the world

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 5.0]))
    def time(self, seconds: float) -> None:
        self.bench.pass_time(seconds, step=0.25)
        self.look()

    @rule()
    def reboot(self) -> None:
        self.bench.node.boot(self.bench.now)
        self.bench.gantry.handle(Stop(), self.bench.now)
        self.bench.pass_time(2, step=0.25)
        self.chain()

    @invariant()
    def nothing_but_what_was_released_runs(self) -> None:
        released = {t.load for t in self.bench.messages(Trigger) if t.id in self.released}
        assert set(self.begun) <= released


Wire.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWire = Wire.TestCase

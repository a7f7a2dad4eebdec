"""The judge: the same opinions as the onion's, its own forecast, and a process that may die at any moment."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _guard_site import SIGMA
from _trained import Trained
from scanward import bundle as bundles
from scanward.bundle.judging import load
from scanward.codecs.stream import command_from_json, command_to_json
from scanward.commands import (
    BODY_PHANTOM,
    Command,
    Context,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Role,
    Severity,
    Told,
)
from scanward.config import JUDGE_BOUNDS
from scanward.errors import BundleError, DecodeError, RollbackError, ScanwardError, SignatureError
from scanward.guard.ipc import (
    Answer,
    ElementShape,
    Failed,
    Frames,
    JudgeSettings,
    Question,
    Ready,
    element_answer,
    framed,
    from_judge,
    layer_shape,
)
from scanward.guard.judge import open_judge
from scanward.guard.judge_client import JudgeClient
from scanward.guard.judge_forecast import forecast
from scanward.guard.judge_room import JudgeRoom
from scanward.keys import SigningKey, VerifyKey, write_pair
from scanward.layers.form import FormLayer
from scanward.layers.limits import LimitsLayer
from scanward.layers.onion import Onion
from scanward.links.identifiers import Identifiers

WAIT = 60.0  # s; against hanging alone, a judge loads its bundle in some seconds on a busy machine


@pytest.fixture(scope="module")
def onion(small_bundle: Trained) -> Onion:
    found = bundles.read(small_bundle.model, trusted=[VerifyKey.load(small_bundle.trust)])
    return load(found.part)


@pytest.fixture(scope="module")
def examinations(small_bundle: Trained) -> list[tuple[Command, ...]]:
    """Clean examinations of the guarded scanner, as a host would load them."""
    return [
        tuple(replace(c, acquired_at=None, event=None) for c in e.commands)
        for e in small_bundle.examinations()
        if e.commands[0].device.model == SIGMA.model
    ]


def settings(small_bundle: Trained, folder: Path, **changes: Any) -> JudgeSettings:
    serial = Identifiers().hash(SIGMA.serial)
    values = {
        "manufacturer": SIGMA.manufacturer,
        "model": SIGMA.model,
        "serial": serial,
        "software": SIGMA.software,
    }
    return JudgeSettings(
        **{
            "bundle": str(small_bundle.model),
            "keys": [str(small_bundle.trust)],
            "versions": str(folder / "versions.json"),
            **values,
            **changes,
        }
    )


def plain(commands: tuple[Command, ...]) -> list[dict[str, Any]]:
    return [command_to_json(command) for command in commands]


# --- opinions


def test_a_chain_is_judged_as_the_onion_judges_it(
    onion: Onion, examinations: list[tuple[Command, ...]]
) -> None:
    room = JudgeRoom(onion, "digest")
    for number, commands in enumerate(examinations[:4], 1):
        expected = onion.judge_all(commands)
        whole = room.answer(Question(number, chain=plain(commands)))
        assert whole.bundle == "digest"
        for shape, judgement in zip(whole.elements, expected, strict=True):
            answer = element_answer(shape)
            assert [(o.layer, o.outcome, o.severity) for o in answer.opinions] == [
                (o.layer, o.outcome, o.severity) for o in judgement.opinions
            ]
            assert answer.p_value == judgement.p_value
            assert answer.within_budget == (
                judgement.p_value is not None and judgement.p_value > onion.budget
            )


def test_history_counts_and_what_is_remembered_of_it_changes_nothing(
    onion: Onion, examinations: list[tuple[Command, ...]]
) -> None:
    commands = max(examinations, key=len)
    warm = JudgeRoom(onion, "")
    warm.answer(Question(1, chain=plain(commands)))
    for cut in range(1, len(commands)):
        question = Question(2, history=plain(commands[:cut]), chain=plain(commands[cut:]))
        small = JudgeRoom(onion, "", states=1)
        assert warm.answer(question) == JudgeRoom(onion, "").answer(question) == small.answer(question)
        # the same commands after another beginning: what is remembered of them does not count
        other = Question(2, history=plain(commands[1 : cut + 1]), chain=plain(commands[:1]))
        assert warm.answer(other) == JudgeRoom(onion, "").answer(other)
    alone = JudgeRoom(onion, "").answer(Question(3, chain=plain(commands[1:2])))
    after = JudgeRoom(onion, "").answer(Question(3, history=plain(commands[:1]), chain=plain(commands[1:2])))
    assert alone != after  # the history is not ignored


def test_what_the_guard_knows_itself_goes_before_the_hosts_word(
    onion: Onion, examinations: list[tuple[Command, ...]]
) -> None:
    (command, *_) = examinations[0]
    command = replace(command, context=Context({**command.context.parts, "PatientAge": (Told(45.0),)}))
    question = Question(1, chain=plain((command,)))
    assert JudgeRoom(onion, "").answer(question).elements[0].disputed == []
    known = {"PatientAge": [{"value": 4.0, "source": "worklist"}]}
    (element,) = JudgeRoom(onion, "").answer(Question(1, chain=plain((command,)), parts=known)).elements
    assert [o.field for o in element.disputed] == ["PatientAge"]
    assert element.disputed[0].found == 4.0


def test_what_is_malformed_is_halted_by_form_alone(
    onion: Onion, examinations: list[tuple[Command, ...]]
) -> None:
    wrong = replace(examinations[0][0], parameters={**examinations[0][0].parameters, "KVP": 900.0})
    (element,) = JudgeRoom(onion, "").answer(Question(1, chain=plain((wrong,)))).elements
    assert [layer.layer for layer in element.layers] == [LayerName.FORM]
    assert element.within_budget is None


def test_a_question_that_holds_no_command_is_our_error(onion: Onion) -> None:
    with pytest.raises(DecodeError):
        JudgeRoom(onion, "").answer(Question(1, chain=[{"parameters": {"KVP": "a\n"}, "role": "commanded"}]))
    with pytest.raises(DecodeError):
        JudgeRoom(onion, "").answer(Question(1, mode="PARTY", chain=[command_to_json(Command({}))]))


# --- forecast


def _spiral(examinations: list[tuple[Command, ...]]) -> Command:
    found = (
        c
        for e in examinations
        for c in e
        if (c.number("CTDIvol") or 0) > 5 and "SpiralPitchFactor" in c.parameters
    )
    return next(found)


def test_an_honest_dose_is_believed(onion: Onion, examinations: list[tuple[Command, ...]]) -> None:
    command = _spiral(examinations)
    told = forecast(onion, command)
    assert told is not None
    assert told.CTDIvol == command.number("CTDIvol")
    assert command.number("DLP") == told.DLP
    assert told.phantom_cm in (16, 32)
    assert told.z_low is not None
    assert told.z_high is not None
    assert told.z_high - told.z_low == pytest.approx(command.number("ScanLength"))


@pytest.mark.parametrize("factor", [0.0, 0.05, 0.5])
def test_a_dose_forged_low_is_replaced_by_physics(
    onion: Onion, examinations: list[tuple[Command, ...]], factor: float
) -> None:
    command = _spiral(examinations)
    honest = command.number("CTDIvol"), command.number("DLP")
    assert honest[0] is not None
    assert honest[1] is not None
    changes = {"CTDIvol": honest[0] * factor, "DLP": honest[1] * factor}
    told = forecast(onion, replace(command, parameters={**command.parameters, **changes}))
    assert told is not None
    assert told.CTDIvol >= 0.97 * honest[0]
    assert 0.9 * honest[1] <= told.DLP
    absent = {k: v for k, v in command.parameters.items() if k not in changes}
    told = forecast(onion, replace(command, parameters=absent))
    assert told is not None
    assert told.CTDIvol >= 0.97 * honest[0]


def test_the_notification_value_that_is_shown_is_the_one_that_is_compared_with(
    onion: Onion, examinations: list[tuple[Command, ...]]
) -> None:
    command = _spiral(examinations)
    told = forecast(onion, command)
    assert told is not None
    value = told.notify_CTDIvol
    assert value is not None
    limits = next(rule for rule in onion.rules if isinstance(rule, LimitsLayer))
    for factor, objects in ((0.99, False), (1.01, True)):
        changed = replace(command, parameters={**command.parameters, "CTDIvol": value * factor, "DLP": 1.0})
        said = limits.judge(limits.start(), changed)[0].objections
        assert any(o.field == "CTDIvol" and "notification" in o.reason for o in said) is objects
    absent = {k: v for k, v in command.parameters.items() if k != "CTDIwPhantomType"}
    told = forecast(onion, replace(command, parameters=absent))
    assert told is not None
    assert told.notify_CTDIvol is None  # of no phantom: compared with nothing


def test_a_dose_that_nothing_tells_counts_as_the_most_ever_recorded(onion: Onion) -> None:
    form = next(rule for rule in onion.rules if isinstance(rule, FormLayer))
    most = form.devices[SIGMA.key].pooled.fields["CTDIvol"].high
    told = forecast(onion, Command({"KVP": 120.0, "CTDIwPhantomType": BODY_PHANTOM}, device=SIGMA))
    assert told is not None
    assert (told.CTDIvol, told.phantom_cm, told.z_low) == (most, 32, None)


# --- the bundle


def test_a_bundle_of_this_device_is_taken_and_its_version_remembered(
    small_bundle: Trained, tmp_path: Path
) -> None:
    asked = settings(small_bundle, tmp_path)
    open_judge(asked, accept=False)
    assert not (tmp_path / "versions.json").exists()
    _, bundle = open_judge(asked)
    assert bundle.manifest.version == 1
    assert (tmp_path / "versions.json").exists()


def _other_key(small: Trained, folder: Path) -> dict[str, Any]:
    write_pair(folder / "other", SigningKey.from_seed(bytes([7]) * 32))
    return {"keys": [str(folder / "other.pub")]}


def _altered(small: Trained, folder: Path) -> dict[str, Any]:
    copy = folder / "model"
    copy.mkdir()
    for file in small.model.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(small.model)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    settings_file = copy / "settings.json"
    data = bytearray(settings_file.read_bytes())
    data[len(data) // 2] ^= 1
    settings_file.write_bytes(data)
    return {"bundle": str(copy)}


def _older(small: Trained, folder: Path) -> dict[str, Any]:
    asked = settings(small, folder)
    _, bundle = open_judge(asked, accept=False)
    newer = replace(bundle.manifest.facts, version=bundle.manifest.version + 1)
    bundles.write(folder / "newer", bundle.part, newer, SigningKey.load(small.key))
    open_judge(msgspec.structs.replace(asked, bundle=str(folder / "newer")))
    return {}


def _performed(small: Trained, folder: Path) -> dict[str, Any]:
    _, bundle = open_judge(settings(small, folder), accept=False)
    bundles.write(
        folder / "performed",
        bundle.part,
        replace(bundle.manifest.facts, role=Role.PERFORMED),
        SigningKey.load(small.key),
    )
    return {"bundle": str(folder / "performed"), "versions": str(folder / "others.json")}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_other_key, SignatureError),
        (_altered, SignatureError),
        (_older, RollbackError),
        (_performed, BundleError),
        (lambda small, folder: {"serial": "0" * 16}, BundleError),
        (lambda small, folder: {"model": "S-129"}, BundleError),
        (lambda small, folder: {"bundle": str(folder / "absent")}, BundleError),
        (lambda small, folder: {"keys": [str(folder / "absent.pub")]}, ScanwardError),
    ],
    ids=["other key", "altered", "older", "performed", "other serial", "other model", "absent", "no key"],
)
def test_any_other_bundle_is_refused(
    small_bundle: Trained,
    tmp_path: Path,
    change: Callable[[Trained, Path], dict[str, Any]],
    error: type[ScanwardError],
) -> None:
    changes = change(small_bundle, tmp_path)
    with pytest.raises(error) as caught:
        open_judge(settings(small_bundle, tmp_path, **changes))
    assert caught.value.todo


# --- frames


@given(st.lists(st.binary(max_size=200), max_size=6), st.data())
def test_frames_come_out_whole_however_they_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(len(p).to_bytes(4, "big") + p for p in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames = Frames()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += list(frames.feed(stream[start:end]))
    assert found == payloads


@given(st.binary(max_size=200))
def test_any_bytes_from_a_judge_are_an_answer_or_our_error(data: bytes) -> None:
    for payload in (data, b'{"say":"answer",' + data):
        try:
            from_judge(payload)
        except DecodeError:
            continue


def test_a_frame_too_long_is_our_error() -> None:
    with pytest.raises(DecodeError):
        list(Frames(10).feed(b"\x00\x00\x00\x0b"))


def test_numbers_that_json_cannot_hold_are_told_as_text() -> None:
    odd = Objection("KVP", "is odd", math.nan, severity=Severity.HALT, weight=math.inf)
    shape = layer_shape(Opinion(LayerName.FORM, Outcome.OBJECT, (odd,), p_value=math.nan))
    answer = from_judge(framed(Answer(1, [ElementShape([shape])]))[4:])
    assert isinstance(answer, Answer)
    (opinion,) = element_answer(answer.elements[0]).opinions
    assert opinion.objections[0].found == "nan"
    assert (opinion.severity, opinion.p_value) == (Severity.HALT, None)


# --- the process


class Ear:
    """Remembers what the client tells."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def judge_ready(self, ready: Ready) -> None:
        self.said.append(("ready", ready))

    def judge_gone(self, reason: str) -> None:
        self.said.append(("gone", reason))

    def judge_refused(self, failed: Failed) -> None:
        self.said.append(("refused", failed))

    def answered(self, answer: Answer) -> None:
        self.said.append(("answered", answer))

    def lost(self, request: int, reason: str) -> None:
        self.said.append(("lost", (request, reason)))

    def of(self, what: str) -> list[Any]:
        return [told for kind, told in self.said if kind == what]

    async def wait(self, what: str, count: int = 1) -> Any:
        async with asyncio.timeout(WAIT):
            while len(self.of(what)) < count:
                await asyncio.sleep(0.01)
        return self.of(what)[count - 1]


@asynccontextmanager
async def judged(
    asked: JudgeSettings, deadline_s: float = 20.0, **bounds: Any
) -> AsyncIterator[tuple[JudgeClient, Ear]]:
    ear = Ear()
    client = JudgeClient(asked, ear, deadline_s, replace(JUDGE_BOUNDS, **bounds))
    client.start()
    try:
        yield client, ear
    finally:
        pid = client.pid
        await client.close()
        assert pid == 0 or not Path(f"/proc/{pid}").exists()


def test_a_judge_answers_and_what_is_asked_before_it_is_ready_waits(
    small_bundle: Trained, tmp_path: Path, examinations: list[tuple[Command, ...]]
) -> None:
    async def scene() -> None:
        async with judged(settings(small_bundle, tmp_path)) as (client, ear):
            for number, commands in enumerate(examinations[:3], 1):
                client.ask(Question(number, chain=plain(commands)))
            assert (await ear.wait("ready")).budget == 0.01
            await ear.wait("answered", 3)
            assert [a.request for a in ear.of("answered")] == [1, 2, 3]
            assert [len(a.elements) for a in ear.of("answered")] == [len(e) for e in examinations[:3]]
            client.ask(Question(4, chain=[{"parameters": {}, "role": "wished"}]))  # judging raises
            assert (await ear.wait("lost"))[0] == 4
            client.ask(Question(5, chain=plain(examinations[0])))
            await ear.wait("answered", 4)  # and the same judge goes on
            assert ear.of("gone") == []

    asyncio.run(scene())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_judge_that_dies_or_hangs_in_the_middle_is_replaced(
    small_bundle: Trained, tmp_path: Path, examinations: list[tuple[Command, ...]], how: signal.Signals
) -> None:
    async def scene() -> None:
        # no ping in the meantime: the question itself has to find out
        async with judged(settings(small_bundle, tmp_path), 3.0, ping_s=600.0) as (client, ear):
            await ear.wait("ready")
            first = client.pid
            os.kill(first, signal.SIGSTOP)  # so that it cannot have answered before it dies
            client.ask(Question(1, chain=plain(examinations[0])))
            if how is signal.SIGKILL:
                os.kill(first, how)
            request, reason = await ear.wait("lost")
            assert request == 1
            assert reason
            await ear.wait("ready", 2)
            assert client.pid != first
            assert not Path(f"/proc/{first}").exists()
            client.ask(Question(2, chain=plain(examinations[0])))
            assert (await ear.wait("answered")).request == 2
            assert ear.of("lost") == [(1, reason)]

    asyncio.run(scene())


def test_a_judge_that_hangs_is_found_before_it_is_needed(small_bundle: Trained, tmp_path: Path) -> None:
    async def scene() -> None:
        async with judged(settings(small_bundle, tmp_path), 0.3, ping_s=0.1) as (client, ear):
            await ear.wait("ready")
            os.kill(client.pid, signal.SIGSTOP)
            assert "does not answer" in await ear.wait("gone")
            await ear.wait("ready", 2)

    asyncio.run(scene())


def test_a_refused_bundle_is_said_and_nothing_is_answered(small_bundle: Trained, tmp_path: Path) -> None:
    async def scene() -> None:
        asked = settings(small_bundle, tmp_path, serial="0" * 16)
        async with judged(asked, 1.0) as (client, ear):
            client.ask(Question(1, chain=[command_to_json(Command({"KVP": 120.0}))]))
            failed = await ear.wait("refused")
            assert "another device" in failed.what
            assert (await ear.wait("lost"))[0] == 1
            assert client.ready is None
            assert ear.of("answered") == []

    asyncio.run(scene())


def test_questions_that_wait_are_bounded(small_bundle: Trained, tmp_path: Path) -> None:
    async def scene() -> None:
        async with judged(settings(small_bundle, tmp_path), waiting=2) as (client, ear):
            for number in range(1, 5):
                client.ask(Question(number, chain=[command_to_json(Command({"KVP": 120.0}))]))
            await ear.wait("answered", 2)
            assert sorted(request for request, _ in ear.of("lost")) == [3, 4]

    asyncio.run(scene())


def test_a_command_is_the_same_on_both_sides(examinations: list[tuple[Command, ...]]) -> None:
    for commands in examinations[:5]:
        for command in commands:
            again = command_from_json(command_to_json(command))
            assert replace(again, origin=command.origin) == command

"""Protocols judged with a bundle: elements that say all that a command must go through every layer."""

from __future__ import annotations

import pytest

from _dicom import brisk, file_of
from _trained import Trained
from scanward.codecs.defined_protocol_build import constrain, element, protocol
from scanward.codecs.defined_protocol_fields import selector_of
from scanward.codecs.defined_protocol_model import Protocol
from scanward.commands import LEARNED_LAYERS, Command, Device, LayerName, Outcome, Role
from scanward.guard.protocol_child import decoded, judge_of
from scanward.guard.protocol_judge import ProtocolJudge
from scanward.guard.protocol_process import JudgeProcess, JudgeSettings
from scanward.keys import VerifyKey

AT = "20260601000000"
SIGMA = Device("Simulated Sigma", "S-128", "50f51b90a2b817b60041")  # as the simulated site's table has it


def as_protocol(command: Command, **changes: float) -> Protocol:
    """A protocol whose one element says exactly what a command says."""
    parameters = {**command.parameters, **changes}
    own = [
        # The simulated site writes focal spots as words, DICOM as millimetres.
        constrain(name, equal=value, private=("SITE", 0x00191001) if name == "FocalSpots" else None)
        for name, value in parameters.items()
        if name != "AcquisitionType" and selector_of(name) is not None
    ]
    name = command.text("ProtocolElementName") or "Element"
    made = element(1, *own, name=name, acquisition_type=command.text("AcquisitionType") or "")
    return protocol(command.text("ProtocolName") or "P", made)


@pytest.fixture(scope="module")
def judge(small_bundle: Trained) -> ProtocolJudge:
    trusted = (VerifyKey.load(small_bundle.trust).raw,)
    made = judge_of(JudgeSettings(SIGMA, (), small_bundle.model, trusted))
    assert made.onion is not None
    assert made.role is Role.COMMANDED
    return made


def commands_of(small_bundle: Trained) -> list[Command]:
    """The first command of each of its later examinations on the device."""
    firsts = [e.commands[0] for e in small_bundle.examinations()]
    return [c for c in firsts if c.device.key == SIGMA.key][:20]


def opinions_on(judge: ProtocolJudge, made: Protocol) -> dict[LayerName, list[str]]:
    """What each layer objects to (or that it abstains), through a file."""
    again, _ = decoded(file_of(made))
    assert isinstance(again, Protocol)
    found: dict[LayerName, list[str]] = {}
    for opinion in judge.protocol(again, (), AT):
        told = [f"{o.field}: {o.reason}" for o in opinion.objections if o.severity > 0]
        if opinion.outcome is Outcome.ABSTAIN:
            told.append(f"abstains: {opinion.reason}")
        found.setdefault(opinion.layer, []).extend(told)
    return found


def test_a_bundle_of_commanded_values_judges_what_the_elements_say(
    judge: ProtocolJudge, small_bundle: Trained
) -> None:
    commands = commands_of(small_bundle)
    assert len(commands) > 5
    usual = [opinions_on(judge, as_protocol(c)) for c in commands]
    # The limits and ranges learned of this device are asked, and clean commands pass them.
    assert sum(bool(told.get(LayerName.LIMITS)) for told in usual) <= 3
    for command in commands[:5]:
        much = opinions_on(judge, as_protocol(command, XRayTubeCurrentInmA=1900.0, CTDIvol=900.0))
        assert much[LayerName.LIMITS]
        assert any("XRayTubeCurrentInmA" in told for told in much[LayerName.FORM])


def test_what_a_protocol_leaves_open_is_no_objection_of_the_learned_layers(judge: ProtocolJudge) -> None:
    told = opinions_on(judge, protocol("P", element(1, constrain("KVP", one_of=(100, 120), default=120))))
    assert not any("missing" in each for several in told.values() for each in several)
    assert any("abstains" in each for name in LEARNED_LAYERS for each in told.get(name, ()))


def test_the_child_reads_the_bundle_and_judges_within_its_memory(small_bundle: Trained) -> None:
    trusted = (VerifyKey.load(small_bundle.trust).raw,)
    process = JudgeProcess(
        JudgeSettings(SIGMA, (), small_bundle.model, trusted), bounds=brisk(judge_seconds=30.0)
    )
    process.start()
    try:
        command = commands_of(small_bundle)[0]
        answer = process.ask({"at": AT}, file_of(as_protocol(command)))
        assert {o["layer"] for o in answer.opinions} >= {"form", "limits", "protocol_book"}
    finally:
        process.close()
    stranger = JudgeProcess(JudgeSettings(Device("OTHER", "X"), (), small_bundle.model, trusted))
    with pytest.raises(Exception, match="for another device"):
        stranger.start()
    stranger.close()

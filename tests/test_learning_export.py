"""The networks say in numpy what they say in PyTorch, or training ends; and what training must never load."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from scanward.calibration import Calibration
from scanward.commands import (
    Command,
    Examination,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Verdict,
)
from scanward.errors import LearningError
from scanward.layers.encoding import Encoder, learn_encoder
from scanward.layers.onion import Onion
from scanward.layers.procedure import ProcedureLayer
from scanward.learning import deep
from scanward.learning.deep import train_masked, train_procedure
from scanward.simulation import Site


@pytest.fixture(scope="module")
def site() -> list[Examination]:
    return Site(5).examinations(120)


@pytest.fixture(scope="module")
def commands(site: list[Examination]) -> tuple[Command, ...]:
    return tuple(c for e in site for c in e.commands)


@pytest.fixture(scope="module")
def encoder(commands: tuple[Command, ...]) -> Encoder:
    return learn_encoder(commands)


@pytest.fixture(scope="module")
def procedure(site: list[Examination], encoder: Encoder) -> ProcedureLayer:
    return train_procedure(encoder, site, epochs=8)


# --- what is exported is what was trained


def test_a_masked_network_that_disagrees_is_refused(
    commands: tuple[Command, ...], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encoder.rows(commands)
    train_masked(encoder, rows, steps=3)
    monkeypatch.setattr(deep, "_numpy", _slightly_wrong)
    with pytest.raises(LearningError, match="masked network: largest difference"):
        train_masked(encoder, rows, steps=3)


def test_a_recurrent_network_that_disagrees_is_refused(
    site: list[Examination], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_procedure(encoder, site[:20], epochs=1)
    monkeypatch.setattr(deep, "_numpy", _slightly_wrong)
    with pytest.raises(LearningError, match="recurrent network: largest difference"):
        train_procedure(encoder, site[:20], epochs=1)


def _slightly_wrong(tensor: Any) -> Any:
    return (tensor.detach().numpy() * 1.05 + 0.02).astype("float32")


def test_networks_that_say_nothing_finite_are_refused(
    commands: tuple[Command, ...], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "_numpy", lambda tensor: (tensor.detach().numpy() * math.nan).astype("float32"))
    with pytest.raises(LearningError, match="disagrees with its original"):
        train_masked(encoder, encoder.rows(commands), steps=3)


# --- a retake is never refused by the sequence alone


def test_the_procedure_layer_asks_at_most_for_an_alert(
    procedure: ProcedureLayer, site: list[Examination]
) -> None:
    objected = 0
    for examination in site[:40]:
        state = procedure.start()
        for command in (*examination.commands, *[examination.commands[-1]] * 6):
            opinion, state = procedure.judge(state, command)
            objected += opinion.outcome is Outcome.OBJECT
            assert opinion.severity <= Severity.ALERT
    assert objected > 0


@dataclass
class _Fixed:
    """A learned layer of one opinion."""

    name: LayerName
    severity: Severity | None = None

    def start(self) -> None:
        return None

    def judge(self, state: None, command: Command) -> tuple[Opinion, None]:
        if self.severity is None:
            return Opinion(self.name, Outcome.PASS, score=0.0), None
        objection = Objection("ProtocolElementName", "does not follow here", severity=self.severity)
        return Opinion(self.name, Outcome.OBJECT, (objection,), score=50.0), None


class _Heard(Onion):
    """An onion whose learned layers say what they are told to, without trees."""

    def _learned(
        self, state: Any, command: Command, content: Opinion | None = None
    ) -> tuple[list[Opinion], list[Any]]:
        layers: tuple[Any, ...] = (self.context_free, self.context_sensitive, self.procedure)
        return [layer.judge(None, command)[0] for layer in layers], [None, None, None]


@pytest.mark.parametrize("severity", [Severity.ALERT, Severity.HALT])
@pytest.mark.parametrize("score", [-1.0, 1e6, math.inf, math.nan])
def test_learned_layers_never_halt_whatever_they_say(
    commands: tuple[Command, ...], severity: Severity, score: float
) -> None:
    calibration = Calibration.of([0.0] * 999)
    made: Any = _Heard
    onion = made(
        encoder=None,
        rules=(),
        context_free=_Fixed(LayerName.CONTEXT_FREE),
        context_sensitive=_Fixed(LayerName.CONTEXT_SENSITIVE),
        procedure=_Fixed(LayerName.PROCEDURE, severity),
        combiner=SimpleNamespace(score=lambda features: score),
        budget=0.005,
        calibrations={"examination": calibration, "command": calibration},
        references={},
    )
    for command in (commands[0], replace(commands[0], examination=None)):
        judgement, _ = onion.judge(onion.start(), command)
        assert judgement.verdict is (Verdict.RELEASE if score < 0 else Verdict.ALERT)


# --- the learner and the simulator are strangers


def test_training_never_loads_the_simulator() -> None:
    said = (
        "import sys, scanward.cli.train, scanward.learning.fit, scanward.learning.bundling\n"
        "print(sorted(m for m in sys.modules if m.startswith('scanward.simulation')))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

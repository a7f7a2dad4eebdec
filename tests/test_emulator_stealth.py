"""Who asks a copy of the judge first: what is found is really released, and really more."""

from __future__ import annotations

import numpy as np
import pytest

from _trained import SEED, TRAINED, Trained
from scanward import bundle
from scanward.commands import Source, Verdict
from scanward.emulator.attack import Scene, Supply
from scanward.emulator.stealth import Searcher, as_sent, random_scene, stealth_attack
from scanward.keys import VerifyKey
from scanward.layers.onion import Onion
from scanward.simulation import Donors, Site
from scanward.simulation.scanner import refusal

SITE = Site(SEED)


@pytest.fixture(scope="module")
def onion(small_bundle: Trained) -> Onion:
    read = bundle.read(small_bundle.model, trusted=[VerifyKey.load(small_bundle.trust)])
    return Onion.from_part(read.part)


@pytest.fixture(scope="module")
def supply() -> Supply:
    return Supply.of(SITE.devices[1], SITE.examinations(200, TRAINED), Donors(SITE.examinations(TRAINED)))


def test_what_is_found_is_released_and_is_more(onion: Onion, supply: Supply) -> None:
    rng = np.random.default_rng(5)
    searcher = Searcher(onion, supply.model, supply.donors, rng)
    factors = []
    for _ in range(4):
        scene = random_scene(supply, rng)
        assert scene is not None
        hidden = searcher.search(scene)
        factors.append(hidden.factor)
        if not hidden.way:
            assert hidden.examination == scene.clean
            continue
        assert hidden.asked > len(scene.clean.commands)
        state = onion.start()
        for order, command in enumerate(hidden.examination.commands):
            assert refusal(supply.model, command.parameters) == ""
            judgement, state = onion.judge(state, as_sent(command, order))
            assert judgement.verdict is Verdict.RELEASE or order < scene.index
        given = searcher.peak(scene, hidden.examination)
        assert given / searcher.peak(scene, scene.clean) == pytest.approx(hidden.factor)
    assert max(factors) > 1.05, "a judge so small lets something through"
    assert min(factors) >= 1.0


def test_a_judge_that_releases_nothing_leaves_nothing_to_find(onion: Onion, supply: Supply) -> None:
    class Never:
        """Objects to everything."""

        start = onion.start

        @staticmethod
        def judge(state: object, command: object) -> tuple[object, object]:
            after = onion.judge(state, command)[1]  # type: ignore[arg-type]
            return type("J", (), {"verdict": Verdict.ALERT})(), after

    scene = random_scene(supply, np.random.default_rng(1))
    assert scene is not None
    hidden = Searcher(Never(), supply.model, supply.donors, np.random.default_rng(1)).search(scene)  # type: ignore[arg-type]
    assert (hidden.factor, hidden.way, hidden.examination) == (1.0, "", scene.clean)


def test_commands_are_asked_about_as_they_come_out_of_the_link(supply: Supply) -> None:
    command = supply.examinations[0].commands[-1]
    sent = as_sent(command, 3)
    assert sent.parameters == command.parameters
    assert (sent.acquired_at, sent.event, sent.order) == (None, None, 3.0)
    assert {t.source for told in sent.context.parts.values() for t in told} == {Source.HOST}
    assert all(sent.context.get(n) == command.context.get(n) for n in command.context.parts)


def test_as_an_attack_it_brings_its_own_victim(onion: Onion, supply: Supply) -> None:
    scene = stealth_attack(onion).find(supply, np.random.default_rng(2))
    assert isinstance(scene, Scene)
    assert len(scene.attacked.commands) >= len(scene.clean.commands)

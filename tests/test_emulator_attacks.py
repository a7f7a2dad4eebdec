"""Attacks on an emulated scanner: each has its effect where nobody stops it, and none acts on anything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scanward.commands import Device
from scanward.emulator.attack import Bench, Scene, Supply
from scanward.emulator.attacks import ATTACKS, BY_DESIGN
from scanward.emulator.campaign import Fought, Pair, fight, strike
from scanward.emulator.gantry import Gantry
from scanward.emulator.host import chains_of
from scanward.emulator.play import RoomDoor
from scanward.emulator.server import GantryServer
from scanward.errors import SettingsError
from scanward.simulation import MODELS, Donors, Site
from scanward.simulation.scanner import on_table
from scanward.simulation.wire_attacks import WIRE, true_dose, victims

SITE = Site(6)
DEVICE, MODEL = SITE.devices[1], MODELS[1]
ROBUST = {"half_open", "flood"}  # the emulated gantry bears these by itself
PUBLISHED = {
    "arXiv 1801.05583": {
        "scan_parameters",
        "mechanical_pitch",
        "mechanical_table",
        "signal_disruption",
        "denial_of_service",
    },
    "206 patients": {"perfusion_x8"},
    "erroneous perfusion": {"perfusion_120kv", "aec_wrong_reference"},
    "adult settings": {"adult_on_child"},
}


DONORS = Donors(SITE.examinations(600))
LATER = SITE.examinations(1000, 600)


@pytest.fixture(scope="module")
def supply() -> Supply:
    return Supply.of(DEVICE, LATER, DONORS)


def together(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    server = GantryServer(Gantry(MODEL, DEVICE), factor=400.0)
    await server.start()
    room = await RoomDoor.open("127.0.0.1", server.room_port or 0)
    try:
        yield Bench(("127.0.0.1", server.port), room, DEVICE)
    finally:
        await room.close()
        await server.close()


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_each_attack_has_its_effect_where_nobody_stops_it(name: str, supply: Supply) -> None:
    async def work() -> None:
        async with bench() as alone:
            fought = await fight(ATTACKS[name], alone, None, supply, seed=3, times=1)
            assert len(fought.pairs) == 1, "no victim"
            assert fought.pairs[0].without.effect is (name not in ROBUST), fought.pairs[0].without
            told = fought.as_json()
            assert told["tried"] == 1
            assert told["stopped"] == 0
            assert told["by_design"] is (name in BY_DESIGN)

    together(work())


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_clean_examination_has_none_of_these_effects(name: str, supply: Supply) -> None:
    """The rule that scores an attack does not see one where there is none."""
    attack = ATTACKS[name]

    async def work() -> None:
        async with bench() as alone:
            scene = attack.find(supply, np.random.default_rng(1))
            assert scene is not None
            index = scene.index if scene.index < len(scene.clean.commands) else None
            honest = Scene.of(scene.clean, MODEL, index=index)
            felt = await ATTACKS["scan_parameters"].script(alone, honest, np.random.default_rng(1), supply)
            felt.facts.update({"lost": False, "stop_s": 0.0})
            assert not attack.effect(honest, felt)

    together(work())


def test_every_published_vector_and_accident_has_an_entry() -> None:
    for source, names in PUBLISHED.items():
        assert {n for n, a in ATTACKS.items() if source in a.source} == names, source
    vectors = {a.family for a in ATTACKS.values() if "1801.05583" in a.source}
    assert vectors == {"vector 1", "vector 2", "vector 3", "vector 4"}


def test_the_same_seed_attacks_the_same_victim_in_the_same_way(supply: Supply) -> None:
    for attack in ATTACKS.values():
        one, two = (attack.find(supply, np.random.default_rng(9)) for _ in range(2))
        assert one == two, attack.name


# --- what is changed is felt


@pytest.mark.parametrize("name", sorted(WIRE))
@pytest.mark.parametrize("device", [0, 1, 2])
def test_changes_of_content_are_felt_on_every_model(name: str, device: int) -> None:
    wire, model = WIRE[name], MODELS[device]
    own = [e for e in LATER if e.commands[0].device == SITE.devices[device]]
    made = victims(wire, own, np.random.default_rng(0), DONORS, model, 3)
    assert made, "no victim"
    for clean, attacked, index in made:
        who = on_table(clean, model)
        ratio = true_dose(attacked, index, model, who) / true_dose(clean, index, model, who)
        if wire.harm == "more":
            assert ratio >= 1.25
        elif wire.harm == "less":
            assert ratio <= 0.6
        else:
            assert attacked != clean
        assert len(attacked.commands) == len(clean.commands)


def test_dose_attacks_reach_their_factor_through_the_aec() -> None:
    """The current alone would do nothing: AEC would not follow it."""
    own = [e for e in LATER if e.commands[0].device == DEVICE]
    found = victims(WIRE["scan_parameters"], own, np.random.default_rng(0), DONORS, MODEL, 20)
    assert len(found) == 20
    for clean, attacked, index in found:
        who = on_table(clean, MODEL)
        assert 2.4 < true_dose(attacked, index, MODEL, who) / true_dose(clean, index, MODEL, who) < 3.6
        current_alone = replace(
            clean.commands[index],
            parameters={
                **clean.commands[index].parameters,
                "XRayTubeCurrentInmA": attacked.commands[index].number("XRayTubeCurrentInmA"),
            },
        )
        commands = list(clean.commands)
        commands[index] = current_alone
        alone = replace(clean, commands=tuple(commands))
        assert true_dose(alone, index, MODEL, who) == true_dose(clean, index, MODEL, who)


# --- on nothing else


def test_a_bench_refuses_other_machines() -> None:
    async def work() -> None:
        async with bench() as alone:
            elsewhere = replace(alone, address=("192.0.2.1", 4711))
            with pytest.raises(SettingsError, match="this machine alone"):
                async with elsewhere.host():
                    pass

    together(work())


def test_a_bench_refuses_a_device_that_is_not_the_room_s(supply: Supply) -> None:
    async def work() -> None:
        async with bench() as alone:
            for device in (SITE.devices[0], Device("Real Maker", "CT 1")):
                with pytest.raises(SettingsError, match="the room behind it"):
                    await strike(
                        ATTACKS["perfusion_x8"], replace(alone, device=device), supply, seed=0, number=0
                    )

    together(work())


def test_a_bench_refuses_a_gantry_that_does_not_say_simulated() -> None:
    async def work() -> None:
        real = Device("Real Maker", "CT 1")
        server = GantryServer(Gantry(MODEL, real))
        await server.start()
        room = await RoomDoor.open("127.0.0.1", server.room_port or 0)
        try:
            with pytest.raises(SettingsError, match="the room behind it"):
                async with Bench(("127.0.0.1", server.port), room, real).host():
                    pass
        finally:
            await room.close()
            await server.close()

    together(work())


def test_there_are_no_victims_among_real_devices() -> None:
    with pytest.raises(SettingsError, match="no simulated device"):
        Supply.of(Device("Real Maker", "CT 1"), (), Donors(()))


# --- the score


def test_stopped_needs_an_effect_without_and_none_with_the_guard() -> None:
    from scanward.emulator.attack import Outcome

    def outcome(effect: bool) -> Outcome:
        return Outcome("x", effect, 1.0, 1.0, 0.1)

    attack = ATTACKS["perfusion_x8"]
    pairs = [
        Pair(outcome(True), outcome(False), "limits"),
        Pair(outcome(True), outcome(True), ""),
        Pair(outcome(False), outcome(False), "form"),
    ]
    fought = Fought(attack, pairs)
    assert (len(fought.effective), fought.stopped, fought.layer) == (2, 1, "limits")


def test_chains_are_as_long_when_content_is_attacked(supply: Supply) -> None:
    """Scripts that exchange one chain for another need both to be sent in the same loads."""
    for name in ("change_after_load", "duplicate_keys", "alert_fatigue"):
        scene = ATTACKS[name].find(supply, np.random.default_rng(2))
        assert scene is not None
        assert [len(c) for c in chains_of(scene.clean)] == [len(c) for c in chains_of(scene.attacked)]

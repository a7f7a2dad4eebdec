"""Worlds of the benchmark: one simulated site at four levels, and recordings divided honestly."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scanward.commands import Command, Examination, Role, Source, Told
from scanward.errors import InputError, SettingsError
from scanward.learning.benchmark import worlds as words
from scanward.learning.benchmark.recorded import (
    INJECTED,
    Division,
    by_protocol,
    by_time,
    drift,
    is_protocol_table,
    recorded_worlds,
    worlds_of,
)
from scanward.learning.benchmark.simulated import Sizes, donors_of, patients, simulated_world
from scanward.learning.benchmark.worlds import Level, World, commands_of
from scanward.learning.fit import CALIBRATE
from scanward.recordings import Recording, load_dialect
from scanward.recordings.writing import write_table
from scanward.simulation import ATTACKS, MODELS, PROTOCOLS, Donors, Site
from scanward.simulation.levels import (
    HELD_OUT_PROTOCOLS,
    ITERATIVE_DOSE_FACTOR,
    ITERATIVE_KERNELS,
    UPDATED_SOFTWARE,
    learned_site,
    new_model_site,
    new_protocols_site,
    updated_site,
)
from scanward.simulation.new_models import NEW_MODELS
from scanward.simulation.oracle import Oracle
from scanward.simulation.physics import consequences

SEED = 11
SIZES = Sizes(learn=600, recurring=300, others=300)
LATER = [Level.NEW_PROTOCOLS, Level.NEW_MODEL, Level.SOFTWARE_UPDATE, Level.OTHER_SITE]


@pytest.fixture(scope="module")
def world() -> World:
    return simulated_world(SEED, 0.12, SIZES)


def part(world: World, level: Level) -> words.TestSet:
    return next(t for t in world.tests if t.level is level)


def names(examinations: tuple[Examination, ...]) -> set[str]:
    return {c.text("ProtocolName") or "" for c in commands_of(examinations)}


# --- one site, seen four times


def test_every_level_is_the_same_site() -> None:
    """Serial numbers, names of protocols and habits of dose are those of the whole site of this seed."""
    whole, learned = Site(SEED), learned_site(SEED)
    assert learned.devices == whole.devices
    assert learned.elements == {
        key: tuple(
            type(e)(**{**e.__dict__, "protocol": own.protocol}) for e, own in zip(es, mine, strict=True)
        )
        for (key, es), mine in zip(whole.elements.items(), learned.elements.values(), strict=True)
    }
    protocols, model, update = new_protocols_site(SEED), new_model_site(SEED), updated_site(SEED)
    assert protocols.devices == learned.devices
    assert model.devices[:3] == learned.devices
    assert [d.serial for d in update.devices] == [d.serial for d in learned.devices]
    for key, elements in learned.elements.items():
        for other in (protocols, model, update):
            assert [e.protocol_name for e in other.elements[key]] == [e.protocol_name for e in elements]
        for other in (protocols, model):
            assert [e.reference_ma for e in other.elements[key]] == [e.reference_ma for e in elements]


def test_shares_of_scanners() -> None:
    assert Site(3, shares=(0.45, 0.33, 0.22)).examinations(30) == Site(3).examinations(30)
    alone = Site(3, shares=(0.0, 1.0, 0.0))
    assert {c.device for e in alone.examinations(60) for c in e.commands} == {alone.devices[1]}


def test_new_protocols_are_new_and_nothing_else_is(world: World) -> None:
    new = part(world, Level.NEW_PROTOCOLS)
    assert not names(world.recorded) & names(new.clean)
    assert {c.device for c in commands_of(new.clean)} == {c.device for c in commands_of(world.recorded)}
    assert {p.name for p in PROTOCOLS} >= HELD_OUT_PROTOCOLS
    held = [p for p in PROTOCOLS if p.name in HELD_OUT_PROTOCOLS]
    ages = {p.ages for p in held}
    assert (0.0, 0.0) in ages  # adults
    assert (0.0, 200.0) in ages  # both
    assert any(0 < high <= 18 for _, high in ages)  # children
    weight = sum(p.weight for p in held) / sum(p.weight for p in PROTOCOLS)
    assert 0.05 < weight < 0.2  # the site learned from keeps most of its work


def test_learned_examinations_never_use_a_protocol_held_out() -> None:
    site = learned_site(4, vendors=1)
    of = {es[0].protocol_name: es[0].protocol.name for es in site.elements.values()}
    seen = {of[n] for n in names(tuple(site.examinations(2000)))}
    assert not seen & HELD_OUT_PROTOCOLS
    assert len(seen) > 25


def test_the_new_model_stands_alone_and_is_of_a_known_maker(world: World) -> None:
    new = part(world, Level.NEW_MODEL)
    (device,) = {c.device for c in commands_of(new.clean + new.first)}
    known = {c.device for c in commands_of(world.recorded)}
    assert device.serial not in {d.serial for d in known}
    assert device.model not in {d.model for d in known}
    assert device.manufacturer in {d.manufacturer for d in known}
    same_maker = {
        c.text("ProtocolName")
        for c in commands_of(world.recorded)
        if c.device.manufacturer == device.manufacturer
    }
    assert names(new.clean) & same_maker  # the same protocol book
    (model,) = [m for m in NEW_MODELS if m.name == device.model]
    for command in commands_of(new.clean)[:200]:
        fresh = consequences(model, command.parameters)
        assert {n: command.parameters[n] for n in fresh} == fresh


def test_makers_of_the_new_model_take_turns() -> None:
    three = [new_model_site(seed).devices[-1].manufacturer for seed in (11, 12, 13)]
    assert len(set(three)) == 3
    assert new_model_site(12, vendors=1).devices[-1].manufacturer == MODELS[0].manufacturer
    assert [(new.manufacturer, new.style, new.kernels) for new in NEW_MODELS] == [
        (old.manufacturer, old.style, old.kernels) for old in MODELS
    ]
    assert len({m.name for m in (*MODELS, *NEW_MODELS)}) == 6


def test_the_update_changes_what_it_says_and_nothing_else(world: World) -> None:
    new = part(world, Level.SOFTWARE_UPDATE)
    assert {c.device.software for c in commands_of(new.clean)} == {UPDATED_SOFTWARE}
    assert {c.device.serial for c in commands_of(new.clean)} == {
        c.device.serial for c in commands_of(world.recorded)
    }
    before, after = learned_site(SEED), updated_site(SEED)
    for key, elements in before.elements.items():
        for old, now in zip(elements, after.elements[key], strict=True):
            iterative = old.spec.aec and old.spec.kernel in ITERATIVE_KERNELS
            assert now.spec.dose == pytest.approx(old.spec.dose * (ITERATIVE_DOSE_FACTOR if iterative else 1))
            assert (now.kernel != old.kernel) == (old.spec.kernel in ITERATIVE_KERNELS)
            assert (now.kvp, now.total, now.phantom, now.filter_type) == (
                old.kvp, old.total, old.phantom, old.filter_type,
            )  # fmt: skip
            if not iterative:
                assert (now.reference_ma, now.rotation, now.pitch) == (
                    old.reference_ma,
                    old.rotation,
                    old.pitch,
                )
            elif (now.rotation, now.pitch) == (old.rotation, old.pitch):
                at_most = old.reference_ma * ITERATIVE_DOSE_FACTOR
                # at its limit for large patients, the old technique could not give what it was meant to
                assert now.reference_ma == pytest.approx(at_most) or now.reference_ma < old.reference_ma
    slices = {(o.spec.slice_mm, n.spec.slice_mm) for k, e in before.elements.items()
              for o, n in zip(e, after.elements[k], strict=True) if o.spec.slice_mm != n.spec.slice_mm}  # fmt: skip
    assert slices == {(3.0, 2.0)}
    assert {m.mgy_per_100_mas for m in before.models} == {m.mgy_per_100_mas for m in after.models}


def test_another_site_has_the_same_models_and_books_and_habits_of_its_own(world: World) -> None:
    new, known = part(world, Level.OTHER_SITE), commands_of(world.recorded)
    found = commands_of(new.clean + new.first)
    assert {c.device.key for c in found} == {c.device.key for c in known}
    assert not {c.device.serial for c in found} & {c.device.serial for c in known}
    assert names(new.clean) & names(world.recorded)
    assert new.site is not None
    doses = [
        {key: [e.reference_ma for e in elements] for key, elements in site.elements.items()}
        for site in (learned_site(SEED), new.site)
    ]
    assert doses[0].keys() == doses[1].keys()
    assert sum(doses[0][k] != doses[1][k] for k in doses[0]) > len(doses[0]) / 2


def test_children_and_adults_at_every_level(world: World) -> None:
    for told in (world.recorded, *(t.clean for t in world.tests)):
        shares = patients(told)
        assert shares["children"] > 0.01
        assert shares["adults"] > 0.5
        assert sum(shares.values()) == pytest.approx(1.0)


# --- what a world promises


def test_tests_are_later_and_share_no_examination(world: World) -> None:
    parts = [world.learn, world.calibrate, *(t.first for t in world.tests), *(t.clean for t in world.tests)]
    everyone = [e.commands[0].origin.row // 100 for group in parts for e in group]
    assert len(everyone) == len(set(everyone))  # a number is a patient, at whatever level
    last = max(c.acquired_at or 0.0 for c in commands_of(world.recorded))
    for test in world.tests:
        begun = [e.commands[0].acquired_at or 0.0 for e in test.first + test.clean]
        assert min(begun) > last
        assert begun == sorted(begun)


def test_learning_and_calibration_are_divided_as_fit_divides(world: World) -> None:
    assert world.recorded == tuple(learned_site(SEED, 0.12).examinations(SIZES.learn))
    assert len(world.calibrate) == math.ceil(SIZES.learn * CALIBRATE)


def test_first_examinations_have_enough_commands_and_no_more(world: World) -> None:
    for level in LATER:
        first = part(world, level).first
        assert len(commands_of(first)) >= SIZES.first > len(commands_of(first[:-1]))
    assert part(world, Level.RECURRING).first == ()


def test_worlds_are_deterministic_whatever_levels_are_asked_for(world: World) -> None:
    again = simulated_world(SEED, 0.12, SIZES, [Level.SOFTWARE_UPDATE])
    assert [t.level for t in again.tests] == [Level.SOFTWARE_UPDATE]
    mine = part(world, Level.SOFTWARE_UPDATE)
    assert (again.tests[0].clean, again.tests[0].first) == (mine.clean, mine.first)
    assert again.learn == world.learn
    assert simulated_world(SEED + 1, 0.12, SIZES, [Level.RECURRING]).learn != world.learn


def test_spread_and_vendors_are_the_worlds() -> None:
    sizes = Sizes(learn=60, recurring=60, others=60)
    one = simulated_world(SEED, 0.05, sizes, vendors=1)
    makers = {c.device.manufacturer for t in one.tests for c in commands_of(t.clean)}
    assert makers == {MODELS[0].manufacturer}
    assert {t.site.aec_spread for t in one.tests if t.site} == {0.05}
    assert "SIMULATED" in one.about
    assert one.name != simulated_world(SEED, 0.12, sizes, vendors=1).name


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: simulated_world(1, 0.12, Sizes(60, 60, 60), []),
        lambda: simulated_world(1, 1.5, Sizes(60, 60, 60)),
        lambda: simulated_world(1, 0.12, Sizes(60, 60, 60), vendors=0),
        lambda: simulated_world(1, 0.12, Sizes(60, 60, 60), vendors=4),
        lambda: Sizes(learn=0),
        lambda: Sizes(others=10**6),
        lambda: Site(1, shares=(1.0,)),
        lambda: Site(1, shares=(0.0, 0.0, 0.0)),
        lambda: Site(1, shares=(1.0, -1.0, 1.0)),
    ],
)
def test_worlds_that_make_no_sense(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(SettingsError):
        wrong()


# --- the oracle and the attacks work on every level


@pytest.mark.parametrize("level", list(Level))
def test_the_oracle_reads_the_site_that_made_the_test(world: World, level: Level) -> None:
    test = part(world, level)
    assert test.site is not None
    oracle, donors = Oracle(test.site), donors_of(world, test, 300)
    clean = np.array([max(oracle.scores(e)) for e in test.clean[:120]])
    assert np.isfinite(clean).all()
    assert (clean > -5).all()  # every command is of a protocol and device that it knows
    assert np.mean(clean > 4) < 0.05
    rng, found = np.random.default_rng(5), []
    for examination in test.clean[:40]:
        attack = ATTACKS["dose_x3"]
        for index in attack.eligible(examination)[:1]:
            after = attack.apply(examination, index, rng, donors)
            if after is not None:
                found.append(max(oracle.scores(after)) > 4)
    assert len(found) > 20
    assert np.mean(found) > 0.95


def test_the_oracle_of_the_learned_site_is_lost_after_the_update(world: World) -> None:
    """So the level is one, and ``TestSet.site`` is not the learned one by mistake."""
    test = part(world, Level.SOFTWARE_UPDATE)
    oracle = Oracle(learned_site(SEED))
    assert np.mean([max(oracle.scores(e)) > 4 for e in test.clean[:100]]) > 0.5


def test_an_attacker_knows_the_devices_it_attacks(world: World) -> None:
    for level in Level:
        test = part(world, level)
        donors = donors_of(world, test, 300)
        devices = {c.device.key for c in commands_of(test.clean)}
        assert devices <= {c.device.key for c in commands_of(donors.examinations)}
        tested = {e.identifier for t in world.tests for e in t.clean}
        assert not tested & {e.identifier for e in donors.examinations}
    updated = donors_of(world, part(world, Level.SOFTWARE_UPDATE), 50)
    assert {c.device.software for c in commands_of(updated.examinations)} == {UPDATED_SOFTWARE}


def test_attacks_on_a_new_model_are_true_to_its_own_physics(world: World) -> None:
    """Not to a known model's, by whose constants every attack would be seen as a broken identity."""
    test = part(world, Level.NEW_MODEL)
    donors = donors_of(world, test, 300)
    (model,) = [m for m in NEW_MODELS if m.name == test.clean[0].commands[0].device.model]
    made = 0
    for name in ("dose_x1.5", "tube_voltage", "rotation_time", "range_x3"):
        rng = np.random.default_rng(8)
        for examination in test.clean[:40]:
            for index in ATTACKS[name].eligible(examination)[-1:]:
                after = ATTACKS[name].apply(examination, index, rng, donors)
                if after is None:
                    continue
                told = after.commands[index].parameters
                fresh = consequences(model, told)
                assert told["CTDIvol"] == fresh["CTDIvol"]
                assert told["DLP"] == fresh["DLP"]
                made += 1
    assert made > 60


# --- recordings


def recorded(count: int = 120, seed: int = 5) -> list[Examination]:
    return Site(seed, models=MODELS[:1]).examinations(count)


def protocols() -> list[Examination]:
    """A table of programmed protocols: no time, no patient, two versions of some."""
    site, out = Site(5, models=MODELS[:1]), list[Examination]()
    for e in site.examinations(900):
        name = e.commands[0].text("ProtocolName") or ""
        if sum(name == o.commands[0].text("ProtocolName") for o in out) >= 2 - len(out) % 2:
            continue
        parts = {
            "ProtocolName": (Told(name, Source.HOST),),
            "BodyPartExamined": (Told(e.commands[0].text("BodyPartExamined") or "", Source.HOST),),
        }
        commands = tuple(
            Command(c.parameters, type(c.context)(parts), c.device, Role.COMMANDED, c.roles, c.examination,
                    order=c.order, event=c.event) for c in e.commands
        )  # fmt: skip
        out.append(Examination(e.identifier, commands))
    return out


def as_recording(examinations: list[Examination]) -> Recording:
    return Recording(tuple(commands_of(examinations)))


def test_recordings_are_divided_by_time() -> None:
    (world,) = worlds_of(as_recording(recorded()), "ours", seed=3)
    (test,) = world.tests
    assert (test.level, test.site, test.first) == (Level.RECURRING, None, ())
    assert len(world.recorded) == 84
    assert len(test.clean) == 36
    last = max(e.commands[0].acquired_at or 0.0 for e in world.recorded)
    assert min(e.commands[0].acquired_at or 0.0 for e in test.clean) >= last
    assert world.simulated  # its devices say so
    assert world.about.startswith("SIMULATED")


def test_the_order_of_recordings_changes_nothing() -> None:
    one = recorded()
    assert worlds_of(as_recording(one), "a") == worlds_of(as_recording(one[::-1]), "a")


def test_protocol_tables_are_divided_by_whole_protocols() -> None:
    table = protocols()
    assert is_protocol_table(table)
    assert not is_protocol_table(recorded())
    worlds = worlds_of(as_recording(table), "book", splits=3, seed=9)
    assert len({w.name for w in worlds}) == 3
    for world in worlds:
        (test,) = world.tests
        assert test.level is Level.NEW_PROTOCOLS
        assert not names(world.recorded) & names(test.clean)
        assert len(world.recorded) + len(test.clean) == len(table)
    assert len({frozenset(names(w.tests[0].clean)) for w in worlds}) == 3
    assert [w.seed for w in worlds] == [9, 10, 11]


def test_protocols_learned_from_keep_the_order_within_and_get_one_among_them() -> None:
    table = protocols()
    train, test = by_protocol(table, 0.65, (1, 2))
    orders = [c.order for c in commands_of(train)]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(orders)
    own = {e.identifier: [c.parameters for c in e.commands] for e in table}
    assert all([c.parameters for c in e.commands] == own[e.identifier] for e in train + test)
    assert [e.identifier for e in train] != sorted(e.identifier for e in train)


def test_dividing_by_time_loses_and_doubles_nothing() -> None:
    found = recorded(101)
    train, test = by_time(found, 0.7)
    assert train + test == found
    assert len(train) == 70


@pytest.mark.parametrize(
    ("examinations", "options", "error"),
    [
        ([], {}, InputError),
        (recorded(30), {}, InputError),
        (recorded(), {"share": 1.0}, SettingsError),
        (recorded(), {"splits": 0}, SettingsError),
    ],
)
def test_recordings_that_cannot_be_divided(
    examinations: list[Examination], options: dict[str, float], error: type[Exception]
) -> None:
    with pytest.raises(error):
        worlds_of(as_recording(examinations), "few", **options)  # type: ignore[arg-type]


def test_mixed_roles_are_refused() -> None:
    mixed = [*recorded(), *protocols()]
    performed = [
        Command(c.parameters, c.context, c.device, Role.PERFORMED, {}, "other", 5.0, 1.0)
        for c in mixed[0].commands
    ]
    with pytest.raises(InputError, match="mix roles"):
        worlds_of(Recording((*commands_of(mixed), *performed)), "mixed")


def test_a_table_that_a_user_brings(tmp_path: Path) -> None:
    dialect = write_table(commands_of(recorded()), tmp_path / "ours.csv", tmp_path / "ours.toml")
    (world,) = recorded_worlds([tmp_path / "ours.csv"], load_dialect(tmp_path / "ours.toml"), seed=2)
    assert world.name == dialect.name
    assert len(commands_of(world.recorded)) + len(commands_of(world.tests[0].clean)) == len(
        commands_of(recorded())
    )
    (other,) = recorded_worlds(
        [tmp_path / "ours.csv"], load_dialect(tmp_path / "ours.toml"), name="mine", division=Division.TIME
    )
    assert other.name == "mine"


def test_injected_doses_scale_every_figure() -> None:
    found = recorded()
    donors = Donors(found)
    made = Counter[str]()
    for name, attack in INJECTED.items():
        factor = float(name.rpartition("x")[2])
        for examination in found[:40]:
            for index in attack.eligible(examination):
                after = attack.apply(examination, index, np.random.default_rng(1), donors)
                if after is None:
                    continue
                made[name] += 1
                was, now = examination.commands[index], after.commands[index]
                ratio = (now.number("CTDIvol") or 0.0) / (was.number("CTDIvol") or 1.0)
                assert ratio == pytest.approx(factor, rel=0.1)
                assert now.number("KVP") == was.number("KVP")
    assert set(made) == set(INJECTED)


def test_words_that_are_new_are_told_by_field() -> None:
    found = Site(SEED).examinations(80)
    rare = drift(found, found)  # words that hardly any command has count as new wherever they stand
    renamed = [
        replace(
            e,
            commands=tuple(
                replace(c, parameters={**c.parameters, "ConvolutionKernel": "NEW"}) for c in e.commands
            ),
        )
        for e in found[:20]
    ]
    assert drift(found, [*renamed, *found[20:40]])["ConvolutionKernel"] == pytest.approx(0.5, abs=0.2)
    whole = drift(found, renamed)
    assert whole.pop("ConvolutionKernel") == 1.0 > rare["ConvolutionKernel"]
    assert max(whole.values(), default=0.0) < 0.3


@pytest.mark.parametrize(
    ("folder", "table", "count", "level"),
    [
        ("covid_ctset", "covid_ctset_acquisitions.csv", 1, Level.RECURRING),
        ("ge_revolution_protocols", "protocol_scan_groups.csv", 3, Level.NEW_PROTOCOLS),
    ],
)
def test_real_recordings(
    shared_data: Path, repository: Path, folder: str, table: str, count: int, level: Level
) -> None:
    path = shared_data / "ct" / folder / table
    if not path.is_file():
        pytest.skip(f"no {table} among the shared data")
    dialect = load_dialect(repository / "examples" / "dialects" / f"{folder}.toml")
    worlds = recorded_worlds([path], dialect, splits=3, seed=7)
    assert len(worlds) == count
    for world in worlds:
        assert not world.simulated
        assert [t.level for t in world.tests] == [level]
        assert len(world.learn) > 100
        assert len(world.tests[0].clean) > 70
        donors = donors_of(world, world.tests[0])
        if level is Level.RECURRING:
            # From some day on this scanner worked without current modulation: new, and more than a little.
            assert drift(world.recorded, world.tests[0].clean)["ExposureModulationType"] > 0.3
            assert "hardly any earlier one had: " in world.about
            assert "ExposureModulationType" in world.about
        attack = INJECTED["injected_dose_x3"]
        first = next(e for e in world.tests[0].clean if attack.eligible(e))
        assert attack.apply(first, attack.eligible(first)[0], np.random.default_rng(1), donors) is not None

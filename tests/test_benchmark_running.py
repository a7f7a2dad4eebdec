"""A run can be stopped at any moment and gone on with; what it keeps is whole, its own, and what it says."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import _benchmark_toys as toy
from scanward.commands import Examination
from scanward.errors import DecodeError, InputError, LearningError, SettingsError
from scanward.learning.benchmark import openings, registry
from scanward.learning.benchmark import plan as planning
from scanward.learning.benchmark.answers import Answer, Attacked, Told
from scanward.learning.benchmark.assembling import assemble
from scanward.learning.benchmark.measuring import LARGEST, answers, attacks_of, build
from scanward.learning.benchmark.plan import SHOWN, slug
from scanward.learning.benchmark.running import Event, News, Outcome, run
from scanward.learning.benchmark.store import Cell, Failed, Store, read_json
from scanward.learning.benchmark.worlds import Level
from scanward.simulation import ATTACKS

PLAN = toy.small_plan()
WITHIN = 300.0  # s after which a process of a test hangs
# What a clock said, and which commit was checked out: it may change while tests run.
TIMES = ("seconds to learn", "seconds to answer", "microseconds", "commit", "made_by")
FORKS = multiprocessing.get_context("forkserver")  # imports once, so that many can be started and killed
FORKS.set_forkserver_preload(["_benchmark_toys"])


def measure(out: Path, names: tuple[str, ...] = toy.SOUND, **given: Any) -> tuple[Outcome, list[Event]]:
    heard: list[Event] = []
    plan = given.pop("plan", PLAN)
    return run(plan, out, toy.toys, names, tell=heard.append, **given), heard


def timeless(told: Any) -> Any:
    """Results without what differs between two runs of the same."""
    if isinstance(told, dict):
        return {k: timeless(v) for k, v in told.items() if k not in TIMES}
    return [timeless(v) for v in told] if isinstance(told, list) else told


def results(out: Path) -> Any:
    return timeless(assemble(Store.at(out)[0]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    outcome, _ = measure(out)
    assert outcome == Outcome(6, ())
    return out


@pytest.fixture
def learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that every learning is written into."""
    path = tmp_path / "learned.txt"
    monkeypatch.setenv(toy.LEARNED, str(path))
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def cells(out: Path) -> list[Path]:
    return sorted(p for p in (out / "cells").glob("*/*/*.npz") if p.stem != "cases")


# --- what is kept


def test_every_cell_is_there_and_none_that_cannot_be(whole: Path) -> None:
    told = results(whole)
    assert told["finished"]
    assert told["missing"] == []
    levels = {one["level"]: one for one in told["levels"]}
    assert set(levels) == {toy.LATER, toy.NEW}
    assert set(levels[toy.NEW]["methods"]) == set(toy.SOUND)
    # Nothing of what is new came before later examinations of the same site, so nothing to adapt to.
    assert set(levels[toy.LATER]["methods"]) == set(toy.SOUND) - {"adapted"}
    assert levels[toy.LATER]["set"] == "AEC spread 0.12"
    assert {one["kind"] for one in told["methods"]} == {m.kind.value for m in toy.ALL[:6]}


def test_the_cases_of_a_family_that_was_shown_are_left_out(whole: Path) -> None:
    store = Store.at(whole)[0]
    world = store.worlds()[0]["name"]
    families = {name: ATTACKS[name].family for name in toy.FEW}
    for name in ("was shown", "length"):
        cell = store.cell(world, toy.LATER, name)
        assert cell is not None
        assert cell.told is not None
        there = {families.get(attack, "dose") for attack in cell.told.attacks}
        assert ("dose" in there) == (name == "length")
        assert "mechanical" in there


def test_what_a_method_told_is_what_its_scorer_answers(whole: Path) -> None:
    """The arrays of a cell, worked out again by hand from the world."""
    (world,) = build(PLAN.simulated[0], PLAN, ())
    (later, _) = world.tests
    scorer = toy.ALL[0].learn(world, 0, lambda _w, _s: None).scorer
    cell = Store.at(whole)[0].cell(world.name, toy.LATER, "Scanward")
    assert cell is not None
    told = cell.told
    assert told is not None

    def largest(examinations: tuple[Examination, ...]) -> list[float]:
        return [max(a.score for a in one) for one in scorer.answer([e.commands for e in examinations])]

    assert told.calibrate.tolist() == largest(world.calibrate)
    flat = [a for one in scorer.answer([e.commands for e in later.clean]) for a in one]
    assert told.clean_scores.tolist() == [a.score for a in flat]
    units = [i for i, e in enumerate(later.clean) for _ in e.commands]
    assert told.clean_units.tolist() == units
    assert told.attacks["tilt"].objects.all()
    assert not told.attacks["null"].objects.any()
    # The null attack changes nothing: its scores are scores of clean commands of that examination.
    for unit, score in zip(told.attacks["null"].units, told.attacks["null"].scores, strict=True):
        assert score in told.clean_scores[told.clean_units == unit]
    assert len(told.attacks["null"].units) == PLAN.null


def test_adapting_methods_are_learned_for_each_test_with_what_came_first(
    tmp_path: Path, learned: Path
) -> None:
    measure(tmp_path / "out", ("adapted", "length"))
    assert [line for line in lines(learned) if "adapted" in line] == [
        f"site {toy.SITE}, spread 0.12, 1 vendor: adapted to {toy.NEW}"
    ]
    assert len([line for line in lines(learned) if line.endswith("ScanLength")]) == 1  # once for both tests
    store = Store.at(tmp_path / "out")[0]
    cell = store.cell(store.worlds()[0]["name"], toy.NEW, "adapted")
    assert cell is not None
    assert cell.told is not None
    assert cell.facts["first"] > 0
    assert len(cell.told.calibrate) == 7  # the examinations that it brought itself


def test_nothing_is_done_twice_and_methods_are_added(tmp_path: Path, learned: Path) -> None:
    out = tmp_path / "out"
    measure(out, ("length",))
    first = lines(learned)
    before = {p: p.read_bytes() for p in cells(out)}
    assert measure(out, ("length",))[0].measured == 0
    assert lines(learned) == first
    measure(out, ("rotation",))
    assert [line.rpartition(": ")[2] for line in lines(learned)] == ["ScanLength", "RevolutionTime"]
    assert {p: p.read_bytes() for p in before} == before
    assert set(results(out)["levels"][0]["methods"]) == {"length", "rotation"}


def test_the_order_of_work_and_other_methods_change_nothing(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "out"
    for names in (toy.SOUND[4:], toy.SOUND[1:4], toy.SOUND[:1]):
        measure(out, names)
    mine, theirs = results(out), results(whole)
    assert mine.pop("methods") != theirs["methods"]  # in the order in which they were asked for
    for one, other in zip(mine["levels"], theirs["levels"], strict=True):
        assert one == other


def test_processes_give_the_same_as_one_though_a_method_kills_its_own(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "out"
    outcome, heard = measure(out, ("dying", *toy.SOUND), workers=2)
    assert [f.partition(":")[0] for f in outcome.failed] == [f"dying, site {toy.SITE}, spread 0.12, 1 vendor"]
    told, undisturbed = results(out), results(whole)
    missing = told.pop("missing")
    assert {m[2] for m in missing} == {"dying"}
    assert "SIGABRT" in missing[0][3]
    assert told.pop("finished") is False
    assert told == {k: v for k, v in undisturbed.items() if k in told}
    assert sum(e.amount for e in heard) == pytest.approx(7)


# --- stopped at any moment


def nobody_left(group: int) -> bool:
    """Whether no process of a group is there any more, as soon as that is so."""
    end = time.monotonic() + WITHIN
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def killed(out: Path, workers: int, sleep: float, when: Callable[[], bool]) -> bool:
    """Start a run and kill it at a moment; whether it was at work then. All its processes end with it."""
    process = FORKS.Process(target=toy.measure_apart, args=(out, workers, sleep))
    process.start()
    end = time.monotonic() + WITHIN
    while process.is_alive() and not when() and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.join()
    at_work = process.exitcode == -signal.SIGKILL
    assert process.pid is not None
    assert nobody_left(process.pid), "its processes go on"
    process.close()
    return at_work


def test_killed_at_random_moments_it_ends_with_the_same_results(tmp_path: Path, whole: Path) -> None:
    out, rng = tmp_path / "out", random.Random(1)
    times = 0
    for _ in range(4):
        # A moment is some files after the start, so that a slow machine is killed at work as well.
        files = len(list(out.rglob("*"))) + rng.randint(1, 8)
        times += killed(out, 1, 0.1, lambda files=files: len(list(out.rglob("*"))) > files)  # type: ignore[misc]
    assert times
    measure(out)
    assert results(out) == results(whole)


def test_killed_with_its_processes_learning_they_end_and_nothing_is_lost(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "out"
    assert killed(out, 2, 10 * WITHIN, lambda: len(lines(out.with_suffix(".learned"))) == 2)
    measure(out)
    assert results(out) == results(whole)


def test_killed_between_arrays_and_facts_a_cell_is_not_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    measure(out, ("length",))
    for npz in cells(out):
        npz.with_suffix(".json").unlink()
    assert measure(out, ("length",))[0].measured == 1


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "other", "arrays of another", "json"])
def test_a_damaged_cell_is_made_again_and_that_is_said(tmp_path: Path, whole: Path, how: str) -> None:
    out = tmp_path / "out"
    measure(out, ("length",))
    before = {p: p.read_bytes() for p in cells(out)}
    victim, other = sorted(before)
    if how == "cut":
        victim.write_bytes(before[victim][:-40])
    elif how == "flipped":
        raw = bytearray(before[victim])
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(bytes(raw))
    elif how == "gone":
        victim.unlink()
    elif how == "arrays of another":  # whole, but not those that the facts belong to
        victim.write_bytes(before[other])
    elif how == "other":  # a whole cell, but of another test
        victim.write_bytes(before[other])
        victim.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())
    else:
        victim.with_suffix(".json").write_bytes(b"{")
    outcome, heard = measure(out, ("length",))
    assert outcome.measured == 1
    said = [e.text for e in heard if e.kind is News.REMARK]
    assert len(said) == 1
    assert victim.stem in said[0]
    assert {p: p.read_bytes() for p in cells(out)} == before
    assert "DAMAGED" in (out / "log.txt").read_text()


@pytest.mark.parametrize("name", ["cases.npz", "world.json"])
def test_what_describes_a_world_is_made_again_too(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    measure(out, ("length",))
    before = results(out)
    victim = next(out.rglob(name))
    victim.write_bytes(victim.read_bytes()[:-9])
    with pytest.raises(DecodeError):
        assemble(Store.at(out)[0])
    assert [e for e in measure(out, ("length",))[1] if e.kind is News.REMARK]
    assert results(out) == before


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path, PLAN)
    with store.locked(), pytest.raises(SettingsError, match="another run"):
        measure(tmp_path)
    measure(tmp_path, ("length",))


# --- failures


def test_a_method_that_fails_stops_no_other_and_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome, heard = measure(out, ("refusing", "breaking", "no number", "length"))
    assert outcome.measured == 4
    assert (
        len([e for e in heard if e.kind is News.FAILED]) == len(outcome.failed) == 6
    )  # three methods, two tests
    log = (out / "log.txt").read_text()
    assert "LinAlgError: Singular matrix" in log
    assert "Traceback" in log
    told = assemble(Store.at(out)[0])
    assert not told["finished"]
    why = {(m[1], m[2]): m[3] for m in told["missing"]}
    assert why[toy.LATER, "refusing"] == "failed: too little to learn from, toy, bring more"
    assert why[toy.NEW, "breaking"] == "failed: LinAlgError: Singular matrix"
    assert why[toy.NEW, "no number"].startswith("failed: a score is not a number")
    assert set(told["levels"][0]["methods"]) == {"length"}
    # What failed is tried again by the next run, what did not is not.
    assert measure(out, ("refusing", "length"))[0].measured == 1


def test_figures_are_the_same_from_any_number_of_processes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    measure(out, ("length", "no number"))
    heard: list[float] = []
    alone = assemble(Store.at(out)[0], "", lambda _what, share: heard.append(share))
    assert heard == sorted(heard)
    assert 0.0 <= heard[0] < heard[-1] <= 1.0
    assert assemble(Store.at(out)[0], workers=2) == alone


def test_a_full_disk_is_no_failure_of_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "cell")

    monkeypatch.setattr(Store, "keep", full)
    with pytest.raises(OSError, match="No space left"):
        measure(tmp_path, ("length",))


# --- plans


def test_a_folder_begun_with_another_plan_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path, PLAN)
    with pytest.raises(SettingsError, match=r"another plan \(differs in seed\)"):
        Store.open(tmp_path, replace(PLAN, seed=3))
    Store.open(tmp_path, PLAN)
    Store.open(tmp_path, replace(PLAN, seed=3), fresh=True)
    with pytest.raises(SettingsError, match="another plan"):
        Store.open(tmp_path, PLAN)


def test_fresh_takes_away_cells_and_keeps_the_record(tmp_path: Path) -> None:
    measure(tmp_path, ("length",))
    (tmp_path / "opening.json").write_text("{}")
    log = (tmp_path / "log.txt").read_text()
    store = Store.open(tmp_path, PLAN, fresh=True)
    assert cells(tmp_path) == []
    assert store.methods() == {}
    assert (tmp_path / "log.txt").read_text() == log
    assert (tmp_path / "opening.json").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "mine").write_text("cells of mine")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError):
        Store.open(tmp_path, PLAN, fresh=fresh)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "cells" / "mine").exists()


def test_everything_that_figures_depend_on_changes_the_hash() -> None:
    """Every field of the plan and of its worlds."""
    base = planning.make("full", recorded=[planning.Recorded("mine", "00")])

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return (*value, *value[:1]) or ("x",)
        return value + "x" if isinstance(value, str) else int(value) + 1 if value is not True else False

    hashes = {base.sha256}
    names = [f for f in planning.Plan.__dataclass_fields__ if f not in ("simulated", "recorded")]
    for name in names:
        hashes.add(replace(base, **{name: changed(getattr(base, name))}).sha256)
    for kind in ("simulated", "recorded"):
        of = getattr(base, kind)
        for name in of[0].__dataclass_fields__:
            value = getattr(of[0], name)
            other = replace(of[0], **{name: value + 1.0 if isinstance(value, float) else changed(value)})
            worlds: dict[str, Any] = {kind: (other, *of[1:])}
            hashes.add(replace(base, **worlds).sha256)
    fields = len(base.simulated[0].__dataclass_fields__) + len(base.recorded[0].__dataclass_fields__)
    assert len(hashes) == 1 + len(names) + fields
    assert base.sha256 == planning.make("full", recorded=[planning.Recorded("mine", "00")]).sha256


def test_development_and_final_are_apart() -> None:
    development, final = planning.make("full"), planning.make("full", final=True)
    seeds = {w.seed for w in development.simulated}, {w.seed for w in final.simulated}
    assert seeds == ({11, 12, 13}, {104, 105, 106})
    assert development.held_out == ()
    assert len(final.held_out) >= 10
    assert not set(final.held_out) & set(final.known)
    assert not set(SHOWN) & set(final.held_out)
    families = {ATTACKS[name].family for name in ATTACKS} - {"null"}
    shown = {ATTACKS[name].family for name in SHOWN}
    assert shown < families
    assert {a.name for a in ATTACKS.values() if a.family in shown} == set(SHOWN)  # whole families
    assert {w.levels for w in development.simulated} == {tuple(level.value for level in Level)}


def test_the_attacks_of_a_final_test_are_the_known_and_the_held_out() -> None:
    final = replace(PLAN, final=True, held_out=tuple(planning.make("small", final=True).held_out))
    (world,) = build(PLAN.simulated[0], PLAN, ())
    later, new = world.tests
    groups = {name: one.group for name, one in attacks_of(final, world, later).items()}
    assert set(groups.values()) == {"null", "known", "held out", "curve"}
    assert "held out" not in {one.group for one in attacks_of(PLAN, world, later).values()}
    # Doses that no tube could give are injected into recordings alone.
    recorded = attacks_of(PLAN, replace(world, simulated=False), new)
    assert [n for n in recorded if n not in groups] == [n for n in recorded if n.startswith("injected")] != []
    # No smallest dose factor where no threshold holds.
    assert {one.group for one in attacks_of(final, world, new).values()} == {"null", "known", "held out"}
    assert "curve" in {one.group for one in recorded.values()}


def test_the_full_size_has_the_usual_spread_everywhere_and_others_at_one_site() -> None:
    full = planning.make("full")
    assert [(w.seed, w.spread) for w in full.simulated] == [
        (11, 0.12), (12, 0.12), (13, 0.12), (11, 0.05), (11, 0.2)
    ]  # fmt: skip
    assert [(w.seed, w.spread) for w in planning.make("full", sites=2, spreads=[0.2]).simulated] == [
        (11, 0.2), (12, 0.2)
    ]  # fmt: skip
    assert full.simulated[0].learn / 4 >= 999  # the quarter that calibrates


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"size": "huge"}, "no size 'huge'"),
        ({"sites": 4}, "4 sites"),
        ({"sites": -1}, "-1 sites"),
        ({"spreads": [1.5]}, "spreads make no sense"),
        ({"spreads": [float("nan")]}, "spreads make no sense"),
        ({"spreads": [i / 100 for i in range(1, 30)]}, "spreads make no sense"),
        ({"seed": -1}, "seed -1"),
        ({"simulated": False}, "nothing to measure"),
        (
            {"recorded": [planning.Recorded("a", "0"), planning.Recorded("a", "1")]},
            "two data sets of one name",
        ),
    ],
)
def test_plans_that_make_no_sense_are_refused(words: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        planning.make(**words)


@given(st.lists(st.text(max_size=80), min_size=2, max_size=2, unique=True))
def test_no_two_names_have_one_path(names: list[str]) -> None:
    one, other = map(slug, names)
    assert one != other
    for told in (one, other):
        assert Path(told).name == told
        assert not told.startswith(".")
        assert len(told) < 80


def test_recordings_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "inner").mkdir(parents=True)
        (tmp_path / folder / "inner" / "x.csv").write_text("1")
        (tmp_path / folder / "y.csv").write_text("2")
    digest = planning.digest_of([tmp_path / "a"])
    assert digest == planning.digest_of([tmp_path / "b"])
    (tmp_path / "b" / "y.csv").write_text("3")
    assert digest != planning.digest_of([tmp_path / "b"])
    (tmp_path / "a" / "y.csv").rename(tmp_path / "a" / "z.csv")
    assert digest != planning.digest_of([tmp_path / "a"])
    with pytest.raises(InputError, match="cannot be read"):
        planning.digest_of([tmp_path / "none"])


# --- methods by name


def test_words_become_methods() -> None:
    small = registry.chosen(registry.methods(SHOWN), (), "small")
    assert len(small) == 8
    assert set(small) == set(planning.SMALL_METHODS)
    every = registry.methods(SHOWN)
    assert registry.chosen(every, (), "full") == tuple(m.name for m in every)
    assert registry.chosen(toy.ALL, ("LENGTH", "deep"), "full") == (
        "length",
        "refusing",
        "breaking",
        "no number",
        "dying",
    )
    assert registry.chosen(toy.ALL, ("all",), "small") == tuple(m.name for m in toy.ALL)
    with pytest.raises(SettingsError, match="rotation"):
        registry.chosen(toy.ALL, ("rotatoin",), "small")


def test_the_methods_that_the_issue_asks_for_are_there() -> None:
    every = registry.methods(SHOWN)
    kinds: dict[str, set[str]] = {}
    for method in every:
        kinds.setdefault(method.kind.name, set()).add(method.name.removesuffix(", no context"))
    assert len(kinds["UNSUPERVISED"]) >= 14
    assert len(kinds["DEEP"]) >= 3
    assert {n.partition(":")[0] for n in kinds["CLEAN_ONLY"]} >= {
        n.partition(",")[0] for n in kinds["ATTACK_TRAINED"]
    }
    assert len(kinds["ATTACK_TRAINED"]) >= 6
    assert any("Hotelling" in n for n in kinds["REGRESSION"])
    assert kinds["SERIAL"]
    assert kinds["CEILING"] == {"oracle"}
    assert planning.AGAINST in {m.name for m in every}


# --- answers


class Says:
    def __init__(self, told: list[list[Answer]]) -> None:
        self.told = told

    def answer(self, histories: Any) -> list[list[Answer]]:
        return self.told


def test_answers_are_numbers_one_for_each_command() -> None:
    told = answers(Says([[Answer(float("inf")), Answer(-float("inf"), True)]]), [("a", "b")])  # type: ignore[list-item]
    assert told == [[Answer(LARGEST, False), Answer(-LARGEST, True)]]
    for wrong in ([[Answer(1.0)]], [], [[Answer(1.0), Answer(1.0), Answer(1.0)]]):
        with pytest.raises(LearningError, match="every command"):
            answers(Says(wrong), [("a", "b")])  # type: ignore[list-item]
    with pytest.raises(LearningError, match="not a number"):
        answers(Says([[Answer(float("nan")), Answer(1.0)]]), [("a", "b")])  # type: ignore[list-item]


finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def tolds(draw: st.DrawFn) -> Told:
    def array(kind: Any, of: st.SearchStrategy[Any], size: int) -> Any:
        return np.array(draw(st.lists(of, min_size=size, max_size=size)), kind)

    def attacked() -> Attacked:
        n = draw(st.integers(0, 4))
        return Attacked(
            array(np.float64, finite, n),
            array(np.bool_, st.booleans(), n),
            array(np.int64, st.integers(0, 9), n),
        )

    clean, names = draw(st.integers(0, 6)), draw(st.lists(st.text(max_size=9), max_size=4, unique=True))
    names = [n.rstrip("\x00") for n in names]
    return Told(
        array(np.float64, finite, draw(st.integers(0, 5))),
        array(np.float64, finite, clean),
        array(np.bool_, st.booleans(), clean),
        array(np.int64, st.integers(0, 9), clean),
        {n: attacked() for n in names},
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(told=tolds())
def test_a_cell_comes_back_as_it_was(tmp_path: Path, told: Told) -> None:
    store = Store(tmp_path, "0" * 64)
    store.keep("w", "l", "m", Cell({"seconds": 1.0}, told))
    found = store.cell("w", "l", "m")
    assert found is not None
    back = found.told
    assert back is not None
    assert found.facts == {"seconds": 1.0}
    for name in ("calibrate", "clean_scores", "clean_objects", "clean_units"):
        assert np.array_equal(getattr(back, name), getattr(told, name))
    assert set(back.attacks) == set(told.attacks)
    for name, one in told.attacks.items():
        for mine, other in zip(
            (one.scores, one.objects, one.units),
            (back.attacks[name].scores, back.attacks[name].objects, back.attacks[name].units),
            strict=True,
        ):
            assert np.array_equal(mine, other)
            assert mine.dtype == other.dtype


def test_a_failure_comes_back_and_is_forgotten_when_asked(tmp_path: Path) -> None:
    store = Store(tmp_path, "0" * 64)
    store.keep("w", "l", "m", Cell({}, None, Failed("no", "LearningError")))
    assert store.cell("w", "l", "m") == Cell({}, None, Failed("no", "LearningError"))
    assert store.forget_failed() == 1
    assert store.cell("w", "l", "m") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_whatever_a_kept_file_holds_it_is_a_cell_or_an_error_of_ours(
    whole: Path, data: st.DataObject
) -> None:
    store = Store.at(whole)[0]
    world = store.worlds()[0]["name"]
    path = store.place(world, toy.LATER, "length")
    victim = data.draw(st.sampled_from([path, path.with_suffix(".npz")]))
    before = victim.read_bytes()
    raw = bytearray(before)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    victim.write_bytes(bytes(raw))
    try:
        store.cell(world, toy.LATER, "length")
    except DecodeError:
        pass
    finally:
        victim.write_bytes(before)


def test_no_pickle_is_read_even_with_the_right_hash(tmp_path: Path) -> None:
    import hashlib
    import io

    store = Store(tmp_path, "0" * 64)
    told = Told(*(np.zeros(0), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.int64)), {})
    store.keep("w", "l", "m", Cell({}, told))
    path = store.place("w", "l", "m")
    hostile = io.BytesIO()
    np.savez(hostile, calibrate=np.array([{"a": 1}], dtype=object))
    path.with_suffix(".npz").write_bytes(hostile.getvalue())
    head = read_json(path)
    head["sha256"] = hashlib.sha256(hostile.getvalue()).hexdigest()
    path.write_text(json.dumps(head))
    with pytest.raises(DecodeError, match="cannot be read"):
        store.cell("w", "l", "m")


# --- openings


def opened(tmp_path: Path, out: str, why: str = "", **changes: Any) -> openings.Opening:
    plan = replace(PLAN, final=True, **changes)
    return openings.record(plan, tmp_path / out, why, tmp_path / "log" / "openings.jsonl")


def test_every_opening_is_logged_and_a_second_needs_a_reason(tmp_path: Path) -> None:
    log = tmp_path / "log" / "openings.jsonl"
    first = opened(tmp_path, "one")
    assert first.sites == (toy.SITE,)
    assert openings.read(log) == [first]
    assert read_json(tmp_path / "one" / "opening.json")["plan_sha256"] == first.plan_sha256
    opened(tmp_path, "one")  # the very same folder and plan: it just goes on
    with pytest.raises(SettingsError, match="was opened before"):
        opened(tmp_path, "two")
    with pytest.raises(SettingsError, match="was opened before"):
        opened(tmp_path, "one", cases=7)
    assert not (tmp_path / "two").exists()
    opened(tmp_path, "two", "the first one\n had a bug")
    assert openings.read(log)[-1].why == "the first one had a bug"
    opened(tmp_path, "three", version="99.0")
    head, rows = openings.rows(openings.read(log))
    assert len(rows) == 4
    assert all(len(row) == len(head) for row in rows)


def test_what_opens_nothing_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="opens nothing"):
        openings.record(PLAN, tmp_path, "why", tmp_path / "log")
    with pytest.raises(SettingsError, match="too long"):
        opened(tmp_path, "x", "w" * 5_000)
    assert openings.read(tmp_path / "log") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"date": 1}', "\x00", '{"sites": 3}', "9" * 5000])
def test_a_damaged_log_is_an_error_and_not_an_empty_one(tmp_path: Path, text: str) -> None:
    log = tmp_path / "log" / "openings.jsonl"
    opened(tmp_path, "one")
    with log.open("a") as file:
        file.write(f"{text}\n")
    with pytest.raises(DecodeError, match="damaged"):
        openings.read(log)
    with pytest.raises(DecodeError):
        opened(tmp_path, "two", "why")


def test_nothing_is_opened_where_it_cannot_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be recorded"):
        opened(tmp_path, "one")
    assert not (tmp_path / "one").exists()

"""One list of checks that every detector of the benchmark passes: unsupervised, regression and deep ones."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scanward.commands import Command, Context, Examination, Told
from scanward.errors import LearningError
from scanward.learning.baseline_detectors import Autoencoder, Baseline, Detector, Rows
from scanward.learning.baselines import FARTHEST, FeatureTable, made
from scanward.learning.benchmark import deep_detectors, unsupervised, worlds
from scanward.learning.benchmark.answers import Kind, Method
from scanward.learning.benchmark.deep_detectors import DEEP, NETWORKS, DeepOneClass, Masked
from scanward.learning.benchmark.dose_lists import DOSE_LISTS, NOTHING_TOLD, DoseList
from scanward.learning.benchmark.pyod_detectors import PYOD, Copod, Loda
from scanward.learning.benchmark.regression import REGRESSION, REGRESSIONS, Hotelling, HuberDose
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.unsupervised import DETECTORS, NO_CONTEXT, UNSUPERVISED, ground_of
from scanward.learning.benchmark.worlds import Level, World
from scanward.simulation import Site

METHODS = (*UNSUPERVISED, *REGRESSION, *DEEP)
BY_NAME = {m.name: m for m in (*METHODS, *DOSE_LISTS)}
# Those of learning.baselines are held to the same checks, candidate by candidate, in test_benchmarks_baselines.
NEW = {**PYOD, **REGRESSIONS, **{n: b for n, b in NETWORKS.items() if n != "autoencoder"}}
ENDS = [pytest.param(b, b.grid[k], id=f"{b.name}-{k}") for b in NEW.values() for k in (0, -1)]
FIRST = [pytest.param(b, b.grid[0], id=b.name) for b in NEW.values()]


@pytest.fixture(scope="module")
def examinations() -> tuple[Examination, ...]:
    return tuple(Site(11).examinations(64))


@pytest.fixture(scope="module")
def commands(examinations: Sequence[Examination]) -> list[Command]:
    return [c for e in examinations[:48] for c in e.commands]


@pytest.fixture(scope="module")
def table(commands: list[Command]) -> FeatureTable:
    return FeatureTable.learn(commands, context=True)


@pytest.fixture(scope="module")
def rows(commands: list[Command], table: FeatureTable) -> Rows:
    return table.rows(commands)


@pytest.fixture(scope="module")
def world(examinations: tuple[Examination, ...]) -> World:
    test = worlds.TestSet(Level.RECURRING, examinations[60:])
    return World("site 11", "SIMULATED", examinations[:48], examinations[48:60], (test,), 11)


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_detectors, "STEPS", 20)
    monkeypatch.setattr(deep_detectors, "LUNAR_EPOCHS", 3)
    before = Autoencoder.__init__

    def short(self: Autoencoder, seed: int, narrow: int) -> None:
        before(self, seed, narrow)
        self.steps = 20

    monkeypatch.setattr(Autoencoder, "__init__", short)


def fitted(baseline: Baseline, candidate: Any, table: FeatureTable, rows: Rows, seed: int = 0) -> Detector:
    return made(baseline, table, seed, candidate).fit(rows)


# --- detectors: rows in, strangeness out


@pytest.mark.parametrize(("baseline", "candidate"), ENDS)
def test_scores_are_finite_and_a_far_outlier_is_strange(
    baseline: Baseline, candidate: Any, table: FeatureTable, rows: Rows
) -> None:
    before = rows.copy()
    detector = fitted(baseline, candidate, table, rows)
    found = detector.score(rows)
    assert found.shape == (len(rows),)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    far = np.zeros((1, rows.shape[1]))
    for place in table.places:  # every number as high as can be, every category a rare one
        far[0, place.at if place.numeric else place.at + place.width - 2] = FARTHEST if place.numeric else 1.0
    assert detector.score(far)[0] > np.quantile(found, 0.95)
    assert (rows == before).all()


@pytest.mark.parametrize(("baseline", "candidate"), FIRST)
def test_the_same_seed_gives_the_same_scores_whatever_was_drawn_between(
    baseline: Baseline, candidate: Any, table: FeatureTable, rows: Rows
) -> None:
    import torch

    first = fitted(baseline, candidate, table, rows).score(rows[:40])
    np.random.default_rng().random()
    np.random.seed(random.randrange(2**31))  # noqa: NPY002
    torch.rand(3)
    before = torch.get_rng_state()
    second = fitted(baseline, candidate, table, rows).score(rows[:40])
    assert (first == second).all()
    assert (torch.get_rng_state() == before).all()  # and the caller's random numbers are left alone


@pytest.mark.parametrize(("baseline", "candidate"), FIRST)
def test_a_row_scores_alone_as_among_others(
    baseline: Baseline, candidate: Any, table: FeatureTable, rows: Rows
) -> None:
    detector = fitted(baseline, candidate, table, rows)
    together = detector.score(rows[:7])
    alone = [float(detector.score(rows[i : i + 1])[0]) for i in range(7)]
    assert alone == pytest.approx(together.tolist(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("baseline", "candidate"), FIRST)
def test_works_with_missing_values_and_strangers(
    baseline: Baseline, candidate: Any, table: FeatureTable, rows: Rows, commands: list[Command]
) -> None:
    detector = fitted(baseline, candidate, table, rows)
    stranger = replace(commands[0], parameters={"KVP": float("inf"), "FilterType": "NEVER SEEN"})
    assert np.isfinite(detector.score(table.rows([Command({}), stranger, commands[0]]))).all()


@pytest.mark.parametrize(("baseline", "candidate"), FIRST)
def test_learns_from_commands_that_are_all_the_same(baseline: Baseline, candidate: Any) -> None:
    table = FeatureTable.learn([Command({"KVP": 120.0, "CTDIvol": 5.0})] * 60, context=True)
    rows = table.rows([Command({"KVP": 120.0, "CTDIvol": 5.0})] * 60)
    assert np.isfinite(fitted(baseline, candidate, table, rows).score(rows[:3])).all()


# --- methods: examinations in, answers out


def test_there_are_as_many_methods_as_promised() -> None:
    assert len(DETECTORS) >= 14
    assert len({m.name for m in METHODS}) == len(METHODS)
    for catalogue, kind, methods in (
        (DETECTORS, Kind.UNSUPERVISED, UNSUPERVISED),
        (REGRESSIONS, Kind.REGRESSION, REGRESSION),
        (NETWORKS, Kind.DEEP, DEEP),
    ):
        assert {m.name for m in methods} == {n + end for n in catalogue for end in ("", NO_CONTEXT)}
        assert {m.kind for m in methods} == {kind}
        assert {len(b.grid) for b in catalogue.values()} == {4}
    assert all(m.context is not m.name.endswith(NO_CONTEXT) and m.about and m.group for m in METHODS)


def learned(method: Method, world: World) -> Any:
    ticks: list[float] = []
    found = method.learn(world, 3, lambda _what, share: ticks.append(share))
    assert ticks == sorted(ticks)
    assert len(ticks) == 5
    assert 0 <= ticks[0] <= ticks[-1] < 1
    return found


@pytest.mark.parametrize("name", [m.name for m in (*METHODS, *DOSE_LISTS) if m.context])
def test_a_method_answers_every_command_by_itself(name: str, world: World) -> None:
    found = learned(BY_NAME[name], world)
    histories = [e.commands for e in world.tests[0].clean[:3]]
    told = found.scorer.answer(histories)
    assert [len(t) for t in told] == [len(h) for h in histories]
    assert all(np.isfinite(a.score) and not a.objects for t in told for a in t)
    # Whatever came before, and whatever else is asked about.
    last = found.scorer.answer([[histories[0][-1]]])[0][0].score
    assert last == pytest.approx(told[0][-1].score, rel=1e-3, abs=1e-5)
    assert found.scorer.answer([]) == []
    assert found.scorer.answer([[]]) == [[]]
    compared = found.facts["compared"]
    assert len(compared) == 4
    assert found.facts["chosen"] == max(compared, key=lambda pair: pair[1])[0]


@pytest.mark.parametrize("name", ["kNN", "COPOD", "Hotelling T2"])
def test_without_context_nothing_of_the_context_is_seen(name: str, world: World) -> None:
    histories = [e.commands for e in world.tests[0].clean[:3]]
    bare = [[replace(c, context=Context({})) for c in h] for h in histories]
    without = learned(BY_NAME[name + NO_CONTEXT], world).scorer
    assert without.answer(bare) == without.answer(histories)
    seeing = learned(BY_NAME[name], world).scorer
    assert seeing.answer(bare) != seeing.answer(histories)


def test_calibration_and_test_examinations_teach_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(world, calibrate=world.calibrate[:1], tests=())
    histories = [e.commands for e in world.tests[0].clean[:3]]
    told = []
    for one in (world, other):
        monkeypatch.setattr(unsupervised, "_ground", Last())  # what one world made is not kept for the other
        monkeypatch.setattr(unsupervised, "_held_back", Last())
        told.append(learned(BY_NAME["GMM"], one).scorer.answer(histories))
    assert told[0] == told[1]


def test_rows_are_shared_by_the_methods_of_one_world_alone(world: World) -> None:
    first = ground_of(world, 3, context=True)
    assert ground_of(world, 3, context=True) is first
    assert ground_of(world, 4, context=True) is not first
    fewer = replace(world, learn=world.learn[:30])
    assert len(ground_of(fewer, 4, context=True).rows) == len([c for e in fewer.learn for c in e.commands])


def test_without_pyod_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    for name in [n for n in sys.modules if n == "pyod" or n.startswith("pyod.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyod", None)  # what an import of something absent meets
    for name in ("INNE", "LUNAR"):
        with pytest.raises(LearningError, match=r"scanward\[benchmark\]"):
            learned(BY_NAME[name], world)
    assert learned(BY_NAME["COPOD"], world).facts["columns"] > 0  # others go on


# --- own implementations, by hand


def test_copod_by_hand() -> None:
    detector = Copod(0, 1.0).fit(np.array([[1.0], [2.0], [3.0], [10.0]]))  # skewed to the right
    # Counted with the row itself: the right tail of 11 is 1 / 5, its left 1; of 0 the left is 1 / 5, the right 1.
    assert detector.score(np.array([[11.0]])) == pytest.approx([np.log(5)])
    assert detector.score(np.array([[0.0]])) == pytest.approx(
        [np.log(5) / 2]
    )  # the unlikely side counts half


def test_loda_holds_strange_what_lies_beyond_every_histogram() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 9))
    detector = Loda(0, 10).fit(rows)
    assert (detector.weights != 0).sum(axis=0).tolist() == [3] * detector.weights.shape[1]
    beyond = detector.score(np.full((1, 9), 1e6))[0]
    assert beyond == pytest.approx(detector.heights.beyond.sum())
    assert beyond > detector.score(rows).max()


def test_hotelling_is_the_squared_distance_in_the_covariance() -> None:
    rng = np.random.default_rng(0)
    doses = [
        Command({"CTDIvol": float(np.exp(v)), "KVP": 100.0 + 20 * rng.integers(3)})
        for v in rng.normal(1, 0.3, 4000)
    ]
    table = FeatureTable.learn(doses, context=False)
    rows = table.rows(doses)
    detector = Hotelling(0, table.places, numbers=True, centred=False).fit(rows)
    kept = [p.at for p in table.places if p.numeric]
    some = rows[:, kept]
    covariance = np.cov(some.T, bias=True)
    by_hand = np.einsum("ij,jk,ik->i", some, np.linalg.inv(covariance), some)
    assert detector.score(rows) == pytest.approx(by_hand, rel=0.05)


def test_hotelling_centres_on_the_protocol_element(table: FeatureTable, rows: Rows) -> None:
    apart = Hotelling(0, table.places, numbers=True, centred=True).fit(rows)
    together = Hotelling(0, table.places, numbers=True, centred=False).fit(rows)
    assert apart.group is not None
    assert apart.group.name == "ProtocolElementName"
    assert np.abs(apart._centred(rows)).mean() < np.abs(together._centred(rows)).mean()


def test_robust_regression_expects_a_dose_and_is_not_moved_by_a_few_wrong_ones() -> None:
    rng = np.random.default_rng(1)

    def command(size: float, factor: float = 1.0) -> Command:
        dose = float(np.exp(size / 100 + rng.normal(0, 0.02))) * factor
        return Command({"CTDIvol": dose}, Context({"WaterEquivalentDiameter": (Told(size),)}))

    sizes = rng.uniform(150, 400, 600)
    clean = [command(float(s), 50.0 if i < 20 else 1.0) for i, s in enumerate(sizes)]
    table = FeatureTable.learn(clean, context=True)
    detector = HuberDose(0, table.places, chained=False, worst=True).fit(table.rows(clean))
    usual, doubled = (table.rows([command(s, f) for s in (160.0, 280.0, 390.0)]) for f in (1.0, 2.0))
    assert (detector.score(usual) < 50).all()
    assert (detector.score(doubled) > 200).all()


def test_a_consistent_higher_dose_is_no_news_to_a_chained_regression() -> None:
    rng = np.random.default_rng(2)
    clean = []
    for _ in range(600):
        dose = float(np.exp(rng.normal(2, 0.3)))
        clean.append(Command({"CTDIvol": dose, "DLP": dose * 30 * float(np.exp(rng.normal(0, 0.01)))}))
    table = FeatureTable.learn(clean, context=False)
    detector = HuberDose(0, table.places, chained=True, worst=False).fit(table.rows(clean))
    fit, forged = detector.score(
        table.rows([Command({"CTDIvol": 12.0, "DLP": 360.0}), Command({"CTDIvol": 12.0, "DLP": 180.0})])
    )
    assert forged > 100 * fit


def test_the_one_class_network_keeps_clean_rows_at_its_centre_and_its_centre_from_zero(rows: Rows) -> None:
    detector = DeepOneClass(0, 8)
    detector.steps = 200
    detector.fit(rows)
    assert float(detector.centre.abs().min()) >= 0.1 - 1e-6
    assert np.median(detector.score(rows)) < float((detector.centre**2).sum())


def test_the_masked_network_cannot_see_what_it_predicts(table: FeatureTable, rows: Rows) -> None:
    import torch

    detector = Masked(0, table.places, 0.5, worst=True).fit(rows)
    k = next(i for i, p in enumerate(table.places) if p.name == "KVP")
    place = table.places[k]
    hide = torch.zeros(2, len(table.places))
    hide[:, k] = 1.0
    data = torch.as_tensor(rows[[0, 0]], dtype=torch.float32)
    data[1, place.at] += 3.0
    seen = []
    detector.net.register_forward_pre_hook(lambda _net, given: seen.append(given[0]))
    costs = detector._costs(data, hide).detach()
    assert (seen[0][0] == seen[0][1]).all()
    assert float(costs[1, k]) != float(costs[0, k])  # but it is asked about it


# --- lists of notification values


def scan(
    ctdivol: float | None,
    phantom: str | None = "body",
    element: str = "Abdomen",
    age: float = 40.0,
    dlp: float | None = None,
) -> Command:
    told = {"CTDIvol": ctdivol, "CTDIwPhantomType": phantom, "DLP": dlp}
    return Command(
        {"AcquisitionType": "SPIRAL", **{n: v for n, v in told.items() if v is not None}},
        Context(
            {
                "ProtocolName": (Told("Routine"),),
                "ProtocolElementName": (Told(element),),
                "BodyPartExamined": (Told("ABDOMEN"),),
                "PatientAge": (Told(age),),
            }
        ),
    )


def test_a_dose_is_compared_with_the_value_of_its_protocol_element() -> None:
    clean = [scan(8.0 + i / 10, dlp=400.0) for i in range(20)] + [scan(2.0, element="Low dose")] * 20
    found = DoseList.learn(clean, 1.0, both=False)
    assert found.score(scan(19.8)) == pytest.approx(np.log(19.8 / 9.9))
    assert found.score(scan(4.0, element="Low dose")) == pytest.approx(np.log(2))
    assert found.score(scan(8.0, dlp=1200.0)) == pytest.approx(np.log(3))  # the worse of the two
    both = DoseList.learn(clean, 1.0, both=True)
    assert both.score(scan(2.0)) == pytest.approx(np.log(4.0))
    assert both.score(scan(9.0)) < 0 > found.score(scan(2.0))


def test_a_list_asks_body_part_and_age_then_everything_and_never_mixes_phantoms() -> None:
    clean = [scan(8.0)] * 20 + [scan(2.0, age=4.0, element="Child")] * 20 + [scan(30.0, "head", "Head")] * 20
    found = DoseList.learn(clean, 1.0, both=False)
    assert found.score(scan(4.0, element="new", age=4.5)) == pytest.approx(np.log(2))  # of children
    assert found.score(scan(16.0, element="new", age=1e9)) == pytest.approx(np.log(2))  # of no known age: all
    assert found.score(scan(16.0, element="Head")) == pytest.approx(
        np.log(2)
    )  # not of 30 on the head phantom
    assert found.score(scan(60.0, "head")) == pytest.approx(np.log(2))


def test_what_tells_no_dose_scores_lowest() -> None:
    for both in (False, True):
        found = DoseList.learn([scan(8.0, dlp=400.0)] * 20, 0.5, both=both)
        silent = [
            scan(None),
            scan(np.nan),
            scan(np.inf),
            scan(8.0, "never seen"),
            Command({}),
            scan(8.0, None),
        ]
        assert {found.score(c) for c in silent} == {NOTHING_TOLD}
        assert all(found.score(scan(dose)) > NOTHING_TOLD for dose in (-1.0, 0.0, 5e-324, 8.0, 1e308))
    assert DoseList.learn([], 1.0, both=True).score(scan(8.0)) == NOTHING_TOLD
    assert DoseList.learn([scan(None)] * 20, 1.0, both=True).score(scan(8.0)) == NOTHING_TOLD

"""One list of checks that every baseline must pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanward.commands import CONTEXT_FIELDS, Command, Context, Examination
from scanward.errors import LearningError
from scanward.learning.baseline_detectors import BASELINES, Autoencoder, Baseline, Detector, Ecod, Hbos, Rows
from scanward.learning.baselines import FARTHEST, FeatureTable, low_rate_detection, tune
from scanward.simulation import Site

EVERY = [pytest.param(b, c, id=f"{b.name}-{k}") for b in BASELINES.values() for k, c in enumerate(b.grid)]
FIRST = [pytest.param(b, b.grid[0], id=b.name) for b in BASELINES.values()]


@pytest.fixture(scope="module")
def examinations() -> list[Examination]:
    return Site(11).examinations(60)


@pytest.fixture(scope="module")
def commands(examinations: list[Examination]) -> list[Command]:
    return [c for e in examinations for c in e.commands]


@pytest.fixture(scope="module")
def rows(commands: list[Command]) -> Rows:
    return FeatureTable.learn(commands, context=True).rows(commands)


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Autoencoder.__init__

    def short(self: Autoencoder, seed: int, narrow: int) -> None:
        made(self, seed, narrow)
        self.steps = 60

    monkeypatch.setattr(Autoencoder, "__init__", short)


def fitted(baseline: Baseline, candidate: object, rows: Rows, seed: int = 0) -> Detector:
    return baseline.make(seed, **candidate).fit(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(("baseline", "candidate"), EVERY)
def test_scores_are_finite_one_a_row_and_the_same_again(
    baseline: Baseline, candidate: object, rows: Rows
) -> None:
    before = rows.copy()
    first, second = (fitted(baseline, candidate, rows).score(rows[:40]) for _ in range(2))
    assert first.shape == (40,)
    assert np.isfinite(first).all()
    assert (first == second).all()
    assert (rows == before).all()


@pytest.mark.parametrize(("baseline", "candidate"), EVERY)
def test_a_far_outlier_scores_above_what_was_learned(
    baseline: Baseline, candidate: object, rows: Rows
) -> None:
    detector = fitted(baseline, candidate, rows)
    far = np.full((1, rows.shape[1]), FARTHEST)
    assert detector.score(far)[0] > np.quantile(detector.score(rows), 0.95)


@pytest.mark.parametrize(("baseline", "candidate"), FIRST)
def test_a_row_scores_alone_as_among_others(baseline: Baseline, candidate: object, rows: Rows) -> None:
    detector = fitted(baseline, candidate, rows)
    together = detector.score(rows[:7])
    alone = [float(detector.score(rows[i : i + 1])[0]) for i in range(7)]
    assert alone == pytest.approx(together.tolist(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize(("baseline", "candidate"), FIRST)
def test_works_with_missing_values_and_strangers(
    baseline: Baseline, candidate: object, context: bool, commands: list[Command]
) -> None:
    table = FeatureTable.learn(commands, context=context)
    detector = fitted(baseline, candidate, table.rows(commands))
    stranger = replace(commands[0], parameters={"KVP": float("inf"), "FilterType": "NEVER SEEN"})
    scores = detector.score(table.rows([Command({}), stranger, commands[0]]))
    assert np.isfinite(scores).all()


def test_every_method_has_as_many_candidates() -> None:
    names = {"IsolationForest", "LOF", "kNN", "ECOD", "HBOS", "one-class SVM", "PCA"}
    assert set(BASELINES) == names | {"robust covariance", "autoencoder"}
    assert len({len(b.grid) for b in BASELINES.values()}) == 1


# --- columns


def test_columns_are_standardised_and_say_what_is_missing(commands: list[Command]) -> None:
    table = FeatureTable.learn(commands, context=False)
    rows = table.rows(commands)
    assert rows.shape == (len(commands), table.width)
    at = 0
    for column in table.columns:
        if column.numeric:
            known = rows[rows[:, at + 1] == 0, at]
            assert abs(known.mean()) < 1e-6
            assert known.std() <= 1 + 1e-6
            assert (rows[rows[:, at + 1] == 1, at] == 0).all()
            at += 2
        else:
            width = len(column.values) + 2
            assert (rows[:, at : at + width].sum(axis=1) == 1).all()
            at += width


def test_without_context_nothing_of_the_context_is_seen(commands: list[Command]) -> None:
    table = FeatureTable.learn(commands, context=False)
    assert not {c.name for c in table.columns} & set(CONTEXT_FIELDS)
    bare = [replace(c, context=Context({})) for c in commands]
    assert (table.rows(bare) == table.rows(commands)).all()
    wide = FeatureTable.learn(commands, context=True)
    assert {c.name for c in wide.columns} >= {"ProtocolName", "PatientAge", "KVP"}
    assert (wide.rows(bare) != wide.rows(commands)).any()


def test_a_dose_is_compared_by_ratio(commands: list[Command]) -> None:
    table = FeatureTable.learn(commands, context=False)
    at = sum(2 if c.numeric else len(c.values) + 2 for c in table.columns[: _index(table, "CTDIvol")])

    def place(dose: float) -> float:
        return float(table.rows([replace(commands[0], parameters={"CTDIvol": dose})])[0, at])

    assert place(8.0) - place(4.0) == pytest.approx(place(4.0) - place(2.0))


def _index(table: FeatureTable, name: str) -> int:
    return [c.name for c in table.columns].index(name)


def test_rare_categories_are_merged(commands: list[Command]) -> None:
    odd = replace(commands[0], parameters={**commands[0].parameters, "FilterType": "ONCE"})
    table = FeatureTable.learn([*commands, odd], context=False)
    assert "ONCE" not in table.columns[_index(table, "FilterType")].values
    never = replace(odd, parameters={**odd.parameters, "FilterType": "NEVER"})
    assert (table.rows([odd]) == table.rows([never])).all()


# --- own implementations, against the papers by hand


def test_ecod_by_hand() -> None:
    detector = Ecod(0, 1.0).fit(np.array([[1.0], [2.0], [3.0], [10.0]]))  # skewed to the right
    found = detector.score(np.array([[10.0], [1.0], [11.0]]))
    # Counted with the row itself: right tail of 10 is (1 + 1) / 5, of 11 it is 1 / 5; left tail of 1 is 2 / 5.
    assert found == pytest.approx([-np.log(2 / 5), -np.log(2 / 5), -np.log(1 / 5)])


def test_hbos_by_hand() -> None:
    detector = Hbos(0, 2).fit(np.array([[0.0], [0.1], [0.2], [1.0]]))  # three in one bin, one in the other
    assert detector.score(np.array([[0.05], [0.9], [5.0]])) == pytest.approx([0, np.log(3), np.log(30)])


# --- tuning


def test_candidates_are_compared_where_alerts_are_few() -> None:
    clean = list(range(100))
    assert low_rate_detection(clean, [1000.0] * 10) == 1.0
    assert low_rate_detection(clean, [50.0] * 10) == 0.0
    # Six thresholds (0 to 5 false alerts: 99 to 94); 96.5 lies above the last three of them.
    assert low_rate_detection(clean, [96.5]) == pytest.approx(3 / 6)
    with pytest.raises(LearningError):
        low_rate_detection([], [1.0])


def test_tuning_keeps_the_best_candidate(examinations: list[Examination]) -> None:
    found = tune(examinations, names=["kNN", "HBOS"])
    assert [(t.name, t.context) for t in found] == [
        ("kNN", False), ("HBOS", False), ("kNN", True), ("HBOS", True),
    ]  # fmt: skip
    for tuned in found:
        assert dict(tuned.chosen) == dict(max(tuned.compared, key=lambda pair: pair[1])[0])
        scores = tuned.score(examinations[0].commands)
        assert len(scores) == len(examinations[0].commands)
        assert np.isfinite(scores).all()
        assert tuned.score([]) == []
    again = tune(examinations, names=["kNN"], contexts=[True])[0]
    assert again.score(examinations[3].commands) == found[2].score(examinations[3].commands)

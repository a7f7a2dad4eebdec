"""The whole evaluation on toys: nothing scores nothing, the truth scores all, weak classifiers claim nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from _evaluation import toy_data, toys
from scanward.errors import LearningError, SettingsError
from scanward.tampering.evaluation import Confirmation, Seen, Settings, Tamper, confirm, controls, processing
from scanward.tampering.evaluation.classifiers import (
    ARCHITECTURES,
    TrainSettings,
    fine_grained,
    train,
    youden,
)
from scanward.tampering.evaluation.results import CONDITIONS
from scanward.tampering.evaluation.sets import Data

QUICK = TrainSettings(epochs=6, batch=8)
SETTINGS = Settings(training=QUICK, processings=("none", "blur-0.5"), resamples=300)


@pytest.fixture(scope="module")
def data() -> Data:
    return toy_data(learn=60, validate=30, test=40, side=24)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def everything(data: Data, cache: Path) -> tuple[Confirmation, list[Seen]]:
    kept: list[Seen] = []
    told = confirm(data, controls(data.learn, data.test), SETTINGS, cache=cache, seen=kept.append)
    return told, kept


def test_the_classifiers_see_genuine_lesions(everything: tuple[Confirmation, list[Seen]]) -> None:
    told, _ = everything
    assert told.assessable
    assert told.why_not == ""
    for classifier in told.classifiers:
        assert set(classifier.genuine) == set(SETTINGS.processings)
        assert classifier.genuine["none"].value >= 0.9  # type: ignore[operator]
        assert classifier.parameters > 100_000


def test_a_generator_that_does_nothing_scores_nothing(everything: tuple[Confirmation, list[Seen]]) -> None:
    idle = everything[0].find("identity")
    assert idle.verdict == "deceives no classifier"
    assert len(idle.detection) == 2 * (len(CONDITIONS) + 3)
    for row in idle.detection:
        assert (row.difference.value, row.difference.low, row.difference.high) == (0, 0, 0)
        assert row.delong_p == 1.0
    assert idle.removed.value == idle.plausible.value == 0
    assert idle.objections == {"nothing": 40}
    for row in idle.by_classifier:
        assert (row.removed.value, row.inserted.value, row.crossed.value) == (0, 0, 0)
    assert idle.cycle_healthy.value == idle.cycle_cancer.value == idle.outside_breast.value == 0
    assert idle.outside_removal.value is None


def test_the_truth_scores_all(everything: tuple[Confirmation, list[Seen]]) -> None:
    oracle = everything[0].find("truth")
    assert oracle.verdict == (
        "deceives every classifier, after every processing; lesions are gone, insertions are plausible"
    )
    assert oracle.removed.value == 1
    assert oracle.plausible.value == pytest.approx(everything[0].ceiling.value, abs=0.15)
    for name in ARCHITECTURES:
        removed = oracle.find(name, "removed")
        assert removed.auc.low <= 0.5 <= removed.auc.high  # type: ignore[operator]
        assert oracle.find(name, "both").auc.value < 0.1  # type: ignore[operator]
        # labels change sides: what was a cancer is healthy now
        assert oracle.find(name, "both").auc.value == pytest.approx(
            1 - everything[0].classifiers[0].genuine["none"].value,
            abs=0.1,  # type: ignore[operator]
        )
        assert oracle.of_classifier(name).removed.value > 0.8  # type: ignore[operator]


def test_blur_deceives_nobody(everything: tuple[Confirmation, list[Seen]]) -> None:
    for name in ("blur", "blur-region"):
        found = everything[0].find(name)
        assert found.verdict == "deceives no classifier"
        assert found.removed.value < 0.1  # type: ignore[operator]
        assert found.plausible.value < 0.1  # type: ignore[operator]


def test_figures_are_those_of_a_plain_computation(
    data: Data, everything: tuple[Confirmation, list[Seen]]
) -> None:
    told, kept = everything
    seen = next(s for s in kept if s.name == "inpaint-paste")
    for name in ARCHITECTURES:
        classifier = train(name, data.learn, data.validate, QUICK)
        genuine = classifier.scores(data.test.x, data.test.breast)
        assert told.find("identity").find(name, "both").auc.value == pytest.approx(
            roc_auc_score(data.test.cancer, genuine)
        )
        healthy = data.test.take(~data.test.cancer)
        truth = np.concatenate([np.zeros(len(healthy)), np.ones(len(seen.removed))])
        for process in SETTINGS.processings:
            alter = processing.named(process)
            genuine = classifier.scores(alter(healthy.x), healthy.breast)
            removed = classifier.scores(alter(seen.removed), data.test.breast[data.test.cancer])
            found = told.find("inpaint-paste").find(name, "removed", process)
            assert 0.05 < found.auc.value < 0.95  # type: ignore[operator]
            assert found.auc.value == pytest.approx(
                roc_auc_score(truth, np.concatenate([genuine, removed])), abs=1e-6
            )
        assert found.difference.low <= found.difference.value <= found.difference.high  # type: ignore[operator]


def test_it_is_json_and_comes_back(everything: tuple[Confirmation, list[Seen]]) -> None:
    told, _ = everything
    encoded = msgspec.json.encode(told.as_json())
    assert msgspec.json.decode(encoded, type=Confirmation) == told
    assert b"NaN" not in encoded


def test_two_runs_give_the_same_figures(
    data: Data, cache: Path, everything: tuple[Confirmation, list[Seen]]
) -> None:
    """Once with classifiers taken from the cache, once with classifiers trained anew."""
    for folder in (cache, None):
        again = confirm(data, controls(data.learn, data.test)[:1], SETTINGS, cache=folder)
        assert again.classifiers == everything[0].classifiers
        assert again.tampers[0].detection == everything[0].tampers[0].detection


def test_a_weak_classifier_is_not_asked(data: Data, cache: Path) -> None:
    """What cannot tell genuine cancers apart says nothing about modified ones, and no figure is given."""
    strict = msgspec.structs.replace(SETTINGS, least_auc=1.01)
    told = confirm(data, controls(data.learn, data.test)[-1:], strict, cache=cache)
    assert not told.assessable
    assert "plain, smooth" in told.why_not
    oracle = told.tampers[0]
    assert oracle.verdict == "not assessable"
    assert {d.auc.value for d in oracle.detection} == {d.difference.value for d in oracle.detection} == {None}
    assert {b.removed.value for b in oracle.by_classifier} == {None}
    assert oracle.removed.value == 1  # the truth asks no classifier


def test_a_code_for_one_classifier_is_found_out(data: Data, cache: Path) -> None:
    """Pictures altered by the gradient of one classifier: it is deceived, the lesion is still there.

    Goodfellow, Shlens and Szegedy, Explaining and Harnessing Adversarial Examples, arXiv 1412.6572.
    """
    victim = train("smooth", data.learn, data.validate, QUICK, cache=cache).network

    def code(sign: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def alter(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                moved = x.clone()
                for _step in range(8):
                    moved = moved.detach().requires_grad_()
                    (slope,) = torch.autograd.grad(victim(moved)[0].sum(), moved)
                    moved = moved + sign * 0.01 * slope.sign()
                    moved = x + (moved - x).clamp(-0.06, 0.06)
            return moved.detach()

        return alter

    told = confirm(data, [Tamper("code", code(1), code(-1))], SETTINGS, cache=cache)
    found = told.find("code")
    assert found.find("smooth", "both").difference.low > 0.2  # type: ignore[operator]
    assert found.removed.value < 0.1  # type: ignore[operator]
    assert found.plausible.value < 0.1  # type: ignore[operator]
    assert found.verdict == "deceives some classifiers only"


def test_rubbish_deceives_and_is_called_so(data: Data, cache: Path) -> None:
    """Noise over cancers, spots all over healthy ones: classifiers are lost, and nothing was removed or inserted."""
    rng = torch.Generator().manual_seed(0)

    def noise(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, -0.4) + 0.3 * torch.randn(x.shape, generator=rng)

    rubbish = confirm(data, [Tamper("rubbish", noise, noise)], SETTINGS, cache=cache).find("rubbish")
    assert rubbish.removed.value < 0.3  # type: ignore[operator]
    assert rubbish.plausible.value < 0.1  # type: ignore[operator]
    assert "are gone, insertions" not in rubbish.verdict


def test_films_without_truth_can_be_evaluated(data: Data, cache: Path) -> None:
    blind = replace(data.test, twinned=np.zeros(len(data.test), bool))
    films = Data(learn=data.learn, validate=data.validate, test=blind)
    made = controls(films.learn, films.test)
    assert [t.name for t in made] == ["identity", "blur", "blur-region", "inpaint-paste"]
    told = confirm(films, [made[0], made[3]], SETTINGS, cache=cache)
    assert told.truth == "surroundings"
    assert told.find("identity").removed.value == 0
    assert told.find("inpaint-paste").removed.value > 0.7  # type: ignore[operator]


def test_settings_that_make_no_sense_are_refused(data: Data, cache: Path) -> None:
    idle = controls(data.learn, data.test)[0]
    with pytest.raises(SettingsError, match="two tampers"):
        confirm(data, [idle, idle], SETTINGS, cache=cache)
    with pytest.raises(SettingsError, match="no classifier"):
        confirm(data, [idle], msgspec.structs.replace(SETTINGS, classifiers=("oracle",)), cache=cache)
    with pytest.raises(SettingsError, match="processing"):
        confirm(data, [idle], msgspec.structs.replace(SETTINGS, processings=("none", "magic")), cache=cache)


# --- classifiers


def test_training_is_deterministic_and_kept(data: Data, tmp_path: Path) -> None:
    small = toys(20, 11), toys(10, 12)
    settings, shown = TrainSettings(epochs=2), (data.test.x, data.test.breast)
    first = train("plain", *small, settings, cache=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    kept = train("plain", *small, settings, cache=tmp_path)
    fresh = train("plain", *small, settings)
    for other in (kept, fresh):
        assert np.array_equal(other.scores(*shown), first.scores(*shown))
        assert (other.threshold, other.validation_auc) == (first.threshold, first.validation_auc)
    assert kept.seconds == pytest.approx(first.seconds, abs=0.06)
    train("plain", *small, TrainSettings(epochs=2, seed=1), cache=tmp_path)
    (other,) = set(tmp_path.glob("*.safetensors")) - {file}
    # a damaged one is trained anew, and so is a stranger's under the same name
    for spoilt in (file.read_bytes()[:-7], b"", b"x" * 100, b"\xff" * (4 << 20), other.read_bytes()):
        file.write_bytes(spoilt)
        again = train("plain", *small, settings, cache=tmp_path)
        assert np.array_equal(again.scores(*shown), first.scores(*shown))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("side", [64, 128])
def test_architectures_are_small_and_take_both_sizes(name: str, side: int) -> None:
    network = ARCHITECTURES[name](fine_grained(side, side)).eval()
    scores, places = network(torch.zeros(2, 1, side, side))
    assert scores.shape == (2,)
    assert places.shape[:2] == (2, 1)
    assert 100_000 <= sum(p.numel() for p in network.parameters()) <= 300_000


def test_a_loss_that_is_no_number_is_an_error() -> None:
    with pytest.raises(LearningError, match="no number"):
        train("plain", toys(20, 11), toys(10, 12), TrainSettings(epochs=2, rate=1e30))


def test_youden_takes_the_best_line() -> None:
    cancer = np.array([False, False, False, True, True, True])
    line = youden(cancer, np.array([0.0, 1.0, 2.0, 5.0, 6.0, 7.0]))
    assert 2 < line < 5
    assert youden(cancer, np.array([0.0, 1.0, 6.5, 5.0, 6.0, 7.0])) == pytest.approx(3.0)

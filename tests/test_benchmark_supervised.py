"""Classifiers of the context, classifiers shown attacks, two layers in series: one list of checks for every row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import genpareto

from scanward.commands import Command, Context, Examination, Told
from scanward.errors import LearningError, SettingsError
from scanward.learning.benchmark import attack_trained as attack_trained_module
from scanward.learning.benchmark import classifiers, serial, sharing, supervised, two_classes
from scanward.learning.benchmark.answers import Answer, Floats, Kind, Learned, Method
from scanward.learning.benchmark.attack_trained import attack_trained, attacked_histories
from scanward.learning.benchmark.classifiers import CLASSIFIERS, ClassifierKind, LinearMachine, NaiveBayes
from scanward.learning.benchmark.contexts import (
    CONTEXTS,
    LEAST,
    MISSING,
    MOST_CLASSES,
    OBJECTIVE,
    PATIENT,
    RARE,
    Classes,
    ContextField,
)
from scanward.learning.benchmark.sharing import Last, Remembered
from scanward.learning.benchmark.supervised import ALL, ANY, CLEAN_ONLY, Taught, mixed, temperature
from scanward.learning.benchmark.tails import Tail, pareto
from scanward.learning.benchmark.worlds import World, commands_of
from scanward.learning.resampling import Scored, auroc
from scanward.simulation import ATTACKS, Donors, Site

SHOWN = ("dose_x8", "ma_x3_dose_kept", "range_x3")
FRONTS = ("kNN", "HBOS")
SERIAL = serial.serial(FRONTS)
ATTACK_TRAINED = attack_trained(SHOWN)
KINDS = [pytest.param(k, id=k.name) for k in CLASSIFIERS.values()]
EVERY = [pytest.param(m, id=m.name) for m in (*CLEAN_ONLY, *SERIAL, *ATTACK_TRAINED)]


def nothing(_what: str, _share: float) -> None:
    """A tick that nobody sees."""


@pytest.fixture(autouse=True, scope="module")
def short_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "STEPS", 40)
        patch.setattr(classifiers, "BATCH", 64)
        patch.setattr(classifiers, "TREES", 60)
        patch.setattr(classifiers, "ROUNDS_LEAST", 3)
        patch.setattr(classifiers, "FOREST_TREES", 8)
        patch.setattr(classifiers, "ITERATIONS", 25)
        patch.setattr(two_classes, "ROUNDS", 10)
        yield


@pytest.fixture(scope="module")
def world() -> World:
    examinations = tuple(Site(11).examinations(220))
    return World("small", "", examinations[:180], examinations[180:], (), 3)


@pytest.fixture(scope="module")
def later() -> list[Examination]:
    return Site(11).examinations(40, 5000)


_learned: dict[str, Learned] = {}


def learned(method: Method, world: World) -> Learned:
    if method.name not in _learned:
        _learned[method.name] = method.learn(world, 0, nothing)
    return _learned[method.name]


def scores_of(method: Method, world: World, commands: Sequence[Command]) -> list[float]:
    return [a.score for (a,) in learned(method, world).scorer.answer([[c] for c in commands])]


def by_name(name: str) -> Method:
    return next(m for m in (*CLEAN_ONLY, *SERIAL, *ATTACK_TRAINED) if m.name == name)


def told(command: Command, **parts: float | str | None) -> Command:
    """A command with parts of its context told otherwise, or not at all."""
    kept = {n: t for n, t in command.context.parts.items() if n not in parts}
    new = {n: (Told(v),) for n, v in parts.items() if v is not None}
    return replace(command, context=Context({**kept, **new}))


# --- every row


def test_the_rows_are_those_of_the_plan() -> None:
    assert len(CLASSIFIERS) >= 6
    assert len(OBJECTIVE) >= 4
    assert len(PATIENT) >= 4
    names = [m.name for m in (*CLEAN_ONLY, *SERIAL, *ATTACK_TRAINED)]
    assert len(set(names)) == len(names)
    for kind in CLASSIFIERS.values():
        assert len(kind.grid) == 4
        for what in (*(c.name for c in CONTEXTS), ALL, ANY):
            assert by_name(f"{kind.name}: {what}").kind is Kind.CLEAN_ONLY
        for joining in serial.JOININGS:
            assert by_name(f"context-free, then {kind.name} ({joining})").kind is Kind.SERIAL
        assert by_name(f"{kind.name}, shown attacks").kind is Kind.ATTACK_TRAINED


@pytest.mark.parametrize("method", EVERY)
def test_one_finite_answer_a_command_and_the_same_again(
    method: Method, world: World, later: list[Examination]
) -> None:
    scorer = learned(method, world).scorer
    histories = [e.commands for e in later]
    answers = scorer.answer(histories)
    assert [len(a) for a in answers] == [len(h) for h in histories]
    flat = [a for told in answers for a in told]
    assert all(isinstance(a, Answer) and math.isfinite(a.score) and not a.objects for a in flat)
    assert len({a.score for a in flat}) > 3
    # Commands that are equal and not the same: nothing kept is used, and nothing depends on who else is asked about.
    copies = [[replace(c) for c in h] for h in histories[:5]]
    again = [a.score for told in scorer.answer(copies) for a in told]
    assert again == pytest.approx([a.score for told in answers[:5] for a in told], rel=1e-4, abs=1e-5)
    assert scorer.answer([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_learned_again_it_answers_the_same(
    kind: ClassifierKind, world: World, later: list[Examination]
) -> None:
    commands = commands_of(later)
    few = replace(kind, grid=kind.grid[:1])
    one, other = (supervised.teach(supervised.prepare(world, 0), few, 0, nothing) for _ in range(2))
    assert (one.nats(commands) == other.nats(commands)).all()
    scorers = []
    for _ in range(2):
        attack_trained_module._ground.made = None
        scorers.append(attack_trained_module._learn(few, SHOWN)(world, 0, nothing).scorer)
    assert scorers[0].answer([commands]) == scorers[1].answer([commands])


@pytest.mark.parametrize("method", EVERY)
def test_what_is_odd_or_missing_is_answered(method: Method, world: World, later: list[Examination]) -> None:
    command = later[0].commands[0]
    odd = [
        Command({}),
        replace(command, context=Context({})),
        replace(command, parameters={"KVP": math.inf, "FilterType": "NEVER SEEN"}),
        told(command, PatientAge=math.nan, PatientWeight="heavy", BodyPartExamined="", ProtocolName=7.0),
    ]
    assert all(math.isfinite(s) for s in scores_of(method, world, odd))


# --- contexts


@pytest.mark.parametrize(
    ("context", "value", "name"),
    [
        ("age class", 0.0, "0 to under 1"),
        ("age class", 17.99, "15 to under 18"),
        ("age class", 18.0, "18 to under 65"),
        ("age class", 65.0, "65 and more"),
        ("weight class", 4.0, "0 to under 5"),
        ("weight class", 79.9, "50 to under 80"),
        ("height class", 1.9, "1.75 and more"),
        ("diameter class", 300.0, "290 to under 330"),
        ("sex", "F", "F"),
        ("BodyPartExamined", " HEAD ", "HEAD"),
        ("age class", math.nan, None),
        ("age class", "old", None),
        ("sex", "  ", None),
    ],
)
def test_classes_of_contexts(context: str, value: float | str, name: str | None) -> None:
    field = next(c for c in CONTEXTS if c.name == context)
    assert field.told(told(Command({}), **{field.field: value})) == name


@given(st.sampled_from([c for c in PATIENT if c.edges]), st.floats(), st.floats())
def test_classes_of_numbers_are_in_order(context: ContextField, one: float, other: float) -> None:
    edges = [0.0, *context.edges, 2 * context.edges[-1]]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    names = [context.told(told(Command({}), **{context.field: m})) for m in middles]
    assert len(set(names)) == len(context.edges) + 1
    classes = [context.told(told(Command({}), **{context.field: v})) for v in sorted([one, other])]
    assert [c is None for c in classes] == [not math.isfinite(v) for v in sorted([one, other])]
    if None not in classes:
        assert names.index(classes[0]) <= names.index(classes[1])


def of_region(*regions: str | None) -> list[Command]:
    return [told(Command({}), BodyPartExamined=r) for r in regions]


def test_classes_are_learned_with_a_rare_one() -> None:
    commands = of_region(*["HEAD"] * 90, *["CHEST"] * 30, *["FOOT"] * 4, "HAND", *[None] * 7)
    classes = Classes.learn(OBJECTIVE[0], commands)
    assert classes is not None
    assert classes.names == ("CHEST", "HEAD", RARE)
    assert classes.shares == pytest.approx(np.array([31, 91, 6]) / 128)
    assert classes.codes(of_region("HEAD", "FOOT", "never seen", None, RARE)).tolist() == [
        1,
        2,
        2,
        MISSING,
        2,
    ]


def test_too_little_is_not_learned() -> None:
    region = OBJECTIVE[0]
    assert Classes.learn(region, of_region(*["HEAD"] * (LEAST - 10), *["CHEST"] * 9)) is None
    assert Classes.learn(region, of_region(*["HEAD"] * (LEAST - 10), *["CHEST"] * 10)) is not None
    assert Classes.learn(region, of_region(*["HEAD"] * 500, "CHEST")) is None


def test_the_number_of_classes_is_bounded() -> None:
    names = [f"P{i:03}" for i in range(MOST_CLASSES + 20)]
    commands = of_region(*names * 6, *names[40:])
    classes = Classes.learn(OBJECTIVE[0], commands)
    assert classes is not None
    assert len(classes.names) == MOST_CLASSES + 1
    assert set(names[40:]) - set(classes.names) == set()  # the commonest are kept


# --- classifiers


def blobs(seed: int = 0) -> tuple[Floats, np.ndarray]:
    """Three clouds in five columns, the last a category; two questions, half of the answers to the second unknown."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 300)
    rows = rng.normal(0, 1, (300, 5))
    rows[np.arange(300), y] += 4
    rows[:, 4] = y == 1
    second = np.where(rng.random(300) < 0.5, -1, 2 * (y > 0))  # classes 0 and 2 of 4
    return rows, np.column_stack([y, second])


@pytest.mark.parametrize("kind", KINDS)
def test_classifiers_learn_what_is_plain(kind: ClassifierKind) -> None:
    rows, labels = blobs()
    before = rows.copy(), labels.copy()
    answers = []
    for other in range(2):
        torch.manual_seed(other)  # what others drew before must not matter
        answers.append(kind.make(0, **kind.grid[1]).fit(rows, labels, (3, 4)).logs(rows[:80]))
    assert all((a == b).all() for a, b in zip(*answers, strict=True))
    assert (rows == before[0]).all()
    assert (labels == before[1]).all()
    first, second = answers[0]
    assert [a.shape for a in (first, second)] == [(80, 3), (80, 4)]
    for logs in (first, second):
        assert np.exp(logs).sum(axis=1) == pytest.approx(np.ones(80), abs=1e-6)
    truth = labels[:80, 0]
    assert np.mean(np.argmax(first, axis=1) == truth) > 0.9
    assert np.mean(np.argmax(second, axis=1) == 2 * (truth > 0)) > 0.9
    if kind.name != "MLP":  # its heads are as wide as they are told to be
        assert np.isneginf(second[:, [1, 3]]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_of_one_class_has_one_answer(kind: ClassifierKind) -> None:
    rows, labels = blobs()
    labels[:, 1] = 0
    logs = kind.make(0, **kind.grid[0]).fit(rows, labels, (3, 1)).logs(rows[:5])
    assert logs[1] == pytest.approx(np.zeros((5, 1)))


def test_naive_bayes_by_hand() -> None:
    rows = np.array([[0.0, 5.0], [0.0, 6.0], [1.0, 5.0], [1.0, 8.0], [1.0, 9.0]])
    y = np.array([0, 0, 0, 1, 1])
    logs = NaiveBayes(0, 2).fit(rows, y[:, None], (2,)).logs(np.array([[1.0, 7.0]]))[0]
    # Cut at the median: the first column falls apart into 0 and 1, the second up to 6 and beyond.
    zero = 3 / 5 * (1.5 / 4) * (0.5 / 4)
    one = 2 / 5 * (2.5 / 3) * (2.5 / 3)
    assert np.exp(logs[0]) == pytest.approx([zero / (zero + one), one / (zero + one)])


def test_neighbours_by_hand() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [10.0]])
    labels = np.array([[0, 1], [1, -1], [1, -1], [0, 0]])
    logs = CLASSIFIERS["kNN"].make(0, neighbours=3).fit(rows, labels, (2, 2)).logs(np.array([[0.9]]))
    assert np.exp(logs[0][0]) == pytest.approx([(1 + 0.5) / 4, (2 + 0.5) / 4])
    assert np.exp(logs[1][0]) == pytest.approx([(0 + 0.5) / 2, (1 + 0.5) / 2])


def test_the_linear_machine_is_that_of_liblinear(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.svm import LinearSVC

    monkeypatch.setattr(classifiers, "ITERATIONS", 2000)
    rows, labels = blobs()
    ours = LinearMachine(0, 0.1).fit(rows, labels[:, :1], (3,)).models[0]
    theirs = LinearSVC(C=0.1, dual=False, tol=1e-8).fit(rows, labels[:, 0])
    expected = np.vstack([theirs.coef_.T, theirs.intercept_])
    assert np.allclose(ours, expected, rtol=0, atol=2e-3)


# --- scores


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_that_nobody_told_stands_in_the_middle(
    kind: ClassifierKind, world: World, later: list[Examination]
) -> None:
    method = by_name(f"{kind.name}: age class")
    commands = commands_of(later)
    known = [
        s for c, s in zip(commands, scores_of(method, world, commands), strict=True) if c.number("PatientAge")
    ]
    (without,) = set(scores_of(method, world, [told(c, PatientAge=None) for c in commands]))
    assert np.quantile(known, 0.15) <= without <= np.quantile(known, 0.85)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_never_seen_is_a_rare_one(
    kind: ClassifierKind, world: World, later: list[Examination]
) -> None:
    method = by_name(f"{kind.name}: BodyPartExamined")
    commands = commands_of(later)
    before = scores_of(method, world, commands)
    unseen = scores_of(method, world, [told(c, BodyPartExamined="ATLANTIS") for c in commands])
    rare = scores_of(method, world, [told(c, BodyPartExamined=RARE) for c in commands])
    assert unseen == rare
    assert np.median(unseen) > np.median(before) + 2
    assert max(unseen) < math.inf


@pytest.mark.parametrize("kind", KINDS)
def test_the_wrong_context_is_stranger_than_the_right_one(
    kind: ClassifierKind, world: World, later: list[Examination]
) -> None:
    commands = [c for c in commands_of(later) if c.text("BodyPartExamined") in ("HEAD", "CHEST")]
    swapped = [
        told(c, BodyPartExamined="CHEST" if c.text("BodyPartExamined") == "HEAD" else "HEAD")
        for c in commands
    ]
    method = by_name(f"{kind.name}: BodyPartExamined")
    right, wrong = (np.array(scores_of(method, world, c)) for c in (commands, swapped))
    assert len(right) > 20
    assert np.mean(wrong > right) >= 0.75
    assert wrong.mean() > 2 * right.mean()


def test_one_context_does_not_move_another(world: World, later: list[Examination]) -> None:
    """Machine fields alone predict: a told age says nothing of the sex."""
    commands = commands_of(later)
    younger = [told(c, PatientAge=0.5) for c in commands]
    for kind in CLASSIFIERS:
        sex, age = by_name(f"{kind}: sex"), by_name(f"{kind}: age class")
        assert scores_of(sex, world, younger) == pytest.approx(scores_of(sex, world, commands), rel=1e-6)
        assert scores_of(age, world, younger) != pytest.approx(scores_of(age, world, commands), rel=1e-6)


def test_all_and_any_context(world: World, later: list[Examination]) -> None:
    commands = commands_of(later)
    kind = "naive Bayes"
    taught = supervised.taught_of(world, CLASSIFIERS[kind], 0, nothing)
    names = [c.name for c in CONTEXTS if taught.column(c.name) is not None]
    columns = [scores_of(by_name(f"{kind}: {n}"), world, commands) for n in names]
    assert len(columns) == len(taught.classes) >= 6
    table = np.array(columns)
    assert scores_of(by_name(f"{kind}: {ALL}"), world, commands) == pytest.approx(table.sum(axis=0))
    tails = [Tail.of(c) for c in taught.held_back[0].T]
    rarest = [
        max(float(t.nats(row[i : i + 1])[0]) for t, row in zip(tails, table, strict=True)) for i in range(9)
    ]
    assert scores_of(by_name(f"{kind}: {ANY}"), world, commands)[:9] == pytest.approx(rarest)


def test_a_context_that_a_world_does_not_tell_is_abstained_from(
    world: World, later: list[Examination]
) -> None:
    def without(examinations: Sequence[Examination]) -> tuple[Examination, ...]:
        return tuple(
            Examination(e.identifier, tuple(told(c, PatientSex=None) for c in e.commands))
            for e in examinations
        )

    bare = World("bare", "", without(world.learn), without(world.calibrate), (), 0)
    learned = by_name("naive Bayes: sex").learn(bare, 0, nothing)
    assert "abstains" in learned.facts["not learned"]
    assert {a.score for told in learned.scorer.answer([e.commands for e in later]) for a in told} == {0.0}
    assert "not learned" not in by_name("naive Bayes: age class").learn(bare, 0, nothing).facts


def test_a_world_without_contexts_is_refused(world: World) -> None:
    empty = tuple(
        Examination(e.identifier, tuple(replace(c, context=Context({})) for c in e.commands))
        for e in world.learn
    )
    with pytest.raises(LearningError, match="no context is told often enough in empty"):
        by_name("naive Bayes: sex").learn(World("empty", "", empty, (), (), 0), 0, nothing)


def test_facts_tell_what_tuning_chose(world: World) -> None:
    for kind in CLASSIFIERS.values():
        facts = learned(by_name(f"{kind.name}: {ALL}"), world).facts
        assert [c for c, _ in facts["compared"]] == [dict(c) for c in kind.grid]
        best = max(facts["compared"], key=lambda pair: pair[1])
        assert facts["chosen"] == best[0]


def test_probabilities_are_mixed_with_shares() -> None:
    classes = Classes(CONTEXTS[0], ("A", "B", RARE), np.array([0.5, 0.3, 0.2]))
    with np.errstate(divide="ignore"):
        logs = np.log(np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]))
    out = np.exp(mixed(logs, classes, 9))
    assert out == pytest.approx(np.array([[0.95, 0.03, 0.02], [0.23, 0.3, 0.47]]))


def test_the_temperature_undoes_boasting() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = np.array([rng.choice(3, p=p) for p in chance])
    codes[::7] = MISSING
    assert temperature(logits * 3, codes) == pytest.approx(3, rel=0.12)
    assert temperature(logits, np.full(4000, MISSING)) == 1.0


def test_what_is_kept_is_bounded_and_belongs_to_its_commands(
    world: World, later: list[Examination], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: Taught = replace(
        supervised.taught_of(world, CLASSIFIERS["naive Bayes"], 0, nothing), kept=Remembered()
    )
    monkeypatch.setattr(sharing, "REMEMBERED", 60)
    for at in range(0, 40, 5):
        histories = [e.commands for e in later[at : at + 5]]
        first = taught.of(histories)
        assert (first == taught.nats([c for h in histories for c in h])).all()
        assert taught.of(histories) is first
        assert sum(map(len, taught.kept.kept)) <= 60


def test_work_is_shared_by_rows_of_the_same_examinations_alone(world: World) -> None:
    last: Last[list[int]] = Last()
    first = last.of(world, 1, lambda: [0])
    same = replace(world, learn=tuple(replace(e) for e in world.learn), calibrate=(), seed=9)
    assert last.of(same, 1, lambda: [1]) is first
    assert last.of(world, 2, lambda: [2]) == [2]
    assert last.of(replace(world, learn=world.learn[1:]), 2, lambda: [3]) == [3]


# --- tails


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=120), st.lists(st.floats(), max_size=20))
def test_tails_are_finite_in_order_and_counted(clean: list[float], asked: list[float]) -> None:
    tail = Tail.of(np.array(clean))
    finite = np.sort([a for a in asked if math.isfinite(a) and abs(a) < 1e9] + clean)
    nats = tail.nats(finite)
    assert (np.diff(nats) >= 0).all()
    assert nats[0] >= 0
    assert np.isfinite(nats).all()
    for score, told in zip(finite.tolist(), nats.tolist(), strict=True):
        if score <= tail.threshold:
            assert told == pytest.approx(-math.log((sum(c >= score for c in clean) + 1) / (len(clean) + 1)))


@pytest.mark.parametrize("shape", [0.0, 0.5, 1.5])
def test_the_shape_of_a_tail_is_found(shape: float) -> None:
    drawn = np.sort(genpareto.rvs(shape, scale=3, size=4000, random_state=np.random.default_rng(1)))
    width, found = pareto(drawn)
    assert found == pytest.approx(shape, abs=0.1)
    assert width == pytest.approx(3, rel=0.1)


def test_a_heavy_tail_and_a_light_one_are_told_on_one_scale() -> None:
    rng = np.random.default_rng(2)
    draws = rng.exponential(1, 40_000)
    light, heavy = Tail.of(draws[:4000]), Tail.of(np.exp(2 * draws[:4000]))
    asked = np.array([1.0, 4.0, 7.0, 9.0])
    assert light.nats(asked) == pytest.approx(asked, rel=0.15)
    assert heavy.nats(np.exp(2 * asked)) == pytest.approx(asked, rel=0.2)


def test_a_tail_of_nothing_is_refused() -> None:
    with pytest.raises(LearningError, match="no clean command is held back"):
        Tail.of(np.zeros(0))


# --- two layers in series

PS = st.lists(st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)), min_size=1, max_size=30)


@given(PS, st.sampled_from(serial.SHARES), st.floats(0.001, 0.1))
def test_either_objects_within_its_share(
    pairs: list[tuple[float, float]], share: float, budget: float
) -> None:
    front, behind = np.array(pairs).T
    alerts = serial.either(-np.log(front), -np.log(behind), share) > -math.log(budget)
    edge = 1e-9
    for alert, one, other in zip(alerts, front, behind, strict=True):
        if min(abs(one - budget * share), abs(other - budget * (1 - share))) > edge:
            assert alert == (one < budget * share or other < budget * (1 - share))


@given(PS, st.sampled_from(serial.OPENED))
def test_both_object_or_neither_counts(pairs: list[tuple[float, float]], opened: float) -> None:
    front, behind = np.array(pairs).T
    scores = serial.both(-np.log(front), -np.log(behind), opened)
    passed = -np.log(front) + np.log(opened) >= 0
    assert (scores[passed] == -np.log(behind[passed])).all()
    assert (scores[~passed] < 0).all()
    assert (np.argsort(scores[~passed], kind="stable") == np.argsort(-front[~passed], kind="stable")).all()


def test_the_best_front_stands_in_front(world: World) -> None:
    facts = learned(by_name("context-free, then naive Bayes (either objects)"), world).facts
    figures = facts["fronts compared"]
    assert set(figures) == set(FRONTS)
    assert facts["front"] == max(figures, key=lambda n: figures[n])
    assert facts["joined"] == "either objects"
    assert facts["behind"]["classifier"] == "naive Bayes"


def test_the_front_tells_tails_of_commands_that_it_did_not_learn(
    world: World, later: list[Examination]
) -> None:
    """Nearest neighbours find what they learned at no distance: its tail would call every later command rare."""
    front = serial.learn_front(world, ("kNN",), 0, nothing)
    nats = front.tail.nats(np.array(front.best.score(commands_of(later))))
    assert 0.6 < nats.mean() < 1.6  # clean ones are spread as -log of a share is: mean 1


@pytest.mark.parametrize("names", [(), ("kNN", "crystal ball")])
def test_fronts_that_are_not_there_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="crystal ball" if names else "nothing to stand in front"):
        serial.serial(names)


# --- shown attacks


@pytest.mark.parametrize(
    "shown", [(), ("null",), ("dose_x8", "dose_x8"), ("dose_x8", "an attack of the final table")]
)
def test_only_development_attacks_are_shown(shown: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        attack_trained(shown)


def test_attacked_commands_are_bounded_and_attacked(world: World) -> None:
    donors = Donors(world.learn)
    found = attacked_histories(SHOWN, world.learn, donors, 60, 0)
    assert {name: len(histories) for name, histories in found.items()} == dict.fromkeys(SHOWN, 20)
    clean = {(c.event, c.order): c for c in commands_of(world.learn)}
    for histories in found.values():
        for command in (h[-1] for h in histories):
            assert command.parameters != clean[command.event, command.order].parameters
    assert attacked_histories(SHOWN, world.learn, donors, 60, 0) == found


def test_facts_tell_what_was_shown(world: World) -> None:
    facts = learned(by_name("random forest, shown attacks"), world).facts
    assert facts["shown"] == list(SHOWN)
    assert facts["shown families"] == sorted({ATTACKS[n].family for n in SHOWN})
    assert set(facts["attacked commands"]) == set(SHOWN)
    clean = len(commands_of(world.learn))
    assert clean < facts["rows"] <= 2 * clean


@pytest.mark.parametrize("kind", KINDS)
def test_shown_attacks_are_known_again(kind: ClassifierKind, world: World, later: list[Examination]) -> None:
    method = by_name(f"{kind.name}, shown attacks")
    clean = scores_of(method, world, commands_of(later))
    attacked = attacked_histories(("range_x3",), later, Donors(later), 60, 5)["range_x3"]
    known = scores_of(method, world, [h[-1] for h in attacked])
    area = auroc(np.ones((1, 1)), Scored.of([(s, 0) for s in clean]), Scored.of([(s, 0) for s in known]))[0]
    assert area > 0.6


def test_in_order_a_command_is_judged_by_what_came_before(world: World, later: list[Examination]) -> None:
    order, alone = by_name("LightGBM, shown attacks, in order"), by_name("LightGBM, shown attacks")
    history = next(e.commands for e in later if len(e.commands) > 2)
    for method, differs in ((order, True), (alone, False)):
        scorer = learned(method, world).scorer
        ((bare,),) = scorer.answer([history[-1:]])
        assert (scorer.answer([history])[0][-1] != bare) is differs
        # What comes later changes nothing.
        assert scorer.answer([history[:2]])[0] == scorer.answer([history])[0][:2]
    found = learned(order, world).facts
    assert found["rows"] == learned(alone, world).facts["rows"]
    assert found["chosen"].keys() == two_classes.TREES.grid[0].keys()

"""Planning a study: whatever the design, no twin in one session, balance, and nothing that a reader could foresee."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scanward.errors import InputError, SettingsError
from scanward.reading import planning
from scanward.reading.chance import Chance, new_secret
from scanward.reading.planning import Case, Chosen, View, choose, in_blocks, plan
from scanward.reading.protocol import Arm, Design, Pathology, Reader, Sessions

SECRET = bytes(range(32))


def cases(with_cancer: int, without: int, pictures: int = 1) -> list[Case]:
    """Every third woman with cancer has it in her last picture only."""
    found = []
    for number in range(with_cancer + without):
        ill = number < with_cancer
        for picture in range(pictures):
            sick = ill and (picture == pictures - 1 or bool(number % 3))
            found.append(
                Case(
                    f"w{number:04d}-{picture}",
                    f"w{number:04d}",
                    Pathology.CANCER if sick else Pathology.NO_CANCER,
                )
            )
    return found


@dataclass(frozen=True)
class Planned:
    design: Design
    chosen: Chosen
    readers: tuple[Reader, ...]
    views: dict[str, View]

    def sessions(self) -> list[list[View]]:
        """Sessions of all readers, practice left out."""
        return [
            [self.views[shown.picture] for shown in session.cases]
            for reader in self.readers
            for session in reader.sessions
            if session.number
        ]


def planned(design: Design, there: list[Case], secret: bytes = SECRET) -> Planned:
    chosen = choose(design, there, secret)
    views = {f"p{n}": view for n, view in enumerate((*chosen.study, *chosen.practice))}
    readers = plan(design, chosen, {view: name for name, view in views.items()}, secret)
    return Planned(design, chosen, readers, views)


@st.composite
def plans(draw: st.DrawFn) -> Planned:
    """Plans of random designs over random women."""
    pictures = draw(st.integers(1, 3))
    arms = draw(st.integers(1, 3))
    practice = draw(st.integers(0, 6))
    women = draw(st.integers(1, 30))
    ill, well = draw(st.integers(0, 25)), draw(st.integers(0, 25))
    # wanting as many as there are, or so many that practice is left
    patients = draw(st.sampled_from([0, women]))
    design = Design(
        title="t",
        readers=draw(st.integers(1, 4)),
        pairing=draw(st.sampled_from(["paired", "unpaired"])),
        patients=patients,
        per_patient=draw(st.integers(1, 3)),
        arms=tuple(Arm(name=f"a{n}") for n in range(arms)),
        sessions=Sessions(cases=draw(st.integers(2, 60)), block=draw(st.integers(2, 12))),
        practice=practice,
    )
    secret = draw(st.binary(min_size=32, max_size=32))
    try:
        return planned(design, cases(ill, well, pictures), secret)
    except (InputError, SettingsError):
        assume(False)
        raise


@given(plans())
def test_a_woman_is_never_seen_in_two_ways_in_one_session(made: Planned) -> None:
    for session in made.sessions():
        ways: dict[str, set[tuple[bool, str]]] = {}
        for view in session:
            ways.setdefault(view.case.patient, set()).add((view.modified, view.arm))
        assert all(len(own) == 1 for own in ways.values())
        assert len({view.case.name for view in session}) == len(session)  # so no twin, and no other arm


@given(plans())
def test_every_reader_reads_every_picture_once(made: Planned) -> None:
    assert len(made.readers) == made.design.readers
    for reader in made.readers:
        study = [
            made.views[s.picture] for session in reader.sessions if session.number for s in session.cases
        ]
        practice = [
            made.views[s.picture] for session in reader.sessions if not session.number for s in session.cases
        ]
        assert sorted(study) == sorted(made.chosen.study)
        assert len(set(study)) == len(study)
        assert sorted(practice) == sorted(made.chosen.practice)
        assert [session.number for session in reader.sessions] == list(
            range(0 if practice else 1, 1 + max(session.number for session in reader.sessions))
        )


@given(plans())
def test_practice_and_study_have_no_woman_in_common(made: Planned) -> None:
    practised = [view.case.patient for view in made.chosen.practice]
    assert len(practised) == made.design.practice == len(set(practised))
    assert not set(practised) & {view.case.patient for view in made.chosen.study}
    kinds = Counter(view.modified for view in made.chosen.practice)
    assert abs(kinds[True] - kinds[False]) <= 1


@given(plans())
def test_tokens_are_unique_and_opaque(made: Planned) -> None:
    tokens = [shown.token for reader in made.readers for s in reader.sessions for shown in s.cases]
    assert len(set(tokens)) == len(tokens)
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)


@given(plans())
def test_sessions_are_balanced_and_no_larger_than_allowed(made: Planned) -> None:
    sessions = made.sessions()
    assert max(len(session) for session in sessions) <= made.design.sessions.cases
    woman = max(Counter((v.case.patient, v.modified, v.arm) for v in made.chosen.study).values())
    arms = len(made.design.arms)
    # of two groups of women in each arm either half may be larger by some; unpaired, by one of each of four kinds
    # for each number of pictures
    slack = (
        (2 * planning.UNEVEN + 1) * woman * arms
        if made.design.pairing == "paired"
        else 4 * woman * arms * made.design.per_patient
    )
    for session in sessions:
        modified = sum(view.modified for view in session)
        assert abs(2 * modified - len(session)) <= slack
        ill = sum(view.case.pathology is Pathology.CANCER for view in session)
        share = sum(v.case.pathology is Pathology.CANCER for v in made.chosen.study) / len(made.chosen.study)
        assert abs(ill - share * len(session)) <= 4 * woman * arms * made.design.per_patient + 1


@given(plans())
def test_blocks_are_balanced(made: Planned) -> None:
    block = made.design.sessions.block
    for session in made.sessions():
        share = sum(view.modified for view in session) / len(session)
        for start in range(0, len(session), block):
            one = session[start : start + block]
            assert abs(sum(view.modified for view in one) - share * len(one)) <= planning.slack(len(one))


def published(women: int = 60) -> tuple[Design, Chosen]:
    """Two arms, pairs, blocks of ten: the published study's plan."""
    design = Design(title="t", readers=4, practice=0)
    cases = [
        Case(f"c{n:03d}", f"w{n:03d}", Pathology.CANCER if n % 2 else Pathology.NO_CANCER)
        for n in range(women)
    ]
    return design, choose(design, cases, SECRET)


def test_the_order_of_arms_does_not_tell_the_order_of_versions() -> None:
    """Women whose arms come in the same order are one group of the rotation: known to who compares pictures."""
    design, chosen = published()
    identifiers = {view: str(number) for number, view in enumerate(chosen.study)}
    views = {name: view for view, name in identifiers.items()}
    for reader in plan(design, chosen, identifiers, SECRET):
        seen: dict[str, list[View]] = {}
        for session in reader.sessions:
            for shown in session.cases:
                seen.setdefault(views[shown.picture].case.patient, []).append(views[shown.picture])
        groups: dict[tuple[str, ...], list[list[View]]] = {}
        for own in seen.values():
            groups.setdefault(tuple(view.arm for view in own), []).append(own)
        for own_groups in groups.values():
            for arm in ("low", "high"):
                first = [next(view for view in own if view.arm == arm).modified for own in own_groups]
                assert min(sum(first), len(first) - sum(first)) >= len(first) / 4 - 1


def test_blocks_are_no_equations() -> None:
    """Blocks of exactly one half could be solved by two readers who compare their twins."""
    design, chosen = published()
    identifiers = {view: str(number) for number, view in enumerate(chosen.study)}
    modified = {name: view.modified for view, name in identifiers.items()}
    found = Counter(
        sum(modified[shown.picture] for shown in session.cases[start : start + 10])
        for reader in plan(design, chosen, identifiers, SECRET)
        for session in reader.sessions
        for start in range(0, len(session.cases) - 9, 10)
    )
    assert len(found) >= 4
    assert max(found.values()) < 0.5 * sum(found.values())


@given(plans())
def test_women_are_sampled_in_balance(made: Planned) -> None:
    worst = {}
    for view in made.chosen.study:
        ill = view.case.pathology is Pathology.CANCER
        worst[view.case.patient] = worst.get(view.case.patient, False) or ill
    if made.design.patients:
        assert len(worst) == made.design.patients
        assert sum(worst.values()) in (made.design.patients // 2, 0, made.design.patients)
    versions: dict[str, set[bool]] = {}
    for view in made.chosen.study:
        versions.setdefault(view.case.patient, set()).add(view.modified)
    if made.design.pairing == "paired":
        assert all(both == {True, False} for both in versions.values())
    else:
        assert all(len(one) == 1 for one in versions.values())
        for stratum in (True, False):
            modified = [True in versions[name] for name, ill in worst.items() if ill is stratum]
            assert abs(2 * sum(modified) - len(modified)) <= 1


# --- examples worth seeing


def test_the_published_design_takes_four_sessions_of_sixty() -> None:
    made = planned(Design(title="t", patients=60), cases(40, 40))
    for reader in made.readers:
        assert [len(session.cases) for session in reader.sessions] == [5, 60, 60, 60, 60]
    for session in made.sessions():
        assert Counter(view.arm for view in session) == {"low": 30, "high": 30}
        for arm in ("low", "high"):
            assert sum(view.modified for view in session if view.arm == arm) in range(12, 19)
        assert sum(view.case.pathology is Pathology.CANCER for view in session) in range(28, 33)


def test_a_woman_with_cancer_is_shown_with_it() -> None:
    there = cases(10, 10, pictures=4)  # of every third woman only one picture of four shows it
    chosen = choose(Design(title="t", practice=0), there, SECRET)
    shown = {view.case.patient: view.case.pathology for view in chosen.study}
    assert Counter(shown.values()) == {Pathology.CANCER: 10, Pathology.NO_CANCER: 10}


@pytest.mark.parametrize(
    ("with_cancer", "without", "patients", "practice", "words"),
    [
        (9, 30, 20, 0, "20 for the study, half of them (10) with cancer"),
        (10, 10, 20, 1, "1 others for practice"),
        (0, 9, 10, 0, "9 with no cancer"),
        (0, 0, 0, 0, "none"),
        (2, 2, 0, 4, "4 others for practice"),
        (3, 3, 0, 7, "7 others for practice"),
    ],
)
def test_too_few_women_are_refused(
    with_cancer: int, without: int, patients: int, practice: int, words: str
) -> None:
    design = Design(title="t", patients=patients, practice=practice)
    with pytest.raises(InputError, match="too few women") as caught:
        choose(design, cases(with_cancer, without), SECRET)
    assert words in str(caught.value)


def test_a_session_too_small_is_refused_with_what_it_takes() -> None:
    design = Design(title="t", practice=0, per_patient=2, sessions=Sessions(cases=7))
    there = cases(4, 4, pictures=2)
    with pytest.raises(SettingsError, match="at least 8"):
        planned(design, there)
    assert planned(msgspec.structs.replace(design, sessions=Sessions(cases=8)), there).sessions()


def test_many_women_are_planned_in_a_moment() -> None:
    design = Design(title="t", readers=2, practice=0, sessions=Sessions(cases=100, block=10))
    made = planned(design, cases(1000, 1000))
    assert len(made.sessions()) == 2 * 80
    assert {len(session) for session in made.sessions()} == {100}


# --- chance


def test_the_same_secret_gives_the_same_plan_and_another_another() -> None:
    there, design = cases(10, 10), Design(title="t", patients=12, practice=2)
    one = planned(design, there)
    assert planned(design, list(reversed(there))).readers == one.readers  # the order of files tells nothing
    other = planned(design, there, new_secret())
    tokens = [{s.token for r in made.readers for x in r.sessions for s in x.cases} for made in (one, other)]
    assert not tokens[0] & tokens[1]
    assert [s.picture for s in one.readers[0].sessions[1].cases] != [
        s.picture for s in other.readers[0].sessions[1].cases
    ]


def test_a_reader_more_changes_nothing_for_the_others() -> None:
    there, design = cases(10, 10), Design(title="t", readers=2)
    more = planned(msgspec.structs.replace(design, readers=3), there).readers
    assert more[:2] == planned(design, there).readers
    orders = [[s.picture for s in reader.sessions[1].cases] for reader in more]
    assert orders[0] != orders[1] != orders[2]


def test_chance_is_even() -> None:
    stream = Chance(SECRET, "dice")
    thrown = Counter(stream.below(6) for _ in range(6000))
    assert set(thrown) == set(range(6))
    assert (
        sum((count - 1000) ** 2 / 1000 for count in thrown.values()) < 20.5
    )  # chi2, 5 df: one in a thousand
    orders = Counter(tuple(stream.shuffled("abc")) for _ in range(6000))
    assert len(orders) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in orders.values()) < 20.5


def test_streams_of_other_names_are_others() -> None:
    names = [("a", "bc"), ("ab", "c"), ("abc",), ("abc", ""), ()]
    assert len({Chance(SECRET, *name).take(16) for name in names}) == len(names)
    stream, whole = Chance(SECRET, "a"), Chance(SECRET, "a").take(100)
    assert b"".join(stream.take(n) for n in (1, 31, 32, 36)) == whole


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=60), st.integers(2, 15))
def test_a_block_never_loses_a_picture(kinds: list[tuple[bool, int]], block: int) -> None:
    views = [
        View(Case(f"c{n}", f"w{n}", Pathology.CANCER), modified, f"a{arm}")
        for n, (modified, arm) in enumerate(kinds)
    ]
    assert sorted(in_blocks(views, block, Chance(SECRET, "b"))) == sorted(views)


def test_arms_are_spread_over_a_session() -> None:
    views = [
        View(Case(f"c{n}", f"w{n}", Pathology.CANCER), bool(n % 2), "ab"[n // 2 % 2]) for n in range(400)
    ]
    ordered = in_blocks(views, 20, Chance(SECRET, "b"))
    for start in range(0, 400, 100):
        assert Counter(view.arm for view in ordered[start : start + 100])["a"] in range(44, 57)


def test_names_of_readers() -> None:
    assert [planning.reader_name(n) for n in (0, 8, 99)] == ["R01", "R09", "R100"]

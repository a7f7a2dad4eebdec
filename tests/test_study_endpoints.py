"""The endpoints of a study's export: which rows, under which treatment, with which truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from _export import Row, as_csv, export_rows
from scanward.errors import InputError
from scanward.reading.endpoints import Endpoint, endpoints, is_export, is_simulated
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.table import Table, parse_table
from scanward.reading.protocol import Modification, Pathology


def parsed(rows: list[Row], **options: bool) -> Table:
    return parse_table(as_csv(rows, **options), source="export.csv")


def by_name(rows: list[Row]) -> dict[str, Endpoint]:
    return {one.name: one for one in endpoints(parsed(rows))[0]}


ROWS = list(export_rows(women=12, readers=11, seed=3))


def pairs_won(
    rows: list[Row], reader: str, question: str, arm: str, positive: set[str], negative: set[str]
) -> float:
    """The area by its definition, counted over rows: sets hold "pathology/modification" of pictures."""
    rated: dict[bool, list[int]] = {True: [], False: []}
    for row in rows:
        kind = f"{row['pathology']}/{row['modification']}"
        if row["reader"] == reader and row["question"] == question and row["arm"] == arm:
            for truth, kinds in ((True, positive), (False, negative)):
                if kind in kinds:
                    rated[truth].append(int(row["rating"]))
    won = [(x > y) + 0.5 * (x == y) for x, y in itertools.product(rated[True], rated[False])]
    return float(np.mean(won))


AREAS = {
    # endpoint: (treatment: (positives, negatives))
    "lesion, {arm}": {
        "genuine": ({"cancer/none"}, {"no cancer/none"}),
        "modified": ({"cancer/remove"}, {"no cancer/insert"}),
    },
    "lesion insertion, {arm}": {
        "genuine": ({"cancer/none"}, {"no cancer/none"}),
        "modified": ({"cancer/none"}, {"no cancer/insert"}),
    },
    "lesion removal, {arm}": {
        "genuine": ({"cancer/none"}, {"no cancer/none"}),
        "modified": ({"cancer/remove"}, {"no cancer/none"}),
    },
}


@pytest.mark.parametrize("arm", ["low", "high"])
@pytest.mark.parametrize("name", list(AREAS))
def test_each_area_is_that_of_its_rows(name: str, arm: str) -> None:
    found = by_name(ROWS)[name.format(arm=arm)]
    values = EmpiricalAUC().values(found.ratings)
    assert found.ratings.treatments == ("genuine", "modified")
    assert found.arm == arm
    for t, treatment in enumerate(found.ratings.treatments):
        positive, negative = AREAS[name][treatment]
        for r, reader in enumerate(found.ratings.readers):
            assert values[t, r] == pytest.approx(pairs_won(ROWS, reader, "lesion", arm, positive, negative))


def test_manipulation_is_one_area_an_arm() -> None:
    found = by_name(ROWS)["manipulation"]
    assert found.ratings.treatments == ("low", "high")
    values = EmpiricalAUC().values(found.ratings)
    modified, genuine = {"cancer/remove", "no cancer/insert"}, {"cancer/none", "no cancer/none"}
    for t, arm in enumerate(("low", "high")):
        for r, reader in enumerate(found.ratings.readers):
            assert values[t, r] == pytest.approx(
                pairs_won(ROWS, reader, "manipulation", arm, modified, genuine)
            )


def test_there_are_these_endpoints_and_no_others() -> None:
    lesions = [f"lesion{part}, {arm}" for arm in ("low", "high") for part in ("", " insertion", " removal")]
    assert list(by_name(ROWS)) == [*lesions, "manipulation"]


def test_the_truth_of_the_lesion_question_is_the_original_s() -> None:
    """A removed cancer is still a positive, an inserted lesion is still none."""
    ratings = by_name(ROWS)["lesion, low"].ratings
    truth = dict(zip(ratings.cases, ratings.truth.tolist(), strict=True))
    assert truth == {f"c{case}": case % 2 == 0 for case in range(12)}


def test_readers_are_in_their_natural_order() -> None:
    assert by_name(ROWS)["lesion, low"].ratings.readers == tuple(f"R{n}" for n in range(1, 12))


def test_genuine_comes_first_whatever_the_order_of_rows() -> None:
    turned = sorted(ROWS, key=lambda row: row["treatment"] != "modified")
    straight, found = by_name(ROWS)["lesion, low"].ratings, by_name(turned)["lesion, low"].ratings
    assert found.treatments == straight.treatments
    assert EmpiricalAUC().values(found).tolist() == EmpiricalAUC().values(straight).tolist()


def test_what_is_in_both_treatments_does_not_vary_between_them() -> None:
    """Removal: all negatives are the same pictures with the same ratings, so their error cancels in the difference."""
    ratings = by_name(ROWS)["lesion removal, low"].ratings
    negatives = ratings.score[:, :, ~ratings.truth]
    assert (negatives[0] == negatives[1]).all()
    positives = by_name(ROWS)["lesion insertion, low"].ratings
    assert (positives.score[0][:, positives.truth] == positives.score[1][:, positives.truth]).all()


def test_arms_of_the_same_women_are_correlated_by_their_patients() -> None:
    """Pictures differ between the arms, patients do not: the covariance between arms is not taken for 0."""
    ratings = by_name(ROWS)["manipulation"].ratings
    assert not ratings.fully_crossed
    assert ratings.clustered
    covariance = estimate(ratings, EmpiricalAUC()).covariance
    assert (covariance[0, :, 1, :] != 0).all()


def test_without_one_modification_there_is_no_such_part() -> None:
    inserted = [row for row in ROWS if row["modification"] != "remove"]
    assert "lesion insertion, low" in by_name(inserted)
    assert "lesion removal, low" not in by_name(inserted)


def test_unpaired_women_are_partially_paired() -> None:
    """Each woman genuine or modified, never both: nothing is shared but the parts' unchanged half."""
    some = [
        row for row in ROWS if (row["modification"] == "none") == (int(row["picture"].split("-")[1]) % 4 < 2)
    ]
    ratings = by_name(some)["lesion, low"].ratings
    assert np.isnan(ratings.score).any()
    assert not (~np.isnan(ratings.score)).all(axis=0).any()


def test_a_question_without_truth_is_left_out_and_said() -> None:
    other = [row | {"question": "quality", "truth": ""} for row in ROWS if row["question"] == "manipulation"]
    found, remarks = endpoints(parsed([*ROWS, *other]))
    assert "quality" not in {one.question for one in found}
    assert remarks == ("question 'quality': no truth is known, so it is not analysed",)
    with pytest.raises(InputError, match="no question whose truth is known"):
        endpoints(parsed(other))


def test_practice_is_left_out_and_said() -> None:
    practice = [row | {"session": "0", "case": "practice", "picture": "practice"} for row in ROWS[:4]]
    real = [row | {"session": "1"} for row in ROWS]
    found, remarks = endpoints(parsed([*practice, *real]))
    assert remarks == ("4 ratings of practice cases were left out",)
    assert all("practice" not in one.ratings.cases for one in found)
    with pytest.raises(InputError, match="no question whose truth is known"):
        endpoints(parsed(practice))


def test_a_plain_table_is_one_endpoint() -> None:
    table = parse_table(b"reader,treatment,case,truth,rating\nA,x,1,0,1\nA,x,2,1,4\n")
    assert not is_export(table)
    assert is_export(parsed(ROWS))
    found, remarks = endpoints(table)
    assert [one.name for one in found] == ["ratings"]
    assert remarks == ()


def test_simulated_is_seen() -> None:
    assert not is_simulated(parsed(ROWS))
    assert is_simulated(parsed(ROWS, simulated=True))
    plain = "reader,treatment,case,truth,rating,simulated\nA,x,1,0,1,{}\nA,x,2,1,4,{}\n"
    assert is_simulated(parse_table(plain.format("", "yes").encode()))
    assert not is_simulated(parse_table(plain.format("no", "0").encode()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"modification": "moved"}, "modification 'moved', export.csv, line 2, use none, insert, remove"),
        ({"pathology": "benign"}, "pathology 'benign', export.csv, line 2"),
        (
            {"treatment": "modified"},
            "treatment 'modified' of a picture with modification none, export.csv, line 2",
        ),
        ({"truth": "maybe"}, "truth 'maybe', export.csv, line 2"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(change: Row, match: str) -> None:
    with pytest.raises(InputError, match=match):
        endpoints(parsed([ROWS[0] | change, *ROWS[1:]]))


def test_the_words_are_those_of_the_protocol() -> None:
    assert {row["modification"] for row in ROWS} == {one.value for one in Modification}
    assert {row["pathology"] for row in ROWS} == {one.value for one in Pathology}

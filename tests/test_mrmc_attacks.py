"""What a hostile reviewer tried: claims out of nothing, families made smaller, marks lost, plans from odd pilots."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from _export import as_csv, export_rows
from scanward.cli.main import cli
from scanward.errors import InputError
from scanward.reading.analysing import Request, analyse
from scanward.reading.mrmc.results import Covariance, Random
from scanward.reading.mrmc.table import Table, parse_table
from scanward.reading.protocol import Arm, Design, Hypothesis

QUICK = Request(methods=("OR",), covariances=(Covariance.JACKKNIFE,), merits=("empirical",))
EXPORT = list(export_rows(women=16, readers=3))
HEADER = "reader,treatment,case,truth,rating"


def made(lines: list[str], header: str = HEADER) -> Table:
    return parse_table("\n".join([header, *lines, ""]).encode(), source="made.csv")


def table(rating: dict[tuple[int, int], str], treatments: str = "x") -> Table:
    """Ratings by (reader, case); every second case is positive."""
    return made([f"R{r},{t},C{c},{c % 2},{text}" for t in treatments for (r, c), text in rating.items()])


def claims(found: Table, **options: object) -> tuple[list[bool], tuple[str, ...]]:
    result = analyse(found, Request(merits=("empirical",), equivalence=(0.45, 0.55), **options))  # type: ignore[arg-type]
    return [one.shown for one in result.decisions], result.warnings


# --- claims out of nothing


@pytest.mark.parametrize("cases", [4, 40])
def test_readers_who_rate_everything_alike_show_nothing(cases: int) -> None:
    """Their area is 0.5 "without spread"; of 20 fakes none seen does not mean that none of all can be seen."""
    shown, warnings = claims(table({(r, c): "1" for r in range(3) for c in range(cases)}))
    assert shown == []
    assert any("equivalence of x (ratings) was not decided" in one for one in warnings)


def test_cases_are_not_taken_as_fixed_because_there_is_but_one() -> None:
    """One positive case in the middle: areas near 0.5 that say nothing of other cases."""
    rng = np.random.default_rng(3)
    lines = [
        f"R{r},low,C{c},{int(c == 0)},{21 + rng.integers(-1, 2) if c == 0 else c}"
        for r in range(5)
        for c in range(41)
    ]
    shown, warnings = claims(made(lines))
    assert shown == []
    assert any("was not decided" in one for one in warnings)
    shown, warnings = claims(made(lines), randoms=(Random.READERS,))  # asked for: told what it is
    assert shown == [True]
    assert any("cases fixed: what is shown is shown of these cases" in one for one in warnings)


# --- the family


@pytest.mark.parametrize("how", ["table", "treatments"])
def test_leaving_an_arm_out_makes_the_other_no_easier_to_show(how: str) -> None:
    """A hypothesis without an arm holds for every arm of the design."""
    design = Design(
        title="A study",
        readers=3,
        arms=(Arm(name="low"), Arm(name="high")),
        hypotheses=(Hypothesis(question="manipulation", aim="superiority"),),
    )
    rows = EXPORT if how == "treatments" else [row for row in EXPORT if row["arm"] == "low"]
    request = QUICK if how == "table" else Request(**{**vars(QUICK), "treatments": ("low",)})
    result = analyse(parse_table(as_csv(rows)), request, design=design)
    assert [one.of for one in result.decisions] == ["low"]
    assert result.decisions[0].adjusted_p == pytest.approx(min(1.0, 2 * result.decisions[0].p))
    assert any("'manipulation, high': the table has nothing of it" in one for one in result.warnings)


def test_what_was_chosen_after_reading_is_said() -> None:
    design = Design(
        title="A study", readers=4, hypotheses=(Hypothesis(question="lesion", aim="superiority"),)
    )
    full = analyse(parse_table(as_csv(EXPORT)), QUICK, design=design).warnings
    assert "3 of the 4 readers of the design have ratings" in full
    assert not any("was chosen now" in one for one in full)
    other = Request(**{**vars(QUICK), "randoms": (Random.CASES,)})
    assert any(
        "was chosen now" in one for one in analyse(parse_table(as_csv(EXPORT)), other, design=design).warnings
    )


def test_the_order_of_treatments_does_not_turn_a_lesion_claim_round() -> None:
    """ "Modified is no worse than genuine" is not the same as the other way round."""
    turned = Request(**{**vars(QUICK), "treatments": ("modified", "genuine"), "margin": 0.05})
    usual = Request(**{**vars(QUICK), "margin": 0.05})
    found = [analyse(parse_table(as_csv(EXPORT)), request).decisions for request in (usual, turned)]
    assert {one.of for one in found[1]} == {"modified - genuine"}
    for one, other in zip(*found, strict=True):
        assert (other.estimate, other.lower, other.p) == pytest.approx((one.estimate, one.lower, one.p))
        assert other.shown == one.shown


# --- files


@pytest.mark.parametrize("name", ["simulated", "Simulated", "SIMULATED"])
def test_a_spreadsheet_does_not_lose_the_mark(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = [
        f"R{r},{t},C{c},{c % 2},{rng.integers(1, 6) + c % 2},yes"
        for t in "xy"
        for r in range(3)
        for c in range(20)
    ]
    found = made(lines, f"{HEADER},{name}")
    assert analyse(found, QUICK).simulated
    path = tmp_path / "pilot.csv"
    path.write_text("\n".join([f"{HEADER},{name}", *lines]), "utf-8")
    plan = ["study", "power", "--pilot", str(path), "--effect", "0.2", "--readers", "5"]
    assert "SIMULATED" in CliRunner().invoke(cli, plan).stdout
    assert "SIMULATED" in CliRunner().invoke(cli, [*plan, "--json"]).stdout


def test_a_rating_is_a_number_as_people_write_it() -> None:
    with pytest.raises(InputError, match="5_0"):
        table({(0, 0): "5_0", (0, 1): "3"}).ratings()


def test_one_name_typed_on_two_computers_is_one_reader() -> None:
    """e with an acute accent, in one code point or in two."""
    found = made(["Jos\u00e9,x,a,1,3", "Jose\u0301,x,b,0,2"]).ratings()
    assert found.readers == ("Jos\u00e9",)


def test_covariances_that_no_machine_holds_are_refused_before() -> None:
    """100 treatments x 100 readers, one case each: a small file, 800 MB a matrix of covariances, a dozen of those."""
    lines = [f"R{r},T{t},C,1,3" for t in range(100) for r in range(100)]
    with pytest.raises(InputError, match="100 treatments x 100 readers"):
        made(lines).ratings()


# --- plans


def test_a_pilot_s_variance_is_that_of_the_cases_one_reader_read(tmp_path: Path) -> None:
    """Each of 5 readers his own 40 cases: 40 cases a reader are what the pilot was, not a fifth of it."""
    rng = np.random.default_rng(2)
    lines = [
        f"R{r},{t},C{c},{c % 2},{rng.normal() + 1.5 * (c % 2):.3f}"
        for t in "xy"
        for c in range(200)
        for r in (c // 2 % 5,)
    ]
    path = tmp_path / "pilot.csv"
    path.write_text("\n".join([HEADER, *lines]), "utf-8")
    arguments = ["study", "power", "--pilot", str(path), "--effect", "0.1", "--readers", "5", "--cases", "40"]
    plan = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert (plan["components"]["positives"], plan["components"]["cases"]) == (20, 40)
    assert "cases nested in readers" in plan["components"]["source"]
    fixed = analyse(made(lines), QUICK).findings[0].measured[0].analyses
    pilot = next(one for one in fixed if one.random is Random.CASES).differences[0].se
    planned = CliRunner().invoke(cli, [*arguments, "--random", "cases", "--json"]).stdout
    assert json.loads(planned)["plans"][0]["plan"]["se"] == pytest.approx(pilot)

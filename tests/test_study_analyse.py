"""The analysis of one file: everything by name, claims corrected, nothing silent; library and command line."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from _export import Row, as_csv, export_rows
from _study import small_study
from scanward.cli.main import cli
from scanward.errors import InputError, SettingsError
from scanward.reading.analysing import METHODS, Request, analyse, pieces
from scanward.reading.claims import of_options, of_study, published
from scanward.reading.endpoints import endpoints
from scanward.reading.findings import SIMULATED
from scanward.reading.merits import merit_of
from scanward.reading.mrmc.decisions import Aim
from scanward.reading.mrmc.results import Covariance, Random
from scanward.reading.mrmc.table import Table, parse_table, read_table
from scanward.reading.opened import open_study
from scanward.reading.protocol import Design, Hypothesis

EXPORT = list(export_rows(found={"high": 1.5}))
QUICK = Request(
    methods=("OR",), covariances=(Covariance.DELONG,), randoms=(Random.BOTH,), merits=("empirical",)
)


def parsed(rows: list[Row], **options: bool) -> Table:
    return parse_table(as_csv(rows, **options), source="export.csv")


def plain(rows: list[tuple[str, str, str, int, float]]) -> Table:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("reader", "treatment", "case", "truth", "rating"), *rows])
    return parse_table(text.getvalue().encode(), source="plain.csv")


def grid(readers: str = "AB", treatments: str = "xy", positives: int = 6, negatives: int = 6) -> Table:
    """Ratings that differ everywhere, made without chance."""
    return plain(
        [
            (reader, treatment, f"{truth}{case}", truth, (7 * case + 3 * r + 5 * t) % 11 + 3 * truth)
            for r, reader in enumerate(readers)
            for t, treatment in enumerate(treatments)
            for truth, count in ((0, negatives), (1, positives))
            for case in range(count)
        ]
    )


def design(*hypotheses: Hypothesis, **options: Any) -> Design:
    return Design(title="A study", hypotheses=hypotheses, **options)


# --- everything, by name


def test_published_answers_by_method_covariance_and_what_is_random(shared_data: Path) -> None:
    """OR-DBM MRMC 2.51, MRMCaov and the U-statistic of Van Dyke, out of one call."""
    table = read_table(shared_data / "mrmc" / "VanDyke.csv")
    answers = json.loads((shared_data / "mrmc" / "published_results.json").read_text("utf-8"))["VanDyke"]
    measured = analyse(table, Request(merits=("empirical",))).findings[0].measured[0]
    of = {(one.method, one.covariance, one.random): one for one in measured.analyses}
    assert len(of) == len(measured.analyses) == 3 * 3 + 3 + 1
    assert measured.absent == ()
    for key, name in (
        (("OR", "jackknife"), "jackknife"),
        (("OR", "delong"), "delong"),
        (("OR", "unbiased"), "unbiased_Ustat"),
    ):
        found = of[(*key, Random.BOTH)].overall
        expected = answers[name]["RRRC"] if name == "jackknife" else answers[name]
        assert found is not None
        digits = 2 if name == "jackknife" else 5
        assert round(found.value, digits) == round(expected["F"], digits)
        assert found.df2 is not None
        assert round(found.df2, 2) == round(expected["df2"], 2)
        assert round(found.p, 4) == round(expected["p"], 4)
    cases = of["OR", "jackknife", Random.CASES].overall
    assert cases is not None
    assert (cases.statistic, round(cases.value, 6)) == ("chi2", 5.475953)
    readers = of["DBM", "jackknife", Random.READERS].overall
    assert readers is not None
    assert (round(readers.value, 3), readers.df1, readers.df2) == (8.704, 1, 4)
    assert {cell.reader: round(cell.value, 8) for cell in measured.cells if cell.treatment == "2"} == answers[
        "auc"
    ]["2"]


def test_every_endpoint_of_an_export_is_analysed() -> None:
    result = analyse(parsed(EXPORT), QUICK)
    assert [one.endpoint.name for one in result.findings] == [
        one.name for one in endpoints(parsed(EXPORT))[0]
    ]
    assert all(len(one.measured[0].analyses) == 1 for one in result.findings)
    whole = result.as_json()
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole  # plain types, no NaN


def test_json_has_full_precision() -> None:
    result = analyse(grid(), QUICK)
    interval = result.findings[0].measured[0].analyses[0].differences[0]
    told = result.as_json()["endpoints"][0]["merits"][0]["analyses"][0]["differences"][0]
    assert told["estimate"] == interval.estimate
    assert told["p"] == interval.p
    assert json.loads(json.dumps(told))["se"] == interval.se


def test_infinite_degrees_of_freedom_are_none_in_json() -> None:
    result = analyse(grid(), Request(methods=("OR",), randoms=(Random.CASES,), merits=("empirical",)))
    told = result.as_json()["endpoints"][0]["merits"][0]["analyses"][0]["differences"][0]
    assert told["df"] is None


def test_binormal_is_there_by_itself_on_a_scale_and_not_on_continuous_ratings() -> None:
    assert pieces(grid(), Request()) == 2
    continuous = plain(
        [("A", t, f"{k}{i}", k, i + 0.01 * k + 0.3) for t in "xy" for k in (0, 1) for i in range(12)]
    )
    assert pieces(continuous, Request()) == 1
    assert pieces(continuous, Request(merits=("binormal", "empirical"))) == 2


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("empirical", "empirical AUC"),
        ("binormal", "binormal AUC"),
        ("sensitivity:3", "sensitivity at rating >= 3"),
        ("specificity:2.5", "specificity at rating < 2.5"),
        ("partial:0-0.2", "empirical partial AUC (FPR 0-0.2)"),
        ("partial-tpr:0.8-1", "empirical partial AUC (TPR 0.8-1)"),
        ("binormal-partial:0-0.2", "binormal partial AUC (FPR 0-0.2)"),
        ("binormal-partial-tpr:0.8-1", "binormal partial AUC (TPR 0.8-1)"),
    ],
)
def test_figures_of_merit_by_name(name: str, title: str) -> None:
    assert merit_of(name).name == title
    measured = (
        analyse(grid(positives=15, negatives=15), Request(methods=("OR",), merits=(name,)))
        .findings[0]
        .measured
    )
    assert [one.merit for one in measured] == [title]
    assert any(one.covariance == "jackknife" for one in measured[0].analyses)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "auc",
            "empirical:3",
            "sensitivity",
            "sensitivity:x",
            "sensitivity:nan",
            "partial",
            "partial:0.2",
        ),
        *("partial:0.2-0", "partial:0-2", "partial:-1-0.5", "binormal-partial:a-b"),
    ],
)
def test_figures_of_merit_that_are_none(name: str) -> None:
    with pytest.raises(SettingsError):
        merit_of(name)


def test_what_cannot_be_had_is_said() -> None:
    """DeLong for a binormal area, the U-statistic for a sensitivity: absent, with the reason."""
    result = analyse(grid(positives=15, negatives=15), Request(merits=("binormal", "sensitivity:5")))
    binormal, sensitivity = result.findings[0].measured
    assert {(one.method, one.covariance) for one in binormal.absent} == {
        ("OR", "delong"),
        ("OR", "unbiased"),
        ("U", ""),
    }
    assert [one.method for one in sensitivity.absent] == ["U"]
    assert all(one.why for one in (*binormal.absent, *sensitivity.absent))


@pytest.mark.parametrize("random", list(Random))
def test_what_is_random_holds_for_every_method(random: Random) -> None:
    measured = analyse(grid("ABC"), Request(merits=("empirical",), randoms=(random,))).findings[0].measured[0]
    assert {one.random for one in measured.analyses} == {random}
    assert ([one.method for one in measured.absent] == ["U"]) == (random is not Random.BOTH)


def test_missing_ratings_leave_dbm_out_and_nothing_else() -> None:
    table = plain([row for row in rows_of(grid()) if row[:3] != ("A", "x", "00")])
    finding = analyse(table, Request(merits=("empirical",))).findings[0]
    assert {one.method for one in finding.measured[0].absent} == {"DBM"}
    assert {one.method for one in finding.measured[0].analyses} == {"OR", "U"}
    assert any("partially paired: 47 of 48" in warning for warning in finding.warnings)


def rows_of(table: Table) -> list[tuple[str, str, str, int, float]]:
    columns = [table.columns[name] for name in ("reader", "treatment", "case", "truth", "rating")]
    return [(r, t, c, int(k), float(x)) for r, t, c, k, x in zip(*columns, strict=True)]


# --- small studies


def test_one_reader_says_nothing_of_others() -> None:
    result = analyse(grid("A"), Request(merits=("empirical",), equivalence=(-0.9, 0.9)))
    finding = result.findings[0]
    assert "one reader: nothing can be said of a population of readers" in finding.warnings
    by_random = {one.random: one for one in finding.measured[0].analyses if one.method == "OR"}
    assert math.isnan(by_random[Random.BOTH].differences[0].se)
    assert not math.isnan(by_random[Random.CASES].differences[0].se)
    assert ", cases random" in result.decisions[0].by  # not of readers
    assert any("readers fixed" in warning for warning in result.warnings)
    other = analyse(grid("A"), Request(merits=("empirical",), margin=0.9))
    assert "readers fixed: what is shown is shown of these readers, not of others" in other.warnings


def test_one_treatment_has_an_area_and_no_comparison() -> None:
    result = analyse(
        grid(treatments="x"), Request(merits=("empirical",), equivalence=(0.45, 0.55), margin=0.05)
    )
    finding = result.findings[0]
    assert all(one.overall is None and one.differences == () for one in finding.measured[0].analyses)
    assert all(len(one.treatments) == 1 for one in finding.measured[0].analyses)
    assert [(one.of, one.aim) for one in result.decisions] == [("x", Aim.EQUIVALENCE)]
    assert "one treatment: there is nothing to compare it with" in finding.warnings


@pytest.mark.parametrize(("kinds", "missing"), [((6, 0), "negative"), ((0, 6), "positive")])
def test_one_class_alone_is_refused(kinds: tuple[int, int], missing: str) -> None:
    with pytest.raises(InputError, match=f"no {missing} cases among 6, plain.csv"):
        analyse(grid(positives=kinds[0], negatives=kinds[1]))


def test_one_class_in_one_endpoint_leaves_the_others() -> None:
    rows = [
        row for row in EXPORT if row["question"] != "lesion" or row["arm"] == "high" or row["truth"] == "1"
    ]
    result = analyse(parsed(rows), QUICK)
    low = next(one for one in result.findings if one.endpoint.name == "lesion, low")
    assert low.measured == ()
    assert "no negative cases" in low.warnings[0]
    assert any(
        "superiority of modified - genuine (lesion, low) was not decided" in one for one in result.warnings
    )
    assert any(one.endpoint == "lesion, high" for one in result.decisions)


def test_one_case_of_a_class_gives_areas_and_says_that_they_have_no_variance() -> None:
    result = analyse(grid(positives=1), Request(methods=("OR",), merits=("empirical",), margin=0.05))
    measured = result.findings[0].measured[0]
    assert all(math.isfinite(cell.value) and math.isnan(cell.se) for cell in measured.cells)
    assert any("variance cannot be estimated" in text for one in measured.analyses for text in one.warnings)


def test_few_readers_bring_a_warning() -> None:
    for readers, warned in (("AB", True), ("ABCDE", False)):
        analyses = analyse(grid(readers), QUICK).findings[0].measured[0].analyses
        assert any("few" in text for text in analyses[0].warnings) == warned


def test_unread_rows_are_counted() -> None:
    table = parse_table(
        b"reader,treatment,case,truth,rating\nA,x,1,0,1\nA,x,2,1,2\nA,x,3,0,2\nA,x,4,1,\n", source="t.csv"
    )
    assert "1 rows without a rating were left out" in analyse(table, QUICK).warnings


def test_everybody_right_and_everybody_constant() -> None:
    """Areas of 1 and of 0.5 without variance: figures, warnings, no exception, valid JSON."""
    for rating in (lambda k: 5.0 * k, lambda k: 3.0):
        rows = [
            (r, t, f"{k}{i}", k, rating(k)) for r in "ABC" for t in "xy" for k in (0, 1) for i in range(5)
        ]
        result = analyse(plain(rows), Request(merits=("empirical", "binormal"), equivalence=(-0.1, 0.1)))
        json.dumps(result.as_json(), allow_nan=False)
        assert result.findings[0].measured[0].means["x"] in (0.5, 1.0)
        assert any(
            "no variance" in t for one in result.findings[0].measured[0].analyses for t in one.warnings
        )


# --- what is asked for


def test_treatments_are_chosen_and_ordered() -> None:
    request = Request(methods=("OR",), merits=("empirical",), treatments=("z", "x"))
    measured = analyse(grid(treatments="xyz"), request).findings[0].measured[0]
    assert [one.of for one in measured.analyses[0].differences] == ["z - x"]
    with pytest.raises(InputError, match="no treatment 'w'"):
        analyse(grid(), Request(treatments=("x", "w")))


def test_treatments_of_an_export_concern_the_endpoints_that_have_them() -> None:
    request = Request(methods=("OR",), merits=("empirical",), treatments=("low",))
    of = {
        one.endpoint.name: one.endpoint.ratings.treatments
        for one in analyse(parsed(EXPORT), request).findings
    }
    assert of["manipulation"] == ("low",)
    assert of["lesion, high"] == ("genuine", "modified")


@pytest.mark.parametrize(
    "request_",
    [
        Request(methods=("ROC",)),
        Request(methods=()),
        Request(level=1.0),
        Request(alpha=0.0),
        Request(merits=("empirical",) * 33),
        Request(randoms=()),
    ],
)
def test_requests_that_make_no_sense(request_: Request) -> None:
    with pytest.raises(SettingsError):
        analyse(grid(), request_)


def test_level_is_that_of_every_interval() -> None:
    wide, narrow = (
        analyse(grid(), Request(methods=METHODS, merits=("empirical",), level=level)).findings[0].measured[0]
        for level in (0.99, 0.8)
    )
    for a, b in zip(wide.analyses, narrow.analyses, strict=True):
        assert a.differences[0].level == 0.99
        assert a.differences[0].low < b.differences[0].low


# --- claims


def test_without_hypotheses_those_of_the_published_study_are_tested_and_it_is_said() -> None:
    result = analyse(parsed(EXPORT), QUICK)
    assert [(one.endpoint, one.of, one.aim) for one in result.decisions] == [
        ("lesion, low", "modified - genuine", Aim.SUPERIORITY),
        ("lesion, high", "modified - genuine", Aim.SUPERIORITY),
        ("manipulation", "low", Aim.EQUIVALENCE),
        ("manipulation", "high", Aim.EQUIVALENCE),
    ]
    assert (
        "no hypotheses were fixed before reading: those of the published study are tested" in result.warnings
    )
    assert analyse(grid(), QUICK).decisions == ()


def test_claims_are_decided_on_the_right_estimates() -> None:
    """Removal and insertion worked, so the area of cancers fell; in the high arm modification is seen."""
    result = analyse(parsed(EXPORT), QUICK)
    of = {(one.endpoint, one.of): one for one in result.decisions}
    fell = of["lesion, low", "modified - genuine"]
    analysis = next(one for one in result.findings if one.endpoint.name == "lesion, low").measured[0]
    assert fell.estimate == pytest.approx(analysis.means["modified"] - analysis.means["genuine"])
    assert fell.estimate < -0.2
    assert fell.shown
    assert not of["manipulation", "high"].shown
    assert of["manipulation", "high"].estimate > 0.7


def test_holm_corrects_over_all_primary_claims() -> None:
    result = analyse(parsed(EXPORT), QUICK)
    order = sorted(result.decisions, key=lambda one: one.p)
    least = order[0]
    assert least.adjusted_p == pytest.approx(min(1.0, 4 * least.p))
    assert all(one.adjusted_p is not None and one.adjusted_p >= one.p for one in order)


def test_the_protocol_s_hypotheses_and_alpha_are_what_is_decided() -> None:
    plan = design(
        Hypothesis(question="lesion", aim="non-inferiority", arm="low", margin=0.1),
        Hypothesis(question="manipulation", aim="superiority", primary=False),
        alpha=0.01,
    )
    result = analyse(parsed(EXPORT), QUICK, design=plan)
    assert [(one.of, one.aim, one.primary) for one in result.decisions] == [
        ("modified - genuine", Aim.NON_INFERIORITY, True),
        ("low", Aim.SUPERIORITY, False),
        ("high", Aim.SUPERIORITY, False),
    ]
    assert {one.alpha for one in result.decisions} == {0.01}
    assert result.decisions[0].low == pytest.approx(-0.1)
    assert result.decisions[1].low == 0.5
    assert result.title == "A study"
    assert not any("published study" in one for one in result.warnings)


def test_a_hypothesis_that_the_table_has_nothing_of_stays_in_the_family() -> None:
    low = [row for row in EXPORT if row["arm"] == "low"]
    both = [Hypothesis(question="lesion", aim="superiority", arm=arm) for arm in ("low", "high")]
    result = analyse(parsed(low), QUICK, design=design(*both))
    assert [one.endpoint for one in result.decisions] == ["lesion, low"]
    assert result.decisions[0].adjusted_p == pytest.approx(2 * result.decisions[0].p)
    assert any("'lesion, high': the table has nothing of it" in one for one in result.warnings)


@pytest.mark.parametrize(
    ("hypothesis", "low", "high"),
    [
        (Hypothesis(question="lesion", aim="equivalence"), -0.05, 0.05),
        (Hypothesis(question="lesion", aim="equivalence", margin=0.1), -0.1, 0.1),
        (Hypothesis(question="lesion", aim="equivalence", low=-0.02, high=0.03), -0.02, 0.03),
        (Hypothesis(question="lesion", aim="superiority"), 0.0, 0.0),
        (Hypothesis(question="lesion", aim="non-inferiority"), -0.05, math.inf),
        (Hypothesis(question="manipulation", aim="equivalence"), 0.45, 0.55),
        (Hypothesis(question="manipulation", aim="superiority"), 0.5, 0.5),
        (Hypothesis(question="manipulation", aim="non-inferiority"), 0.45, math.inf),
    ],
)
def test_bounds_of_hypotheses(hypothesis: Hypothesis, low: float, high: float) -> None:
    claims, missing, gone = of_study([hypothesis], endpoints(parsed(EXPORT))[0], 0.05)
    assert len(claims) == 2  # one an arm
    assert (missing, gone) == ((), 0)
    assert {(one.claim.low, one.claim.high) for one in claims} == {(low, high)}


def test_parts_are_never_claimed() -> None:
    found = endpoints(parsed(EXPORT))[0]
    names = {one.name for one in found if one.part}
    assert len(names) == 4
    claims = [
        *of_study(published(found), found, 0.05)[0],
        *of_options(found, 0.05, equivalence=(-0.1, 0.1), margin=0.1),
        *of_options(found, 0.05, equivalence=(0.45, 0.55)),
    ]
    assert not names & {one.endpoint for one in claims}


def test_equivalence_of_differences_and_of_areas() -> None:
    found = endpoints(grid(treatments="xyz"))[0]
    differences = of_options(found, 0.05, equivalence=(-0.1, 0.1))
    assert [(one.treatment, one.reference) for one in differences] == [("y", "x"), ("z", "x")]
    areas = of_options(found, 0.05, equivalence=(0.45, 0.55))
    assert [(one.treatment, one.reference) for one in areas] == [("x", ""), ("y", ""), ("z", "")]


def test_simulated_is_told_by_the_table_or_by_the_protocol() -> None:
    assert analyse(parsed(EXPORT), QUICK).notice == ""
    assert analyse(parsed(EXPORT, simulated=True), QUICK).notice == SIMULATED
    told = analyse(parsed(EXPORT), QUICK, design=design(simulated=True))
    assert told.simulated
    assert told.as_json()["notice"] == SIMULATED


# --- the command line


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["study", *arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analyse")
    (folder / "export.csv").write_bytes(as_csv(EXPORT))
    (folder / "simulated.csv").write_bytes(as_csv(EXPORT, simulated=True))
    rows = rows_of(grid("ABC"))
    (folder / "plain.csv").write_text(
        "who,treatment,case,truth,rating\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), "utf-8"
    )
    return folder


def test_json_of_the_command_is_the_result(files: Path) -> None:
    quick = ("--method", "OR", "--covariance", "delong", "--random", "both", "--merit", "empirical")
    run_ = run("analyse", str(files / "export.csv"), "--json", *quick)
    assert run_.exit_code == 0, run_.output
    assert json.loads(run_.stdout) == json.loads(json.dumps(analyse(parsed(EXPORT), QUICK).as_json()))


def test_tables_for_people(files: Path) -> None:
    brief = run("analyse", str(files / "export.csv"), "--merit", "empirical")
    assert brief.exit_code == 0, brief.output
    assert brief.stdout.index("claims, alpha") < brief.stdout.index(
        "by reader"
    )  # what may be claimed comes first
    assert "one-shot" not in brief.stdout  # the main method alone, and a remark on the others
    assert "further analyses" in brief.output
    found = run("analyse", str(files / "export.csv"), "--merit", "empirical", "--all")
    assert found.exit_code == 0, found.output
    assert "further analyses" not in found.output
    for text in (
        "lesion insertion, low",
        "manipulation",
        "one-shot",
        "claims, alpha 0.05",
        "Holm's p",
        "warnings",
    ):
        assert text in found.stdout
    assert "SIMULATED" not in found.stdout


def test_by_itself_the_first_method_alone_is_shown_and_the_rest_is_named(files: Path) -> None:
    found = run("analyse", str(files / "export.csv"))
    assert found.exit_code == 0, found.output
    assert "one-shot unbiased" not in found.stdout
    assert found.stdout.index("Holm's p") < found.stdout.index("by reader")
    # 6 crossed endpoints: 10 others of the empirical area, 3 + 3 of the binormal one; manipulation: 7 and 3
    assert f"{6 * (10 + 6) + 7 + 3} further analyses" in found.stderr
    assert "further analyses" not in run("analyse", str(files / "export.csv"), "--all").stderr


def test_simulated_stands_on_every_table(files: Path) -> None:
    """As many tables as titles that say so, and captions too."""
    found = run(
        "analyse",
        str(files / "simulated.csv"),
        "--method",
        "OR",
        "--covariance",
        "delong",
        "--merit",
        "empirical",
    )
    assert found.exit_code == 0, found.output
    tables = found.stdout.count("┏")
    assert tables == 7 * 3 + 2  # each endpoint: readers, tests, intervals; claims; warnings
    assert found.stdout.count("SIMULATED  ") == tables
    flat = " ".join(found.stdout.split())
    assert flat.count("SIMULATED: these ratings come from model observers") == tables


def test_every_warning_stands_once_with_its_endpoints(files: Path) -> None:
    found = run("analyse", str(files / "export.csv"), "--method", "OR", "--merit", "empirical")
    assert found.stdout.count("4 readers are few") == 1
    line = next(line for line in found.stdout.splitlines() if "4 readers are few" in line)
    assert line.split("│")[1].strip() == "all"
    assert sum("cases of 40 patients" in line for line in found.stdout.splitlines()) == 1


def test_a_report_is_written(files: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        as_csv([r for r in EXPORT if r["question"] == "manipulation"], simulated=True)
    )
    quick = ("--method", "OR", "--covariance", "delong", "--random", "both", "--merit", "empirical")
    found = run("analyse", str(tmp_path / "t.csv"), *quick, "--report", str(tmp_path / "report.html"))
    assert found.exit_code == 0, found.output
    assert "SIMULATED" in (tmp_path / "report.html").read_text("utf-8")
    refused = run("analyse", str(tmp_path / "t.csv"), *quick, "--report", str(tmp_path / "report.docx"))
    assert refused.exit_code == 2


def test_columns_and_claims_of_a_plain_table(files: Path) -> None:
    path = str(files / "plain.csv")
    found = run(
        "analyse", path, "--column", "reader=who", "--margin", "0.5", "--equivalence", "-0.6,0.6", "--json"
    )
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)["decisions"]
    assert [(one["of"], one["aim"]) for one in told] == [
        ("y - x", "equivalence"),
        ("y - x", "non-inferiority"),
    ]
    assert run("analyse", path).exit_code == 2  # no column for the reader


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["none.csv"], "cannot be read"),
        (["plain.csv", "--column", "reader"], "--column"),
        (["export.csv", "--merit", "auc"], "no figure of merit"),
        (["export.csv", "--equivalence", "0.55,0.45"], "--equivalence"),
        (["export.csv", "--equivalence", "half"], "--equivalence"),
        (["export.csv", "--study", ".", "--margin", "0.05"], "--margin"),
        (["export.csv", "--study", ".", "--alpha", "0.01"], "--alpha"),
        (["export.csv", "--study", "nowhere"], ""),
    ],
)
def test_wrong_options_end_with_two_and_one_line(files: Path, arguments: list[str], what: str) -> None:
    path, *options = arguments
    found = run("analyse", str(files / path), *options)
    assert found.exit_code == 2
    assert what in found.stderr
    assert found.stderr.count("\n") == 1
    told = run("analyse", str(files / path), *options, "--json")
    assert json.loads(told.stdout)["error"].endswith("Error")


def test_the_table_must_be_of_the_study(files: Path, tmp_path: Path) -> None:
    study = small_study(tmp_path, readers=2, cases=8)
    found = run("analyse", str(files / "export.csv"), "--study", str(study))
    assert found.exit_code == 2
    assert "is none of the study" in found.stderr
    assert "line 2" in found.stderr


def test_hypotheses_come_from_the_study_s_protocol(tmp_path: Path) -> None:
    study = small_study(
        tmp_path,
        readers=2,
        cases=8,
        hypotheses=(Hypothesis(question="manipulation", aim="equivalence", low=0.3, high=0.7),),
        simulated=True,
    )
    protocol = open_study(study, pictures=False).protocol
    rows = []
    for number, picture in enumerate(protocol.pictures):
        for reader in ("R01", "R02"):
            rows.append(
                EXPORT[0]
                | {"reader": reader, "question": "manipulation", "treatment": "only", "arm": "only"}
                | {"case": picture.identifier, "picture": picture.identifier, "patient": f"P{number}"}
                | {"truth": str(number % 2), "rating": str(1 + (number * 7 + len(rows)) % 5)}
                | {"modification": "insert" if number % 2 else "none"}
            )
    path = tmp_path / "own.csv"
    path.write_bytes(as_csv(rows))
    found = run("analyse", str(path), "--study", str(study), "--json", "--merit", "empirical")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["simulated"] is True
    assert [(one["of"], one["low"], one["high"]) for one in told["decisions"]] == [("only", 0.3, 0.7)]


# --- scanward study power


def test_power_finds_the_published_sample_size() -> None:
    """RJafroc: 6 readers need 251 cases for the observed difference (see test_mrmc_power)."""
    arguments = ("power", "--published", "van-dyke", "--effect", "-0.043800322", "--readers", "6")
    told = json.loads(run(*arguments, "--json").stdout)
    assert told["plans"][0]["plan"]["cases"] == 251
    assert "251" in run(*arguments).stdout


@pytest.mark.parametrize(
    "components",
    [
        "Var(R)=0.001535,Var(TR)=0.0002004,Var(error)=0.00080229,Cov1=0.00034661,Cov2=0.00034407,Cov3=0.00023903",
        "Var(R)=0.001535,Var(C)=0.02724923,Var(TR)=0.0002004,Var(TC)=0.0119753,Var(RC)=0.01226473,Var(TRC)=0.0399716",
    ],
)
def test_power_takes_printed_components(components: str) -> None:
    given = ("--components", f"{components},positives=45,cases=114")
    told = run("power", *given, "--effect", "-0.043800322", "--readers", "6", "--json")
    assert json.loads(told.stdout)["plans"][0]["plan"]["cases"] == 251


def test_power_of_nobody_can_tell(files: Path) -> None:
    told = run(
        "power", "--chance", "0.02,0.1", "--one", "--claim", "equivalence", "--readers", "3-5", "--json"
    )
    plans = [one["plan"] for one in json.loads(told.stdout)["plans"]]
    assert plans[0] is None  # no number of cases replaces readers
    assert plans[1]["cases"] > plans[2]["cases"]
    shown = run("power", "--chance", "0.02,0.1", "--one", "--claim", "equivalence", "--readers", "3")
    assert "none is enough" in shown.stdout


def test_power_from_a_pilot(files: Path) -> None:
    """An export or a plain table; of its own size the standard error is the pilot's."""
    arguments = ("--pilot", str(files / "export.csv"), "--endpoint", "lesion, low", "--effect", "0.1")
    told = run("power", *arguments, "--readers", "4", "--cases", "40", "--json")
    assert told.exit_code == 0, told.output
    plan = json.loads(told.stdout)["plans"][0]["plan"]
    finding = next(one for one in analyse(parsed(EXPORT), Request(methods=("OR",), merits=("empirical",))).findings
                   if one.endpoint.name == "lesion, low")  # fmt: skip
    interval = finding.measured[0].analyses[0].differences[0]
    assert plan["se"] == pytest.approx(interval.se, rel=1e-9)
    assert plan["df"] == pytest.approx(interval.df, rel=1e-9)
    arguments = ("--pilot", str(files / "export.csv"), "--endpoint", "manipulation", "--one")
    one = run("power", *arguments, "--claim", "equivalence", "--json")
    assert one.exit_code == 0, one.output


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "where does the variance come from"),
        (["--published", "van-dyke", "--chance", "0.1,0.1"], "where does the variance come from"),
        (["--published", "van-dyke"], "no effect"),
        (["--published", "van-dyke", "--effect", "nan"], "not finite"),
        (["--published", "van-dyke", "--effect", "0.1", "--readers", "5-2"], "--readers"),
        (["--published", "van-dyke", "--effect", "0.1", "--readers", "1"], "1 readers"),
        (["--published", "van-dyke", "--effect", "0.1", "--claim", "equivalence"], "outside"),
        (["--chance", "0.1", "--effect", "0.1"], "--chance"),
        (["--chance", "0.1,2", "--effect", "0.1"], "guess"),
        (["--components", "Var(R)=1", "--effect", "0.1"], "--components"),
        (["--components", "Var(R)=x", "--effect", "0.1"], "--components"),
        (["--pilot", "nowhere.csv", "--effect", "0.1"], "cannot be read"),
    ],
)
def test_power_refuses_what_makes_no_sense(arguments: list[str], what: str) -> None:
    found = run("power", *arguments)
    assert found.exit_code == 2, found.output
    assert what in found.stderr
    assert found.stderr.count("\n") == 1


def test_the_page_names_every_key_of_the_json(repository: Path) -> None:
    told = analyse(parsed(EXPORT), QUICK).as_json()
    endpoint = told["endpoints"][0]
    merit = endpoint["merits"][0]
    analysis = merit["analyses"][0]
    page = (repository / "docs/mrmc.md").read_text("utf-8").partition("## The JSON")[2].partition("\n## ")[0]
    keys = {
        *told,
        *merit,
        *(set(analysis) - {"merit"}),
        *analysis["overall"],
        *analysis["differences"][0],
        *told["decisions"][0],
        *merit["cells"][0],
        *(set(endpoint) - {"positive"}),
    }
    assert len(keys) > 50
    assert sorted(key for key in keys if key not in page) == []

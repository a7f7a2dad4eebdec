"""A study from its making to its analysis, read by model observers over a real server; and what is refused."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from _study import small_study
from scanward.cli.main import cli
from scanward.errors import LinkError, SettingsError
from scanward.reading import rehearsing
from scanward.reading.opened import open_study
from scanward.reading.protocol import Arm
from scanward.reading.rehearsing import observers_of, rehearse

ARMS = (Arm(name="low", rows=32, columns=32, bits=8), Arm(name="high", rows=48, columns=40, bits=12))


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two resolutions, three readers, as in the published study; sessions apart by a washout that is not waited for."""
    folder = tmp_path_factory.mktemp("rehearsal")
    study = small_study(
        folder, cases=48, arms=ARMS, practice=2, washout_days=28.0, session_cases=12, simulated=True
    )
    done = CliRunner().invoke(cli, ["study", "rehearse", str(study), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["simulated"] is True
    assert [(one["reader"], one["answers"]) for one in told["readers"]] == [
        ("R01", 50),
        ("R02", 50),
        ("R03", 50),
    ]
    return study


def test_what_was_answered_is_what_the_observers_say(rehearsed: Path, tmp_path: Path) -> None:
    """Every rating of the table is computed again from the picture's own grey values."""
    table = tmp_path / "ratings.csv"
    done = CliRunner().invoke(cli, ["study", "export", str(rehearsed), "--out", str(table)])
    assert done.exit_code == 0, done.output
    study = open_study(rehearsed)
    observers = observers_of(study)
    sha256 = {picture.identifier: picture.sha256 for picture in study.protocol.pictures}
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 48 * 2
    for row in rows:
        said = observers[row["reader"]].rate(sha256[row["picture"]], row["question"], 5)
        assert int(row["rating"]) == said
        assert row["simulated"] == "yes"
    assert len({row["rating"] for row in rows}) == 5


def test_the_analysis_says_simulated(rehearsed: Path, tmp_path: Path) -> None:
    table = tmp_path / "ratings.csv"
    CliRunner().invoke(cli, ["study", "export", str(rehearsed), "--out", str(table)])
    analyse = ["study", "analyse", str(table), "--study", str(rehearsed)]
    shown = CliRunner().invoke(cli, analyse)
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("SIMULATED") >= 4
    as_json = json.loads(CliRunner().invoke(cli, [*analyse, "--json"]).stdout)
    assert as_json["simulated"] is True


def test_a_rehearsal_broken_off_goes_on(tmp_path: Path) -> None:
    study = small_study(tmp_path, cases=12, simulated=True)
    observers = observers_of(open_study(study))
    first = rehearse(study, {"R02": observers["R02"]})
    assert [(one.reader, one.answers) for one in first] == [("R02", 12)]
    rest = rehearse(study, observers)
    assert [(one.reader, one.answers) for one in rest] == [("R01", 12), ("R02", 0), ("R03", 12)]


def test_a_study_of_people_is_not_rehearsed(tmp_path: Path) -> None:
    study = small_study(tmp_path, cases=8)
    with pytest.raises(SettingsError, match="study of people"):
        observers_of(open_study(study))
    done = CliRunner().invoke(cli, ["study", "rehearse", str(study)])
    assert done.exit_code == 2
    assert "simulated = true" in done.output
    assert not (study / "accounts.sqlite").exists()


def test_a_reader_who_fails_stops_the_others_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(tmp_path, cases=40, simulated=True)
    observers = observers_of(open_study(study))
    original = rehearsing._answer

    def failing(observer, *given):  # type: ignore[no-untyped-def]
        if observer.name == "R02":
            raise LinkError("the study's server did not answer", "here", "run the rehearsal again")
        return original(observer, *given)

    monkeypatch.setattr(rehearsing, "_answer", failing)
    with pytest.raises(LinkError):
        rehearse(study, observers)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("R0")]

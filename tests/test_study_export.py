"""The exported table: what each column says, whole, checked against protocol and key by a second, slow way."""

from __future__ import annotations

import csv
import json
import sqlite3
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from _study import small_study
from scanward.cli.main import cli
from scanward.errors import InputError
from scanward.reading.exporting import COLUMNS, export, history, write_table
from scanward.reading.opened import open_study
from scanward.reading.protocol import Answer, Arm, Question
from scanward.reading.store import Store, stamp

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def answer(token: str, number: int = 0, revision: int = 0, **more: Any) -> Answer:
    given: dict[str, Any] = {
        "identifier": str(uuid.uuid4()),
        "ratings": {"lesion": 1 + number % 5, "manipulation": 1 + number % 4},
        "seconds": 2.5 + number,
    }
    return Answer(token=token, revision=revision, **(given | more))


def read_all(folder: Path, **more: Any) -> list[tuple[str, Answer]]:
    """Answer every case of a study; (reader, answer) in order."""
    study = open_study(folder)
    told = []
    number = 0
    with Store(study.answers, study.sha256) as store:
        for reader in study.protocol.readers:
            for session in reader.sessions:
                for shown in session.cases:
                    given = answer(shown.token, number, **more)
                    store.put_answer(reader.name, session.number, given, NOW + timedelta(seconds=number))
                    told.append((reader.name, given))
                    number += 1
    return told


def table(folder: Path, **options: Any) -> list[dict[str, str]]:
    found = export(folder, **options)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


ARMS = (Arm(name="low", rows=24, columns=16, bits=8), Arm(name="high", rows=32, columns=24))


def test_every_rating_is_one_row_and_says_what_key_and_protocol_say(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=2, cases=16, practice=2, arms=ARMS)
    told = read_all(folder)
    protocol = json.loads((folder / "protocol.json").read_text())
    truths = {t["picture"]: t for t in json.loads((folder / "key.json").read_text())["truths"]}
    pictures = {p["identifier"]: p for p in protocol["pictures"]}
    where = {
        case["token"]: (session["number"], place, case["picture"])
        for reader in protocol["readers"]
        for session in reader["sessions"]
        for place, case in enumerate(session["cases"], 1)
    }
    expected = []
    for number, (reader, given) in enumerate(told):
        session, place, picture = where[given.token]
        truth = truths[picture]
        if session == 0:
            continue
        for question in ("lesion", "manipulation"):
            modified = truth["modification"] != "none"
            lesion = question == "lesion"
            expected.append(
                {
                    "reader": reader,
                    "treatment": ("modified" if modified else "genuine")
                    if lesion
                    else pictures[picture]["arm"],
                    "case": truth["case"] if lesion else picture,
                    "truth": str(int(truth["pathology"] == "cancer" if lesion else modified)),
                    "rating": str(given.ratings[question]),
                    "question": question,
                    "arm": pictures[picture]["arm"],
                    "patient": truth["patient"],
                    "modification": truth["modification"],
                    "pathology": truth["pathology"],
                    "picture": picture,
                    "session": str(session),
                    "position": str(place),
                    "seconds": f"{2.5 + number}",
                    "away": "0",
                    "confidence": "",
                    "revisions": "0",
                    "marks": "",
                    "answered_at": stamp(NOW + timedelta(seconds=number)),
                }
            )
    found = table(folder)
    assert found == expected
    assert {row["truth"] for row in found} == {"0", "1"}
    assert tuple(found[0]) == COLUMNS
    whole = export(folder, practice=True)
    assert len(whole.rows) == 2 * len(told) > len(found)
    # twins share a case, a picture in another arm too; a picture is a case of its own for the other question
    lesion = [row for row in found if row["question"] == "lesion" and row["reader"] == "R01"]
    assert len({row["case"] for row in lesion}) == 4
    assert len({row["picture"] for row in lesion}) == 16


def test_the_last_revision_is_the_rating_and_time_adds_up(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    study = open_study(folder)
    token = study.readers["R01"].sessions[0].cases[0].token
    ratings = [{"lesion": n, "manipulation": 6 - n} for n in (1, 2, 3)]
    with Store(study.answers, study.sha256) as store:
        for revision, rating in enumerate(ratings):
            given = answer(token, revision=revision, ratings=rating, seconds=1.5, away=0.25)
            store.put_answer("R01", 1, given, NOW)
        other = answer(token, revision=1, ratings={"lesion": 5, "manipulation": 5}, marks=((1, 2), (3.5, 4)))
        store.put_answer("R01", 1, other, NOW)
    found = export(folder)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(r["question"], r["rating"], r["revisions"], r["seconds"], r["away"]) for r in rows] == [
        ("lesion", "3", "2", "4.5", "0.75"),
        ("manipulation", "3", "2", "4.5", "0.75"),
    ]
    assert (found.answers, found.unanswered, found.conflicts) == (1, 3, 1)
    lines = [json.loads(line) for line in history(folder)]
    assert [(line["answer"]["revision"], line["standing"]) for line in lines] == [
        (0, "counts"),
        (1, "counts"),
        (2, "counts"),
        (1, "conflict"),
    ]
    assert lines[-1]["answer"]["marks"] == [[1, 2], [3.5, 4]]


def test_marks_confidence_and_other_questions(tmp_path: Path) -> None:
    extra = Question(identifier="density", text="How dense?", labels=("a", "b", "c"))
    folder = small_study(tmp_path, readers=1, cases=4, confidence=True, questions=(extra,), simulated=True)
    read_all(folder, ratings={"density": 2}, marks=((1.5, 2.0), (30.0, 7.25)), confidence=4)
    rows = table(folder)
    assert {(r["question"], r["treatment"], r["truth"], r["simulated"]) for r in rows} == {
        ("density", "only", "", "yes")
    }
    assert {(r["marks"], r["confidence"]) for r in rows} == {("1.5 2;30 7.25", "4")}
    assert {r["case"] for r in rows} == {r["picture"] for r in rows}


def test_a_key_that_is_not_the_protocols_is_refused(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    read_all(folder)
    key = folder / "key.json"
    text = key.read_text()
    key.write_text(text.replace('"none"', '"insert"', 1))
    with pytest.raises(InputError, match="not the key of this study"):
        export(folder)
    key.unlink()
    with pytest.raises(InputError, match="no such file"):
        export(folder)
    assert len(list(history(folder))) == 4  # what was answered needs no key
    key.write_text(text)
    assert len(export(folder).rows) == 8


def test_a_protocol_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    read_all(folder)
    path = folder / "protocol.json"
    path.write_text(path.read_text().replace("A small study", "A smaller study"))
    with pytest.raises(InputError, match="not the one that was frozen"):
        export(folder)


def test_no_answers_yet_is_said(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    with pytest.raises(InputError, match="no answers yet"):
        export(folder)
    assert not (folder / "answers.sqlite").exists()


def test_the_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    read_all(folder)
    out = tmp_path / "ratings.csv"
    write_table(export(folder), out)
    with out.open(newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == list(export(folder).rows)
    assert out.stat().st_mode & 0o777 == 0o600
    before = out.read_bytes()
    broken = export(folder)
    object.__setattr__(broken, "rows", (broken.rows[0], 5))
    with pytest.raises(csv.Error):
        write_table(broken, out)
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ratings.csv", "study"]


# --- the command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["study", "export", *arguments])


def test_the_command_writes_the_table_and_the_history(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4, practice=2)
    read_all(folder)
    out, past = tmp_path / "ratings.csv", tmp_path / "history.jsonl"
    result = run(str(folder), "--out", str(out), "--history", str(past))
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 8
    (folder / "key.json").rename(tmp_path / "safe.json")
    result = run(str(folder), "--out", str(out), "--key", str(tmp_path / "safe.json"))
    assert result.exit_code == 0, result.output
    assert list(csv.DictReader(out.read_text().splitlines())) == rows
    (tmp_path / "safe.json").rename(folder / "key.json")
    assert len(past.read_text().splitlines()) == 6
    result = run(str(folder), "--out", str(out), "--practice", "--json")
    told = json.loads(result.stdout)
    assert (told["rows"], told["answers"], told["unanswered"], told["conflicts"]) == (12, 6, 0, 0)
    assert told["out"] == str(out)


def test_the_command_prints_the_table_where_no_file_is_given(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    read_all(folder)
    result = run(str(folder))
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [tuple(row.values()) for row in rows] == list(export(folder).rows)


def test_an_unfinished_study_is_exported_with_a_remark(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=1, cases=4)
    read_all(folder)
    path = folder / "answers.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER answers_delete")
        db.execute("DELETE FROM answers WHERE serial = 2")
    db.close()
    result = run(str(folder), "--out", str(tmp_path / "ratings.csv"))
    assert result.exit_code == 0
    assert "1 case is not answered" in result.stderr


def test_table_and_json_do_not_share_an_output(tmp_path: Path) -> None:
    result = run(str(tmp_path), "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]) == (2, "SettingsError")


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_study_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    result = run(str(tmp_path / name), "--json", "--out", str(tmp_path / "out.csv"))
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "InputError"

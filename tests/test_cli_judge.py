"""``scanward judge`` and ``scanward explain`` as a user types them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from _trained import Trained
from scanward.cli.judge import COLUMNS, FOUND, harmless
from scanward.cli.main import cli
from scanward.keys import SigningKey, write_pair

Run = Callable[..., Result]


@pytest.fixture
def few(small_bundle: Trained, tmp_path: Path) -> Path:
    """The first rows of the later table, in a file of their own."""
    lines = small_bundle.later.read_text("utf-8").splitlines()[:21]
    path = tmp_path / "few.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(small_bundle: Trained, own_home: Path) -> Run:
    """A command with the small bundle, its dialect and its key."""

    def typed(command: str, *arguments: object, model: Path | None = None, trust: bool = True) -> Result:
        given = [command, *map(str, arguments), "--model", str(model or small_bundle.model)]
        given += ["--dialect", str(small_bundle.dialect)]
        given += ["--trust", str(small_bundle.trust)] if trust else []
        return CliRunner().invoke(cli, given)

    return typed


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def spoilt(path: Path, row: int, column: str, cell: str) -> Path:
    """A copy of a table with one other cell."""
    rows = rows_of(path.read_text("utf-8"))
    rows[row][column] = cell
    other = path.with_name(f"spoilt-{path.name}")
    with other.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return other


# --- the table of verdicts


def test_one_row_per_command_in_the_order_of_the_input(run: Run, few: Path) -> None:
    done = run("judge", few)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "row,verdict,p_value,layer,fields,reason"
    rows = rows_of(done.stdout)
    assert [int(row["row"]) for row in rows] == list(range(20))
    assert {row["verdict"] for row in rows} <= {"RELEASE", "ALERT", "HALT"}
    assert sum(row["verdict"] == "RELEASE" for row in rows) >= 17
    for row in rows:
        if row["verdict"] == "RELEASE":
            assert 0 < float(row["p_value"]) <= 1
            assert row["layer"] == row["fields"] == row["reason"] == ""
    assert "20" in done.stderr  # the summary, which is no part of the table
    assert "Verdicts" in done.stderr


def test_an_unreadable_row_is_halted_and_keeps_its_place(run: Run, few: Path) -> None:
    done = run("judge", spoilt(few, 7, "KVP", "a lot"))
    rows = rows_of(done.stdout)
    assert done.exit_code == 0
    assert len(rows) == 20
    assert (rows[7]["verdict"], rows[7]["layer"], rows[7]["p_value"]) == ("HALT", "form", "")
    assert "KVP" in rows[7]["reason"]


def test_an_attack_is_named_with_field_and_expectation(run: Run, few: Path) -> None:
    rows = rows_of(run("judge", spoilt(few, 7, "KVP", "35")).stdout)
    assert rows[7]["verdict"] != "RELEASE"
    assert "KVP" in rows[7]["fields"].split()
    assert "expected" in rows[7]["reason"]


def test_out_writes_the_same_table_whole(run: Run, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "verdicts.csv"
    done = run("judge", few, "--out", out)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert out.read_text("utf-8") == run("judge", few).stdout
    assert run("judge", few, "--out", out).exit_code == 0  # a table of verdicts may be replaced
    assert [path.name for path in out.parent.iterdir()] == ["verdicts.csv"]
    assert run("judge", few, "--out", "-").stdout == out.read_text("utf-8")


def test_out_never_replaces_what_is_no_table_of_verdicts(run: Run, few: Path, tmp_path: Path) -> None:
    before = few.read_bytes()
    done = run("judge", few, "--out", few, "--force")
    assert done.exit_code == 2
    assert "would replace a recording" in done.stderr
    assert few.read_bytes() == before
    other = tmp_path / "thesis.txt"
    other.write_text("years of work")
    assert "is no table of verdicts" in run("judge", few, "--out", other).stderr
    assert other.read_text() == "years of work"
    assert run("judge", few, "--out", tmp_path).exit_code == 2
    assert run("judge", few, "--out", other, "--force").exit_code == 0


def test_json_says_the_same(run: Run, few: Path, tmp_path: Path) -> None:
    path = spoilt(few, 7, "KVP", "a lot")
    done = run("judge", path, "--json")
    found = json.loads(done.stdout)
    rows = rows_of(run("judge", path).stdout)
    assert [one["verdict"] for one in found["verdicts"]] == [row["verdict"] for row in rows]
    assert list(found["verdicts"][0]) == list(COLUMNS)
    assert found["rows"] == sum(found["counts"].values()) == 20
    assert found["books"]["rejected"] == 1
    assert found["layers"]["form"] >= 1
    short = json.loads(run("judge", path, "--json", "--out", tmp_path / "v.csv").stdout)
    assert "verdicts" not in short
    assert short["counts"] == found["counts"]


def test_several_files_count_on(run: Run, few: Path, tmp_path: Path) -> None:
    bad = tmp_path / "sub"
    bad.mkdir()
    (bad / "a.bin").write_bytes(b"\0\1\2")
    done = run("judge", bad / "a.bin", few, "--with-origin")
    rows = rows_of(done.stdout)
    assert list(rows[0]) == [*COLUMNS, "file", "file_row"]
    assert len(rows) == 21
    assert rows[0]["verdict"] == "HALT"
    assert [row["row"] for row in rows] == [str(i) for i in range(21)]
    assert rows[5]["file"] == str(few)
    assert rows[5]["file_row"] == "4"


def test_fail_on(run: Run, few: Path) -> None:
    halted = spoilt(few, 7, "KVP", "a lot")
    assert run("judge", halted).exit_code == 0
    assert run("judge", halted, "--fail-on", "halt").exit_code == FOUND
    assert run("judge", halted, "--fail-on", "alert").exit_code == FOUND
    released = [row for row in rows_of(run("judge", few).stdout) if row["verdict"] != "RELEASE"]
    assert run("judge", few, "--fail-on", "alert").exit_code == (FOUND if released else 0)


def test_quiet_says_nothing_beside_the_table(run: Run, few: Path) -> None:
    assert run("judge", few, "--quiet").stderr == ""


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_run_by_a_spreadsheet(begin: str) -> None:
    assert harmless(f"{begin}cmd|' /C calc'!A0").startswith("'")
    assert "\n" not in harmless(f"a{begin}\n\x1b[2J")
    assert harmless(f"a{begin}b")[0] == "a"


def test_hostile_text_of_a_recording_is_harmless_in_the_table(run: Run, few: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "=HYPERLINK(1).csv"
    shutil.copy(spoilt(few, 3, "AcquisitionType", '=cmd|"/C calc"!A0\x1b[2J'), hostile)
    text = run("judge", hostile, "--with-origin").stdout
    assert "\x1b" not in text
    for row in rows_of(text):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


# --- which bundle


def test_a_strangers_bundle_is_refused_until_named(run: Run, few: Path) -> None:
    done = run("judge", few, trust=False)
    assert done.exit_code == 2
    assert "which is not trusted" in done.stderr
    assert "--trust SITE.pub" in done.stderr
    assert done.stdout == ""
    assert run("judge", few).exit_code == 0
    taken = run("judge", few, "--unsafe-any-key", trust=False)
    assert taken.exit_code == 0
    assert "anybody may have made it" in taken.stderr
    assert run("judge", few, "--unsafe-any-key").exit_code == 2


def test_a_key_of_ones_own_does_not_make_a_stranger_trusted(run: Run, few: Path, own_home: Path) -> None:
    folder = own_home / "data" / "scanward" / "keys"
    folder.mkdir(parents=True, mode=0o700)
    write_pair(folder / "default", SigningKey.generate())
    assert "not trusted" in run("judge", few, trust=False).stderr


def test_a_key_folder_that_others_can_write_is_refused(run: Run, few: Path, own_home: Path) -> None:
    folder = own_home / "data" / "scanward" / "keys"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    done = run("judge", few)
    assert done.exit_code == 2
    assert "others can write" in done.stderr


@pytest.mark.parametrize("name", ["manifest.json", "settings.json", "arrays.safetensors"])
def test_an_altered_bundle_is_refused(
    run: Run, small_bundle: Trained, few: Path, tmp_path: Path, name: str
) -> None:
    model = tmp_path / "altered"
    shutil.copytree(small_bundle.model, model)
    data = bytearray((model / name).read_bytes())
    data[len(data) // 2] ^= 1
    (model / name).write_bytes(data)
    done = run("judge", few, model=model)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


def test_no_bundle_at_all(run: Run, few: Path, tmp_path: Path) -> None:
    for trust in (True, False):
        done = run("judge", few, model=tmp_path / "nowhere", trust=trust)
        assert done.exit_code == 2
        assert str(tmp_path / "nowhere") in done.stderr


def test_an_older_bundle_is_refused(run: Run, small_bundle: Trained, few: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from scanward import bundle

    model = tmp_path / "model"
    shutil.copytree(small_bundle.model, model)
    assert run("judge", few, model=model).exit_code == 0
    kept = tmp_path / "kept"
    shutil.copytree(model, kept)
    old = bundle.read(model, trusted=None, unsafe_any_key=True)
    key = SigningKey.load(small_bundle.key)
    bundle.write(model, old.part, replace(old.manifest.facts, version=None), key)
    assert run("judge", few, model=model).exit_code == 0
    shutil.rmtree(model)
    shutil.copytree(kept, model)
    done = run("judge", few, model=model)
    assert done.exit_code == 2
    assert "version 1 is older than version 2" in done.stderr
    assert run("explain", few, "--row", 0, model=model).exit_code == 2
    assert run("judge", few, "--unsafe-any-version", model=model).exit_code == 0
    # one memory for several folders, where a site wants that
    versions = tmp_path / "versions.json"
    bundle.write(model, old.part, replace(old.manifest.facts, version=None), key)
    assert run("judge", few, "--versions", versions, model=model).exit_code == 0
    assert run("judge", few, "--versions", versions, model=kept).exit_code == 2
    assert run("judge", few, model=kept).exit_code == 0


def test_the_wrong_recordings_are_refused(run: Run, small_bundle: Trained, few: Path, tmp_path: Path) -> None:
    performed = tmp_path / "performed.toml"
    performed.write_text(small_bundle.dialect.read_text().replace('role = "commanded"', 'role = "performed"'))
    arguments = ["judge", str(few), "--model", str(small_bundle.model), "--trust", str(small_bundle.trust)]
    done = CliRunner().invoke(cli, [*arguments, "--dialect", str(performed)])
    assert done.exit_code == 2
    assert "performed values, the bundle judges commanded ones" in done.stderr
    other = tmp_path / "other.csv"
    text = few.read_text("utf-8")
    other.write_text(text.replace("Simulated", "Another"), encoding="utf-8")
    done = run("judge", other)
    assert done.exit_code == 2
    assert "the recording is of Another" in done.stderr


def test_judging_loads_no_training_library(small_bundle: Trained, few: Path, own_home: Path) -> None:
    for command in (["judge"], ["explain", "--row", "3"]):
        typed = [
            *command,
            str(few),
            "--model",
            str(small_bundle.model),
            "--dialect",
            str(small_bundle.dialect),
        ]
        typed += ["--trust", str(small_bundle.trust)]
        code = (
            "import sys\nfrom scanward.cli.main import cli\n"
            f"try: cli.main({typed!r})\n"
            "except SystemExit as done: assert done.code == 0, done.code\n"
            "heavy = {'sklearn', 'lightgbm', 'torch', 'onnx', 'matplotlib', 'scipy', 'scanward.learning'}\n"
            "assert 'onnxruntime' in sys.modules\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# --- explain


def test_explain_is_readable(run: Run, few: Path) -> None:
    done = run("explain", spoilt(few, 7, "KVP", "35"), "--row", 7)
    assert done.exit_code == 0, done.output
    text = done.stdout
    assert text.startswith("row 7: ")
    for words in ("The command", "Its context", "What the layers say", "Objections", "KVP", "worklist"):
        assert words in text
    assert "\x1b" not in text


def test_explain_in_json(run: Run, few: Path) -> None:
    rows = rows_of(run("judge", few).stdout)
    found = json.loads(run("explain", few, "--row", 9, "--json").stdout)
    assert found["verdict"] == rows[9]["verdict"]
    assert f"{found['p_value']:.6g}" == rows[9]["p_value"]
    names = [one["layer"] for one in found["layers"]]
    assert names == [
        "form", "physics", "limits", "protocol_book", "context_free", "context_sensitive", "procedure"
    ]  # fmt: skip
    assert all(0 < one["p_value"] <= 1 for one in found["layers"][4:] if one["p_value"] is not None)
    assert found["command"]["parameters"]["KVP"] > 0
    before = [one["row"] for one in found["before"]]
    assert all(row != 9 for row in before)
    assert found["budget"] == 0.01


def test_explain_tells_what_came_before(run: Run, small_bundle: Trained, few: Path) -> None:
    table = rows_of(few.read_text("utf-8"))
    same = [i for i, row in enumerate(table) if row["StudyInstanceUID"] == table[0]["StudyInstanceUID"]]
    assert len(same) > 1
    found = json.loads(run("explain", few, "--row", same[-1], "--json").stdout)
    assert [one["row"] for one in found["before"]] == same[:-1]
    first = run("explain", few, "--row", same[0]).stdout
    assert "Nothing was sent in this examination before it." in first


def test_explain_a_row_that_cannot_be_read(run: Run, few: Path) -> None:
    path = spoilt(few, 7, "KVP", "a lot")
    done = run("explain", path, "--row", 7)
    assert done.exit_code == 0
    assert done.stdout.startswith("row 7: HALT by layer form")
    assert "could not be read" in done.stdout
    found = json.loads(run("explain", path, "--row", 7, "--json").stdout)
    assert found["layers"] == []
    assert found["command"] is None
    assert "KVP" in found["reason"]


def test_explain_a_malformed_command_says_who_was_not_asked(run: Run, few: Path) -> None:
    done = run("explain", spoilt(few, 7, "KVP", ""), "--row", 7)
    assert "HALT by layer form" in done.stdout
    assert "not asked" in done.stdout


def test_explain_a_row_that_is_not_there(run: Run, few: Path) -> None:
    done = run("explain", few, "--row", 20)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: there is no row 20, --row, rows go from 0 to 19")

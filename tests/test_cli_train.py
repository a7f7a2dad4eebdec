"""``scanward train`` as a user types it: two commands from recordings to verdicts, signed, reproducible."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dicom_builders.ct_images import ct_slice, to_bytes
from scanward import bundle, keys
from scanward.cli.main import cli
from scanward.codecs.defined_protocol import dataset_bytes, encode_defined_protocol
from scanward.codecs.defined_protocol_approval import encode_approval
from scanward.codecs.defined_protocol_build import approval, constrain, element, protocol
from scanward.codecs.defined_protocol_model import ProtocolBook
from scanward.commands import Command, Examination, LayerName, Mode
from scanward.learning import fit as fitting
from scanward.learning import folds
from scanward.recordings.writing import write_table
from scanward.simulation import Site

BUDGET = "0.08"  # 13 calibration examinations out of 50 can express it
EXAMINATIONS = 50
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of clean examinations, QA scans among them; its dialect lies beside it."""
    path = tmp_path_factory.mktemp("recordings") / "site.csv"
    commands = [c for e in Site(5, include_qa=True).examinations(EXAMINATIONS + 3) for c in e.commands]
    write_table(commands, path, path.with_suffix(".toml"))
    assert sum(command.mode is Mode.QA for command in commands) == 3
    return path


_fitted: dict[tuple[object, ...], fitting.Fitted] = {}


@pytest.fixture
def given_to_fit(monkeypatch: pytest.MonkeyPatch) -> list[list[Examination]]:
    """Training cut short, and done once for what all tests train on; lists the examinations of each training.

    These tests ask what comes out, not how good it is.
    """
    short = partial(fitting.Settings, spoilt=1.0, rounds=20, steps=20)
    monkeypatch.setattr(fitting, "Settings", short)
    monkeypatch.setattr(folds, "ENOUGH", 1)
    seen: list[list[Examination]] = []
    real = fitting.fit

    def once(
        examinations: Sequence[Examination],
        settings: fitting.Settings,
        tick: folds.Tick,
        *,
        book: ProtocolBook | None = None,
    ) -> fitting.Fitted:
        seen.append(list(examinations))
        if book is not None or len(examinations) < EXAMINATIONS or settings.budget != float(BUDGET):
            return real(examinations, settings, tick, book=book)
        if (settings,) not in _fitted:
            _fitted[settings,] = real(examinations, settings, tick)
        return _fitted[settings,]

    monkeypatch.setattr(fitting, "fit", once)
    return seen


@pytest.fixture
def run(table: Path, own_home: Path, given_to_fit: list[list[Examination]]) -> Run:
    def typed(*arguments: object, recordings: Path = table, budget: str = BUDGET) -> Result:
        given = ["train", str(recordings), "--dialect", str(table.with_suffix(".toml")), "--budget", budget]
        return CliRunner().invoke(cli, [*given, *map(str, arguments)])

    return typed


def files(model: Path) -> dict[str, bytes]:
    return {str(p.relative_to(model)): p.read_bytes() for p in sorted(model.rglob("*")) if p.is_file()}


def judged(table: Path, model: Path, *arguments: object) -> Result:
    given = ["judge", str(table), "--model", str(model), "--dialect", str(table.with_suffix(".toml"))]
    return CliRunner().invoke(cli, [*given, *map(str, arguments)])


def test_two_commands_are_enough(run: Run, table: Path, tmp_path: Path, own_home: Path) -> None:
    model = tmp_path / "scanner-1"
    done = run("--model", model)
    assert done.exit_code == 0, done.output
    for words in (
        "Recordings", "Devices", "Simulated Sigma", "fields used", "Layers", "context_sensitive", "combined",
        "expected per 1,000 commands", "expected per day", "observed",
    ):  # fmt: skip
        assert words in done.stdout, words
    key = own_home / "data" / "scanward" / "keys" / "default.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert str(key) in done.stderr
    verdicts = judged(table, model)
    assert verdicts.exit_code == 0, verdicts.output
    rows = list(csv.DictReader(io.StringIO(verdicts.stdout)))
    assert len(rows) == len(table.read_text("utf-8").splitlines()) - 1
    manifest = bundle.read(model, trusted=[keys.VerifyKey.load(key.with_suffix(".pub"))]).manifest
    assert manifest.version == 1
    assert len(manifest.facts.devices) == 3
    # the same key the next time, and a larger version
    assert run("--model", model).exit_code == 0
    again = bundle.read(model, trusted=[keys.VerifyKey.load(key.with_suffix(".pub"))]).manifest
    assert again.version == 2
    assert len(list(key.parent.iterdir())) == 2


def test_somebody_else_has_to_name_the_key(
    run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys.write_pair(tmp_path / "site", keys.SigningKey.generate())
    model = tmp_path / "model"
    assert run("--model", model, "--key", private).exit_code == 0
    assert judged(table, model).exit_code == 0  # who trained it knows the key
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "somebody"))
    refused = judged(table, model)
    assert refused.exit_code == 2
    assert "not trusted" in refused.stderr
    assert judged(table, model, "--trust", public).exit_code == 0
    assert not (tmp_path / "somebody").exists()  # judging makes no key and trusts no new one


def test_the_same_input_and_seed_give_the_same_bytes(run: Run, table: Path, tmp_path: Path) -> None:
    rows = table.read_text("utf-8").splitlines()
    body = rows[1:]
    random.Random(3).shuffle(body)
    shuffled = tmp_path / "elsewhere" / "shuffled.csv"
    shuffled.parent.mkdir()
    shuffled.write_text("\n".join([rows[0], *body]) + "\n", encoding="utf-8")
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("--model", first).exit_code == 0
    _fitted.clear()  # and now all of it again
    assert run("--model", second, recordings=shuffled).exit_code == 0
    assert files(first) == files(second)
    assert b'"1970-' in files(first)["manifest.json"]  # the site's clock, not ours


def test_json_prints_the_same_facts(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    done = run("--model", model, "--json", "--created", "2026-01-31T12:00:00Z", "--bundle-version", 7)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["created"] == "2026-01-31T12:00:00Z"
    assert found["version"] == 7
    assert found["recordings"]["read"] == found["recordings"]["commands"] > found["commands"]
    assert found["examinations"] == EXAMINATIONS
    assert found["role"] == "commanded"
    assert {one["model"] for one in found["devices"]} == {"S-128", "G-64", "T-80"}
    assert [one["layer"] for one in found["layers"]] == [name.value for name in LayerName]
    assert all(0 <= one["auroc"] <= 1 for one in found["layers"][4:])
    assert all(one["clean_objections_per_1000_commands"] >= 0 for one in found["layers"][:4])
    assert found["expected_alerts_per_1000_commands"] > 0
    assert found["expected_alerts_per_day"] > 0
    assert "KVP" in found["fields"]


def test_qa_is_left_out_unless_asked_for(
    run: Run, tmp_path: Path, given_to_fit: list[list[Examination]]
) -> None:
    assert run("--model", tmp_path / "model").exit_code == 0
    assert run("--model", tmp_path / "model", "--include-qa").exit_code == 0
    assert [len(fitting.clinical(e)) for e in given_to_fit] == [EXAMINATIONS, EXAMINATIONS + 3]


def test_a_protocol_book_goes_into_the_bundle(run: Run, table: Path, tmp_path: Path) -> None:
    row = next(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    name = next(
        r["ProtocolName"]
        for r in csv.DictReader(io.StringIO(table.read_text("utf-8")))
        if r["Mode"] == "CLINICAL"
    )
    assert row
    book = tmp_path / "book"
    book.mkdir()
    approved = protocol(name, element(1, constrain("KVP", equal=77.0, significance="FAILURE")))
    (book / "a.dcm").write_bytes(dataset_bytes(encode_defined_protocol(approved)))
    (book / "b.dcm").write_bytes(
        dataset_bytes(encode_approval(approval([approved], "Doe^J", "20260115093000")))
    )
    model = tmp_path / "model"
    assert run("--model", model, "--protocol-book", book).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(judged(table, model).stdout)))
    assert any(one["layer"] == "protocol_book" and "KVP" in one["fields"] for one in rows)
    (book / "c.txt").write_text("not a protocol")
    refused = run("--model", model, "--protocol-book", book)
    assert refused.exit_code == 2
    assert "c.txt" in refused.stderr


# --- what is refused


def test_a_budget_that_cannot_be_expressed_says_how_many_it_takes(run: Run, tmp_path: Path) -> None:
    done = run("--model", tmp_path / "model", budget="0.005")
    assert done.exit_code == 1
    assert "error: a budget of 0.005 cannot be expressed with" in done.stderr
    assert re.search(r"record at least 793 examinations in all", done.stderr)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("budget", ["0", "1", "-0.1", "much"])
def test_a_budget_that_is_no_share_is_bad_input(run: Run, tmp_path: Path, budget: str) -> None:
    assert run("--model", tmp_path / "model", budget=budget).exit_code == 2


def test_mixed_roles_are_refused(run: Run, table: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    shutil.copy(table, both / "a.csv")
    # One dialect serves all tables, so the other role comes as a CT image.
    (both / "c.dcm").write_bytes(to_bytes(ct_slice()))
    done = run("--model", tmp_path / "model", recordings=both)
    assert done.exit_code == 2
    assert "mix roles (commanded and performed)" in done.stderr


def test_a_folder_that_is_no_bundle_is_refused_at_once(
    run: Run, tmp_path: Path, given_to_fit: list[list[Examination]]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for model in (tmp_path, tmp_path / "thesis.txt"):
        done = run("--model", model)
        assert done.exit_code == 2
        assert "--model" in done.stderr
    assert given_to_fit == []
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_too_few_and_only_qa(run: Run, tmp_path: Path) -> None:
    one = Site(5).examination(0).commands
    few = tmp_path / "few.csv"
    write_table(one, few)
    done = run("--model", tmp_path / "model", recordings=few)
    assert done.exit_code == 1
    assert "too few to learn from" in done.stderr
    qa: list[Command] = [replace(c, mode=Mode.QA) for c in one]
    write_table(qa, few)
    done = run("--model", tmp_path / "model", recordings=few)
    assert done.exit_code == 1
    assert "QA, phantom or service" in done.stderr


def test_nothing_usable(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("KVP\na lot\nmore\n")
    done = CliRunner().invoke(cli, ["train", str(bad), "--model", str(tmp_path / "model")])
    assert done.exit_code == 2
    assert "no usable command" in done.stderr


@pytest.mark.parametrize("created", ["yesterday", "2026-02-31T00:00:00Z", "2026-01-31"])
def test_a_wrong_date_is_refused_at_once(run: Run, tmp_path: Path, created: str) -> None:
    done = run("--model", tmp_path / "model", "--created", created)
    assert done.exit_code == 2
    assert "--created" in done.stderr


def test_the_report_lists_what_was_rejected(run: Run, table: Path, tmp_path: Path) -> None:
    rows = table.read_text("utf-8").splitlines()
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join([*rows, rows[1].replace(",120,", ",a lot,")]) + "\n", encoding="utf-8")
    report = tmp_path / "report.csv"
    assert run("--model", tmp_path / "model", "--report", report, recordings=broken).exit_code == 0
    assert "rejected" in report.read_text("utf-8")
    again = run("--model", tmp_path / "model", "--report", report, recordings=broken)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_a_version_that_does_not_grow_is_refused(run: Run, table: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert run("--model", model, "--bundle-version", 5).exit_code == 0
    before = files(model)
    assert run("--model", model, "--bundle-version", 5).exit_code == 2
    assert files(model) == before
    assert judged(table, model).exit_code == 0
    shutil.rmtree(model)  # a folder that was emptied does not start at 1 again
    assert run("--model", model).exit_code == 0
    assert bundle.read(model, trusted=None, unsafe_any_key=True).manifest.version == 6
    assert judged(table, model).exit_code == 0

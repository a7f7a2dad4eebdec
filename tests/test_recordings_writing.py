"""Commands written to a table come back as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.commands import Command, Context, Mode, Role, Source, Told
from scanward.errors import InputError
from scanward.recordings import Pseudonyms, load_dialect, read
from scanward.recordings.writing import write_table
from scanward.simulation import Site

SAME = ("parameters", "context", "role", "roles", "acquired_at", "order", "mode")


def there_and_back(commands: list[Command], folder: Path) -> list[Command]:
    path, dialect = folder / "table.csv", folder / "table.toml"
    write_table(commands, path, dialect)
    recording = read([path], dialect=load_dialect(dialect))
    assert recording.books()["rejected"] == 0
    return [entry for entry in recording.entries if isinstance(entry, Command)]


def assert_same(found: Command, wanted: Command) -> None:
    for name in SAME:
        assert getattr(found, name) == getattr(wanted, name), name
    hashed = Pseudonyms()
    assert found.examination == (hashed.examination(wanted.examination) if wanted.examination else None)
    assert found.event == (hashed.event(wanted.event) if wanted.event else None)
    assert found.device == replace(wanted.device, serial=hashed.device(wanted.device.serial))


def test_a_simulated_site_comes_back_as_it_was(tmp_path: Path) -> None:
    commands = [c for e in Site(2, include_qa=True).examinations(40) for c in e.commands]
    found = there_and_back(commands, tmp_path)
    assert len(found) == len(commands) > 80
    for one, wanted in zip(found, commands, strict=True):
        assert_same(one, wanted)
    assert {c.mode for c in found} == {Mode.CLINICAL, Mode.QA}
    sources = {t.source for c in found for told in c.context.parts.values() for t in told}
    assert {Source.HOST, Source.WORKLIST, Source.LOCALIZER} <= sources
    assert any(c.role_of("CTDIvol") is Role.FORECAST for c in found)


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and "\0" not in text
)
NUMBER = st.floats(0, 150, allow_nan=False).map(lambda x: x + 0.0)


@given(
    kvp=st.floats(40, 160), dose=NUMBER, site=NUMBER, kernel=TEXT, name=TEXT, remark=TEXT,
    age=st.one_of(st.none(), st.floats(0.5, 120)), when=st.integers(0, 4 * 10**15),
)  # fmt: skip
def test_any_command_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    kvp: float, dose: float, site: float, kernel: str, name: str, remark: str, age: float | None, when: int,
) -> None:  # fmt: skip
    parts = {"ProtocolName": (Told(name, Source.WORKLIST), Told(remark, Source.HOST))}
    if age is not None:
        parts["PatientAge"] = (Told(age, Source.OPERATOR),)
    command = Command(
        {"KVP": kvp, "CTDIvol": dose, "OwnNumber": site, "ConvolutionKernel": kernel, "OwnWord": kernel},
        Context(parts),
        role=Role.COMMANDED,
        roles={"CTDIvol": Role.FORECAST},
        acquired_at=when / 10**6,
        order=3.0,
        mode=Mode.SERVICE,
    )
    plain = Command({"KVP": kvp}, role=Role.COMMANDED)
    found = there_and_back([command, plain], tmp_path_factory.mktemp("table"))
    assert found[0].acquired_at == pytest.approx(command.acquired_at, abs=1e-6)
    assert_same(replace(found[0], acquired_at=command.acquired_at), command)
    assert_same(found[1], plain)


@pytest.mark.parametrize(
    ("commands", "what"),
    [
        ([], "no commands"),
        ([Command({"KVP": 1.0}), Command({"KVP": 1.0}, role=Role.COMMANDED)], "different roles"),
        ([Command({"KVP": float("nan")})], "KVP is nan"),
        ([Command({"FilterType": " A"})], "no cell can hold"),
        ([Command({"FilterType": ""})], "no cell can hold"),
        ([Command({"StudyInstanceUID": "1"})], "cannot name such a column"),
        ([Command({"PatientAge": 1.0})], "cannot name such a column"),
        (
            [Command({"KVP": 1.0}), Command({"KVP": 1.0}, roles={"KVP": Role.FORECAST})],
            "KVP has more than one role",
        ),
        ([Command({"KVP": 1.0}, acquired_at=1e300)], "no time of a calendar"),
        (
            [Command({"KVP": 1.0}, Context({"PatientSex": (Told("M"), Told("F"))}))],
            "host said two things of PatientSex",
        ),
    ],
)
def test_what_no_table_can_hold_is_refused(commands: list[Command], what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what):
        write_table(commands, tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()

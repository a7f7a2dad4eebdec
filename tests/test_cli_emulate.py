"""``scanward emulate``: gantry, host and attacks as processes and commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scanward.cli.main import cli
from scanward.emulator.attacks import ATTACKS


@dataclass
class Gantry:
    """One running ``scanward emulate gantry``."""

    process: subprocess.Popen[str]
    where: dict[str, Any]

    @property
    def ends(self) -> list[str]:
        return ["--connect", self.where["link"], "--room", self.where["room"]]


@pytest.fixture(scope="module")
def gantry() -> Iterator[Gantry]:
    process = subprocess.Popen(
        [
            sys.executable, "-c", "from scanward.cli import main; main()", "emulate", "gantry", "--model", "T-80",
            "--seed", "3", "--factor", "400", "--listen", "127.0.0.1:0", "--room", "127.0.0.1:0", "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Gantry(process, json.loads(process.stdout.readline()))
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "malformed" in json.loads(out)
        assert "not a medical device" in err


def run(*arguments: str, status: int = 0) -> Any:
    result = CliRunner().invoke(cli, ["emulate", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_the_gantry_says_where_it_is_and_that_it_is_simulated(gantry: Gantry) -> None:
    assert gantry.where["simulated"] is True
    assert gantry.where["device"] == "Simulated Tau T-80"
    assert gantry.where["tls"] is False


def test_a_host_plays_clean_examinations(gantry: Gantry) -> None:
    told = json.loads(
        run("host", *gantry.ends, "--model", "T-80", "--seed", "3", "--examinations", "3", "--json").stdout
    )
    assert told["simulated"] is True
    assert len(told["examinations"]) == 3
    for row in told["examinations"]:
        assert row["carried_out"] == row["commands"] > 0
        assert row["refused"] == row["held"] == 0


def test_the_host_s_table_says_what_it_is(gantry: Gantry) -> None:
    out = run("host", *gantry.ends, "--model", "T-80", "--seed", "3", "--examinations", "1").stdout
    assert "Emulated host (simulated)" in out
    assert "not a medical device" in out.replace("\n", " ")


def test_an_attack_is_carried_out_and_told(gantry: Gantry) -> None:
    told = json.loads(
        run("attack", "perfusion_x8", *gantry.ends, "--model", "T-80", "--seed", "3", "--json").stdout
    )
    (row,) = told["attacks"]
    assert row["effect"] is True
    assert row["dose_mGy"] > 4 * row["ordered_mGy"]
    assert row["stopped_by"] == ""


def test_attacks_refuse_a_gantry_of_another_model(gantry: Gantry) -> None:
    result = run("attack", "underdose", *gantry.ends, "--model", "G-64", "--seed", "3", status=2)
    assert "emulated gantries alone" in result.stderr


def test_attacks_refuse_another_machine(gantry: Gantry) -> None:
    result = run(
        "attack", "underdose", "--connect", "192.0.2.1:4711", "--room", gantry.where["room"], "--model", "T-80",
        "--seed", "3", status=2,
    )  # fmt: skip
    assert "this machine alone" in result.stderr


def test_every_attack_is_listed_with_its_source() -> None:
    rows = json.loads(run("attack", "--list", "--json").stdout)
    assert [row["name"] for row in rows] == list(ATTACKS)
    assert sum("1801.05583" in row["source"] for row in rows) == 5
    assert "brain perfusion at eight times the dose" in run("attack", "--list").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gantry", "--model", "X-1"], "no simulated model 'X-1'"),
        (["gantry", "--listen", "nowhere"], "no address"),
        (["gantry", "--listen", "0.0.0.0:0"], "without TLS"),
        (["host", "--connect", "127.0.0.1:1", "--room", "127.0.0.1:1"], "no connection"),
        (["host", "--connect", "127.0.0.1:1", "--room", "192.0.2.1:1"], "another machine"),
        (["attack", "no_such"], "no attack 'no_such'"),
        (["attack", "underdose"], "needs a scanner"),
        (["attack", "underdose", "--connect", "127.0.0.1:1", "--room", "127.0.0.1:1"], "no connection"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments: list[str], says: str) -> None:
    result = run(*arguments, status=2)
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_tls_needs_three_files(tmp_path: Any) -> None:
    file = tmp_path / "one.pem"
    file.write_text("-")
    result = run("gantry", "--tls-certificate", str(file), status=2)
    assert "TLS needs three files" in result.stderr
    result = run(
        "gantry", "--listen", "127.0.0.1:0", "--room", "127.0.0.1:0", "--tls-certificate", str(file), "--tls-key",
        str(file), "--tls-authority", str(file), status=2,
    )  # fmt: skip
    assert "that can be used" in result.stderr


_STARTER = """
import asyncio
from scanward.emulator.rig import Running

async def main():
    running = await Running.start(["emulate", "gantry", "--listen", "127.0.0.1:0", "--room", "127.0.0.1:0", "--json"])
    await running.first_line()
    print(running.process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_what_a_rig_started_ends_with_it_even_when_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        starter.kill()
    end = time.monotonic() + 60
    while _runs(child):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie that whoever adopted it has not looked at yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"

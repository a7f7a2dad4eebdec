"""``scanward demo --open``: the page stands, the emulated scanner is worked at, and everything ends with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from _console import PATIENCE_S, Browser, until
from _trained import LATER, SEED, TRAINED, Trained
from scanward.cli import demo_open
from scanward.cli.main import cli
from scanward.emulator import rig, standing
from scanward.errors import KeyFileError
from scanward.guard.operators import ActKind
from scanward.keys import SigningKey

# The command itself, with a small site and a gantry in a hurry; whoever opens a browser is told on.
_COMMAND = f"""
import sys, webbrowser
from scanward.cli import demo_open, main
from scanward.emulator import standing
demo_open.LATER, demo_open.SEEN = {LATER}, 20
standing.PAUSE_S, standing.FACTOR, standing.EVERY = 0.0, 300.0, 2
webbrowser.open = lambda address: print("BROWSER", file=sys.stderr)
main()
"""


@dataclass
class Demo:
    """The demonstration in a process of its own, and what it has said."""

    process: subprocess.Popen[str]
    said: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        """All of its standard output: a JSON object on each line."""
        assert self.process.stdout is not None
        self.said.extend(json.loads(line) for line in self.process.stdout)

    def happened(self) -> list[str]:
        """What it said of examinations."""
        return [one["happened"] for one in self.said if "happened" in one]


@contextmanager
def demo(out: Path, temporary: str) -> Iterator[Demo]:
    """``scanward demo --open --no-browser`` on the bundle in ``out``."""
    arguments = ["demo", "--open", "--no-browser", "--json", "--out", str(out)]
    arguments += ["--seed", str(SEED), "--examinations", str(TRAINED)]
    with (
        (out / "err").open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TMPDIR": temporary, "DISPLAY": ":7"},
            process_group=0,  # as a shell starts a command: Ctrl-C goes to all of this group
        ) as process,
    ):
        found = Demo(process)
        thread = threading.Thread(target=found.read, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            process.kill()
            thread.join(PATIENCE_S)


def running() -> dict[int, tuple[int, str]]:
    """Every process that runs: its parent, and when it was started (numbers are used again)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if words[0] not in "ZX":
            found[int(path.parent.name)] = (int(words[1]), words[19])
    return found


def family(process: int) -> set[tuple[int, str]]:
    """A process' descendants: number and start of each."""
    every, found, new = running(), set[int](), {process}
    while new:
        new = {one for one, (parent, _) in every.items() if parent in new}
        found |= new
    return {(one, every[one][1]) for one in found}


@pytest.fixture
def out(small_bundle: Trained, tmp_path: Path) -> Path:
    """A folder in which an earlier demonstration left its bundle."""
    shutil.copytree(small_bundle.model, tmp_path / "bundle")
    shutil.copyfile(small_bundle.trust, tmp_path / "demo.pub")
    return tmp_path


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_hold_is_refused_with_the_printed_key_and_nothing_is_left(out: Path) -> None:
    temporary = tempfile.mkdtemp(prefix="sw", dir="/tmp")  # short, for a socket's path
    try:
        with demo(out, temporary) as shown:
            told = until(lambda: shown.said[:1], "no address was told")[0]
            assert told["simulated"] is True
            people = {one["name"]: one for one in told["people"]}
            assert {name: one["roles"] for name, one in people.items()} == {
                "anna": ["operator"],
                "bert": ["operator"],
                "petra": ["physicist", "administrator"],
            }
            assert people["petra"]["key"] is None
            key_file, passphrase = Path(people["anna"]["key"]), people["anna"]["passphrase"]
            with pytest.raises(KeyFileError):
                SigningKey.load(key_file, b"another one")
            key = SigningKey.load(key_file, passphrase.encode())
            with httpx.Client(base_url=told["address"], timeout=60.0) as client:
                petra = Browser(client, "petra", people["petra"]["passphrase"])
                for page in ("/now", "/history", "/device", "/audit", "/accounts", "/configuration"):
                    assert petra.get(page).status_code == 200, page
            with httpx.Client(base_url=told["address"], timeout=60.0) as client:
                anna = Browser(client, "anna", passphrase)
                state = until(lambda: found if (found := anna.state("ct1"))["link"] == "up" else None)
                assert state["policy"]["name"] == "Emulated scanner (simulated)"
                assert anna.held("ct1")["shown_ok"] is True
                answer = anna.act("ct1", ActKind.REFUSE, key, "not ordered")
                assert answer.json() == {"done": True, "reason": ""}
            happened = until(lambda: len(shown.happened()) > 1 and shown.happened())
            assert "as ordered" in happened[0]
            assert "attacked" in happened[1]
            assert "stopped by" in happened[1]
            left = family(shown.process.pid)
            assert len(left) >= 5  # gantry, guard, its judge and audit writer, console
            os.killpg(shown.process.pid, signal.SIGINT)
            os.killpg(shown.process.pid, signal.SIGINT)  # an impatient one
            assert shown.process.wait(PATIENCE_S) == 0
        assert not {(one, start) for one, (_, start) in running().items()} & left
        said = (out / "err").read_text()
        assert "Traceback" not in said
        assert "BROWSER" not in said
        # ONNX Runtime leaves a file of its own, .ses
        assert [one.name for one in Path(temporary).iterdir() if one.name != ".ses"] == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(told["address"])
    finally:
        shutil.rmtree(temporary)


@pytest.mark.parametrize(
    ("asked", "display", "opened"),
    [(True, ":0", ["http://127.0.0.1:9/"]), (True, "", []), (False, ":0", [])],
)
def test_a_browser_is_opened_where_there_is_a_screen(
    asked: bool,
    display: str,
    opened: list[str],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @asynccontextmanager
    async def nothing(*_: object, **__: object) -> AsyncIterator[None]:
        yield

    class Said:
        async def first_line(self) -> str:
            return '{"address": "http://127.0.0.1:9"}'

        async def end(self) -> None:
            pass

    async def start(_: object) -> Said:
        return Said()

    async def work_on(_: object, __: object, say: Any, **___: object) -> None:
        say("examination 1")

    seen: list[str] = []
    person = demo_open.Person("anna", ("operator",), "four words of one", out / "anna.key")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(webbrowser, "open", seen.append)
    monkeypatch.setattr(rig, "Running", SimpleNamespace(start=start))
    monkeypatch.setattr(standing, "standing", nothing)
    monkeypatch.setattr(standing, "work_on", work_on)
    monkeypatch.setattr(demo_open, "_console", lambda *_: (out / "console.toml", [person]))
    monkeypatch.setattr(demo_open, "LATER", 12)
    monkeypatch.setattr(demo_open, "SEEN", 4)
    demo_open.open_demo(out, SEED, TRAINED, browser=asked)
    assert seen == opened
    said = capsys.readouterr().out
    assert "SIMULATED. The console: http://127.0.0.1:9/" in said
    assert f"anna (operator): passphrase four words of one; key for acts: {out / 'anna.key'}" in said
    assert "SIMULATED examination 1" in said


def test_without_a_bundle_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no bundle of a demonstration"):
        demo_open.open_demo(tmp_path, 0, 40)


def test_the_command_takes_a_bundle_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "demo.pub").touch()
    called: list[tuple[Path, int, int, bool]] = []
    monkeypatch.setattr(
        demo_open,
        "open_demo",
        lambda out, seed, learned, **more: called.append((out, seed, learned, more["browser"])),
    )
    arguments = ["demo", "--open", "--out", str(tmp_path), "--seed", "3"]
    for more in ([], ["--no-browser"]):
        result = CliRunner().invoke(cli, [*arguments, *more])
        assert result.exit_code == 0, result.output
    assert called == [(tmp_path, 3, 1200, True), (tmp_path, 3, 1200, False)]


def test_no_browser_belongs_to_open(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["demo", "--no-browser", "--out", str(tmp_path)])
    assert result.exit_code != 0
    assert "--no-browser belongs to --open" in result.output

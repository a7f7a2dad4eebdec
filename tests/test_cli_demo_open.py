"""``scanward demo --open``: the page stands, the emulated scanner is worked at, and everything ends with it."""

from __future__ import annotations

import json
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from _console import until
from _trained import LATER, SEED, TRAINED, Trained
from _web import sign_in
from scanward.cli import demo_open
from scanward.cli.main import cli
from scanward.emulator import standing
from scanward.keys import SigningKey


def test_the_page_shows_an_emulated_scanner_at_work(
    small_bundle: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_bundle.model, tmp_path / "bundle")
    shutil.copyfile(small_bundle.trust, tmp_path / "demo.pub")
    monkeypatch.setattr(demo_open, "LATER", LATER)
    monkeypatch.setattr(demo_open, "SEEN", 20)
    monkeypatch.setattr(standing, "PAUSE_S", 0.0)
    monkeypatch.setattr(standing, "FACTOR", 300.0)
    seen: list[dict[str, Any]] = []
    addresses: list[str] = []

    def look(address: str) -> None:
        """A browser, as the command opens it."""
        told = json.loads(capsys.readouterr().out)
        assert told["address"] == address
        addresses.append(address)
        with httpx.Client(base_url=address, timeout=60.0) as client:
            sign_in(client, told["account"], told["passphrase"])  # type: ignore[arg-type]

            def state() -> dict[str, Any] | None:
                (found,) = client.get("/api/state").json()["scanners"]
                return found if found["link"] == "up" else None

            seen.append(until(state))
            for page in ("/now", "/history", "/device", "/audit", "/accounts", "/configuration"):
                assert client.get(page).status_code == 200, page
        assert SigningKey.load(Path(told["key"])).verify_key.raw

    monkeypatch.setattr(webbrowser, "open", look)
    demo_open.open_demo(tmp_path, SEED, TRAINED, as_json=True, examinations=1)
    assert seen[0]["policy"]["name"] == "Emulated scanner (simulated)"
    (happened,) = capsys.readouterr().out.splitlines()
    assert "as ordered" in json.loads(happened)["happened"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(addresses[0])  # it ended with the command


def test_without_a_bundle_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no bundle of a demonstration"):
        demo_open.open_demo(tmp_path, 0, 40, as_json=False)


def test_the_command_takes_a_bundle_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "demo.pub").touch()
    called: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(
        demo_open, "open_demo", lambda out, seed, learned, **more: called.append((out, seed, learned))
    )
    result = CliRunner().invoke(cli, ["demo", "--open", "--out", str(tmp_path), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert called == [(tmp_path, 3, 1200)]

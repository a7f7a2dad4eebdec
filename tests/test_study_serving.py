"""The commands `scanward study accounts` and `serve`, and the server as a real process."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from _study import small_study
from _study_pages import PASSWORD, ServerProcess, add_accounts
from scanward.cli.main import cli
from scanward.cli.study_serve import _seen
from scanward.web.accounts import Accounts
from scanward.web.serving import _listen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_study(tmp_path, readers=2, cases=4)


def accounts(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(cli, ["study", "accounts", str(folder), *arguments])


def names(folder: Path) -> dict[str, set[str]]:
    with Accounts(folder / "accounts.sqlite") as there:
        return {one.name: set(one.roles) for one in there.all()}


def test_every_reader_gets_an_account_whose_passphrase_works(folder: Path) -> None:
    result = accounts(folder, "add", "--all", "--json")
    made = json.loads(result.stdout)
    assert [one["name"] for one in made] == ["R01", "R02"]
    assert names(folder) == {"R01": {"reader"}, "R02": {"reader"}}
    with Accounts(folder / "accounts.sqlite") as there:
        for one in made:
            assert there.verify(one["name"], one["passphrase"], "192.0.2.1", 0.0).account is not None
    assert json.loads(accounts(folder, "add", "--all", "--json").stdout) == []
    assert made[0]["passphrase"] not in (folder / "accounts.sqlite").read_bytes().decode("latin-1")


def test_the_passphrase_is_printed_once(folder: Path) -> None:
    result = accounts(folder, "add", "R01")
    assert re.search(r"R01\s.*\w{5}(-\w{5}){4}", result.stdout)
    assert "shown once" in result.stderr
    assert re.search(r"\w{5}(-\w{5}){4}", accounts(folder, "list").stdout) is None
    assert json.loads(accounts(folder, "list", "--json").stdout)["without_account"] == ["R02"]


def test_reset_gives_another_passphrase_and_remove_takes_the_account(folder: Path) -> None:
    first = json.loads(accounts(folder, "add", "R01", "--json").stdout)[0]["passphrase"]
    second = json.loads(accounts(folder, "reset", "R01", "--json").stdout)[0]["passphrase"]
    with Accounts(folder / "accounts.sqlite") as there:
        assert there.verify("R01", first, "192.0.2.1", 0.0).account is None
        assert there.verify("R01", second, "192.0.2.1", 0.0).account is not None
    assert accounts(folder, "remove", "R01").exit_code == 0
    assert names(folder) == {}


def test_a_lead_is_no_reader(folder: Path) -> None:
    assert accounts(folder, "add", "--lead", "miriam").exit_code == 0
    assert names(folder) == {"miriam": {"lead"}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "R03"], "no reader of the protocol"),
        (["add", "r01"], "no reader of the protocol"),
        (["add", "--lead", "r01"], "a reader cannot be the lead"),
        (["add"], "whose account"),
        (["add", "R01", "--all"], "--all"),
        (["list", "R01"], "list takes no name"),
        (["reset", "R01"], "no such account"),
        (["remove", "R01"], "no such account"),
        (["remove", "R01", "--lead"], "belong to add"),
        (["bake", "R01"], "bake"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, arguments: list[str], words: str) -> None:
    result = accounts(folder, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert not (folder / "accounts.sqlite").exists() or names(folder) == {}


def serve(folder: Path, *options: str) -> Any:
    """The command where it is expected to refuse."""
    return CliRunner().invoke(cli, ["study", "serve", str(folder), "--port", "0", *options])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "plain HTTP where others can reach it"),
        (["--certificate", "nowhere.pem"], "nowhere.pem"),
        (["--no-washout"], "washout belongs to the frozen protocol"),
    ],
)
def test_what_would_be_unsafe_is_not_served(folder: Path, options: list[str], words: str) -> None:
    result = serve(folder, *options)
    assert result.exit_code != 0
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_a_changed_protocol_is_not_served(folder: Path) -> None:
    path = folder / "protocol.json"
    path.write_text(path.read_text().replace("A small study", "A smaller study"))
    result = serve(folder, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["what"] == "the protocol is not the one that was frozen"


def signed_in(client: httpx.Client, name: str) -> str:
    """Sign in as a browser does; the CSRF token."""
    page = client.get("/sign-in")
    found = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
    assert found
    sent = {"csrf_token": found[1], "name": name, "password": PASSWORD, "next": "/study/"}
    assert client.post("/sign-in", data=sent).status_code == 303
    return str(client.get("/api/session").json()["csrf_token"])


def test_a_killed_server_comes_back_with_everything_and_needs_no_key(folder: Path) -> None:
    (folder / "key.json").unlink()
    (folder / "key.json").mkdir()  # whoever opens it fails
    add_accounts(folder, {"R01": "reader", "boss": "lead"})
    with ServerProcess(folder) as server, httpx.Client(base_url=server.address) as client:
        assert server.told["readers"] == ["R01", "R02"]
        assert server.told["without_account"] == ["R02"]
        headers = {"x-csrf-token": signed_in(client, "R01")}
        state = client.get("/study/api/state").json()
        token = state["case"]["token"]
        draft = {"ratings": {"lesion": 4}, "sequence": 1}
        assert client.put(f"/study/api/drafts/{token}", json=draft, headers=headers).status_code == 200
        server.kill()
        with pytest.raises(httpx.TransportError):
            client.get("/study/api/state")
        server.start()
        again = client.get(
            "/study/api/state"
        ).json()  # still signed in, at the same case, with the same draft
        assert again["case"] == state["case"]
        assert again["draft"]["ratings"] == {"lesion": 4}
        page = client.get("/study/read")
        assert page.status_code == 200
        scripts = re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css))"', page.text)
        assert len(scripts) > 2
        assert [path for path in scripts if client.get(path).status_code != 200] == []
    assert server.log() == ""


def test_it_answers_to_its_names_and_stopping_it_is_no_failure(folder: Path) -> None:
    with ServerProcess(folder, "--name", "study.example.org") as server:
        process = server.process
        for host, status in (("study.example.org", 200), ("localhost", 200), ("evil.example.org", 400)):
            assert httpx.get(f"{server.address}/sign-in", headers={"host": host}).status_code == status
    assert process is not None
    assert process.returncode == 0


def test_the_printed_address_is_one_that_browsers_accept() -> None:
    assert _seen("https://0.0.0.0:8443", ["study.example.org"]) == "https://study.example.org:8443"
    assert _seen("http://127.0.0.1:8000", ["study.example.org"]) == "http://127.0.0.1:8000"
    assert _seen("https://[::1]:8443", []) == "https://[::1]:8443"


def test_an_answer_is_not_held_back_by_the_network() -> None:
    """asyncio sets TCP_NODELAY on sockets that name their protocol; without it every answer takes 40 ms more."""
    with _listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP

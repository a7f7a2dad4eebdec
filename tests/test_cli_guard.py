"""`scanward guard --check`, its configuration's errors, and `scanward record`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from _guard import SITE_KEY, policy_text
from _guard_site import SIGMA, GuardSite, hello, load_line, trigger_line
from _stream import Authority, Gantry, host, plain_gantry
from _trained import Trained
from scanward.cli.main import cli
from scanward.codecs.canopen_profile_toml import KIND
from scanward.commands import Command, Examination, Role
from scanward.errors import ScanwardError, SettingsError
from scanward.guard.config import LinkType, load_config, parse_config
from scanward.guard.events import Record
from scanward.guard.policy_signing import POLICY, sign
from scanward.guard.recorder import Recorder
from scanward.guard.relay_run import link_of, verified
from scanward.learning.device_profile import learn_form
from scanward.links.base import Link
from scanward.links.identifiers import Identifiers
from scanward.recordings import load_dialect, read

# --- the configuration


@pytest.fixture
def site(tmp_path: Path) -> GuardSite:
    """Everything but a bundle."""
    return GuardSite.make(tmp_path, 4712, None)


def test_the_page_s_own_example_is_read(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs/guard.md").read_text("utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    config = parse_config(text.encode(), tmp_path / "guard.toml")
    assert config.stream is not None
    assert (config.link, config.stream.listen) == (LinkType.STREAM, ("192.0.2.1", 4711))
    assert config.judge is not None
    assert config.judge.bundle == tmp_path / "scanner-1"
    assert config.weakenings == ()
    assert config.worklist is not None
    assert (config.worklist.address, config.worklist.tls) == (("192.0.2.9", 104), config.stream.tls)


def test_a_configuration_is_read(site: GuardSite) -> None:
    config = load_config(site.config)
    assert (config.device, config.judge) == (SIGMA, None)
    assert config.policy.path == site.folder / "policy.toml"
    assert config.weakenings == ("tls.unsafe_plaintext",)


@pytest.mark.parametrize(
    ("old", "new", "what", "line"),
    [
        ("[device]", "[devise]", "'device' is missing", 0),
        ('Manufacturer = "Simulated Sigma"', "Manufacturer = 3", "device.Manufacturer: needs text", 3),
        ('type = "stream"', 'type = "smoke"', "link.type: 'smoke' is not known", 8),
        ('type = "stream"', 'type = "stream"\nheartbeat = 0', "link.heartbeat", 9),
        ('type = "stream"', 'type = "stream"\nsilence = 1.5', "link.silence: shorter than two heartbeats", 9),
        ('type = "stream"', 'type = "stream"\nsilense = 9', "link.silense: unknown key", 9),
        ('listen = "127.0.0.1:0"', 'listen = "127.0.0.1"', "host.listen: '127.0.0.1' is no address", 10),
        ('listen = "127.0.0.1:0"', 'listen = "a:70000"', "host.listen", 10),
        ("connect =", "conect =", "'connect' is missing", 12),
        ('type = "stream"', 'type = "dicom"', "'dicom' is missing", 0),
        ('type = "stream"', 'type = "can"', "'can' is missing", 0),
        ('type = "stream"', 'type = "can"\n[can]\nprofile="p"\nhost="a"\ngantry="a"', "both sides", 12),
        ("unsafe_plaintext = true", 'key = "a"', "'certificate' is missing", 15),
        ("unsafe_plaintext = true", 'unsafe_plaintext = true\nkey = "a"', "tls.key: unsafe_plaintext", 17),
        ("unsafe_plaintext = true", 'certificate="a"\nkey="b"\nauthority="c"', "nobody may connect", 9),
        ('listen = "127.0.0.1:0"', 'listen = "127.0.0.1:0"\nnames = ["h"]', "asked of nobody", 11),
        ('keys = ["site.pub"]', "keys = []", "policy.keys: needs at least one path", 20),
        ('dir = "audit"', 'dir = ""', "audit.dir: is empty", 23),
        ('dir = "audit"', "dir = audit", "not TOML", 23),
        ('socket = "c.sock"', "socket = 7", "control.socket: needs text", 26),
        ("[control]", "[[control]]", "control: needs a table", 25),
        ("[control]", '[worklist]\nserver = "RIS"\n[control]', "worklist.server: is no application", 26),
        ("[control]", '[worklist]\nserver = "R@h:104"\n[control]', "worklist: anybody on the network", 25),
    ],
)
def test_every_error_names_the_line_and_the_cure(
    site: GuardSite, old: str, new: str, what: str, line: int
) -> None:
    text = site.config.read_text()
    assert old in text
    site.config.write_text(text.replace(old, new, 1))
    with pytest.raises(SettingsError) as caught:
        load_config(site.config)
    assert what in caught.value.what
    assert caught.value.todo
    if line:
        assert caught.value.where == f"{site.config}, line {line}"
    done = CliRunner().invoke(cli, ["guard", "--config", str(site.config), "--check", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (2, "SettingsError")


def test_a_guard_may_stand_between_two_can_buses(repository: Path, site: GuardSite) -> None:
    pytest.importorskip("can")
    pytest.importorskip("canopen")
    profile = site.config.parent / "gantry.toml"
    for file in (repository / "examples/can").iterdir():
        (profile.parent / file.name).write_bytes(file.read_bytes())
    profile.write_bytes((repository / "examples/can/emulated-ct.toml").read_bytes())
    sign(profile, KIND, profile.read_bytes(), SITE_KEY)
    lines = site.config.read_text().splitlines()
    cut = [
        line
        for line in lines
        if not line.startswith(("listen", "connect", "unsafe_pl", "[host", "[gantry", "[tls"))
    ]
    text = "\n".join(cut).replace('type = "stream"', 'type = "can"')
    table = f'[can]\nprofile = "{profile}"\ninterface = "virtual"\nhost = "h"\ngantry = "g"\n'
    site.config.write_text(f"{text}\n{table}")
    config = load_config(site.config)
    assert (config.stream, config.weakenings) == (None, ())

    async def scene() -> None:
        link = link_of(verified(config))
        assert isinstance(link, Link)
        await link.close()

    asyncio.run(scene())
    assert looks(site)[1]["link"]["facts"]["gantry"] == "g"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_our_error(data: bytes) -> None:
    for text in (data, b"[device]\n" + data, b'[link]\ntype = "stream"\n[tls]\n' + data):
        try:
            parse_config(text, Path("guard.toml"))
        except ScanwardError as error:
            assert isinstance(error, SettingsError)  # noqa: PT017 - any bytes, so nothing to raise for certain


def test_a_configuration_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["guard", "--config", str(tmp_path / "absent.toml"), "--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout)["todo"]


# --- --check


def looks(site: GuardSite) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and what was found, by name."""
    done = CliRunner().invoke(cli, ["guard", "--config", str(site.config), "--check", "--json"])
    return done.exit_code, {look["name"]: look for look in json.loads(done.stdout)["looks"]}


def test_check_says_what_would_be_protected_and_opens_nothing(small_bundle: Trained, tmp_path: Path) -> None:
    site = GuardSite.make(tmp_path, 4712, small_bundle)
    status, found = looks(site)
    assert status == 0, found
    assert found["link"]["warning"].startswith("unsafe_plaintext")
    assert found["policy"]["facts"]["device"] == "Simulated Sigma S-128 50f51b90a2b817b60041"
    assert found["judge"]["facts"]["budget"] == 0.01
    assert len(found["judge"]["facts"]["layers"]) == 7
    assert found["audit log"]["facts"]["running examinations"] == 0
    assert not (tmp_path / "audit").exists()
    assert not (tmp_path / "state").exists() or not any((tmp_path / "state").iterdir())
    shown = CliRunner().invoke(cli, ["guard", "--config", str(site.config), "--check"]).stdout
    assert "not a medical device" in shown
    assert "judge: ok" in shown


def test_check_tells_everything_that_would_be_refused_at_once(small_bundle: Trained, tmp_path: Path) -> None:
    site = GuardSite.make(tmp_path, 4712, small_bundle)
    with (tmp_path / "policy.toml").open("a") as file:
        file.write("# changed after it was signed\n")
    site.config.write_text(site.config.read_text().replace(SIGMA.serial, "another"))
    (tmp_path / "log.key").chmod(0o644)
    status, found = looks(site)
    assert status == 2
    assert "changed after it was signed" in found["policy"]["error"]["what"]
    assert "another device" in found["judge"]["error"]["what"]
    assert "others can read" in found["audit log"]["error"]["what"]
    assert all(look["error"]["todo"] for look in found.values() if look["error"])
    shown = CliRunner().invoke(cli, ["guard", "--config", str(site.config), "--check"])
    assert shown.exit_code == 2
    assert "policy: REFUSED" in shown.stdout


@pytest.mark.parametrize(("days", "error"), [(-1, "valid from"), (5, ""), (300, "")])
def test_check_looks_at_certificates(tmp_path: Path, days: float, error: str) -> None:
    own = Authority(tmp_path / "ca").files("guard", days)
    tls = f'certificate = "{own.certificate}"\nkey = "{own.key}"\nauthority = "{own.authority}"'
    names = {"host": 'names = ["host"]', "gantry": 'names = ["gantry"]'}
    _, found = looks(GuardSite.make(tmp_path, 4712, None, tls=tls, **names))
    link = found["link"]
    if error:
        assert error in link["error"]["what"]
    else:
        assert (link["facts"]["hosts"], link["facts"]["gantries"]) == (["host"], ["gantry"])
        assert ("ends in" in link["warning"]) is (days < 30)


def test_check_finds_an_older_policy(tmp_path: Path) -> None:
    site = GuardSite.make(tmp_path, 4712, None)
    newer = policy_text().replace("version = 1 ", "version = 2 ", 1)
    assert newer != policy_text()
    (tmp_path / "policy.toml").write_text(newer)
    sign(tmp_path / "policy.toml", POLICY, newer.encode(), SITE_KEY)
    verified(load_config(site.config))
    (tmp_path / "policy.toml").write_text(policy_text())
    sign(tmp_path / "policy.toml", POLICY, policy_text().encode(), SITE_KEY)
    status, found = looks(site)
    assert status == 2
    assert "older" in found["policy"]["error"]["what"]


def test_a_guard_without_a_judge_does_not_start(site: GuardSite) -> None:
    done = CliRunner().invoke(cli, ["guard", "--config", str(site.config), "--json"])
    assert done.exit_code == 2
    assert "no judge" in json.loads(done.stdout)["what"]


# --- recording


def test_recording_needs_a_policy_that_says_so(site: GuardSite) -> None:
    done = subprocess.run(
        site.command("record", "--config", str(site.config), "--out", str(site.folder / "r"), "--json"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "unsafe_shadow" in json.loads(done.stdout)["todo"]


def _examinations(small: Trained) -> list[Examination]:
    return [e for e in small.examinations() if e.commands[0].device.model == SIGMA.model]


def test_what_is_recorded_is_what_was_commanded_and_can_be_learned_from(
    small_bundle: Trained, tmp_path: Path
) -> None:
    examinations = _examinations(small_bundle)[:5]
    out = tmp_path / "recordings"

    async def scene() -> None:
        gantry = Gantry(hello=hello, answer=plain_gantry)
        site = GuardSite.make(tmp_path, await gantry.start(), None, unsafe_shadow="true")
        await asyncio.to_thread(site.start, "record", "--out", str(out))
        try:
            async with host(site.port, hello=hello) as played:
                await site.wait_for("gantry")
                for number, examination in enumerate(examinations):
                    name = f"L{number}"
                    played.say(load_line(name, examination.commands, f"1.2.{number}", "Doe^Jane"))
                    assert b'"loaded"' in await played.hear_until(b'"loaded"')
                    for index in range(len(examination.commands)):
                        played.say(trigger_line(f"{name}.{index}", name, index))
                        assert b'"done"' in await played.hear_until(b'"done"')
        finally:
            await asyncio.to_thread(site.stop, signal.SIGTERM)
            await gantry.close()
        assert site.of("start")[0]["recording"] is True
        assert "unsafe_shadow" in site.of("start")[0]["weakenings"]
        assert site.of("verdict")[0]["shadow"] is True

    asyncio.run(scene())
    for file in out.iterdir():
        assert "Jane" not in file.read_text()
        assert "1.2.0" not in file.read_text()
    found = read([*out.glob("*.jsonl")], dialect=load_dialect(out / "dialect.toml"))
    sent = [c for e in examinations for c in e.commands]
    assert len(found.commands) == len(sent)
    for recorded, command in zip(found.commands, sent, strict=True):
        _same(recorded, command)
    groups = [c.examination for c in found.commands]
    assert len(set(groups)) == len(examinations)
    times = [c.acquired_at for c in found.commands]
    assert times == sorted(times, key=float)  # type: ignore[arg-type]
    # and a bundle learns it: the same device, roles and ranges
    assert SIGMA.key in learn_form(found.commands).devices


def _same(recorded: Command, command: Command) -> None:
    """The same command, save what a wire and a recording make of identifiers and times."""
    assert recorded.parameters == command.parameters
    assert recorded.context.get("PatientAge") == command.context.get("PatientAge")
    told = {n: t[0].value for n, t in recorded.context.parts.items()}
    assert told == {n: t[0].value for n, t in command.context.parts.items()}
    assert recorded.role is Role.COMMANDED
    assert {n: recorded.role_of(n) for n in recorded.parameters} == {
        n: command.role_of(n) for n in command.parameters
    }
    assert recorded.device.key == SIGMA.key
    assert recorded.device.serial == Identifiers().hash(SIGMA.serial)


def test_a_disk_that_takes_no_recording_costs_no_command(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "r"
    recorder = Recorder(folder, SIGMA, lambda: 1e9, said.append)
    (folder / "commands-20010909.jsonl").mkdir()  # cannot be written to
    command = Command({"KVP": 120.0}, device=SIGMA)
    recorder.observe(Record(1, "trigger", {"command": command}))
    recorder.observe(Record(2, "sent", {"token": 1}))
    recorder.observe(Record(3, "sent", {"token": 99}))  # a load: no command of its own
    recorder.close()
    assert (recorder.recorded, recorder.lost) == (1, 1)
    assert said

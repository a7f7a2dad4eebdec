"""`scanward operator` and `scanward policy`, as somebody types them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from _guard import ANNA, BERT, CARL, SITE_KEY, STRANGER, Bench, answer, element, policy, policy_text
from _guard_site import SIGMA, GuardSite, hello, load_line
from _stream import Gantry, host, plain_gantry
from _trained import Trained
from house import SRC
from scanward.cli.main import cli
from scanward.cli.operator_screen import event_line, state_lines
from scanward.commands import Device
from scanward.commands.wire import Load
from scanward.guard import profile_make
from scanward.guard.policy_read import load_policy
from scanward.guard.profile_read import load_profile, parse_profile
from scanward.keys import write_pair
from test_guard_control import Running, running


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder with everybody's keys."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, key in (("anna", ANNA), ("bert", BERT), ("carl", CARL), ("eve", STRANGER), ("site", SITE_KEY)):
        write_pair(folder / name, key)
    return folder


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "control.sock") as made:
        yield made


def typed(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def operator(guard: Running, people: Path, *arguments: object, who: str = "anna") -> Any:
    return typed("operator", "--socket", guard.path, "--key", people / f"{who}.key", "--as", who, *arguments)


def hold(guard: Running, **changes: Any) -> int:
    def load() -> int:
        guard.bench.judge = [answer(within=False)]
        guard.bench.load(element(**changes))
        return int(guard.bench.told("held")[-1]["request"])

    return int(guard.run(load))


def released(guard: Running) -> list[str]:
    return [m.id for m in guard.bench.to_gantry if isinstance(m, Load)]


# --- one act, then gone


def two() -> Bench:
    return Bench(policy(policy_text() + '\n[two_persons]\ndisputes = ["PatientAge"]\n'))


def test_two_persons_release_and_the_first_is_told_so(people: Path, tmp_path: Path) -> None:
    with running(tmp_path / "two.sock", two()) as guard:

        def load() -> int:
            guard.bench.judge = [answer(disputed=True)]
            guard.bench.names.told("e" * 16, {"PatientName": "Doe^Jane", "PatientID": "P1"})
            guard.bench.load(element())
            return int(guard.bench.told("held")[-1]["request"])

        request = int(guard.run(load))
        listed = typed("operator", "--socket", guard.path, "--list")
        assert "TWO OPERATORS have to release it\n" in listed.output
        assert "PatientName Doe^Jane, PatientID P1 [worklist]" in listed.output
        as_json = typed("operator", "--socket", guard.path, "--list", "--json")
        assert json.loads(as_json.output)["examination"]["examination"] == "e" * 16
        assert "Doe" not in as_json.output  # what is printed as JSON is kept somewhere
        called = operator(guard, people, "--call", request, who="carl")
        assert called.output.startswith("done: call")
        first = operator(guard, people, "--release", request, "--reason", "large")
        assert first.exit_code == 0, first.output
        assert "another operator has to release it too" in first.output
        assert released(guard) == []
        listed = typed("operator", "--socket", guard.path, "--list")
        assert "anna did (large)" in listed.output
        assert "called for a second person: carl" in listed.output
        again = operator(guard, people, "--release", request, "--reason", "large")
        assert again.exit_code == 1
        second = operator(guard, people, "--release", request, "--reason", "agreed", who="bert")
        assert second.exit_code == 0, second.output
        assert "another operator" not in second.output
        assert released(guard) == ["L1"]


def test_list_shows_what_is_on_hold_and_why(guard: Running) -> None:
    request = hold(guard)
    done = typed("operator", "--socket", guard.path, "--list")
    assert done.exit_code == 0, done.output
    assert f"ON HOLD  request {request}" in done.stdout
    assert "why: the values together are unusual" in done.stdout
    assert "KVP 120 kV" in done.stdout
    assert "policy CT 1, clinical routine" in done.stdout.replace("'", "")
    state = json.loads(typed("operator", "--socket", guard.path, "--list", "--json").stdout)
    assert state["held"]["request"] == request
    assert state["gate"]["mode"] == "CLINICAL"


def test_release_with_a_reason(guard: Running, people: Path) -> None:
    request = hold(guard)
    done = operator(guard, people, "--release", request, "--reason", "large patient, agreed", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["done"] is True
    assert released(guard) == ["L1"]
    assert guard.bench.recorded("operator")[0]["reason"] == "large patient, agreed"


def test_refuse(guard: Running, people: Path) -> None:
    request = hold(guard)
    done = operator(guard, people, "--refuse", request, who="carl")
    assert (done.exit_code, done.stdout) == (0, "done: refuse\n")
    assert released(guard) == []
    assert guard.bench.view().hold == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--release", "99", "--reason", "x"), "not on hold"),
        (("--end-emergency",), "not on"),
        (("--explain", "3", "--reason", "x"), "waits for no reason"),
        (("--mode", "QA"), "may not mode"),
        (("--emergency", "100"), "at most 30"),
    ],
)
def test_what_is_not_done_is_said_with_status_1(
    guard: Running, people: Path, arguments: tuple[str, ...], says: str
) -> None:
    hold(guard)
    done = operator(guard, people, *arguments)
    assert done.exit_code == 1
    assert says in done.stderr


def test_another_persons_name_with_ones_own_key_is_not_believed(guard: Running, people: Path) -> None:
    request = hold(guard)
    done = typed(
        "operator", "--socket", guard.path, "--key", people / "eve.key", "--as", "anna", "--release", request,
        "--reason", "x",
    )  # fmt: skip
    assert (done.exit_code, released(guard)) == (1, [])
    assert "signature does not hold" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which guard?"),
        (("--config", "a", "--socket", "b"), "which guard?"),
        (("--socket", "S", "--release", "1"), "--reason"),
        (("--socket", "S", "--explain", "1"), "--reason"),
        (("--socket", "S", "--release", "1", "--refuse", "1", "--reason", "x"), "one act at a time"),
        (("--socket", "S", "--list", "--refuse", "1"), "one thing at a time"),
        (("--socket", "S", "--refuse", "-1"), "no such number"),
        (("--socket", "S", "--emergency", "241"), "0<=x<=240"),
        (("--socket", "nowhere", "--list"), "no guard answers"),
        (("--socket", "S", "--refuse", "1"), "no key"),
    ],
)
def test_what_makes_no_sense_is_one_error(
    guard: Running, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.delenv("SCANWARD_OPERATOR_KEY", raising=False)
    hold(guard)
    done = typed("operator", *(str(guard.path) if a == "S" else a for a in arguments))
    assert done.exit_code in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.output


def test_mode_is_set_between_examinations(guard: Running, people: Path) -> None:
    assert operator(guard, people, "--mode", "QA", who="bert").exit_code == 0
    assert guard.bench.view().mode == "QA"


def test_emergency_access_by_one_line_and_the_reason_afterwards(guard: Running, people: Path) -> None:
    done = operator(guard, people, "--emergency", "15")
    assert done.exit_code == 0
    assert "EMERGENCY ACCESS by anna: 15 min left" in done.stdout
    assert "waits for a reason: w 1 REASON" in done.stdout
    assert operator(guard, people, "--end-emergency").exit_code == 0
    assert operator(guard, people, "--explain", "1", "--reason", "polytrauma").exit_code == 0
    assert guard.bench.recorded("emergency_reason")[0]["reason"] == "polytrauma"


# --- the terminal


class Terminal:
    """The command in a process of its own, typed at through a pipe."""

    def __init__(self, guard: Running, key: Path, who: str = "anna") -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from scanward.cli.main import main; main()",
                "operator",
                "--socket",
                guard.path,
                "--key",
                key,
                "--as",
                who,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONUNBUFFERED": "1"},
        )
        self.shown = ""

    def until(self, text: str) -> str:
        """What is shown up to ``text``; fails when it does not come."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + 30.0
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.process.stdout], [], [], 1.0)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, self.shown
                self.shown += data.decode()
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(30)


def test_a_whole_session_at_the_terminal(guard: Running, people: Path) -> None:
    terminal = Terminal(guard, people / "anna.key")
    try:
        terminal.until("nothing is on hold")
        first = hold(guard)
        shown = terminal.until("RELEASE never means safe")
        assert f"ON HOLD  request {first}" in shown
        second = hold(guard, KVP=100.0)  # the host loads again: another request takes its place
        terminal.until(f"ON HOLD  request {second}")
        terminal.type(f"r {first} seen and agreed")  # typed for what was there before
        terminal.until(f"not done: request {first} is not on hold")
        assert released(guard) == []
        terminal.type(f"r {second}")
        terminal.until("a reason is needed")
        terminal.type(f"r {second} seen and agreed")
        terminal.until("done")
        assert released(guard) == ["L2"]
        terminal.type("e 10")
        terminal.until("waits for a reason")
        terminal.type("w 1 aneurysm")
        terminal.until("done")
        terminal.type("open the gate")
        terminal.until("r REQUEST REASON")
        terminal.type("q")
    finally:
        assert terminal.close() == 0
    assert [g["reason"] for g in guard.bench.recorded("emergency_reason")] == ["aneurysm"]


def test_text_from_the_host_cannot_steer_the_terminal(guard: Running) -> None:
    hold(guard, ConvolutionKernel="\x1b[2Jcleared", CTDIwPhantomType="IEC\x1b]0;owned\x07")
    done = typed("operator", "--socket", guard.path, "--list")
    assert "\x1b" not in done.stdout
    assert "\\x1b" in done.stdout
    assert "\x1b" not in event_line({"kind": "\x1b[2J", "data": {"reason": "\x1b]0;x\x07", "\x1b": 1}})


@pytest.mark.parametrize(
    "state", [{}, {"held": 3, "gate": [], "policy": None}, {"held": {}, "emergency": {"on": 1}}]
)
def test_a_state_of_another_shape_is_shown_without_a_traceback(state: dict[str, Any]) -> None:
    assert list(state_lines(state))


def test_weakenings_are_on_every_screen(tmp_path: Path) -> None:
    with running(tmp_path / "c", Bench(policy(unsafe_shadow="true"))) as guard:
        assert "WARNING: unsafe_shadow" in typed("operator", "--socket", guard.path, "--list").stdout


# --- with the guard's own configuration


CONFIG = """
[device]
Manufacturer = "Simulated Sigma"
ManufacturerModelName = "S-128"
[link]
type = "stream"
[host]
listen = "127.0.0.1:0"
[gantry]
connect = "127.0.0.1:4712"
[tls]
unsafe_plaintext = true
[policy]
path = "policy.toml"
profile = "device.toml"
keys = ["keys/site.pub"]
[audit]
dir = "log"
key = "keys/site.key"
[control]
socket = "control.sock"
"""


def test_the_configuration_finds_the_socket_and_the_policy_finds_the_name(
    guard: Running, people: Path, tmp_path: Path
) -> None:
    (tmp_path / "guard.toml").write_text(CONFIG)
    (tmp_path / "policy.toml").write_text(policy_text())
    request = hold(guard)
    common = ("operator", "--config", tmp_path / "guard.toml", "--reason", "agreed", "--release", request)
    lost = typed(*common, "--key", people / "eve.key")
    assert (lost.exit_code, released(guard)) == (2, [])
    assert "knows no operator with this key" in lost.stderr
    done = typed(*common, "--key", people / "anna.key")
    assert done.exit_code == 0, done.output
    assert guard.bench.recorded("operator")[0]["operator"] == "anna"


# --- policy


def test_a_policy_is_written_checked_signed_and_loaded(people: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    made = typed(
        "policy", "new", site, "--manufacturer", 'Acme "X"', "--device-model", "CT\\64",
        "--operator", f"anna={people / 'anna.pub'}", "--operator", f"bert={people / 'bert.pub'}",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert typed("policy", "new", site, "--manufacturer", "A", "--device-model", "B").exit_code == 2
    said = json.loads(typed("policy", "check", site / "policy.toml", "--json").stdout)
    assert any("nobody passes 1000 mGy" in line for line in said["says"])
    for name in ("device", "policy"):
        signed = typed("policy", "sign", site / f"{name}.toml", "--key", people / "site.key")
        assert signed.exit_code == 0, signed.output
    checked = typed("policy", "check", site / "policy.toml", "--trust", people / "site.pub")
    assert f"signed by {SITE_KEY.fingerprint}" in checked.stdout
    device = Device('Acme "X"', "CT\\64")
    keys = [SITE_KEY.verify_key]
    policy_ = load_policy(site / "policy.toml", keys, load_profile(site / "device.toml", keys, device=device))
    assert sorted(policy_.operators) == ["anna", "bert"]
    assert policy_.operators["anna"].key == ANNA.verify_key


def test_a_wrong_policy_is_not_signed(people: Path, tmp_path: Path) -> None:
    made = typed("policy", "new", tmp_path, "--manufacturer", "A", "--device-model", "B")
    assert "nobody could release anything" in made.stderr
    path = tmp_path / "policy.toml"
    path.write_text(path.read_text().replace("hold_seconds = 60", "hold_seconds = sixty"))
    done = typed("policy", "sign", path, "--key", people / "site.key")
    assert done.exit_code == 2
    assert "policy.toml, line" in done.stderr
    assert not (tmp_path / "policy.toml.sig").exists()


def test_a_weakened_policy_says_so_when_it_is_checked_and_signed(people: Path, tmp_path: Path) -> None:
    typed("policy", "new", tmp_path, "--manufacturer", "A", "--device-model", "B")
    path = tmp_path / "policy.toml"
    path.write_text(path.read_text().replace("version = 1 ", "version = 2 \nunsafe_shadow = true #", 1))
    assert "WEAKENED: unsafe_shadow" in typed("policy", "check", path).stdout
    signed = typed("policy", "sign", path, "--key", people / "site.key")
    assert "signed with unsafe_shadow" in signed.stderr
    assert "version 2" in signed.stdout


def test_the_key_is_printed_as_the_policy_wants_it(people: Path) -> None:
    assert typed("policy", "key", people / "anna.pub").stdout.strip() in policy_text()


def test_the_examples_are_what_policy_new_writes() -> None:
    for name in ("policy.toml", "device.toml"):
        example = SRC.parent / "examples" / "policy" / name
        assert profile_make.template(name) == example.read_text("utf-8")


def test_a_profile_is_drafted_from_a_bundle(small_bundle: Trained, tmp_path: Path, own_home: Path) -> None:
    from scanward.bundle import read

    bundle = read(small_bundle.model, trusted=None, unsafe_any_key=True)
    device = next(d for d in bundle.manifest.facts.devices if d.manufacturer)
    text = profile_make.profile_of(bundle.part, Device(device.manufacturer, device.model))
    profile = parse_profile(text.encode(), "device.toml")
    assert profile.device.key == device.key
    assert profile.ranges["KVP"].high <= 150
    assert {rate.phantom for rate in profile.dose} == {16, 32}
    largest = profile_make.largest_dose(bundle.part, device)
    assert largest is not None
    assert largest > 1
    site, named = tmp_path / "site", ("--model", small_bundle.model, "--trust", small_bundle.trust)
    made = typed(
        "policy", "new", site, "--manufacturer", device.manufacturer, "--device-model", device.model, *named
    )
    assert made.exit_code == 0, made.output
    assert (site / "device.toml").read_text("utf-8") == text
    low = (site / "policy.toml").read_text("utf-8").replace("alert_CTDIvol = 200", "alert_CTDIvol = 0.5")
    (site / "policy.toml").write_text(low, "utf-8")
    for name in ("device", "policy"):
        assert typed("policy", "sign", site / f"{name}.toml", "--key", small_bundle.key).exit_code == 0
    said = json.loads(typed("policy", "check", site / "policy.toml", *named, "--json").stdout)
    assert any("alert_CTDIvol 0.5 mGy is below" in remark for remark in said["remarks"])
    unknown = typed("policy", "new", tmp_path / "no", "--manufacturer", "A", "--device-model", "B", *named)
    assert unknown.exit_code == 2
    assert "the bundle knows no A B" in unknown.stderr


# --- the real guard, its operator in processes of their own


def test_with_a_real_guard_a_person_releases_a_hold_and_begins_emergency_access_without_a_judge(
    small_bundle: Trained, tmp_path: Path, people: Path
) -> None:
    examination = next(e for e in small_bundle.examinations() if e.commands[0].device.model == SIGMA.model)
    text = re.sub(r"alert_(CTDIvol|DLP) = \d+", r"alert_\1 = 0.01", policy_text())  # everything is held

    async def typed_at(site: GuardSite, *arguments: str) -> tuple[int | None, str]:
        common = ("operator", "--config", str(site.config), "--key", str(people / "anna.key"))
        process = await asyncio.create_subprocess_exec(
            *site.command(*common, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, said.decode()

    async def scene() -> None:
        gantry = Gantry(hello=hello, answer=plain_gantry)
        site = GuardSite.make(tmp_path / "site", await gantry.start(), small_bundle, policy=text)
        try:
            await asyncio.to_thread(site.start)
            await gantry.wait("hello", 2)
            async with host(site.port, hello=hello) as played:
                await site.wait_for("judge_ready")
                played.say(load_line("L1", examination.commands, "1.1"))
                assert b'"held"' in await played.hear()
                status, said = await typed_at(site, "--list", "--json")
                held = json.loads(said)["held"]
                assert held["id"] == "L1"
                assert "cap" in held["reason"]
                status, said = await typed_at(site, "--release", str(held["request"]), "--reason", "agreed")
                assert (status, said) == (0, "done: release\n")
                assert b'"loaded"' in await played.hear_until(b'"loaded"')
                os.kill(site.children()["judge"], signal.SIGSTOP)
                status, said = await typed_at(site, "--emergency", "15")
                assert (status, said.splitlines()[0]) == (0, "done: emergency")
                played.say(load_line("L2", examination.commands, "1.1"))
                assert b'"L2"' in await played.hear_until(b'"loaded"')
                status, said = await typed_at(site, "--explain", "1", "--reason", "polytrauma")
                assert status == 0, said
        finally:
            await asyncio.to_thread(site.stop)
            await gantry.close()
        (act,) = site.of("operator")
        assert (act["operator"], act["reason"]) == ("anna", "agreed")
        assert site.of("emergency_begin")[0]["operator"] == "anna"
        assert site.of("emergency_reason")[0]["reason"] == "polytrauma"
        assert [r["note"][:9] for r in site.of("release")] == ["released ", "emergency"]

    asyncio.run(scene())

"""The door for consoles elsewhere: pinned certificates, paced handshakes, and nonces that grow old."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _guard import ANNA, BERT, STRANGER
from _guard_site import GuardSite
from _stream import Authority, Gantry, plain_gantry
from scanward.config import CONTROL_BOUNDS
from scanward.errors import LinkError, SettingsError
from scanward.guard.config import load_config
from scanward.guard.config_check import check
from scanward.guard.control_client import ControlClient
from scanward.guard.control_lines import act_line
from scanward.guard.operators import Act, ActKind, signed
from scanward.transport.tls import Pins, TlsFiles, certificate_facts, client_context, server_context
from test_guard_control import QUICK, Running, held, running

PINS = Pins(frozenset({"console-1"}))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def connected(files: TlsFiles, port: int) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), 20) as raw,
        client_context(files).wrap_socket(raw) as sock,
    ):
        yield sock


def first_line(files: TlsFiles, port: int) -> bytes:
    """What a console hears first; b"" when it is cut off."""
    with suppress(OSError), connected(files, port) as sock, sock.makefile("rb") as lines:
        return lines.readline()
    return b""


def open_tls(guard: Running, files: TlsFiles, pins: Pins | None = PINS) -> int:
    listening = guard.server.listen_tls("127.0.0.1", 0, server_context(files), pins)
    return asyncio.run_coroutine_threadsafe(listening, guard.loop).result(20)


# --- who gets in


def test_a_certificate_of_the_authority_alone_is_not_enough(tmp_path: Path, authority: Authority) -> None:
    with running(tmp_path / "c") as guard, ControlClient(guard.path) as terminal:
        port = open_tls(guard, authority.files("guard"))
        ours = authority.files("console-1")
        assert json.loads(first_line(ours, port))["local"] is False
        assert first_line(authority.files("printer-7"), port) == b""
        (turned,) = [d for k, d in guard.audit if k == "control_stranger"]
        assert "printer-7" in turned["reason"]
        assert [e["data"] for e in terminal.events(5.0) if e["kind"] == "control_stranger"] == [turned]
        exact = Pins(frozenset(), frozenset({certificate_facts(ours.certificate).fingerprint}))
        second = open_tls(guard, authority.files("guard"), exact)
        assert first_line(ours, second)
        assert (
            first_line(authority.files("console-1"), second) == b""
        )  # the name alone is not the certificate
        assert first_line(ours, open_tls(guard, authority.files("guard"), Pins())) == b""  # nobody is named


def test_strangers_are_recorded_by_their_number_and_keep_nobody_out(
    tmp_path: Path, authority: Authority
) -> None:
    bounds = replace(QUICK, handshake_seconds=0.5, handshakes=200.0, wrong_records=5)
    with running(tmp_path / "c", bounds=bounds) as guard:
        port = open_tls(guard, authority.files("guard"))
        silent = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(30)]
        for _ in range(12):
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                with suppress(ConnectionError):
                    while sock.recv(4096):
                        pass
        assert first_line(authority.files("console-1"), port)
        with ControlClient(guard.path) as local:
            assert local.refresh()["gate"]["phase"] == "IDLE"
            guard.run(lambda: guard.server.wrong(None, "one more", b""))
            assert local.events(0.1) == []  # there were too many already
        for sock in silent:
            sock.close()
        assert guard.kinds().count("control_stranger") == 5


def test_handshakes_are_paced(tmp_path: Path, authority: Authority) -> None:
    """Fifty at once: the relay's loop begins no more of them in a second than the bound says."""
    bounds = replace(QUICK, handshakes=4.0)
    begun: list[float] = []
    with running(tmp_path / "c", bounds=bounds) as guard:
        original = guard.loop.start_tls

        async def start_tls(*args: Any, **kwargs: Any) -> Any:
            begun.append(guard.loop.time())
            return await original(*args, **kwargs)

        guard.loop.start_tls = start_tls  # type: ignore[method-assign]
        port = open_tls(guard, authority.files("guard"))
        before = guard.loop.time()
        socks = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(6)]
        assert first_line(authority.files("console-1"), port)
        for sock in socks:
            sock.close()
    assert len(begun) >= 2
    assert all(at - before > (number - 0.5) / bounds.handshakes for number, at in enumerate(begun))


def test_network_clients_cannot_crowd_out_the_terminal(tmp_path: Path, authority: Authority) -> None:
    with running(tmp_path / "c", bounds=replace(QUICK, network_clients=2)) as guard:
        port = open_tls(guard, authority.files("guard"))
        ours = authority.files("console-1")
        with connected(ours, port) as one, connected(ours, port) as two:
            assert one.recv(1)
            assert two.recv(1)
            assert first_line(ours, port) == b""
            with ControlClient(guard.path) as local:
                assert local.refresh()["gate"]["phase"] == "IDLE"


# --- in guard.toml


def configured(folder: Path, table: str) -> Path:
    site = GuardSite.make(folder, 1, None)
    site.config.write_text(
        site.config.read_text().replace('socket = "c.sock"', f'socket = "c.sock"\n{table}')
    )
    return site.config


def test_the_configuration_is_read(tmp_path: Path) -> None:
    keys = 'certificate = "c.pem"\nkey = "c.key"\nauthority = "a.pem"\nnames = ["console-1"]'
    found = load_config(configured(tmp_path, f'listen = "192.0.2.1:4712"\n{keys}')).control
    assert found.listen == ("192.0.2.1", 4712)
    assert found.tls == TlsFiles(tmp_path / "c.pem", tmp_path / "c.key", tmp_path / "a.pem")
    assert found.pins == PINS
    assert load_config(GuardSite.make(tmp_path / "plain", 1, None).config).control.listen is None


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('listen = "192.0.2.1:4712"', "certificate"),
        ('listen = "192.0.2.1"\ncertificate = "c"\nkey = "k"\nauthority = "a"\nnames = ["x"]', "no address"),
        ('listen = "192.0.2.1:4712"\ncertificate = "c"\nkey = "k"\nauthority = "a"', "nobody may connect"),
        (
            'certificate = "c.pem"',
            "certificate",
        ),  # without listen: a door that its owner believes to be there
        ('listen = "192.0.2.1:4712"\nunsafe_plaintext = true', "certificate"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_config(configured(tmp_path, table))


def test_the_check_looks_at_the_certificate(tmp_path: Path, authority: Authority) -> None:
    files, old = authority.files("guard"), authority.files("old-guard", days=-1.0)
    for made, fine in ((files, True), (old, False)):
        table = (
            f'listen = "127.0.0.1:0"\ncertificate = "{made.certificate}"\nkey = "{made.key}"\n'
            f'authority = "{made.authority}"\nnames = ["console-1"]'
        )
        looks = {look.name: look for look in check(load_config(configured(tmp_path / str(fine), table)))}
        assert (looks["control"].error is None) is fine
        if fine:
            assert looks["control"].facts["consoles"] == ["console-1"]


def test_the_whole_guard_listens_for_consoles(tmp_path: Path, authority: Authority) -> None:
    """As a site runs it (recording, so that no bundle is needed): a console sees the state, a stranger nothing."""

    async def scene() -> None:
        gantry = Gantry(answer=plain_gantry)
        site = GuardSite.make(tmp_path, await gantry.start(), None, unsafe_shadow="true")
        ours = authority.files("guard")
        table = (
            f'listen = "127.0.0.1:0"\ncertificate = "{ours.certificate}"\nkey = "{ours.key}"\n'
            f'authority = "{ours.authority}"\nnames = ["console-1"]'
        )
        site.config.write_text(
            site.config.read_text().replace('socket = "c.sock"', f'socket = "c.sock"\n{table}')
        )
        await asyncio.to_thread(site.start, "record", "--out", str(tmp_path / "out"))
        port = int(site.said[-1].rpartition("consoles to port ")[2])
        assert (
            json.loads(await asyncio.to_thread(first_line, authority.files("console-1"), port))["local"]
            is False
        )
        assert await asyncio.to_thread(first_line, authority.files("printer-7"), port) == b""
        assert "printer-7" in (await site.wait_for("control_stranger"))["reason"]
        await asyncio.to_thread(site.stop)
        await gantry.close()

    asyncio.run(scene())


# --- how long a nonce is good


class Clock:
    """Turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def aged(tmp_path: Path) -> Iterator[tuple[Running, Clock]]:
    clock = Clock()
    with running(tmp_path / "c") as guard:
        guard.server._now = clock
        yield guard, clock


def act_of(client: ControlClient, act: Act, nonce: str, key: Any = ANNA) -> dict[str, Any]:
    client._send(act_line(1, act, signed(act, nonce, client.policy, key)))
    return client._await("answer")


def test_an_act_that_was_signed_and_held_back_is_refused(aged: tuple[Running, Clock]) -> None:
    guard, clock = aged
    guard.run(lambda: held(guard.bench))
    with ControlClient(guard.path) as client:
        hold = client.refresh()["held"]
        act = Act(ActKind.RELEASE, "anna", hold["request"], hold["digest"], "seen")
        clock.now += CONTROL_BOUNDS.nonce_seconds + 0.1
        answer = act_of(client, act, client.nonce)
        assert (answer["done"], answer["stale"]) == (False, True)
        assert "sign again" in answer["reason"]
        assert guard.bench.to_gantry == []
        assert act_of(client, act, client.nonce)["reason"] == "the signature does not hold"  # it is used up
        fresh = act_of(client, act, answer["nonce"])
        assert not fresh["done"]  # a fresh one came with each answer, and only the last counts
    with ControlClient(guard.path) as client:
        clock.now += CONTROL_BOUNDS.nonce_seconds - 0.1
        assert act_of(client, act, client.nonce)["done"] is True
    assert guard.kinds().count("control_wrong") == 2  # an old one is no forgery


def test_a_forgery_on_an_old_nonce_is_a_forgery(aged: tuple[Running, Clock]) -> None:
    guard, clock = aged
    with ControlClient(guard.path) as client:
        clock.now += CONTROL_BOUNDS.nonce_seconds + 1.0
        answer = act_of(client, Act(ActKind.EMERGENCY_END, "anna"), client.nonce, STRANGER)
        assert (answer["reason"], answer["stale"]) == ("the signature does not hold", False)
    assert guard.kinds().count("control_wrong") == 1


def test_a_terminal_that_waited_long_signs_again_by_itself(aged: tuple[Running, Clock]) -> None:
    guard, clock = aged
    guard.run(lambda: held(guard.bench))
    with ControlClient(guard.path) as client:
        hold = client.refresh()["held"]
        clock.now += 3600.0
        act = Act(ActKind.CALL, "bert", hold["request"])
        assert client.act(act, BERT).done
        assert [e["kind"] for e in client.events(5.0)].count("called") == 1
        assert client.refresh()["held"]["called"] == ["bert"]


def test_emergency_access_without_a_key_knows_no_age(tmp_path: Path) -> None:
    from _guard import Bench, policy, policy_text

    text = policy_text().replace("# unsafe_without_key = true", "unsafe_without_key = true")
    clock = Clock()
    with running(tmp_path / "c", Bench(policy(text))) as guard, ControlClient(guard.path) as client:
        guard.server._now = clock
        clock.now += 10 * CONTROL_BOUNDS.nonce_seconds
        assert client.act(Act(ActKind.EMERGENCY), None).done


def test_an_address_that_is_taken_is_told(tmp_path: Path, authority: Authority) -> None:
    with running(tmp_path / "c") as guard, socket.create_server(("127.0.0.1", 0)) as taken:
        context = server_context(authority.files("guard"))
        listening = guard.server.listen_tls("127.0.0.1", taken.getsockname()[1], context, PINS)
        with pytest.raises(LinkError, match="cannot listen"):
            asyncio.run_coroutine_threadsafe(listening, guard.loop).result(20)

"""Gantry, room and host as they meet on the wire: sockets on loopback, and what comes of bad bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scanward.codecs import stream
from scanward.commands import Device
from scanward.commands.wire import Channel, Heartbeat, Hello, StopKind, Stopped
from scanward.emulator import certificates
from scanward.emulator.gantry import Gantry
from scanward.emulator.host import Host, What, chains_of
from scanward.emulator.play import RoomDoor, patient_of, play
from scanward.emulator.server import GantryServer
from scanward.emulator.wires import address, connect, is_loopback
from scanward.errors import DecodeError, SettingsError
from scanward.simulation import MODELS, Site

SITE = Site(4)
DEVICE, MODEL = SITE.devices[0], MODELS[0]


def examinations(count: int, wanted: Callable[[Any], bool] = lambda e: True) -> list[Any]:
    made = (SITE.examination(i) for i in range(10_000))
    return list(islice((e for e in made if e.commands[0].device == DEVICE and wanted(e)), count))


def together(work: Coroutine[Any, Any, Any]) -> Any:
    """Run with a deadline against hanging."""

    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


@asynccontextmanager
async def gantry(**more: Any) -> AsyncIterator[GantryServer]:
    server = GantryServer(Gantry(MODEL, DEVICE), **{"factor": 400.0, **more})
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def bench(**more: Any) -> AsyncIterator[tuple[GantryServer, Host, RoomDoor]]:
    async with gantry(**more) as server:
        room = await RoomDoor.open("127.0.0.1", server.room_port or 0)
        host = await Host.open("127.0.0.1", server.port, DEVICE)
        try:
            yield server, host, room
        finally:
            await host.close()
            await room.close()


def test_clean_examinations_are_carried_out_as_ordered() -> None:
    async def work() -> None:
        async with bench() as (_, host, room):
            for examination in examinations(25):
                played = await play(host, room, examination)
                assert played.stopped is None, played.stopped
                told = [a["parameters"]["AcquisitionType"] for a in played.report["acquired"]]
                assert told == [c.text("AcquisitionType") for c in examination.commands]

    together(work())


def test_contrast_is_met_when_nobody_interferes() -> None:
    bolus = examinations(4, lambda e: any(x.auto for chain in chains_of(e) for x in chain))

    async def work() -> None:
        async with bench() as (_, host, room):
            for examination in bolus:
                played = await play(host, room, examination)
                met = [a["in_contrast"] for a in played.report["acquired"] if a["in_contrast"] is not None]
                assert met[0] is True

    together(work())


def test_loads_are_localizers_then_the_rest_and_a_retake_is_a_load_of_its_own() -> None:
    for examination in examinations(120):
        chains = chains_of(examination)
        assert [e.command.parameters for chain in chains for e in chain] == [
            c.parameters for c in examination.commands
        ]
        for chain in chains:
            kinds = {e.command.text("AcquisitionType") == "CONSTANT_ANGLE" for e in chain}
            assert len(kinds) == 1
            names = [e.command.text("ProtocolElementName") for e in chain]
            assert all(a != b for a, b in pairwise(names))
            assert not chain[0].auto


def test_a_lost_link_makes_the_gantry_safe_and_its_time_is_told() -> None:
    async def work() -> None:
        async with bench(factor=1.0, lost_s=0.4, beat_s=0.1) as (server, host, room):
            examination = examinations(1)[0]
            await room.enter(patient_of(examination))
            chain = chains_of(examination)[0]
            load, answer = await host.load(chain, "2.25.7")
            assert answer.ok
            begun = await host.trigger(load, 0)
            assert begun.ok
            host.hush()
            while server.gantry.state.value != "safe":
                await asyncio.sleep(0.02)
            loss = (await room.ask("report"))["losses"][0]
            assert loss["beam"] is True
            assert 0.4 < loss["silence_s"] < 5
            assert loss["reaction_s"] < 1
            assert (await room.ask("report"))["acquired"][0]["aborted"] is True

    together(work())


def test_a_stop_by_its_own_connection_passes_a_busy_one() -> None:
    async def work() -> None:
        async with bench() as (_, host, _room):
            host.raw(b"")
            host.stop(StopKind.ALL)
            assert await host.wait(lambda m: isinstance(m, Stopped), 5) is not None

    together(work())


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\n", b'{"type":"heartbeat"}\n', b"\xff\xfe\n", b"{}\n"])
def test_whoever_does_not_begin_with_a_hello_is_shown_the_door(first: bytes) -> None:
    async def work() -> None:
        async with gantry() as server:
            lines = await connect("127.0.0.1", server.port)
            lines.send(first)
            assert await lines.next() is None
            await lines.close()
            assert server.gantry.load is None

    together(work())


def test_the_stop_connection_takes_stops_alone() -> None:
    async def work() -> None:
        async with gantry() as server:
            lines = await connect("127.0.0.1", server.port)
            lines.send(stream.encode(Hello(DEVICE, Channel.STOP)))
            assert b"hello" in (await lines.next() or b"")
            lines.send(stream.encode(Heartbeat()))
            assert await lines.next() is None
            await lines.close()

    together(work())


def test_one_host_at_a_time() -> None:
    async def work() -> None:
        async with bench() as (server, host, _):
            with pytest.raises(SettingsError, match="without a hello"):
                await Host.open("127.0.0.1", server.port, DEVICE)
            assert not host.lost

    together(work())


@settings(max_examples=60)
@given(
    st.binary(max_size=200) | st.from_regex(rb'\{"type":"(load|trigger|motion)"[^\n]{0,60}\}', fullmatch=True)
)
def test_bytes_that_are_no_message_end_the_connection_and_move_nothing(data: bytes) -> None:
    """Any bytes: our own error inside, the connection closed, the safe state; never a traceback."""
    data = data.replace(b"\n", b" ")
    try:
        stream.decode_host(data)
    except DecodeError:
        pass
    else:
        assume(False)  # a message after all
    server = GantryServer(Gantry(MODEL, DEVICE), room_port=None)

    async def work() -> None:
        await server.start()
        try:
            lines = await connect("127.0.0.1", server.port)
            lines.send(stream.encode(Hello(DEVICE)))
            await lines.next()
            lines.send(data + b"\n")
            for _ in range(200):
                if server.gantry.state.value == "safe":
                    break
                await asyncio.sleep(0.005)
            assert server.gantry.state.value == "safe"
            assert server.malformed == 1
            assert server.gantry.load is None
            await lines.close()
        finally:
            await server.close()

    together(work())


def test_of_a_key_that_stands_twice_the_careless_gantry_takes_the_last() -> None:
    """Why a guard has to refuse duplicate keys: another reader of the same line may see another command."""

    async def work() -> None:
        async with bench() as (_, host, _room):
            host.raw(
                b'{"type":"motion","id":"M1","axis":"table_z","target":10.0,"target":20.0,"speed":100.0}\n'
            )
            moved = await host.wait(lambda m: getattr(m, "id", "") == "M1", 5)
            assert getattr(moved, "position", None) == 20.0

    together(work())


# --- the room


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"do":"fly"}\n',
        b'{"do":"enter","who":{"age":"x","nose":1}}\n',
        b"[" * 9000 + b"\n",
    ],
)
def test_the_room_answers_nonsense_with_a_word(line: bytes) -> None:
    async def work() -> None:
        async with gantry() as server:
            lines = await connect("127.0.0.1", server.room_port or 0)
            lines.send(line)
            assert "error" in json.loads(await lines.next() or b"{}")
            lines.send(b'{"do":"report"}\n')
            assert json.loads(await lines.next() or b"{}")["state"] == "ready"
            await lines.close()

    together(work())


def test_what_a_room_refuses_is_our_own_error() -> None:
    async def work() -> None:
        async with bench() as (_, _host, room):
            with pytest.raises(DecodeError, match="does not know"):
                await room.ask("fly")

    together(work())


# --- who is talked to


def test_a_host_talks_to_simulated_devices_alone() -> None:
    async def work() -> None:
        server = GantryServer(Gantry(MODEL, Device("Real Maker", "CT 1")))
        await server.start()
        try:
            with pytest.raises(SettingsError, match="not a simulated one"):
                await Host.open("127.0.0.1", server.port, DEVICE)
        finally:
            await server.close()

    together(work())


def test_nothing_leaves_this_machine_without_tls() -> None:
    with pytest.raises(SettingsError, match="without TLS"):
        together(Host.open("192.0.2.1", 4711, DEVICE))
    with pytest.raises(SettingsError, match="without TLS"):
        together(GantryServer(Gantry(MODEL, DEVICE), host="0.0.0.0").start())
    with pytest.raises(SettingsError, match="another machine"):
        together(RoomDoor.open("192.0.2.1", 4712))


@pytest.mark.parametrize(("text", "known"), [("127.0.0.1:5", ("127.0.0.1", 5)), ("[::1]:5", ("::1", 5))])
def test_addresses_are_read(text: str, known: tuple[str, int]) -> None:
    assert address(text) == known
    assert is_loopback(known[0])


@pytest.mark.parametrize("text", ["", "5", ":5", "host:", "host:99999", "host:5x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        address(text)


def test_with_tls_both_ends_show_a_certificate(tmp_path: Path) -> None:
    ends = certificates.make(tmp_path / "tls")
    assert (tmp_path / "tls" / "host.key").stat().st_mode & 0o077 == 0

    async def work() -> None:
        async with gantry(tls=ends["gantry"]) as server:
            host = await Host.open("127.0.0.1", server.port, DEVICE, ends["host"])
            load, answer = await host.load(chains_of(examinations(1)[0])[0], "2.25.7")
            assert (load, answer.what) == ("L1", What.DONE)
            await host.close()
            others = certificates.make(tmp_path / "others")
            with pytest.raises(SettingsError):
                await Host.open("127.0.0.1", server.port, DEVICE, others["host"])

    together(work())

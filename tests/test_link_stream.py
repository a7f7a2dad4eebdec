"""The stream link over loopback: both sides, two connections each, and whatever a peer may do wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _stream import BEAT, DEVICE, WAIT, Authority, Ear, Gantry, Host, hello, host
from scanward.commands import Command, Context, Role, Told
from scanward.commands.wire import (
    Alerted,
    Axis,
    Cancel,
    Element,
    Load,
    Loaded,
    Motion,
    Refused,
    Stop,
    StopKind,
)
from scanward.config import TCP_BOUNDS
from scanward.errors import LinkError
from scanward.links.base import Side
from scanward.links.stream import StreamLink
from scanward.links.stream_settings import StreamSettings
from scanward.transport.tls import Pins, TlsFiles, certificate_facts, client_context, server_context

QUICK = replace(TCP_BOUNDS, handshake_s=0.6, line_s=0.4, slow_reader_s=0.5, shutdown_s=0.3, reconnect_s=0.05)
LOAD = {
    "type": "load",
    "id": "L1",
    "StudyInstanceUID": "1.2.3",
    "PatientID": "Doe^Jane",
    "chain": [
        {
            "parameters": {"KVP": 120, "FilterType": "LARGE"},
            "roles": {"KVP": "forecast"},
            "context": {"PatientAge": 40},
        }
    ],
}


@asynccontextmanager
async def linked(
    gantry: Gantry | None = None, wait: bool = True, **changes: Any
) -> AsyncIterator[tuple[StreamLink, Ear, Gantry]]:
    """A link between a gantry of ours and whoever connects."""
    gantry = gantry or Gantry()
    port = await gantry.start()
    settings = StreamSettings(DEVICE, ("127.0.0.1", 0), ("127.0.0.1", port), bounds=QUICK)
    link, ear = StreamLink(replace(settings, **changes)), Ear()
    try:
        await link.start(ear)
        if wait:
            await ear.wait("gantry_up")
        yield link, ear, gantry
    finally:
        await link.close()
        await gantry.close()


async def refused(played: Host) -> str:
    """The reason that a host is told before its connection ends."""
    line = await played.hear_until(b'"refused"')
    assert await played.hear() == b""
    return str(json.loads(line)["reason"])


# --- what passes


def test_a_load_goes_in_hidden_and_out_in_clear() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, gantry), host(link.port) as played:
            played.say(json.dumps(LOAD).encode() + b"\n")
            _, load = await ear.wait("host_said")
            assert isinstance(load, Load)
            assert "1.2.3" not in repr(load)
            assert "Jane" not in repr(load)
            command = load.chain[0].command
            assert command == Command(
                {"KVP": 120.0, "FilterType": "LARGE"},
                Context({"PatientAge": (Told(40.0),)}),
                ear.of("host_up")[0][1].device,  # type: ignore[attr-defined]
                Role.COMMANDED,
                {"KVP": Role.FORECAST},
                load.examination,
            )
            link.to_gantry(load)
            out = json.loads(await gantry.wait("load"))
            assert (out["StudyInstanceUID"], out["PatientID"]) == ("1.2.3", "Doe^Jane")
            assert out["chain"][0]["parameters"] == {"KVP": 120.0, "FilterType": "LARGE"}

    asyncio.run(scene())


def test_the_gantry_is_heard_and_the_host_is_told() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, gantry), host(link.port) as played:
            connection, _ = await ear.wait("host_up")
            assert isinstance(connection, int)
            gantry.say(b'{"type":"loaded","load":"L1","chain":[{"KVP":120}]}\n')
            assert await ear.wait("gantry_said") == (Loaded("L1", ({"KVP": 120.0},)),)
            link.to_host(connection, Alerted("L1", "odd"))
            link.to_host(connection, Refused("L2", "no", "form", ("KVP",), True))
            assert json.loads(await played.hear())["reason"] == "odd"
            assert json.loads(await played.hear())["again"] is True
            link.hang_up(connection, "enough")
            assert await played.hear() == b""
            assert await ear.wait("host_lost") == (connection, "enough")
            with pytest.raises(LinkError):
                link.to_host(connection, Alerted("L1", "odd"))

    asyncio.run(scene())


def test_a_stop_goes_by_both_connections_and_behind_what_was_sent_before() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, gantry), host(link.port, "stop") as played:
            link.to_gantry(Motion("M", Axis.TABLE_Z, 1.0, 1.0))
            link.to_gantry(Cancel("C", "L"))
            for kind in StopKind:
                link.to_gantry(Stop(kind))
            await gantry.wait("stop", 6)
            by = {c: [line for channel, line in gantry.lines if channel == c] for c in ("stop", "commands")}
            assert len(by["stop"]) == 1 + 3  # hello and three stops
            kept = [line for line in by["commands"] if line != BEAT][1:]
            assert [json.loads(line)["type"] for line in kept] == ["motion", "cancel", "stop", "stop", "stop"]
            played.say(b'{"type":"stop","what":"beam"}\n')
            assert (await ear.wait("host_said"))[1] == Stop(StopKind.BEAM)

    asyncio.run(scene())


def test_a_gantry_that_does_not_read_its_commands_gets_its_stop_and_is_lost() -> None:
    async def scene() -> None:
        async with linked(silence_s=WAIT) as (link, ear, gantry):
            gantry.writers["commands"].transport.pause_reading()
            load = Load("L", "", "", (Element(Command({f"F{n}": "x" * 1000 for n in range(60)})),))
            for _ in range(5):
                link.to_gantry(load)  # more than one buffer of the system takes
            link.to_gantry(Stop())
            async with asyncio.timeout(WAIT):
                while ("stop", b'{"type":"stop"}\n') not in gantry.lines:
                    await asyncio.sleep(0)
            assert gantry.got("load") == []
            with pytest.raises(LinkError):  # noqa: PT012 - which of them is too much is the system's to say
                for _ in range(1000):
                    link.to_gantry(load)
            await ear.wait("gantry_lost")
            assert "does not read" in str(ear.of("malformed")[0][1])

    asyncio.run(scene())


def test_the_gantry_is_found_again() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, gantry):
            link.drop("on purpose")
            assert await ear.wait("gantry_lost") == ("on purpose",)
            with pytest.raises(LinkError):
                link.to_gantry(Stop())
            await ear.wait("gantry_up", 2)
            link.to_gantry(Stop())
            await gantry.wait("stop")

    asyncio.run(scene())


def test_losing_one_connection_of_the_gantry_is_losing_both() -> None:
    async def scene() -> None:
        async with linked() as (_, ear, gantry):
            gantry.writers["stop"].transport.abort()
            await ear.wait("gantry_lost")
            await ear.wait("gantry_up", 2)
            assert len(gantry.got("hello")) == 4  # the one that was left was given up too

    asyncio.run(scene())


# --- what does not


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json\n", "not a message"),
        (b'{"type":"cancel","id":"a","id":"b","load":"c"}\n', "twice"),
        (b'{"type":"started","load":"a","element":0}\n', "Invalid value"),
        (b'{"type":"load","id":"L","chain":[{"parameters":{"KVP":NaN}}]}\n', "not a message"),
        (b'{"type":"stop"} \n', "Invalid value"),
        (hello(), "second hello"),
        (b"\n", "not a message"),
        (b"\xff\xfe\n", "not a message"),
    ],
)
def test_what_is_no_message_ends_its_connection_and_reaches_nobody(line: bytes, reason: str) -> None:
    async def scene() -> None:
        async with (
            linked() as (link, ear, gantry),
            host(link.port) as played,
            host(link.port, "stop") as other,
        ):
            played.say(line + b'{"type":"cancel","id":"after","load":"x"}\n')
            assert reason in await refused(played)
            side, told, digest = await ear.wait("malformed")
            assert side is Side.HOST
            assert reason in str(told)
            assert digest
            await ear.wait("host_lost")
            assert ear.of("host_said") == []  # nor what came after it
            other.say(b'{"type":"stop"}\n')  # the other connection lives
            assert (await ear.wait("host_said"))[1] == Stop()
            assert gantry.got("cancel") == []

    asyncio.run(scene())


def test_a_line_without_an_end_is_cut_off_at_its_bound() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, _), host(link.port) as played:
            played.say(b'{"type":"load","id":"' + b"x" * (64 << 10))
            assert "more than 65536 bytes" in await refused(played)
            await ear.wait("malformed")
            assert ear.of("host_said") == []

    asyncio.run(scene())


def test_one_byte_at_a_time_is_too_slow() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, _), host(link.port, None) as played:
            for byte in hello():
                if ear.of("malformed"):
                    break
                played.say(bytes([byte]))
                await asyncio.sleep(0.05)
            assert "not whole after" in await refused(played)
            assert ear.of("host_up") == []

    asyncio.run(scene())


def test_who_says_nothing_is_closed_and_who_falls_silent_is_lost() -> None:
    async def scene() -> None:
        async with linked(silence_s=0.5) as (link, ear, _):
            async with host(link.port, None) as mute:
                assert await mute.hear() == b""
            _reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            writer.write(hello())
            await ear.wait("host_up")
            assert "silent" in str((await ear.wait("host_lost"))[1])
            writer.transport.abort()
            async with host(link.port, "stop"):  # a stop connection may wait for ever
                await ear.wait("host_up", 2)
                await asyncio.sleep(0.8)
                assert len(ear.of("host_lost")) == 1
            await ear.wait("host_lost", 2)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello().replace(b"SN-1", b"SN-2"), "another device"),
        (hello().replace(b"Acme", b"Other"), "another device"),
        (hello().replace(b"SN-1", b""), "another device"),
        (b'{"type":"heartbeat"}\n', "must be a hello"),
        (b'{"type":"stop"}\n', "must be a hello"),
    ],
)
def test_who_is_not_this_devices_host_is_refused(said: bytes, reason: str) -> None:
    async def scene() -> None:
        async with linked() as (link, ear, gantry), host(link.port, None) as played:
            played.say(said)
            assert reason in await refused(played)
            await ear.wait("malformed")
            assert ear.of("host_up") == []
            assert gantry.got("stop") == []

    asyncio.run(scene())


def test_a_gantry_of_another_device_is_refused_and_told_once() -> None:
    async def scene() -> None:
        strange = Gantry(hello=lambda channel: hello(channel).replace(b"SN-1", b"SN-2"))
        async with linked(strange, wait=False) as (_, ear, _g):
            side, reason, _ = await ear.wait("malformed")
            assert (side, reason) == (Side.GANTRY, "another device: DeviceSerialNumber differs")
            await asyncio.sleep(0.4)
            assert len(ear.of("malformed")) == 1  # it is tried again, and the log is not filled
            assert ear.of("gantry_up") == []

    asyncio.run(scene())


def test_a_gantry_that_talks_nonsense_is_dropped() -> None:
    async def scene() -> None:
        async with linked() as (_, ear, gantry):
            gantry.say(b'{"type":"status","state":"on fire"}\n')
            side, _, _ = await ear.wait("malformed")
            assert side is Side.GANTRY
            await ear.wait("gantry_lost")

    asyncio.run(scene())


def test_a_host_that_floods_does_not_delay_a_stop_of_another_connection() -> None:
    async def scene() -> None:
        bounds = replace(QUICK, messages_burst=1e6)
        async with (
            linked(bounds=bounds) as (link, ear, _),
            host(link.port) as flood,
            host(link.port, "stop") as other,
        ):
            await ear.wait("host_up", 2)
            flood.say(b'{"type":"cancel","id":"a","load":"b"}\n' * 10_000)
            other.say(b'{"type":"stop"}\n')
            await ear.wait("host_said", 10_001)
            place = [isinstance(message, Stop) for _, message in ear.of("host_said")].index(True)
            assert place < 2_000  # it did not wait for the flood, nor for what one read brings of it

    asyncio.run(scene())


def test_more_messages_than_any_host_has_end_its_connection_and_stops_do_not_count() -> None:
    async def scene() -> None:
        async with linked() as (link, ear, _), host(link.port) as played, host(link.port, "stop") as other:
            other.say(b'{"type":"stop"}\n' * 1000)
            played.say(b'{"type":"stop"}\n' * 1000)
            await ear.wait("host_said", 2000)
            played.say(b'{"type":"cancel","id":"a","load":"b"}\n' * 1000)
            assert "too many messages" in await refused(played)
            await ear.wait("malformed")
            passed = [m for _, m in ear.of("host_said") if isinstance(m, Cancel)]
            assert 100 < len(passed) <= QUICK.messages_burst
            other.say(b'{"type":"stop"}\n')
            await ear.wait("host_said", 2001 + len(passed))

    asyncio.run(scene())


def test_a_host_that_does_not_read_loses_its_connection_and_nobody_else_waits() -> None:
    async def scene() -> None:
        async with linked(silence_s=WAIT) as (link, ear, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port, limit=1024)
            writer.write(hello())
            connection, _ = await ear.wait("host_up")
            assert isinstance(connection, int)
            writer.transport.pause_reading()
            large = Loaded("L", ({f"F{n}": "x" * 1000 for n in range(60)},))
            with pytest.raises(LinkError):  # noqa: PT012 - as above
                for _ in range(10_000):
                    link.to_host(connection, large)
            await ear.wait("host_lost")
            link.to_gantry(Stop())
            writer.transport.abort()
            del reader

    asyncio.run(scene())


def test_connections_are_bounded_and_who_has_not_said_hello_gives_way() -> None:
    async def scene() -> None:
        bounds = replace(QUICK, connections=3, handshake_s=5.0)
        async with linked(bounds=bounds) as (link, ear, _), host(link.port) as first, host(link.port, "stop"):
            mute = [await asyncio.open_connection("127.0.0.1", link.port) for _ in range(5)]
            await ear.wait("malformed", 4)
            async with host(link.port, "stop") as late:
                late.say(b'{"type":"stop"}\n')
                await ear.wait("host_said")
            first.say(b'{"type":"cancel","id":"a","load":"b"}\n')
            await ear.wait("host_said", 2)
            for _, writer in mute:
                writer.transport.abort()

    asyncio.run(scene())


def test_a_port_that_is_taken_is_said() -> None:
    async def scene() -> None:
        async with linked() as (link, _, gantry):
            other = StreamLink(StreamSettings(DEVICE, ("127.0.0.1", link.port), ("127.0.0.1", 1)))
            with pytest.raises(LinkError, match="cannot listen"):
                await other.start(Ear())
            await other.close()
            del gantry

    asyncio.run(scene())


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def _secured(authority: Authority, **changes: Any) -> dict[str, Any]:
    """Settings of a link with TLS whose peers are called host and gantry."""
    pins = {"host_pins": Pins(frozenset({"host"})), "gantry_pins": Pins(frozenset({"gantry"}))}
    return {"tls": authority.files("guard"), **pins, **changes}


def _gantry(files: TlsFiles) -> Gantry:
    return Gantry(server_context(files))


def test_tls_with_both_certificates_passes_and_is_1_3(authority: Authority) -> None:
    async def scene() -> None:
        gantry = _gantry(authority.files("gantry"))
        context = client_context(authority.files("host"))
        async with (
            linked(gantry, **_secured(authority)) as (link, ear, _),
            host(link.port, context=context) as played,
        ):
            assert played.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            played.say(b'{"type":"stop"}\n')
            await ear.wait("host_said")
            link.to_gantry(Stop())
            await gantry.wait("stop", 2)
            played.say(b"nonsense\n")
            assert "not a message" in await refused(played)

    asyncio.run(scene())


def test_a_fingerprint_is_a_pin_too(authority: Authority) -> None:
    async def scene() -> None:
        files = authority.files("nameless-host")
        pins = Pins(fingerprints=frozenset({certificate_facts(files.certificate).fingerprint}))
        gantry = _gantry(authority.files("gantry"))
        async with linked(gantry, **_secured(authority, host_pins=pins)) as (link, ear, _):
            async with host(link.port, context=client_context(files)):
                await ear.wait("host_up")
            link.drop("done")

    asyncio.run(scene())


@pytest.mark.parametrize(
    "who", ["expired", "other name", "other authority", "none", "plain", "old TLS", "junk"]
)
def test_a_host_with_the_wrong_certificate_is_refused_and_told(
    authority: Authority, tmp_path: Path, who: str
) -> None:
    def context() -> ssl.SSLContext | None:
        if who == "expired":
            return client_context(authority.files("host", days=-1))
        if who == "other name":
            return client_context(authority.files("visitor"))
        if who == "other authority":
            mine = Authority(tmp_path, "Somebody else").files("host")
            return client_context(replace(mine, authority=authority.path))
        if who in ("none", "old TLS"):
            bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            bare.check_hostname = False
            bare.load_verify_locations(authority.path)
            if who == "old TLS":
                files = authority.files("host")
                bare.load_cert_chain(files.certificate, files.key)
                bare.maximum_version = ssl.TLSVersion.TLSv1_2
            return bare
        return None

    async def scene() -> None:
        gantry = _gantry(authority.files("gantry"))
        async with linked(gantry, **_secured(authority)) as (link, ear, _):
            try:
                async with host(link.port, None, context()) as played:
                    played.say(b"junk" * 500 if who == "junk" else hello() + b'{"type":"stop"}\n')
                    assert b'"hello"' not in await played.hear()
            except (OSError, ssl.SSLError):
                pass  # the handshake itself failed
            side, reason, _ = await ear.wait("malformed")
            assert side is Side.HOST
            assert reason
            assert ear.of("host_up") == []
            assert ear.of("host_said") == []
            assert gantry.got("stop") == []

    asyncio.run(scene())


@pytest.mark.parametrize("who", ["expired", "other name", "other authority", "plain"])
def test_a_gantry_with_the_wrong_certificate_gets_nothing(
    authority: Authority, tmp_path: Path, who: str
) -> None:
    files = {
        "expired": lambda: authority.files("gantry", days=-1),
        "other name": lambda: authority.files("visitor"),
        "other authority": lambda: replace(
            Authority(tmp_path, "Somebody else").files("gantry"), authority=authority.path
        ),
    }

    async def scene() -> None:
        gantry = Gantry() if who == "plain" else _gantry(files[who]())
        async with linked(gantry, wait=False, **_secured(authority)) as (link, ear, _):
            if who != "plain":
                side, reason, _ = await ear.wait("malformed")
                assert side is Side.GANTRY
                assert "certificate" in str(reason)
            else:
                await asyncio.sleep(0.3)
            assert ear.of("gantry_up") == []
            with pytest.raises(LinkError):
                link.to_gantry(Stop())
            assert not any(b'"hello"' in line for _, line in gantry.lines)

    asyncio.run(scene())


def test_handshakes_that_never_end_do_not_keep_a_host_out(authority: Authority) -> None:
    async def scene() -> None:
        gantry = _gantry(authority.files("gantry"))
        bounds = replace(QUICK, strangers=4, handshake_s=5.0)
        async with linked(gantry, **_secured(authority, bounds=bounds)) as (link, ear, _):
            mute = [await asyncio.open_connection("127.0.0.1", link.port) for _ in range(20)]
            async with host(link.port, context=client_context(authority.files("host"))) as played:
                await ear.wait("host_up")
                begun = asyncio.get_running_loop().time()
                flood = [asyncio.open_connection("127.0.0.1", link.port) for _ in range(60)]
                mute += list(await asyncio.gather(*flood))
                played.say(b'{"type":"stop"}\n')
                await ear.wait("host_said")
                assert asyncio.get_running_loop().time() - begun < WAIT
            for _, writer in mute:
                writer.transport.abort()

    asyncio.run(scene())


def test_certificates_that_cannot_be_used_are_said(authority: Authority, tmp_path: Path) -> None:
    good = authority.files("guard")
    (tmp_path / "not.pem").write_text("hello")
    for changed in (
        replace(good, certificate=tmp_path / "absent"),
        replace(good, key=authority.files("other").key),
        replace(good, authority=tmp_path / "not.pem"),
        replace(good, crl=tmp_path / "not.pem"),
    ):
        with pytest.raises(LinkError) as caught:
            server_context(changed)
        assert caught.value.where
        assert caught.value.todo

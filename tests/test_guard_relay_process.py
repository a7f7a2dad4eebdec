"""The real guard: relay, judge and log as processes, a gantry and a host over loopback, and what may befall them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from _guard_site import SIGMA, GuardSite, hello, load_line, trigger_line
from _stream import Authority, Gantry, Host, host, plain_gantry
from _trained import Trained
from scanward.audit.reading import read
from scanward.commands import Command, Examination
from scanward.guard.control_client import ControlClient
from scanward.transport.tls import client_context, server_context

STOPS = 10_000
IN_TIME = 60.0  # s for all of them on a busy machine; a guard that waited for anybody would never end
FORGED = ("CTDIvol", "DLP", "XRayTubeCurrentInmA", "Exposure")


@pytest.fixture(scope="module")
def examinations(small_bundle: Trained) -> list[Examination]:
    return [e for e in small_bundle.examinations() if e.commands[0].device.model == SIGMA.model]


@asynccontextmanager
async def guarded(folder: Path, bundle: Trained | None) -> AsyncIterator[tuple[GuardSite, Gantry]]:
    """A guard that is running, with a plain gantry behind it."""
    gantry = Gantry(hello=hello, answer=plain_gantry)
    site = GuardSite.make(folder, await gantry.start(), bundle)
    try:
        await asyncio.to_thread(site.start)
        await gantry.wait("hello", 2)
        yield site, gantry
    finally:
        if site.process is not None and site.process.poll() is None:
            await asyncio.to_thread(site.stop)
        elif site.process is not None and site.process.stdout is not None:
            site.process.stdout.close()
        await gantry.close()


async def examined(played: Host, name: str, examination: Examination) -> list[bytes]:
    """Load an examination and trigger all of it; what the host heard."""
    played.say(load_line(name, examination.commands, examination.identifier, f"P-{examination.identifier}"))
    heard = [await played.hear()]
    if b'"loaded"' in heard[0]:
        for index in range(len(examination.commands)):
            played.say(trigger_line(f"{name}.{index}", name, index))
            heard.append(await played.hear_until(b'"done"'))
    return heard


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(IN_TIME):
        while not ready():
            await asyncio.sleep(0.02)


def test_clean_examinations_pass_forged_ones_do_not_and_only_the_judge_loads_numpy(
    small_bundle: Trained, tmp_path: Path, examinations: list[Examination]
) -> None:
    def forged(command: Command) -> Command:
        """Eight times the dose, from an embedded default: every figure with it."""
        changed = {n: 8.0 * v for n, v in command.parameters.items() if n in FORGED and isinstance(v, float)}
        return replace(command, parameters={**command.parameters, **changed})

    async def scene() -> None:
        async with guarded(tmp_path, small_bundle) as (site, gantry), host(site.port, hello=hello) as played:
            await site.wait_for("judge_ready")
            passed = 0
            for number, examination in enumerate(examinations[:4]):
                heard = await examined(played, f"L{number}", examination)
                if b'"loaded"' in heard[0]:
                    passed += 1
                    assert len(heard) == 1 + len(examination.commands)
                    assert all(b'"done"' in line for line in heard[1:])
                else:  # an alert within the budget: held, and given up
                    played.say(
                        json.dumps({"type": "cancel", "id": f"C{number}", "load": f"L{number}"}).encode()
                        + b"\n"
                    )
                    await played.hear()
            assert passed >= 3
            loads, triggers = len(gantry.got("load")), len(gantry.got("trigger"))
            bad = replace(examinations[4], commands=tuple(map(forged, examinations[4].commands)))
            (answer,) = await examined(played, "L9", bad)
            assert json.loads(answer)["type"] in ("refused", "held")
            assert (len(gantry.got("load")), len(gantry.got("trigger"))) == (loads, triggers)
            # what reached the gantry holds the original identifiers, what is kept holds none
            line = json.loads(gantry.got("load")[0])
            assert line["PatientID"] == f"P-{examinations[0].identifier}"
            assert all(f"P-{e.identifier}" not in json.dumps(site.records()) for e in examinations[:5])
            # numpy in the judge alone: the maps of the real processes tell
            children = site.children()
            assert site.process is not None
            assert "numpy" in Path(f"/proc/{children['judge']}/maps").read_text()
            for pid in (site.process.pid, children["audit"]):
                maps = Path(f"/proc/{pid}/maps").read_text()
                assert "libpython" in maps or "python3" in maps
                assert "numpy" not in maps
                assert "onnxruntime" not in maps
            assert await asyncio.to_thread(site.stop) == 0
        kinds = [said["kind"] for said in site.records()]
        assert (kinds[0], kinds[-1]) == ("start", "end")
        assert all(not Path(f"/proc/{pid}").exists() for pid in children.values())

    asyncio.run(scene())


def test_ten_thousand_stops_pass_while_judge_and_writer_hang(small_bundle: Trained, tmp_path: Path) -> None:
    async def scene() -> None:
        async with (
            guarded(tmp_path, small_bundle) as (site, gantry),
            host(site.port, hello=hello) as played,
            host(site.port, "stop", hello=hello) as button,
        ):
            await site.wait_for("judge_ready")
            children = site.children()
            for pid in children.values():
                os.kill(pid, signal.SIGSTOP)
            try:
                begun = time.monotonic()
                for number in range(STOPS):
                    (button if number % 2 else played).say(b'{"type":"stop"}\n')
                    if number % 100 == 0:
                        await asyncio.sleep(0)
                async with asyncio.timeout(IN_TIME):
                    while sum(line == b'{"type":"stop"}\n' for _, line in gantry.lines) < 2 * STOPS:
                        await asyncio.sleep(0.05)
                assert time.monotonic() - begun < IN_TIME
                by = [channel for channel, line in gantry.lines if line == b'{"type":"stop"}\n']
                assert (by.count("stop"), by.count("commands")) == (STOPS, STOPS)
            finally:
                os.kill(children["audit"], signal.SIGCONT)
                if Path(f"/proc/{children['judge']}").exists():
                    os.kill(children["judge"], signal.SIGCONT)
            await until(lambda: len(site.of("stop")) + _dropped(site) >= STOPS)  # none is lost silently

    asyncio.run(scene())


def _dropped(site: GuardSite) -> int:
    """Records that the full buffer of the relay did not take: counted in the log."""
    return sum(
        json.loads(r.payload)["dropped"]
        for r in read(site.log, past_damage=True)
        if b"audit.overflow" in r.payload
    )


def test_a_judge_killed_in_the_middle_of_a_load_refuses_that_load_alone(
    small_bundle: Trained, tmp_path: Path, examinations: list[Examination]
) -> None:
    async def scene() -> None:
        async with guarded(tmp_path, small_bundle) as (site, gantry), host(site.port, hello=hello) as played:
            await site.wait_for("judge_ready")
            judge = site.children()["judge"]
            os.kill(judge, signal.SIGSTOP)  # so that it cannot be quicker than its end
            played.say(load_line("L1", examinations[0].commands, "1.1"))
            await asyncio.sleep(0.1)
            os.kill(judge, signal.SIGKILL)
            refused = json.loads(await played.hear())
            assert (refused["type"], refused["id"], refused["again"]) == ("refused", "L1", True)
            assert gantry.got("load") == []
            await site.wait_for("judge_ready", 2)
            assert site.children()["judge"] != judge
            played.say(load_line("L2", examinations[0].commands, "1.1"))
            assert b'"loaded"' in await played.hear()
            assert len(gantry.got("load")) == 1

    asyncio.run(scene())


def test_a_trigger_whose_fate_a_crash_leaves_open_is_shown_and_never_sent_again(
    small_bundle: Trained, tmp_path: Path, examinations: list[Examination]
) -> None:
    examination = next(e for e in examinations if len(e.commands) >= 3)

    async def scene() -> None:
        async with guarded(tmp_path, small_bundle) as (site, gantry):
            async with host(site.port, hello=hello) as played:
                await site.wait_for("judge_ready")
                played.say(load_line("L1", examination.commands, "7.7"))
                assert b'"loaded"' in await played.hear()
                await site.wait_for("armed")
                writer = site.children()["audit"]
                os.kill(writer, signal.SIGSTOP)
                played.say(trigger_line("T0", "L1", 0))
                # handed to the writer, on no disk: not sent
                with ControlClient(site.folder / "c.sock") as terminal:
                    await until(lambda: bool(terminal.refresh()["gate"]["firing"] == "RECORDING"))
                await asyncio.sleep(0.2)  # until it has left the relay
                assert site.process is not None
                site.process.kill()
                site.process.wait(30)
                assert site.process.stdout is not None
                site.process.stdout.close()
                os.kill(writer, signal.SIGCONT)
                await until(lambda: not Path(f"/proc/{writer}").exists())
            assert len(site.of("trigger")) == 1
            assert gantry.got("trigger") == []
            await asyncio.to_thread(site.start)
            unknown = await site.wait_for("unknown")
            assert (unknown["what"], unknown["id"], unknown["element"]) == ("trigger", "T0", 0)
            async with host(site.port, hello=hello) as played:
                await site.wait_for("judge_ready", 2)
                played.say(load_line("L2", examination.commands[1:], "7.7"))
                await site.wait_for("verdict", 2)
            assert gantry.got("trigger") == []
            assert [said["kind"] for said in site.records()].count("start") == 2

    asyncio.run(scene())


BAD = {
    "junk": b"\x00\xff\xfe\n",
    "duplicate keys": b'{"type":"load","id":"L","chain":[{"parameters":{"KVP":80,"KVP":140}}]}\n',
    "NaN": b'{"type":"load","id":"L","chain":[{"parameters":{"KVP":NaN}}]}\n',
    "an inexact stop": b'{"type":"stop","what":"beam"} \n',
    "half a line": b'{"type":"trig',
    "an endless line": b"x" * 70_000,
}


def test_bad_lines_and_strangers_reach_nobody_and_are_on_record(
    small_bundle: Trained, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with guarded(tmp_path, small_bundle) as (site, gantry):
            for number, line in enumerate(BAD.values(), 1):
                async with host(site.port, hello=hello) as played:
                    played.say(line)
                    assert b'"refused"' in await played.hear_until(b'"refused"')
                    assert await played.hear() == b""
                said = await site.wait_for("alert", number)
                assert said["reason"].startswith("malformed from the host")
            other = replace(SIGMA, serial="another")
            async with host(site.port, None) as played:
                played.say(hello("commands", other))
                assert b"another device" in await played.hear()
            await site.wait_for("alert", len(BAD) + 1)
            kinds = {json.loads(line)["type"] for _, line in gantry.lines}
            assert kinds <= {"hello", "heartbeat"}
            async with host(site.port, hello=hello) as played:  # and the guard still stands
                played.say(b'{"type":"stop"}\n')
                await gantry.wait("stop", 2)

    asyncio.run(scene())


def test_a_bundle_of_another_device_lets_nothing_pass_but_stops(
    small_bundle: Trained, tmp_path: Path, examinations: list[Examination]
) -> None:
    async def scene() -> None:
        gantry = Gantry(hello=lambda c: hello(c, replace(SIGMA, serial="X1")), answer=plain_gantry)
        site = GuardSite.make(tmp_path, await gantry.start(), small_bundle)
        site.config.write_text(site.config.read_text().replace(SIGMA.serial, "X1"))
        try:
            await asyncio.to_thread(site.start)
            await site.wait_for("judge_refused")
            async with host(site.port, hello=lambda c: hello(c, replace(SIGMA, serial="X1"))) as played:
                await site.wait_for("gantry")
                played.say(load_line("L1", examinations[0].commands, "1.1"))
                assert b'"refused"' in await played.hear()
                played.say(b'{"type":"stop"}\n')
                await gantry.wait("stop", 2)
                assert gantry.got("load") == []
            assert "another device" in site.of("judge_refused")[0]["what"]
        finally:
            await asyncio.to_thread(site.stop)
            await gantry.close()

    asyncio.run(scene())


def test_over_tls_the_right_host_passes_and_the_wrong_one_is_on_record(
    small_bundle: Trained, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    own = authority.files("guard")
    tls = f'certificate = "{own.certificate}"\nkey = "{own.key}"\nauthority = "{own.authority}"'

    async def scene() -> None:
        gantry = Gantry(server_context(authority.files("gantry")), hello=hello, answer=plain_gantry)
        names = {"host": 'names = ["host"]', "gantry": 'names = ["gantry"]'}
        site = GuardSite.make(tmp_path / "site", await gantry.start(), small_bundle, tls=tls, **names)
        try:
            await asyncio.to_thread(site.start)
            await site.wait_for("gantry")
            async with host(
                site.port, context=client_context(authority.files("host")), hello=hello
            ) as played:
                played.say(b'{"type":"stop"}\n')
                await gantry.wait("stop", 2)
            for number, files in enumerate((authority.files("visitor"), authority.files("host", -1)), 1):
                try:
                    async with host(site.port, None, client_context(files)) as played:
                        played.say(hello() + b'{"type":"stop"}\n')
                        assert b'"hello"' not in await played.hear()
                except OSError:
                    pass  # refused within the handshake
                said = await site.wait_for("alert", number)
                assert "certificate" in said["reason"]
            assert len(gantry.got("stop")) == 2
        finally:
            await asyncio.to_thread(site.stop)
            await gantry.close()

    asyncio.run(scene())

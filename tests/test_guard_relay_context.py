"""The guard's own source of context: asked once, waited for a moment, put before the host's word."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from _dicom import worklist_server
from _guard import load
from scanward.commands.wire import Load, Refused, Stop
from scanward.errors import LinkError
from scanward.guard.context import answer
from scanward.guard.context_client import ContextClient, ContextQuestion, ContextSettings
from scanward.guard.events import EmergencySet
from scanward.links.dicom_worklist import Worklist
from scanward.transport.dicom import Caller, Peer
from test_guard_relay import Stage, run

WAIT = 60.0
CHILD = {"PatientAge": [{"value": 7.0, "source": "worklist"}]}
ENTRY = """\
(0008,0050) SH [ACC1]
(0010,0010) PN [Doe^Jane]
(0010,0020) LO [P1]
(0010,0030) DA [20190610]
(0010,0040) CS [F]
(0020,000d) UI [1.2.3.1]
(0032,1060) LO [CT HEAD]
(0040,0100) SQ
(fffe,e000) na
(0008,0060) CS [CT]
(0040,0001) AE [CT1]
(0040,0002) DA [20260622]
(0040,0003) TM [100000]
(0040,0009) SH [S1]
(fffe,e00d) na
(fffe,e0dd) na
(0040,1001) SH [R1]
"""


class Lookup:
    """A worklist that a test plays."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.open: set[str] = set()

    def ask(self, examination: str, patient: str) -> None:
        self.asked.append((examination, patient))
        self.open.add(examination)

    def awaits(self, examination: str) -> bool:
        return examination in self.open

    def tell(self, stage: Stage, parts: dict[str, Any], reason: str = "") -> None:
        """The answer, as the client gives it."""
        examination = self.asked[-1][0]
        self.open.discard(examination)
        stage.relay.context_told(examination, parts, reason)


# --- the relay


def test_a_load_waits_for_the_worklist_and_is_judged_with_what_it_says() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        said = load()
        stage.link.host_says(stage.host, said)
        assert stage.judge.asked == []
        assert lookup.asked == [(said.examination, said.patient)]
        lookup.tell(stage, CHILD)
        (question,) = stage.judge.asked
        assert question.parts == CHILD
        stage.answers()
        stage.book.commit()
        assert stage.link.at_gantry == [said]
        stage.link.host_says(stage.host, Stop())
        stage.link.host_says(stage.host, said)  # the same examination: known already
        assert len(lookup.asked) == 1
        assert stage.judge.asked[-1].parts == CHILD

    run(scene)


def test_a_worklist_that_says_nothing_is_noted_and_the_load_judged_without() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        stage.link.host_says(stage.host, load())
        lookup.tell(stage, {}, "the worklist did not answer in time")
        (question,) = stage.judge.asked
        assert question.parts == {}
        assert stage.book.of("context")[0]["reason"] == "the worklist did not answer in time"
        stage.answers()
        stage.book.commit()
        assert [type(m) for m in stage.link.at_gantry] == [Load]

    run(scene)


def test_what_is_given_up_while_it_waits_is_not_asked() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        stage.link.host_says(stage.host, load())
        stage.link.host_says(stage.host, Stop())
        assert stage.told_host(Refused)
        lookup.tell(stage, {}, "late")
        lookup.tell(stage, CHILD)
        assert stage.judge.asked == []
        assert [type(m) for m in stage.link.at_gantry] == [Stop]

    run(scene)


def test_emergency_access_does_not_wait() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = Lookup()
        stage.relay.handle(EmergencySet(stage.relay.now() + 60.0, "anna"))
        stage.link.host_says(stage.host, load())
        assert len(stage.judge.asked) == 1

    run(scene)


# --- the process


class Ear:
    """Remembers what the client tells."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any], str]] = []
        self.notes: list[tuple[str, Mapping[str, object]]] = []
        self.labels: dict[str, dict[str, str]] = {}

    def noted(self, kind: str, data: Mapping[str, object]) -> None:
        self.notes.append((kind, data))

    def labelled(self, examination: str, label: Mapping[str, str]) -> None:
        self.labels[examination] = dict(label)

    def context_told(self, examination: str, parts: dict[str, Any], reason: str) -> None:
        self.said.append((examination, parts, reason))

    async def wait(self, count: int = 1) -> tuple[str, dict[str, Any], str]:
        async with asyncio.timeout(WAIT):
            while len(self.said) < count:
                await asyncio.sleep(0.01)
        return self.said[count - 1]


def _reveal(hidden: str) -> str:
    if hidden == "forgotten":
        raise LinkError("forgotten", "", "")
    return {"h1": "P1", "h9": "P9", "wild": "P*"}.get(hidden, "1.2.840.99")


@asynccontextmanager
async def asking(
    port: int, wait_s: float = WAIT, title: str = "GUARD"
) -> AsyncIterator[tuple[ContextClient, Ear]]:
    ear = Ear()
    client = ContextClient(ContextSettings(title, "WORKLIST", "127.0.0.1", port), ear, _reveal, wait_s)
    client.start()
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(WAIT):
            while client.pid == 0:
                await asyncio.sleep(0.01)
        yield client, ear
    finally:
        await client.close()


def test_a_real_worklist_is_asked_by_the_original_identifier(tmp_path: Path) -> None:
    pytest.importorskip("pynetdicom")

    async def scene(port: int) -> None:
        async with asking(port) as (client, ear):
            client.ask("e1", "h1")
            assert client.awaits("e1")
            examination, parts, _ = await ear.wait()
            assert examination == "e1"
            assert parts["PatientAge"] == [{"value": 7.0, "source": "worklist"}]
            assert not client.awaits("e1")
            client.ask("e9", "h9")
            assert (await ear.wait(2))[1] == {}
            client.ask("e8", "wild")  # a host's wildcard is not asked
            assert "no exact value" in (await ear.wait(3))[2]
            client.ask("", "h1")
            client.ask("e7", "forgotten")
            assert not any(client.awaits(e) for e in ("", "e7"))
            assert [data["reason"] for _, data in ear.notes] == [
                "not asked: the host names no examination",
                "not asked: its identifiers are forgotten",
            ]
            os.kill(client.pid, signal.SIGSTOP)
            client.ask("e5", "h1")
            os.kill(client.pid, signal.SIGKILL)
            assert (await ear.wait(4))[0] == "e5"
            assert len(ear.said) == 4

    with worklist_server(tmp_path / "wl", ENTRY) as peer:
        asyncio.run(scene(peer.port))


def test_a_worklist_that_hangs_is_waited_for_no_longer_than_told() -> None:
    pytest.importorskip("pynetdicom")

    async def scene() -> None:
        held: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        async with asking(server.sockets[0].getsockname()[1], wait_s=0.3) as (client, ear):
            client.ask("e1", "h1")
            assert await ear.wait() == ("e1", {}, "the worklist did not answer in time")
            client.ask("e1", "h1")  # and may be asked again
            await ear.wait(2)
        server.close()
        for writer in held:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # until they are gone

    asyncio.run(scene())


def test_titles_that_cannot_be_are_said() -> None:
    pytest.importorskip("pynetdicom")

    async def scene() -> None:
        async with asking(1, title="FAR TOO LONG A TITLE") as (_, ear):
            async with asyncio.timeout(WAIT):
                while not ear.notes:
                    await asyncio.sleep(0.01)
            assert ear.notes[0][0] == "worklist_down"

    asyncio.run(scene())


def test_an_answer_is_never_an_exception() -> None:
    down = Worklist(Caller("GUARD"), Peer("127.0.0.1", 1, "WL"))
    assert answer(down, ContextQuestion(1, "P*"), "20260101").reason
    assert answer(down, ContextQuestion(1, ""), "20260101").reason

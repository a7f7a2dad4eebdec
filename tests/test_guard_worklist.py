"""A worklist that contradicts the host: a real server, real questions, the gate's own answer to each moment."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from _dicom import free_port, worklist_server
from _guard import answer as opinions
from _guard import element, load
from _guard_site import GuardSite, hello, load_line
from _stream import Gantry, host, plain_gantry
from _trained import Trained
from scanward.codecs.stream import command_from_json
from scanward.commands.wire import Loaded, Started, Trigger
from scanward.errors import LinkError
from scanward.guard.context import answer
from scanward.guard.context_client import ContextClient, ContextPart, ContextQuestion, ContextSettings
from scanward.guard.control_client import ControlClient
from scanward.guard.events import EmergencySet
from scanward.guard.examination import shown
from scanward.guard.ipc import Answer, ElementShape, layer_shape, merged, objection_shape
from scanward.layers.context_sensitive import disputes
from scanward.links.dicom_worklist import Worklist
from scanward.transport.dicom import Caller, Peer
from test_guard_relay import Stage, run
from test_guard_relay_context import ENTRY, Lookup

WAIT = 60.0
CHILD = {"PatientAge": [{"value": 7.0, "source": "worklist"}]}
LATE = "the worklist answered late"


def judged(stage: Stage) -> None:
    """Answer the last question as a judge does that looks for disputes alone."""
    question = stage.judge.asked[-1]
    shapes = []
    for said in question.chain:
        command = command_from_json({**said, "context": merged(question.parts, said.get("context", {}))})
        plain = opinions()
        shapes.append(
            ElementShape(
                [layer_shape(o) for o in plain.opinions],
                plain.p_value,
                plain.within_budget,
                [objection_shape(o) for o in disputes(command.context)],
            )
        )
    stage.relay.answered(Answer(question.request, shapes, "b" * 64))


# --- who is asked for


def entry(patient: str, study: str) -> bytes:
    """A worklist's match, as a file."""
    return dataset_file(patient, study)


class Served(Caller):
    """A server that matches PatientID, and Study Instance UID only if told so."""

    def __init__(self, *entries: tuple[str, str], by_study: bool = True) -> None:
        super().__init__("GUARD")
        self.entries, self.by_study, self.asked = entries, by_study, list[str]()

    def find(self, peer: Peer, sop_class: str, query: Any) -> tuple[bytes, ...]:
        patient, study = str(query.PatientID), str(query.StudyInstanceUID)
        self.asked.append(patient or study)
        return tuple(
            entry(*each)
            for each in self.entries
            if patient in ("", each[0]) and (study in ("", each[1]) or not self.by_study)
        )


def dataset_file(patient: str, study: str) -> bytes:
    made = Dataset()
    made.PatientID, made.StudyInstanceUID = patient, study
    made.PatientBirthDate, made.PatientSex, made.RequestedProcedureDescription = "20190610", "F", "CT HEAD"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = "1.2.3", "2.25.1"
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def parts_from(caller: Served, patient: str = "P1") -> dict[str, list[ContextPart]]:
    worklist = Worklist(caller, Peer("127.0.0.1", 1, "WL"))
    return answer(worklist, ContextQuestion(1, patient, "1.2.3"), "20260101").parts


@pytest.mark.parametrize("by_study", [True, False])
def test_the_examination_is_looked_for_among_the_patients(by_study: bool) -> None:
    caller = Served(("P1", "1.2.9"), ("P1", "1.2.3"), ("P2", "1.2.4"), by_study=by_study)
    assert set(parts_from(caller)) == {"PatientAge", "PatientSex", "RequestedProcedureDescription"}
    assert caller.asked == ["P1"]


@pytest.mark.parametrize("by_study", [True, False])
def test_what_was_requested_of_another_examination_is_left_out(by_study: bool) -> None:
    caller = Served(("P1", "1.2.9"), ("P2", "1.2.4"), by_study=by_study)
    assert set(parts_from(caller)) == {"PatientAge", "PatientSex"}


@pytest.mark.parametrize("by_study", [True, False])
@pytest.mark.parametrize("others", [(), (("P1", "1.2.9"),)])
def test_an_examination_of_another_patient_contradicts_itself_and_tells_nothing_of_them(
    others: tuple[tuple[str, str], ...], by_study: bool
) -> None:
    found = parts_from(Served(("P2", "1.2.3"), *others, by_study=by_study))
    assert list(found) == ["PatientID"]
    assert {part.source for part in found["PatientID"]} == {"worklist", "host"}
    assert "P2" not in repr(found)


def test_without_a_patient_the_examination_is_asked_for() -> None:
    assert "PatientAge" in parts_from(Served(("P2", "1.2.3"), ("P3", "1.2.4"), by_study=False), patient="")


def test_no_reason_names_anybody() -> None:
    class Telling(Caller):
        def find(self, *_: Any) -> Any:
            raise LinkError("P1 is not known", "", "")

    found = answer(
        Worklist(Telling("GUARD"), Peer("127.0.0.1", 1, "WL")), ContextQuestion(1, "P1", "1.2.3"), ""
    )
    assert (found.down, found.reason) == (True, "it cannot be used")


# --- at every moment of an examination


def test_a_contradiction_is_an_alert_that_names_the_field() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        stage.link.host_says(stage.host, load(element(age=63.0)))
        lookup.tell(stage, CHILD)
        judged(stage)
        verdict = stage.book.of("verdict")[-1]
        assert (verdict["verdict"], verdict["fields"]) == ("ALERT", ["PatientAge"])
        assert "worklist: 7" in verdict["reason"]
        assert stage.link.at_gantry == []

    run(scene)


@pytest.mark.parametrize(("told", "verdict"), [(CHILD, "HALT"), ({}, "ALERT")])
def test_a_child_by_the_worklist_has_a_childs_caps(told: dict[str, Any], verdict: str) -> None:
    """The host says 63 years, and 300 mGy: under an adult's absolute cap (1000), beyond a child's (250)."""

    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        stage.link.host_says(stage.host, load(element(age=63.0, CTDIvol=300.0, DLP=3000.0)))
        lookup.tell(stage, told, "" if told else "down")
        judged(stage)
        said = stage.book.of("verdict")[-1]
        assert said["verdict"] == verdict
        assert ("absolute cap" in said["reason"]) is (verdict == "HALT")
        course = stage.relay.course()
        assert course is not None
        caps = [row["absolute_ctdivol"] for row in shown(course, stage.relay.policy)["dose"]]
        assert caps == ([] if verdict == "HALT" else [1000.0])  # what is refused is forecast no more
        assert stage.link.at_gantry == []

    run(scene)


def test_an_answer_after_the_verdict_voids_what_is_armed() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        said = load(element(age=63.0))
        stage.link.host_says(stage.host, said)
        lookup.tell(stage, {}, "did not answer in time")
        stage.answers()
        stage.book.commit()
        stage.link.gantry_says(Loaded(said.id, tuple(e.command.parameters for e in said.chain)))
        stage.relay.context_told(said.examination, CHILD, LATE)
        assert stage.book.of("void")[-1]["reason"] == "the context changed"
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        assert not [m for m in stage.link.at_gantry if isinstance(m, Trigger)]

    run(scene)


def test_an_answer_while_an_operator_decides_has_it_judged_again() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        said = load(element(age=63.0))
        stage.link.host_says(stage.host, said)
        lookup.tell(stage, {}, "did not answer in time")
        stage.answers(within=False)
        assert len(stage.judge.asked) == 1
        stage.relay.context_told(said.examination, CHILD, LATE)
        assert [q.parts for q in stage.judge.asked] == [{}, CHILD]

    run(scene)


def test_an_answer_once_the_beam_is_on_alerts_and_stops_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        said = load(element(age=63.0), element(age=63.0))
        stage.link.host_says(stage.host, said)
        lookup.tell(stage, {}, "did not answer in time")
        stage.answers()
        stage.book.commit()
        stage.link.gantry_says(Loaded(said.id, tuple(e.command.parameters for e in said.chain)))
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        stage.book.commit()
        stage.link.gantry_says(Started(said.id, 0))
        before = list(stage.link.at_gantry)
        stage.relay.context_told(said.examination, CHILD, LATE)
        assert stage.link.at_gantry == before
        assert "context changed after" in stage.book.of("alert")[-1]["reason"]

    run(scene)


def test_emergency_access_is_not_taken_back_for_a_late_answer() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = Lookup()
        stage.relay.handle(EmergencySet(stage.relay.now() + 60.0, "anna"))
        said = load(element(age=63.0))
        stage.arm(said)
        stage.relay.context_told(said.examination, CHILD, LATE)
        assert stage.book.of("void") == []

    run(scene)


def test_the_same_examination_for_another_patient_is_asked_for_again() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.lookup = lookup = Lookup()
        said = load()
        stage.link.host_says(stage.host, said)
        lookup.tell(stage, CHILD)
        stage.link.host_says(stage.host, replace(said, id="L2", patient="q" * 16))
        assert [patient for _, patient in lookup.asked] == [said.patient, "q" * 16]
        stage.link.host_says(stage.host, replace(said, id="L3", patient="q" * 16))
        assert len(lookup.asked) == 2  # on its way

    run(scene)


def test_only_the_host_can_have_the_worklist_asked() -> None:
    async def scene(stage: Stage) -> None:
        from scanward.commands.wire import Channel, Hello

        stage.relay.lookup = lookup = Lookup()
        stranger = stage.link.host_connects(Hello(load().chain[0].command.device, Channel.STOP))
        stage.link.host_says(stranger, load())
        assert lookup.asked == []

    run(scene)


# --- real servers


ORIGINALS = {"e" * 16: "1.2.3.1", "p" * 16: "P1", "f" * 16: "1.2.9", "q" * 16: "P9"}


class Slowly(ContextClient):
    """Waits for nobody: the relay hears at once that there is no answer, and later what it is."""

    def ask(self, examination: str, patient: str) -> None:
        super().ask(examination, patient)
        for number in list(self._open):
            self._late(number)


@asynccontextmanager
async def asking(stage: Stage, port: int, kind: type[ContextClient] = ContextClient) -> AsyncIterator[None]:
    settings = ContextSettings("GUARD", "WORKLIST", "127.0.0.1", port)
    client = kind(settings, stage.relay, ORIGINALS.__getitem__, WAIT)
    client.start()
    await until(lambda: client.pid)
    client.ask("f" * 16, "q" * 16)  # so that its libraries are loaded
    await until(lambda: not client._open and not client._overdue)
    stage.book.said.clear()
    stage.relay.lookup = client
    try:
        yield
    finally:
        await client.close()


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT):
        while not ready():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", [ContextClient, Slowly])
def test_a_real_worklist_that_contradicts_the_host_alerts_in_time_and_late(
    tmp_path: Path, kind: type[ContextClient]
) -> None:
    pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

    async def scene(stage: Stage) -> None:
        async with asking(stage, peer.port, kind):
            stage.link.host_says(stage.host, load(element(age=63.0)))
            await until(lambda: stage.judge.asked and stage.judge.asked[-1].parts)
            judged(stage)
        verdict = stage.book.of("verdict")[-1]
        assert (verdict["verdict"], verdict["fields"]) == ("ALERT", ["PatientAge"])
        assert len(stage.judge.asked) == (2 if kind is Slowly else 1)
        assert stage.link.at_gantry == []
        assert not any(name in json.dumps(stage.book.said) for name in ('"1.2.3.1"', '"P1"'))

    with worklist_server(tmp_path / "wl", ENTRY) as peer:
        run(scene)


def test_a_worklist_that_is_down_is_told_once_and_loads_pass_as_without() -> None:
    pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

    async def scene(stage: Stage) -> None:
        async with asking(stage, free_port()):
            for number in range(3):
                stage.link.host_says(stage.host, replace(load(element(age=63.0)), id=f"L{number}"))
                await until(lambda n=number: len(stage.judge.asked) == n + 1)
                judged(stage)
                stage.book.commit()
        assert [v["verdict"] for v in stage.book.of("verdict")] == ["RELEASE"] * 3
        assert stage.book.of("worklist_down") == []  # when it was asked first
        assert [kind for kind, _ in stage.desk.said].count("worklist_down") == 1

    run(scene)


def test_the_whole_guard_with_a_real_worklist(small_bundle: Trained, tmp_path: Path) -> None:
    """As a site runs it: the contradicted load is held for the disputed field; down, it passes as without."""
    pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")
    examinations = [e for e in small_bundle.examinations() if e.commands[0].device.model == "S-128"]

    views: list[dict[str, Any]] = []

    async def scene(port: int, number: int) -> list[dict[str, Any]]:
        gantry = Gantry(hello=hello, answer=plain_gantry)
        site = GuardSite.make(tmp_path / f"site{number}", await gantry.start(), small_bundle)
        table = f'[worklist]\nserver = "WORKLIST@127.0.0.1:{port}"\nunsafe_plaintext = true\nwait = 1.5\n'
        site.config.write_text(site.config.read_text() + table)
        heard = []
        try:
            await asyncio.to_thread(site.start)
            await gantry.wait("hello", 2)
            await site.wait_for("judge_ready")
            async with host(site.port, hello=hello) as played:
                for each in range(4):  # one may alert within the budget
                    commands = examinations[each].commands
                    played.say(load_line(f"L{each}", commands, "1.2.3.1", "P1"))
                    heard.append(json.loads(await played.hear()))
                with ControlClient(site.folder / "c.sock") as client:
                    views.append(client.state["examination"])
            assert "1.2.3.1" not in json.dumps(site.records())
            on_disk = b"".join(path.read_bytes() for path in sorted(site.log.iterdir()) if path.is_file())
            assert not any(name in on_disk for name in (b"Doe", b"Jane", b"ACC1"))
        finally:
            await asyncio.to_thread(site.stop)
            await gantry.close()
        return heard

    with worklist_server(tmp_path / "wl", ENTRY) as peer:
        answers = asyncio.run(scene(peer.port, 0))
    assert {said["type"] for said in answers} <= {"held", "refused"}
    assert any("worklist" in said["reason"] and "Patient" in said["reason"] for said in answers)
    answers = asyncio.run(scene(free_port(), 1))
    assert "loaded" in [said["type"] for said in answers]
    assert (views[0]["label"]["PatientName"], views[0]["label_source"]) == ("Doe^Jane", "worklist")
    assert "PatientAge" in views[0]["disagree"]
    assert (views[1]["label"], views[1]["label_source"]) == (
        {"PatientID": "P1"},
        "host",
    )  # the worklist is down
    assert views[1]["dose"]
    assert all("worklist" not in said.get("reason", "") for said in answers)

"""A DICOM guard from its configuration: policy verified, log, control channel for operators, and the service.

The same operators, keys and terminal (`scanward operator`) as at any guard: an operator sees what a held protocol
lets the scanner do at most, and signs for exactly that.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, cast

from scanward.codecs.stream import command_from_json
from scanward.commands import Mode
from scanward.commands.wire import Element
from scanward.errors import ScanwardError
from scanward.guard.arming import chain_digest
from scanward.guard.config import GuardConfig
from scanward.guard.control import ControlServer
from scanward.guard.control_desk import ControlDesk
from scanward.guard.control_open import open_control
from scanward.guard.dicom_audit import DurableRecorder
from scanward.guard.dicom_config import DicomSettings
from scanward.guard.dicom_service import DicomService
from scanward.guard.dose_feed import DoseFeed
from scanward.guard.operators import Act, ActKind
from scanward.guard.policy import Policy
from scanward.guard.relay_run import verified
from scanward.links.dicom import Decision, Held, Holding


class DicomDesk:
    """Operators' acts on held objects; what `ControlServer` asks of a desk.

    There is no emergency access and no mode here: a protocol book is never urgent.
    """

    def __init__(self, policy: Policy, holding: Holding) -> None:
        self.policy = policy
        self._holding = holding

    def act(self, act: Act, operator: str) -> str:
        """Carry out an act that is believed; why not, where it is not carried out. Empty when it is."""
        if act.kind not in (ActKind.RELEASE, ActKind.REFUSE):
            return "a DICOM guard knows release and refuse alone"
        held = next((one for one in self._holding.held() if one.id == act.request), None)
        if held is None:
            return f"request {act.request} is not on hold (any more)"
        if shown_digest(held) != act.shown:
            return "something else is on hold than what was shown"
        decision = Decision(act.kind is ActKind.RELEASE, operator, act.reason.strip())
        return (
            "" if self._holding.say(held.id, decision) else f"request {act.request} is not on hold (any more)"
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything that a screen shows first; of several on hold the one that waits longest."""
        held = self._holding.held()
        policy = self.policy
        return {
            "policy": {
                "name": policy.name,
                "version": policy.version,
                "digest": policy.digest,
                "weakenings": policy.weakenings,
            },
            "gate": {"mode": Mode.CLINICAL, "phase": f"{len(held)} on hold", "log": "OK", "gantry": True},
            "mode_seconds_left": None,
            "held": held_json(held[0]) if held else None,
            "emergency": {},
            "alerts": [],
            "examination": None,
        }


def held_json(held: Held) -> dict[str, Any]:
    """A held object in the shape of the gate's ``held`` news."""
    judged = held.judged
    return {
        "request": held.id,
        "id": judged.sop_instance,
        "digest": shown_digest(held),
        "examination": "",
        "layer": judged.layer,
        "fields": list(judged.fields),
        "reason": f"{judged.name!r} from {held.calling}: {judged.reason}",
        "seconds": held.seconds,
        "chain": [dict(element) for element in judged.chain],
        "motion": None,
        "findings": [],
        "persons": 1,
    }


def shown_digest(held: Held) -> str:
    """Names what an operator was shown, computed from that."""
    elements: list[Any] = [dict(element) for element in held.judged.chain]
    return chain_digest(tuple(Element(command_from_json(e["command"]), e["auto"] is True) for e in elements))


@contextmanager
def _feed(settings: DicomSettings, recorder: DurableRecorder) -> Iterator[Callable[..., None]]:
    """Where delivered doses go: to the relay of this machine, if one is named."""
    relay = settings.reports.relay if settings.reports else None
    if relay is None:
        yield lambda doses: None
        return

    def tell(kind: str, facts: Mapping[str, object]) -> None:
        with suppress(ScanwardError):  # the writer says itself that it cannot write
            recorder(kind, facts)

    with DoseFeed(relay, tell) as feed:
        yield feed


async def run(config: GuardConfig, settings: DicomSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    ScanwardError
        What is refused at the start: policy, book, bundle, log, address.
    """
    found = verified(config)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    config.audit.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    recorder = DurableRecorder(config.audit.folder, config.audit.key, witness=config.audit.witness)

    def changed() -> None:
        loop.call_soon_threadsafe(publish)

    holding = Holding(changed)
    shown: set[int] = set()

    def publish() -> None:
        for held in holding.held():
            if held.id not in shown:
                shown.add(held.id)
                control.publish("held", held_json(held))

    def record(kind: str, data: Mapping[str, object]) -> None:
        loop.run_in_executor(None, recorder, kind, data)  # a control channel must not wait for the disk

    desk = cast(
        "ControlDesk", DicomDesk(found.policy, holding)
    )  # the three things that the server asks of it
    control = ControlServer(desk, record, lambda: datetime.now(UTC).date())
    try:
        await open_control(control, config.control)
        with _feed(settings, recorder) as feed:
            service = DicomService(
                settings,
                recorder,
                holding=holding,
                mode=found.policy.modes[Mode.CLINICAL],
                shadow=found.policy.unsafe_shadow,
                feed=feed,
            )
            await asyncio.to_thread(service.__enter__)
            try:
                say(f"{settings.title} on {settings.listen[0]}:{service.port}")
                await ended.wait()
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)
    finally:
        await control.close()
        await asyncio.to_thread(recorder.close)

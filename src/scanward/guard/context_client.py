"""The relay's end of the worklist: asks once for each examination, waits no longer than it is told to.

What the worklist says is a second source of context. What it does not say (slow, unknown patient) is a note in the
log, and the load is judged with the host's word alone; that it is down is told once. An answer that comes later than a
load may wait is told all the same: a changed context, which voids what is armed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

import msgspec

from scanward.config import CONTEXT_BOUNDS, JUDGE_BOUNDS
from scanward.errors import DecodeError, LinkError, ScanwardError
from scanward.guard.ipc import Frames, framed
from scanward.guard.supervise import Child


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class ContextSettings(_Shape, frozen=True):
    """First frame: AE titles, address, and files for TLS (none: plain)."""

    title: str
    server: str
    host: str
    port: int
    name: str = ""
    certificate: str = ""
    key: str = ""
    authority: str = ""


class ContextQuestion(_Shape, frozen=True):
    """One examination and its patient, by the identifiers that the host told."""

    number: int
    patient: str
    study: str = ""


class ContextPart(_Shape, frozen=True):
    """What one source says of one part of a context."""

    value: float | Annotated[str, msgspec.Meta(max_length=256)]
    source: Literal["worklist", "host"]


_Text = Annotated[str, msgspec.Meta(max_length=256)]


class ContextLabel(_Shape, frozen=True):
    """How the worklist names an examination and its patient; "" where it does not."""

    AccessionNumber: _Text = ""
    PatientName: _Text = ""
    PatientID: _Text = ""


class ContextAnswer(_Shape, frozen=True):
    """Parts of the context in the shape of a command's, or none and why. Number 0: of no question.

    ``down``: the worklist could not be asked at all. ``label``: names in clear, for screens.
    """

    number: int
    parts: dict[str, list[ContextPart]] = {}
    reason: str = ""
    down: bool = False
    label: ContextLabel | None = None


class ContextListener(Protocol):
    """Who asks. All calls are on the loop."""

    def context_told(self, examination: str, parts: dict[str, list[dict[str, Any]]], reason: str) -> None:
        """The answer, or the end of waiting for it; an answer that comes after that is told, too."""

    def labelled(self, examination: str, label: Mapping[str, str]) -> None:
        """How the worklist names it, before ``context_told``: to be shown, and never recorded."""

    def noted(self, kind: str, data: Mapping[str, object]) -> None:
        """To be recorded and shown."""


class ContextClient:
    """Asks for examinations, at most once at a time for each.

    Parameters
    ----------
    reveal : callable
        The original of a hashed identifier (`links.identifiers`).
    wait_s : float
        Seconds for an answer.
    """

    def __init__(
        self,
        settings: ContextSettings,
        listener: ContextListener,
        reveal: Callable[[str], str],
        wait_s: float,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._reveal = reveal
        self._wait_s = wait_s
        self._child: Child | None = None
        self._frames = Frames()
        self._open: dict[int, tuple[str, asyncio.TimerHandle]] = {}
        self._overdue: dict[int, str] = {}  # examinations whose answer nobody waits for any more
        self._down = False
        self._number = 0
        self._silent = 0  # questions in a row that were not answered in time
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """Process id of who asks, 0 while there is none."""
        return self._child.pid if self._child else 0

    def start(self) -> None:
        """Start the process."""
        if not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._start())

    async def close(self) -> None:
        """End the process."""
        self._closed = True
        for timer in (self._later, *(timer for _, timer in self._open.values())):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._child is not None:
            await self._child.close()

    def awaits(self, examination: str) -> bool:
        """Whether an answer is on its way."""
        return any(asked == examination for asked, _ in self._open.values())

    def ask(self, examination: str, patient: str) -> None:
        """Ask for one examination and patient (hashed identifiers); noted when that is not possible."""
        try:
            study, original = (self._reveal(each) if each else "" for each in (examination, patient))
            reason = "" if study else "the host names no examination"
        except LinkError:
            reason = "its identifiers are forgotten"
        if not reason and self._child is None:
            reason = "the process that asks is not there"
        if not reason and len(self._open) + len(self._overdue) >= CONTEXT_BOUNDS.questions:
            reason = "too many questions wait"
        if reason:
            self._listener.noted("context", {"examination": examination, "reason": f"not asked: {reason}"})
            return
        assert self._child is not None
        self._number += 1
        timer = asyncio.get_running_loop().call_later(self._wait_s, self._late, self._number)
        self._open[self._number] = (examination, timer)
        self._child.say(framed(ContextQuestion(self._number, original, study)))

    async def _start(self) -> None:
        self._frames = Frames()
        child = Child(("-m", "scanward.guard.context"), self._heard, self._gone)
        try:
            await child.start()
        except ScanwardError as error:
            self._gone(error.what)
            return
        self._child = child
        child.say(framed(self._settings))

    def _heard(self, data: bytes) -> None:
        try:
            for payload in self._frames.feed(data):
                self._said(msgspec.json.decode(payload, type=ContextAnswer))
        except (DecodeError, msgspec.MsgspecError):
            self._kill()

    def _said(self, said: ContextAnswer) -> None:
        self._silent = 0
        if said.down is not self._down:
            self._down = said.down
            if said.down:
                self._listener.noted("worklist_down", {"reason": said.reason})
            else:
                self._listener.noted("worklist_up", {})
        reason = "" if said.down else said.reason  # that was told
        parts = {
            name: [{"value": each.value, "source": each.source} for each in told]
            for name, told in said.parts.items()
        }
        overdue = self._overdue.pop(said.number, "")
        examination = self._open[said.number][0] if said.number in self._open else overdue
        if examination and said.label is not None:
            told_by_it = msgspec.structs.asdict(said.label)
            self._listener.labelled(examination, {n: text for n, text in told_by_it.items() if text})
        if said.number in self._open:
            self._close(said.number, parts, reason)
        elif overdue and parts:
            self._listener.context_told(overdue, parts, "the worklist answered late")

    def _late(self, number: int) -> None:
        self._silent += 1
        self._overdue[number] = self._open[number][0]
        if self._silent >= JUDGE_BOUNDS.silent or len(self._overdue) >= CONTEXT_BOUNDS.questions:
            self._kill()
        self._close(number, {}, "the worklist did not answer in time")

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _close(self, number: int, parts: dict[str, list[dict[str, Any]]], reason: str) -> None:
        examination, timer = self._open.pop(number)
        timer.cancel()
        self._listener.context_told(examination, parts, reason)

    def _gone(self, reason: str) -> None:
        self._child, self._silent = None, 0
        self._overdue.clear()
        if self._closed:
            return
        for number in list(self._open):
            self._close(number, {}, f"the process that asks the worklist {reason}")
        self._later = asyncio.get_running_loop().call_later(JUDGE_BOUNDS.restart_most_s, self.start)

"""The relay's end of the judge: asks, never waits, kills a judge that is late, starts the next one.

What is asked while no judge is ready waits for it, within its own deadline. Every question is answered exactly
once: by ``answered`` or by ``lost``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scanward.config import JUDGE_BOUNDS, JudgeBounds
from scanward.errors import DecodeError, ScanwardError
from scanward.guard.ipc import Answer, Failed, Frames, JudgeSettings, Question, Ready, framed, from_judge
from scanward.guard.supervise import Child


class JudgeListener(Protocol):
    """Who asks. All calls are on the loop."""

    def judge_ready(self, ready: Ready) -> None:
        """A judge has verified its bundle and answers from now on."""

    def judge_gone(self, reason: str) -> None:
        """There is no judge for now; the next is on its way."""

    def judge_refused(self, failed: Failed) -> None:
        """A judge cannot be had: the bundle is refused. Tried again, seldom."""

    def answered(self, answer: Answer) -> None:
        """What was asked, answered."""

    def lost(self, request: int, reason: str) -> None:
        """What was asked will not be answered."""


@dataclass(slots=True)
class _Asked:
    data: bytes
    timer: asyncio.TimerHandle
    sent: bool = False


class JudgeClient:
    """One judge at a time.

    Parameters
    ----------
    settings : JudgeSettings
    deadline_s : float
        Seconds for an answer, from the question on.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        listener: JudgeListener,
        deadline_s: float,
        bounds: JudgeBounds = JUDGE_BOUNDS,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._deadline_s = deadline_s
        self._bounds = bounds
        self._child: Child | None = None
        self._frames = Frames(bounds.frame_bytes)
        self._asked: dict[int, _Asked] = {}
        self._ready: Ready | None = None
        self._closed = False
        self._wait = bounds.restart_s
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None  # start, or the next ping
        self._pinged = False
        self._why = ""  # why it was killed, where we did it
        self._dying = False  # killed, and its end of the socket not closed yet

    @property
    def ready(self) -> Ready | None:
        """What the present judge said of itself; None while there is none."""
        return self._ready

    @property
    def pid(self) -> int:
        """Process id of the present judge, 0 for none."""
        return self._child.pid if self._child else 0

    def start(self) -> None:
        """Start the first judge."""
        self._begin()

    async def close(self) -> None:
        """End the judge, and wait for it. Whatever was asked is lost."""
        self._closed = True
        for timer in (self._timer, *(asked.timer for asked in self._asked.values())):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._child is not None:
            await self._child.close()
        self._lose_all("the guard ends")

    def ask(self, question: Question) -> None:
        """Ask; ``answered`` or ``lost`` follows, never before this returns."""
        loop = asyncio.get_running_loop()
        if self._closed or len(self._asked) >= self._bounds.waiting:
            loop.call_soon(self._listener.lost, question.request, "too many questions wait for the judge")
            return
        data = framed(question)
        waiting = sum(len(each.data) for each in self._asked.values())
        if max(len(data), (waiting + len(data)) // 2) > self._bounds.frame_bytes:
            # a host that replaces load by load must not fill the memory with questions, nor kill judge after judge
            loop.call_soon(self._listener.lost, question.request, "the examination is too long to be judged")
            return
        timer = loop.call_later(self._deadline_s, self._late, question.request)
        asked = self._asked[question.request] = _Asked(data, timer)
        if self._ready is not None and not self._dying:
            self._send(asked)

    # --- the child

    def _begin(self) -> None:
        if not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        self._frames = Frames(self._bounds.frame_bytes)
        self._pinged, self._why, self._dying = False, "", False
        child = Child(("-m", "scanward.guard.judge"), self._heard, self._gone)
        try:
            await child.start()
        except ScanwardError as error:
            self._gone(error.what)
            return
        self._child = child
        child.say(framed(self._settings))
        self._timer = asyncio.get_running_loop().call_later(
            self._bounds.start_s, self._kill, "did not get ready in time"
        )

    def _heard(self, data: bytes) -> None:
        try:
            for payload in self._frames.feed(data):
                self._said(from_judge(payload))
        except DecodeError as error:
            self._kill(error.what)

    def _said(self, said: Ready | Failed | Answer) -> None:
        match said:
            case Ready():
                self._ready = said
                self._wait = self._bounds.restart_s
                self._later(self._bounds.ping_s, self._ping)
                self._listener.judge_ready(said)
                for asked in list(self._asked.values()):
                    self._send(asked)
            case Failed():
                self._why = said.what
                self._wait = self._bounds.restart_most_s  # a bundle does not mend itself
                self._listener.judge_refused(said)
            case Answer(request=0):
                self._pinged = False
                self._later(self._bounds.ping_s, self._ping)
            case Answer():
                awaited = self._asked.pop(said.request, None)
                if awaited is None:
                    return  # late, and told as lost already
                awaited.timer.cancel()
                if said.error:
                    self._listener.lost(said.request, f"the judge failed: {said.error}")
                else:
                    self._listener.answered(said)

    def _gone(self, reason: str) -> None:
        was_ready, self._ready, self._child = self._ready is not None, None, None
        if self._timer is not None:
            self._timer.cancel()
        if self._closed:
            return
        reason = self._why or reason
        for request, asked in list(self._asked.items()):
            if asked.sent:
                self._lose(request, f"the judge {reason}")
        self._listener.judge_gone(reason)
        if was_ready:
            self._begin()
        else:
            self._later(self._wait, self._begin)
            self._wait = min(2 * self._wait, self._bounds.restart_most_s)

    # --- time

    def _ping(self) -> None:
        """A judge that hangs is found before the next load needs it."""
        if self._child is None or self._ready is None:
            return
        if self._pinged:
            self._kill("does not answer")
            return
        self._pinged = True
        if any(asked.sent for asked in self._asked.values()):
            self._pinged = False  # it is at work, and that has its own deadline
            self._later(self._bounds.ping_s, self._ping)
            return
        self._child.say(framed(Question(0)))
        self._later(self._deadline_s, self._ping)

    def _late(self, request: int) -> None:
        asked = self._asked.get(request)
        if asked is None:
            return
        reason = "did not answer in time" if asked.sent else "is not ready"
        self._lose(request, f"the judge {reason}")
        if asked.sent:
            self._kill(reason)

    def _kill(self, reason: str) -> None:
        if self._child is not None and not self._dying:
            self._why, self._dying = reason, True
            self._child.kill()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    # --- questions

    def _send(self, asked: _Asked) -> None:
        assert self._child is not None
        if not asked.sent:
            asked.sent = True
            self._child.say(asked.data)

    def _lose(self, request: int, reason: str) -> None:
        asked = self._asked.pop(request, None)
        if asked is not None:
            asked.timer.cancel()
            self._listener.lost(request, reason)

    def _lose_all(self, reason: str) -> None:
        for request in list(self._asked):
            self._lose(request, reason)

"""The operator at the guard, simulated: a thread on the control channel that answers what is on hold.

``refuse`` during an attack and ``release`` on a clean examination are the best that a person can do. ``Tired`` clicks
whatever comes away once there has been enough of it: what alert fatigue is about.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanward.errors import DecodeError, LinkError
from scanward.guard.control_client import ControlClient, shown_digest
from scanward.guard.operators import Act, ActKind
from scanward.keys import SigningKey

Decide = Callable[[dict[str, Any]], bool | None]
_LOOK_S = 0.05
_AGAIN_S = 0.2


@dataclass
class Tired:
    """Reads the first ``alert`` holds and refuses them; releases all that follow."""

    alert: int = 4
    seen: int = 0

    def __call__(self, held: dict[str, Any]) -> bool:
        """Whether to release."""
        self.seen += 1
        return self.seen > self.alert


def refuse(held: dict[str, Any]) -> bool:
    """Attentive, during an attack: it is not what was ordered."""
    return False


def release(held: dict[str, Any]) -> bool:
    """Attentive, on a clean examination: it is what was ordered."""
    return True


@dataclass(eq=False)
class Operator:
    """One operator. Use as a context manager; ``decide`` may be changed at any time.

    Attributes
    ----------
    decide : callable
        Given the data of a ``held`` event: True releases, False refuses, None lets it wait.
    held : list
        Data of every hold seen, in order.
    """

    socket: Path
    key: SigningKey
    name: str
    decide: Decide = refuse
    held: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # acts the guard did not carry out, and why
    news: dict[str, int] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Operator:
        self._thread = threading.Thread(target=self._work, name="emulated operator", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def layer_of(self, load: str, since: int = 0) -> str:
        """The layer for which a load (or motion) was held, empty when it was not."""
        return next((str(h.get("layer", "")) for h in self.held[since:] if h.get("id") == load), "")

    def _work(self) -> None:
        while not self._end.is_set():
            try:
                with ControlClient(self.socket) as client:
                    self._watch(client)
            except (LinkError, DecodeError, OSError):
                self._end.wait(_AGAIN_S)  # the guard is not there yet, or was started again

    def _watch(self, client: ControlClient) -> None:
        while not self._end.is_set():
            for event in client.events(_LOOK_S):
                kind, data = str(event.get("kind", "")), event.get("data")
                self.news[kind] = self.news.get(kind, 0) + 1
                if kind == "held" and isinstance(data, dict):
                    self._answer(client, data)

    def _answer(self, client: ControlClient, held: dict[str, Any]) -> None:
        self.held.append(held)
        wish = self.decide(held)
        if wish is None:
            return
        act = Act(
            ActKind.RELEASE if wish else ActKind.REFUSE,
            self.name,
            int(held["request"]),
            shown_digest(held),
            "looked at it: clean (simulated)" if wish else "not what was ordered (simulated)",
        )
        answer = client.act(act, self.key)
        if not answer.done:
            self.refused.append(answer.reason)

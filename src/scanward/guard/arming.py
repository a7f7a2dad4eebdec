"""What is armed, and whether a trigger may use it. Pure: no state of its own beyond what it is given."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scanward.commands import Command, Mode, Value
from scanward.commands.wire import Element, Load, Loaded, Motion, Trigger
from scanward.guard.events import Envelope, Finding

ECHO_TOLERANCE = 1e-6  # relative; a link that scales to integers compares in its own steps before it reports


@dataclass(slots=True)
class Armed:
    """A chain on the gantry that may be triggered, and all that the arming is bound to.

    ``used`` counts the triggers of each element; ``since`` is when it was armed or last used (gate's clock).
    """

    load: Load
    connection: int
    findings: tuple[Finding, ...]
    mode: Mode
    policy: str
    bundle: str
    since: float
    accepted: bool = False  # a person, or emergency access, released it in spite of a finding
    used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.used = self.used or [0] * len(self.load.chain)

    @property
    def next(self) -> int | None:
        """The element that comes next; None when the chain is spent."""
        return next((i for i, used in enumerate(self.used) if used < self.load.triggers), None)

    def may(self, element: int) -> bool:
        """Whether ``element`` may be triggered now: in order, each once; in a session, any with some left."""
        if not 0 <= element < len(self.used):
            return False
        if self.load.triggers > 1:
            return self.used[element] < self.load.triggers
        return element == self.next


def why_not(armed: Armed | None, trigger: Trigger, connection: int, envelopes: Mapping[str, Envelope]) -> str:
    """Why ``trigger`` may not use ``armed``; empty when it may. One arming permits one trigger."""
    if armed is None:
        return "nothing is armed"
    if trigger.load != armed.load.id:
        return "the load that it names is not armed"
    if connection != armed.connection:
        return "the arming belongs to another connection"
    if not armed.may(trigger.element):
        spent = 0 <= trigger.element < len(armed.used) and armed.used[trigger.element] > 0
        return f"element {trigger.element} " + ("was triggered already" if spent else "is not the next one")
    judged = armed.load.chain[trigger.element].command
    for name, value in trigger.runtime.items():
        outside = _outside(name, value, judged, envelopes.get(name))
        if outside:
            return outside
    return ""


def _outside(name: str, value: Value, judged: Command, envelope: Envelope | None) -> str:
    if envelope is None:
        return f"a frozen field may not change after judging: {name}"
    base = judged.parameters.get(name)
    if not isinstance(value, float) or not isinstance(base, float) or not math.isfinite(value):
        return f"{name} was not judged as a number"
    if not base + envelope.low <= value <= base + envelope.high:
        return f"{name} {value:.6g} is outside {base + envelope.low:.6g} to {base + envelope.high:.6g}, as judged"
    return ""


def runtime_command(judged: Command, trigger: Trigger) -> Command:
    """The command as it is carried out: what was judged, with the runtime values of the trigger."""
    if not trigger.runtime:
        return judged
    return replace(judged, parameters={**judged.parameters, **trigger.runtime})


def mismatch(load: Load, echo: Loaded) -> str:
    """How the gantry's echo differs from what was judged; empty when it does not."""
    if len(echo.chain) != len(load.chain):
        return f"the gantry holds {len(echo.chain)} elements, {len(load.chain)} were judged"
    for index, (element, held) in enumerate(zip(load.chain, echo.chain, strict=True)):
        judged = element.command.parameters
        for name in sorted(judged.keys() | held.keys()):
            if not _same(judged.get(name), held.get(name)):
                return f"element {index}: the gantry holds {name} {held.get(name)}, judged was {judged.get(name)}"
    return ""


def _same(one: Value | None, other: Value | None) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=ECHO_TOLERANCE, abs_tol=ECHO_TOLERANCE)
    return one == other


def chain_digest(chain: tuple[Element, ...], triggers: int = 1) -> str:
    """SHA-256 of everything that is judged in a chain, in order: names what an operator was shown.

    ``triggers`` of each element stand in it where they are more than one.
    """
    plain: list[object] = [
        [
            sorted(e.command.parameters.items()),
            sorted((n, [[t.value, t.source] for t in told]) for n, told in e.command.context.parts.items()),
            sorted((n, str(r)) for n, r in e.command.roles.items()),
            str(e.command.role),
            e.auto,
        ]
        for e in chain
    ]
    return _digest(plain if triggers == 1 else [*plain, ["triggers", triggers]])


def motion_digest(motion: Motion) -> str:
    """The same for a motion."""
    return _digest([motion.axis, motion.target, motion.speed])


def _digest(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, separators=(",", ":"), default=str).encode()).hexdigest()

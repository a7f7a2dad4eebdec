"""How much the first examinations of what is new count, for every method that learns again with them.

Known devices whose first examinations rules mostly object to have changed (new software), and what was recorded of
them before outweighs fifty commands; then each examination counts ``COPIES`` times. On a new device, where nothing
older contradicts, that made Scanward worse. The decision needs the rules alone, which are learned from clean commands:
Scanward and the baselines that adapt take the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scanward.codecs.defined_protocol_model import ProtocolBook
from scanward.commands import Examination, Severity
from scanward.layers.base import Layer
from scanward.layers.context_sensitive import disputes
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.layers.soundness import sound
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.worlds import TestSet, World, commands_of
from scanward.learning.device_profile import learn_form, learn_limits
from scanward.learning.physics_constants import learn_physics

COPIES = 20  # tried on site 11: 23 % of clean examinations alerted with 1, 27 % with 5, 5 % with 20

Rules = tuple[Layer[Any], ...]
_rules: Last[Rules] = Last()


def rules_of(learn: Sequence[Examination]) -> Rules:
    """Layers 1 to 4, without a protocol book: the simulated sites have none."""
    commands = commands_of(learn)
    return (
        learn_form(commands),
        learn_physics(commands),
        learn_limits(commands),
        ProtocolBookLayer(ProtocolBook()),
    )


def objected(rules: Rules, examination: Examination) -> bool:
    """Whether any command of an examination is objected to, as the whole judge has it without its scores."""
    states = [rule.start() for rule in rules]
    for command in examination.commands:
        whole = sound(command)
        if disputes(whole.context):
            return True
        for i, rule in enumerate(rules):
            opinion, states[i] = rule.judge(states[i], whole)
            if opinion.severity > Severity.INFORMATION:
                return True
    return False


def copies(world: World, test: TestSet) -> int:
    """How often each of ``test.first`` counts: ``COPIES`` where known devices have changed, otherwise once."""
    known = {c.device.key for c in commands_of(world.learn)}
    ours = [e for e in test.first if e.commands[0].device.key in known]
    if not ours:
        return 1
    rules = _rules.of(world, "rules", lambda: rules_of(world.learn))
    return COPIES if 2 * sum(objected(rules, e) for e in ours) > len(ours) else 1


def together(world: World, test: TestSet, times: int) -> tuple[Examination, ...]:
    """What is learned from again: everything recorded, then the first examinations so many times."""
    return (*world.learn, *repeated(test.first, times))


def facts_of(test: TestSet, times: int) -> dict[str, Any]:
    """What the report tells of an adaptation."""
    return {
        "adapted to": f"{len(commands_of(test.first))} commands of {len(test.first)} examinations",
        "each counted": times,
    }


def repeated(examinations: Sequence[Examination], times: int) -> list[Examination]:
    """Each examination so many times, every copy under a name of its own."""
    out = list(examinations)
    for i in range(1, times):
        for e in examinations:
            name = f"{e.identifier}/copy-{i}"
            out.append(Examination(name, tuple(replace(c, examination=name) for c in e.commands)))
    return out

"""Answers one question after the other with an onion. Pure but for a cache that changes no answer."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import msgspec

from scanward.codecs.stream import command_from_json
from scanward.commands import Command, Judgement, Mode
from scanward.config import JUDGE_BOUNDS
from scanward.errors import DecodeError
from scanward.guard.ipc import Answer, ElementShape, Question, layer_shape, merged, objection_shape
from scanward.guard.judge_forecast import forecast
from scanward.layers.context_sensitive import disputes
from scanward.layers.onion import Onion, State
from scanward.layers.soundness import sound


class JudgeRoom:
    """Judges chains after their histories.

    Parameters
    ----------
    onion : Onion
    bundle : str
        Digest of the bundle, told with every answer: arming is bound to it.
    """

    def __init__(self, onion: Onion, bundle: str, states: int = JUDGE_BOUNDS.states) -> None:
        self._onion = onion
        self._bundle = bundle
        self._most = states
        self._states: OrderedDict[bytes, State] = OrderedDict()

    def answer(self, question: Question) -> Answer:
        """Opinions on every element of the chain, each as if those before it had been sent.

        Raises
        ------
        DecodeError
            When the question holds what is no command.
        """
        key, state = b"", self._onion.start()
        for said in question.history:
            key, state = self._after(key, state, said, question)
        elements = []
        for said in question.chain:
            key = _key(key, said, question)
            command = _command(said, question)
            judgement, state = self._onion.judge(state, command)
            self._keep(key, state)
            elements.append(self._element(command, judgement))
        return Answer(question.request, elements, self._bundle)

    def _after(
        self, key: bytes, state: State, said: dict[str, Any], question: Question
    ) -> tuple[bytes, State]:
        """The state once ``said`` was sent too; remembered, for histories only grow."""
        key = _key(key, said, question)
        known = self._states.get(key)
        if known is None:
            known = self._onion.judge(state, _command(said, question))[1]
            self._keep(key, known)
        else:
            self._states.move_to_end(key)
        return key, known

    def _keep(self, key: bytes, state: State) -> None:
        self._states[key] = state
        if len(self._states) > self._most:
            self._states.popitem(last=False)

    def _element(self, command: Command, judgement: Judgement) -> ElementShape:
        p_value = judgement.p_value
        p_value = p_value if p_value is not None and math.isfinite(p_value) else None
        command = sound(command, self._onion.device)
        return ElementShape(
            [layer_shape(opinion) for opinion in judgement.opinions],
            p_value,
            None if p_value is None else p_value > self._onion.budget,
            [objection_shape(o) for o in disputes(command.context)],
            forecast(self._onion, command),
        )


def _key(before: bytes, said: dict[str, Any], question: Question) -> bytes:
    """Names a state: everything that led to it, in order."""
    found = hashlib.blake2b(before, digest_size=16)
    found.update(msgspec.json.encode([said, question.parts, question.mode], order="sorted"))
    return found.digest()


def _command(said: dict[str, Any], question: Question) -> Command:
    if question.parts:
        said = {**said, "context": merged(question.parts, said.get("context", {}))}
    try:
        mode = Mode(question.mode)
    except ValueError as error:
        raise DecodeError(str(error), "mode", "this is a bug") from error
    return replace(command_from_json(said), mode=mode)

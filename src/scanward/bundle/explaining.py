"""One row of a recording explained: what came before it, and what every layer says of it."""

from __future__ import annotations

from dataclasses import dataclass

from scanward.bundle.judging import Answer, Docket, Place, answer, judge_group, repeated
from scanward.commands import Command, Judgement, Origin
from scanward.errors import SettingsError
from scanward.layers.onion import Onion


@dataclass(frozen=True, slots=True)
class Before:
    """A command of the same examination that was judged earlier."""

    row: int
    command: Command
    answer: Answer


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that led to one answer.

    ``judgement`` is None for a row that could not be read, or is of another device. ``repeats`` is the row
    that a duplicate repeats; the judgement is then that of the command which decided.
    """

    row: int
    origin: Origin
    answer: Answer
    command: Command | None = None
    judgement: Judgement | None = None
    before: tuple[Before, ...] = ()
    repeats: int | None = None


def explain(onion: Onion, docket: Docket, row: int) -> Explanation:
    """Explain the entry ``row`` of the docket's recording, judging its examination up to there alone.

    Raises
    ------
    SettingsError
        When there is no such row.
    """
    entries = docket.recording.entries
    if not 0 <= row < len(entries):
        raise SettingsError(
            f"there is no row {row}", "--row", f"rows go from 0 to {len(entries) - 1}, as in the verdicts"
        )
    entry = entries[row]
    first = docket.repeats.get(row)
    original = row if first is None else first
    command = entry if isinstance(entry, Command) else getattr(entry, "command", None)
    if original in docket.ready:
        given = docket.ready[original]
        if first is not None:
            given = repeated(first, given, None)
        return Explanation(row, entry.origin, given, command, repeats=first)
    group = next(group for group in docket.groups if any(place.row == original for place in group))
    return _in_group(onion, docket, group, row, original)


def _in_group(onion: Onion, docket: Docket, group: tuple[Place, ...], row: int, original: int) -> Explanation:
    commands = {place.row: place.command for place in group}
    doubles = {number: command for place in group for number, command in place.again}
    before: list[Before] = []
    judged: dict[int, Judgement] = {}
    for number, judgement in judge_group(onion, group):
        judged[number] = judgement
        if number == original:
            break
        if number in commands:
            before.append(Before(number, commands[number], answer(judgement)))
    entry = docket.recording.entries[row]
    if row == original:
        return Explanation(row, entry.origin, answer(judged[row]), commands[row], judged[row], tuple(before))
    own = answer(judged[row]) if row in judged else None
    given = repeated(original, answer(judged[original]), own)
    decided = row if own is not None and given.verdict is own.verdict else original
    return Explanation(
        row,
        entry.origin,
        given,
        doubles.get(decided, commands.get(decided)),
        judged[decided],
        tuple(before),
        original,
    )

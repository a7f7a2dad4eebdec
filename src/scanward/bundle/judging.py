"""A whole recording judged by a bundle: one row per entry, in input order, nothing dropped.

Verdicts depend on the commands alone and not on the order of the entries: commands are judged examination by
examination in order of time, each as if everything before it had been sent.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

from scanward.bundle.manifest import Manifest
from scanward.commands import Command, Device, Examination, Judgement, LayerName, Origin, Role, Verdict
from scanward.errors import BundleError, InputError, ScanwardError
from scanward.layers.base import Part
from scanward.layers.onion import Onion
from scanward.recordings import Duplicate, Recording, Rejected, examinations

CHUNK = 32  # examinations handed to a worker at once: some 80 commands, about 0.1 s of judging
GRAVITY = {Verdict.RELEASE: 0, Verdict.ALERT: 1, Verdict.HALT: 2}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of one command: the columns of a table of verdicts."""

    verdict: Verdict
    p_value: float | None = None
    layer: LayerName | None = None
    fields: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the recording: its 0-based place, where it was read, and the answer."""

    row: int
    origin: Origin
    answer: Answer


@dataclass(frozen=True, slots=True)
class Place:
    """A command in its examination; ``row`` is its place among the entries.

    ``again`` are duplicates (row, command) that say something else than the command they repeat: each is
    judged as if it stood in its place.
    """

    row: int
    command: Command
    again: tuple[tuple[int, Command], ...] = ()


def answer(judgement: Judgement) -> Answer:
    """The answer that a judgement gives."""
    return Answer(judgement.verdict, judgement.p_value, judgement.layer, judgement.fields, judgement.reason)


def halted(reason: str, *fields: str) -> Answer:
    """HALT by layer form: what cannot be read, or is of another device, is not judged any further."""
    return Answer(Verdict.HALT, None, LayerName.FORM, fields, reason)


def load(part: Part, where: str = "") -> Onion:
    """The onion in a bundle's part; BundleError when there is none (a bundle of another kind or version)."""
    try:
        return Onion.from_part(part)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BundleError(
            f"the bundle holds no judge that this version understands ({type(error).__name__}: {error})",
            where,
            "train it again with this version",
        ) from error


def refuse_misfit(manifest: Manifest, recording: Recording, site_key: str | None = None) -> tuple[str, ...]:
    """Refuse a recording of which the bundle can judge nothing; notes on what it judges with less.

    ``site_key`` is the fingerprint of the site key that the recording was read with.

    Raises
    ------
    InputError
        When every command is of another role than the bundle.
    BundleError
        When every command is of another device.
    """
    commands = recording.commands
    if not commands:
        return ()
    roles = {command.role for command in commands}
    own = manifest.facts.role
    if own not in roles:
        raise InputError(
            f"the recording holds {' and '.join(sorted(roles))} values, the bundle judges {own} ones",
            "--model",
            f"give a bundle trained on {sorted(roles)[0]} values, or a dialect with the right role",
        )
    devices = {command.device for command in commands}
    if not any(serves(manifest, device) for device in devices):
        known = "; ".join(sorted({_name(d) for d in manifest.facts.devices}))
        found = "; ".join(sorted({_name(d) for d in devices}))
        trained_with = manifest.facts.metrics.get("site_key")
        todo = "give the bundle of this device"
        if any(d.key == one.key for d in manifest.facts.devices for one in devices):
            found, todo = f"{found}, of another serial number", f"{todo}, or train with its recordings too"
            if trained_with != site_key:
                todo = "give the --site-key that it was trained with: serial numbers are hashed under it"
        raise BundleError(f"the bundle is for {known}, the recording is of {found}", "--model", todo)
    return tuple(_notes(manifest, commands))


def _notes(manifest: Manifest, commands: Sequence[Command]) -> Iterator[str]:
    bound = {d.key for d in manifest.facts.devices if d.serial}
    loose = sum(c.device.key in bound and not c.device.serial for c in commands)
    if loose:
        yield f"{loose} commands name no serial number: taken for the device of that maker and model"
    other: dict[str, tuple[Role, Role]] = {}
    for command in commands:
        for name, role in command.roles.items():
            trained = manifest.facts.roles.get(name, manifest.facts.role)
            if role is not trained:
                other[name] = (role, trained)
    for name, (role, trained) in sorted(other.items()):
        yield f"{name} is {role} here and was {trained} in training"


def serves(manifest: Manifest, device: Device) -> bool:
    """Whether the bundle judges ``device``; one that names no serial number is taken at maker and model.

    A device that names nothing at all is left to the form layer, which knows whether only one can be meant.
    """
    if device.key == "|" and not device.serial:
        return True
    known = [d for d in manifest.facts.devices if d.key == device.key]
    return any(not d.serial or not device.serial or d.serial == device.serial for d in known)


def _name(device: Device) -> str:
    return f"{device.manufacturer} {device.model}".strip() or "a device that is not named"


class Docket:
    """The entries of a recording sorted into what is judged together, and what is answered at once.

    ``groups`` are the examinations, each a tuple of places in order of time; ``ready`` maps a row to its
    answer; ``repeats`` maps the row of a duplicate to the row it repeats.
    """

    def __init__(self, manifest: Manifest, recording: Recording) -> None:
        self.recording = recording
        self.ready: dict[int, Answer] = {}
        self.repeats: dict[int, int] = {}
        self.groups: list[tuple[Place, ...]] = []
        self._sort(manifest)

    def _sort(self, manifest: Manifest) -> None:
        entries = self.recording.entries
        of_event = {e.event: row for row, e in enumerate(entries) if isinstance(e, Command) and e.event}
        models = {device.key for device in manifest.facts.devices}
        served: dict[Device, bool] = {}
        rows: dict[int, list[int]] = {}  # identity of a command -> its rows: equal commands stay apart
        kept: list[Command] = []
        again: dict[int, list[tuple[int, Command]]] = {}
        for row, entry in enumerate(entries):
            if isinstance(entry, Rejected):
                self.ready[row] = halted(entry.reason)
                continue
            command = entry.command if isinstance(entry, Duplicate) else entry
            device = command.device
            if device not in served:
                served[device] = device.key not in models or serves(manifest, device)
            if isinstance(entry, Duplicate) and served[device]:
                first = of_event.get(command.event or "")
                if first is not None:
                    self.repeats[row] = first
                    original = entries[first]
                    if isinstance(original, Command) and contradicts(command, original):
                        again.setdefault(first, []).append((row, command))
                    continue
            if not served[device]:  # another model is left to the form layer, which knows those trained on
                self.ready[row] = halted(
                    "DeviceSerialNumber is not one that the bundle was trained for", "DeviceSerialNumber"
                )
                continue
            rows.setdefault(id(command), []).append(row)
            kept.append(command)
        for examination in examinations(kept):
            self.groups.append(_places(examination, rows, again))

    @property
    def total(self) -> int:
        """Commands to be judged."""
        return sum(len(group) for group in self.groups)

    def rows(self, found: dict[int, Answer]) -> Iterator[Row]:
        """Every entry with its answer, in input order; ``found`` are the answers of ``judge_groups``."""
        answers = {**self.ready, **found}
        for row, entry in enumerate(self.recording.entries):
            if row in self.repeats:
                first = self.repeats[row]
                given = repeated(first, answers[first], found.get(row))
            else:
                given = answers[row]
            yield Row(row, entry.origin, given)


def _places(
    examination: Examination, rows: dict[int, list[int]], again: dict[int, list[tuple[int, Command]]]
) -> tuple[Place, ...]:
    found = ((rows[id(command)].pop(0), command) for command in examination.commands)
    return tuple(Place(row, command, tuple(again.get(row, ()))) for row, command in found)


def contradicts(duplicate: Command, original: Command) -> bool:
    """Whether a duplicate says anything that the command it repeats does not say as well.

    A report that tells less of the same event is no new command. One that tells something else may be: the
    same event UID must not carry other values past the judge.
    """
    return (
        any(original.parameters.get(name) != value for name, value in duplicate.parameters.items())
        or any(
            one not in original.context.parts.get(name, ())
            for name, told in duplicate.context.parts.items()
            for one in told
        )
        or duplicate.device != original.device
        or duplicate.role is not original.role
        or duplicate.examination not in (None, original.examination)
    )


def repeated(first: int, original: Answer, own: Answer | None) -> Answer:
    """The answer to a duplicate: that of the command it repeats, or its own where that is worse."""
    if own is None:
        return replace(original, reason=_joined(f"duplicate of row {first}", original.reason))
    worse = own if GRAVITY[own.verdict] >= GRAVITY[original.verdict] else original
    return replace(worse, reason=_joined(f"duplicate of row {first}, which says otherwise", worse.reason))


def _joined(first: str, second: str) -> str:
    return f"{first}: {second}" if second else first


def judge_group(onion: Onion, group: Sequence[Place]) -> Iterator[tuple[int, Judgement]]:
    """Row and judgement of every command of one examination, contradicting duplicates included."""
    state = onion.start()
    for place in group:
        for row, command in place.again:
            yield row, onion.judge(state, command)[0]
        judgement, state = onion.judge(state, place.command)
        yield place.row, judgement


def judge_groups(
    part: Part, groups: Sequence[tuple[Place, ...]], *, workers: int = 1, progress: Progress | None = None
) -> dict[int, Answer]:
    """The answers to all groups by row; the same with any number of workers.

    Every worker makes its own onion of the verified ``part``: it does not look at the bundle's folder again,
    in which another bundle may lie by then.
    """
    total = sum(len(group) for group in groups)
    chunks = [groups[at : at + CHUNK] for at in range(0, len(groups), CHUNK)]
    found: dict[int, Answer] = {}
    done = 0
    with _judge(part, min(workers, len(chunks))) as judged:
        for chunk, answers in zip(chunks, judged(chunks), strict=True):
            found.update(answers)
            done += sum(len(group) for group in chunk)
            if progress is not None:
                progress(done, total)
    return found


Chunk = Sequence[tuple[Place, ...]]
Answers = list[tuple[int, Answer]]


class _judge:
    """Judges chunks here or in processes of its own, and ends them."""

    def __init__(self, part: Part, workers: int) -> None:
        self._onion = load(part) if workers <= 1 else None
        # spawn: a fork of a process with threads (ONNX Runtime has some) may hang
        context = multiprocessing.get_context("spawn")
        self._pool = (
            ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, initargs=(part,))
            if workers > 1
            else None
        )

    def __enter__(self) -> Callable[[Sequence[Chunk]], Iterator[Answers]]:
        return self._run

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _run(self, chunks: Sequence[Chunk]) -> Iterator[Answers]:
        if self._pool is None:
            assert self._onion is not None
            for chunk in chunks:
                yield _answers(self._onion, chunk)
            return
        try:
            yield from self._pool.map(_in_worker, chunks)
        except BrokenProcessPool as error:
            raise ScanwardError(
                "a process that judges died (out of memory, most likely)", "", "run again with --workers 1"
            ) from error


def _answers(onion: Onion, chunk: Chunk) -> Answers:
    return [(row, answer(judgement)) for group in chunk for row, judgement in judge_group(onion, group)]


_mine: dict[str, Any] = {}  # the onion of a worker process


def _prepare(part: Part) -> None:
    _mine["onion"] = load(part)


def _in_worker(chunk: Chunk) -> Answers:
    return _answers(_mine["onion"], chunk)

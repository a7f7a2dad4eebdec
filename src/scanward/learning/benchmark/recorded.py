"""Recorded worlds: what a user brings, divided by time, or by whole protocols where it is a protocol table.

Nobody records attacks: clean commands are real, attacked ones are made of them by the same catalogue as on simulated
sites, where it applies. What it cannot know is how much a real tube gives, so doses are also scaled outright
(``INJECTED``), every figure by one factor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from scanward.commands import Command, Examination, Role, Value
from scanward.errors import InputError, SettingsError
from scanward.learning.benchmark.worlds import Level, TestSet, World, commands_of
from scanward.learning.corruptions import DOSE
from scanward.learning.evaluate import parts
from scanward.learning.fit import LEAST, clinical
from scanward.recordings import Dialect, Recording, examinations, read
from scanward.recordings.idc import idc_recording
from scanward.recordings.reading import Progress
from scanward.simulation import ATTACKS, Attack, Donors

TIME_SHARE = 0.70  # of the examinations, the earliest: learned from and calibrated on
PROTOCOL_SHARE = 0.65  # of the protocols, where they are divided once; the others are tested
SPLITS = 5  # parts of the protocols, each of which is tested once: one division of some hundred says little
FACTORS = (0.3, 1.5, 3.0, 8.0)  # of INJECTED, those of the catalogue
NEW = 0.01  # a word that a smaller share of the earlier commands has is new
TOLD = 0.05  # later commands with a new word, from which share on a report tells
MOST_OF_ONE = 10_000  # commands of one protocol at most, so that protocols put in order do not overlap


class Division(StrEnum):
    """How recordings are divided."""

    TIME = "time"  # the earliest examinations teach, later ones are tested
    PROTOCOLS = "protocols"  # whole protocols are held out


def _injected(factor: float) -> Attack:
    def change(
        examination: Examination, index: int, rng: np.random.Generator, donors: Donors
    ) -> Examination | None:
        command = examination.commands[index]
        told: dict[str, Value] = dict(command.parameters)
        for name in DOSE:
            value = told.get(name)
            if isinstance(value, float) and value > 0:
                told[name] = donors.rounded(command, name, value * factor)
        if told == dict(command.parameters):
            return None
        commands = list(examination.commands)
        commands[index] = replace(command, parameters=told)
        return replace(examination, commands=tuple(commands))

    return Attack(
        f"injected_dose_x{factor:g}",
        "injected dose",
        f"current and all dose figures x{factor:g}, whatever the tube can give",
        change,
        ATTACKS["dose_x3"].allowed,
    )


INJECTED: dict[str, Attack] = {attack.name: attack for attack in map(_injected, FACTORS)}


def recorded_worlds(
    paths: Sequence[Path],
    dialect: Dialect | None = None,
    *,
    name: str = "",
    division: Division | None = None,
    share: float | None = None,
    splits: int = SPLITS,
    seed: int = 0,
    site_key: bytes | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[World]:
    """Read recordings and divide them: one world by time, or ``splits`` worlds by protocols.

    Parameters
    ----------
    paths : files and folders, as ``recordings.read`` takes them
    dialect : how tables are to be read; columns named by DICOM keywords need none
    name : what reports call them; the dialect's name, or the first path's, when empty
    division : by time or protocols; None: by protocols where ``is_protocol_table`` says so, else by time
    share : of examinations (0.7), or of protocols divided once (0.65), that are learned from and calibrated on, in
        (0, 1); of several splits each leaves out its own part, and a share says nothing
    seed : of the divisions into protocols and of everything drawn later

    Raises
    ------
    InputError
        When nothing can be read, roles are mixed, or there are too few examinations to divide.
    SettingsError
        For a share, a number of splits or a site key that makes no sense.
    """
    recording = read(paths, dialect=dialect, site_key=site_key, progress=progress, workers=workers)
    called = name or (dialect.name if dialect and dialect.name else paths[0].stem)
    return worlds_of(recording, called, division=division, share=share, splits=splits, seed=seed)


def idc_worlds(
    collection: str,
    folder: Path,
    *,
    count: int = 400,
    megabytes: float = 50_000.0,
    licences: Collection[str] | None = None,
    seed: int = 0,
    site_key: bytes | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[World]:
    """A collection of Imaging Data Commons, by the headers of its images, divided by time.

    Parameters
    ----------
    collection : name in the index of Imaging Data Commons, ``lidc_idri``
    folder : where images are kept; what is there already is not fetched again
    count, megabytes : most series, and most megabytes, to fetch; whole studies, drawn by ``seed``
    licences : only series under these

    Dates in public collections are moved by so many days for each patient, so "later" is hardly more than another half.
    Licences and sources stand in ``World.about``.

    Raises
    ------
    InputError, DecodeError, SettingsError, LinkError
        As ``recordings.idc`` and ``worlds_of``.
    """
    recording = idc_recording(
        collection, folder, count=count, megabytes=megabytes, licences=licences, seed=seed, site_key=site_key,
        progress=progress, workers=workers,
    )  # fmt: skip
    said = "; ".join(note for note in recording.notes if "Imaging Data Commons" in note)
    return worlds_of(recording, f"IDC {collection}", division=Division.TIME, seed=seed, about=said)


def worlds_of(
    recording: Recording,
    name: str,
    *,
    division: Division | None = None,
    share: float | None = None,
    splits: int = SPLITS,
    seed: int = 0,
    about: str = "",
) -> list[World]:
    """Worlds of what was read already; see ``recorded_worlds``. ``about`` is added to the line for the report."""
    found = clinical(examinations(recording.commands))
    _refuse_mixed(found, name)
    if division is None:
        division = Division.PROTOCOLS if is_protocol_table(found) else Division.TIME
    share = share if share is not None else {Division.TIME: TIME_SHARE}.get(division, PROTOCOL_SHARE)
    if not 0 < share < 1 or splits < 1:
        raise SettingsError(
            f"share {share:g} or {splits} splits make no sense",
            name,
            "give a share in (0, 1), 1 split or more",
        )
    simulated = any(c.device.manufacturer.startswith("Simulated") for c in commands_of(found))
    line = f"{len(commands_of(found))} commands of {len(found)} recorded examinations"
    line = ("SIMULATED, " if simulated else "") + "; ".join(x for x in (line, about) if x)
    if division is Division.TIME:
        divided = [by_time(found, share)]
    else:
        divided = [by_protocol(found, share, (seed,))] if splits == 1 else by_parts(found, splits, (seed,))
    level = {Division.TIME: Level.RECURRING, Division.PROTOCOLS: Level.NEW_PROTOCOLS}[division]
    worlds = []
    for k, (train, test) in enumerate(divided):
        if len(train) < LEAST or not test:
            raise InputError(
                f"{len(found)} examinations are too few to divide by {division}",
                name,
                f"bring {2 * LEAST} or more",
            )
        kept = parts(train)
        own = f"{name}, {division} {k + 1} of {len(divided)}" if len(divided) > 1 else name
        tests = (TestSet(level, tuple(test)),)
        moved = _moved(train, test) if division is Division.TIME else ""
        worlds.append(World(own, line + moved, kept.learn, kept.calibrate, tests, seed + k, simulated))
    return worlds


def drift(earlier: Sequence[Examination], later: Sequence[Examination]) -> dict[str, float]:
    """Field -> share of later commands whose word for it is new; fields that are told in words, and moved, alone.

    What is calibrated on earlier examinations alerts on such a change, and has to.
    """
    early, late = commands_of(earlier), commands_of(later)
    names = sorted({n for c in (*early, *late) for n in (*c.parameters, *c.context.parts)})
    out = {}
    for name in names:
        if any(isinstance(c.value(name), str) for c in (*early, *late)):
            seen = Counter(c.text(name) for c in early)
            out[name] = sum(seen[c.text(name)] < NEW * len(early) for c in late) / max(len(late), 1)
    return {name: share for name, share in out.items() if share > 0}


def _moved(earlier: Sequence[Examination], later: Sequence[Examination]) -> str:
    shares = sorted(drift(earlier, later).items(), key=lambda one: -one[1])
    told = [f"{name} {100 * share:.0f} %" for name, share in shares if share >= TOLD]
    return f"; later commands with a word that hardly any earlier one had: {', '.join(told)}" if told else ""


def _refuse_mixed(found: Sequence[Examination], name: str) -> None:
    if not found:
        raise InputError("no clinical examination among the recordings", name, "bring others")
    roles = sorted({c.role.value for c in commands_of(found)})
    if len(roles) > 1:
        raise InputError(
            f"the recordings mix roles ({', '.join(roles)})",
            name,
            "bring commanded and performed values apart",
        )


def is_protocol_table(found: Sequence[Examination]) -> bool:
    """Whether these are programmed protocols rather than what was done: commanded, untimed, without patients,
    and most of them under a name of their own.
    """
    commands = commands_of(found)
    if any(c.acquired_at is not None or c.value("PatientAge") is not None for c in commands):
        return False
    names = {_protocol(e) for e in found}
    return all(c.role is Role.COMMANDED for c in commands) and 2 * len(names) > len(found)


def _protocol(examination: Examination) -> str:
    return examination.commands[0].text("ProtocolName") or examination.identifier


def by_time(found: Sequence[Examination], share: float) -> tuple[list[Examination], list[Examination]]:
    """The earliest ``share`` of the examinations, in order of time as ``clinical`` gives it, and the rest."""
    cut = int(share * len(found))
    return list(found[:cut]), list(found[cut:])


def by_protocol(
    found: Sequence[Examination], share: float, seed: tuple[int, ...]
) -> tuple[list[Examination], list[Examination]]:
    """Whole protocols drawn at random into what is learned from and what is tested; one name stays together.

    Protocols have no time. The last quarter of the examinations calibrates, so those learned from are given an order at
    random: calibration protocols then come from where test protocols come from.
    """
    groups = _mixed_up(found, seed)
    cut = int(share * len(groups))
    return _divided(groups[:cut], groups[cut:])


def by_parts(
    found: Sequence[Examination], parts: int, seed: tuple[int, ...]
) -> list[tuple[list[Examination], list[Examination]]]:
    """Whole protocols in so many parts at random, each of them tested once while the others teach.

    No examination is in two tests: intervals take the worlds of a set for different examinations.
    """
    groups = _mixed_up(found, seed)
    return [
        _divided([g for i, g in enumerate(groups) if i % parts != k], groups[k::parts]) for k in range(parts)
    ]


def _mixed_up(found: Sequence[Examination], seed: tuple[int, ...]) -> list[list[Examination]]:
    """The examinations of each protocol, protocols in random order."""
    groups: dict[str, list[Examination]] = {}
    for examination in found:
        groups.setdefault(_protocol(examination), []).append(examination)
    names = sorted(groups)
    return [groups[names[i]] for i in np.random.default_rng(seed).permutation(len(names))]


def _divided(
    train: Sequence[Sequence[Examination]], test: Sequence[Sequence[Examination]]
) -> tuple[list[Examination], list[Examination]]:
    learned = [e for group in train for e in group]
    return [_placed(e, i) for i, e in enumerate(learned)], [e for group in test for e in group]


def _placed(examination: Examination, place: int) -> Examination:
    """The examination moved to a place in the order; its commands keep theirs."""

    def moved(command: Command, i: int) -> Command:
        return replace(command, acquired_at=None, order=float(place * MOST_OF_ONE + min(i, MOST_OF_ONE - 1)))

    return replace(examination, commands=tuple(moved(c, i) for i, c in enumerate(examination.commands)))

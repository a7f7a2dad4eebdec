"""Who reads what, in which session, in which order. Pure: cases in, plan out; all chance comes from a `Chance`.

**Sessions.** A reader's women are dealt into as many groups as there are sessions, those with cancer and those without
each evenly. The ways of showing a woman (genuine and modified, in each arm) take the sessions in turn, each shifted by
another number: in the first way group g is read in session g, in the second in session g + 1, and so on round. So no
session shows a woman twice, every session has as many genuine as modified pictures and as many of each arm, and the
order of reading cannot favour one of them (the cross-over of FDA's guidance on MRMC studies, with rotation).

**Blocks.** Within a session the pictures come in blocks; each holds genuine and modified ones in the session's own
proportion, to within one picture, and is shuffled. Otherwise a reader who warms up or tires would read more of one
kind while doing so. The length of blocks is not shown to readers.

**Practice** comes from women whom the study does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from scanward.errors import InputError, SettingsError
from scanward.reading.chance import Chance
from scanward.reading.protocol import Design, Pathology, Reader, Session, Shown

GENUINE, MODIFIED = False, True


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One original that has a modified twin. ``name`` is its own; ``patient`` names the woman."""

    name: str
    patient: str
    pathology: Pathology


@dataclass(frozen=True, slots=True, order=True)
class View:
    """A picture to be made: a case, genuine or modified, in an arm."""

    case: Case
    modified: bool
    arm: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a study shows: ``study`` and ``practice`` have no woman in common."""

    study: tuple[View, ...]
    practice: tuple[View, ...]

    @property
    def patients(self) -> int:
        """Women whose pictures are analysed."""
        return len({view.case.patient for view in self.study})


def choose(design: Design, cases: Sequence[Case], secret: bytes) -> Chosen:
    """Sample women, half of them with cancer, and pictures of each; and other women for practice.

    With ``design.patients`` 0 all are taken that practice leaves, in whatever proportion they are there. Where only
    women with, or only women without cancer are there, all come from them.

    Raises
    ------
    InputError
        Fewer women than the design needs, said by pathology.
    """
    of = _of_patients(cases)
    women = _strata(of, secret)
    there = {pathology: len(names) for pathology, names in women.items()}
    wanted = _wanted(design.patients, women)
    practice: list[str] = []
    for _ in range(design.practice):
        spare = {pathology: len(names) - wanted[pathology] for pathology, names in women.items()}
        most = max(spare, key=lambda pathology: spare[pathology], default=None)
        if most is None or spare[most] <= 0:
            raise _too_few(design, there)
        practice.append(women[most].pop())
    if not any(women.values()) or any(len(names) < wanted[p] for p, names in women.items()):
        raise _too_few(design, there)
    chosen = {p: names[: wanted[p]] if design.patients else names for p, names in women.items()}
    modified = _halved(chosen, secret)
    study = [
        View(case, version, arm.name)
        for patient in sorted(name for names in chosen.values() for name in names)
        for case in _pictures(of[patient], design.per_patient, secret)
        for version in (GENUINE, MODIFIED)
        if design.pairing == "paired" or version is (patient in modified)
        for arm in design.arms
    ]
    return Chosen(study=tuple(study), practice=_practice(design, practice, of, secret))


def _strata(of: Mapping[str, Sequence[Case]], secret: bytes) -> dict[Pathology, list[str]]:
    """Women by the worst of their pictures, in random order; a pathology that nobody has is left out."""
    ill = {name for name, own in of.items() if any(case.pathology is Pathology.CANCER for case in own)}
    women = {
        pathology: Chance(secret, "women", pathology).shuffled(sorted(names))
        for pathology, names in ((Pathology.CANCER, ill), (Pathology.NO_CANCER, set(of) - ill))
    }
    return {pathology: names for pathology, names in women.items() if names}


def _wanted(patients: int, women: Mapping[Pathology, Sequence[str]]) -> dict[Pathology, int]:
    if len(women) < 2:
        return dict.fromkeys(women, patients)
    return {Pathology.CANCER: patients // 2, Pathology.NO_CANCER: patients - patients // 2}


def _pictures(own: Sequence[Case], count: int, secret: bytes) -> list[Case]:
    """So many pictures of one woman, those with cancer first: she was chosen for them."""
    order = Chance(secret, "pictures", own[0].patient).shuffled(own)
    return sorted(sorted(order, key=lambda case: case.pathology is not Pathology.CANCER)[:count])


def _halved(women: Mapping[Pathology, Sequence[str]], secret: bytes) -> set[str]:
    """Unpaired: the women who are shown modified, half of those with cancer and half of those without."""
    start = Chance(secret, "halves").below(2)
    in_turn = [name for names in women.values() for name in names]  # each stratum is in random order
    return {name for place, name in enumerate(in_turn) if (place + start) % 2}


def _too_few(design: Design, there: Mapping[Pathology, int]) -> InputError:
    asked = f"{design.patients} for the study" if design.patients else "at least one for the study"
    if design.patients and len(there) == 2:
        asked += f", half of them ({design.patients // 2}) with cancer"
    found = " and ".join(f"{count} with {pathology}" for pathology, count in there.items()) or "none"
    return InputError(
        f"too few women: the design needs {asked}, and {design.practice} others for practice",
        f"women with an original and its modified twin: {found}",
        "bring more pictures, or lower patients or practice in the design",
    )


def _of_patients(cases: Sequence[Case]) -> dict[str, list[Case]]:
    ordered = sorted(cases, key=lambda case: (case.patient, case.name))
    return {patient: list(own) for patient, own in groupby(ordered, key=lambda case: case.patient)}


def _practice(
    design: Design, women: Sequence[str], of: Mapping[str, Sequence[Case]], secret: bytes
) -> tuple[View, ...]:
    """One picture of each woman; as many genuine as modified, and the arms in turn."""
    versions = Chance(secret, "practice").shuffled([bool(number % 2) for number in range(len(women))])
    return tuple(
        View(_pictures(of[name], 1, secret)[0], version, design.arms[number % len(design.arms)].name)
        for number, (name, version) in enumerate(zip(women, versions, strict=True))
    )


# --- readers


def plan(
    design: Design, chosen: Chosen, identifiers: Mapping[View, str], secret: bytes
) -> tuple[Reader, ...]:
    """Sessions of every reader. ``identifiers`` are those of the pictures.

    Raises
    ------
    SettingsError
        A session too small for one woman's pictures, or too small to begin with.
    """
    number = sessions_needed(design, chosen.study)
    readers = []
    for index in range(design.readers):
        name = reader_name(index)
        chance = Chance(secret, "reader", name)
        sittings = _dealt(design, chosen.study, number, chance)
        orders = [
            chance.shuffled(chosen.practice),
            *(in_blocks(views, design.sessions.block, chance) for views in sittings),
        ]
        sessions = [
            Session(
                number=session,
                cases=tuple(Shown(token=chance.token(), picture=identifiers[view]) for view in order),
            )
            for session, order in enumerate(orders)
            if order
        ]
        readers.append(Reader(name=name, sessions=tuple(sessions)))
    return tuple(readers)


def reader_name(index: int) -> str:
    """R01, R02, ..."""
    return f"R{index + 1:02d}"


def sessions_needed(design: Design, views: Sequence[View]) -> int:
    """Sessions of each reader: as few as the design's session takes, and enough to show no woman twice in one.

    Raises
    ------
    SettingsError
        No number of sessions is enough.
    """
    women = _women(views)
    ways = max(len(_ways(own)) for own in women.values())
    pictures = sorted((len({view.case.name for view in own}) for own in women.values()), reverse=True)
    capacity = design.sessions.cases

    def largest(number: int) -> int:
        """Pictures of the largest session that `_dealt` can make, whatever chance does; falls as number grows."""
        return ways * sum(pictures[::number])

    low, high = ways, max(ways, len(women))
    if largest(high) > capacity:
        raise SettingsError(
            f"a session of {capacity} pictures is too small: a woman is shown in {ways} ways, each in a "
            f"session of its own, and each session must show as many of each, {largest(high)} pictures at least",
            "sessions.cases",
            f"give at least {largest(high)}, or fewer arms or pictures of a woman",
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if largest(middle) <= capacity else (middle + 1, high)
    return low


Way = tuple[bool, str]


def _women(views: Sequence[View]) -> dict[str, list[View]]:
    found: dict[str, list[View]] = {}
    for view in views:
        found.setdefault(view.case.patient, []).append(view)
    return found


def _ways(views: Sequence[View]) -> dict[Way, list[View]]:
    found: dict[Way, list[View]] = {}
    for view in views:
        found.setdefault((view.modified, view.arm), []).append(view)
    return found


def _kind(own: Sequence[View]) -> tuple[bool, bool, int]:
    """Women of one kind are dealt evenly: with cancer or without, (unpaired) modified or not, how many pictures."""
    return (
        any(view.case.pathology is Pathology.CANCER for view in own),
        all(view.modified for view in own),
        len({view.case.name for view in own}),
    )


UNEVEN = 3  # women by which the two halves of a group may differ; fewer would be an equation for who compares twins


def _dealt(design: Design, views: Sequence[View], number: int, chance: Chance) -> list[list[View]]:
    """Views of every session, unordered."""
    women = _women(views)
    arms = [arm.name for arm in design.arms]
    turns = chance.shuffled(range(number))
    kinds: dict[tuple[bool, bool, int], list[str]] = {}
    for name in sorted(women):
        kinds.setdefault(_kind(women[name]), []).append(name)
    # those with most pictures first, so that a group is ahead by no more than one woman's
    dealt = [
        name
        for kind in sorted(kinds, key=lambda kind: (-kind[2], kind[:2]))
        for name in chance.shuffled(kinds[kind])
    ]
    paired = design.pairing == "paired"
    ways: list[Way] = [(v, arm) for v in ((GENUINE, MODIFIED) if paired else (GENUINE,)) for arm in arms]
    shift = dict(zip(ways, chance.shuffled(range(number)), strict=False))
    turned = _turned([dealt[group::number] for group in range(number)], arms, chance)
    sessions: list[list[View]] = [[] for _ in range(number)]
    for place, name in enumerate(dealt):
        for (version, arm), own in _ways(women[name]).items():
            way = (version != ((name, arm) in turned) and paired, arm)
            sessions[turns[(place + shift[way]) % number]] += own
    return sessions


def _turned(groups: Sequence[Sequence[str]], arms: Sequence[str], chance: Chance) -> set[tuple[str, str]]:
    """Women whose modified picture of an arm takes the place of the genuine one in the rotation: about half of a group.

    Who sees a woman's arms in their order knows her group. If all of a group were modified at the same time, one answer
    would tell the others.
    """
    found: set[tuple[str, str]] = set()
    for own in groups:
        for arm in arms:
            while abs(2 * (heads := sum(chance.below(2) for _ in own)) - len(own)) > UNEVEN:
                pass
            found.update((name, arm) for name in chance.shuffled(own)[:heads])
    return found


def in_blocks(views: Sequence[View], block: int, chance: Chance) -> list[View]:
    """One session's pictures in order: blocks of about the session's share of modified pictures, shuffled within.

    About, and not exactly: blocks of exactly one half are equations, and two readers who compare their twins could
    solve them. Each block's number falls as coins would, and is drawn again beyond a fifth of the block (`_counts`), so
    that tiring still hits both kinds alike. Arms are spread evenly over the pictures of each kind.
    """
    queues = {
        version: _spread([view for view in views if view.modified is version], chance)
        for version in (GENUINE, MODIFIED)
    }
    ordered: list[View] = []
    taken = {GENUINE: 0, MODIFIED: 0}
    for size, modified in _counts(len(views), len(queues[MODIFIED]), block, chance):
        one: list[View] = []
        for version, count in ((GENUINE, size - modified), (MODIFIED, modified)):
            one += queues[version][taken[version] : taken[version] + count]
            taken[version] += count
        ordered += chance.shuffled(one)
    return ordered


def slack(size: int) -> int:
    """How far a block of ``size`` pictures may be off the session's share: a fifth of it, and at least one."""
    return max(1, size // 5)


def _counts(total: int, modified: int, block: int, chance: Chance) -> list[tuple[int, int]]:
    """Size and number of modified pictures of each block; the latter add up to ``modified``."""
    sizes = [min(block, total - start) for start in range(0, total, block)]
    bounds, counts = [], []
    for size in sizes:
        # whole numbers within the slack of size * modified / total
        low = max(0, -(-(size * modified - slack(size) * total) // total))
        high = min(size, (size * modified + slack(size) * total) // total)
        while not low <= (heads := sum(chance.below(total) < modified for _ in range(size))) <= high:
            pass
        bounds.append((low, high))
        counts.append(heads)
    while (off := sum(counts) - modified) != 0:
        step = -1 if off > 0 else 1
        free = [i for i, (low, high) in enumerate(bounds) if low <= counts[i] + step <= high]
        counts[free[chance.below(len(free))]] += step
    return list(zip(sizes, counts, strict=True))


def _spread(views: Sequence[View], chance: Chance) -> list[View]:
    """In random order, but with the arms evenly mixed."""
    placed: list[tuple[float, int, View]] = []
    for arm in sorted({view.arm for view in views}):
        own = chance.shuffled([view for view in views if view.arm == arm])
        start = chance.below(1 << 20) / (1 << 20)
        placed += [((i + start) / len(own), chance.below(1 << 32), view) for i, view in enumerate(own)]
    return [view for _, _, view in sorted(placed)]

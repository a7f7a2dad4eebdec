"""What is to be measured, written down before it is: a plan, its hash, and the two sizes there are.

A plan fixes everything that a figure depends on save the methods: sites, levels, numbers of examinations and cases,
attacks, budgets, seeds, the recordings by the hash of their contents, and the version of Scanward. A folder that was
begun with one plan is never gone on with under another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scanward import __version__
from scanward.config import BENCHMARK_BOUNDS
from scanward.errors import InputError, SettingsError
from scanward.learning.benchmark.worlds import Level
from scanward.simulation import ATTACKS
from scanward.simulation.constants import AEC_SPREAD, MODELS

FORMAT = "scanward-benchmark-plan-1"
BUDGETS = (0.005, 0.001)  # shares of clean examinations that may alert; the first is the primary one
# Recordings may be too few for 0.5 %: each set has the smallest of these that its calibration examinations can express.
RECORDED_BUDGETS = (BUDGETS[0], 0.01, 0.02, 0.05, 0.10)
DEVELOPMENT_SITES = (11, 12, 13)  # seeds that Scanward is developed on
FINAL_SITES = (104, 105, 106)  # locked: opened once a release, each opening logged
SPREADS = (0.05, 0.12, 0.20)  # of AEC: devices that follow the patient closely, as usual, loosely
NULL = "null"  # family of the attack that changes nothing
# Half of the development families, every second one as the catalogue has them, for methods that learn from attacks:
# what they make of a family that nobody showed them is then measured on the other half.
FAMILIES = tuple(dict.fromkeys(a.family for a in ATTACKS.values() if a.family != NULL))
SHOWN = tuple(a.name for a in ATTACKS.values() if a.family in FAMILIES[::2])
# The baseline of the primary comparison, named before anything is measured: the best one on the development sites. On
# sites 11, 12, 13 (learned from 10,000 examinations, recurring protocols) it detects 0.55, 0.53, 0.52; the next best
# ones are the same without order, 0.53, 0.49, 0.46, and boosted trees in order, 0.43, 0.44, 0.48. Of the 149 baselines
# that there were then, all were measured on site 11; none but these shown spoilt commands came beyond 0.31.
AGAINST = "MLP, shown spoilt commands, in order"
# Dose factors of the curves, even in their logarithm.
MORE = (1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.4, 2.8, 3.4, 4.0, 5.6, 8.0)
LESS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Size:
    """One of the two sizes, for a site."""

    about: str
    sites: int
    spreads: tuple[float, ...]  # of every site
    beside: tuple[float, ...]  # further ones, of the first site alone
    vendors: int
    learn: int
    recurring: int
    others: int
    levels: tuple[Level, ...]
    cases: int
    null: int
    on_curve: int
    more: tuple[float, ...]
    less: tuple[float, ...]
    methods: tuple[str, ...] = ()  # names; empty: all there are


# The eight methods of the small size: each kind once, and what is best known of the unsupervised ones.
SMALL_METHODS = (
    "Scanward",
    "oracle",
    "kNN",
    "IsolationForest",
    "LOF",
    "Hotelling T2",
    AGAINST,
    "context-free, then LightGBM (either objects)",
)
SIZES = {
    "small": Size(
        about="one vendor, two levels, eight methods: a quarter of an hour on two cores",
        sites=1,
        spreads=(AEC_SPREAD,),
        beside=(),
        vendors=1,
        learn=1_600,
        recurring=800,
        others=500,
        levels=(Level.RECURRING, Level.NEW_PROTOCOLS),
        cases=60,
        null=300,
        on_curve=40,
        more=(1.2, 1.5, 2.0, 2.8, 4.0),
        less=(0.7, 0.5, 0.3),
        methods=SMALL_METHODS,
    ),
    "full": Size(
        about="three vendors, all levels, all methods: a night",
        sites=3,
        spreads=(AEC_SPREAD,),
        beside=tuple(s for s in SPREADS if s != AEC_SPREAD),
        vendors=len(MODELS),
        learn=10_000,  # a quarter of them calibrates: 2,500 examinations, beyond the 999 that 0.1 % asks for
        recurring=12_500,  # some 32,000 commands, since 0.1 % is to be seen
        others=2_500,
        levels=tuple(Level),
        cases=200,
        null=1_500,
        on_curve=100,
        more=MORE,
        less=LESS,
    ),
}


@dataclass(frozen=True)
class Simulated:
    """A simulated world, as ``simulated_world`` takes it."""

    seed: int
    spread: float
    vendors: int
    learn: int
    recurring: int
    others: int
    levels: tuple[str, ...]
    first: int = 50


@dataclass(frozen=True)
class Recorded:
    """Recordings, named and told apart by what they hold; where they lie is no part of a plan.

    ``kind`` is "files" or "idc" (a collection of Imaging Data Commons, with at most so many series and megabytes).
    """

    name: str
    sha256: str
    dialect_sha256: str = ""
    kind: str = "files"
    series: int = 0
    megabytes: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Everything that figures depend on, save which methods are measured.

    Attributes
    ----------
    size : what it was made from, for the report
    final : whether locked sites and held-out attacks are opened
    seed : of learning, of cases and of the bootstrap
    cases, null, on_curve : attacked examinations of each attack, of the null attack, of each dose factor, for a test
    shown : attacks that attack-trained methods see
    against : the baseline of the primary comparison
    known, held_out : names of the attacks, so that another catalogue makes another plan
    """

    size: str
    final: bool
    seed: int
    simulated: tuple[Simulated, ...]
    recorded: tuple[Recorded, ...]
    cases: int
    null: int
    on_curve: int
    more: tuple[float, ...]
    less: tuple[float, ...]
    known: tuple[str, ...]
    held_out: tuple[str, ...]
    shown: tuple[str, ...] = SHOWN
    against: str = AGAINST
    budgets: tuple[float, ...] = BUDGETS
    version: str = field(default=__version__)

    def as_json(self) -> dict[str, Any]:
        """JSON values alone."""
        told: dict[str, Any] = json.loads(canonical({"format": FORMAT, **asdict(self)}))
        return told

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return hashlib.sha256(canonical(self.as_json()).encode()).hexdigest()

    @property
    def worlds(self) -> tuple[Simulated | Recorded, ...]:
        """Simulated ones first; a recorded one may be divided into several worlds."""
        return (*self.simulated, *self.recorded)


def canonical(told: Any) -> str:
    """JSON with sorted keys and no spare blank: one text for one value."""
    return json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)


def slug(name: str) -> str:
    """A name as part of a path: what can be read of it, and a hash so that no two names meet.

    >>> slug("Scanward, adapted")
    'scanward-adapted-d1fcd8'
    """
    readable = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[: BENCHMARK_BOUNDS.slug_chars]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{readable}-{digest}" if readable else digest


def make(
    size: str = "small",
    *,
    final: bool = False,
    seed: int = 0,
    sites: int | None = None,
    spreads: Sequence[float] = (),
    recorded: Sequence[Recorded] = (),
    simulated: bool = True,
) -> Plan:
    """The plan of a size, changed as options say.

    Parameters
    ----------
    sites : simulated sites, from the first development (or final) one on; None: as the size has it
    spreads : of AEC, each at every site; empty: as the size has it
    recorded : data sets measured beside the simulated sites
    simulated : False leaves the simulated sites out

    Raises
    ------
    SettingsError
        For a size that is not there, too many sites, spreads that make no sense, or nothing to measure.
    """
    if size not in SIZES:
        raise SettingsError(f"no size '{size}'", "--size", f"give one of {', '.join(SIZES)}")
    chosen = SIZES[size]
    seeds = FINAL_SITES if final else DEVELOPMENT_SITES
    count = (chosen.sites if sites is None else sites) if simulated else 0
    if simulated and not 1 <= count <= len(seeds):
        raise SettingsError(f"{count} sites", "--sites", f"give 1 to {len(seeds)}")
    wanted = tuple(dict.fromkeys(spreads)) or chosen.spreads
    beside = () if spreads else chosen.beside
    if any(not 0 < s < 1 for s in wanted) or len(wanted) > BENCHMARK_BOUNDS.spreads:
        raise SettingsError(
            "spreads make no sense", "--spread", f"give at most {BENCHMARK_BOUNDS.spreads} numbers in (0, 1)"
        )
    if not 0 <= seed <= BENCHMARK_BOUNDS.seed:
        raise SettingsError(f"seed {seed}", "--seed", f"give 0 to {BENCHMARK_BOUNDS.seed}")
    names = [r.name for r in recorded]
    if len(set(names)) < len(names):
        raise SettingsError("two data sets of one name", "--recordings", "rename a file or its dialect")
    if not count and not recorded:
        raise SettingsError(
            "nothing to measure", "--recordings", "give recordings, or let sites be simulated"
        )
    return Plan(
        size=size,
        final=final,
        seed=seed,
        simulated=(
            *(_simulated(chosen, s, spread) for spread in wanted for s in seeds[:count]),
            *(_simulated(chosen, s, spread) for spread in beside for s in seeds[: min(count, 1)]),
        ),
        recorded=tuple(recorded),
        cases=chosen.cases,
        null=chosen.null,
        on_curve=chosen.on_curve,
        more=chosen.more,
        less=chosen.less,
        known=tuple(ATTACKS),
        held_out=tuple(_held_out()) if final else (),
    )


def _simulated(size: Size, seed: int, spread: float) -> Simulated:
    return Simulated(
        seed,
        spread,
        size.vendors,
        size.learn,
        size.recurring,
        size.others,
        tuple(level.value for level in size.levels),
    )


def _held_out() -> Sequence[str]:
    from scanward.simulation.held_out import HELD_OUT

    return tuple(HELD_OUT)


def smaller(plan: Plan, **sizes: Any) -> Plan:
    """The same plan with other numbers in every simulated world and of cases (for tests and first looks)."""
    worlds = {k: v for k, v in sizes.items() if k in Simulated.__dataclass_fields__}
    own = {k: v for k, v in sizes.items() if k not in worlds}
    return replace(plan, simulated=tuple(replace(w, **worlds) for w in plan.simulated), **own)


def text_digest(text: str) -> str:
    """Hash of a text, for what has no files (the name of a collection)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(paths: Sequence[Path]) -> str:
    """Hash of the contents of files and folders; names within a folder count, where it lies does not.

    Raises
    ------
    InputError
        For a path that cannot be read, or more than the bounds let through.
    """
    whole = hashlib.sha256()
    found = 0
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            found += 1
            if found > BENCHMARK_BOUNDS.files:
                raise InputError(
                    f"more than {BENCHMARK_BOUNDS.files} files", str(path), "give the recordings in parts"
                )
            name = file.relative_to(path).as_posix() if path.is_dir() else ""
            try:
                with file.open("rb") as stream:
                    inner = hashlib.file_digest(stream, "sha256").digest()
            except OSError as error:
                raise InputError(
                    f"cannot be read ({error.strerror})", str(file), "check the path and who may read it"
                ) from error
            whole.update(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() + inner)
    return whole.hexdigest()

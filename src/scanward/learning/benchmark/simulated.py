"""Simulated worlds: one site learned from, tested as it goes on, and with what it has not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scanward.commands import Examination
from scanward.errors import SettingsError
from scanward.learning.benchmark.worlds import Level, TestSet, World, commands_of
from scanward.learning.evaluate import parts
from scanward.simulation import Donors, Site
from scanward.simulation.constants import AEC_SPREAD, MODELS
from scanward.simulation.levels import (
    learned_site,
    new_model_site,
    new_protocols_site,
    other_site,
    updated_site,
)

SITES = {
    Level.RECURRING: learned_site,
    Level.NEW_PROTOCOLS: new_protocols_site,
    Level.NEW_MODEL: new_model_site,
    Level.SOFTWARE_UPDATE: updated_site,
    Level.OTHER_SITE: other_site,
}
# An examination of the same number has the same patient at every level, so each level has numbers of its own, all
# of them later than what was learned from.
BLOCK = 100_000
DONORS_FROM = (
    2_000_000  # what an attacker knows of a site: numbers that nobody learns from, calibrates on or tests
)
DONORS = 1_500  # examinations; the fifth of a month's work of a site


@dataclass(frozen=True)
class Sizes:
    """How many examinations a world has.

    Attributes
    ----------
    learn : learned from and calibrated on together; the last quarter calibrates, as in ``fit``
    recurring : of the test of later examinations; an examination has some 2.6 commands
    others : of each other test
    first : commands, at least, of the examinations that adapting methods see before such a test
    """

    learn: int = 10_000
    recurring: int = 12_500
    others: int = 4_000
    first: int = 50

    def __post_init__(self) -> None:
        if min(self.learn, self.recurring, self.others) < 1 or self.first < 0:
            raise SettingsError("a world without examinations", "sizes", "give at least one of each")
        if max(self.learn, self.recurring, self.others) > BLOCK // 2:
            raise SettingsError(
                f"more than {BLOCK // 2} examinations",
                "sizes",
                "give fewer: parts of a world must not overlap",
            )


def simulated_world(
    seed: int,
    spread: float = AEC_SPREAD,
    sizes: Sizes | None = None,
    levels: Sequence[Level] = tuple(Level),
    vendors: int = len(MODELS),
) -> World:
    """A simulated site, its clean examinations and the tests of the levels wanted.

    Every part depends on (seed, spread, vendors) and its own size alone: leaving a level out changes no other.

    Parameters
    ----------
    seed : site and everything drawn later in this world
    spread : standard deviation of log mA that automatic exposure control leaves unexplained, in (0, 1)
    vendors : number of makers, 1 to 3

    Raises
    ------
    SettingsError
        For a spread, number of vendors or sizes that make no sense, or no level at all.
    """
    sizes = sizes or Sizes()
    if not levels:
        raise SettingsError("no level is wanted", "benchmark", f"give some of: {', '.join(Level)}")
    divided = parts(learned_site(seed, spread, vendors).examinations(sizes.learn))
    tests = tuple(_test(level, seed, spread, sizes, vendors) for level in Level if level in levels)
    makers = f"{vendors} vendor{'s' * (vendors > 1)}"
    return World(
        name=f"site {seed}, spread {spread:g}, {makers}",
        about=f"SIMULATED site of seed {seed} with {makers}; AEC leaves {spread:g} of log mA unexplained",
        learn=divided.learn,
        calibrate=divided.calibrate,
        tests=tests,
        seed=seed,
    )


def _test(level: Level, seed: int, spread: float, sizes: Sizes, vendors: int) -> TestSet:
    site = SITES[level](seed, spread, vendors)
    start = (1 + list(Level).index(level)) * BLOCK
    if level is Level.RECURRING:
        return TestSet(level, tuple(site.examinations(sizes.recurring, start)), (), site)
    first = _first(site, sizes.first, start)
    return TestSet(level, tuple(site.examinations(sizes.others, start + len(first))), first, site)


def _first(site: Site, commands: int, start: int) -> tuple[Examination, ...]:
    """The first examinations with at least so many commands together."""
    out: list[Examination] = []
    while len(commands_of(out)) < commands:
        out.append(site.examination(start + len(out)))
    return tuple(out)


def donors_of(world: World, test: TestSet, count: int = DONORS) -> Donors:
    """What the attacker of a test set knows: clean commands of the very devices that it attacks.

    Of recordings, and where a site just goes on, it is what was recorded. The commands of new scanners or
    of updated ones are drawn apart from their site, as many as ``count`` examinations, seen by nobody else; with new
    protocols the attacker knows the recorded ones of the same devices as well.
    """
    if test.site is None or test.level is Level.RECURRING:
        return Donors(world.recorded)
    drawn = test.site.examinations(count, DONORS_FROM)
    return Donors([*world.recorded, *drawn] if test.level is Level.NEW_PROTOCOLS else drawn)


def patients(examinations: Sequence[Examination]) -> dict[str, float]:
    """Shares of examinations by patient: ``children`` (under 18 years), ``adults``, ``unknown`` age."""
    counts = Counter(_kind(e) for e in examinations)
    return {kind: counts[kind] / max(len(examinations), 1) for kind in ("children", "adults", "unknown")}


def _kind(examination: Examination) -> str:
    age = next((a for c in examination.commands if (a := c.number("PatientAge")) is not None), None)
    return "unknown" if age is None else "children" if age < 18 else "adults"

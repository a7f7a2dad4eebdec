"""Methods compared where no threshold holds: at new protocols, on new models, after updates.

A threshold set on what was recorded promises nothing there. A method that alerts on every command then detects every
attack, and a comparison at everybody's own threshold would call it the best. So at these levels the threshold of each
method is found on the clean test examinations themselves, where the same share of them alerts: what is compared is
how well methods put attacked commands above clean ones, which no site could use as it stands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scanward.learning.benchmark.adapting import copies, facts_of, together
from scanward.learning.benchmark.answers import Attacked, Bools, Floats, Learned, Method, Tick, Told
from scanward.learning.benchmark.worlds import Level, World

ENDPOINT = "mean detection where {budget:g} % of the clean test examinations alert (threshold found on the test itself)"
# Of the primary comparison once more: objections of rules stand outside of a calibrated budget, but not of this one.
INSIDE = "mean detection where {budget:g} % of the clean test examinations alert, rules included (found on the test)"


def matched(told: Told) -> Told:
    """The same answers as ranks, what a rule objects to on top, calibrated on the clean test examinations."""
    names = list(told.attacks)
    scores = np.concatenate([told.clean_scores, *(told.attacks[n].scores for n in names)])
    objects = np.concatenate([told.clean_objects, *(told.attacks[n].objects for n in names)])
    ranks = ranked(scores, objects)
    clean, at = ranks[: len(told.clean_scores)], len(told.clean_scores)
    attacks: dict[str, Attacked] = {}
    for name in names:
        one = told.attacks[name]
        attacks[name] = Attacked(
            ranks[at : at + len(one.units)], np.zeros(len(one.units), np.bool_), one.units
        )
        at += len(one.units)
    largest = np.full(told.units, -1.0)
    np.maximum.at(largest, told.clean_units, clean)
    return replace(
        told,
        calibrate=largest[largest >= 0],
        clean_scores=clean,
        clean_objects=np.zeros(len(clean), np.bool_),
        attacks=attacks,
    )


def ranked(scores: Floats, objects: Bools) -> Floats:
    """Rank of each answer, equal ones alike: first whether a rule objects, then the score; 0 is the least strange."""
    order = np.lexsort((scores, objects))
    new = np.empty(len(order), np.bool_)
    if len(order):
        new[0] = False
        a, b = order[:-1], order[1:]
        new[1:] = (scores[a] != scores[b]) | (objects[a] != objects[b])
    out = np.empty(len(order))
    out[order] = np.cumsum(new)
    return out


def exchangeable(level: Level) -> bool:
    """Whether calibration holds: the test is more of what was calibrated on."""
    return level is Level.RECURRING


def adapted(method: Method) -> Method:
    """A baseline that learns again with the first examinations of what is new, which count as often as for Scanward.

    Names it "NAME, adapted". What it is calibrated on stays.
    """

    def learn(world: World, seed: int, tick: Tick) -> Learned:
        (test,) = world.tests
        times = copies(world, test)
        found = method.learn(replace(world, learn=together(world, test, times)), seed, tick)
        return replace(found, facts={**found.facts, **facts_of(test, times)})

    return replace(
        method,
        name=f"{method.name}, adapted",
        learn=learn,
        about=f"{method.about}; learned again with the first examinations of what is new",
        per_test=True,
        needs_first=True,
        group="",
    )

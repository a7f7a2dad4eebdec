"""Spoilt commands: each kind changes what it says, nothing else, and is drawn from the site's own recordings."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from scanward.commands import Examination
from scanward.learning import corruptions
from scanward.learning.corruptions import SPOILERS, WEIGHTS, Spoilt, Workshop, spoil
from scanward.simulation import Site


@pytest.fixture(scope="module")
def site() -> list[Examination]:
    return Site(5).examinations(300)


@pytest.fixture(scope="module")
def workshop(site: list[Examination]) -> Workshop:
    return Workshop(site)


def drawn(
    workshop: Workshop, site: list[Examination], kind: str, seed: int = 3
) -> list[tuple[Examination, Spoilt]]:
    rng = np.random.default_rng(seed)
    out = []
    for examination in site:
        spoilt = spoil(workshop, examination, int(rng.integers(len(examination.commands))), kind, rng)
        if spoilt is not None:
            out.append((examination, spoilt))
    return out


@pytest.mark.parametrize("kind", list(SPOILERS))
def test_each_kind_applies_often_and_changes_the_command_it_names(
    workshop: Workshop, site: list[Examination], kind: str
) -> None:
    cases = drawn(workshop, site, kind)
    assert len(cases) > 0.3 * len(site)
    for clean, spoilt in cases:
        assert spoilt.kind == kind
        command = spoilt.examination.commands[spoilt.index]
        if kind == "again":
            assert len(spoilt.examination.commands) > len(clean.commands)
            assert any(command.parameters == c.parameters for c in clean.commands)
        else:
            assert len(spoilt.examination.commands) == len(clean.commands)
            old = clean.commands[spoilt.index]
            assert (command.parameters, command.context) != (old.parameters, old.context)


@pytest.mark.parametrize("kind", [k for k in SPOILERS if k not in ("again", "patient")])
def test_the_other_commands_stay_as_they_were(workshop: Workshop, site: list[Examination], kind: str) -> None:
    for clean, spoilt in drawn(workshop, site, kind):
        for i, (old, new) in enumerate(zip(clean.commands, spoilt.examination.commands, strict=True)):
            assert i == spoilt.index or new is old


def test_the_clean_examination_is_never_touched(workshop: Workshop) -> None:
    site = Site(5).examinations(60)
    before = [[(dict(c.parameters), c.context) for c in e.commands] for e in site]
    for kind in SPOILERS:
        drawn(workshop, site, kind)
    assert before == [[(dict(c.parameters), c.context) for c in e.commands] for e in site]


def test_the_same_seed_spoils_the_same_way(workshop: Workshop, site: list[Examination]) -> None:
    for kind in SPOILERS:
        assert drawn(workshop, site, kind, 9) == drawn(workshop, site, kind, 9)


def test_a_scaled_dose_keeps_its_figures_together(workshop: Workshop, site: list[Examination]) -> None:
    for clean, spoilt in drawn(workshop, site, "dose"):
        old, new = clean.commands[spoilt.index], spoilt.examination.commands[spoilt.index]
        current = (new.number("XRayTubeCurrentInmA") or 0) / (old.number("XRayTubeCurrentInmA") or 1)
        dose, before = new.number("CTDIvol"), old.number("CTDIvol")
        if before and before > 1 and dose:
            # Each figure is rounded as it was: 5 mA of 40, 0.01 mGy of 1.
            assert dose / before == pytest.approx(current, rel=0.15)


def test_the_learner_knows_nothing_of_the_simulator() -> None:
    tree = ast.parse(Path(corruptions.__file__).read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any("simulation" in name for name in names)


def test_every_kind_has_a_weight() -> None:
    assert set(WEIGHTS) == set(SPOILERS)

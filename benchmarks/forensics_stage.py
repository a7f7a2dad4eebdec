"""What the benchmark of forged pictures plays on: women in parts that share nobody, and generators of four makings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Say
from scanward.forensics.evaluation_attack import Ground
from scanward.forensics.families import GENUINE, Sample
from scanward.mammography.importing import import_dataset
from scanward.mammography.kinds import find as find_kind
from scanward.mammography.manifest import MANIFEST, read_manifest
from scanward.mammography.phantom_sets import write_phantoms
from scanward.mammography.splits import split_by_patient, worst_label
from scanward.tampering.batches import put_inside
from scanward.tampering.checkpoints import Run, load_run
from scanward.tampering.prepared import Selection
from scanward.tampering.presets import Preset, change, find
from scanward.tampering.running import Settings, train

# Women of two seeds have nothing in common. These are for published figures; development used others.
SEEDS = {"known": 811, "resolution": 812, "training set": 813, "learn": 821, "validate": 822, "test": 823}
FILM_PARTS = {"generator": 0.4, "classifier": 0.25, "test": 0.35}
FILM_SEED = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Parts (learn, validate, test, forged): a data set and its women; and the generators."""

    kind: str
    data: dict[str, Path]
    women: dict[str, frozenset[str]]
    runs: dict[str, Run]
    told: str
    size: tuple[int, int] | None
    false_alarms: float
    variants: dict[str, Path] = field(default_factory=dict)  # other files of the same women


def phantom_stage(arguments: argparse.Namespace, say: Say) -> Stage:
    """Draw the women, train the generators; what is there already is used."""
    size = arguments.size
    counts = {"learn": arguments.learn, "validate": arguments.validate, "test": arguments.women}
    data = {part: _phantoms(arguments.folder, SEEDS[part], size, women) for part, women in counts.items()}
    women = {part: frozenset(read_manifest(path).patients()) for part, path in data.items()}
    data["forged"] = data["test"]
    women["forged"] = frozenset(sorted(women["test"])[: arguments.forged])
    if arguments.runs:
        given = {
            name: load_run(Path(path)) for name, _, path in (one.partition("=") for one in arguments.runs)
        }
        return Stage(
            "Phantoms", data, women, given, "; ".join(_said(*one) for one in given.items()), None, 0.01
        )
    steps = arguments.steps
    half = {"rows": str(size // 2), "columns": str(size // 2)}
    whole = {"rows": str(size), "columns": str(size)}
    made: dict[str, tuple[str, dict[str, str], int]] = {
        "known": ("scanward-64", whole, steps),
        "architecture": ("reference-64", whole, 2 * steps),
        "resolution": ("scanward-64", half, steps),
        "training set": ("scanward-64", whole, max(steps // 2, 1)),
    }
    runs, told = {}, []
    for name, (preset_name, sides, wanted) in made.items():
        seed = SEEDS.get(name, SEEDS["known"])
        preset = change(find(preset_name), sides | {"optimiser.steps": str(wanted), "optimiser.epochs": "0"})
        folder = arguments.folder / f"{name.replace(' ', '-')}-{preset_name}-{preset.rows}px-{wanted}"
        ground = _phantoms(arguments.folder, seed, size, arguments.generator_women)
        runs[name.replace(" ", "-")] = _trained(ground, preset, folder, seed, None, None, say)
        told.append(_said(name, runs[name.replace(" ", "-")]))
    return Stage("Phantoms", data, women, runs, "; ".join(told), None, 0.01)


def mias_stage(arguments: argparse.Namespace, say: Say) -> Stage:
    """Import and split the films by woman; one generator, on women of no test."""
    data = _imported(arguments.mias, arguments.folder / "mias-png", say)
    variants = {}
    if arguments.variant:
        name = arguments.variant.name
        variants[name] = _imported(arguments.variant, arguments.folder / name, say)
    manifest = read_manifest(data)
    split = split_by_patient(manifest, FILM_PARTS, FILM_SEED)
    preset = change(find("scanward-128"), {"optimiser.steps": str(arguments.steps), "optimiser.epochs": "0"})
    folder = arguments.folder / f"known-scanward-128-{arguments.steps}"
    given = dict(one.split("=", 1) for one in arguments.runs)
    if "known" in given:  # of women of no other part, or the test refuses them
        run = load_run(Path(given["known"]))
    else:
        run = _trained(data, preset, folder, 0, Selection(part="generator"), split, say)
    # every other woman whom no generator learned from, of every label alike, for thresholds
    patients = manifest.patients()
    others = sorted(split.parts["classifier"], key=lambda who: (worst_label(patients[who]), who))
    validate = others[::2]
    learn = (*split.parts["generator"], *others)
    women = {
        "learn": frozenset(learn) - frozenset(validate),
        "validate": frozenset(validate),
        "test": frozenset(split.parts["test"]),
        "forged": frozenset(split.parts["test"]),
    }
    side = (arguments.side, arguments.side)
    told = _said("known", run)
    films = "Films (mini-MIAS)"
    return Stage(films, dict.fromkeys(women, data), women, {"known": run}, told, side, 0.1, variants)


def _imported(source: Path, data: Path, say: Say) -> Path:
    if not (data / MANIFEST).exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        import_dataset(find_kind("mias-png"), source, data)
        say(f"imported {data.name}")
    return data


def _said(name: str, run: Run) -> str:
    preset = run.preset
    return (
        f"{name} (`{preset.name}`, {preset.rows} px, {run.step} steps of {preset.optimiser.batch}, "
        f"{len(run.facts.patients)} women)"
    )


def ground_of(stage: Stage, train: Sequence[Sample], most: int = 300) -> list[Ground]:
    """Genuine pictures of the detectors' part, with places at the known model's size, for an attacker."""
    preset = stage.runs["known"].preset
    regions = [_small(s, s.region, preset) for s in train if s.family == "generator:known" and s.region.any()]
    random = np.random.default_rng(5)
    out = []
    for sample in [s for s in train if s.family == GENUINE][:most]:
        breast = _small(sample, sample.breast, preset)
        shape = regions[int(random.integers(len(regions)))]
        out.append(
            Ground(
                sample.picture,
                sample.breast,
                put_inside(shape, breast, random),
                "remove" if sample.cancer else "insert",
            )
        )
    return out


def _small(sample: Sample, mask: Any, preset: Preset) -> Any:
    """A mask at the model's size, in the picture's own frame."""
    from scanward.tampering.scaling import mask_to_model, place

    where = place(sample.breast, sample.picture, preset.rows, preset.columns, preset.framing)
    return mask_to_model(mask, where, preset.rows, preset.columns)


def _phantoms(folder: Path, seed: int, size: int, women: int) -> Path:
    out = folder / f"women-{seed}-{women}-{size}px"
    if not (out / MANIFEST).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_phantoms(
            out, patients=women, rows=size, columns=size, seed=seed, prevalence=1.0, both_breasts=True
        )
    return out


def _trained(
    data: Path, preset: Preset, folder: Path, seed: int, selection: Selection | None, split: Any, say: Say
) -> Run:
    def progress(done: int, total: int, _losses: Any) -> None:
        if done % 100 == 0:
            say(f"{folder.name}: step {done} of {total}")

    train(
        data, preset, folder, selection, Settings(seed=seed, threads=1, device="cpu"), split=split,
        progress=progress,
    )  # fmt: skip
    return load_run(folder)

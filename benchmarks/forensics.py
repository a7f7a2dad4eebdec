"""Are altered mammograms told from genuine ones? By family, after processing, beside baselines, and under attack.

Sets of women that share nobody: one that the known generator learns from, others for generators of other makings, one
that detectors learn from, one that thresholds are fixed on, one for the figures. A detector learns from genuine
pictures, the known generator's and the classical forgeries; again without each group of classical ones, which then are
unseen; generators of another architecture, resolution or training set are unseen always. Last, the known generator is
trained against the detector.

  python -m benchmarks.forensics --phantoms
  python -m benchmarks.forensics --phantoms --quick
  python -m benchmarks.forensics --mias ../shared/data/mammography/mias --out build/bench/forensics_mias.json
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import numpy as np
from safetensors.torch import load_file, save_file

from benchmarks.common import ROOT, Say, parser, quickly, save, sayer
from benchmarks.forensics_report import KNOWN, report
from benchmarks.forensics_stage import Stage, ground_of, mias_stage, phantom_stage
from scanward.forensics import networks, oneclass, residuals, training
from scanward.forensics.baselines import Scorer, baselines
from scanward.forensics.evaluation import (
    Row,
    check_disjoint_women,
    heat_threshold,
    regions_of,
    rows_of,
    scored,
)
from scanward.forensics.evaluation_attack import attack
from scanward.forensics.families import GENUINE, Sample, samples
from scanward.forensics.networks import Localiser
from scanward.forensics.oneclass import OneClass
from scanward.forensics.opinions import Opinions
from scanward.forensics.processing import CHAINS, PLAIN
from scanward.forensics.residuals import planes
from scanward.forensics.training import Network

NAME = "forensics"
FOLDER = ROOT / "build" / "forensics"
# What is left out together: who has seen one of a group has nearly seen the other.
GROUPS: dict[str, tuple[str, ...]] = {
    "copy-move": ("copy-move",),
    "inpainting": ("inpainting-harmonic", "inpainting-patch"),
    "splicing": ("splicing", "splicing-poisson"),
}
CLASSICAL = tuple(family for group in GROUPS.values() for family in group)
GROUPS["classical"] = CLASSICAL  # only the known generator is learned from


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    which = made.add_mutually_exclusive_group()
    which.add_argument("--phantoms", action="store_true", help="phantom women, drawn as asked (the default)")
    which.add_argument(
        "--mias",
        type=Path,
        nargs="?",
        const=ROOT.parent / "shared/data/mammography/mias",
        help="real films: the folder of mini-MIAS as it came",
    )
    made.add_argument(
        "--variant", type=Path, help="with --mias: another digitisation of the same films, for the test alone"
    )
    made.add_argument("--size", type=int, default=64, help="rows and columns of phantoms")
    made.add_argument("--side", type=int, default=256, help="rows and columns that films are shown in")
    made.add_argument("--women", type=int, default=1000, help="phantom women of the test, two breasts each")
    made.add_argument("--forged", type=int, default=250, help="of these, women whose pictures are forged")
    made.add_argument("--learn", type=int, default=1500, help="phantom women that detectors learn from")
    made.add_argument(
        "--classical", type=int, default=2, help="classical forgeries of each picture learned from"
    )
    made.add_argument("--validate", type=int, default=150, help="phantom women that thresholds are fixed on")
    made.add_argument("--generator-women", type=int, default=300, help="phantom women of each generator")
    made.add_argument(
        "--steps", type=int, default=500, help="steps of the known generator; others are shorter"
    )
    made.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="NAME=RUN",
        help="these generators, one named known; train none",
    )
    made.add_argument("--methods", nargs="+", help="these methods alone; none given: all")
    made.add_argument(
        "--add",
        type=Path,
        help="rows of this earlier result, of other methods on the same pictures, are kept",
    )
    made.add_argument("--epochs", type=int, default=0, help="passes of detectors; 0: their own choice")
    made.add_argument("--baseline-epochs", type=int, default=6, help="passes of the plain network")
    made.add_argument(
        "--parts", nargs="+", choices=("all", "groups"), default=["all", "groups"],
        help="learn from all families, or without each group",
    )  # fmt: skip
    made.add_argument("--attack-steps", type=int, default=80, help="steps of a turn of the attacker; 0: none")
    made.add_argument("--resamples", type=int, default=1000, help="bootstrap draws of whole women")
    made.add_argument("--processings", nargs="+", default=list(CHAINS), help="what pictures go through")
    made.add_argument("--groups", nargs="*", default=list(GROUPS), help="classical groups left out in turn")
    made.add_argument("--folder", type=Path, default=FOLDER, help="where phantoms and generators are kept")
    arguments = made.parse_args(argv)
    quickly(
        arguments, women=8, forged=6, learn=8, validate=4, generator_women=6, steps=2, epochs=1, baseline_epochs=1,
        attack_steps=2, resamples=50, processings=["none", "jpeg-90"], groups=["copy-move"], size=32, side=64,
        folder=arguments.folder / "quick",
    )  # fmt: skip
    return arguments


def _remembering(folder: Path) -> None:
    """Let the detector's planes be computed once for each picture: they cost more than its network, and every training
    and scoring here asks for the same ones. Kept in ``folder``, where another process finds them, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = hashlib.sha256(Path(residuals.__file__).read_bytes()).hexdigest()[:8]

    def remembered(picture: Any, breast: Any) -> Any:
        path = folder / f"{kind}-{hashlib.sha256(picture.tobytes() + breast.tobytes()).hexdigest()[:32]}.npy"
        try:
            return np.load(path).astype(np.float32)
        except (OSError, ValueError, EOFError):
            made = planes(picture, breast).astype(np.float16)
        with NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
            np.save(part, made)
        Path(part.name).replace(path)
        return made.astype(np.float32)

    training.planes = oneclass.planes = remembered


class KeptNetwork(Network):
    """A network that is learned once: what the same code made of the same pictures is read again from ``folder``."""

    folder = FOLDER

    def fit(self, samples: Iterable[Sample]) -> Self:
        """Read it, or learn it and write it."""
        taken = list(samples)
        digest = hashlib.sha256(f"{self.epochs} {self.width} {self.batch} {self.seed} {self.rate}".encode())
        for module in (residuals, networks, training):
            digest.update(Path(str(module.__file__)).read_bytes())
        for sample in taken:
            digest.update(f"{sample.family} ".encode() + sample.picture.tobytes())
        path = self.folder / f"network-{digest.hexdigest()[:24]}.safetensors"
        if path.exists():
            made = Localiser(self.width)
            made.load_state_dict(load_file(path))
            self.network = made.eval()
            return self
        self.keep = self.folder
        super().fit(taken)
        assert self.network is not None
        assert self.passes is not None
        save_file(self.network.state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        self.passes.forget()
        return self


def methods(arguments: argparse.Namespace, say: Say) -> dict[str, Callable[[], Scorer]]:
    """What is compared, each made anew for every training."""

    def tell(done: int, total: int, loss: float) -> None:
        say(f"pass {done} of {total}: loss {loss:.3f}")

    made: dict[str, Callable[[], Scorer]] = {
        Opinions.name: lambda: Opinions(KeptNetwork(epochs=arguments.epochs, progress=tell), OneClass())
    }
    passes = arguments.baseline_epochs
    for index, one in enumerate(baselines(epochs=passes)):
        made[one.name] = lambda index=index: baselines(epochs=passes)[index]  # type: ignore[misc]
    chosen = arguments.methods or list(made)
    return {name: make for name, make in made.items() if name in chosen}


def _opinions(method: Scorer) -> list[Scorer]:
    """The method, and each of its parts that says something by itself."""
    return [method, method.network, method.second] if isinstance(method, Opinions) else [method]


def added(told: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with those of an earlier result of other methods; ValueError when it was of other pictures.

    Only what was learned without a group may have been learned from fewer pictures: it says so.
    """
    for key in ("kind", "false_alarms", "genuine", "women", "generators"):
        if told[key] != before[key]:
            raise ValueError(f"the earlier result is of other pictures: {key} differs")
    who = ", ".join(sorted({row["method"] for row in told["rows"]}))
    if told["learned_from"] != before["learned_from"]:
        if not all(row["unseen"] and row["family"] in CLASSICAL for row in told["rows"]):
            raise ValueError("the earlier result is of other pictures: learned_from differs")
        who += f" (without each group, learned from {told['learned_from']} pictures)"
    rows = {_key(row): row for row in (*before["rows"], *told["rows"])}
    return told | {
        "learned_from": before["learned_from"],
        "rows": list(rows.values()),
        "attack": [*before["attack"], *told["attack"]],
        "apart": [*before.get("apart", []), who],
    }


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["method"], row["family"], row["processing"], row["unseen"]


def _public(words: Sequence[str]) -> list[str]:
    """The command line without --runs and --add, which only say where files lie."""
    kept: list[str] = []
    skip = False
    for word in words:
        skip = word in ("--runs", "--add") if word.startswith("--") else skip
        if not skip:
            kept.append(word)
    return kept


def run(
    arguments: argparse.Namespace, done: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Train, score, tell."""
    say = sayer()
    _remembering(arguments.folder / "planes")
    KeptNetwork.folder = arguments.folder
    stage = mias_stage(arguments, say) if arguments.mias else phantom_stage(arguments, say)
    generators = [f"generator:{name}" for name in stage.runs]
    learned = [KNOWN, *CLASSICAL]
    every = [*generators, *CLASSICAL, "cycle:known"]
    train = list(
        samples(
            stage.data["learn"], [GENUINE, *learned], 1, runs=stage.runs, size=stage.size,
            patients=stage.women["learn"], seen_ok=True, classical=arguments.classical,
        )
    )  # fmt: skip
    validation = _drawn(stage, "validate", [GENUINE, *learned])
    test = _drawn(stage, "test", [GENUINE])
    forged = _drawn(stage, "forged", every)
    check_disjoint_women((s.patient for s in (*train, *validation)), (s.patient for s in (*test, *forged)))
    say(f"{len(train)} pictures to learn from, {len(test)} genuine and {len(forged)} others to test on")
    alarms = stage.false_alarms
    rows: list[Row] = []
    attacked: list[dict[str, Any]] = []

    def told() -> dict[str, Any]:
        return {
            "kind": stage.kind,
            "false_alarms": alarms,
            "genuine": len(test),
            "women": len({s.patient for s in test}),
            "learned_from": len(train),
            "generators": stage.told,
            "rows": [_plain(r) for r in rows],
            "attack": attacked,
        }

    def tell() -> None:
        if done is not None:
            done(told())  # what was measured stays when a later one is interrupted

    for name, make in methods(arguments, say).items() if "all" in arguments.parts else ():
        fitted = _fitted(make(), train, validation)
        say(f"{name}: learned")
        regions = _places(fitted, validation, forged, arguments)
        for one in _opinions(fitted):
            where = regions if hasattr(one, "heat") else None
            rows += _rows(one, [*test, *forged], every, learned, alarms, arguments, regions=where)
        say(f"{name}: scored")
        tell()
        for processing in arguments.processings:
            if processing == PLAIN:
                continue
            shown = [s for s in (*test, *forged) if s.patient in stage.women["forged"]]
            shown = [s for s in shown if s.family in (GENUINE, *generators, *CLASSICAL)]
            rows += _rows(fitted, shown, every, learned, alarms, arguments, processing)
        for variant in stage.variants:
            shown = _variant(stage, variant, [GENUINE, *generators, *CLASSICAL])
            rows += _rows(fitted, shown, every, learned, alarms, arguments, called=variant)
        say(f"{name}: processed")
        tell()
        if arguments.attack_steps and not attacked:
            attacked.append(_attacked(fitted, stage, train, test, arguments, say))
            tell()
        gc.collect()
    for group in arguments.groups if "groups" in arguments.parts else ():
        out = GROUPS[group]
        known = [f for f in learned if f not in out]
        kept, others = ([s for s in part if s.family not in out] for part in (train, validation))
        for name, make in methods(arguments, say).items():
            without = _fitted(make(), kept, others)
            left = [*test, *(s for s in forged if s.family in out)]
            regions = _places(without, others, left, arguments)
            for one in _opinions(without):
                where = regions if hasattr(one, "heat") else None
                found = _rows(one, left, out, known, alarms, arguments, regions=where)
                rows += [r for r in found if r.family != "all forged"]
            say(f"{name}: without {group}")
            tell()
        gc.collect()
        tell()
    return told()


def _places(
    method: Scorer, validation: Sequence[Sample], shown: Sequence[Sample], arguments: argparse.Namespace
) -> Mapping[str, Any] | None:
    """How well it says where; None of a method that does not."""
    heat = getattr(method, "heat", None)
    if heat is None:
        return None
    return regions_of(heat, shown, heat_threshold(heat, validation), resamples=arguments.resamples)


def _drawn(stage: Stage, part: str, families: Sequence[str]) -> list[Sample]:
    return list(
        samples(stage.data[part], families, 1, runs=stage.runs, size=stage.size, patients=stage.women[part])
    )


def _variant(stage: Stage, variant: str, families: Sequence[str]) -> list[Sample]:
    """The test women's pictures out of another file: other size, other crop, stretched."""
    return list(
        samples(
            stage.variants[variant],
            families,
            1,
            runs=stage.runs,
            size=stage.size,
            patients=stage.women["test"],
        )
    )


def _fitted(method: Scorer, train: Sequence[Sample], validation: Sequence[Sample]) -> Scorer:
    """``method``, trained; one that wants other women's pictures to stop and calibrate on gets them."""
    with_validation = getattr(method, "fit_with", None)
    if with_validation is not None:
        with_validation(train, validation)
        return method
    return method.fit(train)


def _rows(
    method: Scorer,
    shown: Sequence[Sample],
    families: Sequence[str],
    learned: Sequence[str],
    alarms: float,
    arguments: argparse.Namespace,
    processing: str = PLAIN,
    regions: Mapping[str, Any] | None = None,
    called: str | None = None,
) -> list[Row]:
    return rows_of(
        method.name,
        scored(method, shown, processing),
        families=families,
        learned=learned,
        false_alarms=alarms,
        processing=called or processing,
        resamples=arguments.resamples,
        regions=regions,
    )


def _attacked(
    detector: Scorer,
    stage: Stage,
    train: Sequence[Sample],
    test: Sequence[Sample],
    arguments: argparse.Namespace,
    say: Say,
) -> dict[str, Any]:
    """The known generator trained against the detector, on women of the detector's training; then the test anew."""
    done = attack(
        stage.runs["known"],
        detector,
        ground_of(stage, train),
        steps=arguments.attack_steps,
        fit_steps=2 * arguments.attack_steps,
        tick=say,
    )
    forged = list(
        samples(
            stage.data["forged"], ["generator:attacker"], 1, runs={"attacker": done.run}, size=stage.size,
            patients=stage.women["forged"],
        )
    )  # fmt: skip
    rows = _rows(detector, [*test, *forged], ["generator:attacker"], [], stage.false_alarms, arguments)
    return {
        "method": detector.name,
        "steps": done.steps,
        "queries": done.queries,
        "kept": done.kept,
        "fit": done.fit,
        "row": _plain(rows[0]) if rows else None,
    }


def _plain(row: Row) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(row)
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save, print."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    quiet = argparse.Namespace(**{**vars(arguments), "json": False})
    before = json.loads(arguments.add.read_text("utf-8")) if arguments.add else None
    told = run(arguments, lambda part: save(quiet, NAME, _public(words), part))
    if before is not None:
        told = added(told, before)
    save(arguments, NAME, _public(words), told)
    if not arguments.json:
        print(report(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

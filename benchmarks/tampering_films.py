"""Exploratory, on real films: the CycleGAN on mini-MIAS, normal against malignant, at 128 px on a CPU.

The women are split once: one part for the generator, the rest for the classifiers and the test, by patient. 52 cancers
are far too few for a claim; classifiers are asked whatever their AUC is, and intervals say how little is known. The
edges of these films were cut by hand by others: the texture is genuine, the outline is not.

  python -m benchmarks.tampering_films --data ../shared/data/mammography/mias
  python -m benchmarks.tampering_films --data ... --preset becker2019-256 --steps 0 --device cuda    # as published
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.common import ROOT, parser, quickly, save, sayer
from scanward.mammography.importing import import_dataset
from scanward.mammography.kinds import find as find_kind
from scanward.mammography.manifest import MANIFEST, read_manifest
from scanward.mammography.splits import split_by_patient
from scanward.tampering.checkpoints import load_run
from scanward.tampering.evaluation.evaluating import Request, evaluate
from scanward.tampering.evaluation.report import markdown
from scanward.tampering.evaluation.results import Confirmation
from scanward.tampering.prepared import Selection
from scanward.tampering.presets import change, find
from scanward.tampering.running import Settings, train

NAME = "tampering_films"
FOLDER = ROOT / "build" / "tampering-films"
SPLIT_SEED = 1
PARTS = {"generator": 0.4, "classifier": 0.35, "test": 0.25}


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared/data/mammography/mias",
        help="the films as they came",
    )
    made.add_argument("--kind", default="mias-png", help="kind of data set, see scanward mammo import --help")
    made.add_argument("--preset", default="scanward-128", help="arrangement to train")
    made.add_argument("--steps", type=int, default=1800, help="steps of training; 0: as the preset has it")
    made.add_argument("--epochs", type=int, default=30, help="passes of a classifier at most")
    made.add_argument("--resamples", type=int, default=2000, help="bootstrap draws of whole patients")
    made.add_argument("--threads", type=int, default=2, help="threads of training")
    made.add_argument("--device", default="auto", help="auto, cpu or cuda")
    made.add_argument("--model", type=Path, help="evaluate this run, train nothing")
    made.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the set, the run and sheets are kept"
    )
    arguments = made.parse_args(argv)
    quickly(arguments, steps=2, epochs=1, resamples=100, folder=arguments.folder / "quick")
    return arguments


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Import, split, train, evaluate."""
    say = sayer()
    data = arguments.folder / arguments.kind
    if not (data / MANIFEST).exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        import_dataset(find_kind(arguments.kind), arguments.data, data)
        say("imported")
    model = arguments.model
    if model is None:
        preset = find(arguments.preset)
        if arguments.steps:
            preset = change(preset, {"optimiser.steps": str(arguments.steps), "optimiser.epochs": "0"})
        model = arguments.folder / f"{preset.name}-{arguments.steps}"
        said = time.monotonic()

        def progress(done: int, total: int, _losses: Any) -> None:
            nonlocal said
            if time.monotonic() - said > 30:
                said = time.monotonic()
                say(f"step {done} of {total}")

        train(
            data,
            preset,
            model,
            Selection(part="generator"),
            Settings(threads=arguments.threads, device=arguments.device),
            split=split_by_patient(read_manifest(data), PARTS, SPLIT_SEED),
            progress=progress,
        )
    facts = load_run(model).facts
    said_what = ""

    def tick(what: str, _share: float) -> None:
        nonlocal said_what
        if what != said_what:
            said_what = what
            say(what)

    found, remarks = evaluate(
        Request(
            data=data,
            models=(model,),
            out=arguments.folder / "evaluation",
            epochs=arguments.epochs,
            resamples=arguments.resamples,
            least_auc=0.5,
        ),
        tick,
    )
    return {
        "kind": facts.kind,
        "training": {
            "preset": facts.preset.name,
            "seed": facts.seed,
            "steps": facts.step,
            "healthy": facts.healthy,
            "cancer": facts.cancer,
            "women": len(facts.patients),
        },
        "remarks": list(remarks),
        "confirmation": found.as_json(),
    }


def report(told: dict[str, Any]) -> str:
    """The section of the results page."""
    trained = told["training"]
    shown = markdown(msgspec.convert(told["confirmation"], Confirmation))
    return (
        f"Real films ({told['kind']}), exploratory. The generator, `{trained['preset']}`, learned {trained['steps']} "
        f"steps from {trained['healthy']} normal and {trained['cancer']} malignant films of {trained['women']} women "
        f"whom neither the classifiers nor the test know.\n\n{shown}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save, print."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    told = run(arguments)
    save(arguments, NAME, words, told)
    if not arguments.json:
        print(report(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

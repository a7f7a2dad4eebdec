"""Does the CycleGAN insert and remove lesions? Confirmatory, on phantoms, where the truth is known.

Three sets of phantom women that share nobody: one that the generator learns from, one that the classifiers learn from,
one for the figures. Both classifiers must reach an AUC of 0.90 on genuine test pictures first. Identity, blur,
inpainting with pasting, and the truth run beside the generator, by the same measures. Seeds are those of training;
the classifiers and the test are the same for all. An interrupted run goes on from its checkpoint.

  python -m benchmarks.tampering_phantoms --presets reference-64 scanward-64 --images 2400 --seeds 0 1 2
  python -m benchmarks.tampering_phantoms --models run-a run-b     # trained elsewhere, on other phantoms
  python -m benchmarks.tampering_phantoms --quick
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
from scanward.mammography.manifest import MANIFEST
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering.checkpoints import load_run
from scanward.tampering.evaluation.evaluating import Request, evaluate
from scanward.tampering.evaluation.report import markdown
from scanward.tampering.evaluation.results import Confirmation
from scanward.tampering.presets import change, find
from scanward.tampering.running import Settings, train

NAME = "tampering_phantoms"
# Women of three seeds have nothing in common. These are for published figures; development used others.
SETS = {"generator": 301, "learn": 302, "test": 303}
FOLDER = ROOT / "build" / "tampering-phantoms"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument("--presets", nargs="+", default=["reference-64"], help="arrangements to train")
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of training")
    made.add_argument(
        "--images", type=int, default=2400, help="images of either domain that each run is shown"
    )
    made.add_argument("--size", type=int, default=64, help="rows and columns")
    made.add_argument("--women", type=int, default=500, help="women that the generator learns from")
    made.add_argument("--learn", type=int, default=600, help="women that the classifiers learn from")
    made.add_argument(
        "--test", type=int, default=500, help="women of the test, one healthy and one ill breast each"
    )
    made.add_argument(
        "--contrast", type=float, default=1.0, help="brightness of lesions, times the usual one"
    )
    made.add_argument("--epochs", type=int, default=16, help="passes of a classifier at most")
    made.add_argument("--resamples", type=int, default=2000, help="bootstrap draws of whole patients")
    made.add_argument("--threads", type=int, default=2, help="threads of training")
    made.add_argument("--models", type=Path, nargs="+", help="evaluate these runs, train nothing")
    made.add_argument("--folder", type=Path, default=FOLDER, help="where phantoms, runs and sheets are kept")
    arguments = made.parse_args(argv)
    quickly(
        arguments, seeds=[0], images=2, size=32, women=6, learn=20, test=12, epochs=2, resamples=100,
        folder=arguments.folder / "quick",
    )  # fmt: skip
    return arguments


def phantoms(arguments: argparse.Namespace, part: str, women: int) -> Path:
    """A data set of phantoms, drawn unless it is there: both breasts of each woman, a lesion in one of them."""
    size = arguments.size
    out: Path = arguments.folder / f"{part}-{women}-{size}px-x{arguments.contrast:g}"
    if not (out / MANIFEST).exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        write_phantoms(
            out,
            patients=women,
            rows=size,
            columns=size,
            seed=SETS[part],
            prevalence=1.0,
            both_breasts=True,
            contrast=arguments.contrast,
        )
    return out


def trained(arguments: argparse.Namespace, say: Any) -> tuple[list[Path], list[dict[str, Any]]]:
    """Runs of every preset and seed, and what each training cost. A run that is there is finished, not begun anew."""
    data = phantoms(arguments, "generator", arguments.women)
    runs, told = [], []
    for name in arguments.presets:
        # as many images for all, whatever their batches: only then is a faster arrangement compared with a slower one
        steps = -(-arguments.images // find(name).optimiser.batch)
        wanted = {"rows": arguments.size, "columns": arguments.size, "optimiser.steps": steps}
        preset = change(find(name), {k: str(v) for k, v in wanted.items()} | {"optimiser.epochs": "0"})
        for seed in arguments.seeds:
            run = arguments.folder / f"{name}-{arguments.size}px-{steps}-seed{seed}"
            settings = Settings(seed=seed, threads=arguments.threads, device="cpu")
            said = time.monotonic()

            def progress(done: int, total: int, losses: Any, who: str = run.name) -> None:
                nonlocal said
                if time.monotonic() - said > 30:
                    said = time.monotonic()
                    say(f"{who}: step {done} of {total}, cycle {losses.get('cycle cancer', 0):.3f}")

            made = train(data, preset, run, None, settings, progress=progress)
            done = made.facts.step - made.begun_at
            runs.append(run)
            told.append(
                {
                    "name": run.name,
                    "preset": name,
                    "seed": seed,
                    "steps": made.facts.step,
                    "healthy": made.facts.healthy,
                    "cancer": made.facts.cancer,
                    # of this call alone: a run that went on says nothing about the part before
                    "steps_per_second": done / made.seconds if done else None,
                }
            )
    return runs, told


def run(
    arguments: argparse.Namespace,
    folder: str = "evaluation",
    processings: tuple[str, ...] = (),
    *,
    all_controls: bool = True,
) -> dict[str, Any]:
    """Train, evaluate, and tell."""
    say = sayer()
    if arguments.models:
        runs, training = list(arguments.models), []
        for model in arguments.models:
            facts = load_run(model).facts
            training.append(
                {"name": model.name, "preset": facts.preset.name, "seed": facts.seed, "steps": facts.step}
            )
    else:
        runs, training = trained(arguments, say)
    said = ""

    def tick(what: str, _share: float) -> None:
        nonlocal said
        if what != said:
            said = what
            say(what)

    started = time.monotonic()
    found, _ = evaluate(
        Request(
            data=phantoms(arguments, "test", arguments.test),
            learn_data=phantoms(arguments, "learn", arguments.learn),
            models=tuple(runs),
            out=arguments.folder / folder,
            processings=processings,
            all_controls=all_controls,
            epochs=arguments.epochs,
            resamples=arguments.resamples,
        ),
        tick,
    )
    say(f"evaluated in {time.monotonic() - started:.0f} s")
    return {"training": training, "confirmation": found.as_json()}


def report(told: dict[str, Any]) -> str:
    """The section of the results page."""
    found = msgspec.convert(told["confirmation"], Confirmation)
    runs = ", ".join(
        f"`{one['preset']}` seed {one['seed']} ({one['steps']} steps)" for one in told["training"]
    )
    asked = told["options"]
    return (
        f"Phantoms of {asked['size']} x {asked['size']} px, contrast {asked['contrast']:g}. Generators: {runs}; each "
        f"learned from both breasts of {asked['women']} phantom women, a lesion in one of them.\n\n{markdown(found)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save, print."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    told = run(arguments)
    save(arguments, NAME, words, told)
    if not arguments.json:
        print(markdown(msgspec.convert(told["confirmation"], Confirmation)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

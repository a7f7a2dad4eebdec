"""``scanward detect train``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import SettingsError

_PATH = click.Path(path_type=Path)


@click.command("train", short_help="Train a detector on genuine and forged pictures.")
@click.option("--data", required=True, type=_PATH, help="Data set (scanward mammo import|phantom).")
@click.option("--out", "run", required=True, type=_PATH, help="Folder of the detector.")
@click.option(
    "--runs",
    "generators",
    multiple=True,
    type=_PATH,
    help="Run of a generator (scanward tamper train) whose pictures are learned; repeatable.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 1000),
    help="Passes, each source shown genuine and forged in one way.  [default: as show some 100,000 pictures, 8 to 60]",
)
@click.option(
    "--classical",
    type=click.IntRange(1, 5),
    help="Classical forgeries of each picture learned from: fewer, for more women in the same time.  [default: all]",
)
@click.option(
    "--side",
    type=click.IntRange(32, 2048),
    help="Side of the frame that pictures are shown in, px.  [default: the data set's own, 256 at most]",
)
@click.option("--split", "split_path", type=_PATH, help="Split by patient (scanward mammo split).")
@click.option("--part", help="Part of the split to learn from.  [default: train]")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of it all."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was trained as JSON.")
def train_command(
    data: Path,
    run: Path,
    generators: tuple[Path, ...],
    epochs: int | None,
    classical: int | None,
    side: int | None,
    split_path: Path | None,
    part: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Train a detector of altered mammograms on a data set, beside classical forgeries made of it on the way.

    Women are divided: some to learn from, some for the likelihood ratio, some, genuine and used for nothing else, for
    calibration: a false-alarm rate of 0.01 needs 99 of these, some 330 women in all. Forged pictures are made in
    memory; nothing forged is written. A model card and ROC curves go beside the detector. What it finds grows with
    the women it learns from (docs/adr/0014-detector.md); one core is shown some 130 pictures of 64 px a second.
    A training that was cut off goes on from its last pass when the same command is given again.

    \b
    Example:
      scanward mammo phantom phantoms/ --patients 400
      scanward tamper train --data phantoms/ --preset scanward-64 --out generator/
      scanward detect train --data phantoms/ --runs generator/ --out detector/
    """
    from scanward.forensics.card import remove_card, write_card
    from scanward.forensics.making import Making, train

    patients = _women(split_path, part)
    names: dict[str, Path] = {}
    for path in generators:
        name, count = path.resolve().name or "run", 1
        while (name if count == 1 else f"{name}-{count}") in names:
            count += 1
        names[name if count == 1 else f"{name}-{count}"] = path
    _usable(run)
    with progress("training", total=1.0) as step:
        shares: dict[str, float] = {}

        def tell(what: str, share: float) -> None:
            name = what.partition(",")[0]
            if name not in shares:
                step(-sum(shares.values()), what)
                shares.clear()
            step(share - shares.get(name, 0.0), what)
            shares[name] = share

        detector = train(
            data,
            names,
            Making(epochs=epochs or 0, side=side or 0, seed=seed, classical=classical),
            patients=patients,
            keep=run,
            tell=tell,
        )
    remove_card(run)
    path = detector.save(run)
    card = write_card(run, detector)
    if detector.network.passes:
        detector.network.passes.forget()  # last: whatever failed before, the same command is soon where it was
    facts = detector.facts
    least = 1 / (len(facts.calibration) + 1)
    if least > 0.01:
        note(f"the least false-alarm rate that so few women can express is {least:.2g}")
    result = {
        "detector": str(path),
        "card": str(card),
        "fingerprint": detector.fingerprint,
        "frame": list(facts.frame),
        "families": list(facts.families),
        "women": facts.counts,
        "least_false_alarms": least,
        "phantom": facts.phantom,
    }
    if as_json:
        print_json(result)
        return
    print_table(("", "trained"), [(name, str(value)) for name, value in result.items()])


def _usable(run: Path) -> None:
    """Refuse a folder that cannot be written before hours are spent."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run):
            pass
    except OSError as error:
        raise SettingsError(
            f"cannot be written ({error.strerror})", str(run), "give another folder"
        ) from error


def _women(split_path: Path | None, part: str | None) -> tuple[str, ...] | None:
    if split_path is None:
        if part is not None:
            raise SettingsError("--part needs a split", "--part", "give --split FILE")
        return None
    from scanward.mammography.splits import read_split

    split = read_split(split_path)
    if (part or "train") not in split.parts:
        raise SettingsError(
            f"no part '{part or 'train'}'", str(split_path), f"use one of: {', '.join(split.parts)}"
        )
    return tuple(split.parts[part or "train"])

"""``scanward study rehearse``: model observers in the place of readers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from scanward.cli.output import note, print_json, print_table, progress


@click.command("rehearse", short_help="Let model observers read a study, to try it end to end.")
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--seed",
    type=click.IntRange(0, 2**30 - 1),
    default=0,
    show_default=True,
    help="Other simulated readers, in the same study.",
)
@click.option(
    "--reader-noise",
    type=click.FloatRange(0, 100),
    default=0.3,
    show_default=True,
    help="How much readers' criteria differ: standard deviation, in units of the detector's score.",
)
@click.option(
    "--case-noise",
    type=click.FloatRange(0, 100),
    default=0.8,
    show_default=True,
    help="How much a reader wavers from picture to picture, in the same units.",
)
@click.option("--json", "as_json", is_flag=True, help="Print who read how much as JSON.")
def rehearse_command(study: Path, seed: int, reader_noise: float, case_noise: float, as_json: bool) -> None:
    """Read STUDY from sign-in to the last answer by model observers: a detector's score with a reader's noise.

    They sign in on a server of their own on loopback, see the grey values that people would see, and answer every
    question. Nothing is known to them of the truth. What they answer is SIMULATED, and says so in every table and plot;
    so a study can be rehearsed only when its design says simulated = true. Broken off, the same command goes on.

    \b
    Example:
      scanward study rehearse study/
      scanward study export study/ --out ratings.csv
      scanward study analyse ratings.csv --study study/ --report report.html
    """
    from scanward.reading.observers import ObserverNoise
    from scanward.reading.opened import open_study
    from scanward.reading.rehearsing import observers_of, rehearse

    opened = open_study(study)
    noise = ObserverNoise(reader=reader_noise, case=case_noise)
    pictures = len(opened.protocol.pictures)
    with progress("looking at pictures", total=pictures) as step:
        observers = observers_of(opened, seed=seed, noise=noise, progress=lambda _done, _all: step())
    cases = sum(len(session.cases) for reader in opened.protocol.readers for session in reader.sessions)
    with progress("reading", total=cases) as step:
        found = rehearse(study, observers, progress=lambda _done, _all: step())
    if as_json:
        print_json({"simulated": True, "readers": [asdict(one) for one in found]})
        return
    print_table(
        ("SIMULATED reader", "answers", "sessions"),
        [(one.reader, one.answers, one.sessions) for one in found],
    )
    note("SIMULATED: these are answers of programs, to try the study; they say nothing of people")

"""What lies beside a trained detector for people: a model card and the ROC curves.

::

    RUN/model-card.md    what it is, of what it was made, for what and for what not, what was measured
    RUN/roc.png          of each family, on the same pictures

In the manner of Mitchell et al., "Model cards for model reporting" (FAT* 2019, arXiv 1810.03993). Measured on women it
did not learn from; scales and likelihood ratio were taken from them, so a test on others stays to be done.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from scanward.errors import LearningError
from scanward.forensics.evaluation import Row, Scores, rows_of
from scanward.forensics.examining import Detector
from scanward.forensics.families import GENUINE
from scanward.tampering.marking import write_whole
from scanward.tampering.model_card import CARD, estimated

ROC = "roc.png"
_TEXT = """\
## What it is for

Research into defence: evidence that a generator or an image editor altered a mammogram, with a false-alarm rate that
holds for women like those it was calibrated on. Used through `scanward detect`.

## What it is not for

- Never for care, screening or diagnosis, and no proof before a court: an alarm says that the picture is stranger than
  nearly all genuine ones it knows, not why.
- Not for pictures from other machines, views or processing than it was calibrated on: the false-alarm rate is then not
  known. Train and calibrate it on your own.
- No substitute for signatures (`scanward sign`), which make every change evident.

## Limits

- Forgeries unlike those it learned from are found less often, and a forger who has the detector can learn to avoid it.
- The file holds hashes of pseudonyms and pictures of everybody it learned from, so that it is never tested on them.

## Terms

The weights were computed from the data set: its terms bind whoever passes them on. The software is under Apache-2.0.
"""


def remove_card(run: Path) -> None:
    """Take away what was written of an earlier detector: it says nothing of the next one."""
    for name in (CARD, ROC):
        (run / name).unlink(missing_ok=True)


def write_card(run: Path, detector: Detector) -> Path:
    """Write card and curves of a detector that was just trained; the card's path.

    Raises
    ------
    LearningError
        They cannot be written; the detector was not just trained.
    """
    shown = detector.weighed
    if shown is None:
        raise LearningError("only a training measures", str(run), "train again: scanward detect train")
    try:
        write_whole(run / ROC, _curves(shown, detector.facts.families))
        write_whole(run / CARD, card(detector, shown).encode())
    except OSError as error:
        raise LearningError(f"cannot be written: {error.strerror}", str(run), "make room") from error
    return run / CARD


def card(detector: Detector, shown: Scores) -> str:
    """The card as Markdown, ``shown`` being numbers of women whom the network did not learn from."""
    facts = detector.facts
    genuine = shown.rows(GENUINE)
    least = 1 / (len(facts.calibration) + 1)
    share = max(0.01, 1 / max(len(genuine), 1))  # of so few pictures no smaller share can be told
    rows = rows_of("scanward", shown, families=facts.families, learned=facts.families, false_alarms=share)
    table = [
        ("fingerprint", detector.fingerprint),
        ("data set", f"{facts.kind} ({'phantoms' if facts.phantom else 'mammograms of women'})"),
        ("women", ", ".join(f"{count} to {name}" for name, count in facts.counts.items())),
        ("frame", f"{facts.frame[0]} x {facts.frame[1]} px"),
        ("families learned", ", ".join(_named(family) for family in facts.families)),
        ("classical forgeries of each picture learned from", f"{facts.classical or 'of every family'}"),
        (
            "generators",
            ", ".join(f"{_named(name)} ({mark[:16]})" for name, mark in facts.generators.items()) or "none",
        ),
        ("passes, seed", f"{facts.epochs}, {facts.seed}"),
        ("least false-alarm rate", f"{least:.2g}"),
        ("made", f"{facts.created}, Scanward {facts.scanward}, torch {facts.torch}"),
    ]
    facts_table = "\n".join(f"| {name} | {value} |" for name, value in table)
    return (
        "# Model card: a detector of altered mammograms\n\n"
        "Research only; not a medical device. Written by Scanward at the end of the training.\n\n"
        f"| | |\n|---|---|\n{facts_table}\n\n## Measured\n\n"
        f"On {len(genuine)} genuine pictures of {len(set(shown.patient))} women whom neither opinion learned from,\n"
        "and on forgeries of these; scales and likelihood ratio were taken from the same women. 95 % intervals by\n"
        "woman. False alarms here are genuine *pictures* of these women; `scanward detect` promises a share of\n"
        "*women*.\n\n"
        f"| family | pictures | AUC | found at {100 * share:.3g} % false alarms |\n|---|---|---|---|\n"
        + "\n".join(_line(row) for row in rows)
        + f"\n\n![ROC curves]({ROC})\n\n{_TEXT}"
    )


def _line(row: Row) -> str:
    return f"| {_named(row.family)} | {row.pictures} | {estimated(row.auc)} | {estimated(row.found)} |"


def _named(name: str) -> str:
    """A name as it is, whatever Markdown would make of it."""
    return f"`{_plain(name).replace('`', chr(39)).replace('|', '/')}`"


def _plain(name: str) -> str:
    """A folder's name may be no text at all."""
    return " ".join(name.encode("utf-8", "replace").decode().split())


def _curves(shown: Scores, families: tuple[str, ...]) -> bytes:
    """ROC curves as PNG, one for each family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 5), layout="constrained")
    axes = figure.subplots()
    genuine = np.sort(shown.score[shown.rows(GENUINE)])
    for family in families:
        altered = np.sort(shown.score[shown.rows(family)])
        if not len(altered) or not len(genuine):
            continue
        at = np.r_[np.inf, np.unique(np.concatenate([genuine, altered]))[::-1]]  # an alarm: this much or more
        alarms, found = (1 - np.searchsorted(side, at, "left") / len(side) for side in (genuine, altered))
        label = f"{_plain(family)} ({len(altered)})".replace("$", r"\$")  # a name is no formula
        axes.plot(alarms, found, label=label, linewidth=1.4)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel=f"false alarms, share of {len(genuine)} genuine pictures",
        ylabel="found, share of altered pictures",
        xlim=(0, 1),
        ylim=(0, 1.005),
    )
    axes.legend(loc="lower right", fontsize=8)
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks is drawn as a box
        figure.savefig(written, format="png", dpi=120)
    return written.getvalue()

"""The card that lies beside a trained model: what it is, of what it was made, for what, and for what not.

In the manner of Mitchell et al., "Model cards for model reporting" (FAT* 2019, arXiv 1810.03993). Everything in it is
read from the checkpoint and, where there is one, from the evaluation; nothing is claimed without a figure.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.tampering.checkpoints import Facts, newest
from scanward.tampering.evaluation.bootstrap import Estimate
from scanward.tampering.evaluation.results import Confirmation
from scanward.tampering.marking import write_whole

CARD = "model-card.md"
EVALUATION = "evaluation.json"

_USE = """\
## What it is for

Research into defence: test pictures for detectors of modified images, for reader studies, and for vendors who want to
know what their systems take for genuine. Used through `scanward tamper insert` and `remove`, which mark every picture.

## What it is not for

- Never for care, screening, diagnosis, teaching of what cancer looks like, or any decision about a person.
- Never for putting pictures into a clinical archive, or for showing anybody a modified picture as genuine outside a
  study whose readers, or whose ethics committee, know that there are some.
- Not as additional training data of a detector of cancer without saying so: what it inserts is what fooled a small
  network, not what grows in breasts.
"""
_LIMITS = """\
## Limits

- It learned from two heaps of pictures, not from pairs: nothing in training says that only a lesion is changed.
- A network of this kind can hide information in its pictures that nobody sees (Chu et al. 2017, arXiv 1712.02950): a
  detector that finds its pictures may have learned this trace alone, and miss those of another generator.
- It works at {rows} x {columns} pixels; its change is enlarged to the picture's own size. Finer structures (small
  calcifications) are neither made nor taken away.
- What it makes of pictures from other machines, other views or other women than it learned from, is not known.
- Losses say little about its pictures: look at the sheets.
"""


def write_model_card(run: Path, *, licence: str = "", cite: str = "", evaluation: Path | None = None) -> Path:
    """Write ``RUN/model-card.md`` from the newest checkpoint, whole or not at all.

    Parameters
    ----------
    run : Path
        Folder of a run.
    licence, cite : str
        Terms of the data set and how to cite it, from its manifest; said to be unknown when empty.
    evaluation : Path, optional
        ``evaluation.json`` of `scanward tamper evaluate`; else the one in the run's folder, where there is one.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    InputError, DecodeError
        No whole checkpoint there; an evaluation that cannot be read, or is of another format.
    """
    _, facts, checkpoint, _ = newest(run)
    found = evaluation or run / EVALUATION
    told = _evaluation(found) if evaluation is not None or found.is_file() else None
    path = run / CARD
    write_whole(path, card(facts, checkpoint.name, licence=licence, cite=cite, told=told).encode())
    return path


def card(
    facts: Facts, checkpoint: str, *, licence: str = "", cite: str = "", told: Confirmation | None = None
) -> str:
    """The card as Markdown."""
    preset = facts.preset
    data = "phantoms: pictures of no human being" if facts.phantom else "mammograms of women"
    rows = [
        ("checkpoint", checkpoint),
        ("preset", f"{preset.name} ({preset.about})"),
        ("size", f"{preset.rows} x {preset.columns} pixels, framing {preset.framing}"),
        ("told where", "yes" if preset.generator.mask_channel else "no"),
        ("steps", str(facts.step)),
        ("batch, processes", f"{preset.optimiser.batch}, {facts.world}"),
        ("seed", str(facts.seed)),
        ("begun", facts.created),
        ("made with", f"Scanward {facts.scanward}, torch {facts.torch}"),
        ("data set", f"{facts.kind} ({data})"),
        ("images", f"{facts.healthy} healthy, {facts.cancer} cancer, of {len(facts.patients)} patients"),
        ("terms of the data", _cell(licence) or "not recorded: see the data set's manifest.json"),
        ("to be cited", _cell(cite) or "not recorded: see the data set's manifest.json"),
    ]
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    limits = _LIMITS.format(rows=preset.rows, columns=preset.columns)
    return (
        f"# Model card: {preset.name}, {facts.step} steps\n\n"
        "A CycleGAN that inserts lesions into pictures of healthy breasts and removes them from pictures of cancers.\n"
        "Research into tampering only; not a medical device. Written by Scanward out of the checkpoint.\n\n"
        f"| | |\n|---|---|\n{table}\n\n{_USE}\n## Measured\n\n{_measured(told)}\n{limits}\n"
        "## Terms\n\n"
        "The weights were computed from the data set above: its terms bind whoever passes them on. Weights made\n"
        "from women's images may hold traces of them; treat them as you treat the images. The software is under\n"
        "Apache-2.0.\n"
    )


def _measured(told: Confirmation | None) -> str:
    if told is None:
        return (
            "Nothing yet: run `scanward tamper evaluate`. Without it nothing is claimed about this model.\n"
        )
    where = "phantoms" if told.truth == "twins" else "pictures"
    lines = [
        f"By `scanward tamper evaluate` on {where} of patients that the model does not know; all models and controls",
        "of that evaluation, with intervals. Change outside the breast: per cent of the grey range, before it is",
        "undone.",
        "",
        "| modified by | verdict | lesions removed | plausible insertions | change outside the breast |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {_cell(t.name)} | {_cell(t.verdict)} | {estimated(t.removed)} | {estimated(t.plausible)} "
        f"| {estimated(t.outside_breast)} |"
        for t in told.tampers
    ]
    return "\n".join(lines) + "\n"


def estimated(estimate: Estimate) -> str:
    """A value with its interval, as cards tell it."""
    if estimate.value is None:
        return "not known"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _cell(text: str) -> str:
    """Text of others in one cell of a table."""
    return " ".join(text.replace("|", "/").replace("<", "(").replace(">", ")").split())


def _evaluation(path: Path) -> Confirmation:
    todo = "run scanward tamper evaluate again"
    try:
        if path.stat().st_size > MAMMOGRAPHY_BOUNDS.manifest_bytes:
            raise DecodeError("larger than any evaluation", str(path), todo)
        return msgspec.json.decode(path.read_bytes(), type=Confirmation)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not an evaluation: {error}", str(path), todo) from error

"""The report of the demonstration of the images wing: one HTML file with its pictures, which opens offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scanward.cli.demo_images_caught import Caught, Pair

if TYPE_CHECKING:
    from scanward.forensics.examining import Heat
    from scanward.forensics.families import Sample
    from scanward.reading.report_blocks import Block
    from scanward.tampering.demonstration import Shown

FILE = "report.html"


def write_report(shown: Shown, caught: Caught, out: Path) -> Path:
    """Write ``out``/report.html.

    Raises
    ------
    InputError
        It cannot be written.
    """
    from scanward.errors import InputError
    from scanward.reading.mrmc.plots import encoded
    from scanward.reading.report_blocks import Drawing
    from scanward.reading.report_html import html
    from scanward.tampering.marking import write_whole

    blocks = list(_blocks(shown, caught))
    drawn = {one.name: encoded(one.figure, "svg") for one in blocks if isinstance(one, Drawing)}
    path = out / FILE
    try:
        write_whole(path, html(blocks, drawn).encode())
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(path), "give another --out") from error
    return path


def _blocks(shown: Shown, caught: Caught) -> Iterator[Block]:
    from scanward.forensics.figures import draw_pair
    from scanward.reading.report_blocks import Drawing, Heading, Paragraph, Table
    from scanward.tampering.demonstration import NOTICE

    yield Heading(1, "Scanward: who notices a modified mammogram? - PHANTOMS")
    yield Paragraph(NOTICE, "notice")
    for text in caught.words:
        yield Paragraph(text)
    yield Heading(2, "What was done")
    facts = shown.trained.facts
    yield Paragraph(
        f"{facts.preset.name} learned from {facts.healthy} healthy and {facts.cancer} ill breasts in "
        f"{facts.step} steps. "
        f"Of {caught.women} other women it modified {caught.modified} pictures: a lesion put in where "
        "there was none, and "
        f"taken out where there was one. Beside them, {caught.genuine} genuine pictures of the same women. What the "
        "generator does to cancers, and what classifiers say of it, is told in evaluation/evaluation.md."
    )
    yield Heading(2, "Simulated readers")
    yield Paragraph(
        "Model observers, not people: a detector of uneven noise that has learned nothing, and a "
        "reader's criterion and "
        "noise. Smooth changes escape it. They show how a study is analysed, and nothing about radiologists.",
        "warning",
    )
    yield Table(
        "SIMULATED readers: telling modified from genuine",
        ("", "AUC (95 %)"),
        (("by Obuchowski and Rockette, readers and women random", str(caught.readers)),),
    )
    yield Heading(2, "The detector")
    learned = ", ".join(f"{count} to {part}" for part, count in caught.learned.items())
    yield Paragraph(
        f"Women of the detector alone: {learned}. It learned from this generator and from copied tissue; "
        "of generators that "
        "it has not met it says less (docs/results.md)."
    )
    yield Table(
        f"Genuine against modified pictures of {caught.women} women whom nothing was learned from",
        ("", "figure (95 % by woman)"),
        (
            ("AUC", str(caught.detector)),
            ("modified pictures found", str(caught.found)),
            (f"genuine women alarmed at ({100 * caught.false_alarms:.3g} % set)", str(caught.alarmed)),
        ),
    )
    yield Heading(2, "Signatures")
    yield Paragraph(
        "Phantoms as DICOM, signed by a modality whose authority the archive trusts; then modified. All in memory: a "
        "modified picture without its marks is not written."
    )
    yield Table(
        "What scanward verify says",
        ("what was done", "should be", "was (files)", ""),
        tuple(
            (
                case.name,
                case.expected,
                ", ".join(f"{what} ({count})" for what, count in sorted(case.said.items())),
                "as it should be" if case.as_expected else "NOT as it should be",
            )
            for case in caught.signatures
        ),
    )
    yield Heading(2, "Pictures")
    yield Paragraph(
        "The first of each kind, not the best. Modified pictures say so in themselves. Heat: where the "
        "detector looks, "
        "from 0 (dark) to 1 (bright)."
    )
    for number, pair in enumerate(caught.pairs, 1):
        yield Heading(3, f"Pair {number}: a lesion {_done(pair)}")
        yield Drawing(f"pair-{number}", _alternative(number, pair), draw_pair(*_drawn(pair)))
        yield Table(
            f"Pair {number}: what the detector says",
            ("", "p", "likelihood ratio", "evidence"),
            (
                ("genuine", *_said(pair.found_genuine)),
                ("modified", *_said(pair.found_modified)),
            ),
        )
    yield Heading(2, "What this shows, and what it does not")
    yield Paragraph(
        "Phantoms have the spectrum of mammograms and no anatomy: what holds here shows that the "
        "machinery works. A signature "
        "proves that nothing was changed since it was made, and nothing of what happened before. A "
        "detector can be wrong "
        "both ways, and whoever knows it can train against it (docs/forensics-evaluation.md). In which "
        "order a vendor would "
        "build the answers: docs/guide-for-vendors.md."
    )


def _drawn(pair: Pair) -> tuple[Sample, Sample, Heat]:
    return pair.genuine, pair.modified, pair.found_modified.heat


def _said(found: object) -> tuple[str, str, str]:
    p, ratio, words = (getattr(found, name) for name in ("p_value", "likelihood_ratio", "words"))
    return f"{p:.2g}", f"{ratio:.2g}", " ".join(words)


def _done(pair: Pair) -> str:
    return "taken out" if pair.modified.cancer else "put in"


def _alternative(number: int, pair: Pair) -> str:
    """For who cannot see it."""
    return (
        f"Pair {number}, four pictures of one phantom breast: genuine; modified, a lesion {_done(pair)}; "
        "where it was modified, "
        f"{100 * float(pair.modified.region.sum()) / max(float(pair.modified.breast.sum()), 1):.1f} % of "
        "the breast; the "
        f"detector's heat over the modified one, at most {float(pair.found_modified.heat.max()):.2f}."
    )

"""A confirmation in words and tables: Markdown for pages, rows for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from scanward.tampering.evaluation.bootstrap import Estimate
from scanward.tampering.evaluation.processing import PLAIN
from scanward.tampering.evaluation.results import CONDITIONS, Confirmation, TamperResult

Row = tuple[str, ...]

OBJECTIONS = {
    "nothing": "no change",
    "area": "too small or too large",
    "contrast": "too faint or too bright",
    "share": "more than one blob",
    "compactness": "not compact",
    "depth": "too near the skin",
    "skin": "reaches out of the breast",
    "pectoral": "in the pectoral muscle",
}


def shown(estimate: Estimate, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
    """``0.93 (0.91 to 0.95)``; a dash where nothing was measured."""
    if estimate.value is None:
        return "-"
    text = f"{scale * estimate.value:.{digits}f}{unit}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({scale * estimate.low:.{digits}f} to {scale * estimate.high:.{digits}f})"


def percent(estimate: Estimate, digits: int = 0) -> str:
    """``93 % (91 to 95)``."""
    return shown(estimate, digits, 100.0, " %")


def detection_rows(told: Confirmation, processing: str = PLAIN) -> tuple[Row, list[Row]]:
    """One row per tamper and classifier: AUC genuine, after removal, insertion and both, and the paired difference."""
    head = ("modified by", "classifier", "genuine", *CONDITIONS, "genuine - both")
    rows: list[Row] = []
    for tamper in told.tampers:
        for classifier in told.classifiers:
            found = {c: tamper.find(classifier.name, c, processing) for c in CONDITIONS}
            rows.append(
                (
                    tamper.name,
                    classifier.name,
                    shown(classifier.genuine[processing]),
                    *(shown(found[c].auc) for c in CONDITIONS),
                    shown(found["both"].difference),
                )
            )
    return head, rows


def processing_rows(told: Confirmation) -> tuple[Row, list[Row]]:
    """The paired difference of both modified, after each processing of genuine and modified pictures alike."""
    head = ("modified by", "classifier", *told.settings.processings)
    rows: list[Row] = [
        (
            tamper.name,
            classifier.name,
            *(shown(tamper.find(classifier.name, "both", p).difference) for p in told.settings.processings),
        )
        for tamper in told.tampers
        for classifier in told.classifiers
    ]
    return head, rows


def lesion_rows(told: Confirmation) -> tuple[Row, list[Row]]:
    """Lesions removed and inserted, by the truth and by each classifier."""
    names = [c.name for c in told.classifiers]
    head = (
        "modified by",
        "lesions removed",
        "light left",
        "residue",
        *(f"no longer seen by {n}" for n in names),
        "plausible insertions",
        "in place",
        *(f"and seen by {n}" for n in names),
    )
    rows: list[Row] = []
    for tamper in told.tampers:
        by = {n: tamper.of_classifier(n) for n in names}
        rows.append(
            (
                tamper.name,
                percent(tamper.removed),
                shown(tamper.remaining),
                shown(tamper.residue),
                *(percent(by[n].removed) for n in names),
                percent(tamper.plausible),
                percent(tamper.in_place),
                *(percent(by[n].inserted) for n in names),
            )
        )
    return head, rows


def cost_rows(told: Confirmation) -> tuple[Row, list[Row]]:
    """What else was changed, and how well the way back goes. Grey levels in per cent of the range."""
    head = (
        "modified by",
        "outside the breast",
        "outside the region / inside, removal",
        "the same, insertion",
        "healthy breast, removal",
        "cycle error healthy",
        "cycle error cancer",
        "ms per picture",
    )
    rows: list[Row] = [
        (
            tamper.name,
            shown(tamper.outside_breast, 2, 1.0, " %"),
            shown(tamper.outside_removal, 3),
            shown(tamper.outside_insertion, 3),
            shown(tamper.untouched_healthy, 2, 1.0, " %"),
            shown(tamper.cycle_healthy, 2, 1.0, " %"),
            shown(tamper.cycle_cancer, 2, 1.0, " %"),
            f"{1000 * tamper.seconds:.1f}",
        )
        for tamper in told.tampers
    ]
    return head, rows


def objections(tamper: TamperResult) -> str:
    """Why insertions are not plausible, commonest first; empty when all are."""
    found = sorted(tamper.objections.items(), key=lambda item: -item[1])
    return ", ".join(f"{OBJECTIONS.get(name, name)} {count}" for name, count in found)


def summary(told: Confirmation) -> str:
    """Who was asked, on what, and whether anything may be claimed."""
    test, learn = told.parts["test"], told.parts["learn"]
    aucs = ", ".join(f"`{c.name}` {shown(c.genuine[PLAIN], 3)}" for c in told.classifiers)
    lines = [
        f"{test.healthy} healthy and {test.cancer} cancerous pictures of {test.patients} patients, {told.rows} x "
        f"{told.columns} px; classifiers learned from {learn.healthy} and {learn.cancer} genuine pictures of "
        f"{learn.patients} others. AUC on the genuine test: {aucs}.",
    ]
    if not told.assessable:
        lines.append(f"**Not assessable: {told.why_not}.** Nothing is claimed by such a classifier.")
    if told.settings.exploratory:
        lines.append(
            f"**Exploratory: classifiers with an AUC down to {told.settings.least_auc:g} were asked.** "
            "Nothing is claimed."
        )
    truth = (
        "the very same phantoms without their lesions"
        if told.truth == "twins"
        else "the surroundings of each outlined lesion: the truth is not known"
    )
    lines.append(
        f"Removal is measured against {truth}. A plausible insertion lies within the range (1-99 %) of "
        f"{told.lesions_measured} genuine lesions; of the genuine lesions of the test {percent(told.ceiling)} do."
    )
    return "\n\n".join(lines)


def verdicts(told: Confirmation) -> str:
    """One line for each tamper: what may be said of it."""
    lines = []
    for tamper in told.tampers:
        why = objections(tamper)
        lines.append(
            f"* `{tamper.name}` ({'truth' if tamper.kind == 'truth' else tamper.kind}"
            f"{', told where' if tamper.told and tamper.kind != 'truth' else ''}): {tamper.verdict}."
            + (f" Insertions refused: {why}." if why else "")
        )
    return "\n".join(lines)


def markdown(told: Confirmation) -> str:
    """All of it as a section of a page, without a heading of its own."""
    level = f"{100 * told.settings.level:g} %"
    parts = [
        summary(told),
        verdicts(told),
        f"AUC, healthy against cancer, where one or both sides were modified ({level} intervals, "
        f"{told.settings.resamples} bootstrap draws of whole patients; *removal of all* sends both sides through "
        "removal):",
        _table(*detection_rows(told)),
        "Paired difference of AUC, genuine minus both modified, after processing genuine and modified alike:",
        _table(*processing_rows(told)),
        "Lesions by the truth and by the classifiers:",
        _table(*lesion_rows(told)),
        "What else was changed (mean absolute grey level, per cent of the range) and the way back. A cycle error "
        "of 0 is no success: doing nothing has it too.",
        _table(*cost_rows(told)),
    ]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])

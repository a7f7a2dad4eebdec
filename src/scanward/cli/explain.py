"""``scanward explain``: why one command was judged as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward import keys
from scanward.cli.judge import read_recording, reading_options
from scanward.cli.output import escape, note, print_json, print_table
from scanward.cli.trust import open_bundle
from scanward.commands import RULE_LAYERS, Command, LayerName, Objection, Opinion, Outcome, unit_of

if TYPE_CHECKING:
    from scanward.bundle.explaining import Before, Explanation

_BEFORE_FIELDS = (
    "ProtocolElementName",
    "AcquisitionType",
    "KVP",
    "XRayTubeCurrentInmA",
    "CTDIvol",
    "ScanLength",
)


@click.command("explain", short_help="Say why one command was judged as it was.")
@reading_options
@click.option(
    "--row", required=True, type=click.IntRange(0), help="The row, as `judge` counts them (0-based)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain_command(
    recordings: tuple[Path, ...],
    model: Path,
    dialect_path: Path | None,
    site_key_path: Path | None,
    trust: tuple[Path, ...],
    unsafe_any_key: bool,
    versions: Path | None,
    unsafe_any_version: bool,
    row: int,
    as_json: bool,
) -> None:
    """Say why one row of RECORDINGS was judged as it was.

    Shows the verdict, the command and its context, what the examination looked like before it, and every
    layer's opinion: the objecting fields with what was found, what was expected, and the p-values. The
    p-value of a single layer explains and promises nothing; only that of the verdict is held against the
    budget.

    \b
    Example:
      scanward explain today.csv --model scanner-1 --row 17
      scanward explain today.csv --model scanner-1 --row 17 --json
    """
    from scanward.bundle.explaining import explain
    from scanward.bundle.judging import Docket, load, refuse_misfit

    bundle = open_bundle(
        model, trust, any_key=unsafe_any_key, versions=versions, any_version=unsafe_any_version
    )
    site_key = keys.load_site_key(site_key_path) if site_key_path else None
    recording = read_recording(recordings, dialect_path, site_key)
    fingerprint = keys.site_key_fingerprint(site_key) if site_key else None
    notes = refuse_misfit(bundle.manifest, recording, fingerprint)
    onion = load(bundle.part, str(model))
    found = explain(onion, Docket(bundle.manifest, recording), row)
    if as_json:
        print_json(as_plain(found, onion.budget))
        return
    _show(found, onion.budget)
    for text in notes:
        note(f"note: {text}")


def as_plain(found: Explanation, budget: float) -> dict[str, Any]:
    """The explanation as ``--json`` prints it."""
    judgement = found.judgement
    return {
        "row": found.row,
        "file": found.origin.path,
        "file_row": found.origin.row,
        "verdict": found.answer.verdict,
        "p_value": found.answer.p_value,
        "budget": budget,
        "layer": found.answer.layer,
        "fields": list(found.answer.fields),
        "reason": found.answer.reason,
        "duplicate_of": found.repeats,
        "command": None if found.command is None else _command(found.command),
        "before": [_before(one) for one in found.before],
        "layers": [] if judgement is None else [_opinion(o) for o in judgement.opinions],
    }


def _command(command: Command) -> dict[str, Any]:
    return {
        "role": command.role,
        "mode": command.mode,
        "device": f"{command.device.manufacturer} {command.device.model}".strip(),
        "examination": command.examination,
        "parameters": dict(command.parameters),
        "context": {
            name: [{"value": one.value, "source": one.source} for one in told]
            for name, told in command.context.parts.items()
        },
    }


def _before(one: Before) -> dict[str, Any]:
    said = {name: one.command.value(name) for name in _BEFORE_FIELDS}
    return {"row": one.row, "verdict": one.answer.verdict, **{k: v for k, v in said.items() if v is not None}}


def _opinion(opinion: Opinion) -> dict[str, Any]:
    return {
        "layer": opinion.layer,
        "outcome": opinion.outcome,
        "p_value": opinion.p_value,
        "score": opinion.score,
        "reason": opinion.reason,
        "objections": [_objection(one) for one in opinion.objections],
    }


def _objection(one: Objection) -> dict[str, Any]:
    return {
        "field": one.field,
        "found": one.found,
        "expected": one.expected,
        "low": one.low,
        "high": one.high,
        "values": list(one.values),
        "unit": unit_of(one.field),
        "severity": one.severity.name,
        "reason": one.reason,
    }


# --- for people


def _show(found: Explanation, budget: float) -> None:
    given = found.answer
    decided = f" by layer {given.layer.value}" if given.layer else ""
    click.echo(f"row {found.row}: {given.verdict.value}{decided}  ({escape(str(found.origin))})")
    if given.reason:
        click.echo(f"  {escape(given.reason)}")
    if given.p_value is not None:
        side = "at most" if given.p_value <= budget else "above"
        click.echo(f"  p-value {given.p_value:.4g}, {side} the budget of {budget:g}")
    if found.command is not None:
        _show_command(found.command)
    if found.judgement is None:
        why = "The row could not be read" if found.command is None else "The row is of another device"
        click.echo(f"{why}: no layer but form was asked.")
        return
    _show_before(found.before)
    _show_opinions(found.judgement.opinions)


def _show_command(command: Command) -> None:
    rows: list[tuple[object, ...]] = [
        (name, _shown(value), unit_of(name), command.role_of(name).value)
        for name, value in sorted(command.parameters.items())
    ]
    print_table(("field", "value", "unit", "role"), rows, title="The command")
    told = [
        (name, _shown(one.value), unit_of(name), one.source.value)
        for name, parts in sorted(command.context.parts.items())
        for one in parts
    ]
    if told:
        print_table(("part", "value", "unit", "told by"), told, title="Its context")
    else:
        click.echo("Its context: nothing was told of patient and objective.")


def _show_before(before: Iterable[Before]) -> None:
    facts = [_before(one) for one in before]
    if not facts:
        click.echo("Nothing was sent in this examination before it.")
        return
    columns = [name for name in _BEFORE_FIELDS if any(name in one for one in facts)]
    print_table(
        ("row", *columns, "verdict"),
        [(one["row"], *(_shown(one.get(name)) for name in columns), one["verdict"].value) for one in facts],
        title="The examination before it",
    )


def _show_opinions(opinions: tuple[Opinion, ...]) -> None:
    asked: Mapping[LayerName, Opinion] = {opinion.layer: opinion for opinion in opinions}
    rows: list[tuple[object, ...]] = []
    for name in LayerName:
        opinion = asked.get(name)
        if opinion is None:
            rows.append((name.value, "not asked", None, "form had found the command malformed"))
        else:
            said = opinion.reason or ("" if opinion.outcome is not Outcome.OBJECT else "see below")
            rows.append((name.value, opinion.outcome.value, opinion.p_value, said))
    print_table(("layer", "opinion", "p-value", "remark"), rows, title="What the layers say")
    objections = [(opinion, one) for opinion in opinions for one in opinion.objections]
    if not objections:
        click.echo("No layer objects to a single field.")
        return
    print_table(
        ("layer", "field", "found", "expected", "grave", "why"),
        [
            (
                opinion.layer.value,
                one.field,
                _shown(one.found),
                one.expected or _range(one),
                one.severity.name.lower() if opinion.layer in RULE_LAYERS else "",
                one.reason,
            )
            for opinion, one in objections
        ],
        title="Objections",
        caption="Objections of the learned layers explain; their one combined p-value decides.",
    )


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _range(one: Objection) -> str:
    if one.values:
        return " or ".join(_shown(value) for value in one.values[:5])
    ends = [("at least", one.low), ("at most", one.high)]
    return " and ".join(f"{word} {end:.4g}" for word, end in ends if end is not None)

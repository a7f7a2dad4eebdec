"""A dialect to edit, drafted from what a table's columns look like."""

from __future__ import annotations

from scanward.commands import FIELDS
from scanward.errors import InputError
from scanward.recordings.dialect import Dialect, FieldRule, known_rule
from scanward.recordings.dialect_dump import dump_dialect
from scanward.recordings.dialect_toml import parse_dialect
from scanward.recordings.survey import ColumnSurvey, Survey
from scanward.recordings.units import AGE_STRING, factor


def draft_dialect(survey: Survey) -> tuple[Dialect, tuple[str, ...]]:
    """The dialect of the first table surveyed, with its guesses as rules, and comments on what is left.

    Raises
    ------
    InputError
        When no table was surveyed.
    """
    if not survey.plans:
        raise InputError(
            "no table to write a dialect for", "inspect", "give a CSV, JSON Lines or Parquet table"
        )
    path, plan = next(iter(survey.plans.items()))
    columns = [column for column in survey.columns if column.table == path]
    taken = {(rule.field, rule.source) for rule in plan.rules}
    rules = [rule for rule in plan.rules if rule.field.isidentifier()]
    comments: list[str] = []
    if not plan.examination:
        comments += [
            "Without an examination every command stands alone; to group them add",
            "  [examination]",
        ]
        comments += ["  columns = [...]  (one or more columns that tell examinations apart)"]
    for column in columns:
        guess = column.guess
        if guess is None or column.fields:
            comments += _left_over(column)
            continue
        rule = _rule(column, guess.field, guess.unit, plan.dialect)
        if (rule.field, rule.source) in taken:
            comments.append(
                f"{column.column}: may be {guess.field} too ({guess.why}); another column is used"
            )
        else:
            taken.add((rule.field, rule.source))
            rules.append(rule)
            comments.append(f"{column.column}: taken for {guess.field} ({guess.why}); check it")
    old = plan.dialect
    drafted = Dialect(
        name=old.name or "draft: check every line",
        description=old.description,
        role=old.role,
        mode=old.mode,
        source=old.source,
        keywords=old.keywords,
        ignore=old.ignore,
        missing=old.missing,
        delimiter=old.delimiter,
        encoding=old.encoding,
        decimal=old.decimal,
        fields=tuple(rules),
        device=plan.device,
        examination=plan.examination,
        event=plan.event,
        order=plan.order,
        time=plan.time,
        time_format=old.time_format,
        modes=old.modes,
    )
    return drafted, tuple(comments)


def draft_text(survey: Survey) -> str:
    """The draft as TOML that is known to load back.

    Raises
    ------
    InputError
        As ``draft_dialect``.
    """
    drafted, comments = draft_dialect(survey)
    text = dump_dialect(drafted, comments)
    parse_dialect(text, "the drafted dialect")
    return text


def _rule(column: ColumnSurvey, name: str, unit: str, dialect: Dialect) -> FieldRule:
    rule = known_rule(name, column.column, unit=unit, source=dialect.source)
    by = 1.0 if unit in {"", AGE_STRING} else factor(unit, FIELDS[name].unit)
    assert by is not None  # guesses are made from the same table of units
    return FieldRule(
        name, (column.column,), rule.kind, rule.group, rule.unit, rule.target_unit, by, source=rule.source
    )


def _left_over(column: ColumnSurvey) -> list[str]:
    if column.guess is not None:
        return [
            f"{column.column}: the numbers look like {column.guess.unit}, "
            f"not {column.unit}; if so, say unit = {column.guess.unit!r}"
        ]
    if column.fields:
        return []
    if column.identifying:
        return [f"{column.column}: identifies somebody or something; never kept"]
    return [
        f"{column.column}: not used; to use it add",
        f"  [fields.YourName]  with  column = {column.column!r}  and  kind = {column.kind!r}",
    ]

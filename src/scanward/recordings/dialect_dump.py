"""Dialects to TOML, so that they load back as they were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from scanward.commands import FIELDS, Source, Value
from scanward.recordings.dialect import FORMAT, Combine, Dialect, FieldRule


def dump_dialect(dialect: Dialect, comments: Iterable[str] = ()) -> str:
    """TOML text that ``parse_dialect`` turns back into the same dialect; ``comments`` end it."""
    lines = [f"format = {FORMAT}"]
    for key, text in (("name", dialect.name), ("description", dialect.description)):
        if text:
            lines.append(f"{key} = {_quoted(text)}")
    lines += [
        f"role = {_quoted(dialect.role)}  # commanded, forecast or performed",
        f"mode = {_quoted(dialect.mode)}  # CLINICAL, QA or SERVICE",
        f"source = {_quoted(dialect.source)}  # who told the context: host, worklist, localizer, operator",
        f"keywords = {'true' if dialect.keywords else 'false'}",
        f"ignore = {_list(dialect.ignore)}",
        f"missing = {_list(dialect.missing)}",
    ]
    table = [(k, getattr(dialect, k)) for k in ("delimiter", "encoding", "decimal")]
    if any(value for _, value in table):
        lines += ["", "[table]", *(f"{key} = {_quoted(value)}" for key, value in table if value)]
    if dialect.device:
        lines += ["", "[device]"]
        for key, told in dialect.device.items():
            by_column = f"{{ column = {_quoted(told.column)} }}"
            lines.append(f"{key} = {by_column if told.column else _quoted(told.constant)}")
    for key in ("examination", "event", "order"):
        if columns := getattr(dialect, key):
            lines += ["", f"[{key}]", f"columns = {_list(columns)}"]
    if dialect.time:
        lines += ["", "[time]", f"columns = {_list(dialect.time)}"]
        lines += [f"format = {_quoted(dialect.time_format)}"] if dialect.time_format else []
    for rule in dialect.fields:
        lines += ["", *_dump_field(rule, dialect.source)]
    for mode in dialect.modes:
        lines += ["", "[[modes]]", f"mode = {_quoted(mode.mode)}", f"column = {_quoted(mode.column)}"]
        for key, texts in (("equals", mode.equals), ("contains", mode.contains)):
            lines += [f"{key} = {_list(texts)}"] if texts else []
    notes = [f"# {line}".rstrip() for comment in comments for line in _printable(comment).split("\n")]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _dump_field(rule: FieldRule, default_source: Source) -> list[str]:
    known = FIELDS.get(rule.field)
    # Two rules of one field differ in their source, and TOML wants two names.
    marked = rule.is_context and rule.source is not default_source
    lines = [f"[fields.{_quoted(f'{rule.field}@{rule.source}') if marked else rule.field}]"]
    if rule.constant is not None:
        lines.append(f"value = {_written(rule.constant)}")
    elif len(rule.columns) == 1:
        lines.append(f"column = {_quoted(rule.columns[0])}")
    else:
        lines.append(f"columns = {_list(rule.columns)}")
    if rule.combine is not Combine.FIRST or len(rule.columns) > 1:
        lines.append(f"combine = {_quoted(rule.combine)}")
    if known is None:
        lines += [f"kind = {_quoted(rule.kind)}", f"group = {_quoted(rule.group)}"]
    if rule.unit:
        lines.append(f"unit = {_quoted(rule.unit)}")
    if rule.role is not None:
        lines.append(f"role = {_quoted(rule.role)}")
    if rule.missing:
        lines.append(f"missing = {_list(rule.missing)}")
    if rule.optional:
        lines.append("optional = true")
    for key, mapping in (("values", rule.values), ("signs", rule.signs)):
        if mapping:
            whole = key == "signs"  # 1 and -1, the only ones allowed
            inner = ", ".join(f"{_quoted(k)} = {_written(v, whole)}" for k, v in mapping.items())
            lines.append(f"{key} = {{ {inner} }}")
    return lines


def _written(value: Value, whole: bool = False) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return f"{value:g}" if whole else repr(value)


def _quoted(text: str) -> str:
    # JSON's escapes are a subset of TOML's basic strings, save DEL, which TOML forbids bare.
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(_quoted(text) for text in texts)}]"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)

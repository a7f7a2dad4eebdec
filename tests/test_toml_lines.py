"""Every error in a TOML file names its line and a cure; the scanner agrees with tomllib and never fails."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.errors import PolicyError, SettingsError
from scanward.guard import toml_lines
from scanward.guard.toml_lines import Section, parse

TEXT = b"""\
# a comment with [brackets] and key = 1
title = "x"          # 2
a.b = 1
"quoted key" = 'y'   # 4
long = \"\"\"
[not.a.table]
c = 1 \\\"\"\" still inside
\"\"\"
list = [             # 9
  1,
  # 11
  { p = 1, q = [2, 3] },
]
[one.two]            # 14
three = 3
inline = { x = 1, y.z = "]}" }
[[rows]]             # 17
v = 1
[[rows]]
v = 2                # 20
[rows.sub]
w = 3
[[rows.more]]        # 23
u = 4
"""


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def section(text: str, error: Any = SettingsError) -> Section:
    return parse(text.encode(), "guard.toml", 10_000, error)[0]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a", "b"), 3),
        (("quoted key",), 4),
        (("long",), 5),
        (("list",), 9),
        (("list", 0), 10),
        (("list", 1, "q"), 12),
        (("list", 1, "q", 1), 12),
        (("one", "two"), 14),
        (("one", "two", "three"), 15),
        (("one", "two", "inline", "y", "z"), 16),
        (("rows",), 17),
        (("rows", 0, "v"), 18),
        (("rows", 1, "v"), 20),
        (("rows", 1, "sub", "w"), 22),
        (("rows", 1, "more", 0, "u"), 24),
        (("one", "two", "absent"), 14),
        (("nowhere",), None),
    ],
)
def test_every_key_has_its_line(path: tuple[str | int, ...], line: int | None) -> None:
    top, _ = parse(TEXT, "guard.toml", 10_000)
    assert top._lines.line(path) == line


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found |= paths(inner, (*path, key))
    return found


def test_the_scanner_finds_every_key_that_tomllib_finds() -> None:
    values = tomllib.loads(TEXT.decode())
    found = toml_lines._scan(TEXT.decode())
    assert paths(values) - set(found) <= {("one",)}  # a header's own parents have no line of their own


KEYS = st.text("ab", min_size=1, max_size=2)
SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.text("[]{}#=\",\n a'\\", max_size=6))
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


def written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ",\n ".join(map(written, value)) + "]"
    return "{" + ", ".join(f"{key} = {written(inner)}" for key, inner in value.items()) + "}"


@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_whatever_is_valid_is_understood_to_the_end(tree: dict[str, Any]) -> None:
    text = "".join(f"{key} = {written(value)}  # [x]\n" for key, value in tree.items())
    assert tomllib.loads(text) == tree
    found = toml_lines._scan(text)
    assert set(found) == paths(tree)
    assert list(found.values()) == sorted(found.values())


@given(st.binary(max_size=80) | st.text("[]{}#=\",\n.a'\\1", max_size=60).map(str.encode))
def test_any_bytes_give_a_document_or_our_error(data: bytes) -> None:
    trouble = None
    try:
        top, values = parse(data, "guard.toml", 64, PolicyError)
    except PolicyError as error:
        trouble = error
    if trouble is None:
        assert set(top.keys()) == set(values)
    else:
        assert trouble.where.startswith("guard.toml")
        assert trouble.todo


@pytest.mark.parametrize(
    ("text", "take", "line", "says"),
    [
        ("a = 1\nb = x\n", None, 2, "not TOML"),
        ("a = 1\na = 2\n", None, 2, "not TOML"),
        ('\n\nspeed = "fast"', lambda s: s.number("speed"), 3, "needs a number"),
        ("speed = nan", lambda s: s.number("speed"), 1, "needs a number"),
        ("speed = true", lambda s: s.number("speed"), 1, "needs a number"),
        ("speed = 7", lambda s: s.number("speed", low=0, high=5, unit="mm/s"), 1, "mm/s"),
        ("speed = 1.5", lambda s: s.whole("speed"), 1, "whole number"),
        ("\nname = 3", lambda s: s.text("name"), 2, "needs text"),
        ('name = "a\\u001b"', lambda s: s.text("name"), 1, "one line"),
        ('name = "a b"', lambda s: s.text("name", pattern="[a-z]+"), 1, "another form"),
        ("on = 1", lambda s: s.flag("on"), 1, "true or false"),
        ('c = "green"', lambda s: s.choice("c", Colour), 1, "'red', 'blue'"),
        ('l = ["a", 1]', lambda s: s.texts("l"), 1, "list of texts"),
        ("t = 1", lambda s: s.section("t"), 1, "[t]"),
        ("t = [1]", lambda s: s.sections("t"), 1, "[[t]]"),
        ("\n[t]\nx = 1\ny = 2", lambda s: (t := s.section("t"), t.number("x"), t.done()), 4, "unknown key"),
        ("[t]\nhold_secnds = 1", lambda s: s.section("t").number("hold_seconds"), 1, "did you mean"),
        ("[[t]]\n[[t]]\nx = 'a'", lambda s: [t.number("x", 0.0) for t in s.sections("t")], 3, "t[2].x"),
    ],
)
def test_an_error_names_line_and_cure(text: str, take: Any, line: int, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        take(section(text)) if take else section(text)
    assert caught.value.where == f"guard.toml, line {line}"
    assert says in str(caught.value)
    assert caught.value.todo


def test_a_mistyped_key_is_answered_with_the_right_one() -> None:
    top = section("hold_secs = 3")
    top.number("hold_seconds", 60.0)
    with pytest.raises(SettingsError, match="did you mean 'hold_seconds'"):
        top.done()


def test_what_is_right_is_taken() -> None:
    top = section('a = 1\nb = "x"\nc = true\nd = "red"\ne = ["p"]\n[f]\n[[g]]\nh = 2\n[i.j]\n')
    assert top.number("a") == 1.0
    assert top.text("b") == "x"
    assert top.flag("c") is True
    assert top.choice("d", Colour) is Colour.RED
    assert top.texts("e") == ("p",)
    assert top.section("f").keys() == ()
    assert [g.whole("h") for g in top.sections("g")] == [2]
    assert [name for name, _ in top.section("i").named_sections()] == ["j"]
    assert top.number("k", None) is None
    top.done()


def test_a_file_beyond_its_bound_is_not_parsed() -> None:
    with pytest.raises(SettingsError, match="larger than 10"):
        parse(b"#" * 11, "guard.toml", 10)

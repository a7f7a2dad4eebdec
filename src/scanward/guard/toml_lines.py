"""TOML whose errors name the line and the cure: shared by the policy, the device profile and ``guard.toml``.

``tomllib`` forgets where a value stood. A small scanner walks the same text again (valid by then) and notes the
line of every key; `Section` takes values out of a table with checks, and refuses what nobody asked for.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from scanward.errors import ScanwardError, SettingsError

Path = tuple[str | int, ...]
Choice = TypeVar("Choice", bound=StrEnum)

_MISSING: Any = object()


class Lines:
    """Where the keys of a TOML text stand. ``line`` answers for the nearest enclosing key it knows."""

    def __init__(self, found: Mapping[Path, int]) -> None:
        self._found = dict(found)

    def line(self, path: Path) -> int | None:
        """1-based line of the key (or array entry) at ``path``, of its table where it has none of its own."""
        while path:
            if path in self._found:
                return self._found[path]
            path = path[:-1]
        return None


class Section:
    """One table of a document; every value is taken out once, and ``done`` refuses what is left.

    Parameters
    ----------
    values : mapping
        What ``tomllib`` read.
    where : str
        Name of the file, for errors.
    error : type of ScanwardError
        What to raise.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        lines: Lines,
        where: str,
        error: type[ScanwardError] = SettingsError,
        path: Path = (),
    ) -> None:
        self._left = dict(values)
        self._lines = lines
        self.where = where
        self._error = error
        self.path = path
        self._known: list[str] = []

    # --- errors

    def fail(self, what: str, key: str | None = None, todo: str = "") -> ScanwardError:
        """An error about ``key`` (or this table): what, file and line, what to do."""
        path = self.path if key is None else (*self.path, key)
        line = self._lines.line(path)
        name = _dotted(path)
        place = f"{self.where}, line {line}" if line else self.where
        return self._error(f"{name}: {what}" if name else what, place, todo or "correct it")

    def line(self, key: str | None = None) -> int | None:
        """Line of ``key``, or of this table."""
        return self._lines.line(self.path if key is None else (*self.path, key))

    # --- looking

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def keys(self) -> tuple[str, ...]:
        """Keys nobody has taken yet, in the order of the file."""
        return tuple(self._left)

    # --- taking

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        if key in self._left:
            return self._left.pop(key)
        if default is _MISSING:
            near = self._near(key)
            todo = f"did you mean this by {near!r}? call it {key!r}" if near else f"add {key} = ..."
            raise self.fail(f"the key {key!r} is missing", None, todo)
        return _MISSING

    def _near(self, key: str) -> str:
        return next(iter(difflib.get_close_matches(key, list(self._left), 1, 0.75)), "")

    def number(
        self,
        key: str,
        default: Any = _MISSING,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        unit: str = "",
    ) -> Any:
        """A finite number within ``low`` and ``high`` as a float; ``default`` when absent (needed without)."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(f"needs a number{_of(unit)}", key, f"write {key} = {_sample(low, high)}")
        if not low <= value <= high:
            bounds = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise self.fail(f"{value:g} is out of range{_of(unit)}", key, f"give {bounds}")
        return float(value)

    def whole(self, key: str, default: Any = _MISSING, *, low: int = 0, high: int = 1 << 53) -> Any:
        """A whole number within ``low`` and ``high``."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail("needs a whole number", key, f"give {low} to {high}")
        return value

    def text(self, key: str, default: Any = _MISSING, *, most: int = 1024, pattern: str = "") -> Any:
        """A text of at most ``most`` characters, printable, matching ``pattern`` where one is given."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        if not isinstance(value, str):
            raise self.fail("needs text", key, f'write {key} = "..."')
        if len(value) > most or not (value.isprintable() or not value):
            raise self.fail(f"needs one line of at most {most} characters", key)
        if pattern and not re.fullmatch(pattern, value):
            raise self.fail(f"{value!r} has another form than {pattern}", key)
        return value

    def flag(self, key: str, default: Any = _MISSING) -> Any:
        """true or false."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        if not isinstance(value, bool):
            raise self.fail("needs true or false", key, f"write {key} = true or {key} = false")
        return value

    def choice(self, key: str, kind: type[Choice], default: Any = _MISSING) -> Any:
        """One of the values of an enumeration, in its own spelling."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(repr(each.value) for each in kind)
            raise self.fail(f"{value!r} is not known", key, f"use one of {known}") from None

    def texts(self, key: str, default: Any = _MISSING, *, most: int = 256) -> Any:
        """A list of texts, as a tuple."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        if not isinstance(value, list) or not all(isinstance(v, str) and v.isprintable() for v in value):
            raise self.fail("needs a list of texts", key, f'write {key} = ["...", "..."]')
        if len(value) > most:
            raise self.fail(f"has more than {most} entries", key, "shorten it")
        return tuple(value)

    def day(self, key: str, default: Any = _MISSING) -> Any:
        """A date, such as 2027-12-31, without a time."""
        value = self._take(key, default)
        if value is _MISSING:
            return default
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.fail("needs a day", key, f"write {key} = 2027-12-31, without quotes")
        return value

    def pair(self, key: str) -> tuple[float, float]:
        """``[low, high]``, two finite numbers in this order."""
        value = self._take(key, _MISSING)
        numbers = isinstance(value, list) and len(value) == 2
        if not numbers or any(
            isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in value
        ):
            raise self.fail("needs two numbers", key, f"write {key} = [least, largest]")
        if value[0] > value[1]:
            raise self.fail(f"[{value[0]:g}, {value[1]:g}] is the wrong way round", key)
        return float(value[0]), float(value[1])

    def section(self, key: str, *, needed: bool = False) -> Section:
        """A table; an empty one where it is absent and not ``needed``."""
        value = self._take(key, _MISSING if needed else None)
        if value is _MISSING:
            value = {}
        if not isinstance(value, dict):
            raise self.fail("needs a table", key, f"write [{_dotted((*self.path, key))}]")
        return Section(value, self._lines, self.where, self._error, (*self.path, key))

    def sections(self, key: str, *, most: int = 1024) -> tuple[Section, ...]:
        """An array of tables, none where it is absent."""
        value = self._take(key, None)
        if value is _MISSING:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise self.fail("needs tables", key, f"write [[{_dotted((*self.path, key))}]]")
        if len(value) > most:
            raise self.fail(f"has more than {most} entries", key, "shorten it")
        return tuple(
            Section(v, self._lines, self.where, self._error, (*self.path, key, i))
            for i, v in enumerate(value)
        )

    def named_sections(self, *, most: int = 1024) -> tuple[tuple[str, Section], ...]:
        """All tables left in this one, by their own names: for names that the file's author chooses."""
        names = self.keys()
        if len(names) > most:
            raise self.fail(f"has more than {most} entries", None, "shorten it")
        return tuple((name, self.section(name)) for name in names)

    def done(self) -> None:
        """Refuse the first key that was not taken: a mistyped word must not be ignored."""
        if not self._left:
            return
        key = next(iter(self._left))
        near = next(iter(difflib.get_close_matches(key, self._known, 1, 0.6)), "")
        known = ", ".join(dict.fromkeys(self._known)) or "nothing"
        raise self.fail("unknown key", key, f"did you mean {near!r}?" if near else f"known here: {known}")


def parse(
    data: bytes, where: str, most_bytes: int, error: type[ScanwardError] = SettingsError
) -> tuple[Section, dict[str, Any]]:
    """Read a TOML text: the document as a `Section`, and the plain values.

    Raises
    ------
    ScanwardError of the class ``error``
        Too large, not UTF-8, not TOML (the line is named).
    """
    if len(data) > most_bytes:
        raise error(f"larger than {most_bytes} bytes", where, "shorten it")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise error("not UTF-8", f"{where}, line {line}", "save it as UTF-8") from problem
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as problem:
        # "... (at line 3, column 5)"
        told = str(problem) if not isinstance(problem, RecursionError) else "nested too deeply"
        found = re.search(r"\(at line (\d+)", told)
        place = f"{where}, line {found.group(1)}" if found else where
        what = re.sub(r" \(at .*\)$", "", told)
        raise error(f"not TOML: {what}", place, "correct the line") from problem
    return Section(values, Lines(_scan(text)), where, error), values


def _of(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _sample(low: float, high: float) -> str:
    return f"{low:g}" if math.isfinite(low) else f"{high:g}" if math.isfinite(high) else "1.0"


def _dotted(path: Path) -> str:
    out = ""
    for part in path:
        out += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if out else part
    return out


# --- the scanner: only for text that tomllib has accepted

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]+")


def _scan(text: str) -> dict[Path, int]:
    """Line of every key and array entry. Stops quietly where it understands no more: lines are a courtesy."""
    scanner = _Scanner(text)
    with contextlib.suppress(IndexError, RecursionError, _LostError):
        scanner.document()
    return scanner.found


class _LostError(Exception):
    """The scanner understands no more."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._counted = (0, 1)

    def line(self) -> int:
        at, line = self._counted
        line += self.text.count("\n", at, self.at)
        self._counted = (self.at, line)
        return line

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            if self.text.startswith("[[", self.at):
                line, self.at = self.line(), self.at + 2
                table = self._resolved(self._key())
                number = self._arrays.get(table, -1) + 1
                self._arrays[table] = number
                self.found.setdefault(table, line)
                table = (*table, number)
                self.found[table] = line
                self._expect("]]")
            elif self.text[self.at] == "[":
                line, self.at = self.line(), self.at + 1
                table = self._resolved(self._key())
                self.found[table] = line
                self._expect("]")
            else:
                self._pair(table)

    def _resolved(self, key: tuple[str, ...]) -> Path:
        """A header's key with the number of the newest entry after each array of tables it passes through."""
        path: Path = ()
        for place, part in enumerate(key):
            path = (*path, part)
            if path in self._arrays and place < len(key) - 1:
                path = (*path, self._arrays[path])
        return path

    def _pair(self, table: Path) -> None:
        line = self.line()
        key = self._key()
        for end in range(1, len(key) + 1):
            self.found.setdefault((*table, *key[:end]), line)
        self._expect("=")
        self._skip(_SPACE)
        self._value((*table, *key))

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            string = _STRING.match(self.text, self.at)
            bare = string or _BARE.match(self.text, self.at)
            if not bare:
                raise _LostError
            self.at = bare.end()
            parts.append(_unquoted(bare.group()) if string else bare.group())
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _value(self, path: Path) -> None:
        opening = self.text[self.at]
        string = _STRING.match(self.text, self.at)
        if string:
            self.at = string.end()
        elif opening in "[{":
            closing, number = "]" if opening == "[" else "}", 0
            self.at += 1
            while True:
                self._skip(_BLANK)
                if self.text[self.at] == closing:
                    self.at += 1
                    return
                if self.text[self.at] == ",":
                    self.at += 1
                elif opening == "[":
                    self.found[(*path, number)] = self.line()
                    self._value((*path, number))
                    number += 1
                else:
                    self._pair(path)
        else:
            scalar = _SCALAR.match(self.text, self.at)
            if not scalar:
                raise _LostError
            self.at = scalar.end()

    def _skip(self, what: re.Pattern[str]) -> None:
        matched = what.match(self.text, self.at)
        if matched:
            self.at = matched.end()

    def _expect(self, what: str) -> None:
        self._skip(_SPACE)
        if not self.text.startswith(what, self.at):
            raise _LostError
        self.at += len(what)


def _unquoted(quoted: str) -> str:
    return str(tomllib.loads(f"key = {quoted}")["key"])

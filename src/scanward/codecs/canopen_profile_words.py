"""Reading a profile's tables key by key: every key is asked for by type, and none may be left over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from scanward.codecs.canopen_profile import Scale
from scanward.codecs.canopen_sdo import Address
from scanward.errors import SettingsError

_MISSING = object()


class Table:
    """One TOML table: what is asked for is checked, what was not asked for is refused by ``done``.

    Attributes
    ----------
    held : set of Address
        Entries of the chain that are not inert (filled while the chain is read).
    held_default : bool
        Whether the chain's own entries (count, flags) are not inert.
    """

    def __init__(self, told: Mapping[str, Any], where: str) -> None:
        self._told = told
        self._asked: set[str] = set()
        self.where = where
        self.held: set[Address] = set()
        self.held_default = False
        self._tables: dict[str, Table] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._told

    def done(self) -> None:
        """SettingsError when a key was never asked for."""
        left = sorted(self._told.keys() - self._asked)
        if left:
            raise SettingsError(f"unknown key {left[0]!r}", self.where, "correct it or leave it out")

    def table(self, key: str) -> Table:
        """A table inside this one; the same object each time."""
        if key not in self._tables:
            self._tables[key] = Table(self._get(key, dict, "a table"), f"{self.where} [{key}]")
        return self._tables[key]

    def text(self, key: str, default: object = _MISSING) -> str:
        """A text of at most 256 characters."""
        found: str = self._get(key, str, "a text", default)
        if len(found) > 256 or not found.isprintable():
            raise SettingsError(f"{key} is too long or not printable", self.where, "256 characters at most")
        return found

    def integer(self, key: str, low: int, high: int, default: object = _MISSING) -> int:
        """A whole number from ``low`` to ``high``."""
        found: int = self._get(key, int, "a whole number", default)
        if isinstance(found, bool) or not low <= found <= high:
            raise SettingsError(f"{key} = {found}", self.where, f"give {low} to {high}")
        return found

    def boolean(self, key: str, default: object = _MISSING) -> bool:
        """true or false."""
        found: bool = self._get(key, bool, "true or false", default)
        return found

    def choice(self, key: str, values: Sequence[str], default: object = _MISSING) -> str:
        """One of ``values``."""
        found = self.text(key, default)
        if found not in values:
            raise SettingsError(f"{key} = {found!r}", self.where, f"one of {', '.join(values)}")
        return found

    def scalar(self, key: str) -> int | float | str | None:
        """A number or a text, None when it is not there."""
        found = self._get(key, (int, float, str), "a number or a text", None)
        if isinstance(found, bool):
            raise SettingsError(f"{key} = {found}", self.where, "give a number or a text")
        assert found is None or isinstance(found, int | float | str)
        return found

    def number(self, key: str) -> Fraction | None:
        """An exact number, written as text ("0.001") or as a number; None when it is not there."""
        found = self.scalar(key)
        if found is None:
            return None
        try:
            return Fraction(str(found))
        except (ValueError, ZeroDivisionError):
            raise SettingsError(f"{key} = {found!r}", self.where, 'give a number, such as "0.001"') from None

    def plain(self, key: str) -> Mapping[str, Any]:
        """A table as it is; empty when it is not there."""
        found: Mapping[str, Any] = self._get(key, dict, "a table", {})
        return found

    def anything(self, key: str) -> object:
        """Whatever is there, for a reader that checks it itself."""
        return self._get(key, object, "something")

    def several(self, key: str) -> list[Any]:
        """A list, empty when it is not there."""
        found: list[Any] = self._get(key, list, "a list", [])
        return found

    def _get(self, key: str, kind: Any, called: str, default: object = _MISSING) -> Any:
        self._asked.add(key)
        found = self._told.get(key, default)
        if found is _MISSING:
            raise SettingsError(f"no {key}", self.where, f"give {called}")
        if found is not default and not isinstance(found, kind):
            raise SettingsError(f"{key} is not {called}", self.where, f"give {called}")
        return found


def tables_in(table: Table, key: str, most: int) -> Iterator[Table]:
    """The tables of ``[[key]]``, each with its number in its place."""
    found = table.several(key)
    if len(found) > most:
        raise SettingsError(f"{len(found)} tables", f"{table.where} [[{key}]]", f"{most} at most")
    for number, one in enumerate(found, 1):
        where = f"{table.where} [[{key}]] number {number}"
        if not isinstance(one, dict):
            raise SettingsError("not a table", where, f"write [[{key}]]")
        name = one.get("name")
        yield Table(one, f"{where} ({name})" if isinstance(name, str) else where)


def scale_in(table: Table, times: str, plus: str | None = None) -> Scale:
    """The scale under the keys ``times`` and ``plus``."""
    factor = table.number(times)
    shift = table.number(plus) if plus else None
    if factor == 0:
        raise SettingsError(f"{times} is 0", table.where, "give the value of one step")
    return Scale(Fraction(1) if factor is None else factor, shift or Fraction(0))

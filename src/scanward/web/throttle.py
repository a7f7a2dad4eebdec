"""How sign-in is slowed down, so that guessing is hopeless and nobody is locked out for good.

Three counts of wrong passwords, each with delays that double from two seconds to a quarter of an hour:

* of a **device**: a browser that has signed in to this account before shows a random cookie, and is counted by itself.
  Whoever hammers at an account from elsewhere cannot delay it ("device cookies", as OWASP describes them).
* of an **address** (an IPv6 network of 64 bits): in memory. One attacker meets it before he has delayed many accounts.
* of a **name**, whether there is such an account or not: on disk, so that a restart forgives nothing.

An attempt is counted *before* its password is looked at and taken back when it was right: a thousand attempts at once
get no further than a thousand in turn.
"""

from __future__ import annotations

import ipaddress
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass

from scanward.config import WEB_BOUNDS


@dataclass(frozen=True, slots=True)
class Count:
    """Wrong passwords in a row, and when the last was tried (s since 1970)."""

    failures: int = 0
    last: float = 0.0


def delay(failures: int, free: int) -> float:
    """Seconds between attempt and attempt after ``failures`` wrong passwords, of which ``free`` cost nothing."""
    if failures < free:
        return 0.0
    return min(WEB_BOUNDS.longest_wait, WEB_BOUNDS.first_wait * 2.0 ** min(failures - free, 32))


def attempt(count: Count, free: int, now: float) -> tuple[Count, float]:
    """The count with one more attempt, and 0; or the same count and the seconds to wait, when it is too early."""
    last = min(count.last, now)  # a clock set back must not make anybody wait for the old time
    if now - last >= WEB_BOUNDS.forget_seconds:
        count = Count()
    wait = last + delay(count.failures, free) - now
    if count.failures and wait > 0:
        return Count(count.failures, last), wait
    return Count(count.failures + 1, now), 0.0


def place(address: str) -> str:
    """What counts as one address: IPv4 as it is, of IPv6 the first 64 bits, anything else as one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "elsewhere"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)


class Addresses:
    """Counts of addresses, in memory, at most ``WebBounds.addresses``: the one longest unused gives way."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, Count] = OrderedDict()

    def attempt(self, address: str, now: float) -> float:
        """Count an attempt: 0, or the seconds to wait, in which case nothing is counted."""
        where = place(address)
        count, wait = attempt(self._counts.get(where, Count()), WEB_BOUNDS.address_free, now)
        self._counts[where] = count
        self._counts.move_to_end(where)
        while len(self._counts) > WEB_BOUNDS.addresses:
            self._counts.popitem(last=False)
        return wait

    def take_back(self, address: str) -> None:
        """The attempt was right. Earlier wrong ones stay: an attacker with one account cannot wash himself clean."""
        where = place(address)
        count = self._counts.get(where)
        if count is not None:
            self._counts[where] = Count(max(0, count.failures - 1), count.last)

    def failures(self, address: str) -> int:
        """Wrong passwords from there that are remembered."""
        return self._counts.get(place(address), Count()).failures

    def __len__(self) -> int:
        return len(self._counts)


def attempt_on_name(change: sqlite3.Connection, name: bytes, known: bool, now: float) -> tuple[int, float]:
    """Count an attempt on a (hashed) name in the open transaction: failures so far with this one, seconds to wait."""
    row = change.execute("SELECT failures, last FROM failures WHERE name = ?", (name,)).fetchone()
    count, wait = attempt(Count(*row) if row else Count(), WEB_BOUNDS.account_free, now)
    change.execute(
        "INSERT INTO failures VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET known = excluded.known,"
        " failures = excluded.failures, last = excluded.last",
        (name, known, count.failures, count.last),
    )
    if row is None:
        _make_room(change, name, now)
    return count.failures, wait


def _make_room(change: sqlite3.Connection, newest: bytes, now: float) -> None:
    """Keep at most ``WebBounds.names``: what is forgotten goes first, then unknown names with few failures."""
    if change.execute("SELECT count(*) FROM failures").fetchone()[0] <= WEB_BOUNDS.names:
        return
    change.execute("DELETE FROM failures WHERE last <= ?", (now - WEB_BOUNDS.forget_seconds,))
    held = change.execute("SELECT count(*) FROM failures").fetchone()[0]
    change.execute(
        "DELETE FROM failures WHERE name IN"
        " (SELECT name FROM failures WHERE name != ? ORDER BY known, failures, last LIMIT ?)",
        (newest, max(0, held - WEB_BOUNDS.names)),
    )


def attempt_on_device(change: sqlite3.Connection, device: bytes, account: int, now: float) -> float | None:
    """Count an attempt of a known device in the open transaction: 0, seconds to wait, or None for an unknown one."""
    row = change.execute(
        "SELECT failures, last FROM devices WHERE hash = ? AND account = ?", (device, account)
    ).fetchone()
    if row is None:
        return None
    count, wait = attempt(Count(*row), WEB_BOUNDS.account_free, now)
    change.execute(
        "UPDATE devices SET failures = ?, last = ? WHERE hash = ? AND account = ?",
        (count.failures, count.last, device, account),
    )
    return wait

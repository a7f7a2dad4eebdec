"""Who may sign in, as what: names, roles and argon2id hashes in one file, with a record of what was done to them.

Roles are plain words that the pages give a meaning (study: ``reader``, ``lead``). All functions block: a hash takes
some 0.1 s. Pages call them in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from scanward.config import WEB_BOUNDS
from scanward.errors import InputError
from scanward.web import throttle
from scanward.web.database import Database
from scanward.web.events import Events
from scanward.web.passwords import Hashing, generate, refuse_weak

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{WEB_BOUNDS.name_chars - 1}}}")
_ROLE: Final = re.compile(r"[a-z][a-z-]{0,31}")


@dataclass(frozen=True, slots=True)
class Account:
    """An account. Times in s since 1970; ``changed``: when its password was set."""

    identifier: int
    name: str
    roles: frozenset[str]
    disabled: bool
    created: float
    changed: float


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of an attempt to sign in: an account, or none; ``wait`` seconds when it came too early."""

    account: Account | None
    wait: float = 0.0


class Accounts:
    """The accounts of one site, in the SQLite file ``path``, made when it is not there.

    InputError when the file cannot be used. ``hashing`` may be weaker in tests.
    """

    def __init__(self, path: Path | str, hashing: Hashing | None = None) -> None:
        self.database = Database(Path(path))
        self.events = Events(self.database)
        self._hashing = hashing or Hashing()
        self._secret = self.database.secret()
        self._addresses = throttle.Addresses()
        # What an unknown name's password is compared with, so that the answer takes as long.
        self._nobody = self._hashing.hash(secrets.token_urlsafe())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    # --- who there is

    def get(self, name: str) -> Account | None:
        """The account of that name (case is ignored)."""
        with self.database.reading() as read:
            row = read.execute(f"{_SELECT} WHERE name = ?", (_printable(name),)).fetchone()
        return _account(row) if row else None

    def all(self) -> list[Account]:
        """Every account, by name."""
        with self.database.reading() as read:
            return [_account(row) for row in read.execute(f"{_SELECT} ORDER BY name")]

    # --- changing them; each change is an event, and ``by`` says who made it

    def add(
        self,
        name: str,
        roles: Iterable[str],
        password: str | None = None,
        by: str = "",
        now: float | None = None,
    ) -> str | None:
        """Add an account; the passphrase made for it where none was given. It is shown once and stored nowhere.

        InputError for a name or role of wrong form, a name that is taken, a weak password.
        """
        now = time.time() if now is None else now
        if not _NAME.fullmatch(name):
            raise InputError(
                "not a name of an account",
                name[:80],
                f"use up to {WEB_BOUNDS.name_chars} letters, digits, dots, dashes and underscores",
            )
        words = _roles(roles)
        made = generate() if password is None else None
        if password is not None:
            refuse_weak(password, name)
        hashed = self._hashing.hash(made or password or "")
        with self.database.transaction() as change:
            if change.execute("SELECT count(*) FROM accounts").fetchone()[0] >= WEB_BOUNDS.accounts:
                raise InputError(
                    f"more than {WEB_BOUNDS.accounts} accounts", str(self.database.path), "remove unused ones"
                )
            try:
                change.execute(
                    "INSERT INTO accounts (name, roles, hash, created, changed) VALUES (?, ?, ?, ?, ?)",
                    (name, words, hashed, now, now),
                )
            except sqlite3.IntegrityError as error:
                raise InputError("there is such an account already", name, "choose another name") from error
            self.events.add("account added", name, _by(by, f"roles {words or 'none'}"), now)
        return made

    def set_password(
        self, name: str, password: str | None = None, by: str = "", now: float | None = None
    ) -> str | None:
        """Give an account a new password; the passphrase made for it where none was given.

        All its sessions end, and no browser is known to it any more.
        """
        now = time.time() if now is None else now
        account = self._known(name)
        made = generate() if password is None else None
        if password is not None:
            refuse_weak(password, account.name)
        hashed = self._hashing.hash(made or password or "")
        with self.database.transaction() as change:
            change.execute(
                "UPDATE accounts SET hash = ?, changed = ? WHERE id = ?", (hashed, now, account.identifier)
            )
            self._sign_out(change, account)
            self._unlock(change, account)
            self.events.add("password changed", account.name, _by(by), now)
        return made

    def set_roles(self, name: str, roles: Iterable[str], by: str = "", now: float | None = None) -> None:
        """Give an account other roles. Its sessions end: rights never change under a page that is open."""
        words = _roles(roles)
        account = self._known(name)
        with self.database.transaction() as change:
            change.execute("UPDATE accounts SET roles = ? WHERE id = ?", (words, account.identifier))
            change.execute("DELETE FROM sessions WHERE account = ?", (account.identifier,))
            self.events.add("roles changed", account.name, _by(by, f"roles {words or 'none'}"), now)

    def disable(self, name: str, disabled: bool = True, by: str = "", now: float | None = None) -> None:
        """Keep an account from signing in, and end its sessions; or (``disabled`` False) let it in again."""
        account = self._known(name)
        with self.database.transaction() as change:
            change.execute("UPDATE accounts SET disabled = ? WHERE id = ?", (disabled, account.identifier))
            self._sign_out(change, account)
            self.events.add("account disabled" if disabled else "account enabled", account.name, _by(by), now)

    def remove(self, name: str, by: str = "", now: float | None = None) -> None:
        """Remove an account. What was recorded about it stays."""
        account = self._known(name)
        with self.database.transaction() as change:
            self._unlock(change, account)
            change.execute("DELETE FROM accounts WHERE id = ?", (account.identifier,))
            self.events.add("account removed", account.name, _by(by), now)

    def unlock(self, name: str, by: str = "", now: float | None = None) -> None:
        """Forget the wrong passwords for an account, so that nobody has to wait."""
        account = self._known(name)
        with self.database.transaction() as change:
            self._unlock(change, account)
            self.events.add("account unlocked", account.name, _by(by), now)

    def sign_out_everywhere(self, name: str, by: str = "", now: float | None = None) -> int:
        """End every session of an account: how many there were."""
        account = self._known(name)
        with self.database.transaction() as change:
            ended = change.execute("DELETE FROM sessions WHERE account = ?", (account.identifier,)).rowcount
            self.events.add("signed out everywhere", account.name, _by(by, f"{ended} sessions"), now)
        return ended

    # --- signing in

    def verify(
        self, name: str, password: str, address: str, now: float, device: str | None = None
    ) -> Checked:
        """Whether this is the account's password: the account, or none, or none and the seconds to wait.

        An unknown name, a disabled account and a wrong password cost the same hash and say the same. ``address`` is
        that of the client, ``device`` the random cookie of a browser that has signed in before.
        """
        account = self.get(name)
        attempted = self._name_hash(name)
        with self.database.transaction() as change:
            wait = self._attempt(change, account, attempted, address, now, device)
        if wait > 0:
            return Checked(None, wait)
        hashed = self._hash_of(account)
        right = self._hashing.fits(hashed, password)
        if account is None or account.disabled or not right:
            self.events.refusal(account.name if account else "", self._tag(address), now)
            return Checked(None)
        self._succeeded(account, attempted, hashed, password, address, device)
        return Checked(account)

    def _attempt(
        self,
        change: sqlite3.Connection,
        account: Account | None,
        attempted: bytes,
        address: str,
        now: float,
        device: str | None,
    ) -> float:
        if account and device is not None:
            wait = throttle.attempt_on_device(change, device_hash(device), account.identifier, now)
            if wait is not None:
                return wait
        wait = self._addresses.attempt(address, now)
        if wait > 0:
            return wait
        if (count := self._addresses.failures(address)) in _ALERTS and count > WEB_BOUNDS.address_free:
            self.events.alert("", f"{count} attempts to sign in, {self._tag(address)}", now)
        failures, wait = throttle.attempt_on_name(change, attempted, account is not None, now)
        if wait <= 0 and failures in _ALERTS:
            self.events.alert(
                account.name if account else "", f"{failures} attempts to sign in, none right", now
            )
        return wait

    def _tag(self, address: str) -> str:
        return "address " + hmac.digest(self._secret, throttle.place(address).encode(), "sha256").hex()[:8]

    def _hash_of(self, account: Account | None) -> str:
        if account is None:
            return self._nobody
        with self.database.reading() as read:
            row = read.execute("SELECT hash FROM accounts WHERE id = ?", (account.identifier,)).fetchone()
        return str(row[0]) if row else self._nobody

    def _succeeded(
        self,
        account: Account,
        attempted: bytes,
        hashed: str,
        password: str,
        address: str,
        device: str | None,
    ) -> None:
        anew = self._hashing.hash(password) if self._hashing.outdated(hashed) else None
        with self.database.transaction() as change:
            reset = 0
            if device is not None:
                reset = change.execute(
                    "UPDATE devices SET failures = 0 WHERE hash = ? AND account = ?",
                    (device_hash(device), account.identifier),
                ).rowcount
            if not reset:
                change.execute("DELETE FROM failures WHERE name = ?", (attempted,))
                self._addresses.take_back(address)
            if anew is not None:  # unless somebody has changed the password meanwhile
                change.execute(
                    "UPDATE accounts SET hash = ? WHERE id = ? AND hash = ?",
                    (anew, account.identifier, hashed),
                )

    def remember_device(self, account: Account, device: str, now: float) -> None:
        """From now on, this browser's wrong passwords for this account are counted by themselves."""
        with self.database.transaction() as change:
            change.execute(
                "INSERT INTO devices (hash, account, used) VALUES (?, ?, ?)"
                " ON CONFLICT (hash, account) DO UPDATE SET used = excluded.used",
                (device_hash(device), account.identifier, now),
            )
            change.execute(
                "DELETE FROM devices WHERE account = ?1 AND hash NOT IN"
                " (SELECT hash FROM devices WHERE account = ?1 ORDER BY used DESC LIMIT ?2)",
                (account.identifier, WEB_BOUNDS.devices_each),
            )

    # --- pieces

    def _known(self, name: str) -> Account:
        account = self.get(name)
        if account is None:
            raise InputError("no such account", name[:80], "list the accounts to see their names")
        return account

    def _name_hash(self, name: str) -> bytes:
        # Keyed and never in clear: people type passwords into the wrong field.
        return hmac.digest(self._secret, _printable(name).encode().lower(), "sha256")

    def _sign_out(self, change: sqlite3.Connection, account: Account) -> None:
        change.execute("DELETE FROM sessions WHERE account = ?", (account.identifier,))
        change.execute("DELETE FROM devices WHERE account = ?", (account.identifier,))

    def _unlock(self, change: sqlite3.Connection, account: Account) -> None:
        change.execute("DELETE FROM failures WHERE name = ?", (self._name_hash(account.name),))
        change.execute("UPDATE devices SET failures = 0 WHERE account = ?", (account.identifier,))


_SELECT: Final = "SELECT id, name, roles, disabled, created, changed FROM accounts"
_ALERTS: Final = frozenset(WEB_BOUNDS.alert_failures << doubled for doubled in range(32))


def _account(row: tuple[int, str, str, int, float, float]) -> Account:
    identifier, name, roles, disabled, created, changed = row
    return Account(identifier, name, frozenset(roles.split()), bool(disabled), created, changed)


def _roles(roles: Iterable[str]) -> str:
    words = sorted(set(roles))
    wrong = [word for word in words if not _ROLE.fullmatch(word)]
    if wrong or len(words) > WEB_BOUNDS.roles:
        raise InputError(
            "not roles", " ".join(wrong)[:80], f"at most {WEB_BOUNDS.roles} words of small letters and dashes"
        )
    return " ".join(words)


def _by(by: str, detail: str = "") -> str:
    return ", ".join(part for part in (detail, f"by {by}" if by else "") if part)


def _printable(name: str) -> str:
    """A name that was typed, fit for SQLite: no surrogates, no more than a bound, no spaces around it."""
    cleaned = name.strip()[: 4 * WEB_BOUNDS.name_chars].encode("utf-8", errors="replace").decode("utf-8")
    return cleaned.replace("\x00", "\ufffd")


def device_hash(device: str) -> bytes:
    """What is stored of a device's cookie; 256 random bits need no salt and no slow hash."""
    with contextlib.suppress(UnicodeEncodeError):
        return hashlib.sha256(device.encode("ascii")).digest()
    return b""

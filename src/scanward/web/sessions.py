"""Sessions on the server: the browser holds a random token, the file its hash.

A token is 256 random bits, made at sign-in and never before (what a browser brings along is not taken over, so nobody
can fix it for another). A session ends by itself after a time without requests and, whatever happens, after a working
day. Its CSRF token is derived from the token: bound to the session, stored nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

from scanward.config import WEB_BOUNDS
from scanward.web.accounts import Account, Accounts

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes in base64url


def new_token() -> str:
    """256 random bits in 43 letters."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Whether a text has the form of `new_token`."""
    return _TOKEN.fullmatch(text) is not None


def csrf_of(token: str) -> str:
    """The CSRF token that belongs to a session's (or visit's) token; it tells nothing about the latter."""
    made = hmac.digest(token.encode("ascii"), b"scanward csrf 1", "sha256")
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode("ascii")


def same_csrf(given: str, token: str) -> bool:
    """Whether a CSRF token belongs to a token, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", errors="replace"), csrf_of(token).encode("ascii"))


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in. ``created`` s since 1970; ``expires``: when it ends without another request."""

    token: str
    account: Account
    created: float
    expires: float


class Sessions:
    """The sessions of one site, in its file of accounts. Seconds may be shorter than the bounds, not zero."""

    def __init__(
        self,
        accounts: Accounts,
        idle_seconds: float = WEB_BOUNDS.idle_seconds,
        absolute_seconds: float = WEB_BOUNDS.absolute_seconds,
    ) -> None:
        self._accounts = accounts
        self._database = accounts.database
        self.idle_seconds = idle_seconds
        self.absolute_seconds = absolute_seconds

    def begin(self, account: Account, now: float, replaces: str | None = None) -> str | None:
        """A new session's token. The session of the token that it ``replaces`` ends, whoever's it was.

        None when the account was changed, disabled or removed since its password was verified.
        """
        token = new_token()
        with self._database.transaction() as change:
            if replaces is not None:
                change.execute("DELETE FROM sessions WHERE hash = ?", (_hash(replaces),))
            change.execute(
                "DELETE FROM sessions WHERE seen < ? OR created < ?",
                (now - self.idle_seconds, now - self.absolute_seconds),
            )
            begun = change.execute(
                "INSERT INTO sessions SELECT ?, id, ?, ? FROM accounts WHERE id = ? AND changed = ? AND disabled = 0",
                (_hash(token), now, now, account.identifier, account.changed),
            ).rowcount
            if not begun:
                return None
            change.execute(
                "DELETE FROM sessions WHERE account = ?1 AND hash NOT IN (SELECT hash FROM sessions"
                " WHERE account = ?1 ORDER BY created DESC, rowid DESC LIMIT ?2)",
                (account.identifier, WEB_BOUNDS.sessions_each),
            )
            self._accounts.events.add("signed in", account.name, "", now)
        return token

    def find(self, token: str, now: float, *, keep: bool = True) -> Session | None:
        """The session of a token; None when there is none or it has ended.

        It is kept alive by being asked for, unless ``keep`` is False: then only looked at.
        """
        if not is_token(token):
            return None
        with self._database.reading() as read:
            row = read.execute(
                "SELECT a.name, s.created, s.seen FROM sessions s JOIN accounts a ON a.id = s.account"
                " WHERE s.hash = ? AND a.disabled = 0",
                (_hash(token),),
            ).fetchone()
        if row is None:
            return None
        name, created, seen = row
        account = self._accounts.get(name)
        if account is None or not self._lives(created, seen, now):
            self._remove(token)
            return None
        if not keep:
            expires = min(seen + self.idle_seconds, created + self.absolute_seconds)
            return Session(token, account, created, expires)
        if now - seen >= min(WEB_BOUNDS.seen_seconds, self.idle_seconds / 4) or now < seen:
            with self._database.transaction() as change:
                change.execute("UPDATE sessions SET seen = ? WHERE hash = ?", (now, _hash(token)))
        return Session(token, account, created, min(now + self.idle_seconds, created + self.absolute_seconds))

    def _lives(self, created: float, seen: float, now: float) -> bool:
        if now < created - WEB_BOUNDS.clock_slack:  # the clock was set back: its age is unknown
            return False
        return now - seen < self.idle_seconds and now - created < self.absolute_seconds

    def _remove(self, token: str) -> None:
        with self._database.transaction() as change:
            change.execute("DELETE FROM sessions WHERE hash = ?", (_hash(token),))

    def end(self, session: Session, now: float) -> None:
        """Sign out."""
        with self._database.transaction():
            self._remove(session.token)
            self._accounts.events.add("signed out", session.account.name, "", now)

    def of(self, account: Account) -> list[tuple[float, float]]:
        """(begun, last seen) of an account's sessions, newest first."""
        with self._database.reading() as read:
            found: list[tuple[float, float]] = read.execute(
                "SELECT created, seen FROM sessions WHERE account = ? ORDER BY created DESC",
                (account.identifier,),
            ).fetchall()
        return found


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii", errors="replace")).digest()

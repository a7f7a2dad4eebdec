"""Where a reader stands: which session is open, which case comes next, washout. Pure: time is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from scanward.reading.protocol import Reader, Session, Shown


@dataclass(frozen=True, slots=True)
class Position:
    """Where one reader stands.

    Parameters
    ----------
    session : Session or None
        The one that is open; None during washout and when all is read. Number 0 is practice.
    case : Shown or None
        The first case of it without an answer.
    following : tuple of Shown
        Cases without an answer after that one, in order.
    done : tuple of str
        Tokens of the open session with an answer, in its order.
    answered, cases : int
        Of the whole study, practice apart.
    until : datetime or None
        When the next session opens, during washout.
    finished : bool
        Everything was read.
    """

    session: Session | None
    case: Shown | None
    following: tuple[Shown, ...]
    done: tuple[str, ...]
    answered: int
    cases: int
    until: datetime | None = None
    finished: bool = False

    @property
    def session_answered(self) -> int:
        """Answered cases of the open session."""
        return len(self.done)

    @property
    def session_cases(self) -> int:
        """Cases of the open session."""
        return len(self.session.cases) if self.session else 0

    def holds(self, token: str) -> bool:
        """Whether ``token`` is a case of the open session."""
        return self.session is not None and any(shown.token == token for shown in self.session.cases)


def position(
    reader: Reader,
    answered: Mapping[str, datetime],
    now: datetime,
    *,
    washout: timedelta,
) -> Position:
    """Where ``reader`` stands at ``now``.

    Parameters
    ----------
    answered : mapping
        When the server took the first answer to a case, by token.
    washout : timedelta
        From the last first answer of a session until the next one opens; none after practice.
    """
    real = [shown for session in reader.sessions if session.number > 0 for shown in session.cases]
    done = sum(shown.token in answered for shown in real)
    opens: datetime | None = None
    for session in sorted(reader.sessions, key=lambda one: one.number):
        missing = [shown for shown in session.cases if shown.token not in answered]
        if not missing:
            opens = _finished(session, answered, opens, washout)
            continue
        # A session that was begun stays open, even where the clock was set back since.
        begun = len(missing) < len(session.cases)
        if opens is not None and now < opens and not begun:
            return Position(None, None, (), (), done, len(real), until=opens)
        given = tuple(shown.token for shown in session.cases if shown.token in answered)
        return Position(session, missing[0], tuple(missing[1:]), given, done, len(real))
    return Position(None, None, (), (), done, len(real), finished=True)


def _finished(
    session: Session, answered: Mapping[str, datetime], opens: datetime | None, washout: timedelta
) -> datetime | None:
    if session.number == 0 or not session.cases:
        return opens
    return max(answered[shown.token] for shown in session.cases) + washout

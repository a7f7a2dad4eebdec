"""One connection to a guard for each act, and what may pass over it: signed acts, in the name of who is signed in.

A browser takes a ticket at the moment of signing: a connection of its own to the guard, whose nonce is in nobody else's
hands. It signs, and the act goes over that very connection. A ticket is for the session that took it, for one act, for
a minute. The console has no operator's key; what it could do is lose an act.

Not through here, whatever a policy allows at the guard's own terminal: acts without a signature, and the mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from dataclasses import dataclass, field

from scanward.config import CONSOLE_BOUNDS, ConsoleBounds
from scanward.console.settings import ScannerSettings
from scanward.console.wire import Wire
from scanward.errors import DecodeError, LinkError, RequestError
from scanward.guard.control_lines import ActLine, act_line

_AGAIN = "take another ticket, sign, and send again"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the guard said of an act."""

    done: bool
    reason: str


@dataclass(eq=False)
class Ticket:
    """A connection that waits for one act of one session. ``made``: in the loop's time."""

    token: str
    scanner: str
    session: str
    wire: Wire
    made: float
    answer: asyncio.Future[Answered]
    listening: asyncio.Task[None] | None = None
    expiry: asyncio.TimerHandle | None = None
    spent: bool = False


@dataclass
class _Slots:
    """The tickets of one scanner, oldest first, and how many connections are being made."""

    most: int
    tickets: list[Ticket] = field(default_factory=list)
    opening: int = 0

    @property
    def free(self) -> bool:
        return len(self.tickets) + self.opening < self.most


class Tickets:
    """All tickets of one console. Lives in the event loop; `close` it there."""

    def __init__(self, passphrase: bytes | None = None, bounds: ConsoleBounds = CONSOLE_BOUNDS) -> None:
        self._passphrase = passphrase
        self._bounds = bounds
        self._slots: dict[str, _Slots] = {}
        self._taken: dict[str, deque[float]] = {}

    @property
    def open(self) -> int:
        """Connections that tickets hold."""
        return sum(len(slots.tickets) for slots in self._slots.values())

    async def take(self, scanner: ScannerSettings, session: str, account: str) -> Ticket:
        """A fresh connection to the guard of ``scanner``. An unused ticket of this session for it is given up.

        RequestError: 429 too many in a minute, 503 nobody answers or all are taken.
        """
        self._pace(account)
        bounds = self._bounds
        most = bounds.tickets_local if scanner.control.local else bounds.tickets_network
        slots = self._slots.setdefault(scanner.id, _Slots(most))
        for old in [t for t in slots.tickets if t.session == session and not t.spent]:
            self._drop(old)
        await self._room(slots)
        slots.opening += 1
        try:
            wire = await Wire.open(scanner.control, self._passphrase, bounds)
        except (LinkError, DecodeError) as error:
            raise RequestError(
                f"{scanner.name}: {error.what}", "", "decide at the guard's own terminal", 503
            ) from error
        finally:
            slots.opening -= 1
        loop = asyncio.get_running_loop()
        ticket = Ticket(
            secrets.token_urlsafe(24), scanner.id, session, wire, loop.time(), loop.create_future()
        )
        slots.tickets.append(ticket)
        ticket.listening = asyncio.create_task(self._listen(ticket))
        ticket.expiry = loop.call_later(bounds.ticket_seconds, self._drop, ticket)
        return ticket

    def find(self, scanner: str, token: str, session: str) -> Ticket:
        """The ticket, if it is this session's and unused; RequestError (409) otherwise, with the same words for all."""
        for ticket in self._slots[scanner].tickets if scanner in self._slots else ():
            same = secrets.compare_digest(ticket.token.encode(), token.encode("utf-8", "replace"))
            if same and secrets.compare_digest(ticket.session, session) and not ticket.spent:
                return ticket
        raise RequestError("this ticket is used, too old, or not yours", "", _AGAIN, 409)

    async def send(self, ticket: Ticket, line: ActLine) -> Answered:
        """Carry the act to the guard and wait for its answer; the ticket is used up.

        RequestError (503) when the guard does not answer: then nobody here knows whether it took the act.
        """
        ticket.spent = True
        try:
            ticket.wire.send(act_line(line.id, line.act, line.signature))
            async with asyncio.timeout(self._bounds.answer_seconds):
                return await asyncio.shield(ticket.answer)
        except (LinkError, TimeoutError) as error:
            raise RequestError(
                "the guard did not answer: whether it took the act is not known",
                "",
                "look at what the page shows now, or at the guard's own terminal",
                503,
            ) from error
        finally:
            self._drop(ticket)

    async def close(self) -> None:
        """Give up all tickets."""
        tickets = [ticket for slots in self._slots.values() for ticket in slots.tickets]
        for ticket in tickets:
            self._drop(ticket)
        await asyncio.gather(*(t.listening for t in tickets if t.listening), return_exceptions=True)

    # --- inside

    def _pace(self, account: str) -> None:
        now = asyncio.get_running_loop().time()
        taken = self._taken.setdefault(account, deque())
        while taken and taken[0] < now - 60.0:
            taken.popleft()
        if len(taken) >= self._bounds.tickets_minute:
            raise RequestError(
                "too many acts in a minute", "", "decide at the guard's own terminal, or wait", 429
            )
        taken.append(now)
        for name in [n for n, times in self._taken.items() if times[-1] < now - 60.0]:
            del self._taken[name]

    async def _room(self, slots: _Slots) -> None:
        """Wait until there is room. Tickets that nobody used at once give way, so nobody can hold them all."""
        loop, bounds = asyncio.get_running_loop(), self._bounds
        until = loop.time() + bounds.ticket_wait
        while not slots.free:
            idle = [t for t in slots.tickets if not t.spent and loop.time() - t.made >= bounds.ticket_quick]
            if idle:
                self._drop(idle[0])
                continue
            if loop.time() >= until:
                raise RequestError("too many are deciding at this scanner", "", "try again", 503)
            await asyncio.sleep(0.05)

    async def _listen(self, ticket: Ticket) -> None:
        """Read what the guard says, so that it never takes us for one who does not; keep its answer."""
        with contextlib.suppress(LinkError, DecodeError):
            while True:
                said = await ticket.wire.line()
                if said.get("type") == "answer" and ticket.spent and not ticket.answer.done():
                    ticket.answer.set_result(
                        Answered(said.get("done") is True, str(said.get("reason", ""))[:1000])
                    )
        if not ticket.answer.done():
            ticket.answer.set_exception(LinkError("the guard closed the connection"))
            ticket.answer.exception()  # nobody need be waiting
        if not ticket.spent:
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        ticket.spent = True
        if ticket.expiry is not None:
            ticket.expiry.cancel()
        ticket.wire.close()
        if ticket.listening is not None and ticket.listening is not asyncio.current_task():
            ticket.listening.cancel()
        slots = self._slots[ticket.scanner]
        if ticket in slots.tickets:
            slots.tickets.remove(ticket)

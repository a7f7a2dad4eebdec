"""One connection to a guard's control channel, for an event loop: a local socket, or TLS 1.3 with pinned names.

Whoever is at the other end is believed in nothing but bounds: lines are measured before they are read, numbers are
finite, texts have no half characters, and nothing is nested deeper than the pages can write out again.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from typing import Any, Final

from scanward.config import CONSOLE_BOUNDS, ConsoleBounds
from scanward.console.settings import ControlAddress
from scanward.errors import DecodeError, LinkError
from scanward.guard.control_lines import PROTOCOL
from scanward.transport.tls import Pins, client_context

_DOWN: Final = "see that the guard runs, and that this console may reach it"
_NO_GUARD: Final = "is it a guard's control channel?"
_MOST_WHOLE: Final = 1 << 53  # whole numbers beyond it are not the same in a browser


def said(line: bytes, where: str, bounds: ConsoleBounds = CONSOLE_BOUNDS) -> dict[str, Any]:
    """A guard's line as plain JSON values; DecodeError when it is no object, or nested too deeply."""
    try:
        document = json.loads(line, parse_constant=lambda name: None)
        if not isinstance(document, dict):
            raise DecodeError("not a guard's line", where, _NO_GUARD)
        cleaned = _clean(document, bounds.depth)
    except (ValueError, RecursionError) as error:
        raise DecodeError("not a guard's line", where, _NO_GUARD) from error
    assert isinstance(cleaned, dict)
    return cleaned


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -_MOST_WHOLE <= value <= _MOST_WHOLE else None
    if isinstance(value, dict | list) and depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {_clean(key, depth): _clean(one, depth - 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one, depth - 1) for one in value]
    return value


@dataclass(frozen=True, slots=True)
class Hello:
    """A guard's first line: digest of its policy, the nonce of this connection."""

    policy: str
    nonce: str
    local: bool
    without_key: bool


class Wire:
    """One connection. Made by `open`; `close` it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str, bounds: ConsoleBounds
    ) -> None:
        self._reader, self._writer, self._where, self._bounds = reader, writer, where, bounds
        self.hello = Hello("", "", False, False)
        self.state: dict[str, Any] = {}

    @classmethod
    async def open(
        cls, address: ControlAddress, passphrase: bytes | None = None, bounds: ConsoleBounds = CONSOLE_BOUNDS
    ) -> Wire:
        """Connect, and hear the hello and the first state.

        Raises
        ------
        LinkError
            Nobody there, or not who it should be.
        DecodeError
            Something else than a guard, or one of another protocol.
        """
        where = str(address)
        try:
            async with asyncio.timeout(bounds.connect_seconds):
                wire = await cls._connected(address, passphrase, bounds)
                try:
                    await wire._greet()
                except BaseException:
                    wire.close()
                    raise
        except TimeoutError as error:
            raise LinkError("the guard does not answer", where, _DOWN) from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise LinkError(f"no guard answers: {reason}", where, _DOWN) from error
        return wire

    @classmethod
    async def _connected(
        cls, address: ControlAddress, passphrase: bytes | None, bounds: ConsoleBounds
    ) -> Wire:
        where = str(address)
        if address.socket is not None:
            streams = await asyncio.open_unix_connection(str(address.socket), limit=bounds.line_bytes)
            return cls(*streams, where, bounds)
        assert address.address is not None
        assert address.tls is not None
        context = await asyncio.to_thread(client_context, address.tls, passphrase)
        reader, writer = await asyncio.open_connection(
            *address.address, ssl=context, limit=bounds.line_bytes, ssl_shutdown_timeout=bounds.ping_seconds
        )
        refused = Pins(frozenset({address.name})).refusal(writer.get_extra_info("ssl_object"))
        if refused:
            writer.transport.abort()
            raise LinkError(
                refused, where, "give the name in the guard's certificate, or look who answers there"
            )
        return cls(reader, writer, where, bounds)

    async def _greet(self) -> None:
        hello = await self.line()
        if hello.get("type") != "hello":
            raise self._error(hello, "the guard did not say hello")
        if hello.get("protocol") != PROTOCOL:
            raise DecodeError(
                f"the guard speaks another protocol than {PROTOCOL}", self._where, "use the same version"
            )
        texts = [hello.get(key) for key in ("policy", "nonce")]
        if not all(isinstance(text, str) and len(text) <= 128 for text in texts):
            raise DecodeError("a hello without policy or nonce", self._where, _NO_GUARD)
        self.hello = Hello(
            str(texts[0]),
            str(texts[1]),
            hello.get("local") is True,
            hello.get("emergency_without_key") is True,
        )
        snapshot = await self.line()
        state = snapshot.get("state")
        if snapshot.get("type") != "snapshot" or not isinstance(state, dict):
            raise self._error(snapshot, "the guard told no state")
        self.state = state

    def _error(self, document: dict[str, Any], otherwise: str) -> LinkError:
        what = document.get("what")
        if document.get("type") == "error" and isinstance(what, str):
            return LinkError(
                f"the guard ended it: {what[:200]}", self._where, str(document.get("todo", ""))[:200]
            )
        return LinkError(otherwise, self._where, _NO_GUARD)

    async def line(self) -> dict[str, Any]:
        """The next line. LinkError when the connection ended; DecodeError for what no guard says."""
        try:
            raw = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise DecodeError("a line without an end", self._where, _NO_GUARD) from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise LinkError("the guard closed the connection", self._where, _DOWN) from error
        document = said(raw, self._where, self._bounds)
        if document.get("type") == "error":
            raise self._error(document, "")
        return document

    def send(self, line: bytes) -> None:
        """Send a line; what a guard does not read is bounded. LinkError when it is gone."""
        transport = self._writer.transport
        if transport.is_closing():
            raise LinkError("the guard closed the connection", self._where, _DOWN)
        if transport.get_write_buffer_size() > self._bounds.act_bytes * 8:
            raise LinkError("the guard does not read", self._where, _DOWN)
        self._writer.write(line)

    def close(self) -> None:
        """Go away at once."""
        self._writer.transport.abort()

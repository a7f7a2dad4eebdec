"""``multipart/related`` as it streams in (RFC 2046 5.1.1, RFC 2387): parts one by one, never a whole body in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Final

from scanward.errors import DecodeError

# bchars of RFC 2046 5.1.1; the last one is no space.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_TODO: Final = "look at the archive"


def boundary_of(content_type: str) -> str:
    """The boundary of a Content-Type header; DecodeError when it is another type, or has none."""
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    found = message.get_param("boundary")
    if message.get_content_type() != "multipart/related":
        raise DecodeError("the answer is not multipart/related", "Content-Type", _TODO)
    if not isinstance(found, str) or not _BOUNDARY.fullmatch(found):
        raise DecodeError("no boundary that RFC 2046 allows", "Content-Type", _TODO)
    return found


def parts(
    read: Callable[[], bytes], boundary: str, head_bytes: int
) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
    """Every part: its headers (names in small letters) and its body in pieces.

    Parameters
    ----------
    read : callable
        The next bytes, b"" at the end.
    boundary : str
    head_bytes : int
        Bytes that a part's headers, and what precedes the first part, may have.

    Raises
    ------
    DecodeError
        It ends before its last boundary, or a bound is broken. While a body is read, too.
    """
    stream = _Stream(read, b"\r\n--" + boundary.encode("ascii"))
    stream.preamble(head_bytes)
    while stream.begins():
        headers = stream.headers(head_bytes)
        body = stream.body()
        yield headers, body
        for _ in body:  # what the caller did not read
            pass


class _Stream:
    def __init__(self, read: Callable[[], bytes], delimiter: bytes) -> None:
        self._read, self._delimiter = read, delimiter
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning

    def _more(self) -> None:
        piece = self._read()
        if not piece:
            raise DecodeError("it ends before its last boundary", "multipart body", _TODO)
        self._buffer += piece

    def _until(self, mark: bytes, most: int) -> bytes:
        """What stands before ``mark``, which is taken too."""
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            if len(self._buffer) > most + len(mark):
                raise DecodeError(f"more than {most} bytes of headers", "multipart body", _TODO)
            start = max(0, len(self._buffer) - len(mark) + 1)
            self._more()
        if at > most:
            raise DecodeError(f"more than {most} bytes of headers", "multipart body", _TODO)
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return found

    def preamble(self, most: int) -> None:
        """Skip what precedes the first part."""
        self._until(self._delimiter, most)

    def begins(self) -> bool:
        """After a delimiter: whether another part begins (True) or this was the last (False)."""
        while len(self._buffer) < 2:
            self._more()
        if self._buffer[:2] == b"--":
            return False
        padding = self._until(b"\r\n", 256)
        if padding.strip(b" \t"):
            raise DecodeError("something stands behind a boundary", "multipart body", _TODO)
        return True

    def headers(self, most: int) -> Mapping[str, str]:
        """The headers of a part, possibly none."""
        self._buffer[:0] = b"\r\n"  # no headers at all: the empty line comes at once
        found: dict[str, str] = {}
        for line in self._until(b"\r\n\r\n", most).split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon:
                found[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
        return found

    def body(self) -> Iterator[bytes]:
        """The body in pieces; the delimiter behind it is taken too."""
        keep = len(self._delimiter) - 1
        start = 0
        while (at := self._buffer.find(self._delimiter, start)) < 0:
            if (ready := len(self._buffer) - keep) > 0:
                piece = bytes(self._buffer[:ready])
                del self._buffer[:ready]
                yield piece
            start = 0
            self._more()
        piece = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]
        if piece:
            yield piece

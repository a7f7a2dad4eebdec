"""HTTPS POST with bounded retries, for FHIR servers and webhooks. Standard library alone; no redirect is followed."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scanward.config import SHIPPING_BOUNDS, ShippingBounds
from scanward.errors import InputError, ShippingError
from scanward.shipping.syslog import client_context

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # RFC 9110, RFC 6585: worth another attempt


class Poster:
    """Posts to one address. Each call is a connection of its own: they are few, and none is ever half-open."""

    def __init__(
        self,
        url: str,
        *,
        content_type: str,
        headers: Mapping[str, str] | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        unsafe_plaintext: bool = False,
        bounds: ShippingBounds = SHIPPING_BOUNDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """InputError for an address that is none, or not HTTPS while ``unsafe_plaintext`` is not given."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"not an address: {error}", url, "give https://host/path") from error
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username:
            raise InputError("not an address of a web server", url, "give https://host/path")
        if parts.scheme == "http" and not unsafe_plaintext:
            raise InputError("an address without TLS", url, "give https://, or --unsafe-plaintext")
        self.url, self._host, self._port = url, parts.hostname, port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": content_type, "User-Agent": "scanward", **(headers or {})}
        self._context = client_context(ca, certificate, key) if parts.scheme == "https" else None
        self._bounds, self._sleep = bounds, sleep

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """Post once, and again after growing waits while that can help; the answer's body (bounded).

        Raises
        ------
        ShippingError
            When the server refuses, or cannot be reached in ``bounds.attempts`` attempts.
        """
        wait = self._bounds.first_wait_s
        problem = ""
        for attempt in range(self._bounds.attempts):
            if attempt:
                self._sleep(wait)
                wait = min(2 * wait, self._bounds.longest_wait_s)
            try:
                status, answer = self._once(body, headers or {})
            except ssl.SSLCertVerificationError as error:
                raise ShippingError(
                    f"the server's certificate is refused: {error.verify_message}",
                    self.url,
                    "give its CA with --ca",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
                continue
            if 200 <= status < 300:
                return answer
            problem = f"status {status}"
            if status not in _AGAIN:
                break
        raise ShippingError(
            f"the server took nothing: {problem}", self.url, "check it, then go on where it stopped"
        )

    def _once(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        timeout = self._bounds.connect_s
        connection: http.client.HTTPConnection
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._context
            )
        try:
            connection.request("POST", self._path, body, {**self._headers, **headers})
            response = connection.getresponse()
            return response.status, response.read(self._bounds.response_bytes)
        finally:
            connection.close()

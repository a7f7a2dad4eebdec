"""To the receivers: a sender takes messages and returns when they are taken, or raises ShippingError. Blocks.

HTTP and SMTP acknowledge each message. Syslog (RFC 5425, 6587) does not: here a batch counts as taken when the server,
asked to by our end of the stream, closed it in turn without having broken it. A server that has read our bytes and dies
before it keeps them cannot be told from one that kept them; docs/alerting.md says so.
"""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from scanward.config import ALERTING_BOUNDS, SHIPPING_BOUNDS, AlertingBounds, ShippingBounds
from scanward.console.alerting.messages import atna_message, mail, syslog_message, webhook_body
from scanward.console.alerting.rules import Route, Security, To
from scanward.console.alerting.spool import Outgoing
from scanward.errors import SettingsError, ShippingError
from scanward.shipping import Poster, SyslogSender
from scanward.shipping.syslog import client_context

_MAIL_TODO: Final = "check server, account and certificates"


class Sender(Protocol):
    """Sends up to ``batch`` messages at once: all of them, or ShippingError."""

    batch: int

    def send(self, messages: Sequence[Outgoing]) -> str:
        """Send them; what somebody should know all the same, or ""."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Syslog:
    """Syslog messages, or DICOM audit messages within them."""

    def __init__(self, sender: SyslogSender, source: str, *, dicom: bool, batch: int) -> None:
        self._sender, self._source, self._make = sender, source, atna_message if dicom else syslog_message
        self.batch = batch

    def send(self, messages: Sequence[Outgoing]) -> str:
        self._sender.close()
        before = self._sender.connections
        for one in messages:
            self._sender.send(self._make(one, self._source))
        if not self._sender.close() or self._sender.connections > before + 1:
            where = f"{self._sender.host}:{self._sender.port}"
            raise ShippingError("the syslog server broke the connection", where, "they are sent again")
        return ""

    def close(self) -> None:
        self._sender.close()


class Webhook:
    """One POST for each message; ``Idempotency-Key`` names it."""

    batch = 1

    def __init__(self, poster: Poster, source: str, token: str) -> None:
        self._poster, self._source = poster, source
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, messages: Sequence[Outgoing]) -> str:
        for one in messages:
            key = f"urn:scanward:alert:{one.key}"
            self._poster.post(webhook_body(one, self._source), {**self._headers, "Idempotency-Key": key})
        return ""

    def close(self) -> None:
        """Nothing is held."""


class Mail:
    """Mails by SMTP (RFC 5321), with STARTTLS (RFC 3207) or TLS from the start (RFC 8314)."""

    batch = 1

    def __init__(self, route: Route, source: str, password: str, bounds: ShippingBounds) -> None:
        self._route, self._source, self._password, self._bounds = route, source, password, bounds
        plain = route.security is Security.NONE
        self._context = None if plain else client_context(route.ca, route.certificate, route.key)
        self._server: smtplib.SMTP | None = None

    def send(self, messages: Sequence[Outgoing]) -> str:
        refused: dict[str, tuple[int, bytes]] = {}
        try:
            server = self._connected()
            for one in messages:
                letter = mail(one, self._source, self._route.sender, self._route.recipients)
                refused |= server.send_message(letter, self._route.sender, list(self._route.recipients))
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            reason = _reason(error)
            raise ShippingError(
                f"the mail server took nothing: {reason}", self._route.where, _MAIL_TODO
            ) from error
        return f"refused for {', '.join(sorted(refused))}, taken for the others" if refused else ""

    def _connected(self) -> smtplib.SMTP:
        if self._server is not None:
            with suppress(OSError, smtplib.SMTPException):
                if self._server.noop()[0] == 250:
                    return self._server
            self.close()
        route, seconds = self._route, self._bounds.connect_s
        # Named, for smtplib would ask a DNS server that an isolated network has not.
        here = socket.gethostname() or "localhost"
        if route.security is Security.TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                route.host, route.port, here, timeout=seconds, context=self._context
            )
        else:
            server = smtplib.SMTP(route.host, route.port, here, timeout=seconds)
        self._server = server
        if route.security is Security.STARTTLS:
            server.starttls(context=self._context)  # raises when it is not offered: never in clear
        if route.user:
            server.login(route.user, self._password)
        return server

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            with suppress(OSError, smtplib.SMTPException):
                server.quit()
            server.close()


def open_sender(
    route: Route,
    source: str,
    bounds: AlertingBounds = ALERTING_BOUNDS,
    shipping: ShippingBounds = SHIPPING_BOUNDS,
) -> Sender:
    """The sender of a route; nothing is connected yet.

    Raises
    ------
    InputError
        Certificates or a file with a secret that cannot be used.
    """
    once = replace(shipping, attempts=1)  # the courier tries again, and lets others go first
    secret = read_secret(route.secret, bounds) if route.secret else ""
    if route.to is To.MAIL:
        return Mail(route, source, secret, once)
    if route.to is To.WEBHOOK:
        poster = Poster(
            route.url,
            content_type="application/json",
            ca=route.ca,
            certificate=route.certificate,
            key=route.key,
            unsafe_plaintext=route.unsafe_plaintext,
            bounds=once,
        )
        return Webhook(poster, source, secret)
    sender = SyslogSender(
        route.host,
        route.port,
        ca=route.ca,
        certificate=route.certificate,
        key=route.key,
        unsafe_plaintext=route.unsafe_plaintext,
        bounds=once,
    )
    return Syslog(sender, source, dicom=route.to is To.ATNA, batch=bounds.batch)


def read_secret(path: Path, bounds: AlertingBounds = ALERTING_BOUNDS) -> str:
    """The one line of a file that nobody else may read; SettingsError for anything else."""
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            data = file.read(bounds.secret_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(
            f"the secret cannot be read: {reason}", str(path), "check the path and its owner"
        ) from error
    if mode & 0o077:
        raise SettingsError("others may read the secret", str(path), "chmod 600 it, and change the secret")
    text = data.decode("utf-8", "replace").strip("\r\n")
    if not text or len(data) > bounds.secret_bytes or not text.isprintable() or not text.isascii():
        raise SettingsError("a secret is one line of ASCII", str(path), "write it there, and nothing else")
    return text


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = {f"{code} {text.decode('ascii', 'replace')}" for code, text in error.recipients.values()}
        return "every recipient is refused: " + "; ".join(sorted(codes))[:200]
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        told = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
        return f"{error.smtp_code} {told}"[:200]
    return (
        getattr(error, "verify_message", "")
        or getattr(error, "strerror", "")
        or str(error)
        or type(error).__name__
    )[:200]

"""A provider of OpenID Connect on loopback, which can also lie."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey

CLIENT, SECRET = "scanward console", "a secret: with %"


class IdentityProvider(ThreadingHTTPServer):
    """``user`` is who signs in at it. ``bend`` changes claims, ``header`` the ID token's head, ``key`` who signs."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = f"http://127.0.0.1:{self.server_address[1]}"
        self.key: Any = ECKey.generate_key("P-256", {"kid": "first"})
        self.published: Any = self.key
        self.user = "anna"
        self.header: dict[str, str] = {"alg": "ES256"}
        self.bend: Callable[[dict[str, Any]], None] = lambda _: None
        self.metadata: dict[str, str] = {}
        self.status = 200
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []

    def authorize(self, query: dict[str, str]) -> str:
        """What a browser that signs in here is sent back to."""
        code = f"code-{len(self.codes)}-{time.monotonic_ns()}"
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, headers: Any, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The token endpoint."""
        user, _, password = base64.b64decode(headers["Authorization"].split()[1]).decode().partition(":")
        asked = self.codes.pop(form.get("code", ""), None)  # each code once
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (unquote(user), unquote(password)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if (
            challenge.rstrip(b"=").decode() != asked["code_challenge"]
            or asked["code_challenge_method"] != "S256"
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "7",
            "preferred_username": self.user,
        }
        claims |= {"nonce": asked["nonce"], "iat": now, "exp": now + 300}
        self.bend(claims)
        header = {"kid": self.key.kid, **self.header} if self.key.kid else dict(self.header)
        return 200, {"id_token": jwt.encode(header, claims, self.key, algorithms=[self.header["alg"]])}


class _Handler(BaseHTTPRequestHandler):
    server: IdentityProvider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(parts.path)
        issuer = self.server.issuer
        if parts.path == "/.well-known/openid-configuration":
            found = {"issuer": issuer, "authorization_endpoint": f"{issuer}/authorize"}
            found |= {
                "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/keys",
                **self.server.metadata,
            }
            self._say(self.server.status, found)
        elif parts.path == "/keys":
            self._say(200, KeySet([self.server.published]).as_dict(private=False))
        elif parts.path == "/authorize":
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            page = f'<a id="yes" href="{escape(self.server.authorize(query))}">I am {self.server.user}</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            self._say(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self._say(*self.server.token(self.headers, form))

    def _say(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def provider() -> Iterator[IdentityProvider]:
    """A running one."""
    server = IdentityProvider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


SHARED = OctKey.import_key(SECRET)  # what a client's secret must never be: a key for ID tokens

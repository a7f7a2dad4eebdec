"""Sign-in by OpenID Connect (Core 1.0, code flow with PKCE, RFC 7636): the provider says who, our accounts say what.

Nobody gets an account by it: the claim of the ID token that is agreed on has to name one that there is. Roles stay
ours.

State, nonce and verifier are derived from one random token in a cookie of the browser that began (SameSite=Lax, for the
provider leads back here): an answer that another browser began fits nothing. Nothing is kept here meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from scanward.config import OIDC_BOUNDS, OidcBounds
from scanward.errors import LinkError, RequestError, SettingsError

# Asymmetric ones alone: with HS256 whoever knows the client's secret could say who somebody is.
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "RS384", "RS512", "Ed25519", "EdDSA")
START: Final = "/sign-in/oidc"
CALLBACK: Final = "/sign-in/oidc/callback"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ASK: Final = "sign in with your password, or ask who runs this site"


@dataclass(frozen=True)
class Provider:
    """A provider and what we are to it.

    Attributes
    ----------
    issuer : str
        Its identifier, an https address (http on loopback alone).
    client_id, client_secret : str
        Ours there. The secret is sent by HTTP Basic.
    address : str
        Where browsers reach this site: ``https://console.example:8443``; `CALLBACK` under it is registered there.
    claim : str
        Of the ID token: names the account. It must be one that users cannot choose for themselves.
    label : str
        What the link on the page of sign-in says.
    ca : Path or None
        Whom to believe instead of the system's authorities.
    """

    issuer: str
    client_id: str
    client_secret: str
    address: str
    claim: str = "preferred_username"
    label: str = "Sign in with your hospital account"
    ca: Path | None = None

    def __post_init__(self) -> None:
        for name in ("issuer", "address"):
            _refuse_address(getattr(self, name), name)
        if not self.client_id or not self.client_secret or not self.claim:
            raise SettingsError("a provider without client, secret or claim", self.issuer, "give all three")

    @property
    def redirect(self) -> str:
        """Where it sends browsers back to."""
        return self.address.rstrip("/") + CALLBACK


class SingleSignOn:
    """Talks to one provider. All that asks it blocks.

    Parameters
    ----------
    clock : callable
        s since 1970.
    """

    def __init__(
        self, provider: Provider, clock: Callable[[], float] = time.time, bounds: OidcBounds = OIDC_BOUNDS
    ) -> None:
        self.provider, self._clock, self._bounds = provider, clock, bounds
        self._lock = threading.Lock()
        self._known: dict[str, Any] = {}
        self._known_at = self._keys_at = -1e18
        self._keys: KeySet | None = None
        try:
            self._context = ssl.create_default_context(cafile=str(provider.ca) if provider.ca else None)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"the authorities cannot be used: {error}", str(provider.ca), "give PEM"
            ) from error
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    # --- out and back

    def begin(self, token: str) -> str:
        """The address at the provider to which the browser that has ``token`` is sent; LinkError when it is away."""
        asked = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": self.provider.redirect,
            "scope": "openid profile",
            "state": state_of(token),
            "nonce": derived(token, "nonce"),
            "code_challenge": _base64(hashlib.sha256(derived(token, "verifier").encode()).digest()),
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def finish(self, token: str, code: str) -> str:
        """Who came back with ``code``: the name of an account, as the provider says.

        Raises
        ------
        RequestError
            What it says holds not: 401.
        LinkError
            It cannot be asked.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.provider.redirect,
            "code_verifier": derived(token, "verifier"),
        }
        answer = self._ask(self._endpoint("token_endpoint"), urlencode(form).encode("ascii"))
        id_token = answer.get("id_token")
        if not isinstance(id_token, str) or not id_token.isascii():
            raise _refused("the provider gave no ID token")
        claims = self._verified(id_token)
        self._check(claims, derived(token, "nonce"))
        name = claims.get(self.provider.claim)
        if not isinstance(name, str) or not name or len(name) > self._bounds.name_chars:
            raise _refused(f"the ID token has no {self.provider.claim}")
        return name

    # --- the ID token (OpenID Connect Core 1.0, 3.1.3.7)

    def _verified(self, id_token: str) -> dict[str, Any]:
        for again in (False, True):
            keys = self._key_set(again)
            try:
                return dict(jwt.decode(id_token, keys, algorithms=list(ALGORITHMS)).claims)
            except (JoseError, ValueError, TypeError, KeyError) as error:
                problem = error
        raise _refused("the ID token's signature does not hold") from problem

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        now, slack = self._clock(), self._bounds.slack_seconds
        audience = claims.get("aud")
        several = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self.provider.issuer:
            raise _refused("the ID token is of another issuer")
        if self.provider.client_id not in several:
            raise _refused("the ID token is for another client")
        if (len(several) > 1 or "azp" in claims) and claims.get("azp") != self.provider.client_id:
            raise _refused("the ID token was given to another client")
        expires, issued = claims.get("exp"), claims.get("iat")
        if not _is_time(expires) or not _is_time(issued):
            raise _refused("the ID token has no times")
        if (
            now >= expires + slack
            or issued > now + slack
            or now - issued > self._bounds.token_seconds + slack
        ):
            raise _refused("the ID token is too old, or of a clock that is wrong")
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise _refused("the ID token answers another sign-in")

    # --- asking

    def _endpoint(self, name: str) -> str:
        address = self._metadata().get(name)
        if not isinstance(address, str):
            raise self._away(f"it names no {name}")
        try:
            _refuse_address(address, name)
        except SettingsError as error:
            raise self._away(f"its {name} is none: {error.what}") from error
        return address

    def _metadata(self) -> dict[str, Any]:
        with self._lock:
            if self._clock() - self._known_at > self._bounds.metadata_seconds:
                found = self._ask(self.provider.issuer.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != self.provider.issuer:
                    raise self._away("it calls itself something else")
                self._known, self._known_at = found, self._clock()
            return self._known

    def _key_set(self, again: bool) -> KeySet:
        """Its keys; asked for ``again`` when none fits, but seldom: anybody can send a token of a strange key."""
        address = self._endpoint("jwks_uri")
        with self._lock:
            age = self._clock() - self._keys_at
            if (
                self._keys is None
                or age > self._bounds.metadata_seconds
                or (again and age > self._bounds.keys_seconds)
            ):
                try:
                    self._keys = KeySet.import_key_set(self._ask(address))  # type: ignore[arg-type]
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    raise self._away("its keys cannot be read") from error
                self._keys_at = self._clock()
            return self._keys

    def _ask(self, address: str, form: bytes | None = None) -> dict[str, Any]:
        """GET, or POST a form as the client we are; the JSON object that comes. No redirect is followed."""
        parts = urlsplit(address)
        headers = {"Accept": "application/json", "User-Agent": "scanward"}
        if form is not None:
            pair = f"{quote(self.provider.client_id, safe='')}:{quote(self.provider.client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"  # RFC 6749, 2.3.1
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        seconds, host = self._bounds.connect_seconds, parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=seconds)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET" if form is None else "POST", path, form, headers)
            response = connection.getresponse()
            body = response.read(self._bounds.answer_bytes + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._away(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if form is not None and 400 <= response.status < 500:
            raise _refused(
                "the provider does not know this sign-in"
            )  # an old code, one used twice, one made up
        if response.status != 200 or len(body) > self._bounds.answer_bytes:
            raise self._away(f"it answers with status {response.status} and {len(body)} bytes")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._away("it answers with something else than JSON") from error
        if not isinstance(answer, dict):
            raise self._away("it answers with something else than an object")
        return answer

    def _away(self, why: str) -> LinkError:
        return LinkError(f"the provider of sign-in cannot be used: {why}"[:300], self.provider.issuer, _ASK)


def derived(token: str, what: str) -> str:
    """43 letters that belong to a token, and tell nothing of it or of each other."""
    return _base64(hmac.digest(token.encode("ascii"), f"scanward oidc 1 {what}".encode(), "sha256"))


def state_of(token: str) -> str:
    """What the provider sends back with the browser that has this token."""
    return derived(token, "state")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e11


def _refused(why: str) -> RequestError:
    return RequestError(why, "", _ASK, 401)


def _refuse_address(address: str, name: str) -> None:
    try:
        parts = urlsplit(address)
        good = (
            bool(parts.hostname) and parts.username is None and not parts.fragment and (parts.port or 1) > 0
        )
    except ValueError:
        good = False
    if not good or not address.isascii() or not address.isprintable() or " " in address:
        raise SettingsError(f"the {name} is no address", address[:200], "give https://host")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise SettingsError(f"the {name} is without TLS", address[:200], "give https://host")

"""A site to test against, and a browser without a screen. Other tests of pages take `client_of` and `sign_in` too."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from starlette.applications import Starlette

from scanward.web.accounts import Accounts
from scanward.web.passwords import Hashing

with warnings.catch_warnings():  # it would rather have another client library, which nothing else here needs
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

CHEAP = Hashing(kib=64, passes=1, lanes=1)


def accounts_in(folder: Path) -> Accounts:
    """A file of accounts with cheap hashes; to be closed by the caller."""
    return Accounts(folder / "accounts.sqlite", CHEAP)


def client_of(app: Starlette, address: str = "192.0.2.7", tls: bool = False) -> TestClient:
    """A client at an address, which follows no redirects and lets no error pass."""
    return TestClient(
        app,
        base_url="https://localhost" if tls else "http://localhost",
        follow_redirects=False,
        raise_server_exceptions=True,
        client=(address, 50_000),
    )


def csrf_of_page(text: str) -> str:
    """The CSRF token in a page."""
    found = re.search(r'<meta name="csrf-token" content="([^"]*)">', text)
    assert found, text[:500]
    return found[1]


def sign_in(client: TestClient, name: str, password: str, there: str = "/", status: int = 303) -> str:
    """Sign in as a browser does; the CSRF token of the new session, or "" when ``status`` is not 303."""
    token = csrf_of_page(client.get("/sign-in").text)
    answer = client.post(
        "/sign-in", data={"csrf_token": token, "name": name, "password": password, "next": there}
    )
    assert answer.status_code == status, (answer.status_code, answer.text[:1000])
    return str(client.get("/api/session").json()["csrf_token"]) if status == 303 else ""

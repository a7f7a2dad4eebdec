"""What the pages of one console share: its settings, scanners, streams and files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request

from scanward.console.hub import Hub
from scanward.console.settings import ConsoleSettings, ScannerSettings
from scanward.console.state import ScannerState
from scanward.errors import RequestError
from scanward.web.accounts import Accounts

OPERATOR: Final = "operator"  # Now, and acts
PHYSICIST: Final = "physicist"  # Now without acts, History, Device, Audit
ADMINISTRATOR: Final = "administrator"  # accounts, configuration
ROLES: Final = (OPERATOR, PHYSICIST, ADMINISTRATOR)


@dataclass(frozen=True)
class Console:
    """One console. ``kept``: what a page keeps between requests, under the name of its module."""

    settings: ConsoleSettings
    accounts: Accounts
    scanners: dict[str, ScannerState]
    hub: Hub
    clock: Callable[[], float] = time.time
    kept: dict[str, Any] = field(default_factory=dict)

    def scanner(self, identifier: str) -> ScannerState:
        """The scanner of an address; RequestError (404) when there is none."""
        found = self.scanners.get(identifier)
        if found is None:
            raise RequestError("no such scanner", identifier[:64], "take one of the list", 404)
        return found

    def settings_of(self, identifier: str) -> ScannerSettings:
        """What console.toml says of it; RequestError (404) when it says nothing."""
        for scanner in self.settings.scanners:
            if scanner.id == identifier:
                return scanner
        raise RequestError("no such scanner", identifier[:64], "take one of the list", 404)


def console_of(request: Request) -> Console:
    """The console that a request is for."""
    console = request.app.state.console
    assert isinstance(console, Console)
    return console

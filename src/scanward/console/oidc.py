"""``[oidc]`` of console.toml: the provider that may say who somebody is (`web.oidc`)."""

from __future__ import annotations

from scanward.console.alerting.senders import read_secret
from scanward.console.settings import ConsoleSettings
from scanward.errors import SettingsError
from scanward.web.oidc import Provider, SingleSignOn


def single_sign_on(settings: ConsoleSettings) -> SingleSignOn | None:
    """What ``[oidc]`` asks for; None without it. It is taken out of the settings: once.

    Raises
    ------
    SettingsError
        What is wrong, in which line or file.
    """
    section = settings.oidc
    if section is None:
        return None
    found = {
        "issuer": section.text("issuer", most=1024),
        "client_id": section.text("client_id", most=256),
        "address": section.text("address", most=1024),
        "claim": section.text("claim", "preferred_username", most=64),
        "label": section.text("label", "Sign in with your hospital account", most=64),
    }
    secret = section.text("client_secret_file", most=4096)
    ca = section.text("ca", None, most=4096)
    section.done()
    try:
        return SingleSignOn(
            Provider(
                **found,
                client_secret=read_secret(settings.folder / secret),
                ca=settings.folder / ca if ca else None,
            )
        )
    except SettingsError as error:
        raise section.fail(f"{error.what} ({error.where})", None, error.todo) from error

"""``scanward console``: the operator's console, served; ``scanward console accounts``: who may sign in to it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import escape, note, print_json, print_table
from scanward.errors import ScanwardError, SettingsError

if TYPE_CHECKING:
    from scanward.console.settings import ConsoleSettings
    from scanward.web.accounts import Account, Accounts

FAILED = 2  # exit status of --check when something cannot be used
_BY = "the command line"
_CONFIG_HELP = "The console's configuration (TOML)."


@click.group("console", invoke_without_command=True, short_help="Serve the operator's console.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option(
    "--check", is_flag=True, help="Look at files and guards that are configured, and serve nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the address (or what --check found) as JSON.")
@click.pass_context
def console_group(context: click.Context, config_path: Path | None, check: bool, as_json: bool) -> None:
    """Show operators what each guard holds, and carry their signed acts to it.

    It runs on another machine than the scanner's host, until interrupted; a guard never waits for it. Acts are signed
    in the browser with the operator's own key: the console has none. docs/console.md explains the configuration.

    \b
    Example:
      scanward console accounts add anna --role operator --config console.toml
      scanward console --config console.toml --check
      scanward console --config console.toml
    """
    if context.invoked_subcommand is not None:
        if config_path is not None or check or as_json:
            raise SettingsError(
                "options before a command", str(context.invoked_subcommand), "give them after it"
            )
        return
    if config_path is None:
        raise SettingsError("which console?", "scanward console", "give --config console.toml")
    from scanward.console.settings import load_settings

    settings = load_settings(config_path)
    if check:
        context.exit(_check(settings, as_json))
    _serve(settings, as_json)


def _serve(settings: ConsoleSettings, as_json: bool) -> None:
    from scanward.console.app import build_console, open_console
    from scanward.keys import passphrase_from_environment
    from scanward.web.front import LOOPBACK
    from scanward.web.serving import certificate_hosts, serve

    web = settings.web
    named = [*web.hosts, *(certificate_hosts(web.certificate) if web.certificate else ())]
    with _accounts(settings) as accounts:
        console = open_console(settings, accounts)
        app = build_console(
            console, hosts=[*LOOPBACK, *named], tls=web.behind_proxy or web.certificate is not None
        )
        if not accounts.all():
            note(
                f"nobody can sign in yet: scanward console accounts add NAME --role operator --config {settings.path}"
            )

        def ready(address: str) -> None:
            if as_json:
                click.echo(
                    json.dumps({"address": address, "scanners": list(console.scanners), "names": named})
                )
            else:
                click.echo(f"ready: {escape(_seen(address, named))}")
                note(f"scanners: {', '.join(one.name for one in settings.scanners)}")

        serve(
            app,
            *web.listen,
            web.certificate,
            web.key,
            passphrase=passphrase_from_environment(),
            behind_proxy=web.behind_proxy,
            on_ready=ready,
            on_stop=lambda: console.hub.close("the console stops"),
        )


def _accounts(settings: ConsoleSettings) -> Accounts:
    from scanward.web.accounts import Accounts

    state = settings.web.state
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the folder of the console's state cannot be made: {error.strerror}",
            str(state),
            "check the path",
        ) from error
    return Accounts(settings.web.accounts)


def _seen(address: str, named: list[str]) -> str:
    """The address with a name that browsers accept."""
    scheme, _, place = address.partition("://")
    return f"{scheme}://{named[0]}:{place.rpartition(':')[2]}/" if named else f"{address}/"


def _check(settings: ConsoleSettings, as_json: bool) -> int:
    """Look at certificate, accounts and guards; the exit status. A wrong table is an error like any other."""
    from scanward.console.alerting.service import configured
    from scanward.console.app import open_console
    from scanward.keys import passphrase_from_environment
    from scanward.transport.tls import certificate_facts, refuse_expired
    from scanward.web.serving import tls_context

    web, looks = settings.web, []

    def look(name: str, found: str, error: str = "") -> None:
        looks.append({"name": name, "found": found, "error": error})

    if web.certificate is not None and web.key is not None:
        try:
            facts = certificate_facts(web.certificate)
            refuse_expired(facts, web.certificate)
            tls_context(web.certificate, web.key, passphrase_from_environment())
            look("certificate", f"{', '.join(facts.names)}; until {facts.not_after:%Y-%m-%d}")
        except ScanwardError as error:
            look("certificate", "", str(error))
    with _accounts(settings) as accounts:
        console = open_console(settings, accounts)  # reads what the parts of the console are told
        look("accounts", f"{len(accounts.all())} in {settings.web.accounts}")
    for route in configured(console).routes:
        look(f"alerts {route.name}", f"{route.to.value} {route.where}; not tried: send a test on /alerts")
    for one in settings.scanners:
        found, trouble = asyncio.run(_reach(one.control))
        look(f"scanner {one.id}", found, trouble)
        if one.audit is not None:
            look(f"audit {one.id}", str(one.audit), "" if one.audit.is_dir() else "no such folder")
        for path in (*one.audit_keys, *one.bundle_keys, *([one.bundle] if one.bundle else ())):
            if not path.exists():
                look(f"file of {one.id}", str(path), "it is not there")
    wrong = any(each["error"] for each in looks)
    if as_json:
        print_json({"ok": not wrong, "looks": looks})
    else:
        print_table(
            ("", "found", "trouble"), [(each["name"], each["found"], each["error"]) for each in looks]
        )
    return FAILED if wrong else 0


async def _reach(control: Any) -> tuple[str, str]:
    from scanward.console.wire import Wire
    from scanward.keys import passphrase_from_environment

    try:
        wire = await Wire.open(control, passphrase_from_environment())
    except ScanwardError as error:
        return "", str(error)
    wire.close()
    policy = wire.state.get("policy")
    name = str(policy.get("name", "")) if isinstance(policy, dict) else ""
    return f"a guard answers; policy {name!r}", ""


@console_group.command("accounts", short_help="Give operators, physicists and administrators their accounts.")
@click.argument(
    "action",
    type=click.Choice(["add", "list", "reset", "roles", "unlock", "remove"]),
    metavar="add|list|reset|roles|unlock|remove",
)
@click.argument("name", required=False)
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["operator", "physicist", "administrator"]),
    help="With add and roles: what the account is for; repeatable.",
)
@click.option(
    "--operator", help="With add: the id in the guards' policies, where it is not the account's name."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made or found as JSON.")
def accounts_command(
    action: str,
    name: str | None,
    config_path: Path,
    roles: tuple[str, ...],
    operator: str | None,
    as_json: bool,
) -> None:
    """Add, list or change the accounts of the console.

    `add` and `reset` print a new passphrase, once: hand it over in person. `reset` also signs the account out
    everywhere. An account lets somebody look and send; whether an act counts is decided by the guard, from the
    operator's key and the policy. All work while the console is served.

    \b
    Example:
      scanward console accounts add anna --role operator --config console.toml
      scanward console accounts add max --role physicist --role administrator --config console.toml
      scanward console accounts list --config console.toml
      scanward console accounts reset anna --config console.toml
    """
    from scanward.console.settings import load_settings

    settings = load_settings(config_path)
    if action == "list" and name is not None:
        raise SettingsError("list takes no name", name, "leave it out")
    if action != "list" and name is None:
        raise SettingsError("whose account", action, "give a name")
    if (action in ("add", "roles")) != bool(roles):
        raise SettingsError("--role belongs to add and roles, which need it", action, "give --role operator")
    if operator is not None and action != "add":
        raise SettingsError("--operator belongs to add", action, "leave it out")
    who = name or ""
    with _accounts(settings) as accounts:
        if action == "list":
            _list(settings, accounts.all(), as_json)
            return
        passphrase = _change(settings, accounts, action, who, roles, operator)
    if as_json:
        print_json({"action": action, "name": who, **({"passphrase": passphrase} if passphrase else {})})
    elif passphrase:
        print_table(("name", "passphrase"), [(who, passphrase)])
        note("shown once and stored nowhere: hand it over in person")
    else:
        note(f"{action}: {who}")


def _change(
    settings: ConsoleSettings,
    accounts: Accounts,
    action: str,
    who: str,
    roles: tuple[str, ...],
    operator: str | None,
) -> str | None:
    if action == "add":
        passphrase = accounts.add(who, roles, by=_BY)
        if operator:
            _set_operator(settings, accounts.get(who), operator)
        return passphrase
    if action == "reset":
        return accounts.set_password(who, by=_BY)
    if action == "roles":
        accounts.set_roles(who, roles, by=_BY)
    elif action == "unlock":
        accounts.unlock(who, by=_BY)
    else:
        accounts.remove(who, by=_BY)
    return None


def _set_operator(settings: ConsoleSettings, account: Account | None, operator: str) -> None:
    from scanward.console.records import Records

    assert account is not None
    records = Records(settings.web.records)
    try:
        records.set_operator(account, operator)
    finally:
        records.close()


def _list(settings: ConsoleSettings, found: list[Account], as_json: bool) -> None:
    from scanward.console.records import Records

    records = Records(settings.web.records)
    try:
        rows: list[dict[str, Any]] = [
            {
                "name": one.name,
                "roles": sorted(one.roles),
                "operator": records.operator_of(one),
                "disabled": one.disabled,
                "password_set": datetime.fromtimestamp(one.changed, UTC).isoformat(timespec="seconds"),
            }
            for one in found
        ]
    finally:
        records.close()
    if as_json:
        print_json({"accounts": rows})
        return
    print_table(
        ("name", "roles", "operator's id", "disabled", "password set"),
        [(r["name"], " ".join(r["roles"]), r["operator"], r["disabled"], r["password_set"]) for r in rows],
    )

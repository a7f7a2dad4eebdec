"""``scanward study accounts``: who may sign in to a study."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import note, print_json, print_table
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.reading.opened import Study
    from scanward.web.accounts import Accounts

READER, LEAD = "reader", "lead"
_BY = "the command line"


@click.command("accounts", short_help="Give readers and leads of a study their accounts.")
@click.argument("study", type=click.Path(path_type=Path))
@click.argument(
    "action", type=click.Choice(["add", "list", "reset", "remove"]), metavar="add|list|reset|remove"
)
@click.argument("name", required=False)
@click.option("--lead", is_flag=True, help="With add: a lead, who sees progress and reads no pictures.")
@click.option("--all", "everybody", is_flag=True, help="With add: every reader who has no account yet.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made or found as JSON.")
def accounts_command(
    study: Path, action: str, name: str | None, lead: bool, everybody: bool, as_json: bool
) -> None:
    """Add, list, reset or remove the accounts of STUDY.

    A reader's account has the name of a reader of the protocol (R01, ...); who that is stays in your own list. `add`
    and `reset` print a new passphrase, once: hand it over in person. `reset` also signs the account out everywhere and
    lets it sign in again after too many wrong passwords. `remove` takes nothing away of what was answered. All work
    while the study is served.

    \b
    Example:
      scanward study accounts study/ add --all
      scanward study accounts study/ add --lead miriam
      scanward study accounts study/ list
      scanward study accounts study/ reset R02
    """
    from scanward.reading.opened import open_study
    from scanward.web.accounts import Accounts

    _check(action, name, lead, everybody)
    opened = open_study(study, pictures=False)
    with Accounts(opened.accounts) as accounts:
        if action == "list":
            _list(opened, accounts, as_json)
            return
        if action == "add":
            given = _add(opened, accounts, name, lead, everybody)
        elif action == "reset":
            given = [(name or "", accounts.set_password(name or "", by=_BY))]
        else:
            accounts.remove(name or "", by=_BY)
            given = []
    made = [{"name": who, "passphrase": passphrase} for who, passphrase in given]
    if as_json:
        print_json(made if action != "remove" else {"removed": name})
    elif made:
        print_table(("name", "passphrase"), [(one["name"], one["passphrase"]) for one in made])
        note("shown once and stored nowhere: hand them over in person")
    elif action == "remove":
        note(f"removed: {name}; what was answered stays")
    else:
        note("every reader has an account")


def _check(action: str, name: str | None, lead: bool, everybody: bool) -> None:
    if (lead or everybody) and action != "add":
        raise SettingsError("--lead and --all belong to add", action, "leave them out")
    if everybody and (name is not None or lead):
        raise SettingsError(
            "--all adds the readers of the protocol", "--all", "leave out the name and --lead"
        )
    if action == "list" and name is not None:
        raise SettingsError("list takes no name", name, "leave it out")
    if action != "list" and name is None and not everybody:
        raise SettingsError("whose account", action, "give a name, or with add --all")


def _add(
    study: Study, accounts: Accounts, name: str | None, lead: bool, everybody: bool
) -> list[tuple[str, str | None]]:
    readers = list(study.readers)
    if everybody:
        names = [reader for reader in readers if accounts.get(reader) is None]
    elif name is not None and lead and name.casefold() in {reader.casefold() for reader in readers}:
        raise SettingsError(
            "a reader cannot be the lead", name, "choose another name: who knows the truth does not read"
        )
    elif name is not None and not lead and name not in readers:
        raise SettingsError(
            "no reader of the protocol", name, f"one of {', '.join(readers)}; or give --lead for a lead"
        )
    else:
        names = [name or ""]
    role = LEAD if lead else READER
    return [(one, accounts.add(one, [role], by=_BY)) for one in names]


def _list(study: Study, accounts: Accounts, as_json: bool) -> None:
    there = accounts.all()
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "roles": sorted(one.roles),
            "disabled": one.disabled,
            "password_set": datetime.fromtimestamp(one.changed, UTC).isoformat(timespec="seconds"),
        }
        for one in there
    ]
    without = [reader for reader in study.readers if reader not in {one.name for one in there}]
    if as_json:
        print_json({"accounts": rows, "without_account": without})
        return
    print_table(
        ("name", "roles", "disabled", "password set"),
        [(r["name"], " ".join(r["roles"]), r["disabled"], r["password_set"]) for r in rows],
    )
    if without:
        note(f"without an account: {', '.join(without)}")

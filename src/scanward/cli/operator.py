"""``scanward operator``: what is on hold and why; release, refuse, emergency access, mode. One person, one key."""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from scanward.cli.keys import ask_passphrase
from scanward.cli.operator_screen import (
    HELP,
    emergency_lines,
    event_line,
    examination_lines,
    held_lines,
    nameless,
    second_lines,
    state_lines,
)
from scanward.cli.output import escape, print_json
from scanward.commands import Mode
from scanward.errors import InputError, SettingsError
from scanward.guard.control_client import Answered, ControlClient, shown_digest
from scanward.guard.operators import REASONED, Act, ActKind
from scanward.keys import SigningKey

KEY_VARIABLE = "SCANWARD_OPERATOR_KEY"
DENIED = 1  # exit status: the guard heard the act and did not do it
_SETTLES_S = 2.0  # s that an act may take to show in the state: a release waits for its record


@click.command("operator", short_help="Decide what is on hold; emergency access; mode.")
@click.option("--config", type=click.Path(path_type=Path), help="The guard's configuration (guard.toml).")
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), help="Its socket, without --config."
)
@click.option(
    "--key", type=click.Path(path_type=Path), help=f"Your private key.  [default: what {KEY_VARIABLE} names]"
)
@click.option("--as", "operator", default="", help="Your id in the policy.  [default: by your key]")
@click.option("--list", "show", is_flag=True, help="Show the state and what is on hold, then leave.")
@click.option("--release", type=int, metavar="REQUEST", help="Release this request; needs --reason.")
@click.option("--refuse", type=int, metavar="REQUEST", help="Refuse this request.")
@click.option("--call", type=int, metavar="REQUEST", help="Call for a second person.")
@click.option(
    "--emergency", type=click.IntRange(0, 240), metavar="MINUTES", help="Begin it; 0: the policy's."
)
@click.option("--end-emergency", is_flag=True, help="End emergency access.")
@click.option("--explain", type=int, metavar="NUMBER", help="Say why it was needed; needs --reason.")
@click.option(
    "--mode", type=click.Choice([m.value for m in Mode]), help="Set the mode, between examinations."
)
@click.option("--reason", default="", help="Why. Recorded as typed: do not name the patient.")
@click.option("--json", "as_json", is_flag=True, help="Print the state, or what came of the act, as JSON.")
@click.pass_context
def operator_command(
    context: click.Context,
    config: Path | None,
    socket_path: Path | None,
    key: Path | None,
    operator: str,
    show: bool,
    release: int | None,
    refuse: int | None,
    call: int | None,
    emergency: int | None,
    end_emergency: bool,
    explain: int | None,
    mode: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Show what a guard holds and why, and decide it.

    Without one of --list, --release, --refuse, --call, --emergency, --end-emergency, --explain and --mode it stays,
    shows what comes, and takes decisions line by line. Every act is signed with your key, over what you were shown.
    Exit status 1: the guard did not do it.

    \b
    Example:
      scanward operator --config guard.toml --key anna.key
      scanward operator --config guard.toml --list --json
      scanward operator --config guard.toml --key anna.key --release 17 --reason "large patient, agreed"
      scanward operator --config guard.toml --key anna.key --emergency 15
    """
    wanted = _wanted(release, refuse, call, emergency, end_emergency, explain, mode, reason)
    if wanted is not None and show:
        raise SettingsError("one thing at a time", "--list", "leave it out")
    path = _socket(config, socket_path)
    with ControlClient(path) as client:
        person = _Person(key, operator, config)
        if wanted is not None:
            context.exit(_once(client, wanted, person, as_json))
        elif show or as_json:
            _show(client.state, as_json)
        else:
            _Terminal(client, person).run()


def _wanted(
    release: int | None,
    refuse: int | None,
    call: int | None,
    emergency: int | None,
    end_emergency: bool,
    explain: int | None,
    mode: str | None,
    reason: str,
) -> Act | None:
    """The act that the options ask for, unsigned and without what was shown; None for none."""
    acts = []
    if release is not None:
        acts.append(Act(ActKind.RELEASE, request=release, reason=reason))
    if refuse is not None:
        acts.append(Act(ActKind.REFUSE, request=refuse, reason=reason))
    if call is not None:
        acts.append(Act(ActKind.CALL, request=call))
    if emergency is not None:
        acts.append(Act(ActKind.EMERGENCY, minutes=emergency, reason=reason))
    if end_emergency:
        acts.append(Act(ActKind.EMERGENCY_END, reason=reason))
    if explain is not None:
        acts.append(Act(ActKind.EMERGENCY_REASON, request=explain, reason=reason))
    if mode is not None:
        acts.append(Act(ActKind.MODE, mode=Mode(mode), reason=reason))
    if len(acts) > 1:
        raise SettingsError("one act at a time", "scanward operator", "give one of them")
    if acts and acts[0].kind in REASONED and not reason.strip():
        raise SettingsError("it is not done without a reason", "--reason", 'give --reason "..."')
    if any(i is not None and not 0 <= i < 1 << 53 for i in (release, refuse, call, explain)):
        raise SettingsError("no such number", "scanward operator", "give the number that --list shows")
    return acts[0] if acts else None


def _socket(config: Path | None, path: Path | None) -> Path:
    if (config is None) == (path is None):
        raise SettingsError("which guard?", "--config", "give --config guard.toml, or --socket")
    if path is not None:
        return path
    from scanward.guard.config import load_config

    assert config is not None
    return load_config(config).control.socket


class _Person:
    """Who sits here: key and id, read when an act needs them."""

    def __init__(self, key: Path | None, operator: str, config: Path | None) -> None:
        named = os.environ.get(KEY_VARIABLE, "")
        self._path = key or (Path(named) if named else None)
        self._id = operator
        self._config = config
        self._key: SigningKey | None = None

    def signer(self, *, needed: bool) -> tuple[str, SigningKey | None]:
        """Id and key; ("", None) where no key is given and none is needed."""
        if self._path is None:
            if needed:
                raise SettingsError(
                    "no key: the guard accepts signed acts only",
                    "--key",
                    f"give --key, or set {KEY_VARIABLE}",
                )
            return "", None
        if self._key is None:
            self._key = SigningKey.load(self._path, ask_passphrase)
        if not self._id:
            self._id = self._by_policy(self._key)
        return self._id, self._key

    def _by_policy(self, key: SigningKey) -> str:
        """The id under which the policy knows this key. Read unverified: the guard verifies, this only asks."""
        if self._config is None:
            raise SettingsError("who are you?", "--as", "give your id in the policy")
        from scanward.guard.config import load_config
        from scanward.guard.toml_lines import parse

        policy = load_config(self._config).policy.path
        try:
            data = policy.read_bytes()
        except OSError as error:
            raise InputError(
                f"the policy cannot be read: {error.strerror}", str(policy), "give --as with your id in it"
            ) from error
        people = parse(data, str(policy), 1 << 20)[1].get("operators")
        digits = key.verify_key.raw.hex()
        for identifier, row in people.items() if isinstance(people, dict) else ():
            if isinstance(row, dict) and row.get("key") == digits:
                return str(identifier)
        raise InputError(
            "the policy knows no operator with this key",
            str(policy),
            "give another --key, or ask who signs it",
        )


def _sent(client: ControlClient, act: Act, person: _Person) -> Answered:
    """Fill in who and what was shown, sign, send."""
    if act.kind in (ActKind.RELEASE, ActKind.REFUSE):
        held = client.state.get("held")
        if not isinstance(held, dict) or held.get("request") != act.request:
            return Answered(False, f"request {act.request} is not on hold")
        shown = shown_digest(held)
    else:
        shown = ""
    keyless = act.kind is ActKind.EMERGENCY and client.without_key
    operator, key = person.signer(needed=not keyless)
    made = Act(act.kind, operator, act.request, shown, act.reason.strip(), act.minutes, act.mode)
    return client.act(made, key)


def _once(client: ControlClient, act: Act, person: _Person, as_json: bool) -> int:
    answered = _sent(client, act, person)
    state = _settled(client, act) if answered.done else client.refresh()
    if as_json:
        said = {"act": act.kind, "done": answered.done, "reason": answered.reason}
        print_json({**said, "state": nameless(state)})
    elif answered.done:
        click.echo(f"done: {act.kind.value.replace('_', ' ')}")
        for line in second_lines(state.get("held"), act.request if act.kind is ActKind.RELEASE else 0):
            click.echo(line)
        for line in emergency_lines(state.get("emergency") or {}):
            click.echo(line)
    else:
        click.echo(f"not done: {escape(answered.reason)}", err=True)
    return 0 if answered.done else DENIED


def _settled(client: ControlClient, act: Act) -> dict[str, Any]:
    """The state once an act shows in it, or after a moment: what the gate then does takes its own time."""
    until = time.monotonic() + _SETTLES_S
    while True:
        state = client.refresh()
        held = state.get("held")
        busy = isinstance(held, dict) and held.get("request") == act.request and not held.get("released_by")
        if act.kind not in (ActKind.RELEASE, ActKind.REFUSE) or not busy or time.monotonic() > until:
            return state
        client.events(0.1)


def _show(state: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(nameless(state))
        return
    for line in state_lines(state):
        click.echo(line)


@dataclass
class _Terminal:
    """The session: events as they come, decisions line by line."""

    client: ControlClient
    person: _Person

    def run(self) -> None:
        for line in state_lines(self.client.state):
            click.echo(line)
        click.echo(HELP)
        typed = _Typed(sys.stdin.fileno())
        while True:
            ready, _, _ = select.select([self.client.fileno(), typed.fileno()], [], [], 10.0)
            self._news()
            if typed.fileno() in ready:
                for line in typed.lines():
                    if not self._do(line.strip()):
                        return
                if typed.ended:
                    return

    def _news(self) -> None:
        for event in self.client.events():
            data = event.get("data")
            if event.get("kind") == "held" and isinstance(data, dict):
                self.client.state["held"] = data
                click.echo("\a", nl=False)
                for line in held_lines(data):
                    click.echo(line)
            elif event.get("kind") == "examination":
                self.client.state["examination"] = data
                for line in examination_lines(data):
                    click.echo(line)
            else:
                click.echo(event_line(event))

    def _do(self, line: str) -> bool:
        """Carry out one line; False to leave."""
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("q", "quit"):
            return False
        if word in ("", "s"):
            for shown in state_lines(self.client.refresh(), every=word == "s"):
                click.echo(shown)
            return True
        act = self._act(word, rest)
        if act is None:
            click.echo(HELP)
            return True
        if act.kind in REASONED and not act.reason:
            click.echo("not done: a reason is needed")
            return True
        answered = _sent(self.client, act, self.person)
        click.echo("done" if answered.done else f"not done: {escape(answered.reason)}")
        if act.kind is ActKind.RELEASE and answered.done:
            for shown in second_lines(self.client.refresh().get("held"), act.request):
                click.echo(shown)
        if act.kind is ActKind.EMERGENCY and answered.done:
            for shown in emergency_lines(self.client.refresh().get("emergency") or {}):
                click.echo(shown)
        return True

    def _act(self, word: str, rest: str) -> Act | None:
        """The act that a line asks for. Decisions name their request: what is on hold may have changed meanwhile."""
        number, _, why = rest.partition(" ")
        known = number.isascii() and number.isdigit() and len(number) < 16
        if word in _BY_NUMBER and known:
            return Act(_BY_NUMBER[word], request=int(number), reason=why.strip())
        if word == "e" and (not rest or (known and int(number) <= 1000)):
            return Act(ActKind.EMERGENCY, minutes=int(number or 0), reason=why.strip())
        if word == "x" and not rest:
            return Act(ActKind.EMERGENCY_END)
        if word == "m" and rest.upper() in list(Mode):
            return Act(ActKind.MODE, mode=Mode(rest.upper()))
        return None


_BY_NUMBER = {
    "r": ActKind.RELEASE,
    "n": ActKind.REFUSE,
    "c": ActKind.CALL,
    "w": ActKind.EMERGENCY_REASON,
}


class _Typed:
    """Whole lines from a file descriptor, without Python's own buffer, which ``select`` does not see."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._buffer = b""
        self.ended = False

    def fileno(self) -> int:
        return self._handle

    def lines(self) -> list[str]:
        data = os.read(self._handle, 4096)
        self.ended = not data
        *whole, self._buffer = (self._buffer + data).split(b"\n")
        if self.ended and self._buffer:
            whole, self._buffer = [*whole, self._buffer], b""
        return [line.decode("utf-8", "replace") for line in whole]

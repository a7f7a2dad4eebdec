"""``scanward policy``: write, check and sign a guard's policy and device profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from scanward.cli.keys import ask_passphrase
from scanward.cli.output import escape, note, print_json
from scanward.codecs.canopen_profile import CanProfile
from scanward.codecs.canopen_profile_toml import KIND
from scanward.codecs.canopen_sdo import address_text
from scanward.commands import Device, Mode
from scanward.config import POLICY_BOUNDS
from scanward.errors import PolicyError, SettingsError
from scanward.guard.can_link import parsed_profile
from scanward.guard.policy import Policy
from scanward.guard.policy_read import parse_policy
from scanward.guard.policy_signing import POLICY, PROFILE, read_bytes, read_signed, sign
from scanward.guard.policy_terms import TwoPersons
from scanward.guard.profile import DeviceProfile
from scanward.guard.profile_read import parse_profile
from scanward.keys import SigningKey, VerifyKey
from scanward.transport.can_frames import CanFrame

_PROFILE_HELP = "The device profile that the policy goes with.  [default: device.toml beside it]"


@click.group("policy", short_help="Write, check and sign policy and device profile.")
def policy_group() -> None:
    """Write, check and sign a guard's policy and device profile.

    \b
    Example:
      scanward policy new site/ --manufacturer Acme --device-model CT64 --operator anna=anna.pub
      scanward policy check site/policy.toml
      scanward policy sign site/device.toml --key site.key
      scanward policy sign site/policy.toml --key site.key
    """


@policy_group.command("new")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--manufacturer", required=True, help="Manufacturer of the scanner, as DICOM has it.")
@click.option("--device-model", required=True, help="ManufacturerModelName of the scanner.")
@click.option("--serial", default="", help="Keyed hash of its DeviceSerialNumber.  [default: every one]")
@click.option("--operator", "operators", multiple=True, metavar="ID=FILE.pub", help="Who may decide.")
@click.option("--model", type=click.Path(path_type=Path), help="A bundle: its ranges and dose constants.")
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="Whose bundle to believe.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
def new(
    folder: Path,
    manufacturer: str,
    device_model: str,
    serial: str,
    operators: Sequence[str],
    model: Path | None,
    trust: Sequence[Path],
    force: bool,
    as_json: bool,
) -> None:
    """Write commented drafts, FOLDER/policy.toml and FOLDER/device.toml.

    Read them, set the numbers, check, sign. The doses in them are examples.

    \b
    Example:
      scanward policy new site/ --manufacturer Acme --device-model CT64 --operator anna=anna.pub
    """
    from scanward.guard import profile_make

    device = Device(manufacturer, device_model, serial)
    people = {}
    for named in operators:
        who, _, file = named.partition("=")
        if not who or not file:
            raise SettingsError(f"{named!r} names nobody", "--operator", "write ID=FILE.pub")
        people[who] = VerifyKey.load(Path(file)).raw.hex()
    if model is None:
        profile = profile_make.for_device(profile_make.template("device.toml"), device)
    else:
        profile = profile_make.profile_of(_part(model, trust), device)
    policy = profile_make.with_operators(
        profile_make.for_device(profile_make.template("policy.toml"), device), people
    )
    parsed = parse_profile(profile.encode(), "device.toml")
    parse_policy(policy.encode(), "policy.toml", parsed)
    paths = {"policy": folder / "policy.toml", "profile": folder / "device.toml"}
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths.values(), (policy, profile), strict=True):
        if path.exists() and not force:
            raise SettingsError("a file is already there", str(path), "choose another folder, or --force")
        path.write_text(text, encoding="utf-8")
    if not people:
        note("no --operator was given: nobody holds the example's key, so nobody could release anything")
    elif len(people) == 1:
        note("two-person release is off: one operator alone could never release what needs two")
    if as_json:
        print_json(paths)
        return
    for path in paths.values():
        click.echo(f"wrote {escape(str(path))}")
    click.echo("read them, set the numbers for your scanner and site, then: scanward policy check, and sign")


@policy_group.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--profile", "profile_path", type=click.Path(path_type=Path), help=_PROFILE_HELP)
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="Verify its signature too.")
@click.option("--model", type=click.Path(path_type=Path), help="A bundle: are the caps above its doses?")
@click.option("--json", "as_json", is_flag=True, help="Print what it says as JSON.")
def check(
    path: Path, profile_path: Path | None, trust: Sequence[Path], model: Path | None, as_json: bool
) -> None:
    """Read a policy, device profile or CAN profile, and say in words what it does.

    \b
    Example:
      scanward policy check site/policy.toml
      scanward policy check site/policy.toml --trust site.pub
    """
    kind, made = _read(path, profile_path)
    signed_by = read_signed(path, kind, [VerifyKey.load(p) for p in trust]).signed_by if trust else ""
    remarks = []
    if model is not None:
        if not isinstance(made, Policy):
            raise SettingsError("a device profile has no caps", "--model", "check the policy with it")
        remarks = _beside_recordings(made, model, trust)
    if as_json:
        print_json({"kind": kind, "signed_by": signed_by, "says": list(_says(made)), "remarks": remarks})
        return
    for line in _says(made):
        click.echo(escape(line))
    for remark in remarks:
        note(f"warning: {remark}")
    click.echo(f"signed by {signed_by}" if signed_by else "the signature was not asked about")


@policy_group.command("sign")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--key", "key_path", required=True, type=click.Path(path_type=Path), help="The site's key.")
@click.option("--profile", "profile_path", type=click.Path(path_type=Path), help=_PROFILE_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the signature's path as JSON.")
def sign_command(path: Path, key_path: Path, profile_path: Path | None, as_json: bool) -> None:
    """Check a policy, device profile or CAN profile, then sign it: PATH.sig is written beside it.

    \b
    Example:
      scanward policy sign site/policy.toml --key site.key
    """
    kind, made = _read(path, profile_path)
    data = read_bytes(path, POLICY_BOUNDS.file_bytes)
    if _digest(data) != made.digest:
        raise PolicyError("it changed while it was being checked", str(path), "try again")
    key = SigningKey.load(key_path, ask_passphrase)
    beside = sign(path, kind, data, key)
    if as_json:
        print_json({"kind": kind, "signature": beside, "version": made.version, "key": key.fingerprint})
        return
    if isinstance(made, Policy):
        for weakening in made.weakenings:
            note(f"warning: signed with {weakening}")
    click.echo(f"signed version {made.version}: {escape(str(beside))}")


@policy_group.command("key")
@click.argument("path", type=click.Path(path_type=Path), metavar="NAME.pub")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def key_command(path: Path, as_json: bool) -> None:
    """Print a public key as [operators.ID] key = "..." wants it.

    \b
    Example:
      scanward policy key anna.pub
    """
    key = VerifyKey.load(path)
    if as_json:
        print_json({"key": key.raw.hex(), "fingerprint": key.fingerprint})
    else:
        click.echo(f'key = "{key.raw.hex()}"')


def _read(path: Path, profile_path: Path | None) -> tuple[str, Policy | DeviceProfile | CanProfile]:
    data = read_bytes(path, POLICY_BOUNDS.file_bytes)
    if KIND.encode() in data:
        return KIND, parsed_profile(data, path)
    if PROFILE.encode() in data and POLICY.encode() not in data:
        return PROFILE, parse_profile(data, str(path), _digest(data))
    beside = profile_path or path.with_name("device.toml")
    profile_data = read_bytes(beside, POLICY_BOUNDS.file_bytes)
    profile = parse_profile(profile_data, str(beside), _digest(profile_data))
    return POLICY, parse_policy(data, str(path), profile, _digest(data))


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _part(model: Path, trust: Sequence[Path]) -> Any:
    from scanward.cli.trust import open_bundle

    return open_bundle(model, trust, any_key=False, versions=None, any_version=True).part


def _beside_recordings(policy: Policy, model: Path, trust: Sequence[Path]) -> list[str]:
    """Caps that a command like those recorded would meet."""
    from scanward.guard.profile_make import largest_dose

    largest = largest_dose(_part(model, trust), policy.device)
    if largest is None:
        return ["the bundle recorded no CTDIvol of this device"]
    return [
        f"{row.phantom} cm, {row.age_low:g} to {row.age_high:g} years: {name} {cap:g} mGy is below {largest:.4g} mGy, "
        "the largest CTDIvol that was recorded"
        for row in policy.modes[Mode.CLINICAL].caps
        for name, cap in (("alert_CTDIvol", row.alert_ctdivol), ("absolute_CTDIvol", row.absolute_ctdivol))
        if cap < largest
    ]


def _says_can(made: CanProfile) -> Any:
    """What may cross a CANopen wire."""
    for (number, data), rule in sorted(made.exact.items()):
        yield f"{CanFrame(number, data)} passes at once: {rule.kind}{f' ({rule.stop})' if rule.stop else ''}"
    for number, rules in sorted(made.patterns.items()):
        yield f"process data {number:03X}h: {', '.join(rule.kind for rule in rules)}"
    kinds = {rule.kind for rule in made.objects.values()}
    for kind in sorted(kinds):
        held = [a for a, rule in made.objects.items() if rule.kind is kind]
        yield f"{len(held)} objects: {kind}, from {address_text(min(held))} to {address_text(max(held))}"


def _says_two(rules: TwoPersons | None) -> Any:
    """What one operator alone does not release."""
    if rules is None:
        yield "one operator alone may release whatever is held"
        return
    if rules.layers:
        yield f"two operators release an alert of {', '.join(sorted(rules.layers))}"
    if rules.disputes:
        yield f"two operators release where sources disagree on {', '.join(sorted(rules.disputes))}"
    if rules.p_value_below:
        yield f"two operators release what is stranger than {rules.p_value_below:g} (calibrated number)"
    if math.isfinite(rules.dose_factor):
        yield f"two operators release more than {rules.dose_factor:g} times an alert cap"
    yield f"what needs two operators is held for {rules.seconds:g} s"


def _says(made: Policy | DeviceProfile | CanProfile) -> Any:
    """What a file says, line by line."""
    device = made.device
    yield f"for {device.manufacturer} {device.model} {device.serial or '(every one)'}, version {made.version}"
    if isinstance(made, CanProfile):
        yield from _says_can(made)
        return
    if isinstance(made, DeviceProfile):
        for name, envelope in made.ranges.items():
            yield f"nothing passes with {name} outside {envelope.low:g} to {envelope.high:g}"
        for axis, motion in made.axes.items():
            yield f"{axis} moves within {motion.low:g} to {motion.high:g}, at most {motion.speed:g} per s"
        yield f"{len(made.dose)} dose rates" if made.dose else "no dose rates: doses are what the host states"
        return
    yield f"policy {made.name!r}"
    for weakening in made.weakenings:
        yield f"WEAKENED: {weakening}"
    for operator in made.operators.values():
        until = f", until {operator.last_day}" if operator.last_day else ""
        yield f"{operator.id} ({operator.name}) may {', '.join(sorted(operator.rights))}{until}"
    times = made.times
    yield (
        f"a verdict within {times.judge_seconds:g} s, or it is refused; an operator has {times.hold_seconds:g} s; "
        f"a released chain waits {times.arming_seconds:g} s for its trigger"
    )
    for mode, rules in made.modes.items():
        ends = "" if math.isinf(rules.minutes) else f" (ends after {rules.minutes:g} min)"
        yield f"{mode}{ends}:"
        for (layer, severity), verdict in rules.verdicts.items():
            if verdict.value != severity.name:
                yield f"  {layer} {severity.name} becomes {verdict}"
        for layer, verdict in rules.alone.items():
            if verdict.value != "RELEASE":
                yield f"  {layer} by itself: {verdict}"
        yield f"  beyond the budget: {rules.beyond_budget}; sources that disagree: {rules.dispute}"
        for row in rules.caps:
            yield (
                f"  {row.phantom} cm, {row.age_low:g} to {row.age_high:g} years: an operator decides from CTDIvol "
                f"{row.alert_ctdivol:g} mGy or DLP {row.alert_dlp:g} mGy.cm on, nobody passes "
                f"{row.absolute_ctdivol:g} mGy or {row.absolute_dlp:g} mGy.cm"
            )
    yield from _says_two(made.two_persons)
    for name, envelope in made.runtime.items():
        yield f"{name} may change by {envelope.low:g} to {envelope.high:g} at the trigger"
    access = made.emergency
    yield (
        f"emergency access: {access.minutes:g} min, at most {access.most_minutes:g} min and {access.loads} loads"
        + (", one examination" if access.one_examination else "")
        + (", WITHOUT A KEY at the guard's terminal" if access.unsafe_without_key else "")
    )

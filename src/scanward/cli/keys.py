"""``scanward keys``: make keys, show their fingerprints."""

from __future__ import annotations

from pathlib import Path

import click

from scanward import keys
from scanward.cli.output import escape, print_json
from scanward.errors import KeyFileError

_PASSPHRASE_HELP = f"""
A passphrase for the private key is taken from the environment variable {keys.PASSPHRASE_VARIABLE}, or asked
for with --passphrase. The key files are readable by you alone.
"""


@click.group("keys", short_help="Make signing keys and site keys, show their fingerprints.")
def keys_group() -> None:
    """Make keys and show their fingerprints.

    A signing pair (NAME.key, NAME.pub) signs bundles: the site keeps NAME.key, every guard gets NAME.pub. A
    site key (NAME.sitekey) turns identifiers into keyed hashes, so that no recording names a patient.

    \b
    Example:
      scanward keys new keys/ --name site
      scanward keys show keys/site.pub
    """


@keys_group.command("new", epilog=_PASSPHRASE_HELP)
@click.argument("path", type=click.Path(path_type=str), metavar="DIR|PATH")
@click.option("--name", default=None, help="Name of the key inside DIR.  [default: site]")
@click.option("--site-key", is_flag=True, help="Make a site key (for hashing identifiers) instead of a pair.")
@click.option(
    "--force", is_flag=True, help="Replace an existing key. What it signed stays signed by it alone."
)
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase to encrypt the private key with.")
@click.option("--json", "as_json", is_flag=True, help="Print paths and fingerprint as JSON.")
def new(path: str, name: str | None, site_key: bool, force: bool, passphrase: bool, as_json: bool) -> None:
    """Make a key in DIR, or at PATH.

    An existing directory, a path ending in '/', or --name makes it DIR/NAME; anything else is the name of the
    key file itself (its ending .key, .pub or .sitekey may be left out).

    \b
    Example:
      scanward keys new ~/keys/ --name ct1
      scanward keys new ct1.key
      scanward keys new --site-key ~/keys/
    """
    stem = _stem(path, name)
    _make_parent(stem)
    if site_key:
        if passphrase:
            raise KeyFileError("a site key has no passphrase", str(stem), "leave out --passphrase")
        secret = keys.new_site_key()
        file = keys.write_site_key(Path(f"{stem}.sitekey"), secret, force=force)
        facts: dict[str, str | bool] = {
            "kind": "site",
            "site_key": str(file),
            "fingerprint": keys.site_key_fingerprint(secret),
        }
        lines = [f"site key     {escape(str(file))}  (keep it secret, keep a backup)"]
    else:
        pair = keys.SigningKey.generate()
        words = _new_passphrase() if passphrase else keys.passphrase_from_environment()
        private, public = keys.write_pair(stem, pair, words, force=force)
        facts = {
            "kind": "signing",
            "private_key": str(private),
            "public_key": str(public),
            "encrypted": words is not None,
            "fingerprint": pair.fingerprint,
        }
        lines = [
            f"private key  {escape(str(private))}  (keep it secret)",
            f"public key   {escape(str(public))}  (give it to the guard)",
        ]
    if as_json:
        print_json(facts)
        return
    click.echo("\n".join([*lines, f"fingerprint  {facts['fingerprint']}"]))


@keys_group.command("show", epilog=_PASSPHRASE_HELP)
@click.argument("path", type=click.Path(path_type=Path), metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="Print kind and fingerprint as JSON.")
def show(path: Path, as_json: bool) -> None:
    """Print the fingerprint of a key: NAME.pub, NAME.key or NAME.sitekey.

    Compare it over another channel before trusting a public key that was sent to you. A private key that
    others can read is refused.

    \b
    Example:
      scanward keys show keys/site.pub
    """
    kind, fingerprint = _identify(path)
    if as_json:
        print_json({"kind": kind, "path": path, "fingerprint": fingerprint})
    else:
        click.echo(f"{fingerprint}  {kind}  {escape(str(path))}")


def ask_passphrase() -> bytes:
    """The passphrase of an encrypted key: from the environment, else asked at the terminal."""
    found = keys.passphrase_from_environment()
    if found is not None:
        return found
    return str(click.prompt("Passphrase of the private key", hide_input=True, err=True)).encode()


def _new_passphrase() -> bytes:
    words = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return str(words).encode()


def _identify(path: Path) -> tuple[str, str]:
    if path.suffix == ".sitekey":
        return "site", keys.site_key_fingerprint(keys.load_site_key(path))
    if path.suffix == ".key":
        return "private", keys.SigningKey.load(path, ask_passphrase).fingerprint
    return "public", keys.VerifyKey.load(path).fingerprint


def _stem(path: str, name: str | None) -> Path:
    place = Path(path).expanduser()
    if name is not None and (not name or "/" in name or "\0" in name or name in (".", "..")):
        raise KeyFileError(f"{name!r} cannot name a key", "--name", "use letters and digits")
    if name is not None or path.endswith("/") or place.is_dir():
        return place / (name or "site")
    return place.with_suffix("") if place.suffix in (".key", ".pub", ".sitekey") else place


def _make_parent(stem: Path) -> None:
    try:
        stem.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(
            f"cannot make the folder: {reason}", str(stem.parent), "choose a folder you can write to"
        ) from error

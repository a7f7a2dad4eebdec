"""``scanward node``: a DICOM node that signs what a modality sends, or verifies what an archive is about to take."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import escape, note
from scanward.config import NODE_BOUNDS
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.signatures.node_quarantine import Quarantine
    from scanward.signatures.node_settings import NodeSettings, NodeTls
    from scanward.signatures.node_work import Work

_SOON = 30  # days: time enough to have a certificate signed anew
_PATH = click.Path(path_type=Path)


@click.command("node", short_help="A DICOM node that signs or verifies what passes.")
@click.option("--sign", "mode", flag_value="sign", help="Sign every object (on the modality's side).")
@click.option("--verify", "mode", flag_value="verify", help="Verify every object (on the archive's side).")
@click.option("--next", "onward", required=True, metavar="AE@HOST:PORT", help="Where objects go on to.")
@click.option("--listen", default="127.0.0.1:11112", show_default=True, metavar="HOST:PORT", help="Address.")
@click.option("--title", default="SCANWARD", show_default=True, help="Our AE title.")
@click.option(
    "--caller", "callers", multiple=True, required=True, metavar="AE", help="AE title that may send."
)
@click.option("--host", "hosts", multiple=True, help="IP address that may connect.  [default: any]")
@click.option("--key", type=_PATH, help="Private key in PEM (--sign).")
@click.option("--cert", "certificate", type=_PATH, help="Its certificate, with its chain (--sign).")
@click.option("--profile", default="base", show_default=True, help="Signature profile (--sign).")
@click.option("--mac", default="SHA256", show_default=True, help="Hash of the signature (--sign).")
@click.option("--trust", multiple=True, type=_PATH, help="Certificates of authorities (--verify).")
@click.option(
    "--intermediate",
    "intermediates",
    multiple=True,
    type=_PATH,
    help="Certificates between signers and authorities (--verify).",
)
@click.option(
    "--crl", multiple=True, type=_PATH, help="Revocation lists (--verify). Changed files are read again."
)
@click.option(
    "--require",
    multiple=True,
    metavar="WHAT",
    help="What has to be signed (--verify): patient, uids, pixels, everything, or gggg,eeee; repeatable.  "
    "[default: patient, uids, pixels]",
)
@click.option(
    "--on-doubt",
    type=click.Choice(["refuse", "flag", "quarantine"]),
    default="refuse",
    show_default=True,
    help="What becomes of what is not genuine: refused; handed on and counted; refused and kept.",
)
@click.option("--quarantine", type=_PATH, help="Folder for --on-doubt quarantine.")
@click.option("--tls-cert", type=_PATH, help="Our certificate for TLS, both ways.")
@click.option("--tls-key", type=_PATH, help="Its key, without a passphrase.")
@click.option("--tls-authority", type=_PATH, help="Whose certificates peers must show.")
@click.option("--next-name", default="", help="Name in the next hop's certificate.  [default: its host]")
@click.option(
    "--associations",
    type=click.IntRange(1, NODE_BOUNDS.most_associations),
    default=NODE_BOUNDS.associations,
    show_default=True,
    help="At once.",
)
@click.option(
    "--max-mib",
    type=click.IntRange(1, NODE_BOUNDS.most_object_bytes >> 20),
    default=NODE_BOUNDS.object_bytes >> 20,
    show_default=True,
    help="Largest object, in MiB.",
)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line.")
def node_command(mode: str | None, as_json: bool, **options: Any) -> None:
    """Take objects over DICOM, sign or verify them, and hand them on byte for byte, until interrupted.

    The sender gets the next hop's own status, after it came; while the next hop is away it gets a failure, and keeps
    what it has. What could not be signed, or is not genuine, is not handed on (see --on-doubt). A passphrase of the
    key is read from SCANWARD_KEY_PASSPHRASE. Not a medical device.

    \b
    Example:
      scanward node --sign --key ct1.key --cert ct1.pem --caller CT1 --next CHECK@10.1.2.3:11112
      scanward node --verify --trust site-ca.pem --listen 0.0.0.0:11112 --title CHECK \\
        --caller SCANWARD --next PACS@10.1.2.4:104
    """
    from scanward.signatures.node import Node

    settings = _settings(options)
    if settings.plain:
        note(
            "warning: no TLS, and not this machine alone: anybody on the way can read and change what passes"
        )
    work, quarantine = _work(mode, options)
    ended = threading.Event()
    tell = _teller(as_json, ended)
    # Held from before the ready line: who starts us may end us as soon as it stands there.
    before = {
        number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with Node(settings, work, quarantine=quarantine, tell=tell) as node:
            onward = f"{settings.onward.title}@{settings.onward.host}:{settings.onward.port}"
            listens = f"{settings.listen[0]}:{node.port}"
            ready = {"title": settings.title, "listen": listens, "next": onward, "does": mode}
            tell("ready", {**ready, "tls": settings.tls is not None})
            while not ended.wait(3600.0):
                pass
        tell("stopped", {"counts": node.counts()})
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(options: Mapping[str, Any]) -> NodeSettings:
    from scanward.signatures.node_settings import NodeSettings, address_of, peer_of

    tls = _tls(options["tls_cert"], options["tls_key"], options["tls_authority"])
    return NodeSettings(
        title=options["title"],
        listen=address_of(options["listen"], "--listen"),
        callers=frozenset(options["callers"]),
        onward=peer_of(options["onward"], "--next", tls, options["next_name"]),
        hosts=frozenset(options["hosts"]),
        tls=tls,
        bounds=replace(
            NODE_BOUNDS, associations=options["associations"], object_bytes=options["max_mib"] << 20
        ),
    )


def _tls(certificate: Path | None, key: Path | None, authority: Path | None) -> NodeTls | None:
    from scanward.signatures.node_settings import tls_of

    if certificate is None and key is None and authority is None:
        return None
    if certificate is None or key is None or authority is None:
        raise SettingsError("TLS needs three files", "--tls-...", "give certificate, key and authority")
    return tls_of(certificate, key, authority)


def _work(mode: str | None, options: Mapping[str, Any]) -> tuple[Work, Quarantine | None]:
    """What is done with each object, from the options of one mode; those of the other are refused."""
    from scanward.signatures.node_quarantine import Quarantine
    from scanward.signatures.node_settings import OnDoubt
    from scanward.signatures.node_work import signing, verifying

    if mode is None:
        raise SettingsError("what is the node to do?", "--sign or --verify", "give one of them")
    of_verifying = ("trust", "intermediates", "crl", "require", "quarantine")
    for name in of_verifying if mode == "sign" else ("key", "certificate"):
        if options[name]:
            option = {"certificate": "--cert", "intermediates": "--intermediate"}.get(name, f"--{name}")
            raise SettingsError(f"{option} has no use with --{mode}", option, "leave it out")
    if mode == "sign":
        if options["on_doubt"] != "refuse":
            raise SettingsError("a signing node has no doubts", "--on-doubt", "leave it out")
        if options["key"] is None or options["certificate"] is None:
            raise SettingsError("signing needs a key and its certificate", "--key and --cert", "give both")
        return signing(_signer(options)), None
    if not options["trust"]:
        raise SettingsError("nobody is trusted", "--trust", "give the certificates of authorities")
    on_doubt = OnDoubt(options["on_doubt"])
    if (on_doubt is OnDoubt.QUARANTINE) != (options["quarantine"] is not None):
        todo = "give --on-doubt quarantine --quarantine FOLDER"
        raise SettingsError("a quarantine needs both", "--quarantine", todo)
    from scanward.cli.verify import trust_of
    from scanward.signatures import verify_bytes
    from scanward.signatures.node_fresh import Fresh

    authorities, lists, between = (tuple(options[name]) for name in ("trust", "crl", "intermediates"))
    trust = Fresh(
        (*authorities, *lists, *between),
        lambda: trust_of(authorities, lists, between, options["require"]),
    )
    quarantine = Quarantine(options["quarantine"]) if options["quarantine"] is not None else None
    return verifying(lambda file: verify_bytes(file, trust()), on_doubt), quarantine


def _signer(options: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    from scanward.keys import passphrase_from_environment
    from scanward.signatures import Signer, sign_bytes
    from scanward.transport.tls import certificate_facts

    left = (certificate_facts(options["certificate"]).not_after - datetime.now(UTC)).days
    if left < _SOON:
        note(f"warning: the certificate ends in {left} days; nothing is signed or handed on after that")
    signer = Signer.load(
        options["key"],
        options["certificate"],
        password=passphrase_from_environment(),
        profile=options["profile"],
        mac=options["mac"],
    )
    return lambda file: sign_bytes(file, signer)


def _teller(as_json: bool, ended: threading.Event) -> Callable[[str, Mapping[str, object]], None]:
    """Prints events, whole lines from any thread. When nobody reads them any more, the node ends."""
    lock = threading.Lock()
    main = threading.main_thread()

    def tell(kind: str, facts: Mapping[str, object]) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if as_json:
            line = json.dumps({"event": kind, "time": now, **facts}, default=str)
        else:
            line = f"{now} {kind}  {_words(facts)}"
        try:
            with lock:
                click.echo(line if as_json else escape(line))
        except OSError:
            ended.set()
            if threading.current_thread() is main:
                raise

    return tell


def _words(facts: Mapping[str, object]) -> str:
    flat: dict[str, object] = {}
    for key, value in facts.items():
        flat.update(value if isinstance(value, Mapping) else {key: value})
    return "  ".join(f"{key}={value}" for key, value in flat.items() if value not in (None, ""))

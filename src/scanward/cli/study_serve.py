"""``scanward study serve``: the pages that readers read on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from scanward.cli.output import escape, note


@click.command("serve", short_help="Serve a study's pages to its readers and its lead.")
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--certificate", type=click.Path(path_type=Path), help="PEM file of the server's certificate.")
@click.option("--key", type=click.Path(path_type=Path), help="PEM file of the certificate's private key.")
@click.option(
    "--behind-proxy", is_flag=True, help="A proxy on this machine speaks TLS; serve plain HTTP to it."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Name that browsers use for this server, beside those of the certificate; repeatable.",
)
@click.option(
    "--no-washout",
    is_flag=True,
    help="Open the next session at once. For rehearsals (simulated = true in the design) alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print address and accounts as one line of JSON.")
def serve_command(
    study: Path,
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    behind_proxy: bool,
    names: tuple[str, ...],
    no_washout: bool,
    as_json: bool,
) -> None:
    """Serve the pages of STUDY until interrupted. Research only: pictures of a study may have been modified.

    Readers sign in at the printed address with their name in the protocol (R01, ...) and the passphrase that
    `scanward study accounts` gave them. Other computers than this one are served over TLS alone: give a certificate,
    or put a proxy before it. The key of the study is never opened here; it may lie elsewhere.

    \b
    Example:
      scanward study accounts study/ add --all
      scanward study serve study/
      scanward study serve study/ --host 0.0.0.0 --port 8443 --certificate server.pem --key server.key
    """
    from scanward.reading.app import open_desk, study_site
    from scanward.web.accounts import Accounts
    from scanward.web.front import LOOPBACK
    from scanward.web.serving import certificate_hosts, is_loopback, serve
    from scanward.web.site import build

    hosts = list(dict.fromkeys([*LOOPBACK, *names, *(certificate_hosts(certificate) if certificate else ())]))
    desk = open_desk(study, no_washout=no_washout)
    try:
        accounts = Accounts(desk.study.accounts)
    except BaseException:
        desk.store.close()
        raise
    site = study_site(desk, accounts, hosts=hosts, tls=behind_proxy or certificate is not None)
    protocol = desk.study.protocol
    readers = [reader.name for reader in protocol.readers]
    known = {account.name for account in accounts.all() if "reader" in account.roles}
    without = [name for name in readers if name not in known]

    def ready(address: str) -> None:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "address": address,
                        "title": protocol.design.title,
                        "readers": readers,
                        "without_account": without,
                        "names": hosts,
                    }
                )
            )
            return
        click.echo(f"{escape(protocol.design.title)}: {_seen(address, hosts[len(LOOPBACK) :])}/study/")
        note("Readers sign in there with their name in the protocol and the passphrase of their account.")
        if without:
            note(
                f"without an account: {', '.join(without)}; make them with 'scanward study accounts STUDY add --all'"
            )
        if no_washout:
            note("no washout: a rehearsal, its results are SIMULATED")
        if not is_loopback(host) and not names and certificate is None:
            note("browsers are answered under localhost only: give --name with the name they use")

    try:
        serve(build(site), host, port, certificate, key, behind_proxy=behind_proxy, on_ready=ready)
    finally:  # also where serving never began
        desk.store.close()
        accounts.close()


def _seen(address: str, names: Sequence[str]) -> str:
    """The address with a name that browsers accept: one of the certificate, or given, where there is any."""
    scheme, _, place = address.partition("://")
    return f"{scheme}://{names[0]}:{place.rpartition(':')[2]}" if names and scheme == "https" else address

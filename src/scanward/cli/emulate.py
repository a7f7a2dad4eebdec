"""``scanward emulate``: an emulated scanner to try a guard on. Simulated throughout, on this machine alone."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.commands import Device
    from scanward.emulator.attack import Supply
    from scanward.emulator.wires import Tls
    from scanward.simulation import Model, Site

NOTICE = (
    "Emulated scanner: simulated, no real scanner, no real patient. Scanward is not a medical device and must not "
    "be connected to a clinical scanner outside an approved study."
)
KNOWN = 1200  # clean examinations that an attacker has seen
LATER = 1500  # later ones, victims among them

_model = click.option(
    "--model", "model_name", default="G-64", show_default=True, help="Simulated model: S-128, G-64 or T-80."
)
_seed = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The simulated site."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print what happened as JSON.")
_connect = click.option(
    "--connect", required=True, metavar="HOST:PORT", help="The gantry's link, or a guard's in front of it."
)
_room = click.option(
    "--room",
    required=True,
    metavar="HOST:PORT",
    help="The room of the emulated gantry, as it says at its start.",
)


def _tls(function: Callable[..., Any]) -> Callable[..., Any]:
    path = click.Path(path_type=Path, dir_okay=False, exists=True)
    for name, about in (
        ("--tls-authority", "Authority that signed the other end's certificate (PEM)."),
        ("--tls-key", "Our private key (PEM)."),
        ("--tls-certificate", "Our certificate (PEM); without it plain TCP, on this machine alone."),
    ):
        function = click.option(name, type=path, default=None, help=about)(function)
    return function


@click.group("emulate", short_help="Emulate a scanner: gantry, host, attacks.")
def emulate_group() -> None:
    """Emulate a scanner, to try a guard on it.

    The gantry obeys whatever it is told within its hardware limits; the host plays examinations of the simulated
    site; attacks are what an owned host could send. All of it is simulated and stays on this machine.

    \b
    Example:
      scanward emulate gantry --listen 127.0.0.1:4711 --room 127.0.0.1:4712
      scanward emulate host --connect 127.0.0.1:4711 --room 127.0.0.1:4712 --examinations 5
      scanward emulate attack --list
    """


@emulate_group.command("gantry")
@_model
@_seed
@click.option("--listen", default="127.0.0.1:4711", show_default=True, metavar="HOST:PORT", help="Its link.")
@click.option(
    "--room",
    default="127.0.0.1:4712",
    show_default=True,
    metavar="HOST:PORT",
    help="Its room: the test bench.",
)
@click.option(
    "--factor", type=click.FloatRange(0.1, 10_000), default=1.0, show_default=True,
    help="Gantry seconds per second.",
)  # fmt: skip
@click.option(
    "--silence", type=click.FloatRange(0.2, 60), default=3.0, show_default=True,
    help="Seconds without a word after which the link is lost.",
)  # fmt: skip
@_tls
@_json
def gantry_command(
    model_name: str, seed: int, listen: str, room: str, factor: float, silence: float,
    tls_certificate: Path | None, tls_key: Path | None, tls_authority: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run an emulated gantry until it is interrupted.

    It says in one line where it listens (port 0: one that is free), and at its end what it lost and how often.

    \b
    Example:
      scanward emulate gantry --model S-128 --factor 50
      scanward emulate gantry --listen 127.0.0.1:0 --room 127.0.0.1:0 --json
    """
    from scanward.emulator.gantry import Gantry
    from scanward.emulator.server import GantryServer
    from scanward.emulator.wires import address

    _, model, device = _site(seed, model_name)
    tls = _files(tls_certificate, tls_key, tls_authority)
    (host, port), (_, room_port) = address(listen), address(room)
    note(NOTICE)

    async def run() -> dict[str, Any]:
        server = GantryServer(
            Gantry(model, device), host, port, room_port, tls, factor=factor, lost_s=silence
        )
        await server.start()
        where = {
            "simulated": True,
            "device": f"{device.manufacturer} {device.model}",
            "link": f"{host}:{server.port}",
            "room": f"127.0.0.1:{server.room_port}",
            "tls": tls is not None,
            "factor": factor,
        }
        if as_json:
            click.echo(json.dumps(where))
        else:
            click.echo(f"{where['device']} (simulated): link {where['link']}, room {where['room']}")
        try:
            await _interrupted()
        finally:
            await server.close()
        return {"losses": [loss.why for loss in server.losses], "malformed": server.malformed}

    found = asyncio.run(run())
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"ended; links lost {len(found['losses'])}, malformed {found['malformed']}")


@emulate_group.command("host")
@_connect
@_room
@_model
@_seed
@click.option(
    "--examinations", type=click.IntRange(1, 100_000), default=3, show_default=True, help="How many to play."
)
@click.option(
    "--start", type=click.IntRange(0), default=0, show_default=True, help="Number of the first one."
)
@_tls
@_json
def host_command(
    connect: str, room: str, model_name: str, seed: int, examinations: int, start: int,
    tls_certificate: Path | None, tls_key: Path | None, tls_authority: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Play clean examinations over the link: load, trigger, bolus chain, and what comes back.

    \b
    Example:
      scanward emulate host --connect 127.0.0.1:4711 --room 127.0.0.1:4712
      scanward emulate host --connect 127.0.0.1:4800 --room 127.0.0.1:4712 --examinations 20 --json
    """
    from scanward.emulator.host import Host
    from scanward.emulator.play import RoomDoor, play
    from scanward.emulator.wires import address

    site, _, device = _site(seed, model_name)
    tls = _files(tls_certificate, tls_key, tls_authority)
    wire, door_at = address(connect), address(room)
    note(NOTICE)

    async def run() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        door = await RoomDoor.open(*door_at)
        try:
            host = await Host.open(*wire, device, tls)
            try:
                index = start
                with progress("playing examinations", examinations) as step:
                    while len(rows) < examinations:
                        examination = site.examination(index)
                        index += 1
                        if examination.commands[0].device != device:
                            continue
                        played = await play(host, door, examination)
                        rows.append(_row(examination.identifier, played))
                        step()
            finally:
                await host.close()
        finally:
            await door.close()
        return rows

    rows = asyncio.run(run())
    if as_json:
        print_json({"simulated": True, "notice": NOTICE, "examinations": rows})
        return
    names = ("examination", "commands", "carried_out", "held", "refused", "seconds_to_load", "dose", "reason")
    print_table(names, [[row[n] for n in names] for row in rows], title="Emulated host (simulated)")
    click.echo(NOTICE)


def _row(identifier: str, played: Any) -> dict[str, Any]:
    stopped = played.stopped
    doses = (f"{cm} cm: {told['peak_mGy']:g} mGy" for cm, told in played.report["dose"].items())
    return {
        "examination": identifier[:12],
        "commands": played.commands,
        "carried_out": len([a for a in played.report["acquired"] if not a["aborted"]]),
        "held": sum(bool(a.held) for a in played.answers),
        "refused": sum(not a.ok for a in played.answers),
        "seconds_to_load": round(sum(a.seconds for _, a in played.loads), 4),
        "dose": ", ".join(doses),
        "reason": stopped.reason if stopped else "",
    }


@emulate_group.command("attack")
@click.argument("names", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Show the attacks there are, and end.")
@click.option(
    "--connect", default=None, metavar="HOST:PORT", help="The gantry's link, or a guard's in front of it."
)
@click.option("--room", default=None, metavar="HOST:PORT", help="The room of the emulated gantry behind it.")
@_model
@_seed
@click.option("--times", type=click.IntRange(1, 1000), default=1, show_default=True, help="Victims of each.")
@_tls
@_json
def attack_command(
    names: tuple[str, ...], listed: bool, connect: str | None, room: str | None, model_name: str, seed: int,
    times: int, tls_certificate: Path | None, tls_key: Path | None, tls_authority: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Attack an emulated scanner, and nothing else.

    Without NAMES every attack is tried. What answers must be on this machine and say that it is simulated, and the
    room of an emulated gantry must be behind it.

    \b
    Example:
      scanward emulate attack --list
      scanward emulate attack perfusion_x8 --connect 127.0.0.1:4711 --room 127.0.0.1:4712
    """
    from scanward.emulator.attacks import ATTACKS
    from scanward.emulator.wires import address

    if listed:
        told = [(a.name, a.family, a.about, a.source) for a in ATTACKS.values()]
        if as_json:
            print_json([dict(zip(("name", "family", "about", "source"), row, strict=True)) for row in told])
        else:
            print_table(("attack", "family", "what it does", "published in"), told)
        return
    unknown = [name for name in names if name not in ATTACKS]
    if unknown:
        raise SettingsError(f"no attack '{unknown[0]}'", "NAMES", "see `scanward emulate attack --list`")
    if connect is None or room is None:
        raise SettingsError(
            "an attack needs a scanner", "--connect, --room", "start `scanward emulate gantry`"
        )
    tls = _files(tls_certificate, tls_key, tls_authority)
    wire, door_at = address(connect), address(room)
    site, _, device = _site(seed, model_name)
    note(NOTICE)
    supply = _supply(site, device)
    chosen = [ATTACKS[name] for name in names] or list(ATTACKS.values())

    async def run() -> list[dict[str, Any]]:
        from scanward.emulator.attack import Bench
        from scanward.emulator.campaign import strike
        from scanward.emulator.play import RoomDoor

        door = await RoomDoor.open(*door_at)
        rows = []
        try:
            bench = Bench(wire, door, device, tls)
            with progress("attacking", len(chosen) * times) as step:
                for attack in chosen:
                    for number in range(times):
                        outcome = await strike(attack, bench, supply, seed, number)
                        if outcome is not None:
                            rows.append(outcome.as_json())
                        step()
        finally:
            await door.close()
        return rows

    rows = asyncio.run(run())
    if as_json:
        print_json({"simulated": True, "notice": NOTICE, "attacks": rows})
        return
    columns = ("name", "effect", "dose_mGy", "ordered_mGy", "stopped_by", "reason")
    print_table(columns, [[row[n] for n in columns] for row in rows], title="Attacks on an emulated scanner")
    click.echo(NOTICE)


# --- shared -------------------------------------------------------------------------------------------------
def _site(seed: int, name: str) -> tuple[Site, Model, Device]:
    from scanward.simulation import MODELS, Site

    site = Site(seed)
    for model, device in zip(MODELS, site.devices, strict=True):
        if model.name == name:
            return site, model, device
    known = ", ".join(model.name for model in MODELS)
    raise SettingsError(f"no simulated model '{name}'", "--model", f"give one of {known}")


def _supply(site: Site, device: Device) -> Supply:
    from scanward.emulator.attack import Supply
    from scanward.simulation import Donors

    return Supply.of(device, site.examinations(LATER, KNOWN), Donors(site.examinations(KNOWN)))


def _files(certificate: Path | None, key: Path | None, authority: Path | None) -> Tls | None:
    given = [path for path in (certificate, key, authority) if path is not None]
    if not given:
        return None
    if certificate is None or key is None or authority is None:
        raise SettingsError("TLS needs three files", "--tls-...", "give certificate, key and authority")
    from scanward.emulator.wires import Tls

    return Tls(certificate, key, authority)


def _interrupted() -> Coroutine[Any, Any, None]:
    """Wait until somebody wants the process to end."""

    async def wait() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        await ended.wait()

    return wait()

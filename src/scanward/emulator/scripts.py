"""How an attacker's host goes about it: scripts over the wire, one for each manner of attack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scanward.codecs import stream
from scanward.commands import Value
from scanward.commands.wire import Axis, Element, GantryState, Load, Loaded, Status, Stopped, Trigger
from scanward.emulator.attack import Bench, Felt, Scene, Supply
from scanward.emulator.host import Answer, Host, What
from scanward.emulator.play import PAUSE_S, Played, RoomDoor, monitors, play, run_chain
from scanward.emulator.wires import Lines, connect
from scanward.simulation.constants import Model
from scanward.simulation.physics import max_ma
from scanward.simulation.scanner import CLEARANCE_MM

PROVOKED = 8  # loads that only look bad, before the one that is
SALAMI = 12  # times that the same chain is sent
FLOOD = 1500  # loads sent without waiting for an answer
HALF_OPEN = 40  # connections that never say a word
STORM_S = 0.02  # seconds between two stops of a storm
SOON_S = (
    10.0  # seconds after which an unanswered stop counts as lost: a busy machine is no effect of an attack
)


async def content(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The attacked examination is played like any other: the host itself is owned."""
    async with bench.host() as host:
        played = await play(host, bench.room, scene.attacked, who=scene.who)
        return Felt(played.report, played)


async def _begin(bench: Bench, scene: Scene, host: Host, played: Played) -> list[tuple[Element, ...]]:
    """Patient in, and the clean localizers done; the chains that are left."""
    host.said.clear()
    await bench.room.enter(scene.who, PAUSE_S)
    chains = scene.chains(scene.clean)
    if len(chains) > 1:
        await run_chain(host, bench.room, chains[0], scene.study, "", played)
        return chains[1:]
    return chains


async def _felt(bench: Bench, played: Played, **facts: Any) -> Felt:
    report = await bench.room.ask("report")
    return Felt(report, played, facts)


def _at(scene: Scene, chains: Sequence[tuple[Element, ...]]) -> tuple[int, int]:
    """Chain and element of the scene's command among the chains that are left after the localizers."""
    before = sum(len(c) for c in scene.chains(scene.clean)) - sum(len(c) for c in chains)
    place = scene.index - before
    for number, chain in enumerate(chains):
        if place < len(chain):
            return number, max(0, place)
        place -= len(chain)
    return 0, 0


def _attacked_chain(scene: Scene) -> tuple[Element, ...]:
    """The chain of the attacked examination that holds the attacked command."""
    place = scene.index
    for chain in scene.chains(scene.attacked):
        if place < len(chain):
            return chain
        place -= len(chain)
    return scene.chains(scene.attacked)[-1]


async def _trigger_all(
    host: Host, room: RoomDoor, load: str, chain: Sequence[Element], played: Played
) -> None:
    for index, element in enumerate(chain):
        if not element.auto:
            if monitors(chain, index):
                await room.ask("arm")
            answer = await host.trigger(load, index)
            played.answers.append(answer)
            if not answer.ok:
                return
        if await host.done(load, index) is None:
            return


# --- motion and denial --------------------------------------------------------------------------------------
async def raise_table(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Between two scans the table goes up until the patient meets the bore."""
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        up = min(395.0, scene.who.centre + CLEARANCE_MM + 60.0)
        played.answers.append(await host.motion(Axis.TABLE_HEIGHT, up, 40.0))
        return await _felt(bench, played)


_GARBAGE = b'{"type":"load","chain":[' * 40 + b"\n"


async def garbage(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Bytes that are no message, before a scan; then a host of good will tries to go on."""
    played = Played()
    async with bench.host() as host:
        chains = await _begin(bench, scene, host, played)
        host.raw(_GARBAGE)
        host.raw(bytes(rng.integers(0, 256, 4000, dtype=np.uint8)) + b"\n")
        await _until(lambda: host.lost, 5.0)
    async with bench.host() as host:
        for chain in chains:
            if not await run_chain(host, bench.room, chain, scene.study, "", played):
                break
        return Felt(await _settled(bench), played)


async def host_gone(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The host breaks off in the middle of a scan: the gantry cannot go on without it, guard or not."""
    played = Played()
    async with bench.host() as host:
        chains = await _begin(bench, scene, host, played)
        load, answer = await host.load(chains[0], scene.study)
        played.answers.append(answer)
        if answer.ok:
            host.say(Trigger(host.name("T"), load, 0))
            await host.wait(lambda m: isinstance(m, Status) and m.state is GantryState.BEAM, 3.0)
        host.raw(_GARBAGE)
        await _until(lambda: host.lost, 5.0)
        return Felt(await _settled(bench), played)


async def _until(true: Any, seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not true() and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.02)


async def _settled(bench: Bench, seconds: float = 6.0) -> dict[str, Any]:
    """The room's report once nothing is going on any more."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        report = await bench.room.ask("report")
        if report["state"] in ("ready", "safe") or asyncio.get_running_loop().time() > end:
            return report
        await asyncio.sleep(0.02)


async def stop_storm(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Stops, one after another, while somebody tries to scan."""

    async def storm(host: Host) -> None:
        while not host.lost:
            host.stop()
            await asyncio.sleep(STORM_S)

    played = Played()
    async with bench.host() as host:
        host.said.clear()
        await bench.room.enter(scene.who)
        raging = asyncio.ensure_future(storm(host))
        try:
            for chain in scene.chains(scene.clean):
                if not await run_chain(host, bench.room, chain, scene.study, "", played):
                    break
        finally:
            raging.cancel()
            await asyncio.gather(raging, return_exceptions=True)
        return Felt(await _settled(bench), played)


async def flood(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Loads as fast as the wire takes them, and then somebody needs a stop."""
    played = Played()
    async with bench.host() as host:
        chains = await _begin(bench, scene, host, played)
        for number in range(FLOOD):
            host.say(Load(host.name("L"), scene.study, "", chains[0]))
            if number % 50 == 0:
                await asyncio.sleep(
                    0
                )  # whatever came back meanwhile, the end of the connection too, is heard
        begun = asyncio.get_running_loop().time()
        host.stop()
        answer = await host.wait(lambda m: isinstance(m, Stopped), 2 * SOON_S)
        waited = asyncio.get_running_loop().time() - begun
        played.answers.append(Answer(What.DONE if answer else What.SILENCE, answer, seconds=waited))
        return await _felt(bench, played, stop_s=waited, sent=FLOOD, lost=host.lost)


async def half_open(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Connections that say nothing, while a host of good will wants to scan."""
    silent: list[Lines] = []
    try:
        while len(silent) < HALF_OPEN:
            silent.append(await connect(*bench.address, bench.tls))
        async with bench.host() as host:
            played = await play(host, bench.room, scene.clean, who=scene.who)
        return Felt(played.report, played)
    finally:
        for lines in silent:
            lines.abort()
        await asyncio.sleep(0)


# --- order, time, repetition --------------------------------------------------------------------------------
async def change_at_trigger(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """What was loaded is clean; the trigger carries another current, as much as the tube gives."""
    played = Played()
    async with bench.host() as host:
        chains = await _begin(bench, scene, host, played)
        number, place = _at(scene, chains)
        for chain in chains[:number]:
            await run_chain(host, bench.room, chain, scene.study, "", played)
        load, answer = await host.load(chains[number], scene.study)
        played.answers.append(answer)
        told = chains[number][place].command.parameters
        most = max_ma(scene.model, float(told["KVP"]))
        runtime: dict[str, Value] = {"XRayTubeCurrentInmA": most, "ExposureModulationType": "NONE"}
        if answer.ok:
            for index in range(place):
                if not chains[number][index].auto:
                    await host.trigger(load, index)
                await host.done(load, index)
            answer = await host.trigger(load, place, runtime)
            played.answers.append(answer)
            if answer.ok:
                await host.done(load, place)
        return await _felt(bench, played)


async def change_after_load(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The clean chain is loaded; the attacked one follows under the same name, and the trigger right behind it."""
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        chain = _attacked_chain(scene)
        clean = scene.chains(scene.clean)[scene.chains(scene.attacked).index(chain)]
        load, answer = await host.load(clean, scene.study)
        played.answers.append(answer)
        host.say(Load(load, scene.study, "", chain))
        await _trigger_all(host, bench.room, load, chain, played)
        return Felt(await _settled(bench), played)


async def early_trigger(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The attacked chain, and its triggers in the same breath: nobody waits for a verdict."""
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        chain = _attacked_chain(scene)
        load = host.name("L")
        data = stream.encode(Load(load, scene.study, "", chain))
        trigger = Trigger(host.name("T"), load, 0)
        host.raw(data + stream.encode(trigger))
        at_once = await host.answered(trigger.id, begun=(load, 0))
        played.answers.append(at_once)
        if at_once.ok:
            await host.done(load, 0)
        return Felt(await _settled(bench), played)


async def replay_triggers(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """A clean examination; then its recorded triggers are sent again, byte by byte the same, four times."""
    async with bench.host() as host:
        played = await play(host, bench.room, scene.clean, who=scene.who)
        loads = [a.message.load for _, a in played.loads if isinstance(a.message, Loaded)]
        if loads:
            last, place = loads[-1], len(scene.chains(scene.clean)[len(loads) - 1]) - 1
            for _ in range(4):
                answer = await host.trigger(last, place, timeout=5.0)
                played.answers.append(answer)
                if answer.ok:
                    await _settled(bench)
        return Felt(await _settled(bench), played)


async def replay_examination(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Another patient's whole recorded examination, sent once more while this patient lies there."""
    async with bench.host() as host:
        await play(host, bench.room, scene.attacked)
        played = await play(host, bench.room, scene.attacked, who=scene.who)
        return Felt(played.report, played)


async def split(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The attacked load in pieces of a few bytes, with a pause between two of them."""
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        chain = _attacked_chain(scene)
        load = host.name("L")
        data = stream.encode(Load(load, scene.study, "", chain))
        step = max(1, len(data) // 60)
        for at in range(0, len(data), step):
            host.raw(data[at : at + step])
            await asyncio.sleep(0.003)
        answer = await host.answered(load)
        played.answers.append(answer)
        if answer.ok:
            await _trigger_all(host, bench.room, load, chain, played)
        return Felt(await _settled(bench), played)


async def duplicate_keys(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """One line, two readers: every changed figure is there twice, clean first and attacked last."""
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        chain = _attacked_chain(scene)
        clean = scene.chains(scene.clean)[scene.chains(scene.attacked).index(chain)]
        load = host.name("L")
        parts = []
        for mine, theirs in zip(chain, clean, strict=True):
            pairs = [f"{json.dumps(k)}:{json.dumps(v)}" for k, v in theirs.command.parameters.items()]
            pairs += [
                f"{json.dumps(k)}:{json.dumps(v)}"
                for k, v in mine.command.parameters.items()
                if theirs.command.parameters.get(k) != v
            ]
            auto = ',"auto":true' if mine.auto else ""
            parts.append('{"parameters":{' + ",".join(pairs) + "}" + auto + "}")
        line = (
            f'{{"type":"load","id":"{load}","StudyInstanceUID":"{scene.study}","chain":[{",".join(parts)}]}}'
        )
        host.raw(line.encode() + b"\n")
        answer = await host.answered(load)
        played.answers.append(answer)
        if answer.ok:
            await _trigger_all(host, bench.room, load, chain, played)
        return Felt(await _settled(bench), played)


async def salami(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The same clean chain again and again, each time as if the last one had failed."""
    async with bench.host() as host:
        played = await play(host, bench.room, scene.clean, who=scene.who)
        chain = scene.chains(scene.clean)[-1]
        for _ in range(SALAMI):
            if played.stopped is not None:
                break
            await run_chain(host, bench.room, chain, scene.study, "", played)
        return Felt(await _settled(bench), played)


async def fatigue(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Loads that are odd and harmless, never begun, until nobody reads any more; then the one that is meant."""
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        chain = _attacked_chain(scene)
        clean = scene.chains(scene.clean)[scene.chains(scene.attacked).index(chain)]
        for number in range(PROVOKED):
            odd = tuple(_odd(element, scene.model, number) for element in clean)
            load, answer = await host.load(odd, scene.study)
            if answer.ok:
                host.cancel(load)
        load, answer = await host.load(chain, scene.study)
        played.answers.append(answer)
        if answer.ok:
            await _trigger_all(host, bench.room, load, chain, played)
        return Felt(await _settled(bench), played)


def _odd(element: Element, model: Model, number: int) -> Element:
    """What steers the AEC a third off the protocol's, towards less dose: worth a question, and nothing that hurts."""
    told = dict(element.command.parameters)
    wanted = told.get(model.aec_reference)
    if not isinstance(wanted, float):
        return element
    if model.aec_reference == "NoiseIndex":
        told["NoiseIndex"] = round(wanted * 2 * (1.3 + 0.05 * number)) / 2
    else:
        told[model.aec_reference] = float(round(wanted / (1.3 + 0.05 * number)))
    return replace(element, command=replace(element.command, parameters=told))


async def contrast_early(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Contrast is injected, and the scan begun at once instead of when it arrives."""
    played = Played()
    async with bench.host() as host:
        chains = await _begin(bench, scene, host, played)
        number = next(i for i, c in enumerate(chains) if any(e.auto for e in c))
        for chain in chains[:number]:
            await run_chain(host, bench.room, chain, scene.study, "", played)
        chain = chains[number]
        load, answer = await host.load(chain, scene.study)
        played.answers.append(answer)
        wanted = next(i for i, e in enumerate(chain) if e.auto)
        if answer.ok:
            await bench.room.ask("arm")
            early = await host.trigger(load, wanted)
            played.answers.append(early)
            if early.ok:
                await host.done(load, wanted)
            else:  # somebody sees it and goes on as ordered
                await _trigger_all(host, bench.room, load, chain, played)
        return Felt(await _settled(bench), played)


async def contrast_late(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """Contrast is injected, and the host lets it run through before it begins to monitor."""
    played = Played()
    async with bench.host() as host:
        chains = await _begin(bench, scene, host, played)
        number = next(i for i, c in enumerate(chains) if any(e.auto for e in c))
        chain = chains[number]
        load, answer = await host.load(chain, scene.study)
        played.answers.append(answer)
        if answer.ok:
            first = next(i for i, e in enumerate(chain) if e.auto) - 1
            for index in range(first):
                await host.trigger(load, index)
                await host.done(load, index)
            await bench.room.ask("inject")
            await bench.room.ask("pass", seconds=120.0)
            late = await host.trigger(load, first)
            played.answers.append(late)
            if late.ok:
                await host.done(load, first)
        return Felt(await _settled(bench), played)


async def contrast_without(bench: Bench, scene: Scene, rng: np.random.Generator, supply: Supply) -> Felt:
    """The chain without its monitoring: the helical scan alone, begun with the injection."""
    chain_of = scene.chains(scene.clean)
    played = Played()
    async with bench.host() as host:
        await _begin(bench, scene, host, played)
        chain = next(c for c in chain_of if any(e.auto for e in c))
        alone = tuple(replace(e, auto=False) for e in chain if e.auto)[:1]
        load, answer = await host.load(alone, scene.study)
        played.answers.append(answer)
        if answer.ok:
            await bench.room.ask("arm")
            begun = await host.trigger(load, 0)
            played.answers.append(begun)
            if begun.ok:
                await host.done(load, 0)
        return Felt(await _settled(bench), played)

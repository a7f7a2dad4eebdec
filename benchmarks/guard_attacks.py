"""Attacks on an emulated scanner, with and without a guard in front; and how much dose a knowing attacker can hide.

For each site a judge is learned, given the site's approved protocols, signed and read by a real ``scanward guard``
(relay, judge, audit writer; TLS on loopback) before one of two emulated gantries alike. Every attack is made on both,
with the same victims. *Stopped*: its effect happened without the guard and not with it; the operator refuses what is
held. Then clean examinations, of which the operator releases what is held. Last, without the wire: the largest true
dose that an attacker finds who asks a copy of the bundle first (`emulator.stealth`), for each of many victims.

  python -m benchmarks.guard_attacks --seeds 101 102 --examinations 1200 --times 5 --victims 40
  python -m benchmarks.guard_attacks --quick
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import FINAL_SEEDS, parser, plain, quickly, save, sayer, table
from scanward.bundle import read, write
from scanward.emulator.attack import Supply
from scanward.emulator.attacks import ATTACKS
from scanward.emulator.book import approved, bundle_with_book
from scanward.emulator.campaign import clean_examinations, fight
from scanward.emulator.rig import rig
from scanward.emulator.stealth import Searcher, random_scene, stealth_attack
from scanward.keys import SigningKey, write_pair
from scanward.layers.onion import Onion
from scanward.learning.bundling import facts_of
from scanward.learning.demo_trials import interval
from scanward.learning.fit import Settings, fit
from scanward.links.identifiers import Identifiers
from scanward.simulation import Donors, Site

LATER = 1500  # examinations after those learned from, of all devices: victims and clean ones
DEVICE = 1  # of the site: its AEC is steered by a noise index, as in the published accident
EFFECTS = (1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)  # dose factors of the stealth curve


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("guard_attacks", __doc__)
    made.add_argument("--seeds", type=int, nargs="+", default=list(FINAL_SEEDS[:2]), help="the sites")
    made.add_argument("--examinations", type=int, default=1200, help="to learn from")
    made.add_argument("--times", type=int, default=5, help="victims of each attack and site")
    made.add_argument("--clean", type=int, default=100, help="clean examinations played through the guard")
    made.add_argument("--victims", type=int, default=40, help="victims of the knowing attacker, each site")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--rounds", type=int, default=Settings().rounds, help="trees of the combiner")
    made.add_argument("--steps", type=int, default=Settings().steps, help="steps of the deep layers")
    made.add_argument("--workers", type=int, default=0, help="processes that learn (0: one for each core)")
    arguments = made.parse_args(argv)
    quickly(
        arguments,
        seeds=[101],
        examinations=300,
        times=1,
        clean=6,
        victims=4,
        budget=0.02,
        rounds=60,
        steps=40,
    )
    return arguments


def learned(arguments: argparse.Namespace, site: Site, folder: Path) -> tuple[Path, Path, Onion, Onion]:
    """A signed bundle with the site's protocol book, its public key, its judge, and the judge without the book."""
    train = site.examinations(arguments.examinations)
    settings = Settings(
        arguments.budget, 0, rounds=arguments.rounds, steps=arguments.steps, workers=arguments.workers
    )
    fitted = fit(train, settings)
    hidden = Identifiers().hash  # as the guard hashes what a scanner tells
    facts = facts_of(fitted, train)
    facts = replace(facts, devices=tuple(replace(d, serial=hidden(d.serial)) for d in site.devices))
    key = SigningKey.from_seed(hashlib.sha256(b"benchmark").digest())
    write_pair(folder / "site", key)
    write(folder / "model", fitted.onion.part(), facts, key)
    bare = Onion.from_part(read(folder / "model", trusted=[key.verify_key]).part)
    whole = bundle_with_book(folder / "model", folder / "site.pub", approved(site, DEVICE), folder / "judge")
    return (*whole, bare)


def cell(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One site: attacks, clean examinations, hidden doses; nothing summarised yet."""
    say = sayer()
    site = Site(seed)
    with tempfile.TemporaryDirectory(prefix="scanward-") as name:
        folder = Path(name)
        say(f"site {seed}: learning")
        model, public, onion, bare = learned(arguments, site, folder)
        later = site.examinations(LATER, arguments.examinations)
        donors = Donors(site.examinations(arguments.examinations))
        supply = Supply.of(site.devices[DEVICE], later, donors)
        found = asyncio.run(_on_the_wire(arguments, seed, (model, public), supply, onion, say))
        say(f"site {seed}: {arguments.victims} victims of who knows the judge, with and without the book")
        found["hidden"] = {
            "with": hidden_doses(onion, supply, arguments.victims, seed),
            "without": hidden_doses(bare, supply, arguments.victims, seed),
        }
    return found


async def _on_the_wire(
    arguments: argparse.Namespace, seed: int, judge: tuple[Path, Path], supply: Supply, onion: Onion, say: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"seed": seed, "attacks": {}}
    async with rig(judge[0].parent / "rig", supply.device, *judge, seed=seed) as made:
        say(f"site {seed}: clean examinations")
        clean = await clean_examinations(
            made.plain, made.guarded, supply.examinations[: arguments.clean], operator=made.operator
        )
        found["clean"], found["first_verdict_s"] = clean.as_json(), made.started_s
        for attack in (*ATTACKS.values(), stealth_attack(onion)):
            fought = await fight(
                attack, made.plain, made.guarded, supply, seed=seed, times=arguments.times,
                operator=made.operator,
            )  # fmt: skip
            told = fought.as_json()
            told["layers"] = dict(Counter(p.layer for p in fought.effective if p.stopped))
            found["attacks"][attack.name] = told
            say(f"site {seed}: {attack.name}: {told['stopped']} of {told['effective']} stopped")
        found["guard_alive"] = made.guard.alive
    return found


def hidden_doses(onion: Onion, supply: Supply, victims: int, seed: int) -> list[dict[str, Any]]:
    """For each victim the factor by which dose could be raised with every command released."""
    rng = np.random.default_rng((seed, 7))
    searcher = Searcher(onion, supply.model, supply.donors, rng)
    out = []
    while len(out) < victims:
        scene = random_scene(supply, rng)
        if scene is None:
            break
        hidden = searcher.search(scene)
        out.append({"factor": hidden.factor, "way": hidden.way, "asked": hidden.asked})
    return out


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all sites: shares with their 95 % intervals (Wilson), doses as means over victims."""
    attacks: dict[str, Any] = {}
    for name in cells[0]["attacks"]:
        rows = [c["attacks"][name] for c in cells]
        effective, stopped = (sum(r[k] for r in rows) for k in ("effective", "stopped"))
        low, high = interval(stopped, effective)
        tried = sum(r["tried"] for r in rows)
        layers = sum((Counter(r["layers"]) for r in rows), Counter())
        doses = {
            key: sum(r[key] * r["tried"] for r in rows if r[key] is not None) / tried if tried else None
            for key in ("dose_ordered_mGy", "dose_without_mGy", "dose_with_mGy")
        }
        attacks[name] = {
            **{k: rows[0][k] for k in ("family", "about", "source", "by_design")},
            "tried": tried, "effective": effective, "stopped": stopped,
            "share": {"value": stopped / effective if effective else None, "low": low, "high": high},
            "layers": dict(layers.most_common()), **doses,
        }  # fmt: skip
    return {
        "attacks": attacks,
        "clean": [c["clean"] for c in cells],
        "first_verdict_s": [c["first_verdict_s"] for c in cells],
        "guard_alive": all(c["guard_alive"] for c in cells),
        "stealth": {
            book: _hidden([h for c in cells for h in c["hidden"][book]]) for book in ("with", "without")
        },
    }


def _hidden(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The effect-size curve of a knowing attacker: in what share of victims so much more stays unseen."""
    factors = [h["factor"] for h in found]
    curve = []
    for effect in EFFECTS:
        hits = sum(f >= effect for f in factors)
        low, high = interval(hits, len(factors))
        share = hits / len(factors) if factors else None
        curve.append({"factor": effect, "share": {"value": share, "low": low, "high": high}})
    return {
        "victims": len(factors),
        "median": float(np.median(factors)) if factors else None,
        "ninth_decile": float(np.percentile(factors, 90)) if factors else None,
        "most": max(factors, default=None),
        "ways": dict(Counter(h["way"] or "nothing found" for h in found).most_common()),
        "asked": float(np.mean([h["asked"] for h in found])) if factors else None,
        "curve": curve,
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    cells: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        cells.append(cell(arguments, seed))
        result = {"sites": [c["seed"] for c in cells], **summary(cells)}
        save(
            arguments, "guard_attacks", argv, result
        )  # after each site: a run that is cut short was not for nothing
    told: dict[str, Any] = plain(result) | {"options": vars(arguments)}
    if not arguments.json:
        print(report(told))
    return told


def report(told: dict[str, Any]) -> str:
    """For people, and for docs/results.md."""
    asked = told["options"]
    head = [
        "attack",
        "what it does",
        "stopped",
        "95 % interval",
        "mostly by",
        "ordered",
        "without",
        "with guard",
    ]
    rows = [_row(name, a) for name, a in told["attacks"].items()]
    clean = told["clean"]
    commands, released, alerted, lost = (
        sum(c[k] for c in clean) for k in ("commands", "released", "alerted", "lost")
    )
    added = ", ".join(
        f"{c['added_latency_ms']['p50']:.1f} / {c['added_latency_ms']['p99']:.1f} ms" for c in clean
        if c["added_latency_ms"]["p50"] is not None
    )  # fmt: skip
    lines = [
        f"Sites {', '.join(map(str, told['sites']))}; learned from {asked['examinations']} examinations each, "
        f"budget {100 * asked['budget']:g} %. Doses: mean of the largest at one place in mGy, on the attacked "
        "command's phantom. *By design*: a guard must let it pass.",
        table(head, rows),
        f"Clean examinations through the guard: {commands} commands ordered, {released} released, {alerted} looked at "
        f"by an operator, {lost} lost. Added to a load, p50 / p99 by site: {added or '-'}. First verdict after "
        f"{', '.join(f'{s:.1f}' for s in told['first_verdict_s'])} s.",
    ]
    stealth = told["stealth"]
    if stealth["with"]["victims"]:
        lines += [_knowing(stealth[book], book) for book in ("with", "without")]
        pairs = zip(stealth["with"]["curve"], stealth["without"]["curve"], strict=True)
        rows = [[f"x{w['factor']:g} and more", _share(w["share"]), _share(o["share"])] for w, o in pairs]
        head = ["dose added unseen", "share of victims, with the protocol book", "without it"]
        lines.append(table(head, rows))
    return "\n\n".join(lines)


def _knowing(told: dict[str, Any], book: str) -> str:
    ways = ", ".join(f"{w} {n}" for w, n in told["ways"].items())
    return (
        f"An attacker who asks a copy of the judge first, {book} the protocol book ({told['victims']} victims, "
        f"{told['asked']:.0f} questions each): the largest dose that stays released is x{told['median']:.2f} of the "
        f"ordered one for the median victim, x{told['ninth_decile']:.2f} for one in ten, x{told['most']:.2f} at most. "
        f"Found by: {ways}."
    )


def _row(name: str, a: dict[str, Any]) -> list[str]:
    layers = ", ".join(f"{layer or 'gate'} {n}" for layer, n in a["layers"].items())
    doses = [
        "-" if a[k] is None else f"{a[k]:.3g}"
        for k in ("dose_ordered_mGy", "dose_without_mGy", "dose_with_mGy")
    ]
    if not a["effective"]:
        return [f"`{name}`", a["about"], "no effect either way", "-", "", *doses]
    stopped = f"{a['stopped']} of {a['effective']}" + (" (by design)" if a["by_design"] else "")
    low, high = a["share"]["low"], a["share"]["high"]
    return [f"`{name}`", a["about"], stopped, f"{100 * low:.0f} to {100 * high:.0f} %", layers, *doses]


def _share(told: dict[str, float | None]) -> str:
    value, low, high = (told[k] for k in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


if __name__ == "__main__":
    main()

"""Detection on real recordings: ours and every baseline, with and without context columns.

There are no recorded attacks: clean commands are real, attacked ones are made of them (the catalogue of
``scanward.simulation``, where it applies, and dose figures scaled together whatever the tube can give).

* covid_ctset: one scanner, as performed. Learned from the first 70 % of examinations by ExamOrder, tested on
  the rest.
* ge_revolution_protocols: what a scanner is told to do. Whole protocols are held out; repeated over splits.

Each attacked command is compared with the clean test commands it could have been made of. AUROC and detection
at 5 % false alerts use one order of strangeness for the whole judge (a rule's objection stands above every
learned score); detection at the calibrated threshold is given beside it. Intervals: 95 %, bootstrap over
examinations.

  python -m benchmarks.real_recordings --data ../shared/data
  python -m benchmarks.real_recordings --quick
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, figure, parser, percent, plain, quickly, save, sayer, table, ticker
from scanward.commands import Command, Examination, Value
from scanward.learning.baselines import tune
from scanward.learning.corruptions import DOSE
from scanward.learning.evaluate import Threshold, alerts, parts, strangeness
from scanward.learning.fit import Settings, fit
from scanward.learning.resampling import (
    Floats,
    Scored,
    auroc,
    detection_at,
    interval,
    mean_known,
    per_unit,
    shares,
    weights,
)
from scanward.recordings import examinations, load_dialect, read
from scanward.simulation import ATTACKS, Donors

SETS = {
    "covid_ctset": "covid_ctset_acquisitions.csv",
    "ge_revolution_protocols": "protocol_scan_groups.csv",
}
RATE = 0.05
INJECTED = (0.3, 1.5, 3.0, 8.0)
LEAST = 20  # attacked commands below which an attack is left out of the table
OURS = "ours"


@dataclass(frozen=True)
class Case:
    """One command, ``commands[at]``, made of the clean command ``index`` of test examination ``unit``."""

    unit: int
    index: int
    commands: tuple[Command, ...]
    at: int


def injected_dose(factor: float) -> Callable[[Examination, int, Donors], Command | None]:
    """All dose figures and the current times a factor, rounded as the device rounds, tube limits ignored."""

    def change(examination: Examination, index: int, donors: Donors) -> Command | None:
        command = examination.commands[index]
        told: dict[str, Value] = dict(command.parameters)
        for name in DOSE:
            value = told.get(name)
            if isinstance(value, float) and value > 0:
                told[name] = donors.rounded(command, name, value * factor)
        return replace(command, parameters=told) if told != dict(command.parameters) else None

    return change


def cases_of(
    test: Sequence[Examination], donors: Donors, seed: int
) -> tuple[dict[str, list[Case]], dict[str, int]]:
    """Every attack on every test command that allows it, and how many allowed it without being possible."""
    out: dict[str, list[Case]] = {}
    refused: dict[str, int] = {}
    for name, attack in ATTACKS.items():
        rng = np.random.default_rng((seed, *name.encode()))
        for unit, examination in enumerate(test):
            for index in attack.eligible(examination):
                after = attack.apply(examination, index, rng, donors)
                found = attack.attacked_indices(examination, after, index) if after is not None else ()
                if after is None or not found:
                    refused[name] = refused.get(name, 0) + 1
                    continue
                # A forged patient changes all commands: the chosen one counts, so that each is one command.
                at = index if index in found else max(found)
                out.setdefault(name, []).append(Case(unit, index, after.commands[: at + 1], at))
    for factor in INJECTED:
        change = injected_dose(factor)
        for unit, examination in enumerate(test):
            for index in ATTACKS["dose_x3"].eligible(examination):
                command = change(examination, index, donors)
                if command is not None:
                    told = (*examination.commands[:index], command)
                    out.setdefault(f"injected_dose_x{factor:g}", []).append(Case(unit, index, told, index))
    return {n: c for n, c in out.items() if len(c) >= LEAST}, refused


Scores = dict[str, Any]  # detector -> {"clean": {(unit, index): (score, alerted)}, "attacks": {name: [...]}}


def one_split(
    train: Sequence[Examination], test: Sequence[Examination], settings: Settings, seed: int, tick: Any
) -> tuple[dict[str, list[Case]], dict[str, int], Scores]:
    """Learn on ``train``; score and alert of every clean and every attacked command of ``test``."""
    onion = fit(train, settings, tick).onion
    divided = parts(train)
    cases, refused = cases_of(test, Donors(train), seed)
    scores: Scores = {}

    def ours(commands: Sequence[Command]) -> list[tuple[float, bool]]:
        return [(strangeness(j), alerts(j)) for j in onion.judge_all(commands)]

    def every(told: Callable[[Sequence[Command]], list[tuple[float, bool]]]) -> dict[str, Any]:
        clean = {}
        for unit, examination in enumerate(test):
            for index, answer in enumerate(told(examination.commands)):
                clean[unit, index] = answer
        return {"clean": clean, "attacks": {n: [told(c.commands)[c.at] for c in m] for n, m in cases.items()}}

    scores[OURS] = every(ours)
    for baseline in tune(divided.learn, seed=settings.seed, tick=tick):
        threshold = Threshold.of((baseline.score(e.commands) for e in divided.calibrate), settings.budget)

        def alone(
            commands: Sequence[Command], score: Any = baseline.score, limit: Threshold = threshold
        ) -> Any:
            return [(s, limit.alerts(s)) for s in score(commands)]

        # A baseline knows no examination: all commands in one call, which is much faster.
        clean = [(u, i) for u, e in enumerate(test) for i in range(len(e.commands))]
        told = dict(zip(clean, alone([c for e in test for c in e.commands]), strict=True))
        attacks = {n: alone([c.commands[c.at] for c in made]) for n, made in cases.items()}
        name = f"{baseline.name}, {'with' if baseline.context else 'without'} context"
        scores[name] = {"clean": told, "attacks": attacks}
    return cases, refused, scores


def summary(
    splits: Sequence[tuple[dict[str, list[Case]], dict[str, int], Scores]],
    tested: Sequence[Sequence[Examination]],
    seed: int,
) -> dict[str, Any]:
    """AUROC and detection per attack and detector: the mean over splits, examinations drawn anew within each.

    An examination tested in several splits is drawn in all of them together.
    """
    names = sorted({e.identifier for test in tested for e in test})
    place = {name: i for i, name in enumerate(names)}
    drawn = weights(len(names), seed=seed)
    attacks = [a for a in splits[0][0] if all(a in s[0] for s in splits) and a != "null"]
    out: dict[str, Any] = {"attacks": {}, "detectors": {}}
    for attack in attacks:
        out["attacks"][attack] = {
            "attacked": sum(len(s[0][attack]) for s in splits),
            "not_possible": sum(s[1].get(attack, 0) for s in splits),
        }
    for who in splits[0][2]:
        collected: dict[str, list[dict[str, Floats]]] = {attack: [] for attack in attacks}
        false: list[Floats] = []
        for (cases, _, scores), test in zip(splits, tested, strict=True):
            unit = [place[e.identifier] for e in test]
            mine = scores[who]
            told = [any(a for (u, _), (_, a) in mine["clean"].items() if u == k) for k in range(len(test))]
            hits = per_unit(len(names), unit, [float(t) for t in told])[None, :]
            false.append(shares(drawn, hits, per_unit(len(names), unit, [1.0] * len(unit))[None, :])[:, 0])
            for attack in attacks:
                collected[attack].append(_figures(drawn, cases[attack], mine, attack, unit, len(names)))
        rows = {
            attack: {
                kind: mean_known(np.stack([one[kind] for one in each]), axis=0)
                for kind in ("auroc", "detection", "calibrated")
            }
            for attack, each in collected.items()
        }
        mean = {
            kind: interval(mean_known(np.stack([r[kind] for r in rows.values()]), axis=0))
            for kind in ("auroc", "detection", "calibrated")
        }
        out["detectors"][who] = {
            "mean": mean,
            "clean_examinations_alerted": interval(mean_known(np.stack(false), axis=0)),
            "attacks": {a: {k: interval(v) for k, v in r.items()} for a, r in rows.items()},
        }
    return out


def _figures(
    drawn: Floats, cases: Sequence[Case], mine: Any, attack: str, unit: Sequence[int], units: int
) -> dict[str, Floats]:
    chosen = {(c.unit, c.index) for c in cases}
    clean = Scored.of([(mine["clean"][key][0], unit[key[0]]) for key in sorted(chosen)])
    told = mine["attacks"][attack]
    attacked = Scored.of([(s, unit[c.unit]) for c, (s, _) in zip(cases, told, strict=True)])
    where = [unit[c.unit] for c in cases]
    hits = per_unit(units, where, [float(a) for _, a in told])[None, :]
    counts = per_unit(units, where, [1.0] * len(where))[None, :]
    return {
        "auroc": auroc(drawn, clean, attacked),
        "detection": detection_at(drawn, clean, attacked, RATE),
        "calibrated": shares(drawn, hits, counts)[:, 0],
    }


def by_order(found: Sequence[Examination], share: float) -> list[tuple[list[Examination], list[Examination]]]:
    """The first ``share`` of the examinations by their order, and the rest."""
    ordered = sorted(found, key=lambda e: (e.commands[0].order, e.identifier))
    cut = int(share * len(ordered))
    return [(ordered[:cut], ordered[cut:])]


def by_protocol(
    found: Sequence[Examination], share: float, splits: int, seed: int
) -> list[tuple[list[Examination], list[Examination]]]:
    """Whole protocols drawn into training and test, ``splits`` times.

    Protocols have no time. ``fit`` calibrates on the last examinations, so they are given an order at random:
    the calibration protocols then come from where the test protocols come from. Protocols of the same name
    stay together.
    """
    groups: dict[str, list[Examination]] = {}
    for examination in found:
        groups.setdefault(examination.commands[0].text("ProtocolName") or examination.identifier, []).append(
            examination
        )
    names, out = sorted(groups), []
    for k in range(splits):
        rng = np.random.default_rng((seed, k))
        chosen = [names[i] for i in rng.permutation(len(names))]
        cut = int(share * len(chosen))
        train, test = ([e for n in part for e in groups[n]] for part in (chosen[:cut], chosen[cut:]))
        out.append(([_placed(e, 1000.0 * i) for i, e in enumerate(train)], test))
    return out


def _placed(examination: Examination, start: float) -> Examination:
    commands = tuple(replace(c, order=start + i) for i, c in enumerate(examination.commands))
    return replace(examination, commands=commands)


def drift(train: Sequence[Examination], test: Sequence[Examination]) -> dict[str, float]:
    """Share of test commands whose word for a field is new: told by less than 1 % of what was learned from.

    Only words (categories) are compared; fields without any new word are left out.
    """
    early, late = ([c for e in part for c in e.commands] for part in (train, test))
    names = sorted({n for c in early + late for n in (*c.parameters, *c.context.parts)})
    out = {}
    for name in names:
        if not any(isinstance(c.value(name), str) for c in early + late):
            continue
        seen = Counter(c.text(name) for c in early)
        share = sum(seen[c.text(name)] < 0.01 * len(early) for c in late) / max(len(late), 1)
        if share > 0:
            out[name] = share
    return out


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("real_recordings", __doc__)
    made.add_argument("--data", type=Path, help="folder of the recordings (default: $SCANWARD_SHARED_DATA)")
    made.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="which recordings")
    made.add_argument("--splits", type=int, default=5, help="times that protocols are held out")
    made.add_argument("--budget", type=float, default=0.05, help="share of clean examinations that may alert")
    made.add_argument("--seed", type=int, default=101, help="seed of splits, attacks and learning")
    made.add_argument("--rounds", type=int, default=Settings().rounds, help="trees of the combiner")
    made.add_argument("--steps", type=int, default=Settings().steps, help="steps of the deep layers")
    arguments = made.parse_args(argv)
    quickly(arguments, splits=1, rounds=40, steps=40)
    return arguments


def data_folder(given: Path | None) -> Path:
    """--data, else the environment, else the folder beside the repository."""
    named = os.environ.get("SCANWARD_SHARED_DATA")
    return given or (Path(named) if named else ROOT.parent / "shared" / "data")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save. Recordings that are not there are skipped, and the result says so."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    folder = data_folder(arguments.data)
    result: dict[str, Any] = {"sets": {}, "skipped": []}
    for name in arguments.sets:
        path = folder / "ct" / name / SETS[name]
        if not path.is_file():
            say(f"{name}: skipped, its table is not there (give --data or set SCANWARD_SHARED_DATA)")
            result["skipped"].append(name)
            continue
        recording = read([path], dialect=load_dialect(ROOT / "examples" / "dialects" / f"{name}.toml"))
        found = examinations(recording.commands)
        if name == "covid_ctset":
            pairs = by_order(found, 0.70)
        else:
            pairs = by_protocol(found, 0.65, arguments.splits, arguments.seed)
        settings = Settings(
            budget=arguments.budget, seed=arguments.seed, rounds=arguments.rounds, steps=arguments.steps
        )
        splits = [
            one_split(
                train, test, settings, arguments.seed + k, ticker(say, f"{name} {k + 1}/{len(pairs)}: ")
            )
            for k, (train, test) in enumerate(pairs)
        ]
        result["sets"][name] = {
            "commands": len(recording.commands),
            "examinations": len(found),
            "learned_from": [len(train) for train, _ in pairs],
            "tested_on": [len(test) for _, test in pairs],
            "drift": [drift(train, test) for train, test in pairs],
            **summary(splits, [test for _, test in pairs], arguments.seed),
        }
    save(arguments, "real_recordings", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        for name, one in told["sets"].items():
            print(f"{name}\n{report(one)}\n")
    return told


def report(one: dict[str, Any]) -> str:
    """One set of recordings for people: a table of detectors."""
    rows = [
        [
            who,
            figure(d["mean"]["auroc"]),
            percent(d["mean"]["detection"]),
            percent(d["mean"]["calibrated"]),
            percent(d["clean_examinations_alerted"]),
        ]
        for who, d in one["detectors"].items()
    ]
    head = [
        "detector", "AUROC", "detected at 5 % false alerts", "detected at its calibrated threshold",
        "clean examinations alerted",
    ]  # fmt: skip
    return table(head, rows)


if __name__ == "__main__":
    main()

"""Drift of a scanner's history against a bundle; what would have been halted; the console's copy of the bundle."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _console_device import (
    BUDGET,
    DAY,
    KEY,
    UNITS,
    bundle,
    bundle_in,
    insert,
    part,
    row_of,
    rows_of,
    told_of_training,
    world,
)
from scanward.calibration import Calibration
from scanward.commands import Command
from scanward.config import DRIFT_BOUNDS
from scanward.console.device_bundle import BundleCopy
from scanward.console.device_view import shadow_view
from scanward.console.drift import Level
from scanward.console.drift_chart import SHOWN, curve, index_chart
from scanward.console.drift_reference import Reference, command_of, reference_of
from scanward.console.drift_report import DriftReport, drift_report, ecdf
from scanward.console.history_store import HistoryStore
from scanward.console.shadow_report import FACTORS, shadow_report
from scanward.errors import BundleError
from scanward.keys import SigningKey
from scanward.layers.base import Part
from scanward.layers.encoding import FIRST, UNKNOWN
from scanward.learning.bundling import facts_of
from scanward.learning.fit import Fitted

NOW = 1_790_000_000.0
SINCE = NOW - 28 * DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    made = HistoryStore(tmp_path / "history.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of(bundle())


def report(store: HistoryStore, reference: Reference, **bounds: Any) -> DriftReport:
    return drift_report(store, "ct1", reference, 4, NOW, replace(DRIFT_BOUNDS, **bounds))


# --- what it learned from


def test_training_counts_every_code_of_every_field() -> None:
    made = world()
    told = told_of_training()
    commands = [c for e in made.early for c in e.commands]
    assert (told["examinations"], told["commands"]) == (len(made.early), len(commands))
    kvp = made.encoder.index["KVP"]
    by_hand = Counter(made.encoder.view(c).codes[kvp] for c in commands)
    assert told["fields"]["KVP"] == [by_hand[code] for code in range(made.encoder.fields[kvp].size)]
    assert all(sum(counts) == len(commands) for counts in told["fields"].values())
    late = [c for e in made.early[225:] for c in e.commands]
    unlearned = told["unlearned"]
    assert unlearned["commands"] == len(late)
    protocol = made.encoder.index["ProtocolName"]
    assert (
        unlearned["fields"]["ProtocolName"]
        == sum(made.encoder.view(c).codes[protocol] == UNKNOWN for c in late)
        > 5
    )


def test_bundles_say_it() -> None:
    made = world()
    onion = SimpleNamespace(encoder=made.encoder, budget=BUDGET, calibrations={})
    facts = facts_of(cast(Fitted, SimpleNamespace(onion=onion, report={"x": 1})), made.early)
    assert facts.metrics["seen"] == told_of_training()


def test_every_code_has_a_bin_and_every_bin_its_share(reference: Reference) -> None:
    for field, learned in zip(reference.fields, reference.encoder.fields, strict=True):
        assert len(field.bin_of) == learned.size
        assert sum(field.counts) == pytest.approx(reference.commands)
        assert 3 <= len(field.names) <= 13
        assert len(set(field.names)) == len(field.names)
        if learned.kind == "continuous":  # neighbours, and no bin with much more than its tenth
            assert (np.diff(field.bin_of[FIRST:]) >= 0).all()
            told = sum(field.counts[2:])
            assert max(field.counts[2:]) <= max(0.16 * told, max(_code_counts(learned.name)[FIRST:]))


def test_new_values_are_expected_as_often_as_the_calibration_met_them(reference: Reference) -> None:
    told = told_of_training()["unlearned"]
    field = next(f for f in reference.fields if f.name == "ProtocolName")
    share = told["fields"]["ProtocolName"] / told["commands"]
    assert share > 0.02
    assert field.names[field.unseen] == "not among those learned"
    assert field.counts[field.unseen] == pytest.approx(share * reference.commands)
    # Of commands that the encoder was learned from there is none of these: as counted, they are far fewer.
    assert field.counts[field.unseen] > 1.5 * _code_counts("ProtocolName")[UNKNOWN]


def _code_counts(name: str) -> list[int]:
    found: list[int] = told_of_training()["fields"][name]
    return found


@pytest.mark.parametrize(
    "told",
    [
        {"examinations": 1, "commands": 1, "fields": {}},
        {"examinations": "x", "commands": 1, "fields": {}},
        {"commands": 1},
        {"examinations": 1, "commands": 1, "fields": {"KVP": [1]}},
        {"examinations": 1, "commands": 1, "fields": []},
    ],
)
def test_a_wrong_reference_is_refused_by_name(told: object) -> None:
    with pytest.raises(BundleError, match="not understood"):
        reference_of(bundle(seen=told))


def test_negative_counts_are_refused() -> None:
    told = told_of_training()
    told["fields"]["KVP"][0] = -1
    with pytest.raises(BundleError, match="KVP"):
        reference_of(bundle(seen=told))


def test_an_older_bundle_has_no_reference_for_fields_and_is_read_all_the_same(store: HistoryStore) -> None:
    found = reference_of(bundle(auroc=0.9))
    assert found.fields == ()
    insert(store, rows_of(world().later, SINCE, NOW - DAY, p_value=0.5, bundle=found.digest))
    made = report(store, found)
    assert made.fields == ()
    assert made.uniformity is not None


# --- commands out of the history


def test_a_row_becomes_the_command_it_was_made_of(reference: Reference) -> None:
    commands = [c for e in world().later[:40] for c in e.commands]
    again = []
    for command in commands:
        row = row_of(command)
        again.append(command_of(row["parameters"], row["context"]))
    assert (reference.codes(again) == reference.codes(commands)).all()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "source", "KVP"]), inner)
    ),
    max_leaves=6,
)
_NAMES = st.sampled_from(["KVP", "CTDIvol", "ProtocolName", "PatientAge", "XRayTubeCurrentInmA", "odd"])


@given(st.dictionaries(_NAMES, _JSON), st.dictionaries(_NAMES, _JSON))
def test_whatever_a_host_wrote_has_codes(parameters: dict[str, Any], context: dict[str, Any]) -> None:
    reference = _reference()
    codes = reference.codes([command_of(json.dumps(parameters), json.dumps(context))])
    for at, field in enumerate(reference.fields):
        assert 0 <= field.bin_of[codes[0, at]] < len(field.names)


@pytest.mark.parametrize("told", ["", "[", "[]", "7", "null", '{"KVP": ' + "9" * 5000 + "}", "[" * 100_000])
def test_what_is_no_json_is_an_empty_command(told: str) -> None:
    assert command_of(told, told).parameters == {}


_MADE: list[Reference] = []


def _reference() -> Reference:
    if not _MADE:
        _MADE.append(reference_of(bundle()))
    return _MADE[0]


# --- the report


def test_the_same_site_has_not_drifted(store: HistoryStore, reference: Reference) -> None:
    insert(store, rows_of(world().later, SINCE, NOW - DAY))
    found = report(store, reference)
    assert found.commands == sum(len(e.commands) for e in world().later)
    assert [f.name for f in found.fields if f.stability.level in (Level.MOVED, Level.DRIFTED)] == []
    assert {f.name for f in found.fields} == {f.name for f in reference.fields}
    for field in found.fields:
        assert sum(b.before for b in field.bins) == pytest.approx(1.0)
        assert sum(b.now for b in field.bins) == pytest.approx(1.0)


def test_a_changed_practice_is_found_and_named(store: HistoryStore, reference: Reference) -> None:
    def other(command: Command) -> Command:
        if "CTDIvol" not in command.parameters:
            return command
        more = 2.5 * float(command.parameters["CTDIvol"])
        return replace(command, parameters={**command.parameters, "CTDIvol": more, "FilterType": "NEW"})

    insert(store, rows_of(world().later, SINCE, NOW - DAY, other))
    found = report(store, reference)
    loud = {f.name: f for f in found.fields if f.stability.level in (Level.MOVED, Level.DRIFTED)}
    assert set(loud) == {"CTDIvol", "FilterType"}
    assert {f.name for f in found.fields[:2]} == set(loud)
    assert loud["FilterType"].unseen > 0.5
    assert found.level is Level.DRIFTED
    chart = index_chart(found.fields)
    assert chart is not None
    assert len(chart.bars) == SHOWN
    assert [bar.loud for bar in chart.bars] == [True, True] + [False] * (SHOWN - 2)


def test_only_a_change_in_the_last_week_stands_in_that_week(
    store: HistoryStore, reference: Reference
) -> None:
    def other(command: Command) -> Command:
        return replace(command, parameters={**command.parameters, "FilterType": "NEW"})

    later = world().later
    insert(store, rows_of(later, SINCE, NOW - 7 * DAY - 60))
    insert(store, rows_of(later, NOW - 7 * DAY, NOW - DAY, other))
    weeks = report(store, reference).weeks
    assert len(weeks) == 4
    assert [week.since for week in weeks] == [SINCE + n * 7 * DAY for n in range(4)]
    assert sum(week.commands for week in weeks) == 2 * sum(len(e.commands) for e in later)
    worst = weeks[3].worst
    assert worst is not None
    assert (worst.name, worst.stability.level) == ("FilterType", Level.DRIFTED)
    for week in weeks[:3]:
        assert week.worst is not None
        assert week.worst.stability.level in (Level.SAME, Level.FEW)


@pytest.mark.parametrize(
    "changes",
    [
        {"scanner": "ct2"},
        {"kind": "motion"},
        {"mode": "QA"},
        {"mode": "SERVICE"},
        {"outcome": "superseded"},
        {"at": SINCE - 1.0},
        {"at": NOW},
    ],
)
def test_what_does_not_count(store: HistoryStore, reference: Reference, changes: dict[str, Any]) -> None:
    insert(store, rows_of(world().later[:30], SINCE, NOW - DAY, p_value=0.5, bundle=reference.digest))
    before = report(store, reference)
    odd = {"parameters": '{"KVP": 77}', "examination": "odd", "p_value": 0.005, "bundle": reference.digest}
    insert(store, [{**odd, "at": SINCE + DAY, **changes}])
    assert report(store, reference) == before
    insert(store, [{**odd, "at": SINCE + DAY}])
    assert report(store, reference) != before


def test_of_too_many_commands_each_kth_is_looked_at(store: HistoryStore, reference: Reference) -> None:
    insert(store, rows_of(world().later, SINCE, NOW - DAY, p_value=0.5, bundle=reference.digest))
    whole, part_ = report(store, reference), report(store, reference, commands=100)
    assert part_.every == -(-whole.commands // 100)
    assert part_.commands == whole.commands
    assert len(part_.ranks) == len(whole.ranks)  # of p-values none is left out
    assert max(f.stability.chance for f in part_.fields) > max(f.stability.chance for f in whole.fields)


def test_a_command_of_any_length_takes_no_room(store: HistoryStore, reference: Reference) -> None:
    fat = json.dumps({"KVP": 120.0, "ProtocolName": "x" * DRIFT_BOUNDS.command_chars})
    insert(store, [{"at": NOW - 1.0, "parameters": fat, "context": fat}])
    (kvp,) = (f for f in report(store, reference).fields if f.name == "KVP")
    assert [b.name for b in kvp.bins if b.now] == ["not told"]


def test_an_examination_has_the_least_p_value_of_its_commands(
    store: HistoryStore, reference: Reference
) -> None:
    rng = random.Random(2)
    calibration = Calibration.of([at / UNITS for at in range(UNITS)])
    expected = []
    for n in range(50):
        p_values = [calibration.p_value(rng.random()) for _ in range(rng.randint(1, 4))]
        expected.append(round(min(p_values) * (UNITS + 1)) - 1)
        own = {"examination": f"e{n}", "bundle": reference.digest}
        insert(store, [{**own, "at": SINCE + n * 3600 + m, "p_value": p} for m, p in enumerate(p_values)])
        insert(store, [{**own, "at": SINCE + n * 3600 + 60}])  # one without a p-value changes nothing
    found = report(store, reference)
    assert sorted(found.ranks) == sorted(expected)
    assert found.examinations == 50
    assert found.tail is not None
    assert found.tail.beyond == sum((1 + r) / (UNITS + 1) <= BUDGET for r in expected)


def test_an_examination_that_may_go_on_does_not_count_yet(store: HistoryStore, reference: Reference) -> None:
    own = {"p_value": 0.5, "bundle": reference.digest}
    insert(store, [{**own, "examination": "old", "at": NOW - 3601.0}])
    insert(
        store,
        [
            {**own, "examination": "new", "at": NOW - 9000.0},
            {**own, "examination": "new", "at": NOW - 3599.0},
        ],
    )
    assert len(report(store, reference).ranks) == 1


def test_p_values_of_another_bundle_or_of_none_are_left_out_and_told(
    store: HistoryStore, reference: Reference
) -> None:
    at = NOW - DAY
    own = {"at": at, "p_value": 0.5, "bundle": reference.digest}
    insert(store, [{**own, "examination": "a"}])
    insert(store, [{**own, "examination": "b", "bundle": "b" * 64}])
    insert(store, [{**own, "examination": "c"}, {**own, "examination": "c", "bundle": "b" * 64}])
    insert(store, [{**own, "examination": "d", "p_value": 0.1234567}])  # no multiple of 1 / (units + 1)
    insert(store, [{**own, "examination": "", "seq": 9}])  # by the calibration of single commands
    found = report(store, reference)
    assert (len(found.ranks), found.foreign, found.odd) == (1, 2, 1)


def test_an_empty_history_has_an_empty_report(store: HistoryStore, reference: Reference) -> None:
    found = report(store, reference)
    assert (found.commands, found.fields, found.ranks, found.uniformity) == (0, (), (), None)
    assert found.level is Level.FEW
    assert curve(found) is None
    assert index_chart(found.fields) is None


def test_the_curve_is_the_distribution_of_the_p_values(store: HistoryStore, reference: Reference) -> None:
    ranks = [0, 0, 99, 199]
    assert ecdf(ranks, UNITS) == [(1 / 200, 0.5), (100 / 200, 0.75), (1.0, 1.0)]
    for n, r in enumerate(ranks):
        told = {"examination": f"e{n}", "at": NOW - DAY, "p_value": (1 + r) / 200, "bundle": reference.digest}
        insert(store, [told])
    made = curve(report(store, reference))
    assert made is not None
    x, y = (made.right - made.left), (made.base - made.top)
    corners = [(0, 0), (0.005, 0), (0.005, 0.5), (0.5, 0.5), (0.5, 0.75), (1, 0.75), (1, 1), (1, 1)]
    assert made.points == " ".join(f"{made.left + p * x:.1f},{made.base - s * y:.1f}" for p, s in corners)


# --- what would have been halted


def test_the_report_of_halts_as_counted_by_hand(store: HistoryStore, reference: Reference) -> None:
    rng = random.Random(5)
    rows: list[dict[str, Any]] = []
    for n in range(400):
        verdict = rng.choice(["RELEASE"] * 6 + ["ALERT", "HALT", ""])
        rows.append(
            {
                "seq": n,
                "at": rng.uniform(NOW - 10 * DAY, NOW + DAY),
                "examination": rng.choice(["", *(f"e{k}" for k in range(60))]),
                "verdict": verdict,
                "layer": rng.choice(["limits", "context_free"]) if verdict in ("ALERT", "HALT") else "",
                "fields": json.dumps(rng.sample(["KVP", "CTDIvol", "DLP"], rng.randint(0, 2))),
                "outcome": rng.choice(["released", "shadow", "refused", "superseded", "pending"]),
                "mode": rng.choice(["CLINICAL"] * 9 + ["QA"]),
                "scanner": rng.choice(["ct1"] * 9 + ["ct2"]),
                "kind": rng.choice(["command"] * 9 + ["motion"]),
                "protocol": rng.choice(["Head", "=cmd", ""]),
                "p_value": rng.choice([None, rng.randint(1, 200) / 200]),
                "bundle": reference.digest,
            }
        )
    insert(store, rows)
    since = NOW - 7 * DAY
    counted = [
        r
        for r in rows
        if since <= r["at"] < NOW
        and r["scanner"] == "ct1"
        and r["kind"] == "command"
        and r["mode"] == "CLINICAL"
        if r["outcome"] != "superseded" and r["verdict"]
    ]
    stopped = [r for r in counted if r["verdict"] != "RELEASE"]

    def whose(found: list[dict[str, Any]]) -> int:
        return len({r["examination"] or f"#{r['seq']}" for r in found})

    found = shadow_report(store, "ct1", since, NOW, reference)
    assert len(stopped) > 10
    assert any(row["outcome"] == "pending" for row in found.rows)
    assert len(shadow_view(found, "ct1", {})["rows"]) == len(
        found.rows
    )  # all that the page shows of one is there
    assert (found.commands, found.examinations) == (len(counted), whose(counted))
    assert found.halted == sum(r["verdict"] == "HALT" for r in counted)
    assert found.held == sum(r["verdict"] == "ALERT" for r in counted)
    assert found.stopped == whose(stopped)
    assert found.in_shadow == sum(r["outcome"] == "shadow" for r in stopped)
    for cause in found.layers:
        mine = [r for r in stopped if r["layer"] == cause.name]
        assert cause.halted == sum(r["verdict"] == "HALT" for r in mine)
        assert cause.alerted == sum(r["verdict"] == "ALERT" for r in mine)
        assert cause.examinations == whose(mine)
    assert {c.name for c in found.protocols} == {r["protocol"] for r in stopped}
    assert dict(found.fields) == Counter(f for r in stopped for f in json.loads(r["fields"]))
    least: dict[str, float] = {}
    for r in counted:
        if r["p_value"] is not None and r["examination"]:
            least[r["examination"]] = min(r["p_value"], least.get(r["examination"], 1.0))
    assert [b.examinations for b in found.budgets] == [
        sum(p <= f * BUDGET for p in least.values()) for f in FACTORS
    ]
    assert [row["at"] for row in found.rows] == sorted((r["at"] for r in stopped), reverse=True)


def test_more_than_can_be_listed_is_counted(store: HistoryStore) -> None:
    insert(store, [{"at": NOW - n, "seq": n, "verdict": "HALT"} for n in range(1, 8)])
    found = shadow_report(store, "ct1", NOW - DAY, NOW, None, replace(DRIFT_BOUNDS, listed=3))
    assert (len(found.rows), found.more, found.halted, found.budgets) == (3, 4, 7, ())


def test_a_budget_that_the_calibration_cannot_express_has_no_number(store: HistoryStore) -> None:
    few = replace(reference_of(bundle()), units=20)
    insert(store, [{"at": NOW - 1, "examination": "e", "p_value": 1 / 21, "bundle": few.digest}])
    found = shadow_report(store, "ct1", NOW - DAY, NOW, few)
    assert [b.examinations for b in found.budgets] == [None, None, 1, 1, 1]


# --- the copy of the bundle


def test_a_copy_is_verified_and_verified_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "site.pub").write_bytes(KEY.verify_key.pem())
    (tmp_path / "other.pub").write_bytes(SigningKey.from_seed(b"o" * 32).verify_key.pem())
    now = [100.0]
    copy = BundleCopy(bundle_in(tmp_path / "b"), (tmp_path / "site.pub",), lambda: now[0])
    first = copy.look()
    assert first.manifest is not None
    assert first.reference is not None
    assert first.manifest.version == 7
    assert copy.look() is first
    bundle_in(tmp_path / "b", version=8)
    second = copy.look()
    assert second.manifest is not None
    assert second.manifest.version == 8
    now[0] += 1000.0
    third = copy.look()  # as before, and looked at again
    assert third.reference is second.reference
    assert third.looked == 1100.0
    (tmp_path / "b" / "settings.json").write_bytes(b"{}")  # which bundle it is has not changed: time finds it
    now[0] += 1000.0
    broken = copy.look()
    assert broken.manifest is None
    assert "altered" in broken.trouble
    other = BundleCopy(bundle_in(tmp_path / "c"), (tmp_path / "other.pub",), lambda: 0.0).look()
    assert (other.manifest, other.reference) == (None, None)
    assert "not trusted" in other.trouble


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    for keys in ((), (tmp_path / "none.pub",)):
        found = BundleCopy(tmp_path / "nothing", keys, lambda: 0.0).look()
        assert found.manifest is None
        assert found.trouble


def test_a_bundle_of_another_kind_is_no_reference(tmp_path: Path) -> None:
    (tmp_path / "site.pub").write_bytes(KEY.verify_key.pem())
    strange = Part({**part().settings, "encoder": {"fields": 7}}, {}, {})
    found = BundleCopy(bundle_in(tmp_path / "b", part_=strange), (tmp_path / "site.pub",), lambda: 0.0).look()
    assert found.manifest is not None
    assert found.reference is None
    assert "not understood" in found.trouble

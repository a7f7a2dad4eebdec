"""A recording judged by a bundle: every entry answered, in order, whatever order it came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from _trained import Trained
from scanward import bundle
from scanward.bundle import Bundle
from scanward.bundle.explaining import explain
from scanward.bundle.judging import (
    Answer,
    Docket,
    contradicts,
    judge_groups,
    load,
    refuse_misfit,
    repeated,
)
from scanward.commands import (
    PATIENT_FIELDS,
    Command,
    Context,
    Device,
    LayerName,
    Origin,
    Role,
    Source,
    Told,
    Verdict,
)
from scanward.errors import BundleError, InputError, SettingsError
from scanward.keys import VerifyKey
from scanward.layers.base import Part
from scanward.layers.onion import Onion
from scanward.recordings import Dialect, Duplicate, Entry, Recording, Rejected, load_dialect, read

FEW = 14  # examinations judged where more would only take time


@lru_cache(maxsize=1)
def opened(trained: Trained) -> tuple[Bundle, Onion]:
    found = bundle.read(trained.model, trusted=[VerifyKey.load(trained.trust)])
    return found, load(found.part)


@lru_cache(maxsize=1)
def later(trained: Trained) -> tuple[Command, ...]:
    return tuple(c for e in trained.examinations() for c in e.commands)


def few(trained: Trained) -> list[Command]:
    return [c for e in trained.examinations()[:FEW] for c in e.commands]


def answers(trained: Trained, entries: Sequence[Entry]) -> list[Answer]:
    docket = Docket(opened(trained)[0].manifest, Recording(tuple(entries)))
    found = dict(_judged(opened(trained)[1], docket))
    return [row.answer for row in docket.rows(found)]


def _judged(onion: Onion, docket: Docket) -> list[tuple[int, Answer]]:
    from scanward.bundle.judging import answer, judge_group

    return [(row, answer(j)) for group in docket.groups for row, j in judge_group(onion, group)]


def verdicts(trained: Trained, entries: Sequence[Entry]) -> list[Verdict]:
    return [one.verdict for one in answers(trained, entries)]


def without(command: Command, *names: str) -> Command:
    return replace(command, parameters={k: v for k, v in command.parameters.items() if k not in names})


def changed(command: Command, **values: float | str) -> Command:
    return replace(command, parameters={**command.parameters, **values})


# --- every entry once, in order


def test_clean_examinations_are_mostly_released(small_bundle: Trained) -> None:
    found = verdicts(small_bundle, later(small_bundle))
    assert len(found) > 100
    assert found.count(Verdict.RELEASE) >= 0.95 * len(found)


def test_every_entry_is_answered_in_its_place(small_bundle: Trained) -> None:
    commands = few(small_bundle)
    bad = Rejected(Origin("a.csv", 1), "KVP is not a number")
    entries: list[Entry] = [bad, *commands, bad, Duplicate(Origin("a.csv", 9), commands[3])]
    docket = Docket(opened(small_bundle)[0].manifest, Recording(tuple(entries)))
    rows = list(docket.rows(judge_groups(opened(small_bundle)[0].part, docket.groups)))
    assert [row.row for row in rows] == list(range(len(entries)))
    assert [row.origin for row in rows] == [entry.origin for entry in entries]
    assert rows[0].answer == Answer(Verdict.HALT, None, LayerName.FORM, (), "KVP is not a number")
    assert rows[len(commands) + 1].answer == rows[0].answer
    assert [row.answer for row in rows[1 : len(commands) + 1]] == answers(small_bundle, commands)
    assert docket.total == len(commands)


def test_more_workers_give_the_same_answers(small_bundle: Trained) -> None:
    found = opened(small_bundle)[0]
    docket = Docket(found.manifest, Recording(later(small_bundle)))
    seen: list[tuple[int, int]] = []
    alone = judge_groups(found.part, docket.groups, progress=lambda done, total: seen.append((done, total)))
    together = judge_groups(found.part, docket.groups, workers=2)
    assert alone == together
    assert list(alone) == list(together)
    assert len(alone) == docket.total
    assert seen[-1] == (docket.total, docket.total)
    assert len(seen) > 1


def test_progress_may_stop_the_work_and_no_process_is_left(small_bundle: Trained) -> None:
    found = opened(small_bundle)[0]
    docket = Docket(found.manifest, Recording(later(small_bundle)))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    import multiprocessing

    with pytest.raises(KeyboardInterrupt):
        judge_groups(found.part, docket.groups, workers=2, progress=stop)
    assert multiprocessing.active_children() == []


@given(seed=st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=8)
def test_shuffling_the_rows_of_a_table_changes_no_verdict(
    small_bundle: Trained, tmp_path_factory: pytest.TempPathFactory, seed: object
) -> None:
    lines = small_bundle.later.read_text("utf-8").splitlines()
    head, rows = lines[0], lines[1:40]
    order = list(range(len(rows)))
    seed.shuffle(order)  # type: ignore[attr-defined]
    dialect = load_dialect(small_bundle.dialect)
    folder = tmp_path_factory.mktemp("shuffled")

    def judged(name: str, chosen: list[str]) -> list[Answer]:
        path = folder / name
        path.write_text("\n".join([head, *chosen]) + "\n", encoding="utf-8")
        return answers(small_bundle, read([path], dialect=dialect).entries)

    straight, mixed = judged("straight.csv", rows), judged("mixed.csv", [rows[i] for i in order])
    assert mixed == [straight[i] for i in order]


# --- duplicates


def test_a_duplicate_has_the_verdict_of_what_it_repeats(small_bundle: Trained) -> None:
    commands = few(small_bundle)
    less = without(commands[5], "KVP", "CTDIvol")
    entries: list[Entry] = [
        Duplicate(Origin("x", 0), commands[5]),
        *commands,
        Duplicate(Origin("x", 1), less),
    ]
    found = answers(small_bundle, entries)
    for double in (found[0], found[-1]):
        assert double.verdict is found[6].verdict
        assert double.p_value == found[6].p_value
        assert double.reason.startswith("duplicate of row 6")
    assert found[1:-1] == answers(small_bundle, commands)


def test_the_duplicate_of_an_unreadable_neighbour_changes_nothing(small_bundle: Trained) -> None:
    assert repeated(4, Answer(Verdict.HALT, reason="why"), None).reason == "duplicate of row 4: why"
    assert repeated(4, Answer(Verdict.RELEASE), None).reason == "duplicate of row 4"


def test_an_event_told_twice_cannot_carry_other_values_past_the_judge(small_bundle: Trained) -> None:
    commands = few(small_bundle)
    clean = answers(small_bundle, commands)
    at = next(  # one that is released as it is: a judge may alert on a clean command now and then
        i
        for i, c in enumerate(commands)
        if c.number("KVP") == 120 and c.number("CTDIvol") and clean[i].verdict is Verdict.RELEASE
    )
    forged = changed(commands[at], KVP=35.0)
    found = answers(small_bundle, [*commands, Duplicate(Origin("x", 1), forged)])
    assert found[-1].verdict is not Verdict.RELEASE
    assert "which says otherwise" in found[-1].reason
    assert "KVP" in found[-1].fields
    assert found[:-1] == clean  # it was never sent


def test_what_contradicts(small_bundle: Trained) -> None:
    command = few(small_bundle)[1]
    parts = dict(command.context.parts)
    assert not contradicts(command, command)
    assert not contradicts(without(command, "KVP"), command)
    assert contradicts(command, without(command, "KVP"))
    assert contradicts(changed(command, KVP=81.0), command)
    assert contradicts(replace(command, role=Role.PERFORMED), command)
    assert contradicts(replace(command, device=Device("other")), command)
    told = replace(command, context=Context({**parts, "PatientSex": (Told("X", Source.OPERATOR),)}))
    assert contradicts(told, command)
    assert not contradicts(command, told) or parts.get("PatientSex")


# --- what is missing


@pytest.mark.parametrize("name", ["KVP", "XRayTubeCurrentInmA", "AcquisitionType", "TotalCollimationWidth"])
def test_a_missing_machine_field_counts_against_a_command(small_bundle: Trained, name: str) -> None:
    commands = few(small_bundle)
    clean = answers(small_bundle, commands)
    judged = 0
    for command, before in zip(commands, clean, strict=True):
        if before.verdict is Verdict.RELEASE and name in command.parameters:
            after = answers(small_bundle, [without(command, name)])[0]
            assert after.verdict is not Verdict.RELEASE
            assert name in after.fields
            judged += 1
    assert judged > 20


def test_a_missing_patient_does_not_count_against_a_command(small_bundle: Trained) -> None:
    commands = later(small_bundle)

    def stranger(command: Command) -> Command:
        kept = {n: t for n, t in command.context.parts.items() if n not in PATIENT_FIELDS}
        return replace(command, context=Context(kept))

    known = answers(small_bundle, commands)
    unknown = answers(small_bundle, [stranger(c) for c in commands])
    assert sum(PATIENT_FIELDS[0] in c.context.parts for c in commands) > 100
    more = sum(a.verdict is not Verdict.RELEASE for a in unknown)
    fewer = sum(a.verdict is not Verdict.RELEASE for a in known)
    assert more <= fewer + 2  # of some 150: an AEC's work looks a little stranger when the size is not known
    assert not {name for one in unknown for name in one.fields} & set(PATIENT_FIELDS)


def test_a_command_without_examination_is_judged_alone(small_bundle: Trained) -> None:
    command = replace(later(small_bundle)[7], examination=None)
    onion = opened(small_bundle)[1]
    docket = Docket(opened(small_bundle)[0].manifest, Recording((command,)))
    found = explain(onion, docket, 0)
    assert found.judgement is not None
    procedure = next(o for o in found.judgement.opinions if o.layer is LayerName.PROCEDURE)
    assert procedure.outcome == "abstain"
    assert found.before == ()


# --- of another role or device


def test_another_role_is_refused(small_bundle: Trained) -> None:
    manifest = opened(small_bundle)[0].manifest
    performed = tuple(replace(c, role=Role.PERFORMED) for c in few(small_bundle))
    with pytest.raises(InputError, match="performed values, the bundle judges commanded ones"):
        refuse_misfit(manifest, Recording(performed))
    mixed = (*performed[:1], *few(small_bundle)[1:])
    refuse_misfit(manifest, Recording(mixed))
    found = answers(small_bundle, mixed)
    assert found[0].verdict is Verdict.HALT
    assert found[0].fields[0] == "role"


def test_another_device_is_refused(small_bundle: Trained) -> None:
    manifest = opened(small_bundle)[0].manifest
    other = tuple(replace(c, device=Device("Acme", "X1")) for c in few(small_bundle))
    with pytest.raises(BundleError, match="the recording is of Acme X1"):
        refuse_misfit(manifest, Recording(other))
    mixed = (*other[:1], *few(small_bundle)[1:])
    refuse_misfit(manifest, Recording(mixed))
    found = answers(small_bundle, mixed)
    assert (found[0].verdict, found[0].layer) == (Verdict.HALT, LayerName.FORM)
    assert "ManufacturerModelName" in found[0].fields


def test_another_device_of_the_same_model_is_refused(small_bundle: Trained) -> None:
    manifest = opened(small_bundle)[0].manifest
    other = tuple(replace(c, device=replace(c.device, serial="f" * 16)) for c in few(small_bundle))
    with pytest.raises(BundleError, match="of another serial number"):
        refuse_misfit(manifest, Recording(other))
    with pytest.raises(BundleError, match="the --site-key that it was trained with"):
        refuse_misfit(manifest, Recording(other), "a" * 64)
    found = answers(small_bundle, [other[0], *few(small_bundle)[1:], Duplicate(Origin("x"), other[0])])
    assert (found[0].verdict, found[0].layer) == (Verdict.HALT, LayerName.FORM)
    assert found[0].fields == ("DeviceSerialNumber",)
    assert found[-1].verdict is Verdict.HALT


def test_without_a_serial_number_maker_and_model_decide_and_it_is_said(small_bundle: Trained) -> None:
    manifest = opened(small_bundle)[0].manifest
    loose = tuple(replace(c, device=replace(c.device, serial="")) for c in few(small_bundle))
    notes = refuse_misfit(manifest, Recording(loose))
    assert any(f"{len(loose)} commands name no serial number" in note for note in notes)
    assert verdicts(small_bundle, loose) == verdicts(small_bundle, few(small_bundle))


def test_a_field_of_another_role_is_noted(small_bundle: Trained) -> None:
    manifest = opened(small_bundle)[0].manifest
    command = few(small_bundle)[1]
    odd = replace(command, roles={**command.roles, "CTDIvol": Role.PERFORMED})
    assert "CTDIvol is performed here and was forecast in training" in refuse_misfit(
        manifest, Recording((odd,))
    )


def test_nothing_but_unreadable_rows_is_no_misfit(small_bundle: Trained) -> None:
    recording = Recording((Rejected(Origin("a"), "why"),))
    assert refuse_misfit(opened(small_bundle)[0].manifest, recording) == ()


def test_a_bundle_of_something_else_is_refused() -> None:
    with pytest.raises(BundleError, match="no judge that this version understands"):
        load(Part({"kind": "of something else"}))


# --- explained


def test_an_explanation_says_what_the_judge_said_of_every_row(small_bundle: Trained) -> None:
    commands = few(small_bundle)
    entries: list[Entry] = [
        *commands,
        Rejected(Origin("a.csv", 77), "no machine field is present"),
        Duplicate(Origin("b.csv", 0), commands[4]),
        Duplicate(Origin("b.csv", 1), changed(commands[4], KVP=35.0)),
        replace(commands[2], device=replace(commands[2].device, serial="f" * 16), event="another"),
    ]
    recording = Recording(tuple(entries))
    docket = Docket(opened(small_bundle)[0].manifest, recording)
    judged = list(docket.rows(judge_groups(opened(small_bundle)[0].part, docket.groups)))
    for row in judged:
        found = explain(opened(small_bundle)[1], docket, row.row)
        assert found.answer == row.answer
        assert found.origin == row.origin
        for one in found.before:
            assert one.answer == judged[one.row].answer
            assert one.command.examination == entries[one.row].examination  # type: ignore[union-attr]
    assert explain(opened(small_bundle)[1], docket, len(commands)).judgement is None
    assert explain(opened(small_bundle)[1], docket, len(commands) + 1).repeats == 4


def test_a_row_that_is_not_there_is_refused(small_bundle: Trained) -> None:
    docket = Docket(opened(small_bundle)[0].manifest, Recording(tuple(few(small_bundle))))
    for row in (-1, len(few(small_bundle))):
        with pytest.raises(SettingsError, match="rows go from 0 to"):
            explain(opened(small_bundle)[1], docket, row)


def test_the_tables_of_this_bundle_read_without_loss(small_bundle: Trained, tmp_path: Path) -> None:
    dialect = load_dialect(small_bundle.dialect)
    assert isinstance(dialect, Dialect)
    books = read([small_bundle.later], dialect=dialect).books()
    assert books["rejected"] == books["duplicates"] == 0

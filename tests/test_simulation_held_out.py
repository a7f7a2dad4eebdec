"""The held-out attacks pass what every attack of the catalogue passes, and each does what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scanward.commands import Command, Device, Examination, Source
from scanward.simulation import ATTACKS, HELD_OUT, MODELS, Donors, Site, effect_of
from scanward.simulation.check import check
from scanward.simulation.donors import kind_of
from scanward.simulation.elements import LOCALIZER, SPIRAL
from scanward.simulation.levels import new_model_site, new_protocols_site, updated_site
from scanward.simulation.oracle import Oracle
from scanward.simulation.physics import consequences, max_ma

SITE = Site(5)
DONORS = Donors(SITE.examinations(800))
LATER = SITE.examinations(120, start=2000)
UNITS = {"CTDIvol": 0.01, "DLP": 0.1, "Exposure": 1.0, "ExposureTimeInms": 10.0}
PATIENT_ATTACKS = ("renamed_protocol", "renamed_body_part", "forged_weight", "forged_age")
OF_SEVERAL = ("dose_creep", *PATIENT_ATTACKS)


def _attacked(name: str) -> list[tuple[Examination, Examination, int]]:
    attack, rng, out = HELD_OUT[name], np.random.default_rng(7), []
    for examination in LATER:
        for index in attack.eligible(examination):
            changed = attack.apply(examination, index, rng, DONORS)
            if changed is not None:
                out.append((examination, changed, index))
    return out


def _consistent(command: Command) -> bool:
    model = next(m for m in MODELS if m.name == command.device.model)
    for name, fresh in consequences(model, command.parameters).items():
        told = command.parameters[name]
        assert isinstance(told, float)
        assert isinstance(fresh, float)
        if abs(told - fresh) > 1.6 * UNITS.get(name, 0.05) + 0.002 * abs(fresh):
            return False
    return True


def _number(command: Command, name: str) -> float:
    value = command.number(name)
    assert value is not None
    return value


# --- what every attack must pass --------------------------------------------------------------------------
def test_families_and_names_are_new() -> None:
    assert len(HELD_OUT) >= 10
    assert not HELD_OUT.keys() & ATTACKS.keys()
    families = [attack.family for attack in HELD_OUT.values()]
    assert len(set(families)) == len(families)
    assert not set(families) & {attack.family for attack in ATTACKS.values()}
    assert all(name == attack.name and attack.about for name, attack in HELD_OUT.items())


@pytest.mark.parametrize("name", HELD_OUT)
def test_applies_to_most_eligible_commands(name: str) -> None:
    eligible = sum(len(HELD_OUT[name].eligible(e)) for e in LATER)
    assert eligible > 0
    assert len(_attacked(name)) >= 0.5 * eligible


@pytest.mark.parametrize("name", HELD_OUT)
def test_changes_the_attacked_commands_alone_and_stays_consistent(name: str) -> None:
    attack = HELD_OUT[name]
    for before, after, index in _attacked(name):
        attacked = attack.attacked_indices(before, after, index)
        assert attacked
        assert name in OF_SEVERAL or name == "order_changed" or len(attacked) == 1
        rest = [c for i, c in enumerate(after.commands) if i not in attacked]
        assert all(command in before.commands for command in rest)
        assert len(after.commands) == len(before.commands) + (name == "foreign_element")
        for i in attacked:
            command = after.commands[i]
            assert _consistent(command), (name, command.parameters)
            model = next(m for m in MODELS if m.name == command.device.model)
            assert _number(command, "XRayTubeCurrentInmA") <= max_ma(model, _number(command, "KVP"))
        assert len({c.event for c in after.commands}) == len(after.commands)
        times = [(c.acquired_at or 0.0, c.order) for c in after.commands]
        assert times == sorted(times)
        assert after.identifier == before.identifier


@pytest.mark.parametrize("name", HELD_OUT)
def test_parameters_stay_on_the_grid_of_the_device(name: str) -> None:
    """A value that the device cannot have would give an attack away by its digits alone."""
    steps = {"XRayTubeCurrentInmA": 1.0, "TableHeight": 1.0, "AcquisitionStartLocation": 0.5, "NoiseIndex": 0.5,
             "QualityReferenceMAs": 1.0, "NumberOfRotations": 1.0}  # fmt: skip
    for before, after, index in _attacked(name)[:60]:
        for i in HELD_OUT[name].attacked_indices(before, after, index):
            told = after.commands[i].parameters
            model = next(m for m in MODELS if m.name == after.commands[i].device.model)
            assert told.get("SpiralPitchFactor", model.pitches[0]) in model.pitches
            assert told["TotalCollimationWidth"] in [total for _, total, _ in model.collimations]
            for field, step in steps.items():
                if field == "XRayTubeCurrentInmA" and name != "dose_creep":
                    step = (
                        model.ma_step
                    )  # creep rounds as the dose attacks do: to 1 mA where few values were seen
                if (value := told.get(field)) is not None:
                    assert isinstance(value, float)
                    assert abs(value / step - round(value / step)) < 1e-6, (name, field, value)


@pytest.mark.parametrize("name", HELD_OUT)
def test_same_generator_state_gives_the_same_attack(name: str) -> None:
    attack = HELD_OUT[name]
    for examination in LATER[:40]:
        for index in attack.eligible(examination):
            a = attack.apply(examination, index, np.random.default_rng(3), DONORS)
            assert a == attack.apply(examination, index, np.random.default_rng(3), DONORS)


def _as_recorded(examination: Examination, keep: tuple[str, ...]) -> Examination:
    """The same commands as a sparse recording of a real device would hold them."""
    commands = (
        replace(
            c,
            parameters={n: v for n, v in c.parameters.items() if n in keep},
            device=Device("Maker", "X"),
            event=None,
        )
        for c in examination.commands
    )
    return Examination(examination.identifier, tuple(commands))


SPARSE = (
    (),
    ("KVP", "XRayTubeCurrentInmA", "Exposure", "CTDIvol", "SpiralPitchFactor", "TotalCollimationWidth"),
    ("CTDIvol", "DLP"),
    ("AcquisitionType", "KVP", "XRayTubeCurrentInmA", "RevolutionTime", "ScanLength", "DLP", "CTDIvol"),
    ("AcquisitionType", "AcquisitionStartLocation", "TableHeight", "ContrastBolusAgent", "SliceThickness",
     "ExposureModulationType", "NumberOfRotations", "ConvolutionKernel", "FilterType"),
)  # fmt: skip


@pytest.mark.parametrize("name", HELD_OUT)
@pytest.mark.parametrize("keep", SPARSE)
def test_sparse_recordings_get_no_field_they_did_not_have(name: str, keep: tuple[str, ...]) -> None:
    attack, rng = HELD_OUT[name], np.random.default_rng(1)
    sparse = [_as_recorded(e, keep) for e in LATER[:60]]
    donors = Donors(sparse)
    for examination in sparse:
        for index in attack.eligible(examination):
            changed = attack.apply(examination, index, rng, donors)
            if changed is None:
                continue
            for i in attack.attacked_indices(examination, changed, index):
                assert set(changed.commands[i].parameters) <= set(keep)
                assert changed.commands[i].context.parts.keys() <= set().union(
                    *(c.context.parts for c in examination.commands)
                )


def test_nothing_is_done_without_donors() -> None:
    """Nobody to take values from is no error: what needs a donor answers None."""
    for attack in HELD_OUT.values():
        for index in attack.eligible(LATER[0]):
            changed = attack.apply(LATER[0], index, np.random.default_rng(0), [])
            assert changed is None or changed.identifier == LATER[0].identifier


def test_an_index_outside_the_examination_is_refused() -> None:
    for attack in HELD_OUT.values():
        assert attack.apply(LATER[0], 99, np.random.default_rng(0), DONORS) is None
        assert attack.apply(LATER[0], -1, np.random.default_rng(0), DONORS) is None
        assert attack.eligible(Examination("x", ())) == []


# --- what each one does -----------------------------------------------------------------------------------
def _one(name: str) -> list[tuple[Command, Command]]:
    """(clean, attacked) at the place of the attack, for attacks that keep the order."""
    out = [(b.commands[i], a.commands[i]) for b, a, i in _attacked(name)]
    assert out
    return out


def _differ(old: Command, new: Command) -> set[str]:
    names = old.parameters.keys() | new.parameters.keys()
    return {n for n in names if old.parameters.get(n) != new.parameters.get(n)}


FIGURES = {"CTDIvol", "DLP", "Exposure", "ExposureTimeInms", "TableFeedPerRotation", "TableSpeed"}
STEERING = {"AECMinimumTubeCurrent", "AECMaximumTubeCurrent", "NoiseIndex", "QualityReferenceMAs"}


@pytest.mark.parametrize(
    ("name", "may", "must"),
    [
        ("aec_off", STEERING | {"XRayTubeCurrentInmA", "ExposureModulationType"}, {"ExposureModulationType"}),
        ("aec_reference_moved", STEERING | {"XRayTubeCurrentInmA"}, {"XRayTubeCurrentInmA"}),
        ("aec_capped", {"XRayTubeCurrentInmA", *STEERING}, {"AECMaximumTubeCurrent", "XRayTubeCurrentInmA"}),
        ("pitch", {"SpiralPitchFactor"}, {"SpiralPitchFactor", "TableFeedPerRotation"}),
        (
            "collimation",
            {"SingleCollimationWidth", "TotalCollimationWidth", "SliceThickness"},
            {"TotalCollimationWidth", "TableFeedPerRotation"},
        ),
        ("bow_tie", {"FilterType"}, {"FilterType"}),
        ("off_centre", {"TableHeight"}, {"TableHeight"}),
        (
            "other_organ",
            {"AcquisitionStartLocation", "AcquisitionEndLocation"},
            {"AcquisitionStartLocation", "AcquisitionEndLocation"},
        ),
        ("contrast", {"ContrastBolusAgent"}, {"ContrastBolusAgent"}),
        ("image_quality", {"ConvolutionKernel", "SliceThickness"}, set()),
        ("rotations_x4", {"NumberOfRotations"}, {"NumberOfRotations"}),
        ("localizer_current", {"XRayTubeCurrentInmA"}, {"XRayTubeCurrentInmA", "Exposure"}),
    ],
)
def test_touches_its_own_fields_and_what_follows_from_them(name: str, may: set[str], must: set[str]) -> None:
    for old, new in _one(name):
        changed = _differ(old, new)
        assert must <= changed <= may | FIGURES
        assert new.context == old.context


@pytest.mark.parametrize(("name", "low", "high"), [
    ("aec_off", 1.5, 2.3), ("aec_reference_moved", 1.5, 2.3), ("aec_capped", 0.25, 0.45), ("rotations_x4", 3.8, 4.2),
    ("localizer_current", 2.9, 80.0),
])  # fmt: skip
def test_doses_are_what_was_meant(name: str, low: float, high: float) -> None:
    factors = [effect_of(old, [new], [0]).dose_factor for old, new in _one(name)]
    assert all(f is not None and low <= f <= high for f in factors)


def test_aec_off_sends_a_round_current_and_nothing_that_steers() -> None:
    for old, new in _one("aec_off"):
        ma = _number(new, "XRayTubeCurrentInmA")
        model = next(m for m in MODELS if m.name == new.device.model)
        assert ma % 25 == 0 or (ma <= 100 and ma % 10 == 0) or ma == max_ma(model, _number(new, "KVP"))
        assert not STEERING & new.parameters.keys()
        assert old.parameters["ExposureModulationType"] != "NONE"


def test_a_moved_reference_stays_within_the_limits_and_agrees_with_the_current() -> None:
    free = 0
    for old, new in _one("aec_reference_moved"):
        ratio = _number(new, "XRayTubeCurrentInmA") / _number(old, "XRayTubeCurrentInmA")
        assert _number(new, "XRayTubeCurrentInmA") <= _number(new, "AECMaximumTubeCurrent")
        if "NoiseIndex" in old.parameters:
            wanted = (_number(old, "NoiseIndex") / _number(new, "NoiseIndex")) ** 2
        else:
            wanted = _number(new, "QualityReferenceMAs") / _number(old, "QualityReferenceMAs")
        if _number(new, "XRayTubeCurrentInmA") < _number(new, "AECMaximumTubeCurrent") - 5:
            assert ratio == pytest.approx(wanted, rel=0.06)
            free += 1
    assert free > 30


def test_ranges_move_and_keep_their_length_and_direction() -> None:
    for old, new in _one("other_organ"):
        shift = _number(new, "AcquisitionStartLocation") - _number(old, "AcquisitionStartLocation")
        length = _number(old, "ScanLength")
        assert 0.49 * length <= abs(shift) <= 1.01 * length
        for name in ("AcquisitionStartLocation", "AcquisitionEndLocation"):
            assert abs(_number(new, name)) <= 2000
        end = _number(new, "AcquisitionEndLocation") - _number(old, "AcquisitionEndLocation")
        assert end == pytest.approx(shift, abs=0.51)


def test_the_table_leaves_the_centre() -> None:
    for old, new in _one("off_centre"):
        assert 39.5 <= abs(_number(new, "TableHeight") - _number(old, "TableHeight")) <= 80.5


def test_creep_raises_every_scan_and_no_localizer() -> None:
    for before, after, _ in _attacked("dose_creep"):
        several = 0
        for old, new in zip(before.commands, after.commands, strict=True):
            if kind_of(old) == LOCALIZER:
                assert new == old
            elif new != old:
                assert effect_of(old, [new], [0]).dose_factor == pytest.approx(1.25, rel=0.12)
                several += 1
        assert several > 1


def test_order_changed_moves_a_scan_forward_and_forgets_the_localizer_it_has_not_had() -> None:
    blind = 0
    for before, after, index in _attacked("order_changed"):
        moved, follower = after.commands[index - 1], after.commands[index]
        assert moved.parameters == before.commands[index].parameters
        assert follower.parameters == before.commands[index - 1].parameters
        assert moved.event == before.commands[index].event
        assert [c.order for c in after.commands] == [c.order for c in before.commands]
        localized = any(kind_of(c) == LOCALIZER for c in after.commands[: index - 1])
        if not localized:
            assert "WaterEquivalentDiameter" not in moved.context.parts
            blind += "WaterEquivalentDiameter" in before.commands[index].context.parts
        else:
            assert moved.context == before.commands[index].context
    assert blind > 20


def test_a_foreign_element_is_right_in_itself_and_of_another_objective() -> None:
    for before, after, index in _attacked("foreign_element"):
        put_in, host = after.commands[index + 1], before.commands[index]
        assert after.commands[: index + 1] == before.commands[: index + 1]
        assert after.commands[index + 2 :] == before.commands[index + 1 :]
        for name in ("ProtocolName", "BodyPartExamined", "PatientAge"):
            assert put_in.context.get(name) == host.context.get(name)
        donors = [c for e in DONORS.examinations for c in e.commands if c.parameters == put_in.parameters]
        assert any(
            c.text("RequestedProcedureDescription") != host.text("RequestedProcedureDescription")
            for c in donors
        )
        assert any(c.text("ProtocolElementName") == put_in.text("ProtocolElementName") for c in donors)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "renamed_protocol",
            {"ProtocolName", "BodyPartExamined", "RequestedProcedureDescription", "ProtocolElementName"},
        ),
        ("renamed_body_part", {"BodyPartExamined"}),
        ("forged_weight", {"PatientWeight"}),
        ("forged_age", {"PatientAge"}),
    ],
)
def test_context_attacks_touch_their_own_parts_of_every_command(name: str, fields: set[str]) -> None:
    for before, after, _ in _attacked(name):
        for old, new in zip(before.commands, after.commands, strict=True):
            assert new.parameters == old.parameters
            assert new.context.parts.keys() == old.context.parts.keys()
            changed = {n for n, told in old.context.parts.items() if new.context.parts[n] != told}
            assert changed
            assert changed <= fields
            for part, told in old.context.parts.items():
                assert [t.source for t in new.context.parts[part]] == [t.source for t in told]
        assert len({c.context.get(min(fields)) for c in after.commands}) == 1


def test_a_renamed_protocol_is_one_of_the_site_with_elements_of_its_own() -> None:
    book = {
        (c.device.key, c.text("ProtocolName"), kind_of(c), c.text("ProtocolElementName"))
        for e in DONORS.examinations
        for c in e.commands
    }
    for before, after, _ in _attacked("renamed_protocol"):
        for old, new in zip(before.commands, after.commands, strict=True):
            assert (
                new.device.key,
                new.text("ProtocolName"),
                kind_of(new),
                new.text("ProtocolElementName"),
            ) in book
            assert new.text("ProtocolName") != old.text("ProtocolName")


def test_forged_weights_and_ages_are_plausible_numbers() -> None:
    for old, new in _one("forged_weight"):
        a, b = _number(old, "PatientWeight"), _number(new, "PatientWeight")
        assert abs(abs(math.log(b / a)) - math.log(1.6)) < 0.08
        assert 0.5 <= b <= 350
        assert (b == round(b)) or a != round(a)
    for old, new in _one("forged_age"):
        a, b = _number(old, "PatientAge"), _number(new, "PatientAge")
        assert a < 13
        assert 5.0 < b - a <= 6.0
        assert new.context.parts["PatientAge"][0].source is Source.WORKLIST


def test_a_real_device_gets_its_table_by_the_ratio_of_the_beams() -> None:
    """Without a maker's table: feed and speed go with the width, time against it, current and dose stay."""
    keep = ("AcquisitionType", "KVP", "XRayTubeCurrentInmA", "SpiralPitchFactor", "SingleCollimationWidth",
            "TotalCollimationWidth", "TableFeedPerRotation", "TableSpeed", "ExposureTimeInms", "CTDIvol")  # fmt: skip
    sparse = [_as_recorded(e, keep) for e in LATER]
    donors, rng, seen = Donors(sparse), np.random.default_rng(1), 0
    for examination in sparse:
        for index in HELD_OUT["collimation"].eligible(examination):
            changed = HELD_OUT["collimation"].apply(examination, index, rng, donors)
            if changed is None:
                continue
            old, new = examination.commands[index], changed.commands[index]
            assert kind_of(old) == SPIRAL
            width = _number(new, "TotalCollimationWidth") / _number(old, "TotalCollimationWidth")
            assert width != 1
            for name, factor in (
                ("TableFeedPerRotation", width),
                ("TableSpeed", width),
                ("ExposureTimeInms", 1 / width),
            ):
                assert _number(new, name) == pytest.approx(_number(old, name) * factor, rel=0.02)
            assert _number(new, "CTDIvol") == _number(old, "CTDIvol")
            seen += 1
    assert seen > 50


# --- the oracle -------------------------------------------------------------------------------------------
class TestOracle:
    def test_it_finds_nearly_all_and_stays_at_budget(self) -> None:
        result = check(seed=1, examinations=600, attacked=16, catalogue={"null": ATTACKS["null"], **HELD_OUT})
        assert result.found["null"] <= 0.05
        hard = {
            "dose_creep",
            "forged_weight",
        }  # a quarter more dose, and a head's size says nothing of weight
        for name, found in result.found.items():
            if name not in hard | {"null"}:
                assert found >= 0.7, name
        assert all(0.2 < result.found[name] <= 1 for name in hard)

    def test_clean_commands_are_never_impossible_whatever_the_level(self) -> None:
        """Protocols, models and software not seen elsewhere follow the same laws, body part and procedure too."""
        for site in (new_protocols_site(11), new_model_site(11), updated_site(11)):
            oracle = Oracle(site)
            assert max(score for e in site.examinations(80) for score in oracle.scores(e)) < 12

    def test_creep_is_told_by_all_scans_together(self) -> None:
        """The last scan is more suspicious when those before it crept as well."""
        oracle, gains = Oracle(SITE), []
        for before, after, _ in _attacked("dose_creep"):
            changed = [i for i, c in enumerate(after.commands) if c != before.commands[i]]
            commands = list(before.commands)
            commands[changed[-1]] = after.commands[changed[-1]]
            alone = oracle.scores(Examination("x", tuple(commands)))[changed[-1]]
            gains.append(oracle.scores(after)[changed[-1]] - alone)
        assert float(np.mean(gains)) > 0.3

    def test_another_body_part_is_impossible_and_the_own_one_is_not(self) -> None:
        oracle = Oracle(SITE)
        for before, after, index in _attacked("renamed_body_part")[:40]:
            assert oracle.scores(after)[index] > 25 > oracle.scores(before)[index]

    def test_a_forged_weight_is_told_by_height_and_better_by_size(self) -> None:
        """Before the localizer the height alone speaks; on trunks its size tells the weight within a tenth."""
        oracle = Oracle(SITE)
        by_height: list[float] = []
        by_size: list[float] = []
        for before, after, index in _attacked("forged_weight"):
            command = before.commands[index]
            sized = command.number("WaterEquivalentDiameter") is not None
            rise = oracle.scores(after)[index] - oracle.scores(before)[index]
            if sized and command.text("BodyPartExamined") in ("CHEST", "ABDOMENPELVIS"):
                by_size.append(rise)
            elif not sized and command.number("PatientSize") is not None:
                by_height.append(rise)
        assert min(len(by_height), len(by_size)) > 15
        assert float(np.mean(by_height)) > 0.5
        assert float(np.median(by_size)) > 7

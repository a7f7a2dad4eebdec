"""The catalogue of attacks and the oracle: every attack does what it says and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanward.commands import Command, Device, Examination, Source
from scanward.simulation import ATTACKS, MODELS, Donors, Site
from scanward.simulation.check import check
from scanward.simulation.likelihood import NEVER
from scanward.simulation.oracle import Oracle
from scanward.simulation.physics import consequences, max_ma

SITE = Site(5)
DONORS = Donors(SITE.examinations(800))
LATER = SITE.examinations(300, start=2000)
UNITS = {"CTDIvol": 0.01, "DLP": 0.1, "Exposure": 1.0, "ExposureTimeInms": 10.0}


def _attacked(name: str) -> list[tuple[Examination, Examination, int]]:
    attack, rng, out = ATTACKS[name], np.random.default_rng(7), []
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


@pytest.mark.parametrize("name", ATTACKS)
def test_applies_to_most_eligible_commands(name: str) -> None:
    eligible = sum(len(ATTACKS[name].eligible(e)) for e in LATER)
    assert eligible > 0
    assert len(_attacked(name)) >= 0.5 * eligible


@pytest.mark.parametrize("name", ATTACKS)
def test_changes_the_attacked_commands_alone_and_stays_consistent(name: str) -> None:
    attack = ATTACKS[name]
    for before, after, index in _attacked(name):
        attacked = attack.attacked_indices(before, after, index)
        assert attacked, name
        for i, command in enumerate(after.commands):
            if i not in attacked:
                assert command == before.commands[i]
            if attack.breaks:
                continue
            assert _consistent(command), (name, command.parameters)
            kvp, ma = command.number("KVP"), command.number("XRayTubeCurrentInmA")
            assert kvp is not None
            assert ma is not None
            model = next(m for m in MODELS if m.name == command.device.model)
            assert ma <= max_ma(model, kvp)
        assert len({c.event for c in after.commands}) == len(after.commands)
        times = [c.acquired_at or 0.0 for c in after.commands]
        assert times == sorted(times)


def test_null_changes_nothing() -> None:
    for before, after, index in _attacked("null"):
        assert after == before
        assert ATTACKS["null"].attacked_indices(before, after, index) == (index,)


@pytest.mark.parametrize(
    ("name", "factor"), [("dose_x0.3", 0.3), ("dose_x1.5", 1.5), ("dose_x3", 3), ("dose_x8", 8)]
)
def test_dose_attacks_reach_their_factor(name: str, factor: float) -> None:
    for before, after, index in _attacked(name):
        old, new = before.commands[index].number("CTDIvol"), after.commands[index].number("CTDIvol")
        assert old is not None
        assert new is not None
        assert new == pytest.approx(old * factor, rel=0.12, abs=0.02)


def test_kept_dose_breaks_the_identity_it_means_to_break() -> None:
    for before, after, index in _attacked("ma_x3_dose_kept"):
        assert after.commands[index].number("CTDIvol") == before.commands[index].number("CTDIvol")
        assert not _consistent(after.commands[index])


def test_forged_patient_leaves_the_localizer_and_all_parameters() -> None:
    for before, after, _ in _attacked("forged_patient"):
        for old, new in zip(before.commands, after.commands, strict=True):
            assert new.parameters == old.parameters
            assert new.context.parts.get("WaterEquivalentDiameter") == old.context.parts.get(
                "WaterEquivalentDiameter"
            )
            a, b = old.number("PatientAge"), new.number("PatientAge")
            assert a is not None
            assert b is not None
            assert (a < 16) != (b < 16)
            assert new.context.parts["PatientAge"][0].source is Source.WORKLIST


def test_wrong_objective_keeps_the_context_and_changes_the_command() -> None:
    for before, after, index in _attacked("wrong_objective"):
        assert after.commands[index].context == before.commands[index].context
        assert after.commands[index].parameters != before.commands[index].parameters


@pytest.mark.parametrize("name", ATTACKS)
def test_same_generator_state_gives_the_same_attack(name: str) -> None:
    attack = ATTACKS[name]
    for examination in LATER[:40]:
        for index in attack.eligible(examination):
            a = attack.apply(examination, index, np.random.default_rng(3), DONORS)
            assert a == attack.apply(examination, index, np.random.default_rng(3), DONORS)


def _as_recorded(examination: Examination, keep: tuple[str, ...]) -> Examination:
    """The same commands as a sparse recording of a real device would hold them."""
    return Examination(
        examination.identifier,
        tuple(
            replace(
                c,
                parameters={n: v for n, v in c.parameters.items() if n in keep},
                device=Device("Maker", "X"),
            )
            for c in examination.commands
        ),
    )


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(
    "keep",
    [
        (),
        ("KVP", "XRayTubeCurrentInmA", "Exposure", "CTDIvol", "SpiralPitchFactor", "TotalCollimationWidth"),
        ("CTDIvol", "DLP"),
        ("AcquisitionType", "KVP", "XRayTubeCurrentInmA", "RevolutionTime", "ScanLength", "DLP", "CTDIvol"),
    ],
)
def test_sparse_recordings_get_no_field_they_did_not_have(name: str, keep: tuple[str, ...]) -> None:
    attack, rng = ATTACKS[name], np.random.default_rng(1)
    sparse = [_as_recorded(e, keep) for e in LATER[:60]]
    donors = Donors(sparse)
    for examination in sparse:
        for index in attack.eligible(examination):
            changed = attack.apply(examination, index, rng, donors)
            if changed is None:
                continue
            if name == "null":
                assert changed == examination
            for i in attack.attacked_indices(examination, changed, index):
                assert set(changed.commands[i].parameters) <= set(keep)


def test_a_real_device_gets_its_dose_by_ratio() -> None:
    keep = ("AcquisitionType", "KVP", "XRayTubeCurrentInmA", "RevolutionTime", "ScanLength", "DLP", "CTDIvol")
    sparse = [_as_recorded(e, keep) for e in LATER]
    donors, rng, seen = Donors(sparse), np.random.default_rng(1), 0
    for examination in sparse:
        for index in ATTACKS["range_x3"].eligible(examination):
            changed = ATTACKS["range_x3"].apply(examination, index, rng, donors)
            old = examination.commands[index]
            if changed is None or not old.number("DLP"):
                continue
            new = changed.commands[index]
            assert new.number("CTDIvol") == old.number("CTDIvol")
            assert (new.number("DLP") or 0.0) > 1.5 * (old.number("DLP") or 0.0)
            seen += 1
    assert seen > 100


def test_an_index_outside_the_examination_is_refused() -> None:
    for attack in ATTACKS.values():
        assert attack.apply(LATER[0], 99, np.random.default_rng(0), DONORS) is None
        assert attack.apply(LATER[0], -1, np.random.default_rng(0), DONORS) is None


class TestOracle:
    def test_clean_commands_are_never_impossible(self) -> None:
        """The law it uses is the law they were drawn from: nothing clean meets a factor of zero."""
        oracle = Oracle(SITE)
        worst = max(score for e in SITE.examinations(1000, start=5000) for score in oracle.scores(e))
        assert worst < 12 < -NEVER / 2

    def test_one_score_per_command_and_unknown_protocols_stand_out(self) -> None:
        oracle = Oracle(SITE)
        assert len(oracle.scores(LATER[0])) == len(LATER[0].commands)
        other = Examination("x", tuple(replace(c, device=Device("A", "B")) for c in LATER[0].commands))
        assert oracle.scores(other) == [-NEVER] * len(LATER[0].commands)
        assert oracle.scores(Examination("x", ())) == []

    def test_it_finds_nearly_all_but_the_small_dose(self) -> None:
        result = check(seed=1, examinations=1500, attacked=50)
        assert result.found["null"] <= 0.05
        assert 0.25 < result.found["dose_x1.5"] < 0.9
        for name, found in result.found.items():
            if name not in ("null", "dose_x1.5"):
                assert found >= 0.7, name
        real = [found for name, found in result.found.items() if name != "null"]
        assert float(np.mean(real)) > 0.88

    def test_a_narrow_aec_makes_small_doses_visible(self) -> None:
        narrow = check(seed=1, examinations=400, attacked=25, spread=0.05)
        wide = check(seed=1, examinations=400, attacked=25, spread=0.20)
        assert narrow.found["dose_x1.5"] > 0.9 > wide.found["dose_x1.5"] + 0.3

    def test_two_milliseconds_a_command(self) -> None:
        assert check(seed=2, examinations=300, attacked=1).milliseconds < 2

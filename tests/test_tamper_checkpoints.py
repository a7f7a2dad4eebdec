"""Checkpoints: whole or passed over, never half believed; and only the same training goes on from them."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.torch import save_file

from _tamper import domains, phantoms, tiny
from scanward.errors import DecodeError, InputError, LearningError
from scanward.tampering import checkpoints
from scanward.tampering.checkpoints import Facts, load_run, newest, read, same_training, write
from scanward.tampering.running import Settings, Trained, train
from scanward.tampering.state import State

CPU = torch.device("cpu")
QUICK = Settings(device="cpu", threads=1, save_seconds=0, sheet_steps=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms(tmp_path_factory.mktemp("data") / "phantoms")


def facts(step: int = 7, **options: str) -> Facts:
    return Facts(
        preset=tiny(**options),
        step=step,
        seed=1,
        world=1,
        data="0" * 64,
        kind="made",
        phantom=True,
        healthy=2,
        cancer=2,
        patients=checkpoints.hashed({"a", "b"}),
        created="2026-01-01T00:00:00+00:00",
        scanward="0",
        torch="0",
    )


def trained(data: Path, run: Path, stop_at: int, **options: str) -> Trained:
    preset = tiny(optimiser__steps="12", optimiser__ema="0.9", **options)
    return train(data, preset, run, settings=replace_settings(stop_at))


def replace_settings(stop_at: int) -> Settings:
    return Settings(device="cpu", threads=1, save_seconds=0, sheet_steps=0, stop_at=stop_at)


def weights(run: Path) -> bytes:
    tensors = newest(run)[0]
    return b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    run = tmp_path_factory.mktemp("undisturbed")
    trained(data, run, 12)
    return weights(run)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = State(tiny(optimiser__ema="0.9"), 9, 0, CPU)
    tensors = state.tensors() | {"cancer_pool.0.kept": torch.full((3, 2, 16, 16), float("-inf"))}
    path = write(tmp_path, tensors, facts())
    assert path.name == "checkpoint-000000007.safetensors"
    found, told = read(path)
    assert told == facts()
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype
    assert not list(tmp_path.glob("*.part"))


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        write(tmp_path, {"a": torch.ones(1)}, facts(step))
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == [
        "checkpoint-000000003.safetensors",
        "checkpoint-000000010.safetensors",
    ]


def test_every_patient_stands_in_it_without_a_name(data: Path, tmp_path: Path) -> None:
    made = trained(data, tmp_path / "run", 1)
    assert len(made.facts.patients) == 6
    assert all(len(one) == 64 for one in made.facts.patients)
    assert b"phantom-5-" not in made.checkpoint.read_bytes()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    save_file({"weight": torch.ones(3)}, path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _another(path: Path) -> None:
    older = checkpoints.checkpoints(path.parent)[0]
    path.write_bytes(older.read_bytes())  # whole, of another step


@pytest.mark.parametrize("damage", [_cut, _flip, _foreign, _empty, _another])
def test_a_damaged_newest_one_is_passed_over_and_does_not_come_back(
    data: Path, tmp_path: Path, undisturbed: bytes, damage: object
) -> None:
    assert callable(damage)
    run = tmp_path / "run"
    trained(data, run, 8)
    before, newer = checkpoints.checkpoints(run)
    damage(newer)
    bad = newer.read_bytes()
    assert load_run(run).step == 7  # whoever applies the model gets the one before, and is told
    assert "passed over" in load_run(run).remarks[0]
    went_on = trained(data, run, 7)
    assert (went_on.begun_at, went_on.checkpoint) == (7, before)
    assert newer.name in went_on.remarks[0]
    # a few steps on, with the damaged file of step 8 replaced by a whole one of the same name
    assert trained(data, run, 12).begun_at == 7
    assert weights(run) == undisturbed
    assert load_run(run).remarks == ()
    assert all(path.read_bytes() != bad for path in checkpoints.checkpoints(run))


def test_damaged_ones_of_later_steps_neither_win_nor_push_whole_ones_out(
    data: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    run = tmp_path / "run"
    trained(data, run, 5)
    for step in (100, 200, 300):  # all newer by name than anything that comes
        (run / checkpoints.name_of(step)).write_bytes(b"damaged")
    assert trained(data, run, 6).begun_at == 5
    assert [path.name for path in checkpoints.checkpoints(run)] == [checkpoints.name_of(s) for s in (5, 6)]
    assert len(list(run.glob("*.damaged"))) == 3  # kept for whoever asks why
    made = trained(data, run, 12)
    assert made.begun_at == 6
    assert made.remarks == ()
    assert weights(run) == undisturbed


def test_without_a_whole_one_it_is_an_error_and_nothing_is_lost(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(data, run, 4)
    for path in checkpoints.checkpoints(run):
        _cut(path)
    left = {path: path.read_bytes() for path in checkpoints.checkpoints(run)}
    for attempt in (lambda: trained(data, run, 12), lambda: load_run(run)):
        with pytest.raises(DecodeError, match="checkpoint"):
            attempt()
    assert {path: path.read_bytes() for path in checkpoints.checkpoints(run)} == left
    with pytest.raises(InputError, match="no checkpoint here"):
        load_run(tmp_path)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    return write(folder, State(tiny(), 9, 0, CPU).tensors(), facts())


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_damage_is_found_or_harmless(one: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(one.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        within = data.draw(st.sampled_from([8, header, len(content)]))
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, within - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / one.name
    path.write_bytes(content)
    try:
        tensors, _ = read(path)
    except InputError:
        return
    right = read(one)[0]
    assert tensors.keys() == right.keys()
    assert all(torch.equal(tensors[name], right[name]) for name in right)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{}",
        b'{"__metadata__": 5}',
        b'{"__metadata__": {"scanward": 5}}',
        b'{"__metadata__": {"scanward": "{}", "sha256": ""}}',
        b'{"__metadata__": {"sha256": ""}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_headers_that_are_none_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "checkpoint-000000001.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(DecodeError):
        read(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + header)
    with pytest.raises(DecodeError):
        read(path)


def _rewritten(path: Path, change: dict[str, object], *, sealed: bool = True) -> None:
    """The checkpoint with facts altered, ``sealed`` with a hash that fits them; its tensors as they were."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    told = json.loads(header["__metadata__"]["scanward"]) | change
    header["__metadata__"]["scanward"] = json.dumps(told)
    if sealed:
        fits = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        header["__metadata__"]["scanward_sha256"] = fits
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        {"step": 8},
        {"format": "scanward-tampering-2"},
        {"extra": 1},
        {"preset": {"name": "x"}},
        {"seed": "one"},
    ],
)
def test_facts_that_contradict_are_refused(one: Path, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / one.name
    path.write_bytes(one.read_bytes())
    _rewritten(path, {})
    read(path)
    _rewritten(path, change)
    with pytest.raises(DecodeError):
        read(path)


def test_damaged_facts_are_found(one: Path, tmp_path: Path) -> None:
    """A woman dropped from the list of those trained on would be tested on."""
    path = tmp_path / one.name
    path.write_bytes(one.read_bytes())
    _rewritten(path, {"patients": []}, sealed=False)
    with pytest.raises(DecodeError, match="altered"):
        read(path)
    _rewritten(path, {"patients": []})
    assert read(path)[1].patients == ()


def test_weights_of_another_preset_do_not_fit(one: Path, tmp_path: Path) -> None:
    tensors = State(tiny(generator__filters="3"), 9, 0, CPU).tensors()
    path = write(tmp_path, tensors, facts())
    with pytest.raises(DecodeError, match="do not fit"):
        load_run(path)
    fits = read(one)[0]
    for name, wrong in (
        ("generator_adam.0.exp_avg", torch.ones(1)),
        ("cancer_pool.0.filled", torch.tensor(99)),
        ("cancer_pool.0.filled", torch.tensor(-1)),
        ("cancer_pool.0.kept", torch.ones(1, 1)),
        ("generator_adam.x.step", torch.ones(1)),
    ):
        with pytest.raises(DecodeError, match="does not fit"):
            State(tiny(), 9, 0, CPU).load(fits | {name: wrong}, 7, one)


def test_only_the_same_training_goes_on(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(data, run, 3)
    left = {path: path.read_bytes() for path in checkpoints.checkpoints(run)}
    preset = tiny(optimiser__steps="12", optimiser__ema="0.9")
    attempts = {
        "preset scanward-64": (tiny(name="reference-64"), QUICK, data),
        "other options of preset scanward-64": (
            tiny(optimiser__steps="13", optimiser__ema="0.9"),
            QUICK,
            data,
        ),
        "seed 0": (preset, Settings(seed=9, device="cpu", save_seconds=0), data),
        "other images": (preset, QUICK, phantoms(tmp_path / "others", patients=8)),
    }
    for said, (other, how, source) in attempts.items():
        with pytest.raises(InputError, match=f"begun with .*{said}"):
            train(source, other, run, settings=how)
        assert {path: path.read_bytes() for path in checkpoints.checkpoints(run)} == left
    with pytest.raises(InputError, match="4 processes"):
        same_training(replace(facts(), world=4), facts(), run)
    same_training(facts(), replace(facts(3), created="later"), run)


def test_a_run_gives_the_averaged_generators_ready_to_use(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(data, run, 3)
    loaded = load_run(run)
    tensors = newest(run)[0]
    network = loaded.generator("insert")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network.head[0].weight, tensors["averaged.insert.head.0.weight"])
    assert not torch.equal(network.head[0].weight, tensors["insert.head.0.weight"])
    assert (loaded.step, loaded.preset.name) == (3, "scanward-64")
    assert loaded.fingerprint == load_run(loaded.path).fingerprint
    trained(data, run, 4)
    assert loaded.fingerprint != load_run(run).fingerprint
    x = torch.zeros(1, 2, 16, 16)
    assert torch.equal(network(x), loaded.generator("insert")(x))


def test_diverged_weights_are_not_saved(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of a step are those before its weights change: they can be finite when the weights are not."""
    average = State.average

    def spoilt(self: State, decay: float) -> None:
        average(self, decay)
        if self.step == 3:
            with torch.no_grad():
                next(self.insert.parameters()).fill_(float("inf"))

    monkeypatch.setattr(State, "average", spoilt)
    run = tmp_path / "run"
    with pytest.raises(LearningError, match=r"step 3.*diverged"):
        trained(data, run, 12)
    tensors, told, _, remarks = newest(run)
    assert told.step == 2
    assert remarks == []
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_nothing_of_a_state_is_forgotten() -> None:
    """Everything that changes in a step is in `tensors`: two steps apart, every group of names differs."""
    from scanward.tampering.batches import Batches
    from scanward.tampering.training import steps

    preset = tiny(optimiser__ema="0.9", discriminator__layers="2", rows="32", columns="32")
    state = State(preset, 9, 0, CPU)
    running = steps(state, Batches(domains(4, 4, 32), preset, 0, CPU), preset)
    next(running)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    next(running)
    after = state.tensors()
    groups = {name.split(".")[0] for name in after}
    assert groups == {
        *("insert", "remove", "judge_cancer", "judge_healthy", "averaged"),
        *("generator_adam", "discriminator_adam", "cancer_pool", "healthy_pool"),
    }
    for group in groups:
        names = [name for name in after if name.split(".")[0] == group]
        assert any(not torch.equal(before[name], after[name]) for name in names), group

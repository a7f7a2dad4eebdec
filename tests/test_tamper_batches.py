"""What a step is shown: the same whenever it is asked, every picture in its turn, regions that move with the grey."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from _tamper import domains, tiny
from scanward.tampering.batches import Batch, Batches, augment, put_inside
from scanward.tampering.presets import Augmentation

CPU = torch.device("cpu")
AUGMENTED = {
    "augmentation__share": "0.9",
    "augmentation__rotate": "10",
    "augmentation__shift": "0.1",
    "augmentation__scale": "[0.9, 1.1]",
    "augmentation__contrast": "[0.8, 1.2]",
}


def same(a: Batch, b: Batch) -> bool:
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("healthy", "cancer", "healthy_region", "cancer_region")
    )


def numbers(pictures: torch.Tensor) -> list[int]:
    """Which pictures of `domains` these are."""
    return [round(float(picture.mean()) * 32767) for picture in pictures]


def test_a_batch_is_a_function_of_seed_step_and_rank() -> None:
    preset = tiny(optimiser__batch="3", **AUGMENTED)
    one = Batches(domains(7, 5), preset, 11, CPU)
    asked = [(4, 0, 2), (0, 1, 2), (4, 1, 2), (9, 0, 2)]
    first = {where: one(*where) for where in asked}
    other = Batches(domains(7, 5), preset, 11, CPU)
    for where in reversed(asked):  # in another order, by another object
        assert same(first[where], other(*where))
    assert not same(first[4, 0, 2], first[4, 1, 2])
    assert not same(first[4, 0, 2], Batches(domains(7, 5), preset, 12, CPU)(4, 0, 2))
    streams = {one.stream(step, rank) for step in range(50) for rank in range(3)}
    assert len(streams) == 150
    assert one.stream(3, 1) == other.stream(3, 1)


def test_neither_torch_nor_numpy_s_own_state_is_used() -> None:
    one = Batches(domains(4, 4), tiny(**AUGMENTED), 0, CPU)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = one(3)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert same(first, one(3))
    torch.set_rng_state(state)


def test_no_picture_of_the_larger_domain_is_left_unused() -> None:
    """The low-resolution code of the study shuffled both domains by one permutation of the smaller one's length."""
    batches = Batches(
        domains(23, 5), tiny(name="reference", optimiser__batch="2", augmentation__share="0"), 3, CPU
    )
    healthy: Counter[int] = Counter()
    cancer: Counter[int] = Counter()
    pairs = set()
    for step in range(23):  # 46 of each: two passes of the larger domain
        batch = batches(step)
        healthy.update(numbers(batch.healthy))
        cancer.update(numbers(batch.cancer))
        pairs |= set(zip(numbers(batch.healthy), numbers(batch.cancer), strict=True))
        if step == 11:
            assert len(healthy) == 23
    assert healthy == Counter(dict.fromkeys(range(23), 2))
    assert set(cancer) == set(range(5))
    assert set(cancer.values()) <= {9, 10}
    assert len(pairs) > 23  # unpaired: not the same two together in every pass


def test_processes_share_a_pass_between_them() -> None:
    preset = tiny(name="reference", optimiser__batch="2", augmentation__share="0")
    batches = Batches(domains(24, 24), preset, 4, CPU)
    seen: list[int] = []
    for step in range(4):
        ranks = [numbers(batches(step, rank, 3).healthy) for rank in range(3)]
        assert len({number for rank in ranks for number in rank}) == 6  # disjoint
        seen += [number for rank in ranks for number in rank]
    assert sorted(seen) == list(range(24))
    # three processes of two see in a step what one process of six does
    alone = Batches(
        domains(24, 24), tiny(name="reference", optimiser__batch="6", augmentation__share="0"), 4, CPU
    )
    together = torch.cat([batches(2, rank, 3).healthy for rank in range(3)])
    assert torch.equal(together, alone(2).healthy)


def test_the_sheets_take_no_batch_of_training() -> None:
    from scanward.tampering.sheets import SHEET_STEP, samples

    preset = tiny()
    batches = Batches(domains(9, 4), preset, 5, CPU)
    first = samples(batches, preset, "insert")
    again = samples(batches, preset, "insert")
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape == first[1].shape == (6, 1, 16, 16)
    assert SHEET_STEP > 10**10


def test_healthy_pictures_get_the_shape_of_a_cancer_inside_the_breast() -> None:
    prepared = domains(6, 4)
    batches = Batches(prepared, tiny(optimiser__batch="4"), 6, CPU)
    places = set()
    for step in range(20):
        batch = batches(step)
        for region in batch.healthy_region[:, 0].numpy() > 0:
            # 3 x 3, and the margin of one pixel round it
            inner = ndimage.binary_erosion(region, np.ones((3, 3)))
            assert (inner.sum(), region.sum()) == (9, 25)
            assert (prepared.healthy.breast[0][inner] == 1).all()
            places.add(tuple(np.argwhere(inner)[0]))
        for region in batch.cancer_region[:, 0].numpy() > 0:
            assert np.array_equal(region, ndimage.binary_dilation(prepared.cancer.region[0], np.ones((3, 3))))
    assert len(places) > 10
    assert set(np.unique(batch.healthy_region.numpy())) == {-1.0, 1.0}


@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(8, 40))
@settings(max_examples=60)
def test_a_region_is_put_inside_whatever_there_is(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    shape = random.random((rows, columns)) < random.choice([0, 0.02, 0.3])
    breast = random.random((rows, columns)) < random.choice([0, 0.5, 1])
    found = put_inside(shape, breast, random)
    assert found.shape == (rows, columns)
    assert found.sum() <= shape.sum()
    if shape.any() and breast.any():
        assert found.any()
    else:
        assert not found.any()


arrangements = st.builds(
    Augmentation,
    share=st.just(1.0),
    rotate=st.floats(0, 15),
    scale=st.tuples(st.floats(0.8, 1.0), st.floats(1.0, 1.2)),
    shift=st.floats(0, 0.1),
    flip_rows=st.booleans(),
)


@given(arrangements, st.integers(0, 10**6), st.sampled_from([(32, 32), (48, 32), (32, 44)]), st.booleans())
@settings(max_examples=80)
def test_the_region_moves_with_the_grey(
    how: Augmentation, seed: int, shape: tuple[int, int], at_the_wall: bool
) -> None:
    region = np.zeros((2, 1, *shape), np.float32)
    if at_the_wall:  # in a corner, where turning moves it most
        region[:, :, 3:13, :12] = 1
    else:
        region[:, :, 10:20, 6:16] = 1
    grey = torch.from_numpy(region * 2 - 1)
    moved, where = augment(grey, torch.from_numpy(region), how, np.random.default_rng(seed))
    assert moved.shape == where.shape == grey.shape
    inside, painted = where.numpy()[:, 0] > 0.5, moved.numpy()[:, 0] > 0
    for one, other in zip(inside, painted, strict=True):
        assert one.any()
        # they differ along the edge at most: one of them is interpolated, the other takes the nearest
        assert not (one & ~ndimage.binary_dilation(other, np.ones((3, 3)))).any()
        assert not (other & ~ndimage.binary_dilation(one, np.ones((3, 3)))).any()


@given(arrangements, st.integers(0, 10**6), st.sampled_from([(32, 32), (48, 32), (32, 44)]))
@settings(max_examples=80)
def test_the_chest_wall_stays_at_the_left_edge(how: Augmentation, seed: int, shape: tuple[int, int]) -> None:
    down, right = np.mgrid[: shape[0], : shape[1]]
    breast = (right / (0.7 * shape[1])) ** 2 + ((down - shape[0] / 2) / (0.35 * shape[0])) ** 2 < 1
    grey = torch.from_numpy(np.where(breast, 0.5, -1).astype(np.float32))[None, None].repeat(2, 1, 1, 1)
    moved, _ = augment(grey, torch.zeros_like(grey), how, np.random.default_rng(seed))
    for picture in moved.numpy()[:, 0] > -0.2:
        first = np.argmax(picture, axis=1)[picture.any(1)]
        rows = np.flatnonzero(picture[:, 0])
        assert len(rows) > 0.4 * shape[0]  # it touches the edge along most of its height
        assert np.median(first) == 0  # and no gap opens between edge and breast
        assert picture[:, -1].sum() <= picture[:, 0].sum()


def test_a_shift_never_doubles_the_chest_wall() -> None:
    """It cuts tissue off at the wall or leaves it; it does not smear the wall's column over a gap."""
    grey = torch.linspace(0.9, -0.9, 32).repeat(50, 1, 32, 1)
    moved, _ = augment(
        grey, torch.zeros_like(grey), Augmentation(share=1.0, shift=0.1), np.random.default_rng(2)
    )
    steps = (moved[..., 0] - moved[..., 1])[:, 0, 5:-5]
    assert float(steps.min()) > 0.04
    assert float((moved[..., 0] - grey[..., 0]).max()) <= 1e-5


def test_the_background_stays_black_and_the_contrast_is_about_black() -> None:
    grey = torch.full((4, 1, 16, 16), -1.0)
    grey[:, :, :, :8] = -0.5
    how = Augmentation(share=1.0, contrast=(0.5, 1.5))
    made, _ = augment(grey, torch.zeros_like(grey), how, np.random.default_rng(0))
    assert bool((made[..., 8:] == -1).all())
    factors = (made[:, 0, 0, 0] + 1) / 0.5
    assert float(factors.min()) >= 0.5
    assert float(factors.max()) <= 1.5
    assert len(set(factors.tolist())) == 4


def test_the_share_says_how_many_passes_are_changed() -> None:
    how = Augmentation(share=0.3, rotate=20)
    random = np.random.default_rng(1)
    grey = torch.rand((400, 1, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
    made, _ = augment(grey, torch.zeros_like(grey), how, random)
    changed = ((made - grey).abs().amax((1, 2, 3)) > 1e-3).float().mean()
    assert 0.22 < float(changed) < 0.38
    untouched, _ = augment(grey, torch.zeros_like(grey), Augmentation(share=0.0, rotate=20), random)
    assert torch.equal(untouched, grey)

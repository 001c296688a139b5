"""Masks: exact counts, uniform choice, True = hidden; cutting into patches and back."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.errors import InputError
from prsnet.models.masking import hidden_count, hide, mask_to_pixels, patch_grid, patchify, random_mask, unpatchify


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 300), st.integers(0, 999))
def test_hidden_count_is_the_floor_of_the_exact_product(patches: int, thousandths: int) -> None:
    exact = Fraction(thousandths, 1000) * patches
    assert hidden_count(patches, thousandths / 1000) == exact.numerator // exact.denominator


@given(st.integers(0, 5), st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.999), st.integers(0, 2**31))
@settings(max_examples=50)
def test_every_row_hides_exactly_the_count(batch: int, rows: int, columns: int, ratio: float, seed: int) -> None:
    mask = random_mask(batch, (rows, columns), ratio, generator=generator(seed))
    assert mask.dtype == torch.bool
    assert mask.shape == (batch, rows * columns)
    assert mask.sum(dim=1).tolist() == [hidden_count(rows * columns, ratio)] * batch


def test_method_hides_192_of_256() -> None:
    assert random_mask(1, patch_grid((256, 128), (16, 8)), 0.75, generator=generator()).sum() == 192


def test_every_subset_is_equally_likely() -> None:
    draws = 60_000
    mask = random_mask(draws, (1, 5), 0.4, generator=generator(3))
    counts = Counter(tuple(row.nonzero().squeeze(1).tolist()) for row in mask)
    subsets = list(itertools.combinations(range(5), 2))
    expected = draws / len(subsets)
    chi_square = sum((counts[subset] - expected) ** 2 / expected for subset in subsets)
    assert set(counts) == set(subsets)
    assert chi_square < 27.9  # 0.999 quantile of chi-square with 9 degrees of freedom


def test_images_of_a_batch_are_masked_independently() -> None:
    mask = random_mask(40_000, (1, 4), 0.5, generator=generator(5))
    first, second = mask[0::2, 0], mask[1::2, 0]
    together = (first & second).double().mean().item()
    assert abs(together - 0.25) < 0.012  # four deviations of a mean of 20000


def test_same_stream_gives_the_same_mask_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = (random_mask(7, (4, 4), 0.75, generator=generator(9)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, random_mask(7, (4, 4), 0.75, generator=generator(10)))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 75.0, float("nan")])
def test_ratio_outside_its_range_is_named(ratio: float) -> None:
    with pytest.raises(InputError, match="mask ratio"):
        random_mask(1, (2, 2), ratio, generator=generator())


@pytest.mark.parametrize("patch", [(7, 4), (8, 5), (0, 4)])
def test_patch_that_does_not_divide_is_named(patch: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"patch {patch[0]}x{patch[1]}"):
        patch_grid((128, 64), patch)


def test_hide_sets_hidden_pixels_to_zero_and_no_other() -> None:
    images = torch.rand(3, 3, 12, 8, generator=generator()) + 1.0
    mask = random_mask(3, (3, 4), 0.5, generator=generator(1))
    hidden = hide(images, mask, (4, 2))
    for image, row, column in itertools.product(range(3), range(12), range(8)):
        patch = (row // 4) * 4 + column // 2
        expected = torch.zeros(3) if mask[image, patch] else images[image, :, row, column]
        assert torch.equal(hidden[image, :, row, column], expected)


def test_mask_to_pixels_agrees_with_patchify() -> None:
    mask = random_mask(2, (3, 5), 0.6, generator=generator(2))
    pixels = mask_to_pixels(mask, (3, 5), (2, 3))
    assert pixels.shape == (2, 6, 15)
    assert torch.equal(patchify(pixels[:, None], (2, 3)), mask[:, :, None].expand(-1, -1, 6))


@pytest.mark.parametrize(
    "mask", [torch.zeros(2, 3, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool), torch.zeros(2, 4)]
)
def test_mask_of_another_shape_or_type_is_refused(mask: torch.Tensor) -> None:
    with pytest.raises(InputError, match="mask of shape"):
        hide(torch.zeros(2, 3, 4, 4), mask, (2, 2))


shapes = st.tuples(*[st.integers(1, 4)] * 6)


@given(shapes)
def test_patchify_round_trip(shape: tuple[int, ...]) -> None:
    batch, channels, gh, gw, ph, pw = shape
    images = torch.arange(batch * channels * gh * ph * gw * pw).view(batch, channels, gh * ph, gw * pw)
    patches = patchify(images, (ph, pw))
    assert patches.shape == (batch, gh * gw, ph * pw * channels)
    assert torch.equal(unpatchify(patches, (gh, gw), (ph, pw)), images)


@given(shapes)
@settings(max_examples=25)
def test_patchify_follows_its_documented_order(shape: tuple[int, ...]) -> None:
    batch, channels, gh, gw, ph, pw = shape
    images = torch.arange(batch * channels * gh * ph * gw * pw).view(batch, channels, gh * ph, gw * pw)
    patches = patchify(images, (ph, pw))
    for number in range(gh * gw):
        top, left = number // gw * ph, number % gw * pw
        values = [
            images[0, channel, top + row, left + column].item()
            for row in range(ph)
            for column in range(pw)
            for channel in range(channels)
        ]
        assert patches[0, number].tolist() == values

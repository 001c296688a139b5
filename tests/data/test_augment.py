"""Augmentations against obvious ones, image by image; and their draws against the limits that the method gives."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prsnet.data.augment import (
    CropDraw,
    TrainDraw,
    apply_crops,
    apply_training,
    denormalise,
    draw_crops,
    draw_training,
    normalise,
    take_rows,
)
from prsnet.data.images import MEAN, STD

Floats = npt.NDArray[np.float64]
SIZE = (32, 16)


def images(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def by_hand(image: npt.NDArray[Any]) -> Floats:
    """Return (H, W, 3) values of 0..255 normalised, channels first."""
    scaled: Floats = (image.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    channels_first: Floats = scaled.transpose(2, 0, 1)
    return channels_first


def array(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    return image.permute(1, 2, 0).numpy()


def whole(count: int, **changes: Any) -> CropDraw:
    """Return a draw that keeps the images as they are, with changes."""
    zero, one = torch.zeros(count), torch.ones(count)
    values = {"top": zero, "left": zero, "height": one, "width": one, "flip": torch.zeros(count, dtype=torch.bool)}
    return CropDraw(**{**values, **{name: torch.tensor(value) for name, value in changes.items()}})


def still(count: int, pad: int, **changes: Any) -> TrainDraw:
    """Return a draw that keeps the images as they are, with changes."""
    values = {field.name: torch.zeros(count, dtype=torch.int64) for field in fields(TrainDraw)}
    values |= {"shift_down": torch.full((count,), pad), "shift_right": torch.full((count,), pad)}
    values["flip"] = torch.zeros(count, dtype=torch.bool)
    return TrainDraw(**{**values, **{name: torch.tensor(value) for name, value in changes.items()}})


# ------------------------------------------------------------------------------------------------ normalisation


def test_normalisation_is_that_of_imagenet_and_has_an_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    found = normalise(every)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), by_hand(array(every[0])), atol=1e-6)
    assert torch.equal(denormalise(found), every)
    assert torch.equal(denormalise(torch.full((1, 3, 1, 1), 1e9)), torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    assert torch.equal(normalise(every.float() / 255), found), "floats of 0..1 are taken as they are"


# ------------------------------------------------------------------------------------------------ pre-training


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    area=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(lambda pair: (min(pair), max(pair))),
    flip=st.floats(0, 1),
)
def test_crops_lie_inside_and_keep_to_area_and_shape(seed: int, area: tuple[float, float], flip: float) -> None:
    """The shape is relative to the image's own: as shares of height and width, 3/4 to 4/3 of 1."""
    draw = draw_crops(200, generator=torch.Generator().manual_seed(seed), area=area, flip=flip)
    for start, length in ((draw.top, draw.height), (draw.left, draw.width)):
        assert bool((start >= 0).all()) and bool((start + length <= 1 + 1e-6).all()) and bool((length > 0).all())
    kept = draw.height * draw.width
    shape = draw.width / draw.height
    is_whole = (draw.height == 1) & (draw.width == 1)
    fine = (kept >= area[0] - 1e-5) & (kept <= area[1] + 1e-5) & (shape >= 0.75 - 1e-4) & (shape <= 4 / 3 + 1e-4)
    assert bool((fine | is_whole).all())


def test_crops_are_spread_as_they_should_be() -> None:
    draw = draw_crops(20_000, generator=torch.Generator().manual_seed(1))
    kept = (draw.height * draw.width).numpy()
    shape = torch.log(draw.width / draw.height).numpy()
    assert kept.min() < 0.21 and kept.max() > 0.97
    # Uniform in 0.2..1 but for what does not fit: little is lost below half the area, where every shape fits.
    shares = [((kept > low) & (kept < low + 0.1)).mean() for low in (0.25, 0.35, 0.45)]
    assert max(shares) < 1.1 * min(shares)
    assert abs(shape.mean()) < 0.01, "as often wider as taller"
    assert np.quantile(shape, 0.99) == pytest.approx(math.log(4 / 3), rel=0.1)
    assert draw.flip.float().mean().item() == pytest.approx(0.5, abs=0.02)
    room = draw.height < 0.9
    assert (draw.top / (1 - draw.height))[room].mean().item() == pytest.approx(0.5, abs=0.02)


def test_no_shape_that_fits_gives_the_whole_image() -> None:
    """With the whole area asked for, only the image's own shape would fit, which is never drawn."""
    draw = draw_crops(50, generator=torch.Generator().manual_seed(0), area=(1.0, 1.0))
    assert bool((draw.height == 1).all()) and bool((draw.top == 0).all()) and bool((draw.left == 0).all())


def test_the_whole_image_is_itself() -> None:
    batch = images(3)
    np.testing.assert_allclose(apply_crops(batch, whole(3)), normalise(batch), atol=2e-5)


def test_a_flip_is_numpys() -> None:
    batch = images(2)
    found = apply_crops(batch, whole(2, flip=[True, False])).numpy()
    np.testing.assert_allclose(found[0], by_hand(array(batch[0])[:, ::-1]), atol=2e-5)
    np.testing.assert_allclose(found[1], by_hand(array(batch[1])), atol=2e-5)


def cubic(x: float, a: float = -0.75) -> float:
    """Return Keys's kernel with a = -0.75, as image libraries have it for enlarging."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def cut_by_hand(image: npt.NDArray[np.uint8], top: float, left: float, height: float, width: float) -> Floats:
    """Return the crop (shares of the image) enlarged to the image's size: bicubic, the edge repeated, no shrinking."""
    rows, columns, _ = image.shape

    def weights(start: float, length: float, size: int) -> Floats:
        matrix = np.zeros((size, size))
        for i in range(size):
            place = (start + (i + 0.5) / size * length) * size - 0.5
            for k in range(math.floor(place) - 1, math.floor(place) + 3):
                matrix[i, min(max(k, 0), size - 1)] += cubic(place - k)
        return matrix

    scaled = image.astype(np.float64) / 255
    cut = np.einsum("ij,jkc->ikc", weights(top, height, rows), scaled)
    cut = np.einsum("lk,ikc->ilc", weights(left, width, columns), cut)
    return by_hand(np.clip(cut, 0, 1) * 255)


@settings(deadline=None, max_examples=20)
@given(
    height=st.floats(0.3, 1), width=st.floats(0.3, 1), place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_crop_is_the_bicubic_one(height: float, width: float, place: tuple[float, float], seed: int) -> None:
    batch = images(1, seed=seed)
    top, left = place[0] * (1 - height), place[1] * (1 - width)
    found = apply_crops(batch, whole(1, top=[top], left=[left], height=[height], width=[width]))
    expected = cut_by_hand(array(batch[0]), top, left, height, width)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-3)


def test_a_flipped_crop_is_the_crop_mirrored() -> None:
    batch = images(1)
    place = {"top": [0.1], "left": [0.05], "height": [0.6], "width": [0.5]}
    plain, flipped = apply_crops(batch, whole(1, **place)), apply_crops(batch, whole(1, **place, flip=[True]))
    np.testing.assert_allclose(flipped.flip(3), plain, atol=1e-4)


# ------------------------------------------------------------------------------------------------ fine-tuning


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([(32, 16), (64, 32), (256, 128), (16, 16), (8, 64)]),
    pad=st.integers(0, 12),
    erase=st.floats(0, 1),
)
def test_draws_for_training_keep_to_their_limits(seed: int, size: tuple[int, int], pad: int, erase: float) -> None:
    height, width = size
    draw = draw_training(200, size, generator=torch.Generator().manual_seed(seed), pad=pad, erase=erase)
    for shift in (draw.shift_down, draw.shift_right):
        assert int(shift.min()) >= 0 and int(shift.max()) <= 2 * pad
    for start, length, side in (
        (draw.erase_top, draw.erase_height, height), (draw.erase_left, draw.erase_width, width)
    ):  # fmt: skip
        assert bool((start >= 0).all()) and bool((start + length <= side).all())
    erased = draw.erase_height > 0
    assert bool(((draw.erase_width > 0) == erased).all())
    rows, columns = draw.erase_height[erased].double(), draw.erase_width[erased].double()
    # A side is rounded to whole pixels: half a pixel either way, of area and of shape.
    assert bool(((rows + 0.5) * (columns + 0.5) >= 0.02 * height * width).all())
    assert bool(((rows - 0.5) * (columns - 0.5) <= 0.4 * height * width).all())
    assert bool(((rows + 0.5) / (columns - 0.5) >= 0.3).all()) and bool(((rows - 0.5) / (columns + 0.5) <= 3.34).all())


def test_draws_for_training_are_spread_as_they_should_be() -> None:
    draw = draw_training(20_000, (256, 128), generator=torch.Generator().manual_seed(2))
    assert draw.flip.float().mean().item() == pytest.approx(0.5, abs=0.02)
    counts = torch.bincount(draw.shift_down, minlength=21)
    assert counts.min() > 800 and counts.max() < 1110  # 20000 / 21 = 952
    erased = draw.erase_height > 0
    assert erased.float().mean().item() == pytest.approx(0.5, abs=0.02)
    share = (draw.erase_height * draw.erase_width)[erased].double() / (256 * 128)
    assert share.mean().item() == pytest.approx(0.2, abs=0.02) and share.max() > 0.37 and share.min() < 0.03
    shape = torch.log(draw.erase_height[erased].double() / draw.erase_width[erased].double())
    assert shape.min() < math.log(0.33) and shape.max() > math.log(3.0)


def test_nothing_asked_for_is_nothing_done() -> None:
    batch = images(4)
    draw = draw_training(4, SIZE, generator=torch.Generator().manual_seed(0), flip=0.0, pad=0, erase=0.0)
    assert torch.equal(apply_training(batch, draw, pad=0), normalise(batch))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), pad=st.integers(0, 6))
def test_training_images_are_those_made_one_by_one(seed: int, pad: int) -> None:
    """Flip, pad with black, cut at the shift, normalise, erase to the mean: in this order."""
    batch = images(6, seed=seed)
    draw = draw_training(6, SIZE, generator=torch.Generator().manual_seed(seed), pad=pad, erase=0.7)
    found = apply_training(batch, draw, pad=pad).numpy()
    for i in range(6):
        image = array(batch[i])
        image = image[:, ::-1] if bool(draw.flip[i]) else image
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        top, left = int(draw.shift_down[i]), int(draw.shift_right[i])
        expected = by_hand(padded[top : top + SIZE[0], left : left + SIZE[1]])
        y, x = int(draw.erase_top[i]), int(draw.erase_left[i])
        expected[:, y : y + int(draw.erase_height[i]), x : x + int(draw.erase_width[i])] = 0
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_black_padding_and_the_mean_are_different_things() -> None:
    batch = torch.full((1, 3, *SIZE), 124, dtype=torch.uint8)
    shifted = apply_training(batch, still(1, 4, shift_down=[0]), pad=4)
    assert shifted[0, :, 0, 0].tolist() == pytest.approx([-m / s for m, s in zip(MEAN, STD, strict=True)], abs=1e-5)
    erased = apply_training(batch, still(1, 4, erase_height=[3], erase_width=[2]), pad=4)
    assert erased[0, :, :3, :2].abs().max() == 0 and erased[0, :, 3, 2].abs().max() > 0


# ------------------------------------------------------------------------------------------- several processes


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_processes_that_draw_for_all_see_together_what_one_sees(parts: int) -> None:
    batch = images(12)
    crops = draw_crops(12, generator=torch.Generator().manual_seed(3))
    draws = draw_training(12, SIZE, generator=torch.Generator().manual_seed(3), pad=3)
    for rows in torch.arange(12).chunk(parts):
        np.testing.assert_allclose(
            apply_crops(batch[rows], take_rows(crops, rows)), apply_crops(batch, crops)[rows], atol=1e-5
        )
        part = apply_training(batch[rows], take_rows(draws, rows), pad=3)
        assert torch.equal(part, apply_training(batch, draws, pad=3)[rows])


def test_draws_come_from_the_generator_alone() -> None:
    for make in (
        lambda generator: draw_crops(9, generator=generator),
        lambda generator: draw_training(9, SIZE, generator=generator),
    ):
        torch.manual_seed(0)
        one = make(torch.Generator().manual_seed(4))
        state = torch.get_rng_state()
        same, other = make(torch.Generator().manual_seed(4)), make(torch.Generator().manual_seed(5))
        assert torch.equal(torch.get_rng_state(), state)
        values = [[getattr(draw, field.name) for field in fields(draw)] for draw in (one, same, other)]
        assert all(torch.equal(a, b) for a, b in zip(values[0], values[1], strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(values[0], values[2], strict=True))


def test_enlarging_is_close_to_pillows() -> None:
    """Another library's bicubic has another kernel (a = -0.5); on a smooth image they agree."""
    rows, columns = np.mgrid[0:64, 0:32]
    smooth = np.stack([128 + 90 * np.sin(rows / 9), 128 + 90 * np.cos(columns / 7), rows + columns], axis=2)
    image = smooth.clip(0, 255).astype(np.uint8)
    box = (4, 8, 28, 56)
    pillow = np.asarray(Image.fromarray(image).resize((32, 64), Image.Resampling.BICUBIC, box=box))
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    draw = whole(1, top=[8 / 64], left=[4 / 32], height=[48 / 64], width=[24 / 32])
    found = denormalise(apply_crops(batch, draw))[0]
    assert np.abs(array(found).astype(int) - pillow.astype(int)).max() <= 3

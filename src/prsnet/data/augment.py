"""The pipelines of pre-training and fine-tuning as batched tensor operations.

Each comes in two steps: *draw* makes the random numbers of a whole batch from a generator, *apply* is pure. A process
of a distributed run draws for the global batch and applies its own rows, so that all processes together see exactly
what one process would.

Images enter as uint8 (B, 3, H, W) and leave as float32 of the same shape, normalised by the ImageNet statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from prsnet.data.images import MEAN, STD

_ATTEMPTS = 10

DrawT = TypeVar("DrawT", "CropDraw", "TrainDraw")


@dataclass(frozen=True, slots=True)
class CropDraw:
    """Random resized crops and flips of B images, in shares of the image: all (B,)."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


@dataclass(frozen=True, slots=True)
class TrainDraw:
    """Flips, shifts (pixels, within the padding) and erased boxes (pixels; height 0: none) of B images: all (B,)."""

    flip: Tensor
    shift_down: Tensor
    shift_right: Tensor
    erase_top: Tensor
    erase_left: Tensor
    erase_height: Tensor
    erase_width: Tensor


def take_rows(draw: DrawT, rows: Tensor) -> DrawT:
    """Return the draw of some rows of the batch, on the device of ``rows``."""
    return type(draw)(**{field.name: getattr(draw, field.name).to(rows.device)[rows] for field in fields(draw)})


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 (B, 3, H, W), or floats in 0..1, into floats normalised by the ImageNet mean and deviation."""
    scaled = images.float().div_(255) if images.dtype == torch.uint8 else images
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (scaled - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """Turn normalised floats (B, 3, H, W) back into uint8, clamped to 0..255."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return ((images.float() * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)


def draw_crops(
    batch: int, *, generator: torch.Generator, area: tuple[float, float] = (0.2, 1.0), flip: float = 0.5
) -> CropDraw:
    """Draw random resized crops as pre-training takes them (docs/method.md).

    Args:
        batch: number of images B.
        generator: CPU generator.
        area: smallest and largest share of the image's area.
        flip: probability of a horizontal flip.

    The aspect ratio is log-uniform in 3/4..4/3 *of the image's own shape*, so a crop of a standing person stays tall.
    Of ten candidates the first that fits into the image is taken; the whole image when none does.
    """
    areas = torch.empty(batch, _ATTEMPTS).uniform_(*area, generator=generator)
    bound = torch.log(torch.tensor(4 / 3)).item()
    aspects = torch.empty(batch, _ATTEMPTS).uniform_(-bound, bound, generator=generator).exp_()
    heights, widths = (areas / aspects).sqrt(), (areas * aspects).sqrt()
    fits = (heights <= 1) & (widths <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    some = fits.any(dim=1)
    height = torch.where(some, heights.gather(1, first).squeeze(1), torch.ones(batch))
    width = torch.where(some, widths.gather(1, first).squeeze(1), torch.ones(batch))
    place = torch.rand(2, batch, generator=generator)
    return CropDraw(
        top=place[0] * (1 - height),
        left=place[1] * (1 - width),
        height=height,
        width=width,
        flip=torch.rand(batch, generator=generator) < flip,
    )


def apply_crops(images: Tensor, draw: CropDraw) -> Tensor:
    """Cut, flip, resize (bicubic) back to the images' own size, and normalise: uint8 (B, 3, H, W) -> float32."""
    scale_x = torch.where(draw.flip, -draw.width, draw.width)
    centre_x = (2 * draw.left + draw.width) - 1
    centre_y = (2 * draw.top + draw.height) - 1
    zero = torch.zeros_like(scale_x)
    theta = torch.stack(
        [torch.stack([scale_x, zero, centre_x], dim=1), torch.stack([zero, draw.height, centre_y], dim=1)], dim=1
    )
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    cut = functional.grid_sample(
        images.float().div_(255), grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return normalise(cut.clamp_(0, 1))  # bicubic overshoots at edges


def draw_training(
    batch: int,
    size: tuple[int, int],
    *,
    generator: torch.Generator,
    flip: float = 0.5,
    pad: int = 10,
    erase: float = 0.5,
) -> TrainDraw:
    """Draw what fine-tuning does to images (docs/method.md).

    Args:
        batch: number of images B.
        size: height and width in pixels.
        generator: CPU generator.
        flip: probability of a horizontal flip.
        pad: pixels of black padding on each side before the crop back to ``size``.
        erase: probability that a box of 2-40% of the area and aspect 0.3-3.33 is erased.
    """
    height, width = size
    shift = torch.randint(0, 2 * pad + 1, (2, batch), generator=generator)
    area = torch.empty(batch, _ATTEMPTS).uniform_(0.02, 0.4, generator=generator) * (height * width)
    bound = torch.log(torch.tensor(1 / 0.3)).item()
    aspect = torch.empty(batch, _ATTEMPTS).uniform_(-bound, bound, generator=generator).exp_()
    heights, widths = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (heights < height) & (widths < width) & (heights > 0) & (widths > 0)
    first = fits.int().argmax(dim=1, keepdim=True)
    wanted = (torch.rand(batch, generator=generator) < erase) & fits.any(dim=1)
    box_height = heights.gather(1, first).squeeze(1) * wanted
    box_width = widths.gather(1, first).squeeze(1) * wanted
    place = torch.rand(2, batch, generator=generator)
    return TrainDraw(
        flip=torch.rand(batch, generator=generator) < flip,
        shift_down=shift[0],
        shift_right=shift[1],
        erase_top=(place[0] * (height - box_height + 1)).long(),
        erase_left=(place[1] * (width - box_width + 1)).long(),
        erase_height=box_height,
        erase_width=box_width,
    )


def apply_training(images: Tensor, draw: TrainDraw, *, pad: int = 10) -> Tensor:
    """Flip, shift within black padding, normalise, erase to the mean colour: uint8 (B, 3, H, W) -> float32."""
    batch, channels, height, width = images.shape
    flipped = torch.where(draw.flip.view(-1, 1, 1, 1), images.flip(3), images)
    padded = functional.pad(flipped, (pad, pad, pad, pad))
    down, right = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (draw.shift_down[:, None] + down).view(batch, 1, height, 1).expand(-1, channels, -1, padded.shape[3])
    columns = (draw.shift_right[:, None] + right).view(batch, 1, 1, width).expand(-1, channels, height, -1)
    moved = normalise(padded.gather(2, rows).gather(3, columns))
    in_rows = (down >= draw.erase_top[:, None]) & (down < (draw.erase_top + draw.erase_height)[:, None])
    in_columns = (right >= draw.erase_left[:, None]) & (right < (draw.erase_left + draw.erase_width)[:, None])
    erased = (in_rows[:, :, None] & in_columns[:, None, :]).unsqueeze(1)
    return moved.masked_fill_(erased, 0.0)

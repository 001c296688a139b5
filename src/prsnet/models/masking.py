"""Random patch masks: which parts of an image are hidden.

One convention everywhere: a mask is boolean and **True means hidden**. Patches are numbered row by row from the top
left, so that patch ``n`` of a grid of ``(gh, gw)`` patches lies in row ``n // gw`` and column ``n % gw``.

Source: docs/method.md; random masking as in He et al., "Masked Autoencoders Are Scalable Vision Learners" (2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prsnet.errors import InputError

_ROUNDING = 1e-9


def patch_grid(image_size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Return how many patches fit into an image, as (rows, columns).

    Args:
        image_size: (H, W) in pixels.
        patch: (height, width) of one patch in pixels.

    Raises:
        InputError: a patch does not divide the image.
    """
    (height, width), (ph, pw) = image_size, patch
    if ph < 1 or pw < 1 or height % ph or width % pw:
        raise InputError(
            f"patch {ph}x{pw} does not divide an image of {height}x{width} (height x width)",
            hint="choose a patch whose height and width divide the image's",
        )
    return height // ph, width // pw


def hidden_count(patches: int, ratio: float) -> int:
    """Return floor(ratio * patches), the number of patches that a mask hides.

    A product that misses a whole number by floating-point rounding alone counts as that number: 0.29 of 100 is 29.

    Raises:
        InputError: the ratio is outside 0 <= ratio < 1.
    """
    if not 0 <= ratio < 1:
        raise InputError(f"mask ratio {ratio} is not in [0, 1)", hint="0.75 hides three quarters of the patches")
    return math.floor(ratio * patches + _ROUNDING)


def random_mask(batch: int, grid: tuple[int, int], ratio: float, *, generator: torch.Generator) -> Tensor:
    """Draw one independent mask per image, each hiding exactly floor(ratio * N) of the N patches.

    Args:
        batch: number of images B.
        grid: (rows, columns) of patches; N = rows * columns.
        ratio: share to hide, 0 <= ratio < 1.
        generator: source of the draw. The mask is made on the generator's device and the caller moves it. Processes
            that share a batch each draw the mask of the whole batch from the same stream and slice their own rows.

    Returns:
        (B, N) bool, True = hidden. Every subset of that size is equally likely.
    """
    patches = grid[0] * grid[1]
    hidden = hidden_count(patches, ratio)
    noise = torch.rand(batch, patches, generator=generator, device=generator.device)
    chosen = noise.argsort(dim=1)[:, :hidden]
    mask = torch.zeros(batch, patches, dtype=torch.bool, device=generator.device)
    return mask.scatter_(1, chosen, True)


def mask_to_pixels(mask: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Enlarge a mask over patches, (B, N) bool, to a mask over pixels, (B, H, W) bool."""
    (gh, gw), (ph, pw) = grid, patch
    cells = mask.view(-1, gh, 1, gw, 1).expand(-1, gh, ph, gw, pw)
    return cells.reshape(-1, gh * ph, gw * pw)


def hide(images: Tensor, mask: Tensor, patch: tuple[int, int]) -> Tensor:
    """Return the images with their hidden patches set to 0, the mean colour of normalised images.

    Args:
        images: (B, 3, H, W), normalised.
        mask: (B, N) bool, True = hidden.
        patch: (height, width) of one patch in pixels.
    """
    grid = _grid_of(images, mask, patch)
    return images.masked_fill(mask_to_pixels(mask, grid, patch)[:, None], 0.0)


def patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut images (B, C, H, W) into patches (B, N, ph * pw * C).

    The last axis runs over the rows of the patch, then its columns, then the channels.
    """
    batch, channels, height, width = images.shape
    (gh, gw), (ph, pw) = patch_grid((height, width), patch), patch
    cells = images.reshape(batch, channels, gh, ph, gw, pw)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, gh * gw, ph * pw * channels)


def unpatchify(patches: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Put patches (B, N, ph * pw * C) together to images (B, C, H, W): the inverse of :func:`patchify`."""
    (gh, gw), (ph, pw) = grid, patch
    batch, channels = patches.shape[0], patches.shape[2] // (ph * pw)
    cells = patches.reshape(batch, gh, gw, ph, pw, channels)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, gh * ph, gw * pw)


def _grid_of(images: Tensor, mask: Tensor, patch: tuple[int, int]) -> tuple[int, int]:
    grid = patch_grid((images.shape[2], images.shape[3]), patch)
    if mask.dtype != torch.bool or tuple(mask.shape) != (len(images), grid[0] * grid[1]):
        raise InputError(
            f"mask of shape {tuple(mask.shape)} and type {mask.dtype}: expected bool "
            f"({len(images)}, {grid[0] * grid[1]}) for patches of {patch[0]}x{patch[1]}"
        )
    return grid

"""What every encoder is, whatever its family."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prsnet.errors import InputError


class Encoder(nn.Module):
    """Images (B, 3, H, W) -> one vector per image (B, width).

    Attributes:
        width: numbers in a pooled vector.
        total_stride: (height, width) in pixels that one cell of the last map covers; images must be multiples of it.
        uses_batch_statistics: True if it holds BatchNorm, so that it matters which images share a batch.
    """

    width: int
    total_stride: tuple[int, int]
    uses_batch_statistics: bool = False

    def pooled(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the average over the positions of the last map, (B, width).

        Args:
            images: (B, 3, H, W), normalised.
            generator: needed in training by an encoder that drops paths.
        """
        raise NotImplementedError


class MapEncoder(Encoder):
    """An encoder in four stages whose last map is (B, width, H / stride, W / stride).

    Attributes:
        widths: channels per stage; the last is ``width``.
        depths: blocks per stage.
        stem_stride: kernel and stride of the first convolution; each later stage halves the map.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stem_stride: int

    def pooled(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the average of the last map over its positions, (B, width), in at least float32."""
        last: Tensor = self(images, generator)
        return last.mean(dim=(2, 3), dtype=torch.promote_types(last.dtype, torch.float32))


def check_size(images: Tensor, stride: tuple[int, int]) -> None:
    """Refuse images whose shape is not (B, 3, H, W) with H and W multiples of the stride.

    Raises:
        InputError: names the size, the stride and the nearest size that fits.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images of shape {tuple(images.shape)}: expected (B, 3, H, W)")
    height, width = images.shape[2:]
    if height % stride[0] or width % stride[1] or not height or not width:
        fitting = [nearest_multiple(side, step) for side, step in zip((height, width), stride, strict=True)]
        raise InputError(
            f"images of {height}x{width} (height x width) do not fit the network: "
            f"expected multiples of {stride[0]} and {stride[1]}",
            hint=f"resize to {fitting[0]}x{fitting[1]}",
        )


def nearest_multiple(value: int, step: int) -> int:
    """Return the multiple of ``step`` nearest to ``value``, at least one step."""
    return max(step, (value + step // 2) // step * step)

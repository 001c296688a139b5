"""The hybrid encoder: ConvNeXt's blocks beside a shared plain convolution per stage.

Source: docs/method.md, "Hybrid variant"; Mish: Misra, "Mish: A Self Regularized Non-Monotonic Activation
Function" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prsnet.models.convnext import ConvNeXtBlock, drop_path, drop_path_rates
from prsnet.models.encoder import MapEncoder, check_size


class HybridStage(nn.Module):
    """x <- x + c + DropPath(Block'(x)) for each block, with c = Conv3x3(x0) of the stage's input x0.

    Args:
        width: channels C.
        rates: probability to drop each block's branch in training; as many as blocks.
        layer_scale: first value of the blocks' learned scale.
    """

    def __init__(self, width: int, rates: Sequence[float], *, layer_scale: float) -> None:
        super().__init__()
        self.shared = nn.Conv2d(width, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, layer_scale=layer_scale, drop_path=rate, activation=F.mish) for rate in rates
        )

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the map after the last block, (B, C, H, W)."""
        shared = self.shared(x)
        for block in self.blocks:
            assert isinstance(block, ConvNeXtBlock)
            rate = block.drop_path if self.training else 0.0
            x = x + shared + drop_path(block.branch(x), rate, generator)
        return x


class HybridConvNeXt(MapEncoder):
    """Images (B, 3, H, W) -> map (B, width, H / total_stride, W / total_stride); arguments as for ConvNeXt.

    Stem and downsampling are convolution, BatchNorm, ReLU: in training it matters which images share a batch, and
    processes that share a batch each normalise by their own part of it.
    """

    uses_batch_statistics = True

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        stem: int = 4,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.depths, self.widths, self.stem_stride = tuple(depths), tuple(widths), stem
        self.width = self.widths[-1]
        self.total_stride = (stem * 2 ** (len(self.widths) - 1),) * 2
        befores, strides = (3, *self.widths), (stem, *[2] * (len(self.widths) - 1))
        self.downsamples = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, step, stride=step), nn.BatchNorm2d(after), nn.ReLU())
            for before, after, step in zip(befores, self.widths, strides, strict=False)
        )
        self.stages = nn.ModuleList(
            HybridStage(width, rates, layer_scale=layer_scale)
            for width, rates in zip(self.widths, drop_path_rates(self.depths, drop_path), strict=True)
        )

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the last map; arguments and errors as for :meth:`ConvNeXt.forward`."""
        check_size(images, self.total_stride)
        x = images.contiguous(memory_format=torch.channels_last)
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            x = stage(downsample(x), generator)
        return x

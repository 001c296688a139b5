"""The encoder: ConvNeXt, with shapes and order that interchange with the ecosystem's checkpoints.

Source: Liu et al., "A ConvNet for the 2020s" (2022); docs/method.md. Key names: :mod:`prsnet.models.ecosystem`.

Memory layout: activations are channels-last, so that LayerNorm and the linear layers of a block work on the last
axis without a copy. Measured forward and backward on one CPU thread, batch 64 at 128x64, widths 40-320: 0.60 s
against 0.68 s for the contiguous (B, C, H, W) layout with stem 4; 2.70 s against 2.88 s with stem 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prsnet.models.encoder import MapEncoder, check_size

NORM_EPS = 1e-6
Activation = Callable[[Tensor], Tensor]


def drop_path(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zero whole samples of a residual branch at random and enlarge the rest by 1 / (1 - rate).

    Source: Huang et al., "Deep Networks with Stochastic Depth" (2016).

    Args:
        x: (B, ...), the branch's output.
        rate: probability to drop a sample, 0 <= rate < 1.
        generator: source of the draw; needed when the rate is above 0.

    Raises:
        ValueError: rate above 0 and no generator.
    """
    if rate == 0.0:
        return x
    if generator is None:
        raise ValueError(f"drop_path {rate} in training needs a generator: pass generator= to the forward call")
    draws = torch.rand(len(x), generator=generator, device=generator.device)
    keep = (draws >= rate).to(device=x.device, dtype=x.dtype) / (1.0 - rate)
    return x * keep.view(-1, *[1] * (x.ndim - 1))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W), eps 1e-6."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, same shape."""
        normalised: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return normalised.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """x + DropPath(scale * contract(act(expand(norm(depthwise(x)))))) on maps (B, C, H, W).

    Args:
        width: channels C.
        layer_scale: first value of the learned per-channel ``scale``.
        drop_path: probability to drop the branch of a sample in training.
        activation: GELU in ConvNeXt.
    """

    def __init__(
        self, width: int, *, layer_scale: float = 1e-6, drop_path: float = 0.0, activation: Activation = F.gelu
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), layer_scale))
        self.layer_scale = layer_scale
        self.drop_path = drop_path
        self.activation = activation

    def init_own_parameters(self, generator: torch.Generator) -> None:
        """Set ``scale`` to its first value; nothing is drawn."""
        nn.init.constant_(self.scale, self.layer_scale)

    def branch(self, x: Tensor) -> Tensor:
        """Return the block without its residual, (B, C, H, W)."""
        hidden: Tensor = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        hidden = self.contract(self.activation(self.expand(hidden)))
        return (self.scale * hidden).permute(0, 3, 1, 2)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the map after the block, (B, C, H, W)."""
        return x + drop_path(self.branch(x), self.drop_path if self.training else 0.0, generator)


class Stage(nn.ModuleList):
    """Blocks in a row; ``forward`` hands the generator to each."""

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the map after the last block."""
        for block in self:
            x = block(x, generator)
        return x


def drop_path_rates(depths: Sequence[int], last: float) -> list[list[float]]:
    """Return one rate per block, rising linearly from 0 at the first block to ``last`` at the last one."""
    total = sum(depths)
    rates = iter(last * index / max(total - 1, 1) for index in range(total))
    return [[next(rates) for _ in range(depth)] for depth in depths]


class ConvNeXt(MapEncoder):
    """Images (B, 3, H, W) -> map (B, width, H / total_stride, W / total_stride).

    Args:
        depths: blocks per stage, four numbers.
        widths: channels per stage, four numbers; the last is :attr:`width`.
        stem: kernel and stride of the first convolution, in pixels. 4 in ConvNeXt; 2 keeps more detail at small sizes
            and costs about four times as much.
        layer_scale: first value of the blocks' learned scale.
        drop_path: probability to drop the last block's branch in training; rises linearly from 0 at the first.

    The total stride is ``stem * 8``.
    """

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
        stem_layers = nn.Sequential(nn.Conv2d(3, widths[0], stem, stride=stem), ChannelNorm(widths[0]))
        self.downsamples = nn.ModuleList([stem_layers, *itertools.starmap(halving, itertools.pairwise(self.widths))])
        self.stages = nn.ModuleList(
            Stage(ConvNeXtBlock(width, layer_scale=layer_scale, drop_path=rate) for rate in rates)
            for width, rates in zip(self.widths, drop_path_rates(self.depths, drop_path), strict=True)
        )

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the last map, (B, width, H / total_stride, W / total_stride).

        Args:
            images: (B, 3, H, W), normalised.
            generator: needed in training when ``drop_path`` is above 0.

        Raises:
            InputError: height or width is not a multiple of the total stride.
        """
        check_size(images, self.total_stride)
        x = images.contiguous(memory_format=torch.channels_last)
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            x = stage(downsample(x), generator)
        return x


def halving(before: int, after: int) -> nn.Sequential:
    """Return LayerNorm and a 2x2 convolution of stride 2: (B, before, 2h, 2w) -> (B, after, h, w)."""
    return nn.Sequential(ChannelNorm(before), nn.Conv2d(before, after, 2, stride=2))

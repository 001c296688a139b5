"""The convolutional masked autoencoder and its loss.

Source: docs/method.md. Hide -> encode to one vector per image -> decode. All that the decoder sees is the vector.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from prsnet.models.convnext import NORM_EPS, ChannelNorm, ConvNeXtBlock, Stage
from prsnet.models.encoder import Encoder, MapEncoder
from prsnet.models.masking import hide, patch_grid, patchify

Over = Literal["hidden", "all"]
TARGET_EPS = 1e-6


class Autoencoder(nn.Module):
    """A network that predicts whole images from masked ones.

    Attributes:
        encoder: what fine-tuning takes over.
        image_size: (H, W) in pixels.
        patch: (height, width) of one patch in pixels.
        grid: (rows, columns) of patches.
    """

    encoder: Encoder
    image_size: tuple[int, int]
    patch: tuple[int, int]
    grid: tuple[int, int]

    def forward(self, images: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the predicted images (B, 3, H, W).

        Args:
            images: (B, 3, H, W), normalised, whole: the network hides what the mask hides.
            mask: (B, N) bool, True = hidden.
            generator: needed in training when the encoder drops paths.
        """
        raise NotImplementedError


def reconstruction_loss(
    prediction: Tensor,
    images: Tensor,
    mask: Tensor,
    patch: tuple[int, int],
    *,
    normalise_targets: bool = False,
    over: Over = "hidden",
) -> Tensor:
    """Squared error averaged over each patch's values, then over the hidden patches (or all).

    Args:
        prediction: (B, 3, H, W), the decoder's output.
        images: (B, 3, H, W), the whole images, normalised.
        mask: (B, N) bool, True = hidden.
        patch: (height, width) of one patch in pixels.
        normalise_targets: compare with each patch standardised by its own mean and (unbiased) deviation,
            as He et al. (2022) do; the prediction is then in those units.
        over: ``"hidden"`` averages over the hidden patches of the batch, ``"all"`` over every patch.

    Returns:
        A scalar. With ``over="hidden"`` and a mask that hides nothing it is not a number.
    """
    full = torch.promote_types(prediction.dtype, torch.float32)
    target = patchify(images.to(full), patch)
    if normalise_targets:
        mean, variance = target.mean(dim=2, keepdim=True), target.var(dim=2, keepdim=True)
        target = (target - mean) / (variance + TARGET_EPS).sqrt()
    error = (patchify(prediction.to(full), patch) - target).square().mean(dim=2)
    return error.mean() if over == "all" else (error * mask).sum() / mask.sum()


class Decoder(nn.Module):
    """Vectors (B, widths[0]) -> images (B, 3, H, W): the mirror of a ConvNeXt encoder.

    Args:
        widths: channels from the bottleneck outwards, e.g. 768, 384, 192, 96.
        depths: blocks after each enlargement, as many as widths.
        map_size: (height, width) of the encoder's last map: the kernel of the first transposed convolution.
        stem: the encoder's stem stride, a power of two: log2(stem) doublings follow the last blocks.
        layer_scale: first value of the blocks' learned scale.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        map_size: tuple[int, int],
        *,
        stem: int,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.map_size = map_size
        self.first = nn.ConvTranspose2d(widths[0], widths[0], map_size)
        self.upsamples = nn.ModuleList(doubling(before, after) for before, after in itertools.pairwise(widths))
        self.stages = nn.ModuleList(
            Stage(ConvNeXtBlock(width, layer_scale=layer_scale) for _ in range(depth))
            for width, depth in zip(widths, depths, strict=True)
        )
        doublings = int(math.log2(stem))
        outputs = [widths[-1]] * (doublings - 1) + [3]
        self.last = nn.Sequential(*(doubling(widths[-1], output) for output in outputs))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the images, (B, 3, H, W)."""
        x = self.stages[0](self.unfold(vectors))
        for upsample, stage in zip(self.upsamples, self.stages[1:], strict=True):
            x = stage(upsample(x))
        image: Tensor = self.last(x)
        return image

    def unfold(self, vectors: Tensor) -> Tensor:
        """Return the first map, (B, C, *map_size)."""
        first: Tensor = self.first(vectors[:, :, None, None])
        return first.contiguous(memory_format=torch.channels_last)


def doubling(before: int, after: int) -> nn.Sequential:
    """Return LayerNorm and a transposed 2x2 convolution of stride 2: (B, before, h, w) -> (B, after, 2h, 2w)."""
    return nn.Sequential(ChannelNorm(before), nn.ConvTranspose2d(before, after, 2, stride=2))


class MaskedAutoencoder(Autoencoder):
    """Encoder, bottleneck and decoder: masked images in, whole images out.

    Args:
        encoder: an encoder with ``widths``, ``stem_stride`` and a last map (ConvNeXt or its hybrid).
        image_size: (H, W) in pixels, multiples of the encoder's total stride.
        patch: (height, width) of the patches that masks hide.
        decoder_depths: blocks of the decoder from the bottleneck outwards, as many as the encoder has stages.
        layer_scale: first value of the decoder blocks' learned scale.
    """

    def __init__(
        self,
        encoder: MapEncoder,
        image_size: tuple[int, int],
        patch: tuple[int, int],
        decoder_depths: Sequence[int],
        *,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.image_size, self.patch, self.grid = image_size, patch, patch_grid(image_size, patch)
        stride = encoder.total_stride
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.width, eps=NORM_EPS)
        self.decoder = Decoder(
            encoder.widths[::-1],
            decoder_depths,
            (image_size[0] // stride[0], image_size[1] // stride[1]),
            stem=encoder.stem_stride,
            layer_scale=layer_scale,
        )

    def bottleneck(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return one vector per image, (B, width): global average of the last map, then LayerNorm."""
        vectors: Tensor = self.norm(self.encoder.pooled(images, generator))
        return vectors

    def forward(self, images: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Hide, encode, decode; see :class:`Autoencoder`."""
        visible = hide(images, mask, self.patch)
        vectors = self.bottleneck(visible, generator)
        prediction: Tensor = self.decoder(vectors)
        return prediction

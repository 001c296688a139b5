"""The baseline: a masked autoencoder with vision transformers, in which only visible patches enter the encoder.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners" (2022); docs/method.md. There is no class
token: the pooled feature is the mean of the patch tokens after the last norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prsnet.errors import InputError
from prsnet.models.autoencoder import Autoencoder
from prsnet.models.convnext import NORM_EPS
from prsnet.models.encoder import Encoder, check_size
from prsnet.models.initialization import WEIGHT_DEVIATION
from prsnet.models.masking import patch_grid, unpatchify


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Return fixed 2-d sine-cosine positions, (gh * gw, width) float32, row by row.

    The first half of the numbers codes the row, the second the column; each half is sin then cos of
    ``position / 10000 ** (2 i / (width / 2))``. ``width`` must be a multiple of 4.
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    axes = [torch.arange(side, dtype=torch.float64)[:, None] * frequencies for side in grid]
    rows, columns = (torch.cat((angles.sin(), angles.cos()), dim=1) for angles in axes)
    (gh, gw), half = grid, 2 * quarter
    both = torch.cat((rows[:, None].expand(gh, gw, half), columns[None].expand(gh, gw, half)), dim=2)
    return both.reshape(gh * gw, width).float()


class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return found


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), on tokens (B, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed


class ViTEncoder(Encoder):
    """Patches of an image -> tokens.

    Args:
        image_size: (H, W) in pixels; other sizes are refused, because positions are fixed.
        patch: (height, width) of one patch in pixels.
        width: numbers per token, a multiple of 4 and of ``heads``.
        depth: transformer blocks.
        heads: attention heads.
    """

    positions: Tensor

    def __init__(
        self, image_size: tuple[int, int], patch: tuple[int, int], *, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.image_size, self.grid = image_size, patch_grid(image_size, patch)
        self.width, self.total_stride = width, patch
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.register_buffer("positions", sincos_positions(self.grid, width), persistent=False)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return tokens after the last norm, (B, T, width).

        Args:
            images: (B, 3, H, W), normalised.
            visible: (B, T) int64, the patches of each image that enter; ``None`` for all.

        Raises:
            InputError: images of another size than the network was built for.
        """
        check_size(images, self.total_stride)
        if tuple(images.shape[2:]) != self.image_size:
            raise InputError(
                f"images of {images.shape[2]}x{images.shape[3]} (height x width): "
                f"this network was built for {self.image_size[0]}x{self.image_size[1]}",
                hint=f"resize to {self.image_size[0]}x{self.image_size[1]}",
            )
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        if visible is not None:
            tokens = tokens.gather(1, visible[:, :, None].expand(-1, -1, self.width))
        encoded: Tensor = self.norm(self.blocks(tokens))
        return encoded

    def pooled(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean of all patch tokens, (B, width); nothing is drawn."""
        tokens: Tensor = self(images)
        return tokens.mean(dim=1, dtype=torch.promote_types(tokens.dtype, torch.float32))


class ViTDecoder(nn.Module):
    """Tokens of visible patches -> values of all patches, (B, N, ph * pw * 3).

    A learned token stands for each hidden patch; positions are added to all.
    """

    positions: Tensor

    def __init__(
        self, grid: tuple[int, int], *, encoder_width: int, width: int, depth: int, heads: int, patch_values: int
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(grid, width), persistent=False)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.leave = nn.Linear(width, patch_values)

    def init_own_parameters(self, generator: torch.Generator) -> None:
        """Draw the mask token: normal, deviation 0.02."""
        nn.init.normal_(self.mask_token, std=WEIGHT_DEVIATION, generator=generator)

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return the values of all patches.

        Args:
            tokens: (B, T, encoder_width), the visible patches.
            visible: (B, T) int64, their numbers.
        """
        entered = self.enter(tokens)
        width = entered.shape[2]
        whole = self.mask_token.to(entered.dtype).expand(len(entered), len(self.positions), width)
        x = whole.scatter(1, visible[:, :, None].expand(-1, -1, width), entered) + self.positions
        values: Tensor = self.leave(self.norm(self.blocks(x)))
        return values


class ViTMaskedAutoencoder(Autoencoder):
    """Visible patches in, whole images out.

    Args:
        encoder: holds image size and patch grid.
        decoder_width: numbers per token in the decoder, a multiple of 4 and of ``decoder_heads``.
        decoder_depth: transformer blocks of the decoder.
        decoder_heads: attention heads of the decoder.
    """

    encoder: ViTEncoder

    def __init__(self, encoder: ViTEncoder, *, decoder_width: int, decoder_depth: int, decoder_heads: int) -> None:
        super().__init__()
        self.image_size, self.patch, self.grid = encoder.image_size, encoder.total_stride, encoder.grid
        self.encoder = encoder
        self.decoder = ViTDecoder(
            self.grid,
            encoder_width=encoder.width,
            width=decoder_width,
            depth=decoder_depth,
            heads=decoder_heads,
            patch_values=self.patch[0] * self.patch[1] * 3,
        )

    def forward(self, images: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode what is visible, decode everything; see :class:`Autoencoder`. Nothing is drawn."""
        visible = visible_patches(mask)
        values = self.decoder(self.encoder(images, visible), visible)
        return unpatchify(values, self.grid, self.patch)


def visible_patches(mask: Tensor) -> Tensor:
    """Return the numbers of the visible patches in ascending order, (B, T) int64, of a mask (B, N), True = hidden.

    Raises:
        InputError: the rows do not hide equally many patches, or hide all.
    """
    counts = (~mask).sum(dim=1)
    fewest, most = int(counts.min()), int(counts.max())
    if fewest != most or not fewest:
        raise InputError(
            f"mask leaves {fewest} to {most} patches visible: expected the same number, above 0, per image"
        )
    return (~mask).nonzero()[:, 1].view(len(mask), fewest)

"""The hybrid encoder against its formula in method.md."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from prsnet.errors import InputError
from prsnet.models.convnext import ConvNeXtBlock
from prsnet.models.hybrid import HybridConvNeXt


def hybrid() -> HybridConvNeXt:
    """A hybrid encoder with values everywhere, BatchNorm statistics included."""
    encoder = HybridConvNeXt((1, 2, 1, 1), (4, 4, 6, 8), stem=2).double()
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in encoder.state_dict().items():
            if value.is_floating_point():
                lowest = 0.1 if "var" in key else -0.5
                value.copy_(torch.rand(value.shape, generator=source, dtype=torch.float64) + lowest)
    return encoder


def plain_branch(block: ConvNeXtBlock, x: Tensor) -> Tensor:
    """Block' of method.md: no residual, Mish written out as x * tanh(log(1 + e^x))."""
    y = F.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=x.shape[1])
    y = F.layer_norm(y.permute(0, 2, 3, 1), (x.shape[1],), block.norm.weight, block.norm.bias, 1e-6)
    y = y @ block.expand.weight.T + block.expand.bias
    y = y * torch.tanh(torch.log1p(torch.exp(y)))
    y = y @ block.contract.weight.T + block.contract.bias
    return (block.scale * y).permute(0, 3, 1, 2)


def plain_encoder(encoder: HybridConvNeXt, images: Tensor) -> Tensor:
    state, x = encoder.state_dict(), images
    for number, (step, depth) in enumerate(zip((2, 2, 2, 2), encoder.depths, strict=True)):
        down, stage = f"downsamples.{number}.", f"stages.{number}."
        x = F.conv2d(x, state[down + "0.weight"], state[down + "0.bias"], stride=step)
        mean, variance = (state[down + f"1.running_{name}"][:, None, None] for name in ("mean", "var"))
        x = (x - mean) / (variance + 1e-5).sqrt() * state[down + "1.weight"][:, None, None]
        x = (x + state[down + "1.bias"][:, None, None]).clamp(min=0)
        shared = F.conv2d(x, state[stage + "shared.weight"], state[stage + "shared.bias"], padding=1)
        blocks = dict(encoder.named_modules())
        for block_number in range(depth):
            block = blocks[f"{stage}blocks.{block_number}"]
            assert isinstance(block, ConvNeXtBlock)
            x = x + shared + plain_branch(block, x)
    return x


def test_equals_the_formula() -> None:
    encoder = hybrid().eval()
    images = torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = plain_encoder(encoder, images)
    assert expected.shape == (2, 8, 2, 1)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(encoder.pooled(images), expected.flatten(2).mean(2), rtol=1e-10, atol=1e-10)


def test_says_that_batches_matter() -> None:
    assert hybrid().uses_batch_statistics


def test_size_that_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="40x16"):
        hybrid()(torch.zeros(1, 3, 40, 16, dtype=torch.float64))


def test_drop_path_needs_a_generator() -> None:
    encoder = HybridConvNeXt((1, 1, 1, 1), (2, 2, 2, 2), stem=2, drop_path=0.5, layer_scale=1.0)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="needs a generator"):
        encoder(images)
    one, two = (encoder(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)

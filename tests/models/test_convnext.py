"""The encoder against a plain reading of its definition; dropped paths; sizes that do not fit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from prsnet.errors import InputError
from prsnet.models.convnext import ConvNeXt, ConvNeXtBlock, drop_path, drop_path_rates
from prsnet.models.initialization import init_weights


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(module: torch.nn.Module) -> None:
    """Give every parameter, norms and scales included, values that matter."""
    source = generator(11)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64) * 0.3)


def loop_block(block: ConvNeXtBlock, x: Tensor) -> Tensor:
    """One position and channel after the other, from method.md's formula."""
    batch, width, height, columns = x.shape
    result = x.clone()
    weights, biases = block.depthwise.weight, block.depthwise.bias
    assert biases is not None
    for b in range(batch):
        for row in range(height):
            for column in range(columns):
                mixed = []
                for channel in range(width):
                    total = biases[channel]
                    for i in range(7):
                        for j in range(7):
                            y, z = row + i - 3, column + j - 3
                            if 0 <= y < height and 0 <= z < columns:
                                total = total + weights[channel, 0, i, j] * x[b, channel, y, z]
                    mixed.append(total)
                vector = torch.stack(mixed)
                centred = vector - vector.mean()
                vector = centred / (centred.square().mean() + 1e-6).sqrt() * block.norm.weight + block.norm.bias
                hidden = block.expand.weight @ vector + block.expand.bias
                hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
                result[b, :, row, column] += block.scale * (block.contract.weight @ hidden + block.contract.bias)
    return result


def test_block_and_its_gradients_equal_the_loops() -> None:
    block = ConvNeXtBlock(3, layer_scale=0.5).double()
    randomised(block)
    x = torch.randn(2, 3, 5, 4, generator=generator(), dtype=torch.float64)
    weights = torch.randn(2, 3, 5, 4, generator=generator(1), dtype=torch.float64)
    names, parameters = zip(*block.named_parameters(), strict=True)
    found, expected = block(x), loop_block(block, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    ours = torch.autograd.grad((found * weights).sum(), parameters)
    slow = torch.autograd.grad((expected * weights).sum(), parameters)
    for name, one, other in zip(names, ours, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11, msg=name)


def test_shapes_stage_by_stage() -> None:
    encoder = ConvNeXt((1, 2, 1, 1), (4, 6, 8, 10), stem=4)
    seen: list[tuple[int, ...]] = []
    for stage in encoder.stages:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
    images = torch.zeros(2, 3, 64, 32)
    assert encoder(images).shape == (2, 10, 2, 1)
    assert seen == [(2, 4, 16, 8), (2, 6, 8, 4), (2, 8, 4, 2), (2, 10, 2, 1)]
    assert encoder.pooled(images).shape == (2, 10)
    assert (encoder.width, encoder.total_stride) == (10, (32, 32))


def test_result_does_not_depend_on_the_memory_layout_of_the_input() -> None:
    encoder = ConvNeXt((1, 1, 1, 1), (4, 4, 4, 4), stem=2, layer_scale=1.0)
    init_weights(encoder, generator())
    images = torch.randn(2, 3, 32, 16, generator=generator(1))
    torch.testing.assert_close(encoder(images), encoder(images.contiguous(memory_format=torch.channels_last)))


def test_layer_scale_begins_as_configured() -> None:
    encoder = ConvNeXt((1, 1, 1, 1), (4, 4, 4, 4), layer_scale=0.25)
    init_weights(encoder, generator())
    scales = [value for name, value in encoder.named_parameters() if name.endswith("scale")]
    assert len(scales) == 4
    assert all(scale.eq(0.25).all() for scale in scales)
    assert ConvNeXtBlock(2).scale.tolist() == pytest.approx([1e-6, 1e-6])


@pytest.mark.parametrize(("shape", "hint"), [((1, 3, 100, 64), "96x64"), ((1, 3, 128, 40), "128x32")])
def test_size_that_does_not_fit_is_named_with_the_nearest(shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(InputError, match=f"{shape[2]}x{shape[3]}") as caught:
        ConvNeXt((1, 1, 1, 1), (2, 2, 2, 2))(torch.zeros(shape))
    assert hint in caught.value.hint


@pytest.mark.parametrize("shape", [(3, 64, 32), (1, 1, 64, 32)])
def test_images_of_another_form_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected \\(B, 3, H, W\\)"):
        ConvNeXt((1, 1, 1, 1), (2, 2, 2, 2))(torch.zeros(shape))


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    x = torch.ones(40_000, 2, 1, 1)
    dropped = drop_path(x, 0.25, generator(3))
    values = dropped.flatten(1)
    assert torch.equal(values[:, 0], values[:, 1])
    assert sorted(set(values.flatten().tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert abs(values.mean().item() - 1.0) < 0.012  # four deviations
    assert torch.equal(dropped, drop_path(x, 0.25, generator(3)))


def test_drop_path_needs_a_generator_in_training_only() -> None:
    encoder = ConvNeXt((1, 1, 1, 1), (2, 2, 2, 2), drop_path=0.5, layer_scale=1.0)
    init_weights(encoder, generator())
    images = torch.randn(4, 3, 32, 32, generator=generator(1))
    with pytest.raises(ValueError, match="needs a generator"):
        encoder(images)
    before = torch.random.get_rng_state()
    trained = encoder(images, generator(2))
    assert torch.equal(trained, encoder(images, generator(2)))
    assert torch.equal(before, torch.random.get_rng_state())
    encoder.eval()
    assert not torch.equal(trained, encoder(images))


def test_drop_path_rates_rise_linearly() -> None:
    rates = drop_path_rates((2, 1, 2), 0.4)
    assert [len(stage) for stage in rates] == [2, 1, 2]
    assert [rate for stage in rates for rate in stage] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert drop_path_rates((1,), 0.3) == [[0.0]]

"""The masked autoencoder: its loss against loops, what the decoder may see, the shapes it makes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from prsnet.models.autoencoder import Decoder, MaskedAutoencoder, Over, reconstruction_loss
from prsnet.models.convnext import ConvNeXt
from prsnet.models.initialization import init_weights
from prsnet.models.masking import random_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_autoencoder() -> MaskedAutoencoder:
    encoder = ConvNeXt((1, 1, 1, 1), (4, 6, 8, 10), stem=2, layer_scale=0.1)
    model = MaskedAutoencoder(encoder, (32, 16), (4, 2), (1, 2, 1, 1), layer_scale=0.1).double()
    init_weights(model, generator())
    return model


def loop_loss(
    prediction: Tensor, images: Tensor, mask: Tensor, patch: tuple[int, int], normalise: bool, over: Over
) -> Tensor:
    """The loss as method.md words it, one patch after the other."""
    (ph, pw), (batch, _, height, width) = patch, images.shape
    columns = width // pw
    losses = []
    for image, row, column in itertools.product(range(batch), range(height // ph), range(columns)):
        if over == "hidden" and not mask[image, row * columns + column]:
            continue
        window = (image, slice(None), slice(row * ph, row * ph + ph), slice(column * pw, column * pw + pw))
        target = images[window]
        if normalise:
            mean = torch.stack([*target.flatten()]).sum() / target.numel()
            variance = ((target - mean) ** 2).sum() / (target.numel() - 1)
            target = (target - mean) / torch.sqrt(variance + 1e-6)
        losses.append(((prediction[window] - target) ** 2).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("over", ["hidden", "all"])
def test_loss_and_gradient_equal_the_loops(normalise: bool, over: Over) -> None:
    images = torch.randn(3, 3, 8, 6, generator=generator(1), dtype=torch.float64)
    mask = random_mask(3, (2, 3), 0.5, generator=generator(2))
    fast, slow = (
        torch.randn(3, 3, 8, 6, generator=generator(3), dtype=torch.float64).requires_grad_() for _ in range(2)
    )
    loss = reconstruction_loss(fast, images, mask, (4, 2), normalise_targets=normalise, over=over)
    expected = loop_loss(slow, images, mask, (4, 2), normalise, over)
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-12, atol=1e-15)


def test_loss_over_hidden_patches_ignores_the_visible_ones() -> None:
    images = torch.randn(2, 3, 8, 8, generator=generator(1))
    mask = random_mask(2, (2, 2), 0.5, generator=generator(2))
    prediction = images.clone()
    visible = (~mask).view(2, 1, 2, 1, 2, 1).expand(2, 3, 2, 4, 2, 4).reshape(2, 3, 8, 8)
    assert reconstruction_loss(prediction + 5.0 * visible, images, mask, (4, 4)).item() == 0.0
    assert reconstruction_loss(prediction + 5.0 * ~visible, images, mask, (4, 4)).item() == pytest.approx(25.0)
    assert reconstruction_loss(prediction + 5.0 * visible, images, mask, (4, 4), over="all").item() == pytest.approx(
        12.5
    )


def test_loss_that_hides_nothing_is_not_a_number() -> None:
    images = torch.zeros(1, 3, 4, 4)
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    assert math.isnan(reconstruction_loss(images, images, nothing, (2, 2)).item())


def test_loss_of_half_precision_is_computed_in_full() -> None:
    images = torch.randn(2, 3, 8, 8, generator=generator(1))
    mask = random_mask(2, (2, 2), 0.5, generator=generator(2))
    loss = reconstruction_loss(torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16), images, mask, (4, 4))
    assert loss.dtype == torch.float32
    assert loss == reconstruction_loss(torch.zeros(2, 3, 8, 8), images, mask, (4, 4))


def test_forward_is_hide_encode_average_norm_decode() -> None:
    model = small_autoencoder()
    images = torch.randn(2, 3, 32, 16, generator=generator(4), dtype=torch.float64)
    mask = random_mask(2, model.grid, 0.75, generator=generator(5))
    masked = images.clone()
    for image, row, column in itertools.product(range(2), range(32), range(16)):
        if mask[image, row // 4 * 8 + column // 2]:
            masked[image, :, row, column] = 0.0
    last = model.encoder(masked)
    assert last.shape == (2, 10, 2, 1)
    vector = last.flatten(2).mean(dim=2)
    centred = vector - vector.mean(dim=1, keepdim=True)
    normalised = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(model(images, mask), model.decoder(normalised), rtol=1e-10, atol=1e-12)


def test_prediction_does_not_depend_on_hidden_pixels_but_on_visible_ones() -> None:
    model = small_autoencoder()
    images = torch.randn(2, 3, 32, 16, generator=generator(4), dtype=torch.float64)
    mask = random_mask(2, model.grid, 0.75, generator=generator(5))
    images.requires_grad_()
    model(images, mask).square().sum().backward()
    pixels = mask.view(2, 8, 1, 8, 1).expand(2, 8, 4, 8, 2).reshape(2, 32, 16)
    assert images.grad is not None
    reached = images.grad.abs().sum(dim=1)
    assert reached[pixels].eq(0).all()
    assert reached[~pixels].gt(0).all()


def test_every_parameter_of_the_autoencoder_learns() -> None:
    model = small_autoencoder()
    images = torch.randn(2, 3, 32, 16, generator=generator(4), dtype=torch.float64)
    mask = random_mask(2, model.grid, 0.75, generator=generator(5))
    reconstruction_loss(model(images, mask), images, mask, model.patch).backward()  # type: ignore[no-untyped-call]
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize(("stem", "size"), [(2, (64, 32)), (4, (128, 64)), (8, (256, 128))])
def test_decoder_mirrors_the_encoder(stem: int, size: tuple[int, int]) -> None:
    decoder = Decoder((8, 6, 4, 4), (1, 1, 1, 1), (4, 2), stem=stem)
    seen: list[tuple[int, ...]] = []
    for stage in decoder.stages:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[1:])))
    assert decoder(torch.zeros(2, 8)).shape == (2, 3, *size)
    assert seen == [(8, 4, 2), (6, 8, 4), (4, 16, 8), (4, 32, 16)]
    assert decoder.first.kernel_size == (4, 2)


def test_memorises_one_batch() -> None:
    model = small_autoencoder()
    images = torch.randn(2, 3, 8, 4, generator=generator(4), dtype=torch.float64)
    images = torch.nn.functional.interpolate(images, (32, 16), mode="bilinear")
    mask = random_mask(2, model.grid, 0.5, generator=generator(5))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        loss = reconstruction_loss(model(images, mask), images, mask, model.patch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]

"""The ViT baseline: positions, what enters the encoder, what the decoder predicts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from prsnet.errors import InputError
from prsnet.models.autoencoder import reconstruction_loss
from prsnet.models.initialization import init_weights
from prsnet.models.masking import random_mask
from prsnet.models.vit import (
    TransformerBlock,
    ViTEncoder,
    ViTMaskedAutoencoder,
    sincos_positions,
    visible_patches,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_model() -> ViTMaskedAutoencoder:
    encoder = ViTEncoder((16, 8), (4, 2), width=8, depth=2, heads=2)
    model = ViTMaskedAutoencoder(encoder, decoder_width=12, decoder_depth=1, decoder_heads=3).double()
    init_weights(model, generator())
    return model


def images(seed: int = 1) -> Tensor:
    return torch.randn(3, 3, 16, 8, generator=generator(seed), dtype=torch.float64)


def test_positions_follow_the_formula() -> None:
    positions = sincos_positions((3, 5), 8)
    assert positions.shape == (15, 8)
    for row in range(3):
        for column in range(5):
            expected = []
            for place in (row, column):
                angles = [place / 10000 ** (2 * i / 4) for i in range(2)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert positions[row * 5 + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_block_equals_attention_written_out() -> None:
    block = TransformerBlock(6, 2).double()
    init_weights(block, generator())
    source = generator(4)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64) * 0.5)
    x = torch.randn(2, 5, 6, generator=generator(5), dtype=torch.float64)
    qkv = block.norm1(x) @ block.attention.qkv.weight.T + block.attention.qkv.bias
    heads = []
    for head in range(2):
        query, key, value = (qkv[:, :, 6 * part + 3 * head : 6 * part + 3 * head + 3] for part in range(3))
        scores = query @ key.transpose(1, 2) / math.sqrt(3)
        heads.append(scores.softmax(dim=2) @ value)
    y = x + torch.cat(heads, dim=2) @ block.attention.out.weight.T + block.attention.out.bias
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)), rtol=1e-10, atol=1e-12)


def test_visible_patches_are_the_ones_not_hidden_in_order() -> None:
    mask = random_mask(4, (4, 4), 0.75, generator=generator(2))
    found = visible_patches(mask)
    assert found.tolist() == [[n for n in range(16) if not row[n]] for row in mask]


@pytest.mark.parametrize("mask", [[[True, False], [False, False]], [[True, True], [True, True]]])
def test_uneven_or_full_masks_are_refused(mask: list[list[bool]]) -> None:
    with pytest.raises(InputError, match="patches visible"):
        visible_patches(torch.tensor(mask))


def test_only_visible_patches_enter_the_encoder() -> None:
    model, batch = small_model(), images()
    mask = random_mask(3, model.grid, 0.75, generator=generator(2))
    seen: list[tuple[int, ...]] = []
    model.encoder.blocks.register_forward_hook(lambda _m, inputs, _o: seen.append(tuple(inputs[0].shape)))
    batch.requires_grad_()
    model(batch, mask).square().sum().backward()
    assert seen == [(3, 4, 8)]
    assert batch.grad is not None
    hidden = mask.view(3, 4, 1, 4, 1).expand(3, 4, 4, 4, 2).reshape(3, 16, 8)
    reached = batch.grad.abs().sum(dim=1)
    assert reached[hidden].eq(0).all()
    assert reached[~hidden].gt(0).all()


def test_encoder_of_visible_patches_equals_encoder_of_each_image_alone() -> None:
    encoder, batch = small_model().encoder, images()
    visible = visible_patches(random_mask(3, (4, 4), 0.5, generator=generator(2)))
    together = encoder(batch, visible)
    for number in range(3):
        patches = encoder.embed(batch[number : number + 1]).flatten(2).transpose(1, 2)[0]
        tokens = torch.stack([patches[n] + encoder.positions[n] for n in visible[number].tolist()])
        expected = encoder.norm(encoder.blocks(tokens[None]))[0]
        torch.testing.assert_close(together[number], expected, rtol=1e-10, atol=1e-12)


def test_decoder_puts_tokens_in_their_places() -> None:
    model = small_model()
    decoder = model.decoder
    visible = torch.tensor([[2, 0], [1, 15]])
    tokens = torch.randn(2, 2, 8, generator=generator(6), dtype=torch.float64)
    rows = decoder.mask_token[0, 0].expand(2, 16, 12).clone()
    for image in range(2):
        for place, number in enumerate(visible[image].tolist()):
            rows[image, number] = decoder.enter(tokens[image, place])
    expected = decoder.leave(decoder.norm(decoder.blocks(rows + decoder.positions)))
    torch.testing.assert_close(decoder(tokens, visible), expected, rtol=1e-10, atol=1e-12)


def test_prediction_is_an_image_and_every_parameter_learns() -> None:
    model, batch = small_model(), images()
    mask = random_mask(3, model.grid, 0.75, generator=generator(2))
    prediction = model(batch, mask)
    assert prediction.shape == batch.shape
    reconstruction_loss(prediction, batch, mask, model.patch).backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pooled_is_the_mean_of_all_tokens_after_the_norm() -> None:
    encoder, batch = small_model().encoder, images()
    every = torch.arange(16).expand(3, 16)
    tokens = encoder(batch, every)
    assert tokens.shape == (3, 16, 8)
    torch.testing.assert_close(encoder.pooled(batch), tokens.sum(dim=1) / 16, rtol=1e-10, atol=1e-12)


def test_embedding_has_the_rank_of_its_width() -> None:
    encoder = small_model().encoder
    batch = torch.randn(40, 3, 16, 8, generator=generator(7), dtype=torch.float64)
    pooled = encoder.pooled(batch)
    singular = torch.linalg.svdvals(pooled - pooled.mean(dim=0))
    assert (singular > 1e-6 * singular[0]).sum() >= 7  # LayerNorm takes one of the eight directions


def test_other_sizes_are_refused() -> None:
    encoder = ViTEncoder((16, 8), (4, 2), width=8, depth=1, heads=2)
    with pytest.raises(InputError, match="built for 16x8"):
        encoder(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="multiples of 4 and 2"):
        encoder(torch.zeros(1, 3, 15, 8))

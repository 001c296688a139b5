"""The ReID network: averaging and 1x1 commute, BNNeck sees raw features alone, embeddings ignore masks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prsnet.models.convnext import ConvNeXt
from prsnet.models.encoder import Encoder, MapEncoder
from prsnet.models.hybrid import HybridConvNeXt
from prsnet.models.initialization import init_weights
from prsnet.models.masking import hide, random_mask
from prsnet.models.reid import ReidModel, untouched_statistics
from prsnet.models.vit import ViTEncoder

GRID, PATCH = (8, 8), (4, 4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder_of(family: str) -> Encoder:
    if family == "vit":
        return ViTEncoder((32, 32), PATCH, width=8, depth=1, heads=2)
    kind = HybridConvNeXt if family == "hybrid" else ConvNeXt
    return kind((1, 1, 1, 1), (4, 4, 6, 8), stem=2, layer_scale=0.5)


def reid(family: str = "convnext", num_classes: int | None = 5) -> ReidModel:
    model = ReidModel(encoder_of(family), 12, PATCH, num_classes).double()
    init_weights(model, generator())
    return model


def images(rows: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(rows, 3, 32, 32, generator=generator(seed), dtype=torch.float64)


def masks(rows: int = 6) -> Tensor:
    return random_mask(rows, GRID, 0.75, generator=generator(2))


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers() if "running" in name or "tracked" in name}


@pytest.mark.parametrize("family", ["convnext", "hybrid"])
def test_projection_after_average_equals_average_after_1x1_convolution(family: str) -> None:
    model = reid(family).eval()
    encoder = model.encoder
    assert isinstance(encoder, MapEncoder)
    kernel = model.projection.weight[:, :, None, None]
    expected = F.conv2d(encoder(images()), kernel).mean(dim=(2, 3))
    torch.testing.assert_close(model.features(images()), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("family", ["convnext", "hybrid", "vit"])
def test_forward_gives_raw_and_masked_features(family: str) -> None:
    model = reid(family).eval()
    found = model(images(), masks())
    assert found.masked is not None
    torch.testing.assert_close(found.raw, model.features(images()), rtol=1e-10, atol=1e-13)
    hidden = hide(images(), masks(), PATCH)
    torch.testing.assert_close(found.masked, model.features(hidden), rtol=1e-10, atol=1e-13)
    assert not torch.allclose(found.raw, found.masked)
    assert model(images()).masked is None


def test_raw_and_masked_images_pass_the_encoder_as_one_batch() -> None:
    model = reid()
    sizes: list[int] = []
    model.encoder.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    model(images(), masks())
    assert sizes == [12]


def test_masked_images_leave_the_statistics_of_a_hybrid_encoder_alone() -> None:
    with_masks, without = reid("hybrid"), reid("hybrid")
    found = with_masks(images(), masks())
    expected = without(images())
    assert torch.equal(found.raw, expected.raw)
    before, after = statistics(without), statistics(with_masks)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["encoder.downsamples.0.1.num_batches_tracked"] == 1
    # In training the masked half is normalised by its own batch, not by running statistics.
    other = reid("hybrid").features(hide(images(), masks(), PATCH))
    torch.testing.assert_close(found.masked, other)


def test_encoder_statistics_are_tracked_again_after_an_error() -> None:
    model = reid("hybrid")
    with pytest.raises(KeyError), untouched_statistics(model):
        model.features(images())
        raise KeyError
    assert statistics(model)["encoder.downsamples.0.1.num_batches_tracked"] == 0
    model.features(images())
    assert statistics(model)["encoder.downsamples.0.1.num_batches_tracked"] == 1


def test_bnneck_statistics_come_from_logits_of_raw_features_alone() -> None:
    model = reid()
    found = model(images(), masks())
    assert model.bnneck.num_batches_tracked == 0
    model.logits(found.raw)
    raw = found.raw.detach()
    torch.testing.assert_close(model.bnneck.running_mean, 0.1 * raw.mean(dim=0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(model.bnneck.running_var, 0.9 + 0.1 * raw.var(dim=0), rtol=1e-9, atol=1e-12)


def test_logits_equal_the_formula() -> None:
    model = reid()
    f = torch.randn(6, 12, generator=generator(3), dtype=torch.float64) * 3 + 1
    normalised = (f - f.mean(dim=0)) / (f.var(dim=0, unbiased=False) + 1e-5).sqrt()
    assert model.classifier is not None
    torch.testing.assert_close(model.logits(f), normalised @ model.classifier.weight.T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["convnext", "hybrid", "vit"])
def test_padded_rows_touch_nothing(family: str) -> None:
    padded, plain = reid(family), reid(family)
    valid = torch.tensor([True, False, True, True, False, True])
    batch = images()
    batch[~valid] = float("nan")
    found = padded(batch, masks(), valid=valid)
    expected = plain(images()[valid], masks()[valid])
    assert found.raw.shape == (6, 12)
    for ours, theirs in ((found.raw, expected.raw), (found.masked, expected.masked)):
        assert torch.equal(ours[valid], theirs)
        assert ours[~valid].eq(0).all()
    before, after = statistics(plain), statistics(padded)
    assert all(torch.equal(before[name], after[name]) for name in before)
    (found.raw.square().sum() + found.masked.square().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in padded.parameters())


@pytest.mark.parametrize("family", ["convnext", "hybrid", "vit"])
def test_embeddings_are_unit_vectors_of_bnneck_of_the_raw_image(family: str) -> None:
    model = reid(family)
    for seed in range(3):
        model.logits(model(images(seed=seed), masks()).raw)
    model.eval()
    found = model.embed(images())
    f = model.features(images())
    neck = model.bnneck
    assert neck.running_mean is not None
    assert neck.running_var is not None
    expected = (f - neck.running_mean) / (neck.running_var + 1e-5).sqrt() * neck.weight
    expected = expected / expected.square().sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_embedding_of_an_image_does_not_depend_on_its_batch() -> None:
    model = reid("hybrid").eval()
    together = model.embed(images())
    alone = torch.cat([model.embed(image[None]) for image in images()])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_embed_refuses_training_mode() -> None:
    with pytest.raises(RuntimeError, match=r"\.eval\(\)"):
        reid().embed(images())


def test_network_for_inference_has_no_classifier() -> None:
    model = reid(num_classes=None)
    assert model.classifier is None
    assert not any(name.startswith("classifier") for name in model.state_dict())
    with pytest.raises(RuntimeError, match="no classifier"):
        model.logits(torch.zeros(2, 12, dtype=torch.float64))


def test_bnneck_bias_is_frozen_at_zero_and_the_rest_learns() -> None:
    model = reid()
    found = model(images(), masks())
    assert found.masked is not None
    (model.logits(found.raw).square().sum() + found.masked.square().sum()).backward()
    assert model.bnneck.bias.eq(0).all()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["bnneck.bias"]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_first_weights_follow_their_distributions() -> None:
    model = ReidModel(ConvNeXt((1, 1, 1, 1), (4, 4, 4, 256)), 400, PATCH, 300)
    init_weights(model, generator(4))
    assert model.classifier is not None
    assert model.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    projection = model.projection.weight
    assert projection.abs().max().item() <= 1 / 16
    assert projection.std().item() == pytest.approx(1 / 16 / 3**0.5, rel=0.02)


def test_features_are_full_precision_under_autocast() -> None:
    model = reid().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(images().float(), masks())
        logits = model.logits(found.raw)
    assert (found.raw.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(found.raw, found.raw.bfloat16().float())


@pytest.mark.parametrize("family", ["convnext", "hybrid", "vit"])
def test_a_process_with_nothing_but_padding_gets_zeros(family: str) -> None:
    model = reid(family)
    found = model(images(), masks(), valid=torch.zeros(6, dtype=torch.bool))
    assert found.raw.eq(0).all()
    assert found.masked is not None
    (found.raw.sum() + found.masked.sum()).backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in model.parameters())
    assert all(value.isfinite().all() for value in model.state_dict().values())

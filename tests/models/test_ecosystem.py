"""Weights interchange with an independent ConvNeXt (Hugging Face transformers), by names alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from transformers import ConvNextConfig, ConvNextModel

from prsnet.errors import CheckpointError
from prsnet.models.convnext import ConvNeXt
from prsnet.models.ecosystem import from_ecosystem, to_ecosystem

DEPTHS, WIDTHS = [1, 2, 3, 1], [8, 12, 16, 20]


def random_state(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random values of the given shapes, large enough that every one of them shows in the result."""
    source = torch.Generator().manual_seed(seed)
    return {key: torch.randn(value.shape, generator=source, dtype=torch.float64) * 0.3 for key, value in state.items()}


def theirs() -> torch.nn.Module:
    config = ConvNextConfig(depths=DEPTHS, hidden_sizes=WIDTHS, num_stages=4, drop_path_rate=0.0)
    model: torch.nn.Module = ConvNextModel(config)
    return model.double().eval()


def ours() -> ConvNeXt:
    return ConvNeXt(DEPTHS, WIDTHS).double().eval()


def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_their_weights_give_the_same_features_here() -> None:
    reference, encoder = theirs(), ours()
    reference.load_state_dict(random_state(reference.state_dict(), 1))
    state, left_over = from_ecosystem(reference.state_dict())
    encoder.load_state_dict(state, strict=True)
    assert left_over == ("layernorm.weight", "layernorm.bias")
    torch.testing.assert_close(encoder(images()), reference(images()).last_hidden_state, rtol=1e-10, atol=1e-10)


def test_our_weights_give_the_same_features_there() -> None:
    reference, encoder = theirs(), ours()
    encoder.load_state_dict(random_state(encoder.state_dict(), 2))
    state = to_ecosystem(encoder.state_dict(), "transformers")
    result = reference.load_state_dict(state, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["layernorm.weight", "layernorm.bias"], [])
    torch.testing.assert_close(reference(images()).last_hidden_state, encoder(images()), rtol=1e-10, atol=1e-10)


def test_gradients_equal_too() -> None:
    reference, encoder = theirs(), ours()
    encoder.load_state_dict(random_state(encoder.state_dict(), 3))
    reference.load_state_dict(to_ecosystem(encoder.state_dict(), "transformers"), strict=False)
    encoder(images()).square().sum().backward()
    reference(images()).last_hidden_state.square().sum().backward()
    gradients = {key: value.grad for key, value in reference.named_parameters() if not key.startswith("layernorm")}
    renamed, _ = from_ecosystem({key: value for key, value in gradients.items() if value is not None})
    assert set(renamed) == {key for key, _ in encoder.named_parameters()}
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        torch.testing.assert_close(parameter.grad, renamed[key], rtol=1e-9, atol=1e-10 * scale)


def test_original_names_are_those_of_the_released_checkpoints() -> None:
    names = set(to_ecosystem(ours().state_dict(), "original"))
    linear = [f"{part}.{k}" for part in ("dwconv", "norm", "pwconv1", "pwconv2") for k in ("weight", "bias")]
    parts = ["gamma", *linear]
    blocks = {f"stages.{s}.{b}.{part}" for s, depth in enumerate(DEPTHS) for b in range(depth) for part in parts}
    steps = {f"downsample_layers.{s}.{p}.{k}" for s in range(4) for p in (0, 1) for k in ("weight", "bias")}
    assert names == blocks | steps


@pytest.mark.parametrize("naming", ["original", "transformers"])
@pytest.mark.parametrize("prefix", ["", "module.", "convnext.", "module.model."])
def test_there_and_back_changes_nothing(naming: str, prefix: str) -> None:
    state = random_state(ours().state_dict(), 4)
    named = to_ecosystem(state, "original" if naming == "original" else "transformers")
    released = {prefix + key: value for key, value in named.items()}
    released |= {f"{prefix}head.weight": torch.zeros(2, 2)}
    back, left_over = from_ecosystem(released)
    assert left_over == (f"{prefix}head.weight",)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(CheckpointError, match="none of 1 keys"):
        from_ecosystem({"layer1.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"'projection\.weight'"):
        to_ecosystem({"projection.weight": torch.zeros(1)}, "original")
    twice = {"stages.0.0.gamma": torch.zeros(1), "module.stages.0.0.gamma": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="two keys"):
        from_ecosystem(twice)

"""First weights: distributions, order, and nothing left as torch made it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prsnet.models.initialization import init_weights
from prsnet.models.presets import build_autoencoder


def test_linear_and_convolution_weights_have_deviation_0_02_and_biases_0() -> None:
    for layer in (nn.Linear(200, 300), nn.Conv2d(50, 60, 4), nn.ConvTranspose2d(50, 60, 4)):
        init_weights(layer, torch.Generator().manual_seed(0))
        assert isinstance(layer.weight, torch.Tensor)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert abs(layer.weight.mean().item()) < 5e-4
        assert isinstance(layer.bias, torch.Tensor)
        assert not layer.bias.any()


def test_statistics_of_norms_begin_anew() -> None:
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 4)
    init_weights(norm, torch.Generator())
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.tolist() == [0, 0, 0]
    assert norm.running_var.tolist() == [1, 1, 1]
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize("name", ["pico", "hybrid-nano", "vit-nano"])
def test_every_parameter_and_statistic_is_overwritten(name: str) -> None:
    model = build_autoencoder(name, torch.Generator().manual_seed(1))
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(123)
    init_weights(model, torch.Generator().manual_seed(1))
    assert all(torch.equal(value, fresh[key]) for key, value in model.state_dict().items())


def test_parameter_without_a_rule_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loose = nn.Parameter(torch.zeros(2))

    with pytest.raises(TypeError, match=r"0\.loose"):
        init_weights(nn.Sequential(Odd()), torch.Generator())

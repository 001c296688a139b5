"""Short coordinates keep lengths and cosines exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prsnet.models.compact import compact, compact_basis, expand
from prsnet.models.convnext import ConvNeXt
from prsnet.models.initialization import init_weights
from prsnet.models.reid import ReidModel


def trained_like(width: int, embedding_dim: int) -> ReidModel:
    """A network whose norm holds values that matter."""
    source = torch.Generator().manual_seed(3)
    model = ReidModel(ConvNeXt((1, 1, 1, 1), (4, 4, 6, width), stem=2, layer_scale=1.0), embedding_dim, (4, 4)).double()
    init_weights(model, source)
    neck = model.bnneck
    assert neck.running_mean is not None
    assert neck.running_var is not None
    with torch.no_grad():
        neck.running_mean.copy_(torch.randn(embedding_dim, generator=source, dtype=torch.float64))
        neck.running_var.copy_(torch.rand(embedding_dim, generator=source, dtype=torch.float64) + 0.1)
        neck.weight.copy_(torch.rand(embedding_dim, generator=source, dtype=torch.float64) + 0.5)
    return model.eval()


def embeddings(model: ReidModel, rows: int = 40) -> Tensor:
    source = torch.Generator().manual_seed(4)
    with torch.no_grad():
        return model.embed(torch.randn(rows, 3, 32, 32, generator=source, dtype=torch.float64) * 2)


@pytest.mark.parametrize(("width", "embedding_dim", "numbers"), [(10, 64, 11), (10, 11, 11), (12, 8, 8)])
def test_cosines_and_lengths_are_kept(width: int, embedding_dim: int, numbers: int) -> None:
    model = trained_like(width, embedding_dim)
    basis, full = compact_basis(model), embeddings(model)
    short = compact(full, basis)
    assert basis.shape == (embedding_dim, numbers)
    assert short.shape == (40, numbers)
    torch.testing.assert_close(short @ short.T, full @ full.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(expand(short, basis), full, rtol=0, atol=1e-12)


def test_cosines_in_single_precision_agree_to_rounding() -> None:
    model = trained_like(10, 64)
    basis, full = compact_basis(model), embeddings(model).float()
    short = compact(full, basis)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short @ short.T, full @ full.T, rtol=0, atol=1e-6)


def test_without_the_mean_one_coordinate_would_be_lost() -> None:
    """The embeddings do use all width + 1 dimensions: the bound is tight."""
    full = embeddings(trained_like(10, 64))
    singular = torch.linalg.svdvals(full)
    assert (singular > 1e-9 * singular[0]).sum() == 11

"""Nearest neighbours tile by tile against a sort of the whole matrix."""

from __future__ import annotations

import pytest
import torch

from prsnet.metrics import neighbours
from prsnet.metrics.neighbours import nearest, nearest_within, top


def unit(seed: int, count: int) -> torch.Tensor:
    vectors = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 3), (40, 100), (33, 65)])
@pytest.mark.parametrize("count", [1, 4, 200])
@pytest.mark.parametrize("tile", [16, 4096])
def test_nearest(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, count: int, tile: int) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    vectors, database = unit(0, rows), unit(1, columns)
    expected = torch.sort(vectors @ database.T, dim=1, descending=True)
    found = nearest(vectors, database, count)
    assert torch.equal(found.index, expected.indices[:, :count])
    torch.testing.assert_close(found.similarity, expected.values[:, :count])
    torch.testing.assert_close(found.lowest, expected.values[:, -1])


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("total", [1, 16, 100])
def test_nearest_within(monkeypatch: pytest.MonkeyPatch, count: int, total: int) -> None:
    monkeypatch.setattr(neighbours, "TILE", 16)
    vectors = unit(2, total)
    expected = torch.sort(vectors @ vectors.T, dim=1, descending=True)
    found = nearest_within(vectors, count)
    assert torch.equal(found.index, expected.indices[:, :count])
    torch.testing.assert_close(found.lowest, expected.values[:, -1])
    torch.testing.assert_close(found.similarity[:, 0], torch.ones(total, dtype=torch.float64))


def test_a_vector_comes_first_among_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", 4)
    vectors = unit(3, 1).expand(11, -1).contiguous()
    assert nearest_within(vectors, 3).index[:, 0].tolist() == list(range(11))


@pytest.mark.parametrize("columns", [1, 9, 100, 1003])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_top(columns: int, count: int) -> None:
    rows = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    values, places = top(rows, min(count, columns))
    expected = torch.topk(rows, min(count, columns), dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)

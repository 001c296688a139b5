"""Unit vectors, copies among them, and the product."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from prsnet.metrics import inputs, similarity
from prsnet.metrics.inputs import unit_vectors
from prsnet.metrics.similarity import CosineRows, duplicate_rows, fingerprints, product
from prsnet.types import Embeddings


def side(vectors: Any) -> Embeddings:
    return Embeddings(vectors, np.zeros(len(vectors), dtype=int), np.zeros(len(vectors), dtype=int))


def test_unit_vectors_are_taken_bit_by_bit() -> None:
    vectors = torch.randn(200, 33, generator=torch.Generator().manual_seed(0))
    once = unit_vectors(side(vectors), "side")
    torch.testing.assert_close(once.norm(dim=1), torch.ones(200))
    assert torch.equal(unit_vectors(side(once), "side"), once)
    assert torch.equal(unit_vectors(side(once.numpy()), "side"), once)
    assert torch.equal(unit_vectors(side(4 * vectors), "side"), once)


def test_unit_vectors_of_chosen_rows_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    expected = unit_vectors(side(vectors), "side")
    monkeypatch.setattr(inputs, "CHUNK_NUMBERS", 20)
    rows = np.array([3, 3, 49, 0, 17])
    assert torch.equal(unit_vectors(side(vectors), "side", rows=rows), expected[rows])
    assert torch.equal(unit_vectors(side(vectors), "side"), expected)


def test_minus_zero_is_zero() -> None:
    units = unit_vectors(side(np.array([[0.0, 1.0], [-0.0, 1.0]], dtype=np.float32)), "side")
    assert len(set(fingerprints(units).tolist())) == 1


@pytest.mark.parametrize("width", [1, 6, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_are_found(monkeypatch: pytest.MonkeyPatch, width: int, dtype: torch.dtype) -> None:
    monkeypatch.setattr(similarity, "CHUNK_NUMBERS", 30)
    vectors = torch.randint(0, 3, (60, width), generator=torch.Generator().manual_seed(width)).to(dtype)
    copies, originals = duplicate_rows(vectors)
    assert torch.equal(vectors[copies], vectors[originals])
    assert len(copies) == len(set(copies.tolist())) == 60 - len(np.unique(vectors.numpy(), axis=0))
    assert not set(copies.tolist()) & set(originals.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hashes_of_round_numbers_differ(dtype: torch.dtype) -> None:
    vectors = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=dtype)] * 7)
    assert len(set(fingerprints(vectors).tolist())) == 4**7


def test_equal_hashes_are_not_yet_equal_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "fingerprints", lambda vectors: torch.zeros(len(vectors), dtype=torch.int64))
    copies, originals = duplicate_rows(torch.tensor([[1.0], [2.0], [2.0], [3.0]]))
    assert (copies.tolist(), originals.tolist()) == ([2], [1])


def test_copies_tie_even_if_the_product_rounds_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def uneven(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b.T + 1e-7 * torch.arange(len(b))

    monkeypatch.setattr(similarity, "product", uneven)
    gallery = torch.eye(3)[[0, 1, 0, 2, 0, 1]]
    source = CosineRows(torch.ones(2, 3), gallery)
    for rows, columns in ((source, range(6)), (source.restricted(torch.tensor([5, 4, 1, 0])), (5, 4, 1, 0))):
        values = rows.rows(torch.arange(2))
        for row in values.tolist():
            by_vector: dict[int, set[float]] = {}
            for value, column in zip(row, columns, strict=True):
                by_vector.setdefault(int(gallery[column].argmax()), set()).add(value)
            assert all(len(distinct) == 1 for distinct in by_vector.values())


def test_product_lifts_lowered_precision_and_puts_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @contextlib.contextmanager
    def spy(*_: Any, enabled: bool) -> Iterator[None]:
        seen.append((torch.get_float32_matmul_precision(), enabled))
        yield

    monkeypatch.setattr(torch, "autocast", spy)
    torch.set_float32_matmul_precision("medium")
    try:
        product(torch.ones(1, 2), torch.ones(3, 2))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [("highest", False)]

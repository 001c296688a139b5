"""Sparse re-ranking against the dense algorithm of the paper, written out below."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from prsnet.metrics import neighbours, rerank
from prsnet.metrics.rerank import KReciprocal

Floats = npt.NDArray[np.floating[Any]]


def dense_k_reciprocal(query: Floats, gallery: Floats, k1: int, k2: int, weight: float) -> Floats:
    """Zhong et al., CVPR 2017, one image and one set at a time, float64; returns 1 - the final distance."""
    images = np.concatenate([query, gallery]).astype(np.float64)
    count = len(images)
    squared = 2 - 2 * images @ images.T
    scaled = squared / squared.max(axis=1, keepdims=True)
    np.fill_diagonal(squared, -1)
    rank = np.argsort(squared, axis=1)

    def reciprocal(image: int, k: int) -> list[int]:
        return [other for other in rank[image, : k + 1].tolist() if image in rank[other, : k + 1]]

    encoded = np.zeros((count, count))
    for image in range(count):
        core = set(reciprocal(image, k1))
        expanded = set(core)
        for candidate in core:
            theirs = set(reciprocal(candidate, int(np.around(k1 / 2))))
            if len(theirs & core) > 2 / 3 * len(theirs):
                expanded |= theirs
        members = sorted(expanded)
        encoded[image, members] = np.exp(-scaled[image, members])
        encoded[image] /= encoded[image].sum()
    if k2 > 1:
        encoded = np.stack([encoded[rank[image, :k2]].mean(axis=0) for image in range(count)])
    jaccard = np.empty((len(query), len(gallery)))
    for row in range(len(query)):
        for column in range(len(gallery)):
            a, b = encoded[row], encoded[len(query) + column]
            jaccard[row, column] = 1 - np.minimum(a, b).sum() / np.maximum(a, b).sum()
    return 1 - (jaccard * (1 - weight) + scaled[: len(query), len(query) :] * weight)


def crowd(seed: int, queries: int, images: int, width: int = 12) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(2, images // 8), width))
    vectors = centres[generator.integers(0, len(centres), queries + images)]
    vectors = vectors + 0.6 * generator.standard_normal(vectors.shape)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:queries], vectors[queries:]


@pytest.mark.parametrize(
    ("seed", "queries", "images", "k1", "k2", "weight"),
    [
        (0, 20, 100, 20, 6, 0.3),
        (1, 20, 100, 5, 1, 0.3),
        (2, 30, 60, 7, 3, 0.0),
        (3, 30, 60, 10, 2, 1.0),
        (4, 1, 40, 1, 1, 0.5),
        (5, 5, 3, 20, 6, 0.3),
        (6, 1, 1, 20, 6, 0.3),
    ],
)
def test_equals_the_dense_original(
    monkeypatch: pytest.MonkeyPatch, seed: int, queries: int, images: int, k1: int, k2: int, weight: float
) -> None:
    # Small chunks, so that every loop over blocks runs more than once.
    monkeypatch.setattr(rerank, "CHUNK_PAIRS", 2000)
    monkeypatch.setattr(neighbours, "TILE", 32)
    query, gallery = crowd(seed, queries, images)
    expected = dense_k_reciprocal(query, gallery, k1, k2, weight)
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
        source = KReciprocal(k1=k1, k2=k2, weight=weight).similarities(
            torch.tensor(query, dtype=dtype), torch.tensor(gallery, dtype=dtype)
        )
        rows = source.rows(torch.arange(queries))
        assert rows.dtype == dtype
        np.testing.assert_allclose(rows.numpy(), expected, atol=tolerance)
        columns = torch.arange(images - 1, -1, -2)
        some = torch.arange(0, queries, 3)
        part = source.restricted(columns).rows(some)
        np.testing.assert_allclose(part.numpy(), expected[::3][:, columns.numpy()], atol=tolerance)

"""Sparse re-ranking against the dense algorithm of the paper, written out below."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from prsnet.errors import InputError
from prsnet.metrics import neighbours, rerank
from prsnet.metrics.expansion import Expansion
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.rerank import KReciprocal
from prsnet.types import Embeddings

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
    final: Floats = jaccard * (1 - weight) + scaled[: len(query), len(query) :] * weight
    return 1 - final


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


def test_the_report_ranks_by_the_new_similarities() -> None:
    query, gallery = crowd(7, 15, 80)
    pids = np.random.default_rng(7).integers(1, 6, 95)
    camids = np.random.default_rng(8).integers(1, 4, 95)
    sides = Embeddings(query, pids[:15], camids[:15]), Embeddings(gallery, pids[15:], camids[15:])
    report = rank_report(*sides, rerank=KReciprocal(k1=8, k2=3), block_size=4, camera_pairs=True)
    new = dense_k_reciprocal(query, gallery, 8, 3, 0.3)
    for place, row in enumerate(report.per_query.row):
        allowed = (pids[15:] != pids[row]) | (camids[15:] != camids[row])
        order = np.argsort(-new[row, allowed])
        right = np.flatnonzero((pids[15:] == pids[row])[allowed][order]) + 1
        assert report.per_query.first_match[place] == right[0]
        assert report.per_query.ap[place] == pytest.approx(np.mean(np.arange(1, len(right) + 1) / right))
    assert "k1=8, k2=3, lambda=0.3" in report.protocol
    assert report.map != rank_report(*sides).map
    # Neighbourhoods stay those of the whole gallery when one camera is looked at alone.
    (own, other), part = next(iter(report.by_camera_pair.items()))
    columns = np.flatnonzero(camids[15:] == other)
    hits = []
    for row in np.flatnonzero(camids[:15] == own):
        answers = pids[15:][columns][np.argsort(-new[row, columns])]
        if pids[row] in answers:
            hits.append(answers[0] == pids[row])
    assert (part.queries, part.rank1) == (len(hits), np.mean(hits))


def test_junk_takes_no_part() -> None:
    query, gallery = crowd(8, 10, 50)
    pids = np.random.default_rng(3).integers(1, 5, 60)
    with_junk = Embeddings(
        np.concatenate([query + 1e-3, gallery]), np.concatenate([np.full(10, -1), pids[10:]]), np.full(60, 2)
    )
    without = Embeddings(gallery, pids[10:], np.full(50, 2))
    side = Embeddings(query, pids[:10], np.full(10, 1))
    for method in (KReciprocal(k1=5, k2=2), Expansion(query_neighbours=3, gallery_neighbours=3)):
        assert rank_report(side, with_junk, rerank=method).map == rank_report(side, without, rerank=method).map


def test_copies_of_one_image_do_not_break() -> None:
    query, gallery = crowd(9, 5, 30)
    copies = np.concatenate([gallery, np.repeat(gallery[:1], 40, axis=0), np.repeat(query[:1], 30, axis=0)])
    rows = KReciprocal().similarities(torch.tensor(query), torch.tensor(copies)).rows(torch.arange(5))
    assert bool(torch.isfinite(rows).all())
    assert float(rows.max()) <= 1 + 1e-9
    everywhere = torch.ones(6, 3) / 3**0.5
    assert bool(torch.isfinite(KReciprocal().similarities(everywhere, everywhere).rows(torch.arange(6))).all())


def test_progress_reaches_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", 16)
    seen: list[tuple[int, int]] = []
    query, gallery = crowd(10, 10, 60)
    KReciprocal().similarities(
        torch.tensor(query), torch.tensor(gallery), lambda done, total: seen.append((done, total))
    )
    assert len(seen) == 5
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    "settings", [{"k1": 0}, {"k2": 0}, {"weight": -0.1}, {"weight": 1.5}, {"weight": float("nan")}]
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="re-ranking: "):
        KReciprocal(**settings)

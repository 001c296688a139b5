"""Query expansion and database-side augmentation against loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from prsnet.errors import InputError
from prsnet.metrics.expansion import Expansion, augment_database, expand_queries
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.rerank import KReciprocal
from prsnet.types import Embeddings

Floats = npt.NDArray[np.floating[Any]]


def unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths


def crowd(seed: int, count: int) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((count, 4)))


def by_loops(vectors: Floats, database: Floats, neighbours: int, alpha: float, itself: bool) -> Floats:
    expanded = []
    for row, vector in enumerate(vectors):
        cosines = database @ vector
        if itself:
            cosines[row] = -np.inf
        total = vector.copy()
        for column in np.argsort(-cosines)[:neighbours]:
            if cosines[column] > 0:
                total += cosines[column] ** alpha * database[column]
        expanded.append(total)
    return unit(np.array(expanded))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("neighbours", [1, 4, 100])
def test_agrees_with_loops(neighbours: int, alpha: float) -> None:
    query, gallery = crowd(0, 9), crowd(1, 25)
    expanded = expand_queries(torch.tensor(query), torch.tensor(gallery), neighbours, alpha)
    np.testing.assert_allclose(expanded, by_loops(query, gallery, neighbours, alpha, itself=False), atol=1e-12)
    augmented = augment_database(torch.tensor(gallery), neighbours, alpha)
    np.testing.assert_allclose(augmented, by_loops(gallery, gallery, neighbours, alpha, itself=True), atol=1e-12)


def test_without_a_positive_neighbour_nothing_changes() -> None:
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[-1.0, 0.0], [0.0, -1.0]])
    assert torch.equal(expand_queries(query, gallery, 2, 0.0), query)
    assert torch.equal(augment_database(gallery[:1], 3), gallery[:1])


def test_report_with_expansion_and_re_ranking() -> None:
    query, gallery = crowd(2, 12), crowd(3, 40)
    pids = np.random.default_rng(4).integers(1, 5, 52)
    sides = Embeddings(query, pids[:12], np.full(12, 1)), Embeddings(gallery, pids[12:], np.full(40, 2))
    method = Expansion(query_neighbours=3, gallery_neighbours=2, alpha=2.0)
    moved = by_loops(gallery, gallery, 2, 2.0, itself=True)
    by_hand = Embeddings(
        by_loops(query, moved, 3, 2.0, itself=False), *(getattr(sides[0], n) for n in ("pids", "camids"))
    )
    expected = rank_report(by_hand, Embeddings(moved, sides[1].pids, sides[1].camids))
    report = rank_report(*sides, rerank=method)
    assert report.map == pytest.approx(expected.map)
    assert "query expansion (n=3, alpha=2)" in report.protocol
    assert "database-side augmentation (n=2, alpha=2)" in report.protocol
    again = Expansion(query_neighbours=3, gallery_neighbours=2, alpha=2.0, then=KReciprocal(k1=4, k2=2))
    both = rank_report(*sides, rerank=again)
    assert both.map == pytest.approx(
        rank_report(by_hand, Embeddings(moved, sides[1].pids, sides[1].camids), rerank=KReciprocal(k1=4, k2=2)).map
    )
    assert "k1=4" in both.protocol


@pytest.mark.parametrize(
    "settings", [{"query_neighbours": 0}, {"query_neighbours": -1}, {"gallery_neighbours": -2}, {"alpha": -1.0}]
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expansion: "):
        Expansion(**settings)

"""Query expansion and database-side augmentation: vectors moved towards their neighbours, without labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prsnet.errors import InputError
from prsnet.metrics.inputs import CHUNK_NUMBERS, Progress, spans
from prsnet.metrics.neighbours import Neighbours, nearest, nearest_within
from prsnet.metrics.similarity import CosineRows, GallerySimilarities, Reranker


@dataclass(frozen=True, kw_only=True, slots=True)
class Expansion:
    """Expands queries and gallery, for the ``rerank`` of :func:`prsnet.metrics.ranking.rank_report`.

    The gallery is augmented first; the queries are expanded with the augmented gallery.

    Attributes:
        query_neighbours: gallery images added to each query; 0 for none.
        gallery_neighbours: gallery images added to each gallery image; 0 for none.
        alpha: how fast the weight of a neighbour falls with its similarity, from 0 (a plain mean).
        then: what ranks the new vectors, e.g. ``KReciprocal()``; None for the cosine.

    Raises:
        InputError: if a value is out of range, or nothing is to be done.
    """

    query_neighbours: int = 10
    gallery_neighbours: int = 0
    alpha: float = 3.0
    then: Reranker | None = None

    def __post_init__(self) -> None:
        counts = (self.query_neighbours, self.gallery_neighbours)
        if min(counts) < 0 or max(counts) == 0:
            raise InputError(f"expansion: expected numbers of neighbours of 0 or more, not both 0, got {counts}")
        if not self.alpha >= 0:
            raise InputError(f"expansion: alpha must be 0 or more, got {self.alpha}")

    @property
    def name(self) -> str:
        """What reports call it."""
        parts = []
        if self.gallery_neighbours:
            parts.append(f"database-side augmentation (n={self.gallery_neighbours}, alpha={self.alpha:g})")
        if self.query_neighbours:
            parts.append(f"query expansion (n={self.query_neighbours}, alpha={self.alpha:g})")
        if self.then:
            parts.append(self.then.name)
        return ", ".join(parts)

    def similarities(self, query: Tensor, gallery: Tensor, progress: Progress | None = None) -> GallerySimilarities:
        """Return the similarities of the expanded (Q, D) to the augmented (G, D) unit vectors."""
        if self.gallery_neighbours:
            gallery = augment_database(gallery, self.gallery_neighbours, self.alpha, progress)
        if self.query_neighbours:
            query = expand_queries(query, gallery, self.query_neighbours, self.alpha)
        return self.then.similarities(query, gallery, progress) if self.then else CosineRows(query, gallery)


def expand_queries(query: Tensor, gallery: Tensor, neighbours: int, alpha: float = 3.0) -> Tensor:
    """Return (Q, D) unit vectors: each query plus its nearest gallery vectors, weighted by similarity ** alpha.

    Alpha query expansion (Radenovic, Tolias, Chum, TPAMI 2019, section 3.3); negative similarities weigh nothing.

    Args:
        query: (Q, D) unit vectors.
        gallery: (G, D) unit vectors.
        neighbours: gallery vectors added to each query, from 1.
        alpha: from 0.
    """
    return _weighted_sum(query, gallery, nearest(query, gallery, neighbours), alpha)


def augment_database(gallery: Tensor, neighbours: int, alpha: float = 3.0, progress: Progress | None = None) -> Tensor:
    """Return (G, D) unit vectors: each gallery vector plus its nearest others, weighted by similarity ** alpha.

    Database-side augmentation (Arandjelovic, Zisserman, CVPR 2012) with the weights of alpha query expansion.

    Args:
        gallery: (G, D) unit vectors.
        neighbours: vectors added to each one, from 1.
        alpha: from 0.
        progress: called with (pairs of vectors done, pairs in all).
    """
    found = nearest_within(gallery, neighbours + 1, progress)
    others = Neighbours(found.index[:, 1:], found.similarity[:, 1:], found.lowest)
    return _weighted_sum(gallery, gallery, others, alpha)


def _weighted_sum(vectors: Tensor, database: Tensor, found: Neighbours, alpha: float) -> Tensor:
    weights = torch.where(found.similarity > 0, found.similarity.clamp_min(0) ** alpha, 0)
    summed = torch.empty_like(vectors)
    for start, stop in spans(len(vectors), max(1, CHUNK_NUMBERS // (vectors.shape[1] * max(1, weights.shape[1])))):
        added = weights[start:stop, None, :] @ database[found.index[start:stop]]
        summed[start:stop] = vectors[start:stop] + added[:, 0]
    return torch.nn.functional.normalize(summed, dim=1)

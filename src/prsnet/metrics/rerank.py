"""Better rankings from the neighbourhoods of the images, without labels: k-reciprocal encoding and query expansion.

Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. The original holds
several dense matrices over queries and gallery together; here all of them are sparse rows, and the result is streamed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from prsnet.errors import InputError
from prsnet.metrics.inputs import CHUNK_NUMBERS, Progress, spans
from prsnet.metrics.neighbours import Neighbours, nearest_within
from prsnet.metrics.similarity import CosineRows, GallerySimilarities

CHUNK_PAIRS = 1 << 22
"""Pairs of images looked at together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KReciprocal:
    """Re-ranking by k-reciprocal encoding, for the ``rerank`` of :func:`prsnet.metrics.ranking.rank_report`.

    The similarity of a query q to a gallery image g becomes ``(1 - weight) * J(q, g) + weight * C(q, g)``. J is the
    Jaccard similarity of their encoded neighbourhoods (the paper's equations 8 and 10). C is 1 minus the squared
    Euclidean distance of q and g divided by the largest one of q to any image, as in the authors' code. That is 1 minus
    the paper's final distance (equation 12), so the ranking is the same.

    Neighbourhoods are taken over queries and gallery together, junk left out, cameras ignored: that is the protocol
    which published figures follow. Where images are copies of one another, which of them are neighbours is arbitrary,
    here as in the original.

    Attributes:
        k1: neighbours that may be reciprocal, from 1.
        k2: neighbours over which encodings are averaged, from 1; 1 for none.
        weight: lambda, the share of the original similarity, 0..1.

    Raises:
        InputError: if a value is out of range.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise InputError(f"re-ranking: k1 and k2 must be at least 1, got k1={self.k1} k2={self.k2}")
        if not 0 <= self.weight <= 1:
            raise InputError(f"re-ranking: the weight (lambda) must lie in 0..1, got {self.weight}")

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"re-ranked by k-reciprocal encoding (k1={self.k1}, k2={self.k2}, lambda={self.weight:g})"

    def similarities(self, query: Tensor, gallery: Tensor, progress: Progress | None = None) -> GallerySimilarities:
        """Return the re-ranked similarities, -1..1, of (Q, D) to (G, D) unit vectors.

        The neighbourhoods are computed here, once (N = Q + G images: N x N x D multiplications by blocks, then sparse
        work on about N x 10 k1 entries), the similarities when rows are asked for.

        Args:
            query: unit vectors.
            gallery: unit vectors of the same type on the same device.
            progress: called with (pairs of images done, pairs in all) during the search for neighbours.
        """
        images = torch.cat([query, gallery])
        found = nearest_within(images, self.k1 + 1, progress)
        encoded = encode(images, found, self.k1)
        if self.k2 > 1:
            encoded = average_over_neighbours(encoded, found.index[:, : self.k2])
        farthest = 2 - 2 * found.lowest[: len(query)]
        rows, columns = encoded[: len(query)], sparse.csc_array(encoded[len(query) :])
        return KReciprocalRows(CosineRows(query, gallery), rows, columns, farthest, self.weight)


class KReciprocalRows:
    """Re-ranked similarities by blocks of queries.

    Args:
        cosine: of the queries to the gallery.
        queries: (Q, N) the encoded neighbourhoods of the queries among all N images; every row sums to 1.
        columns: (G, N) those of the gallery.
        farthest: (Q,) each query's largest squared Euclidean distance to any image.
        weight: the share of the original similarity, 0..1.
    """

    def __init__(
        self,
        cosine: CosineRows,
        queries: sparse.csr_array,
        columns: sparse.csc_array,
        farthest: Tensor,
        weight: float,
    ) -> None:
        self.cosine = cosine
        self.queries = queries
        self.columns = columns
        self.farthest = farthest.clamp_min(torch.finfo(farthest.dtype).tiny)
        self.weight = weight

    def rows(self, queries: Tensor) -> Tensor:
        """Return (B, G) re-ranked similarities of the queries ``queries`` (B,) int64."""
        cosines = self.cosine.rows(queries)
        own = self.farthest[queries.to(self.farthest.device)][:, None]
        original = 1 - (2 - 2 * cosines) / own
        shared = torch.from_numpy(self._jaccard(queries.cpu().numpy())).to(original)
        return shared.mul_(1 - self.weight).add_(original, alpha=self.weight)

    def restricted(self, columns: Tensor) -> KReciprocalRows:
        """Return the similarities to the gallery images ``columns`` (M,) alone; neighbourhoods stay as they are."""
        cosine = self.cosine.restricted(columns)
        chosen = sparse.csc_array(sparse.csr_array(self.columns)[columns.cpu().numpy()])
        return KReciprocalRows(cosine, self.queries, chosen, self.farthest, self.weight)

    def _jaccard(self, queries: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return (B, G): the sum of the minima of two rows over the sum of their maxima; rows sum to 1."""
        common: npt.NDArray[np.float64] = np.concatenate([self._common(part) for part in self._parts(queries)])
        jaccard: npt.NDArray[np.float64] = common / (2 - common)
        return jaccard

    def _parts(self, queries: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Cut ``queries`` so that each part has about CHUNK_PAIRS entries in common with the gallery."""
        rows = self.queries[queries]
        work = np.diff(self.columns.indptr)[rows.indices].astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(work)])[rows.indptr[1:]]
        return np.split(queries, np.flatnonzero(np.diff(ends // CHUNK_PAIRS)) + 1)

    def _common(self, queries: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return (B, G) the sum of the minima, adding up only where both rows have an entry."""
        rows, columns = self.queries[queries], self.columns
        first = columns.indptr[rows.indices].astype(np.int64)
        lengths = columns.indptr[rows.indices + 1] - first
        entry = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(entry)) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
        smaller = np.minimum(rows.data[entry], columns.data[place])
        row = np.repeat(np.arange(len(queries)), np.diff(rows.indptr))
        images = columns.shape[0]
        flat = row[entry] * images + columns.indices[place]
        sums = np.bincount(flat, smaller, minlength=len(queries) * images)
        return np.asarray(sums, dtype=np.float64).reshape(len(queries), images)


def reciprocal(index: Tensor, rows: slice) -> Tensor:
    """Return (B, K) bool: whether each neighbour of ``rows`` has that row among its own neighbours.

    Args:
        index: (N, K) neighbours of every image, itself among them.
        rows: the rows asked for.
    """
    own = torch.arange(len(index), device=index.device)[rows]
    return (index[index[rows]] == own[:, None, None]).any(dim=2)


def encode(images: Tensor, found: Neighbours, k1: int) -> sparse.csr_array:
    """Return (N, N) sparse rows: each image's expanded k-reciprocal neighbours, weighted and summing to 1.

    Equations 3 (reciprocal neighbours), 5 (expansion by the neighbours' own sets at k1 / 2, where they share more than
    two thirds) and 7 (weights exp(-d)) of the paper; d is the squared distance divided by the row's largest.
    """
    count = len(images)
    half = found.index[:, : round(k1 / 2) + 1]
    full_mask = torch.empty(found.index.shape, dtype=torch.bool, device=images.device)
    half_mask = torch.empty(half.shape, dtype=torch.bool, device=images.device)
    for start, stop in spans(count, max(1, CHUNK_PAIRS // found.index.shape[1] ** 2)):
        rows = slice(start, stop)
        full_mask[rows], half_mask[rows] = reciprocal(found.index, rows), reciprocal(half, rows)
    parts = []
    work = found.index.shape[1] ** 2 * half.shape[1]
    for start, stop in spans(count, max(1, 4 * CHUNK_PAIRS // work)):
        rows = slice(start, stop)
        row, column = _expanded(found.index, full_mask, half, half_mask, rows)
        cosines = _pair_cosines(images, start + row, column)
        farthest = (2 - 2 * found.lowest[rows]).clamp_min(torch.finfo(images.dtype).tiny)
        weights = torch.exp(-(2 - 2 * cosines) / farthest[row])
        parts.append(_sparse_rows(row, column, weights, (stop - start, count)))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def _pair_cosines(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    cosines = torch.empty(len(row), dtype=images.dtype, device=images.device)
    for start, stop in spans(len(row), max(1, CHUNK_NUMBERS // 8 // images.shape[1])):
        products = images.index_select(0, row[start:stop]).mul_(images.index_select(0, column[start:stop]))
        torch.sum(products, dim=1, out=cosines[start:stop])
    return cosines


def _expanded(index: Tensor, mask: Tensor, half: Tensor, half_mask: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Return the (row from the slice's start, column) of every member of the expanded sets, each once, in order."""
    own = torch.where(mask[rows], index[rows], -1)
    theirs = torch.where(half_mask[index[rows]], half[index[rows]], -2)
    inside = (theirs[:, :, :, None] == own[:, None, None, :]).any(dim=3).sum(dim=2)
    size = (theirs >= 0).sum(dim=2)
    accepted = mask[rows] & (3 * inside > 2 * size)
    added = torch.where(accepted[:, :, None], theirs, -1).flatten(1)
    members = torch.sort(torch.cat([own, added], dim=1), dim=1).values
    fresh = torch.ones_like(members, dtype=torch.bool)
    fresh[:, 1:] = members[:, 1:] != members[:, :-1]
    row, place = (fresh & (members >= 0)).nonzero(as_tuple=True)
    return row, members[row, place]


def _sparse_rows(row: Tensor, column: Tensor, weights: Tensor, shape: tuple[int, int]) -> sparse.csr_array:
    totals = torch.zeros(shape[0], dtype=weights.dtype, device=weights.device).index_add_(0, row, weights)
    data = (weights / totals[row]).float().cpu().numpy()
    ends = np.concatenate([[0], np.cumsum(np.bincount(row.cpu().numpy(), minlength=shape[0]))])
    return sparse.csr_array((data, column.cpu().numpy().astype(np.int32), ends), shape=shape)


def average_over_neighbours(encoded: sparse.csr_array, index: Tensor) -> sparse.csr_array:
    """Return each row's mean over the rows of its neighbours ``index`` (N, k2), itself among them (equation 11)."""
    count, width = index.shape
    ends = np.arange(count + 1, dtype=np.int64) * width
    share = np.full(count * width, 1 / width, dtype=np.float32)
    pick = sparse.csr_array((share, index.flatten().cpu().numpy().astype(np.int32), ends), shape=(count, count))
    return sparse.csr_array(pick @ encoded)

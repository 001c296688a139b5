"""Exact nearest neighbours by cosine, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prsnet.metrics.inputs import Progress, spans
from prsnet.metrics.similarity import product

TILE = 4096
"""Rows and columns of the similarities computed at a time: 64 MB."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The K most similar vectors of a database for each of N vectors.

    Attributes:
        index: (N, K) int64, most similar first.
        similarity: (N, K) their cosines.
        lowest: (N,) the smallest cosine to any vector of the database.
    """

    index: Tensor
    similarity: Tensor
    lowest: Tensor

    def merge(self, start: int, tile: Tensor, first: int) -> None:
        """Take in the similarities ``tile`` (B, M) of the rows from ``start`` to the database from ``first``."""
        rows = slice(start, start + len(tile))
        count = self.index.shape[1]
        values, columns = top(tile, min(count, tile.shape[1]))
        both = torch.topk(torch.cat([self.similarity[rows], values], dim=1), count, dim=1)
        index = torch.cat([self.index[rows], columns + first], dim=1)
        self.similarity[rows] = both.values
        self.index[rows] = index.gather(1, both.indices)
        self.lowest[rows] = torch.minimum(self.lowest[rows], tile.amin(dim=1))


def _nothing_yet(vectors: Tensor, count: int) -> Neighbours:
    shape = (len(vectors), count)
    return Neighbours(
        torch.zeros(shape, dtype=torch.int64, device=vectors.device),
        vectors.new_full(shape, -torch.inf),
        vectors.new_full(shape[:1], torch.inf),
    )


def nearest(vectors: Tensor, database: Tensor, count: int) -> Neighbours:
    """Return the ``count`` nearest neighbours in ``database`` of each vector, exactly.

    Args:
        vectors: (N, D) unit vectors.
        database: (M, D) unit vectors.
        count: K, from 1; cut to M.
    """
    found = _nothing_yet(vectors, min(count, len(database)))
    for start, stop in spans(len(vectors), TILE):
        for first, last in spans(len(database), TILE):
            found.merge(start, product(vectors[start:stop], database[first:last]), first)
    return found


def nearest_within(vectors: Tensor, count: int, progress: Progress | None = None) -> Neighbours:
    """Return the ``count`` nearest neighbours of each vector among all, itself always the first, exactly.

    Only the tiles on and above the diagonal are computed: half the multiplications. A vector comes first in its own
    list also where a copy of it or rounding would be more similar; its similarity there is 1.

    Args:
        vectors: (N, D) unit vectors.
        count: K, from 1; cut to N.
        progress: called with (pairs of vectors done, pairs in all) after every row of tiles.
    """
    total = len(vectors)
    found = _nothing_yet(vectors, min(count, total))
    for start, stop in spans(total, TILE):
        for first, last in spans(total, TILE):
            if first < start:
                continue
            tile = product(vectors[start:stop], vectors[first:last])
            if first == start:
                found.lowest[start:stop] = torch.minimum(found.lowest[start:stop], tile.amin(dim=1))
                tile.fill_diagonal_(torch.inf)
            else:
                found.merge(first, tile.T.contiguous(), start)
            found.merge(start, tile, first)
        if progress:
            progress(stop * (2 * total - stop), total * total)
    found.similarity.clamp_(max=1)
    return found


def top(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest values of each row (B, M) and their columns, largest first.

    The columns are dealt into groups. The ``count`` largest values lie in the ``count`` groups with the largest maxima:
    most of a row is read once, in order, and never partitioned.
    """
    size = int((rows.shape[1] / count) ** 0.5)
    groups = rows.shape[1] // max(1, size)
    if size < 3 or groups <= count:
        best = torch.topk(rows, count, dim=1)
        return best.values, best.indices
    dealt = rows[:, : groups * size].view(len(rows), size, groups)
    chosen = torch.topk(dealt.amax(dim=1), count, dim=1).indices
    columns = chosen[:, :, None] + groups * torch.arange(size, device=rows.device)
    rest = torch.arange(groups * size, rows.shape[1], device=rows.device).expand(len(rows), -1)
    columns = torch.cat([columns.flatten(1), rest], dim=1)
    best = torch.topk(rows.gather(1, columns), count, dim=1)
    return best.values, columns.gather(1, best.indices)

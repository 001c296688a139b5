"""The best rows of a matrix for a query: exact, with one defined order.

A product in single precision finds the candidates; its rounding error has a bound (Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd ed., eq. 3.5: |error| <= n u / (1 - n u) for unit vectors of n numbers), and whatever the
bound leaves open is computed again in double precision, row by row. So the answer does not depend on block sizes,
threads or the row's place, and equal vectors have equal similarities. Equal similarities are ordered by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Match = tuple[int, float]
"""Row and cosine similarity."""

BLOCK_NUMBERS = 2**25
"""Similarities computed at a time: 128 MiB."""


def best_rows(
    vectors: Floats,
    queries: Floats,
    rows: Rows | None,
    *,
    top_k: int,
    threshold: float | None = None,
    groups: Rows | None = None,
) -> list[list[Match]]:
    """Return for each query the ``top_k`` most similar rows, most similar first, ties by row.

    Args:
        vectors: (N, r) float32, unit length.
        queries: (Q, r) float32, unit length.
        rows: (M,) rising row numbers that take part; ``None``: all.
        top_k: at most that many matches per query.
        threshold: leave out rows of lower similarity.
        groups: (N,) group of each row; at most one match, the best, comes from each group.
    """
    count = len(vectors) if rows is None else len(rows)
    if not count or not len(queries):
        return [[] for _ in queries]
    margin = rounding_bound(vectors.shape[1])
    found: list[list[Match]] = []
    for block, coarse in _products(vectors, queries, rows):
        for query, similarities in zip(block, coarse, strict=True):
            kept = _group_of(groups, rows)
            cutoff = _kth_best(similarities, top_k, kept) - 2 * margin
            if threshold is not None:
                cutoff = max(cutoff, threshold - margin)
            places = np.flatnonzero(similarities >= cutoff)
            candidates = places if rows is None else rows[places]
            exact = exact_similarities(vectors, query, candidates)
            found.append(_first(candidates, exact, top_k, threshold, groups))
    return found


def rounding_bound(width: int) -> float:
    """Return how far a product of two unit vectors of ``width`` numbers in single precision can be off."""
    unit = (width + 4) * 2.0**-24
    return unit / (1 - unit)


def exact_similarities(vectors: Floats, query: Floats, rows: Rows) -> npt.NDArray[np.float64]:
    """Return the cosine similarities (n,) of ``rows`` to ``query`` in double precision, each row on its own."""
    result = np.empty(len(rows))
    step = max(1, BLOCK_NUMBERS // 4 // vectors.shape[1])
    wide = query.astype(np.float64)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        result[start : start + step] = (vectors[part] * wide).sum(axis=1)
    return np.clip(result, -1, 1)


def _products(vectors: Floats, queries: Floats, rows: Rows | None) -> Iterator[tuple[Floats, Floats]]:
    """Yield blocks of queries with their similarities to the rows, in single precision."""
    if rows is not None and len(rows) * 4 < len(vectors):
        columns: Callable[[Floats], Floats] = lambda product: product  # noqa: E731
        matrix = vectors[rows]
    else:
        matrix = vectors
        columns = (lambda product: product) if rows is None else (lambda product: product[:, rows])
    step = max(1, BLOCK_NUMBERS // len(matrix))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        yield block, columns(block @ matrix.T)


def _group_of(groups: Rows | None, rows: Rows | None) -> Rows | None:
    return groups if groups is None or rows is None else groups[rows]


def _kth_best(similarities: Floats, top_k: int, groups: Rows | None) -> float:
    """Return a similarity that at least ``top_k`` rows of different groups reach, or the lowest of all."""
    taken = top_k
    while taken < len(similarities):
        places = np.argpartition(similarities, len(similarities) - taken)[-taken:]
        if groups is None or len(np.unique(groups[places])) >= top_k:
            return float(similarities[places].min())
        taken *= 4
    return float(similarities.min())


def _first(
    rows: Rows, similarities: npt.NDArray[np.float64], top_k: int, threshold: float | None, groups: Rows | None
) -> list[Match]:
    order = np.lexsort((rows, -similarities))
    if threshold is not None:
        order = order[similarities[order] >= threshold]
    if groups is not None:
        _, firsts = np.unique(groups[rows[order]], return_index=True)
        order = order[np.sort(firsts)]
    return [(int(rows[place]), float(similarities[place])) for place in order[:top_k]]

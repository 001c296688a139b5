"""At which ranks each query finds its relevant images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prsnet.metrics.counting import count_at_least
from prsnet.metrics.inputs import Progress, spans
from prsnet.metrics.sides import Ints, Pairs, Sides, identity_pairs
from prsnet.metrics.similarity import SimilarityRows
from prsnet.types import QueryRanks

BLOCK_BYTES = 64 << 20
"""Memory for the similarities of one block of queries, unless the caller sets the block's size."""
MAX_BLOCK = 512
"""Queries per block at most: larger blocks do not make the product faster."""


def place_queries(
    source: SimilarityRows,
    sides: Sides,
    queries: Ints,
    *,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> QueryRanks:
    """Return what the ranking of each of ``queries`` (N,) comes to; all of them must have a relevant image.

    Args:
        source: similarities of all queries to the gallery of ``sides``.
        sides: who is compared with whom.
        queries: (N,) rows of ``sides``' queries.
        block_size: queries at a time; None for what fits into about 64 MB.
        progress: called with (queries done, N) after every block.
    """
    blocks = []
    for start, stop in spans(len(queries), block_size or default_block(len(sides.gallery_pids))):
        blocks.append(_place_block(source, sides, queries[start:stop]))
        if progress:
            progress(stop, len(queries))
    return join_ranks(blocks)


def join_ranks(parts: Sequence[QueryRanks]) -> QueryRanks:
    """Return the queries of all ``parts`` (at least one) in the order of the query set."""
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in QueryRanks.__slots__}
    order = np.argsort(joined["row"], kind="stable")
    return QueryRanks(**{name: array[order] for name, array in joined.items()})


def default_block(gallery: int) -> int:
    """Return how many queries against ``gallery`` images go into one block."""
    return int(np.clip(BLOCK_BYTES // (4 * max(1, gallery)), 1, MAX_BLOCK))


def _place_block(source: SimilarityRows, sides: Sides, queries: Ints) -> QueryRanks:
    pairs = identity_pairs(sides, queries)
    relevant = np.bincount(pairs.row[pairs.relevant], minlength=len(queries))
    similarities = source.rows(torch.from_numpy(queries))
    thresholds = _thresholds(similarities, pairs, relevant)
    own = sides.own_column[queries]
    _leave_out(similarities, pairs.row, pairs.column)
    _leave_out(similarities, np.flatnonzero(own >= 0), own[own >= 0])
    above = count_at_least(similarities, thresholds).cpu().numpy()
    ap, first_match, inp = precision_figures(above, relevant)
    stranger = (own >= 0) & (sides.gallery_pids[own] != sides.query_pids[queries])
    left_out = np.bincount(pairs.row[~pairs.relevant], minlength=len(queries)) + stranger
    return QueryRanks(
        row=queries,
        pid=sides.query_pids[queries],
        camid=sides.query_camids[queries],
        ap=ap,
        first_match=first_match,
        inp=inp,
        relevant=relevant,
        valid=len(sides.gallery_pids) - left_out,
    )


def _thresholds(similarities: Tensor, pairs: Pairs, relevant: Ints) -> Tensor:
    """Return (B, R) the similarities of each query's relevant images, ascending, the tail +inf."""
    row, column = pairs.row[pairs.relevant], pairs.column[pairs.relevant]
    place = np.arange(len(row)) - np.repeat(np.cumsum(relevant) - relevant, relevant)
    shape = (len(relevant), int(relevant.max()))
    thresholds = torch.full(shape, torch.inf, dtype=similarities.dtype, device=similarities.device)
    at, to = (torch.from_numpy(index).to(similarities.device) for index in (row, place))
    thresholds[at, to] = similarities[at, torch.from_numpy(column).to(similarities.device)]
    return torch.sort(thresholds, dim=1).values


def _leave_out(similarities: Tensor, row: Ints, column: Ints) -> None:
    at, to = (torch.from_numpy(index).to(similarities.device) for index in (row, column))
    similarities[at, to] = -torch.inf


def precision_figures(above: Ints, relevant: Ints) -> tuple[npt.NDArray[np.float64], Ints, npt.NDArray[np.float64]]:
    """Return (B,) AP, rank of the first match and INP from how many irrelevant images are at least as similar.

    Args:
        above: (B, R); ``above[q, j]`` belongs to the relevant image with the j-th smallest similarity. Of the query's
            relevant images it is number ``relevant[q] - j`` from the top, and its rank is that plus ``above``.
        relevant: (B,) >= 1; what lies behind that many columns is ignored.
    """
    number = relevant[:, None] - np.arange(above.shape[1])
    real = number > 0
    rank = np.where(real, number + above, 1)
    precision = np.where(real, number / rank, 0.0)
    first = np.take_along_axis(rank, relevant[:, None] - 1, axis=1)[:, 0]
    return precision.sum(axis=1) / relevant, first, precision[:, 0]

"""Who is compared with whom, and at which ranks each query finds its relevant images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prsnet.metrics.counting import count_at_least
from prsnet.metrics.inputs import spans
from prsnet.metrics.similarity import SimilarityRows
from prsnet.types import DISTRACTOR_PID, JUNK_PID, UNKNOWN_CAMID, Embeddings, QueryRanks

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
CameraFilter: TypeAlias = Literal["other", "all", "same"]
Progress: TypeAlias = Callable[[int, int], None]

SKIP_REASONS: Mapping[str, str] = {
    "junk_query": "the query is junk (pid -1)",
    "distractor_query": "the query is a distractor (pid 0)",
    "identity_absent": "its identity is not in the gallery",
    "same_camera_only": "its identity is in the gallery in the query's own camera only",
    "other_cameras_only": "its identity is in the gallery in other cameras only",
    "only_itself": "the only gallery image of its identity is the query itself",
}
"""Why a query is not counted, in words; the keys are those of ``RankReport.skipped``."""

BLOCK_BYTES = 64 << 20
"""Memory for the similarities of one block of queries, unless the caller sets the block's size."""
MAX_BLOCK = 512
"""Queries per block at most: larger blocks do not make the product faster."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is known of the queries and of the gallery, and the rule of who may be compared.

    Attributes:
        query_pids, query_camids: (Q,).
        gallery_pids, gallery_camids: (G,), junk left out.
        own_column: (Q,) the gallery column that is the query itself, -1 for none.
        other_camera: whether images of the query's identity and camera are left out.
        order: (G,) the columns sorted by pid, as :func:`sort_by_pid` makes it.
    """

    query_pids: Ints
    query_camids: Ints
    gallery_pids: Ints
    gallery_camids: Ints
    own_column: Ints
    other_camera: bool
    order: Ints

    def of_gallery(self, columns: Ints) -> Sides:
        """Return the same for the gallery images ``columns`` (M,) alone; their new columns are 0..M-1."""
        place = np.full(len(self.gallery_pids) + 1, -1, dtype=np.int64)
        place[columns] = np.arange(len(columns))
        pids = self.gallery_pids[columns]
        return replace(
            self,
            gallery_pids=pids,
            gallery_camids=self.gallery_camids[columns],
            own_column=place[self.own_column],
            order=sort_by_pid(pids),
        )


def sort_by_pid(pids: Ints) -> Ints:
    """Return the columns in the order of their identities."""
    return np.argsort(pids, kind="stable").astype(np.int64, copy=False)


def gather_sides(query: Embeddings, gallery: Embeddings, kept: Ints, *, other_camera: bool) -> Sides:
    """Return the sides for the gallery rows ``kept``; a gallery image with the query's path is the query itself."""
    columns = {gallery.paths[row]: column for column, row in enumerate(kept)} if gallery.paths else {}
    own = [columns.get(path, -1) for path in query.paths] if query.paths else [-1] * len(query)
    pids = gallery.pids[kept]
    return Sides(
        query_pids=query.pids,
        query_camids=query.camids,
        gallery_pids=pids,
        gallery_camids=gallery.camids[kept],
        own_column=np.asarray(own, dtype=np.int64),
        other_camera=other_camera,
        order=sort_by_pid(pids),
    )


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of one identity among some queries and the gallery.

    Attributes:
        row: (P,) position among the queries asked for, ascending.
        column: (P,) gallery column.
        relevant: (P,) bool; the others are left out of the ranking.
        camera_out: (P,) bool; left out because of the camera, not because it is the query itself.
    """

    row: Ints
    column: Ints
    relevant: Bools
    camera_out: Bools


def identity_pairs(sides: Sides, queries: Ints) -> Pairs:
    """Return the gallery images that share the identity of each of ``queries`` (B,)."""
    sorted_pids = sides.gallery_pids[sides.order]
    pids = sides.query_pids[queries]
    first = np.searchsorted(sorted_pids, pids, side="left")
    counts = np.searchsorted(sorted_pids, pids, side="right") - first
    counts[pids <= DISTRACTOR_PID] = 0
    row = np.repeat(np.arange(len(queries)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    column = sides.order[first[row] + within]
    itself = column == sides.own_column[queries[row]]
    camids = sides.query_camids[queries[row]]
    same_camera = (camids == sides.gallery_camids[column]) & (camids != UNKNOWN_CAMID)
    camera_out = same_camera & ~itself if sides.other_camera else np.zeros(len(row), dtype=bool)
    return Pairs(row, column, ~itself & ~camera_out, camera_out)


def why_skipped(sides: Sides) -> npt.NDArray[np.str_]:
    """Return (Q,) the key of SKIP_REASONS for each query, empty for those that count."""
    reasons = np.full(len(sides.query_pids), "", dtype="<U32")
    for start, stop in spans(len(reasons), MAX_BLOCK):
        pairs = identity_pairs(sides, np.arange(start, stop))
        size = stop - start
        present = np.bincount(pairs.row, minlength=size) > 0
        by_camera = np.bincount(pairs.row[pairs.camera_out], minlength=size) > 0
        counted = np.bincount(pairs.row[pairs.relevant], minlength=size) > 0
        missing = np.where(by_camera, "same_camera_only", np.where(present, "only_itself", "identity_absent"))
        reasons[start:stop] = np.where(counted, "", missing)
    reasons[sides.query_pids == DISTRACTOR_PID] = "distractor_query"
    reasons[sides.query_pids == JUNK_PID] = "junk_query"
    return reasons


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

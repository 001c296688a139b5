"""The image-level ranking report: mAP, CMC and mINP, exact, without a sort of the gallery or a full matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from prsnet.errors import DataError, InputError
from prsnet.metrics.inputs import Progress, check_options, check_pair, cosine_inputs
from prsnet.metrics.placing import join_ranks, place_queries
from prsnet.metrics.sides import (
    SKIP_REASONS,
    Bools,
    CameraFilter,
    Ints,
    Sides,
    cameras_known,
    gather_sides,
    not_junk,
    nothing_counts,
    own_cameras,
    protocol_name,
    skip_reasons,
    why_skipped,
)
from prsnet.metrics.similarity import CosineRows, GallerySimilarities, Reranker, SimilarityRows
from prsnet.types import DISTRACTOR_PID, Embeddings, QueryRanks, RankReport, RankSummary

Place: TypeAlias = Callable[[SimilarityRows, Sides, Ints], QueryRanks]


def rank_report(
    query: Embeddings,
    gallery: Embeddings,
    *,
    exclude_same_camera: bool = True,
    cameras: CameraFilter | None = None,
    ranks: Sequence[int] = (1, 5, 10, 20),
    camera_pairs: bool = False,
    rerank: Reranker | None = None,
    block_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> RankReport:
    """Rank the gallery for every query by cosine and report mAP, CMC and mINP.

    The protocol is Market-1501's (Zheng et al., ICCV 2015). Junk (pid -1) is left out of the gallery, distractors
    (pid 0) stay in. Average precision is the step sum over all relevant images. A relevant image comes after every
    other image of the same similarity. A gallery image with the path of the query is the query itself and is left out.
    Queries that are junk or distractors or have no relevant image left are not counted; ``skipped`` says why.

    Nothing is sorted and no Q x G matrix exists: for each relevant image, the irrelevant ones at least as similar are
    counted, block by block. Similarities are computed in float32 (float64 if either side is stored so). Identical
    gallery vectors always tie. Beyond the rounding of the matrix product, the report does not depend on the order of
    the gallery, the block size, the number of threads or the device.

    Args:
        query: (Q, D) vectors of any length but 0; they are scaled to unit length.
        gallery: (G, D) likewise.
        exclude_same_camera: leave out gallery images of the query's identity and camera. Where no camera is known,
            only the query itself can be left out, and ``protocol`` says so.
        cameras: overrides ``exclude_same_camera``: ``"other"`` is True, ``"all"`` is False, and ``"same"`` ranks only
            the gallery images of the query's own camera.
        ranks: the k of CMC, from 1; k beyond the size of the gallery are allowed.
        camera_pairs: also report every query camera against every gallery camera alone (one more product).
        rerank: replaces the cosine similarities; None for none.
        block_size: queries at a time; None for what fits into about 64 MB.
        device: where to compute; None for where the vectors are.
        progress: called with (queries done, queries in all) after every block, anew for each camera that is ranked
            alone; before that with the progress of ``rerank``.

    Raises:
        DataError: if the embeddings do not fit together, a vector has no direction, or no query can be counted.
        InputError: if ``ranks``, ``block_size`` or ``cameras`` make no sense.
    """
    check_options(ranks, block_size)
    if cameras not in (None, "other", "all", "same"):
        raise InputError(f"cameras: expected 'other', 'all' or 'same', got {cameras!r}")
    check_pair(query, gallery)
    kept = not_junk(gallery)
    rule = cameras or ("other" if exclude_same_camera else "all")
    known = cameras_known(query, gallery)
    if not known and (rule == "same" or camera_pairs):
        raise DataError("no camera is known, so none can be reported alone", hint="give camids")
    sides = gather_sides(query, gallery, kept, other_camera=rule == "other" and known)
    reasons = skip_reasons(sides, rule)
    counted = np.flatnonzero(reasons == "")
    if not len(counted):
        raise nothing_counts(reasons)
    units, targets = cosine_inputs(query, gallery, kept, device)
    source: GallerySimilarities = (
        rerank.similarities(units, targets, progress) if rerank else CosineRows(units, targets)
    )
    place = partial(place_queries, block_size=block_size, progress=progress)
    if rule == "same":
        per_query = _within_cameras(source, sides, counted, place)
    else:
        per_query = place(source, sides, counted)
    tally = Counter(reasons.tolist())
    return RankReport(
        map=float(per_query.ap.mean()),
        cmc={int(rank): float((per_query.first_match <= rank).mean()) for rank in ranks},
        minp=float(per_query.inp.mean()),
        per_query=per_query,
        skipped={reason: tally[reason] for reason in SKIP_REASONS},
        protocol="image-level, " + protocol_name(rule, known) + (f", {rerank.name}" if rerank else ""),
        gallery=len(kept),
        by_query_camera=by_query_camera(per_query) if known else {},
        by_camera_pair=_camera_pairs(source, sides, counted, place) if camera_pairs else {},
    )


def by_query_camera(ranks: QueryRanks) -> dict[int, RankSummary]:
    """Return the figures of the queries of each camera."""
    return {int(camid): _summary(ranks, ranks.camid == camid) for camid in np.unique(ranks.camid)}


def _summary(ranks: QueryRanks, chosen: Bools) -> RankSummary:
    return RankSummary(
        queries=int(chosen.sum()),
        map=float(ranks.ap[chosen].mean()),
        rank1=float((ranks.first_match[chosen] == 1).mean()),
        minp=float(ranks.inp[chosen].mean()),
    )


def _within_cameras(source: GallerySimilarities, sides: Sides, counted: Ints, place: Place) -> QueryRanks:
    parts = [
        place(source.restricted(torch.from_numpy(columns)), sides.of_gallery(columns), queries)
        for columns, queries in own_cameras(sides, counted)
    ]
    return join_ranks(parts)


def _camera_pairs(
    source: GallerySimilarities, sides: Sides, counted: Ints, place: Place
) -> dict[tuple[int, int], RankSummary]:
    pairs = {}
    for camid in np.unique(sides.gallery_camids[sides.gallery_pids > DISTRACTOR_PID]).tolist():
        columns = np.flatnonzero(sides.gallery_camids == camid)
        alone = sides.of_gallery(columns)
        queries = counted[why_skipped(alone)[counted] == ""]
        if len(queries):
            ranks = place(source.restricted(torch.from_numpy(columns)), alone, queries)
            pairs.update({(own, camid): part for own, part in by_query_camera(ranks).items()})
    return dict(sorted(pairs.items()))

"""The image-level ranking report: mAP, CMC and mINP, exact, without a sort of the gallery or a full matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prsnet.errors import DataError, InputError
from prsnet.metrics.inputs import check_pair, compute_dtype, default_device, unit_vectors
from prsnet.metrics.placing import (
    SKIP_REASONS,
    Bools,
    CameraFilter,
    Ints,
    Progress,
    Sides,
    gather_sides,
    join_ranks,
    place_queries,
    why_skipped,
)
from prsnet.metrics.similarity import CosineRows, SimilarityRows
from prsnet.types import DISTRACTOR_PID, JUNK_PID, UNKNOWN_CAMID, Embeddings, QueryRanks, RankReport, RankSummary

Place: TypeAlias = Callable[[SimilarityRows, Sides, Ints], QueryRanks]


class Reranker(Protocol):
    """Replaces the cosine similarities by others, e.g. :class:`prsnet.metrics.rerank.KReciprocal`."""

    @property
    def name(self) -> str:
        """What the report's protocol calls it, with its settings."""
        ...

    def similarities(self, query: Tensor, gallery: Tensor, progress: Progress | None = None) -> SimilarityRows:
        """Return the new similarities of (Q, D) to (G, D) unit vectors."""
        ...


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
        progress: called with (queries done, queries in all) after every block.

    Raises:
        DataError: if the embeddings do not fit together, a vector has no direction, or no query can be counted.
        InputError: if ``ranks``, ``block_size`` or ``cameras`` make no sense.
    """
    _check_options(ranks, block_size, cameras)
    check_pair(query, gallery)
    kept = np.flatnonzero(gallery.pids != JUNK_PID)
    if not len(kept):
        raise DataError(f"all {len(gallery)} gallery images are junk (pid -1)", hint="give the gallery's identities")
    rule = cameras or ("other" if exclude_same_camera else "all")
    known = cameras_known(query, gallery)
    if not known and (rule == "same" or camera_pairs):
        raise DataError("no camera is known, so none can be reported alone", hint="give camids")
    sides = gather_sides(query, gallery, kept, other_camera=rule == "other" and known)
    reasons = skip_reasons(sides, rule)
    counted = np.flatnonzero(reasons == "")
    if not len(counted):
        raise _nothing_counts(reasons, rule)
    where = torch.device(device) if device is not None else default_device(query, gallery)
    source = _similarities(query, gallery, kept, where, rerank, progress)
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
        protocol=protocol_name(rule, known, rerank.name if rerank else ""),
        gallery=len(kept),
        by_query_camera=by_query_camera(per_query) if known else {},
        by_camera_pair=_camera_pairs(source, sides, counted, place) if camera_pairs else {},
    )


def protocol_name(cameras: CameraFilter, known: bool, rerank: str = "") -> str:
    """Return the protocol in words: what is left out of the gallery, and what replaced the cosine."""
    rules = {
        "other": "images of the query's identity and camera left out",
        "all": "cameras ignored, the query itself left out",
        "same": "only images of the query's own camera, the query itself left out",
    }
    rule = rules[cameras] if known else "no cameras known, the query itself left out"
    return f"image-level, junk left out, {rule}" + (f", {rerank}" if rerank else "")


def cameras_known(query: Embeddings, gallery: Embeddings) -> bool:
    """Return whether cameras are known: of all queries and all gallery images of an identity, or of none.

    Raises:
        DataError: if they are known of some only: an unknown camera cannot be told from the query's.
    """
    camids = np.concatenate([query.camids, gallery.camids[gallery.pids > DISTRACTOR_PID]])
    known = int((camids != UNKNOWN_CAMID).sum())
    if 0 < known < len(camids):
        raise DataError(
            f"the camera is known of {known} of {len(camids)} images",
            hint=f"give all camids, or {UNKNOWN_CAMID} for every image",
        )
    return known > 0


def skip_reasons(sides: Sides, cameras: CameraFilter) -> npt.NDArray[np.str_]:
    """Return (Q,) the key of SKIP_REASONS for each query under the camera rule, empty for those that count."""
    reasons = why_skipped(sides)
    if cameras != "same":
        return reasons
    within = np.full_like(reasons, "")
    for columns, queries in _own_cameras(sides, np.arange(len(reasons))):
        within[queries] = why_skipped(sides.of_gallery(columns))[queries]
    elsewhere = (within == "identity_absent") & (reasons != "identity_absent")
    return np.where(elsewhere, "other_cameras_only", within)


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


def _check_options(ranks: Sequence[int], block_size: int | None, cameras: CameraFilter | None) -> None:
    if not ranks or min(ranks) < 1:
        raise InputError(f"ranks: expected whole numbers from 1, got {tuple(ranks)}", hint="for example (1, 5, 10, 20)")
    if block_size is not None and block_size < 1:
        raise InputError(
            f"block_size: expected at least 1 query, got {block_size}", hint="leave it out to have it chosen"
        )
    if cameras not in (None, "other", "all", "same"):
        raise InputError(f"cameras: expected 'other', 'all' or 'same', got {cameras!r}")


def _nothing_counts(reasons: npt.NDArray[np.str_], cameras: CameraFilter) -> DataError:
    causes = "; ".join(f"{number}: {SKIP_REASONS[reason]}" for reason, number in Counter(reasons.tolist()).items())
    most = Counter(reasons.tolist()).most_common(1)[0][0]
    hints = {
        "same_camera_only": 'cameras="all" ranks images of the same camera, too',
        "identity_absent": "are query and gallery labelled with the same identities?",
    }
    return DataError(
        f"none of {len(reasons)} queries can be counted: {causes}", hint=hints.get(most, "check the labels")
    )


def _similarities(
    query: Embeddings,
    gallery: Embeddings,
    kept: Ints,
    device: torch.device,
    rerank: Reranker | None,
    progress: Progress | None,
) -> SimilarityRows:
    dtype = compute_dtype(query, gallery)
    units = unit_vectors(query, "query", dtype=dtype, device=device)
    targets = unit_vectors(gallery, "gallery", rows=kept, dtype=dtype, device=device)
    return rerank.similarities(units, targets, progress) if rerank else CosineRows(units, targets)


def _own_cameras(sides: Sides, queries: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield, for each camera of ``queries``, the gallery columns and the queries of that camera."""
    camids = sides.query_camids[queries]
    for camid in np.unique(camids):
        yield np.flatnonzero(sides.gallery_camids == camid), queries[camids == camid]


def _within_cameras(source: SimilarityRows, sides: Sides, counted: Ints, place: Place) -> QueryRanks:
    parts = [
        place(source.restricted(torch.from_numpy(columns)), sides.of_gallery(columns), queries)
        for columns, queries in _own_cameras(sides, counted)
    ]
    return join_ranks(parts)


def _camera_pairs(
    source: SimilarityRows, sides: Sides, counted: Ints, place: Place
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

"""Image-to-identity retrieval: every gallery identity is one vector, the mean of its embeddings.

These figures answer another question than the image-level ones (is the right person found, not the right images) and
are higher. They are never reported alone: a :class:`CentroidReport` carries the image-level report with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from prsnet.errors import DataError, InputError
from prsnet.metrics.inputs import CHUNK_NUMBERS, Progress, cosine_inputs, spans
from prsnet.metrics.placing import join_ranks, place_queries
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.sides import (
    SKIP_REASONS,
    Ints,
    Sides,
    cameras_known,
    gather_sides,
    not_junk,
    nothing_counts,
    sort_by_pid,
    why_skipped,
)
from prsnet.metrics.similarity import CosineRows, SimilarityRows
from prsnet.types import DISTRACTOR_PID, UNKNOWN_CAMID, Embeddings, QueryRanks, RankReport

Form: TypeAlias = Literal["cameras-respected", "cameras-ignored", "published-faulty"]

PROTOCOLS: Mapping[Form, str] = {
    "cameras-respected": "centroid-level, junk left out, images of the query's own camera left out of every centroid",
    "cameras-ignored": "centroid-level, junk left out, cameras ignored, the query itself left out of its centroid",
    "published-faulty": "centroid-level as published (camera ids misread, identities without a query lost): "
    "to be compared with published figures only",
}


@dataclass(frozen=True, slots=True)
class CentroidReport:
    """Image-to-identity retrieval, with the image-level report beside it; all figures are fractions, 0..1.

    Attributes:
        form: which centroids, see :func:`centroid_report`.
        centroid_map: mean over the counted queries of the average precision over centroids; where each identity has one
            centroid, that is the mean of 1 / (rank of the right one).
        centroid_cmc: for each rank k, the share of counted queries whose identity is among the first k centroids.
        per_query: query by query; ``relevant`` and ``valid`` count centroids.
        skipped: number of queries not counted, by reason.
        protocol: in words.
        multi_shot: whether each query is the mean of a query identity's images in one camera.
        image_level: the report on the single images.
    """

    form: Form
    centroid_map: float
    centroid_cmc: Mapping[int, float]
    per_query: QueryRanks
    skipped: Mapping[str, int]
    protocol: str
    multi_shot: bool
    image_level: RankReport

    @property
    def queries(self) -> int:
        """Number of counted queries; of groups of images if ``multi_shot``."""
        return len(self.per_query)

    def to_dict(self, *, per_query: bool = True) -> dict[str, Any]:
        """Return what ``json.dump`` can write.

        Args:
            per_query: also the arrays of the single queries.

        Returns:
            The keys ``protocol``, ``form``, ``multi_shot``, ``centroid_map``, ``centroid_cmc`` (rank as a string ->
            fraction), ``queries``, ``skipped``, ``image_level`` (as :meth:`prsnet.types.RankReport.to_dict`) and, if
            asked for, ``per_query``.
        """
        known: dict[str, Any] = {
            "protocol": self.protocol,
            "form": self.form,
            "multi_shot": self.multi_shot,
            "centroid_map": self.centroid_map,
            "centroid_cmc": {str(rank): share for rank, share in self.centroid_cmc.items()},
            "queries": self.queries,
            "skipped": dict(self.skipped),
            "image_level": self.image_level.to_dict(per_query=per_query),
        }
        return {**known, "per_query": self.per_query.to_dict()} if per_query else known


def centroid_report(
    query: Embeddings,
    gallery: Embeddings,
    *,
    form: Form = "cameras-respected",
    multi_shot: bool = False,
    ranks: Sequence[int] = (1, 5, 10, 20),
    block_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> CentroidReport:
    """Rank gallery identities, each the mean of its unit embeddings, for every query.

    The forms:

    - ``"cameras-respected"``: for each query, images of the query's own camera are left out of every mean; identities
      seen nowhere else vanish for that query.
    - ``"cameras-ignored"``: all images enter; if the query is one of them, it is left out of its own identity's mean.
    - ``"published-faulty"``: what the published code of Wieczorek et al. (arXiv 2104.13643) computes when told to
      respect cameras. Camera ids of gallery images are read from the joint list of queries and gallery without the
      offset of the queries; identities without a query (all distractors among them) are lost; an identity has one
      centroid for each set of cameras that remains without one of its queries' cameras, and a query meets those of its
      own identity whose set lacks its camera. It depends on the order of query and gallery. One difference: here the
      means are of unit vectors. Only to compare with figures published so.

    In the first two forms identities that only the gallery has stay, and every distractor image (pid 0), which shares
    its pid with strangers, stands for itself.

    Args:
        query: (Q, D) vectors of any length but 0.
        gallery: (G, D) likewise.
        form: see above; the first and the last need cameras.
        multi_shot: replace the queries by :func:`multi_shot_queries`; the image-level report keeps the single ones.
        ranks: the k of CMC, from 1.
        block_size, device, progress: as in :func:`prsnet.metrics.ranking.rank_report`.

    Raises:
        DataError: if the embeddings do not fit together, cameras are missing, or no query can be counted.
        InputError: if ``form``, ``ranks`` or ``block_size`` make no sense.
    """
    if form not in get_args(Form):
        raise InputError(f"form: expected one of {', '.join(get_args(Form))}, got {form!r}")
    image_level = rank_report(
        query,
        gallery,
        exclude_same_camera=form != "cameras-ignored",
        ranks=ranks,
        block_size=block_size,
        device=device,
        progress=progress,
    )
    if form != "cameras-ignored" and not cameras_known(query, gallery):
        raise DataError(f"the form {form!r} needs cameras, but none is known", hint='use form="cameras-ignored"')
    if multi_shot:
        _check_apart(query, gallery, form)
        query = multi_shot_queries(query)
    kept = not_junk(gallery)
    sides = gather_sides(query, gallery, kept, other_camera=form != "cameras-ignored")
    units, images = cosine_inputs(query, gallery, kept, device)
    reasons = np.full(len(query), "", dtype="<U32")
    parts = []
    for queries, source, against in ARRANGEMENTS[form](units, images, sides):
        reasons[queries] = why_skipped(against)[queries]
        counted = queries[reasons[queries] == ""]
        if len(counted):
            parts.append(place_queries(source, against, counted, block_size=block_size, progress=progress))
    if form == "cameras-respected":
        reasons = np.where(reasons == "identity_absent", why_skipped(sides), reasons)
    if not parts:
        raise nothing_counts(reasons)
    found = join_ranks(parts)
    tally = Counter(reasons.tolist())
    return CentroidReport(
        form=form,
        centroid_map=float(found.ap.mean()),
        centroid_cmc={int(rank): float((found.first_match <= rank).mean()) for rank in ranks},
        per_query=found,
        skipped={reason: tally[reason] for reason in SKIP_REASONS},
        protocol=PROTOCOLS[form] + (", multi-shot queries (mean per identity and camera)" if multi_shot else ""),
        multi_shot=multi_shot,
        image_level=image_level,
    )


def multi_shot_queries(query: Embeddings) -> Embeddings:
    """Return one vector per query identity and camera: the mean of its unit embeddings, at unit length.

    Junk and distractors stay single, as they share no identity. The rows are sorted by (pid, camid) and have no paths.

    Args:
        query: (Q, D).
    """
    order = np.lexsort((np.arange(len(query)), query.camids, query.pids))
    pids, camids = query.pids[order], query.camids[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (pids[1:] != pids[:-1]) | (camids[1:] != camids[:-1]) | (pids[1:] <= DISTRACTOR_PID)
    units, _ = cosine_inputs(query, query, order[:1])
    group = np.cumsum(first) - 1
    means = unit_or_zero(group_sums(units, order, group, int(first.sum())))
    return Embeddings(means.to(units.dtype), pids[first], camids[first])


def group_sums(vectors: Tensor, rows: Ints, groups: Ints, count: int) -> Tensor:
    """Return (count, D) float64, the sum of the vectors of each group.

    Args:
        vectors: (N, D).
        rows: (M,) the rows that are in any group.
        groups: (M,) the group of each, 0..count-1.
        count: number of groups.
    """
    sums = torch.zeros(count, vectors.shape[1], dtype=torch.float64, device=vectors.device)
    for start, stop in spans(len(rows), max(1, CHUNK_NUMBERS // vectors.shape[1])):
        row, group = (torch.from_numpy(ids[start:stop]).to(vectors.device) for ids in (rows, groups))
        sums.index_add_(0, group, vectors[row].double())
    return sums


def unit_or_zero(vectors: Tensor) -> Tensor:
    """Return the vectors at unit length; one that is zero up to rounding has no direction and becomes zero."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(lengths > 1e-12, vectors / lengths.clamp_min(1e-12), 0)


Arrangement: TypeAlias = Iterator[tuple[Ints, SimilarityRows, Sides]]


def _identities(pids: Ints) -> tuple[Ints, Ints]:
    """Return (M,) the group of each image and (K,) the pid of each group; every distractor is a group of its own."""
    named = pids > DISTRACTOR_PID
    unique, place = np.unique(pids[named], return_inverse=True)
    group = np.empty(len(pids), dtype=np.int64)
    group[named] = place
    group[~named] = len(unique) + np.arange(np.count_nonzero(~named))
    return group, np.concatenate([unique, np.full(np.count_nonzero(~named), DISTRACTOR_PID)])


def _against(sides: Sides, pids: Ints, own: Ints | None = None) -> Sides:
    """Return the sides for centroids of the identities ``pids`` without cameras."""
    return replace(
        sides,
        gallery_pids=pids,
        gallery_camids=np.full(len(pids), UNKNOWN_CAMID),
        own_column=np.full(len(sides.query_pids), -1) if own is None else own,
        other_camera=False,
        order=sort_by_pid(pids),
    )


def _respecting(units: Tensor, images: Tensor, sides: Sides) -> Arrangement:
    for camid in np.unique(sides.query_camids):
        columns = np.flatnonzero(sides.gallery_camids != camid)
        group, pids = _identities(sides.gallery_pids[columns])
        means = unit_or_zero(group_sums(images, columns, group, len(pids))).to(units.dtype)
        yield np.flatnonzero(sides.query_camids == camid), CosineRows(units, means), _against(sides, pids)


class _WithoutItself:
    """Similarities to centroids, the query left out of the one that it is part of."""

    def __init__(self, units: Tensor, images: Tensor, sums: Tensor, group: Ints, own: Ints) -> None:
        self.cosine = CosineRows(units, unit_or_zero(sums).to(units.dtype))
        self.units, self.images, self.sums = units, images, sums
        self.group, self.own = torch.from_numpy(group), torch.from_numpy(own)

    def rows(self, queries: Tensor) -> Tensor:
        rows = self.cosine.rows(queries)
        part = (self.own[queries] >= 0).nonzero()[:, 0]
        column = self.own[queries[part]]
        group = self.group[column].to(rows.device)
        rest = unit_or_zero(self.sums[group] - self.images[column.to(rows.device)]).to(rows.dtype)
        own = self.units[queries[part].to(rows.device)]
        rows[part.to(rows.device), group] = (own * rest).sum(dim=1)
        return rows


def _ignoring(units: Tensor, images: Tensor, sides: Sides) -> Arrangement:
    group, pids = _identities(sides.gallery_pids)
    own = sides.own_column
    alone = (own >= 0) & (np.bincount(group)[group[own]] == 1)
    sums = group_sums(images, np.arange(len(group)), group, len(pids))
    source = _WithoutItself(units, images, sums, group, own)
    yield np.arange(len(own)), source, _against(sides, pids, np.where(alone, group[own], -1))


def _as_published(units: Tensor, images: Tensor, sides: Sides) -> Arrangement:
    misread = np.concatenate([sides.query_camids, sides.gallery_camids])[: len(sides.gallery_pids)]
    members: list[Ints] = []
    pids: list[int] = []
    cameras: list[tuple[int, ...]] = []
    for pid in np.unique(sides.query_pids[sides.query_pids > DISTRACTOR_PID]).tolist():
        columns = np.flatnonzero(sides.gallery_pids == pid)
        seen: set[tuple[int, ...]] = set()
        for camid in np.unique(sides.query_camids[sides.query_pids == pid]):
            chosen = columns[misread[columns] != camid]
            used = tuple(np.unique(misread[chosen]).tolist())
            if used and used not in seen:
                seen.add(used)
                members.append(chosen)
                pids.append(pid)
                cameras.append(used)
    sizes = np.array([len(chosen) for chosen in members], dtype=np.int64)
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *members])
    means = unit_or_zero(group_sums(images, rows, np.repeat(np.arange(len(sizes)), sizes), len(sizes)))
    source = CosineRows(units, means.to(units.dtype))
    for camid in np.unique(sides.query_camids):
        holds = np.array([camid in used for used in cameras], dtype=bool)
        against = _against(sides, np.array(pids, dtype=np.int64))
        marked = replace(against, gallery_camids=np.where(holds, camid, UNKNOWN_CAMID), other_camera=True)
        yield np.flatnonzero(sides.query_camids == camid), source, marked


ARRANGEMENTS: Mapping[Form, Callable[[Tensor, Tensor, Sides], Arrangement]] = {
    "cameras-respected": _respecting,
    "cameras-ignored": _ignoring,
    "published-faulty": _as_published,
}


def _check_apart(query: Embeddings, gallery: Embeddings, form: Form) -> None:
    shared = set(query.paths) & set(gallery.paths)
    if shared and form == "cameras-ignored":
        raise DataError(
            f"{len(shared)} query images are in the gallery, too: multi-shot queries would find themselves",
            hint='use form="cameras-respected"',
        )

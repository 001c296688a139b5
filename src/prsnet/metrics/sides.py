"""Who is compared with whom: the rules of the protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError
from prsnet.metrics.inputs import spans
from prsnet.types import DISTRACTOR_PID, JUNK_PID, UNKNOWN_CAMID, Embeddings

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
CameraFilter: TypeAlias = Literal["other", "all", "same"]

SKIP_REASONS: Mapping[str, str] = {
    "junk_query": "the query is junk (pid -1)",
    "distractor_query": "the query is a distractor (pid 0)",
    "identity_absent": "its identity is not in the gallery",
    "same_camera_only": "its identity is in the gallery in the query's own camera only",
    "other_cameras_only": "its identity is in the gallery in other cameras only",
    "only_itself": "the only gallery image of its identity is the query itself",
}
"""Why a query is not counted, in words; the keys are those of ``RankReport.skipped``."""

CHUNK_QUERIES = 512
"""Queries whose images of the same identity are listed at a time."""


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


def protocol_name(cameras: CameraFilter, known: bool) -> str:
    """Return in words what is left out of the gallery."""
    rules = {
        "other": "images of the query's identity and camera left out",
        "all": "cameras ignored, the query itself left out",
        "same": "only images of the query's own camera, the query itself left out",
    }
    rule = rules[cameras] if known else "no cameras known, the query itself left out"
    return f"junk left out, {rule}"


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


def not_junk(gallery: Embeddings) -> Ints:
    """Return the rows of the gallery images that are not junk.

    Raises:
        DataError: if there is none.
    """
    kept = np.flatnonzero(gallery.pids != JUNK_PID)
    if not len(kept):
        raise DataError(f"all {len(gallery)} gallery images are junk (pid -1)", hint="give the gallery's identities")
    return kept


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
    for start, stop in spans(len(reasons), CHUNK_QUERIES):
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


def skip_reasons(sides: Sides, cameras: CameraFilter) -> npt.NDArray[np.str_]:
    """Return (Q,) the key of SKIP_REASONS for each query under the camera rule, empty for those that count."""
    reasons = why_skipped(sides)
    if cameras != "same":
        return reasons
    within = np.full_like(reasons, "")
    for columns, queries in own_cameras(sides, np.arange(len(reasons))):
        within[queries] = why_skipped(sides.of_gallery(columns))[queries]
    elsewhere = (within == "identity_absent") & (reasons != "identity_absent")
    return np.where(elsewhere, "other_cameras_only", within)


def own_cameras(sides: Sides, queries: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield, for each camera of ``queries``, the gallery columns and the queries of that camera."""
    camids = sides.query_camids[queries]
    for camid in np.unique(camids):
        yield np.flatnonzero(sides.gallery_camids == camid), queries[camids == camid]


def nothing_counts(reasons: npt.NDArray[np.str_]) -> DataError:
    """Return the error that explains why no query can be counted, from the reasons (Q,)."""
    causes = "; ".join(f"{number}: {SKIP_REASONS[reason]}" for reason, number in Counter(reasons.tolist()).items())
    most = Counter(reasons.tolist()).most_common(1)[0][0]
    hints = {
        "same_camera_only": 'cameras="all" ranks images of the same camera, too',
        "identity_absent": "are query and gallery labelled with the same identities?",
    }
    return DataError(
        f"none of {len(reasons)} queries can be counted: {causes}", hint=hints.get(most, "check the labels")
    )

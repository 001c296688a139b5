"""Everything that can be measured of two sets of embeddings, whoever made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prsnet.embeddings_file import read_npz
from prsnet.errors import DataError
from prsnet.metrics.centroids import CentroidReport, Form, centroid_report
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.rerank import KReciprocal
from prsnet.metrics.sides import cameras_known
from prsnet.metrics.statistics import Interval, confidence_intervals
from prsnet.metrics.verification import VerificationReport, verification_report
from prsnet.rng import numpy_stream
from prsnet.types import Embeddings, RankReport

INTERVAL_SEED = 0
"""Seed of the bootstrap: the same report has the same interval everywhere."""


@dataclass(frozen=True)
class Measures:
    """The figures of one pair of query and gallery.

    Attributes:
        report: image-level ranking by cosine.
        intervals: 95% intervals of mAP, Rank-1 and mINP over query identities; empty with fewer than two identities.
        reranked: the ranking after k-reciprocal re-ranking, if asked for.
        centroids: image-to-identity retrieval, if asked for; never a replacement of ``report``.
        verification: pairs above a threshold, if asked for.
    """

    report: RankReport
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    reranked: RankReport | None = None
    centroids: CentroidReport | None = None
    verification: VerificationReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the report's keys, and ``intervals``, ``reranked``, ``centroids``, ``verification``."""
        plain = self.report.to_dict()
        plain["intervals"] = {name: interval.to_dict() for name, interval in self.intervals.items()}
        if self.reranked is not None:
            plain["reranked"] = self.reranked.to_dict()
        if self.centroids is not None:
            plain["centroids"] = self.centroids.to_dict(per_query=False)
        if self.verification is not None:
            plain["verification"] = self.verification.to_dict()
        return plain


def measure(
    query: Embeddings,
    gallery: Embeddings,
    *,
    ranks: Sequence[int] = (1, 5, 10, 20),
    camera_filter: bool = True,
    rerank: bool = False,
    centroids: bool = False,
    verification: bool = False,
) -> Measures:
    """Measure embeddings under the protocol of docs/method.md.

    Args:
        query: (Q, D) embeddings with pids and camids.
        gallery: (G, D) likewise.
        ranks: ranks of the CMC.
        camera_filter: leave out gallery images of the query's own identity and camera.
        rerank: also k-reciprocal re-ranking (Zhong et al., CVPR 2017) with k1 = 20, k2 = 6, lambda = 0.3.
        centroids: also retrieval of identities by their mean embedding, cameras respected as ``camera_filter`` says.
        verification: also ROC, equal error rate and thresholds over all valid pairs.

    Raises:
        DataError: the embeddings do not fit together, or no query can be counted.
    """
    known = cameras_known(query, gallery)
    report = rank_report(query, gallery, exclude_same_camera=camera_filter, ranks=ranks, camera_pairs=known)
    intervals: Mapping[str, Interval] = {}
    if len(np.unique(report.per_query.pid)) >= 2:
        found = confidence_intervals(report, generator=numpy_stream(INTERVAL_SEED, "bootstrap"))
        intervals = {str(name): interval for name, interval in found.items()}
    form: Form = "cameras-respected" if camera_filter else "cameras-ignored"
    reranked = None
    if rerank:
        reranked = rank_report(query, gallery, exclude_same_camera=camera_filter, ranks=ranks, rerank=KReciprocal())
    return Measures(
        report,
        intervals,
        reranked,
        centroid_report(query, gallery, form=form, ranks=ranks) if centroids else None,
        verification_report(query, gallery, exclude_same_camera=camera_filter) if verification else None,
    )


def read_foreign_embeddings(path: Path | str) -> Embeddings:
    """Read an ``.npz`` archive with ``vectors`` (N, D), ``pids`` (N,) and, if known, ``camids`` (N,) and ``paths``.

    ``numpy.savez(path, vectors=..., pids=..., camids=...)`` writes such a file from any toolkit's embeddings.

    Raises:
        DataError: missing, not such an archive, or arrays that are absent or do not fit together.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file", hint="give an .npz archive with vectors, pids and camids")
    arrays = read_npz(file)
    missing = [name for name in ("vectors", "pids") if name not in arrays]
    if missing:
        raise DataError(
            f"{file}: lacks {', '.join(missing)}, holds {', '.join(arrays) or 'nothing'}",
            hint="numpy.savez(path, vectors=..., pids=..., camids=...)",
        )
    vectors = arrays["vectors"]
    if vectors.dtype.kind != "f":
        raise DataError(f"{file}: vectors must be floating numbers, got {vectors.dtype}")
    camids = arrays.get("camids", np.full(len(vectors), -1, dtype=np.int64))
    paths = tuple(str(name) for name in arrays["paths"].ravel()) if "paths" in arrays else ()
    try:
        return Embeddings(vectors, arrays["pids"], camids, paths)
    except DataError as error:
        raise DataError(f"{file}: {error.message}", hint=error.hint) from error

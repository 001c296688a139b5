"""Same person or not: ROC, equal error rate and the threshold for a wished false positive rate.

All valid query-gallery pairs are tallied into bins of similarity as they are computed; no list of pairs is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prsnet.errors import DataError, InputError
from prsnet.metrics.inputs import Progress, check_pair, cosine_inputs, spans
from prsnet.metrics.placing import default_block
from prsnet.metrics.sides import Ints, Sides, cameras_known, gather_sides, identity_pairs, not_junk, protocol_name
from prsnet.metrics.similarity import CosineRows, SimilarityRows
from prsnet.types import DISTRACTOR_PID, Embeddings

RESOLUTION = 1 << 20
"""Bins per unit of similarity: about the rounding of a float32 product. Thresholds are multiples of 1 / RESOLUTION."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold does: pairs at least that similar are taken for the same person.

    Attributes:
        wished_fpr: the false positive rate asked for, 0..1.
        threshold: similarity; the smallest multiple of 2**-20 whose false positive rate is not above the wish.
        fpr: share of the negative pairs accepted, exact at the threshold.
        tpr: share of the positive pairs accepted, exact at the threshold.
        positives: pairs of one identity that this rests on.
        negatives: pairs of two identities that this rests on.
        supported: False if there are fewer than 1 / wished_fpr negatives: too few to tell the wish from a smaller one.
    """

    wished_fpr: float
    threshold: float
    fpr: float
    tpr: float
    positives: int
    negatives: int
    supported: bool

    def to_dict(self) -> dict[str, float | int | bool]:
        """Return the attributes under their names."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class PairTally:
    """How many pairs of either kind have which similarity; only bins that hold any.

    Attributes:
        edges: (M,) float64 ascending, the lower ends of the bins, multiples of 2**-20.
        positives: (M,) int64, pairs of one identity in each bin.
        negatives: (M,) int64, pairs of two identities.
    """

    edges: npt.NDArray[np.float64]
    positives: Ints
    negatives: Ints

    def accepted(self) -> tuple[Ints, Ints]:
        """Return (M,) the positive and the negative pairs that are at least as similar as each edge."""
        return np.cumsum(self.positives[::-1])[::-1], np.cumsum(self.negatives[::-1])[::-1]

    def operating_point(self, fpr: float) -> OperatingPoint:
        """Return the threshold for the false positive rate ``fpr``, 0..1, and what it does.

        Raises:
            InputError: if ``fpr`` is not a rate.
        """
        if not 0 <= fpr <= 1:
            raise InputError(f"false positive rate: expected 0..1, got {fpr}", hint="for example 0.001")
        right, wrong = self.accepted()
        # The threshold follows directly on the last bin that would let too many through.
        last = int(np.count_nonzero(wrong / wrong[0] > fpr)) - 1
        threshold = float(self.edges[last]) + 1 / RESOLUTION if last >= 0 else float(self.edges[0])
        above = last + 1
        return OperatingPoint(
            wished_fpr=float(fpr),
            threshold=threshold,
            fpr=float(wrong[above] / wrong[0]) if above < len(wrong) else 0.0,
            tpr=float(right[above] / right[0]) if above < len(right) else 0.0,
            positives=int(right[0]),
            negatives=int(wrong[0]),
            supported=bool(fpr * wrong[0] >= 1),
        )

    def equal_error(self) -> tuple[float, float]:
        """Return the equal error rate, 0..1, and its threshold.

        The rate is where the ROC, linear between neighbouring thresholds, has as many false positives as false
        negatives in a hundred; the threshold is the lower one of the two neighbours.
        """
        right, wrong = self.accepted()
        fpr = np.append(wrong / wrong[0], 0.0)[::-1]
        fnr = np.append(1 - right / right[0], 1.0)[::-1]
        after = int(np.argmax(fpr >= fnr))
        before = after - 1
        gap = fnr[before] - fpr[before]
        part = gap / (gap + fpr[after] - fnr[after])
        rate = fpr[before] + part * (fpr[after] - fpr[before])
        return min(float(rate), 1.0), float(self.edges[len(self.edges) - after])  # rounding may pass 1 by one bit

    def roc(self, points: int = 400) -> dict[str, list[float]]:
        """Return up to about 2 x ``points`` points of the ROC, both ends included.

        Half of them are even in the true positive rate, half in the logarithm of the false positive rate.

        Returns:
            ``threshold`` descending, ``fpr`` and ``tpr`` ascending, each exact at its threshold.
        """
        right, wrong = (counts[::-1] for counts in self.accepted())
        by_tpr = np.searchsorted(right, np.linspace(0, right[-1], points))
        by_fpr = np.searchsorted(wrong, np.geomspace(1, wrong[-1], points))
        chosen = np.unique(np.concatenate([[0], by_tpr, by_fpr, [len(right) - 1]]).clip(0, len(right) - 1))
        return {
            "threshold": self.edges[::-1][chosen].tolist(),
            "fpr": (wrong[chosen] / wrong[-1]).tolist(),
            "tpr": (right[chosen] / right[-1]).tolist(),
        }

    def histogram(self, bins: int = 200) -> dict[str, list[float] | list[int]]:
        """Return ``edges`` (``bins`` + 1 similarities, -1..1) and the ``positives`` and ``negatives`` between them."""
        edges = np.linspace(-1, 1, bins + 1)
        place = np.clip(np.searchsorted(edges, self.edges, side="right") - 1, 0, bins - 1)
        counts = [np.zeros(bins, dtype=np.int64) for _ in range(2)]
        for count, source in zip(counts, (self.positives, self.negatives), strict=True):
            np.add.at(count, place, source)
        return {"edges": edges.tolist(), "positives": counts[0].tolist(), "negatives": counts[1].tolist()}


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """How well a similarity tells pairs of one identity from pairs of two.

    Attributes:
        points: one per wished false positive rate.
        eer: equal error rate, 0..1.
        eer_threshold: its similarity.
        identities: query identities with at least one positive pair.
        pairs: all pairs by similarity, for further thresholds and pictures.
        protocol: which pairs are valid, in words.
    """

    points: tuple[OperatingPoint, ...]
    eer: float
    eer_threshold: float
    identities: int
    pairs: PairTally
    protocol: str

    def to_dict(self) -> dict[str, Any]:
        """Return what ``json.dump`` can write.

        Returns:
            The keys ``protocol``, ``identities``, ``positives``, ``negatives``, ``eer``, ``eer_threshold``, ``points``
            (list of ``wished_fpr``, ``threshold``, ``fpr``, ``tpr``, ``positives``, ``negatives``, ``supported``),
            ``roc`` (``threshold``, ``fpr``, ``tpr``) and ``histogram`` (``edges``, ``positives``, ``negatives``).
        """
        return {
            "protocol": self.protocol,
            "identities": self.identities,
            "positives": int(self.pairs.positives.sum()),
            "negatives": int(self.pairs.negatives.sum()),
            "eer": self.eer,
            "eer_threshold": self.eer_threshold,
            "points": [point.to_dict() for point in self.points],
            "roc": self.pairs.roc(),
            "histogram": self.pairs.histogram(),
        }


def verification_report(
    query: Embeddings,
    gallery: Embeddings,
    *,
    exclude_same_camera: bool = True,
    fprs: Sequence[float] = (1e-4, 1e-3, 1e-2),
    block_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Compare every query with every gallery image and report how well a threshold tells identities apart.

    Valid pairs are those of the ranking protocol: junk is left out on both sides, distractors of the gallery are
    negatives, distractors among the queries are left out, as are a query itself and gallery images of its identity and
    camera.

    Exact are all rates at the thresholds given. Thresholds are multiples of 2**-20 (about 1e-6), so that a wished rate
    may be missed by the pairs within 1e-6 of the ideal threshold, and always on the safe side.

    Args:
        query: (Q, D) vectors of any length but 0.
        gallery: (G, D) likewise.
        exclude_same_camera: as in :func:`prsnet.metrics.ranking.rank_report`.
        fprs: wished false positive rates, 0..1.
        block_size: queries at a time; None for what fits into about 64 MB.
        device: where to compute; None for where the vectors are.
        progress: called with (queries done, queries in all) after every block.

    Raises:
        DataError: if the embeddings do not fit together, or there is no positive or no negative pair.
        InputError: if a rate is out of range.
    """
    check_pair(query, gallery)
    kept = not_junk(gallery)
    known = cameras_known(query, gallery)
    sides = gather_sides(query, gallery, kept, other_camera=exclude_same_camera and known)
    source = CosineRows(*cosine_inputs(query, gallery, kept, device))
    queries = np.flatnonzero(query.pids > DISTRACTOR_PID)
    tally, identities = tally_pairs(source, sides, queries, block_size, progress)
    for counts, kind in ((tally.positives, "of one identity"), (tally.negatives, "of two identities")):
        if not counts.sum():
            raise DataError(
                f"no valid pair {kind} among {len(query)} queries and {len(gallery)} gallery images",
                hint="both kinds are needed: are query and gallery labelled, and seen by several cameras?",
            )
    eer, eer_threshold = tally.equal_error()
    return VerificationReport(
        points=tuple(tally.operating_point(fpr) for fpr in fprs),
        eer=eer,
        eer_threshold=eer_threshold,
        identities=identities,
        pairs=tally,
        protocol="pairs, " + protocol_name("other" if exclude_same_camera else "all", known),
    )


def tally_pairs(
    source: SimilarityRows,
    sides: Sides,
    queries: Ints,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[PairTally, int]:
    """Return the tally of all valid pairs of ``queries`` (N,), and how many identities have a positive pair."""
    counts = torch.zeros(2, 2 * RESOLUTION + 1, dtype=torch.int64)
    identities: set[int] = set()
    for start, stop in spans(len(queries), block_size or default_block(len(sides.gallery_pids))):
        block = queries[start:stop]
        pairs = identity_pairs(sides, block)
        own = sides.own_column[block]
        stranger = (own >= 0) & (sides.gallery_pids[own] != sides.query_pids[block])
        rows = source.rows(torch.from_numpy(block))
        same = _count(rows[_places(rows, pairs.row, pairs.column)])
        counts[0] += _count(rows[_places(rows, pairs.row[pairs.relevant], pairs.column[pairs.relevant])])
        strangers = _count(rows[_places(rows, np.flatnonzero(stranger), own[stranger])])
        counts[1] += _count(rows) - same - strangers
        identities.update(sides.query_pids[block[pairs.row[pairs.relevant]]].tolist())
        if progress:
            progress(stop, len(queries))
    filled = np.flatnonzero(counts.sum(dim=0).numpy())
    positives, negatives = counts[:, torch.from_numpy(filled)].numpy()
    return PairTally((filled - RESOLUTION) / RESOLUTION, positives, negatives), len(identities)


def _places(rows: Tensor, row: Ints, column: Ints) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(row).to(rows.device), torch.from_numpy(column).to(rows.device)


def _count(similarities: Tensor) -> Tensor:
    """Return (2 * RESOLUTION + 1,) how many similarities lie in each bin; scaling by a power of two does not round."""
    bins = (similarities.flatten() * RESOLUTION).floor_().clamp_(-RESOLUTION, RESOLUTION).to(torch.int32)
    return torch.bincount(bins.add_(RESOLUTION), minlength=2 * RESOLUTION + 1).cpu()

"""The old protocol of CUHK03: one gallery image per identity, drawn at random, many times over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prsnet.metrics.counting import count_at_least
from prsnet.metrics.inputs import Progress, check_options, check_pair, cosine_inputs, spans
from prsnet.metrics.placing import default_block
from prsnet.metrics.sides import (
    SKIP_REASONS,
    Ints,
    Sides,
    cameras_known,
    gather_sides,
    identity_pairs,
    not_junk,
    nothing_counts,
    protocol_name,
    why_skipped,
)
from prsnet.metrics.similarity import CosineRows, SimilarityRows
from prsnet.types import DISTRACTOR_PID, Embeddings


@dataclass(frozen=True, slots=True)
class SingleGalleryShotReport:
    """CMC against one gallery image per identity; not to be compared with figures against the whole gallery.

    Attributes:
        cmc: for each rank k, the share of queries whose match is among the first k, 0..1, mean over the draws.
        cmc_deviation: for each rank k, the standard deviation of that share over the draws.
        map: mean over queries and draws of 1 / (rank of the match): the average precision where one image matches.
        draws: random galleries.
        queries: counted queries.
        skipped: number of queries not counted, by reason.
        protocol: in words.
    """

    cmc: Mapping[int, float]
    cmc_deviation: Mapping[int, float]
    map: float
    draws: int
    queries: int
    skipped: Mapping[str, int]
    protocol: str

    def to_dict(self) -> dict[str, Any]:
        """Return what ``json.dump`` can write: the attributes under their names, ranks as strings."""
        return {
            "protocol": self.protocol,
            "map": self.map,
            "cmc": {str(rank): share for rank, share in self.cmc.items()},
            "cmc_deviation": {str(rank): share for rank, share in self.cmc_deviation.items()},
            "draws": self.draws,
            "queries": self.queries,
            "skipped": dict(self.skipped),
        }


def single_gallery_shot(
    query: Embeddings,
    gallery: Embeddings,
    *,
    generator: np.random.Generator,
    draws: int = 10,
    exclude_same_camera: bool = True,
    ranks: Sequence[int] = (1, 5, 10, 20),
    block_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> SingleGalleryShotReport:
    """Rank one random gallery image per identity for every query and report the CMC, averaged over draws.

    CUHK03's old protocol (Li et al., CVPR 2014). In each draw, the images of every gallery identity are put into random
    order, and the first one stands for the identity; for a query of that identity it is the first that the query may be
    compared with. Distractors (pid 0) have no identity to stand for, so that all of them stay in. A match comes after
    all others of the same similarity.

    Args:
        query: (Q, D) vectors of any length but 0.
        gallery: (G, D) likewise.
        generator: the randomness of the draws; make it with :func:`prsnet.rng.numpy_stream`.
        draws: random galleries, from 1.
        exclude_same_camera, block_size, device, progress: as in :func:`prsnet.metrics.ranking.rank_report`.
        ranks: the k of CMC, from 1.

    Raises:
        DataError: if the embeddings do not fit together or no query can be counted.
        InputError: if ``draws``, ``ranks`` or ``block_size`` make no sense.
    """
    check_options(ranks, block_size, draws)
    check_pair(query, gallery)
    kept = not_junk(gallery)
    known = cameras_known(query, gallery)
    sides = gather_sides(query, gallery, kept, other_camera=exclude_same_camera and known)
    reasons = why_skipped(sides)
    counted = np.flatnonzero(reasons == "")
    if not len(counted):
        raise nothing_counts(reasons)
    keys = generator.random((draws, len(kept)))
    source = CosineRows(*cosine_inputs(query, gallery, kept, device))
    found = []
    for start, stop in spans(len(counted), block_size or default_block(len(kept))):
        found.append(_match_ranks(source, sides, counted[start:stop], keys))
        if progress:
            progress(stop, len(counted))
    match = np.concatenate(found, axis=1)
    hits = {int(rank): (match <= rank).mean(axis=1) for rank in ranks}
    tally = Counter(reasons.tolist())
    rule = protocol_name("other" if exclude_same_camera else "all", known)
    return SingleGalleryShotReport(
        cmc={rank: float(share.mean()) for rank, share in hits.items()},
        cmc_deviation={rank: float(share.std()) for rank, share in hits.items()},
        map=float((1 / match).mean()),
        draws=draws,
        queries=len(counted),
        skipped={reason: tally[reason] for reason in SKIP_REASONS},
        protocol=f"single-gallery-shot, mean of {draws} draws, {rule}",
    )


def first_of_each(pids: Ints, keys: npt.NDArray[np.float64]) -> Ints:
    """Return the columns with the smallest key of each identity, and all distractors."""
    order = np.lexsort((keys, pids))
    first = np.ones(len(order), dtype=bool)
    first[1:] = pids[order][1:] != pids[order][:-1]
    return np.flatnonzero(np.isin(np.arange(len(pids)), order[first]) | (pids == DISTRACTOR_PID))


def _match_ranks(
    source: SimilarityRows, sides: Sides, queries: Ints, keys: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return (draws, B) the rank of each query's match in each draw."""
    pairs = identity_pairs(sides, queries)
    rows = source.rows(torch.from_numpy(queries))
    row, column = pairs.row[pairs.relevant], pairs.column[pairs.relevant]
    own = sides.own_column[queries]
    itself = np.flatnonzero(own >= 0)
    chances = rows[torch.from_numpy(row).to(rows.device), torch.from_numpy(column).to(rows.device)]
    for at, to in ((pairs.row, pairs.column), (itself, own[itself])):
        rows[torch.from_numpy(at).to(rows.device), torch.from_numpy(to).to(rows.device)] = -torch.inf
    found = np.empty((len(keys), len(queries)), dtype=np.int64)
    for draw, key in enumerate(keys):
        order = np.lexsort((key[column], row))
        chosen = order[np.unique(row[order], return_index=True)[1]]
        match = chances[torch.from_numpy(chosen).to(rows.device)]
        others = rows[:, torch.from_numpy(first_of_each(sides.gallery_pids, key)).to(rows.device)]
        found[draw] = count_at_least(others, match[:, None])[:, 0].cpu().numpy() + 1
    return found

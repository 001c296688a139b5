"""How many gallery images are at least as similar as each relevant one: the whole cost of an exact ranking."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prsnet.metrics.inputs import spans

BATCH_NUMBERS = 1 << 22
"""Similarities counted at a time: they stay in the last cache, and there are few steps for threads to wait at."""
BINS_PER_THRESHOLD = 48
FEWEST_BINS, MOST_BINS = 256, 8192


def count_at_least(similarities: Tensor, thresholds: Tensor) -> Tensor:
    """Return, for each row and threshold, how many of the row's similarities are >= the threshold. Exact.

    The similarities of a row fall into bins of equal width between its smallest and largest threshold. A bin without a
    threshold is counted as a whole; only what shares a bin with a threshold, a few in a hundred, is compared with it.

    Args:
        similarities: (B, G) float32 or float64; -inf for what does not count. No NaN.
        thresholds: (B, R) ascending in each row, the first finite; the tail of a row may be +inf.

    Returns:
        (B, R) int64; 0 where the threshold is +inf.
    """
    rows = max(1, BATCH_NUMBERS // max(1, similarities.shape[1]))
    return torch.cat([_count(similarities[a:b], thresholds[a:b]) for a, b in spans(len(similarities), rows)])


def _count(similarities: Tensor, thresholds: Tensor) -> Tensor:
    rows, width = thresholds.shape
    count = min(max(FEWEST_BINS, BINS_PER_THRESHOLD * width), MOST_BINS)
    scale, offset = _bin_scale(thresholds, count)
    bins = _bins(similarities, scale, offset, count)
    edges = _bins(thresholds, scale, offset, count)
    shared = torch.zeros(rows * count, dtype=torch.bool, device=bins.device)
    shared[edges[torch.isfinite(thresholds)].long()] = True
    whole = torch.bincount(bins.view(-1), minlength=rows * count).masked_fill_(shared, 0).view(rows, count)
    above = _sums_from_the_right(whole).view(-1)[edges.long()].masked_fill_(torch.isinf(thresholds), 0)
    close = _true_places(shared.index_select(0, bins.view(-1)))
    return above + _count_few(similarities.reshape(-1)[close], close // similarities.shape[1], thresholds)


def _bin_scale(thresholds: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return (B, 1) ``scale`` and ``offset``: a similarity's bin, over all rows, is ``floor(s * scale + offset)``.

    A row's thresholds come to lie between 1.5 and ``count`` - 2.5 bins from its start, so that neither its first nor
    its last bin, which take all that lies below and above, holds a threshold.
    """
    lowest = thresholds[:, :1]
    highest = torch.where(torch.isfinite(thresholds), thresholds, lowest).amax(dim=1, keepdim=True)
    # The second limit keeps the rounding of s * scale below one bin.
    size = torch.maximum(lowest.abs(), highest.abs()).clamp_min(1e-6)
    scale = torch.minimum((count - 4) / (highest - lowest), 2**18 / size).clamp_min(torch.finfo(size.dtype).tiny)
    start = torch.arange(len(thresholds), device=thresholds.device, dtype=thresholds.dtype)[:, None] * count
    return scale, start + 1.5 - lowest * scale


def _bins(values: Tensor, scale: Tensor, offset: Tensor, count: int) -> Tensor:
    """Return (B, N) int32 bins. Every step is monotone also after rounding: a larger value never has a smaller bin."""
    start = torch.arange(len(values), device=values.device, dtype=values.dtype)[:, None] * count
    return torch.clamp((values * scale).add_(offset), start, start + (count - 1)).to(torch.int32)


def _count_few(values: Tensor, rows: Tensor, thresholds: Tensor) -> Tensor:
    """Return (B, R) int64, how many of ``values`` (N,) in ``rows`` (N,) ascending reach each threshold of their row."""
    height, width = thresholds.shape
    per_row = torch.bincount(rows, minlength=height)
    place = torch.arange(len(rows), device=rows.device) - (per_row.cumsum(0) - per_row)[rows]
    padded = values.new_full((height, int(per_row.max())), -torch.inf)
    padded[rows, place] = values
    reached = torch.searchsorted(thresholds, padded, right=True)
    reached += torch.arange(height, device=rows.device)[:, None] * (width + 1)
    histogram = torch.bincount(reached.view(-1), minlength=height * (width + 1)).view(height, width + 1)
    return _sums_from_the_right(histogram)[:, 1:]


def _sums_from_the_right(counts: Tensor) -> Tensor:
    return counts.flip(1).cumsum(1).flip(1)


def _true_places(mask: Tensor) -> Tensor:
    """Return the flat places where ``mask`` is True; on the CPU by numpy, which is several times faster at it."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero()[:, 0]

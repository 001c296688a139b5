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
    columns = similarities.shape[1]
    rows = min(len(similarities), max(1, BATCH_NUMBERS // max(1, columns)))
    # Fresh memory for every batch would cost as much as the work in it.
    scaled, bins = similarities.new_empty(rows, columns), similarities.new_empty(rows, columns, dtype=torch.int32)
    parts = []
    for start, stop in spans(len(similarities), rows):
        batch = slice(start, stop)
        parts.append(_count(similarities[batch], thresholds[batch], scaled[: stop - start], bins[: stop - start]))
    return torch.cat(parts)


def _count(similarities: Tensor, thresholds: Tensor, scaled: Tensor, bins: Tensor) -> Tensor:
    """Count for one batch; ``scaled`` and ``bins`` are scratch of the similarities' shape."""
    rows, width = thresholds.shape
    count = min(max(FEWEST_BINS, BINS_PER_THRESHOLD * width), MOST_BINS)
    scale, offset = _bin_scale(thresholds, count)
    start = torch.arange(rows, device=bins.device, dtype=torch.int32)[:, None] * count
    _into_bins(similarities, scale, offset, count, scaled, bins).add_(start)
    edges = _into_bins(thresholds, scale, offset, count, torch.empty_like(thresholds), start.new_empty(rows, width))
    edges = edges.add_(start).long()
    finite = torch.isfinite(thresholds)
    shared = torch.zeros(rows * count, dtype=torch.bool, device=bins.device)
    shared[edges[finite]] = True
    whole = torch.bincount(bins.view(-1), minlength=rows * count).masked_fill_(shared, 0).view(rows, count)
    above = _sums_from_the_right(whole).view(-1)[edges].masked_fill_(~finite, 0)
    close = _true_places(shared.index_select(0, bins.view(-1)))
    return above + _count_few(similarities.reshape(-1)[close], close // similarities.shape[1], thresholds)


def _bin_scale(thresholds: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return (B, 1) ``scale`` and ``offset``: the bin of a similarity s is ``floor(s * scale + offset)``.

    A row's thresholds come to lie in the bins 1 to ``count`` - 3, so that neither the first nor the last bin, which
    take all that lies below and above, holds a threshold.
    """
    lowest = thresholds[:, :1]
    highest = torch.where(torch.isfinite(thresholds), thresholds, lowest).amax(dim=1, keepdim=True)
    # The second limit keeps the rounding of s * scale below one bin.
    size = torch.maximum(lowest.abs(), highest.abs()).clamp_min(1e-6)
    scale = torch.minimum((count - 4) / (highest - lowest), 2**20 / size).clamp_min(torch.finfo(size.dtype).tiny)
    return scale, 1.5 - lowest * scale


def _into_bins(values: Tensor, scale: Tensor, offset: Tensor, count: int, scaled: Tensor, bins: Tensor) -> Tensor:
    """Fill ``bins`` (B, N) int32. Every step is monotone, also after rounding: larger values never get smaller bins."""
    torch.mul(values, scale, out=scaled).add_(offset).clamp_(0, count - 1)
    return bins.copy_(scaled)


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

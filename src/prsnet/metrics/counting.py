"""How many gallery images are at least as similar as each relevant one: the whole cost of an exact ranking."""

from __future__ import annotations

import torch
from torch import Tensor

from prsnet.metrics.inputs import spans

CACHE_NUMBERS = 1 << 20
"""Similarities counted at a time, so that they stay in the processor's cache between the steps."""


def count_at_least(similarities: Tensor, thresholds: Tensor) -> Tensor:
    """Return, for each row and threshold, how many of the row's similarities are >= the threshold.

    Args:
        similarities: (B, G).
        thresholds: (B, R) ascending in each row; the tail of a row may be +inf.

    Returns:
        (B, R) int64.
    """
    steps = [
        _count_block(similarities[start:stop], thresholds[start:stop])
        for start, stop in spans(len(similarities), max(1, CACHE_NUMBERS // max(1, similarities.shape[1])))
    ]
    return torch.cat(steps)


def _count_block(similarities: Tensor, thresholds: Tensor) -> Tensor:
    rows, width = thresholds.shape
    # How many thresholds each similarity reaches; then, from the top, how many similarities reach each threshold.
    reached = torch.searchsorted(thresholds, similarities, right=True)
    reached += torch.arange(rows, device=reached.device)[:, None] * (width + 1)
    histogram = torch.bincount(reached.view(-1), minlength=rows * (width + 1)).view(rows, width + 1)
    return histogram.flip(1).cumsum(1).flip(1)[:, 1:]

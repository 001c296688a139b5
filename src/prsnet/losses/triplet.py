"""Batch-hard triplets, and the distance and mining that the centroid losses share with them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from prsnet.losses.padding import full_precision, mean_where, valid_rows


def pairwise_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distance of every row of ``a`` to every row of ``b``.

    The differences themselves are squared and summed; the shorter ``|a|^2 + |b|^2 - 2ab`` loses the small distances
    to rounding, and those are what mining compares. The gradient at coinciding points is 0.

    Args:
        a: (..., N, D) floating point.
        b: (..., M, D) floating point.

    Returns:
        (..., N, M), >= 0; float32 at least, also under autocast.
    """
    return torch.cdist(full_precision(a), full_precision(b), compute_mode="donot_use_mm_for_euclid_dist")


def hardest_distances(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each anchor's largest positive and smallest negative distance, and which anchors have both.

    Where several pairs are equally hard, they share the gradient evenly, so that it does not depend on their order.

    Args:
        distances: (..., N, M) >= 0, anchors in the rows.
        positive: (..., N, M) bool, the pairs of one identity that may be mined.
        negative: (..., N, M) bool, the pairs of two identities that may be mined.

    Returns:
        ``(farthest positive, nearest negative, eligible)``, each (..., N); the distances are 0 where not eligible.
    """
    eligible = positive.any(dim=-1) & negative.any(dim=-1)
    farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=-1)
    nearest = distances.masked_fill(~negative, torch.inf).amin(dim=-1)
    zero = torch.zeros_like(farthest)
    return torch.where(eligible, farthest, zero), torch.where(eligible, nearest, zero), eligible


def margin_penalty(gap: Tensor, margin: float | None) -> Tensor:
    """Return ``max(0, gap + margin)``, or the soft margin ``log(1 + exp(gap))`` if ``margin`` is None.

    Args:
        gap: any shape; positive minus negative distance.
        margin: in the unit of the distance.
    """
    return torch.logaddexp(gap, torch.zeros_like(gap)) if margin is None else functional.relu(gap + margin)


def batch_hard_triplet(features: Tensor, pids: Tensor, valid: Tensor, *, margin: float | None = 0.5) -> Tensor:
    """Return the batch-hard triplet loss (Hermans, Beyer, Leibe, arXiv 1703.07737, equation 5).

    Every valid image is an anchor; its farthest image of the same identity and its nearest of another one are compared.
    Anchors without another valid image of their identity, or without any image of another, are left out of the mean.

    Args:
        features: (B, D); float16 and bfloat16 are computed in float32.
        pids: (B,) integer identities; anything in padded rows.
        valid: (B,) bool; False marks padding, whose content does not matter.
        margin: in the unit of the distance; None for the soft margin ``log(1 + exp(gap))``.

    Returns:
        A scalar >= 0; 0 (still in the graph) when there is no anchor.

    Raises:
        InputError: if the shapes do not fit.
    """
    rows = valid_rows(features, pids, valid)
    real = valid[:, None] & valid[None, :]
    same = pids[:, None] == pids[None, :]
    other_image = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    farthest, nearest, anchors = hardest_distances(
        pairwise_euclidean(rows, rows), real & same & other_image, real & ~same
    )
    return mean_where(margin_penalty(farthest - nearest, margin), anchors)

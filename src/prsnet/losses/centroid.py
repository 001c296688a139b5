"""Centroid triplets: each image against the mean of its identity's other images, raw and masked.

CTL is of Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval" (arXiv 2104.13643);
MCTL, which adds the masked images, of Xiao et al., "PRSNet" (arXiv 2303.06330).

Shapes: P groups of K images; D numbers per feature. All K splits are computed at once, along the first axis.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from prsnet.errors import InputError
from prsnet.losses.padding import mean_where, valid_rows
from prsnet.losses.triplet import hardest_distances, margin_penalty, pairwise_euclidean

CentroidVariant: TypeAlias = Literal["mctl", "ctl", "mctl-raw-query"]


def centroid_triplet(
    raw: Tensor,
    masked: Tensor | None,
    pids: Tensor,
    valid: Tensor,
    *,
    instances: int,
    margin: float | None = 0.5,
    variant: CentroidVariant = "mctl",
) -> Tensor:
    """Return the (masked) centroid triplet loss of a batch of P consecutive groups of K images.

    In split k the k-th image of each group is its query and the mean of the group's other valid images its centroid.
    Among the vectors ``[queries; centroids]`` each is an anchor with its farthest positive (ap) and nearest negative
    (an); the same split of the masked features gives ap' and an', mined on their own. The split's loss is the mean of
    ``max(0, (ap + ap') - (an + an') + margin)``; the result is the mean over the splits.

    A group takes part in split k if its k-th image and at least one other are valid. Groups of the same identity keep
    their own query and centroid, which are positives of each other. Anchors without a negative are left out, and
    so are splits without anchors.

    Args:
        raw: (B, D) features of the images, B = P * K; float16 and bfloat16 are computed in float32.
        masked: (B, D) features of the same images masked; not looked at, and may be None, for ``"ctl"``.
        pids: (B,) integer identities, one per group; anything in padded rows.
        valid: (B,) bool; False marks padding, whose content does not matter.
        instances: K >= 2.
        margin: in the unit of the distance; None for the soft margin ``log(1 + exp((ap + ap') - (an + an')))``.
        variant: ``"mctl"``; ``"ctl"`` without ap' and an'; ``"mctl-raw-query"`` with the raw queries against the
            masked centroids in the masked half, as in the authors' published code.

    Returns:
        A scalar >= 0; 0 (still in the graph) when no split has an anchor.

    Raises:
        InputError: if the shapes do not fit, the variant is unknown or lacks ``masked``, or (looked at on the CPU only,
            as it would stall another device) a group holds two identities.
    """
    _check_arguments(raw, masked, instances, variant)
    rows = valid_rows(raw, pids, valid)
    _check_groups(pids, valid, instances)
    positive, negative = _split_pairs(pids, valid, instances)
    queries, centroids = _split_vectors(rows, valid, instances)
    gap, anchors = _hardest_gap(queries, centroids, positive, negative)
    if variant != "ctl" and masked is not None:
        masked_queries, masked_centroids = _split_vectors(valid_rows(masked, pids, valid), valid, instances)
        if variant == "mctl-raw-query":
            masked_queries = queries
        gap = gap + _hardest_gap(masked_queries, masked_centroids, positive, negative)[0]
    per_split = mean_where(margin_penalty(gap, margin), anchors)
    return mean_where(per_split, anchors.any(dim=-1))


def _split_vectors(rows: Tensor, valid: Tensor, instances: int) -> tuple[Tensor, Tensor]:
    """Return queries and leave-one-out centroids, each (K, P, D); rows (B, D) hold zeros where not valid."""
    groups = rows.reshape(-1, instances, rows.shape[1])
    others = _others(valid.reshape(-1, instances))
    # Summed without the query, rather than the whole sum less the query: no cancellation. Not a matrix product, which
    # autocast would compute in half precision.
    sums = (groups[None] * others[..., None].to(rows.dtype)).sum(dim=2)
    return groups.transpose(0, 1), sums / others.sum(dim=2).clamp(min=1)[..., None]


def _others(slots: Tensor) -> Tensor:
    """Return (K, P, K) bool: the valid images besides the k-th, for every k and group; ``slots`` (P, K) bool."""
    not_query = ~torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)
    return slots[None] & not_query[:, None]


def _split_pairs(pids: Tensor, valid: Tensor, instances: int) -> tuple[Tensor, Tensor]:
    """Return the minable positive and negative pairs of ``[queries; centroids]``, each (K, 2P, 2P) bool."""
    slots = valid.reshape(-1, instances)
    takes_part = (slots.transpose(0, 1) & _others(slots).any(dim=2)).repeat(1, 2)
    # The query's own label: it is valid wherever the group takes part, other slots may be padding.
    labels = pids.reshape(-1, instances).transpose(0, 1).repeat(1, 2)
    pairs = takes_part[:, :, None] & takes_part[:, None, :]
    same = labels[:, :, None] == labels[:, None, :]
    return pairs & same, pairs & ~same


def _hardest_gap(queries: Tensor, centroids: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``ap - an`` and the eligible anchors, each (K, 2P), of queries and centroids (K, P, D)."""
    vectors = torch.cat([queries, centroids], dim=1)
    farthest, nearest, anchors = hardest_distances(pairwise_euclidean(vectors, vectors), positive, negative)
    return farthest - nearest, anchors


def _check_arguments(raw: Tensor, masked: Tensor | None, instances: int, variant: str) -> None:
    if variant not in get_args(CentroidVariant):
        known = ", ".join(get_args(CentroidVariant))
        raise InputError(f"centroid loss: unknown variant {variant!r}", hint=f"use one of {known}")
    if instances < 2:
        raise InputError(
            f"centroid loss: instances is {instances}, expected at least 2", hint="a centroid needs others"
        )
    if len(raw) % instances:
        raise InputError(
            f"centroid loss: {len(raw)} rows are not a multiple of {instances} instances",
            hint="pad short identities and mark the padding in valid",
        )
    if variant == "ctl":
        return
    if masked is None:
        raise InputError(f"centroid loss: {variant} needs the masked features", hint="give masked, or use ctl")
    if masked.shape != raw.shape:
        raise InputError(
            f"centroid loss: masked features {tuple(masked.shape)}, raw features {tuple(raw.shape)}",
            hint="give one masked row per raw row",
        )


def _check_groups(pids: Tensor, valid: Tensor, instances: int) -> None:
    if pids.device.type != "cpu":
        return
    for identities, real in zip(pids.reshape(-1, instances), valid.reshape(-1, instances), strict=True):
        found = identities[real].unique().tolist()
        if len(found) > 1:
            raise InputError(
                f"centroid loss: one group of {instances} rows holds the identities {found}",
                hint="order the batch as consecutive groups of one identity each",
            )

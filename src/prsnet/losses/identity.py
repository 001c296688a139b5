"""The identity loss: classification over the training identities with smoothed labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from prsnet.losses.padding import mean_where, valid_rows


def identity_loss(logits: Tensor, pids: Tensor, valid: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Return the label-smoothed cross-entropy, averaged over the valid rows.

    The target gives ``smoothing / C`` to each of the C classes, the true one included, and ``1 - smoothing`` more to
    the true one (Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7; also torch's convention).
    The true class so weighs ``1 - smoothing * (C - 1) / C``.

    Args:
        logits: (B, C) scores before the softmax; float16 and bfloat16 are computed in float32.
        pids: (B,) int64 class indices 0..C-1; anything in padded rows.
        valid: (B,) bool; False marks padding, whose content does not matter.
        smoothing: 0 (plain cross-entropy) to 1.

    Returns:
        A scalar >= 0 in nats; 0 when no row is valid.

    Raises:
        InputError: if the shapes do not fit.
    """
    rows = valid_rows(logits, pids, valid)
    targets = torch.where(valid, pids, torch.zeros_like(pids))
    return mean_where(functional.cross_entropy(rows, targets, reduction="none", label_smoothing=smoothing), valid)

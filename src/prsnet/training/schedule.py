"""Learning rates as functions of the step: no state, so a resumed run needs none."""

from __future__ import annotations

import math
from collections.abc import Sequence


def warmup_cosine(step: int, *, total: int, warmup: float) -> float:
    """Return the factor of the peak learning rate at ``step``: linear from 0, then half a cosine to 0.

    Args:
        step: 0, 1, ..., total - 1.
        total: steps of the run.
        warmup: steps of warm-up, may be fractional.
    """
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1e-9)))


def warmup_steps(step: int, *, per_epoch: int, warmup: float, milestones: Sequence[int], factor: float = 0.1) -> float:
    """Return the factor at ``step``: linear over ``warmup`` steps, then times ``factor`` from each milestone epoch on.

    The warm-up ends one step early, so that no step is spent at a learning rate of 0 and the last step of the
    warm-up has the full rate.
    """
    rise = min((step + 1) / warmup, 1.0) if warmup > 0 else 1.0
    return rise * factor ** sum(step >= milestone * per_epoch for milestone in milestones)

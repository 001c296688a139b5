"""Which images form which batch: pure functions of (labels, seed, epoch), so that any epoch can be made again.

A sampler that is a function has no state to save: a resumed run asks for the same epoch and skips the batches done.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError
from prsnet.rng import numpy_stream

PADDING = -1
"""Row index of a padded slot."""

Rows = npt.NDArray[np.int64]


def shuffled_batches(count: int, batch_size: int, *, seed: int, epoch: int) -> list[Rows]:
    """Return the batches of one epoch over ``count`` images: each image at most once, a short tail left out.

    With fewer images than ``batch_size`` the one batch holds them all.
    """
    order = numpy_stream(seed, "order", epoch).permutation(count).astype(np.int64)
    size = min(batch_size, count)
    return [order[start : start + size] for start in range(0, count - size + 1, size)] if size else []


def identity_batches(
    pids: npt.NDArray[np.int64], identities: int, instances: int, *, seed: int, epoch: int
) -> list[Rows]:
    """Return the P x K batches of one epoch, each (P * K,) row indices in P groups of K.

    Policy, corner cases included:

    - every image of every identity appears at least once per epoch: an identity's images are shuffled and cut into
      groups of K; the last group is filled up with other images of the same identity, drawn without repetition;
    - an identity with fewer than K images gives one group, padded with :data:`PADDING` (docs/method.md);
    - the P groups of a batch belong to P different identities; identities with the most groups left go first, ties
      at random, which keeps the number of batches at its minimum;
    - the last batch is filled up with further groups of identities that it does not hold.

    Args:
        pids: (N,) labels of the training images.
        identities: P.
        instances: K.
        seed: the run's seed.
        epoch: 0, 1, ...

    Raises:
        DataError: fewer than P identities.
    """
    generator = numpy_stream(seed, "identities", epoch)
    rows_of = _rows_by_identity(pids)
    if len(rows_of) < identities:
        raise DataError(
            f"{len(rows_of)} identities in training, a batch wants {identities}",
            hint=f"use --identities {len(rows_of)} or fewer, or more data",
        )
    groups = [_groups(rows, instances, generator) for rows in rows_of]
    left = np.array([len(group) for group in groups])
    batches = []
    while left.any():
        order = np.lexsort((generator.random(len(left)), -left))[:identities]
        taken = []
        for identity in order:
            if left[identity]:
                left[identity] -= 1
                taken.append(groups[identity][left[identity]])
            else:
                taken.append(_groups(rows_of[identity], instances, generator)[0])
        batches.append(np.concatenate([taken[i] for i in generator.permutation(identities)]))
    return [batches[i] for i in generator.permutation(len(batches))]


def _rows_by_identity(pids: npt.NDArray[np.int64]) -> list[Rows]:
    order = np.argsort(pids, kind="stable").astype(np.int64)
    _, starts = np.unique(pids[order], return_index=True)
    return np.split(order, starts[1:]) if len(order) else []


def _groups(rows: Rows, instances: int, generator: np.random.Generator) -> list[Rows]:
    """Cut one identity's shuffled rows into groups of K."""
    shuffled = generator.permutation(rows)
    if len(rows) < instances:
        return [np.concatenate([shuffled, np.full(instances - len(rows), PADDING, np.int64)])]
    groups = [shuffled[start : start + instances] for start in range(0, len(rows), instances)]
    missing = instances - len(groups[-1])
    if missing:
        others = generator.permutation(shuffled[: len(rows) - len(groups[-1])])
        groups[-1] = np.concatenate([groups[-1], others[:missing]])
    return groups

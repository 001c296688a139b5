"""Padded rows and precision: what every loss does to its input first and to its output last.

A batch holds padding where an identity has too few images. The content of a padded row must not matter, not even when
it is NaN; so rows are replaced rather than multiplied by zero. Nothing here waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prsnet.errors import InputError


def full_precision(values: Tensor) -> Tensor:
    """Return ``values`` as float32 if they are float16 or bfloat16, else unchanged (float32 and float64 stay)."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def valid_rows(rows: Tensor, pids: Tensor, valid: Tensor) -> Tensor:
    """Return ``rows`` in at least float32 with zeros in the padded ones, through which no gradient flows.

    Args:
        rows: (B, N) floating point.
        pids: (B,) integer identities; here only their shape is looked at.
        valid: (B,) bool; False marks padding.

    Raises:
        InputError: if the shapes do not fit or ``valid`` is not boolean.
    """
    if rows.ndim != 2:
        raise InputError(f"loss: expected rows of shape (B, N), got {tuple(rows.shape)}", hint="one row per image")
    for name, vector in (("pids", pids), ("valid", valid)):
        if vector.shape != rows.shape[:1]:
            raise InputError(
                f"loss: {name} has shape {tuple(vector.shape)}, expected ({len(rows)},)",
                hint=f"give one entry of {name} per row",
            )
    if valid.dtype != torch.bool:
        raise InputError(f"loss: valid is {valid.dtype}, expected torch.bool", hint="compare the counts with > 0")
    rows = full_precision(rows)
    return torch.where(valid[:, None], rows, torch.zeros_like(rows))


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of ``values`` over the last axis where ``chosen``; 0 (still in the graph) where none is.

    Args:
        values: (..., N) floating point.
        chosen: (..., N) bool of the same shape.

    Returns:
        (...) of the dtype of ``values``.
    """
    total = torch.where(chosen, values, torch.zeros_like(values)).sum(dim=-1)
    return total / chosen.sum(dim=-1).clamp(min=1)

"""Checks of embeddings before they are compared, and their vectors at unit length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prsnet.errors import DataError, InputError
from prsnet.types import JUNK_PID, UNKNOWN_CAMID, Embeddings

Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, in all) as long work goes on."""

CHUNK_NUMBERS = 1 << 22
"""Numbers converted at a time, so that conversion needs little memory beyond its result."""


def spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, stop) of consecutive blocks of at most ``size`` rows that cover ``count`` rows."""
    for start in range(0, count, size):
        yield start, min(start + size, count)


def check_pair(query: Embeddings, gallery: Embeddings) -> None:
    """Raise DataError unless ``query`` can be compared with ``gallery``: sizes, widths, ids and paths."""
    for side, name in ((query, "query"), (gallery, "gallery")):
        check_side(side, name)
    if query.width != gallery.width:
        raise DataError(
            f"query vectors have {query.width} numbers, gallery vectors {gallery.width}",
            hint="embed both with the same model",
        )


def check_side(side: Embeddings, name: str) -> None:
    """Raise DataError if one side is empty, has ids out of range, or names an image twice."""
    kind = str(side.vectors.dtype).removeprefix("torch.")
    if not kind.startswith(("float", "bfloat", ">f", "int", "longdouble")):
        raise DataError(f"{name}: vectors must be floating-point numbers, got {kind}")
    if not len(side) or not side.width:
        raise DataError(
            f"{name}: no embeddings (shape {len(side)} x {side.width})", hint=f"give at least one {name} image"
        )
    for ids, lowest, what in ((side.pids, JUNK_PID, "pid"), (side.camids, UNKNOWN_CAMID, "camid")):
        row = int(np.argmin(ids))
        if ids[row] < lowest:
            raise DataError(
                f"{name} row {row}: {what} {ids[row]} is below {lowest}",
                hint="an id that does not fit its integer type turns negative; use int64",
            )
    if side.paths and len(set(side.paths)) < len(side.paths):
        first: dict[str, int] = {}
        for row, path in enumerate(side.paths):
            if first.setdefault(path, row) != row:
                raise DataError(
                    f"{name} rows {first[path]} and {row} are the same image: {path}",
                    hint="give every image once, or unique paths",
                )


def check_options(ranks: Sequence[int], block_size: int | None, draws: int = 1) -> None:
    """Raise InputError if the ranks of a CMC, a block size or a number of draws make no sense."""
    if not len(ranks) or min(ranks) < 1:
        raise InputError(f"ranks: expected whole numbers from 1, got {tuple(ranks)}", hint="for example (1, 5, 10, 20)")
    if block_size is not None and block_size < 1:
        raise InputError(
            f"block_size: expected at least 1 query, got {block_size}", hint="leave it out to have it chosen"
        )
    if draws < 1:
        raise InputError(f"draws: expected at least 1, got {draws}", hint="10 is usual")


def compute_dtype(*sides: Embeddings) -> torch.dtype:
    """Return the precision similarities are computed in: float64 if any side is stored so, else float32."""
    wide = any(
        str(side.vectors.dtype).removeprefix("torch.") in ("float64", "longdouble", "float128") for side in sides
    )
    return torch.float64 if wide else torch.float32


def default_device(*sides: Embeddings) -> torch.device:
    """Return the device of the first side that is a tensor on an accelerator with float64, else the CPU."""
    for side in sides:
        if isinstance(side.vectors, Tensor) and side.vectors.device.type not in ("cpu", "mps"):
            return side.vectors.device
    return torch.device("cpu")


def _rows(vectors: npt.NDArray[np.floating[Any]] | Tensor, rows: slice | npt.NDArray[np.int64]) -> Tensor:
    if isinstance(vectors, Tensor):
        return vectors.detach()[rows if isinstance(rows, slice) else torch.from_numpy(rows).to(vectors.device)]
    part = vectors[rows]
    if part.dtype == np.longdouble or part.dtype.byteorder == ">" or not part.flags.writeable:
        part = part.astype(np.float64 if part.dtype.itemsize > 4 else np.float32)
    return torch.from_numpy(part)


def unit_vectors(
    side: Embeddings,
    name: str,
    *,
    rows: npt.NDArray[np.int64] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the vectors of ``rows`` at unit length, contiguous, on ``device``.

    A row whose length is 1 up to rounding is taken bit by bit, so that vectors that were equal stay equal and vectors
    that were scaled already stay themselves. Lengths are computed in float64.

    Args:
        side: the embeddings; float16, bfloat16, float32 or float64, numpy or torch.
        name: what errors call it.
        rows: (M,) rows to take, in this order; all of them if None.
        dtype: float32 or float64.
        device: where the result goes.

    Raises:
        DataError: if a vector has no direction: NaN, infinite or zero.
    """
    count = len(side) if rows is None else len(rows)
    units = torch.empty(count, side.width, dtype=dtype, device=device)
    slack = 8 * torch.finfo(dtype).eps
    for start, stop in spans(count, max(1, CHUNK_NUMBERS // side.width)):
        chosen = slice(start, stop) if rows is None else rows[start:stop]
        part = _rows(side.vectors, chosen).to(device=device, dtype=dtype)
        lengths = torch.linalg.vector_norm(part, dim=1, keepdim=True, dtype=torch.float64)
        _check_lengths(lengths[:, 0], side, name, chosen)
        scale = torch.where((lengths - 1).abs() <= slack, torch.ones_like(lengths), 1 / lengths)
        # Adding 0 turns -0 into +0: equal vectors then have equal bits.
        torch.mul(part, scale.to(dtype), out=units[start:stop]).add_(0.0)
    return units


def _check_lengths(lengths: Tensor, side: Embeddings, name: str, rows: slice | npt.NDArray[np.int64]) -> None:
    bad = ~(torch.isfinite(lengths) & (lengths > 0))
    if bool(bad.any()):
        place = int(bad.nonzero()[0, 0])
        row = place + rows.start if isinstance(rows, slice) else int(rows[place])
        fault = "is zero" if float(lengths[place]) == 0 else "has NaN or infinite numbers"
        where = f" ({side.paths[row]})" if side.paths else ""
        raise DataError(
            f"{name} row {row}{where}: the vector {fault}, so it has no direction to compare",
            hint="check the model that made the embeddings; half-precision overflow gives infinities",
        )


def cosine_inputs(
    query: Embeddings,
    gallery: Embeddings,
    kept: npt.NDArray[np.int64],
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of all queries and of the gallery rows ``kept``, of one type and on one device.

    Args:
        query: (Q, D).
        gallery: (G, D).
        kept: (M,) gallery rows.
        device: where to compute; None for where the vectors are.
    """
    where = torch.device(device) if device is not None else default_device(query, gallery)
    dtype = compute_dtype(query, gallery)
    return (
        unit_vectors(query, "query", dtype=dtype, device=where),
        unit_vectors(gallery, "gallery", rows=kept, dtype=dtype, device=where),
    )

"""From embeddings to the numbers that are stored, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError
from prsnet.types import ModelIdentity

if TYPE_CHECKING:
    from prsnet.types import Vectors

Floats = npt.NDArray[np.float32]
OUTSIDE = 1e-3
"""Largest part of a unit vector that may lie outside the model's space; rounding leaves about 1e-6."""


@dataclass(frozen=True)
class EmbeddingSpace:
    """The embeddings of one model, all of unit length.

    Args:
        model: whose embeddings they are.
        basis: (D, r) float32 with orthonormal columns that span all embeddings of the model; stored are then r
            coordinates with the same cosines instead of D numbers (docs/method.md). ``None``: r = D.
    """

    model: ModelIdentity
    basis: Floats | None = None

    def __post_init__(self) -> None:
        if self.basis is None:
            return
        shape, width = self.basis.shape, self.model.width
        if len(shape) != 2 or shape[0] != width or not 1 <= shape[1] <= width or self.basis.dtype != np.float32:
            raise DataError(f"basis {self.basis.dtype} {shape}: expected float32 ({width}, r)")
        double = self.basis.astype(np.float64)
        if not np.isfinite(double).all() or np.abs(double.T @ double - np.eye(shape[1])).max() > 1e-5:
            raise DataError("basis: the columns are not orthonormal", hint="take it from Embedder.compact_basis()")

    @property
    def stored_width(self) -> int:
        """Numbers r per stored vector."""
        return self.model.width if self.basis is None else int(self.basis.shape[1])

    def encode(self, vectors: Vectors) -> Floats:
        """Return what is stored of embeddings (N, D): (N, r) float32 of unit length.

        Raises:
            DataError: another width, numbers that are not finite, vectors of length 0, or vectors that this model
                cannot have made.
        """
        rows = unit_rows(vectors, self.model)
        if self.basis is None:
            return rows.astype(np.float32)
        short = rows @ self.basis.astype(np.float64)
        lengths = np.linalg.norm(short, axis=1, keepdims=True)
        outside = np.sqrt(np.maximum(0, 1 - lengths**2))
        if len(outside) and outside.max() > OUTSIDE:
            raise DataError(
                f"row {int(outside.argmax())} of the vectors was not made by model {self.model}: {outside.max():.3f} of"
                " its length lies outside the model's space",
                hint="embed the images with the gallery's model",
            )
        unit: Floats = (short / lengths).astype(np.float32)
        return unit

    def decode(self, stored: Floats) -> Floats:
        """Return the embeddings (N, D) float32 of unit length that stored vectors (N, r) stand for."""
        if self.basis is None:
            return stored
        full = stored.astype(np.float64) @ self.basis.astype(np.float64).T
        unit: Floats = (full / np.linalg.norm(full, axis=1, keepdims=True)).astype(np.float32)
        return unit


def unit_rows(vectors: Vectors, model: ModelIdentity) -> npt.NDArray[np.float64]:
    """Return vectors (N, D) as float64 of unit length; raises DataError as :meth:`EmbeddingSpace.encode`."""
    rows = np.asarray(vectors if isinstance(vectors, np.ndarray) else vectors.detach().float().cpu().numpy())
    if rows.ndim != 2 or rows.shape[1] != model.width or rows.dtype.kind != "f":
        raise DataError(f"vectors {rows.dtype} {rows.shape}: expected floats (N, {model.width}) of model {model}")
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        raise DataError("vectors: some are not finite numbers", hint="embed the images again")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if len(rows) and lengths.min() < 1e-12:
        raise DataError(f"row {int(lengths.argmin())} of the vectors has length 0", hint="embed the image again")
    unit: npt.NDArray[np.float64] = rows / lengths
    return unit


def combine_shots(vectors: Vectors, model: ModelIdentity) -> npt.NDArray[np.float64]:
    """Return one query (1, D) from several shots (n, D) of the same person: their mean, of unit length.

    Raises:
        DataError: none, not vectors of the model, or shots that cancel each other out.
    """
    rows = unit_rows(vectors, model)
    mean = rows.sum(axis=0, keepdims=True) / max(len(rows), 1)
    length = np.linalg.norm(mean)
    if length < 1e-6:
        what = "cancel each other out" if len(rows) else "are none"
        raise DataError(f"the {len(rows)} shots {what}, expected pictures of one person", hint="search one by one")
    query: npt.NDArray[np.float64] = mean / length
    return query

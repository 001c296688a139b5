"""The objects that pass between the parts of the package: frozen, and checked when they are made.

One orientation everywhere: similarity is cosine, larger is more alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError

if TYPE_CHECKING:
    import torch

    Vectors: TypeAlias = "npt.NDArray[np.floating[Any]] | torch.Tensor"

JUNK_PID = -1
"""Identity of images that evaluation leaves out of the gallery altogether (Market-1501's ``-1``)."""
DISTRACTOR_PID = 0
"""Identity of gallery images that match no query and stay in the gallery (Market-1501's ``0000``)."""
UNKNOWN_CAMID = -1
"""What ``camid=None`` becomes where camera ids are stored as integers."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image on disk and what is known of it.

    Attributes:
        path: the image file.
        pid: identity; ``JUNK_PID`` or ``DISTRACTOR_PID`` where the layout says so, ``None`` when unlabelled.
        camid: camera, or ``None`` when unknown.
    """

    path: Path
    pid: int | None = None
    camid: int | None = None

    def __post_init__(self) -> None:
        if self.pid is not None and self.pid < JUNK_PID:
            raise DataError(f"{self.path}: pid {self.pid} is below -1", hint="use -1 for junk, 0 for distractors")
        if self.camid is not None and self.camid < 0:
            raise DataError(f"{self.path}: camid {self.camid} is negative", hint="leave unknown cameras empty")


@dataclass(frozen=True, slots=True)
class Dataset:
    """The records of one dataset, by the part they play.

    Attributes:
        name: what reports call it, e.g. ``"market1501"``.
        train: labelled training images (pid > 0), or unlabelled ones (pid ``None``) of a pre-training folder.
        query: images to search with.
        gallery: images to search in; junk and distractors included.
        facts: what a reader must know to compare figures: layout, source, seed of a split, counts.
    """

    name: str
    train: tuple[ImageRecord, ...] = ()
    query: tuple[ImageRecord, ...] = ()
    gallery: tuple[ImageRecord, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch on one device.

    Attributes:
        images: (B, 3, H, W) float32, normalised.
        pids: (B,) int64 class indices 0..C-1 in training; ``-1`` where unlabelled or padded.
        camids: (B,) int64; ``UNKNOWN_CAMID`` where unknown.
        valid: (B,) bool; False marks the padding of an identity with fewer than K images.
    """

    images: torch.Tensor
    pids: torch.Tensor
    camids: torch.Tensor
    valid: torch.Tensor

    def __post_init__(self) -> None:
        rows = len(self.images)
        for name in ("pids", "camids", "valid"):
            if tuple(getattr(self, name).shape) != (rows,):
                raise ValueError(f"Batch.{name}: expected shape ({rows},), got {tuple(getattr(self, name).shape)}")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of N images and what is known of each.

    Attributes:
        vectors: (N, D) floating, numpy or torch; rows of unit length unless said otherwise.
        pids: (N,) int64.
        camids: (N,) int64; ``UNKNOWN_CAMID`` where unknown.
        paths: N strings that name the images, or empty when there are none.
    """

    vectors: Vectors
    pids: npt.NDArray[np.int64]
    camids: npt.NDArray[np.int64]
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise DataError(f"embeddings: expected vectors of shape (N, D), got {tuple(self.vectors.shape)}")
        rows = len(self.vectors)
        for name in ("pids", "camids"):
            array = np.asarray(getattr(self, name))
            if array.shape != (rows,):
                raise DataError(f"embeddings: {rows} vectors but {name} of shape {array.shape}")
            if array.dtype.kind not in "iu":
                raise DataError(f"embeddings: {name} must be integers, got {array.dtype}")
            if array.dtype.kind == "u" and rows and int(array.max()) > np.iinfo(np.int64).max:
                raise DataError(f"embeddings: {name} {int(array.max())} does not fit into 64 signed bits")
            object.__setattr__(self, name, array.astype(np.int64, copy=False))
        object.__setattr__(self, "paths", tuple(self.paths))
        if self.paths and len(self.paths) != rows:
            raise DataError(f"embeddings: {rows} vectors but {len(self.paths)} paths")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return int(self.vectors.shape[1])

    def numpy(self) -> npt.NDArray[np.float32]:
        """Return the vectors as a float32 numpy array, copying only where needed."""
        if isinstance(self.vectors, np.ndarray):
            return self.vectors.astype(np.float32, copy=False)
        return np.asarray(self.vectors.detach().float().cpu().numpy(), dtype=np.float32)

    def select(self, rows: Sequence[int] | npt.NDArray[Any]) -> Embeddings:
        """Return the embeddings of ``rows`` (indices or a boolean mask), in that order."""
        index = np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        index = index.astype(np.int64)
        vectors = self.vectors[index] if isinstance(self.vectors, np.ndarray) else self.vectors[index.tolist()]
        paths = tuple(self.paths[i] for i in index) if self.paths else ()
        return Embeddings(vectors, self.pids[index], self.camids[index], paths)


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search.

    Attributes:
        id: the gallery's name of the sighting.
        similarity: cosine, -1..1, larger is more alike.
        pid: identity, ``None`` when unknown.
        camid: camera, ``None`` when unknown.
        path: the image, empty when the gallery holds none.
        facts: whatever else was stored with the sighting.
    """

    id: str
    similarity: float
    pid: int | None = None
    camid: int | None = None
    path: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

"""The objects that pass between the parts of the package: frozen, and checked when they are made.

One orientation everywhere: similarity is cosine, larger is more alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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
class ModelIdentity:
    """Which model made an embedding; embeddings of two models must never meet in one gallery.

    Attributes:
        fingerprint: SHA-256 (64 hexadecimal digits) of the weights and of the preprocessing that they need.
        name: what people call the model; two models may share it.
        width: numbers per embedding.
    """

    fingerprint: str
    name: str
    width: int

    def __post_init__(self) -> None:
        if len(self.fingerprint) != 64 or not set(self.fingerprint) <= set("0123456789abcdef"):
            raise DataError(f"model fingerprint {self.fingerprint!r:.80}: expected 64 hexadecimal digits")
        if not 1 <= self.width <= 65536:
            raise DataError(f"model {self.name!r}: {self.width} numbers per embedding, expected 1 to 65536")

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]}, {self.width} numbers)"


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
        time: when it was seen (UTC), ``None`` when unknown.
        source: where it came from, e.g. a folder, a video, a track; empty when unknown.
    """

    id: str
    similarity: float
    pid: int | None = None
    camid: int | None = None
    path: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    time: datetime | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class QueryRanks:
    """What the ranking of each counted query came to: N arrays of one row per query, in the order of the query set.

    Attributes:
        row: (N,) int64, the query's row in the query embeddings.
        pid: (N,) int64, its identity.
        camid: (N,) int64, its camera.
        ap: (N,) float64, average precision, 0..1.
        first_match: (N,) int64, rank of the first relevant image, from 1.
        inp: (N,) float64, number of relevant images / rank of the last one, 0..1.
        relevant: (N,) int64, relevant images that count for the query.
        valid: (N,) int64, gallery images that it is ranked against, the relevant ones included.
    """

    row: npt.NDArray[np.int64]
    pid: npt.NDArray[np.int64]
    camid: npt.NDArray[np.int64]
    ap: npt.NDArray[np.float64]
    first_match: npt.NDArray[np.int64]
    inp: npt.NDArray[np.float64]
    relevant: npt.NDArray[np.int64]
    valid: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the arrays as lists, under the names of the attributes."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class RankSummary:
    """The figures of one camera or one pair of cameras.

    Attributes:
        queries: counted queries.
        map: mean average precision, 0..1.
        rank1: share of queries whose first answer is right, 0..1.
        minp: mean inverse negative penalty, 0..1.
    """

    queries: int
    map: float
    rank1: float
    minp: float

    def to_dict(self) -> dict[str, float | int]:
        """Return the figures under the names of the attributes."""
        return {"queries": self.queries, "map": self.map, "rank1": self.rank1, "minp": self.minp}


@dataclass(frozen=True, slots=True)
class RankReport:
    """How well a gallery is ranked for a set of queries; all figures are fractions, 0..1.

    Attributes:
        map: mean over the counted queries of the average precision (step sum over all relevant images).
        cmc: for each rank k, the share of counted queries with a relevant image among the first k.
        minp: mean over the counted queries of (number of relevant images) / (rank of the last one).
        per_query: the same query by query.
        skipped: number of queries not counted, by reason; every reason is named, also where the number is 0.
        protocol: what was left out of the gallery and what the figures mean, in words.
        gallery: gallery images that took part (junk is not among them).
        by_query_camera: the figures of the queries of each camera; empty when cameras are unknown.
        by_camera_pair: the figures of the queries of one camera against the gallery of another one alone, by
            (query camera, gallery camera); empty unless asked for.
    """

    map: float
    cmc: Mapping[int, float]
    minp: float
    per_query: QueryRanks
    skipped: Mapping[str, int]
    protocol: str
    gallery: int
    by_query_camera: Mapping[int, RankSummary] = field(default_factory=dict)
    by_camera_pair: Mapping[tuple[int, int], RankSummary] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        """Number of counted queries."""
        return len(self.per_query)

    def to_dict(self, *, per_query: bool = True) -> dict[str, Any]:
        """Return what ``json.dump`` can write.

        Args:
            per_query: also the arrays of the single queries.

        Returns:
            The keys ``protocol``, ``map``, ``cmc`` (rank as a string -> fraction), ``minp``, ``queries`` (counted),
            ``gallery``, ``skipped`` (reason -> number), ``by_query_camera`` (camera -> ``queries``, ``map``, ``rank1``,
            ``minp``), ``by_camera_pair`` (``"query camera>gallery camera"`` -> the same) and, if asked for,
            ``per_query`` (``row``, ``pid``, ``camid``, ``ap``, ``first_match``, ``inp``, ``relevant``, ``valid``).
        """
        known: dict[str, Any] = {
            "protocol": self.protocol,
            "map": self.map,
            "cmc": {str(rank): share for rank, share in self.cmc.items()},
            "minp": self.minp,
            "queries": self.queries,
            "gallery": self.gallery,
            "skipped": dict(self.skipped),
            "by_query_camera": {str(camid): part.to_dict() for camid, part in self.by_query_camera.items()},
            "by_camera_pair": {f"{a}>{b}": part.to_dict() for (a, b), part in self.by_camera_pair.items()},
        }
        return {**known, "per_query": self.per_query.to_dict()} if per_query else known

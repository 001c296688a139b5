"""What a gallery asks of whatever keeps its sightings; SQLite is one answer, a server can be another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prsnet.gallery.sightings import NewSighting, OnePer, Sighting, SightingFilter
from prsnet.gallery.space import EmbeddingSpace
from prsnet.types import Hit

Floats = npt.NDArray[np.float32]
Batch = tuple[Sequence[NewSighting], Floats]
"""Sightings and their stored vectors (N, r)."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long sightings are kept.

    Attributes:
        days: longest age in days; ``None`` keeps them for good.
        purged: when what was older was last deleted, microseconds since 1970; 0: never.
    """

    days: float | None
    purged: int


@dataclass(frozen=True, slots=True)
class GalleryStats:
    """What is in a gallery.

    Attributes:
        sightings: how many, expired ones included.
        expired: how many are older than retention allows: never found any more, deleted by the next purge.
        identities: different pids.
        unidentified: sightings without pid.
        by_camera: sightings of each camera; -1 counts those of unknown camera.
        by_source: sightings of each source, the largest 100.
        first: earliest time of a sighting; ``None`` where no time is known.
        last: latest time.
        crops: kept pictures.
        bytes: size on disk.
        stored_width: numbers per stored vector.
    """

    sightings: int
    expired: int
    identities: int
    unidentified: int
    by_camera: Mapping[int, int]
    by_source: Mapping[str, int]
    first: datetime | None
    last: datetime | None
    crops: int
    bytes: int
    stored_width: int

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        cameras = {str(camid): count for camid, count in self.by_camera.items()}
        times = {name: None if time is None else time.isoformat() for name, time in self._times().items()}
        return {**asdict(self), "by_camera": cameras, "by_source": dict(self.by_source), **times}

    def _times(self) -> dict[str, datetime | None]:
        return {"first": self.first, "last": self.last}


class SightingStore(Protocol):
    """Sightings with their vectors and crops, durable, shared by several processes.

    Every method is atomic, may be called from any thread, and sees all that any process had acknowledged before.
    Ages count from a sighting's time or its entry into the gallery, whichever was first; ``not_before`` (microseconds
    since 1970) hides what is older.
    """

    space: EmbeddingSpace
    model_path: str

    def add(self, batches: Iterable[Batch], *, now: int) -> list[str]:
        """Add all batches or, if anything fails, none; return the new ids, which rise. Durable on return."""
        ...

    def search(
        self,
        queries: Floats,
        where: SightingFilter,
        *,
        top_k: int,
        threshold: float | None,
        one_per: OnePer,
        not_before: int | None,
        without: Sequence[str],
    ) -> list[list[Hit]]:
        """Return for each query (Q, r) its best sightings: exact, by similarity downwards, then by id upwards."""
        ...

    def find(self, where: SightingFilter, *, not_before: int | None, after: str, limit: int) -> list[Sighting]:
        """Return at most ``limit`` sightings that meet a filter, by id, from above ``after`` ("0": the start)."""
        ...

    def count(self, where: SightingFilter) -> int:
        """Return how many sightings meet a filter, whatever their age."""
        ...

    def paths(self) -> set[str]:
        """Return all paths that sightings were given."""
        ...

    def contents(
        self, where: SightingFilter, *, not_before: int | None, after: str, limit: int
    ) -> tuple[list[Sighting], Floats, list[bytes | None]]:
        """Return sightings as :meth:`find`, with their stored vectors (n, r) and pictures, of one moment."""
        ...

    def vectors(self, ids: Sequence[str]) -> Floats:
        """Return the stored vectors (n, r); raises InputError where an id is not there."""
        ...

    def crop(self, id: str) -> bytes | None:
        """Return the encoded picture of a sighting, ``None`` where none is kept; InputError where it is not there."""
        ...

    def update(self, ids: Sequence[str], changes: Mapping[str, Any], *, before_commit: Callable[[int], None]) -> int:
        """Set attributes of sightings; return how many; raises InputError, changing nothing, where one is missing."""
        ...

    def delete(self, where: SightingFilter, *, before_commit: Callable[[int], None]) -> int:
        """Delete what meets a filter, and return how much; ``before_commit`` gets the number and may still raise."""
        ...

    def wipe(self, *, patience: float = ...) -> None:
        """See to it that no byte of anything deleted is left in the store's files.

        Args:
            patience: seconds to wait for other processes.

        Raises:
            InputError: it could not be done now; :attr:`unwiped` stays true.
        """
        ...

    @property
    def unwiped(self) -> bool:
        """Whether something was deleted that :meth:`wipe` has not yet gone after."""
        ...

    @property
    def retention(self) -> Retention:
        """How long sightings are kept."""
        ...

    def set_retention_days(self, days: float | None) -> None:
        """Change how long sightings are kept."""
        ...

    def note_purge(self, time: int) -> None:
        """Note that all that was too old at ``time`` (microseconds since 1970) is deleted."""
        ...

    def stats(self, *, not_before: int | None) -> GalleryStats:
        """Count."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...

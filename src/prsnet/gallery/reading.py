"""Looking at what a gallery holds, without searching it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError
from prsnet.gallery.faults import NoSuchSighting
from prsnet.gallery.retention import oldest_kept
from prsnet.gallery.sightings import EVERYTHING, Sighting, SightingFilter
from prsnet.gallery.store import GalleryStats, SightingStore
from prsnet.types import ModelIdentity


class GalleryReader:
    """What a gallery knows of its sightings; those older than the retention are hidden everywhere.

    Args:
        store: keeps the sightings.
        clock: tells the time.
    """

    def __init__(self, store: SightingStore, clock: Callable[[], datetime]) -> None:
        self.store, self.clock = store, clock

    @property
    def model(self) -> ModelIdentity:
        """Whose embeddings the gallery holds."""
        return self.store.space.model

    def require(self, model: ModelIdentity) -> None:
        """Raise DataError, naming both, unless ``model`` is the gallery's."""
        if model.fingerprint != self.model.fingerprint or model.width != self.model.width:
            raise DataError(
                f"the gallery belongs to model {self.model}, these embeddings are of model {model}",
                hint="use the gallery's model, or make a gallery for the other one",
            )

    def get(self, id: str) -> Sighting:
        """Return a sighting; raises InputError where there is none of that id."""
        found = self.find(SightingFilter(ids=(id,)), limit=1)
        if not found:
            raise NoSuchSighting(f"no sighting {id} in the gallery", hint="it may have been deleted")
        return found[0]

    def find(self, where: SightingFilter = EVERYTHING, *, after: str = "0", limit: int = 1000) -> list[Sighting]:
        """Return at most ``limit`` sightings that meet a filter, by id upwards, from above the id ``after``."""
        return self.store.find(where, not_before=self._oldest_kept(), after=after, limit=limit)

    def contents(
        self, where: SightingFilter = EVERYTHING, *, rows: int = 1000
    ) -> Iterator[tuple[list[Sighting], npt.NDArray[np.float32], list[bytes | None]]]:
        """Yield sightings by id, at most ``rows`` at a time, with their embeddings (n, D) and encoded pictures."""
        after = "0"
        while True:
            oldest = self._oldest_kept()
            found, stored, crops = self.store.contents(where, not_before=oldest, after=after, limit=rows)
            if not found:
                return
            yield found, self.store.space.decode(stored), crops
            after = found[-1].id

    def vectors(self, ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings (n, D) float32 of stored sightings; raises InputError where one is missing."""
        shown = {seen.id for seen in self.find(SightingFilter(ids=tuple(ids)), limit=len(ids))}
        hidden = [id for id in ids if id not in shown]
        if hidden:
            raise NoSuchSighting(f"no sighting {', '.join(hidden[:5])} in the gallery", hint="it may have been deleted")
        return self.store.space.decode(self.store.vectors(ids))

    def crop(self, id: str) -> bytes | None:
        """Return the encoded picture of a sighting, ``None`` where none is kept; InputError for an unknown id."""
        return self.store.crop(self.get(id).id)

    def count(self, where: SightingFilter = EVERYTHING) -> int:
        """Return how many sightings meet a filter, those included that are expired but not yet purged."""
        return self.store.count(where)

    def paths(self) -> set[str]:
        """Return the paths of all images that sightings were made from."""
        return self.store.paths()

    @property
    def retention_days(self) -> float | None:
        """Longest age of a sighting in days; ``None`` keeps all."""
        return self.store.retention.days

    def stats(self) -> GalleryStats:
        """Count what is in the gallery."""
        return self.store.stats(not_before=self._oldest_kept())

    def _oldest_kept(self) -> int | None:
        return oldest_kept(self.store.retention, self.clock())

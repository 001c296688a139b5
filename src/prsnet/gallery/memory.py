"""What a search needs of every sighting, in memory: arrays in the order of their ids."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from prsnet.gallery.search import Match, best_rows
from prsnet.gallery.sightings import OnePer, SightingFilter, microseconds, numbers_of

Integers = npt.NDArray[np.int64]
UNKNOWN = np.iinfo(np.int64).min
"""Stands for a pid, camera or time that is not known."""
_FIRST_ROOM = 1024


@dataclass(frozen=True, slots=True)
class Columns:
    """Some sightings, column by column, in the order of rising ids.

    Attributes:
        ids: (N,).
        pids: (N,); ``UNKNOWN`` where unknown.
        camids: (N,); ``UNKNOWN`` where unknown.
        times: (N,) microseconds since 1970 (UTC); ``UNKNOWN`` where unknown.
        ages: (N,) the same, from when retention counts.
        sources: (N,) codes; -1 for the empty source.
        vectors: (N, r) float32, unit length.
    """

    ids: Integers
    pids: Integers
    camids: Integers
    times: Integers
    ages: Integers
    sources: Integers
    vectors: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


class MemoryIndex:
    """Columns that grow, change and shrink; with room to spare, so that growing by a few rows costs a few rows.

    Args:
        width: numbers r per vector.
    """

    def __init__(self, width: int) -> None:
        self._used = 0
        self._room = _allocate(_FIRST_ROOM, width)
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return self._used

    @property
    def columns(self) -> Columns:
        """Views of all sightings."""
        return Columns(*(getattr(self._room, part.name)[: self._used] for part in fields(Columns)))

    def source_code(self, source: str) -> int:
        """Return the code of a source, -1 for the empty one; a new source gets a new code."""
        return self._codes.setdefault(source, len(self._codes)) if source else -1

    def reserve(self, rows: int) -> None:
        """Make room for that many sightings altogether."""
        if rows <= len(self._room):
            return
        grown = _allocate(max(rows, len(self._room) + len(self._room) // 2), self._room.vectors.shape[1])
        for part in fields(Columns):
            getattr(grown, part.name)[: self._used] = getattr(self.columns, part.name)
        self._room = grown

    def put(self, new: Columns) -> None:
        """Add sightings, or replace those whose ids are known; new ids must be higher than all before."""
        known = int(np.searchsorted(new.ids, self.columns.ids[-1], side="right")) if self._used else 0
        places = np.searchsorted(self.columns.ids, new.ids[:known])
        self.reserve(self._used + len(new) - known)
        end = self._used + len(new) - known
        for part in fields(Columns):
            column, values = getattr(self._room, part.name), getattr(new, part.name)
            column[places] = values[:known]
            column[self._used : end] = values[known:]
        self._used = end

    def keep(self, ids: Integers) -> None:
        """Forget all sightings but those of ``ids`` (rising); their vectors do not stay behind in memory."""
        kept = np.isin(self.columns.ids, ids, assume_unique=True)
        count = int(kept.sum())
        for part in fields(Columns):
            column = getattr(self._room, part.name)
            column[:count] = column[: self._used][kept]
            column[count : self._used] = 0
        self._used = count

    def rows(self, where: SightingFilter, *, not_before: int | None = None) -> Integers | None:
        """Return the rising rows that meet a filter; ``None`` where all do.

        Args:
            where: the conditions.
            not_before: also leave out what has an age before this (microseconds since 1970).
        """
        columns = self.columns
        mask = np.ones(self._used, dtype=bool)
        chosen = ((where.pids, columns.pids), (where.cameras, columns.camids))
        for wanted, column in chosen:
            if wanted is not None:
                mask &= np.isin(column, np.array(wanted, dtype=np.int64))
        if where.ids is not None:
            mask &= np.isin(columns.ids, np.array(numbers_of(where.ids), dtype=np.int64))
        if where.sources is not None:
            codes = [-1 if not source else self._codes.get(source, -2) for source in where.sources]
            mask &= np.isin(columns.sources, np.array(codes, dtype=np.int64))
        if where.since is not None:
            mask &= columns.times >= max(microseconds(where.since), UNKNOWN + 1)
        if where.until is not None:
            mask &= (columns.times < microseconds(where.until)) & (columns.times != UNKNOWN)
        if where.older_than is not None:
            mask &= columns.ages < microseconds(where.older_than)
        if not_before is not None:
            mask &= columns.ages >= not_before
        return None if mask.all() else np.flatnonzero(mask)

    def search(
        self,
        queries: npt.NDArray[np.float32],
        rows: Integers | None,
        *,
        top_k: int,
        threshold: float | None,
        one_per: OnePer,
    ) -> list[list[Match]]:
        """Return for each query (Q, r) the ids and similarities of its matches; see :func:`best_rows`."""
        columns = self.columns
        found = best_rows(
            columns.vectors, queries, rows, top_k=top_k, threshold=threshold, groups=self._groups(one_per)
        )
        return [[(int(columns.ids[row]), similarity) for row, similarity in matches] for matches in found]

    def _groups(self, one_per: OnePer) -> Integers | None:
        """Return the group of each row: its identity or source; a row of unknown one is a group of its own."""
        if one_per == "none":
            return None
        column, unknown = (self.columns.pids, UNKNOWN) if one_per == "pid" else (self.columns.sources, -1)
        return np.where(column == unknown, -2 - np.arange(len(column)), column)


def _allocate(rows: int, width: int) -> Columns:
    ids, pids, camids, times, ages, sources = np.zeros((6, rows), dtype=np.int64)
    return Columns(ids, pids, camids, times, ages, sources, np.zeros((rows, width), dtype=np.float32))

"""Sightings in one SQLite file, and what searches need of them in memory."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from prsnet.errors import DataError
from prsnet.gallery import schema
from prsnet.gallery.faults import GalleryDamaged, GalleryUnavailable, NoSuchSighting
from prsnet.gallery.memory import UNKNOWN, Columns, Integers, MemoryIndex
from prsnet.gallery.sightings import (
    EVERYTHING,
    NewSighting,
    OnePer,
    Sighting,
    SightingFilter,
    facts_json,
    microseconds,
    numbers_of,
)
from prsnet.gallery.statements import HAS_CROP, WITH_VECTOR, as_where, count_all, sighting_of
from prsnet.gallery.store import Batch, Floats, GalleryStats, Retention
from prsnet.types import Hit

_LOADED_AT_ONCE = 4096
WIPE_SECONDS = 30.0
"""How long wiping waits for other processes."""


class SqliteStore:
    """See :class:`prsnet.gallery.store.SightingStore`. The file must lie on a local disk: WAL needs shared memory.

    Args:
        file: what :func:`prsnet.gallery.schema.make` wrote.

    Raises:
        DataError: damaged, or not a gallery's file. InputError: it may not be opened.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.RLock()
        self._index: MemoryIndex | None = None
        self._seen = (0, 0)  # the revision and the number of deletions that the index shows
        with schema.explained(file):
            self._connection = schema.connect(file)
            try:
                schema.check(self._connection, file)
                self.space, self.model_path = schema.read_space(self._connection, file)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file; the last one to do so empties the write-ahead log."""
        with self._lock:
            self._connection.close()
            self._index = None

    def add(self, batches: Iterable[Batch], *, now: int) -> list[str]:
        """Add all batches in one transaction, synced when this returns."""
        first = number = 0
        with self._writing() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sighting'").fetchone()
            first = number = row[0] + 1 if row else 1
            revision = self._next_revision(connection)
            for sightings, vectors in batches:
                stored = np.ascontiguousarray(vectors, "<f4")
                if stored.shape != (len(sightings), self.space.stored_width):
                    raise DataError(f"{len(sightings)} sightings but vectors {stored.shape}")
                rows = [_row(number + place, revision, seen, now) for place, seen in enumerate(sightings)]
                connection.executemany("INSERT INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                blobs = ((number + place, vector.tobytes()) for place, vector in enumerate(stored))
                connection.executemany("INSERT INTO vector VALUES (?, ?)", blobs)
                crops = ((number + place, seen.crop) for place, seen in enumerate(sightings) if seen.crop is not None)
                connection.executemany("INSERT INTO crop VALUES (?, ?)", crops)
                number += len(sightings)
        return [str(added) for added in range(first, number)]

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
        """Search the vectors in memory, brought up to date first; details come from the same snapshot of the file."""
        with self._reading() as connection:
            index = self._refreshed(connection)
            rows = index.rows(where, not_before=not_before)
            if without:
                everything = np.arange(len(index)) if rows is None else rows
                known = np.isin(index.columns.ids[everything], np.array(numbers_of(without), dtype=np.int64))
                rows = everything[~known]
            found = index.search(queries, rows, top_k=top_k, threshold=threshold, one_per=one_per)
            ids = sorted({number for matches in found for number, _ in matches})
            details = {seen.id: seen for seen in self._sightings(connection, ids)}
        return [[_hit(details[str(number)], similarity) for number, similarity in matches] for matches in found]

    def find(self, where: SightingFilter, *, not_before: int | None, after: str, limit: int) -> list[Sighting]:
        """Return sightings by id, without loading vectors."""
        clause, values = as_where(where, not_before=not_before)
        with self._reading() as connection:
            statement = f"SELECT s.*, {HAS_CROP} FROM sighting s WHERE {clause} AND s.id > ? ORDER BY s.id LIMIT ?"
            rows = connection.execute(statement, (*values, *numbers_of([after]), limit)).fetchall()
        return [sighting_of(row) for row in rows]

    def count(self, where: SightingFilter) -> int:
        """Count in the file."""
        clause, values = as_where(where, not_before=None)
        with self._reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM sighting s WHERE {clause}", values).fetchone()[0])

    def paths(self) -> set[str]:
        """Return all paths."""
        with self._reading() as connection:
            return {row[0] for row in connection.execute("SELECT DISTINCT path FROM sighting")}

    def contents(
        self, where: SightingFilter, *, not_before: int | None, after: str, limit: int
    ) -> tuple[list[Sighting], Floats, list[bytes | None]]:
        """Return sightings by id with all that is stored of them."""
        with self._reading():
            found = self.find(where, not_before=not_before, after=after, limit=limit)
            ids = [seen.id for seen in found]
            return found, self.vectors(ids), [self.crop(seen.id) if seen.has_crop else None for seen in found]

    def vectors(self, ids: Sequence[str]) -> Floats:
        """Return the stored vectors in the order of ``ids``."""
        numbers = numbers_of(ids)
        with self._reading() as connection:
            statement = "SELECT id, value FROM vector WHERE id IN (SELECT value FROM json_each(?))"
            found = dict(connection.execute(statement, (json.dumps(numbers),)).fetchall())
        _refuse_missing(numbers, found)
        return self._decoded([found[number] for number in numbers])

    def crop(self, id: str) -> bytes | None:
        """Return the encoded picture of a sighting."""
        numbers = numbers_of([id])
        with self._reading() as connection:
            statement = "SELECT c.image FROM sighting s LEFT JOIN crop c USING (id) WHERE s.id = ?"
            row = connection.execute(statement, numbers).fetchone()
        _refuse_missing(numbers, () if row is None else numbers)
        image = row[0]
        return None if image is None else bytes(image)

    def update(self, ids: Sequence[str], changes: Mapping[str, Any], *, before_commit: Callable[[int], None]) -> int:
        """Set columns of sightings."""
        numbers = sorted(set(numbers_of(ids)))
        stored = {name: _stored(name, value) for name, value in changes.items()}
        columns = ", ".join(f"{name} = ?" for name in stored)
        with self._writing() as connection:
            chosen = json.dumps(numbers)
            known = connection.execute(
                "SELECT id FROM sighting WHERE id IN (SELECT value FROM json_each(?))", (chosen,)
            )
            _refuse_missing(numbers, {row[0] for row in known})
            statement = f"UPDATE sighting SET {columns}, revision = ? WHERE id IN (SELECT value FROM json_each(?))"
            connection.execute(statement, (*stored.values(), self._next_revision(connection), chosen))
            before_commit(len(numbers))
        return len(numbers)

    def delete(self, where: SightingFilter, *, before_commit: Callable[[int], None]) -> int:
        """Delete rows; :meth:`wipe` then goes after their bytes."""
        clause, values = as_where(where, not_before=None)
        with self._writing() as connection:
            ids = connection.execute(f"SELECT s.id FROM sighting s WHERE {clause}", values).fetchall()
            before_commit(len(ids))
            for table in ("crop", "vector", "sighting"):
                connection.executemany(f"DELETE FROM {table} WHERE id = ?", ids)
            if ids:
                connection.execute("UPDATE state SET deletions = deletions + 1, unwiped = 1")
        return len(ids)

    def wipe(self, *, patience: float = WIPE_SECONDS) -> None:
        """Rewrite the file without what was deleted, and empty the write-ahead log.

        secure_delete has filled freed cells with zeros already, but SQLite leaves copies behind where it moved cells
        between pages before, so the file is written anew (VACUUM): the time grows with the size of the gallery.
        """
        with self._lock, schema.explained(self.file):
            self._connection.execute(f"PRAGMA busy_timeout={round(1000 * patience)}")
            try:
                self._connection.execute("VACUUM")
                if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    raise GalleryUnavailable(
                        f"{self.file}: deleted, but another process keeps reading, so bytes remain in the log",
                        hint="end that process, then run `prsnet gallery purge`",
                    )
            finally:
                self._connection.execute(f"PRAGMA busy_timeout={round(1000 * schema.BUSY_SECONDS)}")
            with self._writing() as connection:
                connection.execute("UPDATE state SET unwiped = 0")

    @property
    def unwiped(self) -> bool:
        """Whether bytes of something deleted may still be in the files."""
        with self._reading() as connection:
            return bool(connection.execute("SELECT unwiped FROM state").fetchone()[0])

    @property
    def retention(self) -> Retention:
        """How long sightings are kept."""
        with self._reading() as connection:
            return Retention(*connection.execute("SELECT retention_days, purged FROM state").fetchone())

    def set_retention_days(self, days: float | None) -> None:
        """Change how long sightings are kept."""
        with self._writing() as connection:
            connection.execute("UPDATE state SET retention_days = ?", (days,))

    def note_purge(self, time: int) -> None:
        """Note when the last purge was."""
        with self._writing() as connection:
            connection.execute("UPDATE state SET purged = ?", (time,))

    def stats(self, *, not_before: int | None) -> GalleryStats:
        """Count in the file, without loading vectors."""
        with self._reading() as connection:
            counted = count_all(connection, not_before)
        files = (self.file, *(self.file.with_name(self.file.name + end) for end in ("-wal", "-shm")))
        size = sum(file.stat().st_size for file in files if file.exists())
        return GalleryStats(**counted, bytes=size, stored_width=self.space.stored_width)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for everything inside, nested reading included."""
        with self._lock, schema.explained(self.file):
            if self._connection.in_transaction:
                yield self._connection
            else:
                with self._transaction("BEGIN") as connection:
                    yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, schema.explained(self.file):
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._is_open():
                    self._connection.execute("ROLLBACK")
                raise

    def _is_open(self) -> bool:
        return self._connection.in_transaction

    def _next_revision(self, connection: sqlite3.Connection) -> int:
        connection.execute("UPDATE state SET revision = revision + 1")
        return int(connection.execute("SELECT revision FROM state").fetchone()[0])

    def _refreshed(self, connection: sqlite3.Connection) -> MemoryIndex:
        """Return the index, brought up to the transaction's snapshot by reading what changed since the last time."""
        revision, deletions = connection.execute("SELECT revision, deletions FROM state").fetchone()
        fresh = self._index is None
        index = MemoryIndex(self.space.stored_width) if self._index is None else self._index
        self._index = None  # a failure half-way must not leave half an index
        if not fresh and deletions != self._seen[1]:
            ids = connection.execute("SELECT id FROM sighting ORDER BY id").fetchall()
            index.keep(np.array(ids, dtype=np.int64).reshape(-1))
        if fresh:
            index.reserve(connection.execute("SELECT count(*) FROM sighting").fetchone()[0])
        if fresh or revision != self._seen[0]:
            # Left to itself, SQLite would read every row in the order of ids rather than the few new ones and sort.
            order = "s" if fresh else "s INDEXED BY sighting_revision"
            cursor = connection.execute(WITH_VECTOR.format(table=order), (0 if fresh else self._seen[0],))
            while rows := cursor.fetchmany(_LOADED_AT_ONCE):
                index.put(self._columns(index, rows))
        self._index, self._seen = index, (revision, deletions)
        return index

    def _columns(self, index: MemoryIndex, rows: list[tuple[Any, ...]]) -> Columns:
        ids, pids, camids, times, ages, sources, blobs = zip(*rows, strict=True)
        return Columns(
            ids=_integers(ids),
            pids=_integers(pids),
            camids=_integers(camids),
            times=_integers(times),
            ages=_integers(ages),
            sources=_integers([index.source_code(source) for source in sources]),
            vectors=self._decoded(blobs),
        )

    def _decoded(self, blobs: Sequence[bytes]) -> Floats:
        width = self.space.stored_width
        if any(len(blob) != 4 * width for blob in blobs):
            raise DataError(
                f"{self.file}: a vector has the wrong length, expected {width} numbers", hint="damaged file"
            )
        vectors = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, width).astype(np.float32)
        with np.errstate(over="ignore"):
            lengths = (vectors * vectors).sum(axis=1)
        if not np.all(np.abs(lengths - 1) < 1e-3):
            raise GalleryDamaged(f"{self.file}: a vector is not of unit length", hint="the file is damaged")
        return vectors

    def _sightings(self, connection: sqlite3.Connection, ids: Sequence[int]) -> list[Sighting]:
        clause, values = as_where(EVERYTHING, not_before=None, numbers=ids)
        rows = connection.execute(f"SELECT s.*, {HAS_CROP} FROM sighting s WHERE {clause}", values).fetchall()
        return [sighting_of(row) for row in rows]


def _integers(values: Iterable[int | None]) -> Integers:
    return np.array([UNKNOWN if value is None else value for value in values], dtype=np.int64)


def _row(number: int, revision: int, seen: NewSighting, now: int) -> tuple[Any, ...]:
    added = now if seen.added is None else microseconds(seen.added)
    facts = facts_json(seen.facts)
    return (number, revision, seen.pid, seen.camid, _stored("time", seen.time), added, seen.source, seen.path, facts)


def _stored(name: str, value: Any) -> Any:
    if name == "time":
        return None if value is None else microseconds(value)
    return facts_json(value) if name == "facts" else value


def _refuse_missing(wanted: Sequence[int], known: Iterable[int]) -> None:
    missing = sorted(set(wanted) - set(known))
    if missing:
        hint = "it may have been deleted; list what is there with `prsnet gallery search` or `stats`"
        raise NoSuchSighting(f"no sighting {', '.join(map(str, missing[:5]))} in the gallery", hint=hint)


def _hit(seen: Sighting, similarity: float) -> Hit:
    return Hit(seen.id, similarity, seen.pid, seen.camid, seen.path, seen.facts, seen.time, seen.source)

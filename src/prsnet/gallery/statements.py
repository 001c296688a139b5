"""SQL that the SQLite store is made of: filters as conditions, rows as sightings, counts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from prsnet.gallery.faults import GalleryDamaged
from prsnet.gallery.sightings import Sighting, SightingFilter, microseconds, moment, numbers_of

AGE = "MIN(COALESCE(s.time, s.added), s.added)"
"""From when retention counts: a sighting cannot be younger than its entry, whatever a camera's clock says."""
HAS_CROP = "EXISTS (SELECT 1 FROM crop c WHERE c.id = s.id)"
WITH_VECTOR = (
    f"SELECT s.id, s.pid, s.camid, s.time, {AGE}, s.source, v.value FROM sighting {{table}}"
    " JOIN vector v ON v.id = s.id WHERE s.revision > ? ORDER BY s.id"
)
LARGEST_SOURCES = 100


def as_where(
    where: SightingFilter, *, not_before: int | None, numbers: Sequence[int] | None = None
) -> tuple[str, list[Any]]:
    """Return an SQL condition on ``sighting s`` and its values.

    Args:
        where: the filter.
        not_before: also leave out what has an age before this (microseconds since 1970).
        numbers: also leave out all other ids.
    """
    ids = None if where.ids is None else numbers_of(where.ids)
    lists = (("s.id", ids), ("s.id", numbers), ("s.pid", where.pids), ("s.camid", where.cameras))
    conditions: list[tuple[str, Any]] = [
        (f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values)))
        for column, values in (*lists, ("s.source", where.sources))
        if values is not None
    ]
    times = (("s.time >= ?", where.since), ("s.time < ?", where.until), (f"{AGE} < ?", where.older_than))
    conditions += [(condition, microseconds(time)) for condition, time in times if time is not None]
    if not_before is not None:
        conditions.append((f"{AGE} >= ?", not_before))
    return " AND ".join(["1", *(text for text, _ in conditions)]), [value for _, value in conditions]


def sighting_of(row: Sequence[Any]) -> Sighting:
    """Return the sighting that a row ``s.*, has_crop`` stands for."""
    number, _, pid, camid, time, added, source, path, facts, has_crop = row
    try:
        parsed = json.loads(facts)
        seen = None if time is None else moment(time)
        entered = moment(added)
    except (ValueError, RecursionError, OverflowError) as error:
        raise GalleryDamaged(f"sighting {number}: its facts or times are damaged", hint="delete it") from error
    return Sighting(
        id=str(number), pid=pid, camid=camid, time=seen, added=entered, source=source, path=path,
        facts=parsed if isinstance(parsed, dict) else {}, has_crop=bool(has_crop),
    )  # fmt: skip


def count_all(connection: sqlite3.Connection, not_before: int | None) -> dict[str, Any]:
    """Return the counts of :class:`prsnet.gallery.store.GalleryStats`."""
    first, last = connection.execute("SELECT min(time), max(time) FROM sighting").fetchone()
    largest = (
        f"SELECT source, count(*) AS n FROM sighting GROUP BY source ORDER BY n DESC, source LIMIT {LARGEST_SOURCES}"
    )
    cameras = "SELECT COALESCE(camid, -1), count(*) FROM sighting GROUP BY camid ORDER BY camid"

    def number(statement: str, *values: Any) -> int:
        return int(connection.execute(statement, values).fetchone()[0])

    expired = 0 if not_before is None else number(f"SELECT count(*) FROM sighting s WHERE {AGE} < ?", not_before)
    return {
        "sightings": number("SELECT count(*) FROM sighting"),
        "expired": expired,
        "identities": number("SELECT count(DISTINCT pid) FROM sighting"),
        "unidentified": number("SELECT count(*) FROM sighting WHERE pid IS NULL"),
        "by_camera": dict(connection.execute(cameras).fetchall()),
        "by_source": dict(connection.execute(largest).fetchall()),
        "first": None if first is None else moment(first),
        "last": None if last is None else moment(last),
        "crops": number("SELECT count(*) FROM crop"),
    }

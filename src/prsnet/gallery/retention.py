"""How long sightings are kept, and what is due."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from prsnet.errors import InputError
from prsnet.gallery.sightings import microseconds
from prsnet.gallery.store import Retention

MAX_DAYS = 365_000.0
PURGE_EVERY = timedelta(hours=1)
"""How often adding purges: a purge rewrites the store, too much work for every single sighting."""


def check_days(days: float | None) -> None:
    """Raise InputError unless ``days`` is ``None`` or a sensible number of days."""
    if days is not None and not (math.isfinite(days) and 0 < days <= MAX_DAYS):
        raise InputError(f"retention {days!r} days: expected more than 0 and at most {MAX_DAYS:.0f}")


def oldest_kept(retention: Retention, now: datetime) -> int | None:
    """Return the lowest age (microseconds since 1970) that is still kept at ``now``; ``None`` where all is kept."""
    if retention.days is None:
        return None
    return microseconds(now) - round(retention.days * 86_400_000_000)


def purge_is_due(retention: Retention, now: datetime) -> bool:
    """Return whether adding should purge first."""
    return retention.days is not None and microseconds(now) - retention.purged >= PURGE_EVERY // timedelta(
        microseconds=1
    )

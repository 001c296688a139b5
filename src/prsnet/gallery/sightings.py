"""What a gallery holds, and how parts of it are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, get_args

from prsnet.errors import DataError, InputError

OnePer = Literal["none", "pid", "source"]
MAX_TEXT = 4096
"""Characters in a path or a source."""
MAX_FACTS = 64 * 1024
"""Bytes of a sighting's facts as JSON."""
MAX_INTEGER = 2**63 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def microseconds(time: datetime) -> int:
    """Return the microseconds from 1970-01-01 UTC to ``time``.

    Raises:
        DataError: ``time`` says no time zone, so that nobody knows which moment it means.
    """
    if time.tzinfo is None or time.utcoffset() is None:
        raise DataError(f"time {time.isoformat()} has no time zone", hint="give UTC, e.g. 2024-05-01T12:00:00Z")
    return (time - EPOCH) // timedelta(microseconds=1)


def moment(stored: int) -> datetime:
    """Return the time, in UTC, that :func:`microseconds` turned into a number."""
    return EPOCH + timedelta(microseconds=stored)


def parse_time(text: str) -> datetime:
    """Return the moment that ``text`` names: ISO 8601 with a time zone; a date alone means its midnight in UTC.

    Raises:
        InputError: it names none.
    """
    plain = f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text
    try:
        time = datetime.fromisoformat(plain)
    except ValueError as error:
        hint = "write 2024-05-01T12:00:00Z, or 2024-05-01"
        raise InputError(f"time {text!r:.60}: expected ISO 8601", hint=hint) from error
    if time.tzinfo is None:
        if len(plain) > len("2024-05-01"):
            raise InputError(f"time {text!r:.60} has no time zone", hint="add Z for UTC, or e.g. +02:00")
        time = time.replace(tzinfo=timezone.utc)
    try:
        return time.astimezone(timezone.utc)
    except OverflowError as error:
        raise InputError(f"time {text!r:.60} is out of range", hint="check the year") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSighting:
    """One person seen once, before the gallery gives it an id.

    Attributes:
        pid: identity, at least 1; ``None`` when unknown.
        camid: camera, at least 0; ``None`` when unknown.
        time: when it was seen, with a time zone; ``None`` when unknown.
        source: where it came from: a folder, a video, a track; up to 4096 characters.
        path: the image it was cut from; up to 4096 characters.
        facts: free JSON object of at most 64 KiB.
        crop: the picture, encoded (see :mod:`prsnet.gallery.crops`); ``None`` keeps none.
        added: when a gallery first took it in; ``None`` means now. Retention counts from here at the latest.
    """

    pid: int | None = None
    camid: int | None = None
    time: datetime | None = None
    source: str = ""
    path: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    crop: bytes | None = field(default=None, repr=False)
    added: datetime | None = None

    def __post_init__(self) -> None:
        if self.pid is not None and not _is_whole(self.pid, 1):
            raise DataError(
                f"pid {self.pid!r:.40}: expected 1 or more", hint="leave unknown people and distractors empty"
            )
        if self.camid is not None and not _is_whole(self.camid, 0):
            raise DataError(f"camid {self.camid!r:.40}: expected 0 or more", hint="leave unknown cameras empty")
        for name in ("time", "added"):
            if getattr(self, name) is not None:
                microseconds(getattr(self, name))
        for name in ("source", "path"):
            _check_text(name, getattr(self, name))
        facts_json(self.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One sighting as the gallery holds it; the attributes are those of :class:`NewSighting`, times are in UTC.

    Attributes:
        id: the gallery's name for it; never given to another one, not even after it is deleted.
        has_crop: whether its picture is kept.
    """

    id: str
    pid: int | None
    camid: int | None
    time: datetime | None
    added: datetime
    source: str
    path: str
    facts: Mapping[str, Any]
    has_crop: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values; times as ISO 8601."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {
            k: v.isoformat() if isinstance(v, datetime) else dict(v) if k == "facts" else v for k, v in values.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingFilter:
    """Which sightings are meant: those that meet every condition given; ``None`` sets none.

    Attributes:
        ids: one of these.
        pids: of one of these identities.
        cameras: seen by one of these cameras.
        sources: from one of these sources.
        since: seen then or later; sightings of unknown time never are.
        until: seen earlier than then; sightings of unknown time never are.
        older_than: seen, or taken into the gallery, before then, whichever was first (see ``retention``).
    """

    ids: tuple[str, ...] | None = None
    pids: tuple[int, ...] | None = None
    cameras: tuple[int, ...] | None = None
    sources: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    older_than: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "pids", "cameras", "sources"):
            value = getattr(self, name)
            if value is not None:
                if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
                    raise InputError(f"filter {name}: expected several values, got {value!r:.40}")
                object.__setattr__(self, name, tuple(value))
        for name in ("since", "until", "older_than"):
            if getattr(self, name) is not None:
                microseconds(getattr(self, name))
        for name in ("pids", "cameras"):
            if not all(_is_whole(number, 0) for number in getattr(self, name) or ()):
                raise InputError(f"filter {name}: expected whole numbers, got {getattr(self, name)!r:.80}")
        if not all(isinstance(source, str) for source in self.sources or ()):
            raise InputError(f"filter sources: expected texts, got {self.sources!r:.80}")
        numbers_of(self.ids or ())
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InputError(f"time window from {self.since} to {self.until} is empty", hint="swap the two")

    @property
    def is_empty(self) -> bool:
        """Whether no condition is set, so that everything is meant."""
        return all(getattr(self, part.name) is None for part in fields(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the conditions that are set, as JSON values."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        plain = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items() if v is not None}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def numbers_of(ids: Iterable[str]) -> list[int]:
    """Return the whole numbers that ids stand for; raises InputError for what is no id."""
    numbers = []
    for text in ids:
        if not isinstance(text, str) or not (text.isascii() and text.isdigit()) or int(text[:20]) > MAX_INTEGER:
            raise InputError(f"id {text!r:.40}: expected a whole number as text, as `add` and `search` give it")
        numbers.append(int(text[:20]))
    return numbers


def check_one_per(one_per: str) -> None:
    """Raise InputError for a value that is no :data:`OnePer`."""
    if one_per not in get_args(OnePer):
        raise InputError(f"one_per {one_per!r:.40}: expected {', '.join(get_args(OnePer))}")


def facts_json(facts: Mapping[str, Any]) -> str:
    """Return a sighting's facts as JSON text; raises DataError where they have no such form or are too long."""
    try:
        text = json.dumps(dict(facts), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"facts: expected a JSON object: {' '.join(str(error).split()):.120}") from error
    if size > MAX_FACTS:
        raise DataError(f"facts: {size} bytes of JSON, expected at most {MAX_FACTS}", hint="store a reference instead")
    return text


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str) or len(text) > MAX_TEXT or "\0" in text:
        shown = type(text).__name__ if not isinstance(text, str) else f"{len(text)} characters"
        raise DataError(f"{name}: expected text of at most {MAX_TEXT} characters without NUL, got {shown}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} {text!r:.80}: not Unicode text", hint="rename the file") from error


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= MAX_INTEGER


EVERYTHING = SightingFilter()

"""Settings of ``embed`` and of the ``gallery`` verbs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from prsnet.config import Check, check_fields

_POSITIVE = lambda v: v is None or v > 0  # noqa: E731 - short tests read best beside their names
_NOT_NEGATIVE = lambda v: v is None or v >= 0  # noqa: E731


def _each(low: int) -> Any:
    return lambda values: values is None or (len(values) > 0 and all(value >= low for value in values))


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Write the embeddings of images to a file."""

    run: str = ""
    """Run folder of `prsnet train`, or a checkpoint file."""
    images: tuple[str, ...] = ()
    """Image files, folders of images, or datasets (a folder of a known layout, a CSV, a packed file)."""
    out: str = ""
    """File to write, FILE.npz: vectors, pids, camids, paths, and which model made them."""
    layout: str = "auto"
    """auto: labels of benchmark layouts, CSV and packed files, none of other folders; images: never any labels; or a
    layout's name, e.g. identity-folders."""
    part: Literal["all", "train", "query", "gallery"] = "all"
    """Part of a dataset to take."""
    on_error: Literal["skip", "stop"] = "skip"
    """What to do with an image that cannot be read: report it and go on, or stop."""
    flip: bool = False
    """Average each embedding with that of the mirrored image."""
    batch_size: int = 64
    """Images per forward pass."""
    workers: int = 2
    """Threads that decode images."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        checks: Iterable[Check] = (
            ("run", bool, "a run folder or checkpoint"),
            ("images", bool, "images, folders or datasets"),
            ("out", lambda v: v.endswith(".npz"), "--out FILE.npz"),
            ("batch_size", _POSITIVE, "at least 1"),
            ("workers", _POSITIVE, "at least 1"),
        )
        check_fields(self, checks)


@dataclass(frozen=True, kw_only=True)
class CreateConfig:
    """Make an empty gallery for one model."""

    gallery: str = ""
    """Folder to make."""
    model: str = ""
    """Run folder of `prsnet train`, or a checkpoint file; the gallery takes this model's embeddings only."""
    retention_days: float | None = None
    """Days that sightings are kept, counted from when they were seen or added, whichever was first; not given: for
    good."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        checks: Iterable[Check] = (
            ("gallery", bool, "the folder to make"),
            ("model", bool, "--model RUN"),
            ("retention_days", _POSITIVE, "more than 0"),
        )
        check_fields(self, checks)


@dataclass(frozen=True, kw_only=True)
class AddConfig:
    """Add images, datasets or files of embeddings to a gallery."""

    gallery: str = ""
    """The gallery's folder."""
    images: tuple[str, ...] = ()
    """Image files, folders of images, datasets (a folder of a known layout, a CSV, a packed file), or FILE.npz of
    `prsnet embed`."""
    model: str | None = None
    """Where the gallery's model lies, if not where it was when the gallery was made."""
    layout: str = "auto"
    """auto: labels of benchmark layouts, CSV and packed files, none of other folders; images: never any labels; or a
    layout's name, e.g. identity-folders."""
    part: Literal["all", "train", "query", "gallery"] = "all"
    """Part of a dataset to take. Junk is left out, distractors are added as unknown people."""
    pid: int | None = None
    """Identity of images that bring none."""
    camera: int | None = None
    """Camera of images that bring none."""
    time: str | None = None
    """When the images were taken: ISO 8601 with time zone, e.g. 2024-05-01T12:00:00Z; or file: when each was last
    changed."""
    source: str | None = None
    """Where they come from, to filter by; the argument that brought them when not given."""
    crops: bool = False
    """Keep a picture of each, at most 256 pixels high, without metadata."""
    again: bool = False
    """Add images also when one of the same path is in the gallery already."""
    on_error: Literal["skip", "stop"] = "skip"
    """What to do with an image that cannot be read: report it and go on, or stop."""
    batch_size: int = 64
    """Images per forward pass."""
    workers: int = 2
    """Threads that decode images."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        checks: Iterable[Check] = (
            ("gallery", bool, "the gallery's folder"),
            ("images", bool, "images, folders, datasets or embeddings"),
            ("pid", _POSITIVE, "at least 1"),
            ("camera", _NOT_NEGATIVE, "0 or more"),
            ("batch_size", _POSITIVE, "at least 1"),
            ("workers", _POSITIVE, "at least 1"),
        )
        check_fields(self, checks)


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Which sightings are meant; shared by the verbs that choose some."""

    gallery: str = ""
    """The gallery's folder."""
    pid: tuple[int, ...] | None = None
    """Only these identities."""
    camera: tuple[int, ...] | None = None
    """Only these cameras."""
    source: tuple[str, ...] | None = None
    """Only these sources."""
    since: str | None = None
    """Only what was seen then or later: ISO 8601 with time zone, or a date (its midnight in UTC)."""
    until: str | None = None
    """Only what was seen before then."""

    def _checks(self) -> Iterable[Check]:
        return (
            ("gallery", bool, "the gallery's folder"),
            ("pid", _each(1), "identities from 1"),
            ("camera", _each(0), "cameras from 0"),
        )

    def __post_init__(self) -> None:
        check_fields(self, self._checks())


@dataclass(frozen=True, kw_only=True)
class SearchConfig(FilterConfig):
    """Find the sightings most like one person."""

    images: tuple[str, ...] = ()
    """Pictures of one person, or folders of them; several are averaged to one query."""
    like: tuple[str, ...] | None = None
    """Ids of stored sightings of the person, instead of or beside pictures; they themselves are not found."""
    top_k: int = 10
    """Most hits to show."""
    threshold: float | None = None
    """Lowest similarity (cosine, -1 to 1) of a hit."""
    one_per: Literal["none", "pid", "source"] = "none"
    """Show only the best hit of each identity, or of each source."""
    model: str | None = None
    """Where the gallery's model lies, if not where it was when the gallery was made."""
    json: bool = False
    """Print the hits as JSON."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def _checks(self) -> Iterable[Check]:
        return (
            *FilterConfig._checks(self),
            ("top_k", lambda v: 0 < v <= 10_000, "1 to 10000"),
            ("threshold", lambda v: v is None or -1 <= v <= 1, "-1 to 1"),
        )


@dataclass(frozen=True, kw_only=True)
class DeleteConfig(FilterConfig):
    """Delete sightings, their vectors and their pictures for good."""

    id: tuple[str, ...] | None = None
    """Only these ids."""
    older_than: float | None = None
    """Only what was seen, or added, more than so many days ago."""
    all: bool = False
    """Delete everything, when no other condition is given."""
    yes: bool = False
    """Do not ask."""

    def _checks(self) -> Iterable[Check]:
        return (*FilterConfig._checks(self), ("older_than", _NOT_NEGATIVE, "0 or more"))


@dataclass(frozen=True, kw_only=True)
class PurgeConfig:
    """Delete what is older than the gallery's retention, and finish deletions that were interrupted."""

    gallery: str = ""
    """The gallery's folder."""
    retention_days: float | None = None
    """First change the retention to so many days."""
    keep: bool = False
    """First change the retention to for good."""

    def __post_init__(self) -> None:
        checks: Iterable[Check] = (
            ("gallery", bool, "the gallery's folder"),
            ("retention_days", _POSITIVE, "more than 0"),
            ("keep", lambda v: not (v and self.retention_days is not None), "not together with --retention-days"),
        )
        check_fields(self, checks)


@dataclass(frozen=True, kw_only=True)
class StatsConfig:
    """Count what is in a gallery."""

    gallery: str = ""
    """The gallery's folder."""
    json: bool = False
    """Print the counts as JSON."""

    def __post_init__(self) -> None:
        check_fields(self, (("gallery", bool, "the gallery's folder"),))


@dataclass(frozen=True, kw_only=True)
class ExportConfig(FilterConfig):
    """Write a gallery to a folder or zip of npz and JSON that any program can read."""

    out: str = ""
    """Folder to make, or FILE.zip."""

    def _checks(self) -> Iterable[Check]:
        return (*FilterConfig._checks(self), ("out", bool, "a folder to make, or FILE.zip"))


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Add what `prsnet gallery export` wrote; all of it or, if anything is wrong, nothing."""

    gallery: str = ""
    """The gallery's folder; made, for the model that the archive names, where there is none."""
    archive: str = ""
    """Folder or zip file to read; it is checked as from a stranger."""

    def __post_init__(self) -> None:
        check_fields(self, (("gallery", bool, "the gallery's folder"), ("archive", bool, "the folder or zip to read")))

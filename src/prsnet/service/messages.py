"""What requests and answers look like: checked on the way in, documented in the OpenAPI description."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from prsnet.gallery import NewSighting, Sighting, SightingFilter
from prsnet.gallery.sightings import MAX_TEXT, OnePer
from prsnet.gallery.store import GalleryStats
from prsnet.types import Hit

T = TypeVar("T")
Id = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]
Pid = Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)]
Camid = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Ids = Annotated[list[Id], Field(max_length=10_000)]
Box = Annotated[list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=4, max_length=4)]


class Message(BaseModel):
    """A message without unknown keys and without numbers that are none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _tuple(values: list[T] | None) -> tuple[T, ...] | None:
    return None if values is None else tuple(values)


class FilterMessage(Message):
    """Which sightings are meant: those that meet every condition given."""

    ids: Ids | None = None
    pids: Annotated[list[Pid], Field(max_length=10_000)] | None = None
    cameras: Annotated[list[Camid], Field(max_length=10_000)] | None = None
    sources: Annotated[list[Text], Field(max_length=10_000)] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    older_than: AwareDatetime | None = None

    def filter(self) -> SightingFilter:
        """Return the gallery's filter; raises InputError for an empty time window."""
        return SightingFilter(
            ids=_tuple(self.ids),
            pids=_tuple(self.pids),
            cameras=_tuple(self.cameras),
            sources=_tuple(self.sources),
            since=self.since,
            until=self.until,
            older_than=self.older_than,
        )


class WithBoxes(Message):
    """Images may come with a box each, for pictures that show more than the person."""

    boxes: Annotated[list[Box | None], Field(max_length=1000)] | None = Field(
        default=None, description="One per image: left, top, right, bottom in pixels, or null for the whole image."
    )


class SearchMessage(WithBoxes):
    """Who is searched for, and where; all images and ids together are one person."""

    like: Ids = []
    top_k: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 10
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    one_per: OnePer = "none"
    filter: FilterMessage = FilterMessage()


class SightingMessage(Message):
    """What is known of one sighting."""

    pid: Pid | None = None
    camid: Camid | None = None
    time: AwareDatetime | None = None
    source: Text = ""
    path: Text = ""
    facts: dict[str, Any] = {}

    def sighting(self, crop: bytes | None) -> NewSighting:
        """Return it as the gallery takes it; raises DataError for what a gallery does not take."""
        return NewSighting(
            pid=self.pid, camid=self.camid, time=self.time, source=self.source, path=self.path,
            facts=self.facts, crop=crop,
        )  # fmt: skip


class AddMessage(WithBoxes):
    """What is known of the sightings to add: one entry per image, or none at all."""

    sightings: Annotated[list[SightingMessage], Field(max_length=1000)] | None = None
    crops: bool = Field(default=False, description="Keep a picture of each, at most 256 pixels, without metadata.")


class UpdateMessage(Message):
    """What is to be changed; keys that are absent stay as they are."""

    pid: Pid | None = None
    camid: Camid | None = None
    time: AwareDatetime | None = None
    source: Text = ""
    path: Text = ""
    facts: dict[str, Any] = {}


class DeleteMessage(Message):
    """What is to be deleted."""

    filter: FilterMessage = FilterMessage()
    everything: bool = Field(default=False, description="Yes, an empty filter is meant.")


class EmbedMessage(WithBoxes):
    """Options of embedding."""


class HitAnswer(Message):
    """One answer of a search; similarity is cosine, larger is more alike."""

    id: str
    similarity: float
    pid: int | None
    camid: int | None
    time: datetime | None
    source: str
    path: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, hit: Hit) -> HitAnswer:
        """Return a hit as an answer."""
        return cls(
            id=hit.id, similarity=hit.similarity, pid=hit.pid, camid=hit.camid, time=hit.time, source=hit.source,
            path=hit.path, facts=dict(hit.facts),
        )  # fmt: skip


class SearchAnswer(Message):
    """Hits, the most similar first."""

    hits: list[HitAnswer]


class SightingAnswer(Message):
    """One sighting."""

    id: str
    pid: int | None
    camid: int | None
    time: datetime | None
    added: datetime
    source: str
    path: str
    facts: dict[str, Any]
    has_crop: bool

    @classmethod
    def of(cls, seen: Sighting) -> SightingAnswer:
        """Return a sighting as an answer."""
        return cls.model_validate(seen.to_dict())


class SightingsAnswer(Message):
    """Sightings by id, and the id to go on after; null at the end."""

    sightings: list[SightingAnswer]
    next: str | None


class EmbedAnswer(Message):
    """Embeddings of unit length, in the order of the images."""

    model: str
    vectors: list[list[float]]


class AddAnswer(Message):
    """The new ids, in the order of the images."""

    ids: list[str]


class CountAnswer(Message):
    """How many sightings were changed or deleted."""

    count: int


class StatsAnswer(Message):
    """What is in the gallery."""

    model: str
    fingerprint: str
    retention_days: float | None
    sightings: int
    expired: int
    identities: int
    unidentified: int
    by_camera: dict[str, int]
    by_source: dict[str, int]
    first: datetime | None
    last: datetime | None
    crops: int
    bytes: int
    stored_width: int

    @classmethod
    def of(cls, stats: GalleryStats, *, model: str, fingerprint: str, retention_days: float | None) -> StatsAnswer:
        """Return counts as an answer."""
        facts = {"model": model, "fingerprint": fingerprint, "retention_days": retention_days}
        return cls.model_validate({**stats.to_dict(), **facts})


class HealthAnswer(Message):
    """That the service is there."""

    status: str
    version: str


class FaultAnswer(Message):
    """Why a request was not answered: one line, and what to do."""

    error: str
    hint: str = ""

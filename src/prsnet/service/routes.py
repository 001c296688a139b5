"""The routes of the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from prsnet.gallery import SightingFilter
from prsnet.gallery.crops import crop_format
from prsnet.service import messages as m
from prsnet.service.bodies import Body, checked, read_body
from prsnet.service.counters import CONTENT_TYPE
from prsnet.service.desk import Desk
from prsnet.service.guard import Guard, Refused
from prsnet.service.settings import Limits
from prsnet.version import __version__

ROUTER = APIRouter()
IdInPath = Annotated[str, Path(pattern=r"^[0-9]{1,19}$")]


async def desk_of(request: Request) -> Desk:
    """Return what the service works on."""
    desk: Desk = request.app.state.desk
    return desk


Served = Annotated[Desk, Depends(desk_of)]


async def who(request: Request) -> str:
    """Return the name of who asks, or refuse."""
    guard: Guard = request.app.state.guard
    return guard.admit(request)


User = Annotated[str, Depends(who)]


async def body(request: Request, _: User) -> Body:
    """Return what the request brought; nobody's body is read before they are admitted."""
    limits: Limits = request.app.state.limits
    return await read_body(request, limits)


Content = Annotated[Body, Depends(body)]


def _without_images(content: Body) -> dict[str, Any]:
    if content.images:
        raise Refused(400, "images: expected none here")
    return content.values


def _described(model: type[m.Message], *, images: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that :func:`read_body` takes apart itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema = _inlined(schema, schema.pop("$defs", {}))
    if not images:
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    encoded = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}
    files = {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}
    forms = {
        "application/json": {"schema": {**schema, "properties": {"images": encoded, **schema["properties"]}}},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"image": files, "request": schema}}},
        "image/*": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}},
    }
    return {"requestBody": {"required": True, "content": forms}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a JSON schema with its references replaced by what they refer to."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(part, definitions) for key, part in schema.items()}


@ROUTER.get("/health")
async def health() -> m.HealthAnswer:
    """Say that the service is there; needs no token."""
    return m.HealthAnswer(status="ok", version=__version__)


@ROUTER.get("/metrics", response_class=Response)
async def metrics(_: User, desk: Served) -> Response:
    """Return figures for Prometheus."""
    return Response(desk.counters.text(), media_type=CONTENT_TYPE)


@ROUTER.get("/stats")
def stats(_: User, desk: Served) -> m.StatsAnswer:
    """Count what is in the gallery."""
    model, days = desk.model, desk.gallery.retention_days
    return m.StatsAnswer.of(desk.gallery.stats(), model=model.name, fingerprint=model.fingerprint, retention_days=days)


@ROUTER.post("/embed", openapi_extra=_described(m.EmbedMessage))
async def embed(content: Content, desk: Served) -> m.EmbedAnswer:
    """Return the embeddings of images."""
    asked = checked(m.EmbedMessage, content.values)
    vectors, _ = await desk.embed(content.images, asked.boxes)
    return m.EmbedAnswer(model=desk.model.fingerprint, vectors=vectors.tolist())


@ROUTER.post("/search", openapi_extra=_described(m.SearchMessage))
async def search(content: Content, user: User, desk: Served) -> m.SearchAnswer:
    """Find the sightings most like one person, shown by images, stored sightings, or both."""
    hits = await desk.search(content.images, checked(m.SearchMessage, content.values), user)
    return m.SearchAnswer(hits=[m.HitAnswer.of(hit) for hit in hits])


@ROUTER.post("/sightings", status_code=201, openapi_extra=_described(m.AddMessage))
async def add(content: Content, desk: Served) -> m.AddAnswer:
    """Add a sighting per image; what is answered is on disk."""
    return m.AddAnswer(ids=await desk.add(content.images, checked(m.AddMessage, content.values)))


@ROUTER.get("/sightings")
def find(
    _: User,
    desk: Served,
    after: Annotated[str, Query(pattern=r"^[0-9]{1,19}$")] = "0",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> m.SightingsAnswer:
    """List sightings by id, page by page."""
    found = desk.gallery.find(after=after, limit=limit)
    following = found[-1].id if len(found) == limit else None
    return m.SightingsAnswer(sightings=[m.SightingAnswer.of(seen) for seen in found], next=following)


@ROUTER.get("/sightings/{id}")
def get(id: IdInPath, _: User, desk: Served) -> m.SightingAnswer:
    """Return what is known of a sighting."""
    return m.SightingAnswer.of(desk.gallery.get(id))


@ROUTER.get("/sightings/{id}/crop", response_class=Response)
def crop(id: IdInPath, _: User, desk: Served) -> Response:
    """Return the kept picture of a sighting."""
    picture = desk.gallery.crop(id)
    if picture is None:
        raise Refused(404, f"no picture of sighting {id} is kept")
    kind = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}[crop_format(picture) or "jpg"]
    return Response(picture, media_type=kind)


@ROUTER.patch("/sightings/{id}", openapi_extra=_described(m.UpdateMessage, images=False))
async def update(id: IdInPath, content: Content, user: User, desk: Served) -> m.CountAnswer:
    """Change what is known of a sighting."""
    changes = checked(m.UpdateMessage, _without_images(content)).model_dump(exclude_unset=True)
    return m.CountAnswer(count=await run_in_threadpool(desk.gallery.update, [id], who=user, **changes))


@ROUTER.delete("/sightings/{id}")
def delete_one(id: IdInPath, user: User, desk: Served) -> m.CountAnswer:
    """Delete a sighting for good."""
    seen = desk.gallery.get(id)
    return m.CountAnswer(count=desk.delete(SightingFilter(ids=(seen.id,)), who=user))


@ROUTER.post("/delete", openapi_extra=_described(m.DeleteMessage, images=False))
async def delete(content: Content, user: User, desk: Served) -> m.CountAnswer:
    """Delete sightings for good: those that meet a filter."""
    asked = checked(m.DeleteMessage, _without_images(content))
    where = asked.filter.filter()
    count = await run_in_threadpool(desk.delete, where, everything=asked.everything, who=user)
    return m.CountAnswer(count=count)

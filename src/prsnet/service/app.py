"""The HTTP service as one application: its life, its headers, and what becomes of errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from prsnet.embed import Embedder
from prsnet.errors import PrsnetError
from prsnet.gallery import Gallery
from prsnet.gallery.faults import GalleryDamaged, GalleryUnavailable, NoSuchSighting
from prsnet.service import messages as m
from prsnet.service.counters import Counters
from prsnet.service.desk import Desk
from prsnet.service.guard import Guard, Refused
from prsnet.service.routes import ROUTER
from prsnet.service.settings import Settings
from prsnet.version import __version__

LOG = logging.getLogger("prsnet.service")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": m.FaultAnswer, "description": text}
    for status, text in {
        400: "The request makes no sense.",
        401: "A token is needed.",
        404: "There is no such thing.",
        413: "Too large.",
        415: "Of another form.",
        422: "A value is out of range.",
        429: "Too many requests.",
        503: "Busy; try again.",
    }.items()
}


def create_app(gallery: Gallery, embedder: Embedder, settings: Settings | None = None) -> FastAPI:
    """Return the service; it closes the gallery when it ends.

    Raises:
        DataError: the embedder is of another model than the gallery.
    """
    settings = settings or Settings()
    counters = Counters()
    desk = Desk(gallery, embedder, settings.limits, counters)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        purging = asyncio.create_task(desk.keep_purged())
        try:
            yield
        finally:
            purging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await purging
            await run_in_threadpool(desk.close)

    # The usual documentation pages load scripts from elsewhere; the description itself is at /openapi.json.
    app = FastAPI(
        title="prsnet gallery", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, responses=FAULTS
    )
    _watch(app, counters)
    _explain(app)
    app.state.desk, app.state.guard, app.state.limits = desk, Guard(settings), settings.limits
    app.include_router(ROUTER)
    return app


def _watch(app: FastAPI, counters: Counters) -> None:
    @app.middleware("http")
    async def watch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.perf_counter()
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        route = getattr(request.scope.get("route"), "path", "none")  # the pattern, not the path: few different ones
        method = request.method if request.method in ("GET", "POST", "PATCH", "DELETE") else "other"
        counters.requests.labels(route, method, str(response.status_code)).inc()
        counters.seconds.labels(route).observe(time.perf_counter() - start)
        return response


def _explain(app: FastAPI) -> None:
    """Turn errors into one line each."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _fault(error.status, error.message, headers=error.headers)

    @app.exception_handler(PrsnetError)
    async def ours(_: Request, error: PrsnetError) -> JSONResponse:
        if isinstance(error, NoSuchSighting):
            return _fault(404, error.message, error.hint)
        if isinstance(error, GalleryUnavailable):
            LOG.error("%s", error)
            return _fault(503, "the gallery cannot be used now", "try again later", {"Retry-After": "5"})
        if isinstance(error, GalleryDamaged):
            LOG.error("%s", error)
            return _fault(500, "the gallery is damaged", "ask whoever runs the service")
        return _fault(400, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"][1:]))
        return _fault(422, f"{place[:120]}: {' '.join(str(fault['msg']).split())[:160]}")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return _fault(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        LOG.exception("a request failed", exc_info=error)
        return _fault(500, "a fault of the service; its log says more")


def _fault(status: int, error: str, hint: str = "", headers: dict[str, str] | None = None) -> JSONResponse:
    answer = m.FaultAnswer(error=" ".join(error.split()), hint=" ".join(hint.split()))
    return JSONResponse(answer.model_dump(), status_code=status, headers=headers)

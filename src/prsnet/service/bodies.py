"""Bodies of requests: read within limits, taken apart into images and one JSON object."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from prsnet.data.images import decode_image
from prsnet.errors import DataError
from prsnet.service.guard import Refused
from prsnet.service.settings import Limits

Pixels = npt.NDArray[np.uint8]
ModelT = TypeVar("ModelT", bound=BaseModel)
MAX_OBJECT = 2**20
"""Bytes of the JSON part of a multipart body."""


@dataclass(frozen=True)
class Body:
    """What a request brought: encoded images, and the rest."""

    images: list[bytes]
    values: dict[str, Any]


async def read_body(request: Request, limits: Limits) -> Body:
    """Return what a request holds.

    Three forms are understood: JSON with ``images`` in base64; multipart with files named ``image`` and, optionally, a
    field ``request`` with the JSON of the rest; and one bare image with its own content type.

    Raises:
        Refused: too large, too slow, of another form, or not what it says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = await _read(request, limits)
    if kind == "application/json":
        values = _object(data)
        return Body(_decoded(values.pop("images", []), limits), values)
    if kind == "multipart/form-data":
        return await _multipart(request, data, limits)
    if kind.startswith("image/"):
        return Body([data], {})
    raise Refused(415, f"content type {kind[:80]!r}: expected application/json, multipart/form-data or an image's")


async def _read(request: Request, limits: Limits) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > limits.bytes:
        raise Refused(413, f"a body of {declared[:20]} bytes, expected at most {limits.bytes}")
    data = bytearray()

    async def collect() -> None:
        async for chunk in request.stream():
            data.extend(chunk)
            if len(data) > limits.bytes:
                raise Refused(413, f"a body of more than {limits.bytes} bytes")

    try:
        await asyncio.wait_for(collect(), limits.seconds)
    except (asyncio.TimeoutError, TimeoutError):
        raise Refused(408, f"the body did not arrive within {limits.seconds:g} seconds") from None
    except ClientDisconnect:
        raise Refused(400, "the client went away") from None
    return bytes(data)


def _object(data: bytes | str) -> dict[str, Any]:
    try:
        values = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(values, dict):
        raise Refused(400, f"the body is a JSON {type(values).__name__}, expected an object")
    return values


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _decoded(images: Any, limits: Limits) -> list[bytes]:
    if not isinstance(images, list) or len(images) > limits.images:
        got = f"{len(images)} of them" if isinstance(images, list) else type(images).__name__
        raise Refused(400, f"images: expected a list of at most {limits.images}, got {got}")
    decoded = []
    for place, text in enumerate(images):
        try:
            if not isinstance(text, str):
                raise binascii.Error("no text")
            decoded.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise Refused(400, f"image {place}: not base64") from None
    return decoded


async def _multipart(request: Request, data: bytes, limits: Limits) -> Body:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield data

    parser = MultiPartParser(request.headers, stream(), max_files=limits.images, max_fields=1, max_part_size=MAX_OBJECT)
    parser.spool_max_size = limits.bytes + 1  # nobody's picture is to be left in a temporary file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"multipart: {' '.join(error.message.split())[:120]}") from None
    except (ValueError, LookupError, AssertionError):
        raise Refused(400, "multipart: the parts cannot be told apart") from None
    images: list[bytes] = []
    values: dict[str, Any] = {}
    try:
        for name, part in form.multi_items():
            if name == "image" and isinstance(part, UploadFile):
                images.append(await part.read())
            elif name == "request" and isinstance(part, str):
                values = _object(part)
            else:
                raise Refused(400, f"part {name[:80]!r}: expected files named 'image' and one field 'request'")
    finally:
        await form.close()
    return Body(images, values)


def pixels_of(images: list[bytes], limits: Limits) -> list[Pixels]:
    """Return the decoded images (H, W, 3); raises DataError, which says by its number which one is wrong."""
    return [
        decode_image(data, name=f"image {place}", max_pixels=limits.pixels) if data else _empty(place)
        for place, data in enumerate(images)
    ]


def _empty(place: int) -> Pixels:
    raise DataError(f"image {place}: empty, expected a picture", hint="send the file's bytes")


def checked(model: type[ModelT], values: dict[str, Any]) -> ModelT:
    """Return ``values`` as a checked object; raises :class:`Refused` with the first fault in one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the body"
        raise Refused(422, f"{place[:120]}: {' '.join(str(fault['msg']).split())[:160]}") from None

"""The pictures that a gallery keeps: small, free of metadata, of three formats that any browser shows."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from prsnet.data.images import decode_image
from prsnet.errors import DataError

MAX_BYTES = 2 * 2**20
MAX_PIXELS = 4_000_000
HEIGHT = 256
"""Pixels that kept pictures are at most high (and wide): the largest input of our networks."""
_STARTS = {"jpg": (b"\xff\xd8\xff",), "png": (b"\x89PNG\r\n\x1a\n",), "webp": (b"RIFF",)}


def encode_crop(pixels: npt.NDArray[np.uint8], *, height: int = HEIGHT, quality: int = 90) -> bytes:
    """Return an image (H, W, 3) uint8 RGB as JPEG, shrunk to ``height`` pixels where a side is longer."""
    image = Image.fromarray(pixels)
    image.thumbnail((height, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def crop_format(data: bytes) -> str | None:
    """Return ``"jpg"``, ``"png"`` or ``"webp"`` by the first bytes, or ``None`` for anything else."""
    for name, starts in _STARTS.items():
        if data.startswith(starts) and (name != "webp" or data[8:12] == b"WEBP"):
            return name
    return None


def check_crop(data: bytes, name: str) -> None:
    """Refuse what is no whole picture of moderate size.

    Raises:
        DataError: not JPEG, PNG or WebP, more than 2 MiB or 4 million pixels, or damaged; the message names ``name``.
    """
    if crop_format(data) is None:
        raise DataError(f"{name}: expected a JPEG, PNG or WebP picture", hint="make it with encode_crop()")
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: {len(data)} bytes, expected at most {MAX_BYTES}", hint="make it with encode_crop()")
    decode_image(data, name=name, max_pixels=MAX_PIXELS)

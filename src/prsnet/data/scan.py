"""One look at every image of a collection: size, light, and two fingerprints, in threads.

The exact fingerprint is a digest of the decoded pixels, so that the same picture saved as PNG and as BMP counts as one.
The perceptual one is 64 bits of the lowest frequencies of the brightness (the DCT hash of Zauner, *Implementation and
Benchmarking of Perceptual Image Hash Functions*, 2010): it survives resizing and another JPEG quality. All pedestrians
have much the same low frequencies, so a thumbnail in colour is kept beside it, to tell real copies from lookalikes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dct

from prsnet.data.images import Pixels, read_image
from prsnet.errors import DataError

THUMBNAIL = (16, 8)
"""Height and width of the thumbnails."""
_HASH_INPUT, _HASH_SIDE = 32, 8
_BASIS: npt.NDArray[np.float64] = np.asarray(dct(np.eye(_HASH_INPUT), axis=0, norm="ortho"))[:_HASH_SIDE]


@dataclass(frozen=True, slots=True)
class ImageScan:
    """What was seen of N images; rows of unreadable ones hold zeros.

    Attributes:
        paths: N files.
        errors: row -> why the image cannot be read.
        heights: (N,) int64, pixels.
        widths: (N,) int64, pixels.
        brightness: (N,) float64, mean luma, 0..255.
        contrast: (N,) float64, standard deviation of the luma, 0..127.5.
        digests: (N, 16) uint8, equal exactly where size and all pixels are equal.
        hashes: (N,) uint64, perceptual.
        thumbnails: (N, 16, 8, 3) uint8.
    """

    paths: tuple[Path, ...]
    errors: dict[int, str]
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    brightness: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    digests: npt.NDArray[np.uint8]
    hashes: npt.NDArray[np.uint64]
    thumbnails: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the image could be read."""
        good = np.ones(len(self), dtype=bool)
        good[list(self.errors)] = False
        return good


def scan_images(
    paths: Sequence[Path], *, workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> ImageScan:
    """Decode every image once and return what was seen; unreadable ones are noted, never raised.

    Args:
        paths: the files.
        workers: threads; 0 takes one per processor.
        progress: called with (done, total).
    """
    total, errors = len(paths), dict[int, str]()
    columns: dict[str, npt.NDArray[Any]] = {
        "heights": np.zeros(total, np.int64),
        "widths": np.zeros(total, np.int64),
        "brightness": np.zeros(total),
        "contrast": np.zeros(total),
        "digests": np.zeros((total, 16), np.uint8),
        "hashes": np.zeros(total, np.uint64),
        "thumbnails": np.zeros((total, *THUMBNAIL, 3), np.uint8),
    }

    def look(row: int) -> None:
        try:
            seen = describe_pixels(read_image(paths[row]))
        except DataError as error:
            errors[row] = error.message
            return
        for name, value in seen.items():
            columns[name][row] = value

    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="scan") as pool:
        for done, _ in enumerate(pool.map(look, range(total)), start=1):
            if progress is not None:
                progress(done, total)
    return ImageScan(paths=tuple(paths), errors=dict(sorted(errors.items())), **columns)


def describe_pixels(pixels: Pixels) -> dict[str, Any]:
    """Return what :class:`ImageScan` holds of one image (H, W, 3) uint8, under the names of its attributes."""
    image = Image.fromarray(pixels)
    luma = image.convert("L")
    values = np.asarray(luma, dtype=np.float32)
    digest = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    rows, columns = THUMBNAIL
    return {
        "heights": pixels.shape[0],
        "widths": pixels.shape[1],
        "brightness": float(values.mean()),
        "contrast": float(values.std()),
        "digests": np.frombuffer(digest.digest(), np.uint8),
        "hashes": perceptual_hash(luma),
        "thumbnails": np.asarray(image.resize((columns, rows), Image.Resampling.BOX)),
    }


def perceptual_hash(luma: Image.Image) -> int:
    """Return 64 bits: which of the 8 x 8 lowest DCT coefficients of the 32 x 32 brightness exceed their median.

    The very lowest, the mean brightness, is left out of the median (its bit stays, and is the same for all).
    """
    small = luma.resize((_HASH_INPUT, _HASH_INPUT), Image.Resampling.BOX)
    coefficients = (_BASIS @ np.asarray(small, dtype=np.float64) @ _BASIS.T).ravel()
    bits = coefficients > np.median(coefficients[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")

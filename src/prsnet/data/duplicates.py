"""Which images of a collection show the same picture: exactly, or but for size, compression and a shade of light."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from prsnet.data.scan import ImageScan

HASH_BITS = 7
"""Two copies of a picture differ in at most so many bits of their perceptual hash."""
PIXEL_DIFFERENCE = 7.0
"""... and in at most so many grey levels (of 255) on average over their thumbnails, after their mean is evened out."""
LEAST_CONTRAST = 4.0
"""Images whose brightness varies less than this (standard deviation, of 255) show nothing, and resemble each other."""

Rows = npt.NDArray[np.int64]


def exact_duplicates(scan: ImageScan) -> Rows:
    """Return (N,) for each image the first one of the same size and pixels: itself where it is the first."""
    first: dict[bytes, int] = {}
    rows = np.arange(len(scan), dtype=np.int64)
    for row in np.flatnonzero(scan.readable):
        rows[row] = first.setdefault(scan.digests[row].tobytes(), int(row))
    return rows


def near_duplicates(scan: ImageScan, *, bits: int = HASH_BITS, difference: float = PIXEL_DIFFERENCE) -> Rows:
    """Return (N,) for each image the first one that it is a copy of: itself where it is an original.

    Images are taken in their order. One is a copy when it resembles an earlier *original*, so that a chain of video
    frames, each much like the one before, does not become one picture. Unreadable images, and those without contrast
    unless they are exact duplicates, are originals.

    Args:
        scan: the images.
        bits: largest Hamming distance of the perceptual hashes.
        difference: largest mean absolute difference of the thumbnails, 0..255, after each is moved to its mean colour.
    """
    rows = exact_duplicates(scan)
    thumbnails = _centred(scan.thumbnails)
    originals = _HashIndex(scan.hashes, bits)
    eligible = scan.readable & (scan.contrast >= LEAST_CONTRAST) & (rows == np.arange(len(scan)))
    for row in np.flatnonzero(eligible):
        similar = originals.within(int(row))
        apart = np.abs(thumbnails[similar] - thumbnails[row]).mean(axis=1)
        close = similar[apart <= difference]
        if len(close):
            rows[row] = close.min()
        else:
            originals.add(int(row))
    return rows[rows]  # an exact duplicate of a copy is a copy of the original


def _centred(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return (N, values) float32 thumbnails without their mean colour."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    return values.reshape(len(values), -1)


class _HashIndex:
    """Finds hashes within a Hamming distance: cut in distance + 1 bands, two such hashes share one band entirely."""

    def __init__(self, hashes: npt.NDArray[np.uint64], distance: int) -> None:
        self.hashes, self.distance = hashes, distance
        edges = np.linspace(0, 64, distance + 2).astype(int).tolist()
        self.bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self.buckets: dict[tuple[int, int], array[int]] = defaultdict(lambda: array("q"))

    def _keys(self, row: int) -> Iterator[tuple[int, int]]:
        value = int(self.hashes[row])
        return ((band, value >> low & mask) for band, (low, mask) in enumerate(self.bands))

    def add(self, row: int) -> None:
        """Take a row in."""
        for key in self._keys(row):
            self.buckets[key].append(row)

    def within(self, row: int) -> Rows:
        """Return the rows taken in whose hashes are within the distance; some may be there more than once."""
        found = [np.array(self.buckets[key], np.int64) for key in self._keys(row) if key in self.buckets]
        if not found:
            return np.empty(0, np.int64)
        rows = np.concatenate(found)
        differing = np.unpackbits((self.hashes[rows] ^ self.hashes[row]).view(np.uint8).reshape(-1, 8), axis=1)
        close: Rows = rows[differing.sum(axis=1) <= self.distance]
        return close


def groups_of(originals: Rows) -> list[list[int]]:
    """Return the rows that show one picture, for every picture that is there more than once, each group rising.

    Args:
        originals: (N,) as :func:`exact_duplicates` or :func:`near_duplicates` give it.
    """
    copies = np.flatnonzero(originals != np.arange(len(originals)))
    groups: dict[int, list[int]] = {}
    for row in copies:
        groups.setdefault(int(originals[row]), [int(originals[row])]).append(int(row))
    return [sorted(groups[original]) for original in sorted(groups)]

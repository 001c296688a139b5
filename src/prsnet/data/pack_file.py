"""The format of packed images: one file, memory-mapped, of uint8 images at one size, with what is known of each.

A packed image goes by the path ``FILE.pack/ROW``, so that records, reports and lists of paths work as with files;
:func:`prsnet.data.images.read_image` understands such paths. Layout of the file, numbers little-endian:

    0     8 bytes  magic "PRSPACK1"
    8     8 bytes  offset of the trailer
    16    8 bytes  length of the trailer
    24   32 bytes  SHA-256 of the trailer
    4096           images, (N, 3, H, W) uint8, channels first
    ...            trailer: JSON with the size, the count, a CRC-32 of every image, and what was packed

The trailer is checked when the file is opened, an image when it is first taken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError
from prsnet.files import replacing

SUFFIX = ".pack"
_MAGIC = b"PRSPACK1"
_HEAD = struct.Struct("<8sQQ32s")
_FIRST_IMAGE = 4096
_AGAIN = "pack it again with `prsnet data pack`"

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class PackFile:
    """A packed file, open for reading.

    Args:
        path: the file.

    Attributes:
        size: height and width of all images.
        facts: what was stored with them.

    Raises:
        DataError: not such a file, cut off, or changed since it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        trailer = _read_trailer(path)
        try:
            count, self.size = int(trailer["count"]), (int(trailer["size"][0]), int(trailer["size"][1]))
            self._sums = np.frombuffer(base64.b64decode(trailer["crc32"]), dtype="<u4")
            self.facts: dict[str, Any] = dict(trailer["facts"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path}: a damaged pack: {error}", hint=_AGAIN) from error
        if (
            count != len(self._sums)
            or min(self.size) < 1
            or path.stat().st_size < _FIRST_IMAGE + count * self.bytes_per_image
        ):
            raise DataError(f"{path}: a pack of {count} images that are not all there", hint=_AGAIN)
        shape = (count, 3, *self.size)
        self._images: Images = (
            np.memmap(path, np.uint8, "r", _FIRST_IMAGE, shape) if count else np.empty(shape, np.uint8)
        )
        self._checked = np.zeros(count, dtype=bool)

    def __len__(self) -> int:
        return len(self._sums)

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image."""
        return 3 * self.size[0] * self.size[1]

    def take(self, rows: Rows) -> Images:
        """Return a copy of the images of ``rows``: (len(rows), 3, H, W).

        Raises:
            DataError: a row that is not there, or an image that was changed since it was written.
        """
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise DataError(f"{self.path}: holds {len(self)} images, no row {rows.tolist()}", hint=_AGAIN)
        images: Images = self._images[rows]
        for place in np.flatnonzero(~self._checked[rows]).tolist():
            if zlib.crc32(images[place].tobytes()) != self._sums[rows[place]]:
                raise DataError(f"{self.path}: image {rows[place]} was changed or damaged on disk", hint=_AGAIN)
        self._checked[rows] = True
        return images


def _read_trailer(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD.size)
            magic, offset, length, digest = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0, b"")
            if magic != _MAGIC:
                raise DataError(f"{path}: not a file of packed images", hint=_AGAIN)
            stream.seek(offset)
            trailer = stream.read(min(length, path.stat().st_size))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "cut off"
        raise DataError(f"{path}: cannot be read: {reason}", hint="check the path") from error
    if hashlib.sha256(trailer).digest() != digest:
        raise DataError(f"{path}: cut off, or changed since it was packed", hint=_AGAIN)
    content = json.loads(trailer)
    return dict(content)


@lru_cache(maxsize=8)
def _open_cached(path: Path, size: int, changed: int) -> PackFile:
    return PackFile(path)


def open_pack(path: str | Path) -> PackFile:
    """Return a packed file; the same object while the file does not change.

    Raises:
        DataError: as :class:`PackFile`.
    """
    file = Path(path)
    try:
        state = file.stat()
    except OSError as error:
        raise DataError(f"{file}: no such file of packed images", hint="check the path") from error
    return _open_cached(file, state.st_size, state.st_mtime_ns)


def row_path(file: Path, row: int) -> Path:
    """Return the path that packed image ``row`` goes by."""
    return file / f"{row:08d}"


def packed_row(path: Path) -> tuple[Path, int] | None:
    """Return (file, row) of a packed image's path, or None for any other path."""
    if path.parent.suffix != SUFFIX or not (path.name.isascii() and path.name.isdigit()) or not path.parent.is_file():
        return None
    return path.parent, int(path.name)


def rows_of_one_pack(paths: Sequence[Path]) -> tuple[PackFile, Rows] | None:
    """Return the file and rows of ``paths`` when all are images of one packed file, else None."""
    parents = {path.parent for path in paths}
    if len(parents) != 1 or packed_row(paths[0]) is None:
        return None
    return open_pack(parents.pop()), np.array([int(path.name) for path in paths], dtype=np.int64)


def write_pack(path: str | Path, chunks: Iterable[Images], *, size: tuple[int, int], facts: Mapping[str, Any]) -> None:
    """Write images, chunk by chunk, and what is known of them; the file appears complete or not at all.

    Args:
        path: a file name that ends in ``.pack``.
        chunks: arrays (n, 3, H, W) uint8.
        size: H and W.
        facts: what JSON can hold.

    Raises:
        DataError: another suffix.
        InputError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise DataError(
            f"{target}: expected a name that ends in {SUFFIX}", hint=f"e.g. {target.stem or 'data'}{SUFFIX}"
        )
    for remnant in target.parent.glob(f".{target.name}.*.part{SUFFIX}"):  # of a run that was killed; they are large
        remnant.unlink(missing_ok=True)
    sums: list[int] = []
    with replacing(target) as temporary, temporary.open("wb") as stream:
        stream.seek(_FIRST_IMAGE)
        for chunk in chunks:
            if chunk.dtype != np.uint8 or chunk.shape[1:] != (3, *size):
                raise ValueError(
                    f"chunk of shape {chunk.shape} {chunk.dtype}, expected (n, 3, {size[0]}, {size[1]}) uint8"
                )
            for image in chunk:
                data = image.tobytes()
                sums.append(zlib.crc32(data))
                stream.write(data)
        offset = stream.tell()
        crc32 = base64.b64encode(np.array(sums, dtype="<u4").tobytes()).decode("ascii")
        trailer = json.dumps({"size": list(size), "count": len(sums), "crc32": crc32, "facts": facts}).encode()
        stream.write(trailer)
        stream.seek(0)
        stream.write(_HEAD.pack(_MAGIC, offset, len(trailer), hashlib.sha256(trailer).digest()))

"""A whole dataset in one memory-mapped file at training size: decoded once, never again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prsnet.data.images import Pixels, load_stack
from prsnet.data.pack_file import open_pack, row_path, write_pack
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord

_CHUNK = 256
PARTS = ("train", "query", "gallery")


def pack_dataset(
    dataset: Dataset,
    file: str | Path,
    size: tuple[int, int],
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Decode and resize every image of a dataset as training does, and write them as one file.

    An image that is in two parts, as query and gallery, is stored once. The records keep their order, their labels
    and, among the facts, the names that their files had.

    Args:
        dataset: what to pack.
        file: a name that ends in ``.pack``.
        size: height and width in pixels.
        workers: threads that decode; 0 takes one per processor.
        progress: called with (images done, images in all).

    Raises:
        DataError: an image cannot be read.
    """
    rows: dict[Path, int] = {}
    for part in PARTS:
        for record in getattr(dataset, part):
            rows.setdefault(record.path, len(rows))
    facts = {
        "name": dataset.name,
        "facts": json.loads(json.dumps(dict(dataset.facts), default=str)),
        "paths": [str(path) for path in rows],
        "parts": {part: [[rows[r.path], r.pid, r.camid] for r in getattr(dataset, part)] for part in PARTS},
    }
    write_pack(file, _chunks(list(rows), size, workers, progress), size=size, facts=facts)


def _chunks(
    paths: Sequence[Path], size: tuple[int, int], workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[Pixels]:
    for start in range(0, len(paths), _CHUNK):
        chunk = paths[start : start + _CHUNK]
        yield load_stack(chunk, size, workers=workers)
        if progress is not None:
            progress(start + len(chunk), len(paths))


def read_packed(file: Path) -> tuple[str, dict[str, list[ImageRecord]], dict[str, Any]]:
    """Return the name, the records by part, and the facts of a packed dataset.

    Raises:
        DataError: as :func:`prsnet.data.pack_file.open_pack`, or the records are not there.
    """
    pack = open_pack(file)
    try:
        stored = pack.facts["parts"]
        parts = {part: [_record(file, len(pack), *row) for row in stored[part]] for part in PARTS}
        name, facts = str(pack.facts["name"]), dict(pack.facts["facts"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: packed images without records", hint="pack them by `prsnet data pack`") from error
    return name, parts, facts


def _record(file: Path, count: int, row: int, pid: int | None, camid: int | None) -> ImageRecord:
    if not 0 <= row < count:
        raise ValueError(f"row {row} of {count}")
    return ImageRecord(row_path(file, row), pid, camid)

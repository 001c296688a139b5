"""The verb ``gallery add``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prsnet.cli.embedding import Unreadable, records_of
from prsnet.cli.gallery import embedder_of, open_gallery
from prsnet.cli.gallery_options import AddConfig
from prsnet.cli.progress import progress_bar
from prsnet.data.images import read_image
from prsnet.embeddings_file import printable, read_embeddings
from prsnet.errors import DataError
from prsnet.gallery import NewSighting
from prsnet.gallery.crops import encode_crop
from prsnet.gallery.sightings import parse_time
from prsnet.types import DISTRACTOR_PID, ImageRecord

if TYPE_CHECKING:
    from prsnet.embed import Embedder
    from prsnet.gallery import Gallery
    from prsnet.types import Vectors

AT_ONCE = 256
"""Images that are acknowledged together: what a kill may cost is at most the work on so many."""


@dataclass
class Tally:
    """What became of the images."""

    added: int = 0
    already: int = 0
    junk: int = 0
    unreadable: int = 0
    first: str = ""
    last: str = ""

    def take(self, ids: Sequence[str]) -> None:
        """Count sightings that the gallery has taken."""
        self.added += len(ids)
        if ids:
            self.first, self.last = self.first or ids[0], ids[-1]

    def text(self) -> str:
        """Return the counts in words."""
        between = f" (ids {self.first} to {self.last})" if self.first else ""
        rest = {"already there": self.already, "junk left out": self.junk, "unreadable left out": self.unreadable}
        return ", ".join([f"{self.added} added{between}", *(f"{n} {what}" for what, n in rest.items() if n)])


def add(config: AddConfig) -> None:
    """Run ``prsnet gallery add``; what a killed run had added already is passed over by the next."""
    if config.time is not None and config.time != "file":
        parse_time(config.time)
    with open_gallery(config.gallery) as gallery:
        known = set() if config.again else gallery.paths()
        tally = Tally()
        images: list[tuple[ImageRecord, str]] = []
        for place in config.images:
            if place.endswith(".npz"):
                _add_embeddings(gallery, config, place, known, tally)
            else:
                images += [(record, place) for record in records_of(place, config.layout, config.part)]
        if images:
            embedder = embedder_of(gallery, config.model, config.device)
            _add_images(gallery, embedder, config, _wanted(images, known, tally, again=config.again), tally)
    print(f"{config.gallery}: {tally.text()}")


def _wanted(
    images: Sequence[tuple[ImageRecord, str]], known: set[str], tally: Tally, *, again: bool
) -> list[tuple[ImageRecord, str]]:
    wanted = []
    for record, place in images:
        if record.pid is not None and record.pid < 0:
            tally.junk += 1
        elif path_of(record.path) in known:
            tally.already += 1
        else:
            wanted.append((record, place))
            if not again:
                known.add(path_of(record.path))
    return wanted


def _add_images(
    gallery: Gallery, embedder: Embedder, config: AddConfig, images: Sequence[tuple[ImageRecord, str]], tally: Tally
) -> None:
    unreadable = Unreadable()
    with progress_bar("adding") as progress:
        for start in range(0, len(images), AT_ONCE):
            vectors, kept = _embedded(embedder, config, images[start : start + AT_ONCE], unreadable)
            sightings = [
                sighting(config, str(record.path), record.pid, record.camid, source=place, crop=_crop(config, record))
                for record, place in kept
            ]
            if sightings:
                tally.take(gallery.add(vectors, sightings, model=embedder.identity))
            progress(min(start + AT_ONCE, len(images)), len(images))
    tally.unreadable = unreadable.count


def _embedded(
    embedder: Embedder, config: AddConfig, batch: Sequence[tuple[ImageRecord, str]], unreadable: Unreadable
) -> tuple[Vectors, list[tuple[ImageRecord, str]]]:
    """Return the embeddings of the readable images of a batch, and these images."""
    failed: set[int] = set()

    def note(position: int, error: DataError) -> None:
        unreadable.note(str(batch[position][0].path), error)
        failed.add(position)

    try:
        embeddings = embedder.embed(
            [record for record, _ in batch],
            batch_size=config.batch_size,
            workers=config.workers,
            on_error=None if config.on_error == "stop" else note,
        )
    except DataError:
        if len(failed) < len(batch):
            raise
        return np.empty((0, embedder.width), dtype=np.float32), []
    return embeddings.vectors, [image for position, image in enumerate(batch) if position not in failed]


def _add_embeddings(gallery: Gallery, config: AddConfig, file: str, known: set[str], tally: Tally) -> None:
    """Add what ``prsnet embed`` wrote; pictures come from the paths where they are asked for."""
    stored = read_embeddings(file)
    gallery.require(stored.model)
    embeddings = stored.embeddings
    paths = embeddings.paths or ("",) * len(embeddings)
    rows = []
    for row, (path, pid) in enumerate(zip(paths, embeddings.pids.tolist(), strict=True)):
        # -1 is both junk and unknown in such a file; there is nothing to tell them apart by.
        if path and path_of(path) in known:
            tally.already += 1
        else:
            rows.append((row, path, pid))
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        sightings = []
        for row, path, pid in part:
            camid = int(embeddings.camids[row])
            record = ImageRecord(Path(path))
            crop = _crop(config, record) if path else None
            sightings.append(sighting(config, path, pid, None if camid < 0 else camid, source=file, crop=crop))
        vectors = embeddings.select([row for row, _, _ in part]).vectors
        tally.take(gallery.add(vectors, sightings, model=stored.model))


def sighting(
    config: AddConfig, path: str, pid: int | None, camid: int | None, *, source: str, crop: bytes | None
) -> NewSighting:
    """Return what is known of an image: what it brings, else what the options say. Distractors are unknown people."""
    identity = config.pid if pid is None or pid <= DISTRACTOR_PID else pid
    return NewSighting(
        pid=identity,
        camid=config.camera if camid is None else camid,
        time=_time(config.time, path),
        source=printable(config.source if config.source is not None else source),
        path=path_of(path) if path else "",
        crop=crop,
    )


def _time(option: str | None, path: str) -> datetime | None:
    if option is None:
        return None
    if option != "file":
        return parse_time(option)
    try:
        return datetime.fromtimestamp(Path(path).stat().st_mtime, timezone.utc)
    except OSError as error:
        hint = "give --time as ISO 8601"
        raise DataError(f"{path or 'an image'}: no file to take the time from", hint=hint) from error


def _crop(config: AddConfig, record: ImageRecord) -> bytes | None:
    return encode_crop(read_image(record.path)) if config.crops else None


def path_of(path: Path | str) -> str:
    """Return the absolute path that a gallery remembers an image by."""
    return printable(os.path.abspath(path))  # noqa: PTH100 - links stay what they are, unlike with resolve()

"""The verb ``embed``, and how it and ``gallery add`` find images and tell of those that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prsnet.cli.gallery_options import EmbedConfig
from prsnet.cli.progress import progress_bar
from prsnet.errors import DataError

if TYPE_CHECKING:
    from prsnet.types import Dataset, ImageRecord

SHOWN = 20
"""Unreadable images that are named one by one."""


def embed(config: EmbedConfig) -> None:
    """Run ``prsnet embed``."""
    from prsnet.checkpoint import find_checkpoint
    from prsnet.embed import Embedder
    from prsnet.embeddings_file import write_embeddings

    records = [record for place in config.images for record in records_of(place, config.layout, config.part)]
    embedder = Embedder.from_checkpoint(config.run, device=config.device)
    unreadable = Unreadable()

    def note(position: int, error: DataError) -> None:
        unreadable.note(str(records[position].path), error)

    with progress_bar("embedding") as progress:
        embeddings = embedder.embed(
            records,
            batch_size=config.batch_size,
            workers=config.workers,
            flip=config.flip,
            on_error=None if config.on_error == "stop" else note,
            progress=counted(progress, len(records)),
        )
    provenance = embedder.facts.get("provenance", {})
    facts = {"flip": config.flip, "checkpoint": str(find_checkpoint(config.run)), "provenance": provenance}
    write_embeddings(config.out, embeddings, embedder.identity, facts)
    left_out = f", {unreadable.count} unreadable left out" if unreadable.count else ""
    print(f"{config.out}: {len(embeddings)} embeddings of {embeddings.width} numbers{left_out}")


@dataclass
class Unreadable:
    """Tells of images that cannot be read, on standard error, and counts them."""

    count: int = 0

    def note(self, name: str, error: DataError) -> None:
        """Name the image and the reason; from the twenty-first on only count."""
        self.count += 1
        if self.count <= SHOWN:
            shown = error.message if name in error.message else f"{name}: {error.message}"
            print(f"left out: {' '.join(shown.split())}", file=sys.stderr)
        if self.count == SHOWN + 1:
            print("left out: more images, which are only counted", file=sys.stderr)


def counted(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Return what turns the sizes of finished batches into (done, total) for a progress bar."""
    done = 0

    def move(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return move


def records_of(place: str, layout: str, part: str) -> list[ImageRecord]:
    """Return the images that an argument means.

    Args:
        place: an image file, a folder of images, a dataset folder, a CSV file or a packed file.
        layout: ``"images"`` takes no labels; ``"auto"`` takes those of layouts that cannot be mistaken, but does not
            guess that folders are people; a layout's name asks for that one.
        part: ``"all"`` or a part of a dataset.

    Raises:
        DataError: nothing there, no image, or no such part.
    """
    from prsnet.data.images import is_image_name, list_images
    from prsnet.data.layouts import load_dataset
    from prsnet.types import ImageRecord

    path = Path(place)
    if not path.exists():
        raise DataError(f"{place}: no such image, folder or dataset", hint="check the path")
    if path.is_file() and is_image_name(path.name):
        return [ImageRecord(path)]
    if path.is_dir() and (layout == "images" or (layout == "auto" and not _is_surely_labelled(place))):
        if part != "all":
            raise DataError(f"{place}: a folder without a known layout has no part {part!r}", hint="name its --layout")
        records = [ImageRecord(file) for file in list_images(path)]
    else:
        records = _part(load_dataset(place, layout="auto" if layout == "images" else layout), part)
    if not records:
        raise DataError(f"{place}: no images" + ("" if part == "all" else f" in part {part!r}"), hint="check the path")
    return records


def _is_surely_labelled(place: str) -> bool:
    from prsnet.data.layouts import recognise

    try:
        return not recognise(place)[0].generic
    except DataError as error:
        if "no layout fits" in error.message:
            return False
        raise


def _part(dataset: Dataset, part: str) -> list[ImageRecord]:
    parts = ("train", "query", "gallery") if part == "all" else (part,)
    return list(dict.fromkeys(record for name in parts for record in getattr(dataset, name)))

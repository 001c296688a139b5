"""Settings of the ``data`` verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prsnet.config import check_fields


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Examine a dataset before training: counts, faults, leaks, and a verdict for each use."""

    data: str = ""
    """Folder or CSV file with the images; known layouts are recognised."""
    use: Literal["all", "pre-training", "training", "evaluation"] = "all"
    """The use whose verdict sets the exit code (0 usable, 2 not); all: every use that the data offers."""
    layout: str = "auto"
    """Layout of the data, when it shall not be recognised by its content; images: any tree of unlabelled images."""
    split_seed: int = 0
    """Seed of the split into halves, for layouts without a split of their own."""
    least_size: tuple[int, int] = (32, 16)
    """Height and width in pixels below which an image is called too small."""
    near: bool = True
    """Also look for nearly equal images: other size, compression or light."""
    out: str | None = None
    """JSON file for the report, with every image and identity concerned."""
    html: str | None = None
    """HTML file for the report, self-contained, with the images concerned and histograms."""
    workers: int = 0
    """Threads that read images; 0: one per processor."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("data", bool, "a dataset folder or CSV file"),
                ("least_size", lambda v: min(v) > 0, "two positive numbers"),
                ("workers", lambda v: v >= 0, "0 or more"),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Collect unlabelled images of any sources for pre-training, without copies, broken or test images."""

    sources: tuple[str, ...] = ()
    """Datasets (their training images), folders of images, CSV files; of equal images the first source's is taken."""
    out: str = ""
    """JSON file for the pool; give it to `prsnet pretrain`."""
    keep_out: tuple[str, ...] = ()
    """Datasets whose query and gallery images, and copies of them, must not get in."""
    include_test: bool = False
    """Also take query and gallery images; every model made from the pool is then marked transductive."""
    layout: str = "auto"
    """Layout of all sources, when it shall not be recognised by their content; images: any tree of images."""
    split_seed: int = 0
    """Seed of the split into halves, for layouts without a split of their own; use the same in training."""
    least_size: tuple[int, int] = (32, 16)
    """Height and width in pixels below which images are left out."""
    near: bool = True
    """Leave out nearly equal images, too: other size, compression or light."""
    copy: str | None = None
    """Folder to copy the images to; without it the pool points at where they lie."""
    workers: int = 0
    """Threads that read images; 0: one per processor."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("sources", bool, "one or more folders or files"),
                ("out", lambda v: v.endswith(".json"), "a file name ending in .json"),
                ("least_size", lambda v: min(v) > 0, "two positive numbers"),
                ("workers", lambda v: v >= 0, "0 or more"),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Decode a dataset once into one file at training size; training from it starts at once and is bitwise the same."""

    data: str = ""
    """Folder, CSV file or pool with the images."""
    out: str = ""
    """File to write; its name ends in .pack. Give it to the other verbs in place of the folder."""
    image_size: tuple[int, int] = (256, 128)
    """Height and width in pixels; must be the training's."""
    unlabelled: bool = False
    """Pack any tree of images for pre-training, without labels."""
    layout: str = "auto"
    """Layout of the data, when it shall not be recognised by its content."""
    split_seed: int = 0
    """Seed of the split into halves, for layouts without a split of their own; it is packed, too."""
    workers: int = 0
    """Threads that decode images; 0: one per processor."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("data", bool, "a dataset folder or file"),
                ("out", lambda v: v.endswith(".pack"), "a file name ending in .pack"),
                ("image_size", lambda v: min(v) > 0, "two positive numbers"),
                ("workers", lambda v: v >= 0, "0 or more"),
            ],
        )

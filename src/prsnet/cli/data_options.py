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


@dataclass(frozen=True, kw_only=True)
class CropsConfig:
    """Cut person crops out of annotated pictures: COCO JSON, VOC XML, MOT text, YOLO text, or boxes in a CSV file."""

    data: str = ""
    """COCO JSON or CSV file, or the folder of a VOC, MOT or YOLO dataset."""
    out: str = ""
    """Folder to write; the same command goes on in it after a stop."""
    format: Literal["auto", "coco", "voc", "mot", "yolo", "csv"] = "auto"
    """Format of the annotations, when it shall not be recognised by what is there."""
    images: str | None = None
    """Folder of the pictures of a COCO file, when they are not around it."""
    every: int = 1
    """Take every N-th frame of MOT sequences."""
    identities: bool = False
    """Name the crops by person and camera (MOT sequences are cameras), so that they are a labelled dataset."""
    least_size: tuple[int, int] = (64, 24)
    """Height and width in pixels that a box must have."""
    aspect: tuple[float, float] = (1.0, 5.0)
    """Smallest and largest height / width of a box."""
    margin: float = 0.0
    """Share of the box's height and width that is added on each side."""
    crowd: bool = False
    """Also take boxes that hold a crowd (COCO)."""
    truncated: bool = True
    """Also take boxes marked as truncated (VOC)."""
    difficult: bool = False
    """Also take boxes marked as difficult (VOC)."""
    least_visibility: float = 0.3
    """Visible share of the person that a box must have, where it is known (MOT)."""
    least_score: float = 0.5
    """Confidence that a detection must have, where it is known."""
    image_format: Literal["jpg", "png"] = "jpg"
    """File format of the crops."""
    workers: int = 0
    """Threads that cut crops; 0: one per processor."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("data", bool, "an annotation file or folder"),
                ("out", bool, "the folder to write"),
                ("every", lambda v: v > 0, "at least 1"),
                ("least_size", lambda v: min(v) > 0, "two positive numbers"),
                ("aspect", lambda v: 0 < v[0] <= v[1], "the smallest, then the largest, above 0"),
                ("margin", lambda v: v >= 0, "0 or more"),
                ("least_visibility", lambda v: 0 <= v <= 1, "0 to 1"),
                ("workers", lambda v: v >= 0, "0 or more"),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class CombineConfig:
    """Make one training set of several datasets; everybody keeps an identity and a camera of their own."""

    sources: tuple[str, ...] = ()
    """Datasets with labelled training images; PATH, or NAME=PATH or NAME:VARIANT=PATH to say the layout."""
    out: str = ""
    """JSON file for the combination; give it to `prsnet train`."""
    split_seed: int = 0
    """Seed of the split into halves, for layouts without a split of their own."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("sources", lambda v: len(v) > 1, "two or more datasets"),
                ("out", lambda v: v.endswith(".json"), "a file name ending in .json"),
            ],
        )

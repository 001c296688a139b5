"""Settings of the verbs that draw, and of the demo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prsnet.config import Check, check_fields


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """Show what a pre-trained network paints: original, masked, reconstruction, and both combined."""

    run: str = ""
    """Run folder of `prsnet pretrain`, or a checkpoint file."""
    images: tuple[str, ...] = ()
    """Image files, and folders of images."""
    out: str = ""
    """PNG file to write; a JSON file with masks and losses is written beside it."""
    count: int = 8
    """Images to show, 1 to 64; of more, that many are drawn by the seed."""
    mask_ratio: float | None = None
    """Share of the patches that is hidden; the training's when not given."""
    title: str = ""
    """A line above the picture."""
    seed: int = 0
    """Seed of the masks and of the choice of images."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def _checks(self) -> Iterable[Check]:
        return (
            ("run", bool, "a run folder or checkpoint"),
            ("images", bool, "image files or folders"),
            ("out", lambda v: v.lower().endswith(".png"), "a file name that ends in .png"),
            ("count", lambda v: 1 <= v <= 64, "1 to 64"),
            ("mask_ratio", lambda v: v is None or 0 < v < 1, "more than 0 and below 1"),
        )

    def __post_init__(self) -> None:
        check_fields(self, self._checks())


@dataclass(frozen=True, kw_only=True)
class RanksConfig:
    """Show queries with the gallery images that a model finds most alike, right and wrong ones marked."""

    run: str = ""
    """Run folder of `prsnet train`, or a checkpoint file."""
    data: str = ""
    """Dataset with query and gallery."""
    out: str = ""
    """A PNG file for one sheet, or a folder for one picture per query; JSON files are written beside."""
    queries: int = 8
    """Queries to show."""
    worst: bool = False
    """Show the queries of lowest average precision; without it, random ones."""
    answers: int = 10
    """Gallery images per query."""
    seed: int = 0
    """Seed of the choice of queries."""
    title: str = ""
    """A line above each picture."""
    flip: bool = False
    """Average each embedding with that of the mirrored image."""
    camera_filter: bool = True
    """Leave out gallery images of the query's own identity and camera."""
    layout: str = "auto"
    """Layout of the data folder, when it shall not be recognised by its content."""
    split_seed: int | None = None
    """Seed of the split into halves, for layouts without one; the training's own when not given."""
    batch_size: int = 64
    """Images per forward pass."""
    workers: int = 2
    """Threads that decode images."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def _checks(self) -> Iterable[Check]:
        return (
            ("run", bool, "a run folder or checkpoint"),
            ("data", bool, "a dataset folder or CSV file"),
            ("out", bool, "a PNG file or a folder"),
            ("queries", lambda v: 1 <= v <= 1000, "1 to 1000"),
            ("answers", lambda v: 1 <= v <= 100, "1 to 100"),
            ("batch_size", lambda v: v > 0, "at least 1"),
            ("workers", lambda v: v > 0, "at least 1"),
        )

    def __post_init__(self) -> None:
        check_fields(self, self._checks())


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Generate people, pre-train, train with and without it, evaluate, draw everything: a few minutes on a CPU."""

    out: str = "prsnet-demo"
    """Folder to write; a demo that was stopped goes on where it was."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        check_fields(self, [("out", bool, "the folder to write")])

"""Settings of the verbs that no layer below the command line needs as an object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from prsnet.config import Check, check_fields


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """Generate pedestrians seen by several cameras, in the Market-1501 layout."""

    out: str = ""
    """Folder to write."""
    identities: int = 60
    """People altogether."""
    test_fraction: float = 0.5
    """Share of the people that is kept for query and gallery."""
    cameras: int = 4
    """Cameras, each with its own view, light, blur and background."""
    images_per_camera: int = 4
    """Images of each person in each camera."""
    distractors: int = 0
    """Gallery images of people that nobody searches for."""
    junk: int = 0
    """Gallery images that evaluation leaves out."""
    image_size: tuple[int, int] = (256, 128)
    """Height and width in pixels."""
    image_format: Literal["jpg", "png"] = "jpg"
    """File format; png is lossless and larger."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same files."""

    def __post_init__(self) -> None:
        check_fields(self, [("out", bool, "the folder to write")])


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measure a model on a dataset: mAP, CMC, mINP under the benchmark protocol."""

    run: str = ""
    """Run folder of `prsnet train`, or a checkpoint file."""
    data: str = ""
    """Dataset with query and gallery; another than the training's measures generalisation."""
    out: str | None = None
    """JSON file for the report, with the AP of every query."""
    flip: bool = False
    """Average each embedding with that of the mirrored image."""
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    """Ranks at which the CMC is given."""
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
            ("ranks", lambda v: all(rank > 0 for rank in v), "ranks from 1"),
            ("batch_size", lambda v: v > 0, "at least 1"),
            ("workers", lambda v: v > 0, "at least 1"),
        )

    def __post_init__(self) -> None:
        check_fields(self, self._checks())

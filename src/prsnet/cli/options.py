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
    also: tuple[str, ...] = ()
    """Further datasets to measure on; a table of all of them comes last."""
    out: str | None = None
    """JSON file for the report, with the AP of every query."""
    html: str | None = None
    """HTML file for a page with charts and rank lists; the pictures and their data are written into a folder beside it.
    Verification is then measured, too."""
    flip: bool = False
    """Average each embedding with that of the mirrored image."""
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    """Ranks at which the CMC is given."""
    camera_filter: bool = True
    """Leave out gallery images of the query's own identity and camera."""
    rerank: bool = False
    """Also report the ranking after k-reciprocal re-ranking (k1 20, k2 6, lambda 0.3)."""
    centroids: bool = False
    """Also report retrieval of identities by their mean embedding, under its own name."""
    verification: bool = False
    """Also report ROC, equal error rate and similarity thresholds over all valid pairs."""
    embeddings: tuple[str, str] | None = None
    """Two .npz files, query and gallery, with vectors, pids and camids made by any model; no run and data then."""
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
            ("run", lambda v: bool(v) != bool(self.embeddings), "a run folder or checkpoint, or --embeddings instead"),
            ("data", lambda v: bool(v) != bool(self.embeddings), "a dataset, or --embeddings instead"),
            ("also", lambda v: not (v and self.embeddings), "nothing beside --embeddings"),
            ("ranks", lambda v: all(rank > 0 for rank in v), "ranks from 1"),
            ("batch_size", lambda v: v > 0, "at least 1"),
            ("workers", lambda v: v > 0, "at least 1"),
        )

    def __post_init__(self) -> None:
        check_fields(self, self._checks())


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare two models on the same queries: differences with intervals over identities."""

    first: str = ""
    """Run folder or checkpoint."""
    second: str = ""
    """Run folder or checkpoint to compare with it."""
    data: str | None = None
    """Dataset to measure both on; the one that the first was trained on when not given."""
    out: str | None = None
    """JSON file for the comparison."""
    level: float = 0.95
    """How often the intervals shall hold the true difference."""
    flip: bool = False
    """Average each embedding with that of the mirrored image."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("first", bool, "a run folder or checkpoint"),
                ("second", bool, "a run folder or checkpoint"),
                ("level", lambda v: 0.5 <= v < 1, "0.5 or more and below 1"),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Tell whether two images show the same person, by the threshold calibrated with the model."""

    images: tuple[str, ...] = ()
    """The two images."""
    model: str = ""
    """Run folder of `prsnet train`, or a checkpoint file."""
    fpr: float = 1e-3
    """Wished false positive rate; one of those that the model was calibrated for."""
    threshold: float | None = None
    """Similarity to accept from, -1..1, in place of the calibrated one."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            [
                ("images", lambda v: len(v) == 2, "two images"),
                ("model", bool, "a run folder or checkpoint"),
                ("fpr", lambda v: 0 < v < 1, "between 0 and 1"),
                ("threshold", lambda v: v is None or -1 <= v <= 1, "a similarity from -1 to 1"),
            ],
        )

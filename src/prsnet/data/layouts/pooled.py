"""Manifests as datasets: a pool for pre-training, a combination of several datasets for training."""

from __future__ import annotations

from pathlib import Path

from prsnet.data import combine, pool
from prsnet.data.layouts.declaration import Layout
from prsnet.data.manifest import manifest_kind
from prsnet.data.splits import Parts
from prsnet.types import ImageRecord


def load_pool(path: Path, seed: int) -> Parts:
    """Return all images as unlabelled training images; the facts keep the pool's leak guard."""
    images, facts = pool.read_pool(path)
    return Parts(tuple(ImageRecord(image) for image in images), facts=facts)


def load_combination(path: Path, seed: int) -> Parts:
    """Return the training part of a combination; the facts name its sources and their splits."""
    records, sources = combine.read_combination(path)
    rule = "training parts of several datasets; there is no query and no gallery"
    return Parts(records, facts={"sources": sources, "split": rule})


POOL = Layout(
    name="pool",
    expects="a pool made by `prsnet data pool`",
    fits=lambda path: manifest_kind(path) == pool.FORMAT,
    load=load_pool,
)

COMBINATION = Layout(
    name="combination",
    expects="a combination made by `prsnet data combine`",
    fits=lambda path: manifest_kind(path) == combine.FORMAT,
    load=load_combination,
)

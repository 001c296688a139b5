"""The manifest of a pool: images for pre-training, without labels."""

from __future__ import annotations

from pathlib import Path

from prsnet.data.layouts.declaration import Layout
from prsnet.data.pool import is_pool, read_pool
from prsnet.data.splits import Parts
from prsnet.types import ImageRecord


def load_pool(path: Path, seed: int) -> Parts:
    """Return all images as unlabelled training images; the facts keep the pool's leak guard."""
    images, facts = read_pool(path)
    return Parts(tuple(ImageRecord(image) for image in images), facts=facts)


POOL = Layout(name="pool", expects="a pool made by `prsnet data pool`", fits=is_pool, load=load_pool)

"""What a trained model has to beat: a histogram of colours, and the same network with random weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from prsnet.data.images import Pixels, read_image
from prsnet.embed import Embedder
from prsnet.models.presets import build_reid, resolve
from prsnet.rng import torch_stream
from prsnet.types import Dataset, Embeddings, ImageRecord

STRIPES = 6
"""Horizontal stripes of an image, from head to feet, that are counted apart."""
BINS = (8, 4, 4)
"""Bins of hue, saturation and value."""


def colour_histogram(image: Pixels) -> npt.NDArray[np.float32]:
    """Return the square roots of the shares of colours in each stripe of an image, as one vector of unit length.

    The cosine of two such vectors is the mean over the stripes of their Bhattacharyya coefficient.

    Args:
        image: (H, W, 3) uint8 RGB, at least as high as there are stripes.

    Returns:
        (STRIPES * 128,) float32.
    """
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.int64)
    hue, saturation, value = (hsv[..., channel] * count // 256 for channel, count in enumerate(BINS))
    number = (hue * BINS[1] + saturation) * BINS[2] + value
    colours = int(np.prod(BINS))
    shares = [
        np.bincount(stripe.ravel(), minlength=colours) / stripe.size for stripe in np.array_split(number, STRIPES)
    ]
    return np.sqrt(np.concatenate(shares) / STRIPES).astype(np.float32)


def histogram_embeddings(records: Sequence[ImageRecord]) -> Embeddings:
    """Return the colour histograms of labelled images as embeddings.

    Raises:
        DataError: an image cannot be read.
    """
    vectors = np.stack([colour_histogram(read_image(record.path)) for record in records])
    pids = np.array([-1 if record.pid is None else record.pid for record in records])
    camids = np.array([-1 if record.camid is None else record.camid for record in records])
    return Embeddings(vectors, pids, camids, tuple(str(record.path) for record in records))


def random_network(preset: str, image_size: tuple[int, int], *, seed: int) -> Embedder:
    """Return a network that has learnt nothing: fresh weights, drawn from ``seed``."""
    shape = resolve(preset, image_size=image_size)
    model = build_reid(shape, None, torch_stream(seed, "random-network"))
    return Embedder(model, image_size, device=torch.device("cpu"))


def embed_dataset(embedder: Embedder, dataset: Dataset) -> tuple[Embeddings, Embeddings]:
    """Return the embeddings of a dataset's query and gallery."""
    return embedder.embed(dataset.query), embedder.embed(dataset.gallery)

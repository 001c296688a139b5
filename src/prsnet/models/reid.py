"""The network for re-identification.

Source: docs/method.md; BNNeck: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person
Re-identification" (2019).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prsnet.models.encoder import Encoder
from prsnet.models.masking import hide

CLASSIFIER_DEVIATION = 0.001


class ReidFeatures(NamedTuple):
    """What one training step of the encoder gives.

    Attributes:
        raw: f, (B, embedding_dim), of the whole images.
        masked: m, (B, embedding_dim), of the same images masked; ``None`` where no mask was given.
    """

    raw: Tensor
    masked: Tensor | None


class Projection(nn.Linear):
    """The 1x1 convolution without bias, applied to averaged vectors: (B, width) -> (B, embedding_dim).

    Averaging and an unpadded 1x1 convolution commute, so this equals convolution first at a fraction of the cost.
    The weight is stored as a matrix (embedding_dim, width), without the convolution's two axes of length 1.
    """

    def __init__(self, width: int, embedding_dim: int) -> None:
        super().__init__(width, embedding_dim, bias=False)

    def init_own_parameters(self, generator: torch.Generator) -> None:
        """Draw the weight as a fresh 1x1 convolution's: uniform within +-1/sqrt(width)."""
        bound = self.in_features**-0.5
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)


class Classifier(nn.Linear):
    """The linear layer over the training identities, without bias: (B, embedding_dim) -> (B, num_classes)."""

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes, bias=False)

    def init_own_parameters(self, generator: torch.Generator) -> None:
        """Draw the weight: normal, deviation 0.001."""
        nn.init.normal_(self.weight, std=CLASSIFIER_DEVIATION, generator=generator)


class ReidModel(nn.Module):
    """Encoder, average, projection, BNNeck and (in training) a classifier.

    Args:
        encoder: images to pooled vectors.
        embedding_dim: numbers D in an embedding.
        patch: (height, width) in pixels of the patches that masks hide.
        num_classes: training identities C; ``None`` builds a network for inference, without the classifier.

    BNNeck's running statistics come from :meth:`logits` alone, and only raw features belong there.
    """

    def __init__(
        self, encoder: Encoder, embedding_dim: int, patch: tuple[int, int], num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.embedding_dim, self.patch, self.num_classes = embedding_dim, patch, num_classes
        self.encoder = encoder
        self.projection = Projection(encoder.width, embedding_dim)
        self.bnneck = nn.BatchNorm1d(embedding_dim)
        self.bnneck.bias.requires_grad_(False)
        self.classifier = None if num_classes is None else Classifier(embedding_dim, num_classes)

    def features(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return f, (B, D), in at least float32, of images (B, 3, H, W)."""
        pooled = self.encoder.pooled(images, generator)
        with full_precision(pooled.device):
            features: Tensor = self.projection(pooled.to(self.projection.weight.dtype))
        return features

    def forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        valid: Tensor | None = None,
    ) -> ReidFeatures:
        """Return the features of the images and, where a mask is given, of the same images masked.

        Args:
            images: (B, 3, H, W), normalised.
            mask: (B, N) bool, True = hidden, or ``None`` for raw features alone.
            generator: needed in training when the encoder drops paths.
            valid: (B,) bool; rows that are False are padding: they never enter the encoder and their features are 0.

        Raw and masked images pass the encoder as one batch. An encoder with BatchNorm gets them one after the other:
        each is normalised by its own batch, and the masked one leaves the running statistics as they are.
        """
        if valid is not None and not bool(valid.all()):
            found: ReidFeatures = self(images[valid], None if mask is None else mask[valid], generator)
            masked = None if found.masked is None else _spread(found.masked, valid)
            return ReidFeatures(_spread(found.raw, valid), masked)
        if mask is None:
            return ReidFeatures(self.features(images, generator), None)
        hidden = hide(images, mask, self.patch)
        if not self.encoder.uses_batch_statistics:
            raw, masked = self.features(torch.cat((images, hidden)), generator).chunk(2)
            return ReidFeatures(raw, masked)
        raw = self.features(images, generator)
        with untouched_statistics(self.encoder):
            return ReidFeatures(raw, self.features(hidden, generator))

    def logits(self, features: Tensor) -> Tensor:
        """Return classifier(BNNeck(f)), (n, C). In training this updates BNNeck's running statistics.

        Args:
            features: (n, D), raw features of valid rows only; over several processes, those of the whole batch.

        Raises:
            RuntimeError: the network was built without a classifier.
        """
        if self.classifier is None:
            raise RuntimeError("this network has no classifier: build it with num_classes")
        with full_precision(features.device):
            logits: Tensor = self.classifier(self.bnneck(features))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D) of unit length: BNNeck(f) of the whole images, L2-normalised.

        Raises:
            RuntimeError: the network is in training mode, where BNNeck would use the batch's own statistics.
        """
        if self.training:
            raise RuntimeError("embed() needs evaluation mode: call .eval() first")
        return F.normalize(self.bnneck(self.features(images)), dim=1)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast, where it is on, is off: one small product should not round to 8 bits."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


@contextlib.contextmanager
def untouched_statistics(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm layers in training mode normalise by the batch without updating their running statistics."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _spread(rows: Tensor, valid: Tensor) -> Tensor:
    """Put rows (n, D) at the places where ``valid`` (B,) is True, and 0 elsewhere: (B, D)."""
    places = valid.nonzero().squeeze(1)
    return rows.new_zeros(len(valid), rows.shape[1]).index_copy(0, places, rows)

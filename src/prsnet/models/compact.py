"""Exact short coordinates of embeddings.

An embedding of the method has D numbers (2048) but only ``width`` (768) degrees of freedom: before it is scaled to
unit length it is BNNeck(W a) = (s * W) a - s * mean, with a the averaged vector of the encoder, W the projection and s
the norm's scale. All embeddings of a model therefore lie in the space spanned by the columns of s * W and the vector
s * mean: at most width + 1 dimensions. Coordinates along an orthonormal basis of that space keep every length and
every cosine, so a gallery may store them instead (docs/method.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from prsnet.models.reid import ReidModel


@torch.no_grad()
def compact_basis(model: ReidModel) -> Tensor:
    """Return an orthonormal basis of the space of a model's embeddings, (D, r) float64, r = min(D, width + 1).

    It depends on the projection and on BNNeck's weight and running statistics, so it belongs to one checkpoint.
    """
    neck = model.bnneck
    mean, variance = neck.running_mean, neck.running_var
    if mean is None or variance is None:
        raise RuntimeError("BNNeck keeps no running statistics")
    scale = neck.weight.double() / (variance.double() + neck.eps).sqrt()
    directions = scale[:, None] * model.projection.weight.double()
    offset = neck.bias.double() - scale * mean.double()
    basis: Tensor = torch.linalg.qr(torch.cat((directions, offset[:, None]), dim=1))[0]
    return basis


def compact(embeddings: Tensor, basis: Tensor) -> Tensor:
    """Return coordinates (N, r) of embeddings (N, D): the same lengths and cosines in fewer numbers."""
    return embeddings @ basis.to(embeddings)


def expand(coordinates: Tensor, basis: Tensor) -> Tensor:
    """Return the embeddings (N, D) that coordinates (N, r) stand for: the inverse of :func:`compact`."""
    return coordinates @ basis.to(coordinates).T

"""A name for a model that no other model has: a hash of all that its embeddings depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from prsnet.models.reid import ReidModel

_NOT_USED_BY_EMBEDDING = ("classifier.", "num_batches_tracked")


@torch.no_grad()
def fingerprint(model: ReidModel, preprocessing: Mapping[str, Any]) -> str:
    """Return SHA-256 (64 hexadecimal digits) over the weights that embedding uses and over the preprocessing.

    The classifier takes no part: a model is the same with and without it. Names, shapes and types are hashed with the
    values, so that no two models share a byte stream.

    Args:
        model: the network, on any device.
        preprocessing: JSON-able facts of how an image becomes the network's input.
    """
    digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True, allow_nan=False).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if any(part in name for part in _NOT_USED_BY_EMBEDDING):
            continue
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

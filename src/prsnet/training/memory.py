"""Whether a training will fit, found out before it starts."""

from __future__ import annotations

import copy

import torch

from prsnet.data.loaders import free_memory
from prsnet.errors import InputError
from prsnet.models.encoder import Encoder


def activation_bytes(encoder: Encoder, batch: int, size: tuple[int, int]) -> int:
    """Return the memory in bytes that an encoder's forward pass keeps for its backward pass, without running it."""
    ghost = copy.deepcopy(encoder).to("meta").eval()
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    own = {parameter.untyped_storage()._cdata for parameter in ghost.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        result = ghost.pooled(torch.empty(batch, 3, *size, device="meta"))  # held until the sizes are added up
        total = sum(size_ for storage, size_ in kept.items() if storage not in own)
    del result
    return total


def require_memory(needed: int, device: torch.device, what: str, hint: str) -> None:
    """Raise InputError when ``what`` needs more bytes than the device has free."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > free:
        raise InputError(
            f"{what} needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on {device}", hint=hint
        )

"""One seed, many independent random streams.

Every random decision of the package draws from a generator made here. A stream is named by what it is for and by
where in the run it is used (``stream(seed, "mask", step)``), never by how many numbers were drawn before: that is
what lets a killed run resume bitwise without saving generator states, and lets every process of a distributed run
draw the same numbers without talking.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on ``seed`` and on every name, and on nothing else.

    Args:
        seed: the run's seed, any integer.
        names: the purpose of the stream and its place, e.g. ``("mask", step)``.

    The seed is the head of SHA-256 over the parts, so that it is the same on every platform and Python version.
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator (PCG64) for the stream ``names`` of ``seed``."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


def torch_stream(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator on ``device`` for the stream ``names`` of ``seed``."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))

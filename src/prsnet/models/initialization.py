"""Initial weights, drawn from a generator that is passed in.

Source: docs/method.md (the scheme of ConvNeXt, Liu et al. 2022).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import nn

WEIGHT_DEVIATION = 0.02


@runtime_checkable
class OwnParameters(Protocol):
    """A module that holds parameters of its own beside those of its children, and knows how they begin."""

    def init_own_parameters(self, generator: torch.Generator) -> None:
        """Overwrite those parameters."""


@torch.no_grad()
def init_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Overwrite every parameter and statistic of a module, in place.

    Linear and convolution weights: normal, deviation 0.02, cut at +-2 as in the reference code of ConvNeXt (that is,
    hardly ever). Biases 0; norms the identity, their statistics as if nothing had been seen. Modules are visited in
    the order in which they are registered, so the same generator state gives the same weights.

    Raises:
        TypeError: the module holds a parameter that none of these rules covers.
    """
    covered: set[int] = set()
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.trunc_normal_(part.weight, std=WEIGHT_DEVIATION, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
            part.reset_parameters()
        elif not isinstance(part, OwnParameters):
            continue
        if isinstance(part, OwnParameters):
            part.init_own_parameters(generator)
        covered.update(id(parameter) for parameter in part.parameters(recurse=False))
    missed = [name for name, parameter in module.named_parameters() if id(parameter) not in covered]
    if missed:
        raise TypeError(f"no rule to initialise {', '.join(missed)}")

"""Center loss: pulls each feature to a learned centre of its identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prsnet.errors import InputError
from prsnet.losses.padding import full_precision, mean_where, valid_rows


def center_loss(features: Tensor, pids: Tensor, centres: Tensor, valid: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each feature to its identity's centre, averaged over the valid rows.

    Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition" (ECCV 2016), equation 2, without
    its factor of one half and with the mean in place of the sum.

    Args:
        features: (B, D); float16 and bfloat16 are computed in float32.
        pids: (B,) int64 class indices 0..C-1; anything in padded rows.
        centres: (C, D).
        valid: (B,) bool; False marks padding, whose content does not matter.

    Returns:
        A scalar >= 0; 0 (still in the graph) when no row is valid.

    Raises:
        InputError: if the shapes do not fit.
    """
    rows = valid_rows(features, pids, valid)
    if centres.ndim != 2 or centres.shape[1] != rows.shape[1]:
        raise InputError(
            f"center loss: centres of shape {tuple(centres.shape)}, features of {rows.shape[1]} numbers",
            hint="give centres of shape (identities, feature width)",
        )
    own = full_precision(centres)[torch.where(valid, pids, torch.zeros_like(pids))]
    return mean_where((rows - own).square().sum(dim=1), valid)


class CenterLoss(nn.Module):
    """The centres of all training identities, and the weighted center loss to them.

    One ``backward()`` of :meth:`forward` gives the features the gradient of ``weight`` times the loss, and the centres
    that of the loss itself. The centres so need no rescaling before their own ``SGD(module.parameters(), lr=0.5)``:
    keep them out of the network's optimiser and of its gradient clipping. What multiplies the whole loss (gradient
    accumulation, a gradient scaler) acts on both alike.

    Args:
        num_classes: C, the number of training identities.
        dim: D, the width of the features.
        generator: source of the centres' standard normal initial values; they lie on its device.
        weight: of the loss in the training objective.

    Attributes:
        centres: (C, D) float32 parameter.
    """

    def __init__(self, num_classes: int, dim: int, generator: torch.Generator, *, weight: float = 5e-4) -> None:
        super().__init__()
        self.weight = weight
        self.centres = nn.Parameter(torch.randn(num_classes, dim, generator=generator, device=generator.device))

    def forward(self, features: Tensor, pids: Tensor, valid: Tensor) -> Tensor:
        """Return ``weight * center_loss(features, pids, centres, valid)``, a scalar; see the class for its gradients.

        Raises:
            InputError: if the shapes do not fit.
        """
        to_features = self.weight * center_loss(features, pids, self.centres.detach(), valid)
        to_centres = center_loss(features.detach(), pids, self.centres, valid)
        # The second term is 0 in value: it only carries the centres' gradient.
        return to_features + (to_centres - to_centres.detach())

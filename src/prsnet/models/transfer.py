"""Weights from one network to another, with an account of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prsnet.errors import CheckpointError
from prsnet.models.autoencoder import Autoencoder
from prsnet.models.encoder import Encoder
from prsnet.models.reid import ReidModel

_NAMED_IN_FULL = 3


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A key that both sides have, but not in the same form.

    Attributes:
        key: its name.
        expected: shape and kind in the network, e.g. ``"float (96, 3, 4, 4)"``.
        found: the same of the weights given.
    """

    key: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every key.

    Attributes:
        taken: keys whose tensors fit.
        missing: keys of the network that the weights lack.
        left_over: keys of the weights that the network lacks.
        mismatched: keys of both whose shapes or kinds differ.
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]

    def summary(self) -> str:
        """Return one line for a log: counts, and the names of what was not taken."""
        parts = [f"{len(self.taken)} taken"]
        for name, keys in (
            ("missing", self.missing),
            ("left over", self.left_over),
            ("mismatched", tuple(mismatch.key for mismatch in self.mismatched)),
        ):
            parts.append(f"{len(keys)} {name}" + (f" ({_named(keys)})" if keys else ""))
        return ", ".join(parts)


def compare_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> LoadReport:
    """Return how the weights ``state`` would fill a network whose own state is ``expected``; changes nothing."""
    shared = [key for key in expected if key in state]
    mismatched = tuple(
        Mismatch(key, _form(expected[key]), _form(state[key]))
        for key in shared
        if _form(expected[key]) != _form(state[key])
    )
    bad = {mismatch.key for mismatch in mismatched}
    return LoadReport(
        taken=tuple(key for key in shared if key not in bad),
        missing=tuple(key for key in expected if key not in state),
        left_over=tuple(key for key in state if key not in expected),
        mismatched=mismatched,
    )


def encoder_state(model: Autoencoder | ReidModel) -> dict[str, Tensor]:
    """Return the encoder's weights without any prefix: what :func:`load_encoder` takes. Tensors are shared."""
    return dict(model.encoder.state_dict())


def encoder_part(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Split a whole network's state into its encoder's (prefix cut off) and the names of the rest.

    Raises:
        CheckpointError: no key begins with ``encoder.``.
    """
    prefix = "encoder."
    inside = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    if not inside:
        raise CheckpointError("these weights hold no encoder", hint="give a checkpoint of `pretrain` or `train`")
    return inside, tuple(key for key in state if not key.startswith(prefix))


def load_encoder(model: Autoencoder | ReidModel | Encoder, state: Mapping[str, Tensor]) -> LoadReport:
    """Fill an encoder, all of it, and report.

    Args:
        model: an encoder or a network that holds one.
        state: weights named as in the encoder itself. Keys that the encoder lacks are reported as left over.

    Raises:
        CheckpointError: a key is missing, has another shape or kind, or holds a number that is not finite. The
            network is then unchanged.
    """
    encoder = model if isinstance(model, Encoder) else model.encoder
    return _load(encoder, state)


def load_model(model: Autoencoder | ReidModel, state: Mapping[str, Tensor]) -> LoadReport:
    """Fill a whole network, and report.

    Args:
        model: the network.
        state: weights named as in its own state. They must match key by key, except that a ReID network built
            without a classifier leaves the classifier's weights over.

    Raises:
        CheckpointError: as :func:`load_encoder`, or keys are left over. The network is then unchanged.
    """
    report = compare_keys(model.state_dict(), state)
    headless = isinstance(model, ReidModel) and model.classifier is None
    unknown = tuple(key for key in report.left_over if not (headless and key.startswith("classifier.")))
    if unknown:
        raise CheckpointError(
            f"weights that the network has no place for: {_named(unknown)}",
            hint="these weights belong to another architecture",
        )
    return _load(model, state)


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    report = compare_keys(module.state_dict(), state)
    if report.mismatched:
        first = report.mismatched[0]
        more = f" (and {len(report.mismatched) - 1} more)" if len(report.mismatched) > 1 else ""
        raise CheckpointError(
            f"weights {first.key!r}: expected {first.expected}, found {first.found}{more}",
            hint="the weights belong to another preset or image size",
        )
    if report.missing:
        raise CheckpointError(
            f"weights lack {len(report.missing)} of {len(report.taken) + len(report.missing)} keys: "
            f"{_named(report.missing)}",
            hint="the weights belong to another architecture, or only to a part of this one",
        )
    for key in report.taken:
        if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise CheckpointError(f"weights {key!r} are not finite", hint="use an earlier checkpoint")
    module.load_state_dict({key: state[key] for key in report.taken}, strict=True)
    return report


def _form(tensor: Tensor) -> str:
    kind = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {tuple(tensor.shape)}"


def _named(keys: tuple[str, ...]) -> str:
    shown = ", ".join(keys[:_NAMED_IN_FULL])
    return f"{shown} and {len(keys) - _NAMED_IN_FULL} more" if len(keys) > _NAMED_IN_FULL else shown

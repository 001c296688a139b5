"""What a run needs to continue bitwise: weights, moving average, optimisers and counters, in one safetensors file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prsnet.checkpoint import load_checkpoint, save_checkpoint
from prsnet.errors import CheckpointError, ConfigError

KIND = "training-state"


@dataclass
class Counters:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        epoch: epoch that the next step belongs to.
        done_in_epoch: steps of that epoch that are done.
        best: best score so far, ``None`` before the first evaluation.
        best_epoch: epochs done when it was reached.
    """

    step: int = 0
    epoch: int = 0
    done_in_epoch: int = 0
    best: float | None = None
    best_epoch: int | None = None


def save_state(
    path: Path,
    model: nn.Module,
    average: Mapping[str, Tensor] | None,
    optimizers: Mapping[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    counters: Counters,
    images: str,
) -> None:
    """Write everything to ``path`` atomically; ``images`` says what :func:`fingerprint` says of the training images."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors.update({f"average.{name}": value for name, value in (average or {}).items()})
    plain: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        plain[name] = _split_optimizer(name, optimizer, tensors)
    description = {"kind": KIND, "images": images, "counters": asdict(counters), "optimizers": plain}
    description["scaler"] = scaler.state_dict()
    save_checkpoint(path, tensors, description, sidecar=False)


def restore_state(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor] | None,
    optimizers: Mapping[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    images: str,
) -> Counters:
    """Load what :func:`save_state` wrote into the given objects; return the counters.

    Raises:
        ConfigError: the run was trained on other images.
        CheckpointError: the file is broken or belongs to another model or other optimisers.
    """
    tensors, description = load_checkpoint(path, kind=KIND)
    if description.get("images") != images:
        raise ConfigError(
            f"{path}: the run has other training images ({description.get('images')} then, {images} now)",
            hint="resume with the images that the run began with, or start another run",
        )
    try:
        model.load_state_dict(_under(tensors, "model."))
        if average is not None:
            saved = _under(tensors, "average.")
            for name, value in average.items():
                value.copy_(saved[name])
        for name, optimizer in optimizers.items():
            plain = description["optimizers"][name]
            state = _join_optimizer(_under(tensors, f"optimizer.{name}."), plain)
            optimizer.load_state_dict(state)
        scaler.load_state_dict(description["scaler"])
        return Counters(**description["counters"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: does not fit this run: {reason}", hint="start another run in another --out"
        ) from error


def fingerprint(paths: Sequence[Path]) -> str:
    """Return how many images these are and a digest of their names below their common folder, which may move."""
    parents = [str(path.parent) for path in paths]
    top = os.path.commonpath(parents) if parents else ""
    names = "\n".join(os.path.relpath(path, top) for path in paths)
    return f"{len(paths)} images, {hashlib.sha256(names.encode(errors='surrogateescape')).hexdigest()[:12]}"


def _split_optimizer(name: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put an optimiser's tensors into ``tensors``; return the rest of its state."""
    state = optimizer.state_dict()
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if value is not None:
                tensors[f"optimizer.{name}.{index}.{key}"] = torch.as_tensor(value)
    return {"groups": [dict(group) for group in state["param_groups"]]}


def _join_optimizer(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": plain["groups"]}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

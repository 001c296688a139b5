"""What a run needs to continue bitwise: weights, moving average, optimisers and counters, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prsnet.checkpoint import load_checkpoint, save_checkpoint
from prsnet.errors import CheckpointError

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
) -> None:
    """Write everything to ``path`` atomically."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors.update({f"average.{name}": value for name, value in (average or {}).items()})
    plain: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        plain[name] = _split_optimizer(name, optimizer, tensors)
    description = {"kind": KIND, "counters": asdict(counters), "optimizers": plain, "scaler": scaler.state_dict()}
    save_checkpoint(path, tensors, description, sidecar=False)


def restore_state(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor] | None,
    optimizers: Mapping[str, torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
) -> Counters:
    """Load what :func:`save_state` wrote into the given objects; return the counters.

    Raises:
        CheckpointError: the file is broken or belongs to another model or other optimisers.
    """
    tensors, description = load_checkpoint(path, kind=KIND)
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

"""Where the package computes, and in which number format."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch

from prsnet.config import Precision
from prsnet.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` means; under torchrun each process has its own.

    Raises:
        ConfigError: unknown, or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: {name!r} is not on this machine", hint="use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    return device


def choose_precision(wanted: Precision, device: torch.device) -> Precision:
    """Return the number format that ``auto`` means on ``device``; fp16 is for GPUs only."""
    if wanted == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError("precision: fp16 needs a GPU", hint="use --precision bf16 or fp32 on a CPU")
    return wanted


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return the loss scaler that fp16 needs; it does nothing for the other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")

"""Several processes that train as one: the same losses and gradients as a single process has on the global batch.

Every process draws the random numbers of the global batch and works on its own rows. Features are gathered, and every
process computes the same loss over the global batch. The gradient that flows back through the gather is multiplied by
the number of processes: DistributedDataParallel then averages, which gives an encoder the sum of the processes' parts
and a head, whose gradient is the same everywhere, that gradient once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prsnet.errors import ConfigError

PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one, which alone evaluates and decodes held-out images."""


@dataclass(frozen=True)
class Processes:
    """This process's place among those of the run."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """Return this process's part of ``total`` rows, a multiple of the process count."""
        part = total // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def require_divisible(self, total: int, what: str) -> None:
        """Raise ConfigError unless ``total`` divides evenly among the processes."""
        if total % self.count:
            raise ConfigError(
                f"{what} {total} cannot be shared evenly by {self.count} processes",
                hint=f"use a multiple of {self.count}",
            )

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            dist.barrier()


def join_processes(device: torch.device) -> Processes:
    """Join the process group that torchrun announces by its environment, or stand alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else every process's collectives would meet on the first GPU
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return Processes(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))


def leave_processes() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes) -> Tensor:
        ctx.processes, ctx.part = processes, len(rows)
        parts = [torch.empty_like(rows) for _ in range(processes.count)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        start = ctx.processes.rank * ctx.part
        return gradients[0][start : start + ctx.part] * ctx.processes.count, None


def gather(rows: Tensor, processes: Processes) -> Tensor:
    """Return the rows of all processes in order of rank, differentiable as the module's docstring says."""
    if processes.count == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows, processes)  # type: ignore[no-untyped-call]
    return gathered


def averaged(figures: dict[str, float], processes: Processes, device: torch.device) -> dict[str, float]:
    """Return the mean over the processes of each figure; all must have the same names in the same order."""
    if processes.count == 1:
        return figures
    values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(figures, (values / processes.count).tolist(), strict=True))


def any_process(flag: bool, processes: Processes, device: torch.device) -> bool:
    """Return whether the flag is set on any process; all must ask at the same place."""
    if processes.count == 1:
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value)
    return bool(value > 0)

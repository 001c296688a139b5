"""What both trainings need around their task: device, processes, run folder, images, initial weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from prsnet.checkpoint import find_checkpoint, load_checkpoint
from prsnet.config import Precision, RunConfig
from prsnet.data.images import MEAN, STD
from prsnet.data.loaders import ImageStore, free_memory
from prsnet.devices import choose_device, choose_precision
from prsnet.errors import CheckpointError
from prsnet.models.encoder import Encoder
from prsnet.models.transfer import encoder_part, load_encoder
from prsnet.rng import torch_stream
from prsnet.runs import RunFolder, check_out, open_run
from prsnet.training.distributed import Processes, join_processes, leave_processes
from prsnet.training.memory import activation_bytes, require_memory
from prsnet.types import Dataset


@dataclass
class Session:
    """Where and how a training runs.

    Attributes:
        verb: pretrain or train.
        device: of this process.
        precision: the resolved number format.
        processes: this process's place.
        messages: lines for the log, collected before there is one.
    """

    verb: str
    device: torch.device
    precision: Precision
    processes: Processes
    messages: list[str] = field(default_factory=list)

    def warn(self, lines: Sequence[str]) -> None:
        """Remember lines for the log."""
        self.messages.extend(lines)

    def require_room(self, encoder: Encoder, images: int, size: tuple[int, int], flag: str) -> None:
        """Raise InputError when the encoder's activations for a batch will not fit into the device's memory."""
        own = images // self.processes.count
        needed = activation_bytes(encoder, 2, size) * own // 2
        if self.precision in ("bf16", "fp16"):
            needed //= 2
        what = f"a batch of {own} images of {size[0]}x{size[1]}"
        require_memory(needed, self.device, what, f"use a smaller {flag} with --accumulate, or a smaller preset")

    def note_batch_statistics(self, encoder: Encoder) -> None:
        """Remember a warning where several processes cannot give the losses of one."""
        if self.processes.count > 1 and encoder.uses_batch_statistics:
            line = "the encoder's BatchNorm sees each process's images alone: the losses are not those of one process"
            self.warn([line])

    def store(self, paths: Sequence[Path], size: tuple[int, int], config: RunConfig) -> ImageStore:
        """Return the images, decoded at once when they fit into the memory they may take."""
        memory = config.cache_gb * 1e9 if config.cache_gb is not None else free_memory() / 2
        memory /= self.processes.count
        shown = None if config.quiet or not self.processes.is_first else decoding_bar(len(paths))
        return ImageStore(paths, size, workers=config.workers, memory=memory, progress=shown)

    def path_generator(self, config: RunConfig, step: int, micro: int) -> torch.Generator | None:
        """Return the generator of dropped paths, on the device, or None when no path is dropped."""
        if not config.drop_path:
            return None
        return torch_stream(config.seed, "paths", step, micro, self.processes.rank, device=self.device)

    def preprocessing(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return how images are prepared, for checkpoints."""
        return {"height": size[0], "width": size[1], "mean": list(MEAN), "std": list(STD), "resize": "bicubic"}

    def start(self, config: RunConfig) -> RunFolder:
        """Open the run folder (the first process) and log what was remembered."""
        settings = {"verb": self.verb, **dataclasses.asdict(config)}
        if self.processes.is_first:
            run = open_run(config.out, settings, resume=config.resume)
            for line in self.messages:
                run.log(line)
        self.processes.barrier()
        return RunFolder(Path(config.out))

    def finish(self, run: RunFolder) -> None:
        """Draw the run's curves and say where everything is."""
        if self.processes.is_first:
            from prsnet.figures import draw_curves

            draw_curves(run.path)
            run.log(f"done: {run.path}")
        self.processes.barrier()


@contextlib.contextmanager
def open_session(config: RunConfig, verb: str) -> Iterator[Session]:
    """Choose device and precision, join the other processes, check the run folder, and leave them at the end."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    processes = join_processes(device)
    try:
        if processes.is_first:
            check_out(config.out, resume=config.resume)
        yield Session(verb, device, precision, processes)
    finally:
        leave_processes()


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint says of its data: the dataset's facts, its place as seen from anywhere."""
    facts = {"name": dataset.name, **dataset.facts}
    return {**facts, "root": str(Path(facts["root"]).resolve())} if facts.get("root") else facts


def take_encoder(encoder: Encoder, init: str | None, session: Session) -> dict[str, Any]:
    """Load the encoder's weights from a run or checkpoint; return what is to be remembered of their origin.

    Raises:
        CheckpointError: not a checkpoint, or one of another architecture.
    """
    if init is None:
        return {"from": "random"}
    file = find_checkpoint(init)
    tensors, description = load_checkpoint(file)
    if description.get("kind") not in ("autoencoder", "reid"):
        raise CheckpointError(
            f"{file}: holds {description.get('kind')!r}, expected an 'autoencoder' or a 'reid' model",
            hint="give a run of `prsnet pretrain` or `prsnet train`",
        )
    weights, rest = encoder_part(tensors)
    try:
        report = load_encoder(encoder, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error.message}", hint=error.hint) from error
    session.warn([f"encoder from {file}: {report.summary()}; not of the encoder: {len(rest)}"])
    return {"from": str(init), "kind": description["kind"], "provenance": description.get("provenance", {})}


def decoding_bar(total: int) -> Callable[[int, int], None]:
    """Return a progress callback that shows a bar on a terminal."""
    bar = tqdm(total=total, unit="image", desc="decoding", disable=None, leave=False)

    def show(done: int, _: int) -> None:
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show


def encoder_groups(
    encoder: nn.Module, whole: nn.Module, rate: float | None, encoder_rate: float | None
) -> list[dict[str, Any]]:
    """Return optimiser groups of ``whole``: its encoder apart when it has a learning rate of its own."""
    trained = [parameter for parameter in whole.parameters() if parameter.requires_grad]
    if encoder_rate is None or encoder_rate == rate:
        return [{"params": trained, "peak": rate}]
    inside = {id(parameter) for parameter in encoder.parameters()}
    return [
        {"params": [p for p in trained if id(p) in inside], "peak": encoder_rate},
        {"params": [p for p in trained if id(p) not in inside], "peak": rate},
    ]

"""The only training loop: both trainings are a :class:`Task` that it drives.

The loop owns epochs, steps, accumulation, mixed precision, the moving average, saving, resuming and reporting. A task
owns the data, the model, the losses and the learning rates. Whatever is random in a step is a function of the seed and
the step's number, so the loop saves no generator and a resumed run is bitwise the run that was never stopped.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from prsnet.checkpoint import save_checkpoint
from prsnet.config import RunConfig
from prsnet.data.loaders import ImageStore, Rows
from prsnet.devices import autocast, make_scaler
from prsnet.errors import InputError, TrainingError
from prsnet.runs import RunFolder
from prsnet.training.distributed import Processes, any_process, averaged
from prsnet.training.reporting import Reporter
from prsnet.training.state import Counters, fingerprint, restore_state, save_state
from prsnet.training.stopping import Stopped, StopSignals

SAVE_INTERVAL = 30.0
"""Seconds between saves of the state at ends of epochs, so that short epochs do not spend their time on the disk."""

LARGEST = 3.4e38
"""What a gradient norm that is not finite is written as: JSON has no infinity."""


class Task(Protocol):
    """What the loop trains.

    Attributes:
        step_module: called with the result of :meth:`inputs`, returns named scalars, ``"loss"`` among them.
        model: the module whose weights are saved and averaged; a part of ``step_module``, or it.
        store: the training images.
        optimizers: by name; all step together.
        clipped: the parameters whose gradients count for ``clip_norm``.
        score_name: the entry of :meth:`evaluate` that chooses the best checkpoint; larger is better.
    """

    score_name: str

    @property
    def step_module(self) -> nn.Module: ...  # noqa: D102 - see the attributes above

    @property
    def model(self) -> nn.Module: ...  # noqa: D102

    @property
    def store(self) -> ImageStore: ...  # noqa: D102

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]: ...  # noqa: D102

    @property
    def clipped(self) -> Sequence[nn.Parameter]: ...  # noqa: D102

    def plan(self, epoch: int) -> list[Rows]:
        """Return the batches of an epoch, as rows of the store, of all processes together."""
        ...

    def own_rows(self, rows: Rows) -> Rows:
        """Return this process's part of a batch."""
        ...

    def inputs(self, images: Tensor, rows: Rows, *, step: int, micro: int) -> tuple[Any, ...]:
        """Return the arguments of ``step_module`` for a batch; ``images`` are those of :meth:`own_rows`, uint8."""
        ...

    def set_learning_rates(self, step: int) -> float:
        """Set the optimisers' learning rates for a step; return the main one."""
        ...

    def evaluate(self, epoch: int) -> dict[str, float] | None:
        """Return figures on held-out data after ``epoch`` epochs, or None when none are due."""
        ...

    def description(self) -> dict[str, Any]:
        """Return the description that checkpoints of the model carry."""
        ...


class Loop:
    """Drives a task from wherever it stands to its last epoch.

    Args:
        task: what to train.
        run: where to write.
        config: the resolved settings.
        device: where the task's modules are.
        processes: this process's place.
    """

    def __init__(
        self, task: Task, run: RunFolder, config: RunConfig, *, device: torch.device, processes: Processes
    ) -> None:
        assert config.epochs is not None, "the loop takes resolved settings"
        self.task, self.run, self.config = task, run, config
        self.epochs: int = config.epochs
        self.device, self.processes = device, processes
        self.counters = Counters()
        self.scaler = make_scaler(config.precision, device)
        self.average = _copy_of(task.model) if config.ema else None
        self._called = self._wrap(task.step_module)
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._rate = 0.0

    def fit(self) -> Counters:
        """Train to the last epoch; return where it ended.

        Raises:
            TrainingError: a loss that is not finite; the message names step, learning rate and last good checkpoint.
            KeyboardInterrupt: at the end of the step, after the state was saved; at once when asked twice, unsaved.
        """
        self._resume()
        steps_per_epoch = math.ceil(len(self.task.plan(0)) / self.config.accumulate)
        self.reporter = Reporter(
            self.run, self.config, self.counters.step, steps_per_epoch * self.epochs, self.processes
        )
        try:
            with StopSignals(patience=1.0 if self.processes.count > 1 else 0.0) as self._stop:
                for epoch in range(self.counters.epoch, self.epochs):
                    self._run_epoch(epoch)
        except Stopped:
            self._save_state()
            self.reporter.say(f"interrupted at step {self.counters.step}; go on with --resume")
            raise
        finally:
            self.reporter.close()
        self._finish()
        return self.counters

    def _run_epoch(self, epoch: int) -> None:
        steps = _chunks(self.task.plan(epoch), self.config.accumulate)
        left = steps[self.counters.done_in_epoch :]
        images = self.task.store.in_order([self.task.own_rows(rows) for chunk in left for rows in chunk])
        for chunk in left:
            self._train_step(chunk, images)
            self.counters.step += 1
            self.counters.done_in_epoch += 1
            if chunk is not left[-1]:  # after the last step, the end of the epoch comes first
                if self.config.save_every and self.counters.step % self.config.save_every == 0:
                    self._save_state()
                self._stop_if_asked()
        self.counters.epoch, self.counters.done_in_epoch = epoch + 1, 0
        self._end_epoch(epoch + 1)

    def _stop_if_asked(self) -> None:
        """Raise Stopped on all processes alike when one of them got a signal."""
        if any_process(self._stop.asked, self.processes, self.device):
            raise Stopped

    def _train_step(self, chunk: Sequence[Rows], images: Iterator[Tensor]) -> None:
        step = self.counters.step
        rate = self._rate = self.task.set_learning_rates(step)
        self.task.step_module.train()
        for optimizer in self.task.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        figures: dict[str, float] = {}
        for micro, rows in enumerate(chunk):
            for name, value in self._backward(next(images), rows, micro, len(chunk)).items():
                figures[name] = figures.get(name, 0.0) + value / len(chunk)
        for optimizer in self.task.optimizers.values():
            self.scaler.unscale_(optimizer)
        if self.config.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.task.clipped, self.config.clip_norm)
            value = float(norm)  # not finite while fp16 looks for its scale
            figures["gradient_norm"] = value if math.isfinite(value) else LARGEST
        for optimizer in self.task.optimizers.values():
            self.scaler.step(optimizer)
        self.scaler.update()
        self._update_average()
        self.reporter.step(step, self.counters.epoch, figures, rate, images=sum(len(rows) for rows in chunk))

    def _backward(self, images: Tensor, rows: Rows, micro: int, parts: int) -> dict[str, float]:
        """Add one batch's gradients; return its losses."""
        hold_back = isinstance(self._called, DistributedDataParallel) and micro < parts - 1
        inputs = self.task.inputs(images.to(self.device, non_blocking=True), rows, step=self.counters.step, micro=micro)
        with self._called.no_sync() if hold_back else contextlib.nullcontext():
            try:
                with autocast(self.config.precision, self.device):
                    losses: dict[str, Tensor] = self._called(*inputs)
                own = {name: float(value.detach()) for name, value in losses.items()}
                values = averaged(own, self.processes, self.device)  # so that all processes stop together
                if not all(math.isfinite(value) for value in values.values()):
                    named = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                    raise self._not_finite("the loss is", self.counters.step + 1, f" ({named})")
                self.scaler.scale(losses["loss"] / parts).backward()  # type: ignore[no-untyped-call]
            except torch.cuda.OutOfMemoryError as error:
                raise InputError(
                    f"a batch of {len(rows)} images does not fit into the memory of {self.device}",
                    hint="use a smaller batch with --accumulate, or --precision bf16",
                ) from error
        return values

    def _not_finite(self, what: str, step: int, values: str) -> TrainingError:
        last = self.run.checkpoints / "last.safetensors"
        return TrainingError(
            f"{what} not finite at step {step}, learning rate {self._rate:.3g}{values}; "
            f"last good checkpoint: {last if last.exists() else 'none yet'}",
            hint="start anew with a lower --learning-rate, --clip-norm 1 or --precision fp32; --init takes checkpoints",
        )

    def _require_finite_weights(self) -> None:
        """A gradient can overflow though the loss did not: such weights are neither evaluated nor saved."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.task.step_module.parameters()):
            raise self._not_finite("the weights are", self.counters.step, "")

    def _end_epoch(self, epoch: int) -> None:
        self._require_finite_weights()
        figures = None
        if self.processes.is_first:
            with self._averaged_weights():
                figures = self.task.evaluate(epoch)
                if figures is not None:
                    self._keep_if_best(epoch, figures)
                if self.config.keep_every and epoch % self.config.keep_every == 0:
                    self._save_model(f"epoch-{epoch:04d}")
        self.processes.barrier()
        self.reporter.epoch(epoch, self.counters, figures)
        every = self.config.save_every
        is_due = self.counters.step % every == 0 if every else time.monotonic() - self._saved_at >= SAVE_INTERVAL
        if is_due or epoch == self.epochs:
            self._save_state()
        if epoch < self.epochs:
            self._stop_if_asked()

    def _keep_if_best(self, epoch: int, figures: Mapping[str, float]) -> None:
        score = figures[self.task.score_name]
        if self.counters.best is None or score > self.counters.best:
            self.counters.best, self.counters.best_epoch = score, epoch
            self._save_model("best")

    def _save_state(self) -> None:
        if self.processes.is_first and self._saved_step != self.counters.step:
            self._require_finite_weights()
            with self._averaged_weights():
                self._save_model("last")
            parts = self.task.step_module, self.average, self.task.optimizers, self.scaler
            save_state(self.run.state, *parts, self.counters, fingerprint(self.task.store.paths))
            self._saved_step = self.counters.step
        self._saved_at = time.monotonic()

    def _save_model(self, name: str) -> None:
        description = self.task.description()
        description["trained"] = {"epochs": self.counters.epoch, "steps": self.counters.step, "of": self.epochs}
        save_checkpoint(self.run.checkpoints / f"{name}.safetensors", self.task.model.state_dict(), description)

    def _finish(self) -> None:
        """Without held-out data nothing chose a best checkpoint: the last one is it."""
        if self.processes.is_first and self.counters.best is None:
            with self._averaged_weights():
                self._save_model("best")
        self.processes.barrier()

    def _resume(self) -> None:
        if self.config.resume and self.run.state.exists():
            parts = self.task.step_module, self.average, self.task.optimizers, self.scaler
            self.counters = restore_state(self.run.state, *parts, fingerprint(self.task.store.paths))
            self._saved_step = self.counters.step
        if self.processes.is_first:
            self.run.forget_after(self.counters.step)

    def _wrap(self, module: nn.Module) -> Any:
        called: Any = module
        if self.config.compile:
            called = torch.compile(module)
        if self.processes.count > 1:
            called = DistributedDataParallel(called, broadcast_buffers=False)
        return called

    def _update_average(self) -> None:
        if self.average is None or self.config.ema is None:
            return
        for name, value in self.task.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - self.config.ema)
            else:
                self.average[name].copy_(value)

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Let the model hold the moving average, where there is one, for evaluation and saving."""
        if self.average is None:
            yield
            return
        own = _copy_of(self.task.model)
        self.task.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.task.model.load_state_dict(own)


def _copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _chunks(plan: Sequence[Rows], size: int) -> list[Sequence[Rows]]:
    return [plan[start : start + size] for start in range(0, len(plan), size)]

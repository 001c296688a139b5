"""What a person sees of a run: a bar with an ETA on a terminal, plain lines in a log, curves in TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from prsnet.config import RunConfig
from prsnet.runs import RunFolder
from prsnet.training.distributed import Processes
from prsnet.training.state import Counters

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LINE_INTERVAL = 10.0
"""Seconds between log lines about epochs without an evaluation."""


class Reporter:
    """Writes metrics, log, bar and TensorBoard events of one process of a run; only the first process writes.

    Args:
        run: where to write.
        config: the resolved settings.
        done: steps done before, in a resumed run.
        total: steps of the whole run.
        processes: this process's place.
    """

    def __init__(self, run: RunFolder, config: RunConfig, done: int, total: int, processes: Processes) -> None:
        self.run, self.silent = run, not processes.is_first
        self.started, self.first_step, self.total = time.monotonic(), done, total
        self.bar: tqdm[Any] | None = None
        if not self.silent and not config.quiet and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, file=sys.stderr)
        self.events = self._open_events() if config.tensorboard and not self.silent else None
        self._step_ended = self.started
        self._images_per_second = 0.0
        self._line_at = 0.0
        self._last: dict[str, float] = {}

    def _open_events(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.run.path / "tensorboard"), purge_step=self.first_step or None)

    def say(self, message: str) -> None:
        """Log a line without disturbing the bar."""
        if self.silent:
            return
        if self.bar is not None:
            self.bar.clear()
        self.run.log(message)

    def step(self, step: int, epoch: int, figures: Mapping[str, float], rate: float, *, images: int) -> None:
        """Report one finished step."""
        if self.silent:
            return
        now = time.monotonic()
        self._images_per_second = images / max(now - self._step_ended, 1e-9)
        self._step_ended = now
        self._last = dict(figures)
        row = {"step": step + 1, "epoch": epoch + 1, "lr": rate, **figures}
        self.run.append_metrics({**row, "images_per_second": round(self._images_per_second, 1)})
        if self.events is not None:
            for name, value in {**figures, "lr": rate}.items():
                self.events.add_scalar(f"train/{name}", value, step + 1)
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix_str(
                f"loss {figures['loss']:.3f}, {self._images_per_second:.0f} images/s", refresh=False
            )

    def epoch(self, epoch: int, counters: Counters, figures: Mapping[str, float] | None) -> None:
        """Report one finished epoch and its evaluation."""
        if self.silent:
            return
        if figures is not None:
            self.run.append_metrics({"step": counters.step, "epoch": epoch, "held_out": dict(figures)})
            if self.events is not None:
                for name, value in figures.items():
                    self.events.add_scalar(f"held_out/{name}", value, counters.step)
        is_due = time.monotonic() - self._line_at >= LINE_INTERVAL or counters.step == self.total
        if figures is not None or (self.bar is None and is_due):
            self._line_at = time.monotonic()
            self.say(self._line(epoch, counters, figures))
        self._step_ended = time.monotonic()  # the evaluation is not part of the next step

    def _line(self, epoch: int, counters: Counters, figures: Mapping[str, float] | None) -> str:
        parts = [f"epoch {epoch}", f"step {counters.step}/{self.total}"]
        parts += [f"{name} {value:.4g}" for name, value in self._last.items()]
        if figures is not None:
            parts += [f"held-out {name} {value:.4g}" for name, value in figures.items()]
        done = counters.step - self.first_step
        if done and counters.step < self.total:
            left = (time.monotonic() - self.started) / done * (self.total - counters.step)
            parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
        parts.append(f"{self._images_per_second:.0f} images/s")
        return ", ".join(parts)

    def close(self) -> None:
        """Close bar and events."""
        if self.bar is not None:
            self.bar.close()
        if self.events is not None:
            self.events.close()

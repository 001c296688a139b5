"""The loop against hand computations, driven by a task small enough to follow: a line through points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from prsnet.config import RunConfig
from prsnet.data.loaders import ImageStore, Rows
from prsnet.errors import TrainingError
from prsnet.runs import RunFolder, open_run
from prsnet.training.distributed import Processes
from prsnet.training.loop import Loop

RATE = 0.05


class Line(nn.Module):
    """Predicts a value from an image's mean colour; the loss is the mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -0.25, 1.0]))
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, colours: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if self.training:
            self.get_buffer("calls").add_(1)
        return {"loss": (colours @ self.weight + self.bias - targets).square().mean()}


class LineTask:
    """Fits :class:`Line` by plain gradient descent, whose every step can be computed by hand."""

    score_name = "score"

    def __init__(self, paths: list[Path], batch_size: int) -> None:
        self.model = self.step_module = Line()
        self.store = ImageStore(paths, (4, 4), workers=1)
        self.batch_size = batch_size
        self.optimizers = {"sgd": torch.optim.SGD(self.model.parameters(), lr=RATE)}
        self.clipped = list(self.model.parameters())
        self.scores: dict[int, float] = {}
        self.spoilt_at: int | None = None

    def plan(self, epoch: int) -> list[Rows]:
        order = np.roll(np.arange(len(self.store), dtype=np.int64), epoch)
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def own_rows(self, rows: Rows) -> Rows:
        return rows

    def inputs(self, images: Tensor, rows: Rows, *, step: int, micro: int) -> tuple[Any, ...]:
        colours = images.float().mean(dim=(2, 3)) / 255
        targets = torch.from_numpy(rows).float() / len(self.store)
        return colours * (math.nan if step + 1 == self.spoilt_at else 1.0), targets

    def set_learning_rates(self, step: int) -> float:
        return RATE

    def evaluate(self, epoch: int) -> dict[str, float] | None:
        return {"score": self.scores[epoch]} if epoch in self.scores else None

    def description(self) -> dict[str, Any]:
        return {"kind": "line"}


MakeLoop = Callable[..., tuple[Loop, LineTask, RunFolder]]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = []
    for index in range(8):
        path = tmp_path / f"{index}.png"
        colour = np.random.default_rng(index).integers(0, 256, 3, dtype=np.uint8)
        Image.fromarray(np.broadcast_to(colour, (4, 4, 3)).copy()).save(path)
        made.append(path)
    return made


@pytest.fixture
def make_loop(paths: list[Path], tmp_path: Path) -> MakeLoop:
    def make(name: str, batch_size: int = 4, **settings: Any) -> tuple[Loop, LineTask, RunFolder]:
        given: dict[str, Any] = {"epochs": 2, "tensorboard": False, "quiet": True, "precision": "fp32", **settings}
        config = RunConfig(data="points", out=str(tmp_path / name), **given)
        task = LineTask(paths, batch_size)
        run = open_run(config.out, {}, resume=config.resume)
        return Loop(task, run, config, device=torch.device("cpu"), processes=Processes()), task, run

    return make


def descend(
    paths: list[Path], plan: Callable[[int], list[Rows]], epochs: int, clip: float | None = None
) -> list[tuple[Any, float, float, float]]:
    """Return (weights then bias, loss, gradient norm, factor) after every step of gradient descent, by numpy."""
    colours = np.array([np.asarray(Image.open(path)).mean(axis=(0, 1)) / 255 for path in paths])
    weights, history = np.array([0.5, -0.25, 1.0, 0.0]), []
    for epoch in range(epochs):
        for rows in plan(epoch):
            inputs = np.hstack([colours[rows], np.ones((len(rows), 1))])
            errors = inputs @ weights - rows / len(paths)
            gradient = 2 * inputs.T @ errors / len(rows)
            norm = float(np.linalg.norm(gradient))
            factor = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
            weights = weights - RATE * factor * gradient
            history.append((weights.copy(), float((errors**2).mean()), norm, factor))
    return history


def weights_of(task: LineTask) -> list[float]:
    return [*task.model.weight.tolist(), task.model.bias.item()]


def test_plain_steps_are_gradient_descent(make_loop: MakeLoop, paths: list[Path]) -> None:
    loop, task, run = make_loop("run")
    counters = loop.fit()
    history = descend(paths, task.plan, 2)
    assert weights_of(task) == pytest.approx(history[-1][0].tolist(), abs=1e-6)
    rows = run.read_metrics()
    assert [row["loss"] for row in rows] == pytest.approx([loss for _, loss, _, _ in history], abs=1e-6)
    assert [(row["step"], row["epoch"], row["lr"]) for row in rows] == [
        (1, 1, RATE), (2, 1, RATE), (3, 2, RATE), (4, 2, RATE)
    ]  # fmt: skip
    assert (counters.step, counters.epoch, counters.best) == (4, 2, None)


def test_accumulated_batches_are_one_big_batch(make_loop: MakeLoop, paths: list[Path]) -> None:
    small, task, run = make_loop("small", batch_size=2, accumulate=2)
    small.fit()
    big, other, whole = make_loop("big", batch_size=4)
    big.fit()
    assert weights_of(task) == pytest.approx(weights_of(other), abs=1e-6)
    assert [row["loss"] for row in run.read_metrics()] == pytest.approx([row["loss"] for row in whole.read_metrics()])
    assert int(task.model.get_buffer("calls")) == 2 * int(other.model.get_buffer("calls")) == 8


def test_a_short_last_group_of_batches_is_averaged_over_what_it_has(make_loop: MakeLoop, paths: list[Path]) -> None:
    """Eight images in batches of 2, three to a step: the second step of an epoch has one batch only."""
    loop, task, run = make_loop("run", batch_size=2, accumulate=3)
    loop.fit()

    def joined(epoch: int) -> list[Rows]:
        plan = task.plan(epoch)
        return [np.concatenate(plan[:3]), plan[3]]

    assert weights_of(task) == pytest.approx(descend(paths, joined, 2)[-1][0].tolist(), abs=1e-6)
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 4]


def test_clipping_scales_the_gradient_to_the_norm(make_loop: MakeLoop, paths: list[Path]) -> None:
    loop, task, run = make_loop("run", clip_norm=0.3)
    loop.fit()
    history = descend(paths, task.plan, 2, clip=0.3)
    assert weights_of(task) == pytest.approx(history[-1][0].tolist(), abs=1e-6)
    norms = [row["gradient_norm"] for row in run.read_metrics()]
    assert norms == pytest.approx([norm for _, _, norm, _ in history], abs=1e-6)  # the norm before clipping
    assert min(factor for *_, factor in history) < 0.9


def test_the_moving_average_is_the_sum_by_hand(make_loop: MakeLoop, paths: list[Path]) -> None:
    decay = 0.7
    loop, task, run = make_loop("run", ema=decay)
    loop.fit()
    expected = np.array([0.5, -0.25, 1.0, 0.0])
    for weights, *_ in descend(paths, task.plan, 2):
        expected = decay * expected + (1 - decay) * weights
    saved = load_file(run.checkpoints / "last.safetensors")
    assert [*saved["weight"].tolist(), saved["bias"].item()] == pytest.approx(expected.tolist(), abs=1e-6)
    assert int(saved["calls"]) == 4, "counts are copied, not averaged"
    assert weights_of(task) == pytest.approx(descend(paths, task.plan, 2)[-1][0].tolist(), abs=1e-6)
    state = load_file(run.state)
    assert state["model.bias"].item() == pytest.approx(task.model.bias.item())
    assert state["average.bias"].item() == pytest.approx(expected[3])


def test_the_best_checkpoint_is_the_first_with_the_highest_score(make_loop: MakeLoop) -> None:
    loop, task, run = make_loop("run", epochs=5, keep_every=2)
    task.scores = {1: 0.2, 2: 0.9, 4: 0.9, 5: 0.3}
    counters = loop.fit()
    assert (counters.best, counters.best_epoch) == (0.9, 2)
    best = load_file(run.checkpoints / "best.safetensors")
    kept = load_file(run.checkpoints / "epoch-0002.safetensors")
    assert all(torch.equal(best[name], kept[name]) for name in kept)
    assert {path.stem for path in run.checkpoints.glob("*.safetensors")} == {
        "best", "last", "state", "epoch-0002", "epoch-0004"
    }  # fmt: skip
    held_out = [(row["epoch"], row["held_out"]["score"]) for row in run.read_metrics() if "held_out" in row]
    assert held_out == [(1, 0.2), (2, 0.9), (4, 0.9), (5, 0.3)]


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_last_good_checkpoint(make_loop: MakeLoop) -> None:
    loop, task, run = make_loop("run", epochs=3, save_every=1)
    task.spoilt_at = 4
    with pytest.raises(TrainingError) as raised:
        loop.fit()
    last = run.checkpoints / "last.safetensors"
    message = raised.value.message
    assert "not finite at step 4, learning rate 0.05 (loss nan)" in message
    assert f"last good checkpoint: {last}" in message
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]
    assert all(bool(torch.isfinite(value).all()) for value in load_file(last).values())


def test_no_checkpoint_is_called_good_where_there_is_none(make_loop: MakeLoop) -> None:
    loop, task, _ = make_loop("run")
    task.spoilt_at = 1
    with pytest.raises(TrainingError, match=r"at step 1, .*last good checkpoint: none yet"):
        loop.fit()


@pytest.mark.parametrize("settings", [{"save_every": 2, "batch_size": 2}, {}], ids=["mid-epoch", "epoch"])
def test_weights_that_overflow_are_not_saved(make_loop: MakeLoop, settings: Mapping[str, Any]) -> None:
    """The loss is still a number when a gradient step makes the weights infinite."""
    loop, task, run = make_loop("run", **settings)
    spoil = lambda gradient: gradient * math.inf if loop.counters.step == 1 else gradient  # noqa: E731
    task.model.weight.register_hook(spoil)  # type: ignore[no-untyped-call]
    with pytest.raises(TrainingError, match="the weights are not finite at step"):
        loop.fit()
    files = [path for path in run.checkpoints.glob("*.safetensors") if path.name != "state.safetensors"]
    assert all(torch.isfinite(value).all() for path in files for value in load_file(path).values())


def test_the_model_trains_in_training_mode(make_loop: MakeLoop) -> None:
    loop, task, _ = make_loop("run")
    task.model.eval()
    loop.fit()
    assert int(task.model.get_buffer("calls")) == 4


def test_metrics_in_tensorboard_and_in_the_file_are_the_same(make_loop: MakeLoop) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop, task, run = make_loop("run", tensorboard=True)
    task.scores = {1: 0.5, 2: 0.25}
    loop.fit()
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    rows = run.read_metrics()
    losses = [(row["step"], pytest.approx(row["loss"])) for row in rows if "loss" in row]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == losses
    assert [(event.step, event.value) for event in events.Scalars("held_out/score")] == [(2, 0.5), (4, 0.25)]


def test_bfloat16_on_a_cpu_keeps_the_weights_in_full_precision(make_loop: MakeLoop, paths: list[Path]) -> None:
    loop, task, _ = make_loop("run", precision="bf16")
    loop.fit()
    assert task.model.weight.dtype == torch.float32
    expected = descend(paths, task.plan, 2)[-1][0].tolist()
    assert weights_of(task) == pytest.approx(expected, abs=0.02)
    assert weights_of(task) != pytest.approx(expected, abs=1e-7)

"""A run that was stopped and resumed is bitwise the run that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from prsnet import ConfigError, InputError, PretrainConfig, TrainConfig, pretrain, train
from prsnet.cli.main import main
from prsnet.config import RunConfig
from prsnet.training import loop
from prsnet.training.reporting import Reporter

Start = Callable[..., Path]


class Crash(Exception):
    """Stands for a machine that goes down."""


pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture
def start(tiny_market: Path, tmp_path: Path, tiny: Mapping[str, Any], mini: str) -> Start:
    """A function that runs three epochs of a verb in the folder ``name`` of ``tmp_path``."""

    def run(verb: str, name: str, **settings: Any) -> Path:
        given = {**tiny, "preset": mini, "data": str(tiny_market), "out": str(tmp_path / name), "epochs": 3, **settings}
        if verb == "pretrain":
            return pretrain(PretrainConfig(**{"batch_size": 8, "hold_out": 0.1, **given}))
        return train(TrainConfig(**{"identities": 4, "hold_out": 0.3, "evaluate_every": 1, **given}))

    return run


@pytest.fixture
def crash_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """A function that lets the next run go down after the report of a step; None lets it pass."""
    report = Reporter.step

    def arm(last: int | None) -> None:
        def step(self: Reporter, step: int, *arguments: Any, **named: Any) -> None:
            report(self, step, *arguments, **named)
            if step + 1 == last:
                raise Crash

        monkeypatch.setattr(Reporter, "step", step)

    return arm


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without the one figure that is about the machine."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        files = [(run / "checkpoints" / f"{name}.safetensors").read_bytes() for run in (one, other)]
        assert files[0] == files[1], f"{name}.safetensors differs"
    assert rows_of(one) == rows_of(other)


@pytest.mark.parametrize("verb", ["pretrain", "train"])
@pytest.mark.parametrize(
    ("last", "settings"),
    [
        pytest.param(6, {}, id="after-an-epoch"),
        pytest.param(5, {"save_every": 2}, id="mid-epoch"),
        pytest.param(5, {"save_every": 3, "accumulate": 2, "ema": 0.9}, id="accumulate-and-ema"),
        pytest.param(4, {"save_every": 2, "drop_path": 0.3, "clip_norm": 1.0, "epochs": 2}, id="drop-path-and-clip"),
        pytest.param(1, {"epochs": 1}, id="before-any-save"),
    ],
)
def test_a_crashed_run_resumes_bitwise(
    start: Start,
    crash_after: Callable[[int | None], None],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    last: int,
    settings: dict[str, Any],
) -> None:
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 0.0)
    whole = start(verb, "whole", **settings)
    crash_after(last)
    with pytest.raises(Crash):
        start(verb, "stopped", **settings)
    stopped = whole.parent / "stopped"
    assert len([row for row in rows_of(stopped) if "loss" in row]) == last
    crash_after(None)
    start(verb, "stopped", resume=True, **settings)
    assert_same_run(whole, stopped)
    steps = [row["step"] for row in rows_of(whole) if "loss" in row]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > last


def test_a_run_stopped_twice_and_resumed_twice(start: Start, crash_after: Callable[[int | None], None]) -> None:
    whole = start("train", "whole", save_every=1)
    for last, resume in ((2, False), (7, True), (None, True)):
        crash_after(last)
        try:
            start("train", "stopped", save_every=1, resume=resume)
        except Crash:
            assert last is not None
    assert_same_run(whole, whole.parent / "stopped")


def test_resuming_a_finished_run_changes_nothing(start: Start) -> None:
    run = start("pretrain", "run", epochs=1)
    before = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    rows = rows_of(run)
    start("pretrain", "run", epochs=1, resume=True)
    assert {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
    assert rows_of(run) == rows


def test_resume_starts_a_run_that_has_not_begun(start: Start) -> None:
    assert_same_run(start("train", "plain", epochs=1), start("train", "resumed", epochs=1, resume=True))


@pytest.mark.parametrize("verb", ["pretrain", "train"])
def test_the_seed_decides_the_losses(start: Start, verb: str) -> None:
    one, same, other = (start(verb, name, epochs=1, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert_same_run(one, same)
    losses = [[row["loss"] for row in rows_of(run) if "loss" in row] for run in (one, other)]
    assert all(first != second for first, second in zip(*losses, strict=True))


def test_workers_and_cache_do_not_touch_the_result(start: Start) -> None:
    """Without room for the decoded images every batch is decoded anew, ahead of its use."""
    assert_same_run(start("train", "cached", epochs=2), start("train", "streamed", epochs=2, cache_gb=0.0, workers=2))
    assert "decoded each time" in (start("pretrain", "log", epochs=1, cache_gb=0.0) / "log.txt").read_text()


def test_resume_with_other_settings_is_refused_by_name(start: Start) -> None:
    start("train", "run", epochs=1)
    with pytest.raises(ConfigError) as raised:
        start("train", "run", epochs=1, resume=True, margin=0.4, seed=5, device="cpu", save_every=7)
    message = raised.value.message
    assert "margin: 0.5 then, 0.4 now" in message
    assert "seed: 0 then, 5 now" in message
    assert "device" not in message and "save_every" not in message  # these do not touch the result


def test_resume_with_another_verb_is_refused(start: Start) -> None:
    start("pretrain", "run", epochs=1)
    with pytest.raises(ConfigError, match="verb: 'pretrain' then, 'train' now"):
        start("train", "run", epochs=1, resume=True)


def test_resume_on_other_images_is_refused(
    start: Start, people_writer: Callable[..., Path], tmp_path: Path, crash_after: Callable[[int | None], None]
) -> None:
    """The folder may move, but it must hold the same images."""
    data = people_writer(tmp_path / "data", {1: (3, 3), 2: (3, 3), 3: (3, 3)}, {})
    crash_after(3)
    with pytest.raises(Crash):
        start("pretrain", "run", data=str(data), save_every=1, batch_size=4)
    crash_after(None)
    moved = data.rename(tmp_path / "moved")
    first = moved / "bounding_box_train" / "0001_c1s1_000000_00.png"
    kept = first.rename(tmp_path / "kept.png")
    with pytest.raises(ConfigError, match="17 images"):
        start("pretrain", "run", data=str(moved), save_every=1, batch_size=4, resume=True)
    kept.rename(first)
    start("pretrain", "run", data=str(moved), save_every=1, batch_size=4, resume=True)


def test_a_folder_in_use_is_refused_before_anything_is_read(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        start("train", "run", data=str(tmp_path / "nothing here"))
    with pytest.raises(InputError, match="not a run folder"):
        start("train", "run", resume=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def signal_self_at(step: int, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, times: int = 1) -> None:
    report = Reporter.step

    def interrupted(self: Reporter, current: int, *arguments: Any, **named: Any) -> None:
        report(self, current, *arguments, **named)
        if current + 1 == step:
            for _ in range(times):
                os.kill(os.getpid(), number)
                time.sleep(0.01)

    monkeypatch.setattr(Reporter, "step", interrupted)


@pytest.fixture
def unchanged_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.usefixtures("unchanged_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [5, 6])
def test_an_interrupt_saves_at_the_end_of_the_step(
    start: Start, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, step: int
) -> None:
    """The signal comes in the middle of a step; after step 6, the epoch's evaluation still has to follow, too."""
    whole = start("train", "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        signal_self_at(step, patch, number)
        start("train", "stopped")
    stopped = whole.parent / "stopped"
    assert [row["step"] for row in rows_of(stopped) if "loss" in row][-1] == step
    assert f"interrupted at step {step}; go on with --resume" in (stopped / "log.txt").read_text()
    start("train", "stopped", resume=True)
    assert_same_run(whole, stopped)


@pytest.mark.usefixtures("unchanged_handlers")
def test_a_second_interrupt_leaves_at_once_and_saves_nothing_half_done(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start("train", "whole", save_every=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        signal_self_at(5, patch, signal.SIGINT, times=2)
        start("train", "stopped", save_every=2)
    start("train", "stopped", save_every=2, resume=True)
    assert_same_run(whole, whole.parent / "stopped")


def test_the_command_line_leaves_with_130(
    start: Start, tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal_self_at(2, monkeypatch, signal.SIGINT)
    flags = ["--preset", "pico", "--image-size", "64", "32", "--epochs", "1", "--no-tensorboard"]
    assert main(["pretrain", str(tiny_market), "--out", str(tmp_path / "run"), *flags, "--batch-size", "8"]) == 130
    assert (tmp_path / "run" / "checkpoints" / "state.safetensors").exists()
    captured = capsys.readouterr().err
    assert "interrupted at step 2" in captured and "Traceback" not in captured


@pytest.mark.parametrize("verb", [pytest.param("pretrain", marks=pytest.mark.slow), "train"])
def test_kill_minus_9_and_resume(
    start: Start, tiny_market: Path, tmp_path: Path, verb: str, tiny: Mapping[str, Any]
) -> None:
    """A real process, killed wherever it happens to be."""
    settings: dict[str, Any] = {"preset": "pico", "epochs": 4, "save_every": 2, "ema": 0.95}
    whole = start(verb, "whole", **settings)
    out = tmp_path / "killed"
    own = {"pretrain": ["--batch-size", "8", "--hold-out", "0.1"]}.get(
        verb, ["--identities", "4", "--hold-out", "0.3", "--evaluate-every", "1"]
    )
    command = [sys.executable, "-m", "prsnet", verb, str(tiny_market), "--out", str(out), *own]
    command += ["--preset", "pico", "--image-size", "64", "32", "--epochs", "4", "--save-every", "2", "--ema", "0.95"]
    command += ["--no-tensorboard", "--quiet", "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, env=environment, stderr=output)
        deadline = time.monotonic() + 400
        while lines_in(out / "metrics.jsonl") < 5:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = [row["step"] for row in rows_of(out) if "loss" in row]
    assert 0 < len(done) < len([row for row in rows_of(whole) if "loss" in row])
    start(verb, "killed", resume=True, **settings)
    assert_same_run(whole, out)
    assert not list(out.rglob("*.part*")), "half-written files stay behind"


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_only_settings_without_effect_may_change() -> None:
    """Every name in the list is a setting, so that a renamed one is not silently let through."""
    from dataclasses import fields

    from prsnet.runs import FREE_TO_CHANGE

    assert {field.name for field in fields(RunConfig)} >= FREE_TO_CHANGE

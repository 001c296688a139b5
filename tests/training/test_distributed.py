"""Several processes train as one: gloo on this machine, started by torchrun as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prsnet.cli.main import main
from prsnet.errors import ConfigError
from prsnet.models.presets import build_encoder
from prsnet.training.assemble import Session
from prsnet.training.distributed import Processes, averaged, gather

SHAPE = ["--preset", "pico", "--image-size", "64", "32", "--no-tensorboard", "--quiet", "--workers", "1", "--seed", "2"]
PRETRAIN = ["pretrain", *SHAPE, "--epochs", "2", "--batch-size", "8", "--hold-out", "0.1", "--accumulate", "2"]
TRAIN = ["train", *SHAPE, "--epochs", "2", "--identities", "4", "--hold-out", "0.3", "--evaluate-every", "1"]


LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def torchrun(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCHER, "2", "-m", "prsnet", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=500)


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(PRETRAIN, id="pretrain"),
        pytest.param([*TRAIN, "--loss", "mctl", "--accumulate", "2", "--ema", "0.9"], id="mctl"),
        pytest.param([*TRAIN, "--loss", "ctl", "--clip-norm", "1"], id="ctl"),
    ],
)
def test_two_processes_give_the_losses_of_one(arguments: list[str], tiny_market: Path, tmp_path: Path) -> None:
    """Person 8 has three images, so one process or the other meets a padded slot in each epoch.

    Losses, the gradient's norm, held-out figures and the weights at the end agree but for the order of additions.
    """
    verb, *flags = arguments
    assert main([verb, str(tiny_market), "--out", str(tmp_path / "one"), *flags]) == 0
    done = torchrun([verb, str(tiny_market), "--out", str(tmp_path / "two"), *flags])
    assert done.returncode == 0, done.stderr
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert [sorted(row) for row in one] == [sorted(row) for row in two]
    assert len(one) > 5
    for expected, found in zip(one, two, strict=True):
        for name in set(expected) - {"images_per_second", "held_out"}:
            assert found[name] == pytest.approx(expected[name], rel=2e-4, abs=1e-5), (name, expected, found)
        assert found.get("held_out", {}) == pytest.approx(expected.get("held_out", {}), rel=1e-3, abs=1e-3)
    weights = [load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("one", "two")]
    whole = [torch.cat([value.double().flatten() for _, value in sorted(part.items())]) for part in weights]
    assert (whole[1] - whole[0]).norm() < 1e-3 * whole[0].norm()
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert (tmp_path / "two" / "log.txt").read_text().count("on 2 processes") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_curves")
def test_two_processes_stop_together_and_resume_bitwise(tiny_market: Path, tmp_path: Path) -> None:
    """A scheduler's SIGTERM reaches the processes at different moments; they still stop after the same step."""
    arguments = [*TRAIN, str(tiny_market), "--epochs", "6", "--out"]
    runs = {name: [*arguments, str(tmp_path / name)] for name in ("whole", "stopped")}
    process = subprocess.Popen(
        [*LAUNCHER, "2", "-m", "prsnet", *runs["stopped"]], env=environment(), stderr=subprocess.PIPE, text=True
    )
    metrics, deadline = tmp_path / "stopped" / "metrics.jsonl", time.monotonic() + 400
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, printed = process.communicate(timeout=400)
    assert "go on with --resume" in (tmp_path / "stopped" / "log.txt").read_text(), printed
    stopped_at = len([row for row in rows_of(tmp_path / "stopped") if "loss" in row])
    assert 0 < stopped_at < 6 * 3
    assert torchrun(runs["whole"]).returncode == 0
    assert torchrun([*runs["stopped"], "--resume"]).returncode == 0
    files = [(tmp_path / name / "checkpoints" / "last.safetensors").read_bytes() for name in runs]
    assert files[0] == files[1]


@pytest.mark.slow
def test_two_processes_refuse_together_what_one_refuses(tiny_market: Path, tmp_path: Path) -> None:
    done = torchrun([*TRAIN, str(tiny_market), "--out", str(tmp_path / "run"), "--identities", "5"])
    assert done.returncode != 0
    assert "error: --identities 5 cannot be shared evenly by 2 processes" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_process_works_on_its_own_rows() -> None:
    rows = [Processes(rank, 4).rows(12) for rank in range(4)]
    assert [i for part in rows for i in range(12)[part]] == list(range(12))
    with pytest.raises(ConfigError, match="--identities 10 cannot be shared evenly by 4"):
        Processes(0, 4).require_divisible(10, "--identities")


def test_one_process_needs_no_other() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather(rows, Processes()) is rows
    assert averaged({"loss": 1.5}, Processes(), torch.device("cpu")) == {"loss": 1.5}


@pytest.mark.parametrize(
    ("preset", "processes", "told"), [("hybrid-nano", 2, True), ("hybrid-nano", 1, False), ("pico", 2, False)]
)
def test_what_cannot_be_shared_is_told(preset: str, processes: int, told: bool) -> None:
    session = Session("train", torch.device("cpu"), "fp32", Processes(0, processes))
    session.note_batch_statistics(build_encoder(preset, torch.Generator()))
    assert any("BatchNorm sees each process's images alone" in line for line in session.messages) == told

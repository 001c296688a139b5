"""The run folder: what is written when, and what a kill may leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from prsnet import CheckpointError, ConfigError, InputError
from prsnet.runs import RunFolder, check_out, environment, open_run, read_run_config

SETTINGS: dict[str, Any] = {"verb": "train", "seed": 1, "margin": 0.5, "data": "here", "milestones": (3, 5)}


def test_a_new_run_says_what_was_asked(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a" / "run", SETTINGS, resume=False)
    assert read_run_config(run.path) == {**SETTINGS, "milestones": [3, 5]}
    assert json.loads((run.path / "environment.json").read_text())["processes"] == 1
    assert run.checkpoints.is_dir() and not run.state.exists()
    assert (run.path / "command.txt").read_text().count("\n") == 1
    open_run(run.path, {**SETTINGS, "data": "there"}, resume=True)
    assert (run.path / "command.txt").read_text().count("\n") == 2, "one line per start"
    assert read_run_config(run.path)["data"] == "there"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/usr/bin/prsnet", "train", "my data"], "prsnet train 'my data'"),
        (["/x/prsnet/__main__.py", "train"], "prsnet train"),
        (["experiments/sweep.py", "--fast"], "experiments/sweep.py --fast"),
    ],
)
def test_the_command_is_what_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    run = open_run(tmp_path / "run", SETTINGS, resume=False)
    assert (run.path / "command.txt").read_text() == f"{expected}\n"


def test_settings_that_matter_must_not_change(tmp_path: Path) -> None:
    open_run(tmp_path / "run", SETTINGS, resume=False)
    with pytest.raises(ConfigError) as raised:
        open_run(tmp_path / "run", {**SETTINGS, "margin": 0.3, "verb": "pretrain", "new": 1}, resume=True)
    message = raised.value.message
    assert "margin: 0.5 then, 0.3 now; new: None then, 1 now; verb: 'train' then, 'pretrain' now" in message
    assert read_run_config(tmp_path / "run")["margin"] == 0.5, "nothing was written"


def test_folders_that_are_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "photos").mkdir()
    check_out(tmp_path / "photos", resume=False)
    check_out(tmp_path / "new" / "deep", resume=False)
    (tmp_path / "photos" / "a.jpg").write_text("")
    for place, resume, words in (
        ("file", False, "is a file"), ("file", True, "is a file"), ("photos", False, "not empty"),
        ("photos", True, "not a run folder"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            check_out(tmp_path / place, resume=resume)
    with pytest.raises(InputError, match="file/run"):
        open_run(tmp_path / "file" / "run", SETTINGS, resume=False)


def test_a_run_killed_while_its_folder_was_made_can_be_started(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="not empty"):
        open_run(tmp_path / "run", SETTINGS, resume=False)
    assert open_run(tmp_path / "run", SETTINGS, resume=True).metrics == tmp_path / "run" / "metrics.jsonl"


def test_metrics_survive_a_cut_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_metrics() == []
    run.forget_after(3)
    for step in (1, 2, 3):
        run.append_metrics({"step": step, "loss": 1 / step})
    run.append_metrics({"step": 3, "held_out": {"map": 0.5}})
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 3]
    run.forget_after(2)
    assert run.metrics.read_text() == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n'
    run.append_metrics({"step": 3, "loss": 0.25})
    assert [row["loss"] for row in run.read_metrics()] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("garbage", ["", "[1, 2]", "{", "null", '"x"'])
def test_settings_that_cannot_be_read_are_told(tmp_path: Path, garbage: str) -> None:
    (tmp_path / "config.json").write_text(garbage)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_run_config(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_run(tmp_path, SETTINGS, resume=True)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_run_config(tmp_path / "gone")


def test_the_log_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(tmp_path).log("hello")
    assert capsys.readouterr().err == "hello\n"
    stamp, _, text = (tmp_path / "log.txt").read_text().partition(" ")
    assert text == "hello\n" and stamp.endswith("+00:00")


def test_the_environment_names_what_figures_depend_on() -> None:
    import torch

    found = environment()
    assert found["torch"] == torch.__version__ and found["torch_threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(found)) == found

"""The commands and the Python of the gallery's page run as quoted."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from prsnet.checkpoint import save_checkpoint
from prsnet.cli.main import main
from prsnet.data.synthetic import write_dataset
from prsnet.models.description import describe
from prsnet.models.presets import build_reid, resolve


@pytest.fixture
def page(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    people = write_dataset(tmp_path / "made", identities=6, cameras=2, images_per_camera=2, seed=0, size=(64, 32))
    shutil.copytree(tmp_path / "made", tmp_path / "crops")
    (tmp_path / "crops" / "query" / "0002_c1s1_000001_00.jpg").write_bytes(people.query[0].path.read_bytes())
    preset = resolve("pico", image_size=(64, 32))
    network = build_reid(preset, None, torch.Generator().manual_seed(0))
    description = {"kind": "reid", "architecture": describe(preset, kind="reid")}
    save_checkpoint(tmp_path / "run" / "model.safetensors", network.state_dict(), description)
    return (repository / "docs" / "gallery.md").read_text(encoding="utf-8")


def block(page: str, language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(text)


def test_commands_run_as_quoted(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [words for line in block(page, "bash").splitlines() if (words := shlex.split(line, comments=True))]
    assert len(lines) >= 10
    for words in lines:
        assert words[0] == "prsnet"
        assert main(words[1:]) == 0, (words, capsys.readouterr().err)


def test_python_runs_as_quoted(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block(page, "python"), "gallery.md", "exec"), {"__name__": "page"})
    assert len(capsys.readouterr().out.splitlines()) == 3

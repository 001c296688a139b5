"""What README and docs quote is run as quoted; only the presets' schedules are shortened."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from prsnet.cli.main import find_verb, main
from prsnet.data.synthetic import write_dataset
from prsnet.training import defaults

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`(prsnet [a-z][^`]*)`")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """Return the shell lines of a page, comments cut off, continued lines joined."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with generated crops, and schedules of one epoch."""
    short_pretraining = defaults.PretrainSchedule(epochs=1, warmup_epochs=0, batch_size=8, learning_rate=1e-3)
    short_training = defaults.TrainSchedule(epochs=1, warmup_epochs=0, identities=2, evaluate_every=1)
    monkeypatch.setitem(defaults.PRETRAIN, "nano", short_pretraining)
    monkeypatch.setitem(defaults.TRAIN, "nano", short_training)
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "crops", identities=6, cameras=2, images_per_camera=2, seed=0, size=(64, 32))
    return tmp_path


def test_readme_commands_run_as_quoted(repository: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quoted = [words for words in commands(repository / "README.md") if words[0] == "prsnet"]
    assert len(quoted) >= 5
    for words in quoted:
        assert main(words[1:]) == 0, (words, capsys.readouterr().err)
    assert (workplace / "report.json").is_file()


def test_readme_python_runs_as_quoted(repository: Path, workplace: Path) -> None:
    (snippet,) = blocks(repository / "README.md", "python")
    exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})
    assert (workplace / "runs" / "python" / "checkpoints" / "best.safetensors").is_file()


def test_readme_make_targets_exist(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    named = [words[1] for words in commands(repository / "README.md") if words[0] == "make"]
    assert named[:2] == ["demo", "test"]
    assert set(named) <= targets


def pages(repository: Path) -> list[Path]:
    return [repository / "README.md", repository / "CONTRIBUTING.md", *sorted((repository / "docs").rglob("*.md"))]


def test_every_verb_that_a_page_names_exists(repository: Path) -> None:
    for page in pages(repository):
        for quoted in QUOTED.findall(page.read_text(encoding="utf-8")):
            if "VERB" not in quoted:
                verb, _ = find_verb(shlex.split(quoted)[1:])
                assert verb is not None or quoted in ("prsnet data", "prsnet gallery"), (page, quoted)


def test_links_lead_somewhere(repository: Path) -> None:
    for page in pages(repository):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"

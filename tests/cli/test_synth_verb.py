from pathlib import Path

import pytest

from prsnet.cli.main import main
from prsnet.data.layouts import load_dataset


def test_synth_writes_a_dataset_that_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "people"
    arguments = ["--identities", "4", "--cameras", "2", "--images-per-camera", "2", "--image-size", "32", "16"]
    assert main(["data", "synth", str(out), *arguments, "--distractors", "3", "--junk", "1"]) == 0
    assert capsys.readouterr().out == f"{out}: 8 train, 4 query, 8 gallery images\n"
    dataset = load_dataset(out)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (8, 4, 8)
    assert dataset.facts["layout"] == "market1501"
    assert main(["data", "synth", str(out), *arguments]) == 2  # other arguments, folder in use
    assert "hint:" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--cameras", "1"], ["--image-size", "8", "8"], ["--test-fraction", "2"]])
def test_synth_refuses_what_cannot_be_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["data", "synth", str(tmp_path / "x"), "--identities", "4", *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "x").exists()


def test_synth_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "synth"]) == 2
    assert "out" in capsys.readouterr().err

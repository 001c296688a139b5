"""Verification by the threshold that training stores with the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from prsnet.checkpoint import read_description
from prsnet.cli.main import main
from prsnet.config import TrainConfig
from prsnet.data.synthetic import write_dataset
from prsnet.embed import Embedder
from prsnet.training.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and two models: one with held-out identities, one without."""
    root = tmp_path_factory.mktemp("verify")
    write_dataset(root / "people", identities=12, cameras=2, images_per_camera=2, seed=0, size=(64, 32))
    for name, share in (("calibrated", 0.4), ("bare", 0.0)):
        train(
            TrainConfig(
                data=str(root / "people"),
                out=str(root / name),
                preset="pico",
                image_size=(64, 32),
                epochs=1,
                hold_out=share,
                tensorboard=False,
                quiet=True,
                license="CC0-1.0",
            )
        )
    return root


def pair(folder: Path) -> list[str]:
    return [str(path) for path in sorted((folder / "people" / "query").iterdir())[:2]]


def test_the_verdict_is_the_threshold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = pair(folder)
    model = str(folder / "calibrated")
    vectors = Embedder.from_checkpoint(model).embed(images).numpy()
    similarity = float(vectors[0] @ vectors[1])
    for threshold, verdict in ((similarity - 1e-3, "same person"), (similarity + 1e-3, "different people")):
        assert main(["verify", *images, "--model", model, "--threshold", str(min(threshold, 1.0))]) == 0
        assert capsys.readouterr().out.startswith(verdict if threshold <= 1 else "same person")


def test_the_calibrated_threshold_says_what_it_rests_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = read_description(folder / "calibrated" / "checkpoints" / "best.safetensors")
    assert description["license"] == "CC0-1.0"
    point = next(p for p in description["calibration"]["points"] if p["wished_fpr"] == 1e-2)
    assert main(["verify", *pair(folder), "--model", str(folder / "calibrated"), "--fpr", "0.01"]) == 0
    out = capsys.readouterr().out
    assert f"threshold {point['threshold']:.4f}" in out
    assert f"{point['negatives']} pairs" in out and "too few pairs" in out


def test_without_calibration_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *pair(folder), "--model", str(folder / "bare")]) == 2
    assert "no calibrated threshold" in capsys.readouterr().err
    assert main(["verify", *pair(folder), "--model", str(folder / "calibrated"), "--fpr", "0.05"]) == 2
    assert "calibrated for 0.0001, 0.001, 0.01" in capsys.readouterr().err
    assert main(["verify", pair(folder)[0], "--model", str(folder / "calibrated")]) == 2

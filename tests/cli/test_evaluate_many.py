from __future__ import annotations

import json
from pathlib import Path

import pytest

from prsnet.cli.main import main
from prsnet.data.synthetic import write_dataset


@pytest.mark.slow
def test_several_targets_end_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("one", "two")):
        write_dataset(tmp_path / name, identities=4, cameras=2, images_per_camera=2, size=(64, 32), seed=seed)
    one, two, run, out = (str(tmp_path / name) for name in ("one", "two", "run", "report.json"))
    flags = ["--preset", "pico", "--image-size", "64", "32", "--epochs", "1", "--identities", "2"]
    assert main(["train", one, "--out", run, *flags, "--no-tensorboard", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, one, "--also", two, "--out", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [
        line.split()
        for line in lines[lines.index(next(x for x in lines if x.startswith("dataset  ") and "mAP" in x)) :]
    ]
    report = json.loads(Path(out).read_text(encoding="utf-8"))
    figures = [report, *report["also"]]
    assert [row[0] for row in table[1:3]] == ["one", "two"]
    assert [row[3] for row in table[1:3]] == [f"{100 * each['map']:.2f}" for each in figures]
    assert main(["evaluate", run, two, "--out", out]) == 0
    alone = json.loads(Path(out).read_text(encoding="utf-8"))
    assert "also" not in alone and alone["map"] == figures[1]["map"]

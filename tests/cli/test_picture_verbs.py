import json
from pathlib import Path

import numpy as np
import pytest

from prsnet.cli.main import main


def test_reconstruct(
    tmp_path: Path, tiny_pretrained: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    images = [str(path) for path in sorted((tiny_market / "query").iterdir())[:2]]
    command = ["reconstruct", str(tiny_pretrained), *images, "--out", str(out), "--mask-ratio", "0.5", "--seed", "7"]
    assert main(command) == 0
    assert str(out) in capsys.readouterr().out
    written = json.loads(out.with_suffix(".json").read_text())
    assert (written["mask_ratio"], written["seed"]) == (0.5, 7)
    assert [image["path"] for image in written["images"]] == images


def test_ranks_on_one_sheet_and_in_a_folder(
    tmp_path: Path, tiny_trained: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["ranks", str(tiny_trained), str(tiny_market), "--queries", "2", "--worst", "--answers", "3"]
    assert main([*common, "--out", str(tmp_path / "sheet.png")]) == 0
    sheet = json.loads((tmp_path / "sheet.json").read_text())
    assert [len(query["answers"]) for query in sheet["queries"]] == [3, 3]
    assert main([*common, "--out", str(tmp_path / "lists")]) == 0
    assert "2 pictures" in capsys.readouterr().out
    singles = [json.loads(path.read_text()) for path in sorted((tmp_path / "lists").glob("*.json"))]
    assert [single["queries"][0] for single in singles] == sheet["queries"]
    assert all(path.with_suffix(".png").is_file() for path in (tmp_path / "lists").glob("*.json"))


def test_a_page_of_an_evaluation_and_of_somebody_elses_embeddings(
    tmp_path: Path, tiny_trained: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny_trained), str(tiny_market), "--html", str(tmp_path / "run.html")]) == 0
    assert "verification: equal error rate" in capsys.readouterr().out
    assert "Answers to queries" in (tmp_path / "run.html").read_text()
    files = [str(tmp_path / f"{name}.npz") for name in ("query", "gallery")]
    for seed, file in enumerate(files):
        rng = np.random.default_rng(seed)
        np.savez(file, vectors=rng.normal(size=(30, 4)), pids=np.arange(30) % 5, camids=np.full(30, seed))
    assert main(["evaluate", "--embeddings", *files, "--html", str(tmp_path / "files.html")]) == 0
    page = (tmp_path / "files.html").read_text()
    assert "Same person or not" in page and "Answers to queries" not in page


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["reconstruct", "RUN", "DATA", "--out", "x.gif"], "ends in .png, got 'x.gif'"),
        (["reconstruct", "RUN", "DATA", "--out", "x.png", "--count", "0"], "count: expected 1 to 64, got 0"),
        (["reconstruct", "RUN", "DATA", "--out", "x.png", "--mask-ratio", "1"], "mask_ratio: expected more than 0"),
        (["reconstruct", "RUN", "--out", "x.png"], "images: expected image files or folders"),
        (["reconstruct", "DATA", "DATA", "--out", "x.png"], "no checkpoint in this folder"),
        (["reconstruct", "RUN", "nowhere.jpg", "--out", "x.png"], "nowhere.jpg: no such image"),
        (["ranks", "RUN", "DATA", "--out", "x", "--queries", "0"], "queries: expected 1 to 1000, got 0"),
        (["ranks", "RUN", "DATA"], "out: expected a PNG file or a folder"),
        (["ranks", "RUN", "DATA", "--out", "x.png"], "expected 'reid'"),
        (["demo", "--out", "DATA"], "in use and holds no demo"),
        (["demo", "--out", ""], "out: expected the folder to write"),
    ],
)
def test_bad_input(
    command: list[str],
    named: str,
    tmp_path: Path,
    tiny_pretrained: Path,
    tiny_market: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(tiny_pretrained), "DATA": str(tiny_market)}
    assert main([places.get(word, word) for word in command]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert named in lines[0] and lines[0].startswith("error: ") and len(lines) <= 2
    assert list(tmp_path.iterdir()) == []

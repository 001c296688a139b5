from __future__ import annotations

import json
from pathlib import Path

import pytest

from prsnet.cli.main import main
from prsnet.data.combine import combine_training, read_combination, write_combination
from prsnet.data.layouts import load_dataset, load_images_only
from prsnet.data.pack import pack_dataset
from prsnet.data.splits import hold_out
from prsnet.data.synthetic import write_dataset
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord


def dataset(name: str, *rows: tuple[int, int | None]) -> Dataset:
    return Dataset(name, train=tuple(ImageRecord(Path(name) / f"{i}.png", p, c) for i, (p, c) in enumerate(rows)))


def test_people_and_cameras_of_different_sources_never_meet() -> None:
    records, sources = combine_training(
        [dataset("a", (3, 0), (3, 2), (9, 1)), dataset("b", (1, 0), (3, None)), dataset("c", (3, 2), (4, 1))]
    )
    assert [(r.pid, r.camid) for r in records] == [(3, 0), (3, 2), (9, 1), (10, 3), (12, None), (15, 6), (16, 5)]
    assert [(s["name"], s["pids_after"], s["camids_from"]) for s in sources] == [("a", 0, 0), ("b", 9, 3), ("c", 12, 4)]
    assert [s["train_identities"] for s in sources] == [2, 2, 2]


def test_sources_without_people_or_given_twice_are_refused() -> None:
    with pytest.raises(DataError, match="b: no labelled training images"):
        combine_training([dataset("a", (1, 1)), Dataset("b", train=(ImageRecord(Path("x.png")),))])
    with pytest.raises(DataError, match="c: no labelled"):
        combine_training([dataset("a", (1, 1)), Dataset("c")])
    one = dataset("a", (1, 1))
    with pytest.raises(DataError, match=r"0\.png: in a and in other"):
        combine_training([one, Dataset("other", train=one.train)])


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    for number, name in enumerate(("first", "second")):
        write_dataset(tmp_path / name, identities=6, cameras=2, images_per_camera=2, size=(32, 16), seed=number)
    return [tmp_path / "first", tmp_path / "second"]


def test_the_verb_makes_data_for_training(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = two[0].parent / "both.json"
    assert main(["data", "combine", str(two[0]), f"market1501={two[1]}", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "second (standard): 12 images of 3 people"
    combined = load_dataset(out)
    assert combined.facts["layout"] == "combination" and combined.name == "both"
    assert combined.facts["counts"]["train_identities"] == 6 and combined.facts["counts"]["cameras"] == 4
    assert not combined.query and not combined.gallery
    assert [source["root"] for source in combined.facts["sources"]] == [str(path) for path in two]
    left, held = hold_out(combined, seed=0, count=2)
    assert len({record.pid for record in left}) == 4 and len(held.query) == 8
    assert len(load_images_only(out).train) == 24
    assert json.loads(out.read_text(encoding="utf-8"))["train"][0][0].startswith("first/")


def test_packs_can_be_combined(two: list[Path]) -> None:
    packs = []
    for path in two:
        packs.append(path.with_suffix(".pack"))
        pack_dataset(load_dataset(path), packs[-1], (32, 16))
    write_combination([load_dataset(pack) for pack in packs], two[0].parent / "both.json")
    assert len(load_dataset(two[0].parent / "both.json").train) == 24


def test_the_verb_refuses_what_makes_no_sense(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = str(two[0].parent / "both.json")
    for arguments in (
        [str(two[0]), "--out", out],
        [str(two[0]), str(two[0]), "--out", out],
        [str(two[0]), str(two[1]), "--out", "both.txt"],
        [str(two[0]), f"viper={two[1]}", "--out", out],
    ):
        assert main(["data", "combine", *arguments]) == 2
    assert "no layout fits" in capsys.readouterr().err


def test_damaged_combinations(two: list[Path]) -> None:
    out = two[0].parent / "both.json"
    write_combination([load_dataset(path) for path in two], out)
    content = json.loads(out.read_text(encoding="utf-8"))
    out.write_text(json.dumps({**content, "train": [["x.png", "one", 1]]}))
    with pytest.raises(DataError, match="a damaged combination"):
        load_dataset(out)
    out.write_text(json.dumps({**content, "version": 9}))
    with pytest.raises(DataError, match="not a combination of version 1"):
        read_combination(out)
    out.write_text(json.dumps({**content, "train": [["gone.png", 1, 1]]}))
    with pytest.raises(DataError, match="1 of 1 images are gone"):
        load_dataset(out)

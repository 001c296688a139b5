from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet.data.layouts import load_dataset
from prsnet.data.layouts.folders import camera_in_name, number_cameras, number_people
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord


def plant(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def everything(dataset: Dataset) -> dict[str, ImageRecord]:
    parts = (dataset.train, dataset.query, dataset.gallery)
    return {f"{r.path.parent.name}/{r.path.name}": r for part in parts for r in part}


def test_camera_folders(tmp_path: Path) -> None:
    names = [f"p{p}/cam{c}/shot_{i}.JPG" for p in range(4) for c in (1, 2) for i in range(2)]
    dataset = load_dataset(plant(tmp_path, [*names, "p1/Thumbs.db", "p1/cam1/.hidden.jpg", "empty/readme.txt"]))
    assert dataset.facts["people"] == {"p0": 1, "p1": 2, "p2": 3, "p3": 4}
    assert "camera_names" not in dataset.facts
    assert {r.camid for r in everything(dataset).values()} == {1, 2}
    assert len({r.pid for r in dataset.train}) == len({r.pid for r in dataset.query}) == 2
    assert dataset.query == dataset.gallery


def test_cameras_in_file_names_and_numbered_people_keep_their_numbers(tmp_path: Path) -> None:
    names = [f"{p:04}/{p:04}_c{c}s1_7.png" for p in (12, 7, 1501) for c in (3, 5)]
    dataset = load_dataset(plant(tmp_path / "7_c9", names))
    assert {(r.pid, r.camid) for r in everything(dataset).values()} == {(p, c) for p in (12, 7, 1501) for c in (3, 5)}
    assert "people" not in dataset.facts


def test_without_cameras_queries_and_gallery_are_apart(tmp_path: Path) -> None:
    dataset = load_dataset(
        plant(tmp_path, [f"{name}/{i}.png" for name in ("ann", "bob", "eve", "joe") for i in range(5)])
    )
    assert all(record.camid is None for record in everything(dataset).values())
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (10, 4, 6)
    assert not {r.path for r in dataset.query} & {r.path for r in dataset.gallery}
    assert {r.pid for r in dataset.query} == {r.pid for r in dataset.gallery}


def test_named_cameras_are_numbered_and_told(tmp_path: Path) -> None:
    names = [f"{p}/{camera}/1.png" for p in (1, 2) for camera in ("north gate", "hall")]
    dataset = load_dataset(plant(tmp_path, names))
    assert dataset.facts["camera_names"] == {"hall": 1, "north gate": 2}
    assert everything(dataset)["hall/1.png"].camid == 1


def test_split_folders_share_their_numbers(tmp_path: Path) -> None:
    names = ["train/ann/c1.png", "train/bob/c2.png", "query/eve/c1.png", "gallery/eve/c2.png", "gallery/ann/c1.png"]
    dataset = load_dataset(plant(tmp_path, [*names, "docs/page.png"]))
    assert dataset.facts["people"] == {"ann": 1, "bob": 2, "eve": 3}
    assert [(r.pid, r.camid) for r in dataset.train] == [(1, 1), (2, 2)]
    assert [(r.pid, r.camid) for r in dataset.query] == [(3, 1)]
    assert [(r.pid, r.camid) for r in dataset.gallery] == [(1, 1), (3, 2)]
    assert dataset.facts["ignored_folders"] == ["docs"]
    assert dataset.facts["split"] == "as given"


def test_junk_and_distractor_folders_of_a_gallery(tmp_path: Path) -> None:
    names = ["train/1/c1.png", "query/2/c1.png", "gallery/2/c2.png", "gallery/-1/c1.png", "gallery/0000/c1.png"]
    dataset = load_dataset(plant(tmp_path, names))
    assert [r.pid for r in dataset.gallery] == [-1, 0, 2]
    assert dataset.facts["counts"]["gallery_junk"] == 1


def test_people_counted_from_zero_are_not_taken_for_distractors(tmp_path: Path) -> None:
    dataset = load_dataset(plant(tmp_path, [f"{p}/c{c}.png" for p in range(3) for c in (1, 2)]))
    assert dataset.facts["people"] == {"0": 1, "1": 2, "2": 3}
    assert {r.pid for r in everything(dataset).values()} == {1, 2, 3}


def test_train_and_test_folders(tmp_path: Path) -> None:
    names = [f"{part}/{p}/c{c}.png" for part, p in (("train", 1), ("train", 2), ("test", 3)) for c in (1, 2)]
    dataset = load_dataset(plant(tmp_path, names))
    assert {r.pid for r in dataset.train} == {1, 2}
    assert dataset.query == dataset.gallery
    assert len(dataset.query) == 2
    plant(tmp_path, ["query/3/c1.png"])
    with pytest.raises(DataError, match="test/ beside query/"):
        load_dataset(tmp_path)


def test_mixed_trees_are_explained(tmp_path: Path) -> None:
    beside = plant(tmp_path / "beside", ["ann/cam1/1.png", "ann/2.png", "bob/cam1/1.png"])
    with pytest.raises(DataError, match=r"ann: 1 images beside folders that hold 1 more"):
        load_dataset(beside)
    partly = plant(tmp_path / "partly", ["ann/c1_1.png", "ann/2.png", "bob/c1.png"])
    with pytest.raises(DataError, match=r"partly: 1 of 3 images name no camera, the others do: .*ann/2\.png"):
        load_dataset(partly)


def test_one_person_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 identity in 2 images"):
        load_dataset(plant(tmp_path, ["ann/c1.png", "ann/c2.png"]))


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("0001_c2_7.jpg", "2"),
        ("cam02-7.png", "2"),
        ("7_camera_12.jpg", "12"),
        ("C3.png", "3"),
        ("0001_c1s1_000151_01.jpg", "1"),
        ("abc1.jpg", None),
        ("music1.jpg", None),
        ("0001.jpg", None),
        ("c.jpg", None),
        ("disc3_c4.jpg", "4"),
        ("c99999.jpg", None),
    ],
)
def test_camera_in_name(name: str, camera: str | None) -> None:
    assert camera_in_name(name) == camera


@given(st.sets(st.one_of(st.integers(-2, 30).map(str), st.text("0ab1", min_size=1, max_size=3)), min_size=1))
def test_people_are_numbered_without_collisions(names: set[str]) -> None:
    for part in ("train", "gallery"):
        numbers, ours = number_people({part: names})
        assert set(numbers) == names
        assert len(set(numbers.values())) == len(names)
        assert min(numbers.values()) >= (1 if ours or part == "train" else -1)
        if not ours:
            assert all(int(name) == number for name, number in numbers.items())


@given(st.sets(st.text("c0am12 x", min_size=1, max_size=5), min_size=1))
def test_cameras_are_numbered_without_collisions(names: set[str]) -> None:
    numbers, _ = number_cameras(names)
    assert set(numbers) == names
    assert len(set(numbers.values())) == len(names)
    assert min(numbers.values()) >= 0

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet.data import layouts
from prsnet.data.layouts import LAYOUTS, load_dataset, load_images_only, recognise
from prsnet.data.layouts.names import market_name, pku_name
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord


def plant(root: Path, names: Iterable[str]) -> Path:
    """Make empty files: layouts are told by names alone."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def seen(records: Iterable[ImageRecord]) -> list[tuple[str, int | None, int | None]]:
    return [(record.path.name, record.pid, record.camid) for record in records]


MARKET = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000451_03.JPG",
    "bounding_box_train/0007_c3s2_000001_01.png",
    "bounding_box_train/Thumbs.db",
    "query/0003_c1s1_000001_00.jpg",
    "query/Thumbs.db",
    "bounding_box_test/0003_c2s1_000001_01.jpg",
    "bounding_box_test/0000_c4s1_000001_01.jpg",
    "bounding_box_test/-1_c5s1_000001_01.jpg",
    "bounding_box_test/extra/0009_c1s1_000001_01.jpg",
    "gt_bbox/0003_c2s1_000001_01.jpg",
    "readme.txt",
]


def test_market(tmp_path: Path) -> None:
    dataset = load_dataset(plant(tmp_path / "set_0042_c9", MARKET))
    assert dataset.facts["layout"] == "market1501"
    assert seen(dataset.train) == [
        ("0002_c1s1_000451_03.jpg", 2, 1),
        ("0002_c2s1_000451_03.JPG", 2, 2),
        ("0007_c3s2_000001_01.png", 7, 3),
    ]
    assert seen(dataset.query) == [("0003_c1s1_000001_00.jpg", 3, 1)]
    assert seen(dataset.gallery) == [
        ("-1_c5s1_000001_01.jpg", -1, 5),
        ("0000_c4s1_000001_01.jpg", 0, 4),
        ("0003_c2s1_000001_01.jpg", 3, 2),
    ]
    assert dataset.facts["counts"] == {
        "images": 7,
        "identities": 3,
        "cameras": 5,
        "train_images": 3,
        "train_identities": 2,
        "query_images": 1,
        "query_identities": 1,
        "gallery_images": 3,
        "gallery_identities": 1,
        "gallery_distractors": 1,
        "gallery_junk": 1,
    }


def test_facts_compare_with_the_published_counts_and_are_plain_json(tmp_path: Path) -> None:
    dataset = load_dataset(plant(tmp_path / "small", MARKET))
    assert dataset.name == "small"  # Not Market-1501 itself, so it does not get its name.
    assert dataset.facts["differs_from_published"]["train_images"] == [3, 12936]
    assert "ICCV 2015" in dataset.facts["citation"]
    assert dataset.facts["root"] == str(tmp_path / "small")
    assert json.loads(json.dumps(dict(dataset.facts))) == dict(dataset.facts)


def test_the_full_counts_earn_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    market = next(layout for layout in LAYOUTS if layout.name == "market1501")
    small = replace(market, published={"train_images": 3, "query_images": 1, "cameras": 5})
    monkeypatch.setattr("prsnet.data.layouts.recognition.LAYOUTS", (small,))
    dataset = load_dataset(plant(tmp_path / "copy", MARKET))
    assert dataset.name == "market1501"
    assert "differs_from_published" not in dataset.facts


def test_market_train_and_query_junk_is_left_out_and_counted(tmp_path: Path) -> None:
    odd = ["bounding_box_train/-1_c1s1_1_1.jpg", "bounding_box_train/0000_c1s1_1_1.jpg", "query/-1_c1s1_1_1.jpg"]
    dataset = load_dataset(plant(tmp_path, [*MARKET, *odd]))
    assert {record.pid for record in (*dataset.train, *dataset.query)} == {2, 7, 3}
    assert dataset.facts["left_out_junk_and_distractors"] == {"train": 2, "query": 1}


def test_market_with_a_strange_name_or_without_a_folder(tmp_path: Path) -> None:
    part = plant(tmp_path / "part", [name for name in MARKET if not name.startswith("query")])
    assert load_dataset(part).facts["missing_folders"] == ["query"]
    bad = plant(tmp_path / "bad", [*MARKET, "query/portrait.jpg"])
    with pytest.raises(DataError, match=r"query: 1 of 2 image names are not PID_cCAM\.\.\.: portrait\.jpg"):
        load_dataset(bad)


@given(
    pid=st.integers(-1, 999_999_999),
    camid=st.integers(0, 9999),
    width=st.integers(1, 4),
    tail=st.sampled_from(["s1_000451_03.jpg", "_f0046182.jpg", ".png", "_c7_9.JPG", "s9_c3.png"]),
)
def test_market_names_round_trip(pid: int, camid: int, width: int, tail: str) -> None:
    name = f"{pid if pid < 0 else str(pid).zfill(width)}_c{camid}{tail}"
    assert market_name(name) == (pid, camid)


@given(st.text(max_size=20))
def test_market_and_pku_names_only_parse_what_they_mean(name: str) -> None:
    found = market_name(name)
    if found is not None:
        assert re.match(rf"(-1|0*{abs(found[0])})_[cC]0*{found[1]}([^0-9]|$)", name)
    oriented = pku_name(name)
    if oriented is not None:
        assert name.isascii()
        assert name.startswith(f"{oriented[0]:0{name.index('_')}}_")


@pytest.mark.parametrize(
    "name", ["-2_c1.jpg", "12c1.jpg", "a_c1.jpg", "1_c.jpg", "1_d1.jpg", "_c1.jpg", "1_c12345.jpg"]
)
def test_names_that_are_not_market(name: str) -> None:
    assert market_name(name) is None


@given(pid=st.integers(0, 999), camid=st.integers(0, 99), view=st.integers(1, 8))
def test_pku_names_round_trip(pid: int, camid: int, view: int) -> None:
    assert pku_name(f"{pid:03}_{camid:02}_{view}.png") == (pid, camid)


def pku_names(people: int) -> list[str]:
    return [f"{p:03}_{c:02}_{o}.png" for p in range(1, people + 1) for c in (1, 2) for o in (1, 2, 3)]


def test_pku_splits_identities_by_the_seed(tmp_path: Path) -> None:
    root = plant(tmp_path, [*pku_names(9), "Thumbs.db", "notes.txt"])
    dataset = load_dataset(root, seed=3)
    trained = {record.pid for record in dataset.train}
    tested = {record.pid for record in dataset.query}
    assert dataset.facts["layout"] == "pku-reid"
    assert dataset.facts["split_seed"] == 3
    assert (len(trained), len(tested)) == (5, 4)
    assert trained | tested == set(range(1, 10))
    assert dataset.query == dataset.gallery
    assert load_dataset(root, seed=3) == dataset
    assert len({tuple(record.pid for record in load_dataset(root, seed=s).train) for s in range(6)}) > 1


def test_real_pku(pku_reid: Path) -> None:
    dataset = load_dataset(pku_reid, seed=0)
    counts = dataset.facts["counts"]
    assert (counts["images"], counts["identities"], counts["cameras"]) == (800, 50, 2)
    assert (counts["train_identities"], counts["query_identities"]) == (25, 25)
    assert len(dataset.train) == len(dataset.query) == len(dataset.gallery) == 400
    assert not {r.pid for r in dataset.train} & {r.pid for r in dataset.query}
    assert dataset.facts["differs_from_published"]["identities"] == [50, 114]


def test_a_folder_around_the_dataset_is_looked_through(tmp_path: Path) -> None:
    plant(tmp_path / "Market-1501-v15.09.15", MARKET)
    (tmp_path / "licence.txt").touch()
    dataset = load_dataset(tmp_path)
    assert (dataset.facts["layout"], dataset.facts["root"]) == ("market1501", str(tmp_path))
    assert dataset.name == "Market-1501-v15.09.15"


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["train/0001_c1_1.png", "query/0002_c1_1.png", "gallery/0002_c2_1.png"], "named-split"),
        (["Train/0001_c1_1.png", "QUERY/0002_c1_1.png", "gallery/0002_c2_1.png"], "named-split"),
        (["0001_c1_1.png", "0002_c1_1.png"], "named-images"),
        (["1/a.png", "2/a.png"], "identity-folders"),
        (["train/1/a.png", "test/2/a.png", "test/2/b.png"], "identity-split"),
    ],
)
def test_own_layouts_are_recognised(names: list[str], layout: str, tmp_path: Path) -> None:
    plant(tmp_path, names)
    assert recognise(tmp_path)[0].name == layout
    assert load_dataset(tmp_path).facts["layout"] == layout
    assert load_dataset(tmp_path, layout=layout) == load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "found an empty folder"),
        (["a.jpg", "b.jpg"], r"found 2 image\(s\) \(a\.jpg, b\.jpg\); looked for bounding_box_train/"),
        (["a.txt"], r"found 1 other file\(s\) \(a\.txt\)"),
        (["sub/a.txt", "b.jpg", *(f"f{i}/x" for i in range(7))], r"8 folder\(s\) \(f0, f1, f2, f3, f4 and 3 more\)"),
    ],
)
def test_nothing_fits(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(plant(tmp_path, names))
    assert "\n" not in str(caught.value)
    assert "path,pid,camid,split" in caught.value.hint


def test_bad_places_and_bad_layout_names(tmp_path: Path) -> None:
    plant(tmp_path, ["image.jpg"])
    with pytest.raises(DataError, match="no such dataset"):
        load_dataset(tmp_path / "none")
    with pytest.raises(DataError, match=r"image\.jpg: no layout fits; found a \.jpg file"):
        load_dataset(tmp_path / "image.jpg")
    with pytest.raises(DataError, match="layout 'market' is unknown") as caught:
        load_dataset(tmp_path, layout="market")
    assert "market1501" in caught.value.hint
    with pytest.raises(DataError, match=r"no layout fits.*looked for bounding_box_train"):
        load_dataset(tmp_path, layout="market1501")


def test_two_certain_layouts_need_a_word(tmp_path: Path) -> None:
    plant(tmp_path, MARKET)
    (tmp_path / "mine.csv").write_text("path,pid,camid,split\nquery/0003_c1s1_000001_00.jpg,1,1,train\n")
    with pytest.raises(DataError, match="more than one layout fits: market1501, csv"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path, layout="csv").train) == 1
    assert len(load_dataset(tmp_path, layout="market1501").train) == 3


def test_one_identity_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 identity in 6 images, expected at least 2") as caught:
        load_dataset(plant(tmp_path, pku_names(1)))
    assert str(tmp_path) in caught.value.message


def test_every_layout_is_declared_fully() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
    for layout in layouts.LAYOUTS:
        assert layout.expects
        assert bool(layout.published) == bool(layout.citation)


def all_unlabelled(dataset: Dataset) -> bool:
    return all(record.pid is None for record in dataset.train) and not dataset.query and not dataset.gallery


def test_pretraining_takes_the_training_part_of_a_dataset(tmp_path: Path) -> None:
    pool = load_images_only(plant(tmp_path, MARKET))
    assert [record.path.name for record in pool.train] == [r.path.name for r in load_dataset(tmp_path).train]
    assert all_unlabelled(pool)
    assert pool.facts["pool"] == {"parts": ["train"], "test_images": 0, "test_images_of": []}


def test_pretraining_with_test_images_says_so_and_leaves_junk_out(tmp_path: Path) -> None:
    pool = load_images_only(plant(tmp_path / "mart", MARKET), include_test=True)
    assert len(pool.train) == 5  # 3 training, 1 query, 1 gallery; no junk, no distractor.
    assert pool.facts["pool"]["test_images"] == 2
    assert pool.facts["pool"]["test_images_of"] == ["mart"]


def test_pretraining_keeps_the_seeded_test_half_out(tmp_path: Path) -> None:
    plant(tmp_path, pku_names(8))
    pool, dataset = load_images_only(tmp_path, seed=5), load_dataset(tmp_path, seed=5)
    assert {r.path for r in pool.train} == {r.path for r in dataset.train}


def test_pretraining_on_a_plain_tree(tmp_path: Path) -> None:
    plant(tmp_path / "crops", ["2017/a.jpg", "2017/deep/b.JPEG", "voc/c.png", "top.webp", "voc/Thumbs.db", ".x/d.jpg"])
    pool = load_images_only(tmp_path / "crops")
    assert sorted(r.path.name for r in pool.train) == ["a.jpg", "b.JPEG", "c.png", "top.webp"]
    assert all_unlabelled(pool)
    assert (pool.facts["layout"], pool.facts["pool"]["test_images"]) == ("images", 0)


def test_folders_by_source_are_not_halved_but_people_with_cameras_are(tmp_path: Path) -> None:
    plant(tmp_path / "sources", ["coco/a.jpg", "voc/b.jpg", "mine/c.jpg"])
    pool = load_images_only(tmp_path / "sources")
    assert len(pool.train) == 3
    assert "folder per identity" in pool.facts["pool"]["note"]
    # Were they people after all, half of them would be the test: the guard names the set that load_dataset makes.
    assert pool.facts["pool"]["test_images_of"] == [load_dataset(tmp_path / "sources").name]
    plant(tmp_path / "people", [f"p{p}/cam{c}/a.jpg" for p in range(4) for c in (1, 2)])
    assert len(load_images_only(tmp_path / "people").train) == 4
    assert len(load_images_only(tmp_path / "people", layout="images").train) == 8


def test_the_leak_guard_sees_benchmark_folders_in_a_plain_tree(tmp_path: Path) -> None:
    plant(tmp_path / "pool", [f"market/{name}" for name in MARKET])
    plant(tmp_path / "pool", ["own/a.jpg", "loose.jpg"])
    guard = load_images_only(tmp_path / "pool").facts["pool"]
    # 4 images below bounding_box_test, one query and one of the hand-drawn boxes.
    assert guard["test_images"] == 6
    tests = ["pool/market/bounding_box_test", "pool/market/gt_bbox", "pool/market/query"]
    assert guard["test_images_of"] == tests


@pytest.mark.parametrize(("part", "images", "tests"), [("bounding_box_test", 4, 4), ("bounding_box_train", 3, 0)])
def test_a_part_of_a_benchmark_is_not_taken_for_a_dataset(part: str, images: int, tests: int, tmp_path: Path) -> None:
    pool = load_images_only(plant(tmp_path, MARKET) / part)
    assert len(pool.train) == images
    assert pool.facts["pool"]["test_images"] == tests


def test_a_dataset_without_test_folders_inside_a_pool_is_noticed(tmp_path: Path) -> None:
    plant(tmp_path / "pool", [*(f"pku/{name}" for name in pku_names(2)), "own/a.jpg"])
    guard = load_images_only(tmp_path / "pool", layout="images").facts["pool"]
    assert (guard["test_images"], guard["test_images_of"]) == (12, ["pool/pku"])


def test_pretraining_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images; found 1 other"):
        load_images_only(plant(tmp_path, ["a.txt"]))
    with pytest.raises(DataError, match="no such folder"):
        load_images_only(tmp_path / "none")
    (tmp_path / "tests.csv").write_text("path,pid,camid,split\na.txt,1,1,query\n")
    with pytest.raises(DataError, match="no images in train"):
        load_images_only(tmp_path)

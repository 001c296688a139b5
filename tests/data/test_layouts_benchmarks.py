"""Every benchmark's own tree, tiny, odd files included, against what stands in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prsnet.data.layouts import LAYOUTS, load_dataset, load_images_only, recognise
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord

Row = tuple[str, int | None, int | None]


def plant(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def rows(records: Iterable[ImageRecord]) -> list[Row]:
    return sorted((record.path.name, record.pid, record.camid) for record in records)


@dataclass(frozen=True)
class Case:
    """A tree and what is in it; the files of ``odd`` must change nothing."""

    layout: str
    train: Sequence[tuple[str, int, int | None]]
    query: Sequence[tuple[str, int, int | None]]
    gallery: Sequence[tuple[str, int, int | None]]
    odd: Sequence[str] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    variant: str = ""
    other: Sequence[str] = ()

    @property
    def files(self) -> list[str]:
        known = [name for part in (self.train, self.query, self.gallery) for name, _, _ in part]
        return [*known, *self.odd, *self.other]

    def check(self, dataset: Dataset) -> None:
        for part in ("train", "query", "gallery"):
            expected = sorted((Path(name).name, pid, camid) for name, pid, camid in getattr(self, part))
            assert rows(getattr(dataset, part)) == expected, part
        assert dataset.facts["layout"] == self.layout
        assert {key: dataset.facts.get(key) for key in self.facts} == self.facts


TRAIN, TEST = "bounding_box_train", "bounding_box_test"

CASES = [
    Case(
        "dukemtmc-reid",
        train=[(f"{TRAIN}/0001_c2_f0046182.jpg", 1, 2), (f"{TRAIN}/0001_c8_f0046182.JPG", 1, 8)],
        query=[("query/0005_c2_f0046985.jpg", 5, 2)],
        gallery=[(f"{TEST}/0005_c1_f0051341.jpg", 5, 1), (f"{TEST}/0002_c1_f0051341.jpg", 2, 1)],
        odd=[f"{TRAIN}/Thumbs.db", "CITATION.txt", "LICENSE_DukeMTMC.txt", f"{TEST}/.hidden.jpg"],
    ),
    Case(
        "cuhk03-np",
        train=[
            ("detected/bounding_box_train/0001_c1_1.png", 1, 1),
            ("detected/bounding_box_train/0001_c2_6.png", 1, 2),
        ],
        query=[("detected/query/0002_c1_1.png", 2, 1)],
        gallery=[("detected/bounding_box_test/0002_c2_5.png", 2, 2)],
        other=["labeled/bounding_box_train/0009_c1_1.png", "labeled/query/0008_c1_1.png"],
        odd=["detected/bounding_box_train/Thumbs.db"],
        facts={"variant": "detected"},
    ),
    Case(
        "cuhk03-np",
        variant="labelled",
        train=[("labeled/bounding_box_train/0009_c1_1.png", 9, 1)],
        query=[("labeled/query/0008_c1_1.png", 8, 1)],
        gallery=[("labeled/bounding_box_test/0008_c2_1.png", 8, 2)],
        other=["detected/bounding_box_train/0001_c1_1.png"],
        facts={"variant": "labelled"},
    ),
    Case(
        "market1501",
        variant="500k",
        train=[(f"{TRAIN}/0002_c1s1_000451_03.jpg", 2, 1)],
        query=[("query/0003_c1s1_000001_00.jpg", 3, 1)],
        gallery=[
            (f"{TEST}/0003_c2s1_000001_01.jpg", 3, 2),
            ("images/0000_c9s9_1.jpg", 0, None),
            ("images/7.jpg", 0, None),
        ],
        facts={"variant": "500k", "added_distractors": 2},
    ),
    Case(
        "veri776",
        train=[("image_train/0001_c001_00016450_0.jpg", 1, 1), ("image_train/0001_c020_00016450_0.JPG", 1, 20)],
        query=[("image_query/0002_c002_00030600_0.jpg", 2, 2)],
        gallery=[("image_test/0002_c003_00084280_0.jpg", 2, 3)],
        odd=["name_train.txt", "train_label.xml", "image_train/Thumbs.db"],
    ),
    Case(
        "ltcc",
        train=[("train/000_0_c1_000001.png", 1, 1), ("train/012_2_c10_015833.png", 13, 10)],
        query=[("query/094_1_c9_015833.png", 95, 9)],
        gallery=[("test/094_2_c12_015833.PNG", 95, 12)],
        odd=["info/cloth-change_id_train.txt", "train/Thumbs.db"],
    ),
    Case(
        "occluded-reid",
        train=[],
        query=[("occluded_body_images/001/001_01.tif", 1, 1), ("occluded_body_images/200/200_05.TIF", 200, 1)],
        gallery=[("whole_body_images/001/001_01.tif", 1, 2)],
        odd=["occluded_body_images/001/Thumbs.db"],
    ),
    Case(
        "partial-reid",
        train=[],
        query=[("partial_body_images/001_001.jpg", 1, 1)],
        gallery=[("whole_body_images/001_002.jpg", 1, 2), ("whole_body_images/060_001.jpg", 60, 2)],
        other=["occluded_body_images/001_003.jpg"],
        facts={"variant": "partial"},
    ),
    Case(
        "partial-reid",
        variant="occluded",
        train=[],
        query=[("occluded_body_images/001_003.jpg", 1, 1)],
        gallery=[("whole_body_images/001_002.jpg", 1, 2)],
        other=["partial_body_images/001_001.jpg"],
        facts={"variant": "occluded"},
    ),
    Case(
        "p-dukemtmc",
        train=[
            ("train/occluded_body_images/0005/0005_c2_f0046985.jpg", 5, 1),
            ("train/whole_body_images/0005/0005_c1_f0046985.jpg", 5, 2),
        ],
        query=[("test/occluded_body_images/0009/0009_c2_f0046985.jpg", 9, 1)],
        gallery=[("test/whole_body_images/0009/0009_c2_f0046986.jpg", 9, 2)],
    ),
    Case(
        "prcc",
        train=[
            ("rgb/train/001/A_cropped_rgb001.jpg", 1, 1),
            ("rgb/train/001/B_cropped_rgb001.jpg", 1, 2),
            ("rgb/train/221/C_cropped_rgb001.jpg", 221, 3),
        ],
        query=[("rgb/test/C/002/cropped_rgb010.jpg", 2, 3)],
        gallery=[("rgb/test/A/002/cropped_rgb001.jpg", 2, 1), ("rgb/test/A/002/cropped_rgb002.jpg", 2, 1)],
        other=["rgb/test/B/002/cropped_rgb005.jpg", "rgb/val/001/A_cropped_rgb009.jpg", "sketch/train/001/A_1.jpg"],
        facts={"variant": "cross-clothes"},
    ),
    Case(
        "prcc",
        variant="same-clothes",
        train=[("rgb/train/001/A_cropped_rgb001.jpg", 1, 1)],
        query=[("rgb/test/B/002/cropped_rgb005.jpg", 2, 2)],
        gallery=[("rgb/test/A/002/cropped_rgb001.jpg", 2, 1)],
        other=["rgb/test/C/002/cropped_rgb010.jpg"],
        facts={"variant": "same-clothes"},
    ),
    Case(
        "mars",
        train=[("bbox_train/0001/0001C1T0001F001.jpg", 1, 1), ("bbox_train/0001/0001C6T0002F012.jpg", 1, 6)],
        query=[("bbox_test/0002/0002C1T0001F001.jpg", 2, 1), ("bbox_test/0002/0002C3T0001F001.jpg", 2, 3)],
        gallery=[
            ("bbox_test/0002/0002C1T0002F001.jpg", 2, 1),
            ("bbox_test/0000/0000C1T0001F001.jpg", 0, 1),
            ("bbox_test/00-1/00-1C5T0001F001.jpg", -1, 5),
        ],
        other=["bbox_test/0002/0002C1T0001F002.jpg", "bbox_test/0002/0002C3T0001F002.jpg"],
        odd=["info/test_name.txt", "bbox_test/Thumbs.db"],
    ),
    Case(
        "cuhk02",
        train=[
            ("Dataset/P1/cam1/001_1.png", 10001, 1),
            ("Dataset/P1/cam2/001_2.png", 10001, 2),
            ("Dataset/P4/cam2/001_3.png", 40001, 8),
        ],
        query=[("Dataset/P5/cam1/239_1.png", 50239, 9)],
        gallery=[("Dataset/P5/cam2/239_7.PNG", 50239, 10)],
        odd=["Dataset/P1/cam1/Thumbs.db"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.layout}:{case.variant}")
def test_benchmarks_with_a_split_of_their_own(case: Case, tmp_path: Path) -> None:
    root = plant(tmp_path / "set_0042_c9" / "0001", case.files)
    case.check(load_dataset(root, layout=f"auto:{case.variant}" if case.variant else "auto"))
    named = f"{case.layout}:{case.variant}" if case.variant else case.layout
    case.check(load_dataset(root, layout=named))
    assert "citation" in load_dataset(root, layout=named).facts


def test_occluded_duke_is_told_by_its_number_of_queries(tmp_path: Path) -> None:
    train = [f"{TRAIN}/0001_c2_f0046182.jpg", f"{TEST}/0001_c2_f0046182.jpg"]
    root = plant(tmp_path, [*train, *(f"query/{pid:04}_c1_f0000001.jpg" for pid in range(1, 2211))])
    assert recognise(root)[0].name == "occluded-duke"
    (root / "query/0007_c1_f0000001.jpg").unlink()
    assert recognise(root)[0].name == "dukemtmc-reid"
    assert load_dataset(root, layout="occluded-duke").facts["published"]["query_images"] == 2210
    assert "withdrew" in load_dataset(root).facts["note"]


def msmt(root: Path, edition: str) -> Path:
    train, test = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}[edition]
    lists = {
        "train": [("0000/0000_000_01_0303morning_0008_0.jpg", 0), ("0000/0000_001_15_0303noon_0008_0.jpg", 0)],
        "val": [("0002/0002_000_03_0303morning_0008_0.jpg", 2)],
        "query": [("0000/0000_000_14_0303morning_0008_0.jpg", 0)],
        "gallery": [("0000/0000_001_02_0303morning_0008_0.jpg", 0), ("0001/0001_000_02_0303x_0_0.jpg", 1)],
    }
    for name, lines in lists.items():
        plant(root, [f"{train if name in ('train', 'val') else test}/{image}" for image, _ in lines])
        (root / f"list_{name}.txt").write_text("".join(f"{image} {pid}\n" for image, pid in lines))
    return plant(root, [f"{train}/0000/Thumbs.db", f"{train}/0009/unlisted_000_01_x.jpg"])


@pytest.mark.parametrize("edition", ["V1", "V2"])
def test_msmt17_keeps_its_people_apart_and_says_what_trains(edition: str, tmp_path: Path) -> None:
    root = msmt(tmp_path / f"MSMT17_{edition}", edition)
    dataset = load_dataset(tmp_path)
    assert [(r.pid, r.camid) for r in dataset.train] == [(1, 1), (1, 15)]
    assert [(r.pid, r.camid) for r in dataset.query] == [(2, 14)]
    assert [(r.pid, r.camid) for r in dataset.gallery] == [(2, 2), (3, 2)]
    assert (dataset.facts["edition"], dataset.facts["variant"]) == (edition, "train")
    assert dataset.facts["published"]["train_images"] == 30248
    both = load_dataset(root, layout="msmt17:train+val")
    assert [(r.pid, r.camid) for r in both.train] == [(1, 1), (1, 15), (3, 3)]
    assert [r.pid for r in both.query] == [4]
    assert both.facts["variant"] == "train+val" and "with validation" in both.facts["split"]
    assert both.facts["published"]["train_images"] == 32621
    assert {r.path.name for r in load_images_only(root, layout="msmt17:train+val").train} == {
        r.path.name for r in both.train
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0000/0000_000_01_x.jpg\n", r"1 of 1 lines are not IMAGE PID: '0000/0000_000_01_x.jpg'"),
        ("0000/x.jpg 0\n", "lines are not IMAGE PID"),
        ("../0000_000_01_x.jpg 0\n", "lines are not IMAGE PID"),
        ("0000/0000_000_01_gone.jpg 0\n", "no image 0000/0000_000_01_gone.jpg"),
    ],
)
def test_msmt17_lists_that_do_not_fit(text: str, message: str, tmp_path: Path) -> None:
    root = msmt(tmp_path, "V1")
    (root / "list_query.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(root)
    (root / "list_query.txt").unlink()
    with pytest.raises(DataError, match=r"list_query\.txt: cannot be read"):
        load_dataset(root)


def test_the_mat_file_of_cuhk03_is_refused_with_advice(tmp_path: Path) -> None:
    plant(tmp_path, ["cuhk-03.mat"])
    with pytest.raises(DataError, match="HDF5") as caught:
        load_dataset(tmp_path)
    assert "new-protocol" in caught.value.hint
    plant(tmp_path, ["detected/bounding_box_train/0001_c1_1.png"])
    assert load_dataset(tmp_path).facts["layout"] == "cuhk03-np"


def test_one_kind_of_cuhk03_boxes_alone(tmp_path: Path) -> None:
    root = plant(tmp_path / "labeled", [f"{TRAIN}/0001_c1_1.png", "query/0002_c1_1.png", f"{TEST}/0002_c2_1.png"])
    facts = load_dataset(root).facts
    assert (facts["layout"], facts["variant"], facts["published"]["train_images"]) == ("cuhk03-np", "labelled", 7368)
    with pytest.raises(DataError, match="no labelled boxes, found detected"):
        load_dataset(plant(tmp_path / "cuhk", [f"{TRAIN}/0001_c1_1.png"]), layout="cuhk03-np:labelled")


def viper() -> list[str]:
    return [f"VIPeR/cam_{cam}/{pid:03}_{angle}.bmp" for pid in range(9) for cam, angle in (("a", 0), ("b", 90))]


def test_viper_halves_by_seed(tmp_path: Path) -> None:
    files = [name.replace("_0.bmp", "_00.bmp").replace("_00.bmp", "_45.bmp") for name in viper()]
    root = plant(tmp_path, [*files, "VIPeR/README.txt", "VIPeR/cam_a/Thumbs.db"])
    dataset = load_dataset(root, seed=4)
    train, query, gallery = ({r.pid for r in part} for part in (dataset.train, dataset.query, dataset.gallery))
    assert len(train) == 4 and query == gallery == set(range(1, 10)) - train
    assert {r.camid for r in dataset.query} == {1} and {r.camid for r in dataset.gallery} == {2}
    assert all(int(r.path.name[:3]) + 1 == r.pid for r in (*dataset.train, *dataset.query, *dataset.gallery))
    assert len(dataset.train) == 8 and dataset.facts["split_seed"] == 4
    assert load_dataset(root, seed=4) == dataset
    assert len({frozenset(r.pid for r in load_dataset(root, seed=s).train) for s in range(10)}) > 3


def test_grid_keeps_its_distractors(tmp_path: Path) -> None:
    names = [f"probe/{pid:04}_1_25004_107_32_106_221.jpeg" for pid in range(1, 7)]
    names += [f"gallery/{pid:04}_5_25004_107_32_106_221.jpeg" for pid in range(1, 7)]
    root = plant(tmp_path / "underground_reid", [*names, "gallery/0000_8_1_2.jpeg", "features_and_partitions.mat"])
    dataset = load_dataset(root)
    assert dataset.facts["layout"] == "grid"
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (6, 3, 4)
    assert [(r.pid, r.camid) for r in dataset.gallery if r.pid == 0] == [(0, 8)]
    assert {r.pid for r in dataset.query} == {r.pid for r in dataset.gallery if r.pid}


def test_prid_people_of_one_camera_are_no_matches(tmp_path: Path) -> None:
    shared = [*range(1, 5), 200]
    names = [f"single_shot/cam_a/person_{n:04}.png" for n in (*shared, 201, 385)]
    names += [f"single_shot/cam_b/person_{n:04}.png" for n in (*shared, 201, 749)]
    root = plant(tmp_path / "prid_2011", [*names, "multi_shot/cam_a/person_0001/0001.png", "readme.txt"])
    dataset = load_dataset(root)
    assert dataset.facts["layout"] == "prid2011"
    assert len({r.pid for r in dataset.train}) == 2 and len(dataset.train) == 4
    assert len(dataset.query) == 3 and {r.camid for r in dataset.query} == {1}
    assert sorted(r.pid or 0 for r in dataset.gallery) == [0, 0, *sorted(r.pid or 0 for r in dataset.query)]
    assert {r.path.name for r in dataset.gallery if r.pid == 0} == {"person_0201.png", "person_0749.png"}


def test_cuhk01_pairs_of_images_are_views(tmp_path: Path) -> None:
    root = plant(tmp_path / "campus", [f"{n:04}00{i}.png" for n in range(1, 6) for i in (1, 2, 3, 4)])
    dataset = load_dataset(tmp_path)
    assert dataset.facts["layout"] == "cuhk01" and recognise(root)[0].name == "cuhk01"
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (8, 6, 6)
    assert {(r.path.stem[-1], r.camid) for r in (*dataset.train, *dataset.query, *dataset.gallery)} == {
        *(("1", 1), ("2", 1), ("3", 2), ("4", 2))
    }
    assert {r.camid for r in dataset.query} == {1}


def test_ilids_has_no_cameras(tmp_path: Path) -> None:
    plant(tmp_path / "i-LIDS_Pedestrian/Persons", [f"{n:04}{i:03}.jpg" for n in range(1, 5) for i in (1, 2, 3, 4)])
    dataset = load_dataset(tmp_path)
    assert dataset.facts["layout"] == "ilids"
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (8, 4, 4)
    assert {r.camid for r in (*dataset.train, *dataset.query, *dataset.gallery)} == {None}


def test_frames_named_by_seven_digits_are_not_taken_for_a_benchmark(tmp_path: Path) -> None:
    plant(tmp_path / "frames", [f"{n:07}.jpg" for n in range(40)] + [f"{n:07}.png" for n in range(40)])
    dataset = load_images_only(tmp_path / "frames")
    assert dataset.facts["layout"] == "images" and dataset.facts["pool"]["test_images"] == 0


def test_3dpes_cameras_are_named(tmp_path: Path) -> None:
    names = [f"{p}_{c}_FRAME_{c[0]}{p}_RGB.bmp" for p in range(1, 5) for c in ("1", "2B", "1_2")]
    plant(tmp_path, [*(f"RGB/{name}" for name in names), "MASK/1_1_FRAME_25_MASK.bmp", "RGB/Thumbs.db"])
    dataset = load_dataset(tmp_path)
    assert dataset.facts["layout"] == "3dpes" and sorted(dataset.facts["camera_names"]) == ["1", "1_2", "2B"]
    assert (len(dataset.train), len(dataset.query)) == (6, 6)
    assert {r.pid for r in (*dataset.train, *dataset.query)} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cam_a/000_45.bmp", "cam_b/000_90.bmp"], "1 people in both views, expected at least 2"),
        (["cam_a/000_45.bmp", "cam_b/000_90.bmp", "cam_b/portrait.bmp"], "not NNN_ANGLE.bmp: portrait.bmp"),
        (["bbox_train/1/x.jpg", "bbox_test/1/0001C1T0001F001.jpg"], "not PIDCcTttttFfff: x.jpg"),
        (["occluded_body_images/a/x.tif", "whole_body_images/1/1_1.tif"], "do not begin with PID_: x.tif"),
        (
            ["rgb/train/ann/A_1.jpg", "rgb/test/A/1/a.jpg", "rgb/test/B/1/a.jpg", "rgb/test/C/1/a.jpg"],
            "named by a number",
        ),
        (["rgb/train/1/x.jpg", "rgb/test/A/1/a.jpg", "rgb/test/B/1/a.jpg", "rgb/test/C/1/a.jpg"], "with A, B or C"),
    ],
)
def test_trees_that_are_wrong_are_explained_in_a_line(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(plant(tmp_path, names))
    assert "\n" not in str(caught.value) and caught.value.hint


def test_variants_that_are_not_there(tmp_path: Path) -> None:
    root = msmt(tmp_path, "V1")
    with pytest.raises(DataError, match="layout 'msmt17' has no variant 'val'") as caught:
        load_dataset(root, layout="auto:val")
    assert caught.value.hint == "variants of msmt17: train, train+val"
    plant(tmp_path / "plain", ["1/a.jpg", "2/a.jpg"])
    with pytest.raises(DataError, match="no variant 'x'"):
        load_dataset(tmp_path / "plain", layout="identity-folders:x")
    market = plant(tmp_path / "market", [f"{TRAIN}/0001_c1s1_000001_00.jpg"])
    with pytest.raises(DataError, match="no folder of distractors"):
        load_dataset(market, layout="market1501:500k")


def coco(folder: Path, content: Any) -> Path:
    plant(folder, [f"crops/{name}.jpg" for name in "abcd"])
    file = folder / "people.json"
    file.write_text(json.dumps(content))
    return file


def test_coco_identities_in_images_or_annotations(tmp_path: Path) -> None:
    file = coco(
        tmp_path,
        {
            "images": [
                {"id": 1, "file_name": "crops/a.jpg", "pid": 4, "camid": 1, "split": "train"},
                {"id": 2, "file_name": "crops/b.jpg", "camera_id": 2, "split": "query"},
                {"id": 3, "file_name": "crops/c.jpg", "split": "gallery"},
                {"id": 4, "file_name": "crops/d.jpg", "split": "gallery", "pid": -1},
            ],
            "annotations": [
                {"image_id": 2, "person_id": 7, "bbox": [0, 0, 1, 1]},
                {"image_id": 3, "identity": 7, "camera": 3, "pid": None},
            ],
            "categories": [],
        },
    )
    dataset = load_dataset(file)
    assert rows(dataset.train) == [("a.jpg", 4, 1)]
    assert rows(dataset.query) == [("b.jpg", 7, 2)]
    assert rows(dataset.gallery) == [("c.jpg", 7, 3), ("d.jpg", -1, None)]
    assert dataset.facts["layout"] == "coco" and dataset.name == "people"


def test_coco_identities_without_a_split_are_halved(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"crops/{n}.jpg", "pid": 1 + i // 2, "camid": i % 2} for i, n in enumerate("abcd")]
    dataset = load_dataset(coco(tmp_path, {"images": images}), seed=1)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (2, 2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object"),
        ({"images": 3}, "expected an object with a list of images"),
        ({"images": [], "annotations": {}}, "annotations to be a list"),
        ({"images": [{"file_name": "gone.jpg", "pid": 1}]}, r"1 bad images: gone\.jpg: no such image"),
        ({"images": [{"file_name": "crops/a.jpg"}]}, "pid None"),
        ({"images": [{"file_name": "crops/a.jpg", "pid": "7"}]}, "pid '7'"),
        ({"images": [{"file_name": "crops/a.jpg", "pid": 0}]}, "pid 0"),
        ({"images": [{"file_name": "crops/a.jpg", "pid": 1, "camid": -2}]}, "camid -2"),
        ({"images": [{"file_name": "crops/a.jpg", "pid": 1, "split": "val"}]}, "split 'val'"),
        (
            {"images": [{"id": 1, "file_name": "crops/a.jpg"}], "annotations": [{"image_id": 1}, {"image_id": 1}]},
            "2 annotations, expected one",
        ),
    ],
)
def test_coco_files_that_are_wrong(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(coco(tmp_path, content))


def test_every_benchmark_is_told_apart_from_every_other(tmp_path: Path) -> None:
    trees = {f"{case.layout}{number}": case for number, case in enumerate(CASES)}
    for name, case in trees.items():
        root = plant(tmp_path / name, case.files)
        fitting = recognise(root)[0].name
        assert fitting == case.layout
    assert {case.layout for case in CASES} <= {layout.name for layout in LAYOUTS}

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prsnet.data.crop_boxes import Box, read_boxes
from prsnet.errors import DataError


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def coco(root: Path, **changes: Any) -> Path:
    touch(root / "val2017" / "000000000139.jpg")
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 426, "width": 640}],
        "annotations": [
            {"id": 1, "image_id": 139, "category_id": 1, "bbox": [412.8, 157.61, 53.05, 138.01], "iscrowd": 0},
            {"id": 2, "image_id": 139, "category_id": 62, "bbox": [0, 0, 5, 5], "iscrowd": 0},
            {"id": 3, "image_id": 139, "category_id": 1, "bbox": [0, 0, 300, 200], "iscrowd": 1, "pid": 4, "camid": 0},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 62, "name": "chair"}],
    }
    return write(root / "annotations" / "instances_val2017.json", json.dumps({**content, **changes}))


def test_coco(tmp_path: Path) -> None:
    kind, boxes = read_boxes(coco(tmp_path))
    image = tmp_path / "val2017" / "000000000139.jpg"
    assert kind == "coco"
    assert boxes[0].edges == pytest.approx((412.8, 157.61, 465.85, 295.62))
    assert (boxes[0].image, boxes[0].declared, boxes[0].crowd, boxes[0].pid) == (image, (426, 640), False, None)
    assert (boxes[1].crowd, boxes[1].pid, boxes[1].camid) == (True, 4, 0)
    assert len(boxes) == 2
    moved = tmp_path / "elsewhere" / "pictures"
    touch(moved / "000000000139.jpg")
    assert read_boxes(coco(tmp_path), images=moved)[1][0].image == moved / "000000000139.jpg"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 139, "file_name": "gone.jpg"}]}, r"images are not beside it \(looked for gone\.jpg\)"),
        ({"categories": 7}, "not COCO annotations"),
        ({"annotations": [{"id": 9, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "annotation 9: 1"),
        (
            {"annotations": [{"id": 9, "image_id": 139, "category_id": 1, "bbox": [0, 0, 1]}]},
            "annotation 9: not enough",
        ),
        (
            {"annotations": [{"id": 9, "image_id": 139, "category_id": 1, "bbox": [0, 0, "x", 1]}]},
            "annotation 9: could",
        ),
        (
            {"annotations": [{"id": 9, "image_id": 139, "category_id": 1, "bbox": [0, 0, 1, float("nan")]}]},
            "annotation 9: nan is no number",
        ),
        (
            {"annotations": [{"id": 9, "image_id": 139, "category_id": 1, "bbox": [0, 0, 1, 1], "pid": -3}]},
            "annotation 9: pid -3",
        ),
    ],
)
def test_coco_that_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_boxes(coco(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_coco_file_names_stay_in_their_folder(tmp_path: Path) -> None:
    outside = [{"id": 139, "file_name": "../../secret.jpg"}]
    with pytest.raises(DataError, match="leads out of its folder"):
        read_boxes(coco(tmp_path, images=outside), images=tmp_path / "val2017")


VOC = """<annotation>
  <filename>2007_000027.jpg</filename>
  <size><width>486</width><height>500</height><depth>3</depth></size>
  <object><name>person</name><truncated>1</truncated><difficult>0</difficult>
    <bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
  <object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>
  <object><name>person</name><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>486</xmax><ymax>500</ymax></bndbox></object>
</annotation>"""


def test_voc(tmp_path: Path) -> None:
    touch(tmp_path / "JPEGImages" / "2007_000027.jpg")
    write(tmp_path / "Annotations" / "2007_000027.xml", VOC)
    kind, boxes = read_boxes(tmp_path)
    image = tmp_path / "JPEGImages" / "2007_000027.jpg"
    # VOC counts pixels from 1 and includes the last one.
    assert kind == "voc"
    assert boxes == [
        Box(image, (173, 100, 349, 351), declared=(500, 486), truncated=True),
        Box(image, (0, 0, 486, 500), declared=(500, 486), difficult=True),
    ]


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has a DOCTYPE or entities, refused"),
        ('<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', "has a DOCTYPE"),
        ("<annotation><object>", "not a VOC annotation"),
        (VOC.replace("174", "left"), "not a VOC annotation: could not convert"),
        (VOC.replace("<xmin>174</xmin>", ""), "not a VOC annotation"),
        (VOC.replace("2007_000027.jpg", "../2007.jpg"), "leads out of its folder"),
    ],
)
def test_voc_that_is_wrong_or_dangerous(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path / "JPEGImages" / "2007_000027.jpg")
    write(tmp_path / "Annotations" / "2007_000027.xml", text)
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path)
    (tmp_path / "Annotations" / "2007_000027.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_boxes(tmp_path)


def mot(root: Path, name: str, text: str, *, kind: str = "gt", frames: int = 4) -> Path:
    touch(*(root / name / "img1" / f"{frame:06}.jpg" for frame in range(1, frames + 1)))
    write(root / name / kind / f"{kind}.txt", text)
    return root


def test_mot_ground_truth_gives_identities_over_sequences(tmp_path: Path) -> None:
    mot(tmp_path, "MOT17-02", "1,3,11,21,30,80,1,1,0.5\n2,3,12,22,30,80,1,1,1\n1,9,1,1,5,5,0,1,1\n1,4,1,1,5,5,1,7,1\n")
    mot(tmp_path, "MOT17-04", "4,3,5,5,20,60,1,1,0.25\n")
    touch(tmp_path / "MOT17-02" / "seqinfo.ini", tmp_path / "MOT17-02" / "img1" / "Thumbs.db")
    kind, boxes = read_boxes(tmp_path)
    assert kind == "mot"
    assert [(b.image.name, b.edges, b.pid, b.camid, b.group, b.visibility) for b in boxes] == [
        ("000001.jpg", (10, 20, 40, 100), 1, 1, "MOT17-02", 0.5),
        ("000002.jpg", (11, 21, 41, 101), 1, 1, "MOT17-02", 1.0),
        ("000004.jpg", (4, 4, 24, 64), 2, 2, "MOT17-04", 0.25),
    ]
    assert [b.image.name for b in read_boxes(tmp_path, every=2)[1]] == ["000002.jpg", "000004.jpg"]
    assert [b.camid for b in read_boxes(tmp_path / "MOT17-04")[1]] == [1]


def test_mot_detections_have_scores_and_nobody(tmp_path: Path) -> None:
    mot(tmp_path, "S1", "1,-1,11,21,30,80,0.9,-1,-1,-1\n1,-1,11,21,30,80,-0.2\n", kind="det")
    boxes = read_boxes(tmp_path)[1]
    assert [(b.pid, b.score, b.visibility) for b in boxes] == [(None, 0.9, None), (None, -0.2, None)]


@pytest.mark.parametrize("line", ["1,2,3", "a,1,2,3,4,5,6", "99,1,2,3,4,5,1,1,1", "1,1,nan,3,4,5,1,1,1"])
def test_mot_lines_that_are_wrong(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"gt\.txt: 1 of 1 entries are bad"):
        read_boxes(mot(tmp_path, "S1", line))


def test_yolo(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "train" / "a.jpg", tmp_path / "images" / "b.PNG", tmp_path / "images" / "Thumbs.db")
    write(tmp_path / "labels" / "train" / "a.txt", "0 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4\n0 0.25 0.5 0.5 1 0.75\n\n")
    kind, boxes = read_boxes(tmp_path)
    assert kind == "yolo" and len(boxes) == 2
    assert boxes[0].relative and boxes[0].edges == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert boxes[0].score is None and boxes[1].score == 0.75
    write(tmp_path / "labels" / "b.txt", "0 50 50 20 40\n")
    with pytest.raises(DataError, match="not shares of the picture"):
        read_boxes(tmp_path)


def test_csv_boxes(tmp_path: Path) -> None:
    text = "image,left,top,width,height,pid,camid,score\nx/a.jpg,1,2,30.5,40,7,0,0.9\nx/a.jpg,1,2,30,40,,,\n"
    boxes = read_boxes(write(tmp_path / "boxes.csv", text))[1]
    image = tmp_path / "x" / "a.jpg"
    assert boxes == [
        Box(image, (1, 2, 31.5, 42), pid=7, camid=0, score=0.9),
        Box(image, (1, 2, 31, 42)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: columns none"),
        ("image,left,top,right,bottom\n", "line 1: columns image, left, top, right, bottom"),
        ("image,left,top,width,height\na.jpg,1,2,x,4\n", r"row 2 \(could not convert"),
        ("image,left,top,width,height\na.jpg,1,2\n", "row 2"),
        ("image,left,top,width,height,pid\na.jpg,1,2,3,4,-1\n", "count from 0"),
    ],
)
def test_csv_boxes_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes(write(tmp_path / "boxes.csv", text))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "none", "no such file"),
        (lambda root: root, "no annotations that are known here"),
        (lambda root: write(root / "x.json", "[1, 2"), "not COCO annotations"),
        (lambda root: write(root / "x.txt", "1"), "no annotations"),
    ],
)
def test_places_without_annotations(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes(make(tmp_path))
    for kind in ("voc", "yolo", "mot"):
        with pytest.raises(DataError, match="no "):
            read_boxes(tmp_path, kind)

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prsnet.cli.main import main
from prsnet.data.crop_boxes import Box
from prsnet.data.crops import CropRules, crop_name, make_crops, refused, window
from prsnet.data.layouts import load_dataset
from prsnet.errors import DataError

LOOSE = CropRules(least_size=(1, 1), aspect=(1e-6, 1e6), image_format="png")


def picture(path: Path, height: int = 100, width: int = 80) -> Path:
    """A picture whose pixels tell their place: red = column, green = row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None], np.arange(height)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_the_pixels_of_the_box_are_cut(tmp_path: Path) -> None:
    image = picture(tmp_path / "scene.png")
    report = make_crops([Box(image, (10, 20, 40, 90))], tmp_path / "out", rules=LOOSE)
    row = dict(zip(["crop", "image", "left", "top", "right", "bottom"], report.rows[0], strict=False))
    pixels = np.asarray(Image.open(tmp_path / "out" / row["crop"]))
    assert pixels.shape == (70, 30, 3)
    assert pixels[0, 0].tolist() == [10, 20, 0] and pixels[-1, -1].tolist() == [39, 89, 0]
    assert (row["left"], row["top"], row["right"], row["bottom"]) == ("10", "20", "40", "90")


@given(
    st.tuples(*[st.floats(-50, 150)] * 4),
    st.floats(0, 0.5),
    st.tuples(st.integers(1, 100), st.integers(1, 100)),
)
def test_windows_lie_in_the_picture_and_obey_the_rules(
    edges: tuple[float, float, float, float], margin: float, size: tuple[int, int]
) -> None:
    rules = CropRules(least_size=(8, 4), aspect=(0.5, 4), margin=margin)
    place, reason = window(Box(Path("x.png"), edges), size, rules)
    inside = (max(edges[0], 0), max(edges[1], 0), min(edges[2], size[1]), min(edges[3], size[0]))
    wide, tall = inside[2] - inside[0], inside[3] - inside[1]
    fits = wide >= 4 and tall >= 8 and 0.5 <= tall / wide <= 4
    assert (place is not None) == fits and bool(reason) != fits
    if place is not None:
        left, top, right, bottom = place
        assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
        assert left == max(round(inside[0] - margin * wide), 0)
        assert bottom == min(round(inside[3] + margin * tall), size[0])


def test_relative_boxes_and_reasons() -> None:
    half = Box(Path("x"), (0.25, 0.0, 0.75, 1.0), relative=True)
    assert window(half, (100, 60), LOOSE) == ((15, 0, 45, 100), "")
    assert window(replace(half, relative=False), (100, 60), CropRules())[1] == "small"
    assert window(Box(Path("x"), (90, 0, 99, 9)), (50, 50), LOOSE)[1] == "outside the picture"
    assert window(Box(Path("x"), (0, 0, 90, 70)), (100, 100), CropRules())[1] == "aspect"


@pytest.mark.parametrize(
    ("change", "rule", "reason"),
    [
        ({"crowd": True}, {"crowd": True}, "crowd"),
        ({"truncated": True}, {"truncated": True}, "truncated"),
        ({"difficult": True}, {"difficult": True}, "difficult"),
        ({"visibility": 0.2}, {"least_visibility": 0.2}, "hardly visible"),
        ({"score": 0.4}, {"least_score": 0.4}, "low score"),
        ({"pid": None}, {"by_identity": False}, "no identity"),
        ({"pid": 0}, {"by_identity": False}, "no identity"),
    ],
)
def test_marks_keep_a_box_out_unless_allowed(change: dict[str, Any], rule: dict[str, Any], reason: str) -> None:
    strict = CropRules(truncated=False, by_identity=True)
    box = Box(Path("x"), (0, 0, 1, 1), pid=1)
    assert refused(box, strict) == ""
    assert refused(replace(box, **change), strict) == reason
    assert refused(replace(box, **change), replace(strict, **rule)) == ""


def test_names_are_safe_and_tell_the_person() -> None:
    box = Box(Path("/a/b c/sc ne.v2.jpg"), (0, 0, 1, 1), pid=7, camid=3)
    assert crop_name(box, 12, CropRules()) == "b-c/sc-ne.v2_00000012.jpg"
    assert crop_name(replace(box, group="../.."), 12, CropRules()) == "-/sc-ne.v2_00000012.jpg"
    assert crop_name(replace(box, group="..."), 0, CropRules(image_format="png")).startswith("images/")
    assert crop_name(box, 12, CropRules(by_identity=True)) == "00007_c3_00000012.jpg"


def test_odd_pictures_are_counted_not_fatal(tmp_path: Path) -> None:
    good, broken = picture(tmp_path / "a.png"), tmp_path / "b.png"
    broken.write_bytes(b"no picture")
    boxes = [
        Box(good, (0, 0, 40, 90)),
        Box(broken, (0, 0, 40, 90)),
        Box(tmp_path / "gone.png", (0, 0, 40, 90)),
        Box(good, (0, 0, 40, 90), declared=(80, 100)),
        Box(good, (0, 0, 40, 90), crowd=True),
        Box(good, (0, 0, 3, 9)),
    ]
    report = make_crops(boxes, tmp_path / "out")
    assert [row[0] for row in report.rows] == [f"images/{tmp_path.name}/a_00000000.jpg".replace(" ", "-")]
    assert report.left_out == {"crowd": 1, "other picture size": 1, "small": 1, "unreadable picture": 2}
    assert [Path(name).name for name in report.unreadable] == ["b.png", "gone.png"]
    settings = json.loads((tmp_path / "out" / "crops.json").read_text(encoding="utf-8"))
    assert settings["left_out"] == report.left_out and settings["crops"] == 1 and settings["boxes"] == 6


def many(tmp_path: Path, pictures: int = 12) -> list[Box]:
    images = [picture(tmp_path / "scenes" / f"{index:03}.png", 100, 80) for index in range(pictures)]
    return [Box(image, (5 * j, 2 * j, 5 * j + 30, 2 * j + 80)) for image in images for j in range(5)]


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    boxes = many(tmp_path)
    make_crops(boxes, tmp_path / "whole", source="s")
    make_crops(boxes, tmp_path / "halves", source="s", workers=1)
    out = tmp_path / "halves"
    kept = sorted((out / "images").rglob("*.jpg"))
    for path in kept[::2]:
        path.unlink()
    kept[1].write_bytes(b"")  # a file that a crash of the machine emptied
    (out / "images" / ".crop-abc").write_bytes(b"half a file")
    (out / "crops.csv").unlink()
    stamp = kept[3].stat().st_ino
    make_crops(boxes, out, source="s")
    assert tree(out) == tree(tmp_path / "whole")
    assert kept[3].stat().st_ino == stamp
    with (out / "crops.csv").open(encoding="utf-8") as lines:
        assert [row["crop"] for row in csv.DictReader(lines)] == [
            f"images/scenes/{i:03}_{5 * i + j:08}.jpg" for i in range(12) for j in range(5)
        ]
    with pytest.raises(DataError, match="other settings"):
        make_crops(boxes, out, source="s", rules=CropRules(margin=0.1))
    with pytest.raises(DataError, match="other settings"):
        make_crops(boxes[1:], out, source="s")
    with pytest.raises(DataError, match="is not empty"):
        make_crops(boxes, tmp_path / "scenes")
    with pytest.raises(DataError, match="no person boxes"):
        make_crops([], tmp_path / "none")


@pytest.mark.slow
def test_killed_in_the_middle_then_complete_and_identical(tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    for index in range(120):
        picture(root / "images" / f"{index:03}.png", 300, 250)
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{index:03}.txt").write_text("0 0.5 0.5 0.3 0.8\n" * 4)
    command = [
        sys.executable,
        "-m",
        "prsnet",
        "data",
        "crops",
        str(root),
        "--image-format",
        "png",
        "--workers",
        "1",
        "--out",
    ]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(tmp_path / "out")], stdout=subprocess.DEVNULL)
    while sum(1 for _ in (tmp_path / "out").rglob("*.png")) < 20:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "crops.csv").exists()
    subprocess.run([*command, str(tmp_path / "out")], check=True, capture_output=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_tracking_data_becomes_a_reid_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "train", tmp_path / "crops"
    for name in ("MOT17-02", "MOT17-04"):
        lines = []
        for frame in range(1, 4):
            picture(root / name / "img1" / f"{frame:06}.png", 120, 200)
            lines += [f"{frame},{person},{20 * person},5,30,80,1,1,1" for person in (1, 2, 5)]
        (root / name / "gt").mkdir()
        (root / name / "gt" / "gt.txt").write_text("\n".join(lines))
    assert main(["data", "crops", str(root), "--out", str(out), "--identities", "--every", "1"]) == 0
    assert "mot annotations, 18 person boxes" in capsys.readouterr().out
    dataset = load_dataset(out / "images")
    assert dataset.facts["layout"] == "named-images"
    assert dataset.facts["counts"]["identities"] == 6 and dataset.facts["counts"]["cameras"] == 2


def test_the_verb_refuses_what_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "crops", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "no annotations that are known" in capsys.readouterr().err
    assert main(["data", "crops", str(tmp_path), "--out", "o", "--aspect", "3", "1", "--every", "0"]) == 2
    told = capsys.readouterr().err
    assert "aspect" in told and "every" in told

"""One set of people, written in many layouts, reads back as the same people in the same parts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.data.layouts import load_dataset
from prsnet.types import Dataset

Row = tuple[str, int, int]
"""Part, pid, camid."""


def touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def named(parts: dict[str, str], name: str) -> Callable[[Path, list[Row]], Path]:
    def write(root: Path, rows: list[Row]) -> Path:
        for number, (part, pid, camid) in enumerate(rows):
            touch(root / parts[part] / name.format(pid=pid, camid=camid, n=number))
        return root

    return write


def write_csv(root: Path, rows: list[Row]) -> Path:
    with (root / "mine.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "pid", "camid", "split"])
        for number, (part, pid, camid) in enumerate(rows):
            touch(root / "all" / f"{number}.png")
            lines.writerow([f"all/{number}.png", pid, camid, part])
    return root / "mine.csv"


def write_coco(root: Path, rows: list[Row]) -> Path:
    images = []
    for number, (part, pid, camid) in enumerate(rows):
        touch(root / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "pid": pid, "camid": camid, "split": part})
    (root / "mine.json").write_text(json.dumps({"images": images}))
    return root / "mine.json"


def write_msmt(root: Path, rows: list[Row]) -> Path:
    """MSMT17 counts the people of training and of the test from 0, each apart."""
    first = 1 + max((pid for part, pid, _ in rows if part == "train"), default=0)
    lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    for number, (part, pid, camid) in enumerate(rows):
        own = pid - 1 if part == "train" else pid - first
        name = f"{own:04}/{own:04}_{number:03}_{camid:02}_x.jpg"
        touch(root / ("train" if part == "train" else "test") / name)
        lists[part].append(f"{name} {own}")
    for part, lines in lists.items():
        (root / f"list_{part}.txt").write_text("\n".join(lines))
    return root


MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PLAIN = {"train": "train", "query": "query", "gallery": "gallery"}
VERI = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
WRITERS: dict[str, Callable[[Path, list[Row]], Path]] = {
    "market1501": named(MARKET, "{pid:04}_c{camid}s1_{n:06}_01.jpg"),
    "dukemtmc-reid": named(MARKET, "{pid:04}_c{camid}_f{n:07}.jpg"),
    "named-split": named(PLAIN, "{pid}_c{camid}_{n}.PNG"),
    "identity-split": named(PLAIN, "{pid}/cam{camid}/{n}.jpeg"),
    "veri776": named(VERI, "{pid:04}_c{camid:03}_{n:08}_0.jpg"),
    "csv": write_csv,
    "coco": write_coco,
    "msmt17": write_msmt,
}


def people(dataset: Dataset) -> dict[str, list[tuple[int | None, int | None]]]:
    return {part: sorted((r.pid, r.camid) for r in getattr(dataset, part)) for part in ("train", "query", "gallery")}


@st.composite
def sets_of_people(draw: st.DrawFn) -> list[Row]:
    """Some train (pids from 1, without gaps), others are query and gallery; cameras 1 to 6."""
    trained, tested = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cameras = st.lists(st.integers(1, 6), min_size=1, max_size=3)
    rows = [("train", pid, camid) for pid in range(1, trained + 1) for camid in draw(cameras)]
    for pid in range(trained + 1, trained + tested + 1):
        rows += [(part, pid, camid) for part in ("query", "gallery") for camid in draw(cameras)]
    return rows


@pytest.mark.parametrize("layout", sorted(WRITERS))
@settings(max_examples=8, deadline=None)
@given(rows=sets_of_people())
def test_written_and_read_back(layout: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = WRITERS[layout](tmp_path_factory.mktemp("set"), rows)
    dataset = load_dataset(place)
    expected: dict[str, list[tuple[int, int]]] = {"train": [], "query": [], "gallery": []}
    for part, pid, camid in rows:
        expected[part].append((pid, camid))
    assert dataset.facts["layout"] == layout
    assert people(dataset) == {part: sorted(found) for part, found in expected.items()}

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prsnet.cli.main import main
from prsnet.data.layouts import load_dataset, load_images_only
from prsnet.data.pool import Pool, copy_pool, make_pool, read_pool, write_pool
from prsnet.data.synthetic import generate_people, write_dataset
from prsnet.errors import DataError


@pytest.fixture(scope="module")
def people() -> list[Image.Image]:
    return [Image.fromarray(sighting.image) for sighting in generate_people(6, 2, 1, seed=8, size=(64, 32))]


@pytest.fixture
def mixed(people: list[Image.Image], tmp_path: Path) -> Path:
    """Two folders of crops; each file's name says what it is."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    for index in (0, 1, 2):
        people[index].save(first / f"good{index}.png")
    for index in (3, 4):
        people[index].save(second / f"good{index}.png")
    people[0].save(second / "copy.bmp")
    people[1].resize((64, 128)).save(second / "near.jpg", quality=60)
    people[5].resize((12, 24)).save(second / "tiny.png")
    Image.new("RGB", (32, 64), (80, 90, 100)).save(second / "blank.png")
    (second / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return tmp_path


def sources(root: Path) -> list[str]:
    return [str(root / "first"), str(root / "second")]


def pool_of(root: Path) -> Pool:
    return make_pool([load_images_only(folder, layout="images") for folder in sources(root)], workers=2)


def test_a_pool_leaves_out_what_is_no_good_and_says_why(mixed: Path) -> None:
    pool = pool_of(mixed)
    assert [(path.name, source) for path, source in pool.images] == [
        *(("good0.png", 0), ("good1.png", 0), ("good2.png", 0), ("good3.png", 1), ("good4.png", 1))
    ]
    assert {(one.path.name, one.source, one.reason) for one in pool.left_out} == {
        ("copy.bmp", 1, "duplicate"),
        ("near.jpg", 1, "near-duplicate"),
        ("tiny.png", 1, "small"),
        ("blank.png", 1, "blank"),
        ("broken.jpg", 1, "unreadable"),
    }
    causes = {one.path.name: one.cause for one in pool.left_out}
    assert causes["copy.bmp"].endswith("good0.png") and causes["near.jpg"].endswith("good1.png")
    assert causes["tiny.png"] == "12x24"
    assert [source["taken"] for source in pool.sources] == [3, 2]
    exact = make_pool([load_images_only(mixed / n, layout="images") for n in ("first", "second")], near=False)
    assert "near.jpg" in {path.name for path, _ in exact.images}


def test_the_manifest_round_trips_and_is_the_same_every_time(mixed: Path) -> None:
    write_pool(pool_of(mixed), mixed / "a.json")
    write_pool(pool_of(mixed), mixed / "b.json")
    assert (mixed / "a.json").read_bytes() == (mixed / "b.json").read_bytes()
    images, facts = read_pool(mixed / "a.json")
    assert images == [path for path, _ in pool_of(mixed).images]
    assert facts["sources"][1]["left_out"]["blank"] == 1
    content = json.loads((mixed / "a.json").read_text(encoding="utf-8"))
    assert content["images"][0] == ["first/good0.png", 0]
    shutil.move(str(mixed), str(mixed.parent / "moved"))
    moved = mixed.parent / "moved"
    assert [path.name for path in read_pool(moved / "a.json")[0]] == [path.name for path in images]
    shutil.move(str(moved), str(mixed))


def test_a_pool_is_data_for_pretraining_and_keeps_its_guard(mixed: Path) -> None:
    write_pool(pool_of(mixed), mixed / "pool.json")
    for dataset in (load_images_only(mixed / "pool.json"), load_dataset(mixed / "pool.json")):
        assert [record.path.name for record in dataset.train] == [f"good{i}.png" for i in range(5)]
        assert {record.pid for record in dataset.train} == {None}
        assert dataset.facts["layout"] == "pool" and dataset.facts["pool"]["test_images"] == 0


def test_test_images_are_counted_or_kept_out(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    write_dataset(bench, identities=4, cameras=2, images_per_camera=2, size=(64, 32), seed=1, image_format="png")
    dataset = load_dataset(bench)
    leaky = make_pool([load_images_only(bench, include_test=True)])
    assert leaky.guard()["test_images"] == 8 and leaky.guard()["test_images_of"] == ["bench"]
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(dataset.query[0].path, own / "stolen.png")
    Image.open(dataset.gallery[0].path).resize((48, 96)).save(own / "shrunk.png")
    shutil.copy(dataset.train[0].path, own / "fine.png")
    parts = [load_images_only(own, layout="images"), load_images_only(bench, include_test=True)]
    guarded = make_pool(parts, keep_out=[dataset])
    assert sorted(path.name for path, source in guarded.images if source == 0) == ["fine.png"]
    assert not {path for path, _ in guarded.images} & {r.path for r in (*dataset.query, *dataset.gallery)}
    reasons = [one.reason for one in guarded.left_out]
    assert reasons.count("kept out") == 10 and reasons.count("duplicate") == 1
    assert guarded.guard()["kept_out"] == ["bench"]


def test_copies_stand_alone_and_are_made_once(mixed: Path) -> None:
    pool = pool_of(mixed)
    copied = copy_pool(pool, mixed / "copies")
    assert [path.read_bytes() for path, _ in copied.images] == [path.read_bytes() for path, _ in pool.images]
    before = {path: path.stat().st_ino for path, _ in copied.images}
    copied.images[0][0].unlink()
    again = copy_pool(pool, mixed / "copies")
    assert again == copied
    assert {path: path.stat().st_ino for path, _ in again.images[1:]} == dict(list(before.items())[1:])


def test_pools_that_are_damaged_or_empty(mixed: Path) -> None:
    (mixed / "x.json").write_text('{"format": "prsnet-pool", "version": 1}')
    with pytest.raises(DataError, match="a damaged pool"):
        load_dataset(mixed / "x.json")
    (mixed / "x.json").write_text('{"format": "prsnet-pool", "version": 2}')
    with pytest.raises(DataError, match="not a pool of version 1"):
        load_dataset(mixed / "x.json")
    (mixed / "x.json").write_text('{"format": "prsnet-pool", "ver')
    with pytest.raises(DataError, match="not a pool"):
        load_dataset(mixed / "x.json")
    write_pool(pool_of(mixed), mixed / "pool.json")
    (mixed / "first/good1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 5 images are gone: .*good1\.png"):
        load_images_only(mixed / "pool.json")
    for path in (mixed / "second").glob("good*"):
        path.unlink()
    for name in ("copy.bmp", "near.jpg"):
        (mixed / "second" / name).unlink()
    with pytest.raises(DataError, match="none of 3 images can be used: "):
        make_pool([load_images_only(mixed / "second", layout="images")])


def test_the_verb(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = mixed / "out" / "pool.json"
    assert main(["data", "pool", *sources(mixed), "--out", str(out), "--layout", "images"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[1].split() == ["first", "3", "none"]
    assert "1 near-duplicate" in told and len(read_pool(out)[0]) == 5
    assert (
        main(["data", "pool", *sources(mixed), "--out", str(out), "--layout", "images", "--copy", str(mixed / "c")])
        == 0
    )
    assert all("/c/0" in str(path) for path in read_pool(out)[0])
    capsys.readouterr()
    assert main(["data", "pool", "--out", str(out)]) == 2
    assert main(["data", "pool", str(mixed / "nowhere"), "--out", str(out)]) == 2
    assert main(["data", "pool", str(mixed / "first"), "--out", "pool.txt"]) == 2
    assert "ending in .json" in capsys.readouterr().err


def test_contrast_is_judged_like_the_check(tmp_path: Path) -> None:
    ramp = np.linspace(100, 113, 64)[:, None, None].repeat(32, 1).repeat(3, 2).astype(np.uint8)  # deviation about 3.8
    Image.fromarray(ramp).save(tmp_path / "flat.png")
    Image.fromarray((ramp.astype(int) * 2 - 100).astype(np.uint8)).save(tmp_path / "seen.png")
    pool = make_pool([load_images_only(tmp_path, layout="images")])
    assert [path.name for path, _ in pool.images] == ["seen.png"]
    assert [one.reason for one in pool.left_out] == ["blank"]

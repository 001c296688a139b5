from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prsnet.cli.main import main
from prsnet.data.check import check_dataset
from prsnet.data.check_findings import files_of
from prsnet.data.images import load_image, load_stack, read_image
from prsnet.data.layouts import load_dataset, load_images_only
from prsnet.data.loaders import ImageStore
from prsnet.data.pack import pack_dataset
from prsnet.data.pack_file import open_pack, packed_row, row_path, rows_of_one_pack, write_pack
from prsnet.data.samplers import PADDING
from prsnet.data.scan import scan_images
from prsnet.data.synthetic import write_dataset
from prsnet.errors import DataError
from prsnet.types import Dataset

SIZE = (32, 16)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "people"
    write_dataset(folder, identities=6, cameras=2, images_per_camera=2, size=(64, 32), seed=2, distractors=2, junk=1)
    return folder


@pytest.fixture(scope="module")
def packed(people: Path) -> Path:
    file = people.parent / "people.pack"
    pack_dataset(load_dataset(people), file, SIZE, workers=2)
    return file


def test_a_packed_dataset_has_the_same_records_in_the_same_order(people: Path, packed: Path) -> None:
    before, after = load_dataset(people), load_dataset(packed)
    for part in ("train", "query", "gallery"):
        one, other = getattr(before, part), getattr(after, part)
        assert [(r.pid, r.camid) for r in one] == [(r.pid, r.camid) for r in other]
        assert np.array_equal(load_stack([r.path for r in one], SIZE), load_stack([r.path for r in other], SIZE))
    assert after.name == before.name and after.facts["counts"] == before.facts["counts"]
    assert after.facts["layout"] == "pack" and after.facts["layout_when_packed"] == "market1501"
    assert after.facts["packed_from"] == str(people)
    assert after.facts["citation"] == before.facts["citation"]
    assert open_pack(packed).facts["paths"][0] == str(before.train[0].path)


def test_pretraining_takes_the_same_images_from_a_pack(people: Path, packed: Path) -> None:
    for include_test in (False, True):
        one, other = (load_images_only(path, include_test=include_test) for path in (people, packed))
        assert one.facts["pool"] == other.facts["pool"]
        stacks = [load_stack([record.path for record in dataset.train], SIZE) for dataset in (one, other)]
        assert sorted(image.tobytes() for image in stacks[0]) == sorted(image.tobytes() for image in stacks[1])


@pytest.mark.parametrize("memory", [float("inf"), 0])
def test_batches_are_bitwise_the_same(people: Path, packed: Path, memory: float) -> None:
    stores = [
        ImageStore([record.path for record in load_dataset(path).train], SIZE, memory=memory)
        for path in (people, packed)
    ]
    assert stores[1].cached
    plan = [np.array([3, 0, PADDING, 11, 3]), np.array([PADDING, PADDING]), np.array([5])]
    for one, other in zip(*(list(store.in_order(plan)) for store in stores), strict=True):
        assert torch.equal(one, other)
    batch = stores[1].take(plan[0])
    batch += 1  # what is done to a batch never reaches the file
    assert torch.equal(stores[1].take(plan[0]), stores[0].take(plan[0]))


def test_a_packed_image_is_read_like_a_file(packed: Path) -> None:
    record = load_dataset(packed).train[3]
    pixels = read_image(record.path)
    assert pixels.shape == (*SIZE, 3) and pixels.flags.c_contiguous
    assert np.array_equal(pixels, load_image(record.path, SIZE))
    assert packed_row(record.path) == (packed, 3)
    assert packed_row(packed / "x.png") is None and packed_row(packed.with_name("gone.pack") / "00000001") is None


def test_another_size_is_refused_rather_than_resized_twice(packed: Path) -> None:
    paths = [record.path for record in load_dataset(packed).train]
    for use in (lambda: ImageStore(paths, (64, 32)), lambda: load_image(paths[0], (64, 32))):
        with pytest.raises(DataError, match="packed at 16x32 pixels, wanted 32x64") as caught:
            use()
        assert caught.value.hint == "pack them again with --image-size 64 32"


def test_mixed_paths_are_no_single_pack(people: Path, packed: Path) -> None:
    record = load_dataset(people).train[0]
    assert rows_of_one_pack([record.path, row_path(packed, 0)]) is None
    mixed = ImageStore([record.path, row_path(packed, 0)], SIZE)
    images = mixed.take(np.array([0, 1]))
    assert torch.equal(images[0], images[1])


def test_the_doctor_reads_packs(packed: Path) -> None:
    dataset = load_dataset(packed)
    check = check_dataset(dataset, scan_images(files_of(dataset)))
    assert check.scan.heights.tolist() == [SIZE[0]] * len(check.scan) and not check.scan.errors


def test_a_seeded_split_is_packed_and_held_to(tmp_path: Path, pku_reid: Path) -> None:
    dataset = load_dataset(pku_reid, seed=3)
    few = Dataset(dataset.name, dataset.train[:40], dataset.query[:8], dataset.gallery[:8], dataset.facts)
    pack_dataset(few, tmp_path / "pku.pack", SIZE)
    assert [r.pid for r in load_dataset(tmp_path / "pku.pack", seed=3).train] == [r.pid for r in few.train]
    with pytest.raises(DataError, match="packed with split seed 3, asked for 0"):
        load_dataset(tmp_path / "pku.pack")


def test_the_format_is_what_it_says(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 2), dtype=np.uint8)
    write_pack(tmp_path / "x.pack", iter([images[:3], images[3:]]), size=(4, 2), facts={"a": 1})
    data = (tmp_path / "x.pack").read_bytes()
    magic, offset, length, digest = struct.unpack("<8sQQ32s", data[:56])
    assert magic == b"PRSPACK1" and data[4096:offset] == images.tobytes()
    trailer = data[offset : offset + length]
    assert hashlib.sha256(trailer).digest() == digest and len(data) == offset + length
    content = json.loads(trailer)
    sums = np.frombuffer(base64.b64decode(content["crc32"]), "<u4").tolist()
    assert sums == [zlib.crc32(image.tobytes()) for image in images]
    assert content["facts"] == {"a": 1} and content["count"] == 5 and content["size"] == [4, 2]
    pack = open_pack(tmp_path / "x.pack")
    assert len(pack) == 5 and np.array_equal(pack.take(np.array([4, 0])), images[[4, 0]])
    with pytest.raises(DataError, match="holds 5 images"):
        pack.take(np.array([5]))
    with pytest.raises(DataError, match=r"ends in \.pack"):
        write_pack(tmp_path / "x.bin", iter([images]), size=(4, 2), facts={})


def spoil(file: Path, place: int, data: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(data)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "not a file of packed images"),
        (8, "cut off, or changed"),
        (4100, "image 0 was changed"),
        (-2, "cut off, or"),
    ],
)
def test_changed_files_are_noticed(packed: Path, tmp_path: Path, place: int, message: str) -> None:
    file = tmp_path / "spoilt.pack"
    data = packed.read_bytes()
    file.write_bytes(data)
    start = place % len(data)
    spoil(file, start, bytes([data[start] ^ 1]))
    with pytest.raises(DataError, match=message):
        load_stack([record.path for record in load_dataset(file).train], SIZE)


@pytest.mark.parametrize("length", [0, 20, 5000, -10])
def test_files_that_are_cut_off_are_noticed(packed: Path, tmp_path: Path, length: int) -> None:
    file = tmp_path / "short.pack"
    file.write_bytes(packed.read_bytes()[:length])
    with pytest.raises(DataError, match=r"short\.pack: (not a file|cut off)"):
        load_dataset(file)


@pytest.mark.parametrize(
    "change", [{"size": [0, 16]}, {"size": [99999, 16]}, {"count": 10**9}, {"crc32": ""}, {"facts": 3}, {"size": "x"}]
)
def test_a_stranger_cannot_make_a_pack_that_reads_elsewhere(
    packed: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    data = packed.read_bytes()
    _, offset, length, _ = struct.unpack("<8sQQ32s", data[:56])
    trailer = json.dumps({**json.loads(data[offset : offset + length]), **change}).encode()
    head = struct.pack("<8sQQ32s", b"PRSPACK1", offset, len(trailer), hashlib.sha256(trailer).digest())
    (tmp_path / "bad.pack").write_bytes(head + data[56:offset] + trailer)
    with pytest.raises(DataError, match=r"bad\.pack: a (damaged pack|pack of)"):
        load_dataset(tmp_path / "bad.pack")


def test_a_pack_that_changes_is_opened_again(packed: Path, tmp_path: Path) -> None:
    ones, twos = (np.full((2, 3, 4, 2), value, np.uint8) for value in (1, 2))
    write_pack(tmp_path / "x.pack", iter([ones]), size=(4, 2), facts={})
    first = open_pack(tmp_path / "x.pack")
    assert first is open_pack(tmp_path / "x.pack")
    write_pack(tmp_path / "x.pack", iter([twos, twos]), size=(4, 2), facts={})
    assert len(open_pack(tmp_path / "x.pack")) == 4
    assert first.take(np.array([0])).max() == 1  # who has it open keeps what they opened


def test_the_verb(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.pack"
    assert main(["data", "pack", str(people), "--out", str(out), "--image-size", "32", "16"]) == 0
    assert "12 train, 6 query, 9 gallery images" in capsys.readouterr().out
    assert load_dataset(out).facts["counts"]["gallery_distractors"] == 2
    first = out.read_bytes()
    assert main(["data", "pack", str(people), "--out", str(out), "--image-size", "32", "16"]) == 0
    assert out.read_bytes() == first
    assert main(["data", "pack", str(people), "--out", str(tmp_path / "p.zip")]) == 2
    assert main(["data", "check", str(out)]) == 0
    plain = tmp_path / "q.pack"
    assert main(["data", "pack", str(people), "--out", str(plain), "--unlabelled", "--layout", "images"]) == 0
    assert {record.pid for record in load_images_only(plain).train} == {None}
    assert load_images_only(plain).facts["pool"]["test_images"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pack", "pool"])
def test_killed_in_the_middle_then_complete_and_identical(verb: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(100):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 4, 3), dtype=np.uint8))
        coarse.resize((192, 384), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png", compress_level=1)
    suffix, more = (".pack", ["--unlabelled"]) if verb == "pack" else (".json", ["--copy", str(tmp_path / "copies")])
    command = [sys.executable, "-m", "prsnet", "data", verb, str(folder), "--layout", "images", "--workers", "1", *more]
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    shutil.rmtree(tmp_path / "copies", ignore_errors=True)
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out.pack*" if verb == "pack" else "copies/*/*")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_training_is_bitwise_the_same(people: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    size, weights = ["--image-size", "64", "32"], []
    assert main(["data", "pack", str(people), "--out", str(tmp_path / "p.pack"), *size]) == 0
    for number, data in enumerate((people, tmp_path / "p.pack")):
        run = tmp_path / str(number)
        flags = ["--preset", "pico", "--epochs", "2", "--identities", "3", "--no-tensorboard", "--quiet"]
        assert main(["train", str(data), "--out", str(run), *size, *flags]) == 0
        weights.append(load_file(run / "checkpoints" / "last.safetensors"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())

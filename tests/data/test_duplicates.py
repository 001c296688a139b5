from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prsnet.data.duplicates import exact_duplicates, groups_of, near_duplicates
from prsnet.data.images import Pixels
from prsnet.data.scan import ImageScan, describe_pixels, perceptual_hash, scan_images
from prsnet.data.synthetic import generate_people


@pytest.fixture(scope="module")
def people() -> list[Pixels]:
    return [sighting.image for sighting in generate_people(10, 2, 2, seed=5, size=(128, 64))]


def scan_of(images: list[Pixels], folder: Path) -> ImageScan:
    paths = []
    for index, pixels in enumerate(images):
        paths.append(folder / f"{index:03d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return scan_images(paths, workers=2)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def test_a_scan_measures_and_notes_what_cannot_be_read(tmp_path: Path) -> None:
    grey = np.full((20, 10, 3), 77, np.uint8)
    split = np.zeros((8, 30, 3), np.uint8)
    split[:4] = 255
    Image.fromarray(grey).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"")
    Image.fromarray(split).save(tmp_path / "c.bmp")
    steps: list[tuple[int, int]] = []
    scan = scan_images(
        [tmp_path / n for n in ("a.png", "b.jpg", "c.bmp", "gone.jpg")],
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert scan.readable.tolist() == [True, False, True, False]
    assert "0 bytes" in scan.errors[1] and "no such image" in scan.errors[3]
    assert scan.heights.tolist() == [20, 0, 8, 0] and scan.widths.tolist() == [10, 0, 30, 0]
    assert scan.brightness.tolist() == [77, 0, 127.5, 0]
    assert scan.contrast.tolist() == [0, 0, 127.5, 0]


def test_the_hash_is_that_of_a_plain_dct(people: list[Pixels]) -> None:
    image = Image.fromarray(people[3]).convert("L")
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=float)
    n = np.arange(32)
    cosines = np.array([np.cos(np.pi * (2 * n + 1) * k / 64) * np.sqrt((1 if k == 0 else 2) / 32) for k in range(8)])
    values = np.array([[(np.outer(cosines[u], cosines[v]) * small).sum() for v in range(8)] for u in range(8)]).ravel()
    expected = int("".join("1" if value > np.median(values[1:]) else "0" for value in values), 2)
    assert perceptual_hash(image) == expected


def test_exact_duplicates_go_by_pixels_not_by_file(people: list[Pixels], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.bmp", "c.png", "d.jpg")]
    for path, pixels in zip(paths, [people[0], people[0], people[1], people[0]], strict=True):
        Image.fromarray(pixels).save(path)
    assert exact_duplicates(scan_images(paths)).tolist() == [0, 0, 2, 3]


def test_pixels_of_another_shape_are_another_picture() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    turned = pixels.reshape(4, 2, 3)
    assert describe_pixels(pixels)["digests"].tolist() != describe_pixels(turned)["digests"].tolist()


def test_near_duplicates_survive_size_compression_and_light(people: list[Pixels], tmp_path: Path) -> None:
    for original in (0, 7, 12):
        copies = [
            jpeg(people[original], 40),
            resized(people[original], 64, 32),
            resized(people[original], 256, 128),
            np.minimum(people[original].astype(float) * 1.08, 255).astype(np.uint8),
        ]
        folder = tmp_path / str(original)
        folder.mkdir()
        rows = near_duplicates(scan_of([*people, *copies], folder))
        count = len(people)
        assert rows[:count].tolist() == list(range(count))  # people differ, also seen twice by one camera
        assert rows[count:].tolist() == [original] * len(copies)


def test_mirrored_and_blank_images_are_no_copies_of_each_other(people: list[Pixels], tmp_path: Path) -> None:
    blanks = [np.full((40, 20, 3), shade, np.uint8) for shade in (10, 90, 90, 200)]
    rows = near_duplicates(scan_of([people[0], people[0][:, ::-1], *blanks], tmp_path))
    assert rows.tolist() == [0, 1, 2, 3, 3, 5]  # the two equal blanks are exact duplicates


def brute_force(hashes: list[int], bits: int) -> list[int]:
    """The definition: an image is a copy of the first earlier original within ``bits``."""
    originals: list[int] = []
    rows = []
    for row, value in enumerate(hashes):
        similar = [other for other in originals if bin(value ^ hashes[other]).count("1") <= bits]
        rows.append(similar[0] if similar else row)
        if not similar:
            originals.append(row)
    return rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), st.data(), st.integers(0, 9))
def test_the_index_finds_what_comparing_all_pairs_finds(seeds: list[int], data: st.DataObject, bits: int) -> None:
    flips = st.lists(st.integers(0, 63), max_size=12)
    hashes = [
        data.draw(st.sampled_from(seeds)) ^ sum({1 << bit for bit in data.draw(flips)})
        for _ in range(data.draw(st.integers(1, 12)))
    ]
    count = len(hashes)
    digests = np.zeros((count, 16), np.uint8)
    digests[:, 0] = np.arange(count)
    ones = np.ones(count)
    scan = ImageScan(
        paths=tuple(Path(f"{i}.png") for i in range(count)), errors={}, heights=ones.astype(np.int64),
        widths=ones.astype(np.int64), brightness=ones, contrast=ones * 50, digests=digests,
        hashes=np.array(hashes, np.uint64), thumbnails=np.zeros((count, 16, 8, 3), np.uint8),
    )  # fmt: skip
    assert near_duplicates(scan, bits=bits).tolist() == brute_force(hashes, bits)


def test_groups_hold_the_original_and_its_copies() -> None:
    assert groups_of(np.array([0, 1, 0, 3, 1, 0])) == [[0, 2, 5], [1, 4]]
    assert groups_of(np.arange(3)) == []

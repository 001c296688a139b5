"""Rows to tensors: decoded once or each time, the result is the same."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet import DataError, ImageRecord
from prsnet.data import loaders
from prsnet.data.images import load_image
from prsnet.data.loaders import ImageStore, LabelTable, free_memory
from prsnet.data.samplers import PADDING

SIZE = (64, 32)


@pytest.fixture(scope="module")
def paths(tiny_market: Path) -> list[Path]:
    return sorted((tiny_market / "bounding_box_train").iterdir())[:12]


@pytest.fixture(scope="module")
def stores(paths: list[Path]) -> tuple[ImageStore, ImageStore]:
    return ImageStore(paths, SIZE), ImageStore(paths, SIZE, memory=0)


@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.integers(-1, 11), max_size=9))
def test_cached_and_streamed_images_are_those_of_the_files(
    stores: tuple[ImageStore, ImageStore], paths: list[Path], rows: list[int]
) -> None:
    """Padded slots are black, the cache is not touched by what is done to a batch."""
    for store in stores:
        found = store.take(np.array(rows, dtype=np.int64))
        assert found.shape == (len(rows), 3, *SIZE) and found.dtype == torch.uint8
        for image, row in zip(found, rows, strict=True):
            expected = np.zeros((*SIZE, 3)) if row == PADDING else load_image(paths[row], SIZE)
            np.testing.assert_array_equal(image.permute(1, 2, 0), expected)
        found.fill_(7)


def test_memory_decides_what_is_cached(paths: list[Path]) -> None:
    needed = len(paths) * 3 * 64 * 32
    assert ImageStore.bytes_needed(len(paths), SIZE) == needed
    assert ImageStore(paths, SIZE, memory=needed).cached
    assert not ImageStore(paths, SIZE, memory=needed - 1).cached


def test_a_plan_is_followed_in_order_one_entry_ahead(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore(paths, SIZE, memory=0, workers=1)
    asked: list[int] = []
    inside = threading.local()

    def counting(path: Path, size: tuple[int, int]) -> Any:
        asked.append(paths.index(path))
        inside.seen = True
        return load_image(path, size)

    monkeypatch.setattr(loaders, "load_image", counting)
    plan = [np.array([i, i + 1]) for i in range(0, 10, 2)]
    for number, images in enumerate(store.in_order(plan)):
        np.testing.assert_array_equal(images, ImageStore(paths, SIZE).take(plan[number]))
        assert len(asked) <= 2 * (number + 2), "never further ahead than one batch"
    assert asked == list(range(10))
    assert not hasattr(inside, "seen"), "decoding happens beside the training"
    assert list(store.in_order([])) == [] == list(ImageStore(paths, SIZE).in_order([]))


def test_images_that_vanish_are_named(paths: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "a.png"
    copy.write_bytes(paths[0].read_bytes())
    store = ImageStore([*paths[:3], copy], SIZE, memory=0)
    plan = [np.array([0, 1]), np.array([2, 3])]
    images = store.in_order(plan)
    copy.unlink()
    next(images)
    with pytest.raises(DataError, match=r"a\.png: no such image"):
        next(images)
    with pytest.raises(DataError, match=r"a\.png: no such image"):
        ImageStore([copy], SIZE)


def test_progress_is_told(paths: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    ImageStore(paths, SIZE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 12) for i in range(12)]


def test_labels_become_classes_in_the_order_of_the_pids() -> None:
    records = [ImageRecord(Path("a"), 30, 1), ImageRecord(Path("b"), 4), ImageRecord(Path("c"), 30, 2)]
    table = LabelTable(records)
    assert table.num_classes == 2 and table.pids.tolist() == [4, 30]
    batch = table.batch(torch.zeros(4, 3, 2, 2), np.array([2, 1, PADDING, 0]))
    assert batch.pids.tolist() == [1, 0, -1, 1]
    assert batch.camids.tolist() == [2, -1, -1, 1]
    assert batch.valid.tolist() == [True, True, False, True]
    assert batch.pids.dtype == batch.camids.dtype == torch.int64


def test_free_memory_is_a_plausible_figure() -> None:
    assert 2**20 < free_memory() < 2**50


def test_free_memory_knows_the_containers_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  8000 kB\n", "/sys/fs/cgroup/memory.max": "5000\n"}
    texts["/sys/fs/cgroup/memory.current"] = "2000\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: texts[str(self)])
    assert free_memory() == 3000
    texts["/sys/fs/cgroup/memory.max"] = "max\n"
    assert free_memory() == 8000 * 1024
    texts["/sys/fs/cgroup/memory.max"] = "1000\n"
    assert free_memory() == 0, "over the limit already"

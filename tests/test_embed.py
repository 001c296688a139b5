"""Images to embeddings: every kind of input is the same image, order is kept, nothing piles up in memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prsnet import CheckpointError, ConfigError, DataError, Embedder, ImageRecord
from prsnet.data.images import MEAN, STD, resize_image
from prsnet.models.presets import build_reid

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def embedder(tiny_trained: Path) -> Embedder:
    return Embedder.from_checkpoint(tiny_trained, device="cpu")


@pytest.fixture(scope="module")
def paths(tiny_market: Path) -> list[Path]:
    return sorted((tiny_market / "bounding_box_test").iterdir())


def pixels_of(path: Path) -> Pixels:
    return np.asarray(Image.open(path))


def test_embeddings_are_the_models_own(embedder: Embedder, paths: list[Path]) -> None:
    """The whole path by hand: scale, normalise, features, BNNeck, unit length."""
    images = np.stack([pixels_of(path) for path in paths]).astype(np.float64) / 255
    images = (images - np.array(MEAN)) / np.array(STD)
    model = embedder.model
    with torch.no_grad():
        features = model.bnneck(model.features(torch.from_numpy(images).float().permute(0, 3, 1, 2)))
    expected = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    found = embedder.embed(paths)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    assert found.numpy().dtype == np.float32
    assert (len(found), found.width, embedder.width) == (len(paths), 256, 256)


def test_every_kind_of_input_is_the_same_image(embedder: Embedder, paths: list[Path]) -> None:
    path = paths[0]
    kinds: list[Any] = [path, str(path), ImageRecord(path, 7, 3), Image.open(path), pixels_of(path)]
    found = embedder.embed(kinds)
    for row in found.numpy()[1:]:
        np.testing.assert_array_equal(row, found.numpy()[0])
    assert found.pids.tolist() == [-1, -1, 7, -1, -1]
    assert found.camids.tolist() == [-1, -1, 3, -1, -1]
    assert found.paths == (str(path), str(path), str(path), "", "")
    assert embedder.embed([pixels_of(path)]).paths == ()


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "L", "I;16"])
def test_pillow_images_of_every_mode_are_the_files_of_that_mode(embedder: Embedder, tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA") if mode == "RGBA" else Image.fromarray(noise[:, :, :3])
    if mode == "I;16":
        image = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    image = image if image.mode == mode else image.convert(mode)
    file = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    image.save(file)
    found = embedder.embed([image, file]).numpy()
    np.testing.assert_array_equal(found[0], found[1])


@settings(deadline=None, max_examples=15)
@given(
    order=st.lists(st.integers(0, 15), min_size=1, max_size=20),
    batch_size=st.integers(1, 8),
    workers=st.integers(1, 3),
    flip=st.booleans(),
)
def test_order_is_kept_and_batches_do_not_matter(
    embedder: Embedder, paths: list[Path], order: list[int], batch_size: int, workers: int, flip: bool
) -> None:
    whole = embedder.embed(paths, flip=flip).numpy()
    chosen = [paths[i] for i in order]
    found = embedder.embed(iter(chosen), batch_size=batch_size, workers=workers, flip=flip)
    np.testing.assert_allclose(found.numpy(), whole[order], atol=1e-5)
    assert found.paths == tuple(map(str, chosen))
    np.testing.assert_allclose(np.linalg.norm(found.numpy(), axis=1), 1, atol=1e-6)


def test_flip_averages_with_the_mirrored_image(embedder: Embedder, paths: list[Path]) -> None:
    images = [pixels_of(path) for path in paths]
    own = embedder.embed(images).numpy()
    mirrored = embedder.embed([image[:, ::-1] for image in images]).numpy()
    expected = (own + mirrored) / np.linalg.norm(own + mirrored, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(images, flip=True).numpy(), expected, atol=1e-5)
    assert not np.allclose(own, expected, atol=1e-4)


class Tracked:
    """Counts the arrays of a stream that are alive."""

    def __init__(self, count: int) -> None:
        self.count, self.alive, self.most, self.taken = count, 0, 0, 0

    def __iter__(self) -> Iterator[Pixels]:
        for _ in range(self.count):
            image = np.zeros((64, 32, 3), dtype=np.uint8)
            self.alive += 1
            self.taken += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(image, self.forget)
            yield image
            del image

    def forget(self) -> None:
        self.alive -= 1


def test_a_stream_is_never_held_as_a_whole(embedder: Embedder) -> None:
    stream = Tracked(60)
    assert len(embedder.embed(iter(stream), batch_size=4)) == 60
    assert stream.taken == 60
    assert stream.most <= 14, "two batches, the one that is computed, and what the generators hold"


def test_progress_counts_every_image_once(embedder: Embedder, paths: list[Path]) -> None:
    seen: list[int] = []
    embedder.embed(paths, batch_size=5, progress=seen.append)
    assert sum(seen) == len(paths) and max(seen) == 5


def test_unreadable_images_are_skipped_when_asked(embedder: Embedder, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    cut = tmp_path / "cut.png"
    cut.write_bytes(paths[1].read_bytes()[:-40])
    items: list[Any] = [tmp_path / "broken.jpg", paths[0], tmp_path / "gone.png", Image.open(cut), paths[1], 7]
    faults: list[tuple[int, str]] = []
    found = embedder.embed(items, batch_size=2, on_error=lambda row, error: faults.append((row, error.message)))
    assert found.paths == (str(paths[0]), str(paths[1]))
    np.testing.assert_allclose(found.numpy(), embedder.embed(paths[:2]).numpy(), atol=1e-5)
    assert [row for row, _ in faults] == [0, 2, 3, 5]
    assert "broken.jpg" in faults[0][1] and "gone.png" in faults[1][1]
    assert "truncated" in faults[2][1] and "cannot embed int" in faults[3][1]
    with pytest.raises(DataError, match=r"broken\.jpg"):
        embedder.embed(items)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no image to embed"),
        ([np.zeros((64, 32), np.uint8)], "uint8 (64, 32)"),
        ([np.zeros((64, 32, 3), np.float32)], "float32 (64, 32, 3)"),
        ([np.zeros((0, 32, 3), np.uint8)], "uint8 (0, 32, 3)"),
        ([None], "NoneType"),
    ],
)
def test_what_is_no_image_is_refused(embedder: Embedder, images: list[Any], words: str) -> None:
    with pytest.raises(DataError) as raised:
        embedder.embed(images)
    assert words in raised.value.message


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}])
def test_counts_below_one_are_refused(embedder: Embedder, paths: list[Path], wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="from 1"):
        embedder.embed(paths, **wrong)


BOXES = [(0, 0, 32, 64), (3.2, 4.7, 20.1, 60.5), (-10, -10, 12, 30), (20, 30, 99, 99)]


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_of_a_frame_are_its_crops(embedder: Embedder, flip: bool) -> None:
    """Parts of pixels count as whole ones; what lies outside is cut off."""
    frame = np.random.default_rng(3).integers(0, 256, (80, 40, 3), dtype=np.uint8)
    crops = [frame[0:64, 0:32], frame[4:61, 3:21], frame[0:30, 0:12], frame[30:80, 20:40]]
    expected = embedder.embed([resize_image(crop, (64, 32)) for crop in crops], flip=flip).numpy()
    np.testing.assert_allclose(embedder.embed_boxes(frame, np.array(BOXES), flip=flip), expected, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_boxes(frame, iter(BOXES), flip=flip), expected, atol=1e-5)


def test_no_boxes_give_no_embeddings(embedder: Embedder) -> None:
    frame = np.zeros((80, 40, 3), dtype=np.uint8)
    assert embedder.embed_boxes(frame, []).shape == (0, 256)
    assert embedder.embed_boxes(frame, np.empty((0, 4))).shape == (0, 256)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([(0, 0, 5, 5), (9, 9, 9, 20)], "box 1 [9.0, 9.0, 9.0, 20.0] has no area inside the frame of 40x80"),
        ([(50, 0, 60, 10)], "box 0 [50.0, 0.0, 60.0, 10.0] has no area"),
        ([(5, 5, 1, 9)], "box 0"),
        ([(0, 0, 5)], "expected left, top, right, bottom"),
        ([(0, 0, 5, 5), (1, 2)], "box 1: expected left, top, right, bottom"),
        ([(0, 0, float("nan"), 5)], "finite"),
    ],
)
def test_boxes_without_pixels_are_refused(embedder: Embedder, boxes: list[tuple[float, ...]], words: str) -> None:
    with pytest.raises(DataError) as raised:
        embedder.embed_boxes(np.zeros((80, 40, 3), dtype=np.uint8), boxes)
    assert words in raised.value.message


def test_frames_of_another_kind_are_refused(embedder: Embedder) -> None:
    frame: Any = np.zeros((80, 40), dtype=np.uint8)
    with pytest.raises(DataError, match=r"frame array uint8 \(80, 40\)"):
        embedder.embed_boxes(frame, [(0, 0, 5, 5)])


def test_a_model_in_training_mode_is_put_right(paths: list[Path]) -> None:
    """A gallery must not depend on who called train() before; nor may embedding change the model."""
    model = build_reid("pico", None, torch.Generator().manual_seed(0), image_size=(64, 32))
    embedder = Embedder(model, (64, 32), device=torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = embedder.embed(paths).numpy()
    model.train()
    np.testing.assert_array_equal(embedder.embed(paths).numpy(), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_unknown_backends_and_runs_are_refused(tiny_trained: Path, tiny_pretrained: Path) -> None:
    with pytest.raises(ConfigError, match="backend: expected 'torch', got 'abacus'"):
        Embedder.from_checkpoint(tiny_trained, backend="abacus")
    with pytest.raises(CheckpointError, match="'autoencoder' model, expected 'reid'"):
        Embedder.from_checkpoint(tiny_pretrained)

import colorsys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prsnet import ImageRecord, load_dataset
from prsnet.demo.baselines import colour_histogram, embed_dataset, histogram_embeddings, random_network


def slow_histogram(image: np.ndarray) -> list[float]:
    """Pixel by pixel; hue, saturation and value by the standard library."""
    rows, columns = image.shape[:2]
    counts = [[0] * 128 for _ in range(6)]
    for row in range(rows):
        for column in range(columns):
            hue, saturation, value = colorsys.rgb_to_hsv(*(float(c) / 255 for c in image[row, column]))
            number = (min(int(hue * 8), 7) * 4 + min(int(saturation * 4), 3)) * 4 + min(int(value * 4), 3)
            counts[row * 6 // rows][number] += 1
    return [(count / (rows // 6 * columns) / 6) ** 0.5 for stripe in counts for count in stripe]


def test_colours_are_counted_stripe_by_stripe() -> None:
    # Colours in the middle of their bins: Pillow's hue is rounded to 8 bits.
    hsv = [((h + 0.5) / 8, (s + 0.5) / 4, (v + 0.5) / 4) for h in range(8) for s in range(4) for v in range(4)]
    palette = np.array([[round(255 * c) for c in colorsys.hsv_to_rgb(*colour)] for colour in hsv], dtype=np.uint8)
    image = palette[np.random.default_rng(0).integers(0, len(palette), (24, 10))]
    assert colour_histogram(image).tolist() == pytest.approx(slow_histogram(image), abs=1e-6)


def test_histograms_have_unit_length_and_ignore_places_within_a_stripe() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 20, 3)).astype(np.uint8)
    assert np.linalg.norm(colour_histogram(image)) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(colour_histogram(image), colour_histogram(image[:, ::-1]))
    assert not np.allclose(colour_histogram(image), colour_histogram(image[::-1]))


def test_histograms_of_records_keep_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 16), (200, 10, 10)).save(path)
    found = histogram_embeddings([ImageRecord(path, 5, 2), ImageRecord(path)])
    assert found.pids.tolist() == [5, -1] and found.camids.tolist() == [2, -1]
    assert found.paths == (str(path), str(path))
    assert np.array_equal(found.numpy()[0], found.numpy()[1])


def test_a_random_network_depends_on_its_seed_alone(tiny_market: Path) -> None:
    dataset = load_dataset(tiny_market)
    query, gallery = embed_dataset(random_network("pico", (64, 32), seed=1), dataset)
    assert (len(query), len(gallery)) == (len(dataset.query), len(dataset.gallery))
    again = random_network("pico", (64, 32), seed=1).embed(dataset.query)
    other = random_network("pico", (64, 32), seed=2).embed(dataset.query)
    assert np.array_equal(query.numpy(), again.numpy()) and not np.allclose(query.numpy(), other.numpy())

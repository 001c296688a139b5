"""Whole datasets of generated people: in memory, or as a Market-1501 tree on disk.

Every image has random streams of its own, named by its identity, camera and number. It is therefore the same whether
one image is rendered or a million, in whatever order and by however many processes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prsnet.data.synthetic.cameras import SCENES, VIEWS, Camera, draw_camera
from prsnet.data.synthetic.people import Identity, draw_identity
from prsnet.data.synthetic.render import Pixels, render
from prsnet.errors import DataError
from prsnet.files import write_json
from prsnet.rng import numpy_stream
from prsnet.types import DISTRACTOR_PID, JUNK_PID, Dataset, ImageRecord

RENDERER = 1
"""Raised whenever the same arguments would give other images."""
FACTS_FILE = "synthetic.json"
PARTS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Market-1501's folder of each part of a dataset."""
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Sighting:
    """One rendered image: (H, W, 3) uint8 RGB, whose it is, which camera's (from 1), and its number there (from 0)."""

    image: Pixels
    pid: int
    camid: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that a generated dataset depends on; see :func:`write_dataset`."""

    identities: int
    cameras: int
    images_per_camera: int
    seed: int
    size: tuple[int, int]
    distractors: int
    junk: int
    test_fraction: float
    image_format: str

    def __post_init__(self) -> None:
        least = {"identities": 1, "cameras": 1, "images_per_camera": 1, "distractors": 0, "junk": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise DataError(f"{name} is {getattr(self, name)}: expected {low} or more", hint=f"raise {name}")
        if len(self.size) != 2 or not all(16 <= side <= 1024 for side in self.size):
            raise DataError(f"size is {self.size}: expected rows and columns of 16 to 1024", hint="use 256 128")
        if not 0.0 <= self.test_fraction <= 1.0:
            raise DataError(f"test_fraction is {self.test_fraction}: expected 0 to 1", hint="use 0.5")
        if self.image_format not in ("jpg", "png"):
            raise DataError(f"image_format is {self.image_format!r}: expected jpg or png", hint="use jpg")
        if self.test_identities and (self.cameras < 2 or self.images_per_camera < 2):
            raise DataError(
                f"{self.cameras} camera(s) with {self.images_per_camera} image(s) each cannot be evaluated: "
                "expected at least 2 and 2",
                hint="raise cameras and images_per_camera, or set test_fraction to 0",
            )
        if not self.test_identities and (self.distractors or self.junk):
            raise DataError(
                f"{self.distractors} distractors and {self.junk} junk images without a test identity",
                hint="raise test_fraction, or set distractors and junk to 0",
            )

    @property
    def test_identities(self) -> int:
        """How many identities are held out of training."""
        return round(self.identities * self.test_fraction)


@lru_cache(maxsize=256)
def camera_of(seed: int, camid: int) -> Camera:
    """Return camera ``camid`` (from 1) of the dataset ``seed``; neighbours differ in side and place."""
    number = camid - 1
    view, scene = VIEWS[number % len(VIEWS)], SCENES[number % len(SCENES)]
    return draw_camera(numpy_stream(seed, "camera", camid), view=view, scene=scene)


@lru_cache(maxsize=256)
def identity_of(seed: int, pid: int) -> Identity:
    """Return person ``pid`` (from 1) of the dataset ``seed``."""
    return draw_identity(numpy_stream(seed, "identity", pid))


def sighting_of(seed: int, pid: int, camid: int, index: int, size: tuple[int, int] = (256, 128)) -> Sighting:
    """Return image ``index`` of person ``pid`` in camera ``camid`` of the dataset ``seed``."""
    rng = numpy_stream(seed, "image", pid, camid, index)
    return Sighting(render(identity_of(seed, pid), camera_of(seed, camid), rng, size), pid, camid, index)


def generate_people(
    identities: int, cameras: int, images_per_camera: int, *, seed: int = 0, size: tuple[int, int] = (256, 128)
) -> Iterator[Sighting]:
    """Yield every image of ``identities`` people (pids from 1), by person, then camera (from 1), then number.

    Raises:
        DataError: a count below 1, or a size out of range.
    """
    recipe = Recipe(
        identities=identities, cameras=cameras, images_per_camera=images_per_camera, seed=seed, size=size,
        distractors=0, junk=0, test_fraction=0.0, image_format="png",
    )  # fmt: skip
    return _people(recipe, 1, identities)


def write_dataset(
    folder: str | Path,
    *,
    identities: int = 64,
    cameras: int = 4,
    images_per_camera: int = 4,
    seed: int = 0,
    size: tuple[int, int] = (256, 128),
    distractors: int = 0,
    junk: int = 0,
    test_fraction: float = 0.5,
    image_format: str = "jpg",
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Write a generated dataset in the Market-1501 layout and return its records.

    The folder appears complete or not at all. Beside the images lies ``synthetic.json`` with the arguments, the counts
    and a digest of all images. Where ``folder`` already holds exactly this dataset, nothing is written.

    Args:
        folder: where to; must not exist, be empty, or hold this very dataset.
        identities: people altogether; the last ``test_fraction`` of them are for query and gallery.
        cameras: cameras; each sees everybody.
        images_per_camera: images of each person in each camera. Of a test identity, the first is the query.
        seed: the same seed gives the same bytes.
        size: rows and columns of the images.
        distractors: gallery images of people whom no query shows (pid 0).
        junk: gallery images that are badly cut parts of test identities (pid -1).
        test_fraction: share of identities held out of training.
        image_format: ``"jpg"`` (quality 92) or ``"png"``.
        progress: called with the number of images done and to do.

    Raises:
        DataError: an argument out of range, a folder in use, or one that cannot be written.
    """
    recipe = Recipe(
        identities=identities, cameras=cameras, images_per_camera=images_per_camera, seed=seed, size=size,
        distractors=distractors, junk=junk, test_fraction=test_fraction, image_format=image_format,
    )  # fmt: skip
    target = Path(folder)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            return _finished(target, recipe)
        target.parent.mkdir(parents=True, exist_ok=True)
        started = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _write_tree(started, recipe, progress)
            # mkdtemp makes folders for the owner alone; the umask's permissions are what a user expects.
            mask = os.umask(0)
            os.umask(mask)
            started.chmod(0o777 & ~mask)
            started.replace(target)
        finally:
            shutil.rmtree(started, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written: {error.strerror or error}", hint="name another folder"
        ) from error
    return _records(target, recipe)


def _people(recipe: Recipe, first: int, last: int) -> Iterator[Sighting]:
    for pid in range(first, last + 1):
        for camid in range(1, recipe.cameras + 1):
            for index in range(recipe.images_per_camera):
                yield sighting_of(recipe.seed, pid, camid, index, recipe.size)


def _distractor(recipe: Recipe, number: int) -> Sighting:
    """Return an image of somebody who is seen once."""
    camid = number % recipe.cameras + 1
    stranger = draw_identity(numpy_stream(recipe.seed, "distractor", number))
    rng = numpy_stream(recipe.seed, "distractor-image", number)
    return Sighting(render(stranger, camera_of(recipe.seed, camid), rng, recipe.size), DISTRACTOR_PID, camid, number)


def _junk(recipe: Recipe, number: int) -> Sighting:
    """Return a box that holds only a part of a test identity."""
    rng = numpy_stream(recipe.seed, "junk", number)
    camid = number % recipe.cameras + 1
    pid = recipe.identities - int(rng.integers(recipe.test_identities))
    whole = render(identity_of(recipe.seed, pid), camera_of(recipe.seed, camid), rng, recipe.size)
    rows, columns = (max(4, round(side * float(rng.uniform(0.25, 0.5)))) for side in recipe.size)
    top, left = int(rng.integers(recipe.size[0] - rows + 1)), int(rng.integers(recipe.size[1] - columns + 1))
    part = Image.fromarray(whole[top : top + rows, left : left + columns])
    image = np.array(part.resize((recipe.size[1], recipe.size[0]), Image.Resampling.BICUBIC))
    return Sighting(image, JUNK_PID, camid, number)


def _sightings(recipe: Recipe) -> Iterator[tuple[str, Sighting]]:
    """Yield every image of the dataset with the part that it belongs to."""
    known = recipe.identities - recipe.test_identities
    for sighting in _people(recipe, 1, known):
        yield "train", sighting
    for sighting in _people(recipe, known + 1, recipe.identities):
        yield ("query" if sighting.index == 0 else "gallery"), sighting
    for number in range(recipe.distractors):
        yield "gallery", _distractor(recipe, number)
    for number in range(recipe.junk):
        yield "gallery", _junk(recipe, number)


def _names(recipe: Recipe) -> Iterator[tuple[str, int, int, str]]:
    """Yield part, pid, camid and file name of every image, in the order of :func:`_sightings`."""
    known = recipe.identities - recipe.test_identities
    for pid in range(1, recipe.identities + 1):
        for camid in range(1, recipe.cameras + 1):
            for index in range(recipe.images_per_camera):
                part = "train" if pid <= known else "gallery" if index else "query"
                yield part, pid, camid, _name(pid, camid, index, recipe.image_format)
    for pid, count in ((DISTRACTOR_PID, recipe.distractors), (JUNK_PID, recipe.junk)):
        for number in range(count):
            camid = number % recipe.cameras + 1
            yield "gallery", pid, camid, _name(pid, camid, number, recipe.image_format)


def _name(pid: int, camid: int, index: int, image_format: str) -> str:
    """Return a file name in Market-1501's manner: identity, camera and sequence, frame, number of the box."""
    person = "-1" if pid == JUNK_PID else f"{pid:04d}"
    return f"{person}_c{camid}s1_{25 * index + 1:06d}_00.{image_format}"


def _encode(image: Pixels, image_format: str) -> bytes:
    buffer = io.BytesIO()
    if image_format == "jpg":
        Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    else:
        Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _write_tree(root: Path, recipe: Recipe, progress: Callable[[int, int], None] | None) -> None:
    """Fill ``root`` with images and, last of all, the facts."""
    for part in PARTS.values():
        (root / part).mkdir()
    names = list(_names(recipe))
    digest = hashlib.sha256()
    for done, ((part, _, _, name), (_, sighting)) in enumerate(zip(names, _sightings(recipe), strict=True), 1):
        data = _encode(sighting.image, recipe.image_format)
        digest.update(data)
        (root / PARTS[part] / name).write_bytes(data)
        if progress is not None:
            progress(done, len(names))
    write_json(root / FACTS_FILE, {**_facts(recipe), "sha256": digest.hexdigest()})


def _facts(recipe: Recipe) -> dict[str, Any]:
    parts = [part for part, *_ in _names(recipe)]
    counts = {part: parts.count(part) for part in PARTS}
    arguments = {**asdict(recipe), "size": list(recipe.size)}
    return {"source": "prsnet synthetic", "renderer": RENDERER, **arguments, "images": counts}


def _records(root: Path, recipe: Recipe) -> Dataset:
    records: dict[str, list[ImageRecord]] = {part: [] for part in PARTS}
    for part, pid, camid, name in _names(recipe):
        records[part].append(ImageRecord(root / PARTS[part] / name, pid, camid))
    train, query, gallery = (tuple(sorted(records[part], key=lambda r: r.path)) for part in PARTS)
    facts = {"layout": "market1501", **_facts(recipe)}
    return Dataset(name="synthetic", train=train, query=query, gallery=gallery, facts=facts)


def _finished(root: Path, recipe: Recipe) -> Dataset:
    """Return the dataset of a folder that is in use, if it is the one asked for and whole; refuse otherwise."""
    refusal = DataError(f"{root}: is not empty and holds other things than this dataset", hint="name another folder")
    try:
        facts = json.loads((root / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise refusal from None
    if not isinstance(facts, dict) or {**facts, "sha256": None} != {**_facts(recipe), "sha256": None}:
        raise refusal
    digest = hashlib.sha256()
    try:
        for part, _, _, name in _names(recipe):
            digest.update((root / PARTS[part] / name).read_bytes())
    except OSError:
        digest = hashlib.sha256()
    if digest.hexdigest() != facts.get("sha256"):
        raise DataError(f"{root}: its images are not the ones once written", hint="delete it or name another folder")
    return _records(root, recipe)

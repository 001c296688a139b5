"""Files that are no galleries, damaged ones and strange ones: one line each, and nothing of them is run."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from prsnet.errors import DataError, InputError, PrsnetError
from prsnet.gallery import Gallery, NewSighting
from prsnet.gallery.space import OUTSIDE, EmbeddingSpace
from prsnet.models.compact import compact_basis
from prsnet.models.presets import build_reid, resolve
from prsnet.types import ModelIdentity

WIDTH = 32
MODEL = ModelIdentity("56" * 32, "test", WIDTH)


def unit(rows: int, width: int = WIDTH, seed: int = 0) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, width))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed gallery of 300 sightings."""
    with Gallery.create(tmp_path / "g", MODEL) as gallery:
        gallery.add(unit(300), [NewSighting(facts={"n": n}) for n in range(300)], model=MODEL)
    return tmp_path / "g"


def change(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def use(folder: Path) -> None:
    with Gallery.open(folder) as gallery:
        gallery.search(unit(1), model=MODEL)
        gallery.find(limit=1000)
        gallery.stats()


def write(content: bytes) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        for end in ("-wal", "-shm"):
            (folder / f"gallery.sqlite{end}").unlink(missing_ok=True)
        (folder / "gallery.sqlite").write_bytes(content)

    return apply


def middle_overwritten(folder: Path) -> None:
    file = folder / "gallery.sqlite"
    content = bytearray(file.read_bytes())
    for place in range(8192, len(content), 8192):
        content[place : place + 64] = b"\xff" * 64
    file.write_bytes(content)


def cut(folder: Path) -> None:
    file = folder / "gallery.sqlite"
    file.write_bytes(file.read_bytes()[:20_000])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), "no gallery here"),
    "no file": (lambda folder: (folder / "gallery.sqlite").unlink(), "no gallery here"),
    "empty file": (write(b""), "no gallery"),
    "text": (write(b"hello, this is not a database\n" * 1000), "damaged, or no gallery"),
    "pickle": (write(b"\x80\x04\x95" + bytes(5000)), "damaged, or no gallery"),
    "cut short": (cut, "damaged|malformed"),
    "overwritten": (middle_overwritten, "damaged|malformed"),
    "another program's database": (
        lambda folder: change(folder, "PRAGMA application_id=7"),
        "no gallery .application id 0x7",
    ),
    "newer format": (lambda folder: change(folder, "PRAGMA user_version=2"), "format version 2"),
    "a trigger": (
        lambda folder: change(folder, "CREATE TRIGGER t AFTER DELETE ON vector BEGIN SELECT 1; END"),
        "t differ",
    ),
    "a view": (lambda folder: change(folder, "CREATE VIEW v AS SELECT 1"), "v differ"),
    "a table less": (lambda folder: change(folder, "DROP TABLE crop"), "crop differ"),
    "no model": (lambda folder: change(folder, "DELETE FROM model"), "0 models, expected 1"),
    "no fingerprint": (lambda folder: change(folder, "UPDATE model SET fingerprint = 'x'"), "64 hexadecimal"),
    "another width": (lambda folder: change(folder, "UPDATE model SET stored_width = 31"), "expected 32"),
    "a basis too short": (lambda folder: change(folder, "UPDATE model SET basis = x'00'"), "basis of 1 bytes"),
    "a basis of zeros": (lambda folder: change(folder, "UPDATE model SET basis = zeroblob(4096)"), "not orthonormal"),
    "a vector too short": (
        lambda folder: change(folder, "UPDATE vector SET value = x'00' WHERE id = 7"),
        "wrong length",
    ),
    "a vector not finite": (
        lambda folder: change(folder, f"UPDATE vector SET value = x'{'0000c07f' * WIDTH}' WHERE id = 7"),
        "unit length",
    ),
    "a huge vector": (
        lambda folder: change(folder, f"UPDATE vector SET value = x'{'ffff7f7f' * WIDTH}' WHERE id = 7"),
        "unit length",
    ),
    "facts no JSON": (lambda folder: change(folder, "UPDATE sighting SET facts = '{' WHERE id = 7"), "sighting 7"),
    "a time out of range": (
        lambda folder: change(folder, f"UPDATE sighting SET time = {2**62} WHERE id = 7"),
        "facts or times are damaged",
    ),
    "no state": (lambda folder: change(folder, "DELETE FROM state"), "state"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_each(folder: Path, fault: str) -> None:
    apply, expected = FAULTS[fault]
    apply(folder)
    with pytest.raises(PrsnetError, match=expected) as caught:
        use(folder)
    assert str(folder) in caught.value.message or fault in ("facts no JSON", "a time out of range")
    assert "\n" not in caught.value.message


def test_the_fixture_is_a_good_gallery(folder: Path) -> None:
    use(folder)


@pytest.mark.parametrize("what", ["file", "folder with content"])
def test_nothing_is_overwritten(tmp_path: Path, what: str) -> None:
    place = tmp_path / "g"
    if what == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        Gallery.create(place, MODEL)
    assert sorted(path.name for path in tmp_path.rglob("*")) in (["g"], ["g", "notes.txt"])


def test_an_empty_folder_may_be_used_and_only_its_owner_may_look(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    Gallery.create(tmp_path / "g", MODEL).close()
    assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_short_coordinates_give_the_same_similarities(tmp_path: Path) -> None:
    """A real network's 512 numbers are stored as one coordinate more than its encoder is wide, exactly."""
    network = build_reid(resolve("nano", image_size=(64, 32)), None, torch.Generator().manual_seed(1)).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        assert network.bnneck.running_mean is not None
        network.bnneck.running_mean.copy_(torch.randn(512, generator=generator) * 0.1)
        vectors = network.embed(torch.randn(30, 3, 64, 32, generator=generator)).numpy()
    basis = compact_basis(network).float().numpy()
    model = ModelIdentity("78" * 32, "nano", 512)
    with (
        Gallery.create(tmp_path / "short", model, basis=basis) as short,
        Gallery.create(tmp_path / "full", model) as full,
    ):
        for gallery in (short, full):
            gallery.add(vectors, [NewSighting()] * 30, model=model)
        ids = [seen.id for seen in short.find()]
        assert short.stats().stored_width == network.encoder.width + 1 < 512
        assert short.store.vectors(ids).shape == (30, network.encoder.width + 1)
        np.testing.assert_allclose(short.vectors(ids), vectors, rtol=0, atol=1e-6)
        pairs = zip(
            short.search(vectors, model=model, top_k=30), full.search(vectors, model=model, top_k=30), strict=True
        )
        for a, b in pairs:
            compact_similarity = {hit.id: hit.similarity for hit in a}
            for hit in b:
                assert abs(compact_similarity[hit.id] - hit.similarity) < 1e-6
        with pytest.raises(DataError, match="was not made by model nano"):
            short.add(unit(1, 512), [NewSighting()], model=model)
        short.close()
        with Gallery.open(tmp_path / "short") as again:
            np.testing.assert_array_equal(again.store.space.basis, basis)


def test_a_space_knows_what_lies_outside() -> None:
    basis = np.eye(4, 2, dtype=np.float32)
    space = EmbeddingSpace(ModelIdentity("78" * 32, "m", 4), basis)
    inside = np.array([[0.6, 0.8, OUTSIDE / 2, 0]], dtype=np.float32)
    np.testing.assert_allclose(space.encode(inside), [[0.6, 0.8]], atol=1e-6)
    with pytest.raises(DataError, match="row 1"):
        space.encode(np.concatenate([inside, inside + np.array([0, 0, OUTSIDE, 0], np.float32)]))


@pytest.mark.parametrize("basis", [np.ones((WIDTH, 2), np.float32), np.eye(WIDTH), np.eye(3, dtype=np.float32)])
def test_a_basis_must_be_one(tmp_path: Path, basis: npt.NDArray[np.float32]) -> None:
    with pytest.raises(DataError, match="basis"):
        Gallery.create(tmp_path / "g", MODEL, basis=basis)


def test_torch_vectors_are_taken_as_well(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", MODEL) as gallery:
        gallery.add(torch.from_numpy(unit(3)) * 5, [NewSighting()] * 3, model=MODEL)
        hits = gallery.search(torch.from_numpy(unit(3)).requires_grad_(), model=MODEL, top_k=1)
        assert [row[0].id for row in hits] == ["1", "2", "3"]


def test_a_closed_gallery_says_so(folder: Path) -> None:
    gallery = Gallery.open(folder)
    gallery.close()
    gallery.close()
    with pytest.raises(InputError, match="closed database"):
        gallery.stats()

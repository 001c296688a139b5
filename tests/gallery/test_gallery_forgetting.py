"""What is deleted is gone from every file of the store; what is too old is found no more."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from prsnet.errors import InputError
from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.gallery.crops import encode_crop
from prsnet.gallery.sqlite import SqliteStore
from prsnet.types import ModelIdentity

WIDTH = 96
MODEL = ModelIdentity("12" * 32, "test", WIDTH)


class Clock(Protocol):
    now: datetime

    def __call__(self) -> datetime: ...


def unit(rows: int, seed: int) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, WIDTH))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def noise_crop(seed: int) -> bytes:
    """A picture whose every stretch of bytes is unlike any other's."""
    generator = np.random.default_rng(seed)
    size = tuple(generator.integers(8, 60, 2))
    return encode_crop(generator.integers(0, 256, (*size, 3), dtype=np.uint8))


def pieces(data: bytes) -> Iterator[bytes]:
    """Stretches of 16 bytes from all over the data; the ends of a picture are the same in all pictures."""
    inner = data[650:-8] if data.startswith(b"\xff\xd8") else data
    return (inner[start : start + 16] for start in range(0, max(1, len(inner) - 16), 61))


def all_bytes(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def traces(folder: Path, secrets: list[bytes]) -> int:
    content = all_bytes(folder)
    return sum(any(piece in content for piece in pieces(secret)) for secret in secrets)


def stored(gallery: Gallery, ids: list[str]) -> list[bytes]:
    return [row.tobytes() for row in gallery.store.vectors(ids)]


def add(gallery: Gallery, rows: int, seed: int, **facts: Any) -> list[str]:
    sightings = [NewSighting(crop=noise_crop(1000 * seed + row), **facts) for row in range(rows)]
    return gallery.add(unit(rows, seed), sightings, model=MODEL)


@pytest.mark.parametrize("others", ["none", "a reader with the files open", "a search before"])
def test_neither_vector_nor_crop_can_be_found_after_deletion(tmp_path: Path, others: str) -> None:
    folder = tmp_path / "g"
    with Gallery.create(folder, MODEL) as gallery:
        kept, gone = add(gallery, 20, 1, pid=1), add(gallery, 20, 2, pid=2)
        secrets = [*stored(gallery, gone), *(gallery.crop(id) or b"" for id in gone)]
        staying = [*stored(gallery, kept), *(gallery.crop(id) or b"" for id in kept)]
        assert traces(folder, secrets) == 40  # the test can see what it looks for
        reader = Gallery.open(folder) if others == "a reader with the files open" else None
        if reader or others == "a search before":
            (reader or gallery).search(unit(1, 3), model=MODEL)
        assert gallery.delete(SightingFilter(pids=(2,))) == 20
        assert traces(folder, secrets) == 0
        assert traces(folder, staying) == 40
        if reader:
            assert {hit.pid for hit in reader.search(unit(1, 3), model=MODEL, top_k=99)[0]} == {1}
            reader.close()
    assert traces(folder, secrets) == 0


def test_nothing_stays_behind_over_a_long_life(tmp_path: Path) -> None:
    """Zeroing what is deleted is not enough: where SQLite moved cells between pages before, copies stay in the gaps.

    This seed leaves four of them (SQLite 3.40) when the file is not written anew.
    """
    folder, generator = tmp_path / "g", np.random.default_rng(12)

    def noise() -> bytes:
        size = tuple(int(number) for number in generator.integers(8, 36, 2))
        return encode_crop(generator.integers(0, 256, (*size, 3), dtype=np.uint8))

    secrets: list[bytes] = []
    alive: list[str] = []
    with Gallery.create(folder, MODEL) as gallery:
        for step in range(30):
            sightings = [NewSighting(crop=noise()) for _ in range(int(generator.integers(1, 30)))]
            alive += gallery.add(unit(len(sightings), 1200 + step), sightings, model=MODEL)
            count = min(len(alive), int(generator.integers(0, 25)))
            gone = [alive.pop(int(generator.integers(len(alive)))) for _ in range(count)]
            secrets += [*stored(gallery, gone), *(gallery.crop(id) or b"" for id in gone)]
            gallery.delete(SightingFilter(ids=tuple(gone)), wipe=False)
        gallery.purge()
        assert len(secrets) > 500
        assert traces(folder, secrets) == 0
        assert gallery.stats().sightings == len(alive)


def test_an_unfinished_deletion_is_finished_when_the_gallery_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with Gallery.create(folder, MODEL) as gallery:
        ids = add(gallery, 5, 1)
        secrets = stored(gallery, ids)
        gallery.delete(SightingFilter(ids=tuple(ids)), wipe=False)
        assert traces(folder, secrets) == 5  # the log still has them
        assert gallery.store.unwiped
        with Gallery.open(folder) as again:
            assert not again.store.unwiped
        assert traces(folder, secrets) == 0


def test_a_reader_in_the_way_is_named_and_the_wipe_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "g"
    patient = SqliteStore.wipe
    monkeypatch.setattr(SqliteStore, "wipe", lambda store, patience=0.2: patient(store, patience=patience))
    with Gallery.create(folder, MODEL) as gallery:
        ids = add(gallery, 3, 1)
        secrets = stored(gallery, ids)
        reader = sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM vector").fetchone()
        with pytest.raises(InputError, match="another process keeps reading"):
            gallery.delete(SightingFilter(ids=tuple(ids)))
        assert gallery.store.unwiped
        assert gallery.find() == []
        with Gallery.open(folder) as again:  # opening does not fail over it
            assert again.find() == []
        reader.close()
        assert gallery.purge() == 0
        assert traces(folder, secrets) == 0


def test_the_memory_forgets_too(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", MODEL) as gallery:
        ids = add(gallery, 6, 1)
        vectors = gallery.vectors(ids)
        gallery.search(vectors, model=MODEL)
        gallery.delete(SightingFilter(ids=tuple(ids[2:])))
        gallery.search(vectors, model=MODEL)
        index = gallery.store._index  # type: ignore[attr-defined]
        room = index._room.vectors
        assert np.abs(room[2:]).max() == 0
        np.testing.assert_array_equal(room[:2], vectors[:2])


def test_retention_hides_at_once_and_purge_deletes(tmp_path: Path, clock: Clock) -> None:
    folder, noon = tmp_path / "g", clock.now
    with Gallery.create(folder, MODEL, retention_days=30, clock=clock) as gallery:
        (old,) = add(gallery, 1, 1, time=noon - timedelta(days=29))
        (new,) = add(gallery, 1, 2, time=noon)
        (unknown,) = add(gallery, 1, 3)
        (wrong_clock,) = add(gallery, 1, 4, time=noon + timedelta(days=9000))
        secrets = stored(gallery, [old])

        def shown() -> list[str]:
            searched = sorted(hit.id for hit in gallery.search(unit(1, 9), model=MODEL)[0])
            assert searched == [seen.id for seen in gallery.find()]
            return searched

        assert shown() == [old, new, unknown, wrong_clock]
        clock.now = noon + timedelta(days=1)
        assert shown() == [old, new, unknown, wrong_clock]
        clock.now += timedelta(microseconds=1)
        assert shown() == [new, unknown, wrong_clock]
        for hidden in (lambda: gallery.get(old), lambda: gallery.crop(old), lambda: gallery.search_person(like=[old])):
            with pytest.raises(InputError, match="no sighting"):
                hidden()
        assert (gallery.stats().sightings, gallery.stats().expired) == (4, 1)
        assert traces(folder, secrets) == 1
        assert gallery.purge() == 1
        assert traces(folder, secrets) == 0
        clock.now = noon + timedelta(days=30, microseconds=1)
        assert shown() == []
        assert gallery.purge() == 3
        assert gallery.purge() == 0


def test_adding_purges_at_most_once_an_hour(tmp_path: Path, clock: Clock) -> None:
    with Gallery.create(tmp_path / "g", MODEL, retention_days=1, clock=clock) as gallery:
        add(gallery, 2, 1)
        clock.now += timedelta(days=2)
        add(gallery, 1, 2)
        assert gallery.stats().sightings == 1
        gallery.set_retention(0.001)
        clock.now += timedelta(minutes=59)
        add(gallery, 1, 3)
        assert (gallery.stats().sightings, gallery.stats().expired) == (2, 1)
        clock.now += timedelta(minutes=1)
        add(gallery, 1, 4)
        assert gallery.stats().sightings == 2
        gallery.set_retention(None)
        clock.now += timedelta(days=900)
        assert gallery.purge() == 0
        assert gallery.retention_days is None


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), 1e9])
def test_retention_out_of_range(tmp_path: Path, days: float) -> None:
    with pytest.raises(InputError, match="retention"):
        Gallery.create(tmp_path / "g", MODEL, retention_days=days)
    assert not (tmp_path / "g").exists()


def test_an_age_before_all_clocks(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", MODEL, retention_days=365_000) as gallery:
        add(gallery, 1, 1, time=datetime(1, 1, 1, tzinfo=timezone.utc))
        assert gallery.find() == []
        assert gallery.purge() == 1


def test_noise_pictures_are_long_enough_to_be_looked_for() -> None:
    crop = noise_crop(3)
    assert len(list(pieces(crop))) >= 1
    assert Image.open(io.BytesIO(crop)).format == "JPEG"

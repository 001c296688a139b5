"""Export and import: a round trip loses nothing, and a stranger's archive can do no harm."""

from __future__ import annotations

import io
import json
import pickle
import stat
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from prsnet.errors import DataError, InputError
from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.gallery import archive as archive_module
from prsnet.gallery.archive import archive_model, export_gallery, import_gallery
from prsnet.types import ModelIdentity

WIDTH = 8
MODEL = ModelIdentity("bc" * 32, "test", WIDTH)
START = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)


def unit(rows: int) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(3).normal(size=(rows, WIDTH))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def picture(number: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 9), (number, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def filled(folder: Path, rows: int = 25) -> Gallery:
    gallery = Gallery.create(folder, MODEL)
    sightings = [
        NewSighting(
            pid=number % 4 + 1 if number % 3 else None,
            camid=number % 2 if number % 5 else None,
            time=START + timedelta(microseconds=number) if number % 2 else None,
            source=f"Straße {number % 3}",
            path=f"{number}.jpg",
            facts={"n": number, "nested": {"list": [1, None, "ü"]}},
            crop=picture(number, ("JPEG", "PNG", "WEBP")[number % 3]) if number % 4 else None,
        )
        for number in range(rows)
    ]
    gallery.add(unit(rows), sightings, model=MODEL)
    return gallery


def content(gallery: Gallery) -> list[Any]:
    everything = []
    for sightings, vectors, crops in gallery.contents():
        for seen, vector, crop in zip(sightings, vectors, crops, strict=True):
            facts = {key: value for key, value in seen.to_dict().items() if key != "id"}
            everything.append((facts, vector.tolist(), crop))
    return everything


@pytest.mark.parametrize("name", ["archive", "archive.zip"])
def test_round_trip(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "ROWS_PER_SHARD", 10)
    counts: list[int] = []
    with filled(tmp_path / "a") as one, Gallery.create(tmp_path / "b", MODEL) as two:
        assert export_gallery(one, tmp_path / name, progress=counts.append) == 25
        assert counts == [10, 10, 5]
        assert archive_model(tmp_path / name) == MODEL
        ids = import_gallery(two, tmp_path / name)
        assert len(ids) == 25
        before, after = content(one), content(two)
        for (facts, vector, crop), (again, back, kept) in zip(before, after, strict=True):
            assert (facts, crop) == (again, kept)
            np.testing.assert_allclose(back, vector, rtol=0, atol=1e-7)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a", "b", name])


def test_numpy_and_json_alone_can_read_it(tmp_path: Path) -> None:
    with filled(tmp_path / "a", 3) as gallery:
        export_gallery(gallery, tmp_path / "out")
    with np.load(tmp_path / "out" / "shard-00000.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["vectors"], unit(3), atol=1e-7)
    lines = (tmp_path / "out" / "shard-00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["facts"]["n"] for line in lines] == [0, 1, 2]
    assert (tmp_path / "out" / "crops" / "2.png").read_bytes() == picture(1, "PNG")


def test_a_part_can_be_exported_and_expired_ones_are_not(tmp_path: Path) -> None:
    with filled(tmp_path / "a") as gallery:
        assert export_gallery(gallery, tmp_path / "one.zip", where=SightingFilter(pids=(2,))) == 4
        gallery.set_retention(1)
        assert export_gallery(gallery, tmp_path / "young.zip") == 13  # those of unknown time were added just now
        assert export_gallery(gallery, tmp_path / "none.zip", where=SightingFilter(pids=())) == 0
        assert import_gallery(gallery, tmp_path / "none.zip") == []


def test_export_overwrites_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with filled(tmp_path / "a", 1) as gallery, pytest.raises(InputError, match="exists already"):
        export_gallery(gallery, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_another_models_archive_is_refused(tmp_path: Path) -> None:
    with filled(tmp_path / "a", 2) as gallery:
        export_gallery(gallery, tmp_path / "x.zip")
    other = ModelIdentity("de" * 32, "other", WIDTH)
    with Gallery.create(tmp_path / "b", other) as gallery, pytest.raises(DataError, match=r"other \(.*test \("):
        import_gallery(gallery, tmp_path / "x.zip")


def test_retention_goes_on_counting_and_cannot_be_put_off(tmp_path: Path) -> None:
    def entered(line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "time": None, "added": "2020-01-01T00:00:00Z" if line["facts"]["n"] else "2999-01-01T00:00:00Z"}

    repack(tmp_path, lines=entered)
    with Gallery.create(tmp_path / "b", MODEL, retention_days=10) as gallery:
        first, _, _ = import_gallery(gallery, tmp_path / "x.zip")
        assert [seen.id for seen in gallery.find()] == [first]
        assert abs(gallery.get(first).added - datetime.now(timezone.utc)) < timedelta(minutes=1)
        assert gallery.stats().expired == 2


Lines = Callable[[dict[str, Any]], Any]


def repack(
    tmp_path: Path,
    *,
    lines: Lines | None = None,
    manifest: dict[str, Any] | None = None,
    replace: dict[str, bytes | None] | None = None,
) -> Path:
    """Export three sightings to x.zip and rewrite parts of it."""
    with filled(tmp_path / "a", 3) as gallery:
        export_gallery(gallery, tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        files: dict[str, bytes | None] = {name: good.read(name) for name in good.namelist()}
    if lines is not None:
        kept = [lines(json.loads(line)) for line in (files["shard-00000.jsonl"] or b"").splitlines()]
        texts = [line if isinstance(line, str) else json.dumps(line) for line in kept]
        files["shard-00000.jsonl"] = "".join(f"{text}\n" for text in texts).encode()
    if manifest is not None:
        files["gallery.json"] = json.dumps({**json.loads(files["gallery.json"] or b""), **manifest}).encode()
    files |= replace or {}
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        for name, data in files.items():
            if data is not None:
                out.writestr(name, data)
    return tmp_path / "x.zip"


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def with_key(key: str, value: Any) -> Lines:
    return lambda line: {**line, key: value}


CRAFTED: dict[str, tuple[dict[str, Any], str]] = {
    "a name that leaves the folder": ({"replace": {"../evil.txt": b"x"}}, "which no archive"),
    "an absolute name": ({"replace": {"/etc/passwd": b"x"}}, "which no archive"),
    "a crop that leaves the folder": ({"lines": with_key("crop", "crops/../../x.jpg")}, "expected a name like"),
    "a crop from elsewhere": ({"lines": with_key("crop", "/etc/passwd")}, "expected a name like"),
    "a crop that is a number": ({"lines": with_key("crop", 5)}, "expected a name like"),
    "a crop that is missing": ({"lines": with_key("crop", "crops/99.jpg")}, "crops/99.jpg is missing"),
    "a crop that is no picture": ({"replace": {"crops/2.png": b"#!/bin/sh"}}, "expected a JPEG, PNG or WebP"),
    "a crop that is damaged": ({"replace": {"crops/2.png": picture(1, "PNG")[:40]}}, "not an image"),
    "a crop too large": ({"replace": {"crops/2.png": bytes(3 * 2**20)}}, "expected at most"),
    "a manifest missing": ({"replace": {"gallery.json": None}}, "gallery.json is missing"),
    "a manifest of something else": ({"manifest": {"format": "x"}}, "does not say"),
    "a newer manifest": ({"manifest": {"format_version": 2}}, "format version 2"),
    "a manifest no object": ({"replace": {"gallery.json": b"[]"}}, "expected a JSON object"),
    "a manifest without end": ({"replace": {"gallery.json": b"[" * 100_000}}, "not JSON"),
    "a manifest of bytes": ({"replace": {"gallery.json": b"\xff\xfe\x00"}}, "not JSON"),
    "shards no list": ({"manifest": {"shards": 3}}, "shards"),
    "shards of nothing": ({"manifest": {"shards": [0]}}, "shards"),
    "shards beyond measure": ({"manifest": {"shards": [10**12]}}, "shards"),
    "a shard more": ({"manifest": {"shards": [3, 3]}}, "shard-00001.npz is missing"),
    "fewer rows than said": ({"manifest": {"shards": [4]}}, "expected float32"),
    "no model": ({"manifest": {"model": {}}}, "names no model"),
    "vectors of objects": (
        {"replace": {"shard-00000.npz": npz(vectors=np.array([Harmful()]))}},
        "expected numbers or text",
    ),
    "a pickle for vectors": ({"replace": {"shard-00000.npz": pickle.dumps(Harmful())}}, "not an .npz archive"),
    "vectors not finite": (
        {"replace": {"shard-00000.npz": npz(vectors=np.full((3, WIDTH), np.inf, np.float32))}},
        "finite",
    ),
    "vectors of zeros": ({"replace": {"shard-00000.npz": npz(vectors=np.zeros((3, WIDTH), np.float32))}}, "length 0"),
    "vectors of another width": (
        {"replace": {"shard-00000.npz": npz(vectors=np.ones((3, 4), np.float32))}},
        "expected float32",
    ),
    "a line too few": ({"replace": {"shard-00000.jsonl": b"{}\n"}}, "1 whole lines"),
    "a line cut off": ({"replace": {"shard-00000.jsonl": b"{}\n{}\n{}"}}, "whole lines"),
    "a line no JSON": ({"lines": lambda line: "{"}, "not JSON"),
    "a line with NaN": ({"lines": lambda line: json.dumps({**line, "facts": {"x": float("nan")}})}, "no JSON number"),
    "an unknown attribute": ({"lines": with_key("evil", 1)}, "evil"),
    "a pid that is text": ({"lines": with_key("pid", "1; DROP TABLE sighting")}, "pid"),
    "a pid that is junk": ({"lines": with_key("pid", -1)}, "pid"),
    "a time without zone": ({"lines": with_key("time", "2024-01-01T00:00:00")}, "no time zone"),
    "a time that is none": ({"lines": with_key("time", "yesterday")}, "expected ISO 8601"),
    "facts that are a list": ({"lines": with_key("facts", [1])}, "facts"),
    "a path with NUL": ({"lines": with_key("path", "a\0b")}, "path"),
    "a path of half a character": ({"lines": with_key("path", "\ud800")}, "not Unicode"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_archives_are_refused_in_one_line_and_leave_nothing(tmp_path: Path, case: str) -> None:
    changes, expected = CRAFTED[case]
    file = repack(tmp_path, **changes)
    with Gallery.create(tmp_path / "b", MODEL) as gallery:
        with pytest.raises(DataError, match=expected) as caught:
            import_gallery(gallery, file)
        assert str(file) in caught.value.message
        assert "\n" not in caught.value.message
        assert gallery.find() == []
    assert not (tmp_path.parent / "evil.txt").exists()


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for number in range(3):
            out.writestr(f"shard-{number:05d}.jsonl", bytes(25 * 2**20))
    with Gallery.create(tmp_path / "b", MODEL) as gallery, pytest.raises(DataError, match="unpacked from"):
        import_gallery(gallery, tmp_path / "bomb.zip")


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(picture(9))
    with filled(tmp_path / "a", 3) as gallery:
        export_gallery(gallery, tmp_path / "out")
    crop = tmp_path / "out" / "crops" / "3.webp"
    crop.unlink()
    crop.symlink_to(secret)
    with Gallery.create(tmp_path / "b", MODEL) as gallery:
        with pytest.raises(DataError, match="is a link"):
            import_gallery(gallery, tmp_path / "out")
        crop.unlink()
        (tmp_path / "elsewhere").mkdir()
        for file in (tmp_path / "out" / "crops").iterdir():
            file.rename(tmp_path / "elsewhere" / file.name)
        (tmp_path / "out" / "crops").rmdir()
        (tmp_path / "out" / "crops").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="crops is a link"):
            import_gallery(gallery, tmp_path / "out")
        link = zipfile.ZipInfo("gallery.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "link.zip", "w") as out:
            out.writestr(link, "/etc/passwd")
        with pytest.raises(DataError, match="is a link"):
            import_gallery(gallery, tmp_path / "link.zip")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        out.writestr("gallery.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("gallery.json", "{}")
    with Gallery.create(tmp_path / "b", MODEL) as gallery, pytest.raises(DataError, match="two files of the same name"):
        import_gallery(gallery, tmp_path / "x.zip")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "empty").mkdir()
    with Gallery.create(tmp_path / "b", MODEL) as gallery:
        for name, expected in (
            ("missing.zip", "no such folder"), ("text.zip", "not a zip"), ("empty", "gallery.json is missing")
        ):  # fmt: skip
            with pytest.raises(DataError, match=expected):
                import_gallery(gallery, tmp_path / name)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    file = repack(tmp_path)
    data = bytearray(file.read_bytes())
    data[bytes(data).find(b'"nested"') + 3] ^= 1
    file.write_bytes(data)
    with Gallery.create(tmp_path / "b", MODEL) as gallery, pytest.raises(DataError, match="Bad CRC"):
        import_gallery(gallery, file)

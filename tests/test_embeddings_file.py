"""Files of embeddings: what is written comes back, NumPy can read it, and strangers' files do no harm."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.embeddings_file import read_embeddings, read_npz, write_embeddings
from prsnet.errors import DataError, PrsnetError
from prsnet.types import Embeddings, ModelIdentity

MODEL = ModelIdentity("ab" * 32, "nano 128x64", 5)


def some(rows: int = 4, paths: tuple[str, ...] | None = None) -> Embeddings:
    vectors = np.random.default_rng(1).normal(size=(rows, 5)).astype(np.float32)
    names = tuple(f"image {i}.jpg" for i in range(rows)) if paths is None else paths
    return Embeddings(vectors, np.arange(rows) - 1, np.arange(rows) % 3, names)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_round_trip(tmp_path: Path, rows: int) -> None:
    file, original = tmp_path / "deep" / "people.npz", some(rows)
    write_embeddings(file, original, MODEL, {"flip": True})
    stored = read_embeddings(file)
    np.testing.assert_array_equal(stored.embeddings.numpy(), original.numpy())
    np.testing.assert_array_equal(stored.embeddings.pids, original.pids)
    np.testing.assert_array_equal(stored.embeddings.camids, original.camids)
    assert stored.embeddings.paths == original.paths
    assert stored.model == MODEL
    assert stored.facts == {"flip": True}


def test_numpy_alone_can_read_it(tmp_path: Path) -> None:
    file, original = tmp_path / "people.npz", some()
    write_embeddings(file, original, MODEL)
    with np.load(file, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["vectors"], original.numpy())
        assert archive["paths"].tolist() == list(original.paths)
        assert json.loads(str(archive["description"]))["model"]["name"] == "nano 128x64"


def test_odd_names_and_none_at_all(tmp_path: Path) -> None:
    file = tmp_path / "people.npz"
    write_embeddings(file, some(2, ("Jörg 李.jpg", "caf\udce9\0.jpg")), MODEL)
    assert read_embeddings(file).embeddings.paths == ("Jörg 李.jpg", "caf\\udce9\\x00.jpg")
    write_embeddings(file, some(2, ()), MODEL)
    assert read_embeddings(file).embeddings.paths == ()


def test_another_width_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 numbers, expected 6"):
        write_embeddings(tmp_path / "x.npz", some(), ModelIdentity("ab" * 32, "m", 6))
    assert not list(tmp_path.iterdir())


def npy(array: Any, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=pickled)
    return buffer.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def archive(file: Path, **changed: bytes | None) -> Path:
    described = {
        "format": "prsnet-embeddings",
        "format_version": 1,
        "model": {"fingerprint": "ab" * 32, "name": "m", "width": 5},
    }
    whole = some()
    members: dict[str, bytes | None] = {
        "vectors": npy(whole.numpy()),
        "pids": npy(whole.pids),
        "camids": npy(whole.camids),
        "description": npy(json.dumps(described)),
        **changed,
    }
    with zipfile.ZipFile(file, "w") as out:
        for name, data in members.items():
            if data is not None:
                out.writestr(f"{name}.npy", data)
    return file


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def described(**facts: Any) -> bytes:
    model = {"fingerprint": "ab" * 32, "name": "m", "width": 5}
    return npy(json.dumps({"format": "prsnet-embeddings", "format_version": 1, "model": model, **facts}))


FOREIGN: dict[str, tuple[dict[str, bytes | None], str]] = {
    "no vectors": ({"vectors": None}, "no array 'vectors'"),
    "pickled objects": ({"vectors": npy(np.array([Harmful()]), pickled=True)}, "expected numbers or text"),
    "raw pickle": ({"vectors": pickle.dumps(Harmful())}, "no plain array"),
    "larger than it says": ({"vectors": header((1 << 40, 5))}, "does not fit its"),
    "smaller than it says": ({"vectors": header((2, 5)) + bytes(400)}, "does not fit its"),
    "negative size": ({"vectors": header((-4, 5))}, "expected numbers or text"),
    "not finite": ({"vectors": npy(np.full((4, 5), np.nan, np.float32))}, "not finite"),
    "other width": ({"vectors": npy(np.ones((4, 6), np.float32))}, r"expected float32 \(N, 5\)"),
    "doubles": ({"vectors": npy(np.ones((4, 5)))}, "expected float32"),
    "too few pids": ({"pids": npy(np.arange(3))}, "4 vectors but pids"),
    "pids as numbers with a point": ({"pids": npy(np.arange(4.0))}, "pids must be integers"),
    "paths as numbers": ({"paths": npy(np.arange(4))}, "expected text"),
    "paths of no characters": ({"paths": header((4,), "<U1") + b"\xff" * 16}, "do not exist"),
    "description no JSON": ({"description": npy("{")}, "not JSON"),
    "description nested without end": ({"description": npy("[" * 200000)}, "not JSON"),
    "description of something else": ({"description": described(format="x")}, "does not say"),
    "newer format": ({"description": described(format_version=2)}, "format version 2"),
    "no model": ({"description": described(model=None)}, "names no model"),
    "model of another kind": (
        {"description": described(model={"fingerprint": 3, "name": "m", "width": 5})},
        "names no model",
    ),
    "model without fingerprint": (
        {"description": described(model={"fingerprint": "xyz", "name": "m", "width": 5})},
        "64 hexadecimal",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_archives_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    members, expected = FOREIGN[case]
    file = archive(tmp_path / "foreign.npz", **members)
    with pytest.raises(DataError, match=expected) as caught:
        read_embeddings(file)
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    for content in (b"", b"\x80\x04K\x01.", b"PK\x03\x04 cut off"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"not an \.npz archive"):
            read_embeddings(file)
    with pytest.raises(DataError, match="no such file"):
        read_embeddings(tmp_path / "missing.npz")
    with pytest.raises(DataError, match="cannot be read"):
        read_embeddings(tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("vectors.npy", header((20 * 2**20, 1)) + bytes(80 * 2**20))
    assert file.stat().st_size < 2**20
    with pytest.raises(DataError, match="unpacked from"):
        read_npz(file)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    file = archive(tmp_path / "x.npz")
    data = bytearray(file.read_bytes())
    place = bytes(data).find(some().numpy().tobytes())
    data[place + 9] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"not an \.npz archive: Bad CRC"):
        read_embeddings(file)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_gives_an_answer_or_one_of_our_errors(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, vectors=some().numpy(), pids=some().pids)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_npz(io.BytesIO(bytes(content)))
    except PrsnetError as error:
        assert "\n" not in error.message

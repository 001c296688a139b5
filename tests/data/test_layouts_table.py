from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet.data.layouts import load_dataset, load_images_only
from prsnet.errors import DataError


def table(root: Path, text: str, *, images: str = "a.png b.png c.png d.png", name: str = "set.csv") -> Path:
    for image in images.split():
        (root / image).touch()
    file = root / name
    file.write_bytes(text.encode())
    return file


GOOD = "path,pid,camid,split\na.png,1,1,train\nb.png,2,,query\nc.png,0,2,gallery\nd.png,-1,3,gallery\n"


@pytest.mark.parametrize("whole_folder", [True, False])
@pytest.mark.parametrize(
    "text", [GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.replace(",", " , ") + "\n,,,\n"]
)
def test_table(text: str, whole_folder: bool, tmp_path: Path) -> None:
    file = table(tmp_path, text)
    (tmp_path / "results.csv").write_text("epoch,loss\n1,2\n")
    dataset = load_dataset(tmp_path if whole_folder else file)
    assert dataset.facts["layout"] == "csv"
    assert dataset.name == (tmp_path.name if whole_folder else "set")
    found = [(r.path, r.pid, r.camid) for part in (dataset.train, dataset.query, dataset.gallery) for r in part]
    assert found == [
        (tmp_path / "a.png", 1, 1),
        (tmp_path / "b.png", 2, None),
        (tmp_path / "c.png", 0, 2),
        (tmp_path / "d.png", -1, 3),
    ]


def test_columns_in_any_order_absolute_paths_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "x, y.png").touch()
    other = tmp_path / "elsewhere"
    other.mkdir()
    file = table(other, f'split,pid,path\ntrain,7,"{tmp_path}/x, y.png"\n', images="")
    (record,) = load_dataset(file).train
    assert (record.path, record.pid, record.camid) == (tmp_path / "x, y.png", 7, None)


def test_without_split_the_seed_splits_identities(tmp_path: Path) -> None:
    text = "path,pid,camid\na.png,1,1\nb.png,1,2\nc.png,2,1\nd.png,2,2\n"
    dataset = load_dataset(table(tmp_path, text), seed=1)
    assert len(dataset.train) == len(dataset.query) == len(dataset.gallery) == 2
    assert dataset.facts["split_seed"] == 1


def test_unlabelled_training_rows_are_for_pretraining(tmp_path: Path) -> None:
    file = table(tmp_path, "path,pid,camid,split\na.png,,,train\nb.png,2,,train\n")
    assert [record.pid for record in load_dataset(file).train] == [None, 2]
    assert len(load_images_only(file).train) == 2


def test_all_bad_rows_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = GOOD + (
        "none.png,1,1,train\n"
        "\n"
        "a.png,x,1,train\n"
        "a.png,1,-1,train\n"
        "a.png,1,1,valid\n"
        "a.png,0,1,train\n"
        "a.png,,1,query\n"
        "a.png,1\n"
        "a.png,1.5,99999999999999999999,gallery\n"
    )
    with pytest.raises(DataError) as caught:
        load_dataset(table(tmp_path, text))
    expected = (
        "8 bad rows: line 6: no image at 'none.png'; "
        "line 8: pid 'x', expected a whole number from -1 to 2147483647; "
        "line 9: camid '-1', expected a whole number from 0 to 2147483647; "
        "line 10: split 'valid', expected train, query, gallery; "
        "line 11: pid 0: 0 (distractor) and -1 (junk) are for the gallery, people count from 1; "
        "line 12: pid is empty; "
        "line 13: 2 cells, expected 4; "
        "line 14: pid '1.5', expected a whole number from -1 to 2147483647, "
        "camid '99999999999999999999', expected a whole number from 0 to 2147483647"
    )
    assert caught.value.message.endswith(expected)


def test_many_bad_rows_are_cut_short(tmp_path: Path) -> None:
    text = "path,pid\n" + "none.png,1\n" * 50
    with pytest.raises(DataError, match=r"50 bad rows.*line 21: no image at 'none\.png'; and 30 more \(") as caught:
        load_dataset(table(tmp_path, text))
    assert "line 22" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,camid,split\n", "columns missing: pid"),
        ("path,pid,cam,split\n", "columns unknown: cam"),
        ("path,pid,pid\n", "columns given twice: pid"),
        ("path;pid;camid;split\n", "columns missing: path, pid; unknown: path;pid;camid;split"),
        ("", "columns missing: path, pid"),
        ("path,pid,camid,split\n", "no rows below the header"),
        ("path,pid\na.png,1\n\0\n", "cannot read the CSV|bad rows"),
        ("path,pid\na\0.png,1\n", "cannot read the CSV|bad rows"),
    ],
)
def test_bad_tables(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(table(tmp_path, text))
    assert "set.csv" in caught.value.message
    assert caught.value.hint


def test_a_table_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes("path,pid\nmüller.png,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv: cannot read the CSV"):
        load_dataset(file)


def test_two_tables_in_a_folder(tmp_path: Path) -> None:
    table(tmp_path, GOOD)
    table(tmp_path, GOOD, name="old.csv")
    with pytest.raises(DataError, match=r"expected one dataset CSV, found old\.csv, set\.csv"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path / "old.csv").train) == 1


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=6))
def test_any_rows_end_in_a_data_error_or_a_dataset(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    root = tmp_path_factory.mktemp("table")
    file = root / "set.csv"
    file.write_text("path,pid,camid,split\n" + "\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_dataset(file)
    assert "set.csv" in caught.value.message

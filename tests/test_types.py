"""The objects that pass between the parts: what cannot be is refused when it is made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prsnet import Batch, DataError, Embeddings, Hit, ImageRecord, RankReport
from prsnet.types import JUNK_PID, QueryRanks, RankSummary


@pytest.mark.parametrize("wrong", [{"pid": -2}, {"camid": -1}])
def test_records_refuse_impossible_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError) as raised:
        ImageRecord(Path("a/b.png"), **wrong)
    assert "b.png" in raised.value.message and str(next(iter(wrong.values()))) in raised.value.message
    assert ImageRecord(Path("a"), JUNK_PID, 0).pid == -1
    assert ImageRecord(Path("a")).pid is None


def test_nothing_can_be_changed_afterwards() -> None:
    for thing, name in ((ImageRecord(Path("a")), "pid"), (Hit("x", 0.5), "similarity")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, 3)


def embeddings(**changes: Any) -> Embeddings:
    values = {"vectors": np.eye(3, 4, dtype=np.float32), "pids": np.array([1, 2, 1]), "camids": np.array([1, 1, 2])}
    return Embeddings(**{**values, "paths": ("a", "b", "c"), **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": np.zeros(3)}, "shape (N, D)"),
        ({"vectors": np.zeros((2, 4))}, "2 vectors but pids of shape (3,)"),
        ({"pids": np.array([1, 2])}, "3 vectors but pids of shape (2,)"),
        ({"camids": np.array([[1, 2, 3]])}, "camids of shape (1, 3)"),
        ({"pids": np.array([1.0, 2.0, 3.0])}, "pids must be integers, got float64"),
        ({"pids": np.array([1, 2, 2**64 - 1], dtype=np.uint64)}, "does not fit into 64 signed bits"),
        ({"paths": ("a",)}, "3 vectors but 1 paths"),
    ],
)
def test_embeddings_refuse_what_does_not_belong_together(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as raised:
        embeddings(**changes)
    assert words in raised.value.message


def test_embeddings_of_rows() -> None:
    whole = embeddings()
    part = whole.select([2, 0])
    assert part.pids.tolist() == [1, 1] and part.paths == ("c", "a")
    np.testing.assert_array_equal(part.numpy(), whole.numpy()[[2, 0]])
    masked = whole.select(np.array([False, True, True]))
    assert masked.camids.tolist() == [1, 2]
    assert len(whole.select([])) == 0 and whole.width == 4 and len(whole) == 3
    assert whole.select([0]).paths == ("a",) and embeddings(paths=()).select([0]).paths == ()


def test_embeddings_of_torch_are_those_of_numpy() -> None:
    vectors = torch.eye(3, 4, dtype=torch.bfloat16, requires_grad=True)
    found = embeddings(vectors=vectors)
    assert found.numpy().dtype == np.float32
    np.testing.assert_array_equal(found.numpy(), np.eye(3, 4))
    np.testing.assert_array_equal(found.select([1]).numpy(), np.eye(3, 4)[1:2])
    assert found.pids.dtype == np.int64
    assert embeddings(pids=np.array([1, 2, 3], dtype=np.uint8)).pids.dtype == np.int64


def test_batches_have_one_label_per_image() -> None:
    images, labels, valid = torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
    assert len(Batch(images, labels, labels, valid).images) == 2
    with pytest.raises(ValueError, match=r"Batch\.camids: expected shape \(2,\), got \(3,\)"):
        Batch(images, labels, torch.zeros(3), valid)


def test_reports_can_be_written() -> None:
    row = np.array([0, 2])
    ranks = QueryRanks(row, row, row, row / 4, row, row / 2, row, row)
    summary = RankSummary(2, 0.5, 0.25, 0.125)
    report = RankReport(0.5, {1: 0.25, 5: 1.0}, 0.75, ranks, {"junk": 1}, "words", 9, {3: summary}, {(1, 2): summary})
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["cmc"] == {"1": 0.25, "5": 1.0} and plain["queries"] == 2 == len(ranks)
    assert plain["per_query"]["ap"] == [0.0, 0.5] and plain["by_camera_pair"]["1>2"]["rank1"] == 0.25
    assert plain["by_query_camera"]["3"] == {"queries": 2, "map": 0.5, "rank1": 0.25, "minp": 0.125}
    assert "per_query" not in report.to_dict(per_query=False)

"""The ranking report against a sort of every row, on vectors whose ties are exact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.errors import DataError, InputError
from prsnet.metrics.placing import SKIP_REASONS, CameraFilter
from prsnet.metrics.ranking import rank_report
from prsnet.types import Embeddings, RankReport

Floats = npt.NDArray[np.floating[Any]]


def embeddings(
    vectors: Any, pids: Any, camids: Any = None, paths: tuple[str, ...] = (), dtype: Any = np.float32
) -> Embeddings:
    pids = np.asarray(pids, dtype=np.int64)
    camids = np.full(len(pids), -1) if camids is None else np.asarray(camids, dtype=np.int64)
    return Embeddings(np.asarray(vectors, dtype=dtype), pids, camids, paths)


@dataclass
class Obvious:
    """One query's figures, read off a sorted list."""

    row: int
    ap: float
    first: int
    inp: float
    relevant: int
    valid: int


def by_sorting(query: Embeddings, gallery: Embeddings, cameras: CameraFilter) -> list[Obvious]:
    """Sort the allowed gallery of each query by (similarity down, irrelevant first) and read the figures off."""
    found = []
    for row in range(len(query)):
        pid, camid = query.pids[row], query.camids[row]
        answers = []
        for column in range(len(gallery)):
            same = gallery.camids[column] == camid
            itself = bool(query.paths) and bool(gallery.paths) and query.paths[row] == gallery.paths[column]
            twin = cameras == "other" and same and camid >= 0 and gallery.pids[column] == pid
            if gallery.pids[column] == -1 or itself or twin or (cameras == "same" and not same):
                continue
            cosine = float(query.numpy()[row].astype(np.float64) @ gallery.numpy()[column].astype(np.float64))
            answers.append((-cosine, bool(gallery.pids[column] == pid)))
        ranks = [rank for rank, (_, right) in enumerate(sorted(answers), start=1) if right]
        if pid > 0 and ranks:
            precisions = [number / rank for number, rank in enumerate(ranks, start=1)]
            found.append(
                Obvious(row, sum(precisions) / len(ranks), ranks[0], len(ranks) / ranks[-1], len(ranks), len(answers))
            )
    return found


def assert_agrees(report: RankReport, expected: list[Obvious]) -> None:
    ranks = report.per_query
    assert ranks.row.tolist() == [one.row for one in expected]
    np.testing.assert_allclose(ranks.ap, [one.ap for one in expected], atol=1e-12)
    assert ranks.first_match.tolist() == [one.first for one in expected]
    np.testing.assert_allclose(ranks.inp, [one.inp for one in expected], atol=1e-12)
    assert ranks.relevant.tolist() == [one.relevant for one in expected]
    assert ranks.valid.tolist() == [one.valid for one in expected]
    assert report.map == pytest.approx(np.mean([one.ap for one in expected]), abs=1e-12)
    assert report.minp == pytest.approx(np.mean([one.inp for one in expected]), abs=1e-12)
    for rank, share in report.cmc.items():
        assert share == pytest.approx(np.mean([one.first <= rank for one in expected]), abs=1e-12)


def signs(draw: st.DrawFn, rows: int) -> Floats:
    """Vectors of +-1/2: unit length, and every product is exact, so that ties are ties in any arithmetic."""
    values = draw(
        st.lists(st.lists(st.sampled_from([-0.5, 0.5]), min_size=4, max_size=4), min_size=rows, max_size=rows)
    )
    return np.asarray(values, dtype=np.float32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Embeddings, Embeddings]:
    queries, images = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    identities, views = draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def ids(count: int, low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    names = draw(st.booleans())
    query = embeddings(
        signs(draw, queries),
        ids(queries, -1, identities),
        ids(queries, 1, views),
        tuple(f"{i}.jpg" for i in range(queries)) if names else (),
    )
    gallery = embeddings(
        signs(draw, images),
        ids(images, -1, identities),
        ids(images, 1, views),
        tuple(f"{i + draw(st.sampled_from([0, 3]))}.jpg" if i < 3 else f"g{i}.jpg" for i in range(images))
        if names
        else (),
    )
    return query, gallery


@settings(max_examples=150, deadline=None)
@given(case=cases(), cameras=st.sampled_from(["other", "all", "same"]), block=st.sampled_from([None, 1, 2, 5]))
def test_agrees_with_a_sort(case: tuple[Embeddings, Embeddings], cameras: CameraFilter, block: int | None) -> None:
    query, gallery = case
    expected = by_sorting(query, gallery, cameras)
    if not expected:
        with pytest.raises(DataError):
            rank_report(query, gallery, cameras=cameras, block_size=block)
        return
    report = rank_report(query, gallery, cameras=cameras, block_size=block, ranks=(1, 2, 5, 50))
    assert_agrees(report, expected)
    assert sum(report.skipped.values()) + report.queries == len(query)
    assert set(report.skipped) == set(SKIP_REASONS)

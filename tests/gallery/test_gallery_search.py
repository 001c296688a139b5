"""The search is what a loop over all pairs in exact arithmetic gives, whatever is asked."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.gallery.search import best_rows, exact_similarities, rounding_bound
from prsnet.types import ModelIdentity

Floats = npt.NDArray[np.float32]

# Unit vectors of numbers with few binary digits: many ties, and no rounding in any sum of products.
GRID = [np.eye(4)[i] * sign for i in range(4) for sign in (1, -1)]
GRID += [np.array(signs) / 2 for signs in np.ndindex(2, 2, 2, 2) for signs in [tuple(2 * s - 1 for s in signs)]]
UNIT = np.array(GRID, dtype=np.float32)


def exact(a: Floats, b: Floats) -> float:
    """Cosine of two unit vectors: products of floats are exact in doubles, and fsum rounds once."""
    return max(-1.0, min(1.0, math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))))


def by_loop(
    vectors: Floats, query: Floats, allowed: set[int], groups: list[Any], top_k: int, threshold: float | None
) -> list[tuple[int, float]]:
    ranked = sorted((-exact(vectors[row], query), row) for row in allowed)
    answer: list[tuple[int, float]] = []
    used = set()
    for negative, row in ranked:
        if threshold is not None and -negative < threshold:
            break
        if groups[row] in used:
            continue
        used.add(groups[row])
        answer.append((row, -negative))
    return answer[:top_k]


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.integers(0, 40))
    picks = st.integers(0, len(UNIT) - 1)
    return {
        "vectors": UNIT[draw(st.lists(picks, min_size=size, max_size=size))],
        "queries": UNIT[draw(st.lists(picks, min_size=0, max_size=3))],
        "pids": draw(st.lists(st.sampled_from([None, 1, 2, 3]), min_size=size, max_size=size)),
        "camids": draw(st.lists(st.sampled_from([None, 0, 1]), min_size=size, max_size=size)),
        "sources": draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=size, max_size=size)),
        "top_k": draw(st.integers(1, 12)),
        "threshold": draw(st.sampled_from([None, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0])),
        "one_per": draw(st.sampled_from(["none", "pid", "source"])),
        "want_pids": draw(st.none() | st.lists(st.integers(1, 4), max_size=3)),
        "want_cameras": draw(st.none() | st.lists(st.integers(0, 2), max_size=2)),
        "deleted": draw(st.sets(st.integers(0, 39), max_size=8)),
    }


def group_keys(problem: dict[str, Any]) -> list[Any]:
    size = len(problem["vectors"])
    column = {"none": [None] * size, "pid": problem["pids"], "source": problem["sources"]}[problem["one_per"]]
    return [value if value else ("alone", row) for row, value in enumerate(column)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems())
def test_search_equals_the_loop(tmp_path: Path, model: ModelIdentity, problem: dict[str, Any]) -> None:
    details = zip(problem["pids"], problem["camids"], problem["sources"], strict=True)
    sightings = [NewSighting(pid=pid, camid=camid, source=source) for pid, camid, source in details]
    where = SightingFilter(pids=problem["want_pids"], cameras=problem["want_cameras"])
    with Gallery.create(tempfile.mkdtemp(dir=tmp_path), model) as gallery:
        ids = gallery.add(problem["vectors"], sightings, model=model)
        gallery.search(UNIT[:1], model=model)  # so that the index is there before the deletion
        gone = {row for row in problem["deleted"] if row < len(ids)}
        if gone:
            gallery.delete(SightingFilter(ids=tuple(ids[row] for row in gone)), wipe=False)
        asked = {key: problem[key] for key in ("top_k", "threshold", "one_per")}
        answers = gallery.search(problem["queries"], model=model, where=where, **asked)
    allowed = {
        row
        for row, seen in enumerate(sightings)
        if row not in gone
        and (where.pids is None or seen.pid in where.pids)
        and (where.cameras is None or seen.camid in where.cameras)
    }
    for query, hits in zip(problem["queries"], answers, strict=True):
        expected = by_loop(
            problem["vectors"], query, allowed, group_keys(problem), problem["top_k"], problem["threshold"]
        )
        assert [(ids.index(hit.id), hit.similarity) for hit in hits] == expected


def unit(rows: int, width: int, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).normal(size=(rows, width))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.1])
def test_large_random_galleries(share: float) -> None:
    vectors, queries = unit(3000, 96, 1), unit(4, 96, 2)
    rows = None if share == 1.0 else np.sort(np.random.default_rng(3).permutation(3000)[: int(3000 * share)])
    groups = np.random.default_rng(4).integers(0, 50, 3000)
    allowed = set(range(3000)) if rows is None else set(rows.tolist())
    for top_k, threshold, kinds in ((7, None, None), (5000, 0.1, None), (60, None, groups), (5, 0.2, groups)):
        found = best_rows(vectors, queries, rows, top_k=top_k, threshold=threshold, groups=kinds)
        keys = list(range(3000)) if kinds is None else kinds.tolist()
        for query, matches in zip(queries, found, strict=True):
            expected = by_loop(vectors, query, allowed, keys, top_k, threshold)
            assert [row for row, _ in matches] == [row for row, _ in expected]
            np.testing.assert_allclose([s for _, s in matches], [s for _, s in expected], rtol=0, atol=1e-15)


def test_equal_vectors_tie_wherever_they_stand() -> None:
    vectors = unit(1000, 769, 5)
    copies = [3, 250, 511, 512, 998]
    vectors[copies] = vectors[0]
    query = unit(1, 769, 6)
    (matches,) = best_rows(vectors, query, None, top_k=1000)
    similarities = dict(matches)
    assert len({similarities[row] for row in (0, *copies)}) == 1
    places = [row for row, _ in matches if row in (0, *copies)]
    assert places == [0, *copies]


@pytest.mark.parametrize("width", [1, 5, 96, 769, 2048])
def test_the_bound_holds(width: int) -> None:
    vectors, query = unit(200, width, 7), unit(1, width, 8)
    coarse = (query @ vectors.T)[0]
    truth = [exact(row, query[0]) for row in vectors]
    assert np.abs(coarse - truth).max() <= rounding_bound(width)
    np.testing.assert_allclose(exact_similarities(vectors, query[0], np.arange(200)), truth, rtol=0, atol=1e-15)


def test_near_ties_below_single_precision_are_ordered() -> None:
    """Rows that single precision cannot tell apart are still ranked by their exact similarity."""
    query = unit(1, 512, 9)
    vectors = np.repeat(query, 300, axis=0)
    generator = np.random.default_rng(10)
    for row in vectors:
        place = generator.integers(0, 512)
        row[place] = np.nextafter(row[place], np.float32(generator.choice([-1, 1])))
    (matches,) = best_rows(vectors, query * np.float32(0.5), None, top_k=20)
    expected = by_loop(vectors, query[0] * np.float32(0.5), set(range(300)), list(range(300)), 20, None)
    assert [row for row, _ in matches] == [row for row, _ in expected]

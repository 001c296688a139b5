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
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.sides import SKIP_REASONS, CameraFilter
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


def crowd(seed: int, queries: int = 30, images: int = 120) -> tuple[Embeddings, Embeddings]:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((12, 16))

    def side(count: int, low: int, prefix: str) -> Embeddings:
        pids = generator.integers(low, 12, count)
        vectors = centres[pids] + 0.8 * generator.standard_normal((count, 16))
        paths = tuple(f"{prefix}{i}.jpg" for i in range(count))
        return embeddings(
            vectors / np.linalg.norm(vectors, axis=1, keepdims=True), pids, generator.integers(1, 5, count), paths
        )

    return side(queries, 1, "q"), side(images, -1, "g")


def assert_same(a: RankReport, b: RankReport) -> None:
    assert a.to_dict() == b.to_dict()


@pytest.mark.parametrize("seed", range(5))
def test_order_and_blocks_do_not_matter(seed: int) -> None:
    query, gallery = crowd(seed)
    report = rank_report(query, gallery)
    assert_agrees(report, by_sorting(query, gallery, "other"))
    shuffled = gallery.select(np.random.default_rng(seed).permutation(len(gallery)))
    assert_same(report, rank_report(query, shuffled))
    assert_same(report, rank_report(query, gallery, block_size=7))


def test_identical_vectors_tie_wherever_they_stand() -> None:
    # Relevant and irrelevant copies of one vector, with other vectors between them: the relevant ones come last.
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((1000, 37)).astype(np.float32)
    copies = generator.choice(1000, 40, replace=False)
    vectors[copies] = vectors[copies[0]]
    pids = np.full(1000, 2)
    pids[copies[:10]] = 1
    query = embeddings(vectors[copies[:1]] + 0.1 * generator.standard_normal((1, 37)), [1])
    for rows in (slice(None), slice(None, None, -1)):
        gallery = embeddings(vectors[rows], pids[rows])
        ranks = rank_report(query, gallery).per_query
        assert ranks.first_match.tolist() == [31]
        assert ranks.ap[0] == pytest.approx(np.mean([k / (30 + k) for k in range(1, 11)]), abs=1e-12)
        assert ranks.inp[0] == pytest.approx(10 / 40)


def test_lengths_do_not_matter() -> None:
    query, gallery = crowd(1)
    stretched = np.random.default_rng(0).uniform(0.1, 50, (len(gallery), 1))
    longer = embeddings(gallery.vectors * stretched, gallery.pids, gallery.camids, gallery.paths, dtype=np.float64)
    assert_same(rank_report(query, gallery), rank_report(query, longer))


def test_storage_does_not_matter_beyond_its_rounding() -> None:
    query, gallery = crowd(2)
    for dtype in (np.float16, np.float64, ">f4"):
        halves = [
            embeddings(side.vectors, side.pids, side.camids, side.paths, dtype=dtype) for side in (query, gallery)
        ]
        expected = [embeddings(side.vectors, side.pids, side.camids, side.paths) for side in halves]
        assert_same(rank_report(*halves), rank_report(*expected))
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensors = [
            Embeddings(torch.tensor(side.numpy()).to(kind), side.pids, side.camids, side.paths)
            for side in (query, gallery)
        ]
        widened = [embeddings(side.numpy(), side.pids, side.camids, side.paths) for side in tensors]
        assert_same(rank_report(*tensors), rank_report(*widened))


def test_read_only_and_strided_vectors() -> None:
    query, gallery = crowd(4)
    wide = np.zeros((len(gallery), 32), dtype=np.float32)
    wide[:, ::2] = gallery.vectors
    wide.flags.writeable = False
    strided = Embeddings(wide[:, ::2], gallery.pids, gallery.camids, gallery.paths)
    assert_same(rank_report(query, gallery), rank_report(query, strided))


def test_float64_keeps_what_float32_would_tie() -> None:
    near = 1e-9
    query = embeddings([[1.0, 0.0]], [1], dtype=np.float64)
    gallery = embeddings([[1.0, 1.0 - near], [1.0, 1.0]], [1, 2], dtype=np.float64)
    assert rank_report(query, gallery).cmc[1] == 1.0
    both = [embeddings(side.vectors, side.pids) for side in (query, gallery)]
    assert rank_report(*both).per_query.first_match.tolist() == [2]


def test_without_cameras_only_the_query_itself_is_left_out() -> None:
    vectors = [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]
    every = embeddings(vectors, [1, 1, 2, 2], paths=("a", "b", "c", "d"))
    report = rank_report(every, every)
    # a finds b first; b (0.8 to a, 0.96 to c) finds c first; c finds b first; d finds c first.
    assert report.per_query.first_match.tolist() == [1, 2, 2, 1]
    assert report.per_query.valid.tolist() == [3, 3, 3, 3]
    assert "no cameras known" in report.protocol
    assert report.by_query_camera == {}


def test_reasons_for_skipping() -> None:
    query = embeddings(np.eye(5, 4) + 0.1, [-1, 0, 1, 2, 3], [1, 1, 1, 1, 1])
    gallery = embeddings(np.eye(3, 4) + 0.2, [2, 3, 3], [1, 1, 2])
    report = rank_report(query, gallery)
    assert report.skipped == {
        "junk_query": 1,
        "distractor_query": 1,
        "identity_absent": 1,
        "same_camera_only": 1,
        "other_cameras_only": 0,
        "only_itself": 0,
    }
    assert report.per_query.row.tolist() == [4]
    same = rank_report(query, gallery, cameras="same")
    assert same.per_query.row.tolist() == [3, 4]
    elsewhere = embeddings(np.eye(2, 4) + 0.2, [2, 3], [2, 1])
    assert rank_report(query, elsewhere, cameras="same").skipped["other_cameras_only"] == 1


def test_exclude_same_camera_is_a_short_form() -> None:
    query, gallery = crowd(5)
    assert_same(rank_report(query, gallery, exclude_same_camera=False), rank_report(query, gallery, cameras="all"))
    assert_same(rank_report(query, gallery, exclude_same_camera=True), rank_report(query, gallery, cameras="other"))
    assert rank_report(query, gallery).protocol != rank_report(query, gallery, cameras="all").protocol


def test_breakdown_by_camera() -> None:
    query, gallery = crowd(6)
    report = rank_report(query, gallery, camera_pairs=True)
    for camid, part in report.by_query_camera.items():
        alone = rank_report(query.select(query.camids == camid), gallery)
        assert part.to_dict() == pytest.approx(
            {"queries": alone.queries, "map": alone.map, "rank1": alone.cmc[1], "minp": alone.minp}
        )
    assert {own for own, _ in report.by_camera_pair} == {1, 2, 3, 4}
    for (own, other), part in report.by_camera_pair.items():
        assert own != other
        alone = rank_report(query.select(query.camids == own), gallery.select(gallery.camids == other))
        assert (part.queries, part.map, part.minp) == pytest.approx((alone.queries, alone.map, alone.minp))


def test_report_can_be_written_as_json() -> None:
    report = rank_report(*crowd(7), camera_pairs=True)
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["map"] == report.map
    assert read["cmc"]["5"] == report.cmc[5]
    assert len(read["per_query"]["ap"]) == read["queries"] == report.queries
    assert set(read["by_camera_pair"]) == {f"{a}>{b}" for a, b in report.by_camera_pair}
    assert "per_query" not in report.to_dict(per_query=False)


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    rank_report(*crowd(8), block_size=7, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 30
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


VECTORS = np.eye(2, 3, dtype=np.float32) + 0.5


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        (embeddings(VECTORS, [1, 2]), embeddings(np.ones((2, 4)), [1, 2]), {}, "3 numbers, gallery vectors 4"),
        (embeddings(VECTORS * np.nan, [1, 2]), embeddings(VECTORS, [1, 2]), {}, "query row 0: the vector has NaN"),
        (
            embeddings(VECTORS, [1, 2]),
            embeddings(VECTORS * [[1], [0]], [1, 2], paths=("a", "b")),
            {},
            r"gallery row 1 \(b\): the vector is zero",
        ),
        (
            embeddings(VECTORS, [1, 2]),
            embeddings(VECTORS * [[1], [np.inf]], [-1, 2]),
            {},
            "gallery row 1: the vector has NaN or infinite",
        ),
        (embeddings(VECTORS[:0], []), embeddings(VECTORS, [1, 2]), {}, "query: no embeddings"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS[:0], []), {}, "gallery: no embeddings"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [-1, -1]), {}, "all 2 gallery images are junk"),
        (
            embeddings(VECTORS, [1, 2], dtype=np.complex64),
            embeddings(VECTORS, [1, 2]),
            {},
            "query: vectors must be floating-point numbers, got complex64",
        ),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [3, 4]), {}, "none of 2 queries .* 2: its identity is not"),
        (
            embeddings(VECTORS, [1, 2], [1, 1]),
            embeddings(VECTORS, [1, 2], [1, 1]),
            {},
            "none of 2 queries .* own camera only.*cameras=.all.",
        ),
        (embeddings(VECTORS, [1, -7]), embeddings(VECTORS, [1, 2]), {}, "query row 1: pid -7 is below -1"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2], [-2, 1]), {}, "gallery row 0: camid -2 is below -1"),
        (
            embeddings(VECTORS, [1, 2]),
            embeddings(VECTORS, [1, 2], paths=("a", "a")),
            {},
            "gallery rows 0 and 1 are the same image: a",
        ),
        (
            embeddings(VECTORS, [1, 2], [1, -1]),
            embeddings(VECTORS, [1, 2], [1, 2]),
            {},
            "the camera is known of 3 of 4 images",
        ),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2]), {"cameras": "same"}, "no camera is known"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2]), {"camera_pairs": True}, "no camera is known"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2]), {"ranks": (0, 1)}, "ranks: expected"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2]), {"ranks": ()}, "ranks: expected"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2]), {"block_size": 0}, "block_size: expected"),
        (embeddings(VECTORS, [1, 2]), embeddings(VECTORS, [1, 2]), {"cameras": "any"}, "cameras: expected"),
    ],
)
def test_bad_input_is_named_in_one_line(
    query: Embeddings, gallery: Embeddings, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        rank_report(query, gallery, **options)
    assert "\n" not in str(caught.value)


def test_cameras_of_distractors_may_be_unknown() -> None:
    query = embeddings(VECTORS, [1, 2], [1, 1])
    gallery = embeddings(np.vstack([VECTORS, VECTORS]), [1, 2, 0, 0], [2, 2, -1, -1])
    assert rank_report(query, gallery).queries == 2


def test_lowered_precision_of_training_does_not_reach_the_ranking() -> None:
    query, gallery = crowd(9, 20, 200)
    # Nearly the same vector everywhere: bfloat16 products cannot tell these apart.
    sides = [
        embeddings(1 + 0.01 * np.asarray(side.vectors), side.pids, side.camids, side.paths) for side in (query, gallery)
    ]
    expected = rank_report(*sides)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_same(rank_report(*sides), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_many_images_agree_with_argsort() -> None:
    generator = np.random.default_rng(10)
    centres = generator.standard_normal((6, 24))

    def side(count: int) -> Embeddings:
        pids = generator.integers(0, 6, count)
        vectors = centres[pids] + 2 * generator.standard_normal((count, 24))
        return embeddings(vectors, pids, generator.integers(1, 7, count), dtype=np.float64)

    query, gallery = side(60), side(3000)
    units = [np.asarray(one.vectors) / np.linalg.norm(one.vectors, axis=1, keepdims=True) for one in (query, gallery)]
    precisions = []
    for row, columns in enumerate(np.argsort(-(units[0] @ units[1].T), axis=1)):
        right = gallery.pids[columns] == query.pids[row]
        right = right[~(right & (gallery.camids[columns] == query.camids[row]))]
        if query.pids[row] > 0:
            places = np.flatnonzero(right) + 1
            precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    report = rank_report(query, gallery)
    np.testing.assert_allclose(report.per_query.ap, precisions, atol=1e-12)

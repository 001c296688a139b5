"""Centroid retrieval against loops over its definition."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from prsnet.errors import DataError, InputError
from prsnet.metrics.centroids import Form, centroid_report, multi_shot_queries
from prsnet.metrics.ranking import rank_report
from prsnet.types import Embeddings

Floats = npt.NDArray[np.floating[Any]]
Candidates = list[tuple[int, Floats]]
FORMS: tuple[Form, ...] = ("cameras-respected", "cameras-ignored", "published-faulty")


def crowd(seed: int, queries: int = 40, images: int = 90, same: bool = False) -> tuple[Embeddings, Embeddings]:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((14, 8))

    def side(count: int, lowest: int, highest: int, prefix: str) -> Embeddings:
        pids = generator.integers(lowest, highest, count)
        vectors = centres[pids] + generator.standard_normal((count, 8))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, pids, generator.integers(1, 4, count), tuple(f"{prefix}{i}" for i in range(count)))

    query, gallery = side(queries, 0, 10, "q"), side(images, -1, 14, "g")
    if not same:
        return query, gallery
    rows = np.arange(0, queries, 2)
    return query, Embeddings(
        np.concatenate([np.asarray(gallery.vectors), np.asarray(query.vectors)[rows]]),
        np.concatenate([gallery.pids, query.pids[rows]]),
        np.concatenate([gallery.camids, query.camids[rows]]),
        (*gallery.paths, *(query.paths[i] for i in rows)),
    )


def identities(gallery: Embeddings, columns: list[int]) -> Candidates:
    groups: dict[int, list[int]] = {}
    for column in columns:
        pid = int(gallery.pids[column])
        groups.setdefault(pid if pid > 0 else -1000 - column, []).append(column)
    vectors = np.asarray(gallery.vectors)
    return [(max(pid, 0), vectors[rows].mean(axis=0)) for pid, rows in groups.items()]


def respected(query: Embeddings, gallery: Embeddings, row: int) -> Candidates:
    kept = np.flatnonzero((gallery.pids != -1) & (gallery.camids != query.camids[row]))
    return identities(gallery, kept.tolist())


def ignored(query: Embeddings, gallery: Embeddings, row: int) -> Candidates:
    kept = [i for i in range(len(gallery)) if gallery.pids[i] != -1 and gallery.paths[i] != query.paths[row]]
    return identities(gallery, kept)


def published(query: Embeddings, gallery: Embeddings, row: int) -> Candidates:
    kept = np.flatnonzero(gallery.pids != -1)
    pids, vectors = gallery.pids[kept], np.asarray(gallery.vectors)[kept]
    joint = [*query.camids.tolist(), *gallery.camids[kept].tolist()]
    found: Candidates = []
    for pid in sorted(set(pids[pids > 0].tolist())):
        own = np.flatnonzero(pids == pid).tolist()
        sets: dict[tuple[int, ...], Floats] = {}
        for camid in sorted(set(query.camids[query.pids == pid].tolist())):
            rest = [i for i in own if joint[i] != camid]
            if rest:
                sets.setdefault(tuple(sorted({joint[i] for i in rest})), vectors[rest].mean(axis=0))
        for cameras, vector in sets.items():
            if not (pid == query.pids[row] and query.camids[row] in cameras):
                found.append((pid, vector))
    return found


BY_LOOPS: dict[Form, Callable[[Embeddings, Embeddings, int], Candidates]] = {
    "cameras-respected": respected,
    "cameras-ignored": ignored,
    "published-faulty": published,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("same", [False, True])
def test_agrees_with_loops(form: Form, seed: int, same: bool) -> None:
    query, gallery = crowd(seed, same=same)
    report = centroid_report(query, gallery, form=form, ranks=(1, 3), block_size=7)
    found = dict(zip(report.per_query.row.tolist(), report.per_query.ap.tolist(), strict=True))
    expected = {}
    for row in range(len(query)):
        answers = []
        for pid, vector in BY_LOOPS[form](query, gallery, row):
            cosine = np.asarray(query.vectors)[row] @ vector / np.linalg.norm(vector)
            answers.append((-cosine, pid == query.pids[row]))
        places = [place for place, (_, right) in enumerate(sorted(answers), start=1) if right]
        if places and query.pids[row] > 0:
            expected[row] = np.mean([number / place for number, place in enumerate(places, start=1)])
    assert found == pytest.approx(expected, abs=1e-12)
    assert report.centroid_map == pytest.approx(np.mean(list(expected.values())))
    assert report.queries + sum(report.skipped.values()) == len(query)


def test_image_level_figures_are_always_there() -> None:
    query, gallery = crowd(1)
    report = centroid_report(query, gallery)
    assert report.image_level.to_dict() == rank_report(query, gallery).to_dict()
    assert report.per_query.row.tolist() == report.image_level.per_query.row.tolist()
    assert report.skipped == report.image_level.skipped
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["image_level"]["map"] == report.image_level.map
    assert "map" not in read
    assert "cmc" not in read
    assert "faulty" not in read["protocol"]


def test_published_form_says_what_it_is() -> None:
    report = centroid_report(*crowd(2), form="published-faulty")
    assert "published figures only" in report.protocol


def test_distractors_of_the_gallery_keep_their_centroids() -> None:
    query = Embeddings(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([99, 1]), np.array([5, 1]))
    vectors = np.array([[0.6, 0.8], [0.9, 0.1], [0.9, -0.1], [0.8, 0.0], [-1.0, 0.0]])
    gallery = Embeddings(vectors, np.array([1, 7, 7, 0, 0]), np.array([2, 2, 3, 2, 2]))
    # Identity 7 has one centroid, the pid-0 images stand for themselves: 7 and one distractor come before 1.
    report = centroid_report(query, gallery)
    assert report.per_query.first_match.tolist() == [3]
    assert report.per_query.valid.tolist() == [4]
    assert centroid_report(query, gallery, form="published-faulty").per_query.valid.tolist() == [1]


def test_an_identity_of_which_only_the_query_is_left() -> None:
    vectors = np.eye(3)[[0, 0, 1, 1]] + 0.1
    every = Embeddings(vectors, np.array([1, 2, 3, 3]), np.full(4, -1), ("a", "b", "c", "d"))
    report = centroid_report(every, every, form="cameras-ignored")
    assert report.skipped["only_itself"] == 2
    assert report.per_query.row.tolist() == [2, 3]


def test_multi_shot_queries_are_means_per_identity_and_camera() -> None:
    query, gallery = crowd(3)
    multi = multi_shot_queries(query)
    vectors = np.asarray(query.vectors)
    seen = set()
    for row in range(len(multi)):
        pid, camid = int(multi.pids[row]), int(multi.camids[row])
        mean = vectors[(query.pids == pid) & (query.camids == camid)].mean(axis=0)
        if pid > 0:
            assert (pid, camid) not in seen
            np.testing.assert_allclose(multi.vectors[row], mean / np.linalg.norm(mean), atol=1e-12)
        seen.add((pid, camid))
    assert (multi.pids == 0).sum() == (query.pids == 0).sum()
    report = centroid_report(query, gallery, multi_shot=True)
    assert report.centroid_map == pytest.approx(centroid_report(multi, gallery).centroid_map, abs=1e-12)
    assert report.image_level.map == pytest.approx(rank_report(query, gallery).map, abs=1e-12)
    assert "multi-shot" in report.protocol


def test_opposite_images_have_no_direction_and_do_not_break() -> None:
    query = Embeddings(np.array([[1.0, 0.0]]), np.array([1]), np.array([1]))
    gallery = Embeddings(np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]), np.array([1, 2, 2]), np.array([2, 2, 2]))
    assert centroid_report(query, gallery).per_query.first_match.tolist() == [2]


@pytest.mark.parametrize("form", FORMS)
def test_one_camera_leaves_nothing_to_respect(form: Form) -> None:
    query, gallery = crowd(4)
    one = [Embeddings(side.vectors, side.pids, np.ones(len(side), dtype=int), side.paths) for side in (query, gallery)]
    if form == "cameras-ignored":
        assert centroid_report(*one, form=form).queries > 0
    else:
        with pytest.raises(DataError, match="own camera only"):
            centroid_report(*one, form=form)


def test_some_query_camera_sees_the_whole_gallery() -> None:
    query = Embeddings(np.eye(2), np.array([1, 1]), np.array([1, 2]))
    gallery = Embeddings(np.eye(2), np.array([1, 2]), np.array([2, 2]))
    report = centroid_report(query, gallery)
    assert report.per_query.row.tolist() == [0]
    assert report.skipped["same_camera_only"] == 1


def test_bad_input() -> None:
    query, gallery = crowd(5, same=True)
    blind = [Embeddings(side.vectors, side.pids, np.full(len(side), -1), side.paths) for side in (query, gallery)]
    with pytest.raises(InputError, match="form: expected one of cameras-respected"):
        centroid_report(query, gallery, form="plain")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="needs cameras"):
        centroid_report(*blind)
    with pytest.raises(DataError, match="20 query images are in the gallery"):
        centroid_report(query, gallery, form="cameras-ignored", multi_shot=True)

"""The old protocol of CUHK03 against full enumeration and hand-made galleries."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from prsnet.errors import DataError, InputError
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.single_gallery_shot import first_of_each, single_gallery_shot
from prsnet.rng import numpy_stream
from prsnet.types import Embeddings


def crowd(seed: int, per_identity: int, identities: int = 6) -> tuple[Embeddings, Embeddings]:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((identities + 1, 5))

    def side(pids: list[int], camid: int) -> Embeddings:
        vectors = centres[pids] + generator.standard_normal((len(pids), 5))
        return Embeddings(
            vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.array(pids), np.full(len(pids), camid)
        )

    people = list(range(1, identities + 1))
    return side(people, 1), side(people * per_identity + [0, 0], 2)


def test_one_image_per_identity_is_the_whole_gallery() -> None:
    query, gallery = crowd(0, per_identity=1)
    report = single_gallery_shot(query, gallery, generator=numpy_stream(0, "draws"), draws=3)
    whole = rank_report(query, gallery)
    assert report.cmc == whole.cmc
    assert report.map == pytest.approx(whole.map)
    assert set(report.cmc_deviation.values()) == {0.0}


def test_mean_over_draws_approaches_all_possible_galleries() -> None:
    query, gallery = crowd(1, per_identity=3, identities=4)
    similarities = np.asarray(query.vectors) @ np.asarray(gallery.vectors).T
    columns = [np.flatnonzero(gallery.pids == pid) for pid in (1, 2, 3, 4)]
    distractors = np.flatnonzero(gallery.pids == 0)
    first = []
    for choice in itertools.product(*columns):
        for row in range(4):
            others = [*(column for i, column in enumerate(choice) if i != row), *distractors]
            first.append(1 + sum(similarities[row, others] >= similarities[row, choice[row]]))
    report = single_gallery_shot(query, gallery, generator=numpy_stream(1, "draws"), draws=1500, ranks=(1, 2, 3))
    for rank in (1, 2, 3):
        assert report.cmc[rank] == pytest.approx(np.mean(np.array(first) <= rank), abs=0.02)
    assert report.map == pytest.approx(np.mean(1 / np.array(first)), abs=0.02)


def test_the_querys_camera_never_stands_for_its_identity() -> None:
    query = Embeddings(np.array([[1.0, 0.0]]), np.array([1]), np.array([1]))
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])
    gallery = Embeddings(vectors, np.array([1, 1, 2]), np.array([1, 2, 1]))
    report = single_gallery_shot(query, gallery, generator=numpy_stream(0), draws=20, ranks=(1, 2))
    assert report.cmc == {1: 0.0, 2: 1.0}
    anyone = single_gallery_shot(
        query, gallery, generator=numpy_stream(0), draws=20, ranks=(1, 2), exclude_same_camera=False
    )
    assert 0 < anyone.cmc[1] < 1


def test_draws_follow_the_generator_and_not_the_blocks() -> None:
    query, gallery = crowd(2, per_identity=4)
    report = single_gallery_shot(query, gallery, generator=numpy_stream(5, "draws"))
    again = single_gallery_shot(query, gallery, generator=numpy_stream(5, "draws"), block_size=2)
    other = single_gallery_shot(query, gallery, generator=numpy_stream(6, "draws"))
    assert report.to_dict() == again.to_dict()
    assert report.map != other.map
    assert json.loads(json.dumps(report.to_dict()))["draws"] == 10
    assert "single-gallery-shot" in report.protocol


def test_one_image_of_each_and_all_distractors() -> None:
    pids = np.array([5, 0, 5, 7, 0])
    assert first_of_each(pids, np.array([0.9, 0.5, 0.1, 0.3, 0.2])).tolist() == [1, 2, 3, 4]


def test_bad_input() -> None:
    query, gallery = crowd(3, per_identity=2)
    with pytest.raises(InputError, match="draws: expected at least 1, got 0"):
        single_gallery_shot(query, gallery, generator=numpy_stream(0), draws=0)
    strangers = Embeddings(gallery.vectors, gallery.pids + 100, gallery.camids)
    with pytest.raises(DataError, match="none of 6 queries"):
        single_gallery_shot(query, strangers, generator=numpy_stream(0))

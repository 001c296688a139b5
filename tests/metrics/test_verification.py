"""Verification figures against the sorted list of all pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.errors import DataError, InputError
from prsnet.metrics.verification import RESOLUTION, PairTally, verification_report
from prsnet.types import Embeddings


def crowd(seed: int, queries: int = 40, images: int = 100) -> tuple[Embeddings, Embeddings]:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((12, 8))

    def side(count: int, lowest: int, prefix: str) -> Embeddings:
        pids = generator.integers(lowest, 12, count)
        vectors = (centres[pids] + 0.8 * generator.standard_normal((count, 8))).astype(np.float32)
        return Embeddings(vectors, pids, generator.integers(1, 4, count), tuple(f"{prefix}{i}" for i in range(count)))

    query, gallery = side(queries, -1, "q"), side(images, -1, "g")
    return query, Embeddings(gallery.vectors, gallery.pids, gallery.camids, ("q0", "q1", *gallery.paths[2:]))


def all_pairs(query: Embeddings, gallery: Embeddings, exclude: bool) -> tuple[list[float], list[float]]:
    units = [side.numpy() / np.linalg.norm(side.numpy(), axis=1, keepdims=True) for side in (query, gallery)]
    lists: tuple[list[float], list[float]] = ([], [])
    for row in range(len(query)):
        for column in range(len(gallery)):
            same = query.pids[row] == gallery.pids[column]
            twin = exclude and same and query.camids[row] == gallery.camids[column]
            itself = query.paths[row] == gallery.paths[column]
            if query.pids[row] > 0 and gallery.pids[column] != -1 and not twin and not itself:
                lists[0 if same else 1].append(float(units[0][row] @ units[1][column]))
    return lists


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exclude", [True, False])
def test_rates_are_those_of_the_list_of_pairs(seed: int, exclude: bool) -> None:
    query, gallery = crowd(seed)
    positive, negative = (np.array(values) for values in all_pairs(query, gallery, exclude))
    report = verification_report(query, gallery, exclude_same_camera=exclude, fprs=(0.0, 0.003, 0.1, 1.0), block_size=7)
    for point in report.points:
        assert (point.positives, point.negatives) == (len(positive), len(negative))
        # The best threshold is any number directly above the first negative that is not allowed.
        allowed = int(point.wished_fpr * len(negative))
        best = np.sort(negative)[::-1][allowed] if allowed < len(negative) else -1.0
        assert point.threshold == pytest.approx(
            best if point.wished_fpr < 1 else min(positive.min(), negative.min()), abs=3e-6
        )
        assert point.fpr == pytest.approx(np.mean(negative >= point.threshold), abs=1e-12)
        assert point.tpr == pytest.approx(np.mean(positive >= point.threshold), abs=1e-12)
        assert point.fpr <= point.wished_fpr
        assert point.supported == (point.wished_fpr * len(negative) >= 1)
    gaps = [abs(np.mean(negative >= t) - np.mean(positive < t)) for t in np.concatenate([positive, negative])]
    place = np.concatenate([positive, negative])[int(np.argmin(gaps))]
    assert report.eer == pytest.approx((np.mean(negative >= place) + np.mean(positive < place)) / 2, abs=0.01)
    assert report.identities == len({int(pid) for pid in query.pids[query.pids > 0]} & set(gallery.pids.tolist()))


@settings(max_examples=100, deadline=None)
@given(
    positive=st.lists(st.integers(-8, 8), min_size=1, max_size=12),
    negative=st.lists(st.integers(-8, 8), min_size=1, max_size=12),
    fpr=st.floats(0, 1),
)
def test_ties_and_extremes(positive: list[int], negative: list[int], fpr: float) -> None:
    values = np.unique([*positive, *negative])
    tally = PairTally(
        values / 8,
        np.array([positive.count(value) for value in values]),
        np.array([negative.count(value) for value in values]),
    )
    point = tally.operating_point(fpr)
    assert point.fpr == np.mean(np.array(negative) / 8 >= point.threshold) <= fpr
    assert point.tpr == np.mean(np.array(positive) / 8 >= point.threshold)
    lower = point.threshold - 1 / RESOLUTION
    assert np.mean(np.array(negative) / 8 >= lower) > fpr or lower < values[0] / 8
    rate, _ = tally.equal_error()
    assert 0 <= rate <= 1
    for threshold in (*values, 9):
        wrong, missed = np.mean(np.array(negative) >= threshold), np.mean(np.array(positive) < threshold)
        assert min(wrong, missed) <= rate + 1e-12
        assert max(wrong, missed) >= rate - 1e-12


def test_equal_error_by_hand() -> None:
    # Thresholds 3, 2, 1, 0: (fpr, fnr) = (0, 1/2), (1/3, 1/2), (2/3, 0), (1, 0). The line between the two in the middle
    # has fpr = fnr where 1/3 + t/3 = 1/2 - t/2, t = 1/5: 0.4.
    tally = PairTally(np.array([0.0, 0.1, 0.2, 0.3]), np.array([0, 1, 0, 1]), np.array([1, 1, 1, 0]))
    rate, threshold = tally.equal_error()
    assert rate == pytest.approx(0.4)
    assert threshold == 0.1


def test_separable_pairs_have_no_error() -> None:
    tally = PairTally(np.array([0.1, 0.9]), np.array([0, 5]), np.array([7, 0]))
    assert tally.equal_error()[0] == 0
    point = tally.operating_point(0.0)
    assert (point.fpr, point.tpr) == (0.0, 1.0)
    assert 0.1 < point.threshold < 0.10001


def test_roc_and_histogram() -> None:
    query, gallery = crowd(3)
    report = verification_report(query, gallery)
    positive, negative = (np.array(values) for values in all_pairs(query, gallery, True))
    roc = report.pairs.roc(50)
    assert len(roc["fpr"]) <= 102
    assert (roc["fpr"][-1], roc["tpr"][-1]) == (1.0, 1.0)
    for threshold, fpr, tpr in zip(roc["threshold"], roc["fpr"], roc["tpr"], strict=True):
        assert fpr == pytest.approx(np.mean(negative >= threshold - 1e-7))
        assert tpr == pytest.approx(np.mean(positive >= threshold - 1e-7))
    histogram = report.pairs.histogram(40)
    np.testing.assert_array_equal(histogram["positives"], np.histogram(positive, histogram["edges"])[0])
    np.testing.assert_array_equal(histogram["negatives"], np.histogram(negative, histogram["edges"])[0])
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [point["wished_fpr"] for point in read["points"]] == [1e-4, 1e-3, 1e-2]
    assert read["positives"] == len(positive)


def test_bad_input() -> None:
    query, gallery = crowd(4)
    with pytest.raises(InputError, match=r"false positive rate: expected 0\.\.1, got 3"):
        verification_report(query, gallery, fprs=(3.0,))
    strangers = Embeddings(gallery.vectors, np.where(gallery.pids > 0, gallery.pids + 50, gallery.pids), gallery.camids)
    with pytest.raises(DataError, match="no valid pair of one identity"):
        verification_report(query, strangers)
    alone = Embeddings(np.eye(2), np.array([1, 1]), np.array([1, 2]))
    with pytest.raises(DataError, match="no valid pair of two identities"):
        verification_report(alone, alone)

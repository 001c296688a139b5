"""Intervals: hand-made cases, and how often they hold the true value in simulations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from prsnet.errors import DataError, InputError
from prsnet.metrics.statistics import accelerated_ends, compare_reports, confidence_intervals
from prsnet.rng import numpy_stream
from prsnet.types import QueryRanks, RankReport

Floats = npt.NDArray[np.float64]


def report(ap: Any, pids: Any, relevant: int = 3, rows: Any = None) -> RankReport:
    ap = np.asarray(ap, dtype=np.float64)
    ones = np.ones(len(ap), dtype=np.int64)
    first = np.where(ap > 0.5, 1, 4)
    row = np.arange(len(ap)) if rows is None else np.asarray(rows)
    ranks = QueryRanks(row, np.asarray(pids), ones, ap, first, ap / 2, ones * relevant, ones * 9)
    return RankReport(float(ap.mean()), {1: float((first == 1).mean())}, float(ap.mean() / 2), ranks, {}, "test", 9)


def people(generator: np.random.Generator, count: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Draw APs of people of unequal difficulty, with 1 to 6 queries each."""
    ease = generator.beta(3, 1.2, count)
    queries = generator.integers(1, 7, count)
    pids = np.repeat(np.arange(count), queries)
    return generator.beta(6 * ease[pids] + 0.01, 6 * (1 - ease[pids]) + 0.01), pids


def test_value_is_the_reports_and_lies_inside() -> None:
    ap, pids = people(np.random.default_rng(0), 60)
    found = confidence_intervals(report(ap, pids), generator=numpy_stream(0, "bootstrap"))
    assert set(found) == {"map", "rank1", "minp"}
    for interval in found.values():
        assert interval.low < interval.value < interval.high
        assert (interval.level, interval.identities, interval.draws) == (0.95, 60, 4000)
    assert found["map"].value == pytest.approx(ap.mean())
    assert found["rank1"].value == pytest.approx((ap > 0.5).mean())
    assert found["minp"].high == pytest.approx(found["map"].high / 2)


def test_many_equal_people_give_the_textbook_interval() -> None:
    generator = np.random.default_rng(1)
    ap = generator.normal(0.5, 0.1, 2000)
    interval = confidence_intervals(report(ap, np.arange(2000)), generator=numpy_stream(1), draws=8000)["map"]
    half = 1.96 * ap.std(ddof=1) / np.sqrt(2000)
    assert interval.low == pytest.approx(ap.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(ap.mean() + half, abs=0.05 * half)


def test_queries_of_one_person_do_not_count_as_many() -> None:
    ap, pids = people(np.random.default_rng(2), 30)
    once = confidence_intervals(report(ap, pids), generator=numpy_stream(2))["map"]
    tenfold = confidence_intervals(report(np.tile(ap, 10), np.tile(pids, 10)), generator=numpy_stream(2))["map"]
    assert (once.low, once.high) == pytest.approx((tenfold.low, tenfold.high))


def test_same_seed_same_interval() -> None:
    ap, pids = people(np.random.default_rng(3), 20)
    first, again, other = (
        confidence_intervals(report(ap, pids), generator=numpy_stream(seed), draws=500)["map"] for seed in (7, 7, 8)
    )
    assert first == again != other


def test_wider_level_wider_interval() -> None:
    ap, pids = people(np.random.default_rng(4), 40)
    narrow, wide = (
        confidence_intervals(report(ap, pids), generator=numpy_stream(0), level=level)["map"] for level in (0.8, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_people_who_agree_give_no_width() -> None:
    interval = confidence_intervals(report(np.ones(9), np.arange(9)), generator=numpy_stream(0))["map"]
    assert (interval.low, interval.value, interval.high) == (1.0, 1.0, 1.0)


def test_comparison_is_paired() -> None:
    generator = np.random.default_rng(5)
    ap, pids = people(generator, 50)
    better = ap + 0.02 + generator.normal(0, 0.01, len(ap))
    comparison = compare_reports(report(ap, pids), report(better, pids), generator=numpy_stream(0))
    difference = comparison.differences["map"]
    assert difference.value == pytest.approx((better - ap).mean())
    # The people differ by far more than the two runs do: unpaired intervals would overlap.
    assert 0.01 < difference.low < difference.high < 0.03
    assert comparison.significant("map")
    assert comparison.better + comparison.worse == comparison.queries == len(ap)
    assert comparison.better > comparison.worse
    backwards = compare_reports(report(better, pids), report(ap, pids), generator=numpy_stream(0))
    assert backwards.differences["map"].value == pytest.approx(-difference.value)
    assert json.loads(json.dumps(comparison.to_dict()))["differences"]["rank1"]["identities"] == 50


def test_equal_runs_are_not_different() -> None:
    ap, pids = people(np.random.default_rng(6), 50)
    comparison = compare_reports(report(ap, pids), report(ap, pids), generator=numpy_stream(0))
    assert comparison.differences["map"].low == comparison.differences["map"].high == 0
    assert not comparison.significant("map")
    assert (comparison.better, comparison.worse) == (0, 0)


def test_bad_input() -> None:
    ap, pids = people(np.random.default_rng(7), 10)
    good = report(ap, pids)
    with pytest.raises(DataError, match="1 query identity is too few"):
        confidence_intervals(report(ap, np.ones(len(ap), dtype=int)), generator=numpy_stream(0))
    with pytest.raises(InputError, match="level: expected between 0 and 1, got 95"):
        confidence_intervals(good, generator=numpy_stream(0), level=95)
    with pytest.raises(InputError, match="draws: expected at least 100, got 5"):
        confidence_intervals(good, generator=numpy_stream(0), draws=5)
    with pytest.raises(DataError, match="count different queries"):
        compare_reports(good, report(ap, pids, rows=np.arange(len(ap)) + 1), generator=numpy_stream(0))
    with pytest.raises(DataError, match="query row 0 has 3 relevant images in one report and 4"):
        compare_reports(good, report(ap, pids, relevant=4), generator=numpy_stream(0))


def test_few_people_are_widened_by_students_quantiles() -> None:
    values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    drawn = np.random.default_rng(8).multinomial(5, np.full(5, 0.2), size=2000).astype(np.float64)
    # Every sample with its mirror image: neither bias nor skew is left to correct.
    drawn = np.concatenate([drawn, drawn[:, ::-1]])
    ends = accelerated_ends(values, np.ones(5), drawn, 0.9)
    quantile = stats.t.ppf(0.95, df=4) * np.sqrt(5 / 4)
    expected = np.quantile(drawn @ values / 5, stats.norm.cdf([-quantile, quantile]))
    assert ends == pytest.approx(tuple(expected))


@pytest.mark.slow
@pytest.mark.parametrize("count", [25, 100])
def test_95_percent_intervals_hold_the_truth_95_times_in_100(count: int) -> None:
    generator = np.random.default_rng(count)
    everyone, _ = people(generator, 200_000)
    truth = (everyone.mean(), (everyone > 0.5).mean())
    held = np.zeros(2)
    trials = 1000
    for _ in range(trials):
        ap, pids = people(generator, count)
        counts = np.bincount(pids).astype(np.float64)
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=1000).astype(np.float64)
        for place, values in enumerate((ap, (ap > 0.5).astype(np.float64))):
            low, high = accelerated_ends(np.bincount(pids, values).astype(np.float64), counts, drawn, 0.95)
            held[place] += low <= truth[place] <= high
    # The standard error of 1000 trials is 0.7%.
    assert np.all(np.abs(held / trials - 0.95) < 0.022), held / trials

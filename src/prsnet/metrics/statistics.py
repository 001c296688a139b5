"""How sure a figure is, and whether one run is better than another: bootstrap over the identities of the queries.

Queries of one identity are not independent of one another, so that whole identities are drawn, never single queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

from prsnet.errors import DataError, InputError
from prsnet.types import QueryRanks, RankReport

Figure: TypeAlias = Literal["map", "rank1", "minp"]
Floats: TypeAlias = npt.NDArray[np.float64]
FIGURES: tuple[Figure, ...] = ("map", "rank1", "minp")
FEWEST_IDENTITIES = 2


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, or a difference of two, and where it would fall with other people of the same kind.

    Attributes:
        value: the figure itself, as the report has it.
        low: lower end of the interval.
        high: upper end.
        level: how often such an interval holds the true value, e.g. 0.95.
        identities: query identities that this rests on.
        draws: bootstrap samples.
    """

    value: float
    low: float
    high: float
    level: float
    identities: int
    draws: int

    def to_dict(self) -> dict[str, float | int]:
        """Return the attributes under their names."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports on the same queries; all differences are second minus first.

    Attributes:
        differences: figure (``map``, ``rank1``, ``minp``) -> difference and its interval, -1..1.
        queries: queries compared.
        better: queries whose AP is higher in the second report.
        worse: queries whose AP is lower in the second report; the rest is equal.
        protocols: of the first and the second report.
    """

    differences: dict[Figure, Interval]
    queries: int
    better: int
    worse: int
    protocols: tuple[str, str]

    def significant(self, figure: Figure) -> bool:
        """Return whether the interval of the difference leaves out 0."""
        interval = self.differences[figure]
        return not interval.low <= 0 <= interval.high

    def to_dict(self) -> dict[str, object]:
        """Return what ``json.dump`` can write: the attributes under their names."""
        return {
            "differences": {name: interval.to_dict() for name, interval in self.differences.items()},
            "queries": self.queries,
            "better": self.better,
            "worse": self.worse,
            "protocols": list(self.protocols),
        }


def confidence_intervals(
    report: RankReport, *, generator: np.random.Generator, level: float = 0.95, draws: int = 4000
) -> dict[Figure, Interval]:
    """Return the bootstrap intervals of mAP, Rank-1 and mINP over the query identities.

    Bias-corrected, accelerated (Efron, JASA 1987) and widened for few identities: plain percentiles hold the true value
    too seldom there and near 0 or 1. If all identities agree, the interval has no width: these people do not show how
    much the figure varies.

    Args:
        report: with at least 2 query identities.
        generator: the randomness; make it with :func:`prsnet.rng.numpy_stream`.
        level: how often the interval shall hold the true value, between 0 and 1.
        draws: bootstrap samples, at least 100.

    Raises:
        DataError: if there are fewer than 2 identities.
        InputError: if ``level`` or ``draws`` are out of range.
    """
    return _intervals(report.per_query.pid, _figures(report.per_query), generator, level, draws)


def compare_reports(
    first: RankReport, second: RankReport, *, generator: np.random.Generator, level: float = 0.95, draws: int = 4000
) -> Comparison:
    """Return how much better the second report is, on the same queries against the same gallery, with intervals.

    Both reports are drawn together, identity by identity: what makes a person hard for both cancels.

    Args:
        first, second: their counted queries, the queries' identities and numbers of relevant images must agree.
        generator: the randomness; make it with :func:`prsnet.rng.numpy_stream`.
        level: how often the interval shall hold the true difference, between 0 and 1.
        draws: bootstrap samples, at least 100.

    Raises:
        DataError: if the reports are not about the same queries, or there are fewer than 2 identities.
        InputError: if ``level`` or ``draws`` are out of range.
    """
    a, b = first.per_query, second.per_query
    _check_same_queries(a, b)
    before, after = _figures(a), _figures(b)
    change: dict[Figure, Floats] = {name: after[name] - before[name] for name in FIGURES}
    gain = change["map"]
    return Comparison(
        differences=_intervals(a.pid, change, generator, level, draws),
        queries=len(a),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        protocols=(first.protocol, second.protocol),
    )


def _figures(ranks: QueryRanks) -> dict[Figure, Floats]:
    return {"map": ranks.ap, "rank1": (ranks.first_match == 1).astype(np.float64), "minp": ranks.inp}


def _check_same_queries(a: QueryRanks, b: QueryRanks) -> None:
    if not np.array_equal(a.row, b.row) or not np.array_equal(a.pid, b.pid):
        raise DataError(
            f"the reports count different queries ({len(a)} and {len(b)})",
            hint="evaluate both runs on the same query set under the same protocol",
        )
    differs = np.flatnonzero(a.relevant != b.relevant)
    if len(differs):
        place = differs[0]
        raise DataError(
            f"query row {a.row[place]} has {a.relevant[place]} relevant images in one report and "
            f"{b.relevant[place]} in the other",
            hint="evaluate both runs against the same gallery with the same camera rule",
        )


def _intervals(
    pids: npt.NDArray[np.int64], values: dict[Figure, Floats], generator: np.random.Generator, level: float, draws: int
) -> dict[Figure, Interval]:
    if not 0 < level < 1:
        raise InputError(f"level: expected between 0 and 1, got {level}", hint="for example 0.95")
    if draws < 100:
        raise InputError(f"draws: expected at least 100, got {draws}", hint="4000 gives steady ends")
    _, identity = np.unique(pids, return_inverse=True)
    counts = np.bincount(identity).astype(np.float64)
    people = len(counts)
    if people < FEWEST_IDENTITIES:
        raise DataError(
            f"{people} query identity is too few for an interval", hint="evaluate at least 2 people, better 50"
        )
    # How often each identity is drawn: (draws, people), the same draws for every figure.
    drawn = generator.multinomial(people, np.full(people, 1 / people), size=draws).astype(np.float64)
    intervals: dict[Figure, Interval] = {}
    for name, per_query in values.items():
        sums = np.asarray(np.bincount(identity, per_query), dtype=np.float64)
        low, high = accelerated_ends(sums, counts, drawn, level)
        intervals[name] = Interval(float(per_query.mean()), low, high, level, people, draws)
    return intervals


def accelerated_ends(sums: Floats, counts: Floats, drawn: Floats, level: float) -> tuple[float, float]:
    """Return the ends of the BCa interval of ``sums.sum() / counts.sum()``.

    Efron 1987, section 6, widened for few identities as Hesterberg (The American Statistician, 2015, section 4) does.

    Args:
        sums: (I,) sum of the figure over each identity's queries.
        counts: (I,) its number of queries.
        drawn: (S, I) how often each identity is in each bootstrap sample.
        level: between 0 and 1.
    """
    value = sums.sum() / counts.sum()
    samples = drawn @ sums / (drawn @ counts)
    without = (sums.sum() - sums) / (counts.sum() - counts)
    away = without.mean() - without
    spread = (away**2).sum()
    if spread == 0:
        return float(value), float(value)
    acceleration = (away**3).sum() / (6 * spread**1.5)
    # Half of the samples that hit the value itself count as below it: Rank-1 of few people takes few values.
    below = ((samples < value).mean() + (samples <= value).mean()) / 2
    bias = ndtri(np.clip(below, 1 / len(samples), 1 - 1 / len(samples)))
    people = len(sums)
    # Student's quantiles and n / (n - 1): samples of few people vary less than they should.
    normal = stdtrit(people - 1, np.array([(1 - level) / 2, (1 + level) / 2])) * np.sqrt(people / (people - 1))
    shifted = bias + normal
    places = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(samples, places)
    return float(low), float(high)

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet.data.splits import halves_by_identity, hold_out, query_and_gallery
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord

CAMERAS = st.dictionaries(
    st.integers(1, 60), st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=4, max_size=15
)


def people(cameras: dict[int, list[int]] | dict[int, list[None]]) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{p}_{i}.png"), p, c) for p, group in cameras.items() for i, c in enumerate(group)]


@given(CAMERAS, st.integers(0, 99))
def test_halves_are_disjoint_whole_and_independent_of_order(cameras: dict[int, list[int]], seed: int) -> None:
    records = people(cameras)
    parts = halves_by_identity(records, seed=seed)
    trained, tested = {r.pid for r in parts.train}, {r.pid for r in (*parts.query, *parts.gallery)}
    assert not trained & tested
    assert trained | tested == set(cameras)
    assert len(trained) - len(tested) in (0, 1)
    assert {r.pid for r in halves_by_identity(records[::-1], seed=seed).train} == trained


@given(CAMERAS, st.integers(0, 99))
def test_without_cameras_no_query_is_in_the_gallery(cameras: dict[int, list[int]], seed: int) -> None:
    records = people({pid: [None] * len(group) for pid, group in cameras.items()})
    query, gallery, _ = query_and_gallery(records, seed=seed)
    assert sorted(r.path for r in (*query, *gallery)) == sorted(r.path for r in records)
    for pid, group in cameras.items():
        assert sum(r.pid == pid for r in query) == len(group) // 2
    assert query_and_gallery(records, seed=seed)[0] == query


def test_some_cameras_unknown() -> None:
    with pytest.raises(DataError, match="1 of 2 test images have no camera"):
        query_and_gallery([ImageRecord(Path("a"), 1, 1), ImageRecord(Path("b"), 1)], seed=0)


@given(CAMERAS, st.integers(0, 99), st.floats(0.05, 0.95))
def test_hold_out_is_disjoint_and_searchable(cameras: dict[int, list[int]], seed: int, fraction: float) -> None:
    dataset = Dataset("set", train=tuple(people(cameras)))
    eligible = {pid for pid, group in cameras.items() if len(set(group)) > 1}
    if len({camera for group in cameras.values() for camera in group}) == 1:
        eligible = {pid for pid, group in cameras.items() if len(group) > 1}
    wanted = max(2, round(fraction * len(cameras)))
    if wanted > len(eligible) or len(cameras) - wanted < 2:
        with pytest.raises(DataError, match=r"set: .*hold out"):
            hold_out(dataset, seed=seed, fraction=fraction)
        return
    left, held = hold_out(dataset, seed=seed, fraction=fraction)
    taken = {r.pid for r in (*held.query, *held.gallery)}
    assert len(taken) == wanted
    assert taken <= eligible
    assert not taken & {r.pid for r in left}
    assert {r.path for r in left} | {r.path for r in (*held.query, *held.gallery)} == {r.path for r in dataset.train}
    assert set(held.facts["pids"]) == taken
    for query in held.query:  # Every query has a match that the camera filter leaves, or a gallery apart.
        same = [r for r in held.gallery if r.pid == query.pid and r.path != query.path]
        assert same
        assert held.query != held.gallery or any(r.camid != query.camid for r in same)
    assert hold_out(dataset, seed=seed, fraction=fraction) == (left, held)


def test_hold_out_by_count_and_by_seed() -> None:
    dataset = Dataset("set", train=tuple(people({pid: [1, 2] for pid in range(1, 21)})))
    left, held = hold_out(dataset, seed=0, count=5)
    assert (len(left), len(held.query), held.name) == (30, 10, "set-held-out")
    assert len({tuple(hold_out(dataset, seed=seed, count=5)[1].facts["pids"]) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0.0}, "fraction 0.0, expected between 0 and 1"),
        ({"fraction": 1.0}, "fraction 1.0"),
        ({"count": 1}, "cannot hold out 1 of 6"),
        ({"count": 5}, "cannot hold out 5 of 6"),
        ({"count": 4}, "4 identities to hold out, but only 3 of 6 are seen by two cameras"),
    ],
)
def test_hold_out_that_cannot_be(arguments: dict[str, float], message: str) -> None:
    cameras = {1: [1, 2], 2: [1, 2], 3: [1, 2], 4: [1, 1], 5: [2], 6: [1]}
    with pytest.raises(DataError, match=message):
        hold_out(Dataset("set", train=tuple(people(cameras))), seed=0, **arguments)  # type: ignore[arg-type]

"""Which images form which batch: the policy of the samplers, as properties of everything that they give."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet import DataError
from prsnet.data.samplers import PADDING, identity_batches, shuffled_batches

Labels = npt.NDArray[np.int64]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Labels, int, int, int, int]:
    """Return labels of images in any order, P, K, seed and epoch."""
    sizes = draw(st.lists(st.integers(1, 11), min_size=2, max_size=12))
    names = draw(st.permutations(range(1, 40)))[: len(sizes)]
    labels = np.repeat(np.array(names, dtype=np.int64), sizes)
    seed = draw(st.integers(0, 1000))
    shuffled = np.random.default_rng(seed).permutation(labels)
    return shuffled, draw(st.integers(2, len(sizes))), draw(st.integers(1, 6)), seed, draw(st.integers(0, 3))


@settings(deadline=None, max_examples=150)
@given(problem=problems())
def test_identity_batches_keep_their_promises(problem: tuple[Labels, int, int, int, int]) -> None:
    labels, identities, instances, seed, epoch = problem
    batches = identity_batches(labels, identities, instances, seed=seed, epoch=epoch)
    sizes = Counter(labels.tolist())
    seen: Counter[int] = Counter()
    for batch in batches:
        assert batch.shape == (identities * instances,) and batch.dtype == np.int64
        people: list[int] = []
        for group in batch.reshape(identities, instances):
            rows = group[group != PADDING]
            person = set(labels[rows].tolist())
            assert len(person) == 1, "a group shows one person"
            people += person
            assert len(set(rows.tolist())) == len(rows), "no image twice in a group"
            assert len(rows) == min(instances, sizes[people[-1]]), "padding only where images are lacking"
            assert (group[len(rows) :] == PADDING).all(), "padding comes last"
        assert len(set(people)) == identities, "P different people"
        seen.update(batch[batch != PADDING].tolist())
    assert set(seen) == set(range(len(labels))), "every image of everybody, every epoch"


@settings(deadline=None, max_examples=100)
@given(problem=problems())
def test_there_are_no_more_batches_than_needed(problem: tuple[Labels, int, int, int, int]) -> None:
    """Groups cannot share a batch with another one of the same person, and P go into a batch."""
    labels, identities, instances, seed, epoch = problem
    groups = [math.ceil(count / instances) for count in Counter(labels.tolist()).values()]
    batches = identity_batches(labels, identities, instances, seed=seed, epoch=epoch)
    assert len(batches) == max(max(groups), math.ceil(sum(groups) / identities))


def global_state() -> npt.NDArray[np.uint32]:
    """Return the state of NumPy's global generator, which must not be touched."""
    state = np.random.get_state(legacy=True)  # noqa: NPY002
    assert isinstance(state, tuple)
    return np.array(state[1], dtype=np.uint32)


@settings(deadline=None, max_examples=50)
@given(problem=problems())
def test_seed_and_epoch_decide_alone(problem: tuple[Labels, int, int, int, int]) -> None:
    labels, identities, instances, seed, epoch = problem
    state = global_state()
    one, same = (identity_batches(labels, identities, instances, seed=seed, epoch=epoch) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert np.array_equal(state, global_state())


def test_epochs_and_seeds_differ() -> None:
    labels = np.repeat(np.arange(1, 9), 7)
    plans = [
        np.concatenate(identity_batches(labels, 4, 4, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((0, 0), (0, 1), (0, 2), (1, 0))
    ]
    assert len({tuple(plan) for plan in plans}) == 4


def test_who_fills_up_and_who_meets_whom_varies() -> None:
    """Over epochs everybody meets everybody, and the extra images are not always the same."""
    labels = np.repeat(np.arange(6), 5)
    pairs: set[tuple[int, int]] = set()
    extra: Counter[int] = Counter()
    for epoch in range(60):
        for batch in identity_batches(labels, 2, 4, seed=0, epoch=epoch):
            first, second = labels[batch[0]], labels[batch[4]]
            pairs.add((int(first), int(second)))
            extra.update(batch.tolist())
    assert len(pairs) == 30, "in both orders"
    assert max(extra.values()) < 1.6 * min(extra.values())


def test_too_few_people_are_told_with_the_flag() -> None:
    with pytest.raises(DataError, match="2 identities in training, a batch wants 3") as raised:
        identity_batches(np.array([1, 1, 2]), 3, 2, seed=0, epoch=0)
    assert raised.value.hint == "use --identities 2 or fewer, or more data"
    with pytest.raises(DataError, match="0 identities"):
        identity_batches(np.array([], dtype=np.int64), 2, 2, seed=0, epoch=0)


@settings(deadline=None, max_examples=100)
@given(count=st.integers(0, 200), size=st.integers(1, 40), seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_shuffled_batches_keep_their_promises(count: int, size: int, seed: int, epoch: int) -> None:
    batches = shuffled_batches(count, size, seed=seed, epoch=epoch)
    rows = [row for batch in batches for row in batch.tolist()]
    assert len(rows) == len(set(rows)) and set(rows) <= set(range(count))
    assert all(len(batch) == min(size, count) and batch.dtype == np.int64 for batch in batches)
    assert len(batches) == (count // min(size, count) if count else 0)
    again = shuffled_batches(count, size, seed=seed, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_what_one_epoch_leaves_out_another_has() -> None:
    left_out = [
        set(range(23)) - {row for batch in shuffled_batches(23, 5, seed=0, epoch=epoch) for row in batch.tolist()}
        for epoch in range(40)
    ]
    assert all(len(rest) == 3 for rest in left_out)
    assert len(set.union(*left_out)) == 23

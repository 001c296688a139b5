"""Batch-hard triplets against loops over every anchor and pair."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prsnet.losses.triplet import batch_hard_triplet, pairwise_euclidean


def slow_distance(a: Tensor, b: Tensor) -> Tensor:
    squared = ((a - b) ** 2).sum()
    return squared.sqrt() if float(squared.detach()) > 0 else squared * 0


def shared(candidates: list[Tensor], extreme: float) -> Tensor:
    """The mean of all candidates that reach the extreme: equally hard pairs share the gradient."""
    return torch.stack([value for value in candidates if float(value.detach()) == extreme]).mean()


def slow_batch_hard(features: Tensor, pids: list[int], valid: list[bool], margin: float | None) -> Tensor:
    losses = []
    for anchor in range(len(pids)):
        others = [row for row in range(len(pids)) if valid[row] and row != anchor]
        positives = [slow_distance(features[anchor], features[row]) for row in others if pids[row] == pids[anchor]]
        negatives = [slow_distance(features[anchor], features[row]) for row in others if pids[row] != pids[anchor]]
        if not valid[anchor] or not positives or not negatives:
            continue
        gap = shared(positives, max(float(p.detach()) for p in positives))
        gap = gap - shared(negatives, min(float(n.detach()) for n in negatives))
        losses.append((1 + gap.exp()).log() if margin is None else (gap + margin).clamp(min=0))
    return torch.stack(losses).mean() if losses else features.sum() * 0


def test_distance_is_exact_for_close_points_far_from_the_origin() -> None:
    # Quarter steps along a line; 40 rows, as torch turns to the rounding-prone product form above 25.
    steps = torch.arange(40) / 4
    a = torch.stack([torch.full((40,), 1000.0), 1000 + steps], dim=1)
    assert torch.equal(pairwise_euclidean(a, a), (steps[:, None] - steps[None, :]).abs())


def test_distance_has_no_gradient_at_coinciding_points_and_unit_ones_elsewhere() -> None:
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(pairwise_euclidean(a, torch.zeros(1, 2)).sum(), a)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 300, generator=generator).to(dtype)
    pids, valid = torch.arange(8) // 2, torch.ones(8, dtype=torch.bool)
    loss = batch_hard_triplet(features, pids, valid)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, batch_hard_triplet(features.float(), pids, valid))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pairwise_euclidean(features.float(), features.float())
        assert inside.dtype == torch.float32
        assert torch.equal(inside, pairwise_euclidean(features, features))
    # 300^2 * 300 overflows float16.
    assert torch.isfinite(pairwise_euclidean(300 * features, features)).all()


def test_hand_calculated() -> None:
    # On a line: identity 0 at 0 and 2, identity 1 at 3 and 7.
    # Gaps: 2 - 3, 2 - 1, 4 - 1, 4 - 5; with margin 0.5 the penalties are 0, 1.5, 3.5, 0.
    features = torch.tensor([[0.0], [2.0], [3.0], [7.0]], dtype=torch.float64)
    pids, valid = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    assert float(batch_hard_triplet(features, pids, valid, margin=0.5)) == pytest.approx(5.0 / 4)
    soft = sum(math.log(1 + math.exp(gap)) for gap in (-1, 1, 3, -1)) / 4
    assert float(batch_hard_triplet(features, pids, valid, margin=None)) == pytest.approx(soft, abs=1e-12)
    # Without the image at 7, the one at 3 is no anchor, though still a negative of the others: (0 + 1.5) / 2.
    fewer = torch.tensor([True, True, True, False])
    assert float(batch_hard_triplet(features, pids, fewer, margin=0.5)) == pytest.approx(0.75)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 4),
    identities=st.integers(1, 4),
    margin=st.sampled_from([0.5, 2.0, None]),
    grid=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_the_slow_form(
    rows: int, width: int, identities: int, margin: float | None, grid: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    if grid:  # few whole numbers: many coinciding points and exact ties
        features = features.round()
    features.requires_grad_()
    pids = torch.randint(identities, (rows,), generator=generator)
    valid = torch.rand(rows, generator=generator) < 0.8
    fast = batch_hard_triplet(features, pids, valid, margin=margin)
    slow = slow_batch_hard(features, pids.tolist(), valid.tolist(), margin)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    expected = torch.autograd.grad(slow, features)
    torch.testing.assert_close(torch.autograd.grad(fast, features), expected, rtol=1e-9, atol=1e-12)


def test_gradient_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(8, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    pids, valid = torch.arange(8) // 2, torch.arange(8) != 5
    for margin in (0.5, None):
        assert torch.autograd.gradcheck(lambda x, m=margin: batch_hard_triplet(x, pids, valid, margin=m), (features,))


def test_content_of_padded_rows_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(6, 3, generator=generator)
    pids, valid = torch.tensor([0, 0, 1, 1, 0, -1]), torch.tensor([True] * 4 + [False] * 2)
    expected = batch_hard_triplet(features[:4], pids[:4], valid[:4])
    assert float(expected) > 0
    for filling in (torch.nan, torch.inf, 1e6, 0.0):
        filled = features.clone()
        filled[4:] = filling
        filled.requires_grad_()
        loss = batch_hard_triplet(filled, pids, valid)
        assert torch.equal(loss, expected)
        (gradient,) = torch.autograd.grad(loss, filled)
        assert torch.isfinite(gradient).all()
        assert torch.equal(gradient[4:], torch.zeros(2, 3))


@pytest.mark.parametrize("margin", [0.5, None])
def test_no_anchor_gives_zero_and_keeps_the_graph(margin: float | None) -> None:
    features = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    everyone = torch.ones(4, dtype=torch.bool)
    for pids, valid in (
        (torch.zeros(4, dtype=torch.int64), everyone),
        (torch.arange(4), everyone),
        (torch.arange(4) // 2, ~everyone),
    ):
        loss = batch_hard_triplet(features, pids, valid, margin=margin)
        assert float(loss.detach()) == 0
        (gradient,) = torch.autograd.grad(loss, features)
        assert torch.equal(gradient, torch.zeros(4, 2))

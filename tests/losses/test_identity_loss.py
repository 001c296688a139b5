"""The identity loss against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prsnet.errors import InputError
from prsnet.losses.identity import identity_loss


def slow_identity_loss(logits: Tensor, pids: Tensor, valid: Tensor, smoothing: float) -> Tensor:
    losses = []
    for scores, pid, real in zip(logits, pids.tolist(), valid.tolist(), strict=True):
        if not real:
            continue
        log_total = sum((score.exp() for score in scores), torch.zeros((), dtype=scores.dtype)).log()
        loss = torch.zeros((), dtype=scores.dtype)
        for number, score in enumerate(scores):
            target = smoothing / len(scores) + (1 - smoothing if number == pid else 0)
            loss = loss - target * (score - log_total)
        losses.append(loss)
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def test_hand_calculated() -> None:
    # Softmax of (0, ln 3) is (1/4, 3/4); with smoothing 0.1 the targets of class 1 are 0.05 and 0.95.
    logits = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    loss = identity_loss(logits, torch.tensor([1]), torch.tensor([True]), smoothing=0.1)
    assert float(loss) == pytest.approx(-0.05 * math.log(0.25) - 0.95 * math.log(0.75), abs=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 6),
    classes=st.integers(1, 5),
    smoothing=st.sampled_from([0.0, 0.1, 0.7]),
    seed=st.integers(0, 2**31),
)
def test_equals_the_slow_form(rows: int, classes: int, smoothing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).requires_grad_()
    pids = torch.randint(classes, (rows,), generator=generator)
    valid = torch.rand(rows, generator=generator) < 0.7
    fast = identity_loss(logits, torch.where(valid, pids, -1), valid, smoothing=smoothing)
    slow = slow_identity_loss(logits, pids, valid, smoothing)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    expected = torch.autograd.grad(slow, logits)
    torch.testing.assert_close(torch.autograd.grad(fast, logits), expected, rtol=1e-9, atol=1e-12)


def test_content_of_padded_rows_does_not_matter() -> None:
    logits = torch.tensor([[1.0, 2.0], [torch.nan, torch.inf]], requires_grad=True)
    loss = identity_loss(logits, torch.tensor([0, -1]), torch.tensor([True, False]))
    alone = identity_loss(logits[:1], torch.tensor([0]), torch.tensor([True]))
    assert torch.equal(loss, alone)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient[1], torch.zeros(2))
    assert gradient[0].abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor([[30.0, -30.0, 2.0], [1.0, 0.5, 0.25]]).to(dtype)
    pids, valid = torch.tensor([1, 2]), torch.tensor([True, True])
    loss = identity_loss(logits, pids, valid)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, identity_loss(logits.float(), pids, valid))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match=r"pids has shape \(3,\), expected \(2,\)"):
        identity_loss(torch.zeros(2, 4), torch.zeros(3, dtype=torch.int64), torch.ones(2, dtype=torch.bool))
    with pytest.raises(InputError, match=r"valid is torch\.int64"):
        identity_loss(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"\(B, N\), got \(2,\)"):
        identity_loss(torch.zeros(2), torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool))

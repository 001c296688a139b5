"""Center loss: its value by hand, and the two gradients that it splits into."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prsnet.errors import InputError
from prsnet.losses.center import CenterLoss, center_loss
from prsnet.rng import torch_stream


def slow_center_loss(features: Tensor, pids: list[int], centres: Tensor, valid: list[bool]) -> Tensor:
    losses = []
    for row, pid in enumerate(pids):
        if valid[row]:
            losses.append(
                sum(((f - c) ** 2 for f, c in zip(features[row], centres[pid], strict=True)), torch.zeros(()))
            )
    return torch.stack(losses).mean() if losses else (features.sum() + centres.sum()) * 0


def test_hand_calculated() -> None:
    features = torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]])
    centres = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    pids = torch.tensor([0, 1, -1])
    # Squared distances 4 and 25; the third row is padding.
    assert float(center_loss(features, pids, centres, torch.tensor([True, True, False]))) == 14.5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=st.integers(1, 6), width=st.integers(1, 4), classes=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_equals_the_slow_form(rows: int, width: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64, requires_grad=True)
    pids = torch.randint(classes, (rows,), generator=generator)
    valid = torch.rand(rows, generator=generator) < 0.7
    fast = center_loss(features, torch.where(valid, pids, -1), centres, valid)
    slow = slow_center_loss(features, pids.tolist(), centres, valid.tolist())
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(fast, (features, centres)), torch.autograd.grad(slow, (features, centres))
    )


def test_one_backward_gives_weighted_features_and_unweighted_centres() -> None:
    module = CenterLoss(3, 4, torch_stream(0, "centres"), weight=5e-4).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    pids, valid = torch.tensor([0, 0, 2, 1, 2]), torch.tensor([True, True, True, True, False])
    value = module(features, pids, valid)
    value.backward()
    plain = slow_center_loss(features, pids.tolist(), module.centres, valid.tolist())
    to_features, to_centres = torch.autograd.grad(plain, (features, module.centres))
    torch.testing.assert_close(value, 5e-4 * plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(features.grad, 5e-4 * to_features)
    torch.testing.assert_close(module.centres.grad, to_centres)
    assert to_centres.abs().min() > 0


def test_own_sgd_moves_a_centre_onto_its_only_image() -> None:
    # With one image the unweighted gradient is 2 (c - f): a step of 0.5 lands on f, whatever the weight.
    module = CenterLoss(2, 3, torch_stream(0, "centres"))
    untouched = module.centres[0].detach().clone()
    feature = torch.tensor([[1.0, -2.0, 3.0]])
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
    module(feature, torch.tensor([1]), torch.tensor([True])).backward()
    optimiser.step()
    torch.testing.assert_close(module.centres[1].detach(), feature[0])
    assert torch.equal(module.centres[0].detach(), untouched)


def test_centres_are_standard_normal_and_follow_the_generator() -> None:
    centres = CenterLoss(100, 100, torch_stream(0, "centres")).centres
    assert torch.equal(centres, CenterLoss(100, 100, torch_stream(0, "centres")).centres)
    assert not torch.equal(centres, CenterLoss(100, 100, torch_stream(1, "centres")).centres)
    assert abs(float(centres.detach().mean())) < 0.05
    assert abs(float(centres.detach().std()) - 1) < 0.05


def test_content_of_padded_rows_does_not_matter() -> None:
    module = CenterLoss(2, 2, torch_stream(0, "centres"))
    features = torch.tensor([[1.0, 2.0], [torch.nan, torch.inf]], requires_grad=True)
    value = module(features, torch.tensor([1, 99]), torch.tensor([True, False]))
    assert torch.equal(value, module(features[:1], torch.tensor([1]), torch.tensor([True])))
    value.backward()
    assert features.grad is not None
    assert module.centres.grad is not None
    assert torch.equal(features.grad[1], torch.zeros(2))
    assert torch.equal(module.centres.grad[0], torch.zeros(2))
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    # 300 squared overflows float16.
    features = torch.full((1, 8), 300.0, dtype=dtype)
    value = center_loss(features, torch.tensor([0]), torch.zeros(1, 8), torch.tensor([True]))
    assert value.dtype == torch.float32
    assert float(value) == 8 * 300.0**2


def test_centres_of_another_width_are_named() -> None:
    with pytest.raises(InputError, match=r"centres of shape \(2, 3\), features of 4"):
        center_loss(torch.zeros(1, 4), torch.tensor([0]), torch.zeros(2, 3), torch.tensor([True]))

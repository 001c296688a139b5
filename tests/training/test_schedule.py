"""Learning rates against the method's figures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet.training.schedule import warmup_cosine, warmup_steps


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.0), (5, 0.25), (10, 0.5), (19, 0.95), (20, 1.0), (60, 0.5), (100, 0.0),
        (40, 0.5 * (1 + math.sqrt(0.5))), (80, 0.5 * (1 - math.sqrt(0.5))),
    ],
)  # fmt: skip
def test_linear_from_0_then_half_a_cosine_to_0(step: int, factor: float) -> None:
    assert warmup_cosine(step, total=100, warmup=20) == pytest.approx(factor, abs=1e-12)


@given(total=st.integers(1, 500), share=st.floats(0, 1))
def test_the_cosine_rises_once_and_falls_once(total: int, share: float) -> None:
    factors = [warmup_cosine(step, total=total, warmup=share * total) for step in range(total)]
    assert all(0 <= factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert share > 0 or factors[0] == 1


@pytest.mark.parametrize(("epoch", "factor"), [(10, 1.0), (39, 1.0), (40, 0.1), (69, 0.1), (70, 0.01), (119, 0.01)])
def test_a_tenth_at_40_and_70(epoch: int, factor: float) -> None:
    """Method.md, section 6, with seven steps to the epoch: from its first step to its last."""
    for step in (epoch * 7, epoch * 7 + 6):
        assert warmup_steps(step, per_epoch=7, warmup=70, milestones=(40, 70)) == pytest.approx(factor)


def test_the_warm_up_of_the_steps_is_linear_and_reaches_the_full_rate() -> None:
    factors = [warmup_steps(step, per_epoch=7, warmup=70, milestones=(40, 70)) for step in range(71)]
    assert factors[:70] == pytest.approx([(step + 1) / 70 for step in range(70)])
    assert factors[69] == factors[70] == 1.0
    assert warmup_steps(0, per_epoch=7, warmup=0, milestones=()) == 1.0

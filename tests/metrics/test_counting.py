"""Counting by bins against plain comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prsnet.metrics import counting
from prsnet.metrics.counting import count_at_least


def by_comparison(similarities: Tensor, thresholds: Tensor) -> Tensor:
    reached = (similarities[:, None, :] >= thresholds[:, :, None]).sum(dim=2)
    return reached.masked_fill(torch.isinf(thresholds), 0)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_any_numbers(data: st.DataObject, dtype: torch.dtype) -> None:
    # Few distinct values make ties; extremes and neighbours make bins degenerate.
    rows, columns, width = (data.draw(st.integers(1, n)) for n in (4, 12, 5))
    number = st.floats(-3, 3, width=32) | st.sampled_from(
        [0.0, -0.0, 0.5, -0.5, float(np.nextafter(np.float32(0.5), np.float32(1))), 1e-30, -1e-30, 3e38, -3e38]
    )
    lists = data.draw(st.lists(st.lists(number, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    similarities = torch.tensor(lists, dtype=dtype)
    picked = [data.draw(st.lists(st.integers(0, columns - 1), min_size=1, max_size=width)) for _ in range(rows)]
    thresholds = torch.full((rows, width), torch.inf, dtype=dtype)
    for row, places in enumerate(picked):
        thresholds[row, : len(places)] = torch.sort(similarities[row, places]).values
    similarities[torch.rand(rows, columns, generator=torch.Generator().manual_seed(rows)) < 0.2] = -torch.inf
    assert torch.equal(count_at_least(similarities, thresholds), by_comparison(similarities, thresholds))


@pytest.mark.parametrize("spread", [1e-9, 1e-4, 0.05, 3.0])
@pytest.mark.parametrize("width", [1, 7, 300])
def test_large_rows_and_several_batches(monkeypatch: pytest.MonkeyPatch, spread: float, width: int) -> None:
    monkeypatch.setattr(counting, "BATCH_NUMBERS", 5000)
    generator = torch.Generator().manual_seed(0)
    similarities = 0.3 + spread * torch.randn(7, 2000, generator=generator)
    thresholds = torch.sort(similarities[:, :width]).values
    assert torch.equal(count_at_least(similarities, thresholds), by_comparison(similarities, thresholds))

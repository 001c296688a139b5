"""Centroid triplets against loops that follow the definition word by word."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prsnet.errors import InputError
from prsnet.losses.centroid import CentroidVariant, centroid_triplet

VARIANTS: tuple[CentroidVariant, ...] = ("mctl", "ctl", "mctl-raw-query")


@dataclass(frozen=True)
class Case:
    raw: Tensor
    masked: Tensor
    pids: Tensor
    valid: Tensor
    instances: int

    def loss(self, *, margin: float | None = 0.5, variant: CentroidVariant = "mctl") -> Tensor:
        return centroid_triplet(
            self.raw, self.masked, self.pids, self.valid, instances=self.instances, margin=margin, variant=variant
        )

    def slow(self, *, margin: float | None = 0.5, variant: CentroidVariant = "mctl") -> Tensor:
        return slow_centroid_triplet(self, margin, variant)

    def gradients(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        return torch.autograd.grad(loss, (self.raw, self.masked), materialize_grads=True)  # type: ignore[return-value]


def make_case(groups: int, instances: int, width: int, identities: int, seed: int, filled: float = 0.8) -> Case:
    """A random float64 case: identities may fill several groups, any row may be padding."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups * instances
    raw = torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    masked = torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    pids = torch.randint(identities, (groups,), generator=generator).repeat_interleave(instances)
    valid = torch.rand(rows, generator=generator) < filled
    return Case(raw, masked, torch.where(valid, pids, -1), valid, instances)


def slow_distance(a: Tensor, b: Tensor) -> Tensor:
    squared = ((a - b) ** 2).sum()
    return squared.sqrt() if float(squared.detach()) > 0 else squared * 0


def slow_split(features: Tensor, case: Case, k: int) -> list[tuple[int, Tensor, Tensor]]:
    """(identity, query, centroid) of every group that takes part in split k."""
    found = []
    for start in range(0, len(features), case.instances):
        others = [start + j for j in range(case.instances) if j != k and bool(case.valid[start + j])]
        if bool(case.valid[start + k]) and others:
            centroid = sum((features[j] for j in others), torch.zeros_like(features[0])) / len(others)
            found.append((int(case.pids[start + k]), features[start + k], centroid))
    return found


def slow_gaps(vectors: list[tuple[int, Tensor]]) -> list[Tensor]:
    gaps = []
    for label, anchor in vectors:
        positives = [slow_distance(anchor, vector) for other, vector in vectors if other == label]
        negatives = [slow_distance(anchor, vector) for other, vector in vectors if other != label]
        if negatives:
            gaps.append(max(positives, key=Tensor.item) - min(negatives, key=Tensor.item))
    return gaps


def slow_centroid_triplet(case: Case, margin: float | None, variant: CentroidVariant) -> Tensor:
    splits = []
    for k in range(case.instances):
        raw = slow_split(case.raw, case, k)
        masked = slow_split(case.masked, case, k)
        gaps = slow_gaps([(label, q) for label, q, _ in raw] + [(label, c) for label, _, c in raw])
        if variant != "ctl":
            queries = raw if variant == "mctl-raw-query" else masked
            second = slow_gaps([(label, q) for label, q, _ in queries] + [(label, c) for label, _, c in masked])
            gaps = [first + other for first, other in zip(gaps, second, strict=True)]
        losses = [(1 + gap.exp()).log() if margin is None else (gap + margin).clamp(min=0) for gap in gaps]
        if losses:
            splits.append(torch.stack(losses).mean())
    return torch.stack(splits).mean() if splits else case.raw.sum() * 0


def line(raw: list[float], masked: list[float], pids: list[int], instances: int) -> Case:
    """Points on a line, all valid."""
    first, second = (torch.tensor(x, dtype=torch.float64)[:, None].requires_grad_() for x in (raw, masked))
    return Case(first, second, torch.tensor(pids), torch.ones(len(pids), dtype=torch.bool), instances)


def test_hand_calculated() -> None:
    # K = 2, so each split holds all four points. Raw: 0 and 2 against 3 and 7: gaps 2 - 3, 2 - 1, 4 - 1, 4 - 5.
    # Masked: 0 and 1 against 5 and 6: gaps 1 - 5, 1 - 4, 1 - 4, 1 - 5.
    case = line([0, 2, 3, 7], [0, 1, 5, 6], [8, 8, 9, 9], 2)
    raw, masked = [-1, 1, 3, -1], [-4, -3, -3, -4]
    assert case.loss(variant="ctl").item() == pytest.approx((1.5 + 3.5) / 4)
    both = [first + second for first, second in zip(raw, masked, strict=True)]
    assert case.loss(variant="mctl").item() == pytest.approx(0.5 / 4)
    soft = sum(math.log(1 + math.exp(gap)) for gap in both) / 4
    assert case.loss(variant="mctl", margin=None).item() == pytest.approx(soft, abs=1e-12)


def test_centroid_leaves_the_query_out() -> None:
    # K = 3, split 0: queries 0 and 20, centroids (3 + 6) / 2 and (23 + 29) / 2 = 4.5 and 26; with margin 40:
    # gaps 4.5 - 20, 4.5 - 15.5, 6 - 15.5, 6 - 21.5. Splits 1 and 2 likewise.
    case = line([0, 3, 6, 20, 23, 29], [0] * 6, [0, 0, 0, 1, 1, 1], 3)
    expected = []
    for a, b, c, d in ((0, 4.5, 20, 26), (3, 3, 23, 24.5), (6, 1.5, 29, 21.5)):
        negatives = [min(abs(x - y) for y in (c, d)) for x in (a, b)] + [
            min(abs(x - y) for y in (a, b)) for x in (c, d)
        ]
        positives = [abs(a - b)] * 2 + [abs(c - d)] * 2
        expected.append(sum(p - n + 40 for p, n in zip(positives, negatives, strict=True)) / 4)
    assert case.loss(variant="ctl", margin=40.0).item() == pytest.approx(sum(expected) / 3)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    groups=st.integers(1, 5),
    instances=st.integers(2, 4),
    width=st.integers(1, 3),
    identities=st.integers(1, 5),
    margin=st.sampled_from([0.5, 3.0, None]),
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 2**31),
)
def test_equals_the_slow_form(
    groups: int,
    instances: int,
    width: int,
    identities: int,
    margin: float | None,
    variant: CentroidVariant,
    seed: int,
) -> None:
    case = make_case(groups, instances, width, identities, seed)
    fast, slow = case.loss(margin=margin, variant=variant), case.slow(margin=margin, variant=variant)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(case.gradients(fast), case.gradients(slow), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("margin", [3.0, None])
def test_gradient_against_finite_differences(variant: CentroidVariant, margin: float | None) -> None:
    case = make_case(3, 3, 2, 9, seed=5)

    def loss(raw: Tensor, masked: Tensor) -> Tensor:
        return Case(raw, masked, case.pids, case.valid, 3).loss(margin=margin, variant=variant)

    assert float(loss(case.raw, case.masked).detach()) > 0
    assert torch.autograd.gradcheck(loss, (case.raw, case.masked))


def test_groups_of_one_identity_are_positives_of_each_other() -> None:
    # Identity 0 fills two groups: at 0, 0 and at 10, 10; identity 1 is at 4, 4.
    case = line([0, 0, 10, 10, 4, 4], [0] * 6, [0, 0, 0, 0, 1, 1], 2)
    # ap is 10 for identity 0 and 0 for identity 1; an is 4, 6 and 4.
    assert case.loss(variant="ctl").item() == pytest.approx((2 * 6.5 + 2 * 4.5 + 2 * 0) / 6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    groups=st.integers(1, 4),
    identities=st.integers(1, 3),
    margin=st.sampled_from([0.5, None]),
    variant=st.sampled_from(VARIANTS),
    levels=st.integers(1, 2),
    seed=st.integers(0, 2**31),
)
def test_ties_and_zero_distances_keep_gradients_finite(
    groups: int, identities: int, margin: float | None, variant: CentroidVariant, levels: int, seed: int
) -> None:
    case = make_case(groups, 3, 2, identities, seed)
    raw, masked = (
        (x.detach().abs() * 0.9).floor().clamp(max=levels - 1).requires_grad_() for x in (case.raw, case.masked)
    )
    tied = Case(raw, masked, case.pids, case.valid, 3)
    loss = tied.loss(margin=margin, variant=variant)
    torch.testing.assert_close(loss, tied.slow(margin=margin, variant=variant), rtol=1e-10, atol=1e-12)
    assert all(torch.isfinite(gradient).all() for gradient in tied.gradients(loss))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(variant=st.sampled_from(VARIANTS), margin=st.sampled_from([0.5, None]), seed=st.integers(0, 2**31))
def test_order_and_names_of_the_identities_do_not_matter(
    variant: CentroidVariant, margin: float | None, seed: int
) -> None:
    case = make_case(4, 3, 2, 4, seed)
    generator = torch.Generator().manual_seed(seed)
    order = (torch.randperm(4, generator=generator)[:, None] * 3 + torch.arange(3)).flatten()
    names = torch.randperm(1000, generator=generator)
    moved = Case(case.raw[order], case.masked[order], names[case.pids][order], case.valid[order], 3)
    first, second = case.loss(margin=margin, variant=variant), moved.loss(margin=margin, variant=variant)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(case.gradients(first), case.gradients(second), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("filling", [torch.nan, torch.inf, 1e6])
def test_content_of_padded_rows_does_not_matter(variant: CentroidVariant, filling: float) -> None:
    case = make_case(4, 3, 2, 9, seed=7, filled=0.7)
    expected = case.loss(variant=variant, margin=2.0)
    assert float(expected.detach()) > 0
    assert not bool(case.valid.all())
    padded = (~case.valid)[:, None]
    raw, masked = (x.detach().masked_fill(padded, filling).requires_grad_() for x in (case.raw, case.masked))
    pids = torch.where(case.valid, case.pids, torch.arange(12))
    filled = Case(raw, masked, pids, case.valid, 3)
    loss = filled.loss(variant=variant, margin=2.0)
    assert torch.equal(loss, expected)
    for gradient, other in zip(filled.gradients(loss), case.gradients(expected), strict=True):
        assert torch.equal(gradient, other)
        assert not gradient[~case.valid].any()


def test_ctl_is_mctl_without_the_masked_terms() -> None:
    case = make_case(4, 3, 2, 9, seed=1, filled=1.0)
    # Where all masked features coincide, ap' = an' = 0.
    without = Case(case.raw, torch.zeros_like(case.masked), case.pids, case.valid, 3)
    ctl = centroid_triplet(case.raw, None, case.pids, case.valid, instances=3, variant="ctl")
    torch.testing.assert_close(without.loss(), ctl, rtol=1e-12, atol=0)
    assert not torch.allclose(case.loss(), ctl)
    nan = Case(case.raw, torch.full_like(case.masked, torch.nan), case.pids, case.valid, 3)
    assert torch.equal(nan.loss(variant="ctl"), ctl)


def test_raw_query_variant_takes_its_queries_from_the_raw_features() -> None:
    # Far apart, so that the margin leaves every anchor active. Raw: 0, 2 | 30, 34. Masked: 1, 3 | 41, 47.
    case = line([0, 2, 30, 34], [1, 3, 41, 47], [0, 0, 1, 1], 2)
    raw = [2 - 30, 2 - 28, 4 - 28, 4 - 32]
    both = [2 - 40, 2 - 38, 6 - 38, 6 - 44]
    # Split 0: queries 0, 30 and centroids 3, 47. Split 1: queries 2, 34 and centroids 1, 41.
    mixed = [[3 - 30, 3 - 27, 17 - 27, 17 - 44], [1 - 32, 1 - 33, 7 - 32, 7 - 39]]
    # Rows of the splits: anchors in the order query 0, centroid 0, query 1, centroid 1.
    first = [[raw[0], raw[1], raw[2], raw[3]], [raw[1], raw[0], raw[3], raw[2]]]
    expected = sum(a + b + 100 for s, t in zip(first, mixed, strict=True) for a, b in zip(s, t, strict=True)) / 8
    assert case.loss(variant="mctl-raw-query", margin=100.0).item() == pytest.approx(expected)
    assert case.loss(variant="mctl", margin=100.0).item() == pytest.approx((sum(raw) + sum(both)) / 4 + 100)


@pytest.mark.parametrize("margin", [100.0, None])
def test_masked_negatives_count_in_both_forms_of_the_margin(margin: float | None) -> None:
    # Moving the masked identities apart leaves ap' alone and raises an': the loss must fall.
    near = line([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 1, 1], 2)
    far = line([0, 1, 2, 3], [0, 1, 12, 13], [0, 0, 1, 1], 2)
    assert far.loss(margin=margin).item() < near.loss(margin=margin).item() - 0.1
    (_, masked) = near.gradients(near.loss(margin=margin))
    # Every masked point is somebody's hardest positive or negative.
    assert masked.abs().min() > 0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("margin", [0.5, None])
def test_no_anchor_gives_zero_and_keeps_the_graph(variant: CentroidVariant, margin: float | None) -> None:
    full = make_case(3, 2, 2, 9, seed=2, filled=1.0)
    one_identity = Case(full.raw, full.masked, torch.zeros(6, dtype=torch.int64), full.valid, 2)
    one_each = Case(full.raw, full.masked, full.pids, torch.tensor([True, False] * 3), 2)
    empty = Case(full.raw, full.masked, full.pids, torch.zeros(6, dtype=torch.bool), 2)
    for case in (one_identity, one_each, empty):
        loss = case.loss(variant=variant, margin=margin)
        assert float(loss.detach()) == 0
        assert all(torch.equal(gradient, torch.zeros_like(case.raw)) for gradient in case.gradients(loss))


def test_split_without_anchors_is_left_out_of_the_mean() -> None:
    # K = 3; the third image of both groups is padding, so only splits 0 and 1 count: the hand-made case of K = 2.
    pairs = line([0, 2, 3, 7], [0, 1, 5, 6], [8, 8, 9, 9], 2)
    padded = line([0, 2, 99, 3, 7, 99], [0, 1, 99, 5, 6, 99], [8, 8, -1, 9, 9, -1], 3)
    padded = Case(padded.raw, padded.masked, padded.pids, padded.pids > 0, 3)
    torch.testing.assert_close(padded.loss(), pairs.loss(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    case = make_case(4, 3, 64, 9, seed=3)
    half = Case(case.raw.detach().to(dtype), case.masked.detach().to(dtype), case.pids, case.valid, 3)
    full = Case(half.raw.float(), half.masked.float(), case.pids, case.valid, 3)
    assert half.loss().dtype == torch.float32
    assert torch.equal(half.loss(), full.loss())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = full.loss()
    assert torch.equal(inside, full.loss())


def test_bad_input_is_named() -> None:
    case = make_case(2, 3, 2, 9, seed=0, filled=1.0)
    raw, pids, valid = case.raw, case.pids, case.valid
    with pytest.raises(InputError, match="unknown variant 'mtcl'"):
        centroid_triplet(raw, raw, pids, valid, instances=3, variant="mtcl")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="instances is 1"):
        centroid_triplet(raw, raw, pids, valid, instances=1)
    with pytest.raises(InputError, match="6 rows are not a multiple of 4"):
        centroid_triplet(raw, raw, pids, valid, instances=4)
    with pytest.raises(InputError, match="mctl needs the masked features"):
        centroid_triplet(raw, None, pids, valid, instances=3)
    with pytest.raises(InputError, match=r"masked features \(3, 2\)"):
        centroid_triplet(raw, raw[:3], pids, valid, instances=3)
    with pytest.raises(InputError, match=r"identities \[4, 5\]"):
        centroid_triplet(raw, raw, torch.tensor([4, 4, 5, 5, 5, 5]), valid, instances=3)

from __future__ import annotations

from typing import Any

import pytest

from prsnet.evaluation import transductive_reason
from prsnet.types import Dataset


def facts(name: str, **data: Any) -> dict[str, Any]:
    pretraining = {"verb": "pretrain", "data": {"name": name, **data}}
    return {"provenance": {"verb": "train", "data": {"name": "other"}, "initialisation": {"provenance": pretraining}}}


@pytest.mark.parametrize(
    ("name", "pool", "seen"),
    [
        ("market1501", {"test_images": 9, "test_images_of": ["market1501"]}, True),
        ("mixed-pool", {"test_images": 9, "test_images_of": ["cuhk03-np", "market1501"]}, True),
        ("market1501", {"test_images": 9, "test_images_of": ["market1501/query"]}, True),
        ("mixed-pool", {"test_images": 9, "test_images_of": ["cuhk03-np"]}, False),
        ("market1501", {"test_images": 0, "test_images_of": []}, False),
    ],
)
def test_a_pool_with_test_images_marks_the_model(name: str, pool: dict[str, Any], seen: bool) -> None:
    reason = transductive_reason(facts(name, pool=pool), Dataset("market1501"))
    assert bool(reason) == seen
    assert not seen or reason.startswith("transductive: pretrain saw 9")


def test_another_split_of_the_same_people_marks_the_model() -> None:
    dataset = Dataset("pku", facts={"split_seed": 1})
    assert "by seed 0, not 1" in transductive_reason(facts("pku", split_seed=0), dataset)
    assert transductive_reason(facts("pku", split_seed=1), dataset) == ""

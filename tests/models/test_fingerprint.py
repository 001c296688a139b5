"""A model's fingerprint follows all that embeddings depend on, and nothing else."""

from __future__ import annotations

import re

import pytest
import torch

from prsnet.models.fingerprint import fingerprint
from prsnet.models.presets import build_reid, resolve
from prsnet.models.reid import ReidModel

FACTS = {"size": [32, 32], "resize": "bicubic"}


def network(seed: int = 0, classes: int | None = None) -> ReidModel:
    model = build_reid(resolve("pico", image_size=(64, 32)), classes, torch.Generator().manual_seed(seed))
    assert isinstance(model, ReidModel)
    return model


def test_same_weights_same_name_whatever_the_classifier() -> None:
    with_classifier, without = network(classes=5), network()
    without.load_state_dict({k: v for k, v in with_classifier.state_dict().items() if "classifier" not in k})
    first = fingerprint(with_classifier, FACTS)
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert fingerprint(without, dict(reversed(FACTS.items()))) == first
    assert fingerprint(network(seed=1), FACTS) != first


@pytest.mark.parametrize("what", ["weight", "running statistic", "preprocessing"])
def test_anything_that_changes_embeddings_changes_it(what: str) -> None:
    model, facts = network(), dict[str, object](FACTS)
    before = fingerprint(model, facts)
    with torch.no_grad():
        if what == "weight":
            next(model.encoder.parameters()).view(-1)[0] += 1e-6
        elif what == "running statistic":
            assert model.bnneck.running_mean is not None
            model.bnneck.running_mean[3] += 1e-6
        else:
            facts["size"] = [32, 33]
    assert fingerprint(model, facts) != before


def test_number_format_counts() -> None:
    model = network()
    assert fingerprint(model, FACTS) != fingerprint(model.bfloat16(), FACTS)

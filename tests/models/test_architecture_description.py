"""Descriptions: there and back through JSON; a stranger's nonsense is refused before anything is built."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.errors import CheckpointError
from prsnet.models.description import Architecture, count_numbers, describe, from_description
from prsnet.models.presets import PRESETS, Preset, resolve
from prsnet.models.reid import ReidModel


def nano(**changes: Any) -> dict[str, Any]:
    return {**describe(PRESETS["nano"], kind="reid", num_classes=25), **changes}


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name: str) -> None:
    for kind, classes in (("autoencoder", None), ("reid", 751), ("reid", None)):
        description = describe(PRESETS[name], kind="reid" if kind == "reid" else "autoencoder", num_classes=classes)
        found = from_description(json.loads(json.dumps(description, allow_nan=False)))
        assert found == Architecture("reid" if kind == "reid" else "autoencoder", PRESETS[name], classes)


def test_built_network_has_the_described_shape() -> None:
    preset = resolve("pico", image_size=(64, 32), embedding_dim=48)
    architecture = from_description(describe(preset, kind="reid", num_classes=9))
    model = architecture.build(torch.Generator().manual_seed(0))
    assert isinstance(model, ReidModel)
    assert (model.embedding_dim, model.patch, model.num_classes) == (48, (4, 2), 9)
    counted = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    assert count_numbers(architecture) == counted


def test_every_field_of_a_preset_is_described() -> None:
    assert set(nano()) == {"kind", "num_classes", *(field.name for field in fields(Preset))}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"depth": [1]}, "unknown depth"),
        ({"kind": "classifier"}, "kind 'classifier'"),
        ({"kind": None}, "kind None"),
        ({"family": "resnet"}, "family 'resnet'"),
        ({"family": ["vit"]}, "family"),
        ({"name": 5}, "name 5"),
        ({"name": "x" * 101}, "name"),
        ({"depths": [2, 2, 4]}, "depths"),
        ({"depths": "2242"}, "depths"),
        ({"depths": [2, 2, 4, 10**9]}, "depths"),
        ({"depths": [2, 2, True, 2]}, "depths"),
        ({"widths": [40, 80, 160, -320]}, "widths"),
        ({"widths": [40.0, 80, 160, 320]}, "widths"),
        ({"widths": [8192] * 4, "depths": [200] * 4}, "numbers, expected at most"),
        ({"decoder_depths": []}, "decoder_depths"),
        ({"image_size": [128]}, "image_size"),
        ({"image_size": [128, 65]}, "image size 128x65"),
        ({"image_size": [10**6, 64]}, "image_size"),
        ({"patch": [7, 4]}, "patch is 7x4"),
        ({"stem": 3}, "stem 3"),
        ({"stem": "4"}, "stem '4'"),
        ({"embedding_dim": 10**7}, "embedding_dim"),
        ({"layer_scale": float("nan")}, "layer_scale nan"),
        ({"layer_scale": "1e-6"}, "layer_scale"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"num_classes": True}, "num_classes True"),
        ({"heads": -1}, "heads -1"),
        ({"family": "vit"}, "depths"),
    ],
)
def test_nonsense_is_named(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(CheckpointError, match=fault) as caught:
        from_description(nano(**changes))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("key", sorted(nano()))
def test_missing_key_is_named(key: str) -> None:
    description = nano()
    del description[key]
    with pytest.raises(CheckpointError, match=f"missing {key}"):
        from_description(description)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.sampled_from(sorted(nano())), values)
@settings(max_examples=150, deadline=None)
def test_any_value_is_accepted_or_refused_in_one_line(key: str, value: Any) -> None:
    try:
        found = from_description(nano(**{key: value}))
    except CheckpointError as error:
        assert "\n" not in error.message
    else:
        assert describe(found.preset, kind=found.kind, num_classes=found.num_classes)[key] == value

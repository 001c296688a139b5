"""Settings: every field documented and checked, all faults at once, whoever gives them."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet import ConfigError, PretrainConfig, TrainConfig
from prsnet.cli.main import VERBS, load
from prsnet.config import check_fields, expected_words, field_documentation, type_faults
from prsnet.runs import FREE_TO_CHANGE

CONFIGS = sorted({load(verb.config) for verb in VERBS}, key=lambda config: str(config.__name__))
GIVEN: dict[str, Any] = {"data": "d", "out": "o"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_field_is_documented_typed_and_has_a_default(config: type) -> None:
    documentation, hints = field_documentation(config), typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        assert len(documentation[field.name]) > 5, field.name
        assert documentation[field.name].endswith("."), field.name
        assert expected_words(hints[field.name]), field.name
        assert field.default is not dataclasses.MISSING, field.name
        assert not type_faults(config, {field.name: field.default})
    assert dataclasses.is_dataclass(config) and config.__dataclass_params__.frozen  # type: ignore[attr-defined]


BAD: dict[str, list[Any]] = {
    "image_size": [(0, 32), (64,), 64, "64x32", (64.0, 32.0)], "epochs": [0, -1, 1.5, "3", True], "accumulate": [0],
    "warmup_epochs": [-1.0, "x"], "weight_decay": [-0.1, float("nan")], "clip_norm": [0, -1.0], "ema": [0.0, 1.0, 2],
    "drop_path": [1.0, -0.1], "cache_gb": [-1], "workers": [0], "save_every": [0], "keep_every": [0, 2.5],
    "precision": ["fp8", None], "seed": ["1", None, 0.5], "resume": [1, "yes"], "preset": [3, None], "layout": [None],
}  # fmt: skip
BAD_PRETRAIN: dict[str, list[Any]] = {
    "batch_size": [0], "learning_rate": [0.0, -1, float("nan")], "betas": [(0.9, 1.0), (0.9,), 0.9],
    "mask_ratio": [0, 1, 1.5, -1], "crop_area": [(0.0, 1.0), (0.9, 0.2), (0.5, 1.2)], "hold_out": [1.0, -0.1],
    "loss_over": ["some"], "init": [3],
}  # fmt: skip
BAD_TRAIN: dict[str, list[Any]] = {
    "identities": [1], "instances": [1], "learning_rate": [0.0], "encoder_learning_rate": [-1e-4], "margin": [-0.1],
    "milestones": [(4, 4), (7, 3), 5, ("a",)], "label_smoothing": [1.0], "flip": [1.1], "erase": [-0.1], "pad": [-1],
    "hold_out": [1.0], "evaluate_every": [0], "center_weight": [-1], "id_weight": [-1], "mask_ratio": [1.0, -0.1],
    "loss": ["arcface"], "schedule": ["linear"],
}  # fmt: skip
FAULTS = [
    (config, name, value)
    for config, table in ((PretrainConfig, {**BAD, **BAD_PRETRAIN}), (TrainConfig, {**BAD, **BAD_TRAIN}))
    for name, values in table.items()
    for value in values
]


@pytest.mark.parametrize(("config", "name", "value"), FAULTS)
def test_a_bad_value_is_named_with_what_was_expected(config: type, name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**{**GIVEN, name: value})
    message = raised.value.message
    assert message.startswith(f"{name}: expected ") and message.count(": expected") == 1
    assert f"got {value!r}" in message


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig(epochs=0, flip="x", loss="no", milestones=(3, 2))  # type: ignore[arg-type]
    names = [part.partition(":")[0] for part in raised.value.message.split("; ")]
    assert sorted(names) == ["data", "epochs", "flip", "loss", "milestones", "out"]


def test_good_values_of_every_kind() -> None:
    config = TrainConfig(**{**GIVEN, "image_size": [64, 32], "warmup_epochs": 1, "epochs": np.int64(3)})
    assert config.image_size == (64, 32) and config.epochs == 3
    assert json.loads(json.dumps(dataclasses.asdict(config)))["epochs"] == 3
    assert TrainConfig(data=Path("a/b"), out="o").data == "a/b"  # type: ignore[arg-type]
    assert PretrainConfig(**GIVEN, betas=(0, 0.5)).betas == (0, 0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinds:
    """Kinds."""

    word: str = ""
    """A word."""
    number: float | None = None
    """A number."""
    pair: tuple[int, int] = (1, 2)
    """Two."""
    many: tuple[str, ...] = ()
    """Many."""
    choice: Literal["a", "b"] | None = None
    """One of two."""

    def __post_init__(self) -> None:
        check_fields(self, [("number", lambda value: value is None or value > 0, "more than 0")])


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers() | st.text())
)


@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys(["word", "number", "pair", "many", "choice"], VALUES)))
def test_any_value_is_taken_or_told(values: dict[str, Any]) -> None:
    """Never another error, and what is taken is of the field's type."""
    try:
        found = Kinds(**values)
    except ConfigError as error:
        assert any(error.message.startswith(f"{name}: expected") for name in values)
        return
    assert isinstance(found.word, str) and isinstance(found.pair, tuple) and len(found.pair) == 2
    assert all(isinstance(word, str) for word in found.many) and found.choice in ("a", "b", None)
    assert found.number is None or found.number > 0


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"), (float | None, "a number"), (bool, "true or false"), (str, "text"),
        (tuple[int, int], "2 whole numbers"), (tuple[float, ...] | None, "numbers"), (tuple[str, ...], "texts"),
        (Literal["x", "y"], "x or y"), (Literal["x", "y"] | None, "x or y"),
    ],
)  # fmt: skip
def test_types_in_words(hint: Any, words: str) -> None:
    assert expected_words(hint) == words


def test_only_settings_without_effect_may_change_between_resumed_runs() -> None:
    assert {field.name for field in dataclasses.fields(PretrainConfig)} >= FREE_TO_CHANGE
    assert {field.name for field in dataclasses.fields(TrainConfig)} >= FREE_TO_CHANGE

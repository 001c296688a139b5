"""The schedule of each preset: what ``None`` in a config means.

The large presets follow the method (docs/method.md). The small ones are for a CPU and about a thousand
images: their figures were chosen by the runs in docs/results.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from prsnet.config import PretrainConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class PretrainSchedule:
    """Defaults of pre-training; see :class:`prsnet.config.PretrainConfig` for the units."""

    epochs: int = 400
    warmup_epochs: float = 20
    batch_size: int = 64
    learning_rate: float = 3e-4
    weight_decay: float = 0.05


@dataclass(frozen=True, kw_only=True)
class TrainSchedule:
    """Defaults of fine-tuning; see :class:`prsnet.config.TrainConfig` for the units."""

    epochs: int = 120
    warmup_epochs: float = 10
    learning_rate: float = 3.5e-4
    weight_decay: float = 5e-4
    identities: int = 16
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = (40, 70)
    erase: float = 0.5
    evaluate_every: int = 10


# Few images need many small steps: learning rates are for 256 images, so 1.6e-2 is 1e-3 at batch 16. Random erasing of
# a small image from scratch, for tens of epochs, costs more than it gives. Both: docs/results.md.
PRETRAIN: dict[str, PretrainSchedule] = {
    "pico": PretrainSchedule(epochs=200, warmup_epochs=5, batch_size=16, learning_rate=1.6e-2),
    "nano": PretrainSchedule(epochs=100, warmup_epochs=5, batch_size=16, learning_rate=1.6e-2),
}
TRAIN: dict[str, TrainSchedule] = {
    "pico": TrainSchedule(epochs=60, warmup_epochs=3, learning_rate=1e-3, schedule="cosine", erase=0.0),
    "nano": TrainSchedule(epochs=60, warmup_epochs=3, learning_rate=1e-3, schedule="cosine", erase=0.0),
}


def resolve_pretrain(config: PretrainConfig) -> PretrainConfig:
    """Return the config with every ``None`` that the preset's schedule knows filled in."""
    return dataclasses.replace(config, **_missing(config, PRETRAIN.get(config.preset, PretrainSchedule())))


def resolve_train(config: TrainConfig) -> TrainConfig:
    """Return the config with every ``None`` that the preset's schedule knows filled in.

    Identities per batch stay open until the training identities are counted. The milestones, made for the schedule's
    own number of epochs, move along when another number is asked for.
    """
    schedule = TRAIN.get(config.preset, TrainSchedule())
    filled = dataclasses.replace(config, **_missing(config, schedule))
    if config.milestones is None and config.epochs not in (None, schedule.epochs):
        assert config.epochs is not None
        moved = tuple(sorted({max(1, round(m * config.epochs / schedule.epochs)) for m in schedule.milestones}))
        filled = dataclasses.replace(filled, milestones=moved)
    return filled


def default_identities(preset: str) -> int:
    """Return the identities per batch, P, of a preset's schedule."""
    return TRAIN.get(preset, TrainSchedule()).identities


def _missing(config: PretrainConfig | TrainConfig, schedule: PretrainSchedule | TrainSchedule) -> dict[str, Any]:
    """Return the schedule's entries that the config leaves open; a shorter run has a shorter warm-up."""
    filled = {name: value for name, value in vars(schedule).items() if getattr(config, name) is None}
    filled.pop("identities", None)
    if config.epochs is not None and "warmup_epochs" in filled:
        filled["warmup_epochs"] = schedule.warmup_epochs * min(1.0, config.epochs / schedule.epochs)
    return filled

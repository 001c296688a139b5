"""The verbs ``pretrain`` and ``train``."""

from __future__ import annotations

from prsnet.config import PretrainConfig, TrainConfig


def pretrain(config: PretrainConfig) -> None:
    """Run ``prsnet pretrain``."""
    from prsnet.training.pretrain import pretrain as run

    run(config)


def train(config: TrainConfig) -> None:
    """Run ``prsnet train``."""
    from prsnet.training.train import train as run

    run(config)

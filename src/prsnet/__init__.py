"""Person re-identification by masked pre-training and masked centroid triplets.

The public names below are loaded when they are first used, so that ``import prsnet`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prsnet.version import __version__

if TYPE_CHECKING:
    from prsnet.config import PretrainConfig, TrainConfig
    from prsnet.data.layouts import load_dataset
    from prsnet.embed import Embedder
    from prsnet.errors import CheckpointError, ConfigError, DataError, InputError, PrsnetError, TrainingError
    from prsnet.evaluation import Evaluation, evaluate
    from prsnet.metrics.ranking import rank_report
    from prsnet.training.pretrain import pretrain
    from prsnet.training.train import train
    from prsnet.types import Batch, Dataset, Embeddings, Hit, ImageRecord, RankReport

__all__ = [
    "Batch",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Dataset",
    "Embedder",
    "Embeddings",
    "Evaluation",
    "Hit",
    "ImageRecord",
    "InputError",
    "PretrainConfig",
    "PrsnetError",
    "RankReport",
    "TrainConfig",
    "TrainingError",
    "__version__",
    "evaluate",
    "load_dataset",
    "pretrain",
    "rank_report",
    "train",
]

# No public name may be that of a module of this package: importing the module would put it in the name's place.
_HOMES = {
    "prsnet.config": ("PretrainConfig", "TrainConfig"),
    "prsnet.data.layouts": ("load_dataset",),
    "prsnet.embed": ("Embedder",),
    "prsnet.errors": ("CheckpointError", "ConfigError", "DataError", "InputError", "PrsnetError", "TrainingError"),
    "prsnet.evaluation": ("Evaluation", "evaluate"),
    "prsnet.metrics.ranking": ("rank_report",),
    "prsnet.training.pretrain": ("pretrain",),
    "prsnet.training.train": ("train",),
    "prsnet.types": ("Batch", "Dataset", "Embeddings", "Hit", "ImageRecord", "RankReport"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # or every misspelt name would have a type

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

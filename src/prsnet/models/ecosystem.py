"""Key names of ConvNeXt weights: ours, those of the original code, and those of Hugging Face transformers.

The tensors are the same; only their names differ. ``original`` names are those of the authors' released checkpoints,
``transformers`` names those of ``ConvNextModel``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from prsnet.errors import CheckpointError

Naming = Literal["original", "transformers"]

# One row per kind of key: ours, original, transformers. s = stage, b = block, p = part, k = weight or bias.
_NAMES: tuple[tuple[str, str, str], ...] = (
    ("downsamples.0.0.{k}", "downsample_layers.0.0.{k}", "embeddings.patch_embeddings.{k}"),
    ("downsamples.0.1.{k}", "downsample_layers.0.1.{k}", "embeddings.layernorm.{k}"),
    ("downsamples.{s}.{p}.{k}", "downsample_layers.{s}.{p}.{k}", "encoder.stages.{s}.downsampling_layer.{p}.{k}"),
    ("stages.{s}.{b}.depthwise.{k}", "stages.{s}.{b}.dwconv.{k}", "encoder.stages.{s}.layers.{b}.dwconv.{k}"),
    ("stages.{s}.{b}.norm.{k}", "stages.{s}.{b}.norm.{k}", "encoder.stages.{s}.layers.{b}.layernorm.{k}"),
    ("stages.{s}.{b}.expand.{k}", "stages.{s}.{b}.pwconv1.{k}", "encoder.stages.{s}.layers.{b}.pwconv1.{k}"),
    ("stages.{s}.{b}.contract.{k}", "stages.{s}.{b}.pwconv2.{k}", "encoder.stages.{s}.layers.{b}.pwconv2.{k}"),
    ("stages.{s}.{b}.scale", "stages.{s}.{b}.gamma", "encoder.stages.{s}.layers.{b}.layer_scale_parameter"),
)
_FIELDS = {"{s}": r"(?P<s>\d)", "{b}": r"(?P<b>\d+)", "{p}": r"(?P<p>[01])", "{k}": r"(?P<k>weight|bias)"}
_PREFIXES = ("module.", "model.", "convnext.")


def to_ecosystem(state: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """Rename the weights of a :class:`~prsnet.models.convnext.ConvNeXt` encoder for another library.

    Args:
        state: the encoder's state, with our names.
        naming: whose names to give.

    Raises:
        CheckpointError: a key that is not a ConvNeXt encoder's.
    """
    rows = [(ours, original if naming == "original" else transformers) for ours, original, transformers in _NAMES]
    renamed = {}
    for key, tensor in state.items():
        name = _rename(key, rows)
        if name is None:
            raise CheckpointError(
                f"{key!r} is not a weight of a ConvNeXt encoder", hint="give the encoder's state alone"
            )
        renamed[name] = tensor
    return renamed


def from_ecosystem(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename another library's ConvNeXt weights to ours; which library's they are is told by their names.

    Args:
        state: weights as released, with or without a leading ``module.``, ``model.`` or ``convnext.``.

    Returns:
        The encoder's weights with our names, and the keys that are no part of it (the last norm, the classifier).

    Raises:
        CheckpointError: none of the keys is a ConvNeXt encoder's, or two would get the same name.
    """
    rows = [(theirs, ours) for ours, *names in _NAMES for theirs in names]
    renamed: dict[str, Tensor] = {}
    left_over = []
    for key, tensor in state.items():
        name = _rename(_bare(key), rows)
        if name is None:
            left_over.append(key)
        elif name in renamed:
            raise CheckpointError(f"two keys stand for {name!r}, one of them {key!r}", hint="give one model's weights")
        else:
            renamed[name] = tensor
    if not renamed:
        raise CheckpointError(
            f"none of {len(state)} keys belongs to a ConvNeXt encoder, for example {next(iter(state), '')!r}",
            hint="give ConvNeXt weights named as in the original code or in transformers",
        )
    return renamed, tuple(left_over)


def _rename(key: str, rows: list[tuple[str, str]]) -> str | None:
    """Return the name that the first fitting row (pattern, result) gives to ``key``."""
    for pattern, result in rows:
        if match := re.fullmatch(_expression(pattern), key):
            return result.format(**match.groupdict())
    return None


def _expression(pattern: str) -> str:
    expression = pattern.replace(".", r"\.")
    for field, group in _FIELDS.items():
        expression = expression.replace(field, group)
    return expression


def _bare(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key

"""A network's architecture as JSON and back, so that a checkpoint explains itself.

Descriptions come from files that strangers may have written: every field is checked before anything is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch

from prsnet.errors import CheckpointError, ConfigError
from prsnet.models.autoencoder import Autoencoder
from prsnet.models.presets import FAMILIES, Preset, build_autoencoder, build_reid, check_shape, check_sizes
from prsnet.models.reid import ReidModel

Kind = Literal["autoencoder", "reid"]
MAX_NUMBERS = 2_000_000_000
"""Weights and buffers that a described network may have; ConvNeXt-XL has 350 million."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What must be known to build a network.

    Attributes:
        kind: ``"autoencoder"`` or ``"reid"``.
        preset: the shape, with the image size, patch and embedding width really used.
        num_classes: training identities of a ``reid`` network with a classifier, else ``None``.
    """

    kind: Kind
    preset: Preset
    num_classes: int | None = None

    def build(self, generator: torch.Generator) -> Autoencoder | ReidModel:
        """Return the network with fresh weights."""
        if self.kind == "autoencoder":
            return build_autoencoder(self.preset, generator)
        return build_reid(self.preset, self.num_classes, generator)


def describe(preset: Preset, *, kind: Kind, num_classes: int | None = None) -> dict[str, Any]:
    """Return a JSON-able description of a network built from ``preset`` (as :func:`resolve` returned it)."""
    shape = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(preset).items()}
    return {"kind": kind, "num_classes": num_classes, **shape}


def from_description(description: Mapping[str, Any]) -> Architecture:
    """Return the architecture that :func:`describe` wrote down.

    Raises:
        CheckpointError: a key too many or too few, a value of the wrong type or out of all proportion, numbers that
            do not belong together. Nothing is allocated before everything is checked.
    """
    expected = {"kind", "num_classes", *(field.name for field in fields(Preset))}
    _refuse("unknown", sorted(str(key) for key in set(description) - expected))
    _refuse("missing", sorted(expected - set(description)))
    for key, (check, wanted) in _CHECKS.items():
        if not check(description[key]):
            raise CheckpointError(f"architecture: {key} {description[key]!r:.60}: expected {wanted}", hint=_HINT)
    preset = Preset(**{field.name: _tuples(description[field.name]) for field in fields(Preset)})
    try:
        check_shape(preset)
        check_sizes(preset)
    except ConfigError as error:
        raise CheckpointError(f"architecture: {error.message}", hint=_HINT) from error
    architecture = Architecture(description["kind"], preset, description["num_classes"])
    numbers = count_numbers(architecture)
    if numbers > MAX_NUMBERS:
        raise CheckpointError(f"architecture: {numbers} numbers, expected at most {MAX_NUMBERS}", hint=_HINT)
    return architecture


def count_numbers(architecture: Architecture) -> int:
    """Return how many weights and buffers a network has, without allocating them."""
    with torch.device("meta"):
        model = architecture.build(torch.Generator())
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))


_HINT = "the file is damaged, or was not written by prsnet"
Check = tuple[Callable[[Any], bool], str]


def _whole(low: int, high: int) -> Check:
    return (lambda value: _is_whole(value, low, high)), f"a whole number from {low} to {high}"


def _list(length: int, low: int, high: int) -> Check:
    def check(value: Any) -> bool:
        sized = isinstance(value, list) and 1 <= len(value) <= 4 and (not length or len(value) == length)
        return sized and all(_is_whole(number, low, high) for number in value)

    return check, f"{length or '1 to 4'} whole numbers from {low} to {high}"


def _one_of(choices: tuple[str, ...]) -> Check:
    return (lambda value: isinstance(value, str) and value in choices), " or ".join(choices)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_scale(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _is_classes(value: Any) -> bool:
    return value is None or _is_whole(value, 1, 10_000_000)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _refuse(what: str, keys: list[str]) -> None:
    if keys:
        raise CheckpointError(f"architecture: {what} {', '.join(keys):.200}", hint=_HINT)


_CHECKS: dict[str, Check] = {
    "kind": _one_of(get_args(Kind)),
    "num_classes": (_is_classes, "null or a whole number from 1 to 10000000"),
    "name": ((lambda value: isinstance(value, str) and len(value) <= 100), "a text of at most 100 characters"),
    "family": _one_of(FAMILIES),
    "image_size": _list(2, 1, 4096),
    "patch": _list(2, 1, 4096),
    "depths": _list(0, 1, 200),
    "widths": _list(0, 1, 8192),
    "decoder_depths": _list(0, 1, 200),
    "embedding_dim": _whole(1, 65536),
    "stem": _whole(2, 64),
    "layer_scale": (_is_scale, "a number from 0 to 1"),
    "heads": _whole(0, 1024),
    "decoder_width": _whole(0, 8192),
    "decoder_heads": _whole(0, 1024),
}

"""Shapes by name, and the networks built from them.

``PRESETS`` is a literal table. ``resolve`` turns a name and a few changes into one checked :class:`Preset`; the
``build_*`` functions turn a preset into a network whose every weight is drawn from the generator passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import nn

from prsnet.errors import ConfigError
from prsnet.models.autoencoder import Autoencoder, MaskedAutoencoder
from prsnet.models.convnext import ConvNeXt
from prsnet.models.encoder import Encoder, MapEncoder, nearest_multiple
from prsnet.models.hybrid import HybridConvNeXt
from prsnet.models.initialization import init_weights
from prsnet.models.reid import ReidModel
from prsnet.models.vit import ViTEncoder, ViTMaskedAutoencoder

Network = TypeVar("Network", bound=nn.Module)
Family = Literal["convnext", "hybrid", "vit"]
FAMILIES: tuple[str, ...] = get_args(Family)
PATCHES_PER_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The shape of one network, for pre-training and for re-identification."""

    name: str
    """What users call it."""
    family: Family
    """``convnext`` (the method), ``hybrid`` (its variant with plain convolutions) or ``vit`` (the MAE baseline)."""
    image_size: tuple[int, int]
    """(height, width) of the input in pixels."""
    patch: tuple[int, int]
    """(height, width) in pixels of the patches that masks hide; for ``vit`` also those of its tokens."""
    depths: tuple[int, ...]
    """Blocks per stage of the encoder: four numbers, or one for ``vit``."""
    widths: tuple[int, ...]
    """Channels per stage of the encoder: four numbers, or one for ``vit``."""
    decoder_depths: tuple[int, ...]
    """Blocks of the decoder from the bottleneck outwards: four numbers, or one for ``vit``."""
    embedding_dim: int
    """Numbers in an embedding."""
    stem: int = 4
    """Kernel and stride of the first convolution in pixels, a power of two; not read by ``vit``."""
    layer_scale: float = 1e-6
    """First value of the learned scale of each block's branch; not read by ``vit``."""
    heads: int = 0
    """Attention heads of a ``vit`` encoder; 0 in the other families."""
    decoder_width: int = 0
    """Numbers per token in a ``vit`` decoder; 0 in the other families, whose decoder mirrors ``widths``."""
    decoder_heads: int = 0
    """Attention heads of a ``vit`` decoder; 0 in the other families."""

    @property
    def total_stride(self) -> tuple[int, int]:
        """(height, width) that the image size must be multiples of."""
        return self.patch if self.family == "vit" else (self.stem * 8, self.stem * 8)


PRESETS: dict[str, Preset] = {
    "pico": Preset(
        name="pico",
        family="convnext",
        image_size=(128, 64),
        patch=(8, 4),
        depths=(1, 1, 2, 1),
        widths=(24, 48, 96, 192),
        decoder_depths=(1, 2, 1, 1),
        embedding_dim=256,
        layer_scale=1.0,
    ),
    "nano": Preset(
        name="nano",
        family="convnext",
        image_size=(128, 64),
        patch=(8, 4),
        depths=(2, 2, 4, 2),
        widths=(32, 64, 128, 256),
        decoder_depths=(2, 4, 2, 2),
        embedding_dim=512,
        layer_scale=1.0,
    ),
    "tiny": Preset(
        name="tiny",
        family="convnext",
        image_size=(256, 128),
        patch=(16, 8),
        depths=(3, 3, 9, 3),
        widths=(96, 192, 384, 768),
        decoder_depths=(3, 9, 3, 3),
        embedding_dim=2048,
    ),
    "small": Preset(
        name="small",
        family="convnext",
        image_size=(256, 128),
        patch=(16, 8),
        depths=(3, 3, 27, 3),
        widths=(96, 192, 384, 768),
        decoder_depths=(3, 27, 3, 3),
        embedding_dim=2048,
    ),
    "hybrid-nano": Preset(
        name="hybrid-nano",
        family="hybrid",
        image_size=(128, 64),
        patch=(8, 4),
        depths=(2, 2, 4, 2),
        widths=(32, 64, 128, 256),
        decoder_depths=(2, 4, 2, 2),
        embedding_dim=512,
        layer_scale=1.0,
    ),
    "hybrid-tiny": Preset(
        name="hybrid-tiny",
        family="hybrid",
        image_size=(256, 128),
        patch=(16, 8),
        depths=(3, 3, 9, 3),
        widths=(96, 192, 384, 768),
        decoder_depths=(3, 9, 3, 3),
        embedding_dim=2048,
    ),
    "vit-nano": Preset(
        name="vit-nano",
        family="vit",
        image_size=(128, 64),
        patch=(8, 4),
        depths=(4,),
        widths=(128,),
        decoder_depths=(2,),
        embedding_dim=512,
        heads=4,
        decoder_width=96,
        decoder_heads=3,
    ),
    "vit-base": Preset(
        name="vit-base",
        family="vit",
        image_size=(256, 128),
        patch=(16, 8),
        depths=(12,),
        widths=(768,),
        decoder_depths=(8,),
        embedding_dim=2048,
        heads=12,
        decoder_width=512,
        decoder_heads=16,
    ),
}


def resolve(
    preset: str | Preset,
    *,
    image_size: tuple[int, int] | None = None,
    patch: tuple[int, int] | None = None,
    embedding_dim: int | None = None,
) -> Preset:
    """Return a preset with changes, checked.

    Args:
        preset: a name of ``PRESETS``, or a preset.
        image_size: (height, width) in pixels, multiples of the total stride.
        patch: (height, width) in pixels; without it, a new image size gets a sixteenth of its height and width.
        embedding_dim: numbers in an embedding.

    Raises:
        ConfigError: unknown name, a shape that makes no sense, or a size that does not fit; says which names or
            sizes there are.
    """
    found = preset if isinstance(preset, Preset) else _named(preset)
    if image_size is not None and patch is None and image_size != found.image_size:
        patch = (max(1, image_size[0] // PATCHES_PER_SIDE), max(1, image_size[1] // PATCHES_PER_SIDE))
    changes = {"image_size": image_size, "patch": patch, "embedding_dim": embedding_dim}
    given: dict[str, Any] = {field: value for field, value in changes.items() if value is not None}
    found = replace(found, **given)
    check_shape(found)
    check_sizes(found)
    return found


def check_shape(preset: Preset) -> None:
    """Raise ConfigError unless the numbers of a preset belong together."""
    vit = preset.family == "vit"
    stages = 1 if vit else 4
    faults = [
        f"{field} {list(values)}: expected {stages} numbers of 1 or more"
        for field in ("depths", "widths", "decoder_depths")
        if len(values := getattr(preset, field)) != stages or min(values) < 1
    ]
    if not vit and (preset.stem < 2 or preset.stem & (preset.stem - 1)):
        faults.append(f"stem {preset.stem}: expected 2, 4, 8, ...")
    if preset.embedding_dim < 1:
        faults.append(f"embedding_dim {preset.embedding_dim}: expected 1 or more")
    for what, width, heads in (
        ("width", preset.widths[0] if preset.widths else 0, preset.heads),
        ("decoder_width", preset.decoder_width, preset.decoder_heads),
    ):
        if vit and (heads < 1 or width < 1 or width % heads or width % 4):
            faults.append(f"{what} {width} with {heads} heads: expected a multiple of 4 and of the heads")
    if faults:
        raise ConfigError(f"preset {preset.name!r}: {'; '.join(faults)}", hint="compare with the presets that exist")


def check_sizes(preset: Preset) -> None:
    """Raise ConfigError unless total stride and patch divide the image size."""
    for what, step in (("the network's stride", preset.total_stride), ("the mask's patch", preset.patch)):
        height, width = preset.image_size
        if min(height, width, *step) < 1 or height % step[0] or width % step[1]:
            fitting = [nearest_multiple(side, max(1, unit)) for side, unit in zip((height, width), step, strict=True)]
            raise ConfigError(
                f"image size {height}x{width} (height x width) does not fit preset {preset.name!r}: "
                f"{what} is {step[0]}x{step[1]}",
                hint=f"the nearest size that fits is {fitting[0]}x{fitting[1]}",
            )


def build_encoder(preset: str | Preset, generator: torch.Generator, *, drop_path: float = 0.0) -> Encoder:
    """Return a preset's encoder with fresh weights; raises ConfigError as :func:`resolve`."""
    shape = resolve(preset)
    return _fresh(lambda: _encoder(shape, drop_path), generator)


def build_autoencoder(
    preset: str | Preset,
    generator: torch.Generator,
    *,
    image_size: tuple[int, int] | None = None,
    patch: tuple[int, int] | None = None,
    drop_path: float = 0.0,
) -> Autoencoder:
    """Return a preset's network for pre-training with fresh weights.

    Args:
        preset: name or preset.
        generator: source of every weight.
        image_size: (height, width) in pixels, if not the preset's.
        patch: (height, width) in pixels of the masks, if not the preset's.
        drop_path: probability to drop the last encoder block's branch in training; 0 for ``vit``.

    Raises:
        ConfigError: as :func:`resolve`, or ``drop_path`` for a family that has none.
    """
    shape = resolve(preset, image_size=image_size, patch=patch)
    return _fresh(lambda: _autoencoder(shape, drop_path), generator)


def build_reid(
    preset: str | Preset,
    num_classes: int | None,
    generator: torch.Generator,
    *,
    image_size: tuple[int, int] | None = None,
    patch: tuple[int, int] | None = None,
    embedding_dim: int | None = None,
    drop_path: float = 0.0,
) -> ReidModel:
    """Return a preset's network for re-identification with fresh weights.

    Args:
        preset: name or preset.
        num_classes: training identities; ``None`` leaves the classifier out.
        generator: source of every weight.
        image_size: (height, width) in pixels, if not the preset's.
        patch: (height, width) in pixels of the masks, if not the preset's.
        embedding_dim: numbers in an embedding, if not the preset's.
        drop_path: probability to drop the last encoder block's branch in training; 0 for ``vit``.

    Raises:
        ConfigError: as :func:`resolve`, or ``drop_path`` for a family that has none.
    """
    shape = resolve(preset, image_size=image_size, patch=patch, embedding_dim=embedding_dim)
    return _fresh(
        lambda: ReidModel(_encoder(shape, drop_path), shape.embedding_dim, shape.patch, num_classes), generator
    )


def _named(name: str) -> Preset:
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}", hint=f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _encoder(shape: Preset, drop_path: float) -> Encoder:
    return _vit_encoder(shape, drop_path) if shape.family == "vit" else _map_encoder(shape, drop_path)


def _map_encoder(shape: Preset, drop_path: float) -> MapEncoder:
    kind = HybridConvNeXt if shape.family == "hybrid" else ConvNeXt
    return kind(shape.depths, shape.widths, stem=shape.stem, layer_scale=shape.layer_scale, drop_path=drop_path)


def _vit_encoder(shape: Preset, drop_path: float) -> ViTEncoder:
    if drop_path:
        raise ConfigError(f"drop_path {drop_path}: preset {shape.name!r} has none", hint="leave it at 0")
    return ViTEncoder(shape.image_size, shape.patch, width=shape.widths[0], depth=shape.depths[0], heads=shape.heads)


def _autoencoder(shape: Preset, drop_path: float) -> Autoencoder:
    if shape.family != "vit":
        encoder = _map_encoder(shape, drop_path)
        return MaskedAutoencoder(
            encoder, shape.image_size, shape.patch, shape.decoder_depths, layer_scale=shape.layer_scale
        )
    return ViTMaskedAutoencoder(
        _vit_encoder(shape, drop_path),
        decoder_width=shape.decoder_width,
        decoder_depth=shape.decoder_depths[0],
        decoder_heads=shape.decoder_heads,
    )


def _fresh(make: Callable[[], Network], generator: torch.Generator) -> Network:
    """Build a network without touching the global generator, and draw its weights from ``generator``."""
    with torch.random.fork_rng(devices=[]):
        network = make()
    init_weights(network, generator)
    return network

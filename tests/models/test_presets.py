"""Presets: the shapes of method.md, sizes that fit, networks drawn from the generator alone."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from prsnet.errors import ConfigError
from prsnet.models.encoder import MapEncoder
from prsnet.models.masking import random_mask
from prsnet.models.presets import PRESETS, Preset, build_autoencoder, build_encoder, build_reid, resolve

FOR_CPU = ["pico", "nano", "hybrid-nano", "vit-nano"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def block_numbers(width: int) -> int:
    return width * 49 + width + 2 * width + width * 4 * width + 4 * width + 4 * width * width + width + width


def test_names_and_keys_agree_and_every_field_is_documented() -> None:
    assert {name: preset.name for name, preset in PRESETS.items()} == {name: name for name in PRESETS}
    assert {"pico", "nano", "tiny", "small", "hybrid-nano", "hybrid-tiny", "vit-nano", "vit-base"} == set(PRESETS)


@pytest.mark.parametrize(
    ("name", "depths", "decoder_depths"),
    [
        ("tiny", (3, 3, 9, 3), (3, 9, 3, 3)),
        ("small", (3, 3, 27, 3), (3, 27, 3, 3)),
        ("hybrid-tiny", (3, 3, 9, 3), (3, 9, 3, 3)),
    ],
)
def test_shapes_of_the_method(name: str, depths: tuple[int, ...], decoder_depths: tuple[int, ...]) -> None:
    preset = PRESETS[name]
    assert (preset.depths, preset.decoder_depths) == (depths, decoder_depths)
    assert preset.widths == (96, 192, 384, 768)
    assert (preset.image_size, preset.patch, preset.stem) == ((256, 128), (16, 8), 4)
    assert (preset.embedding_dim, preset.layer_scale) == (2048, 1e-6)


def test_tiny_and_small_have_the_published_numbers_of_parameters() -> None:
    """ConvNeXt-T and -S have 28,589,128 and 50,223,688 with the last norm and 1000 classes (Liu et al., 2022)."""
    head = 2 * 768 + 768 * 1000 + 1000
    with torch.device("meta"):
        assert numbers(build_encoder("tiny", generator())) + head == 28_589_128
        assert numbers(build_encoder("small", generator())) + head == 50_223_688


def test_decoder_of_tiny_counted_by_hand() -> None:
    with torch.device("meta"):
        model = build_autoencoder("tiny", generator())
    widths, depths = (768, 384, 192, 96), (3, 9, 3, 3)
    first = 768 * 768 * 8 * 4 + 768
    doublings = sum(2 * a + a * b * 4 + b for a, b in ((768, 384), (384, 192), (192, 96), (96, 96), (96, 3)))
    blocks = sum(depth * block_numbers(width) for width, depth in zip(widths, depths, strict=True))
    assert isinstance(model.decoder, nn.Module)
    assert numbers(model.decoder) == first + doublings + blocks


@pytest.mark.parametrize("name", PRESETS)
def test_networks_of_every_preset_have_their_shapes(name: str) -> None:
    preset = PRESETS[name]
    height, width = preset.image_size
    with torch.device("meta"):
        autoencoder = build_autoencoder(name, generator())
        reid = build_reid(name, 7, generator())
        images, mask = torch.empty(2, 3, height, width), torch.zeros(2, 256, dtype=torch.bool)
        assert autoencoder.grid == (16, 16)
        found = reid(images)
        assert found.raw.shape == (2, preset.embedding_dim)
        assert reid.logits(found.raw).shape == (2, 7)
        if preset.family != "vit":  # counting visible patches needs real numbers: see the next test
            assert autoencoder(images, mask).shape == images.shape
        if isinstance(autoencoder.encoder, MapEncoder):
            last = autoencoder.encoder(images)
            assert last.shape == (2, preset.widths[-1], height // (8 * preset.stem), width // (8 * preset.stem))


@pytest.mark.parametrize("name", FOR_CPU)
def test_networks_for_the_cpu_run(name: str) -> None:
    model = build_autoencoder(name, generator())
    images = torch.randn(1, 3, *model.image_size, generator=generator(1))
    mask = random_mask(1, model.grid, 0.75, generator=generator(2))
    assert model(images, mask).shape == images.shape
    assert model(images, mask).isfinite().all()
    reid = build_reid(name, None, generator()).eval()
    assert torch.allclose(reid.embed(images).norm(dim=1), torch.ones(1))


def test_sizes_of_the_small_presets() -> None:
    with torch.device("meta"):
        counts = {name: numbers(build_encoder(name, generator())) for name in FOR_CPU}
    assert 0.3e6 < counts["pico"] < 1e6
    assert 1.5e6 < counts["nano"] < 3.5e6
    assert counts["hybrid-nano"] < 3.5e6
    assert counts["vit-nano"] < 1e6


@pytest.mark.parametrize("name", FOR_CPU)
def test_same_generator_same_weights_and_the_global_one_is_left_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    one, two, other = (build_reid(name, 3, generator(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    drawn = [key for key in one if key.endswith("weight") and one[key].std() > 0]
    assert drawn
    assert not any(torch.equal(one[key], other[key]) for key in drawn)


def test_first_encoder_weights_do_not_depend_on_what_they_are_built_into() -> None:
    alone = build_encoder("pico", generator(3)).state_dict()
    inside = build_reid("pico", 3, generator(3)).encoder.state_dict()
    assert all(torch.equal(alone[key], inside[key]) for key in alone)


def test_another_image_size_gets_patches_of_a_sixteenth() -> None:
    assert resolve("tiny", image_size=(384, 128)).patch == (24, 8)
    assert resolve("tiny", image_size=(384, 128), patch=(16, 8)).patch == (16, 8)
    assert resolve("tiny", image_size=(256, 128)) == PRESETS["tiny"]
    model = build_autoencoder("pico", generator(), image_size=(96, 32))
    mask = random_mask(1, model.grid, 0.75, generator=generator(2))
    assert model.patch == (6, 2)
    assert model(torch.zeros(1, 3, 96, 32), mask).shape == (1, 3, 96, 32)


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'nanno'") as caught:
        resolve("nanno")
    assert all(name in caught.value.hint for name in PRESETS)


@pytest.mark.parametrize(
    ("size", "nearest"), [((250, 128), "256x128"), ((256, 100), "256x96"), ((10, 10), "32x32"), ((0, 32), "32x32")]
)
def test_size_that_does_not_fit_names_the_nearest(size: tuple[int, int], nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"{size[0]}x{size[1]}") as caught:
        resolve("tiny", image_size=size)
    assert nearest in caught.value.hint


def test_patch_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="patch is 15x8"):
        resolve("tiny", patch=(15, 8))


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("nano", {"stem": 3}, "stem 3"),
        ("nano", {"depths": (1, 1)}, "depths"),
        ("nano", {"widths": (8, 8, 0, 8)}, "widths"),
        ("nano", {"embedding_dim": 0}, "embedding_dim 0"),
        ("vit-nano", {"heads": 5}, "width 128 with 5 heads"),
        ("vit-nano", {"decoder_width": 66}, "decoder_width 66"),
        ("vit-nano", {"depths": (1, 1, 1, 1)}, "depths"),
    ],
)
def test_shape_that_makes_no_sense_is_named(name: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        resolve(replace(PRESETS[name], **changes))


def test_zero_is_not_taken_for_absent() -> None:
    with pytest.raises(ConfigError, match="embedding_dim 0"):
        build_reid("nano", 3, generator(), embedding_dim=0)


def test_vit_has_no_paths_to_drop() -> None:
    with pytest.raises(ConfigError, match=r"drop_path 0\.1"):
        build_encoder("vit-nano", generator(), drop_path=0.1)


def test_stem_of_two_gives_a_finer_map() -> None:
    preset = replace(PRESETS["pico"], stem=2)
    encoder = build_encoder(preset, generator())
    assert encoder.total_stride == (16, 16)
    model = build_autoencoder(preset, generator())
    mask = random_mask(1, model.grid, 0.75, generator=generator(2))
    assert model(torch.zeros(1, 3, 128, 64), mask).shape == (1, 3, 128, 64)


def test_preset_is_frozen() -> None:
    with pytest.raises(AttributeError):
        setattr(PRESETS["nano"], fields(Preset)[0].name, "other")

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prsnet import CheckpointError, DataError, InputError
from prsnet.checkpoint import load_checkpoint, save_checkpoint
from prsnet.data.augment import normalise
from prsnet.data.images import MEAN_COLOUR, list_images
from prsnet.figures import draw_reconstructions, reconstruction
from prsnet.figures.reconstruction import PretrainedNetwork, choose_images, load_pretrained, reconstruct_images
from prsnet.figures.sheets import Cell, draw_sheet
from prsnet.models.autoencoder import Autoencoder, MaskedAutoencoder

PATCH = (4, 4)


class Painter(Autoencoder):
    """Predicts one value everywhere and remembers the mask it was given."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.image_size, self.patch, self.grid = value, (16, 8), PATCH, (4, 2)

    def forward(self, images: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.seen = mask.clone()
        return torch.full_like(images, self.value)


def network(value: float, *, normalised: bool = False) -> PretrainedNetwork:
    return PretrainedNetwork(Painter(value), torch.device("cpu"), 0.5, normalised, Path("none"))


def some_images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 16, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def some_mask() -> Tensor:
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, [0, 3]] = True
    mask[1, [7]] = True
    return mask


def hidden_pixels(mask: Tensor) -> np.ndarray:
    """(B, 16, 8) bool, patch by patch."""
    pixels = np.zeros((len(mask), 16, 8), dtype=bool)
    for image, number in mask.nonzero().tolist():
        row, column = divmod(number, 2)
        pixels[image, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
    return pixels


def test_pictures_are_put_together_by_the_mask() -> None:
    images, mask = some_images(), some_mask()
    found = reconstruct_images(network(0.0), images, mask)
    hidden = np.repeat(hidden_pixels(mask)[:, None], 3, axis=1)
    original = images.numpy() / 255
    mean = np.broadcast_to(np.array(MEAN_COLOUR).reshape(1, 3, 1, 1) / 255, original.shape)
    np.testing.assert_allclose(found.original, original, atol=1e-5)
    np.testing.assert_allclose(found.masked, np.where(hidden, mean, original), atol=3e-3)
    np.testing.assert_allclose(found.painted, mean, atol=3e-3)
    np.testing.assert_allclose(found.combined, np.where(hidden, mean, original), atol=3e-3)


def test_losses_are_squared_errors_over_the_hidden_patches() -> None:
    images, mask = some_images(), some_mask()
    found = reconstruct_images(network(0.25), images, mask)
    targets, hidden = normalise(images).numpy(), hidden_pixels(mask)
    wanted = [((t.transpose(1, 2, 0)[h] - 0.25) ** 2).mean() for t, h in zip(targets, hidden, strict=True)]
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-5)


def test_normalised_targets_are_scaled_back() -> None:
    """A prediction of 0 in standardised units is each patch's own mean."""
    images, mask = some_images(), some_mask()
    found = reconstruct_images(network(0.0, normalised=True), images, mask)
    whole = normalise(images).numpy()
    for image in range(2):
        for row in range(4):
            for column in range(2):
                place = np.s_[image, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                patch_mean = whole[place].mean()
                deviations = np.array((0.229, 0.224, 0.225)), np.array((0.485, 0.456, 0.406))
                wanted = np.clip(patch_mean * deviations[0] + deviations[1], 0, 1)
                got = found.painted.numpy()[place].reshape(3, -1)
                np.testing.assert_allclose(got, np.repeat(wanted[:, None], 16, axis=1), atol=1e-5)


def test_the_sheet_shows_and_names_the_mask_that_was_used(
    tmp_path: Path, tiny_pretrained: Path, tiny_market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    shown: list[list[Cell]] = []
    forward = MaskedAutoencoder.forward

    def watch(
        model: MaskedAutoencoder, images: Tensor, mask: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        seen.append(mask.clone())
        return forward(model, images, mask, generator)

    def look(rows: list[list[Cell]], *args: Any, **options: Any) -> Path:
        shown.extend(rows)
        return draw_sheet(rows, *args, **options)

    monkeypatch.setattr(MaskedAutoencoder, "forward", watch)
    monkeypatch.setattr(reconstruction, "draw_sheet", look)
    out = draw_reconstructions(tiny_pretrained, [tiny_market / "query"], tmp_path / "out.png", count=3, seed=5)
    written = json.loads(out.with_suffix(".json").read_text())
    (mask,) = seen
    assert [image["hidden"] for image in written["images"]] == [row.nonzero()[:, 0].tolist() for row in mask]
    assert written["mask_ratio"] == 0.75 and written["seed"] == 5 and written["grid"] == [16, 16]
    for row, image in zip(shown, written["images"], strict=True):
        original, masked = (cell.image.astype(int) for cell in row[:2])
        assert len(image["hidden"]) == 192
        for number in range(256):
            top, left = 4 * (number // 16), 2 * (number % 16)
            place = np.s_[top : top + 4, left : left + 2]
            wanted = np.broadcast_to(MEAN_COLOUR, (4, 2, 3)) if number in image["hidden"] else original[place]
            assert np.abs(masked[place] - wanted).max() <= 1


def test_seed_and_ratio_decide(tmp_path: Path, tiny_pretrained: Path, tiny_market: Path) -> None:
    def hidden(name: str, seed: int, ratio: float | None) -> list[list[int]]:
        out = tmp_path / f"{name}.png"
        images = sorted((tiny_market / "query").iterdir())[:2]
        draw_reconstructions(tiny_pretrained, images, out, seed=seed, mask_ratio=ratio)
        return [image["hidden"] for image in json.loads(out.with_suffix(".json").read_text())["images"]]

    assert hidden("a", 1, None) == hidden("b", 1, None) != hidden("c", 2, None)
    assert [len(one) for one in hidden("d", 1, 0.5)] == [128, 128]


def test_a_choice_of_images(tmp_path: Path, tiny_market: Path) -> None:
    everything = list_images(tiny_market)
    chosen = choose_images([tiny_market], 5, seed=1)
    assert len(set(chosen)) == 5 and set(chosen) <= set(everything) and chosen == sorted(chosen)
    assert chosen == choose_images([tiny_market], 5, seed=1) != choose_images([tiny_market], 5, seed=2)
    assert choose_images([everything[3], everything[1], everything[3]], 5, seed=0) == [everything[3], everything[1]]
    with pytest.raises(DataError, match="no images to reconstruct"):
        choose_images([tmp_path], 5, seed=0)


@pytest.mark.parametrize(("option", "value", "named"), [("count", 0, "1 to 64"), ("mask_ratio", 0.0, "hides none")])
def test_options_out_of_range(tmp_path: Path, tiny_pretrained: Path, option: str, value: float, named: str) -> None:
    with pytest.raises(InputError, match=named):
        draw_reconstructions(tiny_pretrained, [tmp_path], tmp_path / "out.png", **{option: value})  # type: ignore[arg-type]


def test_a_fine_tuned_run_paints_nothing(tmp_path: Path, tiny_trained: Path, tiny_market: Path) -> None:
    with pytest.raises(CheckpointError, match="expected 'autoencoder'"):
        draw_reconstructions(tiny_trained, [tiny_market], tmp_path / "out.png")


def test_a_description_without_its_facts_is_refused(tmp_path: Path, tiny_pretrained: Path) -> None:
    good = tiny_pretrained / "checkpoints" / "best.safetensors"
    tensors, facts = load_checkpoint(good)
    facts.pop("mask_ratio")
    bad = shutil.copy(good, tmp_path / "bad.safetensors")
    save_checkpoint(bad, tensors, facts)
    with pytest.raises(CheckpointError, match="lacks mask ratio"):
        load_pretrained(bad)

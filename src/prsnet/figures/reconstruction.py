"""What a pre-trained network paints where it sees nothing: original, masked, reconstruction, and both combined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prsnet.checkpoint import find_checkpoint, load_checkpoint
from prsnet.data.augment import normalise
from prsnet.data.images import MEAN, STD, list_images, load_stack
from prsnet.devices import choose_device
from prsnet.errors import CheckpointError, DataError, InputError
from prsnet.figures.canvas import write_beside
from prsnet.figures.sheets import Cell, Pixels, draw_sheet
from prsnet.models.autoencoder import TARGET_EPS, Autoencoder, reconstruction_loss
from prsnet.models.description import from_description
from prsnet.models.masking import hidden_count, hide, mask_to_pixels, patchify, random_mask, unpatchify
from prsnet.models.transfer import load_model
from prsnet.rng import numpy_stream, torch_stream

HEADINGS = ("original", "masked", "reconstruction", "combined")
NOTE = "combined: the visible patches as they are, the hidden ones as reconstructed"
MOST_IMAGES = 64


@dataclass(frozen=True, slots=True)
class PretrainedNetwork:
    """An autoencoder and what its checkpoint says of its training.

    Attributes:
        model: the network, in evaluation mode on its device.
        device: where it is.
        mask_ratio: share of the patches that was hidden in training.
        normalised_targets: whether it predicts patches standardised by their own mean and deviation.
        source: the checkpoint file.
    """

    model: Autoencoder
    device: torch.device
    mask_ratio: float
    normalised_targets: bool
    source: Path


@dataclass(frozen=True, slots=True)
class Reconstructions:
    """B images, masked and painted anew; pictures are (B, 3, H, W) in 0..1, on the CPU.

    Attributes:
        original: what the network should see.
        masked: what it saw: hidden patches have the mean colour.
        painted: its prediction of every patch, the visible ones included.
        combined: visible patches of the original, hidden ones of the prediction.
        mask: (B, N) bool, True = hidden: the mask that the network was given.
        losses: (B,) each image's loss over its hidden patches, in the units of the training.
    """

    original: Tensor
    masked: Tensor
    painted: Tensor
    combined: Tensor
    mask: Tensor
    losses: Tensor


def load_pretrained(run: Path | str, *, device: str = "auto") -> PretrainedNetwork:
    """Load the network of a run of ``prsnet pretrain`` (its best checkpoint), or of a checkpoint file.

    Raises:
        CheckpointError: nothing there, broken, or a model of another kind.
        ConfigError: unknown device.
    """
    chosen = choose_device(device)
    file = find_checkpoint(run)
    tensors, facts = load_checkpoint(file, kind="autoencoder")
    ratio, normalised, described = (facts.get(k) for k in ("mask_ratio", "normalised_targets", "architecture"))
    if not isinstance(ratio, float) or not isinstance(normalised, bool) or not isinstance(described, dict):
        raise CheckpointError(
            f"{file}: the description lacks mask ratio, targets or architecture", hint="use the file as it was written"
        )
    model = from_description(described).build(torch.Generator())
    if not isinstance(model, Autoencoder):
        raise CheckpointError(f"{file}: describes a network without a decoder", hint="give a run of `prsnet pretrain`")
    try:
        load_model(model, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error.message}", hint=error.hint) from error
    return PretrainedNetwork(model.to(chosen).eval(), chosen, ratio, normalised, file)


@torch.inference_mode()
def reconstruct_images(network: PretrainedNetwork, images: Tensor, mask: Tensor) -> Reconstructions:
    """Return what the network makes of images under a mask.

    Where the network predicts standardised patches, the prediction is scaled back by the mean and deviation of each
    patch of the original; colour and contrast of a patch are then not its own work.

    Args:
        network: from :func:`load_pretrained`.
        images: (B, 3, H, W) uint8, of the network's image size.
        mask: (B, N) bool, True = hidden; at least one per image.
    """
    model, patch, grid = network.model, network.model.patch, network.model.grid
    whole = normalise(images.to(network.device))
    mask = mask.to(network.device)
    prediction = model(whole, mask).float()
    targets = network.normalised_targets
    losses = [
        reconstruction_loss(prediction[one], whole[one], mask[one], patch, normalise_targets=targets)
        for one in (slice(index, index + 1) for index in range(len(whole)))
    ]
    if targets:
        prediction = _in_original_units(prediction, whole, grid, patch)
    hidden = mask_to_pixels(mask, grid, patch)[:, None]
    return Reconstructions(
        original=_to_colours(whole),
        masked=_to_colours(hide(whole, mask, patch)),
        painted=_to_colours(prediction),
        combined=_to_colours(torch.where(hidden, prediction, whole)),
        mask=mask.cpu(),
        losses=torch.stack(losses).cpu(),
    )


def draw_reconstructions(
    run: Path | str,
    images: Sequence[Path | str],
    out: Path | str,
    *,
    count: int = 8,
    seed: int = 0,
    mask_ratio: float | None = None,
    device: str = "auto",
    title: str = "",
) -> Path:
    """Draw panels of original, masked image, reconstruction and both combined, one row per image.

    The masked image is what the network was given, with the very mask it was given. Beside the picture, ``out`` with
    the ending ``.json``, stands: ``checkpoint``, ``mask_ratio``, ``seed``, ``patch``, ``grid``, ``normalised_targets``,
    and for each image its ``path``, ``loss`` and ``hidden``, the numbers of the hidden patches, row by row.

    Args:
        run: run folder of ``prsnet pretrain``, or a checkpoint file.
        images: image files and folders of images.
        out: the ``.png`` file.
        count: images to show; of more, that many are drawn by the seed.
        seed: of masks and choice.
        mask_ratio: share of the patches to hide; the training's when not given.
        device: auto, cpu, cuda or cuda:N.
        title: a line above everything.

    Returns:
        The path of the picture.

    Raises:
        CheckpointError: no usable network. DataError: no readable images. InputError: a count or ratio out of range.
    """
    if not 1 <= count <= MOST_IMAGES:
        raise InputError(f"count: expected 1 to {MOST_IMAGES} images, got {count}", hint="a sheet has to be looked at")
    network = load_pretrained(run, device=device)
    grid = network.model.grid
    ratio = network.mask_ratio if mask_ratio is None else mask_ratio
    if not hidden_count(grid[0] * grid[1], ratio) >= 1:
        raise InputError(f"mask ratio {ratio}: hides none of {grid[0] * grid[1]} patches", hint="use a larger one")
    paths = choose_images(images, count, seed=seed)
    pixels = torch.from_numpy(load_stack(paths, network.model.image_size, workers=1))
    mask = random_mask(len(paths), grid, ratio, generator=torch_stream(seed, "reconstruction-mask"))
    found = reconstruct_images(network, pixels, mask)
    draw_sheet(_rows(found, paths), out, headings=HEADINGS, title=title, note=NOTE, box=(256, 144))
    facts = {
        "checkpoint": str(network.source),
        "mask_ratio": ratio,
        "seed": seed,
        "patch": list(network.model.patch),
        "grid": list(grid),
        "normalised_targets": network.normalised_targets,
    }
    write_beside(out, {"title": title, **facts, "images": _described(found, paths)})
    return Path(out)


def choose_images(images: Sequence[Path | str], count: int, *, seed: int) -> list[Path]:
    """Return the image files that are named or lie in the folders named; of more than ``count``, a random choice.

    Raises:
        DataError: there is none.
    """
    found = [path for given in images for path in (list_images(given) if Path(given).is_dir() else [Path(given)])]
    found = list(dict.fromkeys(found))
    if not found:
        named = ", ".join(str(given) for given in images) or "nothing"
        raise DataError(f"no images to reconstruct in {named}", hint="give image files or folders of images")
    if len(found) <= count:
        return found
    chosen = numpy_stream(seed, "reconstruction-images").choice(len(found), size=count, replace=False)
    return [found[index] for index in sorted(chosen)]


def _rows(found: Reconstructions, paths: Sequence[Path]) -> list[list[Cell]]:
    shares = found.mask.float().mean(dim=1)
    rows = []
    for index, path in enumerate(paths):
        below = ((path.name,), (f"{shares[index]:.0%} hidden",), (f"loss {found.losses[index]:.3f}",), ())
        pictures = (found.original, found.masked, found.painted, found.combined)
        rows.append([Cell(_pixels(p[index]), lines) for p, lines in zip(pictures, below, strict=True)])
    return rows


def _described(found: Reconstructions, paths: Sequence[Path]) -> list[Mapping[str, Any]]:
    return [
        {"path": str(path), "loss": float(found.losses[i]), "hidden": found.mask[i].nonzero()[:, 0].tolist()}
        for i, path in enumerate(paths)
    ]


def _in_original_units(prediction: Tensor, whole: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Undo the standardisation of the targets, patch by patch."""
    target = patchify(whole, patch)
    mean, variance = target.mean(dim=2, keepdim=True), target.var(dim=2, keepdim=True)
    return unpatchify(patchify(prediction, patch) * (variance + TARGET_EPS).sqrt() + mean, grid, patch)


def _to_colours(images: Tensor) -> Tensor:
    """Return normalised images (B, 3, H, W) as colours in 0..1 on the CPU."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (images * std + mean).clamp(0, 1).cpu()


def _pixels(image: Tensor) -> Pixels:
    """Return one picture (3, H, W) in 0..1 as (H, W, 3) uint8."""
    pixels: Pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels

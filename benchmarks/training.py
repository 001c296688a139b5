"""Images per second of both training steps, beside this machine's matrix product and a naive reading of the method.

    .venv/bin/python benchmarks/training.py --presets pico nano --out training.json

The naive reading does what the formulas say, one after the other: decode every image in every step, augment it by
itself, pass raw and masked images one after the other, apply the 1x1 convolution to the whole map and average after.
Both sides compute the same losses with the same network in the same run, so their ratio is what the order of work buys.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from prsnet.data.augment import apply_crops, apply_training, draw_crops, draw_training, take_rows
from prsnet.data.loaders import ImageStore
from prsnet.data.synthetic import write_dataset
from prsnet.losses.centroid import centroid_triplet
from prsnet.losses.identity import identity_loss
from prsnet.losses.triplet import batch_hard_triplet
from prsnet.models.autoencoder import reconstruction_loss
from prsnet.models.encoder import MapEncoder
from prsnet.models.masking import hide, patch_grid, random_mask
from prsnet.models.presets import build_autoencoder, build_reid, resolve
from prsnet.models.reid import ReidModel
from prsnet.rng import torch_stream

IDENTITIES, INSTANCES = 16, 4
BATCH = IDENTITIES * INSTANCES


def matrix_product_rate(size: int = 2048, repeats: int = 5) -> float:
    """Return this machine's multiply-adds per second, times two, in a float32 matrix product."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / median_time(lambda: left @ right, repeats)


def median_time(step: Callable[[], Any], repeats: int) -> float:
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def pretrain_step(preset: str, store: ImageStore, *, naive: bool) -> Callable[[], Tensor]:
    shape = resolve(preset)
    network = build_autoencoder(shape, torch_stream(0, "weights")).train()
    rows = np.arange(BATCH, dtype=np.int64)

    def step() -> Tensor:
        generator = torch_stream(0, "step")
        crops = draw_crops(BATCH, generator=generator)
        mask = random_mask(BATCH, network.grid, 0.75, generator=generator)
        if naive:
            singles = [torch.tensor([row]) for row in range(BATCH)]
            images = torch.cat(
                [apply_crops(store.take(rows[i : i + 1]), take_rows(crops, r)) for i, r in enumerate(singles)]
            )
        else:
            images = apply_crops(store.take(rows), crops)
        loss = reconstruction_loss(network(images, mask), images, mask, network.patch)
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return step


def train_step(preset: str, store: ImageStore, *, naive: bool) -> Callable[[], Tensor]:
    shape = resolve(preset)
    network = build_reid(shape, IDENTITIES, torch_stream(0, "weights")).train()
    rows = np.arange(BATCH, dtype=np.int64)
    pids = torch.arange(IDENTITIES).repeat_interleave(INSTANCES)
    valid = torch.ones(BATCH, dtype=torch.bool)
    grid = patch_grid(shape.image_size, shape.patch)

    def step() -> Tensor:
        generator = torch_stream(0, "step")
        draw = draw_training(BATCH, shape.image_size, generator=generator)
        mask = random_mask(BATCH, grid, 0.75, generator=generator)
        if naive:
            singles = [torch.tensor([row]) for row in range(BATCH)]
            images = torch.cat(
                [apply_training(store.take(rows[i : i + 1]), take_rows(draw, r)) for i, r in enumerate(singles)]
            )
            raw, masked = naive_features(network, images), naive_features(network, hide(images, mask, network.patch))
        else:
            raw, both = network(apply_training(store.take(rows), draw), mask)
            assert both is not None
            masked = both
        loss = (
            identity_loss(network.logits(raw), pids, valid)
            + batch_hard_triplet(raw, pids, valid)
            + centroid_triplet(raw, masked, pids, valid, instances=INSTANCES)
        )
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return step


def naive_features(network: ReidModel, images: Tensor) -> Tensor:
    """Return the features by the letter: the 1x1 convolution on the last map, then the average."""
    assert isinstance(network.encoder, MapEncoder)
    last = network.encoder(images)
    return functional.conv2d(last, network.projection.weight[:, :, None, None]).mean(dim=(2, 3))


def step_flops(preset: str, name: str) -> int:
    """Return the floating-point operations of a step: three times those of the forward pass.

    The backward pass has two products of the size of each one in the forward pass. It is not counted itself, since
    torch's counter takes the gradient of a depthwise convolution for that of a full one.
    """
    shape = resolve(preset)
    images = torch.zeros(BATCH, 3, *shape.image_size)
    mask = random_mask(BATCH, patch_grid(shape.image_size, shape.patch), 0.75, generator=torch_stream(0, "mask"))
    generator = torch_stream(0, "weights")
    network: torch.nn.Module = build_autoencoder(shape, generator)
    if name == "train":
        network = build_reid(shape, IDENTITIES, generator)
    with FlopCounterMode(display=False) as counter:
        network(images, mask)
    return 3 * int(counter.get_total_flops())


def measure(preset: str, files: list[Path], product: float, repeats: int) -> dict[str, Any]:
    size = resolve(preset).image_size
    decoded, on_demand = ImageStore(files, size), ImageStore(files, size, memory=0, workers=1)
    row: dict[str, Any] = {"preset": preset}
    for name, make in (("pretrain", pretrain_step), ("train", train_step)):
        ours, naive = make(preset, decoded, naive=False), make(preset, on_demand, naive=True)
        torch.testing.assert_close(ours(), naive(), rtol=1e-3, atol=1e-3)
        flops = step_flops(preset, name)
        seconds, naive_seconds = median_time(ours, repeats), median_time(naive, repeats)
        row[name] = {
            "images_per_second": BATCH / seconds,
            "share_of_matrix_product": flops / seconds / product,
            "times_naive": naive_seconds / seconds,
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["pico", "nano"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    product = matrix_product_rate()
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "people", identities=32, cameras=2, images_per_camera=2, seed=0)
        files = sorted(Path(folder).rglob("*.[jp][pn]g"))[:BATCH]
        rows = [measure(preset, files, product, options.repeats) for preset in options.presets]
    print(f"{torch.get_num_threads()} threads, matrix product {product / 1e9:.0f} GFLOP/s, batch {BATCH}")
    print(f"{'preset':<12}{'step':<10}{'images/s':>10}{'of product':>12}{'x naive':>9}")
    for row in rows:
        for name in ("pretrain", "train"):
            figures = row[name]
            print(
                f"{row['preset']:<12}{name:<10}{figures['images_per_second']:>10.1f}"
                f"{figures['share_of_matrix_product']:>11.0%} {figures['times_naive']:>8.2f}"
            )
    if options.out:
        result = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "matrix_product_flops": product,
            "rows": rows,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

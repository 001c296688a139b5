"""Time and peak memory of checking, pooling and packing many images; batches from a pack beside the usual pipeline.

    python benchmarks/data.py --images 100000 --folder bench-data --out data.json

The images are generated (128 x 64 JPEG, soft random shapes), one in fifty a copy of another. The usual pipeline is
torch's DataLoader over a dataset that opens, resizes and normalises each image by PIL, with as many worker processes as
there are processors. Both ways give the same batches of normalised float32 images; times are taken in turn, the best of
each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from prsnet.data.augment import normalise
from prsnet.data.check import check_dataset
from prsnet.data.check_findings import files_of
from prsnet.data.images import MEAN, STD
from prsnet.data.layouts import load_images_only
from prsnet.data.loaders import ImageStore
from prsnet.data.pack import pack_dataset
from prsnet.data.pool import make_pool, write_pool
from prsnet.data.scan import scan_images
from prsnet.rng import numpy_stream

BATCH = 64
COPY_EVERY = 50


def generate(folder: Path, images: int) -> None:
    """Write the images that are not there yet, a thousand to a folder."""
    starts = range(0, images, 1000)
    with ProcessPoolExecutor() as pool:
        list(pool.map(generate_some, [folder] * len(starts), starts, [min(images, s + 1000) for s in starts]))


def generate_some(folder: Path, start: int, stop: int) -> None:
    place = folder / f"{start // 1000:04d}"
    place.mkdir(parents=True, exist_ok=True)
    for number in range(start, stop):
        file = place / f"{number:07d}.jpg"
        if not file.exists():
            seed = number - 1 if number % COPY_EVERY == COPY_EVERY - 1 else number
            coarse = numpy_stream(0, "bench", seed).integers(0, 256, (10, 5, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((64, 128), Image.Resampling.BICUBIC).save(file, quality=92)


class UsualDataset(Dataset[torch.Tensor]):
    """What most training code does for every image of every batch."""

    def __init__(self, paths: list[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        image = Image.open(self.paths[row]).convert("RGB").resize(self.size[::-1], Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def usual_epoch(paths: list[Path], size: tuple[int, int]) -> float:
    loader = DataLoader(UsualDataset(paths, size), BATCH, shuffle=True, num_workers=os.cpu_count() or 1, drop_last=True)
    started = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - started


def our_epoch(paths: list[Path], size: tuple[int, int], seed: int) -> float:
    started = time.perf_counter()
    store = ImageStore(paths, size, workers=os.cpu_count() or 1)
    order = numpy_stream(seed, "bench-order").permutation(len(paths))
    plan = [order[start : start + BATCH] for start in range(0, len(order) - BATCH + 1, BATCH)]
    for images in store.in_order(plan):
        normalise(images)
    return time.perf_counter() - started


def stage(name: str, work: Callable[[], Any], result: dict[str, Any], images: int) -> Any:
    started, spent = time.perf_counter(), time.process_time()
    value = work()
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result[name] = {"seconds": round(seconds, 1), "processor_seconds": round(spent, 1), "peak_bytes": peak}
    print(f"{name:<8} {seconds:8.1f} s ({spent:.1f} s of processor)   peak so far {peak / 1e9:.2f} GB", flush=True)
    return value


def measure(folder: Path, images: int, loader_images: int, size: tuple[int, int]) -> dict[str, Any]:
    generate(folder / "images", images)
    result: dict[str, Any] = {"images": images, "size": size, "cores": os.cpu_count(), "platform": platform.platform()}
    dataset = stage("list", lambda: load_images_only(folder / "images", layout="images"), result, images)
    scan = stage("scan", lambda: scan_images(files_of(dataset)), result, images)
    check = stage("check", lambda: check_dataset(dataset, scan), result, images)
    result["found"] = [finding.message[:120] for finding in check.findings]
    pool = stage("pool", lambda: make_pool([dataset]), result, images)
    write_pool(pool, folder / "pool.json")
    result["in_pool"] = len(pool.images)
    few = load_images_only(folder / "pool.json")
    stage("pack", lambda: pack_dataset(few, folder / "bench.pack", size), result, len(few.train))
    started = time.perf_counter()
    packed = [record.path for record in load_images_only(folder / "bench.pack").train]
    ImageStore(packed, size).take(np.arange(BATCH))
    result["seconds_to_first_batch"] = round(time.perf_counter() - started, 3)
    files = [record.path for record in few.train[:loader_images]]
    turns = [(usual_epoch(files, size), our_epoch(packed[:loader_images], size, turn)) for turn in range(3)]
    usual, ours = (min(times) for times in zip(*turns, strict=True))
    result["loader"] = {"usual_seconds": usual, "pack_seconds": ours, "ratio": usual / ours, "images": len(files)}
    print(f"first batch after {result['seconds_to_first_batch']} s; loader {usual / ours:.1f} times the usual pipeline")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--loader-images", type=int, default=6_400)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--folder", type=Path, default=Path("bench-data"))
    parser.add_argument("--keep", action="store_true", help="keep the generated images")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = measure(options.folder, options.images, options.loader_images, tuple(options.size))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()

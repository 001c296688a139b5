"""Time and peak memory of evaluation beside the matrix product alone and beside the usual way (a sort of every row).

    python benchmarks/evaluation.py --size market --out evaluation.json

Embeddings are generated: sizes, identities and cameras of Market-1501 and MSMT17, easy and hard to tell apart. The
product is timed in the same process, in turn with the stages. On a busy machine one thread and the processor's seconds
tell more than the clock.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prsnet.metrics.centroids import centroid_report
from prsnet.metrics.inputs import spans
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.single_gallery_shot import single_gallery_shot
from prsnet.metrics.verification import verification_report
from prsnet.rng import numpy_stream
from prsnet.types import Embeddings

WIDTH = 768
NOISE = {"easy": 2.0, "hard": 5.0}
USUAL_LIMIT = 4 << 30
"""Bytes that the usual way may take to be tried at all."""


@dataclass(frozen=True)
class Size:
    """What a benchmark dataset's test half looks like; distractors are part of the gallery."""

    queries: int
    gallery: int
    identities: int
    distractors: int
    cameras: int


SIZES = {
    "small": Size(400, 2000, 90, 300, 6),
    "market": Size(3368, 15913, 750, 2798, 6),
    "msmt17": Size(11659, 82161, 3060, 0, 15),
}


def synthetic_embeddings(size: Size, noise: float, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """Return query and gallery: a centre per identity (distractors have none), a shift per camera, noise per image."""
    generator = numpy_stream(seed, "benchmark", size.gallery)
    centres = generator.standard_normal((size.identities + 1, WIDTH), dtype=np.float32)
    shifts = 0.5 * generator.standard_normal((size.cameras + 1, WIDTH), dtype=np.float32)
    # Identities have unequal numbers of images, as real ones do.
    popularity = generator.gamma(3.0, size=size.identities)
    popularity /= popularity.sum()

    def side(count: int, distractors: int) -> Embeddings:
        named = generator.choice(size.identities, count - distractors, p=popularity) + 1
        pids = np.concatenate([named, np.zeros(distractors, dtype=np.int64)])
        camids = generator.integers(1, size.cameras + 1, count)
        vectors = generator.standard_normal((count, WIDTH), dtype=np.float32)
        vectors *= noise
        for start, stop in spans(count, 4096):
            vectors[start:stop] += shifts[camids[start:stop]]
            vectors[start:stop] += centres[pids[start:stop]] * (pids[start:stop, None] > 0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, pids, camids)

    return side(size.queries, 0), side(size.gallery, size.distractors)


def product_alone(query: Embeddings, gallery: Embeddings) -> None:
    """Compute every similarity and keep none: in one piece if that fits, else in blocks of queries."""
    a, b = torch.from_numpy(query.vectors), torch.from_numpy(gallery.vectors)
    block = len(a) if len(a) * len(b) < 1 << 26 else 512
    for start, stop in spans(len(a), block):
        torch.mm(a[start:stop], b.T)


def usual_way(query: Embeddings, gallery: Embeddings) -> float:
    """Return the mAP the way most toolkits compute it: all distances, a sort of every row, a loop over the queries."""
    order = np.argsort(-(query.vectors @ gallery.vectors.T), axis=1)
    precisions = []
    for row, columns in enumerate(order):
        same = gallery.pids[columns] == query.pids[row]
        kept = ~(same & (gallery.camids[columns] == query.camids[row]))
        matches = same[kept]
        if matches.any():
            ranks = np.flatnonzero(matches) + 1
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return float(np.mean(precisions))


def status(field: str) -> int | None:
    """Return a field of this process's status in bytes, None where the system has no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def measure(work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Return seconds, processor seconds, peak bytes above what the process held before, and the result of ``work``."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    before = status("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    result = work()
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = status("VmHWM")
    known = before is not None and peak is not None
    return {"seconds": seconds, "cpu_seconds": busy, "peak_bytes": peak - before if known else None}, result


def stages(query: Embeddings, gallery: Embeddings, usual: bool) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name."""
    work: dict[str, Callable[[], Any]] = {
        "product": lambda: product_alone(query, gallery),
        "ranking": lambda: rank_report(query, gallery),
        "ranking, camera pairs": lambda: rank_report(query, gallery, camera_pairs=True),
        "verification": lambda: verification_report(query, gallery),
        "centroids": lambda: centroid_report(query, gallery),
        "single gallery shot": lambda: single_gallery_shot(query, gallery, generator=numpy_stream(0, "draws")),
    }
    if usual:
        work["usual way"] = lambda: usual_way(query, gallery)
    return work


def run(size: Size, difficulty: str, repeats: int, chosen: list[str] | None) -> dict[str, Any]:
    """Measure every stage ``repeats`` times in turn and keep the best time and the highest peak of each."""
    query, gallery = synthetic_embeddings(size, NOISE[difficulty])
    usual = size.queries * size.gallery * 16 < USUAL_LIMIT
    work = {name: step for name, step in stages(query, gallery, usual).items() if not chosen or name in chosen}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name, step in work.items():
            now, result = measure(step)
            best = found.setdefault(name, now)
            best["seconds"] = min(best["seconds"], now["seconds"])
            best["cpu_seconds"] = min(best["cpu_seconds"], now["cpu_seconds"])
            best["peak_bytes"] = max(best["peak_bytes"], now["peak_bytes"]) if best["peak_bytes"] is not None else None
            best["map"] = getattr(result, "map", result if isinstance(result, float) else None)
    for best in found.values():
        best["product_ratio"] = best["seconds"] / found["product"]["seconds"]
        best["product_cpu_ratio"] = best["cpu_seconds"] / found["product"]["cpu_seconds"]
    return {
        "difficulty": difficulty,
        "embeddings_bytes": query.vectors.nbytes + gallery.vectors.nbytes,
        "stages": found,
    }


def print_table(size: str, result: dict[str, Any]) -> None:
    print(f"\n{size}, {result['difficulty']} ({result['embeddings_bytes'] / 2**20:.0f} MB of embeddings)")
    print(f"{'stage':<24}{'seconds':>10}{'x product':>11}{'cpu s':>10}{'x product':>11}{'peak MB':>10}{'mAP':>9}")
    for name, best in result["stages"].items():
        peak = "-" if best["peak_bytes"] is None else f"{best['peak_bytes'] / 2**20:.0f}"
        figure = "-" if best["map"] is None else f"{best['map']:.4f}"
        times = f"{best['seconds']:>10.2f}{best['product_ratio']:>11.2f}"
        busy = f"{best['cpu_seconds']:>10.2f}{best['product_cpu_ratio']:>11.2f}"
        print(f"{name:<24}{times}{busy}{peak:>10}{figure:>9}")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": load,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--difficulty", choices=NOISE, nargs="+", default=list(NOISE))
    parser.add_argument("--stages", nargs="+", help="only these, and the product; all of them if left out")
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    chosen = ["product", *args.stages] if args.stages else None
    facts = {"size": args.size, "width": WIDTH, "machine": machine(), "runs": []}
    for difficulty in args.difficulty:
        result = run(SIZES[args.size], difficulty, args.repeats, chosen)
        print_table(args.size, result)
        facts["runs"].append(result)
    if args.out:
        args.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

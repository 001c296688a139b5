"""Time, disk and memory of the gallery: adding, opening, searching, deleting.

    python benchmarks/gallery.py --sightings 100000 --width 512 --folder bench-gallery --out gallery.json

Vectors are random unit vectors around as many random directions as there are identities of twenty sightings; no crops.
Searches are single queries for the ten most similar. The matrix product alone (one query times all vectors, in single
precision) is timed beside them: no exact search is quicker. Every answer is compared with a sort in double precision.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.types import ModelIdentity

Floats = npt.NDArray[np.float32]


def people(generator: np.random.Generator, count: int, width: int) -> Floats:
    """Return (count, width) unit vectors, twenty around each direction."""
    centres = generator.normal(size=(-(-count // 20), width)).astype(np.float32)
    vectors = np.repeat(centres, 20, axis=0)[:count] + generator.normal(size=(count, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def percentiles(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def fill(gallery: Gallery, vectors: Floats, batch: int) -> float:
    sightings = [NewSighting(pid=row // 20 + 1, camid=row % 6, source=f"video {row % 50}") for row in range(batch)]
    return seconds(
        lambda: [
            gallery.add(part, sightings[: len(part)], model=gallery.model)
            for part in (vectors[start : start + batch] for start in range(0, len(vectors), batch))
        ]
    )


def search_times(gallery: Gallery, vectors: Floats, queries: Floats, **asked: Any) -> tuple[list[float], int]:
    """Return the time of each query, and for how many the answer differs from a sort in double precision."""
    times, wrong = [], 0
    for query in queries:
        start = time.perf_counter()
        (hits,) = gallery.search(query[None], model=gallery.model, **asked)
        times.append(time.perf_counter() - start)
        if not asked:
            near = np.argpartition(-(vectors @ query), 100)[:100]
            truth = vectors[near].astype(np.float64) @ query.astype(np.float64)
            best = near[np.lexsort((near, -truth))][:10]
            wrong += [int(hit.id) - 1 for hit in hits] != best.tolist()
    return times, wrong


def measure(folder: Path, sightings: int, width: int, queries: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    vectors, asked = people(generator, sightings, width), people(generator, queries, width)
    model = ModelIdentity("0" * 64, "benchmark", width)
    shutil.rmtree(folder, ignore_errors=True)
    with Gallery.create(folder, model) as gallery:
        adding = fill(gallery, vectors, 1000)
    before = resident_bytes()
    with Gallery.open(folder) as gallery:
        opening = seconds(lambda: gallery.search(asked[:1], model=model))
        product = [seconds(lambda q=q: vectors @ q) for q in asked]  # type: ignore[misc]
        plain, wrong = search_times(gallery, vectors, asked)
        memory = resident_bytes() - before
        where = SightingFilter(cameras=(3,))
        filtered, _ = search_times(gallery, vectors, asked, where=where)
        grouped, _ = search_times(gallery, vectors, asked, one_per="pid")
        one = [NewSighting()]
        single = [seconds(lambda: gallery.add(vectors[:1], one, model=model)) for _ in range(50)]
        disk = gallery.stats().bytes
        deleting = seconds(lambda: gallery.delete(SightingFilter(ids=("17",))))
    return {
        "sightings": sightings,
        "width": width,
        "add_per_s": round(sightings / adding),
        "add_one": percentiles(single),
        "open_and_first_search_s": round(opening, 2),
        "search": percentiles(plain),
        "search_one_camera_of_six": percentiles(filtered),
        "search_one_per_pid": percentiles(grouped),
        "matrix_product": percentiles(product),
        "answers_that_differ": wrong,
        "delete_one_s": round(deleting, 2),
        "disk_mib": round(disk / 2**20),
        "vectors_mib": round(vectors.nbytes / 2**20),
        "memory_mib": round(memory / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sightings", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("bench-gallery"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = []
    for sightings in options.sightings:
        results.append(measure(options.folder, sightings, options.width, options.queries))
        print(json.dumps(results[-1], indent=2), flush=True)
    shutil.rmtree(options.folder, ignore_errors=True)
    if options.out:
        machine = {"processor": platform.processor(), "python": platform.python_version(), "numpy": np.__version__}
        options.out.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Time and peak memory of re-ranking, stage by stage, beside the usual dense way.

    python benchmarks/reranking.py --size market --dense --out reranking.json

The dense way is k-reciprocal encoding (Zhong et al., CVPR 2017) as toolkits run it: full matrices over queries and
gallery together, a full sort, a loop over images. Agreement is checked in float64, where no two neighbours change
places by rounding, on the first images of the same embeddings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evaluation import NOISE, SIZES, WIDTH, machine, measure, product_alone, synthetic_embeddings
from prsnet.metrics.expansion import Expansion
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.rerank import KReciprocal
from prsnet.types import Embeddings

Floats = npt.NDArray[np.floating[Any]]


def dense_k_reciprocal(query: Floats, gallery: Floats, k1: int = 20, k2: int = 6, weight: float = 0.3) -> Floats:
    """Return the (Q, G) re-ranked similarities, every intermediate a dense matrix of the inputs' type."""
    images = np.concatenate([query, gallery])
    count = len(images)
    scaled = 2 - 2 * images @ images.T
    scaled /= scaled.max(axis=1, keepdims=True)
    rank = np.argsort(scaled, axis=1).astype(np.int32)
    encoded = np.zeros_like(scaled)
    half = int(np.around(k1 / 2))
    for image in range(count):
        near = rank[image, : k1 + 1]
        core = near[(rank[near, : k1 + 1] == image).any(axis=1)]
        expanded = core
        for candidate in core:
            theirs = rank[candidate, : half + 1]
            theirs = theirs[(rank[theirs, : half + 1] == candidate).any(axis=1)]
            if len(np.intersect1d(theirs, core)) > 2 / 3 * len(theirs):
                expanded = np.append(expanded, theirs)
        expanded = np.unique(expanded)
        share = np.exp(-scaled[image, expanded])
        encoded[image, expanded] = share / share.sum()
    scaled = scaled[: len(query)]
    encoded = np.stack([encoded[rank[image, :k2]].mean(axis=0) for image in range(count)])
    holders = [np.flatnonzero(encoded[:, image]) for image in range(count)]
    final = np.empty((len(query), count), dtype=scaled.dtype)
    for row in range(len(query)):
        common = np.zeros(count, dtype=scaled.dtype)
        for image in np.flatnonzero(encoded[row]):
            common[holders[image]] += np.minimum(encoded[row, image], encoded[holders[image], image])
        final[row] = (1 - weight) * common / (2 - common) + weight * (1 - scaled[row])
    return final[:, len(query) :]


def agreement(query: Embeddings, gallery: Embeddings, queries: int, images: int) -> float:
    """Return the largest difference to the dense way on the first ``queries`` and ``images``, in float64."""
    a, b = np.asarray(query.vectors[:queries], np.float64), np.asarray(gallery.vectors[:images], np.float64)
    for side in (a, b):
        side /= np.linalg.norm(side, axis=1, keepdims=True)
    ours = KReciprocal().similarities(torch.from_numpy(a), torch.from_numpy(b)).rows(torch.arange(len(a)))
    return float(np.abs(ours.numpy() - dense_k_reciprocal(a, b)).max())


def run(size: str, difficulty: str, dense: bool) -> dict[str, Any]:
    query, gallery = synthetic_embeddings(SIZES[size], NOISE[difficulty])
    work = {
        "product": lambda: product_alone(query, gallery),
        "ranking": lambda: rank_report(query, gallery),
        "re-ranking": lambda: rank_report(query, gallery, rerank=KReciprocal()),
        "query expansion": lambda: rank_report(query, gallery, rerank=Expansion()),
        "database augmentation": lambda: rank_report(
            query, gallery, rerank=Expansion(query_neighbours=0, gallery_neighbours=10)
        ),
    }
    if dense:
        work["dense re-ranking"] = lambda: dense_k_reciprocal(query.vectors, gallery.vectors)
    found: dict[str, dict[str, Any]] = {}
    for name, step in work.items():
        now, result = measure(step)
        found[name] = {**now, "map": getattr(result, "map", None)}
        print(f"{size} {difficulty}: {name}, {now['seconds']:.1f} s", flush=True)
    difference = agreement(query, gallery, 300, 1500)
    return {"difficulty": difficulty, "stages": found, "largest_difference_to_dense": difference}


def print_table(size: str, result: dict[str, Any]) -> None:
    print(f"\n{size}, {result['difficulty']}")
    print(f"{'stage':<24}{'seconds':>10}{'cpu s':>10}{'peak MB':>10}{'mAP':>9}")
    for name, best in result["stages"].items():
        peak = "-" if best["peak_bytes"] is None else f"{best['peak_bytes'] / 2**20:.0f}"
        figure = "-" if best["map"] is None else f"{best['map']:.4f}"
        print(f"{name:<24}{best['seconds']:>10.2f}{best['cpu_seconds']:>10.2f}{peak:>10}{figure:>9}")
    print(f"largest difference to the dense way, 300 x 1500, float64: {result['largest_difference_to_dense']:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--difficulty", choices=NOISE, nargs="+", default=["easy"])
    parser.add_argument("--dense", action="store_true", help="also the dense way: about 10 GB at Market-1501's size")
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    facts = {"size": args.size, "width": WIDTH, "machine": machine(), "runs": []}
    for difficulty in args.difficulty:
        result = run(args.size, difficulty, args.dense)
        print_table(args.size, result)
        facts["runs"].append(result)
    if args.out:
        args.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

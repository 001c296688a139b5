"""The ablation on a dataset: losses from scratch, and the method from its pre-training, over several seeds.

    .venv/bin/python benchmarks/ablation.py DATA --out ablation --preset nano --seeds 0 1 2 --jobs 2

Every cell is made by the same commands that a user types; they are printed and kept in commands.txt. A seed decides the
split into halves (for layouts without one), the initial weights and everything else random. Cells that are done are not
done again, so a stopped ablation goes on. Results: results.json, results.csv and a table of means and deviations.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FIGURES = ("map", "rank1", "minp")


@dataclass(frozen=True)
class Cell:
    """One row of the table: a loss, and whether the encoder was pre-trained."""

    name: str
    loss: str
    pretrained: bool


CELLS = (
    Cell("scratch, ID + triplet", "triplet", False),
    Cell("scratch, CTL", "ctl", False),
    Cell("scratch, MCTL", "mctl", False),
    Cell("masked pre-training, ID + triplet", "triplet", True),
    Cell("masked pre-training, MCTL", "mctl", True),
)


def prsnet(options: argparse.Namespace, log: Path, *arguments: str) -> None:
    """Run one command; its output goes to a file, its line to commands.txt."""
    command = [sys.executable, "-m", "prsnet", *arguments]
    line = shlex.join(["prsnet", *arguments])
    print(line, flush=True)
    with (options.out / "commands.txt").open("a") as file:
        file.write(line + "\n")
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    with log.open("a") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT, env=environment)


def pretrain(options: argparse.Namespace, seed: int) -> None:
    run = options.out / f"pretrain-{seed}"
    if (run / "checkpoints" / "done").exists():
        return
    common = ("--preset", options.preset, "--seed", str(seed), "--split-seed", str(seed), "--resume", "--quiet")
    extra = shlex.split(options.pretrain_options)
    prsnet(options, options.out / f"pretrain-{seed}.log", "pretrain", options.data, *common, "--out", str(run), *extra)
    (run / "checkpoints" / "done").touch()


def train(options: argparse.Namespace, cell: Cell, seed: int) -> None:
    name = f"{cell.loss}-{'pretrained' if cell.pretrained else 'scratch'}-{seed}"
    run, report = options.out / name, options.out / f"{name}.json"
    if report.exists():
        return
    common = ("--preset", options.preset, "--seed", str(seed), "--split-seed", str(seed), "--resume", "--quiet")
    init = ("--init", str(options.out / f"pretrain-{seed}")) if cell.pretrained else ()
    extra = shlex.split(options.train_options)
    log = options.out / f"{name}.log"
    prsnet(options, log, "train", options.data, "--loss", cell.loss, *init, *common, "--out", str(run), *extra)
    prsnet(options, log, "evaluate", str(run), options.data, "--out", str(report))


def figures(options: argparse.Namespace, cell: Cell, seed: int) -> dict[str, float]:
    name = f"{cell.loss}-{'pretrained' if cell.pretrained else 'scratch'}-{seed}"
    report = json.loads((options.out / f"{name}.json").read_text())
    return {"map": 100 * report["map"], "rank1": 100 * report["cmc"]["1"], "minp": 100 * report["minp"]}


def summarise(options: argparse.Namespace, cells: list[Cell]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for cell in cells:
        measured = [figures(options, cell, seed) for seed in options.seeds]
        row: dict[str, object] = {"cell": cell.name, "seeds": len(measured)}
        for name in FIGURES:
            values = [one[name] for one in measured]
            row[name] = statistics.mean(values)
            row[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else 0.0
            row[f"{name}_values"] = values
        rows.append(row)
    return rows


def write(options: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    (options.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (options.out / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["cell", "seeds", *(f"{f}{s}" for f in FIGURES for s in ("", "_deviation"))])
        for row in rows:
            table.writerow([row["cell"], row["seeds"], *(row[f"{f}{s}"] for f in FIGURES for s in ("", "_deviation"))])
    print(f"\n{'':<36}{'mAP':>14}{'Rank-1':>14}{'mINP':>14}")
    for row in rows:
        shown = "".join(f"{row[f]:>8.1f} ± {row[f'{f}_deviation']:<4.1f}" for f in FIGURES)
        print(f"{row['cell']:<36}{shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads per run")
    parser.add_argument("--pretrain-options", default="", help="further flags of every `prsnet pretrain`")
    parser.add_argument("--train-options", default="", help="further flags of every `prsnet train`")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda seed: pretrain(options, seed), options.seeds))
        list(pool.map(lambda job: train(options, *job), [(cell, seed) for seed in options.seeds for cell in CELLS]))
    write(options, summarise(options, list(CELLS)))


if __name__ == "__main__":
    main()

"""The verb ``evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prsnet.cli.options import EvaluateConfig
from prsnet.files import require_writable, write_json

if TYPE_CHECKING:
    from prsnet.evaluation import Evaluation


def evaluate(config: EvaluateConfig) -> None:
    """Run ``prsnet evaluate``: the table on standard output, the JSON where asked for."""
    from prsnet.evaluation import evaluate as measure

    if config.out is not None:
        require_writable(config.out)
    result = measure(
        config.run,
        config.data,
        ranks=config.ranks,
        flip=config.flip,
        camera_filter=config.camera_filter,
        layout=config.layout,
        split_seed=config.split_seed,
        batch_size=config.batch_size,
        workers=config.workers,
        device=config.device,
    )
    print(table(result))
    if config.out is not None:
        write_json(config.out, result.to_dict())
        print(f"report: {config.out}")


def table(result: Evaluation) -> str:
    """Return the figures as text: percentages, the protocol, and what was left out."""
    report, facts = result.report, result.facts
    cmc = {f"Rank-{rank}": share for rank, share in sorted(report.cmc.items())}
    columns = {"mAP": report.map, **cmc, "mINP": report.minp}
    skipped = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items() if count) or "none"
    seed = facts["data"].get("split_seed")
    lines = [
        f"dataset   {facts['dataset']}" + ("" if seed is None else f" (split seed {seed})"),
        f"protocol  {report.protocol}",
        f"queries   {report.queries} counted, left out: {skipped}; gallery {report.gallery} images",
        *(f"note      {warning}" for warning in result.warnings),
        *([f"WARNING   {facts['transductive']}"] if facts["transductive"] else []),
        "",
        "  ".join(f"{name:>7}" for name in columns),
        "  ".join(f"{100 * value:7.2f}" for value in columns.values()),
    ]
    return "\n".join(lines)

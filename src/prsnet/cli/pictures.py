"""The verbs ``reconstruct`` and ``ranks``."""

from __future__ import annotations

from pathlib import Path

from prsnet.cli.picture_options import RanksConfig, ReconstructConfig
from prsnet.files import require_writable


def reconstruct(config: ReconstructConfig) -> None:
    """Run ``prsnet reconstruct``: the picture, and the losses on standard output."""
    require_writable(config.out)
    from prsnet.figures import draw_reconstructions

    path = draw_reconstructions(
        config.run,
        config.images,
        config.out,
        count=config.count,
        seed=config.seed,
        mask_ratio=config.mask_ratio,
        device=config.device,
        title=config.title,
    )
    print(f"picture: {path}\ndata: {path.with_suffix('.json')}")


def ranks(config: RanksConfig) -> None:
    """Run ``prsnet ranks``: the pictures, and their number on standard output."""
    out = Path(config.out)
    is_sheet = out.suffix.lower() == ".png"
    require_writable(out if is_sheet else out / "name.png")
    from prsnet.evaluation import evaluate
    from prsnet.figures import choose_queries, draw_ranks, rank_lists

    result = evaluate(
        config.run,
        config.data,
        flip=config.flip,
        camera_filter=config.camera_filter,
        layout=config.layout,
        split_seed=config.split_seed,
        batch_size=config.batch_size,
        workers=config.workers,
        device=config.device,
    )
    rows = choose_queries(result.report, config.queries, worst=config.worst, seed=config.seed)
    lists = rank_lists(
        result.query, result.gallery, rows, count=config.answers, exclude_same_camera=config.camera_filter
    )
    names = ("model", "dataset", "flip", "transductive")
    facts = {**{name: result.facts[name] for name in names}, "protocol": result.report.protocol}
    pictures = draw_ranks(lists, result.query, result.gallery, out, title=config.title, facts=facts)
    print(f"{len(lists)} queries, mAP of all {result.report.queries}: {100 * result.report.map:.2f}")
    print(f"picture: {pictures[0]}" if is_sheet else f"{len(pictures)} pictures: {out}")

"""The verbs ``data check``, ``data pool`` and their kin."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from prsnet.cli.data_options import CheckConfig, CombineConfig, CropsConfig, PackConfig, PoolConfig
from prsnet.cli.progress import progress_bar
from prsnet.errors import DataError
from prsnet.files import require_writable, write_json, write_text

if TYPE_CHECKING:
    from prsnet.types import Dataset


def check(config: CheckConfig) -> None:
    """Run ``prsnet data check``: the report on standard output, as JSON and HTML where asked for.

    Raises:
        DataError: the verdict is "not usable", which makes the exit code 2.
    """
    from prsnet.data.check import check_dataset
    from prsnet.data.check_findings import files_of
    from prsnet.data.check_page import check_page
    from prsnet.data.check_text import check_text
    from prsnet.data.scan import scan_images

    for file in (config.out, config.html):
        if file is not None:
            require_writable(file)
    dataset = _dataset_or_images(config)
    with progress_bar("reading") as progress:
        scan = scan_images(files_of(dataset), workers=config.workers, progress=progress)
    result = check_dataset(dataset, scan, least_size=config.least_size, near=config.near)
    print(check_text(result))
    if config.out is not None:
        write_json(config.out, result.to_dict())
        print(f"report: {config.out}")
    if config.html is not None:
        write_text(config.html, check_page(result))
        print(f"page: {config.html}")
    if not result.passes(None if config.use == "all" else config.use):
        failed = [use for use, word in result.verdicts.items() if word == "not usable"]
        what = ", ".join(failed) if config.use == "all" else config.use
        raise DataError(f"{config.data}: not usable for {what}", hint="the findings above say why and what to do")


def _dataset_or_images(config: CheckConfig) -> Dataset:
    """Return the labelled dataset, or, where no layout fits, the tree of images."""
    from prsnet.data.layouts import load_dataset, load_images_only, recognise

    if config.layout == "images":
        return load_images_only(config.data, layout="images")
    if config.layout == "auto" and Path(config.data).is_dir():
        try:
            recognise(config.data)
        except DataError as error:
            if "no layout fits" not in error.message:
                raise
            return load_images_only(config.data, layout="images")
    return load_dataset(config.data, layout=config.layout, seed=config.split_seed)


def pool(config: PoolConfig) -> None:
    """Run ``prsnet data pool``: write the manifest, print what was taken and left out."""
    from prsnet.data.layouts import load_dataset, load_images_only
    from prsnet.data.pool import copy_pool, make_pool, pool_text, write_pool

    require_writable(config.out)
    sources = [
        load_images_only(source, layout=config.layout, seed=config.split_seed, include_test=config.include_test)
        for source in config.sources
    ]
    with progress_bar("reading") as progress:
        made = make_pool(
            sources,
            keep_out=[load_dataset(path, seed=config.split_seed) for path in config.keep_out],
            least_size=config.least_size,
            near=config.near,
            workers=config.workers,
            progress=progress,
        )
    if config.copy is not None:
        with progress_bar("copying") as progress:
            made = copy_pool(made, config.copy, progress=progress)
    write_pool(made, config.out)
    print(pool_text(made))
    print(f"pool: {config.out}")


def pack(config: PackConfig) -> None:
    """Run ``prsnet data pack``: write the file, print what is in it."""
    from prsnet.data.layouts import load_dataset, load_images_only
    from prsnet.data.pack import pack_dataset

    require_writable(config.out)
    load = load_images_only if config.unlabelled else load_dataset
    dataset = load(config.data, layout=config.layout, seed=config.split_seed)
    with progress_bar("packing") as progress:
        pack_dataset(dataset, config.out, config.image_size, workers=config.workers, progress=progress)
    counts = {"train": len(dataset.train), "query": len(dataset.query), "gallery": len(dataset.gallery)}
    height, width = config.image_size
    size = Path(config.out).stat().st_size / 1e6
    print(f"{dataset.name}: " + ", ".join(f"{count} {part}" for part, count in counts.items()) + " images")
    print(f"pack: {config.out} ({width}x{height} pixels, {size:.1f} MB)")


def crops(config: CropsConfig) -> None:
    """Run ``prsnet data crops``: write the crops and their manifest, print the counts."""
    from prsnet.data.crop_boxes import read_boxes
    from prsnet.data.crops import CropRules, crops_text, make_crops

    pictures = None if config.images is None else Path(config.images)
    kind, boxes = read_boxes(Path(config.data), config.format, images=pictures, every=config.every)
    shared = {field.name for field in dataclasses.fields(CropRules)} - {"by_identity"}
    rules = CropRules(by_identity=config.identities, **{name: getattr(config, name) for name in shared})
    with progress_bar("cropping", unit="picture") as progress:
        report = make_crops(
            boxes,
            config.out,
            rules=rules,
            source=f"{kind} {Path(config.data).resolve()}, every {config.every}",
            workers=config.workers,
            progress=progress,
        )
    print(f"{config.data}: {kind} annotations, {len(boxes)} person boxes")
    print(crops_text(report))
    print(f"folder    {config.out}")


def combine(config: CombineConfig) -> None:
    """Run ``prsnet data combine``: write the manifest, print what each source adds."""
    from prsnet.data.combine import write_combination
    from prsnet.data.layouts import LAYOUTS, load_dataset

    require_writable(config.out)
    known = {layout.name for layout in LAYOUTS}
    datasets = []
    for source in config.sources:
        layout, _, path = source.partition("=")
        named = bool(path) and layout.partition(":")[0] in known | {"auto"}
        chosen = (layout, path) if named else ("auto", source)
        datasets.append(load_dataset(chosen[1], layout=chosen[0], seed=config.split_seed))
    for facts in write_combination(datasets, config.out):
        variant = f" ({facts['variant']})" if "variant" in facts else ""
        print(f"{facts['name']}{variant}: {facts['train_images']} images of {facts['train_identities']} people")
    print(f"combination: {config.out}")

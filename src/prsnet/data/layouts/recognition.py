"""A folder on disk becomes a :class:`~prsnet.types.Dataset`, its layout recognised by what is in it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prsnet.data.images import list_images
from prsnet.data.layouts.benchmarks import CUHK03, CUHK03_MAT, DUKEMTMC, LTCC, OCCLUDED_DUKE, VERI776
from prsnet.data.layouts.bodies import MARS, OCCLUDED_REID, P_DUKEMTMC, PARTIAL_REID, PRCC
from prsnet.data.layouts.coco import COCO
from prsnet.data.layouts.declaration import (
    Layout,
    Load,
    count_parts,
    describe,
    direct_images,
    named_like,
    subfolders,
)
from prsnet.data.layouts.folders import IDENTITY_FOLDERS, IDENTITY_SPLIT
from prsnet.data.layouts.msmt17 import MSMT17
from prsnet.data.layouts.names import MARKET1501, NAMED_IMAGES, NAMED_SPLIT, PKU_REID
from prsnet.data.layouts.packed import PACK
from prsnet.data.layouts.pooled import COMBINATION, POOL
from prsnet.data.layouts.table import CSV
from prsnet.data.layouts.views import CUHK01, CUHK02, GRID, ILIDS, PES3D, PRID2011, VIPER
from prsnet.data.splits import Parts
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord

LAYOUTS: tuple[Layout, ...] = (
    *(
        MARKET1501,
        PKU_REID,
        CSV,
        NAMED_SPLIT,
        NAMED_IMAGES,
        IDENTITY_SPLIT,
        IDENTITY_FOLDERS,
        COCO,
        POOL,
        COMBINATION,
        PACK,
    ),
    *(DUKEMTMC, OCCLUDED_DUKE, CUHK03, CUHK03_MAT, VERI776, LTCC, MSMT17, MARS, PRCC),
    *(VIPER, GRID, PRID2011, CUHK01, CUHK02, ILIDS, PES3D, OCCLUDED_REID, PARTIAL_REID, P_DUKEMTMC),
)
"""Every layout that is recognised. Of the generic ones the first that fits is taken."""
PLAIN = "images"
"""The layout name of a tree of images without labels, for :func:`load_images_only`."""
TEST_FOLDERS = frozenset(
    {"query", "gallery", "probe", "test", "bounding_box_test", "gt_bbox", "gt_query"}
    | {"image_query", "image_test", "bbox_test", "mask_test_v2"}
)
"""Folder names, in lower case, below which benchmarks keep images that pre-training must not see unnoticed."""
_PART_FOLDERS = TEST_FOLDERS | {"train", "bounding_box_train"}
_DEEPEST_WRAPPER = 3
_SPELT = 7
"""So many layouts, those of anybody's own data among them, are described when nothing fits; the rest is named."""


def load_dataset(path: str | Path, *, layout: str = "auto", seed: int = 0) -> Dataset:
    """Return the dataset at ``path``.

    Args:
        path: a folder, or a CSV file. Folders that hold nothing but one folder are looked through.
        layout: ``"auto"``, or the name of one of :data:`LAYOUTS` where more than one fits; with ``:VARIANT`` behind
            it, another protocol that the layout knows, e.g. ``"msmt17:train+val"`` or ``"auto:train+val"``.
        seed: splits the identities where the layout brings no split of its own.

    Returns:
        The dataset. Its name is the benchmark's only when all published counts agree, else the folder's. Its facts
        hold ``layout``, ``root`` (as given), ``counts``, ``split`` (the rule, in words), ``split_seed`` where a seed
        decided, ``published``, ``differs_from_published`` and ``citation`` where known, and what the layout adds.

    Raises:
        DataError: nothing is there, no layout fits, several fit, or the files do not follow the layout.
    """
    name, _, variant = layout.partition(":")
    found, root = recognise(path, layout=name)
    load = _loader(found, variant)
    try:
        parts = load(root, seed)
    except DataError as error:
        raise named_like(error, root) from error
    if not (parts.train or parts.query or parts.gallery):
        raise DataError(f"{path}: looks like {found.name}, but holds no images", hint=f"expected {found.expects}")
    return _dataset(found, root, parts, given=str(path), variant=variant or found.default)


def _loader(layout: Layout, variant: str) -> Load:
    if variant in ("", layout.default):
        return layout.load
    if variant not in layout.variants:
        known = ", ".join([*([layout.default] if layout.default else []), *layout.variants]) or "none"
        hint = f"variants of {layout.name}: {known}"
        raise DataError(f"layout '{layout.name}' has no variant '{variant}'", hint=hint)
    return layout.variants[variant].load


def recognise(path: str | Path, *, layout: str = "auto") -> tuple[Layout, Path]:
    """Return the layout of what lies at ``path``, and the folder or file that it starts from.

    Raises:
        DataError: as :func:`load_dataset`.
    """
    start = Path(path)
    if not start.exists():
        raise DataError(f"{start}: no such dataset folder or file", hint="check the path")
    known = {candidate.name: candidate for candidate in LAYOUTS}
    if layout != "auto" and layout not in known:
        near = difflib.get_close_matches(layout, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "leave it at 'auto'"
        raise DataError(f"layout '{layout}' is unknown, expected auto, {', '.join(known)}", hint=hint)
    candidates = LAYOUTS if layout == "auto" else (known[layout],)
    fitting = _fitting(start, candidates)
    if fitting is None:
        looked_for = "; ".join(candidate.expects for candidate in candidates[:_SPELT])
        if len(candidates) > _SPELT:
            looked_for += f"; or {', '.join(candidate.name for candidate in candidates[_SPELT:])}"
        raise DataError(
            f"{start}: no layout fits; found {describe(start)}; looked for {looked_for}",
            hint="describe the images in a CSV file path,pid,camid,split; pre-training takes any folder of images",
        )
    return fitting


def _fitting(start: Path, candidates: Sequence[Layout]) -> tuple[Layout, Path] | None:
    roots = _wrapped(start)
    for root in roots:
        certain = [candidate for candidate in candidates if not candidate.generic and candidate.fits(root)]
        if len(candidates) > 1:
            certain = [candidate for candidate in certain if candidate.sign is None or candidate.sign(root)]
            covered = {candidate.instead_of for candidate in certain}
            certain = [candidate for candidate in certain if candidate.name not in covered]
        if len(certain) > 1:
            names = ", ".join(candidate.name for candidate in certain)
            raise DataError(f"{root}: more than one layout fits: {names}", hint="say which, by layout=NAME")
        if certain:
            return certain[0], root
    for root in roots:
        for candidate in candidates:
            # A lone folder of people cannot be told from a lone person, so this layout starts where it was told to.
            if candidate.generic and (root == start or candidate is not IDENTITY_FOLDERS) and candidate.fits(root):
                return candidate, root
    return None


def _wrapped(start: Path) -> list[Path]:
    """Return ``start`` and the folders below it that are alone in theirs, as archives like to unpack."""
    roots = [start]
    while len(roots) <= _DEEPEST_WRAPPER:
        inner = subfolders(roots[-1])
        if len(inner) != 1 or direct_images(roots[-1]):
            break
        roots.append(inner[0])
    return roots


def _dataset(layout: Layout, root: Path, parts: Parts, *, given: str, variant: str) -> Dataset:
    counts = count_parts(parts)
    variant = parts.facts.get("variant", variant)
    published = layout.variants[variant].published if variant in layout.variants else layout.published
    differs = {key: [counts[key], count] for key, count in published.items() if counts[key] != count}
    own = root.resolve()
    name = parts.facts.pop("name", "") or (own.stem if own.is_file() else own.name)
    if published and not differs:
        name = layout.name
    facts: dict[str, Any] = {"layout": layout.name, "root": given, "counts": counts}
    facts.update({**({"variant": variant} if variant else {}), **parts.facts})
    if layout.note:
        facts["note"] = layout.note
    if published:
        facts["published"] = dict(published)
        if differs:
            facts["differs_from_published"] = differs
    if layout.citation:
        facts["citation"] = layout.citation
    return Dataset(name or layout.name, parts.train, parts.query, parts.gallery, facts)


def load_images_only(path: str | Path, *, layout: str = "auto", seed: int = 0, include_test: bool = False) -> Dataset:
    """Return images for pre-training, without identities, all in the training part.

    A dataset gives its training part; with ``include_test`` query and gallery as well, without junk and distractors.
    Any other folder gives every image in and below it; so do identity folders without cameras and without a split,
    which cannot be told from images sorted by source.

    Args:
        path: a folder, or a CSV file.
        layout: ``"auto"``, ``"images"`` for a plain tree, or a dataset's layout as in :func:`load_dataset`.
        seed: as in :func:`load_dataset`; use the same as in training, or test identities get into the pool.
        include_test: take a dataset's query and gallery, too.

    Returns:
        A dataset whose facts hold the leak guard of docs/method.md, under ``pool``: ``parts``, ``test_images``
        (how many images are, or for plain trees may be, from a query or gallery) and ``test_images_of`` (the dataset,
        or the folders); a model pre-trained on a pool with test images is transductive on that benchmark.

    Raises:
        DataError: as :func:`load_dataset`; or there is no image.
    """
    if layout == PLAIN or (layout == "auto" and not _is_dataset(Path(path))):
        return _plain_tree(Path(path), given=str(path))
    dataset = load_dataset(path, layout=layout, seed=seed)
    if "pool" in dataset.facts:
        return dataset
    parts = ("train", "query", "gallery") if include_test else ("train",)
    chosen = {r.path for part in parts for r in getattr(dataset, part) if r.pid is None or r.pid > 0}
    tests = chosen & {record.path for record in (*dataset.query, *dataset.gallery)}
    if not chosen:
        raise DataError(f"{path}: no images in {', '.join(parts)}", hint="include the test images, or layout='images'")
    pool = {"parts": list(parts), "test_images": len(tests), "test_images_of": [dataset.name] if tests else []}
    return _unlabelled(dataset.name, sorted(chosen), {**dataset.facts, "pool": pool})


def _is_dataset(path: Path) -> bool:
    """Return whether ``path`` is surely a dataset, not one part of it, whose test images have to be kept apart."""
    if not path.exists():
        raise DataError(f"{path}: no such folder or file", hint="check the path")
    found = _fitting(path, LAYOUTS)
    if found is not None and found[0].generic and path.resolve().name.lower() in _PART_FOLDERS:
        return False
    if found is None or found[0] is not IDENTITY_FOLDERS:
        return found is not None
    try:
        parts = IDENTITY_FOLDERS.load(found[1], 0)
    except DataError:
        return False
    return all(record.camid is not None for record in parts.train)


def _plain_tree(root: Path, *, given: str) -> Dataset:
    images = list_images(root)
    if not images:
        raise DataError(f"{root}: no images; found {describe(root)}", hint="give a folder with images in or below it")
    name = root.resolve().name
    below = _possible_tests(root, images)
    pool: dict[str, Any] = {"parts": ["all"]}
    if not below and IDENTITY_FOLDERS.fits(root):
        pool["note"] = "could be a folder per identity: every image is in, also those that a seed would test on"
        below = {name: len(images)}
    pool.update(test_images=sum(below.values()), test_images_of=sorted(below))
    counts = {"images": len(images), "train_images": len(images)}
    return _unlabelled(name, images, {"layout": PLAIN, "root": given, "counts": counts, "pool": pool})


def _possible_tests(root: Path, images: Sequence[Path]) -> dict[str, int]:
    """Return folder -> number of images that may be a benchmark's test: by the folder's name, or by its own layout."""
    name = root.resolve().name
    below: dict[str, int] = {}
    for folder, count in sorted(Counter(image.parent for image in images).items()):
        inside = (name, *folder.relative_to(root).parts)
        marked = [index for index, part in enumerate(inside) if part.lower() in TEST_FOLDERS]
        if marked:
            place = "/".join(inside[: marked[0] + 1])
        elif any(not layout.generic and layout.fits(folder) for layout in LAYOUTS):
            place = "/".join(inside)
        else:
            continue
        below[place] = below.get(place, 0) + count
    return below


def _unlabelled(name: str, images: Sequence[Path], facts: dict[str, Any]) -> Dataset:
    return Dataset(name, train=tuple(ImageRecord(path) for path in images), facts=facts)

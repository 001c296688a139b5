"""One unlabelled pool for pre-training from any mix of sources: no copies, no broken or blank images, no test images.

A pool is a manifest, a JSON file that lists images where they lie. It can be given as data wherever a folder can.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prsnet.data.duplicates import LEAST_CONTRAST, exact_duplicates, near_duplicates
from prsnet.data.manifest import listed_images, portable, read_manifest, write_manifest
from prsnet.data.scan import ImageScan, scan_images
from prsnet.errors import DataError
from prsnet.files import replacing
from prsnet.types import Dataset

FORMAT = "prsnet-pool"
MADE_BY = "prsnet data pool"
LEAST_SIZE = (32, 16)

Reason = Literal["unreadable", "blank", "small", "duplicate", "near-duplicate", "kept out"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that is not in the pool: its source (row of the sources), why, and which image or error is the cause."""

    path: Path
    source: int
    reason: Reason
    cause: str


@dataclass(frozen=True, slots=True)
class Pool:
    """What is in a pool, and what is not.

    Attributes:
        images: (file, row of its source), in the order of the sources.
        left_out: the rest.
        sources: of each source the name, layout, root, ``taken``, ``left_out`` by reason, and its leak guard ``pool``.
        kept_out: names of the datasets whose test images were kept out by content.
    """

    images: tuple[tuple[Path, int], ...]
    left_out: tuple[LeftOut, ...]
    sources: tuple[Mapping[str, Any], ...]
    kept_out: tuple[str, ...] = ()

    def guard(self) -> dict[str, Any]:
        """Return the leak guard of docs/method.md: which benchmarks' test images are, or may be, in the pool."""
        guards = [source["pool"] for source in self.sources]
        return {
            "parts": sorted({part for guard in guards for part in guard["parts"]}),
            "test_images": sum(guard["test_images"] for guard in guards),
            "test_images_of": sorted({name for guard in guards for name in guard["test_images_of"]}),
            "kept_out": list(self.kept_out),
        }


def make_pool(
    sources: Sequence[Dataset],
    *,
    keep_out: Sequence[Dataset] = (),
    least_size: tuple[int, int] = LEAST_SIZE,
    near: bool = True,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Pool:
    """Look at every image and decide which are in the pool.

    Args:
        sources: unlabelled datasets, as :func:`prsnet.data.layouts.load_images_only` gives them; of equal images the
            first one, by their order, is taken.
        keep_out: datasets whose query and gallery images, and copies of them, must not get in.
        least_size: height and width below which images are left out.
        near: leave out near-duplicates, too, not only exact ones.
        workers: threads that read; 0 takes one per processor.
        progress: called with (images read, images in all).

    Raises:
        DataError: no image is left.
    """
    barred = list(dict.fromkeys(record.path for d in keep_out for record in (*d.query, *d.gallery)))
    owners: dict[Path, int] = {}
    for row, source in enumerate(sources):
        for record in source.train:
            owners.setdefault(record.path, row)
    candidates = [path for path in owners if path not in set(barred)]
    scan = scan_images([*barred, *candidates], workers=workers, progress=progress)
    reasons = _reasons(scan, len(barred), least_size, near)
    left_out = [LeftOut(path, owners[path], "kept out", str(path)) for path in barred if path in owners]
    images = []
    for row, path in enumerate(candidates, start=len(barred)):
        if row in reasons:
            left_out.append(LeftOut(path, owners[path], *reasons[row]))
        else:
            images.append((path, owners[path]))
    if not images:
        raise DataError(
            f"pool: none of {len(owners)} images can be used: {_told(left_out)}", hint="look at them by data check"
        )
    facts = tuple(_source_facts(row, source, images, left_out) for row, source in enumerate(sources))
    return Pool(tuple(images), tuple(left_out), facts, tuple(dataset.name for dataset in keep_out))


def _reasons(scan: ImageScan, barred: int, least_size: tuple[int, int], near: bool) -> dict[int, tuple[Reason, str]]:
    """Return row -> (reason, cause) for the rows that are no good; the first ``barred`` rows are the test images."""
    small = scan.readable & ((scan.heights < least_size[0]) | (scan.widths < least_size[1]))
    blank = scan.readable & (scan.contrast < LEAST_CONTRAST)
    exact = exact_duplicates(scan)
    originals = near_duplicates(scan) if near else exact
    found: dict[int, tuple[Reason, str]] = {row: ("unreadable", message) for row, message in scan.errors.items()}
    for row in np.flatnonzero(small).tolist():
        found[row] = "small", f"{scan.widths[row]}x{scan.heights[row]}"
    for row in np.flatnonzero(blank).tolist():
        found.setdefault(row, ("blank", f"contrast {scan.contrast[row]:.1f}"))
    for row in np.flatnonzero(originals != np.arange(len(scan))).tolist():
        original = int(originals[row])
        kind: Reason = "kept out" if original < barred else "duplicate" if exact[row] != row else "near-duplicate"
        found.setdefault(row, (kind, str(scan.paths[original])))
    return found


def _source_facts(
    row: int, source: Dataset, images: Sequence[tuple[Path, int]], left_out: Sequence[LeftOut]
) -> dict[str, Any]:
    guard = source.facts.get("pool", {"parts": ["train"], "test_images": 0, "test_images_of": []})
    return {
        "name": source.name,
        "layout": source.facts.get("layout", ""),
        "root": str(source.facts.get("root", "")),
        "taken": sum(owner == row for _, owner in images),
        "left_out": dict(Counter(one.reason for one in left_out if one.source == row)),
        **({"split_seed": source.facts["split_seed"]} if "split_seed" in source.facts else {}),
        "pool": dict(guard),
    }


def _told(left_out: Sequence[LeftOut]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(one.reason for one in left_out).items()) or "none"


def pool_text(pool: Pool) -> str:
    """Return a table of the sources, and what the leak guard says."""
    lines = [f"{'source':<28}{'taken':>8}  left out"]
    for source in pool.sources:
        left_out = ", ".join(f"{count} {reason}" for reason, count in source["left_out"].items()) or "none"
        lines.append(f"{source['name'][:27]:<28}{source['taken']:>8}  {left_out}")
    lines.append(f"{'all':<28}{len(pool.images):>8}  {_told(pool.left_out)}")
    guard = pool.guard()
    if guard["test_images"]:
        names = ", ".join(guard["test_images_of"])
        lines.append(f"WARNING   {guard['test_images']} images are or may be from the test of {names}:")
        lines.append("          a model pre-trained on this pool is transductive there")
    if pool.kept_out:
        lines.append(f"kept out  the query and gallery images of {', '.join(pool.kept_out)}, and copies of them")
    return "\n".join(lines)


def write_pool(pool: Pool, file: str | Path) -> None:
    """Write the manifest, atomically; paths below its folder are relative to it, others absolute."""
    target = Path(file)
    write_manifest(
        target,
        FORMAT,
        {"pool": pool.guard(), "sources": [dict(source) for source in pool.sources]},
        {
            "images": [[portable(path, target.parent), source] for path, source in pool.images],
            "left_out": [[str(one.path), one.source, one.reason, one.cause] for one in pool.left_out],
        },
    )


def copy_pool(pool: Pool, folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Pool:
    """Copy the images of a pool into ``folder``, one folder per source; return the pool of the copies.

    Each copy appears complete or not at all; one that is there with the same size and time is not made again.

    Raises:
        InputError: a copy cannot be written.
    """
    root = Path(folder)
    for remnant in root.glob("*/.*.part*"):  # of a run that was killed
        remnant.unlink(missing_ok=True)
    copies = []
    for number, (path, source) in enumerate(pool.images):
        copy = root / f"{source:02d}" / f"{number:08d}{path.suffix.lower()}"
        if not _same_file(path, copy):
            with replacing(copy) as temporary:
                shutil.copyfile(path, temporary)
                state = path.stat()
                os.utime(temporary, ns=(state.st_atime_ns, state.st_mtime_ns))
        copies.append((copy, source))
        if progress is not None:
            progress(number + 1, len(pool.images))
    return replace(pool, images=tuple(copies))


def _same_file(path: Path, copy: Path) -> bool:
    if not copy.is_file():
        return False
    one, other = path.stat(), copy.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def read_pool(file: Path) -> tuple[list[Path], dict[str, Any]]:
    """Return the images that a manifest lists, and its facts: ``pool`` (the leak guard) and ``sources``.

    Raises:
        DataError: not a manifest, one of a later version, a damaged one, or images that are gone.
    """
    content = read_manifest(file, FORMAT, MADE_BY)
    try:
        names = [str(name) for name, _ in content["images"]]
        facts = {"pool": dict(content["pool"]), "sources": list(content["sources"])}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: a damaged pool", hint=f"make it again by `{MADE_BY}`") from error
    return listed_images(file, names, MADE_BY), facts

"""What a look at the images and labels of a dataset turns up, each as one finding; pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prsnet.data.duplicates import LEAST_CONTRAST, exact_duplicates, groups_of, near_duplicates
from prsnet.data.scan import ImageScan
from prsnet.data.splits import by_identity
from prsnet.types import Dataset, ImageRecord

Use = Literal["pre-training", "training", "evaluation"]
USES: tuple[Use, ...] = ("pre-training", "training", "evaluation")
Severity = Literal["fatal", "warning", "note"]

_SHOWN = 3
_OUTLIER = 5.0
"""Robust deviations (1.4826 times the median absolute one) from the median at which an image is set apart."""
_LEAST_SPREAD_OF_BRIGHTNESS = 4.0
_LEAST_SPREAD_OF_LOG_AREA = 0.1

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a reader of the report should know.

    Attributes:
        severity: ``"fatal"``: a use cannot be served; ``"warning"``: it can, with a loss; ``"note"``: good to know.
        kind: a short name of what it is, e.g. ``"leak"``; the heading of its pictures.
        uses: the uses that it concerns.
        message: one line with counts and first examples.
        hint: what to do about it.
        pids: all identities concerned, rising.
        groups: all images concerned; those that show one picture are together, others alone.
    """

    severity: Severity
    kind: str
    uses: tuple[Use, ...]
    message: str
    hint: str = ""
    pids: tuple[int, ...] = ()
    groups: tuple[tuple[Path, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what ``json.dump`` can write, under the names of the attributes."""
        groups = [[str(path) for path in group] for group in self.groups]
        plain = {name: getattr(self, name) for name in ("severity", "kind", "message", "hint")}
        return {**plain, "uses": list(self.uses), "pids": list(self.pids), "groups": groups}


class Places:
    """Where each distinct file of a dataset stands in it: its parts, and its records."""

    def __init__(self, dataset: Dataset, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.rows = {path: row for row, path in enumerate(paths)}
        self.parts: dict[int, set[str]] = defaultdict(set)
        self.pids: dict[int, set[int]] = defaultdict(set)
        for part in ("train", "query", "gallery"):
            for record in getattr(dataset, part):
                self.parts[self.rows[record.path]].add(part)
                if record.pid is not None and record.pid > 0:
                    self.pids[self.rows[record.path]].add(record.pid)
        self.labelled = any(pids and "train" in self.parts[row] for row, pids in self.pids.items())

    def uses(self, rows: Iterable[int]) -> tuple[Use, ...]:
        """Return the uses that would read one of these images."""
        parts = {part for row in rows for part in self.parts[row]}
        wanted: dict[Use, bool] = {
            "pre-training": "train" in parts,
            "training": "train" in parts and self.labelled,
            "evaluation": bool(parts & {"query", "gallery"}),
        }
        return tuple(use for use in USES if wanted[use])

    def alone(self, rows: Iterable[int]) -> tuple[tuple[Path, ...], ...]:
        """Return each image as a group of its own."""
        return tuple((self.paths[row],) for row in rows)


def files_of(dataset: Dataset) -> list[Path]:
    """Return the distinct files of a dataset in the order of train, query, gallery."""
    return list(dict.fromkeys(record.path for record in (*dataset.train, *dataset.query, *dataset.gallery)))


def image_findings(places: Places, scan: ImageScan, *, least_size: tuple[int, int]) -> Iterator[Finding]:
    """Yield findings about single images: unreadable, blank, small, lying, of unusual brightness or size."""
    broken = sorted(scan.errors)
    if broken:
        first = "; ".join(scan.errors[row] for row in broken[:_SHOWN])
        message = f"{len(broken)} of {len(scan)} images cannot be read: {first}{_more(broken)}"
        hint = "replace or remove them; a pool leaves them out by itself"
        yield Finding("fatal", "unreadable", places.uses(broken), message, hint, groups=places.alone(broken))
    height, width = least_size
    kinds: list[tuple[Severity, str, npt.NDArray[np.bool_], str, str]] = [
        ("warning", "blank", scan.contrast < LEAST_CONTRAST, "show nothing but one shade", "remove them"),
        (
            "warning",
            "small",
            (scan.heights < height) | (scan.widths < width),
            f"are smaller than {width}x{height}",
            "too little is left to see; remove them or crop larger",
        ),
        ("note", "lying", scan.widths > scan.heights, "are wider than high", "are these whole people, and upright?"),
        ("note", "brightness", _outliers(scan, scan.brightness, _LEAST_SPREAD_OF_BRIGHTNESS), "are far darker or", ""),
        ("note", "size", _outliers(scan, _log_area(scan), _LEAST_SPREAD_OF_LOG_AREA), "are far larger or smaller", ""),
    ]
    rest = {"brightness": " brighter than the others", "size": " than the others"}
    for severity, kind, mask, what, hint in kinds:
        rows = np.flatnonzero(mask & scan.readable).tolist()
        if rows:
            message = f"{len(rows)} of {len(scan)} images {what}{rest.get(kind, '')}: {_names(places, rows)}"
            yield Finding(severity, kind, places.uses(rows), message, hint, groups=places.alone(rows))


def _log_area(scan: ImageScan) -> npt.NDArray[np.float64]:
    area: npt.NDArray[np.float64] = np.log(np.maximum(scan.heights * scan.widths, 1))
    return area


def _outliers(scan: ImageScan, values: npt.NDArray[np.float64], least_spread: float) -> npt.NDArray[np.bool_]:
    good = values[scan.readable]
    if not len(good):
        return np.zeros(len(values), dtype=bool)
    middle = np.median(good)
    spread = max(1.4826 * float(np.median(np.abs(good - middle))), least_spread)
    return np.asarray(np.abs(values - middle) > _OUTLIER * spread)


def duplicate_findings(places: Places, scan: ImageScan, *, near: bool = True) -> Iterator[Finding]:
    """Yield findings about images that show one picture: across splits, across identities, and the harmless rest.

    Args:
        places: where the images stand.
        scan: what was seen of them, row by row as in ``places``.
        near: also look for copies of another size, compression or light.
    """
    exact = exact_duplicates(scan)
    yield from _by_meaning(places, groups_of(exact), exact=True)
    if near:
        groups = groups_of(near_duplicates(scan))
        yield from _by_meaning(places, [g for g in groups if len({int(exact[row]) for row in g}) > 1], exact=False)


def _by_meaning(places: Places, groups: Sequence[Sequence[int]], *, exact: bool) -> Iterator[Finding]:
    """Sort groups by the worst that they mean; each group is told of once."""
    what = "picture(s)" if exact else "picture(s), in nearly the same form,"
    meanings: list[tuple[Severity, str, Callable[[Sequence[int]], bool], str, str]] = [
        (
            "fatal" if exact else "warning",
            "leak",
            lambda group: _leaks(places, group),
            "in training and in query or gallery",
            "remove it from one of them: the figures would flatter",
        ),
        (
            "warning",
            "two identities",
            lambda group: len({pid for row in group for pid in places.pids[row]}) > 1,
            "labelled with several identities",
            "one of the labels is wrong",
        ),
        (
            "warning",
            "query in gallery",
            lambda group: _trivial(places, group),
            "as a query and, as another file, in the gallery",
            "such a query is answered too easily",
        ),
        ("note", "copies", lambda group: True, "stored as several files", "a pool keeps one of each"),
    ]
    left = list(groups)
    for severity, kind, means, words, hint in meanings:
        chosen = [group for group in left if means(group)]
        left = [group for group in left if not means(group)]
        if chosen:
            rows = [row for group in chosen for row in group]
            first = "; ".join(" = ".join(places.paths[row].name for row in group[:4]) for group in chosen[:_SHOWN])
            uses: tuple[Use, ...] = ("evaluation",) if kind in ("leak", "query in gallery") else places.uses(rows)
            pids = tuple(sorted({pid for row in rows for pid in places.pids[row]}))
            yield Finding(
                severity,
                kind if exact else f"near {kind}",
                uses,
                f"{len(chosen)} {what} {words}: {first}{_more(chosen)}",
                hint,
                pids,
                tuple(tuple(places.paths[row] for row in group) for group in chosen),
            )


def _leaks(places: Places, group: Sequence[int]) -> bool:
    parts = {part for row in group for part in places.parts[row]}
    return "train" in parts and bool(parts & {"query", "gallery"})


def _trivial(places: Places, group: Sequence[int]) -> bool:
    """Return whether a query has its copy in the gallery as another file."""
    queries = [row for row in group if "query" in places.parts[row]]
    return any(row != query and "gallery" in places.parts[row] for query in queries for row in group)


def label_findings(dataset: Dataset) -> Iterator[Finding]:
    """Yield findings about identities and counts that no single image shows."""
    people = by_identity(dataset.train)
    cameras = {record.camid for record in dataset.train}
    if len(cameras) > 1:
        single = [pid for pid, images in people.items() if len({record.camid for record in images}) == 1]
        if single:
            message = f"{len(single)} of {len(people)} training identities are seen by one camera only: {_list(single)}"
            yield Finding("note", "one camera", ("training",), message, "they teach nothing across cameras", (*single,))
    differs = dataset.facts.get("differs_from_published")
    if differs:
        told = ", ".join(
            f"{name.replace('_', ' ')} {here}, published {there}" for name, (here, there) in differs.items()
        )
        hint = "a part of the dataset, or another edition: figures do not compare with published ones"
        yield Finding("note", "counts", USES, f"not the published counts: {told}", hint)
    pool = dataset.facts.get("pool", {})
    if pool.get("test_images"):
        message = f"{pool['test_images']} images are or may be from a benchmark's test: {_list(pool['test_images_of'])}"
        hint = "a model pre-trained on them is transductive on that benchmark"
        yield Finding("warning", "test images", ("pre-training",), message, hint)


def people_by_camera(records: Iterable[ImageRecord]) -> dict[int, dict[int, int]]:
    """Return pid -> camid -> number of images, for people (pid > 0) whose camera is known."""
    table: dict[int, dict[int, int]] = {}
    for record in {record.path: record for record in records}.values():
        if record.pid is not None and record.pid > 0 and record.camid is not None:
            row = table.setdefault(record.pid, {})
            row[record.camid] = row.get(record.camid, 0) + 1
    return {pid: dict(sorted(table[pid].items())) for pid in sorted(table)}


def shared_people(table: dict[int, dict[int, int]]) -> tuple[list[int], list[list[int]]]:
    """Return the cameras, and (cameras x cameras) how many people both see; on the diagonal, how many one sees."""
    cameras = sorted({camid for row in table.values() for camid in row})
    seen = np.array([[camid in row for camid in cameras] for row in table.values()], dtype=np.int64)
    shared: list[list[int]] = (seen.T @ seen).tolist() if len(cameras) else []
    return cameras, shared


def _list(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items[: 2 * _SHOWN]) + _more(items, 2 * _SHOWN)


def _names(places: Places, rows: Sequence[int]) -> str:
    return ", ".join(places.paths[row].name for row in rows[:_SHOWN]) + _more(rows)


def _more(items: Sequence[object], shown: int = _SHOWN) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""

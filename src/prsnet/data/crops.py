"""Person crops from annotated pictures: chosen by rules, cut in parallel, every file complete or not there.

A crop's name depends on the picture and on the place of its box in the annotations alone. A run that was stopped
therefore goes on where it was when the same command is given again, and ends with the same files.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from prsnet.data.crop_boxes import Box
from prsnet.data.images import Pixels, read_image
from prsnet.errors import DataError, InputError
from prsnet.files import write_json, write_text

MANIFEST, SETTINGS, IMAGES = "crops.csv", "crops.json", "images"
COLUMNS = ("crop", "image", "left", "top", "right", "bottom", "pid", "camid", "visibility", "score")
_JPEG_QUALITY = 95
_UNFINISHED = ".crop-"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRules:
    """Which boxes become crops, and how.

    Attributes:
        least_size: height and width in pixels that the box, inside the picture, must have.
        aspect: smallest and largest height / width of the box inside the picture.
        margin: share of the box's height and width that is added on each side, 0 or more.
        crowd: also boxes that hold a crowd.
        truncated: also boxes marked as truncated.
        difficult: also boxes marked as difficult.
        least_visibility: visible share, 0..1, where the annotation knows it.
        least_score: confidence of a detector, where the annotation knows it.
        image_format: ``"jpg"`` (quality 95) or ``"png"``.
        by_identity: name the crops ``PID_cCAM_N``, so that the folder is a labelled dataset; boxes without an identity
            are left out.
    """

    least_size: tuple[int, int] = (64, 24)
    aspect: tuple[float, float] = (1.0, 5.0)
    margin: float = 0.0
    crowd: bool = False
    truncated: bool = True
    difficult: bool = False
    least_visibility: float = 0.3
    least_score: float = 0.5
    image_format: str = "jpg"
    by_identity: bool = False


@dataclass(frozen=True, slots=True)
class CropReport:
    """What came of it: rows of the manifest, boxes left out by reason, and pictures that could not be read."""

    rows: tuple[tuple[str, ...], ...]
    left_out: dict[str, int]
    unreadable: tuple[str, ...]


def refused(box: Box, rules: CropRules) -> str:
    """Return why the marks of a box keep it out, or "" when they do not."""
    marks = {
        "crowd": box.crowd and not rules.crowd,
        "truncated": box.truncated and not rules.truncated,
        "difficult": box.difficult and not rules.difficult,
        "hardly visible": box.visibility is not None and box.visibility < rules.least_visibility,
        "low score": box.score is not None and box.score < rules.least_score,
        "no identity": rules.by_identity and not box.pid,
    }
    return next((reason for reason, holds in marks.items() if holds), "")


def window(box: Box, size: tuple[int, int], rules: CropRules) -> tuple[tuple[int, int, int, int] | None, str]:
    """Return (left, top, right, bottom) to cut from a picture of ``size`` (H, W), or None and why not.

    The box is clamped to the picture, then judged, then grown by the margin, and clamped again; edges are rounded to
    whole pixels. A row or column is in the crop when left <= column < right, top <= row < bottom.
    """
    height, width = size
    scale = (width, height, width, height) if box.relative else (1, 1, 1, 1)
    edges = [edge * factor for edge, factor in zip(box.edges, scale, strict=True)]
    left, top = max(edges[0], 0.0), max(edges[1], 0.0)
    right, bottom = min(edges[2], float(width)), min(edges[3], float(height))
    tall, wide = bottom - top, right - left
    if tall <= 0 or wide <= 0:
        return None, "outside the picture"
    if tall < rules.least_size[0] or wide < rules.least_size[1]:
        return None, "small"
    if not rules.aspect[0] <= tall / wide <= rules.aspect[1]:
        return None, "aspect"
    across, down = rules.margin * wide, rules.margin * tall
    low = max(round(left - across), 0), max(round(top - down), 0)
    high = min(round(right + across), width), min(round(bottom + down), height)
    return (*low, *high), ""


def crop_name(box: Box, number: int, rules: CropRules) -> str:
    """Return the crop's path below the images' folder; ``number`` is the box's place in the annotations."""
    suffix = rules.image_format
    if rules.by_identity:
        return f"{box.pid:05d}_c{box.camid if box.camid is not None else 0}_{number:08d}.{suffix}"
    folder = _UNSAFE.sub("-", box.group or box.image.parent.name).strip(".") or "images"
    return f"{folder}/{_UNSAFE.sub('-', box.image.stem)}_{number:08d}.{suffix}"


def make_crops(
    boxes: Sequence[Box],
    out: str | Path,
    *,
    rules: CropRules | None = None,
    source: str = "",
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CropReport:
    """Cut the crops and write them, a manifest (``crops.csv``) and the settings with the counts (``crops.json``).

    Args:
        boxes: as :func:`prsnet.data.crop_boxes.read_boxes` gives them.
        out: a folder that is new, empty, or was begun with the same settings.
        rules: which boxes, and how.
        source: what the boxes are from, for the settings.
        workers: threads; 0 takes one per processor.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: the folder holds other things, or there is nothing to crop.
        InputError: a file cannot be written.
    """
    rules, root = rules or CropRules(), Path(out)
    if not boxes:
        raise DataError(f"{source or out}: no person boxes", hint="check the annotations and their class")
    settings = {"source": source, "boxes": len(boxes), "rules": json.loads(json.dumps(asdict(rules)))}
    _begin(root, settings)
    groups: dict[Path, list[tuple[int, Box]]] = {}
    for number, box in enumerate(boxes):
        groups.setdefault(box.image, []).append((number, box))
    rows: list[tuple[str, ...]] = []
    left_out: Counter[str] = Counter()
    unreadable = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="crop") as pool:
        results = pool.map(lambda group: _crop_picture(root / IMAGES, group[0], group[1], rules), groups.items())
        for done, (picture, (written, reasons)) in enumerate(zip(groups, results, strict=True), start=1):
            rows += written
            left_out.update(reasons)
            if "unreadable picture" in reasons:
                unreadable.append(str(picture))
            if progress is not None:
                progress(done, len(groups))
    os.sync()  # the crops were not synced one by one; the manifest that names them comes after all of them
    report = CropReport(tuple(rows), dict(sorted(left_out.items())), tuple(unreadable))
    _finish(root, settings, report)
    return report


def _begin(root: Path, settings: dict[str, Any]) -> None:
    """Take a folder, or go on in one that was begun with the same settings."""
    file = root / SETTINGS
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read", hint="choose another folder") from error
        if not isinstance(before, dict) or any(before.get(key) != value for key, value in settings.items()):
            raise DataError(f"{root}: holds crops made with other settings", hint="choose another folder")
        for remnant in root.rglob(f"{_UNFINISHED}*"):
            remnant.unlink(missing_ok=True)
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: is not empty", hint="choose another folder")
    write_json(file, settings)


def _finish(root: Path, settings: dict[str, Any], report: CropReport) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerows([COLUMNS, *report.rows])
    write_text(root / MANIFEST, text.getvalue())
    counts = {"crops": len(report.rows), "left_out": report.left_out, "unreadable": list(report.unreadable)}
    write_json(root / SETTINGS, {**settings, **counts})


def _crop_picture(
    folder: Path, picture: Path, boxes: Iterable[tuple[int, Box]], rules: CropRules
) -> tuple[list[tuple[str, ...]], Counter[str]]:
    """Write the crops of one picture that are not there yet; return their rows and the boxes left out."""
    reasons: Counter[str] = Counter()
    wanted = []
    for number, box in boxes:
        reason = refused(box, rules)
        reasons.update([reason] if reason else [])
        wanted += [] if reason else [(number, box)]
    if not wanted:
        return [], reasons
    try:
        pixels = read_image(picture)
    except DataError:
        reasons["unreadable picture"] += len(wanted)
        return [], reasons
    rows = []
    for number, box in wanted:
        size = (pixels.shape[0], pixels.shape[1])
        place, reason = (None, "other picture size") if box.declared not in (None, size) else window(box, size, rules)
        if place is None:
            reasons[reason] += 1
            continue
        name = crop_name(box, number, rules)
        _write_once(folder / name, pixels[place[1] : place[3], place[0] : place[2]], rules.image_format)
        facts = (box.pid, box.camid, box.visibility, box.score)
        rows.append((f"{IMAGES}/{name}", str(picture), *map(str, place), *("" if f is None else str(f) for f in facts)))
    return rows, reasons


def _write_once(file: Path, pixels: Pixels, image_format: str) -> None:
    """Write an image unless it is there: to a temporary name, which only a complete file leaves."""
    try:
        if file.is_file() and file.stat().st_size:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                options: dict[str, Any] = {"quality": _JPEG_QUALITY} if image_format == "jpg" else {}
                Image.fromarray(pixels).save(stream, "JPEG" if image_format == "jpg" else "PNG", **options)
            Path(name).chmod(0o644)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written: {error.strerror or error}", hint="choose another place"
        ) from error


def crops_text(report: CropReport) -> str:
    """Return the counts as lines."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none"
    lines = [f"crops     {len(report.rows)}", f"left out  {left_out}"]
    if report.unreadable:
        more = f" and {len(report.unreadable) - 3} more" if len(report.unreadable) > 3 else ""
        lines.append(
            f"WARNING   {len(report.unreadable)} pictures cannot be read: {', '.join(report.unreadable[:3])}{more}"
        )
    return "\n".join(lines)

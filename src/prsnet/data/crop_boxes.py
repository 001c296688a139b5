"""Person boxes from annotation files: COCO JSON, VOC XML, MOT text, YOLO text, CSV. Nothing is executed or expanded.

Every reader returns :class:`Box` objects in a fixed order, pixel edges counted from 0 at the image's top left corner.
"""

from __future__ import annotations

import csv
import json
import math
import xml.etree.ElementTree as ElementTree  # documents with a DOCTYPE are refused before they are parsed
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prsnet.data.images import is_image_name, list_images
from prsnet.data.layouts.declaration import inner, quote, subfolders
from prsnet.errors import DataError

_MOT_PEDESTRIAN = 1
_LARGEST_FILE = 2**31


@dataclass(frozen=True, slots=True)
class Box:
    """One annotated person.

    Attributes:
        image: the picture.
        edges: left, top, right, bottom; pixels, or shares of width and height where ``relative``.
        relative: whether the edges are shares.
        declared: (height, width) that the annotation claims of the picture, or None.
        pid: identity, where the annotation knows it.
        camid: camera, where the annotation knows it.
        group: the name of a folder for the crop, e.g. the sequence.
        crowd: the box holds a crowd.
        truncated: the box leaves the picture, or the person does.
        difficult: marked as hard to recognise.
        visibility: visible share of the person, 0..1, or None.
        score: a detector's confidence, or None.
    """

    image: Path
    edges: tuple[float, float, float, float]
    relative: bool = False
    declared: tuple[int, int] | None = None
    pid: int | None = None
    camid: int | None = None
    group: str = ""
    crowd: bool = False
    truncated: bool = False
    difficult: bool = False
    visibility: float | None = None
    score: float | None = None


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise DataError(f"{file}: more than {_LARGEST_FILE} bytes", hint="split the annotations")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{file}: cannot be read: {reason}", hint="check the path") from error


def _number(value: Any) -> float:
    """Return a finite number; raise ValueError for anything else."""
    number = float(value)
    if not math.isfinite(number) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    return number


def _refuse(file: Path, faults: Sequence[str], total: int, expected: str) -> None:
    if faults:
        message = f"{file}: {len(faults)} of {total} entries are bad: {quote(faults)}"
        raise DataError(message, hint=f"expected {expected}")


def coco_boxes(file: Path, images: Path | None = None) -> list[Box]:
    """Return the boxes of the category ``person`` of a COCO JSON file; ``pid`` and ``camid`` of an annotation are kept.

    Args:
        file: with ``images``, ``annotations`` and ``categories``.
        images: the folder that file names start from; looked for around ``file`` when not given.

    Raises:
        DataError: not such a file, or no folder holds the images.
    """
    try:
        content = json.loads(_text(file))
        pictures = {entry["id"]: entry for entry in content["images"]}
        people = {entry["id"] for entry in content["categories"] if entry["name"] == "person"}
        annotations = [entry for entry in content["annotations"] if entry["category_id"] in people]
    except (ValueError, KeyError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: not COCO annotations: {told}", hint="give an instances_*.json") from error
    root = images or _coco_images(file, pictures)
    boxes, faults = [], []
    for entry in annotations:
        try:
            boxes.append(_coco_box(root, pictures[entry["image_id"]], entry))
        except (ValueError, KeyError, TypeError) as error:
            faults.append(f"annotation {entry.get('id')}: {error}")
    _refuse(file, faults, len(annotations), "bbox [left, top, width, height] and the image_id of a listed image")
    return boxes


def _coco_box(root: Path, picture: dict[str, Any], entry: dict[str, Any]) -> Box:
    left, top, width, height = (_number(value) for value in entry["bbox"])
    size = (picture["height"], picture["width"]) if {"height", "width"} <= picture.keys() else None
    pid, camid = (entry.get(name, picture.get(name)) for name in ("pid", "camid"))
    if not all(value is None or (isinstance(value, int) and value >= 0) for value in (pid, camid)):
        raise ValueError(f"pid {pid!r}, camid {camid!r}")
    return Box(
        _below(root, str(picture["file_name"])),
        (left, top, left + width, top + height),
        declared=size,
        pid=pid,
        camid=camid,
        crowd=bool(entry.get("iscrowd", 0)),
    )


def _coco_images(file: Path, pictures: dict[Any, dict[str, Any]]) -> Path:
    """Return the folder around an annotation file in which the first picture lies: COCO's own places, then its own."""
    split = file.stem.rpartition("_")[2]
    places = [file.parent.parent / split, file.parent, file.parent / split, file.parent / "images", file.parent.parent]
    first = next((str(entry.get("file_name", "")) for entry in pictures.values()), "")
    for place in places:
        if first and _below(place, first).is_file():
            return place
    raise DataError(f"{file}: its images are not beside it (looked for {first})", hint="name their folder by --images")


def _below(root: Path, name: str) -> Path:
    """Return ``root / name``; raise ValueError when a name of a file leads out of the folder."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ValueError(f"file name {name!r} leads out of its folder")
    return root / name


def voc_boxes(folder: Path) -> list[Box]:
    """Return the objects named ``person`` of ``Annotations/*.xml``; the pictures are in ``JPEGImages/``.

    Raises:
        DataError: no such folders, an XML document that is broken, or one with a DOCTYPE (which VOC never has, and
            through which small files expand to huge ones).
    """
    there = inner(folder)
    if not {"annotations", "jpegimages"} <= set(there):
        raise DataError(f"{folder}: no Annotations/ beside JPEGImages/", hint="give the folder that holds both")
    boxes: list[Box] = []
    for file in sorted(there["annotations"].glob("*.xml")):
        boxes += _voc_file(file, there["jpegimages"])
    return boxes


def _voc_file(file: Path, images: Path) -> Iterator[Box]:
    text = _text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{file}: has a DOCTYPE or entities, refused", hint="VOC annotations have none; remove them")
    try:
        root = ElementTree.fromstring(text)
        image = _below(images, root.findtext("filename") or f"{file.stem}.jpg")
        size = root.find("size")
        declared = None if size is None else (int(size.findtext("height", "")), int(size.findtext("width", "")))
        for thing in root.iter("object"):
            if thing.findtext("name") != "person":
                continue
            low = [_number(thing.findtext(f"bndbox/{name}", "")) - 1 for name in ("xmin", "ymin")]
            high = [_number(thing.findtext(f"bndbox/{name}", "")) for name in ("xmax", "ymax")]
            yield Box(
                image,
                (low[0], low[1], high[0], high[1]),
                declared=declared if declared and min(declared) > 0 else None,
                truncated=thing.findtext("truncated", "0").strip() == "1",
                difficult=thing.findtext("difficult", "0").strip() == "1",
            )
    except (ElementTree.ParseError, ValueError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{file}: not a VOC annotation: {told}", hint="mend or remove the file") from error


def mot_boxes(folder: Path, *, every: int = 1) -> list[Box]:
    """Return the pedestrians of MOTChallenge sequences: ``gt/gt.txt`` with identities, else ``det/det.txt`` without.

    Sequences are cameras, numbered from 1 by their names; people are numbered from 1 over all sequences.

    Args:
        folder: a sequence (with ``img1/``), or a folder of sequences.
        every: take every n-th frame.

    Raises:
        DataError: no sequence, lines that are not numbers, or frames that are not there.
    """
    sequences = [place for place in (folder, *subfolders(folder)) if _mot_text(place) is not None]
    if not sequences:
        raise DataError(f"{folder}: no sequence with gt/gt.txt or det/det.txt", hint="give the folder of sequences")
    boxes: list[Box] = []
    people: dict[tuple[int, int], int] = {}
    for camid, sequence in enumerate(sequences, start=1):
        for frame_box, person in _mot_sequence(sequence, every):
            pid = people.setdefault((camid, person), len(people) + 1) if person > 0 else None
            boxes.append(Box(**frame_box, pid=pid, camid=camid, group=sequence.resolve().name))
    return boxes


def _mot_text(sequence: Path) -> Path | None:
    files = (sequence / "gt" / "gt.txt", sequence / "det" / "det.txt")
    return next((file for file in files if file.is_file()), None)


def _mot_sequence(sequence: Path, every: int) -> list[tuple[dict[str, Any], int]]:
    file = _mot_text(sequence)
    assert file is not None
    truth = file.parent.name == "gt"
    pictures = sorted(inner(sequence).get("img1", sequence).iterdir())
    frames = {int(p.stem): p for p in pictures if is_image_name(p.name) and p.stem.isascii() and p.stem.isdigit()}
    found, faults = [], []
    rows = [line for line in _text(file).splitlines() if line.strip()]
    for row in rows:
        try:
            cells = [_number(cell) for cell in row.split(",")]
            frame, person, left, top, width, height, mark = (*cells[:6], *(cells[6:7] or [1.0]))
            image = frames[int(frame)]
        except (ValueError, KeyError) as error:
            faults.append(f"'{row}' ({error})")
            continue
        ignored = truth and (mark == 0 or (len(cells) > 7 and cells[7] != _MOT_PEDESTRIAN))
        if not ignored and int(frame) % every == 0:
            edges = (left - 1, top - 1, left - 1 + width, top - 1 + height)
            seen = cells[8] if truth and len(cells) > 8 else None
            facts = {"image": image, "edges": edges, "visibility": seen, "score": None if truth else mark}
            found.append((facts, int(person) if truth else -1))
    _refuse(file, faults, len(rows), "frame,id,left,top,width,height,... with every frame in img1/")
    return found


def yolo_boxes(folder: Path, *, person: int = 0) -> list[Box]:
    """Return the boxes of class ``person`` of ``labels/**.txt``; the pictures are in ``images/`` under the same names.

    Raises:
        DataError: no such folders, or lines that are not ``class x y width height`` with shares of the picture.
    """
    there = inner(folder)
    if not {"images", "labels"} <= set(there):
        raise DataError(f"{folder}: no labels/ beside images/", hint="give the folder that holds both")
    boxes = []
    for image in list_images(there["images"]):
        file = (there["labels"] / image.relative_to(there["images"])).with_suffix(".txt")
        if file.is_file():
            boxes += _yolo_file(file, image, person)
    return boxes


def _yolo_file(file: Path, image: Path, person: int) -> list[Box]:
    boxes, faults = [], []
    lines = [line.split() for line in _text(file).splitlines() if line.strip()]
    for cells in lines:
        try:
            kind, x, y, width, height, *score = (_number(cell) for cell in cells)
            if not all(0 <= value <= 1 for value in (x, y, width, height)) or len(score) > 1:
                raise ValueError("not shares of the picture")
        except ValueError as error:
            faults.append(f"'{' '.join(cells)}' ({error})")
            continue
        if int(kind) == person:
            edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            boxes.append(Box(image, edges, relative=True, score=score[0] if score else None))
    _refuse(file, faults, len(lines), "class x y width height, each a share of the picture, 0 to 1")
    return boxes


def csv_boxes(file: Path) -> list[Box]:
    """Return the boxes of a CSV file ``image,left,top,width,height``, pixels; ``pid,camid,score`` may be there, too.

    Raises:
        DataError: other columns, or rows that are not numbers.
    """
    lines = list(csv.reader(_text(file).splitlines()))
    columns = [name.strip() for name in lines[0]] if lines else []
    needed = ("image", "left", "top", "width", "height")
    if not set(needed) <= set(columns) or len(set(columns)) != len(columns):
        raise DataError(f"{file}: line 1: columns {', '.join(columns) or 'none'}", hint=f"expected {','.join(needed)}")
    boxes, faults = [], []
    rows = [line for line in lines[1:] if any(cell.strip() for cell in line)]
    for number, line in enumerate(rows, start=2):
        try:
            row = dict(zip(columns, (cell.strip() for cell in line), strict=True))
            left, top, width, height = (_number(row[name]) for name in needed[1:])
            pid, camid = (int(row[name]) if row.get(name) else None for name in ("pid", "camid"))
            if min(pid or 0, camid or 0) < 0:
                raise ValueError("pid and camid count from 0")
            score = _number(row["score"]) if row.get("score") else None
            image = file.parent / row["image"]
            boxes.append(Box(image, (left, top, left + width, top + height), pid=pid, camid=camid, score=score))
        except ValueError as error:
            faults.append(f"row {number} ({error})")
    _refuse(file, faults, len(rows), "numbers in " + ", ".join(needed[1:]))
    return boxes


FORMATS: dict[str, tuple[Callable[[Path], bool], str]] = {
    "coco": (lambda path: path.suffix.lower() == ".json", "a COCO JSON file"),
    "csv": (lambda path: path.suffix.lower() == ".csv", "a CSV file image,left,top,width,height"),
    "voc": (lambda path: {"annotations", "jpegimages"} <= set(inner(path)), "Annotations/ beside JPEGImages/ (VOC)"),
    "mot": (lambda path: any(_mot_text(p) for p in (path, *subfolders(path))), "sequences with gt/gt.txt (MOT)"),
    "yolo": (lambda path: {"images", "labels"} <= set(inner(path)), "labels/ beside images/ (YOLO)"),
}
"""Name -> (test of a folder or file, what it looks like)."""


def read_boxes(path: Path, kind: str = "auto", *, images: Path | None = None, every: int = 1) -> tuple[str, list[Box]]:
    """Return the format and the boxes of what lies at ``path``.

    Args:
        path: an annotation file or a dataset's folder.
        kind: one of :data:`FORMATS`, or ``"auto"`` to tell it by what is there.
        images: for COCO, the folder of the pictures.
        every: for MOT, take every n-th frame.

    Raises:
        DataError: nothing is there, no format fits, or what the reader raises.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="check the path")
    if kind == "auto":
        kind = next((name for name, (fits, _) in FORMATS.items() if fits(path)), "")
    if kind not in FORMATS:
        expected = "; ".join(words for _, words in FORMATS.values())
        raise DataError(f"{path}: no annotations that are known here", hint=f"expected {expected}")
    readers: dict[str, Callable[[], list[Box]]] = {
        "coco": lambda: coco_boxes(path, images),
        "csv": lambda: csv_boxes(path),
        "voc": lambda: voc_boxes(path),
        "mot": lambda: mot_boxes(path, every=every),
        "yolo": lambda: yolo_boxes(path),
    }
    return kind, readers[kind]()

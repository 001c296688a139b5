"""A COCO-style JSON file whose images (or their annotations) name a person: one crop per image, no boxes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from prsnet.data.layouts.declaration import Layout, labelled_parts, quote
from prsnet.data.manifest import manifest_kind
from prsnet.data.splits import Parts, halves_by_identity
from prsnet.errors import DataError
from prsnet.types import DISTRACTOR_PID, JUNK_PID, ImageRecord

PERSON_KEYS = ("pid", "person_id", "identity", "identity_id")
CAMERA_KEYS = ("camid", "camera_id", "camera")
SPLITS = ("train", "query", "gallery")
_LARGEST = 2**31 - 1


def _fits(path: Path) -> bool:
    return path.suffix.lower() == ".json" and path.is_file() and not manifest_kind(path).startswith("prsnet-")


def load_coco_identities(path: Path, seed: int) -> Parts:
    """Return the parts of a COCO-style file.

    ``images`` lists ``{"id", "file_name"}``, names relative to the file; who is in the picture stands in the image's
    own entry or in its one annotation, as ``pid`` (or ``person_id``, ``identity``), with ``camid`` (or ``camera_id``,
    ``camera``) and ``split`` (train, query, gallery) beside it. Without any split, identities are split by the seed.

    Raises:
        DataError: no such JSON, images without a person or with several, images that are not there.
    """
    content = _read(path)
    annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for entry in content.get("annotations", []):
        annotations[entry.get("image_id")].append(entry)
    rows, faults = [], []
    for image in content["images"]:
        split, record, fault = _record(path.parent, image, annotations[image.get("id")])
        if record is None:
            faults.append(f"{image.get('file_name', '?')}: {fault}")
        else:
            rows.append((split, record))
    if faults:
        hint = "to cut people out of larger pictures, use `prsnet data crops`"
        raise DataError(f"{path}: {len(faults)} bad images: {quote(faults)}", hint=hint)
    if not any(split for split, _ in rows):
        return halves_by_identity([record for _, record in rows if (record.pid or 0) > 0], seed=seed)
    unsplit = [record.path.name for split, record in rows if not split]
    if unsplit:
        message = f"{path}: {len(unsplit)} images have no split, others have one: {quote(unsplit)}"
        raise DataError(message, hint="give all a split, or none")
    return labelled_parts(*([record for split, record in rows if split == part] for part in SPLITS))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON: {' '.join(str(error).split())[:200]}", hint="check the file") from error
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise DataError(f"{path}: expected an object with a list of images", hint="give a COCO-style file")
    annotations = content.get("annotations", [])
    if not isinstance(annotations, list) or not all(isinstance(entry, dict) for entry in annotations):
        raise DataError(f"{path}: expected annotations to be a list of objects", hint="give a COCO-style file")
    return dict(content)


def _record(
    folder: Path, image: dict[str, Any], annotations: list[dict[str, Any]]
) -> tuple[str, ImageRecord | None, str]:
    """Return (split, record, "") or ("", None, what is wrong)."""
    if len(annotations) > 1:
        return "", None, f"{len(annotations)} annotations, expected one"
    entry = {**(annotations[0] if annotations else {}), **image}
    name, split = entry.get("file_name"), entry.get("split", "")
    pid, camid = _first(entry, PERSON_KEYS), _first(entry, CAMERA_KEYS)
    if not isinstance(name, str) or not name or "\0" in name or not (folder / name).is_file():
        return "", None, "no such image"
    if split not in ("", *SPLITS):
        return "", None, f"split {split!r}, expected {', '.join(SPLITS)}"
    if not _whole(pid, JUNK_PID) or (pid <= DISTRACTOR_PID and split != "gallery"):
        return "", None, f"pid {pid!r}, expected a whole number from 1 (in the gallery also 0 and -1)"
    if camid is not None and not _whole(camid, 0):
        return "", None, f"camid {camid!r}, expected a whole number from 0"
    return split, ImageRecord(folder / name, pid, camid), ""


def _first(entry: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _whole(value: Any, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= _LARGEST


COCO = Layout(
    name="coco",
    expects="a COCO-style JSON file whose images have a pid",
    fits=_fits,
    load=load_coco_identities,
)

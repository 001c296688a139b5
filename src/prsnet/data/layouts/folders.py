"""A folder per identity: ``person/image`` or ``person/camera/image``, with or without train/query/gallery above."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prsnet.data.images import list_images
from prsnet.data.layouts.declaration import Layout, direct_images, has_images, labelled_parts, quote, subfolders
from prsnet.data.splits import Parts, halves_by_identity, query_and_gallery
from prsnet.errors import DataError
from prsnet.types import DISTRACTOR_PID, ImageRecord

SPLIT_FOLDERS = ("train", "query", "gallery", "test")
_PARTS_OF_DATASETS = frozenset({*SPLIT_FOLDERS, "bounding_box_train", "bounding_box_test"})
_CAMERA_IN_NAME = re.compile(r"(?:^|[_\-. ])c(?:am(?:era)?)?[_-]?([0-9]{1,4})(?![0-9])", re.IGNORECASE)
_CAMERA_FOLDER = re.compile(r"(?:c(?:am(?:era)?)?[_\- ]?)?([0-9]{1,4})", re.IGNORECASE)
_NUMBER = re.compile(r"-1|[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Sighting:
    """An image below an identity's folder, before names become numbers; ``camera`` is a folder's name or a number."""

    path: Path
    person: str
    camera: str | None


def camera_in_name(name: str) -> str | None:
    """Return the camera's number in a file name (``0001_c2_7.jpg``, ``cam02-7.png``, ``7_camera_2.jpg``), or None."""
    match = _CAMERA_IN_NAME.search(Path(name).stem)
    return str(int(match[1])) if match else None


def sightings(folder: Path) -> list[Sighting]:
    """Return the images of a folder of identity folders, sorted by path.

    The camera is the folder between identity and image where there is one, else what the file name says.

    Raises:
        DataError: images beside camera folders, or a camera known for a part of the images only.
    """
    found: list[Sighting] = []
    for person in subfolders(folder):
        direct = direct_images(person)
        below = [(camera.name, image) for camera in subfolders(person) for image in list_images(camera)]
        if direct and below:
            raise DataError(
                f"{person}: {len(direct)} images beside folders that hold {len(below)} more",
                hint="put all of them into camera folders, or none",
            )
        found += [Sighting(image, person.name, camera_in_name(image.name)) for image in direct]
        found += [Sighting(image, person.name, camera) for camera, image in below]
    without = [sighting.path for sighting in found if sighting.camera is None]
    if 0 < len(without) < len(found):
        raise DataError(
            f"{folder}: {len(without)} of {len(found)} images name no camera, the others do: {quote(without)}",
            hint="use person/camera/image for all, or write c1, c2, ... into every file name, or into none",
        )
    return found


def number_people(names: Mapping[str, Iterable[str]]) -> tuple[dict[str, int], bool]:
    """Return identity folder -> pid, and whether the numbers are ours (True) or the names themselves (False).

    Names that are all different whole numbers from 1 up stay what they are; in the gallery -1 (junk) and 0
    (distractors) may be among them. Any other set of names is numbered from 1 in the order of the names.

    Args:
        names: part -> names of its identity folders.
    """
    everyone = sorted({name for group in names.values() for name in group})
    if all(_NUMBER.fullmatch(name) for name in everyone):
        numbers = {name: int(name) for name in everyone}
        odd = {name for name, number in numbers.items() if number <= DISTRACTOR_PID}
        elsewhere = {name for part, group in names.items() if part != "gallery" for name in group}
        if len(set(numbers.values())) == len(numbers) and not odd & elsewhere:
            return numbers, False
    return {name: index for index, name in enumerate(everyone, start=1)}, True


def number_cameras(names: Iterable[str]) -> tuple[dict[str, int], bool]:
    """Return camera name -> camid, and whether the numbers are ours: ``cam2``, ``C2`` and ``2`` are 2 by themselves."""
    everyone = sorted(set(names))
    matches = [_CAMERA_FOLDER.fullmatch(name) for name in everyone]
    numbers = {name: int(match[1]) for name, match in zip(everyone, matches, strict=True) if match}
    if len(set(numbers.values())) == len(everyone):
        return numbers, False
    return {name: index for index, name in enumerate(everyone, start=1)}, True


def records_of(parts: Mapping[str, Sequence[Sighting]]) -> tuple[dict[str, list[ImageRecord]], dict[str, Any]]:
    """Return part -> records, numbered alike over all parts, and the facts that translate the numbers back."""
    people, renamed = number_people({part: {s.person for s in group} for part, group in parts.items()})
    cameras, relabelled = number_cameras(s.camera for group in parts.values() for s in group if s.camera is not None)
    facts: dict[str, Any] = {"people": people} if renamed else {}
    if relabelled:
        facts["camera_names"] = cameras
    records = {
        part: [ImageRecord(s.path, people[s.person], None if s.camera is None else cameras[s.camera]) for s in group]
        for part, group in parts.items()
    }
    return records, facts


def _split_folders(folder: Path) -> dict[str, Path]:
    return {path.name.lower(): path for path in subfolders(folder) if path.name.lower() in SPLIT_FOLDERS}


def _holds_people(folder: Path) -> bool:
    return not direct_images(folder) and any(has_images(person) for person in subfolders(folder))


def fits_identity_split(folder: Path) -> bool:
    """Return whether one of train/, query/, gallery/, test/ is there and holds folders with images."""
    return any(_holds_people(path) for path in _split_folders(folder).values())


def load_identity_split(folder: Path, seed: int) -> Parts:
    """Return the parts as the folders say; ``test/`` instead of query and gallery is divided by the shared rule.

    Raises:
        DataError: ``test/`` beside ``query/`` or ``gallery/``, or what :func:`sightings` raises.
    """
    folders = _split_folders(folder)
    if "test" in folders and len({"query", "gallery"} & set(folders)):
        raise DataError(f"{folder}: test/ beside query/ or gallery/", hint="keep one of the two schemes")
    records, named = records_of({part: sightings(path) for part, path in folders.items()})
    query, gallery, rule = records.get("query", []), records.get("gallery", []), "as given"
    if "test" in records:
        halves = query_and_gallery(records["test"], seed=seed)
        query, gallery, rule = list(halves[0]), list(halves[1]), f"train and test as given; {halves[2]}"
    parts = labelled_parts(records.get("train", []), query, gallery)
    parts.facts.update(named, split=rule)
    extra = [path.name for path in subfolders(folder) if path.name.lower() not in SPLIT_FOLDERS]
    if extra:
        parts.facts["ignored_folders"] = extra
    return parts


def fits_identity_folders(folder: Path) -> bool:
    """Return whether ``folder`` holds folders with images, no image itself, and its folders are not datasets."""
    inside = {below.name.lower() for person in subfolders(folder) for below in subfolders(person)}
    return _holds_people(folder) and not inside & _PARTS_OF_DATASETS


def load_identity_folders(folder: Path, seed: int) -> Parts:
    """Return the parts of a folder of identity folders, split in halves by the seed."""
    records, facts = records_of({"all": sightings(folder)})
    parts = halves_by_identity(records["all"], seed=seed)
    parts.facts.update(facts)
    return parts


IDENTITY_SPLIT = Layout(
    name="identity-split",
    expects="train/, query/, gallery/ (or train/, test/) with identity folders",
    fits=fits_identity_split,
    load=load_identity_split,
    generic=True,
)

IDENTITY_FOLDERS = Layout(
    name="identity-folders",
    expects="identity folders (person/image or person/camera/image)",
    fits=fits_identity_folders,
    load=load_identity_folders,
    generic=True,
)

"""Layouts that write identity and camera into the file name. Only the name is read, never the folders above it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from prsnet.data.layouts.declaration import Layout, Variant, direct_images, inner, labelled_parts, quote
from prsnet.data.splits import Parts, halves_by_identity
from prsnet.errors import DataError
from prsnet.types import DISTRACTOR_PID, ImageRecord

NameParser = Callable[[str], "tuple[int, int | None] | None"]
"""(file name) -> (pid, camid or None where names tell none), or None where the name does not follow the scheme."""

_MARKET = re.compile(r"(-1|[0-9]{1,9})_[cC]([0-9]{1,4})(?![0-9])")
_PKU = re.compile(r"([0-9]{1,9})_([0-9]{1,4})_[0-9]{1,9}")


def market_name(name: str) -> tuple[int, int] | None:
    """Return (pid, camid) of a name like ``0002_c1s1_000451_03.jpg`` or ``-1_c3s2_1_1.jpg``, or None.

    The head of the name is read, ``PID_cCAM``; what follows is free, so that the datasets that took the scheme over
    (``0001_c2_f0046182.jpg``) are read, too.
    """
    match = _MARKET.match(name)
    return (int(match[1]), int(match[2])) if match else None


def pku_name(name: str) -> tuple[int, int] | None:
    """Return (pid, camid) of a name like ``001_02_8.png``, or None. The third number is the body's orientation."""
    match = _PKU.fullmatch(Path(name).stem)
    return (int(match[1]), int(match[2])) if match else None


def parsed_images(folder: Path, parse: NameParser, scheme: str) -> list[ImageRecord]:
    """Return a record for every image directly in ``folder``.

    Raises:
        DataError: names that ``parse`` does not understand; ``scheme`` tells the reader what was expected.
    """
    images = direct_images(folder)
    parsed = [(path, parse(path.name)) for path in images]
    strange = [path.name for path, found in parsed if found is None]
    if strange:
        raise DataError(
            f"{folder}: {len(strange)} of {len(images)} image names are not {scheme}: {quote(strange)}",
            hint="rename them or move them away",
        )
    return [ImageRecord(path, *found) for path, found in parsed if found is not None]


def _split_folders(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Return part -> folder for the folders of ``names`` (part -> lower-case name) that are there."""
    present = inner(folder)
    return {part: present[name] for part, name in names.items() if name in present}


def fits_split(
    folder: Path, *, names: Mapping[str, str], signs: tuple[str, ...], parse: NameParser = market_name
) -> bool:
    """Return whether one of the parts ``signs`` has its folder, with an image in it whose name ``parse`` knows."""
    there = _split_folders(folder, names)
    return any(part in there and any(parse(i.name) for i in direct_images(there[part])) for part in signs)


def load_split(
    folder: Path, seed: int, *, names: Mapping[str, str], parse: NameParser = market_name, scheme: str = "PID_cCAM..."
) -> Parts:
    """Return the parts of a layout with one folder per part (part -> lower-case folder name), split as given."""
    there = _split_folders(folder, names)
    found = {part: parsed_images(path, parse, scheme) for part, path in there.items()}
    parts = labelled_parts(*(found.get(part, []) for part in ("train", "query", "gallery")))
    missing = [name for part, name in names.items() if part not in there]
    if missing:
        parts.facts["missing_folders"] = missing
    return parts


def load_market_500k(folder: Path, seed: int) -> Parts:
    """Return Market-1501 with the images of ``distractors/`` (or ``images/``, as its archive unpacks) in the gallery.

    Raises:
        DataError: neither folder is there.
    """
    parts = load_split(folder, seed, names=_MARKET_FOLDERS)
    places = [path for name, path in inner(folder).items() if name in _DISTRACTOR_FOLDERS]
    if not places:
        expected = ", ".join(f"{name}/" for name in _DISTRACTOR_FOLDERS)
        raise DataError(f"{folder}: no folder of distractors", hint=f"unpack them into one of {expected} beside query/")
    more = [ImageRecord(path, DISTRACTOR_PID) for place in places for path in direct_images(place)]
    return replace(parts, gallery=(*parts.gallery, *more), facts={**parts.facts, "added_distractors": len(more)})


def fits_flat(folder: Path, *, parse: NameParser) -> bool:
    """Return whether most of the images directly in ``folder`` have names that ``parse`` understands."""
    images = direct_images(folder)
    return sum(parse(image.name) is not None for image in images) * 2 > len(images)


def load_flat(folder: Path, seed: int, *, parse: NameParser, scheme: str) -> Parts:
    """Return the parts of one folder of images, their identities split in halves by the seed, without junk."""
    records = parsed_images(folder, parse, scheme)
    return halves_by_identity([record for record in records if record.pid is not None and record.pid > 0], seed=seed)


_MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_DISTRACTOR_FOLDERS = ("distractors", "distractors_500k", "images")
_PLAIN_FOLDERS = {"train": "train", "query": "query", "gallery": "gallery"}

MARKET1501 = Layout(
    name="market1501",
    expects="bounding_box_train/, query/, bounding_box_test/ (Market-1501)",
    fits=partial(fits_split, names=_MARKET_FOLDERS, signs=("train", "gallery")),
    load=partial(load_split, names=_MARKET_FOLDERS),
    # The 32 668 boxes of the paper are train and gallery together.
    published={
        "train_images": 12936,
        "train_identities": 751,
        "query_images": 3368,
        "query_identities": 750,
        "gallery_images": 19732,
        "cameras": 6,
    },
    citation="Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015",
    default="standard",
    variants={"500k": Variant(load=load_market_500k)},
)

PKU_REID = Layout(
    name="pku-reid",
    expects="images named PPP_CC_O (PKU-Reid)",
    fits=partial(fits_flat, parse=pku_name),
    load=partial(load_flat, parse=pku_name, scheme="PPP_CC_O (person, camera, orientation)"),
    published={"images": 1824, "identities": 114, "cameras": 2},
    citation="Ma et al., Orientation Driven Bag of Appearances for Person Re-identification, arXiv 1605.02464, 2016",
)

NAMED_SPLIT = Layout(
    name="named-split",
    expects="train/, query/, gallery/ with images named PID_cCAM...",
    fits=partial(fits_split, names=_PLAIN_FOLDERS, signs=("train", "query", "gallery")),
    load=partial(load_split, names=_PLAIN_FOLDERS),
    generic=True,
)

NAMED_IMAGES = Layout(
    name="named-images",
    expects="images named PID_cCAM...",
    fits=partial(fits_flat, parse=market_name),
    load=partial(load_flat, parse=market_name, scheme="PID_cCAM..."),
    generic=True,
)

"""Datasets whose parts are told by folders of a meaning: occluded and whole bodies, other clothes, tracklets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prsnet.data.images import list_images
from prsnet.data.layouts.declaration import Layout, Variant, inner, labelled_parts, quote
from prsnet.data.splits import Parts
from prsnet.errors import DataError
from prsnet.types import ImageRecord

_OCCLUDED, _PARTIAL, _WHOLE = "occluded_body_images", "partial_body_images", "whole_body_images"
_LEADING_PID = re.compile(r"([0-9]{1,6})[_.]")
_PRCC_NAME = re.compile(r"([ABC])_?.*\.(?:jpg|png)", re.IGNORECASE)
_MARS_NAME = re.compile(r"([0-9]{4}|00-1)C([0-9])T([0-9]{4})F([0-9]{3,4})\.jpg", re.IGNORECASE)
_VIEWS_RULE = "the two kinds of images count as two cameras, so that no match is left out"


def view_images(folder: Path | None, camid: int) -> list[ImageRecord]:
    """Return the images in and below ``folder``, whose names begin with the person's number.

    Raises:
        DataError: names that do not.
    """
    images = list_images(folder) if folder is not None else []
    parsed = [(image, _LEADING_PID.match(image.name)) for image in images]
    strange = [image.name for image, match in parsed if match is None]
    if strange:
        message = f"{folder}: {len(strange)} of {len(images)} image names do not begin with PID_: {quote(strange)}"
        raise DataError(message, hint="rename them or move them away")
    return [ImageRecord(image, int(match[1]), camid) for image, match in parsed if match]


def load_bodies(folder: Path, seed: int, *, query: str) -> Parts:
    """Return the queries of one kind of body images, and the whole ones as gallery; there is no training part."""
    there = inner(folder)
    parts = labelled_parts([], view_images(there.get(query), 1), view_images(there.get(_WHOLE), 2))
    parts.facts["split"] = f"{query} are queries, {_WHOLE} the gallery; {_VIEWS_RULE}"
    return parts


def load_p_duke(folder: Path, seed: int) -> Parts:
    """Return P-DukeMTMC-reID: all of train/ trains; of test/, occluded images are searched among whole ones."""
    train, test = (inner(inner(folder)[part]) for part in ("train", "test"))
    trained = [*view_images(train.get(_OCCLUDED), 1), *view_images(train.get(_WHOLE), 2)]
    parts = labelled_parts(trained, view_images(test.get(_OCCLUDED), 1), view_images(test.get(_WHOLE), 2))
    parts.facts["split"] = f"train and test as given; {_OCCLUDED} are queries, {_WHOLE} the gallery; {_VIEWS_RULE}"
    return parts


def _fits_p_duke(folder: Path) -> bool:
    there = inner(folder)
    return all({_OCCLUDED, _WHOLE} <= set(inner(there[part])) if part in there else False for part in ("train", "test"))


def _prcc_folder(folder: Path) -> Path:
    return inner(folder).get("rgb", folder)


def _fits_prcc(folder: Path) -> bool:
    there = inner(_prcc_folder(folder))
    return "train" in there and "test" in there and {"a", "b", "c"} <= set(inner(there["test"]))


def _people(folder: Path) -> Iterable[tuple[int, Path]]:
    """Yield (pid, image) below folders that are named by a number.

    Raises:
        DataError: other folders.
    """
    people = inner(folder)
    strange = [name for name in people if not (name.isascii() and name.isdigit())]
    if strange:
        raise DataError(f"{folder}: expected folders named by a number, found {quote(strange)}", hint="move them away")
    for name, place in people.items():
        yield from ((int(name), image) for image in list_images(place))


def load_prcc(folder: Path, seed: int, *, query: str) -> Parts:
    """Return PRCC: camera A is the gallery; ``query`` is ``"c"`` (other clothes) or ``"b"`` (the same clothes).

    The images of ``val/`` are of the training people and are left out. The gallery holds all images of A; papers that
    draw one per person at random report the mean of many draws.
    """
    there = inner(_prcc_folder(folder))
    train = []
    for pid, image in _people(there["train"]):
        match = _PRCC_NAME.fullmatch(image.name)
        if match is None:
            raise DataError(f"{image}: expected a name that begins with A, B or C", hint="move it away")
        train.append(ImageRecord(image, pid, "abc".index(match[1].lower()) + 1))
    views = inner(there["test"])
    queries = [ImageRecord(image, pid, "abc".index(query) + 1) for pid, image in _people(views[query])]
    gallery = [ImageRecord(image, pid, 1) for pid, image in _people(views["a"])]
    parts = labelled_parts(train, queries, gallery)
    clothes = {"c": "other clothes than", "b": "the same clothes as"}[query]
    parts.facts["split"] = f"as given, without val; queries of camera {query.upper()}, in {clothes} the gallery's, A"
    return parts


def _fits_mars(folder: Path) -> bool:
    return {"bbox_train", "bbox_test"} <= set(inner(folder))


def load_mars(folder: Path, seed: int) -> Parts:
    """Return MARS as single images: of each test person and camera, the first image of the first tracklet is a query.

    The other images of that tracklet are left out, so that a query is not answered by its own neighbours.

    Raises:
        DataError: image names that are not MARS'.
    """
    there = inner(folder)
    train = [record for record, _ in _mars_images(there["bbox_train"])]
    query: list[ImageRecord] = []
    gallery: list[ImageRecord] = []
    taken: dict[tuple[int, int], str] = {}
    for record, tracklet in _mars_images(there["bbox_test"]):
        key = (record.pid or 0, record.camid or 0)
        if key[0] > 0 and key not in taken:
            taken[key] = tracklet
            query.append(record)
        elif taken.get(key) != tracklet:
            gallery.append(record)
    parts = labelled_parts(train, query, gallery)
    parts.facts["split"] = (
        "train and test as given; of each test person and camera the first image of the first tracklet is a query, "
        "the rest of that tracklet is left out"
    )
    return parts


def _mars_images(folder: Path) -> list[tuple[ImageRecord, str]]:
    """Return the records below ``folder`` with their tracklets, in the order of person, camera, tracklet, frame."""
    images = sorted(list_images(folder), key=lambda image: image.name)
    parsed = [(image, _MARS_NAME.fullmatch(image.name)) for image in images]
    strange = [image.name for image, match in parsed if match is None]
    if strange:
        message = f"{folder}: {len(strange)} of {len(images)} image names are not PIDCcTttttFfff: {quote(strange)}"
        raise DataError(message, hint="rename them or move them away")
    return [
        (ImageRecord(image, -1 if match[1] == "00-1" else int(match[1]), int(match[2])), match[3])
        for image, match in parsed
        if match
    ]


OCCLUDED_REID = Layout(
    name="occluded-reid",
    expects="occluded_body_images/ and whole_body_images/ (Occluded-REID)",
    fits=lambda folder: {_OCCLUDED, _WHOLE} <= set(inner(folder)) and _PARTIAL not in inner(folder),
    load=partial(load_bodies, query=_OCCLUDED),
    published={"images": 2000, "identities": 200, "query_images": 1000, "gallery_images": 1000},
    citation="Zhuo et al., Occluded Person Re-identification, ICME 2018",
)

PARTIAL_REID = Layout(
    name="partial-reid",
    expects="partial_body_images/ and whole_body_images/ (Partial-REID)",
    fits=lambda folder: {_PARTIAL, _WHOLE} <= set(inner(folder)),
    load=partial(load_bodies, query=_PARTIAL),
    published={"identities": 60, "query_images": 300, "gallery_images": 300},
    citation="Zheng et al., Partial Person Re-identification, ICCV 2015",
    default="partial",
    variants={"occluded": Variant(load=partial(load_bodies, query=_OCCLUDED))},
)

P_DUKEMTMC = Layout(
    name="p-dukemtmc",
    expects="train/ and test/, each with occluded_body_images/ and whole_body_images/ (P-DukeMTMC-reID)",
    fits=_fits_p_duke,
    load=load_p_duke,
    published={"train_identities": 665, "query_identities": 634},
    citation="Zhuo et al., Occluded Person Re-identification, ICME 2018",
    note="made from DukeMTMC, which its authors withdrew in 2019",
)

PRCC = Layout(
    name="prcc",
    expects="rgb/ with train/ and test/A, test/B, test/C (PRCC)",
    fits=_fits_prcc,
    load=partial(load_prcc, query="c"),
    published={"train_images": 17896, "train_identities": 150, "query_identities": 71, "gallery_images": 3384},
    citation="Yang, Wu, Zheng, Person Re-identification by Contour Sketch under Moderate Clothing Change, TPAMI 2021",
    default="cross-clothes",
    variants={
        "same-clothes": Variant(
            load=partial(load_prcc, query="b"),
            published={"train_images": 17896, "train_identities": 150, "query_identities": 71, "gallery_images": 3384},
        )
    },
)

MARS = Layout(
    name="mars",
    expects="bbox_train/ and bbox_test/ (MARS, as single images)",
    fits=_fits_mars,
    load=load_mars,
    published={"train_images": 509914, "train_identities": 625, "cameras": 6},
    citation="Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-Identification, ECCV 2016",
    note="figures on single images do not compare with those on tracklets",
)

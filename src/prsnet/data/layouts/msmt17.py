"""MSMT17: images in folders by identity, the split in list files of ``IMAGE PID`` lines."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from prsnet.data.images import is_image_name
from prsnet.data.layouts.declaration import SHOWN, Layout, Variant, inner
from prsnet.data.splits import Parts
from prsnet.errors import DataError
from prsnet.types import ImageRecord

_LINE = re.compile(r"(\S+)\s+([0-9]{1,6})")
_NAME = re.compile(r"[0-9]+_[0-9]+_([0-9]{1,3})_")
_EDITIONS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
"""Names of the folders of training and test images; V2 has blurred faces."""


def _edition(folder: Path) -> str | None:
    there = inner(folder)
    return next((name for name, folders in _EDITIONS.items() if all(part in there for part in folders)), None)


def _fits(folder: Path) -> bool:
    return (folder / "list_train.txt").is_file() and _edition(folder) is not None


def read_list(file: Path, images: Path, *, first: int) -> list[ImageRecord]:
    """Return the records of a list file.

    Args:
        file: lines ``NNNN/NNNN_III_CC_....jpg PID``, identities from 0; the third number of the name is the camera.
        images: the folder that the names start from.
        first: the pid of identity 0.

    Raises:
        DataError: the file is missing, or has lines of another form, or images that are not there.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{file}: cannot be read: {reason}", hint="unpack the whole archive") from error
    records, faults = [], []
    for line in lines:
        match, name = _LINE.fullmatch(line), _NAME.match(line.rpartition("/")[2])
        if match is None or name is None or not is_image_name(Path(match[1]).name) or ".." in match[1]:
            faults.append(f"'{line}'")
        elif not (images / match[1]).is_file():
            faults.append(f"no image {match[1]}")
        else:
            records.append(ImageRecord(images / match[1], int(match[2]) + first, int(name[1])))
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"{file}: {len(faults)} of {len(lines)} lines are not IMAGE PID: {'; '.join(faults[:SHOWN])}{more}",
            hint="are list files and images of the same edition?",
        )
    return records


def load_msmt17(folder: Path, seed: int, *, with_validation: bool = False) -> Parts:
    """Return MSMT17, V1 or V2 by its folders; identities of the test follow those of the training in number.

    Args:
        folder: holds the list files and the two image folders.
        seed: not read, the split is given.
        with_validation: the images of ``list_val.txt`` train, too, as in most published figures.
    """
    edition = _edition(folder) or "V1"
    train_images, test_images = (inner(folder)[name] for name in _EDITIONS[edition])
    train = read_list(folder / "list_train.txt", train_images, first=1)
    if with_validation:
        train += read_list(folder / "list_val.txt", train_images, first=1)
    first = 1 + max((record.pid or 0 for record in train), default=0)
    query, gallery = (read_list(folder / f"list_{part}.txt", test_images, first=first) for part in ("query", "gallery"))
    split = "as given, training with validation images" if with_validation else "as given, without validation images"
    return Parts(tuple(train), tuple(query), tuple(gallery), {"edition": edition, "split": split})


_TEST = {"query_images": 11659, "query_identities": 3060, "gallery_images": 82161, "cameras": 15}

MSMT17 = Layout(
    name="msmt17",
    expects="list_train.txt, list_val.txt, list_query.txt, list_gallery.txt beside train/ and test/ (MSMT17)",
    fits=_fits,
    load=load_msmt17,
    published={"train_images": 30248, "train_identities": 1041, **_TEST},
    citation="Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018",
    default="train",
    variants={
        "train+val": Variant(
            load=partial(load_msmt17, with_validation=True),
            published={"train_images": 32621, "train_identities": 1041, **_TEST},
        )
    },
)

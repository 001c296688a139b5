"""What a layout is: a short declaration over shared parsing. A new dataset is one more :class:`Layout`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prsnet.data.images import is_image_name, is_visible_folder, list_images
from prsnet.data.splits import Parts
from prsnet.errors import DataError
from prsnet.types import DISTRACTOR_PID, JUNK_PID, ImageRecord

SHOWN = 5
"""How many names or lines an error quotes before it says how many more there are."""


Load = Callable[[Path, int], Parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another protocol on the same files, chosen by ``layout="NAME:VARIANT"``.

    Attributes:
        load: as that of :class:`Layout`.
        published: counts that the authors published for it.
    """

    load: Load
    published: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way in which people arrange a dataset on disk.

    Attributes:
        name: what ``layout=`` and the reports call it.
        expects: what it looks like, for the message when nothing fits.
        fits: (folder or file) -> whether it looks like that; cheap, judged by names alone, never raises.
        load: (folder or file, seed) -> the parts. May raise DataError; a layout with its own split ignores the seed.
        published: counts that the authors published, under the names that :func:`count_parts` uses.
        citation: the paper to cite.
        note: what everybody who reports figures on it should know.
        generic: a layout of anybody's own data, tried only when no layout of a certain dataset fits.
        variants: name -> another protocol on the same files.
        default: what the facts call the protocol of ``load``, where there are variants.
        instead_of: a layout that fits wherever this one does, and is then not meant.
        sign: a further condition for being recognised when nobody names the layout.
    """

    name: str
    expects: str
    fits: Callable[[Path], bool]
    load: Load
    published: Mapping[str, int] = field(default_factory=dict)
    citation: str = ""
    note: str = ""
    generic: bool = False
    variants: Mapping[str, Variant] = field(default_factory=dict)
    default: str = ""
    instead_of: str = ""
    sign: Callable[[Path], bool] | None = None


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders directly in ``folder``, sorted; none when it is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # tells files from folders without a look at each, which iterdir needs
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and is_visible_folder(entry.name))


def inner(folder: Path) -> dict[str, Path]:
    """Return the visible folders directly in ``folder`` by their name in lower case."""
    return {path.name.lower(): path for path in subfolders(folder)}


def direct_images(folder: Path) -> list[Path]:
    """Return the images directly in ``folder``, sorted; none when it is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_image_name(entry.name) and entry.is_file())
    return [folder / name for name in names]


def has_images(folder: Path) -> bool:
    """Return whether there is an image in or below ``folder``."""
    return bool(direct_images(folder)) or bool(list_images(folder))


def quote(names: Sequence[object]) -> str:
    """Return the first few of ``names``, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def describe(path: Path) -> str:
    """Return in a few words what lies at ``path``, for the message that nothing fits."""
    if not path.is_dir():
        return f"a {path.suffix or 'nameless'} file"
    folders, images = subfolders(path), direct_images(path)
    parts = [f"{len(folders)} folder(s) ({quote([f.name for f in folders])})"] if folders else []
    if images:
        parts.append(f"{len(images)} image(s) ({quote([i.name for i in images])})")
    others = sorted(p.name for p in path.iterdir() if p.is_file() and not is_image_name(p.name))
    if others:
        parts.append(f"{len(others)} other file(s) ({quote(others)})")
    return ", ".join(parts) or "an empty folder"


def count_parts(parts: Parts) -> dict[str, int]:
    """Return the counts of a dataset: images and identities (pid > 0) per part and in all, cameras, odd images."""
    everything = {record.path: record for part in (parts.train, parts.query, parts.gallery) for record in part}
    counts = {"images": len(everything), "identities": _identities(list(everything.values()))}
    counts["cameras"] = len({r.camid for r in everything.values() if r.camid is not None})
    for name in ("train", "query", "gallery"):
        records: Sequence[ImageRecord] = getattr(parts, name)
        counts[f"{name}_images"] = len(records)
        counts[f"{name}_identities"] = _identities(records)
    counts["gallery_distractors"] = sum(record.pid == DISTRACTOR_PID for record in parts.gallery)
    counts["gallery_junk"] = sum(record.pid == JUNK_PID for record in parts.gallery)
    return counts


def _identities(records: Sequence[ImageRecord]) -> int:
    return len({record.pid for record in records if record.pid is not None and record.pid > 0})


def labelled_parts(train: list[ImageRecord], query: list[ImageRecord], gallery: list[ImageRecord]) -> Parts:
    """Return the parts, without the junk and distractors (pid <= 0) that only a gallery may hold; facts count them."""
    kept_train = tuple(r for r in train if r.pid is None or r.pid > 0)
    kept_query = tuple(r for r in query if r.pid is None or r.pid > 0)
    facts: dict[str, Any] = {"split": "as given"}
    left_out = {"train": len(train) - len(kept_train), "query": len(query) - len(kept_query)}
    if any(left_out.values()):
        facts["left_out_junk_and_distractors"] = left_out
    return Parts(kept_train, kept_query, tuple(gallery), facts)


def named_like(error: DataError, path: Path) -> DataError:
    """Return ``error`` with ``path`` in front, unless its message names it already."""
    return error if str(path) in error.message else DataError(f"{path}: {error.message}", hint=error.hint)

"""JSON files that list images where they lie: pools and combinations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prsnet.errors import DataError
from prsnet.files import write_text

VERSION = 1


def portable(path: Path, folder: Path) -> str:
    """Return how a manifest in ``folder`` names ``path``: relative where it lies below the folder, else absolute."""
    absolute, root = path.absolute(), folder.resolve()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def write_manifest(
    file: Path, kind: str, head: Mapping[str, Any], lists: Mapping[str, Sequence[Sequence[Any]]]
) -> None:
    """Write a manifest, atomically, one row of each list to a line.

    Args:
        file: where to.
        kind: what it is, e.g. ``"prsnet-pool"``.
        head: what JSON can hold.
        lists: name -> rows.
    """
    text = json.dumps({"format": kind, "version": VERSION, **head})[:-1]
    for name, rows in lists.items():
        text += f',\n"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]"
    write_text(file, text + "}\n")


def read_manifest(file: Path, kind: str, made_by: str) -> dict[str, Any]:
    """Return the content of a manifest.

    Args:
        file: the manifest.
        kind: what it must be.
        made_by: the command that makes such files, for the hint.

    Raises:
        DataError: no such JSON, or of another kind or version.
    """
    what = kind.removeprefix("prsnet-")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: not a {what}: {told}", hint=f"make it again by `{made_by}`") from error
    if not isinstance(content, dict) or content.get("format") != kind or content.get("version") != VERSION:
        raise DataError(f"{file}: not a {what} of version {VERSION}", hint=f"make it by `{made_by}`")
    return content


def listed_images(file: Path, names: Sequence[str], made_by: str) -> list[Path]:
    """Return the paths of the images that a manifest names.

    Raises:
        DataError: some are gone.
    """
    images = [file.parent / name for name in names]
    gone = [str(image) for image in images if not _is_there(image)]
    if gone:
        told = ", ".join(gone[:3])
        hint = f"make it again by `{made_by}`"
        raise DataError(f"{file}: {len(gone)} of {len(images)} images are gone: {told}", hint=hint)
    return images


def _is_there(image: Path) -> bool:
    try:
        return image.is_file() or image.parent.is_file()  # an image of a pack goes by FILE.pack/ROW
    except ValueError:
        return False


def manifest_kind(path: Path) -> str:
    """Return what the head of a JSON file says that it is, or ""."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return ""
    try:
        with path.open("rb") as stream:
            head = stream.read(100).decode("utf-8", "replace")
    except OSError:
        return ""
    return head.partition('{"format": "')[2].partition('"')[0] if head.startswith('{"format": "') else ""

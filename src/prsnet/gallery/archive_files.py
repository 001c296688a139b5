"""The files of an archive, in a folder or a zip: written atomically, read with suspicion."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from prsnet.embeddings_file import MAX_BYTES, refuse_bomb
from prsnet.errors import DataError, InputError
from prsnet.files import replacing
from prsnet.gallery.schema import sync_folder

Source: TypeAlias = Callable[[str, int], bytes]
"""(name, most bytes) -> content of one file of the archive."""
Target: TypeAlias = Callable[[str, bytes], None]
"""(name, content): writes one file of the archive."""

_NAMES = re.compile(r"gallery\.json|shard-[0-9]{5,6}\.(npz|jsonl)|crops/([0-9]{1,19}\.(jpg|png|webp))?")
_HINT = "write it with `prsnet gallery export`"


@contextmanager
def open_target(path: Path) -> Iterator[Target]:
    """Yield what writes the files of an archive; it takes its name when all are written.

    Raises:
        InputError: a folder of that name exists and is not empty, or the place cannot be written.
    """
    if path.suffix.lower() == ".zip":
        # Vectors do not shrink and pictures are compressed already: storing is as small and far quicker.
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            yield archive.writestr
        return
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: exists already, expected a new folder or a .zip file", hint="choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path}: cannot be made: {error.strerror}", hint="choose another place") from error
    try:
        yield lambda name, content: _write(made / name, content)
        made.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Yield what reads the files of an archive.

    Of a zip every name is judged before anything is read; of a folder only files that an archive has are ever opened,
    and never through a link.

    Raises:
        DataError: nothing there, not a zip, names that no archive has, or more than it could hold.
    """
    if path.is_dir():
        yield lambda name, most: _read_file(path, name, most)
        return
    if not path.is_file():
        raise DataError(f"{path}: no such folder or zip file", hint="check the path")
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise DataError(f"{path}: not a zip file: {error}", hint=_HINT) from error
        try:
            _check_names(archive)
            refuse_bomb(archive, path.stat().st_size, 16 * MAX_BYTES)
        except DataError as error:
            raise DataError(f"{path}: {error.message}", hint=_HINT) from error
        yield lambda name, most: _read_member(archive, name, most)


def _check_names(archive: zipfile.ZipFile) -> None:
    names = [member.filename for member in archive.infolist()]
    for member in archive.infolist():
        if not _NAMES.fullmatch(member.filename):
            raise DataError(f"holds {member.filename!r:.80}, which no archive of a gallery does")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{member.filename!r:.80} is a link, expected a file")
    if len(set(names)) != len(names):
        raise DataError("holds two files of the same name")


def _read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    try:
        member = archive.getinfo(name)
        if member.file_size > most:
            raise DataError(f"{name}: {member.file_size} bytes, expected at most {most}", hint=_HINT)
        return archive.read(member)
    except KeyError as error:
        raise DataError(f"{name} is missing", hint=_HINT) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{name}: broken: {' '.join(str(error).split()):.120}", hint="copy the file again") from error


def _read_file(folder: Path, name: str, most: int) -> bytes:
    if not _NAMES.fullmatch(name):
        raise DataError(f"{name!r:.80}: no file of an archive", hint=_HINT)
    file = folder / name
    for place in (file.parent if file.parent != folder else file, file):
        if place.is_symlink():
            raise DataError(f"{place.name} is a link, expected a file", hint="copy the archive with its files")
    try:
        if not file.is_file():
            raise DataError(f"{name} is missing", hint=_HINT)
        if file.stat().st_size > most:
            raise DataError(f"{name}: {file.stat().st_size} bytes, expected at most {most}", hint=_HINT)
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}", hint="check its permissions") from error

"""The tables of a gallery in SQLite, how such a file is made, and how one that somebody hands us is checked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from prsnet.errors import DataError, InputError, PrsnetError
from prsnet.gallery.faults import GalleryDamaged, GalleryUnavailable
from prsnet.gallery.space import EmbeddingSpace
from prsnet.types import ModelIdentity

DATABASE = "gallery.sqlite"
"""The file's name in the gallery's folder."""
APPLICATION_ID = 0x50525347
"""Marks the file as ours ("PRSG"); stands in its header."""
FORMAT_VERSION = 1
OLDEST_SQLITE = (3, 38, 0)
"""Has STRICT tables, and JSON functions in every build."""
BUSY_SECONDS = 30.0
PAGE_BYTES = 8192

TABLES = {
    "model": """CREATE TABLE model (
        fingerprint TEXT NOT NULL, name TEXT NOT NULL, width INTEGER NOT NULL,
        stored_width INTEGER NOT NULL, basis BLOB, path TEXT NOT NULL) STRICT""",
    "state": """CREATE TABLE state (
        revision INTEGER NOT NULL, deletions INTEGER NOT NULL, unwiped INTEGER NOT NULL,
        retention_days REAL, purged INTEGER NOT NULL) STRICT""",
    "sighting": """CREATE TABLE sighting (
        id INTEGER PRIMARY KEY AUTOINCREMENT, revision INTEGER NOT NULL, pid INTEGER, camid INTEGER, time INTEGER,
        added INTEGER NOT NULL, source TEXT NOT NULL, path TEXT NOT NULL, facts TEXT NOT NULL) STRICT""",
    "sighting_revision": "CREATE INDEX sighting_revision ON sighting (revision)",
    "vector": "CREATE TABLE vector (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT",
    "crop": "CREATE TABLE crop (id INTEGER PRIMARY KEY, image BLOB NOT NULL) STRICT",
}
_BUILT_IN = frozenset({"sqlite_sequence"})


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that names the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _operational(file, error) from error
    except sqlite3.ProgrammingError as error:
        raise GalleryUnavailable(f"{file}: {error}", hint="open the gallery again") from error
    except sqlite3.DatabaseError as error:
        hint = "restore it from a copy, or from `prsnet gallery export`"
        raise GalleryDamaged(f"{file}: damaged, or no gallery: {error}", hint=hint) from error


def _operational(file: Path, error: sqlite3.OperationalError) -> PrsnetError:
    text = str(error)
    if "locked" in text or "busy" in text:
        hint = "wait until the other process is done"
        return GalleryUnavailable(f"{file}: another process has been writing for over {BUSY_SECONDS:.0f} s", hint=hint)
    if "readonly" in text or "unable to open" in text:
        return GalleryUnavailable(
            f"{file}: cannot be opened for writing: {text}", hint="check the folder's permissions"
        )
    if "full" in text or "I/O" in text:
        return GalleryUnavailable(
            f"{file}: the disk failed: {text}", hint="free some space; what was acknowledged is kept"
        )
    return GalleryDamaged(f"{file}: not the tables of a gallery: {text}", hint="make one with `prsnet gallery create`")


def connect(file: Path) -> sqlite3.Connection:
    """Open the file with the guarantees that a gallery gives.

    WAL lets others read while one writes. synchronous=FULL syncs the log before a commit returns, so that what was
    acknowledged survives a kill and a power cut (NORMAL would survive the kill alone). secure_delete overwrites freed
    bytes with zeros. cell_size_check and trusted_schema=OFF are for files from strangers.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise InputError(
            f"SQLite {sqlite3.sqlite_version}: expected {needed} or newer", hint="use a newer Python build"
        )
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def make(folder: Path, space: EmbeddingSpace, *, model_path: str, retention_days: float | None) -> None:
    """Make the folder of an empty gallery; it takes its name only when it is whole.

    Raises:
        InputError: the folder is not empty, or cannot be made.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: exists already, expected a new folder", hint="choose another name")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}", hint="choose another place") from error
    try:
        with explained(folder):
            _fill(made / DATABASE, space, model_path, retention_days)
        made.replace(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """See to it that a power cut does not undo renaming in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(file: Path, space: EmbeddingSpace, model_path: str, retention_days: float | None) -> None:
    model, basis = space.model, None if space.basis is None else np.ascontiguousarray(space.basis, "<f4").tobytes()
    row = (model.fingerprint, model.name, model.width, space.stored_width, basis, model_path)
    connection = connect(file)
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN")
        for statement in TABLES.values():
            connection.execute(statement)
        connection.execute("INSERT INTO model VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO state VALUES (0, 0, 0, ?, 0)", (retention_days,))
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def check(connection: sqlite3.Connection, file: Path) -> None:
    """Refuse a database that is not exactly ours: no other tables, and no triggers or views that would run.

    Raises:
        DataError: it is not, or is of a newer format.
    """
    marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if marks[0] != APPLICATION_ID:
        hint = "make one with `prsnet gallery create`"
        raise DataError(f"{file}: an SQLite file, but no gallery (application id {marks[0]:#x})", hint=hint)
    if marks[1] != FORMAT_VERSION:
        raise DataError(f"{file}: format version {marks[1]}, this prsnet reads {FORMAT_VERSION}", hint="update prsnet")
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
    expected = {name: _plain(statement) for name, statement in TABLES.items()}
    got = {str(name): _plain(sql) for name, sql in found.items() if name not in _BUILT_IN}
    if got != expected:
        odd = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
        raise DataError(
            f"{file}: not the tables of a gallery: {', '.join(odd):.100} differ", hint="the file was changed"
        )
    states = connection.execute("SELECT count(*) FROM state").fetchone()[0]
    if states != 1:
        raise DataError(f"{file}: {states} rows of state, expected 1", hint="the file was changed")


def read_space(connection: sqlite3.Connection, file: Path) -> tuple[EmbeddingSpace, str]:
    """Return whose embeddings the gallery holds, and where the model lay when it was made; checked as from a stranger.

    Raises:
        DataError: no model, or facts that do not fit together.
    """
    rows = connection.execute("SELECT fingerprint, name, width, stored_width, basis, path FROM model").fetchall()
    if len(rows) != 1:
        raise DataError(f"{file}: {len(rows)} models, expected 1", hint="the file was changed")
    fingerprint, name, width, stored_width, basis, path = rows[0]
    try:
        identity = ModelIdentity(fingerprint, name, width)
        matrix = None
        if basis is not None:
            if len(basis) != 4 * width * stored_width:
                raise DataError(f"basis of {len(basis)} bytes, expected {4 * width * stored_width}")
            matrix = np.frombuffer(basis, "<f4").reshape(width, stored_width).astype(np.float32)
        space = EmbeddingSpace(identity, matrix)
    except DataError as error:
        raise DataError(f"{file}: {error.message}", hint="the file was changed") from error
    if space.stored_width != stored_width:
        raise DataError(f"{file}: {stored_width} numbers per vector, expected {width}", hint="the file was changed")
    return space, path


def _plain(statement: str | None) -> str:
    return " ".join((statement or "").split())

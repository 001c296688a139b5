"""A gallery as a folder or zip that anybody can read, and back; what comes back is taken as from a stranger.

gallery.json       format, model, the shards and their numbers of rows
shard-00000.npz    vectors (n, D) float32, the model's own embeddings
shard-00000.jsonl  the n sightings, one JSON object per line, in the same order
crops/17.jpg       the kept pictures, named in the lines
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prsnet.embeddings_file import identity_from, read_npz
from prsnet.errors import DataError, PrsnetError
from prsnet.gallery.archive_files import Source, open_source, open_target
from prsnet.gallery.crops import MAX_BYTES as MAX_CROP
from prsnet.gallery.crops import crop_format
from prsnet.gallery.gallery import Gallery
from prsnet.gallery.sightings import EVERYTHING, NewSighting, Sighting, SightingFilter, parse_time
from prsnet.gallery.space import Floats
from prsnet.types import ModelIdentity

FORMAT = "prsnet-gallery"
FORMAT_VERSION = 1
MANIFEST = "gallery.json"
ROWS_PER_SHARD = 2048
MAX_ROWS_PER_SHARD = 65_536
MAX_SHARDS = 100_000
_MAX_MANIFEST = 16 * 2**20
_MAX_LINES = 2**30
_KEYS = {"id", "pid", "camid", "time", "added", "source", "path", "facts", "crop"}
_CROP_NAME = re.compile(r"crops/[0-9]{1,19}\.(jpg|png|webp)")
_HINT = "write it with `prsnet gallery export`"


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself: the model, and the rows of each shard."""

    model: ModelIdentity
    shards: tuple[int, ...]


def export_gallery(
    gallery: Gallery,
    target: Path | str,
    *,
    where: SightingFilter = EVERYTHING,
    who: str = "",
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write sightings, vectors and crops to a new folder, or to a file that ends in ``.zip``; return how many.

    What is expired is left out. What others add or delete meanwhile may be in it or not; each sighting is whole.

    Args:
        gallery: what is exported.
        target: a folder that does not exist, or a ``.zip`` file, which is replaced.
        where: only these sightings.
        who: the user or token in the log.
        progress: called with the number of sightings of each finished shard.

    Raises:
        InputError: the target exists or cannot be written.
    """
    gallery.audit.append("export", who=who or gallery.who, filter=where.to_dict(), target=str(target))
    shards: list[int] = []
    with open_target(Path(target)) as write:
        for sightings, vectors, crops in gallery.contents(where, rows=ROWS_PER_SHARD):
            names = [_crop_name(seen, crop) for seen, crop in zip(sightings, crops, strict=True)]
            lines = [{**seen.to_dict(), "crop": name} for seen, name in zip(sightings, names, strict=True)]
            buffer = io.BytesIO()
            np.savez(buffer, vectors=vectors)
            write(f"{_shard(len(shards))}.npz", buffer.getvalue())
            write(f"{_shard(len(shards))}.jsonl", "".join(f"{_json(_without_flag(line))}\n" for line in lines).encode())
            for name, crop in zip(names, crops, strict=True):
                if name is not None and crop is not None:
                    write(name, crop)
            shards.append(len(sightings))
            if progress is not None:
                progress(len(sightings))
        facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": asdict(gallery.model), "shards": shards}
        write(MANIFEST, json.dumps(facts, indent=2).encode())
    return sum(shards)


def import_gallery(
    gallery: Gallery, source: Path | str, *, who: str = "", progress: Callable[[int], object] | None = None
) -> list[str]:
    """Add everything that :func:`export_gallery` wrote, all or nothing; return the new ids.

    The sightings get new ids; when they first entered a gallery is kept, so that retention goes on counting. Importing
    twice adds twice.

    Raises:
        DataError: of another model (the message names both), not such an archive, broken, or crafted: names that leave
            the folder, links, sizes out of proportion, objects that need pickle. Nothing is added then.
    """
    with open_source(Path(source)) as files:
        try:
            manifest = read_manifest(files)
            gallery.require(manifest.model)
            gallery.audit.append("import", who=who or gallery.who, source=str(source), count=sum(manifest.shards))
            return gallery.add_batches(_batches(files, manifest, gallery, progress), model=manifest.model)
        except DataError as error:
            raise DataError(f"{source}: {error.message}", hint=error.hint) from error


def archive_model(source: Path | str) -> ModelIdentity:
    """Return whose embeddings an archive holds; raises DataError as :func:`import_gallery`."""
    with open_source(Path(source)) as files:
        try:
            return read_manifest(files).model
        except DataError as error:
            raise DataError(f"{source}: {error.message}", hint=error.hint) from error


def read_manifest(files: Source) -> Manifest:
    """Return the checked manifest; raises DataError where it is none."""
    facts = _parsed(files(MANIFEST, _MAX_MANIFEST), MANIFEST)
    if facts.get("format") != FORMAT:
        raise DataError(f"{MANIFEST} does not say {FORMAT!r}", hint=_HINT)
    if facts.get("format_version") != FORMAT_VERSION:
        version = facts.get("format_version")
        raise DataError(f"format version {version!r:.20}, this prsnet reads {FORMAT_VERSION}", hint="update prsnet")
    shards = facts.get("shards")
    whole = isinstance(shards, list) and all(type(rows) is int and 0 < rows <= MAX_ROWS_PER_SHARD for rows in shards)
    if not whole or not isinstance(shards, list) or len(shards) > MAX_SHARDS:
        raise DataError(f"{MANIFEST}: shards: expected numbers of rows from 1 to {MAX_ROWS_PER_SHARD}", hint=_HINT)
    return Manifest(identity_from(facts.get("model")), tuple(shards))


def _batches(
    files: Source, manifest: Manifest, gallery: Gallery, progress: Callable[[int], object] | None
) -> Iterator[tuple[Floats, list[NewSighting]]]:
    for number, rows in enumerate(manifest.shards):
        name = _shard(number)
        try:
            yield _vectors(files, name, rows, manifest.model.width), _sightings(files, name, rows, gallery)
        except PrsnetError as error:
            raise DataError(f"{name}: {error.message}", hint=error.hint) from error
        if progress is not None:
            progress(rows)


def _vectors(files: Source, name: str, rows: int, width: int) -> Floats:
    largest = rows * width * 4 + 2**16
    arrays = read_npz(io.BytesIO(files(f"{name}.npz", largest)), max_bytes=largest)
    vectors = arrays.get("vectors")
    if vectors is None or vectors.dtype != np.float32 or vectors.shape != (rows, width):
        got = "none" if vectors is None else f"{vectors.dtype} {vectors.shape}"
        raise DataError(f"vectors {got}, expected float32 ({rows}, {width})", hint=_HINT)
    return vectors


def _sightings(files: Source, name: str, rows: int, gallery: Gallery) -> list[NewSighting]:
    lines = files(f"{name}.jsonl", _MAX_LINES).split(b"\n")
    if lines.pop() != b"" or len(lines) != rows:
        raise DataError(f"{len(lines)} whole lines of sightings, expected {rows}", hint=_HINT)
    return [_sighting(files, _parsed(line, f"line {place}"), gallery) for place, line in enumerate(lines, start=1)]


def _sighting(files: Source, facts: dict[str, Any], gallery: Gallery) -> NewSighting:
    if set(facts) != _KEYS or not isinstance(facts["facts"], dict):
        odd = ", ".join(sorted(set(facts) ^ _KEYS)) or "facts"
        raise DataError(f"a sighting does not have the attributes expected: {odd:.120}", hint=_HINT)
    crop = facts["crop"]
    if crop is not None and not (isinstance(crop, str) and _CROP_NAME.fullmatch(crop)):
        raise DataError(f"crop {crop!r:.80}: expected a name like crops/17.jpg", hint=_HINT)
    times = {name: None if facts[name] is None else parse_time(str(facts[name])) for name in ("time", "added")}
    # A date of entry in the future, which a stranger may write, would put off retention.
    added = times["added"] and min(times["added"], gallery.clock())
    picture = None if crop is None else files(crop, MAX_CROP)
    plain = {name: facts[name] for name in ("pid", "camid", "source", "path", "facts")}
    return NewSighting(**plain, time=times["time"], added=added, crop=picture)


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}: not JSON: {' '.join(str(error).split()):.120}", hint=_HINT) from error
    if not isinstance(value, dict):
        raise DataError(f"{what}: expected a JSON object, got {type(value).__name__}", hint=_HINT)
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _shard(number: int) -> str:
    return f"shard-{number:05d}"


def _crop_name(seen: Sighting, crop: bytes | None) -> str | None:
    return None if crop is None else f"crops/{seen.id}.{crop_format(crop) or 'jpg'}"


def _without_flag(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "has_crop"}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)

"""The ``gallery`` verbs but ``add``."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prsnet.cli.embedding import counted
from prsnet.cli.gallery_options import (
    CreateConfig,
    DeleteConfig,
    ExportConfig,
    FilterConfig,
    ImportConfig,
    PurgeConfig,
    SearchConfig,
    StatsConfig,
)
from prsnet.cli.progress import progress_bar
from prsnet.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from prsnet.embed import Embedder
    from prsnet.gallery import Gallery, SightingFilter
    from prsnet.types import Hit


def create(config: CreateConfig) -> None:
    """Run ``prsnet gallery create``."""
    from prsnet.embed import Embedder
    from prsnet.gallery import Gallery

    embedder = Embedder.from_checkpoint(config.model, device=config.device)
    with Gallery.create(
        config.gallery,
        embedder.identity,
        basis=embedder.compact_basis(),
        model_path=str(Path(config.model).resolve()),
        retention_days=config.retention_days,
    ) as gallery:
        stored = gallery.store.space.stored_width
        kept = "for good" if config.retention_days is None else f"{config.retention_days:g} days"
        print(f"{config.gallery}: empty, for model {gallery.model}, {stored} numbers stored each, kept {kept}")


def search(config: SearchConfig) -> None:
    """Run ``prsnet gallery search``: a table, or JSON."""
    if not config.images and not config.like:
        raise InputError("nothing to search for", hint="give pictures of a person, or --like ID of a stored sighting")
    with open_gallery(config.gallery) as gallery:
        where, shots, model = chosen(config), None, None
        if config.images:
            embedder = embedder_of(gallery, config.model, config.device)
            shots, model = embedder.embed(pictures(config.images)).vectors, embedder.identity
        hits = gallery.search_person(
            shots,
            model=model,
            like=config.like or (),
            top_k=config.top_k,
            threshold=config.threshold,
            where=where,
            one_per=config.one_per,
        )
    print(as_json(hits) if config.json else as_table(hits))


def pictures(places: Sequence[str]) -> list[Path]:
    """Return the images that arguments name: files, and all images of folders."""
    from prsnet.data.images import list_images

    return [file for place in map(Path, places) for file in (list_images(place) if place.is_dir() else [place])]


def delete(config: DeleteConfig) -> None:
    """Run ``prsnet gallery delete``; asks first, unless told not to."""
    with open_gallery(config.gallery) as gallery:
        where = chosen(config, now=gallery.clock())
        if where.is_empty != config.all:
            wrong = "--all together with conditions" if config.all else "no condition says what to delete"
            raise InputError(f"{config.gallery}: {wrong}", hint="give --id, --pid, --older-than, ... or --all alone")
        if not config.yes and not confirmed(gallery.count(where)):
            print("nothing deleted")
            return
        print(f"{config.gallery}: {gallery.delete(where, everything=config.all)} deleted")


def confirmed(count: int) -> bool:
    """Ask on the terminal whether ``count`` sightings shall be deleted."""
    if not sys.stdin.isatty():
        raise InputError(f"{count} sightings to delete, and nobody to ask", hint="add --yes to mean it")
    return input(f"delete {count} sightings for good? [y/N] ").strip().lower() in ("y", "yes")


def purge(config: PurgeConfig) -> None:
    """Run ``prsnet gallery purge``."""
    with open_gallery(config.gallery) as gallery:
        if config.keep or config.retention_days is not None:
            gallery.set_retention(config.retention_days)
        days = gallery.retention_days
        kept = "sightings are kept for good" if days is None else f"sightings are kept {days:g} days"
        print(f"{config.gallery}: {gallery.purge()} deleted, {kept}")


def stats(config: StatsConfig) -> None:
    """Run ``prsnet gallery stats``."""
    with open_gallery(config.gallery) as gallery:
        counts, days = gallery.stats(), gallery.retention_days
        if config.json:
            print(json.dumps({"model": str(gallery.model), "retention_days": days, **counts.to_dict()}, indent=2))
            return
        cameras = ", ".join(f"{'unknown' if c < 0 else c}: {n}" for c, n in counts.by_camera.items())
        sources = ", ".join(f"{name or 'unknown'}: {n}" for name, n in list(counts.by_source.items())[:10])
        rows = {
            "model": str(gallery.model),
            "sightings": f"{counts.sightings}, of them {counts.crops} with picture",
            "expired": str(counts.expired),
            "retention": "for good" if days is None else f"{days:g} days",
            "identities": f"{counts.identities}, and {counts.unidentified} sightings of unknown people",
            "cameras": cameras or "none",
            "sources": sources or "none",
            "time": f"{shown(counts.first)} to {shown(counts.last)}",
            "on disk": f"{counts.bytes / 2**20:.1f} MiB, {counts.stored_width} numbers per vector",
        }
        print("\n".join(f"{name:<11}{value}" for name, value in rows.items()))


def export(config: ExportConfig) -> None:
    """Run ``prsnet gallery export``."""
    from prsnet.gallery.archive import export_gallery

    with open_gallery(config.gallery) as gallery, progress_bar("exporting", unit="sighting") as progress:
        where = chosen(config)
        count = export_gallery(gallery, config.out, where=where, progress=counted(progress, gallery.count(where)))
    print(f"{config.out}: {count} sightings")


def import_(config: ImportConfig) -> None:
    """Run ``prsnet gallery import``."""
    from prsnet.gallery import Gallery
    from prsnet.gallery.archive import archive_model, import_gallery

    if not Path(config.gallery).exists():
        Gallery.create(config.gallery, archive_model(config.archive)).close()
    with open_gallery(config.gallery) as gallery:
        ids = import_gallery(gallery, config.archive)
    print(f"{config.gallery}: {len(ids)} added from {config.archive}")


def open_gallery(path: str) -> Gallery:
    """Open a gallery for whoever runs the command line."""
    from prsnet.gallery import Gallery

    return Gallery.open(path)


def embedder_of(gallery: Gallery, model: str | None, device: str) -> Embedder:
    """Return the gallery's model, from ``model`` or from where it lay when the gallery was made.

    Raises:
        CheckpointError: it is not there. DataError: it is another model now.
    """
    from prsnet.embed import Embedder

    place = model or gallery.store.model_path
    if not place or not Path(place).exists():
        raise CheckpointError(f"{place or 'the model'}: no such run or checkpoint", hint="say where with --model RUN")
    embedder = Embedder.from_checkpoint(place, device=device)
    gallery.require(embedder.identity)
    return embedder


def chosen(config: FilterConfig, now: datetime | None = None) -> SightingFilter:
    """Return the filter that the options describe."""
    from prsnet.gallery import SightingFilter
    from prsnet.gallery.sightings import parse_time

    days = getattr(config, "older_than", None)
    return SightingFilter(
        ids=getattr(config, "id", None),
        pids=config.pid,
        cameras=config.camera,
        sources=config.source,
        since=None if config.since is None else parse_time(config.since),
        until=None if config.until is None else parse_time(config.until),
        older_than=None if days is None or now is None else now - timedelta(days=days),
    )


def as_table(hits: Sequence[Hit]) -> str:
    """Return the hits as lines of text, the best first."""
    if not hits:
        return "no sighting found"
    rows: list[tuple[str, ...]] = [("rank", "similarity", "id", "pid", "camera", "time", "source", "image")]
    for rank, hit in enumerate(hits, start=1):
        known = ["-" if value is None else str(value) for value in (hit.pid, hit.camid)]
        rows.append((str(rank), f"{hit.similarity:.4f}", hit.id, *known, shown(hit.time), hit.source or "-", hit.path))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def as_json(hits: Sequence[Hit]) -> str:
    """Return the hits as a JSON list of objects."""
    plain = [
        {
            "id": hit.id,
            "similarity": hit.similarity,
            "pid": hit.pid,
            "camid": hit.camid,
            "time": None if hit.time is None else hit.time.isoformat(),
            "source": hit.source,
            "path": hit.path,
            "facts": dict(hit.facts),
        }
        for hit in hits
    ]
    return json.dumps(plain, indent=2)


def shown(time: datetime | None) -> str:
    """Return a time to the second, in UTC, or a dash."""
    return "-" if time is None else time.strftime("%Y-%m-%d %H:%M:%SZ")

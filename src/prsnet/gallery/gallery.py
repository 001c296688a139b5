"""The gallery: sightings of one model's embeddings, found by similarity, deleted for good."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError, InputError
from prsnet.gallery import schema
from prsnet.gallery.audit import AuditLog, current_user
from prsnet.gallery.crops import check_crop
from prsnet.gallery.reading import GalleryReader
from prsnet.gallery.retention import check_days, oldest_kept, purge_is_due
from prsnet.gallery.sightings import (
    EVERYTHING,
    NewSighting,
    OnePer,
    SightingFilter,
    check_one_per,
    microseconds,
    moment,
)
from prsnet.gallery.space import EmbeddingSpace, combine_shots, unit_rows
from prsnet.gallery.sqlite import SqliteStore
from prsnet.gallery.store import Batch, SightingStore
from prsnet.types import Hit, ModelIdentity

if TYPE_CHECKING:
    from prsnet.types import Vectors

AUDIT = "audit.jsonl"
UPDATABLE = ("pid", "camid", "time", "source", "path", "facts")
MAX_TOP_K = 10_000


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc)


class Gallery(GalleryReader):
    """Sightings, searched exactly by cosine similarity.

    Made by :meth:`create` and :meth:`open`; closed by :meth:`close` or the end of a ``with`` block. Safe to share
    between threads; several processes may have the same gallery open, and each sees what the others have added.

    Args:
        store: keeps the sightings.
        audit: takes a line for every search, change and deletion.
        who: the user or token in the log where a call names none.
        clock: tells the time; for tests.

    What :meth:`add` returned survives a kill and a power cut. What is older than the retention is never found; adding
    deletes it at most once an hour, :meth:`purge` at once. Deleting rewrites the store's files, so that neither vectors
    nor crops remain in them (copies that the file system or the disk keep by themselves are out of reach).
    """

    def __init__(
        self, store: SightingStore, audit: AuditLog, *, who: str = "", clock: Callable[[], datetime] = utc_now
    ) -> None:
        super().__init__(store, clock)
        self.audit = audit
        self.who = who or current_user()

    @classmethod
    def create(
        cls,
        path: Path | str,
        model: ModelIdentity,
        *,
        basis: npt.NDArray[np.float32] | None = None,
        model_path: str = "",
        retention_days: float | None = None,
        who: str = "",
        clock: Callable[[], datetime] = utc_now,
    ) -> Gallery:
        """Make an empty gallery: a folder that its owner alone may read.

        Args:
            path: the folder; must not exist, or be empty.
            model: whose embeddings it will hold (``Embedder.identity``).
            basis: (D, r) of the model (``Embedder.compact_basis()``): stores r numbers a vector, same cosines.
            model_path: where the model lies, for the command line.
            retention_days: longest age of a sighting; ``None`` keeps all.
            who: see the class.
            clock: see the class.

        Raises:
            InputError: the folder is not empty or cannot be made. DataError: the basis is not one.
        """
        check_days(retention_days)
        space = EmbeddingSpace(model, basis)
        schema.make(Path(path), space, model_path=model_path, retention_days=retention_days)
        return cls.open(path, who=who, clock=clock)

    @classmethod
    def open(cls, path: Path | str, *, who: str = "", clock: Callable[[], datetime] = utc_now) -> Gallery:
        """Open a gallery that exists; a deletion that a kill left unfinished is completed.

        Raises:
            InputError: nothing there, or no permission. DataError: not a gallery, damaged, or of a newer version.
        """
        file = Path(path) / schema.DATABASE
        if not file.is_file():
            hint = "make one with `prsnet gallery create`, or check the path"
            raise InputError(f"{path}: no gallery here, expected {schema.DATABASE} in it", hint=hint)
        if not os.access(file, os.W_OK):
            raise InputError(f"{file}: may not be written, which even searching needs", hint="check its permissions")
        gallery = cls(SqliteStore(file), AuditLog(Path(path) / AUDIT), who=who, clock=clock)
        try:
            if gallery.store.unwiped:
                # Another process may be at it right now; then it, or whoever opens the gallery next, finishes it.
                with contextlib.suppress(InputError):
                    gallery.store.wipe(patience=0.1)
        except BaseException:
            gallery.close()
            raise
        return gallery

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()

    def add(self, vectors: Vectors, sightings: Sequence[NewSighting], *, model: ModelIdentity) -> list[str]:
        """Add sightings; all of them, or none if anything is wrong. What is returned is on disk.

        Args:
            vectors: (N, D) their embeddings; scaled to unit length.
            sightings: what is known of each.
            model: what made the vectors.

        Returns:
            N ids, rising; no id is ever given twice.

        Raises:
            DataError: another model's vectors (the message names both), broken vectors or crops, not as many vectors as
                sightings. InputError: the store cannot be written.
        """
        return self.add_batches([(vectors, sightings)], model=model)

    def add_batches(
        self, batches: Iterable[tuple[Vectors, Sequence[NewSighting]]], *, model: ModelIdentity
    ) -> list[str]:
        """Add many batches as one: as :meth:`add`, and the batches may be made while they are taken."""
        self.require(model)
        now = self.clock()
        if purge_is_due(self.store.retention, now):
            self.purge()
        return self.store.add((self._checked(*batch) for batch in batches), now=microseconds(now))

    def _checked(self, vectors: Vectors, sightings: Sequence[NewSighting]) -> Batch:
        if len(vectors) != len(sightings):
            raise DataError(f"{len(vectors)} vectors but {len(sightings)} sightings")
        for place, seen in enumerate(sightings):
            if seen.crop is not None:
                check_crop(seen.crop, f"crop of sighting {place}" + (f" ({seen.path})" if seen.path else ""))
        return sightings, self.store.space.encode(vectors)

    def search(
        self,
        vectors: Vectors,
        *,
        model: ModelIdentity,
        top_k: int = 10,
        threshold: float | None = None,
        where: SightingFilter = EVERYTHING,
        one_per: OnePer = "none",
        who: str = "",
    ) -> list[list[Hit]]:
        """Return the most similar sightings for each of several queries.

        Args:
            vectors: (Q, D) embeddings, each its own query.
            model: what made them.
            top_k: at most that many hits per query, 1 to 10000.
            threshold: lowest similarity of a hit, -1..1; ``None``: any.
            where: search only among these.
            one_per: ``"pid"`` or ``"source"``: only the best hit of each identity, or source (a track, say); sightings
                of unknown identity or empty source stand for themselves.
            who: the user or token in the log.

        Returns:
            Q lists, by similarity downwards, ties by id upwards.

        Raises:
            DataError: another model's or broken vectors. InputError: a value out of range.
        """
        self.require(model)
        queries = unit_rows(vectors, self.model)
        asked = {"queries": len(queries), "top_k": top_k, "threshold": threshold, "one_per": one_per}
        return self._search(queries, where, (), asked, who)

    def search_person(
        self,
        vectors: Vectors | None = None,
        *,
        model: ModelIdentity | None = None,
        like: Sequence[str] = (),
        top_k: int = 10,
        threshold: float | None = None,
        where: SightingFilter = EVERYTHING,
        one_per: OnePer = "none",
        who: str = "",
    ) -> list[Hit]:
        """Return the sightings most similar to one person, of whom several pictures may be given.

        The query is the mean of all shots, each of unit length, scaled to unit length again.

        Args:
            vectors: (n, D) embeddings of the person.
            model: what made them; needed with ``vectors``.
            like: ids of stored sightings of the person; they themselves are not among the hits.
            top_k: see :meth:`search`, as the rest.
            threshold: see there.
            where: see there.
            one_per: see there.
            who: see there.

        Raises:
            DataError: as :meth:`search`, or no shot at all. InputError: a value out of range, or an unknown id.
        """
        shots = [self.vectors(like).astype(np.float64)]
        if vectors is not None:
            if model is None:
                raise InputError("search_person: vectors without model", hint="pass model=embedder.identity")
            self.require(model)
            shots.append(unit_rows(vectors, self.model))
        query = combine_shots(np.concatenate(shots), self.model)
        asked = {"shots": sum(map(len, shots)), "top_k": top_k, "threshold": threshold, "one_per": one_per}
        return self._search(query, where, tuple(like), {**asked, "like": list(like)}, who)[0]

    def _search(
        self,
        queries: npt.NDArray[np.float64],
        where: SightingFilter,
        without: tuple[str, ...],
        asked: dict[str, Any],
        who: str,
    ) -> list[list[Hit]]:
        top_k, threshold, one_per = asked["top_k"], asked["threshold"], asked["one_per"]
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MAX_TOP_K:
            raise InputError(f"top_k {top_k!r:.40}: expected a whole number from 1 to {MAX_TOP_K}")
        if threshold is not None and not -1 <= threshold <= 1:
            raise InputError(f"threshold {threshold!r:.40}: expected a similarity from -1 to 1")
        check_one_per(one_per)
        found = self.store.search(
            self.store.space.encode(queries),
            where,
            top_k=top_k,
            threshold=threshold,
            one_per=one_per,
            not_before=self._oldest_kept(),
            without=without,
        )
        self._log("search", who, **asked, filter=where.to_dict(), hits=sum(map(len, found)))
        return found

    def update(self, ids: Sequence[str], *, who: str = "", **changes: Any) -> int:
        """Change what is known of sightings: pid, camid, time, source, path, facts; return how many were changed.

        Raises:
            InputError: an attribute that cannot be changed, or an id that is not there; nothing is changed then.
            DataError: a value that :class:`NewSighting` would not take either.
        """
        unknown = sorted(set(changes) - set(UPDATABLE))
        if unknown or not changes:
            what = f"{', '.join(unknown)} cannot be changed" if unknown else "nothing to change"
            raise InputError(f"update: {what}, expected {', '.join(UPDATABLE)}", hint="delete and add instead")
        NewSighting(**changes)

        def log(count: int) -> None:
            self._log("update", who, ids=list(ids), changed=sorted(changes), count=count)

        return self.store.update(ids, changes, before_commit=log)

    def delete(self, where: SightingFilter, *, everything: bool = False, wipe: bool = True, who: str = "") -> int:
        """Delete sightings with their vectors and crops; return how many.

        Args:
            where: which ones; an empty filter only with ``everything``.
            everything: yes, an empty filter is meant.
            wipe: remove their bytes from the files before returning, which rewrites the store. Without it they are out
                of every search, but a later :meth:`delete`, :meth:`purge` or :meth:`open` has to go after the bytes.
            who: the user or token in the log.

        Raises:
            InputError: an empty filter, or another process keeps the files from being rewritten.
        """
        if where.is_empty and not everything:
            raise InputError("delete: the filter is empty and would delete all", hint="pass everything=True to mean it")

        def log(count: int) -> None:
            self._log("delete", who, filter=where.to_dict(), count=count)

        count = self.store.delete(where, before_commit=log)
        if wipe and self.store.unwiped:
            self.store.wipe()
        return count

    def purge(self, *, who: str = "") -> int:
        """Delete what is older than the retention, finish deletions that were left unwiped; return how many."""
        now, retention = self.clock(), self.store.retention
        count, oldest = 0, oldest_kept(retention, now)
        if oldest is not None:
            where = SightingFilter(older_than=moment(oldest))

            def log(deleted: int) -> None:
                if deleted:
                    self._log("purge", who, retention_days=retention.days, count=deleted)

            count = self.store.delete(where, before_commit=log)
            self.store.note_purge(microseconds(now))
        if self.store.unwiped:
            self.store.wipe()
        return count

    def set_retention(self, days: float | None, *, who: str = "") -> None:
        """Change how long sightings are kept; what is too old is hidden at once, and deleted by :meth:`purge`."""
        check_days(days)
        self._log("retention", who, days=days, before=self.retention_days)
        self.store.set_retention_days(days)

    def _log(self, action: str, who: str, **facts: Any) -> None:
        self.audit.append(action, who=who or self.who, **facts)

"""Concurrent requests share forward passes: what waits at the same time is embedded as one batch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_Job = tuple[Pixels, "Future[Floats]"]


class Overloaded(Exception):
    """More images wait than may."""


class EmbedBatcher:
    """One thread that embeds for all.

    Args:
        embed: (n, H, W, 3) uint8 -> (n, D) float32.
        max_batch: images per call of ``embed``; a request of more is not split.
        max_pending: images that may wait or be at work.
        max_wait: seconds that the first of a batch waits for company.
        observe: called with the size of each batch.
    """

    def __init__(
        self,
        embed: Callable[[Pixels], Floats],
        *,
        max_batch: int,
        max_pending: int,
        max_wait: float = 0.004,
        observe: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._embed, self._observe = embed, observe
        self._max_batch, self._max_pending, self._max_wait = max_batch, max_pending, max_wait
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._pending = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="embed", daemon=True)
        self._thread.start()

    def submit(self, pixels: Pixels) -> Future[Floats]:
        """Return the future embeddings (n, D) of images (n, H, W, 3), all of one size.

        Raises:
            Overloaded: too many wait, or the batcher is closed.
        """
        with self._lock:
            if self._closed or self._pending + len(pixels) > self._max_pending:
                raise Overloaded
            self._pending += len(pixels)
            job: Future[Floats] = Future()
            self._jobs.put((pixels, job))
        return job

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        stop = False
        while not stop:
            job = self._jobs.get()
            if job is None:
                return
            batch, stop = self._company(job)
            self._run(batch)

    def _company(self, first: _Job) -> tuple[list[_Job], bool]:
        """Return the first job and those that come soon after it; and whether to stop after them."""
        batch, size = [first], len(first[0])
        deadline = time.monotonic() + self._max_wait
        while size < self._max_batch:
            try:
                job = self._jobs.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
            size += len(job[0])
        return batch, False

    def _run(self, batch: list[_Job]) -> None:
        # Whoever gave up meanwhile is passed over; from here on nobody can give up any more.
        wanted = [(pixels, job) for pixels, job in batch if job.set_running_or_notify_cancel()]
        try:
            if wanted:
                self._answer(wanted)
        finally:
            with self._lock:
                self._pending -= sum(len(pixels) for pixels, _ in batch)

    def _answer(self, batch: list[_Job]) -> None:
        sizes = [len(pixels) for pixels, _ in batch]
        try:
            vectors = self._embed(np.concatenate([pixels for pixels, _ in batch]))
            parts = np.split(vectors, np.cumsum(sizes)[:-1])
        except BaseException as error:
            for _, job in batch:
                job.set_exception(error)
        else:
            self._observe(sum(sizes))
            for part, (_, job) in zip(parts, batch, strict=True):
                job.set_result(part)

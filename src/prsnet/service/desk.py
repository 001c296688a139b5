"""What the service does with a checked request, apart from HTTP."""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool

from prsnet.data.images import resize_image
from prsnet.embed import Embedder
from prsnet.errors import DataError
from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.gallery.crops import encode_crop
from prsnet.gallery.retention import purge_is_due
from prsnet.service.batching import EmbedBatcher, Overloaded
from prsnet.service.bodies import Pixels, pixels_of
from prsnet.service.counters import Counters
from prsnet.service.guard import Refused
from prsnet.service.messages import AddMessage, SearchMessage
from prsnet.service.settings import Limits
from prsnet.types import Hit

Floats = npt.NDArray[np.float32]
PURGE_SECONDS = 600.0
"""How often the service looks whether retention is due."""


class Desk:
    """A gallery, its model, and what they share between requests.

    Args:
        gallery: what is served; closed by :meth:`close`.
        embedder: the gallery's model.
        limits: see there.
        counters: takes the figures.

    Raises:
        DataError: the embedder is of another model.
    """

    def __init__(self, gallery: Gallery, embedder: Embedder, limits: Limits, counters: Counters) -> None:
        gallery.require(embedder.identity)
        self.gallery, self.model = gallery, embedder.identity
        self._size, self._limits, self.counters = embedder.image_size, limits, counters
        self._batcher = EmbedBatcher(
            lambda pixels: embedder.embed(list(pixels), batch_size=len(pixels)).numpy(),
            max_batch=limits.batch,
            max_pending=limits.pending,
            observe=counters.batches.observe,
        )

    def close(self) -> None:
        """Finish what waits, and close the gallery."""
        self._batcher.close()
        self.gallery.close()

    async def embed(self, images: list[bytes], boxes: list[list[float] | None] | None) -> tuple[Floats, list[Pixels]]:
        """Return embeddings (n, D) of encoded images and the pixels that they are of.

        Raises:
            DataError: an image cannot be read, or a box lies outside. Refused: none, or too many wait.
        """
        if not images:
            raise Refused(400, "no image, expected at least one")
        crops = await run_in_threadpool(self._cut, images, boxes)
        small = await run_in_threadpool(lambda: np.stack([resize_image(crop, self._size) for crop in crops]))
        try:
            return await asyncio.wrap_future(self._batcher.submit(small)), crops
        except Overloaded:
            raise Refused(503, "too many images wait to be embedded", {"Retry-After": "1"}) from None

    def _cut(self, images: list[bytes], boxes: list[list[float] | None] | None) -> list[Pixels]:
        pixels = pixels_of(images, self._limits)
        if boxes is None:
            return pixels
        if len(boxes) != len(pixels):
            raise DataError(f"{len(boxes)} boxes for {len(pixels)} images", hint="give one per image, null for none")
        return [cut(image, box, place) for place, (image, box) in enumerate(zip(pixels, boxes, strict=True))]

    async def search(self, images: list[bytes], asked: SearchMessage, who: str) -> list[Hit]:
        """Return the sightings most like one person; raises as :meth:`embed` and ``Gallery.search_person``."""
        where = asked.filter.filter()
        vectors = None
        if images or not asked.like:
            vectors, _ = await self.embed(images, asked.boxes)
        return await run_in_threadpool(
            self.gallery.search_person,
            vectors,
            model=self.model,
            like=asked.like,
            top_k=asked.top_k,
            threshold=asked.threshold,
            where=where,
            one_per=asked.one_per,
            who=who,
        )

    async def add(self, images: list[bytes], asked: AddMessage) -> list[str]:
        """Add a sighting per image; raises as :meth:`embed` and ``Gallery.add``."""
        known = asked.sightings
        if known is not None and len(known) != len(images):
            hint = "give one per image, or none at all"
            raise DataError(f"{len(known)} sightings for {len(images)} images", hint=hint)
        vectors, crops = await self.embed(images, asked.boxes)

        def store() -> list[str]:
            kept = [encode_crop(crop) if asked.crops else None for crop in crops]
            blank = [NewSighting(crop=crop) for crop in kept]
            new = blank if known is None else [one.sighting(crop) for one, crop in zip(known, kept, strict=True)]
            return self.gallery.add(vectors, new, model=self.model)

        ids = await run_in_threadpool(store)
        self.counters.added.inc(len(ids))
        return ids

    def delete(self, where: SightingFilter, *, everything: bool = False, who: str) -> int:
        """Delete sightings for good; raises as ``Gallery.delete``."""
        count = self.gallery.delete(where, everything=everything, who=who)
        self.counters.deleted.inc(count)
        return count

    async def keep_purged(self) -> None:
        """Apply the retention now and then, until cancelled."""
        while True:
            if purge_is_due(self.gallery.store.retention, self.gallery.clock()):
                self.counters.deleted.inc(await run_in_threadpool(self.gallery.purge, who="retention"))
            await asyncio.sleep(PURGE_SECONDS)


def cut(image: Pixels, box: list[float] | None, place: int) -> Pixels:
    """Return the part of an image inside a box (left, top, right, bottom), clamped to the image.

    Raises:
        DataError: the box has no area inside the image.
    """
    if box is None:
        return image
    height, width = image.shape[:2]
    left, top = max(int(box[0]), 0), max(int(box[1]), 0)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    if right <= left or bottom <= top:
        raise DataError(f"image {place}: the box has no area inside {width}x{height} pixels", hint="check the box")
    return np.ascontiguousarray(image[top:bottom, left:right])

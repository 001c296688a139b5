"""Cosine similarities by blocks of queries: never the whole matrix."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from prsnet.metrics.inputs import CHUNK_NUMBERS, Progress, spans


class SimilarityRows(Protocol):
    """Anything that can say how alike some queries are to all of a gallery; larger is more alike."""

    def rows(self, queries: Tensor) -> Tensor:
        """Return (B, G) similarities of the queries ``queries`` (B,) int64; the caller may overwrite them."""
        ...


class GallerySimilarities(SimilarityRows, Protocol):
    """Similarities that can be had for a part of the gallery, too."""

    def restricted(self, columns: Tensor) -> SimilarityRows:
        """Return the similarities to the gallery images ``columns`` (M,) int64 alone, in that order."""
        ...


class Reranker(Protocol):
    """Replaces the cosine similarities by others, e.g. :class:`prsnet.metrics.rerank.KReciprocal`."""

    @property
    def name(self) -> str:
        """What the report's protocol calls it, with its settings."""
        ...

    def similarities(self, query: Tensor, gallery: Tensor, progress: Progress | None = None) -> GallerySimilarities:
        """Return the new similarities of (Q, D) to (G, D) unit vectors."""
        ...


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return (N, M) ``a @ b.T`` at the full precision of its type.

    Training may have allowed TF32 or bfloat16 products, or may call this within autocast: rankings would then be of
    other similarities than those stored.
    """
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(a.device.type, enabled=False):
            return a @ b.T
    finally:
        torch.set_float32_matmul_precision(allowed)


class CosineRows:
    """Similarities of unit vectors, by matrix products.

    Identical gallery vectors get identical similarities, wherever they stand: the product alone does not promise it,
    since its kernels round differently at the edges of a block.

    Args:
        query: (Q, D) unit vectors.
        gallery: (G, D) unit vectors of the same type on the same device.
    """

    def __init__(self, query: Tensor, gallery: Tensor) -> None:
        self.query = query
        self.gallery = gallery
        self.copies, self.originals = duplicate_rows(gallery)

    def rows(self, queries: Tensor) -> Tensor:
        """Return (B, G) cosine similarities of the queries ``queries`` (B,) int64."""
        similarities = product(self.query[queries.to(self.query.device)], self.gallery)
        if len(self.copies):
            similarities[:, self.copies] = similarities[:, self.originals]
        return similarities

    def restricted(self, columns: Tensor) -> CosineRows:
        """Return the similarities to the gallery images ``columns`` (M,) int64 alone."""
        return CosineRows(self.query, self.gallery[columns.to(self.gallery.device)])


def fingerprints(vectors: Tensor) -> Tensor:
    """Return (N,) int64 hashes of the bits of ``vectors`` (N, D): equal rows, equal hashes, in whatever place."""
    word = torch.int32 if vectors.element_size() * vectors.shape[1] % 8 else torch.int64
    words = vectors.view(word)
    generator = torch.Generator().manual_seed(1)
    weights = (torch.randint(1 << 62, (words.shape[1],), generator=generator) * 2 + 1).to(vectors.device)
    hashes = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    for start, stop in spans(len(vectors), max(1, CHUNK_NUMBERS // vectors.shape[1])):
        # Round numbers have zeros in their low bits, which a product alone would never fill. Integer sums wrap around
        # and do not round: they are the same in any order.
        part = words[start:stop].long()
        hashes[start:stop] = ((part ^ (part >> 31)) * weights).sum(dim=1)
    return hashes


def duplicate_rows(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(copies, originals)``, each (M,) int64: row ``copies[i]`` of (N, D) repeats row ``originals[i]``.

    A row that occurs n times is named n - 1 times as a copy, always of the same original. Rows are compared where their
    64-bit hashes agree; copies are missed only if another row with the same hash stands between them.
    """
    hashes, order = torch.sort(fingerprints(vectors), stable=True)
    repeats = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    suspects = (hashes[1:] == hashes[:-1]).nonzero()[:, 0] + 1
    for start, stop in spans(len(suspects), max(1, CHUNK_NUMBERS // vectors.shape[1])):
        late = suspects[start:stop]
        repeats[late] = (vectors[order[late]] == vectors[order[late - 1]]).all(dim=1)
    places = torch.arange(len(vectors), device=vectors.device)
    heads = torch.cummax(torch.where(repeats, torch.zeros_like(places), places), dim=0).values
    copies = repeats.nonzero()[:, 0]
    return order[copies], order[heads[copies]]

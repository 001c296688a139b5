"""From rows of a record list to tensors: images are decoded once where memory allows, ahead of need where not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from prsnet.data.images import load_image, load_stack, other_pack_size
from prsnet.data.pack_file import rows_of_one_pack
from prsnet.data.samplers import PADDING
from prsnet.types import UNKNOWN_CAMID, Batch, ImageRecord

Rows = npt.NDArray[np.int64]


class ImageStore:
    """The images of a list of files at one size, as uint8. Those of one packed file are taken from it, never decoded.

    Args:
        paths: the files.
        size: height and width in pixels.
        workers: threads that decode.
        memory: bytes that decoded images may take; beyond it every batch is decoded when it is asked for.
        progress: called with (done, total) while the cache is filled.

    Raises:
        DataError: an image cannot be read (when filling the cache, else when it is first needed), or images are packed
            at another size.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int],
        *,
        workers: int = 2,
        memory: float = float("inf"),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self.workers = workers
        self._cache: torch.Tensor | None = None
        self._packed = rows_of_one_pack(self.paths) if self.paths else None
        if self._packed is not None:
            if self._packed[0].size != size:
                raise other_pack_size(self._packed[0].path, self._packed[0].size, size)
        elif self.bytes_needed(len(self.paths), size) <= memory:
            self._cache = torch.from_numpy(load_stack(self.paths, size, workers=workers, progress=progress))

    @staticmethod
    def bytes_needed(count: int, size: tuple[int, int]) -> int:
        """Return the memory that ``count`` decoded images take."""
        return count * 3 * size[0] * size[1]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def cached(self) -> bool:
        """Whether all images are decoded already."""
        return self._cache is not None or self._packed is not None

    def take(self, rows: Rows) -> torch.Tensor:
        """Return the images of ``rows``: uint8 (len(rows), 3, H, W); padded slots are black."""
        present = rows != PADDING
        if self._cache is not None:
            images = self._cache[torch.from_numpy(np.where(present, rows, 0))]
            images[torch.from_numpy(~present)] = 0
            return images
        images = torch.zeros((len(rows), 3, *self.size), dtype=torch.uint8)
        wanted = np.flatnonzero(present)
        if self._packed is not None:
            pack, places = self._packed
            images[torch.from_numpy(wanted)] = torch.from_numpy(pack.take(places[rows[wanted]]))
            return images
        with ThreadPoolExecutor(self.workers) as pool:
            decoded = pool.map(lambda row: load_image(self.paths[row], self.size), rows[wanted])
            for place, pixels in zip(wanted, decoded, strict=True):
                images[int(place)] = torch.from_numpy(pixels).permute(2, 0, 1)
        return images

    def in_order(self, plan: Sequence[Rows]) -> Iterator[torch.Tensor]:
        """Yield the images of each entry of ``plan``; the next entry is decoded while one is in use."""
        if self._cache is not None:
            yield from map(self.take, plan)
            return
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self.take, plan[0]) if len(plan) else None
            for index in range(len(plan)):
                assert following is not None
                images = following.result()
                following = ahead.submit(self.take, plan[index + 1]) if index + 1 < len(plan) else None
                yield images


def free_memory() -> int:
    """Return the bytes of memory that programs may still take, container limits included where Linux tells them."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else 4 * 2**30
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        if limit != "max":
            available = min(available, int(limit) - used)
    except (OSError, ValueError):
        pass  # not Linux, or no cgroup: the figure above stands
    return max(available, 0)


class LabelTable:
    """Labels of the training records as arrays: class indices in the order of the sorted pids, and cameras."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        pids = np.array([-1 if record.pid is None else record.pid for record in records], dtype=np.int64)
        self.pids, self.classes = np.unique(pids, return_inverse=True)
        self.classes = self.classes.astype(np.int64)
        self.camids = np.array(
            [UNKNOWN_CAMID if record.camid is None else record.camid for record in records], dtype=np.int64
        )

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self.pids)

    def batch(self, images: torch.Tensor, rows: Rows) -> Batch:
        """Return the batch of ``rows`` on the device of ``images``; padded slots are invalid, with label -1."""
        valid = rows != PADDING
        source = np.where(valid, rows, 0)
        return Batch(
            images=images,
            pids=torch.from_numpy(np.where(valid, self.classes[source], -1)).to(images.device),
            camids=torch.from_numpy(np.where(valid, self.camids[source], UNKNOWN_CAMID)).to(images.device),
            valid=torch.from_numpy(valid).to(images.device),
        )

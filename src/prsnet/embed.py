"""Images to embeddings with a trained model: the one path that evaluation, gallery and service share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from prsnet.checkpoint import find_checkpoint, load_checkpoint
from prsnet.config import Precision
from prsnet.data.augment import normalise
from prsnet.data.images import MEAN, STD, convert_image, load_image, resize_image
from prsnet.devices import autocast, choose_device, choose_precision
from prsnet.errors import CheckpointError, ConfigError, DataError
from prsnet.models.compact import compact_basis
from prsnet.models.description import from_description
from prsnet.models.fingerprint import fingerprint
from prsnet.models.reid import ReidModel
from prsnet.models.transfer import load_model
from prsnet.types import UNKNOWN_CAMID, Embeddings, ImageRecord, ModelIdentity

Pixels = npt.NDArray[np.uint8]
ImageLike: TypeAlias = "ImageRecord | Path | str | Image.Image | Pixels"
OnError = Callable[[int, DataError], None]

UNKNOWN_PID = -1


class Embedder:
    """A trained model that turns images into embeddings.

    Args:
        model: the network; put into evaluation mode and onto ``device``.
        image_size: height and width in pixels that images are resized to.
        device: where it computes.
        precision: number format of the forward pass.
        facts: the checkpoint's description, for those who ask where the model comes from.
    """

    def __init__(
        self,
        model: ReidModel,
        image_size: tuple[int, int],
        *,
        device: torch.device,
        precision: Precision = "fp32",
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.image_size = image_size
        self.device, self.precision = device, precision
        self.facts = facts or {}

    @classmethod
    def from_checkpoint(cls, path: Path | str, device: str = "auto", backend: str = "torch") -> Embedder:
        """Load the model of a run folder (its best checkpoint) or of a checkpoint file.

        Args:
            path: what ``prsnet train`` wrote.
            device: auto, cpu, cuda or cuda:N.
            backend: what computes; ``torch``.

        Raises:
            CheckpointError: not a ReID model of ours, or broken.
            ConfigError: unknown device or backend.
        """
        if backend != "torch":
            raise ConfigError(f"backend: expected 'torch', got {backend!r}")
        chosen = choose_device(device)
        file = find_checkpoint(path)
        tensors, facts = load_checkpoint(file, kind="reid")
        model = _build(facts, file)
        try:
            load_model(model, tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error.message}", hint=error.hint) from error
        size = from_description(facts["architecture"]).preset.image_size
        return cls(model, size, device=chosen, precision=choose_precision("auto", chosen), facts=facts)

    @property
    def width(self) -> int:
        """Numbers per embedding."""
        return self.model.embedding_dim

    @cached_property
    def identity(self) -> ModelIdentity:
        """Which model this is: what galleries and files of embeddings are marked with."""
        height, width = self.image_size
        preprocessing = {"size": [height, width], "mean": MEAN, "std": STD, "colour": "RGB", "resize": "bicubic"}
        described = self.facts.get("architecture")
        preset = described.get("name") if isinstance(described, dict) else None
        name = f"{preset or 'unnamed'} {height}x{width}"
        return ModelIdentity(fingerprint(self.model, preprocessing), name, self.width)

    def compact_basis(self) -> npt.NDArray[np.float32] | None:
        """Return the (D, r) orthonormal basis of the model's embeddings, or None where r < D would not hold."""
        basis = compact_basis(self.model)
        return np.asarray(basis.cpu().numpy(), dtype=np.float32) if basis.shape[1] < basis.shape[0] else None

    def embed(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = 64,
        workers: int = 2,
        flip: bool = False,
        on_error: OnError | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Return the embeddings of images, in order, streaming: at most two batches of pixels are in memory.

        Args:
            images: records, paths, PIL images, or uint8 arrays (H, W, 3); any iterable, also a generator.
            batch_size: images per forward pass.
            workers: threads that decode.
            flip: average with the embedding of the mirrored image.
            on_error: called with (position, error) for an image that cannot be read, which is then left out.
            progress: called with the number of images of each finished batch.

        Returns:
            Vectors (N, D) float32 of unit length; pids and camids of records, -1 where unknown.

        Raises:
            DataError: an image cannot be read and ``on_error`` is not given, or there is none at all.
            ConfigError: ``batch_size`` or ``workers`` below 1.
        """
        if batch_size < 1 or workers < 1:
            raise ConfigError(f"embed: expected batch_size and workers from 1, got {batch_size} and {workers}")
        vectors, pids, camids, paths = [], [], [], []
        for kept, pixels in self._batches(images, batch_size, workers, on_error):
            vectors.append(self._forward(pixels, flip))
            for image in kept:
                pid, camid, path = _labels(image)
                pids.append(pid)
                camids.append(camid)
                paths.append(path)
            if progress is not None:
                progress(len(kept))
        if not vectors:
            raise DataError("no image to embed", hint="give at least one readable image")
        names = tuple(paths) if any(paths) else ()
        return Embeddings(np.concatenate(vectors), np.array(pids), np.array(camids), names)

    def embed_boxes(
        self, frame: Pixels, boxes: npt.NDArray[Any] | Iterable[Iterable[float]], *, flip: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return the embeddings (M, D) of M boxes of one frame, in one batch.

        Args:
            frame: (H, W, 3) uint8 RGB.
            boxes: (M, 4) left, top, right, bottom in pixels; clamped to the frame.
            flip: average with the embedding of the mirrored crop.

        Raises:
            DataError: a frame of another kind, or a box that has no area inside it.
        """
        if not _is_picture(frame):
            raise DataError(f"frame {_shown(frame)}: expected a uint8 RGB array (H, W, 3)")
        crops = [_cut(frame, list(box), index) for index, box in enumerate(boxes)]
        if not crops:
            return np.empty((0, self.width), dtype=np.float32)
        return self._forward(np.stack([resize_image(crop, self.image_size) for crop in crops]), flip)

    def _forward(self, pixels: Pixels, flip: bool) -> npt.NDArray[np.float32]:
        batch = normalise(torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2))
        self.model.eval()
        with torch.inference_mode(), autocast(self.precision, self.device):
            vectors = self.model.embed(batch).float()
            if flip:
                both = vectors + self.model.embed(batch.flip(3)).float()
                vectors = torch.nn.functional.normalize(both, dim=1)
        return np.asarray(vectors.cpu().numpy(), dtype=np.float32)

    def _batches(
        self, images: Iterable[ImageLike], size: int, workers: int, on_error: OnError | None
    ) -> Iterator[tuple[list[ImageLike], Pixels]]:
        """Yield the readable images of each batch with their pixels (n, H, W, 3), decoded one batch ahead."""
        source = enumerate(images)

        def read(item: tuple[int, ImageLike]) -> tuple[int, ImageLike, Pixels | DataError]:
            position, image = item
            try:
                return position, image, _pixels(image, self.image_size)
            except DataError as error:
                return position, image, error

        with ThreadPoolExecutor(workers) as pool:
            ahead = [pool.submit(read, item) for item in islice(source, size)]
            while ahead:
                current, ahead = ahead, [pool.submit(read, item) for item in islice(source, size)]
                kept, pixels = [], []
                for position, image, result in (job.result() for job in current):
                    if isinstance(result, DataError):
                        if on_error is None:
                            for job in ahead:
                                job.cancel()
                            raise result
                        on_error(position, result)
                        continue
                    kept.append(image)
                    pixels.append(result)
                if kept:
                    yield kept, np.stack(pixels)


def _build(facts: dict[str, Any], file: Path) -> ReidModel:
    """Return the described network without its classifier, which embedding does not need."""
    described = facts.get("architecture")
    if not isinstance(described, dict):
        raise CheckpointError(f"{file}: the description names no architecture", hint="use the file as it was written")
    architecture = replace(from_description(described), num_classes=None)
    model = architecture.build(torch.Generator())
    if not isinstance(model, ReidModel):
        raise CheckpointError(f"{file}: describes {architecture.kind!r}, expected 'reid'", hint="use a `train` run")
    return model


def _pixels(image: ImageLike, size: tuple[int, int]) -> Pixels:
    if isinstance(image, ImageRecord):
        return load_image(image.path, size)
    if isinstance(image, (str, Path)):
        return load_image(image, size)
    if isinstance(image, Image.Image):
        return resize_image(convert_image(image, name="image"), size)
    if _is_picture(image):
        return resize_image(image, size)
    raise DataError(f"cannot embed {_shown(image)}", hint="give a path, a PIL image, or a uint8 RGB array (H, W, 3)")


def _is_picture(image: Any) -> bool:
    is_rgb = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return is_rgb and min(image.shape) > 0


def _shown(image: Any) -> str:
    return f"array {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__


def _labels(image: ImageLike) -> tuple[int, int, str]:
    if isinstance(image, ImageRecord):
        pid = UNKNOWN_PID if image.pid is None else image.pid
        return pid, UNKNOWN_CAMID if image.camid is None else image.camid, str(image.path)
    return UNKNOWN_PID, UNKNOWN_CAMID, str(image) if isinstance(image, (str, Path)) else ""


def _cut(frame: Pixels, box: Sequence[float], index: int) -> Pixels:
    height, width = frame.shape[:2]
    if len(box) != 4 or not all(math.isfinite(number) for number in box):
        raise DataError(f"box {index}: expected left, top, right, bottom as finite pixels, got {_numbers(box)}")
    left, top = max(int(box[0]), 0), max(int(box[1]), 0)
    right, bottom = min(math.ceil(box[2]), width), min(math.ceil(box[3]), height)
    if right <= left or bottom <= top:
        raise DataError(f"box {index} {_numbers(box)} has no area inside the frame of {width}x{height} pixels")
    return frame[top:bottom, left:right]


def _numbers(box: Sequence[float]) -> list[float]:
    return [float(number) for number in box]

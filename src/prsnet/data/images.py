"""Images: found, decoded, oriented, resized - or refused with one line that names the file.

Every image becomes (H, W, 3) uint8 RGB. Sizes are written (height, width), as in arrays; messages say width x height,
as image viewers do. The size is checked from the header, before a single pixel is decoded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from prsnet.data.pack_file import open_pack, packed_row
from prsnet.errors import DataError

try:  # The optional extra "fast": libjpeg-turbo without Pillow's copies.
    import simplejpeg
except ImportError:
    simplejpeg = None

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""An image: (H, W, 3) uint8 RGB."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""The formats that are decoded at all; every other decoder of Pillow stays shut."""
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""File name endings, in lower case, that :func:`list_images` takes for images."""
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 1024 * 1024
MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels per channel (red, green, blue) on the scale 0..1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels per channel on the scale 0..1."""
MEAN_COLOUR = (124, 116, 104)
"""``MEAN`` as the nearest 8-bit colour: what lies behind transparent pixels, and what is 0 after normalisation."""

_IGNORED_FOLDERS = frozenset({"__macosx", "@eadir"})
_RETAKE = "replace or remove the file"
_FORMAT_HINT = f"convert it to one of {', '.join(FORMATS)}, or remove it"


def is_image_name(name: str) -> bool:
    """Return whether a file of that name is taken for an image: a known suffix in any case, and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def list_images(folder: str | Path) -> list[Path]:
    """Return the images in and below ``folder``, sorted by their path; hidden files and folders are left out.

    Images are told by their suffix (:data:`SUFFIXES`, any case), so ``Thumbs.db`` and text files never show up. Linked
    folders are followed, each real folder once.

    Raises:
        DataError: ``folder`` is missing, not a folder, or may not be listed.
    """
    root = _existing_folder(folder)
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=_cannot_list):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if is_visible_folder(name))
        found.extend(Path(place) / name for name in files if is_image_name(name))
    return sorted(found)


def is_visible_folder(name: str) -> bool:
    """Return whether a folder of that name is looked into: not hidden, not a by-product of an archiver or a server."""
    return not name.startswith(".") and name.lower() not in _IGNORED_FOLDERS


def _existing_folder(folder: str | Path) -> Path:
    path = Path(folder)
    if not path.exists():
        raise DataError(f"{path}: no such folder", hint="check the path")
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of images, got a file", hint="give the folder that holds the file")
    return path


def _cannot_list(error: OSError) -> None:
    reason = error.strerror or type(error).__name__
    raise DataError(f"{error.filename}: cannot list the folder: {reason}", hint="check its permissions") from error


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Pixels:
    """Return the image at ``path`` as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey, palette, CMYK and YCbCr images are converted; 16 bits per channel are scaled to 8, not clipped; transparent
    pixels show :data:`MEAN_COLOUR`, which normalisation turns into 0; of an animation the first frame is taken.

    Args:
        path: a file of one of :data:`FORMATS`, whatever its suffix; or a packed image (:mod:`prsnet.data.pack_file`).
        max_pixels: largest width times height, judged by the header before decoding.
        max_bytes: largest file.

    Raises:
        DataError: the file is missing, empty, too large, truncated, or not an image; the message names it.
    """
    packed = packed_row(Path(path))
    if packed is not None:
        file, row = packed
        return np.ascontiguousarray(open_pack(file).take(np.array([row]))[0].transpose(1, 2, 0))
    return decode_image(_read_bytes(Path(path), max_bytes), name=str(path), max_pixels=max_pixels)


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        if path.is_dir():
            raise DataError(f"{path}: expected an image file, got a folder", hint="give the files inside it")
        if not path.exists():
            raise DataError(f"{path}: no such image", hint="check the path")
        if not path.is_file():
            raise DataError(f"{path}: expected an image file, got a device or a pipe", hint=_RETAKE)
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path}: {size} bytes, expected at most {max_bytes}", hint="shrink the image")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot read the file: {reason}", hint="check its name and permissions") from error
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes), expected an image", hint=_RETAKE)
    return data


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the encoded image ``data`` as (H, W, 3) uint8 RGB; as :func:`read_image`, with ``name`` in its errors."""
    fast = _decode_plain_jpeg(data, max_pixels)
    if fast is not None:
        return fast
    return convert_image(_open(data, name), name=name, max_pixels=max_pixels)


def convert_image(image: Image.Image, *, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return a Pillow image, decoded or not, as (H, W, 3) uint8 RGB; as :func:`read_image`, with ``name`` in errors."""
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(name, f"{width}x{height}", max_pixels)
    try:
        image.load()
        image = _upright(image)
        return _to_rgb(image, name)
    except DataError:
        raise
    except Exception as error:  # Decoders fail on broken files in every way there is; all of them mean the same.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: the image is truncated or damaged: {reason}", hint=_RETAKE) from error


def _open(data: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "its header", MAX_PIXELS) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image, expected {', '.join(FORMATS)}", hint=_FORMAT_HINT) from error
    except Exception as error:  # See decode_image.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: the image header is damaged: {reason}", hint=_RETAKE) from error


def _too_large(name: str, what: str, max_pixels: int) -> DataError:
    hint = "crop or shrink the image; pedestrian crops are far smaller"
    return DataError(f"{name}: {what} claims more than {max_pixels} pixels, refused before decoding", hint=hint)


def _decode_plain_jpeg(data: bytes, max_pixels: int) -> Pixels | None:
    """Return the pixels of a colour JPEG without EXIF block, or None where Pillow must look at it."""
    if simplejpeg is None or data[:3] != b"\xff\xd8\xff" or b"Exif\x00" in data[:65536]:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours != "YCbCr" or height * width > max_pixels:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
        return pixels
    except ValueError:  # Damaged in some way: Pillow decides, and words the error.
        return None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # A damaged EXIF block says nothing about the pixels: keep them as they are.
        return image


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image, name)
    if image.mode == "F":
        raise DataError(f"{name}: pixels are 32-bit floats, expected 8 or 16 bits", hint="convert it to an 8-bit PNG")
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, (*MEAN_COLOUR, 255))
        return np.array(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))
    return np.array(image.convert("RGB"))


def _from_16_bit(image: Image.Image, name: str) -> Pixels:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise DataError(f"{name}: pixels leave the range of 16 bits", hint="convert it to an 8-bit PNG")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def resize_image(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return ``pixels`` (h, w, 3) resized to ``size`` (H, W), bicubic, antialiased when shrinking.

    The aspect ratio is not kept: a pedestrian crop is stretched to the network's shape, as everywhere in the field.
    An image that has the size already is returned as it is.
    """
    height, width = size
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def load_image(path: str | Path, size: tuple[int, int]) -> Pixels:
    """Return the image at ``path``, resized to ``size`` (H, W), as (H, W, 3) uint8 RGB: channels last.

    Raises:
        DataError: as :func:`read_image`; or a packed image has another size, for resized twice it would be another one.
    """
    pixels = read_image(path)
    if pixels.shape[:2] != size and packed_row(Path(path)) is not None:
        raise other_pack_size(Path(path).parent, (pixels.shape[0], pixels.shape[1]), size)
    return resize_image(pixels, size)


def other_pack_size(file: Path, packed: tuple[int, int], wanted: tuple[int, int]) -> DataError:
    """Return the error that ``file`` holds images of another size (H, W) than wanted."""
    return DataError(
        f"{file}: images packed at {packed[1]}x{packed[0]} pixels, wanted {wanted[1]}x{wanted[0]}",
        hint=f"pack them again with --image-size {wanted[0]} {wanted[1]}",
    )


def load_stack(
    paths: Sequence[str | Path],
    size: tuple[int, int],
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    on_error: Callable[[int, DataError], None] | None = None,
) -> Pixels:
    """Decode many images in threads; return (N, 3, H, W) uint8 in the order of ``paths``: channels first.

    Args:
        paths: N image files.
        size: (H, W) that all are resized to.
        workers: threads; 0 takes one per processor.
        progress: called after every image with (images done, N).
        on_error: called with (index in ``paths``, error) for an image that cannot be read, which is then left out of
            the result. Without it the first such error, by order in ``paths``, is raised.

    Raises:
        DataError: as :func:`read_image`, unless ``on_error`` is given.
    """
    total = len(paths)
    stack = np.empty((total, 3, *size), dtype=np.uint8)
    readable = np.ones(total, dtype=bool)

    def fill(index: int) -> None:
        stack[index] = load_image(paths[index], size).transpose(2, 0, 1)

    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="decode")
    try:
        for index, job in enumerate([pool.submit(fill, index) for index in range(total)]):
            try:
                job.result()
            except DataError as error:
                if on_error is None:
                    raise
                readable[index] = False
                on_error(index, error)
            if progress is not None:
                progress(index + 1, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return stack if readable.all() else stack[readable]

"""From a person and a camera to pixels."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from prsnet.data.synthetic.cameras import Camera
from prsnet.data.synthetic.figure import person_tubes
from prsnet.data.synthetic.occluders import draw_occluder
from prsnet.data.synthetic.people import Identity
from prsnet.data.synthetic.pose import View, draw_pose
from prsnet.data.synthetic.scenes import cut_background
from prsnet.data.synthetic.textures import Floats, atlas
from prsnet.data.synthetic.tubes import Light, draw_tubes
from prsnet.rng import numpy_stream

Pixels: TypeAlias = npt.NDArray[np.uint8]


def render(identity: Identity, camera: Camera, rng: np.random.Generator, size: tuple[int, int] = (256, 128)) -> Pixels:
    """Return one sighting of a person, (H, W, 3) uint8 RGB.

    Args:
        identity: who is seen.
        camera: who sees; ``Camera()`` is neutral and shows the clothes' own colours.
        rng: pose, framing, light and noise of this image; nothing else is random.
        size: rows and columns of the crop.
    """
    # Everything is drawn at the camera's own resolution; a coarse camera is also the cheaper one.
    # Boxes are narrower than the crop's shape, and stretched to it.
    narrow = math.exp(-camera.jitter * (0.14 + 0.08 * float(rng.normal())))
    native = max(12, round(size[0] * camera.resolution)), max(6, round(size[1] * camera.resolution * narrow))
    picture = cut_background(camera, native, rng).astype(np.float32)
    view = draw_view(identity, camera, rng, native)
    if camera.shadow > 0.0:
        _cast_shadow(picture, camera, view)
    light = Light(camera.light, camera.ambient)
    tubes = person_tubes(identity, draw_pose(identity.body, rng), view)
    draw_tubes(picture, tubes, atlas(identity, float(native[0])), light, rng)
    if rng.random() < camera.occlusion:
        draw_occluder(picture, light, view, rng)
    image = _record(picture, camera, rng)
    if native != size:
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(image)


def draw_view(identity: Identity, camera: Camera, rng: np.random.Generator, size: tuple[int, int]) -> View:
    """Return the direction and the framing of one image: a box that a detector might have put, not an exact one."""
    height, width = size
    yaw = camera.yaw + camera.spread * float(rng.normal())
    if rng.random() < camera.turned:
        yaw += math.pi if rng.random() < 0.6 else math.pi / 2
    loose = camera.jitter
    scale = height * 0.9 * (1.0 + 0.25 * (identity.body.height - 1.0)) * math.exp(0.05 * loose * float(rng.normal()))
    x = width * (0.5 + 0.06 * loose * float(rng.normal()))
    y = height * (0.965 + 0.02 * loose * float(rng.normal()))
    if rng.random() < 0.12 * loose:
        # A bad box: the feet, the head or one side are cut, or the person is small in it.
        case = int(rng.integers(4))
        scale *= (1.2, 1.15, 1.1, 0.8)[case]
        y += height * (0.17, 0.02, 0.0, -0.05)[case]
        x += width * (0.0, 0.0, 0.22 * float(rng.choice((-1, 1))), 0.1 * float(rng.normal()))[case]
    return View(yaw=yaw, pitch=camera.pitch, scale=scale, x=x, y=y)


def _cast_shadow(picture: Floats, camera: Camera, view: View) -> None:
    """Darken the ground below the person, stretched away from the light."""
    height, width = picture.shape[:2]
    right, up, _ = camera.light
    long = view.scale * (0.1 + 0.14 * (1.0 - up))
    top, low = max(0, int(view.y - 0.12 * view.scale)), min(height, int(view.y + 0.12 * view.scale))
    y = (np.arange(top, low, dtype=np.float32)[:, None] - view.y + 2.0) / (0.035 * view.scale)
    x = (np.arange(width, dtype=np.float32)[None, :] - view.x + right * long * 0.7) / long
    picture[top:low] *= (1.0 - camera.shadow * np.exp(-(y * y) - x * x))[..., None]


def _record(picture: Floats, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Return the picture as the camera's lens, sensor and encoder leave it; a neutral camera changes nothing."""
    if camera.blur > 0.0:
        lens = ImageFilter.BoxBlur(camera.blur * picture.shape[0] / 256)
        picture = np.asarray(Image.fromarray(picture.astype(np.uint8)).filter(lens), np.float32)
    mixing, offset = colour_response(camera)
    if camera.drift > 0.0:
        # Automatic exposure and white balance do not settle on the same values twice.
        mixing *= np.exp(camera.drift * (rng.normal() + 0.2 * rng.normal(size=3))).astype(np.float32)
    signal = (picture.reshape(-1, 3) @ mixing + offset).reshape(picture.shape)
    if camera.noise > 0.0:
        signal += np.float32(camera.noise) * _grain(picture.shape[0], picture.shape[1], rng)
    levels = np.clip(signal + 0.5, 0.0, 255.0).astype(np.uint8)
    image = Image.fromarray(np.take(gamma_curve(camera.gamma), levels))
    if not camera.jpeg:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=camera.jpeg)
    return Image.open(buffer)


def colour_response(camera: Camera) -> tuple[Floats, Floats]:
    """Return (3, 3) and (3,): a colour c of the scene is recorded as ``c @ matrix + offset``, before gamma."""
    grey = np.outer([0.299, 0.587, 0.114], np.ones(3))
    saturation = grey + camera.saturation * (np.eye(3) - grey)
    gains = np.asarray(camera.gains) * camera.exposure * camera.contrast
    offset = np.full(3, 128.0 * (1.0 - camera.contrast))
    return (saturation * gains).astype(np.float32), offset.astype(np.float32)


@lru_cache(maxsize=64)
def gamma_curve(gamma: float) -> Pixels:
    """Return what each of the 256 levels becomes; black and white stay."""
    return np.rint(255.0 * np.linspace(0.0, 1.0, 256) ** gamma).astype(np.uint8)


@lru_cache(maxsize=1)
def _noise_field() -> Floats:
    return numpy_stream(0, "grain").standard_normal((1024, 1024, 3)).astype(np.float32)


def _grain(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Return sensor noise of unit deviation, (height, width, 3), cut out of a fixed field."""
    field = _noise_field()
    if height > field.shape[0] or width > field.shape[1]:
        return rng.standard_normal((height, width, 3)).astype(np.float32)
    top = int(rng.integers(0, field.shape[0] - height + 1))
    left = int(rng.integers(0, field.shape[1] - width + 1))
    return field[top : top + height, left : left + width]

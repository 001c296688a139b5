"""Surroundings: a wide picture per camera, painted once, of which every image shows another piece."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from prsnet.data.synthetic.cameras import Camera
from prsnet.rng import numpy_stream

Pixels: TypeAlias = npt.NDArray[np.uint8]
Draw: TypeAlias = ImageDraw.ImageDraw

HEIGHT, WIDTH = 320, 1024
"""Size of the whole picture for crops of 256 rows; other heights scale it."""


@lru_cache(maxsize=64)
def panorama(scene: str, scene_seed: int, pitch: float, height: int) -> Pixels:
    """Return the surroundings of a camera, (height * 1.25, height * 4, 3) uint8; cached, not to be written to.

    Args:
        scene: one of ``SCENES``, or ``"blank"``.
        scene_seed: which scene of that kind.
        pitch: how far the camera looks down: the further, the more ground it sees.
        height: rows of the crops that will be cut.
    """
    if scene == "blank":
        return np.full((height * HEIGHT // 256, height * WIDTH // 256, 3), 150, np.uint8)
    rng = numpy_stream(scene_seed, "scene", scene)
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(picture)
    horizon = int(HEIGHT * np.clip(0.62 - 1.2 * pitch, 0.1, 0.6))
    _PAINTERS[scene](draw, horizon, rng)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2))
    rough = rng.normal(0.0, 1.0, (HEIGHT // 2, WIDTH // 2)).astype(np.float32)
    grain = np.asarray(Image.fromarray(rough).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    pixels = np.clip(np.asarray(picture, np.float32) + 5.0 * grain[..., None], 0, 255).astype(np.uint8)
    size = (height * WIDTH // 256, height * HEIGHT // 256)
    scaled = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    scaled.flags.writeable = False
    return scaled


def cut_background(camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Return a piece of the camera's surroundings, (H, W, 3) uint8, now and then mirrored."""
    whole = panorama(camera.scene, camera.scene_seed, camera.pitch, max(size))
    top = int(rng.integers(0, whole.shape[0] - size[0] + 1))
    left = int(rng.integers(0, whole.shape[1] - size[1] + 1))
    piece = whole[top : top + size[0], left : left + size[1]]
    return piece[:, ::-1] if rng.random() < 0.5 else piece


def _tone(rng: np.random.Generator, low: int, high: int, tint: float = 3.0) -> tuple[int, int, int]:
    """Return a grey between ``low`` and ``high``, warm as concrete and plaster are, with a tint of its own."""
    grey = rng.uniform(low, high)
    shades = grey * np.array([1.09, 0.99, 0.92]) + rng.normal(0.0, tint, 3)
    red, green, blue = (int(np.clip(shade, 0, 255)) for shade in shades)
    return red, green, blue


def _darker(colour: tuple[int, int, int], by: float) -> tuple[int, int, int]:
    red, green, blue = (int(c * by) for c in colour)
    return red, green, blue


def _ground(draw: Draw, horizon: int, colour: tuple[int, int, int], *, tiles: bool, step: int) -> None:
    """Fill below the horizon; tiles get joints that gather towards a far point."""
    draw.rectangle((0, horizon, WIDTH, HEIGHT), fill=colour)
    if not tiles:
        return
    joint = _darker(colour, 0.86)
    row = float(horizon + 4)
    gap = 3.0
    while row < HEIGHT:
        draw.line((0, row, WIDTH, row), fill=joint, width=1)
        row += gap
        gap *= 1.28
    for x in range(-WIDTH, 2 * WIDTH, step):
        draw.line((WIDTH / 2 + (x - WIDTH / 2) * 0.35, horizon, x, HEIGHT), fill=joint, width=1)


def _paint_street(draw: Draw, horizon: int, rng: np.random.Generator) -> None:
    wall = _tone(rng, 138, 180)
    draw.rectangle((0, 0, WIDTH, horizon), fill=wall)
    glass = _tone(rng, 40, 110, 12)
    x = int(rng.integers(0, 60))
    while x < WIDTH:
        wide = int(rng.integers(40, 110))
        if rng.random() < 0.6:
            draw.rectangle(
                (x, int(horizon * 0.12), x + wide, int(horizon * 0.72)), fill=glass, outline=_darker(wall, 0.7), width=3
            )
            draw.line(
                (x + wide // 2, int(horizon * 0.12), x + wide // 2, int(horizon * 0.72)),
                fill=_darker(wall, 0.7),
                width=2,
            )
        elif rng.random() < 0.5:
            draw.rectangle((x, int(horizon * 0.15), x + wide // 2, horizon), fill=_tone(rng, 70, 140, 10))
        x += wide + int(rng.integers(10, 60))
    pavement = _tone(rng, 138, 172)
    _ground(draw, horizon, pavement, tiles=bool(rng.random() < 0.6), step=70)
    kerb = int(HEIGHT * rng.uniform(0.78, 0.95))
    draw.rectangle((0, kerb, WIDTH, HEIGHT), fill=_tone(rng, 84, 112))
    draw.rectangle((0, kerb, WIDTH, kerb + 5), fill=_darker(pavement, 1.2))


def _paint_corridor(draw: Draw, horizon: int, rng: np.random.Generator) -> None:
    wall = _tone(rng, 145, 182)
    draw.rectangle((0, 0, WIDTH, horizon), fill=wall)
    draw.rectangle((0, int(horizon * 0.6), WIDTH, horizon), fill=_darker(wall, float(rng.uniform(0.86, 0.97))))
    x = int(rng.integers(20, 120))
    while x < WIDTH:
        wide = int(rng.integers(55, 80))
        door = _tone(rng, 90, 170, 9)
        draw.rectangle((x, int(horizon * 0.15), x + wide, horizon), fill=door, outline=_darker(door, 0.6), width=3)
        x += wide + int(rng.integers(60, 170))
    draw.rectangle((0, horizon - 6, WIDTH, horizon), fill=_darker(wall, 0.55))
    _ground(draw, horizon, _tone(rng, 138, 178), tiles=True, step=int(rng.integers(50, 110)))
    for _ in range(6):
        x = int(rng.integers(0, WIDTH))
        glare = _tone(rng, 205, 235, 4)
        draw.ellipse((x, HEIGHT * 0.72, x + 70, HEIGHT * 0.75), fill=glare)


def _paint_lawn(draw: Draw, horizon: int, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, WIDTH, horizon), fill=_tone(rng, 150, 185))
    for _ in range(320):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, horizon), rng.uniform(6, 26)
        green = (int(rng.uniform(56, 96)), int(rng.uniform(76, 116)), int(rng.uniform(46, 72)))
        draw.ellipse((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=green)
    for _ in range(9):
        x, wide = int(rng.integers(0, WIDTH)), int(rng.integers(6, 16))
        draw.rectangle((x, 0, x + wide, horizon + 14), fill=_tone(rng, 50, 85, 8))
    grass = (int(rng.uniform(132, 146)), int(rng.uniform(134, 146)), int(rng.uniform(102, 114)))
    draw.rectangle((0, horizon, WIDTH, HEIGHT), fill=grass)
    for _ in range(160):
        x, y = rng.uniform(0, WIDTH), rng.uniform(horizon, HEIGHT)
        draw.ellipse((x, y, x + rng.uniform(10, 60), y + 6), fill=_darker(grass, float(rng.uniform(0.85, 1.12))))
    path = int(HEIGHT * rng.uniform(0.4, 0.58))
    draw.rectangle((0, path, WIDTH, HEIGHT), fill=_tone(rng, 138, 178))


def _paint_plaza(draw: Draw, horizon: int, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, WIDTH, horizon), fill=_tone(rng, 142, 182))
    for _ in range(14):
        x, wide, tall = int(rng.integers(0, WIDTH)), int(rng.integers(30, 120)), float(rng.uniform(0.2, 0.8))
        draw.rectangle((x, int(horizon * (1 - tall)), x + wide, horizon), fill=_tone(rng, 90, 180, 8))
    _ground(draw, horizon, _tone(rng, 138, 178), tiles=True, step=int(rng.integers(36, 90)))
    for _ in range(6):
        x, y = int(rng.integers(0, WIDTH)), int(rng.uniform(horizon, HEIGHT * 0.7))
        box = _tone(rng, 60, 150, 12)
        draw.rectangle((x, y - 34, x + 62, y), fill=box)
        draw.rectangle((x, y - 34, x + 62, y - 26), fill=_darker(box, 1.25))


def _paint_shop(draw: Draw, horizon: int, rng: np.random.Generator) -> None:
    horizon = max(horizon, int(HEIGHT * 0.3))
    draw.rectangle((0, 0, WIDTH, horizon), fill=_tone(rng, 138, 170))
    shelves = [int(horizon * share) for share in (0.05, 0.35, 0.65, 0.95)]
    for top, low in pairwise(shelves):
        x = 0
        while x < WIDTH:
            wide = int(rng.integers(8, 26))
            goods = _tone(rng, 50, 200, 34)
            draw.rectangle((x, low - int((low - top) * rng.uniform(0.4, 0.85)), x + wide, low - 4), fill=goods)
            x += wide + int(rng.integers(1, 5))
        draw.rectangle((0, low - 4, WIDTH, low), fill=_tone(rng, 60, 100, 4))
    _ground(draw, horizon, _tone(rng, 140, 180), tiles=True, step=int(rng.integers(60, 120)))


_PAINTERS = {
    "street": _paint_street,
    "corridor": _paint_corridor,
    "lawn": _paint_lawn,
    "plaza": _paint_plaza,
    "shop": _paint_shop,
}

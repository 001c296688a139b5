"""What a person's surfaces look like, unrolled: one tile per kind of surface.

A tile is a grid of ``ROWS`` along the body part (top to bottom) by ``COLUMNS`` around it. Angle 0, the middle column,
is the person's front; the first and last columns meet at the back. One atlas serves every viewpoint, so a front print
is seen from the front and nowhere else.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from prsnet.data.synthetic.people import Bag, Colour, Head, Identity, Logo, Lower, Upper
from prsnet.rng import numpy_stream

Floats: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Paint: TypeAlias = npt.NDArray[Any]

ROWS, COLUMNS = 80, 128
TORSO_LENGTH = 0.335
"""From the base of the neck to the hip joint, in statures: what a tile's rows mean on garments."""
TORSO_RADIUS = 0.085
"""Mean radius of the trunk, in statures: what a tile's columns mean on garments."""


class Tile(IntEnum):
    """Index of each kind of surface in an atlas."""

    SKIN = 0
    FACE = 1
    HAIR = 2
    UPPER = 3
    SLEEVE = 4
    LOWER = 5
    LEG = 6
    SHOE = 7
    SOLE = 8
    BAG = 9
    STRAP = 10
    HAT = 11
    SOCK = 12


def atlas(identity: Identity, scale: float = 256.0) -> Floats:
    """Return the person's surfaces, (len(Tile), ROWS, COLUMNS, 3), 0..255; cached, not to be written to.

    Args:
        identity: whose surfaces.
        scale: pixels per stature that they will be shown at: texels smaller than a pixel are averaged beforehand, or
            fine patterns would turn into coarse ones.
    """
    return _level(identity, 0 if scale >= 160.0 else 1 if scale >= 80.0 else 2)


@lru_cache(maxsize=24)
def _level(identity: Identity, halvings: int) -> Floats:
    """Return the atlas with blocks of 2 ** ``halvings`` texels a side averaged; the grid stays the same."""
    tiles = _tiles(identity)
    for _ in range(halvings):
        tiles = 0.5 * (tiles[:, 0::2] + tiles[:, 1::2])
        tiles = 0.5 * (tiles[:, :, 0::2] + tiles[:, :, 1::2])
    if halvings:
        tiles = tiles.repeat(2**halvings, axis=1).repeat(2**halvings, axis=2)
    tiles.flags.writeable = False
    return tiles


@lru_cache(maxsize=8)
def _tiles(identity: Identity) -> Floats:
    tiles = np.empty((len(Tile), ROWS, COLUMNS, 3), np.float32)
    head, upper, lower, bag = identity.head, identity.upper, identity.lower, identity.bag
    tiles[Tile.SKIN] = head.skin
    tiles[Tile.FACE] = _face(head)
    tiles[Tile.HAIR] = _strands(head.hair)
    tiles[Tile.UPPER] = _garment(upper)
    tiles[Tile.SLEEVE] = _sleeve(upper)
    tiles[Tile.LOWER] = _lower(lower, radius=0.09, length=max(lower.length, 0.1))
    tiles[Tile.LEG] = _lower(lower, radius=0.05, length=0.46)
    tiles[Tile.SHOE] = lower.shoes
    tiles[Tile.SOLE] = lower.soles
    tiles[Tile.BAG] = _bag(bag)
    tiles[Tile.STRAP] = _scaled(bag.colour, 0.8)
    tiles[Tile.HAT] = _hat(head)
    tiles[Tile.SOCK] = lower.socks if lower.socks is not None else head.skin
    return tiles


@lru_cache(maxsize=1)
def folds() -> Floats:
    """Return the creases of cloth, (256, 256), about 0 with deviation 1/10; the same for everybody, cut anywhere."""
    field = np.zeros((256, 256), np.float32)
    rng = numpy_stream(0, "folds")
    rows, columns = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for _ in range(48):
        # Whole numbers of waves, so that the field can be cut across its border.
        down, across = int(rng.integers(1, 11)), int(rng.integers(-7, 8))
        phase = 2 * math.pi * ((down * rows + across * columns) / 256 + rng.random())
        field += np.cos(phase).astype(np.float32)
    field *= 0.1 / field.std()
    field.flags.writeable = False
    return field


def _grid() -> tuple[Floats, Floats]:
    """Return rows as (ROWS, 1) in 0..1 and angles as (1, COLUMNS) in -pi..pi."""
    down = (np.arange(ROWS)[:, None] + 0.5) / ROWS
    angle = (np.arange(COLUMNS)[None, :] + 0.5) / COLUMNS * 2 * math.pi - math.pi
    return down.astype(np.float32), angle.astype(np.float32)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(min(255, c * factor)) for c in colour)
    return red, green, blue


def _plain(colour: Colour) -> Floats:
    return np.full((ROWS, COLUMNS, 3), colour, np.float32)


def _paint(tile: Floats, where: Paint, colour: Colour) -> None:
    tile[np.broadcast_to(where, (ROWS, COLUMNS))] = colour


def pattern_mask(name: str, y: Paint, x: Paint, period: float) -> Mask:
    """Return where a pattern shows its second colour; ``y`` (R, 1) and ``x`` (1, C) and ``period`` are in statures."""
    row, column = np.floor(y / period), np.floor(x / period)
    masks: dict[str, Paint] = {
        "plain": np.zeros_like(y, dtype=bool),
        "stripes": row % 2 == 1,
        "pinstripes": column % 2 == 1,
        "checks": ((y / period) % 1 < 0.34) ^ ((x / period) % 1 < 0.34),
        "dots": ((y % period - period / 2) ** 2 + ((x + row % 2 * period / 2) % period - period / 2) ** 2)
        < (0.32 * period) ** 2,
        "blocks": y > 0.12 + period,
        "band": (y > 0.09 + period / 2) & (y < 0.14 + period),
        "sash": np.abs(y - 0.16 - x * 1.1) < 0.016 + period / 2,
        "camo": np.sin(x / period * 2.1 + 2 * np.sin(y / period * 1.3)) + np.sin(y / period * 2.3 + x * 20) > 0.6,
        "panels": np.abs(np.abs(x) - 0.13) < 0.022 + period / 4,
        "yoke": y < 0.05 + period,
    }
    return np.broadcast_to(masks[name], (y.shape[0], x.shape[1]))


def _garment(upper: Upper) -> Floats:
    """Return the trunk of the upper garment: pattern, opening, collar, front and back prints."""
    down, angle = _grid()
    y, x = down * (TORSO_LENGTH + upper.hem), angle * TORSO_RADIUS
    tile = _plain(upper.colour)
    _paint(tile, pattern_mask(upper.pattern, y, x, upper.period), upper.second)
    for logo, centre in ((upper.front, 0.0), (upper.back, math.pi)):
        if logo is not None:
            around = (angle - centre + math.pi) % (2 * math.pi) - math.pi
            _paint(tile, logo_mask(logo, y - logo.down, around * TORSO_RADIUS - logo.across), logo.colour)
    if upper.kind in ("jacket", "coat"):
        opening = np.abs(angle) < (0.32 if upper.kind == "jacket" else 0.2) * (1.1 - 0.6 * down)
        _paint(tile, opening, upper.inner)
        edge = np.abs(np.abs(angle) - (0.36 if upper.kind == "jacket" else 0.24) * (1.1 - 0.6 * down)) < 0.05
        tile[edge] *= 0.7
    if upper.kind == "zipped":
        tile[np.broadcast_to(np.abs(angle) < 0.04, (ROWS, COLUMNS))] *= 0.55
    if upper.kind == "dress":
        _paint(tile, np.abs(y - 0.2) < 0.009, upper.second)
    _paint(
        tile, (y < 0.022) & (np.abs(angle) < 1.9), _scaled(upper.inner if upper.kind == "jacket" else upper.colour, 0.8)
    )
    return tile


def _sleeve(upper: Upper) -> Floats:
    """Return the sleeve: the garment's pattern where it makes sense on an arm, a cuff at the end."""
    down, angle = _grid()
    y, x = down * 0.33 + 0.02, angle * 0.05
    contrast = upper.contrast_sleeves or upper.pattern == "panels"
    tile = _plain(upper.second if contrast else upper.colour)
    if upper.pattern in ("stripes", "pinstripes", "checks", "dots", "camo", "blocks", "band") and not contrast:
        _paint(tile, pattern_mask(upper.pattern, y, x, upper.period), upper.second)
    if upper.kind in ("zipped", "jacket"):
        tile[-6:] *= 0.72
    return tile


def _lower(lower: Lower, *, radius: float, length: float) -> Floats:
    down, angle = _grid()
    y, x = down * length, angle * radius
    tile = _plain(lower.colour)
    if lower.pattern == "seam":
        _paint(tile, np.abs(np.abs(angle) - math.pi / 2) < 0.016 / radius, lower.second)
    elif lower.pattern == "cuffs":
        _paint(tile, down > 0.86, lower.second)
    elif lower.pattern in ("checks", "dots"):
        _paint(tile, pattern_mask(lower.pattern, y, x, 0.045), lower.second)
    elif lower.pattern == "fade":
        tile *= 1.0 + 0.45 * np.exp(-(((down - 0.3) / 0.2) ** 2) - (angle / 0.8) ** 2)[..., None]
    return np.minimum(tile, 250.0)


def _bag(bag: Bag) -> Floats:
    """Return the bag: a pocket on its outside, a trim, a handle above."""
    down, angle = _grid()
    tile = _plain(bag.colour)
    outside = np.abs(np.abs(angle) - math.pi) < 0.85 if bag.kind == "backpack" else np.abs(np.abs(angle) - 1.57) < 0.8
    if bag.size > 1.0:
        _paint(tile, outside & (down > 0.52) & (down < 0.9), bag.second)
    else:
        _paint(tile, np.abs(down - 0.4) < 0.05, bag.second)
    tile[:4] *= 0.6
    return tile


def _strands(colour: Colour) -> Floats:
    _, angle = _grid()
    streaks = 1.0 + 0.12 * np.sin(angle * 17) * np.sin(angle * 5 + 1)
    return (_plain(colour) * streaks[..., None]).astype(np.float32)


def _hat(head: Head) -> Floats:
    down, angle = _grid()
    tile = _plain(head.hat_colour)
    if head.hat == "beanie":
        tile[np.broadcast_to(down > 0.7, (ROWS, COLUMNS))] *= 0.8
    elif head.hat == "cap":
        _paint(tile, (np.abs(angle) < 0.4) & (np.abs(down - 0.45) < 0.18), _scaled(head.hat_colour, 1.6))
    elif head.hat == "brim":
        _paint(tile, down > 0.75, _scaled(head.hat_colour, 0.55))
    return tile


def _hair_area(head: Head, down: Floats, angle: Floats) -> Paint:
    """Return where hair lies on the skull; ``down`` is 0 at the crown, 1 at the chin. The bald keep a wreath."""
    away = np.abs(angle) / math.pi
    low = 1.1 if head.style in ("bob", "long", "curly") else 0.72
    side = 0.5 if head.style in ("cropped", "bun", "ponytail", "bald") else 0.62
    fringe = 0.36 if head.style in ("bob", "curly") else 0.26
    hairline = np.interp(away, (0.0, 0.28, 0.36, 0.55, 0.75, 1.0), (fringe, fringe + 0.03, side, side, low, low + 0.1))
    return (down < hairline) & ((head.style != "bald") | ((down > 0.4) & (away > 0.4)))


def _face(head: Head) -> Floats:
    """Return the head from crown to chin: features, beard, glasses, then hair over them."""
    down, angle = _grid()
    tile = _plain(head.skin)
    away = np.abs(angle)
    dark = _scaled(head.skin, 0.45)
    if head.beard:
        _paint(tile, (down > 0.7) & (away < 1.3), _scaled(head.hair, 1.1))
    _paint(tile, (np.abs(down - 0.82) < 0.022) & (away < 0.32), (150, 74, 70))
    tile[np.broadcast_to((np.abs(down - 0.68) < 0.03) & (away < 0.16), (ROWS, COLUMNS))] *= 0.84
    _paint(tile, (np.abs(down - 0.455) < 0.022) & (np.abs(away - 0.46) < 0.24), _scaled(head.hair, 0.9))
    tile[np.broadcast_to((np.abs(down - 0.53) < 0.05) & (np.abs(away - 0.46) < 0.26), (ROWS, COLUMNS))] *= 0.82
    _paint(tile, (np.abs(down - 0.535) < 0.026) & (np.abs(away - 0.46) < 0.15), (46, 38, 36))
    if head.glasses:
        frame = ((np.abs(down - 0.54) < 0.075) & (np.abs(away - 0.47) < 0.34)) & ~(
            (np.abs(down - 0.54) < 0.045) & (np.abs(away - 0.47) < 0.22)
        )
        _paint(tile, frame | ((np.abs(down - 0.52) < 0.02) & (away < 1.5)), (30, 28, 30))
    tile[np.broadcast_to(down > 0.95, (ROWS, COLUMNS))] *= 0.8
    _paint(tile, (np.abs(down - 0.58) < 0.1) & (np.abs(away - 1.62) < 0.14), dark)
    covered = np.broadcast_to(_hair_area(head, down, angle), (ROWS, COLUMNS))
    tile[covered] = _strands(head.hair)[covered]
    return tile


def logo_mask(logo: Logo, y: Paint, x: Paint) -> Mask:
    """Return where a print shows; ``y`` (R, 1) and ``x`` (1, C) are in statures from its middle."""
    v, u = y / logo.radius, x / logo.radius
    round_ = v * v + u * u
    box = np.maximum(np.abs(v), np.abs(u))
    shapes: dict[str, Paint] = {
        "disc": round_ < 1.0,
        "ring": (round_ < 1.0) & (round_ > 0.36),
        "square": box < 0.85,
        "triangle": (v < 0.8) & (np.abs(u) < (v + 0.9) * 0.6),
        "cross": (box < 0.95) & (np.minimum(np.abs(v), np.abs(u)) < 0.3),
        "bars": (box < 1.0) & (np.floor((v + 1.0) * 2.5) % 2 == 0),
        "diamond": np.abs(v) + np.abs(u) < 1.05,
        "chevron": (np.abs(v - np.abs(u) * 0.8 + 0.3) < 0.33) & (np.abs(u) < 1.0),
        "number": _bits(logo.code, v / 1.2, u / 0.8, rows=5, columns=3),
        "text": _bits(logo.code * 37 + 11, v / 0.45, u / 1.35, rows=2, columns=7),
    }
    return np.broadcast_to(shapes[logo.shape], (y.shape[0], x.shape[1]))


def _bits(code: int, v: Paint, u: Paint, *, rows: int, columns: int) -> Mask:
    """Return a small block glyph: cell (r, c) is filled where a fixed mixing of ``code`` says so; never empty."""
    inside = (np.abs(v) < 1.0) & (np.abs(u) < 1.0)
    row = np.clip(np.floor((v + 1.0) / 2 * rows), 0, rows - 1).astype(np.int64)
    column = np.clip(np.floor((u + 1.0) / 2 * columns), 0, columns - 1).astype(np.int64)
    cell = row * columns + column
    filled = ((code + 1) * 2654435761 >> (cell % 29)) & 1 == 1
    glyph: Mask = inside & (filled | ((row == 0) & (column % 3 == 0)) | ((row == rows - 1) & (column % 3 == 2)))
    return glyph

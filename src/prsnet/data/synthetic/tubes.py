"""The rasteriser: bodies are made of tubes, drawn with texture, shading and smooth edges.

A tube is the projection of a body part: an axis in the image, half-widths along it, and rounded ends. Every pixel near
it is described by its place along the axis and across it, which give the coverage, the surface normal and the point of
the texture. All tubes of a figure are evaluated in one pass over a flat list of pixels; only the blending, which
depends on the order, goes tube by tube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from prsnet.data.synthetic.textures import COLUMNS, ROWS, Floats, folds

Ints: TypeAlias = npt.NDArray[np.int64]

_SOLID = 0.98
"""Coverage from which a sample hides all that lies below it."""
_ARCSINE = np.arcsin(np.linspace(-1.0, 1.0, 257)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Look:
    """How a tube's surface is shaped and textured.

    Attributes:
        rows: part of the tile along the axis, (first, last) in 0..1.
        cap: how far the ends are rounded, as a share of the half-width there; near 0 is flat.
        crease: strength of cloth folds, 0..1.
        flat: how flat the surface is towards the camera, 0 (round) to 1.
    """

    rows: tuple[float, float] = (0.0, 1.0)
    cap: float = 1.0
    crease: float = 0.0
    flat: float = 0.0


PLAIN = Look()


@dataclass(frozen=True, slots=True)
class Tube:
    """One body part as seen by the camera.

    Attributes:
        start, end: ends of the axis, (x, y) in pixels.
        widths: half-widths at equal steps along the axis, in pixels.
        tile: the surface, an index into the atlas.
        depth: tubes are drawn in ascending order of it.
        turn: the angle of the texture at the middle of the visible side is ``-turn``.
        look: shape and texture of the surface.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    widths: tuple[float, ...]
    tile: int = 0
    depth: float = 0.0
    turn: float = 0.0
    look: Look = PLAIN


@dataclass(frozen=True, slots=True)
class Light:
    """Direction towards the light (right, up, towards the camera; unit length) and the share of undirected light."""

    direction: tuple[float, float, float]
    ambient: float


def draw_tubes(canvas: Floats, tubes: Sequence[Tube], tiles: Floats, light: Light, rng: np.random.Generator) -> None:
    """Draw ``tubes`` over ``canvas``.

    Args:
        canvas: (H, W, 3) float32, contiguous, 0..255; changed in place.
        tubes: the parts, in any order.
        tiles: (T, ROWS, COLUMNS, 3) float32, the atlas that the tubes' ``tile`` points into.
        light: what shades them.
        rng: draws where each tube's folds are cut from.
    """
    table = _tabulate(sorted(tubes, key=lambda tube: tube.depth))
    cuts = rng.integers(0, 256, (len(tubes), 2))
    samples = _cover(table, canvas.shape[0], canvas.shape[1])
    colour = _shade(table, samples, tiles, light, cuts)
    flat = canvas.reshape(-1, 3)
    solid = samples.cover >= _SOLID
    flat[samples.pixels[solid]] = colour[solid]
    # What is left are the smooth edges above the solid samples; they need the order of the tubes.
    edge = np.flatnonzero(~solid)
    pixels, cover, colour = samples.pixels[edge], samples.cover[edge, None], colour[edge]
    colour *= cover
    cover = 1.0 - cover
    bounds = np.searchsorted(samples.owner[edge], np.arange(len(tubes) + 1)).tolist()
    for first, last in pairwise(bounds):
        at = pixels[first:last]
        flat[at] = flat[at] * cover[first:last] + colour[first:last]


@dataclass(frozen=True, slots=True)
class _Table:
    """The numbers of T tubes in drawing order, one column of T each; ``widths`` of all tubes one after the other."""

    tubes: Sequence[Tube]
    start_x: Floats
    start_y: Floats
    axis_x: Floats
    axis_y: Floats
    length: Floats
    cap: Floats
    turn: Floats
    row: Floats
    rows: Floats
    crease: Floats
    flat: Floats
    tile: Ints
    widths: Floats
    first_width: Ints
    steps: Floats


@dataclass(frozen=True, slots=True)
class _Samples:
    """Pixels that tubes cover and that no later tube hides, in drawing order; all arrays have one entry per sample."""

    pixels: Ints
    owner: Ints
    cover: Floats
    along: Floats
    across: Floats
    past: Floats
    half: Floats


def _tabulate(tubes: Sequence[Tube]) -> _Table:
    lines = []
    for tube in tubes:
        dx, dy = tube.end[0] - tube.start[0], tube.end[1] - tube.start[1]
        length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
        look = tube.look
        first, last = look.rows
        lines.append((
            *tube.start, dx / length, dy / length, length, max(look.cap, 0.02), tube.turn, first * ROWS,
            (last - first) * ROWS, look.crease, look.flat,
        ))  # fmt: skip
    start_x, start_y, axis_x, axis_y, length, cap, turn, row, rows, crease, flat = np.array(lines, np.float32).T
    counts = np.array([len(tube.widths) for tube in tubes])
    # The last width is repeated, so that the end of the axis needs no case of its own.
    widths = np.array([width for tube in tubes for width in (*tube.widths, tube.widths[-1])], np.float32)
    return _Table(
        tubes=tubes, start_x=start_x, start_y=start_y, axis_x=axis_x, axis_y=axis_y, length=length, cap=cap, turn=turn,
        row=row, rows=rows, crease=crease, flat=flat, tile=np.array([tube.tile for tube in tubes]),
        widths=widths, first_width=np.cumsum(counts + 1) - counts - 1, steps=(counts - 1).astype(np.float32),
    )  # fmt: skip


@lru_cache(maxsize=32)
def _pixel_grid(height: int, width: int) -> tuple[Ints, Floats, Floats]:
    """Return the index of every pixel, (H, W), and its centre's x and y, (H * W,)."""
    index = np.arange(height * width)
    y, x = np.divmod(index, width)
    return index.reshape(height, width), x.astype(np.float32) + np.float32(0.5), y.astype(np.float32) + np.float32(0.5)


def _list_pixels(tubes: Sequence[Tube], height: int, width: int) -> tuple[Ints, Floats, Floats, Ints]:
    """Return index, x and y of the pixels in every tube's box, one box after the other, and how many each has."""
    boxes, sizes = [], []
    for tube in tubes:
        (x0, y0), (x1, y1) = tube.start, tube.end
        reach = max(tube.widths) * max(1.0, tube.look.cap) + 1.0
        top, low = max(0, int(min(y0, y1) - reach)), min(height, int(max(y0, y1) + reach) + 1)
        left, right = max(0, int(min(x0, x1) - reach)), min(width, int(max(x0, x1) + reach) + 1)
        boxes.append((slice(top, max(top, low)), slice(left, max(left, right))))
        sizes.append(max(0, low - top) * max(0, right - left))
    index, x, y = _pixel_grid(height, width)
    pixels = np.concatenate([index[box].ravel() for box in boxes])
    return pixels, x[pixels], y[pixels], np.array(sizes)


def _cover(table: _Table, height: int, width: int) -> _Samples:
    """Find what each tube covers, and drop what lies below a solid sample of a later tube."""
    pixels, x, y, counts = _list_pixels(table.tubes, height, width)
    x -= np.repeat(table.start_x, counts)
    y -= np.repeat(table.start_y, counts)
    axis_x, axis_y = np.repeat(table.axis_x, counts), np.repeat(table.axis_y, counts)
    length = np.repeat(table.length, counts)
    along = x * axis_x + y * axis_y
    across = x * axis_y - y * axis_x
    inside: Floats = np.clip(along, 0.0, length)
    cap: Floats = np.repeat(table.cap, counts)
    past = np.divide(along - inside, cap)
    owner = np.repeat(np.arange(len(counts)), counts)
    half = _half_width(table, inside / length, owner)
    cover = half + np.float32(0.5) - np.sqrt(across * across + past * past)
    seen = np.flatnonzero(cover > 0.02)
    pixels, cover = pixels[seen], np.minimum(cover[seen], 1.0)
    solid = np.flatnonzero(cover >= _SOLID)
    top = np.full(height * width, -1)
    # Samples come in drawing order, and of several writes to one pixel the last one stays.
    top[pixels[solid]] = solid
    shown = np.flatnonzero(np.arange(len(seen)) >= top[pixels])
    seen = seen[shown]
    return _Samples(pixels[shown], owner[seen], cover[shown], along[seen], across[seen], past[seen], half[seen])


def _half_width(table: _Table, along: Floats, owner: Ints) -> Floats:
    """Return the half-width at ``along`` (0..1) of each pixel's tube, linear between its steps."""
    place = along * table.steps[owner]
    step = place.astype(np.int64)
    place -= step
    step += table.first_width[owner]
    low = table.widths[step]
    half: Floats = low + (table.widths[step + 1] - low) * place
    return half


def _shade(table: _Table, samples: _Samples, tiles: Floats, light: Light, cuts: Ints) -> Floats:
    """Return the colour of each sample, (N, 3)."""
    owner = samples.owner
    half = np.maximum(samples.half, np.float32(0.3))
    side, rise = _unit(samples.across / half), _unit(samples.past / half)
    ends = half * table.cap[owner]
    fraction = (samples.along + ends) / (table.length[owner] + 2 * ends)
    row = (table.row[owner] + table.rows[owner] * np.clip(fraction, 0.0, 0.9999)).astype(np.int64)
    angle = _ARCSINE[(side * 128.0 + 128.5).astype(np.int64)] - table.turn[owner]
    # Two turns are added because the cast to integers would round negative columns the other way.
    column = (angle * (COLUMNS / (2 * np.pi)) + COLUMNS * 2.5).astype(np.int64) % COLUMNS
    texel = (table.tile[owner] * ROWS + row) * COLUMNS + column
    colour: Floats = np.take(tiles.reshape(-1, 3), texel, axis=0)
    shade = _lambert(table, side, rise, owner, light)
    down = ((row * 8) // 5 + cuts[owner, 0]) & 255
    beside = ((side * 24.0).astype(np.int64) + cuts[owner, 1]) & 255
    shade *= 1.0 + table.crease[owner] * folds()[down, beside]
    colour *= shade[:, None]
    return np.minimum(colour, 255.0, out=colour)


def _unit(values: Floats) -> Floats:
    clipped: Floats = np.clip(values, -1.0, 1.0)
    return clipped


def _lambert(table: _Table, side: Floats, rise: Floats, owner: Ints, light: Light) -> Floats:
    """Return brightness: undirected light, light by the surface normal, and a darker rim that parts limb from limb."""
    right, up, near = (np.float32(part) for part in light.direction)
    # Light along each tube's perpendicular and along its axis, in the image, whose y grows downwards.
    beside = table.axis_y * right + table.axis_x * up
    ahead = table.axis_x * right - table.axis_y * up
    bend = side * (1.0 - 0.6 * table.flat)[owner]
    facing = np.sqrt(np.maximum(1.0 - bend * bend - rise * rise, 0.0))
    normal = bend * beside[owner] + rise * ahead[owner] + facing * near
    diffuse = np.float32(1.2 * (1.0 - light.ambient))
    shade: Floats = np.float32(light.ambient) + diffuse * np.maximum(normal + np.float32(0.15), 0.0)
    rim = side * side
    shade *= 1.0 - np.float32(0.3) * rim * rim * rim
    return shade

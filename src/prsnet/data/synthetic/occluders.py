"""What may stand between the camera and the person."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np

from prsnet.data.synthetic.figure import person_tubes
from prsnet.data.synthetic.people import draw_identity
from prsnet.data.synthetic.pose import View, draw_pose
from prsnet.data.synthetic.textures import COLUMNS, ROWS, Floats, atlas
from prsnet.data.synthetic.tubes import Light, Look, Tube, draw_tubes

KINDS = ("person", "pole", "box", "rail", "bicycle", "plant")


def draw_occluder(picture: Floats, light: Light, view: View, rng: np.random.Generator) -> None:
    """Draw something over ``picture`` (H, W, 3), changed in place; it covers part of the person that ``view`` shows."""
    kind = KINDS[int(rng.choice(len(KINDS), p=(0.36, 0.16, 0.16, 0.1, 0.12, 0.1)))]
    if kind == "person":
        _passer_by(picture, light, view, rng)
        return
    tone = rng.uniform(40, 190) + rng.normal(0.0, 14.0, 3)
    if kind == "plant":
        tone = np.array([70.0, 105.0, 60.0]) * rng.uniform(0.6, 1.1)
    tiles = np.empty((1, ROWS, COLUMNS, 3), np.float32)
    tiles[:] = np.clip(tone, 10, 240)
    side = float(rng.choice((-1.0, 1.0)))
    shapes = {"pole": _pole, "box": _box, "rail": _rail, "bicycle": _bicycle, "plant": _plant}
    parts = shapes[kind](picture.shape[0], picture.shape[1], side, rng)
    draw_tubes(picture, parts, tiles, light, rng)


def _passer_by(picture: Floats, light: Light, view: View, rng: np.random.Generator) -> None:
    """Draw somebody else, mostly outside the crop and nearer to the camera."""
    other = draw_identity(rng)
    side = float(rng.choice((-1.0, 1.0)))
    nearer = replace(
        view,
        yaw=view.yaw + float(rng.uniform(-math.pi, math.pi)),
        scale=view.scale * float(rng.uniform(1.0, 1.25)),
        x=picture.shape[1] * (0.5 + side * float(rng.uniform(0.4, 0.62))),
        y=view.y + picture.shape[0] * float(rng.uniform(0.03, 0.14)),
    )
    draw_tubes(
        picture,
        person_tubes(other, draw_pose(other.body, rng), nearer),
        atlas(other, float(picture.shape[0])),
        light,
        rng,
    )


def _pole(height: int, width: int, side: float, rng: np.random.Generator) -> list[Tube]:
    x = width * (0.5 + side * float(rng.uniform(0.05, 0.4)))
    half = width * float(rng.uniform(0.025, 0.06))
    tilt = width * float(rng.normal(0.0, 0.02))
    return [Tube((x + tilt, -20.0), (x, height + 20.0), (half, half))]


def _box(height: int, width: int, side: float, rng: np.random.Generator) -> list[Tube]:
    x, half = width * (0.5 + side * float(rng.uniform(0.05, 0.45))), width * float(rng.uniform(0.2, 0.42))
    top = height * float(rng.uniform(0.62, 0.86))
    body = Tube((x, top), (x, height + 20.0), (half, half), look=Look(cap=0.05, flat=0.9))
    return [body, Tube((x - half, top), (x + half, top), (height * 0.012,) * 2, depth=1.0, look=Look(cap=0.3))]


def _rail(height: int, width: int, side: float, rng: np.random.Generator) -> list[Tube]:
    top, half = height * float(rng.uniform(0.55, 0.72)), height * float(rng.uniform(0.007, 0.012))
    slope = side * height * float(rng.uniform(0.0, 0.05))
    bars = [Tube((-10.0, y - slope), (width + 10.0, y + slope), (half, half)) for y in (top, top + height * 0.13)]
    start = float(rng.uniform(0.0, width / 2))
    posts = [Tube((x, top), (x, height + 10.0), (half, half), depth=1.0) for x in (start, start + width / 2)]
    return bars + posts


def _bicycle(height: int, width: int, side: float, rng: np.random.Generator) -> list[Tube]:
    """Two wheels and a frame, seen from the side, one wheel often outside the crop."""
    radius, thin = height * 0.13, height * 0.006
    x, y = width * (0.5 + side * float(rng.uniform(0.1, 0.5))), height * float(rng.uniform(0.82, 0.9))
    hubs = [(x - radius * 1.5, y), (x + radius * 1.5, y)]
    parts = []
    for hub_x, hub_y in hubs:
        rim = [
            (hub_x + radius * math.cos(a), hub_y + radius * math.sin(a))
            for a in np.linspace(0, 2 * math.pi, 17).tolist()
        ]
        parts += [Tube(a, b, (thin, thin)) for a, b in pairwise(rim)]
    crank, seat, head = (x, y), (x - radius * 0.6, y - radius * 1.25), (x + radius * 1.0, y - radius * 1.2)
    lines = ((hubs[0], crank), (crank, head), (seat, head), (crank, seat), (hubs[0], seat), (hubs[1], head))
    parts += [Tube(a, b, (thin * 1.2, thin * 1.2), depth=1.0) for a, b in lines]
    grip = (head[0] - radius * 0.2, head[1] - radius * 0.35)
    parts += [
        Tube(head, grip, (thin, thin), depth=1.0),
        Tube((seat[0] - 6, seat[1]), (seat[0] + 6, seat[1]), (thin * 2,) * 2, depth=2.0),
    ]
    return parts


def _plant(height: int, width: int, side: float, rng: np.random.Generator) -> list[Tube]:
    """A bush: leaves that fan out from below one corner."""
    x, y = width * (0.5 + side * 0.45), height * 1.02
    parts = []
    for i in range(26):
        angle, long = float(rng.uniform(-1.2, 1.2)), height * float(rng.uniform(0.12, 0.36))
        tip = (x + long * math.sin(angle), y - long * math.cos(angle))
        root = (x + 0.55 * (tip[0] - x), y + 0.55 * (tip[1] - y))
        half = height * 0.018
        parts.append(Tube(root, tip, (half * 0.5, half, 0.5), depth=float(i), look=Look(crease=1.0)))
    return parts

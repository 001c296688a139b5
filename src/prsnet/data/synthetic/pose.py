"""Where a person's joints are, and how a camera sees them.

Space is measured in statures: x to the person's left, y up from the ground, z ahead. The camera sees it from ``yaw``
(0 is the front) and from above by ``pitch``, without perspective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from prsnet.data.synthetic.people import Body
from prsnet.data.synthetic.textures import TORSO_LENGTH
from prsnet.data.synthetic.tubes import PLAIN, Look, Tube

Point: TypeAlias = tuple[float, float, float]

THIGH, SHIN, ANKLE = 0.238, 0.232, 0.04
UPPER_ARM, FOREARM = 0.165, 0.135


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the joints are; pairs are (right, left), so that index 1 is on the side of positive x."""

    neck: Point
    hip: Point
    hips: tuple[Point, Point]
    knees: tuple[Point, Point]
    ankles: tuple[Point, Point]
    toes: tuple[Point, Point]
    shoulders: tuple[Point, Point]
    elbows: tuple[Point, Point]
    wrists: tuple[Point, Point]
    crown: Point
    chin: Point


@dataclass(frozen=True, slots=True)
class View:
    """The projection: ``scale`` pixels per stature, the ground below the body at pixel (``x``, ``y``)."""

    yaw: float
    pitch: float
    scale: float
    x: float
    y: float
    _axes: tuple[float, float, float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        axes = math.cos(self.yaw), math.sin(self.yaw), math.cos(self.pitch), math.sin(self.pitch)
        object.__setattr__(self, "_axes", axes)

    def project(self, point: Point) -> tuple[float, float, float]:
        """Return pixel x, pixel y and nearness to the camera in statures."""
        cos, sin, level, tilt = self._axes
        across = point[0] * cos + point[2] * sin
        near = point[2] * cos - point[0] * sin
        up = point[1] * level - near * tilt
        return self.x + self.scale * across, self.y - self.scale * up, near

    def tube(
        self,
        start: Point,
        end: Point,
        widths: Sequence[float],
        tile: int,
        *,
        depths: Sequence[float] | None = None,
        depth: float | None = None,
        nearer: float = 0.0,
        look: Look = PLAIN,
    ) -> Tube:
        """Return a body part of elliptic section: half-widths to the side and, where they differ, to the front.

        It is drawn at the depth of its middle unless ``depth`` says otherwise, plus ``nearer``.
        """
        x0, y0, near0 = self.project(start)
        x1, y1, near1 = self.project(end)
        turn = self.yaw
        if depths is not None:
            cos, sin, _, _ = self._axes
            turn = math.atan2(sum(depths) * sin, sum(widths) * cos)
            widths = [math.hypot(w * cos, d * sin) for w, d in zip(widths, depths, strict=True)]
        return Tube(
            start=(x0, y0),
            end=(x1, y1),
            widths=tuple([width * self.scale for width in widths]),
            tile=tile,
            depth=((near0 + near1) / 2 if depth is None else depth) + nearer,
            turn=turn,
            look=look,
        )


def mix(a: Point, b: Point, share: float) -> Point:
    """Return the point between ``a`` (share 0) and ``b`` (share 1), or beyond."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def shift(point: Point, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Point:
    """Return ``point`` moved by the given lengths."""
    return point[0] + x, point[1] + y, point[2] + z


def _swing(joint: Point, length: float, forward: float, outward: float = 0.0) -> Point:
    """Return the far end of a limb that hangs from ``joint``, raised by two angles."""
    return shift(joint, length * math.sin(outward), -length * math.cos(forward), length * math.sin(forward))


def draw_pose(body: Body, rng: np.random.Generator) -> Pose:
    """Return a moment of the person's walk, or of standing (one time in five)."""
    phase = float(rng.uniform(0.0, 2 * math.pi))
    vigour = 0.25 if rng.random() < 0.2 else 1.0
    legs = [_leg(body, phase + side * math.pi, vigour, 2 * side - 1) for side in (0, 1)]
    ground = min(min(ankle[1] - ANKLE, toe[1] - 0.018) for _, _, ankle, toe in legs)
    hips, knees, ankles, toes = (tuple(shift(leg[i], y=-ground) for leg in legs) for i in range(4))
    hip = (0.0, hips[0][1], 0.0)
    lean = body.lean + float(rng.normal(0.0, 0.02))
    neck = (0.0, hip[1] + TORSO_LENGTH * math.cos(lean), TORSO_LENGTH * math.sin(lean))
    arms = [_arm(body, neck, phase + (1 - side) * math.pi, vigour, 2 * side - 1, rng) for side in (0, 1)]
    shoulders, elbows, wrists = (tuple(arm[i] for arm in arms) for i in range(3))
    chin = shift(neck, x=float(rng.normal(0.0, 0.004)), y=0.032, z=0.012 + float(rng.normal(0.0, 0.006)))
    crown = shift(chin, y=0.136 * body.head, z=float(rng.normal(-0.004, 0.008)))
    return Pose(
        neck=neck, hip=hip, hips=(hips[0], hips[1]), knees=(knees[0], knees[1]), ankles=(ankles[0], ankles[1]),
        toes=(toes[0], toes[1]), shoulders=(shoulders[0], shoulders[1]), elbows=(elbows[0], elbows[1]),
        wrists=(wrists[0], wrists[1]), crown=crown, chin=chin,
    )  # fmt: skip


def _leg(body: Body, phase: float, vigour: float, side: int) -> tuple[Point, Point, Point, Point]:
    """Return hip, knee, ankle and toe with the hip joint at height 0; the knee bends while the leg swings ahead."""
    forward = body.stride * vigour * math.sin(phase)
    bend = vigour * (0.12 + 0.75 * max(0.0, math.cos(phase)) ** 2)
    hip = (side * 0.047 * body.hips, 0.0, 0.0)
    knee = _swing(hip, THIGH * body.legs, forward + 0.3 * bend, side * 0.02)
    ankle = _swing(knee, SHIN * body.legs, forward - 0.7 * bend, side * 0.01)
    pitch = 0.6 * (forward - 0.7 * bend) if forward < 0.0 else 0.25 * vigour * forward
    toe = shift(ankle, side * 0.014, -0.024 + 0.088 * math.sin(pitch), 0.088 * math.cos(pitch))
    return hip, knee, ankle, toe


def _arm(
    body: Body, neck: Point, phase: float, vigour: float, side: int, rng: np.random.Generator
) -> tuple[Point, Point, Point]:
    forward = body.swing * vigour * math.sin(phase) + float(rng.normal(0.0, 0.06))
    bend = 0.18 + 0.35 * body.swing + float(rng.uniform(0.0, 0.15))
    if rng.random() < 0.08:
        bend += float(rng.uniform(0.9, 1.9))  # carrying or holding a phone
    outward = side * (0.07 + 0.07 * max(0.0, body.build))
    shoulder = shift(neck, side * 0.099 * body.shoulders * (1.0 + 0.13 * body.build), -0.046, 0.0)
    elbow = _swing(shoulder, UPPER_ARM, forward, outward)
    wrist = _swing(elbow, FOREARM, forward + bend, -0.3 * outward)
    return shoulder, elbow, wrist

"""What a generated camera does to everybody it sees: viewpoint, light, colour, sharpness, framing and surroundings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SCENES = ("street", "corridor", "lawn", "plaza", "shop")
VIEWS = ("front", "left", "back", "right")
"""Names of the sides that a camera mostly shows, a quarter turn apart."""


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera; the defaults are a neutral one: frontal, evenly lit, sharp, exact framing, empty surroundings.

    Attributes:
        yaw: mean direction of the person to the camera in radians; 0 is the front, pi the back.
        spread: deviation of the direction from image to image, in radians.
        turned: share of images in which the person walks the other way or crosses.
        pitch: how far the camera looks down, in radians.
        scene: one of ``SCENES``, or ``"blank"``.
        scene_seed: which scene of that kind.
        gains: factors of red, green, blue (the colour cast).
        saturation: 1 leaves colours as they are, 0 is grey.
        exposure: factor of brightness, before ``contrast`` (factor about mid-grey) and ``gamma`` (1 is neutral).
        drift: deviation of exposure and white balance from image to image, as a share.
        light: unit vector towards the light: right, up, towards the camera.
        ambient: share of light that has no direction, 0..1.
        shadow: darkness of the shadow on the ground, 0..1.
        resolution: native height of the crop over the height asked for, 0..1.
        blur: radius of the defocus at 256 rows, in pixels.
        noise: deviation of the sensor noise, in grey levels.
        jpeg: quality of the camera's own compression, 0 for none.
        jitter: how badly boxes are placed, 0 (exactly) to 1.
        occlusion: share of images in which something stands before the person.
    """

    yaw: float = 0.0
    spread: float = 0.0
    turned: float = 0.0
    pitch: float = 0.0
    scene: str = "blank"
    scene_seed: int = 0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    exposure: float = 1.0
    contrast: float = 1.0
    gamma: float = 1.0
    drift: float = 0.0
    light: tuple[float, float, float] = (0.0, 0.0, 1.0)
    ambient: float = 0.6
    shadow: float = 0.0
    resolution: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    jitter: float = 0.0
    occlusion: float = 0.0


def draw_camera(rng: np.random.Generator, *, view: str | None = None, scene: str | None = None) -> Camera:
    """Return a camera drawn from ``rng``.

    Args:
        rng: the source of all its properties.
        view: the side it mostly shows, one of ``VIEWS``; drawn when None.
        scene: what is around, one of ``SCENES``; drawn when None.
    """
    if view is not None and view not in VIEWS:
        raise ValueError(f"view {view!r}: expected one of {', '.join(VIEWS)}")
    side = VIEWS.index(view) if view is not None else int(rng.integers(len(VIEWS)))
    kind = scene if scene is not None else SCENES[int(rng.integers(len(SCENES)))]
    if kind not in SCENES:
        raise ValueError(f"scene {kind!r}: expected one of {', '.join(SCENES)}")
    warmth, tint = rng.normal(0.0, 0.02), rng.normal(0.0, 0.006)
    azimuth, height = rng.uniform(-math.pi / 2, math.pi / 2), rng.uniform(0.3, 1.1)
    return Camera(
        yaw=side * math.pi / 2 + float(rng.normal(0.0, 0.3)),
        spread=0.35,
        turned=0.3,
        pitch=float(rng.uniform(0.08, 0.38)),
        scene=kind,
        scene_seed=int(rng.integers(2**31)),
        gains=(float(1.0 + warmth), float(1.0 + tint), float(1.0 - warmth)),
        saturation=float(rng.uniform(0.8, 1.1)),
        exposure=float(np.exp(rng.normal(0.0, 0.06))),
        contrast=float(rng.uniform(0.85, 1.12)),
        gamma=float(np.exp(rng.normal(0.0, 0.06))),
        drift=0.05,
        light=(
            float(math.sin(azimuth) * math.cos(height)),
            float(math.sin(height)),
            float(math.cos(azimuth) * math.cos(height)),
        ),
        ambient=float(rng.uniform(0.4, 0.7)),
        shadow=float(rng.uniform(0.15, 0.55)),
        resolution=float(rng.uniform(0.4, 0.95)),
        blur=float(rng.uniform(0.0, 1.1)),
        noise=float(rng.uniform(1.0, 4.5)),
        jpeg=int(rng.integers(45, 90)),
        jitter=float(rng.uniform(0.5, 1.0)),
        occlusion=float(rng.uniform(0.08, 0.25)),
    )

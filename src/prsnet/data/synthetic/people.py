"""Who a generated person is: everything that stays the same from camera to camera.

Colours come from one short palette with few tints, so that many identities share theirs; what tells people apart is
shape, pattern, logos and what they carry. Lengths are in statures (1 is the body's height).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Colour: TypeAlias = tuple[int, int, int]
"""Red, green, blue, 0..255."""

CLOTH_COLOURS: dict[str, Colour] = {
    "black": (32, 33, 40),
    "charcoal": (64, 67, 77),
    "grey": (122, 128, 141),
    "white": (226, 220, 206),
    "navy": (38, 48, 88),
    "blue": (58, 98, 164),
    "red": (164, 46, 48),
    "green": (58, 104, 70),
    "beige": (186, 166, 132),
    "brown": (106, 78, 58),
}
UPPER_WEIGHTS = (0.20, 0.11, 0.14, 0.15, 0.12, 0.08, 0.08, 0.05, 0.04, 0.03)
LOWER_WEIGHTS = (0.30, 0.16, 0.09, 0.03, 0.22, 0.10, 0.01, 0.01, 0.06, 0.02)
SECOND_WEIGHTS = (0.12, 0.08, 0.12, 0.20, 0.10, 0.11, 0.11, 0.06, 0.06, 0.04)
SKINS: tuple[Colour, ...] = ((228, 186, 160), (214, 168, 138), (190, 142, 110), (150, 106, 78), (104, 72, 54))
HAIRS: tuple[Colour, ...] = ((30, 26, 26), (54, 40, 32), (92, 64, 42), (168, 132, 84), (132, 130, 130))
PATTERNS = ("plain", "stripes", "pinstripes", "checks", "dots", "blocks", "band", "sash", "camo", "panels", "yoke")
LOGOS = ("disc", "ring", "square", "triangle", "cross", "bars", "diamond", "number", "chevron", "text")
HAIR_STYLES = ("cropped", "short", "bob", "long", "ponytail", "bun", "curly", "bald")


@dataclass(frozen=True, slots=True)
class Body:
    """Shape and gait; factors are about 1, ``build`` is -1 (slim) to 1 (stout), angles are in radians."""

    height: float
    build: float
    shoulders: float
    hips: float
    legs: float
    head: float
    lean: float
    stride: float
    swing: float


@dataclass(frozen=True, slots=True)
class Head:
    """Skin, hair, face and what is on the head (``hat``: none, cap, beanie, brim or hood)."""

    skin: Colour
    hair: Colour
    style: str
    beard: bool
    glasses: bool
    hat: str
    hat_colour: Colour


@dataclass(frozen=True, slots=True)
class Logo:
    """A print: shape (one of ``LOGOS``), radius, place from the middle and the neck, and the glyph it shows."""

    shape: str
    colour: Colour
    radius: float
    across: float
    down: float
    code: int


@dataclass(frozen=True, slots=True)
class Upper:
    """What is worn above: ``kind`` is shirt, jacket (open in front), zipped, coat or dress.

    ``sleeves`` is the covered part of the arm, 0..1; ``hem`` is how far below the hip joint it ends, in statures;
    ``front`` and ``back`` are independent prints.
    """

    kind: str
    colour: Colour
    second: Colour
    inner: Colour
    pattern: str
    period: float
    sleeves: float
    contrast_sleeves: bool
    hem: float
    hood: bool
    front: Logo | None
    back: Logo | None


@dataclass(frozen=True, slots=True)
class Lower:
    """What is worn below: ``kind`` is trousers, shorts, skirt or bare (under a dress); ``width`` its looseness."""

    kind: str
    colour: Colour
    second: Colour
    pattern: str
    length: float
    width: float
    socks: Colour | None
    shoes: Colour
    soles: Colour
    boots: bool


@dataclass(frozen=True, slots=True)
class Bag:
    """What is carried: ``kind`` is none, backpack, shoulder, handbag or crossbody; ``side`` is -1 or 1."""

    kind: str
    colour: Colour
    second: Colour
    side: int
    size: float


@dataclass(frozen=True, slots=True)
class Identity:
    """A generated person; hashable, so that textures can be cached by it."""

    body: Body
    head: Head
    upper: Upper
    lower: Lower
    bag: Bag


def draw_identity(rng: np.random.Generator) -> Identity:
    """Return a person drawn from ``rng``."""
    body = _draw_body(rng)
    upper = _draw_upper(rng)
    return Identity(body=body, head=_draw_head(rng), upper=upper, lower=_draw_lower(rng, upper), bag=_draw_bag(rng))


def _pick(rng: np.random.Generator, options: Sequence[str], weights: Sequence[float]) -> str:
    shares = np.asarray(weights, dtype=np.float64)
    return options[int(rng.choice(len(options), p=shares / shares.sum()))]


def _cloth(rng: np.random.Generator, weights: Sequence[float]) -> Colour:
    """Return a palette colour with a slight tint: too slight to tell people apart under another camera's cast."""
    base = CLOTH_COLOURS[_pick(rng, tuple(CLOTH_COLOURS), weights)]
    tint = rng.normal(0.0, 3.0, 3)
    red, green, blue = (int(np.clip(round(c + t), 0, 255)) for c, t in zip(base, tint, strict=True))
    return red, green, blue


def _other_cloth(rng: np.random.Generator, than: Colour) -> Colour:
    """Return a colour that stands out against ``than``."""
    while True:
        colour = _cloth(rng, SECOND_WEIGHTS)
        if sum(abs(a - b) for a, b in zip(colour, than, strict=True)) > 110:
            return colour


def _draw_body(rng: np.random.Generator) -> Body:
    build = float(np.clip(rng.normal(0.0, 0.5), -1.0, 1.2))
    figure = float(rng.normal(0.0, 1.0))
    return Body(
        height=float(rng.normal(1.0, 0.05)),
        build=build,
        shoulders=float(np.clip(1.0 + 0.06 * figure, 0.86, 1.16)),
        hips=float(np.clip(1.0 - 0.06 * figure + rng.normal(0.0, 0.03), 0.86, 1.18)),
        legs=float(np.clip(rng.normal(1.0, 0.035), 0.92, 1.08)),
        head=float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.14)),
        lean=float(np.clip(rng.normal(0.05, 0.05), -0.04, 0.2)),
        stride=float(rng.uniform(0.22, 0.44)),
        swing=float(rng.uniform(0.15, 0.55)),
    )


def _draw_head(rng: np.random.Generator) -> Head:
    style = _pick(rng, HAIR_STYLES, (0.14, 0.30, 0.12, 0.17, 0.11, 0.05, 0.06, 0.05))
    masculine = style in ("cropped", "short", "bald", "curly")
    return Head(
        skin=SKINS[int(rng.choice(len(SKINS), p=(0.24, 0.3, 0.22, 0.14, 0.1)))],
        hair=HAIRS[int(rng.choice(len(HAIRS), p=(0.42, 0.26, 0.16, 0.09, 0.07)))],
        style=style,
        beard=bool(masculine and rng.random() < 0.25),
        glasses=bool(rng.random() < 0.22),
        hat=_pick(rng, ("none", "cap", "beanie", "brim", "hood"), (0.74, 0.12, 0.07, 0.04, 0.03)),
        hat_colour=_cloth(rng, SECOND_WEIGHTS),
    )


def _draw_logo(rng: np.random.Generator, cloth: Colour, *, chance: float) -> Logo | None:
    if rng.random() >= chance:
        return None
    large = rng.random() < 0.6
    return Logo(
        shape=_pick(rng, LOGOS, (1.0,) * len(LOGOS)),
        colour=_other_cloth(rng, cloth),
        radius=float(rng.uniform(0.038, 0.062) if large else rng.uniform(0.016, 0.024)),
        across=0.0 if large else float(rng.choice((-0.045, 0.045))),
        down=float(rng.uniform(0.12, 0.17) if large else rng.uniform(0.08, 0.1)),
        code=int(rng.integers(0, 256)),
    )


def _draw_upper(rng: np.random.Generator) -> Upper:
    kind = _pick(rng, ("shirt", "jacket", "zipped", "coat", "dress"), (0.46, 0.17, 0.17, 0.1, 0.1))
    colour = _cloth(rng, UPPER_WEIGHTS)
    hems = {
        "shirt": (-0.005, 0.03),
        "jacket": (0.0, 0.05),
        "zipped": (0.0, 0.05),
        "coat": (0.12, 0.24),
        "dress": (0.16, 0.3),
    }
    weights = (0.44, 0.11, 0.04, 0.07, 0.04, 0.08, 0.06, 0.04, 0.03, 0.05, 0.04)
    full = kind in ("jacket", "zipped", "coat") or rng.random() < 0.35
    return Upper(
        kind=kind,
        colour=colour,
        second=_other_cloth(rng, colour),
        inner=_cloth(rng, SECOND_WEIGHTS),
        pattern=_pick(rng, PATTERNS, weights),
        period=float(rng.uniform(0.028, 0.07)),
        sleeves=1.0 if full else float(rng.choice((0.0, 0.32, 0.45), p=(0.12, 0.48, 0.4))),
        contrast_sleeves=bool(rng.random() < 0.15),
        hem=float(rng.uniform(*hems[kind])),
        hood=bool(kind in ("shirt", "zipped") and full and rng.random() < 0.5),
        front=_draw_logo(rng, colour, chance=0.45 if kind in ("shirt", "dress") else 0.3),
        back=_draw_logo(rng, colour, chance=0.35),
    )


def _draw_lower(rng: np.random.Generator, upper: Upper) -> Lower:
    kind = _pick(rng, ("trousers", "shorts", "skirt"), (0.7, 0.18, 0.12))
    if upper.kind == "dress":
        kind = _pick(rng, ("bare", "trousers"), (0.7, 0.3))
    colour = _cloth(rng, LOWER_WEIGHTS)
    return Lower(
        kind=kind,
        colour=colour,
        second=_other_cloth(rng, colour),
        pattern=_pick(rng, ("plain", "seam", "checks", "cuffs", "fade", "dots"), (0.68, 0.11, 0.03, 0.05, 0.11, 0.02)),
        length=float(rng.uniform(0.12, 0.21) if kind == "shorts" else rng.uniform(0.15, 0.36)),
        width=float(rng.choice((0.86, 1.0, 1.22), p=(0.35, 0.45, 0.2))),
        socks=_cloth(rng, SECOND_WEIGHTS) if rng.random() < 0.3 else None,
        shoes=_cloth(rng, (0.34, 0.1, 0.1, 0.24, 0.06, 0.03, 0.04, 0.01, 0.03, 0.05)),
        soles=(214, 212, 206) if rng.random() < 0.5 else (40, 38, 38),
        boots=bool(rng.random() < 0.09),
    )


def _draw_bag(rng: np.random.Generator) -> Bag:
    colour = _cloth(rng, (0.3, 0.1, 0.1, 0.06, 0.12, 0.08, 0.08, 0.04, 0.06, 0.06))
    return Bag(
        kind=_pick(rng, ("none", "backpack", "shoulder", "handbag", "crossbody"), (0.34, 0.28, 0.15, 0.12, 0.11)),
        colour=colour,
        second=_other_cloth(rng, colour),
        side=int(rng.choice((-1, 1))),
        size=float(rng.uniform(0.85, 1.2)),
    )

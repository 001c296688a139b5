"""A person's parts: tubes between the joints of a pose, dressed and equipped as the identity says.

Parts are drawn from far to near. The trunk has a fixed place in that order; arms and legs move before and behind it,
and the layers of one limb (skin, sleeve, shoe) stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prsnet.data.synthetic.people import Body, Identity, Lower
from prsnet.data.synthetic.pose import THIGH, Point, Pose, View, mix, shift
from prsnet.data.synthetic.textures import TORSO_LENGTH, Tile
from prsnet.data.synthetic.tubes import Look, Tube


def person_tubes(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    """Return all parts of the person as the camera sees them; not sorted."""
    tubes = [*_legs(identity, pose, view), *_trunk(identity, pose, view), *_arms(identity, pose, view)]
    tubes += _head(identity, pose, view)
    return tubes + _bag(identity, pose, view)


def _times(lengths: Iterable[float], factor: float) -> tuple[float, ...]:
    return tuple(length * factor for length in lengths)


def _legs(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    lower, thick = identity.lower, 1.0 + 0.16 * identity.body.build
    tubes: list[Tube] = []
    for side in (0, 1):
        hip, knee, ankle, toe = pose.hips[side], pose.knees[side], pose.ankles[side], pose.toes[side]
        # A leg may come forward, but never before the trunk and what hangs from it.
        near = view.project(mix(hip, ankle, 0.6))[2]
        depth = 0.045 * near / (abs(near) + 0.045)
        if lower.kind == "trousers":
            tubes += _trouser_leg(lower, thick, hip, knee, ankle, view, depth)
        else:
            tubes.append(view.tube(hip, knee, (0.052 * thick, 0.046 * thick, 0.035), Tile.SKIN, depth=depth))
            tubes.append(view.tube(knee, ankle, (0.034, 0.036 * thick, 0.021), Tile.SKIN, depth=depth, nearer=0.001))
        if lower.boots or (lower.socks is not None and lower.kind != "trousers"):
            top = mix(knee, ankle, 0.45 if lower.boots else 0.62)
            tile = Tile.SHOE if lower.boots else Tile.SOCK
            tubes.append(view.tube(top, ankle, (0.037, 0.031), tile, depth=depth, nearer=0.004, look=Look(cap=0.1)))
        if lower.kind == "shorts":
            end = mix(hip, knee, min(1.0, lower.length / THIGH))
            look = Look(rows=(0.0, 0.5), cap=0.15, crease=0.8)
            widths = _times((0.062, 0.06 * lower.width), thick)
            tubes.append(view.tube(hip, end, widths, Tile.LEG, depth=depth, nearer=0.003, look=look))
        tubes += _shoe(ankle, toe, view, depth)
    return tubes


def _trouser_leg(
    lower: Lower, thick: float, hip: Point, knee: Point, ankle: Point, view: View, depth: float
) -> list[Tube]:
    loose = 0.6 + 0.4 * lower.width
    end = shift(mix(knee, ankle, 0.72 if lower.boots else 1.0), y=0.012)
    ankle_width = (0.026, 0.031, 0.044)[(lower.width > 0.9) + (lower.width > 1.1)]
    widths = (0.058 * thick, 0.055 * thick * loose, 0.041 * loose * thick)
    calf = (0.041 * loose * thick, 0.041 * loose * thick, ankle_width)
    above, below = Look(rows=(0.0, 0.52), crease=0.7), Look(rows=(0.45, 1.0), cap=0.5, crease=1.0)
    return [
        view.tube(hip, knee, widths, Tile.LEG, depth=depth, nearer=0.002, look=above),
        view.tube(knee, end, calf, Tile.LEG, depth=depth, nearer=0.003, look=below),
    ]


def _shoe(ankle: Point, toe: Point, view: View, depth: float) -> list[Tube]:
    heel = shift(ankle, y=-0.014, z=-0.012)
    sole_heel, sole_toe = shift(ankle, y=-0.026, z=-0.018), shift(toe, y=-0.008, z=0.002)
    return [
        view.tube(sole_heel, sole_toe, (0.021, 0.021, 0.018), Tile.SOLE, depth=depth, nearer=-0.002),
        view.tube(heel, toe, (0.026, 0.024, 0.017), Tile.SHOE, depth=depth, nearer=-0.001),
    ]


def _trunk(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    tubes = [_pelvis(identity, pose, view), _torso(identity, pose, view)]
    if identity.lower.kind == "skirt":
        tubes.append(_skirt(identity, pose, view))
    if identity.upper.hood and identity.head.hat != "hood":
        left, right = (shift(pose.neck, x=x, y=-0.004, z=-0.045) for x in (-0.045, 0.045))
        tubes.append(view.tube(left, right, (0.022, 0.03, 0.022), Tile.SLEEVE, nearer=0.062))
    return tubes


def _girth(body: Body) -> tuple[float, float]:
    """Return how much wider and deeper than usual the trunk is."""
    return 1.0 + 0.13 * body.build, 1.0 + 0.26 * body.build


def _opened(depths: Sequence[float], pose: Pose) -> list[float]:
    """Return the depths of a hem as far opened as the stride asks for."""
    reach = max(abs(knee[2]) for knee in pose.knees) + 0.04
    return [max(depth, share * reach) for depth, share in zip(depths, (0.8, 1.05), strict=True)]


def _pelvis(identity: Identity, pose: Pose, view: View) -> Tube:
    wide, deep = _girth(identity.body)
    widths = _times((0.078, 0.09, 0.094), identity.body.hips * wide)
    depths = _times((0.056, 0.066, 0.068), deep)
    tile = Tile.LOWER if identity.lower.kind != "bare" else Tile.UPPER
    waist, seat = shift(pose.hip, y=0.075), shift(pose.hip, y=-0.012)
    look = Look(rows=(0.0, 0.15), cap=0.35, crease=0.6, flat=0.3)
    return view.tube(waist, seat, widths, tile, depths=depths, depth=0.0, nearer=0.055, look=look)


def _skirt(identity: Identity, pose: Pose, view: View) -> Tube:
    wide, deep = _girth(identity.body)
    flare = identity.lower.width
    widths = _times((0.076, 0.096, 0.1 * flare, 0.106 * flare), identity.body.hips * wide)
    depths = [*_times((0.056, 0.074), deep), *_opened(_times((0.086, 0.094), deep), pose)]
    waist, hem = shift(pose.hip, y=0.075), shift(pose.hip, y=0.05 - identity.lower.length)
    look = Look(cap=0.06, crease=1.0)
    return view.tube(waist, hem, widths, Tile.LOWER, depths=depths, depth=0.0, nearer=0.058, look=look)


def _torso(identity: Identity, pose: Pose, view: View) -> Tube:
    """Return neck to hem; below the hip joint the garment widens and hangs."""
    body, upper = identity.body, identity.upper
    wide, deep = _girth(body)
    widths = [0.05, *_times((0.108, 0.116, 0.112, 0.104), body.shoulders * wide), *_times((0.096, 0.09), wide)]
    widths += _times((0.09, 0.096), body.hips * wide)
    depths = [0.042, 0.052, *_times((0.062, 0.07, 0.071, 0.068, 0.066, 0.067, 0.071), deep)]
    flare = 1.06 if upper.kind == "coat" else 1.12
    for _ in range(round(upper.hem / (TORSO_LENGTH / 8))):
        widths.append(min(widths[-1] * flare, 0.125 * body.hips * wide))
        depths.append(min(depths[-1] * 1.08, 0.105 * deep))
    if upper.hem > 0.1:
        depths[-2:] = _opened(depths[-2:], pose)
    collar, hem = shift(pose.neck, y=0.006), shift(pose.hip, y=-upper.hem)
    look = Look(cap=0.08, crease=0.5 if upper.kind == "coat" else 0.8, flat=0.35)
    return view.tube(collar, hem, widths, Tile.UPPER, depths=depths, depth=0.0, nearer=0.06, look=look)


def _arms(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    upper, thick = identity.upper, 1.0 + 0.14 * identity.body.build
    bulk = thick * (1.12 if upper.kind in ("jacket", "coat") else 1.0)
    tubes: list[Tube] = []
    for shoulder, elbow, wrist in zip(pose.shoulders, pose.elbows, pose.wrists, strict=True):
        hand = shift(mix(elbow, wrist, 1.28), y=-0.004)
        # The whole arm has one depth, before or behind the trunk, so that its own parts never change places.
        depth = 0.08 + view.project(mix(shoulder, wrist, 0.55))[2]
        tubes.append(view.tube(wrist, hand, (0.017, 0.021, 0.014), Tile.SKIN, depth=depth, nearer=0.001))
        if upper.sleeves < 0.99:
            above, below = _times((0.029, 0.026), thick), (0.026 * thick, 0.024 * thick, 0.017)
            # Below a sleeve the skin starts lower, so that no shoulder looks out above it.
            start = mix(shoulder, elbow, 0.22) if upper.sleeves > 0.0 else shoulder
            tubes.append(view.tube(start, elbow, above, Tile.SKIN, depth=depth))
            tubes.append(view.tube(elbow, wrist, below, Tile.SKIN, depth=depth, nearer=0.0005))
        tubes += _sleeve(upper.sleeves, bulk, (shoulder, elbow, wrist), view, depth)
    return tubes


def _sleeve(covered: float, bulk: float, arm: tuple[Point, Point, Point], view: View, depth: float) -> list[Tube]:
    shoulder, elbow, wrist = arm
    if covered <= 0.0:
        return []
    if covered < 0.99:
        end = mix(shoulder, elbow, covered / 0.55)
        look = Look(rows=(0.0, 0.45), cap=0.7, crease=0.8)
        return [
            view.tube(shoulder, end, _times((0.032, 0.034), bulk), Tile.SLEEVE, depth=depth, nearer=0.002, look=look)
        ]
    above, below = Look(rows=(0.0, 0.55), crease=0.9), Look(rows=(0.5, 1.0), cap=0.7, crease=0.9)
    return [
        view.tube(shoulder, elbow, _times((0.031, 0.029), bulk), Tile.SLEEVE, depth=depth, look=above),
        view.tube(
            elbow, wrist, _times((0.029, 0.028, 0.022), bulk), Tile.SLEEVE, depth=depth, nearer=0.002, look=below
        ),
    ]


def _head(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    size = identity.body.head
    chin, crown = pose.chin, pose.crown
    # The skull's axis runs between the centres of its rounded ends.
    high, low = mix(chin, crown, 0.66), mix(chin, crown, 0.2)
    wide = _times((0.048, 0.049, 0.044, 0.033), size)
    deep = _times((0.056, 0.058, 0.052, 0.04), size)
    bridge = shift(mix(chin, crown, 0.45), z=0.053 * size)
    tip = shift(mix(chin, crown, 0.34), z=0.057 * size)
    tubes = [
        view.tube(low, shift(pose.neck, y=-0.012), (0.03, 0.031, 0.036), Tile.SKIN, nearer=0.061, look=Look(cap=0.5)),
        view.tube(high, low, wide, Tile.FACE, depths=deep, nearer=0.1, look=Look(cap=0.95)),
        view.tube(bridge, tip, (0.006, 0.01), Tile.SKIN, nearer=0.1),
    ]
    return tubes + _hair(identity, pose, view) + _hat(identity, pose, view)


def _hair(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    """Return what stands out from the skull; the hair that lies on it is part of the face's texture."""
    style, size = identity.head.style, identity.body.head
    chin, crown = pose.chin, pose.crown
    if style in ("bald", "cropped") or identity.head.hat == "hood":
        return []
    volume = size * {"curly": 1.28, "bob": 1.1, "long": 1.06}.get(style, 1.0)
    wide, deep = _times((0.051, 0.053, 0.05), volume), _times((0.056, 0.056, 0.05), volume)
    top, low = shift(mix(chin, crown, 0.7), z=-0.01), shift(mix(chin, crown, 0.5), z=-0.02)
    tubes = [view.tube(top, low, wide, Tile.HAIR, depths=deep, nearer=0.095, look=Look(cap=0.6))]
    if style in ("bob", "long", "curly"):
        # Behind neck and trunk from the front, over them from the back.
        end = shift(mix(chin, crown, {"bob": 0.0, "curly": 0.2}.get(style, -0.7)), z=-0.05)
        wide, deep = _times((0.05, 0.056, 0.055, 0.048), volume), (0.045, 0.04, 0.034, 0.026)
        tubes.append(
            view.tube(shift(top, z=-0.02), end, wide, Tile.HAIR, depths=deep, nearer=0.092, look=Look(cap=0.3))
        )
    elif style == "ponytail":
        root = shift(mix(chin, crown, 0.6), z=-0.06)
        tubes.append(view.tube(root, shift(root, y=-0.13, z=-0.02), (0.016, 0.022, 0.01), Tile.HAIR, nearer=0.1))
    elif style == "bun":
        root = shift(crown, y=-0.005, z=-0.035)
        tubes.append(view.tube(root, shift(root, y=0.004), (0.026, 0.026), Tile.HAIR, nearer=0.11))
    return tubes


def _hat(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    hat, size = identity.head.hat, identity.body.head
    chin, crown = pose.chin, pose.crown
    if hat == "none":
        return []
    if hat == "hood":
        high, low = shift(mix(chin, crown, 0.72), z=-0.012), shift(chin, z=-0.025)
        look = Look(cap=0.7, crease=0.6)
        return [
            view.tube(
                high, low, (0.062, 0.064, 0.062), Tile.SLEEVE, depths=(0.064, 0.066, 0.06), nearer=0.092, look=look
            )
        ]
    top, band = mix(chin, crown, 0.86), mix(chin, crown, 0.6 if hat == "beanie" else 0.7)
    wide, deep = _times((0.042, 0.052, 0.053), size), _times((0.05, 0.06, 0.061), size)
    tubes = [view.tube(top, band, wide, Tile.HAT, depths=deep, nearer=0.13, look=Look(cap=0.35))]
    edge = Look(rows=(0.8, 1.0), cap=0.2)
    if hat == "cap":
        peak = shift(band, y=-0.008, z=0.075 * size)
        tubes.append(view.tube(peak, shift(peak, y=-0.01), _times((0.04, 0.034), size), Tile.HAT,
                               depths=_times((0.05, 0.044), size), nearer=0.1, look=edge))  # fmt: skip
    elif hat == "brim":
        wide = _times((0.088, 0.094), size)
        tubes.append(view.tube(band, shift(band, y=-0.012), wide, Tile.HAT, depths=wide, nearer=0.129, look=edge))
    return tubes


def _bag(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    kinds = {"backpack": _backpack, "handbag": _handbag, "shoulder": _slung_bag, "crossbody": _slung_bag}
    kind = identity.bag.kind
    return kinds[kind](identity, pose, view) if kind in kinds else []


def _backpack(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    size, lean = identity.bag.size, pose.neck[2]
    back = -0.09 - 0.02 * size
    top = shift(pose.neck, y=-0.035, z=back)
    low = shift(top, y=-0.2 * size, z=-lean / 2)
    wide, deep = _times((0.066, 0.078, 0.08, 0.078), size), _times((0.035, 0.05, 0.058, 0.05), size)
    look = Look(cap=0.3, crease=0.3, flat=0.4)
    tubes = [view.tube(top, low, wide, Tile.BAG, depths=deep, nearer=0.06, look=look)]
    for x in (-0.062, 0.062):
        over, under = shift(pose.neck, x, -0.018, 0.03), shift(pose.neck, x * 1.25, -0.15, 0.068 - lean / 3)
        tubes.append(view.tube(over, under, (0.009, 0.01), Tile.STRAP, nearer=0.03))
    return tubes


def _handbag(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    size = identity.bag.size
    grip = shift(pose.wrists[(identity.bag.side + 1) // 2], y=-0.03)
    top = shift(grip, y=-0.05)
    wide, deep = _times((0.03, 0.036), size), _times((0.07, 0.078), size)
    look = Look(cap=0.15, flat=0.5)
    return [
        view.tube(top, shift(top, y=-0.09 * size), wide, Tile.BAG, depths=deep, nearer=0.085, look=look),
        view.tube(
            grip, shift(top, y=-0.01), (0.01, 0.012), Tile.STRAP, depths=(0.012, 0.035), nearer=0.08, look=Look(cap=0.2)
        ),
    ]


def _slung_bag(identity: Identity, pose: Pose, view: View) -> list[Tube]:
    """Return a bag at the hip: its strap runs over the near shoulder, or across the body from the other one."""
    bag, side = identity.bag, identity.bag.side
    across = bag.kind == "crossbody"
    centre = shift(pose.hip, side * (0.125 * identity.body.hips + 0.01), 0.05, -0.02)
    shoulder = pose.shoulders[(1 + side) // 2 if not across else (1 - side) // 2]
    start = shift(shoulder, x=side * 0.03 if across else 0.0, y=0.03)
    pouch = view.tube(
        shift(centre, y=0.05), shift(centre, y=-0.065 * bag.size), (0.028, 0.034, 0.034), Tile.BAG,
        depths=_times((0.075, 0.085, 0.082), bag.size), nearer=0.1, look=Look(cap=0.2, flat=0.5),
    )  # fmt: skip
    tubes = [pouch]
    for z, nearer in ((0.085, 0.02), (-0.075, 0.06)) if across else ((0.085, 0.02),):
        end = shift(centre, x=-side * 0.02, y=0.05, z=z)
        tubes.append(view.tube(start, end, (0.008, 0.008), Tile.STRAP, nearer=nearer))
    return tubes

"""People and cameras: drawn from a stream, rendered from it, and the same person everywhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsnet.data.synthetic import Camera, draw_camera, draw_identity, render
from prsnet.data.synthetic.cameras import SCENES, VIEWS
from prsnet.data.synthetic.figure import person_tubes
from prsnet.data.synthetic.people import Identity, Logo
from prsnet.data.synthetic.pose import View, draw_pose
from prsnet.data.synthetic.render import colour_response
from prsnet.data.synthetic.textures import COLUMNS, ROWS, Tile, atlas, logo_mask, pattern_mask
from prsnet.data.synthetic.tubes import Light, Look, Tube, draw_tubes
from prsnet.rng import numpy_stream

Pixels = npt.NDArray[np.uint8]


def person(number: int) -> Identity:
    return draw_identity(numpy_stream(3, "identity", number))


def dressed(number: int, **changes: object) -> Identity:
    """Return a person in plain trousers and a plain red shirt without a bag, changed as asked."""
    base = person(number)
    upper = replace(base.upper, kind="shirt", colour=(164, 46, 48), pattern="plain", contrast_sleeves=False, hem=0.0)
    upper = replace(upper, front=None, back=None, hood=False, sleeves=1.0)
    lower = replace(base.lower, kind="trousers", colour=(58, 98, 164), pattern="plain", boots=False)
    plain = replace(base, upper=upper, lower=lower, bag=replace(base.bag, kind="none"))
    return replace(plain, **changes)  # type: ignore[arg-type]


def shot(identity: Identity, camera: Camera, number: int = 0, size: tuple[int, int] = (256, 128)) -> Pixels:
    return render(identity, camera, numpy_stream(5, "shot", number), size)


def middle(image: Pixels, top: float, low: float) -> npt.NDArray[np.float64]:
    """Return the mean colour of a patch on the body's axis between two heights given as shares."""
    height, width = image.shape[:2]
    patch = image[int(top * height) : int(low * height), int(0.46 * width) : int(0.54 * width)]
    mean: npt.NDArray[np.float64] = patch.reshape(-1, 3).astype(np.float64).mean(axis=0)
    return mean


def test_a_stream_gives_one_person_and_one_camera() -> None:
    assert person(1) == person(1)
    assert draw_camera(numpy_stream(0, "camera", 1)) == draw_camera(numpy_stream(0, "camera", 1))
    assert len({person(number) for number in range(50)}) == 50
    assert len({draw_camera(numpy_stream(0, "camera", number)) for number in range(20)}) == 20


def test_cameras_show_the_side_and_the_scene_asked_for() -> None:
    for quarter, view in enumerate(VIEWS):
        yaws = [draw_camera(numpy_stream(0, view, n), view=view).yaw - quarter * math.pi / 2 for n in range(200)]
        assert abs(float(np.mean(yaws))) < 0.1
    assert {draw_camera(numpy_stream(0, n), scene="lawn").scene for n in range(5)} == {"lawn"}
    assert {draw_camera(numpy_stream(0, n)).scene for n in range(100)} == set(SCENES)
    with pytest.raises(ValueError, match="scene 'moon': expected one of street"):
        draw_camera(numpy_stream(0), scene="moon")
    with pytest.raises(ValueError, match="view 'top': expected one of front"):
        draw_camera(numpy_stream(0), view="top")


def test_colours_are_shared_by_many() -> None:
    """Half of all people or more wear trousers of the two commonest colours: colour alone cannot tell them apart."""
    colours = [np.array(person(n).lower.colour) for n in range(200)]
    near = [sum(float(np.abs(a - b).max()) < 25 for b in colours) for a in colours]
    assert np.median(near) > 20


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from([(256, 128), (128, 64), (64, 64), (48, 24)]))
def test_every_image_has_the_shape_asked_for_and_is_reproduced(who: int, where: int, size: tuple[int, int]) -> None:
    camera = draw_camera(numpy_stream(1, "camera", where))
    image = shot(person(who), camera, 7, size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, shot(person(who), camera, 7, size))
    assert image.std() > 5


def test_another_stream_gives_another_image_of_the_same_person() -> None:
    camera = draw_camera(numpy_stream(1, "camera", 0))
    assert not np.array_equal(shot(person(0), camera, 0), shot(person(0), camera, 1))


def test_what_was_rendered_before_does_not_matter() -> None:
    cameras = [draw_camera(numpy_stream(1, "camera", n)) for n in range(3)]
    forth = {(p, c): shot(person(p), cameras[c], 10 * p + c) for p in range(3) for c in range(3)}
    back = {(p, c): shot(person(p), cameras[c], 10 * p + c) for p in (2, 1, 0) for c in (2, 1, 0)}
    assert all(np.array_equal(forth[key], back[key]) for key in forth)


def test_without_camera_effects_clothes_show_their_own_colours_from_all_sides() -> None:
    for quarter in range(4):
        camera = Camera(yaw=quarter * math.pi / 2, ambient=1.0)
        image = shot(dressed(4), camera, quarter)
        shirt = middle(image, 0.38, 0.42)
        assert shirt[0] > 2 * shirt[1]
        assert shirt[0] > 2 * shirt[2]
        assert np.allclose(shirt, (164, 46, 48), atol=40)


def test_the_same_person_is_more_alike_than_another_under_a_neutral_camera() -> None:
    own = middle(shot(dressed(4), Camera(), 1), 0.36, 0.44) - middle(shot(dressed(4), Camera(), 2), 0.36, 0.44)
    blue = dressed(4, upper=replace(dressed(4).upper, colour=(58, 98, 164)))
    other = middle(shot(dressed(4), Camera(), 1), 0.36, 0.44) - middle(shot(blue, Camera(), 2), 0.36, 0.44)
    assert np.abs(own).max() * 2 < np.abs(other).max()


def count_colour(image: Pixels, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=2) < 40).sum())


def test_a_front_print_is_seen_from_the_front_only() -> None:
    green = (40, 200, 60)
    logo = Logo(shape="square", colour=green, radius=0.05, across=0.0, down=0.15, code=0)
    base = dressed(2)
    front = replace(base, upper=replace(base.upper, front=logo))
    back = replace(base, upper=replace(base.upper, back=logo))
    for identity, yaws in ((front, (0.0, math.pi)), (back, (math.pi, 0.0))):
        shown, hidden = (count_colour(shot(identity, Camera(yaw=yaw, ambient=1.0)), green) for yaw in yaws)
        assert shown > 100
        assert hidden == 0


def test_a_backpack_is_seen_from_behind() -> None:
    green = (40, 200, 60)
    base = dressed(2)
    loaded = replace(base, bag=replace(base.bag, kind="backpack", colour=green, second=green))
    behind = count_colour(shot(loaded, Camera(yaw=math.pi, ambient=1.0)), green)
    before = count_colour(shot(loaded, Camera(yaw=0.0, ambient=1.0)), green)
    side = count_colour(shot(loaded, Camera(yaw=math.pi / 2, ambient=1.0)), green)
    assert behind > 5 * before
    assert side > 3 * before


def test_the_person_fills_the_crop_from_head_to_feet() -> None:
    for number in range(20):
        image = shot(person(number), Camera(yaw=number * 0.3), number)
        body = np.abs(image.astype(int) - image[0, 0].astype(int)).max(axis=2) > 8
        rows = np.flatnonzero(body.any(axis=1))
        assert 0.78 < (rows[-1] - rows[0]) / 256 < 0.99
        # One figure: no empty row between head and feet.
        assert body.any(axis=1)[rows[0] : rows[-1]].all()


def test_joints_keep_their_distances_in_every_pose() -> None:
    body = person(0).body
    for number in range(50):
        pose = draw_pose(body, numpy_stream(0, "pose", number))
        for side in (0, 1):
            assert math.dist(pose.shoulders[side], pose.elbows[side]) == pytest.approx(0.165, rel=0.05)
            assert math.dist(pose.hips[side], pose.knees[side]) == pytest.approx(0.238 * body.legs, rel=0.05)
        assert min(point[1] for point in (*pose.ankles, *pose.toes)) > 0.0
        assert 0.93 < pose.crown[1] < 1.1


def test_turning_round_mirrors_the_figure() -> None:
    """Seen from the front and from behind, a body covers mirrored outlines."""
    identity = dressed(3)
    pose = draw_pose(identity.body, numpy_stream(0, "pose"))
    light = Light((0.0, 0.0, 1.0), 1.0)
    outlines = []
    for yaw in (0.0, math.pi):
        canvas = np.full((200, 100, 3), 250.0, np.float32)
        tubes = person_tubes(identity, pose, View(yaw=yaw, pitch=0.0, scale=180.0, x=50.0, y=190.0))
        draw_tubes(canvas, tubes, atlas(identity), light, numpy_stream(0, "folds"))
        outlines.append((canvas != 250.0).any(axis=2))
    assert (outlines[0] ^ outlines[1][:, ::-1]).sum() < 0.01 * outlines[0].sum()


def test_a_tube_covers_the_area_of_a_capsule() -> None:
    tiles = np.full((1, ROWS, COLUMNS, 3), 200.0, np.float32)
    canvas = np.zeros((100, 100, 3), np.float32)
    draw_tubes(
        canvas, [Tube((30.0, 25.0), (60.0, 65.0), (10.0, 10.0))], tiles, Light((0.0, 0.0, 1.0), 1.0), numpy_stream(0)
    )
    # A rectangle of 50 by 20 and a disc of radius 10; the rim is darkened, so coverage is counted where it is half.
    assert (canvas[:, :, 0] > 60).sum() == pytest.approx(50 * 20 + math.pi * 100, rel=0.03)


def test_later_tubes_hide_earlier_ones_whatever_their_order_in_the_list() -> None:
    tiles = np.stack([np.full((ROWS, COLUMNS, 3), level, np.float32) for level in (50.0, 150.0)])
    light = Light((0.0, 0.0, 1.0), 1.0)
    near, far = Tube((20.0, 5.0), (20.0, 35.0), (8.0, 8.0), 1, 2.0), Tube((5.0, 20.0), (35.0, 20.0), (8.0,), 0, 1.0)
    pictures = []
    for tubes in ([near, far], [far, near]):
        canvas = np.zeros((40, 40, 3), np.float32)
        draw_tubes(canvas, tubes, tiles, light, numpy_stream(0))
        pictures.append(canvas)
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[0][20, 20, 0] > 140
    assert pictures[0][20, 6, 0] < 60


def test_a_tube_outside_the_picture_draws_nothing() -> None:
    canvas = np.full((20, 20, 3), 9.0, np.float32)
    tiles = np.zeros((1, ROWS, COLUMNS, 3), np.float32)
    draw_tubes(
        canvas, [Tube((-90.0, 200.0), (-80.0, 260.0), (4.0, 4.0))], tiles, Light((0.0, 0.0, 1.0), 1.0), numpy_stream(0)
    )
    assert (canvas == 9.0).all()


def test_light_from_one_side_brightens_that_side() -> None:
    tiles = np.full((1, ROWS, COLUMNS, 3), 120.0, np.float32)
    canvas = np.zeros((60, 60, 3), np.float32)
    tube = Tube((30.0, 10.0), (30.0, 50.0), (15.0, 15.0), look=Look(cap=0.1))
    draw_tubes(canvas, [tube], tiles, Light((0.8, 0.0, 0.6), 0.4), numpy_stream(0))
    assert canvas[30, 38, 0] > 1.3 * canvas[30, 22, 0]


def test_folds_stay_about_the_colour_of_the_cloth() -> None:
    tiles = np.full((1, ROWS, COLUMNS, 3), 120.0, np.float32)
    canvas = np.zeros((60, 60, 3), np.float32)
    tube = Tube((30.0, 0.0), (30.0, 60.0), (25.0, 25.0), look=Look(crease=1.0))
    draw_tubes(canvas, [tube], tiles, Light((0.0, 0.0, 1.0), 1.0), numpy_stream(0))
    patch = canvas[10:50, 20:40, 0]
    assert patch.mean() == pytest.approx(120.0, rel=0.1)
    assert 2.0 < patch.std() < 30.0


def test_a_neutral_camera_leaves_colours_alone() -> None:
    matrix, offset = colour_response(Camera())
    assert np.allclose(matrix, np.eye(3), atol=1e-6)
    assert np.allclose(offset, 0.0)


def test_saturation_zero_is_grey_and_gains_scale_channels() -> None:
    matrix, _ = colour_response(Camera(saturation=0.0))
    grey = np.array([200.0, 40.0, 90.0]) @ matrix
    assert grey == pytest.approx([0.299 * 200 + 0.587 * 40 + 0.114 * 90] * 3, rel=1e-4)
    matrix, offset = colour_response(Camera(gains=(1.2, 1.0, 0.5), exposure=0.5, contrast=0.8))
    seen = np.array([100.0, 100.0, 100.0]) @ matrix + offset
    assert seen == pytest.approx([100 * 1.2 * 0.4 + 25.6, 100 * 0.4 + 25.6, 100 * 0.5 * 0.4 + 25.6], rel=1e-4)


def test_a_coarse_camera_shows_less_detail() -> None:
    base = dressed(1)
    striped = replace(base, upper=replace(base.upper, pattern="stripes", period=0.03, second=(226, 220, 206)))
    fine, coarse = (shot(striped, Camera(resolution=r)).astype(float) for r in (1.0, 0.2))
    # As many stripes, but softer edges.
    edges = [np.abs(np.diff(image[80:120, 54:74], axis=0)).max() for image in (fine, coarse)]
    assert edges[1] < 0.6 * edges[0]


def test_occluders_change_about_the_share_of_images_asked_for() -> None:
    changed = 0
    for number in range(120):
        clean = shot(dressed(1), Camera(), number, (64, 32))
        seen = shot(dressed(1), Camera(occlusion=0.5), number, (64, 32))
        changed += not np.array_equal(clean, seen)
    assert 40 <= changed <= 80


@pytest.mark.parametrize(
    ("name", "share"), [("plain", 0.0), ("stripes", 0.5), ("pinstripes", 0.5), ("dots", math.pi * 0.32**2)]
)
def test_patterns_cover_the_share_that_their_geometry_says(name: str, share: float) -> None:
    y = (np.arange(400, dtype=np.float32)[:, None] + 0.5) / 1000
    x = (np.arange(400, dtype=np.float32)[None, :] + 0.5) / 1000
    assert pattern_mask(name, y, x, 0.05).mean() == pytest.approx(share, abs=0.02)


def test_logos_are_not_empty_and_stay_near_their_radius() -> None:
    y = (np.arange(200, dtype=np.float32)[:, None] - 99.5) / 1000
    x = (np.arange(200, dtype=np.float32)[None, :] - 99.5) / 1000
    for shape in ("disc", "ring", "square", "triangle", "cross", "bars", "diamond", "number", "chevron", "text"):
        for code in (0, 37, 255):
            mask = logo_mask(Logo(shape, (0, 0, 0), 0.05, 0.0, 0.0, code), y, x)
            assert mask.sum() > 200
            assert not mask[:, :25].any()
            assert not mask[:25].any()
    disc = logo_mask(Logo("disc", (0, 0, 0), 0.05, 0.0, 0.0, 0), y, x)
    assert disc.sum() == pytest.approx(math.pi * 50**2, rel=0.01)


def test_an_atlas_has_a_tile_for_every_surface() -> None:
    tiles = atlas(person(0))
    assert tiles.shape == (len(Tile), ROWS, COLUMNS, 3)
    assert np.isfinite(tiles).all()
    assert tiles.min() >= 0.0
    assert tiles.max() < 400.0
    assert not tiles.flags.writeable

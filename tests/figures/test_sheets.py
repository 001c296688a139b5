from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from prsnet.errors import InputError
from prsnet.figures.canvas import GREEN, RED
from prsnet.figures.sheets import FRAME, Cell, Frame, _font, draw_sheet, fitted, printable, shortened

BLUE_IMAGE = np.full((40, 20, 3), (0, 0, 255), dtype=np.uint8)


def near(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    found: np.ndarray = np.all(np.abs(picture.astype(int) - colour[:3]) < 4, axis=2)
    return found


def sheet(tmp_path: Path, frame: Frame | None, **options: object) -> np.ndarray:
    path = draw_sheet([[Cell(BLUE_IMAGE, ("a",), frame)]], tmp_path / "sheet.png", box=(80, 40))
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("frame", [Frame(GREEN), Frame(RED, "dashed")])
def test_a_frame_surrounds_the_picture_and_covers_none_of_it(tmp_path: Path, frame: Frame) -> None:
    picture = sheet(tmp_path, frame)
    blue = near(picture, (0, 0, 255))
    assert blue.sum() == 80 * 40
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    assert (len(rows), len(columns)) == (80, 40)
    coloured = near(picture, ImageColor.getrgb(frame.colour))
    inside = np.zeros_like(coloured)
    inside[rows[0] - FRAME : rows[-1] + FRAME + 1, columns[0] - FRAME : columns[-1] + FRAME + 1] = True
    assert not (coloured & ~inside).any()
    ring = (80 + 2 * FRAME) * (40 + 2 * FRAME) - 80 * 40
    share = coloured.sum() / ring
    assert share == 1 if frame.style == "solid" else 0.4 < share < 0.65


def test_without_a_frame_there_is_none(tmp_path: Path) -> None:
    picture = sheet(tmp_path, None)
    coloured = [near(picture, ImageColor.getrgb(colour)).any() for colour in (GREEN, RED)]
    assert coloured == [False, False]


def test_nothing_is_cut_off(tmp_path: Path) -> None:
    """All ink keeps away from the edges, whatever is long: text, rows, columns."""
    cell = Cell(BLUE_IMAGE, ("x" * 100, "y" * 100, "z"), Frame(RED, "dashed"))
    path = draw_sheet(
        [[cell] * 5, [cell] * 2],
        tmp_path / "sheet.png",
        headings=["W" * 50] * 5,
        title="T" * 90,
        note="N" * 200,
        lead=1,
    )
    ink = ~near(np.asarray(Image.open(path)), (255, 255, 255))
    assert not ink[:8].any() and not ink[-8:].any() and not ink[:, :8].any() and not ink[:, -8:].any()


def test_only_png_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="PNG"):
        draw_sheet([[Cell(BLUE_IMAGE)]], tmp_path / "sheet.jpg")


@given(st.integers(1, 300), st.integers(1, 300))
def test_images_keep_their_shape(height: int, width: int) -> None:
    image = fitted(np.zeros((height, width, 3), dtype=np.uint8), (120, 60))
    assert image.height <= 120 and image.width <= 60
    assert image.height == 120 or image.width == 60
    exact = min(120 / height, 60 / width)
    assert abs(image.height - height * exact) <= 1 and abs(image.width - width * exact) <= 1


@given(st.text(max_size=60), st.floats(20, 300))
def test_text_is_shortened_to_its_place(text: str, width: float) -> None:
    text = printable(text)
    font = _font(14)
    shown = shortened(text, width, font)
    assert font.getlength(shown) <= width or shown == "…"
    if font.getlength(text) <= width:
        assert shown == text
    else:
        start, _, end = shown.partition("…")
        assert text.startswith(start) and text.endswith(end)

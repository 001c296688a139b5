"""Sheets of images: rows of cells with headings, frames and lines of text, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from prsnet.figures.canvas import INK, PAPER, require_png
from prsnet.files import replacing

Pixels: TypeAlias = npt.NDArray[np.uint8]

FRAME = 6
"""Width of a frame in pixels; frames stand around the picture and cover none of it."""
_GAP, _MARGIN, _LINE, _TEXT = 10, 16, 19, 14
_DASH = 12
_FAINT_INK = "#555555"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: its colour, and whether it is whole or dashed, for those who cannot tell the colours apart."""

    colour: str
    style: Literal["solid", "dashed"] = "solid"


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        lines: text below it, cut where it is too long.
        frame: drawn around it, if any.
    """

    image: Pixels
    lines: tuple[str, ...] = ()
    frame: Frame | None = None


Row: TypeAlias = Sequence[Cell]


def draw_sheet(
    rows: Sequence[Row],
    path: Path | str,
    *,
    headings: Sequence[str] = (),
    title: str = "",
    note: str = "",
    box: tuple[int, int] = (224, 112),
    lead: int = 0,
) -> Path:
    """Write rows of cells as one PNG.

    Args:
        rows: the cells; rows may differ in length.
        path: the ``.png`` file, replaced atomically.
        headings: words above the columns.
        title: a line above everything.
        note: a line below everything.
        box: height and width in pixels that images are fitted into, their shape kept.
        lead: the first columns, set apart from the others by a wider gap.

    Returns:
        The path.

    Raises:
        InputError: the name does not end in ``.png``, or the file cannot be written.
    """
    require_png(path)
    sheet = _Sheet(rows, headings=headings, title=title, note=note, box=box, lead=lead)
    with replacing(path) as temporary:
        sheet.paint().save(temporary, format="PNG")
    return Path(path)


class _Sheet:
    """The places of everything on a sheet, in pixels."""

    def __init__(
        self, rows: Sequence[Row], *, headings: Sequence[str], title: str, note: str, box: tuple[int, int], lead: int
    ) -> None:
        self.rows, self.headings, self.box, self.lead = rows, headings, box, lead
        self.title, self.note = printable(title), printable(note)
        self.cell_width = box[1] + 2 * FRAME + _GAP
        lines = max((len(cell.lines) for row in rows for cell in row), default=0)
        self.row_height = box[0] + 2 * FRAME + lines * _LINE + _GAP
        self.top = _MARGIN + (_LINE + _GAP if title else 0)
        self.first_row = self.top + (_LINE if headings else 0)
        columns = max(len(headings), max((len(row) for row in rows), default=0))
        text = max(int(_font(_TEXT).getlength(line)) for line in (title, note))
        self.width = max(self.left(columns), text + 2 * _MARGIN)
        below = _LINE if note else 0
        self.height = self.first_row + len(rows) * self.row_height + below + _MARGIN

    def left(self, column: int) -> int:
        """Return where a column begins; for the number of columns, where the margin ends."""
        apart = 2 * _GAP if self.lead and column >= self.lead else 0
        return _MARGIN + column * self.cell_width + apart

    def paint(self) -> Image.Image:
        """Return the sheet."""
        picture = Image.new("RGB", (self.width, self.height), PAPER)
        draw = ImageDraw.Draw(picture)
        draw.text((_MARGIN, _MARGIN), self.title, font=_font(_TEXT, bold=True), fill=INK)
        for column, heading in enumerate(self.headings):
            self._text(draw, column, self.top, heading, bold=True)
        for number, row in enumerate(self.rows):
            for column, cell in enumerate(row):
                self._cell(picture, draw, column, self.first_row + number * self.row_height, cell)
        draw.text((_MARGIN, self.height - _MARGIN - _LINE), self.note, font=_font(_TEXT), fill=_FAINT_INK)
        return picture

    def _cell(self, picture: Image.Image, draw: ImageDraw.ImageDraw, column: int, top: int, cell: Cell) -> None:
        image = fitted(cell.image, self.box)
        x = self.left(column) + (self.cell_width - image.width) // 2
        y = top + FRAME + (self.box[0] - image.height)
        if cell.frame is not None:
            _frame(draw, (x, y, x + image.width, y + image.height), cell.frame)
        picture.paste(image, (x, y))
        for number, line in enumerate(cell.lines):
            self._text(draw, column, top + self.box[0] + 2 * FRAME + 3 + number * _LINE, line)

    def _text(self, draw: ImageDraw.ImageDraw, column: int, top: int, text: str, *, bold: bool = False) -> None:
        font = _font(_TEXT, bold=bold)
        shown = shortened(printable(text), self.cell_width - 4, font)
        x = self.left(column) + (self.cell_width - font.getlength(shown)) / 2
        draw.text((x, top), shown, font=font, fill=INK)


def fitted(pixels: Pixels, box: tuple[int, int]) -> Image.Image:
    """Return an image resized to the largest size that fits into ``box`` (height, width), its shape kept."""
    height, width = pixels.shape[:2]
    scale = min(box[0] / height, box[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def shortened(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """Return ``text`` with its middle replaced by an ellipsis where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 0:
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(shown) <= width:
            return shown
        kept -= 1
    return "…"


def printable(text: str) -> str:
    """Return ``text`` with control characters and broken bytes, which file names may hold, as question marks."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _frame(draw: ImageDraw.ImageDraw, inside: tuple[int, int, int, int], frame: Frame) -> None:
    """Draw a frame around the box ``inside`` (left, top, right, bottom); a dashed one loses every second piece."""
    left, top, right, bottom = inside
    draw.rectangle((left - FRAME, top - FRAME, right + FRAME - 1, bottom + FRAME - 1), fill=frame.colour)
    if frame.style == "dashed":
        for x in range(left - FRAME + _DASH, right + FRAME, 2 * _DASH):
            draw.rectangle((x, top - FRAME, min(x + _DASH, right + FRAME) - 1, bottom + FRAME - 1), fill=PAPER)
        for y in range(top - FRAME, bottom + FRAME, 2 * _DASH):
            for x in (left - FRAME, right):
                piece = (x, y, x + FRAME - 1, min(y + _DASH, bottom + FRAME) - 1)
                draw.rectangle(piece, fill=frame.colour)
                gap = (x, y + _DASH, x + FRAME - 1, min(y + 2 * _DASH, bottom + FRAME) - 1)
                if gap[1] <= gap[3]:
                    draw.rectangle(gap, fill=PAPER)


@lru_cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the typeface that comes with matplotlib: the same on every machine, with the signs we need."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)

"""What all charts share: colours, paper, and the way to disk. pyplot with its list of windows is never imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from prsnet.errors import InputError
from prsnet.files import replacing, write_json

BLUE, ORANGE, GREEN, RED = "#0072b2", "#d55e00", "#009e73", "#cc3311"
"""Colours that people with any kind of colour vision can tell apart (after Okabe and Ito, and Tol)."""
CYCLE = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#b58900", "#555555")
INK, FAINT, PAPER = "#222222", "#dddddd", "#ffffff"
DPI = 110

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def paper(
    path: Path | str, *, rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.0)
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure and its axes, row by row; when the block ends well, the figure is written to ``path``.

    Args:
        path: a ``.png`` file, replaced atomically.
        rows: rows of axes.
        columns: axes per row.
        size: width and height in inches of the whole figure.

    Raises:
        InputError: the name does not end in ``.png``, or the file cannot be written.
    """
    require_png(path)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor=PAPER)
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(grid.flat)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def write_beside(path: Path | str, data: Mapping[str, Any]) -> None:
    """Write what a picture shows as JSON beside it: ``name.png`` -> ``name.json``."""
    write_json(Path(path).with_suffix(".json"), data)


def require_png(path: Path | str) -> None:
    """Raise InputError unless a picture's name ends in ``.png``."""
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are PNG files", hint="give a name that ends in .png")

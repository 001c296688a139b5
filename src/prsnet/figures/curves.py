"""How a training went: losses, learning rate and held-out figures over the steps of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from prsnet.errors import InputError
from prsnet.figures.canvas import BLUE, ORANGE, paper, write_beside
from prsnet.runs import RunFolder

POINTS = 300
"""Points per line at most; of a longer run, consecutive steps are averaged."""
TITLES = {
    "loss": "loss",
    "id": "identity cross-entropy",
    "triplet": "batch-hard triplet loss",
    "centroid": "centroid triplet loss",
    "center": "center loss, weighted",
    "gradient_norm": "norm of the gradients",
    "lr": "learning rate",
    "map": "mAP",
    "rank1": "Rank-1",
}
_NOT_FIGURES = frozenset({"step", "epoch", "images_per_second", "held_out"})
_SHARES = frozenset({"map", "rank1"})
_COLUMNS = 3

Series = dict[str, list[float]]


def draw_curves(run: Path | str) -> Path:
    """Draw a run's curves as RUN/curves.png, and write the very points drawn as RUN/curves.json.

    There is one panel per figure: each loss, the learning rate last, and what was measured on held-out data. A figure
    known of both the training and the held-out data has one panel with two lines.

    Args:
        run: a run folder with ``metrics.jsonl``.

    Returns:
        The path of the picture.

    Raises:
        InputError: the run has no metrics yet.
    """
    folder = RunFolder(Path(run))
    panels = curve_data(folder.read_metrics())
    if not panels:
        raise InputError(f"{folder.metrics}: no steps to draw", hint="give the folder of a run that has begun")
    picture = folder.path / "curves.png"
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with paper(picture, rows=rows, columns=columns, size=(3.7 * columns, 2.7 * rows)) as (_, axes):
        for axis, (name, lines) in zip(axes, panels.items(), strict=False):
            _draw_panel(axis, TITLES.get(name, name.replace("_", " ")), lines)
            if name in _SHARES:
                axis.set_ylim(0, 1.03)  # so that a wiggle does not look like a trend
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
    write_beside(picture, {"run": folder.path.resolve().name, "panels": panels})
    return picture


def curve_data(rows: Sequence[Mapping[str, Any]], *, points: int = POINTS) -> dict[str, dict[str, Series]]:
    """Return what there is to draw: figure -> ``"training"`` and ``"held-out"`` -> ``steps`` and ``values``.

    Args:
        rows: the lines of metrics.jsonl.
        points: longest line; longer ones are averaged over consecutive steps.
    """
    lines: dict[str, dict[str, Series]] = {}
    for row in rows:
        held_out = row.get("held_out")
        source, figures = ("training", row) if held_out is None else ("held-out", held_out)
        for name, value in figures.items():
            if name in _NOT_FIGURES or not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            line = lines.setdefault(name, {}).setdefault(source, {"steps": [], "values": []})
            line["steps"].append(row["step"])
            line["values"].append(value)
    if "loss" in lines:
        lines.pop("score", None)  # pre-training's score is the held-out loss with another sign
    order = sorted(lines, key=lambda name: (name == "lr", name != "loss", "training" not in lines[name]))
    return {name: {source: thinned(line, points) for source, line in lines[name].items()} for name in order}


def thinned(line: Series, points: int) -> Series:
    """Return a line of at most ``points`` points: means over as many consecutive ones as it takes."""
    width = math.ceil(len(line["steps"]) / points)
    if width <= 1:
        return line
    return {name: [_mean(values[i : i + width]) for i in range(0, len(values), width)] for name, values in line.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _draw_panel(axis: Axes, title: str, lines: Mapping[str, Series]) -> None:
    for source, line in lines.items():
        colour, mark = (BLUE, "") if source == "training" else (ORANGE, "o")
        if len(line["steps"]) == 1:
            mark = "o"  # a line of one point is invisible
        axis.plot(line["steps"], line["values"], color=colour, marker=mark, markersize=3.5, label=source)
    axis.set_title(title if "training" in lines else f"{title}, held-out")
    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if len(lines) > 1:
        axis.legend()

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prsnet.errors import InputError
from prsnet.figures import draw_curves
from prsnet.figures.curves import curve_data, thinned


def write_run(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def step(number: int, **figures: float) -> dict[str, Any]:
    return {"step": number, "epoch": 1, "lr": 0.1 * number, "images_per_second": 9.0, **figures}


def test_the_json_holds_every_point_of_a_short_run(tmp_path: Path) -> None:
    rows = [step(1, loss=3.0, id=2.0), {"step": 1, "epoch": 1, "held_out": {"map": 0.5}}, step(2, loss=2.0, id=1.5)]
    picture = draw_curves(write_run(tmp_path / "run", rows))
    assert picture == tmp_path / "run" / "curves.png"
    drawn = json.loads(picture.with_suffix(".json").read_text())
    assert drawn["run"] == "run"
    assert drawn["panels"] == {
        "loss": {"training": {"steps": [1, 2], "values": [3.0, 2.0]}},
        "id": {"training": {"steps": [1, 2], "values": [2.0, 1.5]}},
        "map": {"held-out": {"steps": [1], "values": [0.5]}},
        "lr": {"training": {"steps": [1, 2], "values": [0.1, 0.2]}},
    }


def test_the_curves_are_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[Any]] = {}
    save = matplotlib.figure.Figure.savefig

    def spy(figure: matplotlib.figure.Figure, *args: Any, **options: Any) -> None:
        for axis in figure.axes:
            title = axis.get_title(loc="left")
            drawn[title] = [tuple(np.asarray(line.get_data()).tolist()) for line in axis.get_lines()]
        save(figure, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    rows = [step(1, loss=3.0), step(2, loss=2.5), {"step": 2, "epoch": 1, "held_out": {"loss": 2.7, "score": -2.7}}]
    picture = draw_curves(write_run(tmp_path / "run", rows))
    panels = json.loads(picture.with_suffix(".json").read_text())["panels"]
    wanted = [(line["steps"], line["values"]) for line in panels["loss"].values()]
    assert drawn["loss"] == wanted == [([1, 2], [3.0, 2.5]), ([2], [2.7])]
    assert "score" not in panels


def test_a_run_of_one_step_is_visible(tmp_path: Path) -> None:
    picture = draw_curves(write_run(tmp_path / "run", [step(1, loss=3.0)]))
    blue = np.all(np.abs(np.asarray(Image.open(picture).convert("RGB")).astype(int) - (0, 114, 178)) < 40, axis=2)
    assert blue.sum() > 10


def test_drawing_again_replaces_the_picture(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [step(1, loss=3.0)])
    first = draw_curves(run).read_bytes()
    assert draw_curves(str(run)).read_bytes() == first
    assert sorted(path.name for path in run.iterdir()) == ["curves.json", "curves.png", "metrics.jsonl"]


def test_no_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no steps to draw"):
        draw_curves(tmp_path)


def test_values_that_are_not_finite_are_left_out() -> None:
    rows = [{"step": 1, "epoch": 1, "loss": math.nan}, {"step": 2, "epoch": 1, "loss": 1.0}]
    assert curve_data(rows) == {"loss": {"training": {"steps": [2], "values": [1.0]}}}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_long_lines_are_thinned_to_means(values: list[float], points: int) -> None:
    steps = [float(number) for number in range(1, len(values) + 1)]
    short = thinned({"steps": steps, "values": values}, points)
    assert len(short["steps"]) == len(short["values"]) <= points
    width = math.ceil(len(values) / points)
    expected = [np.mean(values[i : i + width]) for i in range(0, len(values), width)]
    np.testing.assert_allclose(short["values"], expected, rtol=1e-9, atol=1e-6)
    assert (short["steps"] == sorted(short["steps"])) and short["steps"][0] >= 1 and short["steps"][-1] <= len(values)

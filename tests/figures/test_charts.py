import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import StepPatch
from PIL import Image

from prsnet import Embeddings, InputError, RankReport, rank_report
from prsnet.figures import draw_average_precision, draw_camera_pairs, draw_cmc, draw_roc, draw_similarities
from prsnet.metrics.verification import VerificationReport, verification_report

Drawn = list[Axes]


def people(rows: int, seed: int) -> Embeddings:
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 9, rows)
    centres = np.random.default_rng(0).normal(size=(9, 6))
    vectors = centres[pids] + rng.normal(scale=0.9, size=(rows, 6))
    return Embeddings(vectors, pids, rng.integers(1, 4, rows))


@pytest.fixture(scope="module")
def report() -> RankReport:
    return rank_report(people(40, 1), people(120, 2), camera_pairs=True)


@pytest.fixture(scope="module")
def pairs() -> VerificationReport:
    return verification_report(people(40, 1), people(120, 2))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The axes of every figure that is saved."""
    axes: Drawn = []
    save = matplotlib.figure.Figure.savefig

    def spy(figure: matplotlib.figure.Figure, *args: Any, **options: Any) -> None:
        axes.extend(figure.axes)
        save(figure, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    return axes


def read(picture: Path) -> Any:
    return json.loads(picture.with_suffix(".json").read_text())


def test_cmc_is_the_reports_at_every_rank(tmp_path: Path, report: RankReport, drawn: Drawn) -> None:
    data = read(draw_cmc({"a": report, "b": report}, tmp_path / "cmc.png", ranks=12))
    exact = rank_report(people(40, 1), people(120, 2), ranks=tuple(range(1, 13)))
    assert data["cmc"]["a"] == [exact.cmc[rank] for rank in range(1, 13)]
    for line, name in zip(drawn[0].get_lines(), ("a", "b"), strict=True):
        assert line.get_label() == name
        assert np.asarray(line.get_data()).tolist() == [data["ranks"], data["cmc"][name]]


def test_lines_differ_not_by_colour_alone(tmp_path: Path, report: RankReport, drawn: Drawn) -> None:
    draw_cmc(dict.fromkeys("abcd", report), tmp_path / "cmc.png")
    looks = {(line.get_linestyle(), line.get_marker()) for line in drawn[0].get_lines()}
    assert len(looks) == 4


def test_the_area_below_a_line_of_average_precision_is_map(tmp_path: Path, report: RankReport, drawn: Drawn) -> None:
    data = read(draw_average_precision({"a": report}, tmp_path / "ap.png"))
    assert data["reports"]["a"] == {"ap": sorted(report.per_query.ap.tolist()), "map": report.map}
    (stairs,) = drawn[0].patches
    assert isinstance(stairs, StepPatch)
    values, edges, _ = stairs.get_data()
    assert edges.tolist() == [0.0, *data["reports"]["a"]["ap"], 1.0]
    assert float((values * np.diff(edges)).sum()) == pytest.approx(report.map)


def test_similarities_count_every_pair(tmp_path: Path, pairs: VerificationReport, drawn: Drawn) -> None:
    data = read(draw_similarities(pairs, tmp_path / "similarities.png", fpr=0.05))
    assert sum(data["positives"]) == pairs.pairs.positives.sum()
    assert sum(data["negatives"]) == pairs.pairs.negatives.sum()
    assert data["threshold"]["fpr"] <= 0.05
    (line,) = (line for line in drawn[0].get_lines() if line.get_linestyle() == "--")
    assert set(np.ravel(line.get_xdata())) == {data["threshold"]["threshold"]}


def test_roc_is_the_reports(tmp_path: Path, pairs: VerificationReport, drawn: Drawn) -> None:
    data = read(draw_roc({"a": pairs}, tmp_path / "roc.png"))
    roc = data["reports"]["a"]["roc"]
    assert roc == pairs.pairs.roc() and data["reports"]["a"]["eer"] == pairs.eer
    shown = [(f, t) for f, t in zip(roc["fpr"], roc["tpr"], strict=True) if f > 0]
    assert np.asarray(drawn[0].get_lines()[0].get_data()).T.tolist() == [list(point) for point in shown]


def test_cameras_are_a_table_of_the_pairs(tmp_path: Path, report: RankReport, drawn: Drawn) -> None:
    data = read(draw_camera_pairs(report, tmp_path / "cameras.png"))
    assert data["pairs"] == report.to_dict()["by_camera_pair"]
    cells = {tuple(text.get_position()): text.get_text() for text in drawn[0].texts}
    for (own, other), part in report.by_camera_pair.items():
        place = data["gallery_cameras"].index(other), data["query_cameras"].index(own)
        assert cells[place] == f"{part.map:.0%}"
    assert sum(text == "–" for text in cells.values()) == len(cells) - len(report.by_camera_pair)


def test_reports_without_pairs_of_cameras_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pairs of cameras"):
        draw_camera_pairs(rank_report(people(40, 1), people(120, 2)), tmp_path / "cameras.png")


@pytest.mark.parametrize("draw", [draw_cmc, draw_average_precision, draw_roc])
def test_nothing_to_draw_is_refused(tmp_path: Path, draw: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no report"):
        draw({}, tmp_path / "chart.png")


def test_only_png_files(tmp_path: Path, report: RankReport) -> None:
    with pytest.raises(InputError, match="PNG"):
        draw_cmc({"a": report}, tmp_path / "chart.svg")
    assert list(tmp_path.iterdir()) == []


def test_a_chart_is_an_opaque_picture(tmp_path: Path, report: RankReport) -> None:
    with Image.open(draw_cmc({"name with $dollar$ and _under": report}, tmp_path / "cmc.png")) as picture:
        assert picture.size == (704, 440)
        assert picture.convert("RGBA").getextrema()[3] == (255, 255)

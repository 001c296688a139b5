import json
import re
from pathlib import Path

import numpy as np
import pytest

from prsnet import Embeddings, Evaluation, evaluate
from prsnet.measures import Measures, measure
from prsnet.report import answers_section, cameras_section, figures_section, pairs_section, write_evaluations
from prsnet.report.evaluation import evaluation_sections


def people(rows: int, seed: int, spread: float) -> Embeddings:
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 9, rows)
    centres = np.random.default_rng(0).normal(size=(9, 6))
    vectors = centres[pids] + rng.normal(scale=spread, size=(rows, 6))
    return Embeddings(vectors, pids, rng.integers(1, 4, rows))


@pytest.fixture(scope="module")
def models() -> dict[str, Measures]:
    return {
        name: measure(people(40, 1, spread), people(120, 2, spread), verification=True)
        for name, spread in (("poor", 2.0), ("good", 0.7))
    }


def test_the_table_says_the_figures_and_how_sure_they_are(tmp_path: Path, models: dict[str, Measures]) -> None:
    section = figures_section(models, tmp_path)
    assert section.table is not None
    assert section.table.best == 1
    assert list(section.table.header) == ["", "mAP", "Rank-1", "Rank-5", "Rank-10", "mINP"]
    for row, (name, measures) in zip(section.table.rows, models.items(), strict=True):
        report, interval = measures.report, measures.intervals["map"]
        assert row[0] == name
        assert row[1] == f"{100 * report.map:.1f} [{100 * interval.low:.0f}–{100 * interval.high:.0f}]"
        assert row[2].startswith(f"{100 * report.cmc[1]:.1f} [")
        assert row[3:5] == [f"{100 * report.cmc[5]:.1f}", f"{100 * report.cmc[10]:.1f}"]
        assert row[5].startswith(f"{100 * report.minp:.1f} [")
    assert [picture.path.name for picture in section.pictures] == ["cmc.png", "average_precision.png"]


def test_one_model_alone_is_not_called_the_best(tmp_path: Path, models: dict[str, Measures]) -> None:
    section = figures_section({"good": models["good"]}, tmp_path)
    assert section.table is not None and section.table.best is None


def test_thresholds_are_the_reports(tmp_path: Path, models: dict[str, Measures]) -> None:
    reports = {name: measures.verification for name, measures in models.items() if measures.verification}
    section = pairs_section(reports, tmp_path, shown="good")
    assert section.table is not None
    for row, point in zip(section.table.rows, reports["good"].points, strict=True):
        assert row[:3] == [f"{100 * point.wished_fpr:g}", f"{point.threshold:.3f}", f"{100 * point.tpr:.1f}"]
        assert bool(row[3]) is not point.supported
    shown = json.loads((tmp_path / "similarities.json").read_text())
    assert sum(shown["positives"]) == reports["good"].pairs.positives.sum()


def test_cameras_are_said_in_words_too(tmp_path: Path, models: dict[str, Measures]) -> None:
    (picture,) = cameras_section(models["good"], tmp_path).pictures
    for (own, other), part in models["good"].report.by_camera_pair.items():
        assert f"from {own} to {other} {part.map:.0%}" in picture.alt


def test_answers_are_those_of_the_evaluation(tmp_path: Path, tiny_trained: Path, tiny_market: Path) -> None:
    found: Evaluation = evaluate(tiny_trained, tiny_market)
    section = answers_section(found, tmp_path, queries=3, seed=1)
    assert [picture.path.name for picture in section.pictures] == ["ranks.png", "worst.png"]
    by_path = dict(zip(found.query.paths, range(len(found.query)), strict=True))
    ap = dict(zip(found.report.per_query.row.tolist(), found.report.per_query.ap.tolist(), strict=True))
    for name in ("ranks", "worst"):
        written = json.loads((tmp_path / f"{name}.json").read_text())
        assert written["protocol"] == found.report.protocol
        assert len(written["queries"]) == 3
        for query in written["queries"]:
            assert query["ap"] == pytest.approx(ap[by_path[query["path"]]], abs=1e-6)
    worst = [query["ap"] for query in json.loads((tmp_path / "worst.json").read_text())["queries"]]
    assert worst == pytest.approx(sorted(ap.values())[:3], abs=1e-6)


def test_evaluations_become_a_page_and_a_folder_of_pictures(
    tmp_path: Path, tiny_trained: Path, tiny_market: Path
) -> None:
    found = evaluate(tiny_trained, tiny_market, verification=True)
    page = write_evaluations(tmp_path / "page.html", [found, found])
    html = page.read_text()
    titles = re.findall(r'<h2 id="[^"]*">([^<]*)</h2>', html)
    assert titles == 2 * [found.facts["dataset"], "Answers to queries", "Same person or not", "Cameras"]
    folder = tmp_path / "page_figures"
    names = ["average_precision", "cameras", "cmc", "ranks", "roc", "similarities", "worst"]
    for place in (folder, folder / "2"):
        assert sorted(path.stem for path in place.glob("*.png")) == names
        assert sorted(path.stem for path in place.glob("*.json")) == names


def test_what_was_not_measured_is_not_shown(tmp_path: Path) -> None:
    """Embeddings without paths, cameras and pairs leave the figures alone; warnings stand above them."""
    query, gallery = (Embeddings(s.vectors, s.pids, np.full(len(s), -1)) for s in (people(40, 1, 1), people(90, 2, 1)))
    facts = {"model": "m", "dataset": "d", "transductive": "transductive: it was seen"}
    found = Evaluation(measure(query, gallery), query, gallery, facts, ("few people",))
    (section,) = evaluation_sections(found, tmp_path)
    assert section.title == "d" and section.text == ("transductive: it was seen", "few people")

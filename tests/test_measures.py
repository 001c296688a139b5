"""What evaluation measures beside the ranking, and embeddings that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prsnet.cli.main import main
from prsnet.errors import DataError
from prsnet.measures import measure, read_foreign_embeddings
from prsnet.metrics.ranking import rank_report
from prsnet.types import Embeddings


def people(identities: int = 6, cameras: int = 2, shots: int = 3, noise: float = 0.7, seed: int = 0) -> Embeddings:
    generator = np.random.default_rng(seed)
    pids = np.repeat(np.arange(1, identities + 1), cameras * shots)
    camids = np.tile(np.repeat(np.arange(cameras), shots), identities)
    centres = generator.normal(size=(identities + 1, 16))
    vectors = centres[pids] + noise * generator.normal(size=(len(pids), 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors.astype(np.float32), pids, camids, tuple(f"{i}.png" for i in range(len(pids))))


def test_the_ranking_is_the_ranking() -> None:
    both = people()
    measures = measure(both, both, ranks=(1, 3))
    report = rank_report(both, both, ranks=(1, 3))
    assert measures.report.map == report.map
    assert measures.report.cmc == report.cmc
    assert measures.reranked is None and measures.centroids is None and measures.verification is None


def test_what_was_asked_for_is_there_and_goes_into_json() -> None:
    both = people()
    measures = measure(both, both, rerank=True, centroids=True, verification=True)
    plain = json.loads(json.dumps(measures.to_dict()))
    assert plain["reranked"]["map"] != plain["map"]
    assert plain["centroids"]["centroid_map"] > plain["map"]
    assert 0 <= plain["verification"]["eer"] <= 0.5
    low, high = plain["intervals"]["map"]["low"], plain["intervals"]["map"]["high"]
    assert low <= plain["map"] <= high and low < high


def test_one_identity_has_no_interval() -> None:
    alone = people(identities=1)
    assert measure(alone, alone).intervals == {}


def test_pairs_of_cameras_are_reported() -> None:
    both = people()
    pairs = measure(both, both).report.by_camera_pair
    assert {(0, 1), (1, 0)} <= set(pairs)


def test_foreign_embeddings_round_trip(tmp_path: Path) -> None:
    both = people()
    file = tmp_path / "foreign.npz"
    np.savez(file, vectors=both.vectors, pids=both.pids, camids=both.camids, paths=np.array(both.paths))
    read = read_foreign_embeddings(file)
    np.testing.assert_array_equal(read.numpy(), both.numpy())
    assert read.paths == both.paths
    np.savez(file, vectors=both.vectors, pids=both.pids)
    assert set(read_foreign_embeddings(file).camids.tolist()) == {-1}


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"pids": np.arange(3)}, "lacks vectors"),
        ({"vectors": np.ones((3, 4)), "pids": np.arange(2)}, "3 vectors but pids"),
        ({"vectors": np.ones((3, 4), dtype=np.int64), "pids": np.arange(3)}, "floating"),
        ({"vectors": np.ones(3), "pids": np.arange(3)}, "shape"),
    ],
)
def test_foreign_embeddings_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], named: str) -> None:
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=named):
        read_foreign_embeddings(file)


def test_cli_measures_foreign_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = people()
    file, out = tmp_path / "all.npz", tmp_path / "report.json"
    np.savez(file, vectors=both.vectors, pids=both.pids, camids=both.camids, paths=np.array(both.paths))
    assert main(["evaluate", "--embeddings", str(file), str(file), "--rerank", "--out", str(out)]) == 0
    assert "re-ranked" in capsys.readouterr().out
    assert json.loads(out.read_text())["map"] == pytest.approx(rank_report(both, both).map)


def test_cli_wants_a_run_or_embeddings_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run", "data", "--embeddings", "q.npz", "g.npz"]) == 2
    assert main(["evaluate"]) == 2
    assert capsys.readouterr().err.count("error:") == 2

"""The protocol end to end: what is measured, what is written, and when the leak guard speaks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import prsnet
from prsnet import DataError, Dataset, Embedder, PretrainConfig, TrainConfig, load_dataset
from prsnet.checkpoint import load_checkpoint, save_checkpoint
from prsnet.cli.main import main
from prsnet.data.layouts import load_images_only
from prsnet.evaluation import embed_both, evaluate, trained_split, transductive_reason


def test_the_figures_are_those_of_the_protocol(tiny_trained: Path, tiny_market: Path) -> None:
    """By brute force: sort by cosine, drop the query's own identity in its own camera, average the precisions."""
    result = evaluate(tiny_trained, tiny_market, ranks=(1, 2), workers=1)
    query, gallery = result.query, result.gallery
    similarity = query.numpy().astype(np.float64) @ gallery.numpy().astype(np.float64).T
    precisions, first = [], []
    for row in range(len(query)):
        kept = ~((gallery.pids == query.pids[row]) & (gallery.camids == query.camids[row]))
        order = np.argsort(-similarity[row][kept], kind="stable")
        right = (gallery.pids[kept] == query.pids[row])[order]
        precisions.append(float(np.mean(np.cumsum(right)[right] / (np.flatnonzero(right) + 1))))
        first.append(int(np.argmax(right)) + 1)
    assert result.report.map == pytest.approx(np.mean(precisions))
    assert result.report.cmc == {1: np.mean(np.array(first) <= 1), 2: np.mean(np.array(first) <= 2)}
    assert result.report.queries == 8 and result.report.gallery == 16


def test_the_report_says_what_was_measured(tiny_trained: Path, tiny_market: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.json"
    assert main(["evaluate", str(tiny_trained), str(tiny_market), "--out", str(out), "--ranks", "1", "3"]) == 0
    report = json.loads(out.read_text())
    assert {"map", "cmc", "minp", "protocol", "queries", "gallery", "skipped", "per_query", "facts"} <= set(report)
    assert set(report["cmc"]) == {"1", "3"}
    assert len(report["per_query"]["ap"]) == report["queries"] == 8
    names = sorted(str(path) for path in (tiny_market / "query").iterdir())
    assert report["per_query"]["path"] == names
    assert report["map"] == pytest.approx(np.mean(report["per_query"]["ap"]))
    facts = report["facts"]
    assert facts["dataset"] == "tiny" and facts["flip"] is False and facts["transductive"] == ""
    assert facts["data"]["layout"] == "market1501"
    assert facts["model"] == str(tiny_trained / "checkpoints" / "best.safetensors")
    assert facts["architecture"]["image_size"] == [64, 32]
    assert facts["provenance"]["initialisation"]["provenance"]["verb"] == "pretrain"


def test_the_table_shows_percentages(tiny_trained: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_trained), str(tiny_market)]) == 0
    shown = capsys.readouterr().out
    report = evaluate(tiny_trained, tiny_market).report
    assert all(word in shown for word in ("mAP", "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mINP"))
    assert f"{100 * report.map:.2f}" in shown and f"{100 * report.minp:.2f}" in shown
    assert report.protocol in shown and "8 counted" in shown


def test_flip_averaging_is_what_the_embedder_does(tiny_trained: Path, tiny_market: Path) -> None:
    plain, flipped = (evaluate(tiny_trained, tiny_market, flip=flip) for flip in (False, True))
    embedder = Embedder.from_checkpoint(tiny_trained, device="cpu")
    expected = embedder.embed(load_dataset(tiny_market).query, flip=True).numpy()
    np.testing.assert_allclose(flipped.query.numpy(), expected, atol=1e-6)
    assert not np.allclose(flipped.query.numpy(), plain.query.numpy(), atol=1e-4)
    assert flipped.facts["flip"] is True


def test_an_image_that_is_query_and_gallery_is_read_once(
    tiny_trained: Path, tiny_market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = load_dataset(tiny_market).gallery
    embedder = Embedder.from_checkpoint(tiny_trained, device="cpu")
    read: list[Path] = []
    original = Embedder.embed

    def counting(self: Embedder, images: Any, **named: Any) -> Any:
        read.extend(image.path for image in images)
        return original(self, images, **named)

    monkeypatch.setattr(Embedder, "embed", counting)
    query, gallery = embed_both(embedder, Dataset("both", query=records[:5], gallery=records))
    assert len(read) == len(set(read)) == len(records)
    assert query.paths == tuple(str(record.path) for record in records[:5])
    np.testing.assert_array_equal(query.numpy(), gallery.numpy()[:5])


def test_junk_and_distractors(tiny_trained: Path, tiny_market: Path, tmp_path: Path) -> None:
    """Junk leaves the gallery, distractors stay in it: the first changes nothing but counts."""
    data = shutil.copytree(tiny_market, tmp_path / "data")
    gallery = data / "bounding_box_test"
    first = min(gallery.iterdir())
    shutil.copy(first, gallery / "-1_c1s1_000001_00.png")
    with_junk = evaluate(tiny_trained, data)
    assert with_junk.report.map == evaluate(tiny_trained, tiny_market).report.map
    assert with_junk.report.gallery == 16
    shutil.copy(min((data / "query").iterdir()), gallery / "0000_c2s1_000001_00.png")
    with_distractor = evaluate(tiny_trained, data)
    assert with_distractor.report.gallery == 17
    assert with_distractor.report.map < with_junk.report.map, "a copy of a query under another name comes first"


def test_without_the_camera_filter(tiny_trained: Path, tiny_market: Path) -> None:
    report = evaluate(tiny_trained, tiny_market, camera_filter=False).report
    assert report.per_query.relevant.tolist() == [4] * 8
    assert evaluate(tiny_trained, tiny_market).report.per_query.relevant.tolist() == [2] * 8


def test_the_api_is_the_verb(tiny_trained: Path, tiny_market: Path) -> None:
    result = prsnet.evaluate(tiny_trained, tiny_market)
    assert isinstance(result, prsnet.Evaluation)
    assert json.loads(json.dumps(result.to_dict()))["map"] == result.report.map


# ---------------------------------------------------------------- datasets without a split, and the leak guard

People = Callable[..., Path]
Train = Callable[..., Path]


@pytest.fixture
def flat(people_writer: People, tmp_path: Path) -> Path:
    """Eight people in PKU-Reid's naming, which brings no split: halves by a seed."""
    source = people_writer(tmp_path / "source", dict.fromkeys(range(1, 9), (3, 3)), {})
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in (source / "bounding_box_train").iterdir():
        pid, camid, index = int(path.name[:4]), int(path.name[6]), int(path.name[10:16])
        path.rename(folder / f"{pid:03d}_{camid:02d}_{index + 1}.png")
    return folder


@pytest.fixture
def fit(tiny: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.setattr("prsnet.figures.draw_curves", lambda run: None)

    def run(data: Path, init: Path | None = None, **settings: Any) -> Path:
        out = str(tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        weights = None if init is None else str(init)
        given = {**tiny, "data": str(data), "out": out, "init": weights, "epochs": 1, "identities": 2, **settings}
        return prsnet.train(TrainConfig(**given))

    return run


@pytest.fixture
def prepare(tiny: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.setattr("prsnet.figures.draw_curves", lambda run: None)

    def run(data: Path, **settings: Any) -> Path:
        out = str(tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        given = {**tiny, "data": str(data), "out": out, "epochs": 1, "batch_size": 4, **settings}
        return prsnet.pretrain(PretrainConfig(**given))

    return run


def test_the_seed_of_the_split_is_remembered(flat: Path, fit: Train) -> None:
    run = fit(flat, split_seed=5)
    result = evaluate(run, flat)
    trained = {record.pid for record in load_dataset(flat, seed=5).train}
    assert result.facts["data"]["split_seed"] == 5
    assert not trained & set(result.query.pids.tolist())
    assert result.facts["transductive"] == ""


def test_the_seed_is_remembered_from_another_working_folder(
    flat: Path, fit: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(Path("flat"), split_seed=5)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert evaluate(run, "../flat").facts["data"]["split_seed"] == 5


def test_another_seed_is_told(flat: Path, fit: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(flat, split_seed=0)
    assert "by seed 0, not 3" in evaluate(run, flat, split_seed=3).facts["transductive"]
    assert main(["evaluate", str(run), str(flat), "--split-seed", "3"]) == 0
    assert "WARNING   transductive: train split the identities of flat by seed 0, not 3" in capsys.readouterr().out
    assert main(["evaluate", str(run), str(flat)]) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_the_pre_trainings_other_seed_is_told(flat: Path, fit: Train, prepare: Train) -> None:
    """Pre-trained on the training half of one seed, fine-tuned and tested on the halves of another."""
    run = fit(flat, init=prepare(flat, split_seed=1), split_seed=2)
    assert "transductive: pretrain split" in evaluate(run, flat).facts["transductive"]
    clean = fit(flat, init=prepare(flat, split_seed=2), split_seed=2)
    assert evaluate(clean, flat).facts["transductive"] == ""


def test_pre_training_on_the_test_images_is_told(tiny_market: Path, fit: Train, prepare: Train) -> None:
    run = fit(tiny_market, init=prepare(tiny_market, include_test=True))
    assert "transductive: pretrain saw 24 query and gallery images" in evaluate(run, tiny_market).facts["transductive"]
    clean = fit(tiny_market, init=prepare(tiny_market))
    assert evaluate(clean, tiny_market).facts["transductive"] == ""


def test_a_pool_around_the_dataset_is_told(
    tiny_market: Path, fit: Train, prepare: Train, tmp_path: Path, people_writer: People
) -> None:
    """A folder of many datasets, taken as pictures without labels, holds this one's test images, too."""
    pool = tmp_path / "pool"
    market = shutil.copytree(tiny_market, pool / "market")
    people_writer(pool / "others", {1: (2, 2), 2: (2, 2)}, {})
    pretrained = prepare(pool)
    facts = load_images_only(pool).facts
    assert facts["layout"] == "images" and "pool/market/bounding_box_test" in facts["pool"]["test_images_of"]
    run = fit(tiny_market, init=pretrained)
    assert evaluate(run, market).facts["transductive"].startswith("transductive: pretrain saw images of")
    assert evaluate(run, tiny_market).facts["transductive"] == "", "another copy of the data cannot be known"


def facts_of(**data: Any) -> dict[str, Any]:
    return {"provenance": {"verb": "pretrain", "data": data}}


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ({"root": "/a/pool", "layout": "images", "pool": {"test_images": 3}}, True),
        ({"root": "/a/pool", "layout": "images", "pool": {"test_images": 0}}, True),
        ({"root": "/a/pool/market", "layout": "images", "pool": {"test_images": 0}}, True),
        ({"root": "/a/pool/market/query", "layout": "images", "pool": {"test_images": 3}}, True),
        ({"root": "/a/pool/market/bounding_box_train", "layout": "images", "pool": {"test_images": 0}}, False),
        ({"root": "/a/pool/market2", "layout": "images", "pool": {"test_images": 3}}, False),
        ({"root": "/a/poo", "layout": "images", "pool": {"test_images": 3}}, False),
        ({"root": "/a/pool/market", "layout": "market1501", "pool": {"test_images": 0}}, False),
        ({"name": "pool.json", "sources": [{"root": "/a/pool", "layout": "images", "pool": {"test_images": 3}}]}, True),
        ({"sources": [{"root": "/a/pool", "layout": "images"}], "pool": {"kept_out": ["market"]}}, False),
        ({"sources": [{"root": "/b", "layout": "images", "pool": {"test_images": 3}}]}, False),
    ],
)
def test_places_tell_what_names_do_not(data: dict[str, Any], seen: bool) -> None:
    dataset = Dataset("market", facts={"root": "/a/pool/market", "layout": "market1501"})
    assert bool(transductive_reason(facts_of(**data), dataset)) == seen


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"provenance": []},
        {"provenance": {"data": 3, "initialisation": "x"}},
        {"provenance": {"data": {"pool": [1], "sources": {"a": 1}, "root": 7, "split_seed": "x"}}},
        {"provenance": {"data": {"name": "market", "pool": {"test_images_of": 5}, "sources": [3, None]}}},
    ],
)
def test_a_strangers_provenance_is_survived(facts: dict[str, Any]) -> None:
    assert transductive_reason(facts, Dataset("market", facts={"root": "/a", "split_seed": 0})) == ""
    assert trained_split(facts, "/a") == 0


def test_a_bottomless_provenance_ends() -> None:
    """A hundred trainings are followed; a file that claims more is not worth the time."""
    provenance: dict[str, Any] = {"verb": "train", "data": {"name": "other"}}
    inner = provenance
    for _ in range(99):
        inner["initialisation"] = {"provenance": {"verb": "train", "data": {"name": "other"}}}
        inner = inner["initialisation"]["provenance"]
    inner["initialisation"] = {"provenance": provenance}  # and round again
    assert transductive_reason({"provenance": provenance}, Dataset("market")) == ""


def test_a_checkpoint_alone_is_enough(tiny_trained: Path, tiny_market: Path, tmp_path: Path) -> None:
    """Moved away from its run, renamed, without the readable copy beside it."""
    alone = shutil.copy(tiny_trained / "checkpoints" / "best.safetensors", tmp_path / "model.safetensors")
    expected = evaluate(tiny_trained, tiny_market).report
    assert evaluate(alone, tiny_market).report.map == expected.map
    assert evaluate(tmp_path, tiny_market).report.map == expected.map, "a folder with model.safetensors"


def test_other_people_can_be_evaluated_on(tiny_trained: Path, flat: Path) -> None:
    result = evaluate(tiny_trained, flat)
    assert result.facts["dataset"] == "flat" and result.facts["data"]["split_seed"] == 0
    assert result.report.queries == 24


def test_images_of_any_size_are_resized(tiny_trained: Path, tiny_market: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_market, tmp_path / "data")
    for path in (data / "bounding_box_test").iterdir():
        with Image.open(path) as image:
            larger = image.resize((96, 192), Image.Resampling.NEAREST)
        larger.save(path)
    assert evaluate(tiny_trained, data).report.map > 0.9


def test_a_dataset_that_cannot_be_counted_is_refused_before_the_embedding(
    tiny_trained: Path, people_writer: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Embedder, "embed", lambda *_, **__: pytest.fail("embedded"))
    data = people_writer(tmp_path / "data", {}, {1: (1, 1), 2: (0, 2)})
    with pytest.raises(DataError, match="none of"):
        evaluate(tiny_trained, data)


def test_a_described_classifier_is_not_needed(tiny_trained: Path, tiny_market: Path, tmp_path: Path) -> None:
    """A checkpoint stripped of its classifier, to be handed on, embeds alike."""
    tensors, description = load_checkpoint(tiny_trained / "checkpoints" / "best.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
    described = {**description, "architecture": {**description["architecture"], "num_classes": None}}
    save_checkpoint(tmp_path / "stripped.safetensors", kept, described)
    expected = evaluate(tiny_trained, tiny_market)
    found = evaluate(tmp_path / "stripped.safetensors", tiny_market)
    np.testing.assert_array_equal(found.query.numpy(), expected.query.numpy())


def test_a_combination_is_judged_by_the_splits_of_its_sources() -> None:
    facts = facts_of(name="combined", sources=[{"name": "mine", "split_seed": 7}, {"name": "other"}])
    assert "seed 7" in transductive_reason(facts, Dataset("mine", facts={"split_seed": 0}))
    assert transductive_reason(facts, Dataset("mine", facts={"split_seed": 7})) == ""

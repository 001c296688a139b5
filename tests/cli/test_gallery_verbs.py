"""``prsnet embed`` and ``prsnet gallery ...``, from images to hits, as a user types them."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prsnet.checkpoint import save_checkpoint
from prsnet.cli.main import main
from prsnet.embed import Embedder
from prsnet.embeddings_file import read_embeddings
from prsnet.gallery import Gallery, SightingFilter
from prsnet.gallery.audit import AuditLog
from prsnet.models.description import describe
from prsnet.models.presets import build_reid, resolve

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks with random weights: enough to know an image again."""
    made = []
    for seed in (0, 1):
        preset = resolve("pico", image_size=(64, 32))
        network = build_reid(preset, None, torch.Generator().manual_seed(seed))
        made.append(tmp_path_factory.mktemp("model") / "model.safetensors")
        save_checkpoint(made[-1], network.state_dict(), {"kind": "reid", "architecture": describe(preset, kind="reid")})
    return made


def write_image(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((32, 64), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people and a distractor in two cameras, in the Market-1501 layout, with junk; not to be changed."""
    root = tmp_path_factory.mktemp("data") / "people"
    for pid, name in ((1, "0001"), (2, "0002"), (3, "0003")):
        for camera in (1, 2):
            part = "bounding_box_train" if pid == 3 else ("query", "bounding_box_test")[camera - 1]
            write_image(root / part / f"{name}_c{camera}s1_00000{camera}_00.png", 10 * pid + camera)
    write_image(root / "bounding_box_test" / "0000_c2s1_000001_00.png", 91)
    write_image(root / "bounding_box_test" / "-1_c2s1_000001_00.png", 92)
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, models: list[Path], people: Path) -> Path:
    """A gallery of the seven people's images that are no junk, with pictures; not to be changed."""
    place = tmp_path_factory.mktemp("template") / "gallery"
    assert main(["gallery", "create", str(place), "--model", str(models[0])]) == 0
    assert main(["gallery", "add", str(place), str(people), "--crops", "--batch-size", "3"]) == 0
    return place


@pytest.fixture
def gallery(tmp_path: Path, template: Path) -> Path:
    """A copy of the template."""
    return shutil.copytree(template, tmp_path / "gallery")


def test_create_and_add_say_what_they_did(tmp_path: Path, models: list[Path], people: Path, run: Run) -> None:
    place = tmp_path / "g"
    code, out, _ = run("gallery", "create", place, "--model", models[0], "--retention-days", 30)
    assert code == 0
    assert out.startswith(f"{place}: empty, for model pico 64x32 (")
    assert out.endswith("193 numbers stored each, kept 30 days\n")
    code, out, _ = run("gallery", "add", place, people)
    assert (code, out) == (0, f"{place}: 7 added (ids 1 to 7), 1 junk left out\n")


def test_embed_writes_what_the_embedder_says(tmp_path: Path, models: list[Path], people: Path, run: Run) -> None:
    people = shutil.copytree(people, tmp_path / "people")
    broken = people / "query" / "0009_c1s1_000009_00.png"
    broken.write_bytes(b"no image")
    code, out, err = run("embed", models[0], people, "--part", "query", "--out", tmp_path / "q.npz")
    assert code == 0
    assert out == f"{tmp_path / 'q.npz'}: 2 embeddings of 256 numbers, 1 unreadable left out\n"
    assert err.count("left out: ") == 1
    assert str(broken) in err
    stored = read_embeddings(tmp_path / "q.npz")
    embedder = Embedder.from_checkpoint(models[0])
    assert stored.model == embedder.identity
    assert stored.embeddings.pids.tolist() == [1, 2]
    assert stored.embeddings.camids.tolist() == [1, 1]
    again = embedder.embed(stored.embeddings.paths)
    np.testing.assert_allclose(stored.embeddings.numpy(), again.numpy(), rtol=0, atol=1e-6)
    code, _, err = run("embed", models[0], people, "--on-error", "stop", "--out", tmp_path / "x.npz")
    assert code == 2
    assert str(broken) in err
    assert not (tmp_path / "x.npz").exists()


def test_folders_are_not_taken_for_people_unless_asked(tmp_path: Path, models: list[Path], run: Run) -> None:
    for person in ("7", "8"):
        for number in (1, 2):
            write_image(tmp_path / "set" / person / f"c{number}_{number}.png", number)
    run("embed", models[0], tmp_path / "set", "--out", tmp_path / "plain.npz")
    assert read_embeddings(tmp_path / "plain.npz").embeddings.pids.tolist() == [-1] * 4
    run("embed", models[0], tmp_path / "set", "--layout", "identity-folders", "--out", tmp_path / "people.npz")
    assert sorted(read_embeddings(tmp_path / "people.npz").embeddings.pids.tolist()) == [7, 7, 8, 8]


def test_a_picture_finds_itself_and_labels_come_along(gallery: Path, people: Path, run: Run) -> None:
    picture = people / "query" / "0002_c1s1_000001_00.png"
    code, out, _ = run("gallery", "search", gallery, picture, "--top-k", 3, "--json")
    assert code == 0
    hits = json.loads(out)
    assert len(hits) == 3
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert (hits[0]["pid"], hits[0]["camid"], hits[0]["path"]) == (2, 1, str(picture))
    assert hits[0]["source"] == str(people)
    code, out, _ = run("gallery", "search", gallery, picture, "--camera", 2, "--threshold", -1)
    lines = out.splitlines()
    assert lines[0].split() == ["rank", "similarity", "id", "pid", "camera", "time", "source", "image"]
    assert len(lines) == 1 + 4  # two people's test images, one of the training, the distractor
    assert all(line.split()[4] == "2" for line in lines[1:])
    assert run("gallery", "search", gallery, picture, "--pid", 99)[1] == "no sighting found\n"


def test_several_pictures_and_stored_ones_make_one_query(gallery: Path, people: Path, run: Run) -> None:
    pictures = sorted((people / "query").iterdir())
    code, out, _ = run("gallery", "search", gallery, *pictures, "--top-k", 2, "--json")
    assert code == 0
    assert {hit["pid"] for hit in json.loads(out)} == {1, 2}
    found = {hit["id"] for hit in json.loads(out)}
    code, out, _ = run("gallery", "search", gallery, "--like", *found, "--json")
    assert code == 0
    assert len(json.loads(out)) == 5
    assert not found & {hit["id"] for hit in json.loads(out)}


def test_distractors_are_unknown_people(gallery: Path, people: Path) -> None:
    with Gallery.open(gallery) as opened:
        by_name = {Path(seen.path).name: seen for seen in opened.find()}
    assert by_name["0000_c2s1_000001_00.png"].pid is None
    assert by_name["0003_c1s1_000001_00.png"].pid == 3
    assert not any(name.startswith("-1") for name in by_name)
    assert all(seen.has_crop for seen in by_name.values())


def test_adding_again_adds_nothing(gallery: Path, tmp_path: Path, people: Path, run: Run) -> None:
    more = write_image(tmp_path / "more.png", 50)
    code, out, _ = run("gallery", "add", gallery, people, more, more)
    assert (code, out) == (0, f"{gallery}: 1 added (ids 8 to 8), 8 already there, 1 junk left out\n")
    code, out, _ = run("gallery", "add", gallery, more, "--again", "--pid", 5, "--camera", 0, "--source", "door")
    assert (code, out) == (0, f"{gallery}: 1 added (ids 9 to 9)\n")
    with Gallery.open(gallery) as opened:
        seen = opened.get("9")
        assert (seen.pid, seen.camid, seen.source, seen.path, seen.has_crop) == (5, 0, "door", str(more), False)


def test_times_are_taken_as_told(gallery: Path, tmp_path: Path, run: Run) -> None:
    one, two = write_image(tmp_path / "new" / "1.png", 60), write_image(tmp_path / "new" / "2.png", 61)
    os.utime(one, (1_700_000_000, 1_700_000_000))
    assert run("gallery", "add", gallery, one, "--time", "file")[0] == 0
    assert run("gallery", "add", gallery, two, "--time", "2024-05-01T14:00:00+02:00")[0] == 0
    with Gallery.open(gallery) as opened:
        times = [seen.time.isoformat() for seen in opened.find() if seen.time is not None]
    assert times == ["2023-11-14T22:13:20+00:00", "2024-05-01T12:00:00+00:00"]
    found = run("gallery", "search", gallery, one, "--since", "2024-05-01", "--until", "2024-05-02", "--json")[1]
    assert [hit["path"] for hit in json.loads(found)] == [str(two)]


def test_unreadable_images_are_told_and_counted(gallery: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "mixed"
    write_image(folder / "good.png", 70)
    for number in range(25):
        (folder / f"bad{number:02d}.png").write_bytes(b"")
    code, out, err = run("gallery", "add", gallery, folder)
    assert (code, out) == (0, f"{gallery}: 1 added (ids 8 to 8), 25 unreadable left out\n")
    assert err.count("left out:") == 21
    code, _, err = run("gallery", "add", gallery, folder, "--on-error", "stop")
    assert code == 2
    assert "empty" in err
    (folder / "good.png").unlink()
    assert run("gallery", "add", gallery, folder)[:2] == (0, f"{gallery}: 0 added, 25 unreadable left out\n")


def test_embeddings_can_be_added_instead_of_images(
    gallery: Path, tmp_path: Path, models: list[Path], people: Path, run: Run
) -> None:
    for model, name in zip(models, ("same.npz", "other.npz"), strict=True):
        run("embed", model, people, "--out", tmp_path / name)
    place = tmp_path / "second"
    run("gallery", "create", place, "--model", models[0])
    code, out, _ = run("gallery", "add", place, tmp_path / "same.npz")
    assert (code, out) == (0, f"{place}: 8 added (ids 1 to 8)\n")
    with Gallery.open(place) as second, Gallery.open(gallery) as first:
        a = {seen.path: first.vectors([seen.id])[0] for seen in first.find()}
        b = {seen.path: second.vectors([seen.id])[0] for seen in second.find()}
        assert len(b) == 8
        for path, vector in a.items():
            np.testing.assert_allclose(b[path], vector, rtol=0, atol=1e-6)
    assert run("gallery", "add", place, tmp_path / "same.npz")[1] == f"{place}: 0 added, 8 already there\n"
    code, _, err = run("gallery", "add", place, tmp_path / "other.npz")
    assert code == 2
    assert err.count("pico 64x32 (") == 2


def test_another_model_is_refused(gallery: Path, models: list[Path], people: Path, run: Run) -> None:
    picture = next((people / "query").iterdir())
    for verb in ("add", "search"):
        code, _, err = run("gallery", verb, gallery, picture, "--model", models[1])
        assert code == 2
        assert "belongs to model pico 64x32" in err
    code, _, err = run("gallery", "search", gallery, picture, "--model", "nowhere")
    assert code == 2
    assert "say where with --model RUN" in err


def test_delete_asks_first(gallery: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("gallery", "delete", gallery, "--pid", 1)
    assert code == 2
    assert "add --yes" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\ny\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, out, _ = run("gallery", "delete", gallery, "--pid", 1)
    assert (code, out) == (0, "delete 2 sightings for good? [y/N] nothing deleted\n")
    code, out, _ = run("gallery", "delete", gallery, "--pid", 1)
    assert out.endswith(f"{gallery}: 2 deleted\n")
    with Gallery.open(gallery) as opened:
        assert opened.count() == 5
        assert opened.count(SightingFilter(pids=(1,))) == 0


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        (["--id", "1", "2"], 5),
        (["--camera", "2"], 3),
        (["--pid", "1", "2", "--camera", "1"], 5),
        (["--older-than", "1"], 7),
        (["--older-than", "0"], 0),
        (["--since", "2020-01-01"], 7),
        (["--source", "elsewhere"], 7),
        (["--all"], 0),
    ],
)
def test_delete_takes_conditions(gallery: Path, run: Run, conditions: list[str], left: int) -> None:
    code, out, _ = run("gallery", "delete", gallery, *conditions, "--yes")
    assert (code, out) == (0, f"{gallery}: {7 - left} deleted\n")
    with Gallery.open(gallery) as opened:
        assert opened.count() == left


def test_stats_and_retention(gallery: Path, run: Run) -> None:
    code, out, _ = run("gallery", "stats", gallery)
    assert code == 0
    assert "7, of them 7 with picture" in out
    assert "1: 3, 2: 4" in out
    assert run("gallery", "purge", gallery, "--retention-days", 30)[1].endswith(
        "0 deleted, sightings are kept 30 days\n"
    )
    counts = json.loads(run("gallery", "stats", gallery, "--json")[1])
    assert (counts["sightings"], counts["retention_days"], counts["by_camera"]) == (7, 30, {"1": 3, "2": 4})
    assert run("gallery", "purge", gallery, "--retention-days", 1e-9)[1].startswith(f"{gallery}: 7 deleted")
    assert run("gallery", "purge", gallery, "--keep")[1].endswith("kept for good\n")


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_export_and_import(gallery: Path, tmp_path: Path, run: Run, name: str) -> None:
    code, out, _ = run("gallery", "export", gallery, tmp_path / name, "--camera", 2)
    assert (code, out) == (0, f"{tmp_path / name}: 4 sightings\n")
    code, out, _ = run("gallery", "import", tmp_path / "new", tmp_path / name)
    assert (code, out) == (0, f"{tmp_path / 'new'}: 4 added from {tmp_path / name}\n")
    code, out, _ = run("gallery", "import", gallery, tmp_path / name)
    assert code == 0
    with Gallery.open(gallery) as opened:
        assert opened.count() == 11
        assert opened.crop("8") == opened.crop(opened.find(SightingFilter(cameras=(2,)))[0].id)


def test_the_log_names_the_user(gallery: Path, people: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    run("gallery", "search", gallery, next((people / "query").iterdir()))
    run("gallery", "delete", gallery, "--id", "1", "--yes")
    last = list(AuditLog(gallery / "audit.jsonl").entries())[-2:]
    assert [(entry["action"], entry["who"]) for entry in last] == [("search", "ann"), ("delete", "ann")]


FAULTS: dict[str, tuple[list[str], str]] = {
    "no such gallery": (["stats", "{tmp}/none"], "no gallery here"),
    "create without model": (["create", "{tmp}/x"], "--model RUN"),
    "create over something": (["create", "{gallery}", "--model", "{model}"], "exists already"),
    "create with a model that is none": (["create", "{tmp}/x", "--model", "{tmp}"], "no checkpoint"),
    "add nothing": (["add", "{gallery}"], "images"),
    "add what is not there": (["add", "{gallery}", "{tmp}/none.jpg"], "no such image"),
    "add a folder without images": (["add", "{gallery}", "{tmp}/empty"], "no images"),
    "add a part that is not": (["add", "{gallery}", "{people}/query", "--part", "train"], "part"),
    "add at no time": (["add", "{gallery}", "{image}", "--time", "yesterday"], "ISO 8601"),
    "add with a pid of junk": (["add", "{gallery}", "{image}", "--pid", "-1"], "pid"),
    "add broken embeddings": (["add", "{gallery}", "{tmp}/broken.npz"], "not an .npz archive"),
    "search for nothing": (["search", "{gallery}"], "nothing to search for"),
    "search with no picture": (["search", "{gallery}", "{tmp}/broken.npz"], "not an image"),
    "search above all similarity": (["search", "{gallery}", "{image}", "--threshold", "2"], "threshold"),
    "search for no hits": (["search", "{gallery}", "{image}", "--top-k", "0"], "top_k"),
    "search for an unknown id": (["search", "{gallery}", "--like", "99"], "no sighting 99"),
    "search by something odd": (["search", "{gallery}", "--like", "x"], "whole number"),
    "search in no time": (
        ["search", "{gallery}", "{image}", "--since", "2024-05-02", "--until", "2024-05-01"],
        "empty",
    ),
    "search for one per camera": (["search", "{gallery}", "{image}", "--one-per", "camera"], "one_per"),
    "delete without condition": (["delete", "{gallery}", "--yes"], "no condition"),
    "delete all and some": (["delete", "{gallery}", "--all", "--pid", "1", "--yes"], "together"),
    "purge and keep": (["purge", "{gallery}", "--keep", "--retention-days", "3"], "not together"),
    "export over something": (["export", "{gallery}", "{people}"], "exists already"),
    "import what is not there": (["import", "{gallery}", "{tmp}/none.zip"], "no such folder"),
    "import something else": (["import", "{gallery}", "{tmp}/broken.npz"], "not a zip"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_bad_input_gets_one_line(
    gallery: Path, tmp_path: Path, models: list[Path], people: Path, run: Run, case: str
) -> None:
    arguments, expected = FAULTS[case]
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"broken")
    image = next((people / "query").iterdir())
    places = {"tmp": tmp_path, "gallery": gallery, "model": models[0], "image": image, "people": people}
    code, out, err = run("gallery", *(argument.format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert expected in err
    assert err.count("\n") <= 2
    with Gallery.open(gallery) as opened:
        assert opened.count() == 7

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prsnet.cli.main import main
from prsnet.data.check import DataCheck, check_dataset
from prsnet.data.check_findings import Finding, files_of, people_by_camera, shared_people
from prsnet.data.check_page import check_page
from prsnet.data.check_text import check_text
from prsnet.data.layouts import load_dataset, load_images_only
from prsnet.data.scan import scan_images
from prsnet.data.synthetic import write_dataset
from prsnet.types import ImageRecord


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "healthy"
    write_dataset(folder, identities=6, cameras=2, images_per_camera=2, size=(64, 32), seed=3, image_format="png")
    return folder


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    shutil.copytree(healthy, tmp_path / "set")
    return tmp_path / "set"


def examine(folder: Path) -> DataCheck:
    dataset = load_dataset(folder)
    return check_dataset(dataset, scan_images(files_of(dataset), workers=2))


def found(check: DataCheck, kind: str) -> Finding:
    matching = [finding for finding in check.findings if finding.kind == kind]
    assert len(matching) == 1, [finding.kind for finding in check.findings]
    return matching[0]


def names(finding: Finding) -> list[list[str]]:
    return [[path.name for path in group] for group in finding.groups]


TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


def test_a_healthy_dataset_is_usable_for_everything(folder: Path) -> None:
    check = examine(folder)
    assert [finding.kind for finding in check.findings] == ["counts"]
    assert dict(check.verdicts) == {"pre-training": "usable", "training": "usable", "evaluation": "usable"}
    assert check.passes() and check.passes("evaluation")


def spoil_training(folder: Path) -> str:
    (folder / TRAIN / "0001_c1s1_000001_00.png").write_bytes(b"")
    return "0001_c1s1_000001_00.png"


def test_an_unreadable_training_image_spares_evaluation(folder: Path) -> None:
    name = spoil_training(folder)
    check = examine(folder)
    finding = found(check, "unreadable")
    assert names(finding) == [[name]] and finding.severity == "fatal"
    assert dict(check.verdicts) == {
        "pre-training": "not usable",
        "training": "not usable",
        "evaluation": "usable",
    }
    assert not check.passes() and not check.passes("training") and check.passes("evaluation")


def test_a_training_image_in_the_test_is_a_leak(folder: Path) -> None:
    shutil.copy(folder / QUERY / "0004_c1s1_000001_00.png", folder / TRAIN / "0001_c1s1_000999_00.png")
    check = examine(folder)
    finding = found(check, "leak")
    assert (finding.severity, finding.uses) == ("fatal", ("evaluation",))
    assert names(finding) == [["0001_c1s1_000999_00.png", "0004_c1s1_000001_00.png"]]
    assert finding.pids == (1, 4)
    assert check.verdicts["evaluation"] == "not usable" and check.verdicts["training"] == "usable"


def shrink(source: Path, target: Path) -> None:
    image = Image.open(source)
    image.resize((image.width // 2 + 5, image.height // 2 + 8)).save(target)


def recoloured(source: Path, target: Path) -> None:
    Image.fromarray(np.minimum(np.asarray(Image.open(source)).astype(int) + 4, 255).astype(np.uint8)).save(target)


@pytest.mark.parametrize("copy", [shrink, recoloured])
@pytest.mark.parametrize(
    ("source", "target", "kind", "uses"),
    [
        (f"{QUERY}/0004_c1s1_000001_00.png", f"{TRAIN}/0001_c1s1_000999_00.png", "near leak", ("evaluation",)),
        (
            f"{TRAIN}/0002_c1s1_000001_00.png",
            f"{TRAIN}/0001_c1s1_000999_00.png",
            "near two identities",
            ("pre-training", "training"),
        ),
        (
            f"{QUERY}/0004_c1s1_000001_00.png",
            f"{GALLERY}/0004_c2s1_000999_00.png",
            "near query in gallery",
            ("evaluation",),
        ),
        (
            f"{TRAIN}/0001_c1s1_000001_00.png",
            f"{TRAIN}/0001_c1s1_000999_00.png",
            "near copies",
            ("pre-training", "training"),
        ),
    ],
)
def test_near_duplicates_are_judged_by_where_they_stand(
    folder: Path, copy: Callable[[Path, Path], None], source: str, target: str, kind: str, uses: tuple[str, ...]
) -> None:
    copy(folder / source, folder / target)
    finding = found(examine(folder), kind)
    assert finding.uses == uses
    assert sorted(names(finding)[0]) == sorted([Path(source).name, Path(target).name])
    dataset = load_dataset(folder)
    quiet = check_dataset(dataset, scan_images(files_of(dataset)), near=False)
    assert kind not in {finding.kind for finding in quiet.findings}


def test_odd_images_are_told_apart(folder: Path) -> None:
    def put(name: str, height: int, width: int, shades: tuple[int, int]) -> None:
        pixels = np.full((height, width, 3), shades[0], np.uint8)
        pixels[: height // 2] = shades[1]
        Image.fromarray(pixels).save(folder / TRAIN / f"0001_c1s1_{name}_00.png")

    put("000101", 64, 32, (90, 90))
    put("000102", 20, 10, (0, 200))
    put("000103", 40, 60, (20, 180))
    put("000104", 64, 32, (238, 255))
    check = examine(folder)
    expected = {
        "blank": ["000101"],
        "small": ["000102"],
        "lying": ["000103"],
        "brightness": ["000104"],
        "size": ["000102"],
    }
    assert {
        kind: [group[0].split("_")[2] for group in names(found(check, kind)) if group[0].startswith("0001_c1s1_0001")]
        for kind in expected
    } == expected
    assert check.verdicts["training"] == "usable, with warnings" and check.verdicts["evaluation"] == "usable"


def test_people_seen_by_one_camera_are_named(folder: Path) -> None:
    for path in (folder / TRAIN).glob("0002_c2*"):
        path.unlink()
    finding = found(examine(folder), "one camera")
    assert finding.pids == (2,) and finding.uses == ("training",)


def test_labels_that_cannot_serve_are_fatal_for_that_use_only(folder: Path) -> None:
    for path in (folder / GALLERY).glob("*"):
        path.unlink()
    check = examine(folder)
    assert check.verdicts["evaluation"] == "not usable" and check.verdicts["training"] == "usable"
    assert found(check, "labels").message == "no gallery images"


def test_unlabelled_images_offer_pretraining_alone(folder: Path) -> None:
    dataset = load_images_only(folder / TRAIN, layout="images")
    check = check_dataset(dataset, scan_images(files_of(dataset)))
    assert dict(check.verdicts) == {
        "pre-training": "usable",
        "training": "not offered",
        "evaluation": "not offered",
    }
    assert check.passes() and not check.passes("training")


def test_a_scan_of_other_files_is_refused(folder: Path) -> None:
    dataset = load_dataset(folder)
    with pytest.raises(ValueError, match="scan of 1 images"):
        check_dataset(dataset, scan_images(files_of(dataset)[:1]))


def test_the_camera_matrix_counts_people_once() -> None:
    records = [
        ImageRecord(Path(f"{index}.png"), pid, camid)
        for index, (pid, camid) in enumerate(
            [(1, 1), (1, 1), (1, 4), (2, 4), (3, 2), (3, 4), (0, 1), (-1, 2), (5, None)]
        )
    ]
    table = people_by_camera([*records, records[0]])
    assert table == {1: {1: 2, 4: 1}, 2: {4: 1}, 3: {2: 1, 4: 1}}
    assert shared_people(table) == ([1, 2, 4], [[1, 0, 1], [0, 1, 1], [1, 1, 3]])
    assert shared_people({}) == ([], [])


def test_the_text_gives_counts_findings_and_verdicts(folder: Path) -> None:
    name = spoil_training(folder)
    lines = check_text(examine(folder)).splitlines()
    assert lines[0] == f"set: market1501 layout at {folder}"
    assert next(line.split() for line in lines if line.startswith("gallery")) == [
        "gallery",
        "6",
        "3",
        "2",
        "2.0",
        "0",
        "0",
    ]
    assert any(line.startswith("FATAL   unreadable [pre-training, training]: 1 of 24") for line in lines)
    assert any(name in line for line in lines)
    assert [line.split(maxsplit=1) for line in lines[-3:]] == [
        ["pre-training", "not usable"],
        ["training", "not usable"],
        ["evaluation", "usable"],
    ]


class Page(HTMLParser):
    """Counts elements, and holds every open tag against its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.counts: dict[str, int] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_escapes_names(folder: Path) -> None:
    spoil_training(folder)
    source = folder / QUERY / "0004_c1s1_000001_00.png"
    shutil.copy(source, folder / TRAIN / "0001_c1s1_<script>&.png")
    text = check_page(examine(folder))
    page = Page(text)
    assert page.open == [] and page.counts["svg"] == 6
    assert "script" not in page.counts and "&lt;script&gt;&amp;.png" in text
    assert len(page.images) == 2 + 11  # the leaked pair; six people in two cameras, one image unreadable
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.images)
    assert "http:" not in text and "https:" not in text and "Content-Security-Policy" in text


def test_the_verb_writes_all_forms_and_leaves_by_the_verdict(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "report.json", tmp_path / "report.html"
    assert main(["data", "check", str(folder), "--out", str(out), "--html", str(page)]) == 0
    assert "  evaluation    usable" in capsys.readouterr().out
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["verdicts"]["training"] == "usable" and report["cameras"] == [1, 2]
    assert report["images"]["height"] == [64.0] * 5 and report["facts"]["counts"]["images"] == 24
    assert report["people_by_camera"]["1"] == {"1": 2, "2": 2}
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    spoil_training(folder)
    assert main(["data", "check", str(folder), "--out", str(out)]) == 2
    assert "not usable for pre-training, training" in capsys.readouterr().err
    assert json.loads(out.read_text(encoding="utf-8"))["verdicts"]["training"] == "not usable"
    assert main(["data", "check", str(folder), "--use", "evaluation"]) == 0


def test_the_verb_takes_any_tree_of_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = folder / "plain"
    plain.mkdir()
    for index, path in enumerate(sorted((folder / TRAIN).iterdir())):
        path.rename(plain / f"picture{index}.png")
    assert main(["data", "check", str(plain)]) == 0
    assert "training      not offered" in capsys.readouterr().out
    assert main(["data", "check", str(plain), "--use", "training"]) == 2
    assert main(["data", "check", str(folder / "nowhere")]) == 2
    assert "no such" in capsys.readouterr().err


def test_real_people_are_usable(pku_reid: Path) -> None:
    check = examine(pku_reid)
    assert check.passes() and [finding.kind for finding in check.findings] == ["counts"]

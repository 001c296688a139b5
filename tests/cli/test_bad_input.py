"""Bad input, one case after the other: exit code 2, one line that names the value, at most one hint, no traceback."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from prsnet.checkpoint import load_checkpoint, save_checkpoint
from prsnet.cli.main import main
from prsnet.models.description import describe
from prsnet.models.presets import build_autoencoder, resolve

SMALL = ["--preset", "pico", "--image-size", "64", "32", "--epochs", "1", "--no-tensorboard", "--quiet"]


@dataclass(frozen=True)
class Place:
    """What the cases are made from.

    Attributes:
        path: a folder of the case's own.
        good: a good dataset.
        pretrained: a good run of pre-training.
        trained: a good run of fine-tuning.
        write: writes a dataset, see ``write_people`` in conftest.
    """

    path: Path
    good: Path
    pretrained: Path
    trained: Path
    write: Callable[..., Path]

    def copy(self) -> Path:
        """Return a copy of the good dataset, to be spoilt."""
        return shutil.copytree(self.good, self.path / "copy")

    def first(self, data: Path) -> Path:
        """Return the first training image of a dataset."""
        return min((data / "bounding_box_train").iterdir())

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a file and return its path."""
        path = self.path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def reid(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the weights and the description of the fine-tuned model."""
        return load_checkpoint(self.trained / "checkpoints" / "best.safetensors")

    def train(self, data: Path | str, *more: str) -> list[str]:
        return ["train", str(data), "--out", str(self.path / "run"), *SMALL, "--identities", "4", *more]

    def pretrain(self, data: Path | str, *more: str) -> list[str]:
        return ["pretrain", str(data), "--out", str(self.path / "run"), *SMALL, "--batch-size", "8", *more]


@dataclass(frozen=True)
class Case:
    """A mistake: the arguments that make it and the words that its error, or hint, must have."""

    name: str
    arguments: Callable[[Place], list[str]]
    error: tuple[str, ...]
    hint: str = ""


@pytest.fixture
def place(
    tmp_path: Path, tiny_market: Path, tiny_pretrained: Path, tiny_trained: Path, people_writer: Callable[..., Path]
) -> Place:
    return Place(tmp_path, tiny_market, tiny_pretrained, tiny_trained, people_writer)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that its few bytes of pixels do not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def spoilt(content: bytes) -> Callable[[Place], list[str]]:
    """Return arguments that train on a dataset whose first image has ``content``."""

    def arguments(place: Place) -> list[str]:
        data = place.copy()
        place.first(data).write_bytes(content)
        return place.train(data)

    return arguments


def truncated_jpeg(place: Place) -> list[str]:
    data = place.copy()
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    path = place.first(data).with_suffix(".jpg")
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    return place.pretrain(data)


def odd_name(place: Place) -> list[str]:
    data = place.copy()
    place.first(data).rename(data / "bounding_box_train" / "holiday.png")
    return place.train(data)


def people(train: dict[int, tuple[int, ...]], test: dict[int, tuple[int, ...]]) -> Callable[[Place], Path]:
    return lambda place: place.write(place.path / "data", train, test)


def evaluate(data: Callable[[Place], Path], *more: str) -> Callable[[Place], list[str]]:
    return lambda place: ["evaluate", str(place.trained), str(data(place)), *more]


def train_on(data: Callable[[Place], Path], *more: str) -> Callable[[Place], list[str]]:
    return lambda place: place.train(data(place), *more)


def folder(place: Place) -> Path:
    (place.path / "empty").mkdir()
    return place.path / "empty"


def table(*lines: str) -> Callable[[Place], list[str]]:
    """Return arguments that train on a CSV file."""
    return lambda place: place.train(place.file("people.csv", "\n".join(lines) + "\n"))


def from_init(make: Callable[[Place], Path], verb: str = "train") -> Callable[[Place], list[str]]:
    """Return arguments that begin with weights that are no good."""

    def arguments(place: Place) -> list[str]:
        command = place.train if verb == "train" else place.pretrain
        return command(place.good, "--init", str(make(place)))

    return arguments


def measured(make: Callable[[Place], Path]) -> Callable[[Place], list[str]]:
    """Return arguments that evaluate weights that are no good."""
    return lambda place: ["evaluate", str(make(place)), str(place.good)]


def with_changes(**changes: Any) -> Callable[[Place], Path]:
    """Return a maker of the fine-tuned model with another description."""

    def make(place: Place) -> Path:
        tensors, description = place.reid()
        save_checkpoint(place.path / "changed.safetensors", tensors, {**description, **changes})
        return place.path / "changed.safetensors"

    return make


def not_finite(place: Place) -> Path:
    tensors, description = place.reid()
    tensors["projection.weight"][3, 5] = float("nan")
    save_checkpoint(place.path / "nan.safetensors", tensors, description)
    return place.path / "nan.safetensors"


def foreign_weights(place: Place) -> Path:
    path = place.path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, str(path))
    return path


def nano_weights(place: Place) -> Path:
    shape = resolve("nano", image_size=(64, 32))
    model = build_autoencoder(shape, torch.Generator())
    path = place.path / "nano.safetensors"
    save_checkpoint(
        path, model.state_dict(), {"kind": "autoencoder", "architecture": describe(shape, kind="autoencoder")}
    )
    return path


class Bomb:
    """What a stranger may put into a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def bomb(name: str) -> Callable[[Place], Path]:
    return lambda place: place.file(name, pickle.dumps({"weight": Bomb(place.path / "exploded")}))


def torch_bomb(place: Place) -> Path:
    path = place.path / "weights.pth"
    torch.save({"weight": Bomb(place.path / "exploded")}, path)
    return path


def torch_bomb_renamed(place: Place) -> Path:
    return torch_bomb(place).rename(place.path / "weights.safetensors")


def cut_weights(place: Place) -> Path:
    content = (place.trained / "checkpoints" / "best.safetensors").read_bytes()
    return place.file("cut.safetensors", content[: len(content) // 2])


def empty_run(place: Place) -> Path:
    return folder(place)


def config(content: str | bytes, name: str = "settings.yaml") -> Callable[[Place], list[str]]:
    return lambda place: place.train(place.good, "--config", str(place.file(name, content)))


def flags(*more: str) -> Callable[[Place], list[str]]:
    return lambda place: place.train(place.good, *more)


def pretraining(*more: str) -> Callable[[Place], list[str]]:
    return lambda place: place.pretrain(place.good, *more)


def plain(*arguments: str) -> Callable[[Place], list[str]]:
    return lambda place: list(arguments)


def occupied(place: Place) -> list[str]:
    (place.path / "run").mkdir()
    (place.path / "run" / "notes.txt").write_text("mine")
    return place.train(place.good)


def occupied_by_a_file(place: Place) -> list[str]:
    place.file("run", "mine")
    return place.train(place.good)


def below_a_file(place: Place) -> list[str]:
    below = place.file("notes", "mine") / "run"
    return ["pretrain", str(place.good), "--out", str(below), *SMALL]


def other_settings(place: Place) -> list[str]:
    run = shutil.copytree(place.trained, place.path / "run")
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "margin": 0.75}))
    return ["train", str(place.good), "--out", str(run), "--config", str(place.trained / "config.json"), "--resume"]


def report_below_a_file(place: Place) -> list[str]:
    return ["evaluate", str(place.trained), str(place.good), "--out", str(place.file("notes", "mine") / "report.json")]


def report_is_a_folder(place: Place) -> list[str]:
    return ["evaluate", str(place.trained), str(place.good), "--out", str(folder(place))]


CASES = [
    # data
    Case("missing folder", lambda p: p.train(p.path / "nowhere"), ("nowhere", "no such dataset folder"), "path"),
    Case("missing folder of pictures", lambda p: p.pretrain(p.path / "nowhere"), ("nowhere", "no such")),
    Case("empty folder", lambda p: p.train(folder(p)), ("/empty", "no layout fits", "an empty folder"), "CSV"),
    Case("empty folder of pictures", lambda p: p.pretrain(folder(p)), ("/empty", "no images")),
    Case("file that is no table", lambda p: p.train(p.file("notes.txt", "hello")), ("notes.txt", "no layout fits")),
    Case("image instead of a folder", lambda p: p.pretrain(p.first(p.good)), (".png",)),
    Case("text named .jpg", spoilt(b"this is a text"), ("0001_c1s1_000000_00.png", "not an image, expected BMP")),
    Case("empty image", spoilt(b""), ("0001_c1s1_000000_00.png", "0 bytes"), "remove"),
    Case("giant header", spoilt(png_header(20000, 20000)), ("000000_00.png", "more than 64000000 pixels"), "shrink"),
    Case("truncated jpeg", truncated_jpeg, ("0001_c1s1_000000_00.jpg", "truncated or damaged")),
    Case("truncated png", spoilt(png_header(64, 32)), ("0001_c1s1_000000_00.png", "truncated or damaged")),
    Case("name that does not parse", odd_name, ("holiday.png", "PID_cCAM"), "rename"),
    Case("one identity", train_on(people({5: (3, 3)}, {})), ("one identity only: 5",), "at least 2 people"),
    Case("one image each", train_on(people({1: (1,), 2: (1,), 3: (1,)}, {})), ("none of 3 identities", "1, 2, 3")),
    Case("nobody to train on", train_on(people({}, {1: (3, 3), 2: (3, 3)})), ("training: no images",)),
    Case("one camera", evaluate(people({}, {1: (3,), 2: (3,)})), ("one camera, 1",), "second camera"),
    Case("nobody to search for", evaluate(people({1: (3, 3), 2: (3, 3)}, {})), ("no query and gallery images",)),
    Case("no match", evaluate(people({}, {1: (1, 1), 2: (0, 2)})), ("none of",)),
    Case("unknown layout", flags("--layout", "market"), ("layout 'market' is unknown",), "market1501"),
    Case("other layout", flags("--layout", "pku-reid"), ("no layout fits", "PPP_CC_O")),
    # tables
    Case("table without pid", table("path,camid", "a.png,1"), ("people.csv", "line 1", "missing: pid"), "first line"),
    Case("table with another column", table("path,pid,colour", "a,1,red"), ("unknown: colour",)),
    Case("empty table", table("path,pid,camid,split"), ("people.csv", "no rows")),
    Case("table of missing images", table("path,pid", "gone.png,1"), ("line 2", "no image at 'gone.png'"), "mend"),
    Case("table with a bad split", table("path,pid,split", "people.csv,1,val"), ("split 'val'", "train, query")),
    Case("table with a bad pid", table("path,pid", "people.csv,Bob"), ("line 2: pid 'Bob'",)),
    Case("table in another encoding",
         lambda p: p.train(p.file("p.csv", b"path,pid\n\xff\xfe,1\n")), ("p.csv", "utf-8"), "UTF-8"),
    # settings
    Case("zero epochs", flags("--epochs", "0"), ("epochs: expected at least 1, got 0",)),
    Case("negative epochs", flags("--epochs", "-3"), ("epochs: expected at least 1, got -3",)),
    Case("epochs in words", flags("--epochs", "many"), ("epochs: expected a whole number, got 'many'",)),
    Case("half an epoch", flags("--epochs", "1.5"), ("epochs: expected a whole number, got '1.5'",)),
    Case("nothing hidden", pretraining("--mask-ratio", "0"), ("mask_ratio: expected more than 0", "got 0.0")),
    Case("hidden to excess", pretraining("--mask-ratio", "1.5"), ("mask_ratio: expected", "got 1.5")),
    Case("all hidden", flags("--mask-ratio", "1"), ("mask_ratio: expected 0 or more and below 1, got 1.0",)),
    Case("hides less than one patch", pretraining("--mask-ratio", "0.001"), ("mask_ratio 0.001", "256 patches")),
    Case("more people than there are", flags("--identities", "50"), ("identities: 50 per batch, 8 are",)),
    Case("one person per batch", flags("--identities", "1"), ("identities: expected at least 2", "got 1")),
    Case("one image per person", flags("--instances", "1"), ("instances: expected at least 2", "got 1")),
    Case("unknown preset", flags("--preset", "huge"), ("unknown preset 'huge'",), "pico, nano, tiny"),
    Case("size that does not fit", flags("--image-size", "60", "30"), ("60x30",), "64x32"),
    Case("one side only", flags("--image-size", "64"), ("image-size", "2")),
    Case("negative size", flags("--image-size", "-64", "32"), ("image_size: expected two positive numbers",)),
    Case("fp16 on a CPU", flags("--precision", "fp16", "--device", "cpu"), ("fp16 needs a GPU",), "bf16"),
    Case("unknown precision", flags("--precision", "int8"), ("precision: expected auto or fp32", "'int8'")),
    Case("no such GPU", flags("--device", "cuda:99"), ("'cuda:99' is not on this machine",), "cpu"),
    Case("unknown device", flags("--device", "gpu"), ("device: expected auto, cpu, cuda or cuda:N, got 'gpu'",)),
    Case("device of another kind", flags("--device", "meta"), ("device: expected auto, cpu, cuda", "'meta'")),
    Case("negative GPU", flags("--device", "cuda:-1"), ("device", "cuda:-1")),
    Case("unknown loss", flags("--loss", "arcface"), ("loss: expected mctl or ctl or triplet", "'arcface'")),
    Case("all held out", flags("--hold-out", "1"), ("hold_out: expected 0 or more and below 1, got 1.0",)),
    Case("nearly all held out", flags("--hold-out", "0.9"), ("cannot hold out 7 of 8",)),
    Case("falling milestones", flags("--milestones", "9", "4"), ("milestones: expected rising epochs, got (9, 4)",)),
    Case("crop upside down", pretraining("--crop-area", "0.9", "0.1"), ("crop_area: expected smallest then largest",)),
    Case("no batch", pretraining("--batch-size", "0"), ("batch_size: expected at least 1, got 0",)),
    Case("no workers", flags("--workers", "0"), ("workers: expected at least 1, got 0",)),
    Case("dropped paths in vit", flags("--preset", "vit-nano", "--drop-path", "0.1"), ("drop_path 0.1", "vit-nano")),
    Case("endless weight", flags("--margin", "nan"), ("margin", "nan")),
    Case("endless rate", flags("--learning-rate", "inf"), ("learning_rate", "inf")),
    Case("several faults", flags("--epochs", "0", "--erase", "2"), ("epochs: expected", "; erase: expected")),
    Case("no data", lambda p: ["train", "--out", str(p.path / "run")], ("data: expected a folder", "not given")),
    Case("no run folder", lambda p: ["train", str(p.good)], ("out: expected the run folder", "not given")),
    Case("data twice", lambda p: p.train(p.good, "more"), ("unknown argument 'more'",)),
    # the command line
    Case("unknown flag", flags("--ema-decay", "0.9"), ("unknown argument '--ema-decay 0.9'",)),
    Case("misspelt flag", flags("--batchsize", "4"), ("unknown argument '--batchsize",)),
    Case("flag with a letter too few", flags("--epoch", "4"), ("unknown argument '--epoch",), "--epochs"),
    Case("flag without value", flags("--seed"), ("--seed: expected one argument",)),
    Case("unknown verb", plain("frobnicate"), ("unknown command 'frobnicate'",), "pretrain"),
    Case("misspelt verb", plain("trian", "data"), ("unknown command 'trian'",), "prsnet train"),
    Case("misspelt verb of a family", plain("data", "synht", "x"), ("unknown command 'data synht'",), "data synth"),
    # files of settings
    Case("unknown key", config("epoch: 3\n"), ("settings.yaml", "unknown keys 'epoch'"), "'epochs'"),
    Case("value of another type", config("seed: [1, 2]\n"), ("settings.yaml", "seed: expected a whole number")),
    Case("text for a switch", config("soft_margin: perhaps\n"), ("soft_margin: expected true or false",)),
    Case("one number for two", config("image_size: 64\n"), ("image_size: expected 2 whole numbers, got 64",)),
    Case("faults of many settings", config("seed: x\nloss: 3\n"), ("seed: expected", "; loss: expected mctl or ctl")),
    Case("not YAML", config("a: b: c: [\n"), ("settings.yaml", "not YAML")),
    Case("a list of settings", config("- 1\n- 2\n"), ("settings.yaml", "expected keys and values, got a list")),
    Case("an empty file of settings", config(""), ("settings.yaml", "expected keys and values, got nothing")),
    Case("no file of settings", flags("--config"), ("--config: expected one argument",)),
    Case("settings that are no text", config(b"\xff\xfe\x00\x80"), ("settings.yaml", "not text")),
    Case("missing settings", flags("--config", "no/settings.yaml"), ("no/settings.yaml", "cannot be read")),
    Case("settings that are a folder",
         lambda p: p.train(p.good, "--config", str(p.good)), ("--config", "cannot be read")),
    Case("fault in settings", config("erase: 7\n"), ("erase: expected a probability, 0 to 1, got 7",)),
    Case("settings of a run of another verb",
         lambda p: p.train(p.good, "--config", str(p.pretrained / "config.json")), ("unknown keys", "'betas'")),
    # run folders
    Case("folder in use", occupied, ("/run: the folder is not empty",), "--resume"),
    Case("folder is a file", occupied_by_a_file, ("/run: is a file",)),
    Case("folder below a file", below_a_file, ("notes/run",)),
    Case("resumed with other settings", other_settings, ("margin: 0.75 then, 0.5 now",), "config.json --resume"),
    # weights
    Case("missing weights", from_init(lambda p: p.path / "gone"), ("gone: no such run folder or checkpoint",)),
    Case("run without checkpoints", from_init(empty_run), ("empty: no checkpoint in this folder",), "pretrain"),
    Case("empty weights", from_init(lambda p: p.file("w.safetensors", b"")), ("w.safetensors: the file is empty",)),
    Case("text for weights", from_init(lambda p: p.file("w.safetensors", "hello world")), ("not a safetensors file",)),
    Case("truncated weights", from_init(cut_weights), ("cut.safetensors",)),
    Case("weights without description", from_init(foreign_weights), ("no prsnet description",), "prsnet"),
    Case("weights of another network", from_init(nano_weights), ("nano.safetensors", "found float"), "another preset"),
    Case("weights that are not finite", from_init(not_finite), ("'projection.weight' are not finite",), "earlier"),
    Case("pickle", from_init(bomb("w.pkl")), ("w.pkl: looks like a pickle",), "safetensors"),
    Case("pickle with a better name", from_init(bomb("w.safetensors")), ("w.safetensors: looks like a pickle",)),
    Case("torch.save's file", from_init(torch_bomb), ("weights.pth: looks like a pickle",)),
    Case("torch.save's file renamed", measured(torch_bomb_renamed), ("weights.safetensors: looks like a pickle",)),
    Case("weights of the future", measured(with_changes(format_version=99)), ("format version 99",), "update"),
    Case("version in words", measured(with_changes(format_version="1")), ("format version '1'",)),
    Case("version that is true", measured(with_changes(format_version=True)), ("format version True",)),
    Case("no architecture", measured(with_changes(architecture=None)), ("no architecture",)),
    Case("architecture out of proportion",
         measured(with_changes(architecture={"kind": "reid"})), ("architecture: missing",)),
    Case("training state for a model",
         lambda p: ["evaluate", str(p.trained / "checkpoints" / "state.safetensors"), str(p.good)],
         ("state.safetensors", "expected 'reid'")),
    Case("autoencoder to be evaluated", lambda p: ["evaluate", str(p.pretrained), str(p.good)],
         ("holds a 'autoencoder' model, expected 'reid'",), "train"),
    # evaluation
    Case("rank 0", evaluate(lambda p: p.good, "--ranks", "0"), ("ranks: expected ranks from 1, got (0,)",)),
    Case("ranks in words", evaluate(lambda p: p.good, "--ranks", "first"), ("ranks: expected whole numbers", "first")),
    Case("nothing to evaluate", lambda p: ["evaluate"], ("run: expected a run folder", "data: expected a dataset")),
    Case("seed in words", evaluate(lambda p: p.good, "--split-seed", "x"), ("split_seed: expected a whole number",)),
    Case("report below a file", report_below_a_file, ("notes/report.json: cannot be written",)),
    Case("report is a folder", report_is_a_folder, ("/empty: is a folder",)),
]  # fmt: skip


def test_there_are_enough_kinds() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 30
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_input_is_told_in_one_line(case: Case, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = case.arguments(place)
    before = {path: path.stat().st_mtime_ns for path in place.path.rglob("*")}
    capsys.readouterr()
    assert main(arguments) == 2
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert output.out == ""
    assert lines[0].startswith("error: ") and len(lines) <= 2, output.err
    assert all(line.startswith("hint: ") for line in lines[1:]), output.err
    assert all(words in lines[0] for words in case.error), lines[0]
    assert case.hint in "".join(lines[1:])
    assert "Traceback" not in output.err
    assert len(lines[0]) < 1000, "too long to be read"
    assert {path: path.stat().st_mtime_ns for path in place.path.rglob("*")} == before, "the mistake left something"


@pytest.mark.parametrize("mode", ["CMYK", "P", "I;16", "L", "LA", "RGBA", "1"])
def test_images_of_every_mode_are_trained_on(place: Place, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = place.write(place.path / "data", {1: (2, 2), 2: (2, 2)}, {})
    for path in (data / "bounding_box_train").iterdir():
        with Image.open(path) as image:
            image.load()
        if mode == "I;16":
            grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
            Image.fromarray(grey).save(path)
        else:
            suffix = ".jpg" if mode == "CMYK" else ".png"
            image.convert(mode).save(path.with_suffix(suffix))
            if suffix != path.suffix:
                path.unlink()
    modes = {Image.open(path).mode for path in (data / "bounding_box_train").iterdir()}
    assert modes == {mode}
    assert main(place.pretrain(data, "--batch-size", "4", "--hold-out", "0")) == 0, capsys.readouterr().err

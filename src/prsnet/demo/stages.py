"""``prsnet demo``: generate people, pre-train, fine-tune with and without it, evaluate, draw, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from prsnet.config import PretrainConfig, TrainConfig
from prsnet.data.synthetic import write_dataset
from prsnet.demo.baselines import embed_dataset, histogram_embeddings, random_network
from prsnet.demo.page import write_pages
from prsnet.errors import InputError
from prsnet.evaluation import Evaluation, evaluate
from prsnet.files import write_json
from prsnet.measures import Measures, measure
from prsnet.training.pretrain import pretrain
from prsnet.training.train import train
from prsnet.types import Dataset
from prsnet.version import __version__

MARKER = "demo.json"
"""The file that tells a demo's folder from others, with its settings."""
RANDOM, COLOURS, SCRATCH, PRETRAINED = (
    "random network",
    "colour histogram",
    "trained from scratch",
    "pre-trained, then trained",
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How much is generated and trained: by default what takes two to four minutes on two cores."""

    identities: int = 96
    """People altogether."""
    test_fraction: float = 1 / 3
    """Share of the people that nothing is trained on."""
    cameras: int = 4
    """Cameras; each sees everybody."""
    images_per_camera: int = 4
    """Images of each person in each camera."""
    distractors: int = 48
    """Gallery images of people that nobody searches for."""
    junk: int = 12
    """Gallery images that the protocol leaves out."""
    rendered: tuple[int, int] = (128, 64)
    """Height and width in pixels of the images."""
    preset: str = "pico"
    """Shape of the network."""
    image_size: tuple[int, int] = (64, 32)
    """Height and width in pixels that the network sees."""
    pretrain_batch: int = 64
    """Images per batch of the pre-training."""
    pretrain_epochs: int = 50
    """Passes of the pre-training over the training images."""
    train_epochs: int = 20
    """Passes of each fine-tuning over the training images."""


def run_demo(
    out: Path | str = "prsnet-demo", *, seed: int = 0, size: DemoSize | None = None, say: Say | None = None
) -> Path:
    """Run the demonstration and return the path of its report.

    ``out`` then holds the generated people (``data``), the three runs (``pretrain``, ``scratch``, ``pretrained``), the
    pictures with their data (``figures``), the figures (``results.json``, ``results.csv``) and ``report.html``. A demo
    that was stopped goes on where it was when it is started again.

    Args:
        out: the folder; it must not exist, be empty, or hold a demo with the same settings.
        seed: of everything random.
        size: how much to generate and train.
        say: takes the lines of progress; standard error when not given.

    Raises:
        InputError: the folder holds something else, or a demo with other settings.
    """
    size, tell = size or DemoSize(), say or _to_standard_error
    folder = Path(out).resolve()
    open_folder(folder, {"prsnet": __version__, "seed": seed, **asdict(size)})
    stage = _Stages(tell, 6)
    with stage(f"generating {size.identities} people seen by {size.cameras} cameras"):
        dataset = make_people(folder / "data", size, seed)
    with stage("pre-training without labels: painting what is hidden"):
        pretrain(
            PretrainConfig(
                out=str(folder / "pretrain"),
                epochs=size.pretrain_epochs,
                batch_size=size.pretrain_batch,
                learning_rate=4e-3,
                **shared(folder, size, seed),
            )
        )
    with stage("training from the pre-trained network"):
        fine_tune(folder, "pretrained", size, seed, init=str(folder / "pretrain"))
    with stage("training from scratch, for comparison"):
        fine_tune(folder, "scratch", size, seed)
    with stage("evaluating on people that no training saw"):
        models, best = evaluate_all(folder, dataset, size, seed)
    with stage("drawing pictures and report"):
        report = write_pages(folder, dataset, models, best, seed=seed, names=(SCRATCH, PRETRAINED))
    tell(f"the report: {report}")
    return report


def open_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Mark a new folder as a demo's, or find that it is this very demo's.

    Raises:
        InputError: it is in use by something else, or by a demo with other settings.
    """
    marker = folder / MARKER
    wanted = json.loads(json.dumps(settings))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            before = json.loads(marker.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--out {folder}: is in use and holds no demo", hint="choose another --out, or empty the folder"
            ) from error
        changed = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
        if changed:
            differences = "; ".join(f"{key}: {before.get(key)!r} then, {wanted.get(key)!r} now" for key in changed)
            raise InputError(
                f"--out {folder}: holds a demo with other settings ({differences})",
                hint="choose another --out, or delete the folder",
            )
    write_json(marker, wanted)


def make_people(folder: Path, size: DemoSize, seed: int) -> Dataset:
    """Write the generated people, or find them as they were written."""
    return write_dataset(
        folder,
        identities=size.identities,
        cameras=size.cameras,
        images_per_camera=size.images_per_camera,
        seed=seed,
        size=size.rendered,
        distractors=size.distractors,
        junk=size.junk,
        test_fraction=size.test_fraction,
    )


def shared(folder: Path, size: DemoSize, seed: int) -> dict[str, Any]:
    """Return the settings that all trainings of the demo have in common."""
    return {
        "data": str(folder / "data"),
        "preset": size.preset,
        "image_size": size.image_size,
        "seed": seed,
        "device": "cpu",
        "tensorboard": False,
        "resume": True,
    }


def fine_tune(folder: Path, name: str, size: DemoSize, seed: int, init: str | None = None) -> Path:
    """Fine-tune with masked centroid triplets, from scratch or from a pre-trained run; return the run folder.

    Nobody is held out: the half dozen people that could be spared are too few to choose a checkpoint on.
    """
    settings = {**shared(folder, size, seed), "out": str(folder / name), "init": init, "hold_out": 0.0}
    return train(TrainConfig(epochs=size.train_epochs, loss="mctl", **settings))


def evaluate_all(folder: Path, dataset: Dataset, size: DemoSize, seed: int) -> tuple[dict[str, Measures], Evaluation]:
    """Return the measures of all four models by name, and the whole evaluation of the pre-trained one."""
    blank = embed_dataset(random_network(size.preset, size.image_size, seed=seed), dataset)
    colours = histogram_embeddings(dataset.query), histogram_embeddings(dataset.gallery)
    scratch, pretrained = (
        evaluate(folder / name, folder / "data", verification=True, device="cpu") for name in ("scratch", "pretrained")
    )
    models = {
        RANDOM: measure(*blank, verification=True),
        COLOURS: measure(*colours, verification=True),
        SCRATCH: scratch.measures,
        PRETRAINED: pretrained.measures,
    }
    return models, pretrained


class _Stages:
    """Says which stage of how many begins, and how long it took."""

    def __init__(self, say: Say, total: int) -> None:
        self.say, self.total, self.number = say, total, 0

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        self.number += 1
        place, started = f"[{self.number}/{self.total}]", monotonic()
        self.say(f"{place} {what} ...")
        yield
        self.say(f"{place} done in {monotonic() - started:.0f} s")


def _to_standard_error(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

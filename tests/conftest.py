"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# The same examples on every machine and in every run; no time limit, since machines that run tests are busy.
settings.register_profile("prsnet", derandomize=True, deadline=None)
settings.load_profile("prsnet")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def pku_reid() -> Path:
    """Real pedestrians (PKU-Reid, 50 people): not part of the repository; tests that want them skip without them."""
    folder = Path(os.environ.get("PRSNET_PKU_REID", REPOSITORY.parent / "shared" / "data" / "PKUv1a_128x48"))
    if not folder.is_dir():
        pytest.skip(f"real data absent: {folder} is not there; set PRSNET_PKU_REID to run this test")
    return folder


def write_people(root: Path, train: Mapping[int, tuple[int, ...]], test: Mapping[int, tuple[int, ...]]) -> Path:
    """Write a Market-1501 tree of 64x32 noise over colours that belong to the person.

    Args:
        root: the folder.
        train: pid -> number of images in camera 1, camera 2, ...
        test: the same; of each camera the first image is the query.
    """
    for people, is_test in ((train, False), (test, True)):
        for pid, counts in people.items():
            colours = np.random.default_rng(pid).uniform(40, 215, (4, 1, 3))
            for camid, count in enumerate(counts, start=1):
                for index in range(count):
                    noise = np.random.default_rng([pid, camid, index]).normal(5 * camid, 20, (64, 32, 3))
                    pixels = (np.kron(colours, np.ones((16, 32, 1))) + noise).clip(0, 255).astype(np.uint8)
                    part = "bounding_box_train" if not is_test else "bounding_box_test" if index else "query"
                    path = root / part / f"{pid:04d}_c{camid}s1_{index:06d}_00.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="session")
def people_writer() -> Callable[..., Path]:
    """The function :func:`write_people`."""
    return write_people


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 8 people to train on, one of them with 3 images only, and 4 others to test on; 64x32 pixels."""
    train = {**dict.fromkeys(range(1, 8), (3, 3)), 8: (2, 1)}
    return write_people(tmp_path_factory.mktemp("data") / "tiny", train, dict.fromkeys(range(9, 13), (3, 3)))


TINY: dict[str, Any] = {"preset": "pico", "image_size": (64, 32), "tensorboard": False, "quiet": True, "workers": 1}
"""Settings of every training in the tests, whatever else they ask for."""


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Settings that make a training tiny: ``TINY``."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny_pretrained(tmp_path_factory: pytest.TempPathFactory, tiny_market: Path) -> Path:
    """A finished run of pre-training on the tiny dataset."""
    from prsnet import PretrainConfig, pretrain

    out = tmp_path_factory.mktemp("runs") / "pretrained"
    return pretrain(PretrainConfig(data=str(tiny_market), out=str(out), epochs=1, batch_size=8, **TINY))


@pytest.fixture(scope="session")
def tiny_trained(tmp_path_factory: pytest.TempPathFactory, tiny_market: Path, tiny_pretrained: Path) -> Path:
    """A finished run of fine-tuning on the tiny dataset, from the pre-trained run."""
    from prsnet import TrainConfig, train

    out, init = tmp_path_factory.mktemp("runs") / "trained", str(tiny_pretrained)
    return train(TrainConfig(data=str(tiny_market), out=str(out), init=init, epochs=2, identities=4, **TINY))

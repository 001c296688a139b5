"""Galleries to test with; the contract suite runs once per kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import pytest

from prsnet.gallery import Gallery
from prsnet.types import ModelIdentity


class MakeGallery(Protocol):
    def __call__(self, name: str = "gallery", **options: Any) -> Gallery: ...


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model() -> ModelIdentity:
    return ModelIdentity("ab" * 32, "nano 128x64", 4)


@pytest.fixture
def other_model() -> ModelIdentity:
    return ModelIdentity("cd" * 32, "tiny 256x128", 4)


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    """Kinds of store; another kind joins the contract suite by a name here and its location below."""
    return str(request.param)


@pytest.fixture
def location(backend: str, tmp_path: Path) -> Callable[[str], str]:
    """Where a gallery of a name lies, in the words that Gallery.create and Gallery.open take."""
    places = {"sqlite": lambda name: str(tmp_path / name)}
    return places[backend]


@pytest.fixture
def make_gallery(location: Callable[[str], str], model: ModelIdentity, clock: Clock) -> Iterator[MakeGallery]:
    made: list[Gallery] = []

    def make(name: str = "gallery", **options: Any) -> Gallery:
        identity = options.pop("model", model)
        made.append(Gallery.create(location(name), identity, clock=clock, **options))
        return made[-1]

    yield make
    for gallery in made:
        gallery.close()


@pytest.fixture
def gallery(make_gallery: MakeGallery) -> Gallery:
    return make_gallery()

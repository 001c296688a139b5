"""A service that really listens, and what talks to it: the standard library alone."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi", reason="the service's packages are not installed: pip install 'prsnet[serve]'")

import uvicorn

from prsnet.embed import Embedder
from prsnet.gallery import Gallery, NewSighting
from prsnet.gallery.crops import encode_crop
from prsnet.models.description import describe
from prsnet.models.presets import build_reid, resolve
from prsnet.service.app import create_app
from prsnet.service.listening import listen
from prsnet.service.settings import Settings


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Client:
    """Sends requests to one port of this machine."""

    port: int
    headers: Mapping[str, str]

    def raw(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, content, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def get(self, path: str) -> Answer:
        return self.raw("GET", path)

    def post(self, path: str, values: Any, images: list[bytes] | None = None, method: str = "POST") -> Answer:
        if images is not None:
            values = {**values, "images": [base64.b64encode(image).decode() for image in images]}
        return self.raw(method, path, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def form(self, path: str, images: list[bytes], values: Any = None) -> Answer:
        edge = "edge-of-parts"
        parts = [("image", f'; filename="{place}.png"', image) for place, image in enumerate(images)]
        if values is not None:
            parts.append(("request", "", json.dumps(values).encode()))
        body = b"".join(
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"{rest}\r\n\r\n'.encode() + content + b"\r\n"
            for name, rest, content in parts
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        return self.raw("POST", path, body + f"--{edge}--\r\n".encode(), kind)


@dataclass(frozen=True)
class Service:
    """A running service and what it serves: six sightings of six pictures."""

    client: Client
    gallery: Gallery
    embedder: Embedder
    pictures: list[bytes]
    folder: Path


class Start(Protocol):
    def __call__(self, settings: Settings | None = None, headers: Mapping[str, str] | None = None) -> Service: ...


def picture(seed: int, size: tuple[int, int] = (64, 32)) -> bytes:
    """A PNG of coloured squares."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    preset = resolve("pico", image_size=(64, 32))
    network = build_reid(preset, None, torch.Generator().manual_seed(0))
    facts = {"architecture": describe(preset, kind="reid")}
    return Embedder(network, (64, 32), device=torch.device("cpu"), facts=facts)


@pytest.fixture
def start(tmp_path: Path, embedder: Embedder) -> Iterator[Start]:
    """Start services; all are stopped at the end."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(settings: Settings | None = None, headers: Mapping[str, str] | None = None) -> Service:
        folder = tmp_path / f"gallery{len(running)}"
        basis = embedder.compact_basis()
        gallery = Gallery.create(folder, embedder.identity, basis=basis, who="test")
        pictures = [picture(seed) for seed in range(6)]
        pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures]
        sightings = [
            NewSighting(pid=place // 2 + 1, camid=place % 2, source=f"s{place}", crop=encode_crop(image))
            for place, image in enumerate(pixels)
        ]
        gallery.add(embedder.embed(pixels).vectors, sightings, model=embedder.identity)
        app = create_app(gallery, embedder, settings)
        socket = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        return Service(Client(socket.getsockname()[1], headers or {}), gallery, embedder, pictures, folder)

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def service(start: Start) -> Service:
    return start()

"""Requests that are refused: one line, a status of the client's making, and the service lives on."""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import struct
import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from prsnet.service.settings import Limits, Settings

if TYPE_CHECKING:
    from tests.service.conftest import Answer, Client, Service, Start

TOKEN = "a-long-enough-token"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def is_one_line(answer: Answer) -> bool:
    return set(answer.json) == {"error", "hint"} and "\n" not in answer.json["error"] and bool(answer.json["error"])


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def body(**values: Any) -> bytes:
    return json.dumps(values).encode()


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    rest = "" if filename is None else f'; filename="{filename}"'
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{rest}\r\n\r\n'
    return head.encode() + content + b"\r\n"


IMAGE = {"Content-Type": "image/png"}
SEARCHES: dict[str, tuple[int, bytes | None, dict[str, str]]] = {
    "nothing": (415, None, {}),
    "empty JSON": (400, b"", JSON),
    "no JSON": (400, b"{", JSON),
    "JSON of bytes": (400, b"\xff\xfe\x00", JSON),
    "JSON without end": (400, b"[" * 100_000, JSON),
    "JSON with NaN": (400, b'{"threshold": NaN}', JSON),
    "JSON with a number beyond all": (422, b'{"images": [""], "threshold": 1e999}', JSON),
    "a list": (400, b"[]", JSON),
    "a number": (400, b"5", JSON),
    "no image": (400, b"{}", JSON),
    "images no list": (400, body(images="x"), JSON),
    "too many images": (400, body(images=[""] * 33), JSON),
    "image no text": (400, body(images=[5]), JSON),
    "image no base64": (400, body(images=["%%%"]), JSON),
    "image of letters beyond ASCII": (400, body(images=["ü"]), JSON),
    "image empty": (400, body(images=[""]), JSON),
    "image no image": (400, body(images=[base64.b64encode(b"hello").decode()]), JSON),
    "image an SVG": (400, b"<svg xmlns='http://www.w3.org/2000/svg'/>", {"Content-Type": "image/svg+xml"}),
    "image a bomb": (400, png_of_size(30_000, 30_000), IMAGE),
    "image of nothing": (400, png_of_size(0, 0), IMAGE),
    "image cut off": (400, png_of_size(10, 10), IMAGE),
    "unknown key": (422, body(images=[], top=3), JSON),
    "top_k too small": (422, body(top_k=0, like=["1"]), JSON),
    "top_k text": (422, body(top_k="5", like=["1"]), JSON),
    "top_k true": (422, body(top_k=True, like=["1"]), JSON),
    "top_k beyond all": (422, b'{"top_k": ' + b"9" * 400 + b"}", JSON),
    "digits without end": (400, b'{"top_k": ' + b"9" * 10_000 + b"}", JSON),
    "threshold out of range": (422, body(threshold=2, like=["1"]), JSON),
    "one_per camera": (422, body(one_per="camera", like=["1"]), JSON),
    "like no id": (422, body(like=["x"]), JSON),
    "like a number": (422, body(like=[1]), JSON),
    "like an unknown id": (404, body(like=["99"]), JSON),
    "like an id beyond all": (400, body(like=["9" * 19]), JSON),
    "filter a list": (422, body(like=["1"], filter=[]), JSON),
    "filter unknown": (422, body(like=["1"], filter={"where": "1=1"}), JSON),
    "filter pid text": (422, body(like=["1"], filter={"pids": ["1; DROP TABLE sighting"]}), JSON),
    "filter pid beyond all": (422, body(like=["1"], filter={"pids": [2**63]}), JSON),
    "filter time without zone": (422, body(like=["1"], filter={"since": "2024-05-01T00:00:00"}), JSON),
    "filter window empty": (
        400,
        body(like=["1"], filter={"since": "2024-05-02T00:00:00Z", "until": "2024-05-01T00:00:00Z"}),
        JSON,
    ),
    "filter source half a character": (422, b'{"like": ["1"], "filter": {"sources": ["\\ud800"]}}', JSON),
    "box too short": (422, body(images=[""], boxes=[[1, 2, 3]]), JSON),
    "box infinite": (422, b'{"boxes": [[1e999, 0, 1, 1]]}', JSON),
    "form without boundary": (400, b"x", {"Content-Type": "multipart/form-data"}),
    "form of nothing": (400, b"", FORM),
    "form cut off": (400, part("image", b"abc", "a")[:30], FORM),
    "form of noise": (400, bytes(range(256)), FORM),
    "form with a strange part": (400, part("evil", b"x", "a") + b"--x--\r\n", FORM),
    "form with an image that is no file": (400, part("image", b"x") + b"--x--\r\n", FORM),
    "form with too many files": (400, part("image", b"x", "a") * 40 + b"--x--\r\n", FORM),
    "form with two requests": (400, part("request", b"{}") * 2 + b"--x--\r\n", FORM),
    "form with a request of noise": (400, part("request", b"\xff{") + b"--x--\r\n", FORM),
    "form of an odd charset": (400, b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x; charset=nope"}),
    "form with images in the request": (
        422,
        part("image", b"x", "a") + part("request", body(images=["x"])) + b"--x--\r\n",
        FORM,
    ),
    "another content type": (415, b"x", {"Content-Type": "text/plain"}),
    "a content type of noise": (415, b"x", {"Content-Type": ";;;\x7f"}),
}


@pytest.fixture
def served(start: Start) -> Service:
    return start(Settings(limits=Limits(rate=1e6, bytes=2**20)))


def test_searches_that_make_no_sense(served: Service) -> None:
    wrong = {}
    for name, (status, content, headers) in SEARCHES.items():
        answer = served.client.raw("POST", "/search", content, headers)
        if answer.status != status or not is_one_line(answer):
            wrong[name] = (answer.status, answer.content[:200])
    assert wrong == {}
    assert served.client.post("/search", {"top_k": 1}, served.pictures[:1]).json["hits"][0]["id"] == "1"


OTHERS: list[tuple[str, str, bytes | None, int]] = [
    ("GET", "/nowhere", None, 404),
    ("GET", "/../../etc/passwd", None, 404),
    ("PUT", "/search", b"{}", 405),
    ("GET", "/sightings/abc", None, 422),
    ("GET", "/sightings/" + "9" * 25, None, 422),
    ("GET", "/sightings/" + "9" * 19, None, 400),
    ("GET", "/sightings/999", None, 404),
    ("GET", "/sightings/%00", None, 422),
    ("GET", "/sightings?limit=0", None, 422),
    ("GET", "/sightings?limit=x", None, 422),
    ("GET", "/sightings?after=-1", None, 422),
    ("PATCH", "/sightings/1", b"{}", 400),
    ("PATCH", "/sightings/1", b'{"pid": 0}', 422),
    ("PATCH", "/sightings/1", b'{"vector": []}', 422),
    ("PATCH", "/sightings/1", b'{"facts": {"x": 1e999}}', 400),
    ("PATCH", "/sightings/1", b'{"source": "a\\u0000b"}', 400),
    ("PATCH", "/sightings/1", b'{"images": ["eA=="], "pid": 3}', 400),
    ("PATCH", "/sightings/999", b'{"pid": 3}', 404),
    ("POST", "/sightings", b"{}", 400),
    ("POST", "/sightings", b'{"images": [], "sightings": [{}]}', 400),
    ("POST", "/delete", b"{}", 400),
    ("POST", "/delete", b'{"filter": {}, "everything": "maybe"}', 422),
    ("POST", "/embed", b'{"images": []}', 400),
]


def test_other_requests_that_make_no_sense(served: Service) -> None:
    wrong = []
    for method, path, content, status in OTHERS:
        answer = served.client.raw(method, path, content, JSON)
        if answer.status != status or not is_one_line(answer):
            wrong.append((method, path, content, answer.status, answer.content[:200]))
    assert wrong == []
    assert served.gallery.count() == 6


def test_bodies_that_are_too_large(served: Service) -> None:
    declared = served.client.raw("POST", "/search", b"x" * (2**20 + 1), IMAGE)
    assert declared.status == 413
    streamed = served.client.raw("POST", "/search", iter([b"x" * 2**16] * 17), IMAGE)  # type: ignore[arg-type]
    assert streamed.status == 413


def test_a_body_that_never_ends_does_not_hold_the_service(start: Start) -> None:
    service = start(Settings(limits=Limits(seconds=0.3)))
    with socket.create_connection(("127.0.0.1", service.client.port), timeout=10) as slow:
        slow.sendall(
            b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx"
        )
        assert service.client.get("/health").status == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_pages_of_strangers_are_not_answered(service: Service) -> None:
    client = service.client
    port = client.port
    rebound = client.raw("GET", "/stats", headers={"Host": f"evil.example:{port}"})
    assert (rebound.status, is_one_line(rebound)) == (400, True)
    foreign = client.raw("POST", "/delete", b"", {"Origin": "http://evil.example", **JSON})
    assert (foreign.status, is_one_line(foreign)) == (403, True)
    other_port = client.raw("POST", "/delete", b"", {"Origin": f"http://127.0.0.1:{port + 1}", **JSON})
    assert other_port.status == 403
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert client.raw("GET", "/stats", headers=own).status == 200
    assert client.raw("GET", "/stats", headers={"Host": f"[::1]:{port}"}).status == 200
    assert service.gallery.count() == 6


def test_without_a_token_nothing_is_told(start: Start) -> None:
    service = start(Settings(limits=Limits(rate=1e6), tokens={TOKEN: "ann"}))
    wrong = ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"]
    for header in (None, *wrong):
        headers = {} if header is None else {"Authorization": header}
        for method, path in (("GET", "/stats"), ("GET", "/sightings/1/crop"), ("POST", "/search"), ("GET", "/metrics")):
            answer = service.client.raw(method, path, headers=headers)
            assert (answer.status, is_one_line(answer)) == (401, True), header
            assert answer.headers["www-authenticate"] == "Bearer"
    assert service.client.get("/health").status == 200
    right = service.client.raw("GET", "/stats", headers={"Authorization": f"bearer {TOKEN}"})
    assert right.status == 200


def test_who_asks_too_often_waits(start: Start) -> None:
    service = start(Settings(limits=Limits(rate=2)))
    answers = [service.client.get("/stats") for _ in range(8)]
    assert answers[0].status == 200
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert all(is_one_line(answer) and int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert service.client.get("/health").status == 200


def test_more_images_than_may_wait_are_turned_away(start: Start) -> None:
    service = start(Settings(limits=Limits(pending=2)))
    answer = service.client.post("/embed", {}, service.pictures[:3])
    assert (answer.status, is_one_line(answer)) == (503, True)
    assert service.client.post("/embed", {}, service.pictures[:2]).status == 200


def test_troubles_of_the_store_are_not_told_to_strangers(service: Service) -> None:
    (service.folder / "audit.jsonl").mkdir()
    answer = service.client.post("/search", {}, service.pictures[:1])
    assert (answer.status, is_one_line(answer)) == (503, True)
    assert str(service.folder) not in answer.content.decode()


def garble(chance: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(data) + 1)
        action = chance.randrange(3)
        if action == 0:
            data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 20)))
        elif action == 1:
            del data[place : place + chance.randint(1, 20)]
        elif place < len(data):
            data[place] = chance.randrange(256)
    return bytes(data)


def hostile(client: Client, pictures: list[bytes], count: int, seed: int) -> list[tuple[int, bytes]]:
    """Send garbled requests of every form; return the answers that are a fault of the service."""
    chance = random.Random(seed)
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(jpeg, "JPEG")
    encoded = base64.b64encode(pictures[0]).decode()
    asked = {"top_k": 3, "threshold": 0.1, "filter": {"pids": [1], "since": "2024-05-01T00:00:00Z"}, "boxes": [None]}
    bodies = [
        (body(images=[encoded], **asked), JSON),
        (body(like=["1"], **asked), JSON),
        (part("image", pictures[0], "a.png") + part("request", body(**asked)) + b"--x--\r\n", FORM),
        (pictures[0], IMAGE),
        (jpeg.getvalue(), {"Content-Type": "image/jpeg"}),
    ]
    bad = []
    for _ in range(count):
        content, headers = chance.choice(bodies)
        path = chance.choice(
            ["/search", "/search", "/embed", "/sightings", "/sightings/1", "/delete", "/sightings/1/crop"]
        )
        method = "PATCH" if path == "/sightings/1" else "POST"
        answer = client.raw(method, path, garble(chance, content), headers)
        if answer.status >= 500 or (answer.status >= 400 and not is_one_line(answer)):
            bad.append((answer.status, answer.content[:200]))
    return bad


def test_one_hundred_garbled_requests(served: Service) -> None:
    assert hostile(served.client, served.pictures, 100, seed=1) == []
    assert served.client.get("/health").status == 200


@pytest.mark.slow
def test_two_thousand_garbled_requests_of_four_clients(served: Service) -> None:
    bad: list[tuple[int, bytes]] = []
    threads = [
        threading.Thread(target=lambda seed=seed: bad.extend(hostile(served.client, served.pictures, 500, seed)))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad == []
    assert served.client.get("/health").status == 200


def test_requests_that_are_not_even_http(served: Service) -> None:
    for noise in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST /search HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"\x00" * 70000,
    ):
        with socket.create_connection(("127.0.0.1", served.client.port), timeout=10) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            received = connection.recv(1000)
        assert received == b"" or received.startswith(b"HTTP/1.1 4")
    assert served.client.get("/health").status == 200

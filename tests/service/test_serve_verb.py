"""``prsnet serve`` as a process of its own: starts, answers, stops gracefully, and refuses to be left open."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prsnet.checkpoint import save_checkpoint
from prsnet.cli.main import main
from prsnet.errors import InputError
from prsnet.models.description import describe
from prsnet.models.presets import build_reid, resolve
from prsnet.service.settings import is_local, read_tokens

TOKEN = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serve")
    preset = resolve("pico", image_size=(64, 32))
    network = build_reid(preset, None, torch.Generator().manual_seed(0))
    description = {"kind": "reid", "architecture": describe(preset, kind="reid")}
    save_checkpoint(root / "model.safetensors", network.state_dict(), description)
    assert main(["gallery", "create", str(root / "g"), "--model", str(root / "model.safetensors")]) == 0
    return root / "g"


@pytest.fixture
def served(gallery: Path, repository: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    environment = {**os.environ, "PYTHONPATH": str(repository / "src"), "OMP_NUM_THREADS": "1", "PRSNET_TOKEN": TOKEN}
    command = [sys.executable, "-m", "prsnet", "serve", str(gallery), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:(\d+)$", process.stdout.readline().strip())
    assert found, process.communicate(timeout=5)
    yield process, int(found[1])
    process.kill()
    process.wait()


def test_it_answers_and_finishes_what_was_begun_before_it_stops(served: tuple[subprocess.Popen[str], int]) -> None:
    process, port = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/stats", headers={"Authorization": f"Bearer {TOKEN}"})
    assert json.loads(connection.getresponse().read())["sightings"] == 0
    connection.close()
    begun = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"POST /sightings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    begun.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{".encode())
    time.sleep(0.2)
    threading.Timer(0.5, begun.sendall, [b"}"]).start()
    process.send_signal(signal.SIGTERM)
    answer = begun.recv(1000)
    begun.close()
    assert answer.startswith(b"HTTP/1.1 400"), answer  # no image: but an answer
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "without a token"),
        (["--host", "::"], "without a token"),
        (["--tokens", "missing.txt"], "tokens cannot be read"),
        (["--host", "256.1.1.1", "--tokens", "good"], "--host 256.1.1.1"),
        (["--port", "70000"], "port"),
        (["--model", "nowhere"], "no such run"),
        (["--rate", "0"], "rate"),
        (["--port", "taken"], "choose another --port"),
    ],
)
def test_it_does_not_start(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    (tmp_path / "good").write_text(f"ann: {TOKEN}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"good": str(tmp_path / "good"), "taken": str(taken.getsockname()[1])}
        code = main(["serve", str(gallery), "--port", "0", *(places.get(word, word) for word in arguments)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert expected in captured.err
    assert captured.err.count("\n") <= 2
    assert TOKEN not in captured.err


def test_tokens_are_read_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who may ask\n\nann: {TOKEN}\nbob:{TOKEN}x\n")
    assert read_tokens(file) == {TOKEN: "ann", f"{TOKEN}x": "bob"}
    for wrong in ("", "ann", f": {TOKEN}", "ann: short-secret", f"ann: {TOKEN} {TOKEN}", f"ann: {TOKEN}\nbob: {TOKEN}"):
        file.write_text(wrong)
        with pytest.raises(InputError) as caught:
            read_tokens(file)
        assert str(file) in caught.value.message
        assert "secret" not in str(caught.value)
        assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("example.org", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_addresses_that_only_this_machine_reaches(host: str, local: bool) -> None:
    assert is_local(host) is local

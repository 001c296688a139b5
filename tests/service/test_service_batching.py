"""Requests that wait at the same time share a forward pass, and each gets its own rows."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt
import pytest

from prsnet.service.batching import EmbedBatcher, Overloaded

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def images(*values: int) -> Pixels:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def first_pixel(pixels: Pixels) -> Floats:
    return np.asarray(pixels[:, 0, 0, :1], dtype=np.float32)


class Gate:
    """An embedder that waits until it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.sizes: list[int] = []

    def __call__(self, pixels: Pixels) -> Floats:
        self.sizes.append(len(pixels))
        self.entered.set()
        assert self.open.wait(20)
        if (pixels == 99).all(axis=(1, 2, 3)).any():
            raise ValueError("ninety-nine")
        return first_pixel(pixels)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def waiting(batcher: EmbedBatcher, gate: Gate) -> Future[Floats]:
    """Submit one image and wait until it is at work, so that what follows has to wait."""
    job = batcher.submit(images(1))
    assert gate.entered.wait(20)
    return job


def test_what_waits_is_embedded_together(gate: Gate) -> None:
    batcher = EmbedBatcher(gate, max_batch=8, max_pending=100)
    jobs = [waiting(batcher, gate), *(batcher.submit(images(*range(10 * n, 10 * n + 3))) for n in range(2, 6))]
    gate.open.set()
    assert [job.result(20)[:, 0].tolist() for job in jobs] == [
        [1], [20, 21, 22], [30, 31, 32], [40, 41, 42], [50, 51, 52]
    ]  # fmt: skip
    batcher.close()
    assert gate.sizes == [1, 9, 3]  # a batch is full once it has reached its size; no request is split


def test_a_failure_reaches_those_of_its_batch_alone(gate: Gate) -> None:
    observed: list[int] = []
    batcher = EmbedBatcher(gate, max_batch=2, max_pending=100, observe=observed.append)
    jobs = [waiting(batcher, gate), batcher.submit(images(99, 3)), batcher.submit(images(4, 5))]
    gate.open.set()
    assert jobs[0].result(20).tolist() == [[1]]
    with pytest.raises(ValueError, match="ninety-nine"):
        jobs[1].result(20)
    assert jobs[2].result(20).tolist() == [[4], [5]]
    batcher.close()
    assert observed == [1, 2]


def test_no_more_wait_than_may_and_room_comes_back(gate: Gate) -> None:
    batcher = EmbedBatcher(gate, max_batch=2, max_pending=4)
    jobs = [waiting(batcher, gate), batcher.submit(images(2, 3, 4))]
    with pytest.raises(Overloaded):
        batcher.submit(images(5))
    gate.open.set()
    for job in jobs:
        job.result(20)
    batcher.submit(images(6, 7, 8)).result(20)
    batcher.close()


def test_closing_finishes_what_waits(gate: Gate) -> None:
    batcher = EmbedBatcher(gate, max_batch=2, max_pending=10)
    jobs = [waiting(batcher, gate), batcher.submit(images(2)), batcher.submit(images(3))]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gate.open.set()
    closing.join(20)
    assert [job.result(0).tolist() for job in jobs] == [[[1]], [[2]], [[3]]]
    with pytest.raises(Overloaded):
        batcher.submit(images(4))
    batcher.close()


def test_whoever_gives_up_waiting_does_not_stop_the_others(gate: Gate) -> None:
    batcher = EmbedBatcher(gate, max_batch=4, max_pending=10)
    first, gone, last = waiting(batcher, gate), batcher.submit(images(2)), batcher.submit(images(3))
    assert gone.cancel()
    gate.open.set()
    assert first.result(20).tolist() == [[1]]
    assert last.result(20).tolist() == [[3]]
    assert batcher.submit(images(4)).result(20).tolist() == [[4]]
    batcher.close()

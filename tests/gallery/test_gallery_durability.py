"""kill -9 at any moment loses nothing that was acknowledged; readers are right while somebody writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.types import ModelIdentity

WIDTH = 16
MODEL = ModelIdentity("34" * 32, "test", WIDTH)

# Adds batches, now and then deletes its oldest, and says so only after the gallery did.
WRITER = """
import sys
import numpy as np
from prsnet.gallery import Gallery, NewSighting, SightingFilter
folder, seed, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
gallery = Gallery.open(folder)
generator = np.random.default_rng(seed)
mine = []
print("ready", flush=True)
for batch in range(limit):
    vectors = generator.normal(size=(int(generator.integers(1, 9)), 16)).astype(np.float32)
    sightings = [NewSighting(source=f"{seed}/{batch}", facts={"first": float(v[0])}) for v in vectors]
    ids = gallery.add(vectors, sightings, model=gallery.model)
    mine += ids
    print("added", batch, *ids, flush=True)
    if batch % 5 == 4:
        print("deleting", *mine[:3], flush=True)
        gallery.delete(SightingFilter(ids=tuple(mine[:3])))
        print("deleted", *mine[:3], flush=True)
        del mine[:3]
print("done", flush=True)
"""


def unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def start(repository: Path, folder: Path, seed: int, limit: int = 10**6) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(repository / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WRITER, str(folder), str(seed), str(limit)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def check(folder: Path, alive: dict[str, npt.NDArray[np.float32]], gone: set[str], maybe: set[str]) -> None:
    """The gallery opens, holds what was acknowledged and nothing half, and search equals brute force."""
    with Gallery.open(folder) as gallery:
        assert not gallery.store.unwiped
        seen = {sighting.id: sighting for sighting in gallery.find(limit=10**6)}
        assert set(alive) - maybe <= set(seen)
        assert not gone & set(seen)
        known = [id for id in seen if id in alive]
        vectors = gallery.vectors(list(seen))
        by_id = dict(zip(seen, vectors, strict=True))
        np.testing.assert_allclose([by_id[id] for id in known], [alive[id] for id in known], rtol=0, atol=1e-6)
        query = unit(np.random.default_rng(1).normal(size=(1, WIDTH)).astype(np.float32))
        truth = vectors.astype(np.float64) @ query[0].astype(np.float64)
        order = np.lexsort((np.arange(len(truth)), -truth))[:20]
        hits = gallery.search(query, model=MODEL, top_k=20)[0]
        assert [hit.id for hit in hits] == [list(seen)[place] for place in order]


def kill_and_check(repository: Path, folder: Path, rounds: int, seed: int) -> int:
    """Kill a writer ``rounds`` times at random moments on the same gallery; return what it acknowledged in all."""
    chance = random.Random(seed)
    alive: dict[str, npt.NDArray[np.float32]] = {}
    gone: set[str] = set()
    for number in range(rounds):
        generator = np.random.default_rng(1000 * seed + number)
        writer = start(repository, folder, 1000 * seed + number)
        assert writer.stdout is not None
        killer = threading.Timer(chance.uniform(0.0, 0.25), writer.send_signal, [signal.SIGKILL])
        killer.start()
        maybe: set[str] = set()
        batch = 0
        for line in writer.stdout:
            if not line.endswith("\n"):
                break
            word, *rest = line.split()
            if word == "added":
                rows = generator.normal(size=(int(generator.integers(1, 9)), WIDTH)).astype(np.float32)
                alive.update(zip(rest[1:], unit(rows), strict=True))
                batch += 1
            elif word == "deleting":
                maybe = set(rest)
            elif word == "deleted":
                gone |= set(rest)
                maybe = set()
                for id in rest:
                    del alive[id]
        assert writer.wait() == -signal.SIGKILL
        killer.join()
        check(folder, alive, gone, maybe)
        with Gallery.open(folder) as gallery:  # a deletion that was under way may have been committed
            alive = {id: alive[id] for id in alive if id not in maybe or gallery.find(SightingFilter(ids=(id,)))}
    return len(alive) + len(gone)


def test_five_kills_lose_nothing(repository: Path, tmp_path: Path) -> None:
    Gallery.create(tmp_path / "g", MODEL).close()
    assert kill_and_check(repository, tmp_path / "g", rounds=5, seed=1) > 0


@pytest.mark.slow
def test_fifty_kills_lose_nothing(repository: Path, tmp_path: Path) -> None:
    Gallery.create(tmp_path / "g", MODEL).close()
    assert kill_and_check(repository, tmp_path / "g", rounds=50, seed=2) > 0


def test_readers_are_right_while_others_write(repository: Path, tmp_path: Path) -> None:
    """Two processes write; every search in this one is right for some moment, and nothing that was seen is lost."""
    folder = tmp_path / "g"
    with Gallery.create(folder, MODEL) as gallery:
        fixed = unit(np.random.default_rng(5).normal(size=(50, WIDTH)).astype(np.float32))
        first = gallery.add(fixed, [NewSighting(pid=1)] * 50, model=MODEL)
        writers = [start(repository, folder, seed, limit=20) for seed in (7, 8)]
        sizes = []
        while any(writer.poll() is None for writer in writers):
            (hits,) = gallery.search(fixed[:1], model=MODEL, top_k=10_000)
            assert {hit.id for hit in hits} >= set(first)
            assert hits[0].id == first[0]
            similarities = [hit.similarity for hit in hits]
            assert similarities == sorted(similarities, reverse=True)
            sizes.append(len(hits))
        assert [writer.wait() for writer in writers] == [0, 0]
        assert all(writer.stdout is not None and writer.stdout.read().endswith("done\n") for writer in writers)
        assert len(set(sizes)) > 1
        (hits,) = gallery.search(fixed[:1], model=MODEL, top_k=10_000)
        assert len(hits) == gallery.stats().sightings
        gallery.close()
    check(folder, dict(zip(first, fixed, strict=True)), set(), set())


def test_threads_share_one_gallery(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(6).normal(size=(64, WIDTH)).astype(np.float32))
    failures: list[BaseException] = []
    with Gallery.create(tmp_path / "g", MODEL) as gallery:

        def work(place: int) -> None:
            try:
                for row in range(place, 64, 4):
                    (id,) = gallery.add(vectors[row : row + 1], [NewSighting(source=str(row))], model=MODEL)
                    (hits,) = gallery.search(vectors[row : row + 1], model=MODEL, top_k=1)
                    assert (hits[0].id, hits[0].source) == (id, str(row))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert gallery.stats().sightings == 64


def test_a_writer_waits_for_another_and_gives_up_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prsnet.gallery.schema.BUSY_SECONDS", 0.3)
    vector = unit(np.ones((1, WIDTH), np.float32))
    with Gallery.create(tmp_path / "g", MODEL) as one, Gallery.open(tmp_path / "g") as two:
        release = threading.Event()

        def slow_batches() -> object:
            yield vector, [NewSighting()]
            release.wait(20)

        thread = threading.Thread(target=lambda: one.add_batches(slow_batches(), model=MODEL))  # type: ignore[arg-type]
        thread.start()
        time.sleep(0.1)
        with pytest.raises(Exception, match="another process has been writing"):
            two.add(vector, [NewSighting()], model=MODEL)
        assert two.search(vector, model=MODEL) == [[]]  # readers do not wait
        release.set()
        thread.join()
        assert len(two.search(vector, model=MODEL)[0]) == 1

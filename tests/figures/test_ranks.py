import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from prsnet import DataError, Embeddings, InputError, rank_report
from prsnet.figures import choose_queries, draw_ranks, rank_lists
from prsnet.figures.canvas import GREEN, RED


def people(rows: int, seed: int) -> Embeddings:
    """Unit vectors whose products are multiples of a quarter: nothing is rounded, and many similarities are equal."""
    rng = np.random.default_rng(seed)
    vectors = rng.choice([-0.5, 0.5], (rows, 4)).astype(np.float32)
    return Embeddings(vectors, rng.integers(-1, 4, rows), rng.integers(0, 3, rows))


def by_the_definition(
    query: Embeddings, gallery: Embeddings, row: int, filtered: bool
) -> list[tuple[int, float, bool]]:
    """Return (row, similarity, right) of all valid gallery images in the order of the protocol."""

    found = []
    for index in range(len(gallery)):
        same = bool(gallery.pids[index] == query.pids[row])
        if gallery.pids[index] == -1 or (filtered and same and gallery.camids[index] == query.camids[row]):
            continue
        similarity = float(gallery.numpy()[index] @ query.numpy()[row])
        found.append((index, similarity, same))
    return sorted(found, key=lambda item: (-item[1], item[2], item[0]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 12))
def test_lists_follow_the_protocol(seed: int, filtered: bool, count: int) -> None:
    query, gallery = people(4, seed), people(30, seed + 1)
    try:
        report = rank_report(query, gallery, exclude_same_camera=filtered)
    except DataError:
        return
    rows = report.per_query.row.tolist()
    lists = rank_lists(query, gallery, rows, count=count, exclude_same_camera=filtered)
    for place, (row, found) in enumerate(zip(rows, lists, strict=True)):
        wanted = by_the_definition(query, gallery, row, filtered)
        assert found.valid == len(wanted) == report.per_query.valid[place]
        assert found.relevant == sum(right for _, _, right in wanted)
        assert found.right.tolist() == [right for _, _, right in wanted[:count]]
        assert found.similarities.tolist() == [similarity for _, similarity, _ in wanted[:count]]
        assert found.rows.tolist() == [index for index, _, _ in wanted[:count]]
        assert found.ap == pytest.approx(report.per_query.ap[place], abs=1e-12)
        assert wanted[found.first_match - 1][2] and not any(right for _, _, right in wanted[: found.first_match - 1])


def test_the_query_itself_is_left_out() -> None:
    vectors = np.array([[1.0, 0], [0.9, 0.1], [0, 1]], dtype=np.float32)
    side = Embeddings(vectors, np.array([1, 1, 2]), np.full(3, -1), ("a", "b", "c"))
    (found,) = rank_lists(side, side, [0], count=5)
    assert found.rows.tolist() == [1, 2] and found.right.tolist() == [True, False]


def test_a_query_without_a_match_is_refused() -> None:
    side = Embeddings(np.eye(3, dtype=np.float32), np.array([1, 1, 2]), np.array([1, 2, 1]), ("a", "b", "c"))
    with pytest.raises(DataError, match=r"query c cannot be ranked: the only gallery image"):
        rank_lists(side, side, [2])


def test_worst_queries_come_first_and_random_ones_depend_on_the_seed() -> None:
    report = rank_report(people(40, 1), people(60, 2))
    ap = dict(zip(report.per_query.row.tolist(), report.per_query.ap.tolist(), strict=True))
    worst = choose_queries(report, 5, worst=True)
    assert [ap[row] for row in worst] == sorted(ap.values())[:5]
    random = choose_queries(report, 5, seed=1)
    assert random == sorted(random) == choose_queries(report, 5, seed=1) != choose_queries(report, 5, seed=2)
    assert set(random) <= set(ap) and len(set(random)) == 5
    assert len(choose_queries(report, 1000)) == len(report.per_query)
    with pytest.raises(InputError, match="at least 1, got 0"):
        choose_queries(report, 0)


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Embeddings, Embeddings]:
    """One query and three gallery images of flat colours, of which the first and the third answer are right."""

    def image(name: str, blue: int) -> str:
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (20, 40), (0, 0, blue)).save(path)
        return str(path)

    query = Embeddings(np.array([[1.0, 0.0]]), np.array([5]), np.array([1]), (image("query", 10),))
    vectors = np.array([[0.0, 1.0], [1.0, 0.1], [1.0, 0.5], [1.0, 0.0]])
    names = tuple(image(f"gallery{i}", 50 + 40 * i) for i in range(4))
    gallery = Embeddings(vectors, np.array([5, 5, 0, 5]), np.array([2, 3, 1, 1]), names)
    return query, gallery


def test_frames_tell_right_from_wrong(tmp_path: Path, shown: tuple[Embeddings, Embeddings]) -> None:
    lists = rank_lists(*shown, [0])
    (picture,) = draw_ranks(lists, *shown, tmp_path / "out.png", title="t", facts={"model": "m"})
    pixels = np.asarray(Image.open(picture)).astype(int)
    answers = json.loads(picture.with_suffix(".json").read_text())["queries"][0]["answers"]
    assert [answer["right"] for answer in answers] == [True, False, True]
    for answer in answers:
        colour = (0, 0, 50 + 40 * int(Path(answer["path"]).stem[-1]))
        inside = np.argwhere(np.all(pixels == colour, axis=2))
        (top, left), (bottom, right) = inside.min(axis=0) - 6, inside.max(axis=0) + 7
        ring = pixels[top:bottom, left:right].reshape(-1, 3)
        counts = {c: int(np.all(ring == ImageColor.getrgb(c), axis=1).sum()) for c in (GREEN, RED)}
        assert (counts[GREEN] > 0, counts[RED] > 0) == (answer["right"], not answer["right"])


def test_the_json_says_what_is_shown(tmp_path: Path, shown: tuple[Embeddings, Embeddings]) -> None:
    query, gallery = shown
    (picture,) = draw_ranks(rank_lists(query, gallery, [0]), *shown, tmp_path / "lists", facts={"model": "m"})
    assert picture == tmp_path / "lists" / "001_query.png"
    written = json.loads(picture.with_suffix(".json").read_text())
    assert written["model"] == "m"
    (found,) = written["queries"]
    wanted: dict[str, Any] = {"path": query.paths[0], "pid": 5, "camid": 1, "first_match": 1, "relevant": 2, "valid": 3}
    assert {name: found[name] for name in wanted} == wanted
    assert found["ap"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert [(a["rank"], a["path"], a["pid"]) for a in found["answers"]] == [
        (1, gallery.paths[1], 5),
        (2, gallery.paths[2], 0),
        (3, gallery.paths[0], 5),
    ]
    similarities = [1 / np.hypot(1, 0.1), 1 / np.hypot(1, 0.5), 0.0]
    assert [a["similarity"] for a in found["answers"]] == pytest.approx(similarities, abs=1e-6)


def test_embeddings_without_paths_cannot_be_shown(tmp_path: Path) -> None:
    query, gallery = people(10, 1), people(30, 2)
    lists = rank_lists(query, gallery, choose_queries(rank_report(query, gallery), 1))
    with pytest.raises(DataError, match="no paths"):
        draw_ranks(lists, query, gallery, tmp_path / "out.png")

"""What every kind of store must do, seen through the gallery."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from prsnet.errors import DataError, InputError, PrsnetError
from prsnet.gallery import Gallery, NewSighting, Sighting, SightingFilter
from prsnet.types import Hit, ModelIdentity

NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
HALF = 0.5


def rows(*vectors: Sequence[float] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.array(vectors, dtype=np.float32)


EAST, NORTH, UP, IN = np.eye(4, dtype=np.float32)
DIAGONAL = np.full(4, 0.5, dtype=np.float32)


def picture(colour: str = "red", kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 16), colour).save(buffer, kind)
    return buffer.getvalue()


def fill(gallery: Gallery) -> list[str]:
    """Six sightings: two of person 1, two of person 2, two of nobody known."""
    sightings = [
        NewSighting(pid=1, camid=1, time=NOON, source="day.mp4#1", path="a.jpg", facts={"hat": True}),
        NewSighting(pid=1, camid=2, time=NOON + timedelta(minutes=1), source="day.mp4#1"),
        NewSighting(pid=2, camid=1, time=NOON + timedelta(minutes=2), source="day.mp4#2", crop=picture()),
        NewSighting(pid=2, camid=0, source="night.mp4"),
        NewSighting(camid=2, time=NOON + timedelta(minutes=3)),
        NewSighting(),
    ]
    vectors = np.stack([EAST, DIAGONAL, NORTH, DIAGONAL, UP, EAST])
    return gallery.add(vectors, sightings, model=gallery.model)


def found(gallery: Gallery, query: npt.NDArray[np.float32], **asked: Any) -> list[tuple[str, float]]:
    return [(hit.id, hit.similarity) for hit in gallery.search(query[None], model=gallery.model, **asked)[0]]


def ids_of(hits: Sequence[Hit | Sighting]) -> list[str]:
    return [hit.id for hit in hits]


def test_what_is_added_is_found_with_all_that_is_known(gallery: Gallery) -> None:
    ids = fill(gallery)
    assert ids == sorted(set(ids), key=int)
    first = gallery.search(EAST[None], model=gallery.model, top_k=1)[0][0]
    assert first == Hit(ids[0], 1.0, 1, 1, "a.jpg", {"hat": True}, NOON, "day.mp4#1")
    last = gallery.search(EAST[None], model=gallery.model, top_k=2)[0][1]
    assert last == Hit(ids[5], 1.0, None, None, "", {}, None, "")


def test_order_is_by_similarity_then_by_id(gallery: Gallery) -> None:
    a, b, c, d, e, f = fill(gallery)
    assert found(gallery, EAST, top_k=6) == [(a, 1), (f, 1), (b, HALF), (d, HALF), (c, 0), (e, 0)]
    assert found(gallery, EAST, top_k=3) == [(a, 1), (f, 1), (b, HALF)]
    assert found(gallery, -EAST, top_k=6)[-1] == (f, -1)


def test_threshold_is_reached_by_equal_similarity(gallery: Gallery) -> None:
    a, b, _, d, _, f = fill(gallery)
    assert found(gallery, EAST, threshold=HALF) == [(a, 1), (f, 1), (b, HALF), (d, HALF)]
    assert found(gallery, EAST, threshold=np.nextafter(HALF, 1)) == [(a, 1), (f, 1)]
    assert found(gallery, DIAGONAL, threshold=1.0) == [(b, 1), (d, 1)]
    assert found(gallery, -EAST, threshold=HALF) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"pids": (1,)}, "ab"),
        ({"pids": (1, 2, 9)}, "abcd"),
        ({"pids": ()}, ""),
        ({"cameras": (1,)}, "ac"),
        ({"cameras": (0, 2)}, "bde"),
        ({"sources": ("day.mp4#1", "night.mp4")}, "abd"),
        ({"sources": ("",)}, "ef"),
        ({"sources": ("never seen",)}, ""),
        ({"since": NOON + timedelta(minutes=1)}, "bce"),
        ({"until": NOON + timedelta(minutes=1)}, "a"),
        ({"since": NOON, "until": NOON + timedelta(minutes=3)}, "abc"),
        ({"pids": (1,), "cameras": (2,)}, "b"),
        ({"older_than": NOON}, ""),
        ({"older_than": NOON + timedelta(microseconds=1)}, "adf" + "bce"),
        ({}, "abcdef"),
    ],
)
def test_filters_mean_the_same_everywhere(gallery: Gallery, asked: dict[str, Any], expected: str) -> None:
    names = dict(zip(fill(gallery), "abcdef", strict=True))
    where = SightingFilter(**asked)
    searched = {names[id] for id, _ in found(gallery, DIAGONAL, where=where)}
    listed = {names[seen.id] for seen in gallery.find(where)}
    assert searched == listed == set(expected)
    assert gallery.delete(where, everything=True) == len(expected)
    assert {names[seen.id] for seen in gallery.find()} == set("abcdef") - set(expected)


def test_filter_by_id(gallery: Gallery) -> None:
    a, b, _, _, _, f = fill(gallery)
    where = SightingFilter(ids=(f, b, "999"))
    assert {id for id, _ in found(gallery, EAST, where=where)} == {b, f}
    assert ids_of(gallery.find(where)) == [b, f]
    assert found(gallery, EAST, where=SightingFilter(ids=(a, b), pids=(2,))) == []


def test_one_hit_per_identity_or_source(gallery: Gallery) -> None:
    a, b, c, d, e, f = fill(gallery)
    assert found(gallery, EAST, one_per="pid", top_k=9) == [(a, 1), (f, 1), (d, HALF), (e, 0)]
    assert found(gallery, EAST, one_per="source", top_k=9) == [(a, 1), (f, 1), (d, HALF), (c, 0), (e, 0)]
    assert found(gallery, DIAGONAL, one_per="pid", top_k=2) == [(b, 1), (d, 1)]
    assert found(gallery, EAST, one_per="pid", top_k=3) == [(a, 1), (f, 1), (d, HALF)]


def test_queries_do_not_mix(gallery: Gallery) -> None:
    fill(gallery)
    batch = gallery.search(np.stack([EAST, NORTH, -UP]), model=gallery.model, top_k=4)
    for query, hits in zip([EAST, NORTH, -UP], batch, strict=True):
        assert hits == gallery.search(query[None], model=gallery.model, top_k=4)[0]
    assert gallery.search(np.empty((0, 4), np.float32), model=gallery.model) == []


def test_several_shots_of_one_person(gallery: Gallery) -> None:
    a, _, c, _, _, f = fill(gallery)
    hits = gallery.search_person(rows(EAST * 7, NORTH), model=gallery.model, top_k=6)
    expected = {a: np.sqrt(HALF), c: np.sqrt(HALF), f: np.sqrt(HALF)}
    similarities = {hit.id: hit.similarity for hit in hits}
    assert all(abs(similarities[id] - value) < 1e-7 for id, value in expected.items())
    with pytest.raises(DataError, match="cancel each other out"):
        gallery.search_person(rows(EAST, -EAST), model=gallery.model)
    with pytest.raises(DataError, match="expected pictures of one person"):
        gallery.search_person()
    with pytest.raises(InputError, match="without model"):
        gallery.search_person(rows(EAST))


def test_search_by_stored_ids_leaves_these_out(gallery: Gallery) -> None:
    a, b, c, d, e, f = fill(gallery)
    assert [(hit.id, hit.similarity) for hit in gallery.search_person(like=[a])] == [
        (f, 1), (b, HALF), (d, HALF), (c, 0), (e, 0)
    ]  # fmt: skip
    mixed = gallery.search_person(rows(NORTH), model=gallery.model, like=[a, f], top_k=2)
    assert ids_of(mixed)[0] in (b, d)
    assert not {a, f} & set(ids_of(mixed))
    with pytest.raises(InputError, match="no sighting 999"):
        gallery.search_person(like=[a, "999"])


def test_an_empty_gallery_answers(gallery: Gallery) -> None:
    assert gallery.search(EAST[None], model=gallery.model) == [[]]
    assert gallery.find() == []
    stats = gallery.stats()
    assert (stats.sightings, stats.first, stats.by_camera) == (0, None, {})


def test_another_models_embeddings_are_refused_with_both_names(gallery: Gallery, other_model: ModelIdentity) -> None:
    fill(gallery)
    for attempt in (
        lambda: gallery.add(EAST[None], [NewSighting()], model=other_model),
        lambda: gallery.search(EAST[None], model=other_model),
        lambda: gallery.search_person(EAST[None], model=other_model),
    ):
        with pytest.raises(DataError, match=r"nano 128x64 \(abab.*tiny 256x128 \(cdcd") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert gallery.stats().sightings == 6


@pytest.mark.parametrize(
    "vectors",
    [rows((1, 0, 0)), np.ones((1, 4), int), rows((np.nan, 0, 0, 1)), rows((0, 0, 0, 0)), np.ones(4, np.float32)],
)
def test_broken_vectors_are_refused(gallery: Gallery, vectors: npt.NDArray[Any]) -> None:
    with pytest.raises(DataError):
        gallery.add(vectors, [NewSighting()] * len(vectors), model=gallery.model)
    with pytest.raises(DataError):
        gallery.search(vectors, model=gallery.model)


def test_add_is_all_or_nothing(gallery: Gallery) -> None:
    good = (EAST[None], [NewSighting(pid=5)])
    for wrong in ((rows(EAST, NORTH), [NewSighting()]), (rows((0, 0, 0, 0)), [NewSighting()])):
        with pytest.raises(DataError):
            gallery.add_batches([good, wrong], model=gallery.model)
    with pytest.raises(DataError, match="crop of sighting 1"):
        gallery.add(rows(EAST, EAST), [NewSighting(), NewSighting(crop=b"MZ no picture")], model=gallery.model)
    assert gallery.find() == []
    assert found(gallery, EAST) == []


def test_ids_are_never_given_twice(gallery: Gallery) -> None:
    ids = fill(gallery)
    gallery.delete(SightingFilter(ids=tuple(ids)))
    again = fill(gallery)
    assert int(again[0]) > int(ids[-1])
    assert gallery.add(np.empty((0, 4), np.float32), [], model=gallery.model) == []


def test_two_handles_see_each_others_changes(
    gallery: Gallery, location: Callable[[str], str], clock: Callable[[], datetime]
) -> None:
    with Gallery.open(location("gallery"), clock=clock) as other:
        assert found(other, EAST) == []
        a, b, c, d, e, f = fill(gallery)
        assert found(other, EAST, top_k=2) == [(a, 1), (f, 1)]
        other.delete(SightingFilter(ids=(a,)))
        assert found(gallery, EAST, top_k=2) == [(f, 1), (b, HALF)]
        gallery.update([f, b], pid=77)
        assert found(other, EAST, where=SightingFilter(pids=(77,))) == [(f, 1), (b, HALF)]
        (g,) = other.add(EAST[None], [NewSighting()], model=other.model)
        gallery.delete(SightingFilter(ids=(f, c)))
        assert found(gallery, EAST, top_k=9) == found(other, EAST, top_k=9) == [(g, 1), (b, HALF), (d, HALF), (e, 0)]


def test_what_was_added_is_there_after_reopening(
    gallery: Gallery, location: Callable[[str], str], clock: Callable[[], datetime]
) -> None:
    ids = fill(gallery)
    before = found(gallery, DIAGONAL)
    gallery.close()
    with Gallery.open(location("gallery"), clock=clock) as again:
        assert found(again, DIAGONAL) == before
        assert again.model == gallery.model
        assert again.crop(ids[2]) == picture()


def test_update_changes_what_is_known(gallery: Gallery) -> None:
    a, b, *_ = fill(gallery)
    later = NOON + timedelta(days=1)
    assert gallery.update([a, b], pid=None, camid=9, time=later, source="s", path="p", facts={"n": 1}) == 2
    seen = gallery.get(a)
    assert (seen.pid, seen.camid, seen.time, seen.source, seen.path, seen.facts) == (None, 9, later, "s", "p", {"n": 1})
    assert found(gallery, EAST, where=SightingFilter(sources=("s",))) == [(a, 1), (b, HALF)]
    assert found(gallery, EAST, where=SightingFilter(pids=(1,))) == []
    np.testing.assert_array_equal(gallery.vectors([b, a]), np.stack([DIAGONAL, EAST]))


def test_update_is_all_or_nothing(gallery: Gallery) -> None:
    a, *_ = fill(gallery)
    for wrong in ({"pid": 0}, {"vector": 1}, {}, {"facts": {"x": float("nan")}}, {"time": datetime(2024, 1, 1)}):
        with pytest.raises(InputError):
            gallery.update([a], **wrong)
    with pytest.raises(InputError, match="no sighting 999"):
        gallery.update([a, "999"], pid=8)
    assert gallery.get(a).pid == 1


def test_pictures_come_back_as_they_were(gallery: Gallery) -> None:
    kinds = ("JPEG", "PNG", "WEBP")
    sightings = [NewSighting(crop=picture("blue", kind)) for kind in kinds]
    ids = gallery.add(np.stack([EAST] * 3), sightings, model=gallery.model)
    assert [gallery.crop(id) for id in ids] == [picture("blue", kind) for kind in kinds]
    (bare,) = gallery.add(EAST[None], [NewSighting()], model=gallery.model)
    assert gallery.crop(bare) is None
    assert [seen.has_crop for seen in gallery.find()] == [True, True, True, False]
    with pytest.raises(InputError, match="no sighting 999"):
        gallery.crop("999")


def test_deleting_everything_must_be_meant(gallery: Gallery) -> None:
    fill(gallery)
    with pytest.raises(InputError, match="would delete all"):
        gallery.delete(SightingFilter())
    assert gallery.stats().sightings == 6
    assert gallery.delete(SightingFilter(), everything=True) == 6
    assert gallery.stats().sightings == 0
    assert gallery.delete(SightingFilter(pids=(1,))) == 0


def test_listing_goes_on_where_it_stopped(gallery: Gallery) -> None:
    ids = fill(gallery)
    pages = []
    after = "0"
    while page := gallery.find(after=after, limit=4):
        pages.append(ids_of(page))
        after = page[-1].id
    assert pages == [ids[:4], ids[4:]]
    assert [(ids_of(seen), len(vectors), len(crops)) for seen, vectors, crops in gallery.contents(rows=5)] == [
        (ids[:5], 5, 5), (ids[5:], 1, 1)
    ]  # fmt: skip


def test_counts(gallery: Gallery) -> None:
    fill(gallery)
    stats = gallery.stats()
    assert (stats.sightings, stats.identities, stats.unidentified, stats.crops) == (6, 2, 2, 1)
    assert stats.by_camera == {-1: 1, 0: 1, 1: 2, 2: 2}
    assert stats.by_source == {"day.mp4#1": 2, "": 2, "day.mp4#2": 1, "night.mp4": 1}
    assert (stats.first, stats.last) == (NOON, NOON + timedelta(minutes=3))
    assert stats.bytes > 0
    assert stats.to_dict()["first"] == "2024-05-01T12:00:00+00:00"


@pytest.mark.parametrize(
    "asked",
    [
        {"top_k": 0}, {"top_k": 10_001}, {"top_k": True}, {"top_k": 2.5}, {"threshold": 1.5},
        {"threshold": float("nan")}, {"one_per": "camera"},
    ],
)  # fmt: skip
def test_values_out_of_range(gallery: Gallery, asked: dict[str, Any]) -> None:
    fill(gallery)
    with pytest.raises(InputError) as caught:
        gallery.search(EAST[None], model=gallery.model, **asked)
    assert next(iter(asked)) in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"pid": 0}, {"pid": -1}, {"pid": True}, {"pid": 2**63}, {"pid": "1"}, {"camid": -1}, {"camid": 1.0},
        {"time": datetime(2024, 5, 1)}, {"added": datetime(2024, 5, 1)}, {"source": "x" * 4097}, {"path": "a\0b"},
        {"path": "caf\udce9"}, {"source": 3}, {"facts": {"x": float("inf")}}, {"facts": {"x": object()}},
        {"facts": {"x": "y" * 70_000}}, {"facts": [("a")]},
    ],
)  # fmt: skip
def test_sightings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(PrsnetError) as caught:
        NewSighting(**wrong)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": ("x",)}, {"ids": ("-1",)}, {"ids": (1,)}, {"ids": ("9" * 30,)}, {"pids": 3}, {"pids": (-1,)},
        {"cameras": "12"}, {"cameras": (1.5,)}, {"since": datetime(2024, 1, 1)}, {"sources": (3,)},
        {"since": NOON, "until": NOON},
    ],
)  # fmt: skip
def test_filters_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(PrsnetError) as caught:
        SightingFilter(**wrong)
    assert "\n" not in caught.value.message

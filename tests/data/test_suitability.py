from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsnet.data.suitability import (
    Suitability,
    check_evaluation,
    check_pretraining,
    check_split,
    check_training,
    require,
)
from prsnet.errors import DataError
from prsnet.metrics.ranking import rank_report
from prsnet.types import UNKNOWN_CAMID, Dataset, Embeddings, ImageRecord


def records(*people: tuple[int | None, int | None], prefix: str = "x") -> list[ImageRecord]:
    return [ImageRecord(Path(f"{prefix}{index}.png"), pid, camid) for index, (pid, camid) in enumerate(people)]


GOOD = records((1, 1), (1, 2), (2, 1), (2, 2))


def told(findings: Sequence[Suitability]) -> list[tuple[str, str]]:
    return [(finding.severity, finding.message) for finding in findings]


def test_good_sets_have_no_findings() -> None:
    assert check_training(GOOD, instances=2) == ()
    assert check_evaluation(GOOD, GOOD) == ()
    assert check_pretraining(GOOD, batch_size=4) == ()
    assert check_split(Dataset("set", tuple(GOOD), tuple(records((3, 1), prefix="q")))) == ()
    assert require(()) == []


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([], ("fatal", "training: no images")),
        ([(1, 1), (1, 2)], ("fatal", "training: one identity only: 1")),
        ([(1, 1), (2, 2)], ("fatal", "training: none of 2 identities has a second image: 1, 2")),
        (
            [(1, 1), (1, 2), (2, 1), (2, 2), (None, 1), (0, 1), (-1, 1)],
            ("fatal", "training: 3 of 7 images have no identity (pid > 0): x4.png, x5.png, x6.png"),
        ),
        ([(1, 1), (1, 2), (7, 1), (9, 1)], ("warning", "training: 2 of 3 identities have one image only: 7, 9")),
        ([(1, 4), (1, 4), (2, 4), (2, 4)], ("warning", "training: all 4 images come from one camera, 4")),
    ],
)
def test_training(people: list[tuple[int | None, int | None]], expected: tuple[str, str]) -> None:
    assert told(check_training(records(*people))) == [expected]


def test_training_with_fewer_images_than_instances() -> None:
    (finding,) = check_training(records((1, 1), (1, 2), (1, 2), (2, 1), (2, 2)), instances=3)
    assert (finding.severity, finding.pids) == ("warning", (2,))
    assert finding.message == "training: 1 of 2 identities have fewer than 3 images: 2"


def test_repeated_images() -> None:
    twice = [*GOOD, GOOD[0]]
    expected = ("warning", "training: 1 of 5 images are listed more than once: x0.png")
    assert told(check_training(twice)) == [expected]
    assert [finding.message[:12] for finding in check_pretraining(twice)] == ["pre-training"]


def test_long_lists_are_cut_short_but_kept_whole_for_programs() -> None:
    people: list[tuple[int | None, int | None]] = [(1, 1), (1, 2), *((pid, 1) for pid in range(2, 32))]
    (finding,) = check_training(records(*people))
    assert finding.message.endswith("only: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 20 more")
    assert finding.pids == tuple(range(2, 32))


def test_pretraining() -> None:
    assert told(check_pretraining([])) == [("fatal", "pre-training: no images")]
    expected = ("warning", "pre-training: 4 images are fewer than one batch of 16")
    assert told(check_pretraining(GOOD, batch_size=16)) == [expected]


QUERY = records((1, 1), (2, 1), prefix="q")


@pytest.mark.parametrize(
    ("query", "gallery", "expected"),
    [
        ([], [], ("fatal", "evaluation: no query and gallery images")),
        (QUERY, [], ("fatal", "evaluation: no gallery images")),
        (QUERY, records((3, 1), (4, 2)), ("fatal", "evaluation: none of 2 queries has a match among the 2 people of")),
        (
            QUERY,
            records((1, 1), (2, 1)),
            ("fatal", "evaluation: all images come from one camera, 1, so no query has a"),
        ),
        (
            QUERY,
            records((1, 1), (3, 2)),
            ("fatal", "evaluation: none of 2 queries has a match, 1 lack their identity in the gallery, 1 have it in"),
        ),
        (
            QUERY,
            records((1, 2), (9, 1)),
            ("warning", "evaluation: 1 of 2 queries are not counted, no other image of their"),
        ),
        (
            QUERY,
            records((1, 2), (2, 1)),
            ("warning", "evaluation: 1 of 2 queries are not counted, their identity is only"),
        ),
        (
            [*QUERY, *records((0, 1), prefix="n")],
            records((1, 2), (2, 2)),
            ("fatal", "evaluation: 1 of 3 queries have no identity"),
        ),
        (
            QUERY,
            records((1, 2), (2, 2), (3, None), (0, None)),
            ("fatal", "evaluation: the camera is unknown of 1 of 5 images of people"),
        ),
        (
            records((1, None), prefix="q"),
            records((1, None), (2, None)),
            ("warning", "evaluation: no camera is known, so matches within a camera count"),
        ),
    ],
)
def test_evaluation(query: list[ImageRecord], gallery: list[ImageRecord], expected: tuple[str, str]) -> None:
    (finding,) = check_evaluation(query, gallery)
    assert finding.severity == expected[0]
    assert finding.message.startswith(expected[1])


def test_evaluation_without_the_filter_needs_no_cameras() -> None:
    assert check_evaluation(QUERY, records((1, 1), (2, 1)), camera_filter=False) == ()
    assert check_evaluation(GOOD, GOOD, camera_filter=False) == ()


def test_a_query_is_not_its_own_match() -> None:
    lonely = records((1, None), (2, None), (2, None))
    (finding,) = check_evaluation(lonely, lonely, camera_filter=False)
    assert (finding.severity, finding.pids) == ("warning", (1,))


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 2)), min_size=1, max_size=8),
    st.booleans(),
)
def test_matches_are_judged_as_by_brute_force(
    query: list[tuple[int, int]], gallery: list[tuple[int, int]], camera_filter: bool
) -> None:
    matched = [
        any(pid == other and not (camera_filter and camera == seen) for other, seen in gallery) for pid, camera in query
    ]
    findings = check_evaluation(records(*query, prefix="q"), records(*gallery), camera_filter=camera_filter)
    assert any(finding.severity == "fatal" for finding in findings) == (not any(matched))
    named = {pid for finding in findings for pid in finding.pids}
    assert named == {pid for (pid, _), found in zip(query, matched, strict=True) if not found}


def test_split_leaks() -> None:
    dataset = Dataset("set", tuple(GOOD), query=tuple(GOOD[:1]), gallery=tuple(records((2, 1), prefix="g")))
    assert told(check_split(dataset)) == [
        ("fatal", "set: 1 images are in training and in the test: x0.png"),
        ("warning", "set: 2 identities are in training and in the test: 1, 2"),
    ]


def test_require_raises_all_fatal_findings_and_returns_the_warnings() -> None:
    findings = (
        Suitability("fatal", "a", "do this"),
        Suitability("warning", "b", "mind that"),
        Suitability("fatal", "c", "do this"),
    )
    with pytest.raises(DataError) as caught:
        require(findings)
    assert (caught.value.message, caught.value.hint) == ("a; c", "do this")
    assert require(findings[1:2]) == ["b (mind that)"]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1, 2])), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(-1, 3), st.sampled_from([1, 2])), min_size=1, max_size=6),
    st.integers(0, 6),
    st.booleans(),
    st.booleans(),
)
def test_agrees_with_the_ranking_report_on_what_is_counted(
    query: list[tuple[int, int]], gallery: list[tuple[int, int]], shared: int, known: bool, camera_filter: bool
) -> None:
    def part(people: list[tuple[int, int]], prefix: str) -> list[ImageRecord]:
        return records(*((pid, camid if known else None) for pid, camid in people), prefix=prefix)

    queries = part(query, "q")
    both = [*part(gallery, "g"), *queries[:shared]]
    findings = check_evaluation(queries, both, camera_filter=camera_filter)
    fatal = any(finding.severity == "fatal" for finding in findings)
    sides = [
        Embeddings(
            np.ones((len(side), 2), np.float32),
            np.array([r.pid for r in side]),
            np.array([UNKNOWN_CAMID if r.camid is None else r.camid for r in side]),
            tuple(str(r.path) for r in side),
        )
        for side in (queries, both)
    ]
    try:
        skipped = rank_report(sides[0], sides[1], exclude_same_camera=camera_filter).skipped
    except DataError:
        assert fatal
        return
    assert not fatal
    # The counts stand at the head of each warning: "evaluation: N of M queries are not counted".
    told_counts = [int(f.message.split()[1]) for f in findings if "not counted" in f.message]
    assert sum(told_counts) == sum(skipped.values())

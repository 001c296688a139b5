"""Which identities train, which are searched for: splits by identity, pure and decided by a seed alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prsnet.errors import DataError
from prsnet.rng import numpy_stream
from prsnet.types import Dataset, ImageRecord

Records = tuple[ImageRecord, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """The records of a dataset by the part they play, and the facts that the split adds."""

    train: Records = ()
    query: Records = ()
    gallery: Records = ()
    facts: dict[str, Any] = field(default_factory=dict)


def by_identity(records: Iterable[ImageRecord]) -> dict[int, list[ImageRecord]]:
    """Return the records of each identity (pid > 0), identities in rising order, records in theirs."""
    groups: dict[int, list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.pid is not None and record.pid > 0:
            groups[record.pid].append(record)
    return {pid: groups[pid] for pid in sorted(groups)}


def shuffled_identities(pids: Iterable[int], *, seed: int, purpose: str) -> list[int]:
    """Return the distinct ``pids`` in an order that depends on them, the seed and the purpose only."""
    ordered = sorted(set(pids))
    return [ordered[i] for i in numpy_stream(seed, purpose).permutation(len(ordered))]


def query_and_gallery(records: Sequence[ImageRecord], *, seed: int) -> tuple[Records, Records, str]:
    """Divide labelled test records into queries and gallery; return both and the rule, in words.

    With two cameras or more, every image is a query and is in the gallery: the protocol leaves out a query's own
    identity in its own camera, and so the image itself; camera 1 queries camera 2 and back. With one camera, or none
    known, half of each identity's images (rounded down), drawn by the seed, are queries and the others gallery.

    Raises:
        DataError: cameras are known for some of the images only.
    """
    unknown = sum(record.camid is None for record in records)
    if 0 < unknown < len(records):
        hint = "give every image a camera, or none"
        raise DataError(f"{unknown} of {len(records)} test images have no camera, the others have one", hint=hint)
    if len({record.camid for record in records}) > 1:
        rule = "every test image is query and gallery; a query's own identity in its own camera is left out"
        return tuple(records), tuple(records), rule
    queries: set[int] = set()
    for pid, images in by_identity(records).items():
        order = numpy_stream(seed, "query-images", pid).permutation(len(images))
        queries.update(id(images[i]) for i in order[: len(images) // 2])
    query = tuple(record for record in records if id(record) in queries)
    gallery = tuple(record for record in records if id(record) not in queries)
    return query, gallery, "half of each test identity's images are queries, the others are the gallery"


def halves_by_identity(records: Sequence[ImageRecord], *, seed: int) -> Parts:
    """Split labelled records in two halves by identity: one trains (the larger, if odd), the other is the test set.

    Raises:
        DataError: fewer than two identities.
    """
    order = shuffled_identities(by_identity(records), seed=seed, purpose="identity-halves")
    if len(order) < 2:
        raise DataError(
            f"{len(order)} identity in {len(records)} images, expected at least 2 to split into train and test",
            hint="point at the folder that holds all identities, or add people",
        )
    trained = set(order[: (len(order) + 1) // 2])
    test = [record for record in records if record.pid not in trained]
    query, gallery, rule = query_and_gallery(test, seed=seed)
    facts = {"split": f"identities in two halves by the seed, train {len(trained)}; {rule}", "split_seed": seed}
    return Parts(tuple(record for record in records if record.pid in trained), query, gallery, facts)


def hold_out(
    dataset: Dataset, *, seed: int, fraction: float = 0.1, count: int | None = None
) -> tuple[Records, Dataset]:
    """Take whole identities out of the training set, to choose the best checkpoint on (docs/method.md).

    Only identities that can be searched for are taken: seen by two cameras or more; where no camera is known (or all
    images come from one), with two images or more. At least two identities are taken and at least two left.

    Args:
        dataset: its ``train`` records are divided; the other parts are not looked at.
        seed: decides which identities.
        fraction: share of the training identities, 0..1 exclusive, rounded; not read when ``count`` is given.
        count: number of identities instead.

    Returns:
        The records left for training, and a dataset of the held-out identities with queries and gallery divided as by
        :func:`query_and_gallery` and no training part. No identity is in both.

    Raises:
        DataError: the fraction or count is out of range, or too few identities can be searched for.
    """
    groups = by_identity(dataset.train)
    wanted = _held_out_count(len(groups), fraction, count, dataset.name)
    cross_camera = len({record.camid for record in dataset.train}) > 1
    eligible = [pid for pid, images in groups.items() if _searchable(images, cross_camera)]
    if wanted > len(eligible):
        what = "seen by two cameras" if cross_camera else "with two images"
        raise DataError(
            f"{dataset.name}: {wanted} identities to hold out, but only {len(eligible)} of {len(groups)} are {what}",
            hint="hold out fewer",
        )
    chosen = set(shuffled_identities(eligible, seed=seed, purpose="hold-out")[:wanted])
    left = tuple(record for record in dataset.train if record.pid not in chosen)
    query, gallery, rule = query_and_gallery([r for r in dataset.train if r.pid in chosen], seed=seed)
    facts = {
        "split": f"{wanted} of {len(groups)} training identities held out by the seed; {rule}",
        "split_seed": seed,
        "held_out_of": dataset.name,
        "pids": sorted(chosen),
        "counts": {"query_images": len(query), "gallery_images": len(gallery), "gallery_identities": wanted},
    }
    return left, Dataset(f"{dataset.name}-held-out", query=query, gallery=gallery, facts=facts)


def _held_out_count(identities: int, fraction: float, count: int | None, name: str) -> int:
    if count is None:
        if not 0 < fraction < 1:
            raise DataError(f"{name}: hold-out fraction {fraction}, expected between 0 and 1", hint="e.g. 0.1")
        count = max(2, round(fraction * identities))
    if count < 2 or identities - count < 2:
        raise DataError(
            f"{name}: cannot hold out {count} of {identities} training identities: at least 2 must go and 2 must stay",
            hint="use more identities, or train without held-out ones",
        )
    return count


def _searchable(images: Sequence[ImageRecord], cross_camera: bool) -> bool:
    if not cross_camera:
        return len(images) >= 2
    cameras = {record.camid for record in images}
    return None not in cameras and len(cameras) >= 2

"""Several datasets as one training set: everybody keeps an identity and a camera of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prsnet.data.manifest import listed_images, portable, read_manifest, write_manifest
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord

FORMAT = "prsnet-combination"
MADE_BY = "prsnet data combine"


def combine_training(datasets: Sequence[Dataset]) -> tuple[tuple[ImageRecord, ...], list[dict[str, Any]]]:
    """Return the training records of all datasets, renumbered, and where each one's numbers begin.

    People and cameras of a dataset follow those of the datasets before it: pid 7 of a dataset whose ``pids_after`` is
    751 becomes 758. Unknown cameras stay unknown. Query and gallery are left out: benchmarks are measured one by one.

    Raises:
        DataError: a dataset without labelled training images, or one image in two of them.
    """
    records: list[ImageRecord] = []
    sources: list[dict[str, Any]] = []
    owner: dict[Path, int] = {}
    pids = camids = 0
    for number, dataset in enumerate(datasets):
        own = dataset.train
        if not own or any(record.pid is None or record.pid <= 0 for record in own):
            raise DataError(f"{dataset.name}: no labelled training images", hint="give datasets with identities")
        for record in own:
            before = owner.setdefault(record.path, number)
            if before != number:
                both = f"{datasets[before].name} and in {dataset.name}"
                raise DataError(f"{record.path}: in {both}", hint="give every image once")
            camid = None if record.camid is None else record.camid + camids
            records.append(ImageRecord(record.path, (record.pid or 0) + pids, camid))
        sources.append(_source(dataset, pids, camids))
        pids = max(record.pid or 0 for record in records)
        camids = max([camids, *(record.camid + 1 for record in records if record.camid is not None)])
    return tuple(records), sources


def _source(dataset: Dataset, pids: int, camids: int) -> dict[str, Any]:
    known = ("layout", "root", "variant", "edition", "split_seed", "note")
    return {
        "name": dataset.name,
        **{key: dataset.facts[key] for key in known if key in dataset.facts},
        "train_images": len(dataset.train),
        "train_identities": len({record.pid for record in dataset.train}),
        "pids_after": pids,
        "camids_from": camids,
    }


def write_combination(datasets: Sequence[Dataset], file: str | Path) -> list[dict[str, Any]]:
    """Write the combination of the training parts as a manifest, atomically; return the facts of its sources.

    Raises:
        DataError: as :func:`combine_training`.
    """
    target = Path(file)
    records, sources = combine_training(datasets)
    rows = [[portable(record.path, target.parent), record.pid, record.camid] for record in records]
    write_manifest(target, FORMAT, {"sources": sources}, {"train": rows})
    return sources


def read_combination(file: Path) -> tuple[tuple[ImageRecord, ...], list[dict[str, Any]]]:
    """Return the records and the facts of the sources of a combination.

    Raises:
        DataError: not such a manifest, a damaged one, or images that are gone.
    """
    content = read_manifest(file, FORMAT, MADE_BY)
    try:
        rows = [(str(name), int(pid), None if camid is None else int(camid)) for name, pid, camid in content["train"]]
        sources = [dict(source) for source in content["sources"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: a damaged combination", hint=f"make it again by `{MADE_BY}`") from error
    images = listed_images(file, [name for name, _, _ in rows], MADE_BY)
    records = tuple(ImageRecord(image, pid, camid) for image, (_, pid, camid) in zip(images, rows, strict=True))
    return records, sources

"""What a set of records can serve for, judged before anything expensive starts, with counts and identities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prsnet.data.splits import by_identity
from prsnet.errors import DataError
from prsnet.types import Dataset, ImageRecord

Severity = Literal["fatal", "warning"]
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Suitability:
    """One finding about a set of records.

    Attributes:
        severity: ``"fatal"`` when the purpose cannot be served at all, ``"warning"`` when it can, with a loss.
        message: one line with the counts and the first identities or files.
        hint: what to do about it.
        pids: all identities concerned, rising; empty where it is not about identities.
    """

    severity: Severity
    message: str
    hint: str = ""
    pids: tuple[int, ...] = ()


Findings = tuple[Suitability, ...]


def require(findings: Iterable[Suitability]) -> list[str]:
    """Return the warnings as lines; raise when a finding is fatal.

    Raises:
        DataError: all fatal findings in one line.
    """
    findings = list(findings)
    fatal = [finding for finding in findings if finding.severity == "fatal"]
    if fatal:
        message = "; ".join(finding.message for finding in fatal)
        raise DataError(message, hint="; ".join(dict.fromkeys(f.hint for f in fatal if f.hint)))
    return [f"{finding.message} ({finding.hint})" if finding.hint else finding.message for finding in findings]


def _list(items: Sequence[object]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(str(item) for item in items[:_SHOWN]) + more


def _about(severity: Severity, pids: Iterable[int], message: str, hint: str) -> Suitability:
    concerned = tuple(sorted(set(pids)))
    return Suitability(severity, f"{message}: {_list(concerned)}", hint, concerned)


def _repeated(records: Sequence[ImageRecord], where: str) -> Findings:
    twice = [path for path, count in Counter(record.path for record in records).items() if count > 1]
    if not twice:
        return ()
    message = f"{where}: {len(twice)} of {len(records)} images are listed more than once: {_list(twice)}"
    return (Suitability("warning", message, "list every image once"),)


def check_pretraining(records: Sequence[ImageRecord], *, batch_size: int = 1) -> Findings:
    """Return what speaks against masked pre-training on ``records``; labels are not looked at.

    Fatal: no image. Warnings: fewer images than one batch; images listed twice.
    """
    if not records:
        return (Suitability("fatal", "pre-training: no images", "give a folder with images in or below it"),)
    findings: Findings = ()
    if len(records) < batch_size:
        message = f"pre-training: {len(records)} images are fewer than one batch of {batch_size}"
        findings = (Suitability("warning", message, "lower the batch size or add images"),)
    return findings + _repeated(records, "pre-training")


def check_training(records: Sequence[ImageRecord], *, instances: int = 1) -> Findings:
    """Return what speaks against training for re-identification on ``records``.

    Fatal: no image; images without identity, junk or distractors; one identity only; no identity with two images.
    Warnings: identities with one image, or with fewer than ``instances`` (K of the P x K batch, whose other places are
    padded); one camera only; images listed twice.
    """
    if not records:
        return (Suitability("fatal", "training: no images", "give a dataset with a training part"),)
    unusable = [record.path for record in records if record.pid is None or record.pid <= 0]
    groups = by_identity(records)
    findings: list[Suitability] = []
    if unusable:
        message = f"training: {len(unusable)} of {len(records)} images have no identity (pid > 0): {_list(unusable)}"
        findings.append(Suitability("fatal", message, "label them, or use them for pre-training"))
    if len(groups) == 1:
        findings.append(_about("fatal", groups, "training: one identity only", "at least 2 people are needed"))
    findings += _few_images(groups, instances)
    cameras = {record.camid for record in records}
    if len(cameras) == 1 and cameras != {None}:
        message = f"training: all {len(records)} images come from one camera, {cameras.pop()}"
        findings.append(Suitability("warning", message, "what is learnt may not hold across cameras"))
    return (*findings, *_repeated(records, "training"))


def _few_images(groups: dict[int, list[ImageRecord]], instances: int) -> Iterable[Suitability]:
    single = [pid for pid, images in groups.items() if len(images) == 1]
    short = [pid for pid, images in groups.items() if 1 < len(images) < instances]
    if single and len(single) == len(groups):
        message = f"training: none of {len(groups)} identities has a second image"
        yield _about("fatal", single, message, "triplets need at least 2 images of a person")
    elif single:
        message = f"training: {len(single)} of {len(groups)} identities have one image only"
        yield _about("warning", single, message, "they serve as negatives, never as positives")
    if short:
        message = f"training: {len(short)} of {len(groups)} identities have fewer than {instances} images"
        yield _about("warning", short, message, "their places in a batch are padded")


def check_evaluation(
    query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], *, camera_filter: bool = True
) -> Findings:
    """Return what speaks against evaluating ``query`` against ``gallery`` by the protocol of docs/method.md.

    Fatal: no query or no gallery image; queries without identity; cameras known of some images only; no query with a
    match. Warnings: queries without a match, which are not counted; no cameras at all, where the filter wants them;
    images listed twice. A query that is in the gallery, too, is not its own match.

    Args:
        query: images to search with.
        gallery: images to search in, junk and distractors included.
        camera_filter: whether a query's own identity in its own camera is left out, where cameras are known.
    """
    if not query or not gallery:
        missing = " and ".join(name for name, part in (("query", query), ("gallery", gallery)) if not part)
        return (Suitability("fatal", f"evaluation: no {missing} images", "give a dataset with both parts"),)
    nameless = [record.path for record in query if record.pid is None or record.pid <= 0]
    findings: list[Suitability] = []
    if nameless:
        message = f"evaluation: {len(nameless)} of {len(query)} queries have no identity (pid > 0): {_list(nameless)}"
        findings.append(Suitability("fatal", message, "label them or leave them out"))
    findings += _unknown_cameras([*_people(query), *_people(gallery)], camera_filter)
    findings += _unmatched(_people(query), _people(gallery), camera_filter)
    return (*findings, *_repeated(query, "query"), *_repeated(gallery, "gallery"))


def _people(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    return [record for record in records if record.pid is not None and record.pid > 0]


def _unknown_cameras(records: Sequence[ImageRecord], camera_filter: bool) -> Iterable[Suitability]:
    unknown = sum(record.camid is None for record in records)
    if 0 < unknown < len(records):
        message = f"evaluation: the camera is unknown of {unknown} of {len(records)} images of people"
        yield Suitability("fatal", message, "give all cameras or none")
    elif unknown and camera_filter:
        message = "evaluation: no camera is known, so matches within a camera count"
        yield Suitability("warning", message, "such figures flatter, compare them only among themselves")


def _unmatched(
    query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], camera_filter: bool
) -> Iterable[Suitability]:
    images = by_identity(gallery)
    absent: list[int] = []
    hidden: list[int] = []
    for record in query:
        others = [other.camid for other in images.get(record.pid or 0, ()) if other.path != record.path]
        kept = [camid for camid in others if not camera_filter or camid is None or camid != record.camid]
        if not kept:
            (hidden if others else absent).append(record.pid or 0)
    if query and len(absent) + len(hidden) == len(query):
        yield _no_match(query, gallery, absent, hidden)
        return
    if absent:
        message = f"evaluation: {len(absent)} of {len(query)} queries are not counted, no other image of their identity"
        yield _about("warning", absent, f"{message} is in the gallery", "add gallery images of these people")
    if hidden:
        message = f"evaluation: {len(hidden)} of {len(query)} queries are not counted, their identity is only in the"
        yield _about("warning", hidden, f"{message} query's own camera", "add images from other cameras")


def _no_match(
    query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], absent: list[int], hidden: list[int]
) -> Suitability:
    one_camera = {record.camid for record in (*query, *gallery)}
    if not hidden:
        people = len(by_identity(gallery))
        message = f"evaluation: none of {len(absent)} queries has a match among the {people} people of the gallery"
        return _about("fatal", absent, message, "query and gallery must show the same people")
    if len(one_camera) == 1:
        message = f"evaluation: all images come from one camera, {one_camera.pop()}, so no query has a match left"
        return _about("fatal", absent + hidden, message, "evaluate without the camera filter, or add a second camera")
    message = (
        f"evaluation: none of {len(query)} queries has a match, {len(absent)} lack their identity in the gallery, "
        f"{len(hidden)} have it in their own camera only"
    )
    return _about("fatal", absent + hidden, message, "add images of these people from other cameras")


def check_split(dataset: Dataset) -> Findings:
    """Return what leaks from training into the test of one dataset.

    Fatal: the same image in training and in query or gallery. Warning: the same identity in both.
    """
    test = [*dataset.query, *dataset.gallery]
    findings: list[Suitability] = []
    paths: set[Path] = {record.path for record in dataset.train} & {record.path for record in test}
    if paths:
        message = f"{dataset.name}: {len(paths)} images are in training and in the test: {_list(sorted(paths))}"
        findings.append(Suitability("fatal", message, "list every image in one split only"))
    shared = by_identity(dataset.train).keys() & by_identity(test).keys()
    if shared:
        message = f"{dataset.name}: {len(shared)} identities are in training and in the test"
        findings.append(_about("warning", shared, message, "the figures do not speak of unseen people"))
    return tuple(findings)

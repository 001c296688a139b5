"""The data doctor: one report on a dataset, and a verdict for each use that it offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prsnet.data.check_findings import (
    USES,
    Finding,
    Places,
    Use,
    duplicate_findings,
    files_of,
    image_findings,
    label_findings,
    people_by_camera,
    shared_people,
)
from prsnet.data.scan import ImageScan
from prsnet.data.suitability import Findings, check_evaluation, check_pretraining, check_split, check_training
from prsnet.types import Dataset

Verdict = Literal["usable", "usable, with warnings", "not usable", "not offered"]
LEAST_SIZE = (32, 16)
"""Height and width below which a pedestrian is called too small."""


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What the doctor has to say.

    Attributes:
        dataset: what was looked at.
        scan: what was seen of its distinct files, in the order of train, query, gallery.
        findings: the fatal ones first, then warnings, then notes.
        verdicts: each use -> what it comes to.
    """

    dataset: Dataset
    scan: ImageScan
    findings: tuple[Finding, ...]
    verdicts: Mapping[Use, Verdict]

    def passes(self, use: Use | None = None) -> bool:
        """Return whether ``use`` is served; without one, whether every use that is offered is, and there is one."""
        if use is not None:
            return self.verdicts[use].startswith("usable")
        offered = [verdict for verdict in self.verdicts.values() if verdict != "not offered"]
        return bool(offered) and "not usable" not in offered

    def to_dict(self) -> dict[str, Any]:
        """Return what ``json.dump`` can write.

        Returns:
            ``name``, ``facts`` (the dataset's own: layout, counts, published, ...), ``verdicts``, ``findings``,
            ``images`` (number and quantiles of height, width, brightness, contrast), ``cameras`` and
            ``people_by_camera`` (pid -> camid -> images), ``shared_people`` (cameras x cameras).
        """
        table = people_by_camera((*self.dataset.train, *self.dataset.query, *self.dataset.gallery))
        cameras, shared = shared_people(table)
        return {
            "name": self.dataset.name,
            "facts": dict(self.dataset.facts),
            "verdicts": dict(self.verdicts),
            "findings": [finding.to_dict() for finding in self.findings],
            "images": image_quantiles(self.scan),
            "cameras": cameras,
            "shared_people": shared,
            "people_by_camera": {str(pid): {str(c): n for c, n in row.items()} for pid, row in table.items()},
        }


def check_dataset(
    dataset: Dataset, scan: ImageScan, *, least_size: tuple[int, int] = LEAST_SIZE, near: bool = True
) -> DataCheck:
    """Judge a dataset.

    Args:
        dataset: the records.
        scan: of exactly ``files_of(dataset)``.
        least_size: height and width below which an image is too small.
        near: also look for near-duplicates.

    Raises:
        ValueError: the scan is of other files.
    """
    files = files_of(dataset)
    if list(scan.paths) != files:
        raise ValueError(f"scan of {len(scan)} images, expected the {len(files)} files of {dataset.name}")
    places = Places(dataset, files)
    offered = _offered(dataset, places)
    findings = [
        *_suitability(dataset, offered),
        *image_findings(places, scan, least_size=least_size),
        *duplicate_findings(places, scan, near=near),
        *label_findings(dataset),
    ]
    order = {"fatal": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: order[finding.severity])
    return DataCheck(dataset, scan, tuple(findings), {use: _verdict(use, offered, findings) for use in USES})


def _offered(dataset: Dataset, places: Places) -> set[Use]:
    offered = {
        "pre-training": bool(dataset.train),
        "training": places.labelled,
        "evaluation": bool(dataset.query or dataset.gallery),
    }
    return {use for use in USES if offered[use]}


def _suitability(dataset: Dataset, offered: set[Use]) -> Iterator[Finding]:
    """Yield what the checks before training and evaluation say, as findings."""
    checks: dict[Use, Findings] = {}
    if "pre-training" in offered:
        checks["pre-training"] = check_pretraining(dataset.train)
    if "training" in offered:
        checks["training"] = check_training(dataset.train)
    if "evaluation" in offered:
        checks["evaluation"] = (*check_evaluation(dataset.query, dataset.gallery), *check_split(dataset))
    for use, found in checks.items():
        for one in found:
            message = one.message.removeprefix(f"{use}: ")
            yield Finding(one.severity, "labels", (use,), message, one.hint, one.pids)


def _verdict(use: Use, offered: set[Use], findings: list[Finding]) -> Verdict:
    if use not in offered:
        return "not offered"
    severities = {finding.severity for finding in findings if use in finding.uses}
    if "fatal" in severities:
        return "not usable"
    return "usable, with warnings" if "warning" in severities else "usable"


def image_quantiles(scan: ImageScan) -> dict[str, Any]:
    """Return the number of images and the 0, 5, 50, 95 and 100 % quantiles of what was measured of readable ones."""
    measured: dict[str, npt.NDArray[Any]] = {
        "height": scan.heights,
        "width": scan.widths,
        "brightness": scan.brightness,
        "contrast": scan.contrast,
    }
    quantiles = [0, 5, 50, 95, 100]
    good = scan.readable
    summary: dict[str, Any] = {"count": len(scan), "readable": int(good.sum()), "quantiles": quantiles}
    if good.any():
        for name, values in measured.items():
            summary[name] = [round(float(v), 1) for v in np.percentile(values[good], quantiles)]
    return summary

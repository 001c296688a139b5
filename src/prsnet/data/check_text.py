"""A data check as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from prsnet.data.check import DataCheck, image_quantiles
from prsnet.data.check_findings import Finding, people_by_camera, shared_people
from prsnet.types import DISTRACTOR_PID, JUNK_PID, ImageRecord

_WIDTH = 118
_MOST_CAMERAS = 12


def check_text(check: DataCheck) -> str:
    """Return the report: what it is, counts, images, cameras, findings, verdicts."""
    blocks = [_head(check), _counts(check), _images(check), _cameras(check), _findings(check), _verdicts(check)]
    return "\n\n".join("\n".join(block) for block in (list(lines) for lines in blocks) if block) + "\n"


def _head(check: DataCheck) -> Iterator[str]:
    facts = check.dataset.facts
    yield f"{check.dataset.name}: {facts.get('layout', 'unknown')} layout at {facts.get('root', '?')}"
    for name in ("split", "split_seed", "note", "citation"):
        if name in facts:
            yield from _wrapped(f"  {name.replace('_', ' ')}: {facts[name]}")


def _counts(check: DataCheck) -> Iterator[str]:
    dataset = check.dataset
    parts = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    everything = {record.path: record for records in parts.values() for record in records}
    yield f"{'':<10}{'images':>9}{'identities':>12}{'cameras':>9}{'per identity':>14}{'distractors':>13}{'junk':>6}"
    for name, records in {**parts, "all": tuple(everything.values())}.items():
        yield _count_row(name, records)
    published = dataset.facts.get("published")
    if published:
        yield f"{'published':<10}" + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in published.items())


def _count_row(name: str, records: tuple[ImageRecord, ...]) -> str:
    people = [record.pid for record in records if record.pid is not None and record.pid > 0]
    identities, cameras = len(set(people)), len({r.camid for r in records if r.camid is not None})
    odd = [sum(record.pid == pid for record in records) for pid in (DISTRACTOR_PID, JUNK_PID)]
    each = f"{len(people) / identities:.1f}" if identities else "-"
    return f"{name:<10}{len(records):>9}{identities:>12}{cameras:>9}{each:>14}{odd[0]:>13}{odd[1]:>6}"


def _images(check: DataCheck) -> Iterator[str]:
    summary = image_quantiles(check.scan)
    yield f"{'images':<10}" + "".join(f"{name:>9}" for name in ("smallest", "5%", "median", "95%", "largest"))
    for name in ("height", "width", "brightness", "contrast"):
        if name in summary:
            yield f"{name:<10}" + "".join(f"{value:>9g}" for value in summary[name])


def _cameras(check: DataCheck) -> Iterator[str]:
    dataset = check.dataset
    cameras, shared = shared_people(people_by_camera((*dataset.train, *dataset.query, *dataset.gallery)))
    if not cameras:
        return
    if len(cameras) > _MOST_CAMERAS:
        yield f"people seen by both of two cameras: {len(cameras)} cameras, see the JSON or the page"
        return
    yield f"{'people seen by both cameras':<28}" + "".join(f"{camid:>6}" for camid in cameras)
    for camid, row in zip(cameras, shared, strict=True):
        yield f"{f'camera {camid}':>28}" + "".join(f"{count:>6}" for count in row)


def _findings(check: DataCheck) -> Iterator[str]:
    if not check.findings:
        yield "findings: none"
    for finding in check.findings:
        yield from _finding(finding)


def _finding(finding: Finding) -> Iterator[str]:
    about = ", ".join(finding.uses) or "all"
    yield from _wrapped(f"{finding.severity.upper():<8}{finding.kind} [{about}]: {finding.message}", hang=8)
    if finding.hint:
        yield from _wrapped(f"        -> {finding.hint}", hang=11)


def _verdicts(check: DataCheck) -> Iterator[str]:
    yield "verdict"
    for use, verdict in check.verdicts.items():
        yield f"  {use:<14}{verdict}"


def _wrapped(text: str, *, hang: int = 4) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)

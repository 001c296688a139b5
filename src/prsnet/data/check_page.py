"""A data check as one HTML page that needs nothing beside it: tables, histograms, and the images in question."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from prsnet.data.check import DataCheck
from prsnet.data.check_findings import Finding, people_by_camera, shared_people
from prsnet.data.check_text import check_text
from prsnet.data.images import read_image
from prsnet.errors import DataError
from prsnet.types import ImageRecord

THUMBNAIL_HEIGHT = 112
_MOST_IMAGES, _MOST_PEOPLE, _MOST_CAMERAS = 36, 10, 12
_BINS = 30
# No request leaves the page, whatever a file name in it says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse}td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #eee}
th:first-child,td:first-child{text-align:left}pre{background:#f6f6f6;padding:1rem;overflow-x:auto;font-size:12.5px}
.sheet{display:flex;flex-wrap:wrap;gap:.5rem}figure{margin:0;text-align:center;font-size:11px;max-width:9rem}
figure img{display:block;margin:0 auto}figcaption{overflow-wrap:anywhere}
.group{display:flex;gap:.2rem;padding:.3rem;border:1px solid #ccc;border-radius:4px}
.fatal{border-left:5px solid #cc3311;padding-left:.8rem}.warning{border-left:5px solid #d55e00;padding-left:.8rem}
.note{border-left:5px solid #0072b2;padding-left:.8rem}.charts{display:flex;flex-wrap:wrap;gap:1.5rem}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}td,th{border-color:#333}}
"""


def check_page(check: DataCheck) -> str:
    """Return the page as HTML; all images are inline, at most a few dozen per finding."""
    title = escape(f"Data check: {check.dataset.name}")
    body = [
        f"<h1>{title}</h1>",
        _verdict_table(check),
        "<h2>Findings</h2>",
        *(_finding(finding) for finding in check.findings),
        *([] if check.findings else ["<p>None.</p>"]),
        "<h2>Samples</h2>",
        _samples(check),
        "<h2>Distributions</h2>",
        f'<div class="charts">{"".join(_charts(check))}</div>',
        "<h2>As text</h2>",
        f"<pre>{escape(check_text(check))}</pre>",
    ]
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head = f'<meta charset="utf-8">{policy}<meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>\n' + (
        "\n".join(body) + "\n</body></html>\n"
    )


def _verdict_table(check: DataCheck) -> str:
    rows = "".join(f"<tr><td>{escape(use)}</td><td>{escape(word)}</td></tr>" for use, word in check.verdicts.items())
    return f"<table><tr><th>use</th><th>verdict</th></tr>{rows}</table>"


def _finding(finding: Finding) -> str:
    uses = ", ".join(finding.uses)
    text = f"<p><b>{escape(finding.kind)}</b> ({finding.severity}; {escape(uses)}): {escape(finding.message)}"
    hint = f"<br>&rarr; {escape(finding.hint)}" if finding.hint else ""
    return f'<div class="{finding.severity}">{text}{hint}</p>{_sheet(finding.groups)}</div>'


def _sheet(groups: Sequence[Sequence[Path]]) -> str:
    """Return the images of the first groups; those of one group are framed together."""
    shown, count = [], 0
    for group in groups:
        if count >= _MOST_IMAGES:
            break
        figures = "".join(_figure(path, path.name) for path in group[:6])
        shown.append(f'<div class="group">{figures}</div>' if len(group) > 1 else figures)
        count += len(group[:6])
    more = f"<p>and {len(groups) - len(shown)} more, listed in the JSON</p>" if len(groups) > len(shown) else ""
    return f'<div class="sheet">{"".join(shown)}</div>{more}' if shown else ""


def _figure(path: Path, caption: str) -> str:
    return f"<figure>{_thumbnail(path)}<figcaption>{escape(caption)}</figcaption></figure>"


def _thumbnail(path: Path) -> str:
    """Return an image element; a word instead where the image cannot be read."""
    try:
        image = Image.fromarray(read_image(path))
    except DataError:
        return "<p>unreadable</p>"
    width = max(1, min(4 * THUMBNAIL_HEIGHT, round(image.width * THUMBNAIL_HEIGHT / image.height)))
    buffer = io.BytesIO()
    image.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{width}" height="{THUMBNAIL_HEIGHT}"'
    return f'<img {size} alt="{escape(path.name)}" src="data:image/jpeg;base64,{data}">'


def _samples(check: DataCheck) -> str:
    """Return people by cameras where both are known, else images from all over the collection."""
    dataset = check.dataset
    records = (*dataset.train, *dataset.query, *dataset.gallery)
    table = people_by_camera(records)
    if not table:
        rows = np.flatnonzero(check.scan.readable)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _MOST_IMAGES).astype(int))] if len(rows) else rows
        return _sheet([(check.scan.paths[row],) for row in chosen])
    cameras = shared_people(table)[0][:_MOST_CAMERAS]
    people = sorted(table, key=lambda pid: (-len(table[pid]), pid))[:_MOST_PEOPLE]
    head = "".join(f"<th>camera {camid}</th>" for camid in cameras)
    first = _first_images(records)
    lines = []
    for pid in people:
        cells = (_thumbnail(first[pid, camid]) if (pid, camid) in first else "" for camid in cameras)
        lines.append(f"<tr><td>{pid}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><tr><th>pid</th>{head}</tr>{''.join(lines)}</table>"


def _first_images(records: Iterable[ImageRecord]) -> dict[tuple[int, int], Path]:
    first: dict[tuple[int, int], Path] = {}
    for record in records:
        if record.pid is not None and record.camid is not None:
            first.setdefault((record.pid, record.camid), record.path)
    return first


def _charts(check: DataCheck) -> Iterator[str]:
    dataset, scan = check.dataset, check.scan
    table = people_by_camera((*dataset.train, *dataset.query, *dataset.gallery))
    if table:
        yield _histogram("images per person", [sum(row.values()) for row in table.values()])
        yield _histogram("cameras per person", [len(row) for row in table.values()])
        yield _matrix("people seen by both cameras", *shared_people(table))
    good = scan.readable
    yield _histogram("height, pixels", scan.heights[good].tolist())
    yield _histogram("width, pixels", scan.widths[good].tolist())
    yield _histogram("brightness, 0 to 255", scan.brightness[good].tolist())
    yield _histogram("contrast", scan.contrast[good].tolist())


def _histogram(title: str, values: Sequence[float]) -> str:
    """Return a histogram as SVG; the number of each bar is in its tooltip."""
    if not values:
        return ""
    counts, edges = np.histogram(values, bins=_bin_edges(values))
    width, height, base = 300.0, 110.0, 130.0
    step, top = width / len(counts), max(int(counts.max()), 1)
    bars = []
    for index, count in enumerate(counts.tolist()):
        tall = height * count / top
        tip = f"{edges[index]:.4g} to {edges[index + 1]:.4g}: {count}"
        place = f'x="{index * step:.1f}" y="{base - tall:.1f}" width="{max(step - 1, 0.5):.1f}" height="{tall:.1f}"'
        bars.append(f'<rect {place} fill="#0072b2"><title>{escape(tip)}</title></rect>')
    low, high = (f"{edge:.4g}" for edge in (min(values), max(values)))
    return (
        f'<svg width="300" height="150" role="img" aria-label="{escape(title)}" font-size="11" fill="currentColor">'
        f'<text x="0" y="12" font-size="12">{escape(title)} (most: {top})</text>{"".join(bars)}'
        f'<text x="0" y="144">{low}</text><text x="300" y="144" text-anchor="end">{high}</text></svg>'
    )


def _bin_edges(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values) and high - low < _BINS:
        return [edge - 0.5 for edge in range(int(low), int(high) + 2)]
    spread = high - low or 1.0
    return [low + spread * index / _BINS for index in range(_BINS + 1)]


def _matrix(title: str, cameras: Sequence[int], shared: Sequence[Sequence[int]]) -> str:
    """Return how many people two cameras share, as a table shaded by the number."""
    most = max((max(row) for row in shared), default=0) or 1
    head = "".join(f"<th>{camid}</th>" for camid in cameras)
    rows = []
    for camid, row in zip(cameras, shared, strict=True):
        cells = (f'<td style="background:rgba(0,114,178,{0.6 * n / most:.2f})">{n}</td>' for n in row)
        rows.append(f"<tr><th>{camid}</th>{''.join(cells)}</tr>")
    return f"<div>{escape(title)}<table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"

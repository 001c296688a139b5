"""A report as one HTML file: text, tables and pictures, all inside; it asks for nothing from anywhere else."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from prsnet.errors import InputError
from prsnet.files import write_text

# The policy forbids every request, so that a page that somebody passes on cannot call home, whatever its text says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_WIDE = 1000
"""Pictures wider than this keep their size on small screens and scroll sideways."""

_LARGE = 400_000
"""Bytes from which a picture goes into the page as a JPEG: sheets of photographs are several times smaller so."""
_QUALITY = 90

_STYLE = """
:root{color-scheme:light dark;
--ink:#1f2328;--soft:#59636e;--paper:#ffffff;--panel:#f6f8fa;--line:#d8dee4;--mark:#0072b2}
@media(prefers-color-scheme:dark){
:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0f1216;--panel:#191d23;--line:#30363d;--mark:#6cb6f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",sans-serif}
main,header,footer{max-width:64rem;margin:0 auto;padding:0 1.2rem}
header{padding-top:2.5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem}
h2{font-size:1.3rem;line-height:1.3;margin:3rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--line)}
p{margin:.6rem 0;max-width:46rem}
.lead{font-size:1.1rem;color:var(--soft)}
nav ul{list-style:none;padding:0;margin:1rem 0 0;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem}
a{color:var(--mark)}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
.scroll:focus-visible{outline:2px solid var(--mark)}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
caption{caption-side:bottom;text-align:left;color:var(--soft);font-size:.9rem;padding-top:.5rem}
caption span{display:inline-block;position:sticky;left:0;max-width:min(100%,calc(100vw - 2.4rem))}
th,td{padding:.45rem .9rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;min-width:9rem}
@media(max-width:40rem){th,td{padding:.4rem .55rem}}
thead th{color:var(--soft);font-weight:600;border-bottom:2px solid var(--line)}
tbody th{font-weight:500}
tr.best th,tr.best td{font-weight:700}
figure{margin:1.4rem 0;padding:.8rem;background:var(--panel);border:1px solid var(--line);border-radius:10px}
figure img{display:block;max-width:100%;height:auto;margin:0 auto;background:#fff;border-radius:6px}
figure .scroll img{max-width:none}
@media(min-width:60rem){figure .scroll img{max-width:100%}}
figcaption{color:var(--soft);font-size:.92rem;margin-top:.6rem}
.pair{display:grid;align-items:start;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 1.2rem}
pre{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:.8rem 1rem;font-size:.9rem}
footer{color:var(--soft);font-size:.9rem;padding-top:2.5rem;padding-bottom:3rem}
@media print{nav{display:none}h2{break-after:avoid}figure{break-inside:avoid}}
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column names the rows, the others hold figures.

    Attributes:
        header: the columns' names.
        rows: the cells, as they are to be read; each row as long as the header.
        caption: what the table says, below it.
        best: the row to be set in bold, if any.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    best: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise InputError(f"table row {list(row)}: {len(row)} cells, expected {len(self.header)}")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: a PNG or JPEG file, what it shows for those who cannot see it, and a line below it.

    A PNG file of more than 0.4 MB goes into the page as a JPEG.
    """

    path: Path
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise InputError(f"{self.path}: a picture of a report needs words for those who cannot see it")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: heading, paragraphs, commands, a table, pictures; small pictures stand side by side."""

    title: str
    text: Sequence[str] = ()
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    commands: Sequence[str] = ()


def write_report(
    path: Path | str, *, title: str, sections: Sequence[Section], lead: str = "", footer: str = ""
) -> Path:
    """Write a report as one self-contained HTML file, readable in the light and in the dark, on paper and phones.

    All text is plain text: what looks like HTML in it is shown, not obeyed.

    Args:
        path: the ``.html`` file, replaced atomically.
        title: heading of the page.
        sections: the parts, in order.
        lead: the sentence below the heading.
        footer: the small print.

    Returns:
        The path.

    Raises:
        InputError: a picture is missing or neither PNG nor JPEG, or the file cannot be written.
    """
    write_text(path, report_page(title=title, sections=sections, lead=lead, footer=footer))
    return Path(path)


def report_page(*, title: str, sections: Sequence[Section], lead: str = "", footer: str = "") -> str:
    """Return the page that :func:`write_report` writes."""
    names = _anchors([section.title for section in sections])
    contents = "".join(
        f'<li><a href="#{name}">{escape(s.title)}</a></li>' for name, s in zip(names, sections, strict=True)
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<header>\n<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(lead)}</p>' if lead else "",
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>' if len(sections) > 1 else "",
        "</header>\n<main>",
        *(_section(section, name) for name, section in zip(names, sections, strict=True)),
        "</main>",
        f"<footer><p>{escape(footer)}</p></footer>" if footer else "",
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _section(section: Section, name: str) -> str:
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in section.text)
    table = _table(section.table) if section.table else ""
    drawn = [_figure(picture) for picture in section.pictures]
    wide = [html for html, is_wide in drawn if is_wide]
    small = [html for html, is_wide in drawn if not is_wide]
    pair = f'<div class="pair">{"".join(small)}</div>' if small else ""
    commands = "\n".join(escape(line) for line in section.commands)
    shell = f'<pre class="scroll" tabindex="0"><code>{commands}</code></pre>' if commands else ""
    inside = "\n".join(part for part in (paragraphs, shell, table, *wide, pair) if part)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(section.title)}</h2>\n{inside}\n</section>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    body = []
    for number, row in enumerate(table.rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        best = ' class="best"' if number == table.best else ""
        body.append(f'<tr{best}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    caption = f"<caption><span>{escape(table.caption)}</span></caption>" if table.caption else ""
    rows = "\n".join(body)
    label = escape(table.caption or ", ".join(table.header))
    inside = f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">{inside}</div>'


def _figure(picture: Picture) -> tuple[str, bool]:
    """Return a figure's HTML, and whether it is a wide one."""
    kind, data, (width, height) = _read_picture(picture.path)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    image = f'<img src="{source}" alt="{escape(picture.alt)}" width="{width}" height="{height}">'
    is_wide = width > _WIDE
    if is_wide:
        image = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(picture.alt)}">{image}</div>'
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{image}{caption}</figure>", is_wide


def _read_picture(path: Path) -> tuple[str, bytes, tuple[int, int]]:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            kind = str(image.format).lower()
            if len(data) < _LARGE or kind == "jpeg":
                return kind, data, image.size
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, "JPEG", quality=_QUALITY, subsampling=0)
            return "jpeg", smaller.getvalue(), image.size
    except OSError as error:
        reason = error.strerror or "neither PNG nor JPEG"
        raise InputError(f"{path}: cannot be put into a report: {reason}", hint="draw the picture again") from error


def _anchors(titles: Sequence[str]) -> list[str]:
    """Return an id for each heading, made of its words, no two alike."""
    names: list[str] = []
    for title in titles:
        base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names

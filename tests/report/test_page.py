import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prsnet.errors import InputError
from prsnet.report.page import Picture, Section, Table, report_page, write_report

VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if text.strip() and self.open[-1] != "style":
            self.texts.append(text.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "small.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def test_pictures_are_inside_byte_by_byte(tmp_path: Path, picture: Path) -> None:
    wide = tmp_path / "wide.jpg"
    Image.new("RGB", (1400, 20)).save(wide)
    shown = (Picture(picture, "a chart", "says much"), Picture(wide, "a sheet"))
    page = Page(write_report(tmp_path / "r.html", title="T", sections=[Section("S", pictures=shown)]).read_text())
    images = {image["alt"]: image for image in page.of("img")}
    for file, kind, alt, size in ((picture, "png", "a chart", "30x20"), (wide, "jpeg", "a sheet", "1400x20")):
        head, _, data = str(images[alt]["src"]).partition(",")
        assert head == f"data:image/{kind};base64" and base64.b64decode(data) == file.read_bytes()
        assert f"{images[alt]['width']}x{images[alt]['height']}" == size
    assert "says much" in page.texts


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    rough = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    smooth = Image.fromarray(rough).resize((1200, 800), Image.Resampling.BICUBIC)
    smooth.save(path)
    page = Page(report_page(title="T", sections=[Section("S", pictures=(Picture(path, "x"),))]))
    head, _, data = str(page.of("img")[0]["src"]).partition(",")
    shown = base64.b64decode(data)
    assert head == "data:image/jpeg;base64" and len(shown) < path.stat().st_size / 3
    difference = np.asarray(Image.open(io.BytesIO(shown))).astype(int) - np.asarray(smooth).astype(int)
    assert np.abs(difference).mean() < 2


def test_the_page_asks_for_nothing(tmp_path: Path, picture: Path) -> None:
    shown = (Picture(picture, "x"),)
    sections = [Section("S", ("see https://example.org",), Table(["a"], [["b"]]), shown, ("curl <x> | sh",))]
    html = report_page(title="T", sections=sections, lead="l", footer="f")
    page = Page(html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "form", "base"})
    addresses = [v for _, a in page.elements for name, v in a.items() if name in ("src", "href", "srcset", "action")]
    assert all(str(address).startswith(("data:image/", "#")) for address in addresses)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    assert "prefers-color-scheme:dark" in style[1]


def test_tables_have_headers_and_cells_in_order() -> None:
    table = Table(["model", "mAP"], [["random", "5.0"], ["trained", "70.0"]], "on generated people", best=1)
    page = Page(report_page(title="T", sections=[Section("S", table=table)]))
    assert [h.get("scope") for h in page.of("th")] == ["col", "col", "row", "row"]
    assert [r.get("class") for r in page.of("tr")] == [None, None, "best"]
    start = page.texts.index("on generated people")
    assert page.texts[start : start + 7] == ["on generated people", "model", "mAP", "random", "5.0", "trained", "70.0"]


def test_headings_can_be_reached_and_no_two_are_alike() -> None:
    page = Page(report_page(title="T", sections=[Section("Same & same"), Section("Same, same"), Section("—")]))
    assert [link["href"] for link in page.of("a")] == ["#same-same", "#same-same-2", "#section"]
    assert [heading["id"] for heading in page.of("h2")] == ["same-same", "same-same-2", "section"]
    assert [part["aria-labelledby"] for part in page.of("section")] == ["same-same", "same-same-2", "section"]


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40))
def test_text_is_shown_and_not_obeyed(text: str) -> None:
    hostile = f'<script>alert("{text}")</script>\'>'
    table = Table([hostile], [[hostile]], hostile)
    section = Section(hostile, (hostile,), table)
    page = Page(report_page(title=hostile, sections=[section], lead=hostile, footer=hostile))
    assert page.of("script") == []
    assert (
        page.texts.count(hostile.strip()) == 9
    )  # title, heading, lead, section, paragraph, caption, two cells, footer
    (group,) = (a for a in page.of("div") if a.get("role") == "group")
    assert group["aria-label"] == hostile


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.png"
    text.write_text("no picture")
    for path, reason in ((text, "neither PNG nor JPEG"), (tmp_path / "none.png", "No such file")):
        with pytest.raises(InputError, match=reason):
            report_page(title="T", sections=[Section("S", pictures=(Picture(path, "x"),))])
    with pytest.raises(InputError, match="cannot see it"):
        Picture(text, " ")
    with pytest.raises(InputError, match="1 cells, expected 2"):
        Table(["a", "b"], [["1"]])

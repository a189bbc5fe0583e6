"""The built pages are whole: links, markup, downloads, and what they tell of themselves.

They must have been built. Where all must run, it is a failure if they are not.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

import html5lib
import nbformat
import pytest
from bookpages import BOOK, CAPSTONE, CHAPTERS, HTML, PAGES, code_cells, html, require_pages, source

WITH_CODE = [page for page in PAGES if code_cells(page)]

# Sphinx makes these of its own.
EXTRA = ["genindex", "search"]

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
LINKS_THAT_LOAD_NOTHING = {"canonical", "next", "prev", "index", "search"}

# What may not be inside what, beyond what a parser notices.
MISPLACED = [("summary", "p"), ("body", "style"), ("a", "a"), ("p", "div"), ("button", "a")]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    require_pages()


@dataclass(frozen=True)
class Page:
    """What the tests need to know of a page."""

    root: Element
    errors: list[str]

    def all(self, tag: str) -> list[Element]:
        return list(self.root.iter(tag))

    def meta(self) -> dict[str, str]:
        pairs = [(each.get("property") or each.get("name"), each) for each in self.all("meta")]
        return {name: each.get("content", "") for name, each in pairs if name}


@cache
def parsed(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    root = parser.parse(text)
    errors = [
        f"line {line}: {code} {data}: {lines[min(line, len(lines)) - 1].strip()[:120]}"
        for (line, _), code, data in parser.errors
    ]
    return Page(root, errors)


@cache
def ids(path: Path) -> frozenset[str]:
    return frozenset(filter(None, (each.get("id") for each in parsed(path).root.iter())))


@pytest.mark.parametrize("name", [*PAGES, *EXTRA])
def test_a_page_is_valid_html(name: str) -> None:
    page = parsed(html(name))
    assert page.errors == []
    counts = Counter(each.get("id") for each in page.root.iter() if each.get("id"))
    assert [name for name, count in counts.items() if count > 1] == []
    for outer, inner in MISPLACED:
        assert not page.root.findall(f".//{outer}//{inner}"), f"<{inner}> in <{outer}>"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_from_elsewhere(name: str) -> None:
    page = parsed(html(name))
    loaded = [each.get(LOADED[tag], "") for tag in LOADED for each in page.all(tag)]
    loaded += [
        each.get("href", "")
        for each in page.all("link")
        if not LINKS_THAT_LOAD_NOTHING & set(each.get("rel", "").split())
    ]
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_no_failure_and_no_markup(name: str) -> None:
    text = html(name).read_text(encoding="utf-8")
    for unwanted in [
        "Traceback (most recent call last)",
        "DeprecationWarning",
        ":name: ",
        ":alt: ",
        "problematic",
    ]:
        assert unwanted not in text


def test_every_chapter_shows_what_its_cells_gave() -> None:
    for name in CHAPTERS:
        assert html(name).read_text(encoding="utf-8").count("cell_output") > 5


@pytest.mark.parametrize("name", [*PAGES, *EXTRA])
def test_links_within_the_book_lead_somewhere(name: str) -> None:
    page = html(name)
    broken = []
    for link in parsed(page).all("a"):
        address = urlsplit(link.get("href", ""))
        if address.scheme or address.netloc:
            continue
        path = (page.parent / unquote(address.path)).resolve() if address.path else page
        anchor = unquote(address.fragment)
        if not path.is_file() or (anchor and path.suffix == ".html" and anchor not in ids(path)):
            broken.append(link.get("href"))
    assert broken == []


# --- downloads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_CODE)
def test_a_page_with_code_can_be_had_as_a_notebook_that_has_run(name: str) -> None:
    path = HTML / "_sources" / f"{name}.ipynb"
    targets = {
        (html(name).parent / a.get("href", "")).resolve() for a in parsed(html(name)).all("a")
    }
    assert path.resolve() in targets
    assert path.with_suffix(".md").resolve() in targets
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    assert [cell for cell in cells if cell.execution_count is None] == []


@pytest.mark.parametrize("name", WITH_CODE)
def test_links_of_a_notebook_lead_to_what_lies_beside_it(name: str) -> None:
    path = HTML / "_sources" / f"{name}.ipynb"
    text = "\n".join(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    )
    text = re.sub(r"^```python\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"\{(?:doc|term)\}`", text)
    targets = re.findall(r"\]\((?![a-z]+:)([^)\s#]+)", text)
    targets += re.findall(r"\{figure\} (\S+)", text)
    assert [each for each in targets if not (path.parent / each).is_file()] == []


# --- what the pages tell of themselves ---------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_other_sites_find_a_title_a_description_and_a_picture(name: str) -> None:
    page = parsed(html(name))
    meta = page.meta()
    assert meta["og:title"]
    assert meta["description"] == meta["og:description"]
    assert 20 < len(meta["description"]) <= 200
    card = urlsplit(meta["og:image"])
    path = HTML / "_static" / "social-card.png"
    assert card.netloc or (html(name).parent / card.path).resolve() == path.resolve()
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    assert (str(width), str(height)) == (meta["og:image:width"], meta["og:image:height"])
    (icon,) = [each for each in page.all("link") if "icon" in each.get("rel", "").split()]
    assert (html(name).parent / icon.get("href", "")).is_file()


def test_descriptions_differ() -> None:
    descriptions = Counter(parsed(html(name)).meta()["description"] for name in PAGES)
    assert [text for text, count in descriptions.items() if count > 1] == []


def test_each_page_with_code_has_a_row_in_the_table_of_times() -> None:
    rows = parsed(html("timings")).root.findall(".//table/tbody/tr")
    cells = {row.find(".//a").get("href"): ["".join(td.itertext()) for td in row] for row in rows}
    assert [name for name in cells if name[0].isdigit()] == [f"{name}.html" for name in CHAPTERS]
    assert f"{PAGES[0]}.html" in cells
    for title, seconds in cells.values():
        assert " " in title or title.istitle()
        assert seconds.strip().isdigit()


# --- the reference -----------------------------------------------------------------------------


def documented() -> list[str]:
    return re.findall(r"^\.\. auto\w+:: (mscourse\.\S+)$", source("api"), re.MULTILINE)


def test_the_reference_shows_each_public_name_and_the_methods_of_handles() -> None:
    methods = ["Search.wait", "Search.best", "Search.abort", "CandidateSearch.add", "Splits.as_cv"]
    methods += ["LearningCurve.extrapolate", "MemoryMonitor.peak", "cluster.Cluster.send"]
    for name in [*documented(), *(f"mscourse.{method}" for method in methods)]:
        assert name in ids(html("api"))


@pytest.mark.parametrize("name", [page for page in PAGES if page != "api"])
def test_the_first_mention_of_a_public_name_links_to_the_reference(name: str) -> None:
    page = parsed(html(name))
    article = page.root.find(".//article")
    linked: set[str] = set()
    unlinked: list[str] = []
    names = {each.removeprefix("mscourse.") for each in documented()}

    def look(element: Element, *, inside: bool) -> None:
        href = urlsplit(element.get("href", ""))
        if element.tag == "a" and href.path.endswith("api.html"):
            linked.add(href.fragment.removeprefix("mscourse."))
        if element.tag == "code" and "literal" in element.get("class", "") and not inside:
            text = "".join(element.itertext()).removeprefix("mscourse.").partition("(")[0]
            if text in names - linked:
                unlinked.append(text)
        inside = inside or element.tag in {"a", "h1", "h2", "h3", "h4", "figcaption"}
        for child in element:
            look(child, inside=inside)

    assert article is not None
    look(article, inside=False)
    assert unlinked == []


def test_chapters_do_link_to_the_reference() -> None:
    """But for the last one, whose text names none: they are all in its code."""
    for name in CHAPTERS:
        if name != CAPSTONE:
            assert "api.html#mscourse." in html(name).read_text(encoding="utf-8"), name


def test_what_is_copied_into_the_pages_is_all_there() -> None:
    for path in (BOOK / "_static").iterdir():
        assert (HTML / "_static" / path.name).read_bytes() == path.read_bytes(), (
            f"{path.name} has changed since the book was built"
        )

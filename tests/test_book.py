"""The book's sources are consistent, and its built pages work in a browser without a network.

Building the book takes minutes and is not done here. What looks at built pages skips when there are
none, and fails instead when the environment says ``CI=true``, where they must have been built.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import yaml

import mscourse

BOOK = Path(__file__).resolve().parent.parent / "book"
HTML = BOOK / "_build" / "html"
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
PARTS = {
    part["caption"]: [chapter["file"] for chapter in part["chapters"]] for part in TOC["parts"]
}
PAGES = [TOC["root"], *(page for pages in PARTS.values() for page in pages)]
CHAPTERS = PARTS["The course"]
CAPSTONE = "07-capstone"

# Wider lines of code need scrolling in the column of a laptop's browser.
CODE_WIDTH = 86

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW_WIDTHS = {"wide": 1400, "narrow": 390}


def source(page: str) -> str:
    return (BOOK / f"{page}.md").read_text(encoding="utf-8")


def code_cells(page: str) -> list[str]:
    return re.findall(
        r"^```\{code-cell\}[^\n]*\n(.*?)^```$", source(page), re.MULTILINE | re.DOTALL
    )


def skip_unless_ci(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


# --- the sources -------------------------------------------------------------------------------


def test_every_page_of_the_contents_exists_and_every_page_is_in_the_contents() -> None:
    written = [path for path in BOOK.rglob("*.md") if "_build" not in path.parts]
    names = [path.relative_to(BOOK).with_suffix("").as_posix() for path in written]
    assert sorted(PAGES) == sorted(names)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_opens_and_closes_as_promised(page: str) -> None:
    opening = source(page).split("\n## ")[0]
    for word in ["Do", "Learn", "Need", "Time"]:
        assert f"\n**{word}**\n: " in opening
    assert source(page).split("\n## ")[-1].startswith("Key points\n\n- ")


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_takes_the_minutes_that_the_front_page_says(page: str) -> None:
    reading, exercises = re.search(
        r"\*\*Time\*\*\n: (\d+) minutes to read and run, (\d+) minutes for the exercises",
        source(page),
    ).groups()
    row = re.search(rf"^\| \[.*\]\({page}\.md\).*$", source("index"), re.MULTILINE)
    assert row, f"index.md has no row for {page}"
    assert row.group().split("|")[-3:-1] == [f" {reading} min ", f" {exercises} min "]


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_shows_what_runs_where_and_asks_to_predict(page: str) -> None:
    assert re.search(r"^```\{figure\} figures/\S+\.svg$", source(page), re.MULTILINE)
    n_asked = len(re.findall(r"^Predict first|Guess before you look", source(page), re.MULTILINE))
    assert n_asked >= (1 if page == CAPSTONE else 2)


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != CAPSTONE])
def test_a_chapter_has_a_test_of_oneself_whose_answers_stay_closed(page: str) -> None:
    text = source(page).split("\n## Check yourself\n")[1].split("\n## ")[0]
    questions = re.findall(r"^\*\*(\d)\.\*\* ", text, re.MULTILINE)
    answers = re.findall(
        r"^```\{dropdown\} Answer to question (\d)\n\*\*([a-c])\)\.\*\* (.+?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    assert len(questions) >= 3
    assert [number for number, _, _ in answers] == questions
    assert text.count("\n- a) ") == text.count("\n- c) ") == len(questions)
    assert all(len(why) > 60 for _, _, why in answers)  # it explains the wrong choices as well
    assert len({right for _, right, _ in answers}) > 1


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != CAPSTONE])
def test_a_chapter_says_where_to_read_on(page: str) -> None:
    further = source(page).split("\n## Where to go next\n")[1].split("\n## ")[0]
    assert re.search(r"`mscourse lab open 0\d`", further)
    assert further.count("\n- ") >= 3


@pytest.mark.parametrize("page", CHAPTERS)
def test_each_exercise_has_one_solution_that_stays_closed(page: str) -> None:
    exercises = re.findall(r"^`+\{exercise\}.*\n:label: (\S+)$", source(page), re.MULTILINE)
    solutions = re.findall(
        r"^```\{solution-start\} (\S+)\n:class: dropdown$", source(page), re.MULTILINE
    )
    assert exercises
    assert solutions == exercises
    assert source(page).count("```{solution-end}") == len(solutions)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_stops_each_cluster_that_it_starts(page: str) -> None:
    code = "\n".join(code_cells(page))
    assert code.count("ipcluster start") == code.count("ipcluster stop")
    assert code.count(".start_and_connect_sync()") == code.count(".stop_cluster_sync()")


@pytest.mark.parametrize("page", PAGES)
def test_each_picture_says_in_words_what_it_shows(page: str) -> None:
    pictures = r"```\{(?:figure|image|explorable)\} \S+\n(.*?)```"
    for figure in re.findall(pictures, source(page), re.DOTALL):
        assert re.search(r"^alt: >-\n  \w.{40}", figure, re.MULTILINE), figure
    for cell in code_cells(page):
        if "plt." in cell or ".plot" in cell:
            assert re.search(r"^    alt: (>-\n +)?\w.{40}", cell, re.MULTILINE), cell


@pytest.mark.parametrize("page", PAGES)
def test_code_fits_into_the_page(page: str) -> None:
    for cell in code_cells(page):
        code = re.sub(r"\A---\n.*?^---\n", "", cell, flags=re.MULTILINE | re.DOTALL)
        assert [line for line in code.splitlines() if len(line) > CODE_WIDTH] == []


def test_each_word_of_the_glossary_is_there_once_and_in_order() -> None:
    words = re.findall(r"^([a-zA-Z][\w -]*)\n  \S", source("glossary"), re.MULTILINE)
    assert len(words) > 10
    assert words == sorted(set(words), key=str.lower)


def test_each_word_that_links_to_the_glossary_is_in_it() -> None:
    entries = re.findall(r"^([a-zA-Z][\w -]*)$", source("glossary"), re.MULTILINE)
    for page in PAGES:
        for link in re.findall(r"\{term\}`([^`]+)`", source(page)):
            target = re.sub(r".*<(.+)>", r"\1", link)
            assert target in entries, f"{page} links to {target}"


def test_the_reference_has_each_public_name_once() -> None:
    names = re.findall(r"^\.\. auto\w+:: mscourse\.(\w+)$", source("api"), re.MULTILINE)
    assert sorted(names) == mscourse.__all__


def load_figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("book_figures", BOOK / "figures" / "draw.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawn_figures_are_what_their_code_draws() -> None:
    for path, draw in load_figures().FIGURES.items():
        assert path.read_text(encoding="utf-8") == draw(), f"run book/figures/draw.py for {path}"


# --- the pages ---------------------------------------------------------------------------------


class Page(HTMLParser):
    """What the tests need to know of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.assets: list[str] = []
        self.images_without_alt: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        attribute = dict(attributes)
        if tag == "img" and "alt" not in attribute:
            self.images_without_alt.append(attribute.get("src") or "")
        if tag in {"script", "img", "iframe", "source", "video", "audio"}:
            self.assets.append(attribute.get("src") or "")
        if tag == "link" and attribute.get("rel") not in {"canonical", "next", "prev"}:
            self.assets.append(attribute.get("href") or "")


@pytest.fixture(scope="module")
def built() -> Path:
    if not (HTML / "index.html").exists():
        skip_unless_ci("The book is not built. Run `make book`.")
    return HTML


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_from_elsewhere(built: Path, name: str) -> None:
    text = (built / f"{name}.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [asset for asset in page.assets if re.match(r"(https?:)?//", asset)] == []
    assert page.images_without_alt == []
    for host in ["unpkg.com", "cdn.jsdelivr.net", "cdnjs.cloudflare.com", "fonts.googleapis.com"]:
        assert host not in text


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_no_failure_and_no_markup(built: Path, name: str) -> None:
    text = (built / f"{name}.html").read_text(encoding="utf-8")
    for unwanted in [
        "Traceback (most recent call last)",
        "DeprecationWarning",
        ":name: ",
        ":alt: ",
    ]:
        assert unwanted not in text


def test_every_chapter_shows_what_its_cells_gave(built: Path) -> None:
    for name in CHAPTERS:
        assert (built / f"{name}.html").read_text(encoding="utf-8").count("cell_output") > 10


@pytest.fixture(scope="module")
def browser(built: Path) -> Iterator[Any]:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        skip_unless_ci(f"There is no browser: none of {', '.join(BROWSERS)} was found.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_unless_ci("playwright is not installed.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=BROWSER_OPTIONS
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("width", WINDOW_WIDTHS.values(), ids=WINDOW_WIDTHS.keys())
@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_in_a_browser(browser: Any, name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else complaints.append(f"asked for {request.url}")
        ),
    )
    page.goto((HTML / f"{name}.html").as_uri(), wait_until="load")
    page.wait_for_timeout(300)  # scripts that start after the page is there
    complaints += [
        f"broken picture: {src}"
        for src in page.evaluate(
            "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
        )
    ]
    page_width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert complaints == []
    assert page_width <= width, "the page is wider than the window"


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_solution_opens_on_demand(browser: Any, name: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto((HTML / f"{name}.html").as_uri(), wait_until="load")
    solution = page.locator("div.solution").first
    code = solution.locator("div.highlight").first
    assert not code.is_visible()
    solution.locator("button.toggle-button").click()
    code.wait_for(state="visible", timeout=5000)
    page.close()

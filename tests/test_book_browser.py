"""The built pages work in a browser, without a network, on a telephone and on a desk, by day and
by night. Each page is loaded once, as on a telephone, and looked at while its window grows and
shrinks again.

What was seen is kept in book/_build/screenshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from bookpages import BOOK, CHAPTERS, HTML, PAGES, chromium, html, require_pages

SCREENSHOTS = BOOK / "_build" / "screenshots"
WIDTHS = [360, 768, 1400]
HEIGHT = 900

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

# Nothing is loaded again to look at style sheets, which a browser refuses to pages from the disk.
RUN_AXE = """([rules, only]) => axe.run(
  only ? {include: only} : document,
  {resultTypes: ['violations'], preload: false, selectors: false, ...rules})"""
SEVERE = {"serious", "critical"}

# Colours take most of the time, and are the same at each width.
COLOURS = {"runOnly": ["color-contrast"]}
ALL_BUT_COLOURS = {"rules": {"color-contrast": {"enabled": False}}}

# The least contrast that WCAG asks for, of the words of code. There are thousands, but few kinds:
# this is quick, while axe would take half a minute for a chapter. So they are taken away before it.
# And of tables that cells print, since axe gives up on what lies in a frame that scrolls.
FAINT_WORDS = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const brightness = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((c) => {
      const part = c / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const seen = new Map();
  const kinds = new Set();
  const words = "pre, pre span[class], dt.sig span, .cell_output :is(th, td, td code)";
  for (const word of document.querySelectorAll(words)) {
    const around = word.closest("pre, dt, table").parentElement;
    const classes = [word, around, around.parentElement].map((each) => each.className);
    const kind = [word.localName, ...classes].join("|");
    if (kinds.has(kind) || !word.textContent.trim()) continue;
    kinds.add(kind);
    const pair = [getComputedStyle(word).color, ground(word)];
    const [low, high] = pair.map(brightness).sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) seen.set(pair.join(" on "), word.className);
  }
  return [...seen];
}"""

# One element of each kind that has words of its own: another one of that kind has the same colours.
KINDS_OF_WORDS = """() => {
  const kinds = new Map();
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((e) => e.nodeType == 3 && e.data.trim())) continue;
    if (!element.checkVisibility()) continue;
    let kind = "";
    for (let each = element; each; each = each.parentElement) {
      kind += ` ${each.localName}.${each.getAttribute("class")}`;
    }
    if (!kinds.has(kind)) kinds.set(kind, element);
  }
  return [...kinds.values()];
}"""

WITHOUT_HIGHLIGHTS = """() => {
  const code = document.querySelectorAll("pre, dt.sig em, dt.sig span");
  for (const each of code) each.textContent = each.textContent;
}"""

# What scrolls must be reached with the keyboard, too.
OUT_OF_REACH = """() => [...document.querySelectorAll("article *")]
  .filter((e) => e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0 &&
                 ["auto", "scroll"].includes(getComputedStyle(e).overflowX) &&
                 !e.querySelector("a, button, input, [tabindex]"))
  .map((e) => e.outerHTML.slice(0, 200))"""

# Of A4 at 96 pixels an inch, between margins of 1 cm as browsers have them.
PAPER_WIDTH = 718
WIDE_TABLES = """() => [...document.querySelectorAll(".table-frame, [class*=scrollable-table]")]
  .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.innerText.slice(0, 200))"""

PICTURES = """() => [...document.images]
  .filter((image) => !image.naturalWidth || !image.hasAttribute("alt") ||
                     (image.closest("article") && image.alt.trim().length < 10))
  .map((image) => image.src)"""


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    require_pages()
    SCREENSHOTS.mkdir(exist_ok=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Visit:
    """A page that is open, and what it has complained of."""

    def __init__(
        self, browser: Any, name: str, *, width: int = 1400, scheme: str = "light"
    ) -> None:
        self.name = name
        self.complaints: list[str] = []
        self.page = browser.new_page(
            viewport={"width": width, "height": HEIGHT},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda r: self.complaints.append(f"not loaded: {r.url}"))
        self.page.on("request", self._watch)
        self.page.goto(html(name).as_uri(), wait_until="load")
        self.page.wait_for_timeout(100)  # scripts that start after the page is there

    def _listen(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _watch(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def resize(self, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        self.page.wait_for_timeout(350)  # the theme gives tab stops to what scrolls after 300 ms

    def faults(self, rules: dict[str, Any], only: Any = None) -> list[str]:
        """Give what axe finds by some of its rules, and it is the last that the page is for."""
        if not self.page.evaluate("typeof axe == 'object'"):
            self.page.evaluate(AXE)
            self.page.evaluate(WITHOUT_HIGHLIGHTS)
            if self.name != PAGES[0]:  # the contents beside the text are the same on each page
                self.page.evaluate(
                    "document.querySelector('.sbt-sidebar-nav, .bd-links')?.remove()"
                )
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:200]}"
            for each in self.page.evaluate(RUN_AXE, [rules, only])["violations"]
            if each["impact"] in SEVERE
            for node in each["nodes"]
        ]

    def faulty_colours(self) -> list[str]:
        return self.faults(COLOURS, self.page.evaluate_handle(KINDS_OF_WORDS))


def go(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme == '{scheme}'")


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_a_page_works(browser: Any, name: str) -> None:
    with Visit(browser, name, width=WIDTHS[0]) as visit:
        page = visit.page

        def keep(kind: str) -> None:
            picture = SCREENSHOTS / f"{name.replace('/', '-')}-{kind}.jpg"
            picture.write_bytes(page.screenshot(type="jpeg", quality=60))

        for width in WIDTHS:
            visit.resize(width)
            assert page.evaluate(PICTURES) == [], "pictures that are broken, or without words"
            page_width = page.evaluate("document.documentElement.scrollWidth")
            assert page_width <= width, "the page is wider than the window"
            assert page.evaluate(OUT_OF_REACH) == []
            keep(str(width))
        faint = page.evaluate(FAINT_WORDS)
        go(page, "dark")
        keep(f"{width}.dark")
        assert faint + page.evaluate(FAINT_WORDS) == []

        assert visit.faulty_colours() == []
        go(page, "light")
        assert visit.faulty_colours() == []
        for width in reversed(WIDTHS):
            visit.resize(width)
            assert visit.faults(ALL_BUT_COLOURS) == [], width
        assert visit.complaints == []


def test_the_front_page_says_in_one_screen_what_one_will_learn(browser: Any) -> None:
    with Visit(browser, PAGES[0]) as visit:
        for selector in (".tag_front-picture img", "article a.sd-btn", "article ul >> nth=0"):
            box = visit.page.locator(selector).bounding_box()
            assert box["height"] > 20
            assert box["y"] + box["height"] <= HEIGHT, selector


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_solution_opens_on_demand_and_on_paper(browser: Any, name: str) -> None:
    """Who prints a chapter wants all of it: on paper there is nothing to click on."""
    with Visit(browser, name, scheme="dark") as visit:
        page = visit.page
        solutions = page.locator("div.solution")
        inside = [solutions.nth(i).locator("section > *").first for i in range(solutions.count())]
        assert inside
        assert not any(each.is_visible() for each in inside)
        solutions.first.locator("button.toggle-button").click()
        inside[0].wait_for(state="visible", timeout=5000)

        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert all(each.is_visible() for each in inside)
        for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article"):
            assert not page.locator(part).first.is_visible(), part
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        cut_off = "[...document.querySelectorAll('pre')].filter(e => e.scrollWidth > e.clientWidth)"
        assert page.evaluate(f"{cut_off}.map((e) => e.textContent)") == []
        folded = page.locator("details.sd-dropdown")
        assert folded.count()  # answers, and hints
        assert page.locator("details.sd-dropdown:not([open])").count() == 0
        visit.resize(PAPER_WIDTH)
        assert page.evaluate(WIDE_TABLES) == []
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert [each.is_visible() for each in inside].count(True) == 1


def test_a_page_prints(browser: Any) -> None:
    with Visit(browser, CHAPTERS[0]) as visit:
        pdf = visit.page.pdf(format="A4")
        (SCREENSHOTS / f"{CHAPTERS[0]}.pdf").write_bytes(pdf)
        assert pdf.count(b"/Type /Page\n") > 3
        assert visit.complaints == []


def test_the_search_finds_a_word(browser: Any) -> None:
    """From the box of a page, and on the page of the search; both opened from the disk."""
    with Visit(browser, PAGES[0]) as visit:
        page = visit.page
        page.keyboard.press("Control+K")
        page.locator("dialog input[type=search]").fill("memmap")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=memmap*")
        found = page.locator("#search-results ul.search li a")
        found.first.wait_for(timeout=20_000)
        page.wait_for_function(
            "!document.querySelector('#search-progress')?.textContent.includes('...')"
        )
        assert any("02-memory-mapping.html" in each.get_attribute("href") for each in found.all())
        assert visit.faulty_colours() + visit.faults(ALL_BUT_COLOURS) == []
        field = page.locator("main input[type=search]").first
        field.fill("nosuchwordinthebook")
        field.press("Enter")
        page.wait_for_url("**nosuchwordinthebook*")
        page.get_by_text("did not match any documents").wait_for(timeout=20_000)
        assert visit.complaints == []


def test_the_button_copies_code_without_its_prompt(browser: Any) -> None:
    with Visit(browser, "setup") as visit:
        page = visit.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        block = page.locator("div.highlight", has=page.locator("pre", has_text="$ ")).first
        block.hover()
        block.locator("button.copybtn").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.strip()
        assert "$ " not in copied
        assert copied.splitlines()[0] in block.inner_text()
        assert visit.complaints == []


def test_the_button_makes_it_dark(browser: Any) -> None:
    with Visit(browser, PAGES[0]) as visit:
        page = visit.page
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        for _ in range(3):  # automatic, light, dark
            page.locator("button.theme-switch-button").first.click()
            if page.evaluate("document.documentElement.dataset.theme") == "dark":
                break
        dark = page.evaluate(ground)
        assert sum(map(int, dark[4:-1].split(","))) < 150 < sum(map(int, light[4:-1].split(",")))
        # Dark words on no ground at all would not be seen.
        pictures = page.evaluate(
            "[...document.querySelectorAll('article img')]"
            ".map((i) => getComputedStyle(i).backgroundColor)"
        )
        assert pictures
        assert "rgba(0, 0, 0, 0)" not in pictures
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_it_works_from_any_folder(browser: Any, tmp_path: Path) -> None:
    """Nothing knows where the book was built."""
    moved = tmp_path / "a b" / "book"
    moved.parent.mkdir()
    moved.symlink_to(HTML, target_is_directory=True)
    page = browser.new_page()
    page.goto((moved / f"{CHAPTERS[0]}.html").as_uri())
    page.locator("a.right-next").click()
    page.wait_for_url(f"**/{CHAPTERS[1]}.html")
    assert page.locator("article h1").is_visible()
    page.close()

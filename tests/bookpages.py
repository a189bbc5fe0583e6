"""What the tests of the book share: which pages there are, their sources, and a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from helpers import require_system

BOOK = Path(__file__).resolve().parent.parent / "book"
HTML = BOOK / "_build" / "html"
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))


def _files(entry: dict[str, Any]) -> list[str]:
    """List the pages of an entry of the contents, those below it included."""
    below = [*entry.get("chapters", []), *entry.get("sections", [])]
    own = [entry["file"]] if "file" in entry else []
    return own + [page for each in below for page in _files(each)]


PARTS = {part["caption"]: _files(part) for part in TOC["parts"]}
PAGES = [TOC["root"], *(page for pages in PARTS.values() for page in pages)]
CHAPTERS = PARTS["The course"]
CAPSTONE = "07-capstone"

# The first draws pages and nothing around them: the others load their tool bar for each page.
BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def source(page: str) -> str:
    return (BOOK / f"{page}.md").read_text(encoding="utf-8")


def code_cells(page: str) -> list[str]:
    return re.findall(
        r"^```\{code-cell\}[^\n]*\n(.*?)^```$", source(page), re.MULTILINE | re.DOTALL
    )


def html(page: str) -> Path:
    return HTML / f"{page}.html"


def require_pages() -> None:
    """Skip if the book is not built; fail where it must have been."""
    require_system(None if html(PAGES[0]).exists() else "the book is not built: run `make book`")


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser, and let the processes that help it start, too."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    require_system(None if executable else f"there is none of {', '.join(BROWSERS)}")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        require_system("playwright is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=BROWSER_OPTIONS
        )
        # These start when they are needed first, and stay.
        page = browser.new_page()
        page.goto((BOOK / "_static" / "logo.svg").as_uri())
        page.evaluate("localStorage.length")
        page.wait_for_timeout(1000)
        page.close()
        yield browser
        browser.close()

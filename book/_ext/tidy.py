"""A Sphinx extension that mends what the libraries' HTML gets wrong.

Each fault is described where it is mended. What cannot be mended here is in the tests of the pages.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_FAULTS: list[tuple[str, str]] = [
    # Every exercise of sphinx-exercise has the same id. Nothing refers to it.
    (r' id="(?:exercise|solution)-content"', ""),
    # myst-nb puts paragraphs into the line that one clicks on to see a hidden cell, where only
    # words may be.
    (
        (
            r'<p class="(collapsed|expanded) admonition-title">(.*?)</p>'
            r'(?=\s*(?:<p class="expanded|</summary>))'
        ),
        r'<span class="\1 admonition-title">\2</span>',
    ),
    # sphinx-exercise has a space within the link, which is underlined.
    (r"(Solution to)(<a [^>]*>) +", r"\1 \2"),
    # Where the book was built is nobody's business.
    (r"in /[^\s<]*/(\.venv)", r"in \1"),
    # A style sheet of pandas amidst the text. The theme has a style for frames.
    (r"<style scoped>.*?</style>\s*", ""),
    # A table that is wider than the page scrolls, and with the keyboard too. Those that are written
    # in Markdown have such a frame already.
    (
        r'(?<!<div class="pst-scrollable-table-container">)<table\b.*?</table>',
        r'<div class="table-frame" tabindex="0" role="group" aria-label="Table">\g<0></div>',
    ),
]


# What pandas says of the style of one table. It belongs into the head of the page.
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>\s*", re.DOTALL)


def mend(body: str) -> tuple[str, str]:
    """Mend the HTML of a page's text; give it, and what belongs into the head."""
    for wrong, right in _FAULTS:
        body = re.sub(wrong, right, body, flags=re.DOTALL)
    styles = [found for found in _STYLE.findall(body) if found.strip()]
    head = "<style>\n" + "\n".join(styles) + "\n</style>\n" if styles else ""
    return _STYLE.sub("", body), head


def _mend_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    if "body" in context:
        context["body"], head = mend(context["body"])
        context["metatags"] = context.get("metatags", "") + head


def setup(app: Sphinx) -> dict[str, Any]:
    """Mend each page before it is written."""
    app.connect("html-page-context", _mend_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A Sphinx extension for what search engines and other sites show of a page.

Each page gets a description, its first paragraph; and all share a picture, which is drawn here from
the title of the book. A site that shows the picture needs its whole address: see ``published.py``.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

CARD = "_static/social-card.png"
CARD_SIZE = (1200, 630)  # what sites cut pictures to
_LENGTH = 200  # a search engine shows about 160 characters

_BLUE, _INK, _PALE = "#0072b2", "#1b1b1b", "#d6e9f5"


def describe(doctree: nodes.document) -> str:
    """Give the first paragraph of a page, as one line."""
    first = next(iter(doctree.findall(nodes.paragraph)), None)
    if first is None:
        return ""
    text = shorten(first.astext(), _LENGTH, placeholder=" ...")
    return text[:1].upper() + text[1:]


def _add_tags(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None:
        return
    title, base = app.env.titles[page].astext(), app.config.html_baseurl
    tags = {
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:title": title,
        "og:description": describe(doctree),
        "og:image": f"{base}{CARD}" if base else context["pathto"](CARD, resource=True),
        "og:image:width": str(CARD_SIZE[0]),
        "og:image:height": str(CARD_SIZE[1]),
        "og:image:alt": app.config.html_title,
    }
    if base:
        tags["og:url"] = f"{base}{page}.html"
    lines = [f'<meta name="description" content="{escape(tags["og:description"])}">']
    lines += [f'<meta property="{key}" content="{escape(tags[key])}">' for key in tags]
    lines += ['<meta name="twitter:card" content="summary_large_image">']
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def draw_card(title: str, path: Path) -> None:
    """Draw the title beside a grid of candidates, of which one is the best."""
    # Not before it is needed, and without pyplot, which would start a window system.
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    width, height = CARD_SIZE
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for row in range(3):
        for column in range(3):
            corner = (790 + 115 * column, 165 + 115 * row)
            best = (row, column) == (1, 1)
            style = {"facecolor": _BLUE if best else _PALE, "edgecolor": _BLUE, "linewidth": 3}
            axes.add_patch(
                FancyBboxPatch(corner, 85, 85, boxstyle="round,pad=0,rounding_size=12", **style)
            )
    words = {"x": 80, "color": _INK, "family": "DejaVu Sans"}
    axes.text(y=490, s=fill(title, 18), va="top", size=42, weight="bold", linespacing=1.25, **words)
    axes.text(y=110, s="ipyparallel, memory maps, scikit-learn", va="center", size=20, **words)
    figure.savefig(path)


def _draw(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        draw_card(app.config.html_title, Path(app.outdir) / CARD)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the tags to each page, and the picture to the book."""
    app.connect("html-page-context", _add_tags)
    app.connect("build-finished", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

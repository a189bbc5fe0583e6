"""A Sphinx extension for explorables: figures that a reader plays with in the published page.

::

    ```{explorable} ring
    ---
    alt: >-
      What the still picture shows.
    name: fig-ring
    ---
    The caption.
    ```

To Sphinx an explorable is a figure with a still picture, ``explorables/NAME.svg``: that is what is
printed, what other formats than HTML get, and what a browser without JavaScript shows. In HTML its
page alone loads the scripts, which put a panel in the place of the picture.

The scripts are no static files of the book, since Jupyter Book names every script among these on
every page.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure

_SOURCES = Path(__file__).resolve().parent.parent / "explorables"

# A folder in `_static` of the pages.
_TARGET = "explorables"

_NAMES = ("copies", "ring", "scheduler")
_STYLE = "explorables.css"
_COMMON = ("arithmetic.js", "panel.js")
_TABLES = "tables.js"


class Explorable(Figure):
    """A figure that scripts make into an explorable; its argument is which one."""

    def run(self) -> list[nodes.Node]:
        """Make the figure with the still picture."""
        name = self.arguments[0]
        if name not in _NAMES:
            raise self.error(f'There is no explorable "{name}"; there are {", ".join(_NAMES)}.')
        if not self.options.get("alt", "").strip():
            raise self.error(f'The explorable "{name}" needs :alt:, what its still picture shows.')
        self.arguments[0] = f"/explorables/{name}.svg"
        self.options.setdefault("width", "480px")
        classes = self.options.get("figclass", [])
        self.options["figclass"] = [*classes, "explorable", f"explorable-{name}"]
        return super().run()


def _is_for_browsers(app: Sphinx) -> bool:
    return app.builder.format == "html" and app.builder.name != "epub"


def _copy(app: Sphinx) -> None:
    """Put the scripts among the pages, first of all: Sphinx reads them when it writes a page."""
    if not _is_for_browsers(app):
        return
    target = Path(app.outdir) / "_static" / _TARGET
    target.mkdir(parents=True, exist_ok=True)
    for name in (_STYLE, *_COMMON, *(f"{each}.js" for each in _NAMES)):
        shutil.copy(_SOURCES / name, target / name)
    script = runpy.run_path(str(_SOURCES / "tables.py"))["script"]()
    (target / _TABLES).write_text(script, encoding="utf-8")


def _load(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Name the scripts on a page that has explorables. Sphinx forgets them after the page."""
    if doctree is None or not _is_for_browsers(app):
        return
    figures = [each for each in doctree.findall(nodes.figure) if "explorable" in each["classes"]]
    names = [name for name in _NAMES if any(f"explorable-{name}" in f["classes"] for f in figures)]
    if not names:
        return
    app.add_css_file(f"{_TARGET}/{_STYLE}")
    for script in (_TABLES, *_COMMON, *(f"{name}.js" for name in names)):
        app.add_js_file(f"{_TARGET}/{script}", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive, and the scripts where it is used."""
    app.add_directive("explorable", Explorable)
    app.connect("builder-inited", _copy)
    app.connect("html-page-context", _load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

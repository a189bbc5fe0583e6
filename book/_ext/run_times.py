"""A Sphinx extension for how long each page took to run.

It leaves the times behind for ``build.py`` to print. In the table that myst-nb makes it keeps what
a reader may want to know: the page, by its title and in the order of the contents, and its seconds.
What comes from the cache has the time that it took when it ran.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

PAGE = "timings"


# Of each row: the page, when and how it ran, its seconds, and whether it came to its end. One that
# did not is in no book.
PAGE_COLUMN, SECONDS_COLUMN = 0, 3


class ShortenTable(SphinxPostTransform):
    """Make a table of pages and whole seconds."""

    default_priority = 9  # the table is made at 8, references are resolved at 10

    def run(self, **options: Any) -> None:
        """Look at the table."""
        if self.env.docname != PAGE:
            return
        for group in self.document.findall(nodes.tgroup):
            group["cols"] = 2
            for column in list(group.findall(nodes.colspec))[2:]:
                group.remove(column)
            for row in group.findall(nodes.row):
                page, seconds = row[PAGE_COLUMN], row[SECONDS_COLUMN]
                row[:] = [page, seconds]
                seconds["classes"].append("text-right")
                if isinstance(row.parent, nodes.tbody):
                    text = f"{float(seconds.astext()):.0f}"
                    seconds[:] = [nodes.paragraph("", text)]
                else:
                    page[:], seconds[:] = (
                        [nodes.paragraph("", text)] for text in ("page", "seconds")
                    )
            for body in group.findall(nodes.tbody):
                body[:] = sorted(body, key=self._place)
        for link in self.document.findall(addnodes.pending_xref):
            if link["reftype"] == "doc" and link.astext() == link["reftarget"]:
                link["refexplicit"] = False

    def _place(self, row: nodes.Element) -> int:
        """Tell where a page is in the contents."""
        order: list[str] = []

        def visit(page: str) -> None:
            order.append(page)
            for each in self.env.toctree_includes.get(page, []):
                visit(each)

        visit(self.env.config.root_doc)
        return order.index(row[0].astext())


def _write(app: Sphinx, exception: Exception | None) -> None:
    data = {
        page: NbMetadataCollector.get_exec_data(app.env, page)
        for page in sorted(app.env.found_docs)
    }
    times = {page: each["runtime"] for page, each in data.items() if each and each["runtime"]}
    path = Path(app.outdir).parent / "run-times.json"
    path.write_text(json.dumps(times), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the file when all pages have run."""
    app.add_post_transform(ShortenTable)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

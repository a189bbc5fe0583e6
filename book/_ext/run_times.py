"""A Sphinx extension for how long each page took to run.

It leaves the times behind for ``build.py`` to print, and names the pages by their titles in the
table that myst-nb makes. What comes from the cache has the time that it took when it ran.
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


class NamePages(SphinxPostTransform):
    """Put titles in the place of file names, and words in the place of signs without a glyph."""

    default_priority = 9  # the table is made at 8, references are resolved at 10

    def run(self, **options: Any) -> None:
        """Look at the table."""
        if self.env.docname != PAGE:
            return
        for link in self.document.findall(addnodes.pending_xref):
            if link["reftype"] == "doc" and link.astext() == link["reftarget"]:
                link["refexplicit"] = False
        for text in list(self.document.findall(nodes.Text)):
            if text in ("✅", "❌"):
                text.parent.replace(text, nodes.Text("done" if text == "✅" else "failed"))


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
    app.add_post_transform(NamePages)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A Sphinx extension that offers each page that runs as a notebook, with its outputs.

The notebook lies beside the source of the page, in ``_sources``. Its links lead to what lies there
too: to other notebooks and to the figures, which are copied.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from nbformat import NotebookNode
from sphinx.application import Sphinx

# Pages are named by their path, and places in them by a label, which has no dot.
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
_PICTURE = re.compile(r"(?<=\{figure\} )\S+")
_ROLE = re.compile(r"\{(doc|term)\}`(?:([^`<]+?)\s*<([^`>]+)>|([^`]+))`")


def _offer(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
    if doctree is None or not _runs(app, page) or not executed.exists():
        return
    notebook = _with_outputs(app, nbformat.read(executed, as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _with_working_links(app, page, cell.source)
    target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    context["ipynb_source"] = f"{page}.ipynb"  # the theme makes a button of it


def _with_outputs(app: Sphinx, notebook: NotebookNode) -> NotebookNode:
    """Take the outputs from the cache if they come from there: myst-nb leaves them out then."""
    if any(cell.get("outputs") for cell in notebook.cells):
        return notebook
    cache = get_cache(app.env.mystnb_config.execution_cache_path)
    try:
        return cache.merge_match_into_notebook(notebook)[1]
    except KeyError:  # it was not run at all
        return notebook


def _runs(app: Sphinx, page: str) -> bool:
    return "kernelspec" in app.env.metadata.get(page, {})


def _with_working_links(app: Sphinx, page: str, source: str) -> str:
    """Point what names a page or a figure to what lies beside the notebook."""
    folder = posixpath.dirname(page)

    def copied(match: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(folder, match.group()))
        original = Path(app.srcdir) / name
        if original.is_file():
            copy = Path(app.outdir) / "_sources" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, copy)
        return match.group()

    def linked(match: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(folder, match.group().removesuffix(".md")))
        if name in app.env.found_docs:
            return _address(app, page, name)
        labels = app.env.domaindata["std"]["anonlabels"]
        if match.group() in labels:
            name, anchor = labels[match.group()]
            return posixpath.relpath(f"../{name}.html", folder or ".") + f"#{anchor}"
        return copied(match)

    def spelled_out(match: re.Match[str]) -> str:
        role, text, target, both = match.groups()
        target = target or both
        if role == "term":
            glossary = posixpath.relpath("../glossary.html", folder or ".")
            return f"[{text or both}]({glossary}#term-{target.replace(' ', '-')})"
        name = posixpath.normpath(posixpath.join(folder, target)).lstrip("/")
        return f"[{text or app.env.titles[name].astext()}]({_address(app, page, name)})"

    source = _PICTURE.sub(copied, source)
    source = _LINK.sub(linked, source)
    return _ROLE.sub(spelled_out, source)


def _address(app: Sphinx, page: str, target: str) -> str:
    """Give the way from one page's notebook to another page."""
    path = f"{target}.ipynb" if _runs(app, target) else f"../{target}.html"
    return posixpath.relpath(path, posixpath.dirname(page) or ".")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the notebook before the theme lists what can be downloaded."""
    app.connect("html-page-context", _offer, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A Sphinx extension that links the first mention of a public name on each page to the reference.

A mention is a name in backquotes, as the text has it anyway: ``mscourse.grid_search``,
``mscourse.local_cluster(4)``, ``MemoryMonitor`` or ``Search.wait``. What is public is read from the
reference itself, so that each link has a target.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

REFERENCE = "api"
_DOCUMENTED = re.compile(r"^\.\. auto(?:function|class|exception):: mscourse\.(\S+)$", re.MULTILINE)
_MENTION = re.compile(r"(?:mscourse\.)?([A-Za-z_][\w.]*?)(?:\(.*\))?", re.DOTALL)
_UNLINKED = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc, nodes.caption)


def documented_names(reference: str) -> frozenset[str]:
    """Give the names that the reference has, without the name of the package."""
    return frozenset(_DOCUMENTED.findall(reference))


def mentioned(text: str, names: frozenset[str]) -> str | None:
    """Give the documented name that a literal mentions, if it does."""
    match = _MENTION.fullmatch(text)
    if match is None:
        return None
    name = match.group(1)
    owner, _, member = name.rpartition(".")
    if name in names or (owner in names and member and not member.startswith("_")):
        return name
    return None


class LinkFirstMentions(SphinxTransform):
    """Turn the first literal that mentions a name into a reference to it."""

    default_priority = 500  # before references are resolved

    def apply(self, **options: Any) -> None:
        """Look at all literals of one page."""
        if self.env.docname == REFERENCE:
            return
        self.env.note_dependency(f"{REFERENCE}.md")
        source = Path(self.env.doc2path(REFERENCE)).read_text(encoding="utf-8")
        names = documented_names(source)
        linked: set[str] = set()
        for literal in list(self.document.findall(nodes.literal)):
            name = mentioned(literal.astext(), names)
            if name is None or name in linked or _is_inside(literal, _UNLINKED):
                continue
            linked.add(name)
            reference = addnodes.pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=f"mscourse.{name}",
                refexplicit=True,
                refwarn="." not in name,  # a member that the reference does not show has no link
                refdoc=self.env.docname,
            )
            literal.replace_self(reference)
            reference += literal


def _is_inside(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the transformation."""
    app.add_transform(LinkFirstMentions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

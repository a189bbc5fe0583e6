"""A Sphinx extension that makes the pages need no network.

MathJax comes from the installed package ``sphinx-mathjax-offline``. That package would copy all of
MathJax, 24 MB; the one file used here holds everything that TeX to SVG needs, fonts included.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

_FILE = "tex-svg-full.js"


def _set_path(app: Sphinx, config: Config) -> None:
    config.mathjax_path = f"mathjax/{_FILE}"


def _copy(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    # The package's folder has a hyphen in its name, so that it cannot be imported.
    package = distribution("sphinx-mathjax-offline")
    source = Path(str(package.locate_file(f"sphinx-mathjax-offline/static/mathjax/{_FILE}")))
    target = Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target / _FILE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the two steps to Sphinx."""
    app.connect("config-inited", _set_path)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

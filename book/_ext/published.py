"""A Sphinx extension that tells the pages where they, and their repository, are published.

No address is written into the sources, since each copy of the course has its own. They are read
from the environment when the book is built:

BOOK_REPOSITORY_URL
    Where the repository is, for example ``https://github.com/OWNER/NAME``. Each page then links to
    its source there. Without it there is no such link, and nothing to launch.
BOOK_REPOSITORY_BRANCH
    Its branch, by default ``main``.
BOOK_BINDERHUB_URL, BOOK_JUPYTERHUB_URL
    Where a page can be opened as a running notebook. Needs the address of the repository.
BOOK_URL
    Where the pages will be. Other sites then show the picture of the course beside a link to it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

_HUBS = {"BOOK_BINDERHUB_URL": "binderhub_url", "BOOK_JUPYTERHUB_URL": "jupyterhub_url"}


def theme_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """Give the options of the theme that follow from the addresses."""
    hubs = {
        option: environment[name].rstrip("/")
        for name, option in _HUBS.items()
        if environment.get(name)
    }
    repository = environment.get("BOOK_REPOSITORY_URL", "").rstrip("/")
    if hubs and not repository:
        raise ConfigError(f"{' and '.join(_HUBS)} need BOOK_REPOSITORY_URL as well.")
    return {
        "repository_url": repository,
        "repository_branch": environment.get("BOOK_REPOSITORY_BRANCH") or "main",
        "path_to_docs": "book",
        "use_repository_button": bool(repository),
        "use_source_button": bool(repository),
        "launch_buttons": {"notebook_interface": "jupyterlab", **hubs} if hubs else {},
    }


def _configure(app: Sphinx, config: Config) -> None:
    config.html_theme_options.update(theme_options(os.environ))
    address = os.environ.get("BOOK_URL", "").rstrip("/")
    config.html_baseurl = f"{address}/" if address else ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Set the addresses before the theme looks for them."""
    app.connect("config-inited", _configure, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

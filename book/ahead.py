"""Run pages side by side before the build, which then finds what they print in its cache.

Called by ``build.py``. The build itself runs one page after the other, and most of them wait half
of the time: for engines that start, for machines that are set up. Here two run at a time. A page
whose numbers compare times or memory is none of these: it has the machine for itself, later.

What fails here is run once more by the build, which then shows the traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

BOOK = Path(__file__).resolve().parent

# The longest first, so that the last to end does not end alone.
PAGES = ("06-clusters", "05-when-things-break", "searches", "07-capstone", "index")


def main(cache_folder: str) -> None:
    """Run what the cache does not have of these pages, on as many processes as there are cores."""
    settings = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))["execute"]
    cache = get_cache(cache_folder)
    records = [
        cache.add_nb_to_project(
            str(BOOK / f"{page}.md"), read_data={"name": "myst_nb_md", "type": "plugin"}
        )
        for page in PAGES
    ]
    load_executor("local-parallel", cache).run_and_cache(
        filter_pks=[record.pk for record in records], timeout=settings["timeout"]
    )


if __name__ == "__main__":
    main(sys.argv[1])

"""Run pages side by side, three at a time, and put them into the cache of the book.

::

    python book/sidebyside.py CACHE TIMEOUT PAGE...     # what build.py calls

Pages that are there already, and have not changed, are not run. One that fails is left out.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

# How myst-nb reads the pages.
READER = {"type": "plugin", "name": "myst_nb_md"}

# One more than cores, since they wait so much.
N_AT_ONCE = 3


def main(folder: str, timeout_s: str, *paths: str) -> None:
    """Run the pages at these paths, the first ones first."""
    cache = get_cache(folder)
    uris = [cache.add_nb_to_project(path, read_data=READER).uri for path in paths]
    with ProcessPoolExecutor(N_AT_ONCE) as pool:
        list(pool.map(partial(run, folder, int(timeout_s)), uris))


def run(folder: str, timeout_s: int, uri: str) -> None:
    """Run one page, unless it is in the cache."""
    executor = load_executor("local-serial", get_cache(folder))
    # What is wrong with a page is told when it is run again, with all that is around it.
    executor.logger.disabled = True
    executor.run_and_cache(filter_uris=[uri], timeout=timeout_s)


if __name__ == "__main__":
    main(*sys.argv[1:])

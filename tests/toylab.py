"""A small lab without a cluster, for the tests of the tools around labs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_output

from mscourse.labs.build import read_source
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import Notebook, cells_by_label, strip, write_notebook

SOURCE = '''\
---
kernelspec:
  name: python3
  display_name: Python 3
mscourse:
  minutes: 5
---

# Lab 1: A toy

```{code-cell} ipython3
:label: numbers

numbers = [3, 1, 2]
```

## Exercise 1: Add

<details><summary>Click here for a hint</summary>

There is a built-in function `sum`.

</details>

```{code-cell} ipython3
:label: add

### BEGIN SOLUTION
total = sum(numbers)
### END SOLUTION
```

```{code-cell} ipython3
:label: check-add

print("The total is", total)
```

## Exercise 2: Sort

<details><summary>Click here for a hint</summary>

There is a built-in function `sorted`.

</details>

```{code-cell} ipython3
:label: sort

def in_order(numbers):
    """Return the numbers in ascending order."""
    ### BEGIN SOLUTION
    return sorted(numbers)
    ### END SOLUTION
```

```{code-cell} ipython3
:label: check-sort

in_order([2, 3, 1])
```

## Exercise 3: Find the largest

<details><summary>Click here for a hint</summary>

There is a built-in function `max`.

</details>

```{code-cell} ipython3
:label: largest

### BEGIN SOLUTION
largest = max(numbers)
### END SOLUTION
```

```{code-cell} ipython3
:label: check-largest

print(largest)
```

## At the end

```{code-cell} ipython3
:label: process
:tags: [varies]

import os
os.getpid()
```
'''

ANSWERS = {
    "add": "total = sum(numbers)",
    "sort": "def in_order(numbers):\n    return sorted(numbers)",
    "largest": "largest = max(numbers)",
}

#: Alireza, whose two halves a character keeps apart that shows nothing itself.
PERSIAN_NAME = "علی\u200cرضا"  # noqa: RUF001 (there is no other way to write it)


def toy_course(folder: Path) -> Course:
    """Write a course of this one lab, as it is when it has been built; nothing is run for it."""
    (folder / "solutions").mkdir(parents=True)
    lab = Lab("01-toy", folder)
    lab.source_path.write_text(SOURCE, encoding="utf-8")
    solution = read_source(lab.source_path)
    cells = cells_by_label(solution)
    for count, cell in enumerate(cells.values(), start=1):
        cell.execution_count = count
    printed = {"check-add": "The total is 6\n", "check-largest": "3\n"}
    for label, text in printed.items():
        cells[label].outputs = [new_output("stream", name="stdout", text=text)]
    for label, text in {"check-sort": "[1, 2, 3]", "process": "1"}.items():
        cells[label].outputs = [
            new_output(
                "execute_result",
                data={"text/plain": text},
                execution_count=cells[label].execution_count,
            )
        ]
    write_notebook(solution, lab.solution_path)
    write_notebook(strip(solution), lab.path)
    return Course(folder)


def write_answers(lab: Lab, **sources: str) -> Notebook:
    """Write answers, by label, into a lab; those not named are left as they are."""
    attempt = lab.attempt()
    for label, source in sources.items():
        cells_by_label(attempt)[label].source = source
    write_notebook(attempt, lab.path)
    return attempt


def forbid_writing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let files of a folder be opened for reading only.

    Pretended, since whoever is root may write wherever they like.
    """
    really_open = Path.open

    def open_(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode.strip("bt") != "r" and path.parent == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really_open(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)

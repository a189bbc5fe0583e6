"""The examples of the reference run, and give what they show.

They share what the reference says is given: a dataset, its splits, and two engines.
"""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import ipyparallel as ipp
import matplotlib
import pytest
from matplotlib import pyplot as plt

API = (Path(__file__).resolve().parent.parent / "book" / "api.md").read_text(encoding="utf-8")
DIRECTIVES = re.findall(r"^\.\. auto(\w+):: (mscourse\.\S+)$", API, re.MULTILINE)
FUNCTIONS = [name for kind, name in DIRECTIVES if kind == "function"]

# Needs a cluster of several machines, which other tests have.
NOT_RUN = ["mscourse.cluster.connect"]

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def find(name: str) -> Any:
    """Give the object of a dotted name."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        owner, _, attribute = name.rpartition(".")
        return getattr(find(owner), attribute)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = (test for _, name in DIRECTIVES for test in finder.find(find(name), name))
    return [test for test in tests if test.examples]


EXAMPLES = examples()


@pytest.fixture(scope="module")
def given(client: ipp.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Run what the reference says is given."""
    code = re.search(r"^```python\n(import joblib\n.*?)^```$", API, re.MULTILINE | re.DOTALL)
    assert code, "the reference does not say what the examples are given"
    matplotlib.use("Agg")
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("examples"))
        exec(code[1], names)  # our own text
        yield names | {"client": client}


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_an_example_gives_what_it_shows(test: doctest.DocTest, given: dict[str, Any]) -> None:
    said: list[str] = []
    test.globs = dict(given)
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
    assert result.failed == 0, "".join(said)
    plt.close("all")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_of_the_reference_has_an_example_that_runs(name: str) -> None:
    (test,) = [each for each in EXAMPLES if each.name == name] or [None]
    assert test, f"{name} has no example"
    skipped = [doctest.SKIP in example.options for example in test.examples]
    assert any(skipped) == (name in NOT_RUN)
    if name not in NOT_RUN:
        assert any(example.want for example in test.examples), f"{name} shows no result"


@pytest.mark.parametrize("name", [name for _, name in DIRECTIVES])
def test_each_part_of_the_reference_says_what_it_is_for(name: str) -> None:
    first = (inspect.getdoc(find(name)) or "").partition("\n")[0]
    assert first.endswith((".", ":"))
    if name in FUNCTIONS:
        text = find(name).__doc__
        parameters = [each for each in inspect.signature(find(name)).parameters if each != "client"]
        assert [each for each in parameters if not re.search(rf"\b{each}\b", text)] == []

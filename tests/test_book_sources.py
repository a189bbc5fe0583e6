"""The book's sources are consistent, and what makes pages of them does what it says.

Building the book takes minutes and is not done here. Its pages are looked at in test_book_pages.py
and, with a browser, in test_book_browser.py.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from bookpages import BOOK, CAPSTONE, CHAPTERS, PAGES, code_cells, source
from jupyter_cache import get_cache
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig

import mscourse
import mscourse.cluster

# Wider lines of code need scrolling in the column of a laptop's browser.
CODE_WIDTH = 86


def test_every_page_of_the_contents_exists_and_every_page_is_in_the_contents() -> None:
    written = [path for path in BOOK.rglob("*.md") if "_build" not in path.parts]
    names = [path.relative_to(BOOK).with_suffix("").as_posix() for path in written]
    assert sorted(PAGES) == sorted(names)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_opens_and_closes_as_promised(page: str) -> None:
    opening = source(page).split("\n## ")[0]
    for word in ["Do", "Learn", "Need", "Time"]:
        assert f"\n**{word}**\n: " in opening
    assert source(page).split("\n## ")[-1].startswith("Key points\n\n- ")


def seconds_to_read(page: str) -> float:
    """How long a chapter takes without its exercises, as the page for instructors counts it."""
    text = re.sub(r"^(`{3,4}){exercise}.*?^\1$", "", source(page), flags=re.M | re.S)
    text = re.sub(r"^```{solution-start}.*?{solution-end}\n```$", "", text, flags=re.M | re.S)
    cell = re.compile(r"^```{code-cell}[^\n]*\n(.*?)^```$", re.M | re.S)
    n_lines = sum(bool(line.strip()) for code in cell.findall(text) for line in code.splitlines())
    n_words = len(re.findall(r"\w+", cell.sub("", text)))
    return n_words / 160 * 60 + 4 * n_lines + 8 * len(cell.findall(text))


# Most of the capstone is done, not read.
@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != CAPSTONE])
def test_the_minutes_of_a_chapter_are_those_of_its_length(page: str) -> None:
    said = re.search(r"\*\*Time\*\*\n: (\d+) minutes to read and run", source(page))
    assert said
    assert int(said[1]) * 60 == pytest.approx(seconds_to_read(page), rel=0.2)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_takes_the_minutes_that_the_front_page_says(page: str) -> None:
    reading, exercises = re.search(
        r"\*\*Time\*\*\n: (\d+) minutes to read and run, (\d+) minutes for the exercises",
        source(page),
    ).groups()
    row = re.search(rf"^\| \[.*\]\({page}\.md\).*$", source("index"), re.MULTILINE)
    assert row, f"index.md has no row for {page}"
    assert row.group().split("|")[-3:-1] == [f" {reading} ", f" {exercises} "]


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_shows_what_runs_where_and_asks_to_predict(page: str) -> None:
    assert re.search(r"^```\{figure\} figures/\S+\.svg$", source(page), re.MULTILINE)
    n_asked = len(re.findall(r"^Predict first|Guess before you look", source(page), re.MULTILINE))
    assert n_asked >= (1 if page == CAPSTONE else 2)


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != CAPSTONE])
def test_a_chapter_has_a_test_of_oneself_whose_answers_stay_closed(page: str) -> None:
    text = source(page).split("\n## Check yourself\n")[1].split("\n## ")[0]
    questions = re.findall(r"^\*\*(\d)\.\*\* ", text, re.MULTILINE)
    answers = re.findall(
        r"^```\{dropdown\} Answer to question (\d)\n\*\*([a-c])\)\.\*\* (.+?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    assert len(questions) >= 3
    assert [number for number, _, _ in answers] == questions
    assert text.count("\n- a) ") == text.count("\n- c) ") == len(questions)
    assert all(len(why) > 60 for _, _, why in answers)  # it explains the wrong choices as well
    assert len({right for _, right, _ in answers}) > 1


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != CAPSTONE])
def test_a_chapter_says_where_to_read_on(page: str) -> None:
    further = source(page).split("\n## Where to go next\n")[1].split("\n## ")[0]
    assert re.search(r"`mscourse lab open 0\d`", further)
    assert further.count("\n- ") >= 3


@pytest.mark.parametrize("page", CHAPTERS)
def test_each_exercise_has_one_solution_that_stays_closed(page: str) -> None:
    exercises = re.findall(r"^`+\{exercise\}.*\n:label: (\S+)$", source(page), re.MULTILINE)
    solutions = re.findall(
        r"^```\{solution-start\} (\S+)\n:class: dropdown$", source(page), re.MULTILINE
    )
    assert exercises
    assert solutions == exercises
    assert source(page).count("```{solution-end}") == len(solutions)
    if page != CAPSTONE:
        assert source(page).count("```{dropdown} Hint\n") == len(solutions)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_stops_each_cluster_that_it_starts(page: str) -> None:
    code = "\n".join(code_cells(page))
    assert code.count("ipcluster start") == code.count("ipcluster stop")
    assert code.count(".start_and_connect_sync()") == code.count(".stop_cluster_sync()")


@pytest.mark.parametrize("page", PAGES)
def test_each_picture_says_in_words_what_it_shows(page: str) -> None:
    pictures = r"```\{(?:figure|image|explorable)\} \S+\n(.*?)```"
    for figure in re.findall(pictures, source(page), re.DOTALL):
        assert re.search(r"^alt: >-\n  \w.{40}", figure, re.MULTILINE), figure
    for cell in code_cells(page):
        if "plt." in cell or ".plot" in cell:
            assert re.search(r"^    alt: (>-\n +)?\w.{40}", cell, re.MULTILINE), cell


@pytest.mark.parametrize("page", PAGES)
def test_code_fits_into_the_page(page: str) -> None:
    for cell in code_cells(page):
        code = re.sub(r"\A---\n.*?^---\n", "", cell, flags=re.MULTILINE | re.DOTALL)
        assert [line for line in code.splitlines() if len(line) > CODE_WIDTH] == []


def test_each_word_of_the_glossary_is_there_once_and_in_order() -> None:
    words = re.findall(r"^([a-zA-Z][\w -]*)\n  \S", source("glossary"), re.MULTILINE)
    assert len(words) > 10
    assert words == sorted(set(words), key=str.lower)


def test_each_word_of_the_glossary_is_linked_where_the_course_uses_it() -> None:
    words = re.findall(r"^([a-zA-Z][\w -]*)\n  \S", source("glossary"), re.MULTILINE)
    links = re.findall(r"\{term\}`([^`]+)`", "".join(map(source, ["index", *CHAPTERS])))
    linked = {re.sub(r".*<(.+)>", r"\1", link).lower() for link in links}
    assert [word for word in words if word.lower() not in linked] == []


def test_each_word_that_links_to_the_glossary_is_in_it() -> None:
    entries = re.findall(r"^([a-zA-Z][\w -]*)$", source("glossary"), re.MULTILINE)
    for page in PAGES:
        for link in re.findall(r"\{term\}`([^`]+)`", source(page)):
            target = re.sub(r".*<(.+)>", r"\1", link)
            assert target in entries, f"{page} links to {target}"


def test_the_reference_has_each_public_name_once() -> None:
    names = re.findall(r"^\.\. auto\w+:: mscourse\.(\S+)$", source("api"), re.MULTILINE)
    assert sorted(name for name in names if "." not in name) == mscourse.__all__
    beside = [
        *(f"cluster.{name}" for name in mscourse.cluster.__all__),
        "sklearn.GridSearchCV",
        "sklearn.RandomizedSearchCV",
        "joblib.EnginesBackend",
        "datasets.load_flights",
    ]
    assert set(beside) <= set(names)
    assert len(set(names)) == len(names)


def load(path: str) -> Any:
    return SimpleNamespace(**runpy.run_path(str(BOOK / path)))


def test_the_drawn_figures_are_what_their_code_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BOOK / "figures")
    for path, draw in load("figures/draw.py").FIGURES.items():
        assert path.read_text(encoding="utf-8") == draw(), f"run book/figures/draw.py for {path}"


# --- what makes the pages ----------------------------------------------------------------------

A_PROJECT = {
    "conf.py": """
import sys
sys.path.append({extensions!r})
extensions = ["myst_nb", "published", "notebooks", "social"]
html_theme = "sphinx_book_theme"
html_title = "A small book"
nb_execution_mode = "off"
suppress_warnings = ["misc.highlighting_failure"]
""",
    "index.md": """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---

# A page

It says `<hello>` & more. See [below](below/other.md) and [there](https://example.org).

```{code-cell} ipython3
1 + 1
```

```{toctree}
below/other
```
""",
    "below/other.md": "# Another\n\nWords. Back to [the first](../index.md).\n",
}
ADDRESSES = {
    "BOOK_REPOSITORY_URL": "https://github.com/someone/course",
    "BOOK_BINDERHUB_URL": "https://hub.example.org/",
    "BOOK_URL": "https://course.example.org/book",
}


def build_small_project(folder: Path, addresses: dict[str, str]) -> Path:
    for name, text in A_PROJECT.items():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("{extensions!r}", repr(str(BOOK / "_ext")))
        (folder / "source" / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", folder / "source", folder / "built" / "html"],
        env=clean_environment() | addresses,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "built" / "html"


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BOOK_")}


@pytest.mark.long
def test_pages_name_an_address_only_where_one_is_given(tmp_path: Path) -> None:
    """One project each: with addresses, and without."""
    pages = build_small_project(tmp_path / "without", {})
    text = (pages / "index.html").read_text(encoding="utf-8")
    for word in ("launch-buttons", "binder", "source-repository", "github", "og:url", "canonical"):
        assert word not in text
    assert '<meta property="og:image" content="_static/social-card.png">' in text
    below = (pages / "below" / "other.html").read_text(encoding="utf-8")
    assert '<meta property="og:image" content="../_static/social-card.png">' in below
    notebook = (pages / "_sources" / "index.ipynb").read_text(encoding="utf-8")
    assert "[below](../below/other.html) and [there](https://example.org)" in notebook

    pages = build_small_project(tmp_path / "with", ADDRESSES)
    text = (pages / "index.html").read_text(encoding="utf-8")
    hub = "https://hub.example.org/v2/gh/someone/course/main?urlpath=lab/tree/book/index.md"
    assert f'href="{hub}"' in text
    assert 'href="https://github.com/someone/course"' in text
    assert 'content="https://course.example.org/book/_static/social-card.png"' in text
    assert 'content="https://course.example.org/book/index.html"' in text
    assert 'content="It says &lt;hello&gt; &amp; more. See below and there."' in text
    # A page that does not run has nothing to launch.
    assert hub.partition("?")[0] not in (pages / "below" / "other.html").read_text(encoding="utf-8")


def test_a_hub_without_a_repository_is_refused() -> None:
    with pytest.raises(Exception, match="need BOOK_REPOSITORY_URL"):
        load("_ext/published.py").theme_options({"BOOK_JUPYTERHUB_URL": "https://example.org"})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("grid_search", "grid_search"),
        ("mscourse.grid_search", "grid_search"),
        ("mscourse.local_cluster(4)", "local_cluster"),
        ("Search.wait", "Search.wait"),
        ("mscourse.cluster.connect", "cluster.connect"),
        ("mscourse", None),
        ("grid_searches", None),
        ("Search._log", None),
        ("search = grid_search(model)", None),
        ("client.wait", None),
    ],
)
def test_a_mention_is_told_from_other_code(text: str, name: str | None) -> None:
    links = load("_ext/api_links.py")
    assert links.mentioned(text, links.documented_names(source("api"))) == name


def test_outputs_are_made_again_when_what_they_come_from_changes() -> None:
    """But not when only the look of the pages changes."""
    sources = {str(path.relative_to(BOOK.parent)) for path in load("build.py")._sources()}
    for name in (
        "mscourse/search.py",
        "mscourse/cluster/ec2.py",
        "tests/rig/cloud.py",
        "book/figures/draw.py",
        "book/build.py",
        "benchmarks/results.json",
        "book/explorables/tables.py",
        "book/explorables/panel.js",
        "book/data/spot_prices_t3_micro.csv",
    ):
        assert name in sources
    assert not [name for name in sources if "/_ext/" in name or name.endswith(".pyc")]


def test_without_jupyter_book_the_settings_are_the_same_but_for_its_own() -> None:
    """That the pages can be built so is tried by `make plain-sphinx`, which takes minutes."""
    settings = load("plain.py").settings()
    assert {"myst_nb", "offline", "tidy", "numpydoc"} <= set(settings["extensions"])
    assert not [name for name in settings["extensions"] if "jupyter" in name or "thebe" in name]
    assert settings["html_title"] == "Distributed Model Selection and Assessment"
    assert Path(settings["html_logo"]).is_file()
    assert settings["nb_execution_mode"] == "off"


def test_faults_of_the_libraries_are_mended() -> None:
    mend = load("_ext/tidy.py").mend
    summary = (
        '<summary><p class="collapsed admonition-title">Show</p>\n'
        '<p class="expanded admonition-title">Hide</p>\n</summary><p class="admonition-title">x</p>'
    )
    assert mend(summary)[0].count("<span") == 2
    assert mend(summary)[0].count("<p") == 1
    table = "<style scoped>\n td {}\n</style>\n<table class='a'><tr></tr></table>"
    framed = (
        '<div class="table-frame" tabindex="0" role="group" aria-label="Table"><table class=\'a\'>'
    )
    assert mend(table) == (f"{framed}<tr></tr></table></div>", "")
    styled = '<style type="text/css">#T_1 { color: red }</style><p>x</p>'
    assert mend(styled) == ("<p>x</p>", "<style>\n#T_1 { color: red }\n</style>\n")
    framed = '<div class="pst-scrollable-table-container"><table></table></div>'
    assert mend(framed) == (framed, "")
    assert mend('<section id="exercise-content">') == ("<section>", "")


def test_pages_that_ran_side_by_side_are_not_run_again(tmp_path: Path) -> None:
    """The book's own reader finds their outputs; a page that fails is left to it."""
    texts = {}
    for name, cell in [("good", "print(6 * 7)"), ("bad", "1 / 0")]:
        kernel = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
        note = ":::{note}\nText\n:::\n"  # an extension that _config.yml names
        code = f"```{{code-cell}} ipython3\n:tags: [hide-input]\n{cell}\n```\n"
        texts[name] = "\n".join([kernel, note, code])
        (tmp_path / f"{name}.md").write_text(texts[name])
    script = BOOK / "sidebyside.py"
    pages = [tmp_path / "good.md", tmp_path / "bad.md"]
    subprocess.run([sys.executable, script, tmp_path / "cache", "60", *pages], check=True)
    configuration = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
    extensions = configuration["parse"]["myst_enable_extensions"]
    reader = MdParserConfig(enable_extensions=extensions)
    cache = get_cache(tmp_path / "cache")
    page = read_myst_markdown_notebook(texts["good"], reader, add_source_map=True)
    _, page = cache.merge_match_into_notebook(page)
    assert page.cells[-1].outputs[0].text == "42\n"
    with pytest.raises(KeyError):
        cache.match_cache_notebook(read_myst_markdown_notebook(texts["bad"], reader))


def test_the_pages_that_run_side_by_side_exist() -> None:
    assert not [
        page for page in load("build.py").SIDE_BY_SIDE if not (BOOK / f"{page}.md").exists()
    ]

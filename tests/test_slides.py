"""The slides: made from a small chapter and from those of the book, and looked at in a browser."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bookpages import BOOK, CAPSTONE, CHAPTERS, chromium, source

sys.path.append(str(BOOK))

import slideblocks
import slides
from slideblocks import Block, Outputs, Reader

SAMPLE = """---
kernelspec:
  name: python3
---

# A *small* chapter

```{admonition} Before you start
:class: tip chapter-opening

**Do**
: read
```

(a-target)=
## First section

An {term}`engine <engine>` and {term}`host`; [inside](01-primer.md), [outside](https://example.org).

```{figure} figure.svg
---
alt: A red square
name: fig-square
---
The caption.
```

```{explorable} ring
---
alt: The ring
---
Play with it.
```

It prints:

```{code-cell} ipython3
---
mystnb:
  image:
    alt: A plot
---
print("a" < "b")
```

### A subsection

````{exercise} Try *it*
:label: ex-it

Write it.

```{code-cell} ipython3
print("in the exercise")
```
````

```{solution-start} ex-it
:class: dropdown
```

The secret text.

```{code-cell} ipython3
print("the secret code")
```

```{solution-end}
```

```{code-cell} ipython3
:tags: [hide-input]

print("the hidden input")
```

```{note}
In a box.
```

```{admonition} A & *b*
In another.
```

## Second section

$x^2$ is a formula, and this goes on.

1. one
2. two

```{dropdown} Answer
The secret answer.
```
"""
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="9"/></svg>'


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    (tmp_path / "explorables").mkdir()
    for name in ("figure.svg", "explorables/ring.svg"):
        (tmp_path / name).write_text(SQUARE, encoding="utf-8")
    (tmp_path / "sample.md").write_text(SAMPLE, encoding="utf-8")
    return tmp_path / "sample.md"


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """The sample's notebook, as the book's build leaves it."""
    v4 = nbformat.v4
    sources = ['print("a" < "b")', 'print("the secret code")', 'print("the hidden input")']
    printed = ["50 %\rTrue & more\r\n", "the secret output\n", "\x1b[31mred\x1b[0m\n"]
    cells = [
        v4.new_code_cell(source, outputs=[v4.new_output("stream", text=text)])
        for source, text in zip(sources, printed, strict=True)
    ]
    picture = v4.new_output("display_data", {"image/svg+xml": SQUARE, "text/plain": "<Figure>"})
    cells[0].outputs.append(picture)
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "sample.ipynb")
    return tmp_path / "sample.ipynb"


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def html_of(chapter: Path, outputs: Outputs) -> str:
    _, columns = slides.read_chapter(chapter, outputs)
    return "".join(slide for column in columns for slide in column)


# -- from text to slides -------------------------------------------------------------------------


def test_sections_are_columns_and_subsections_go_down(sample: Path) -> None:
    title, columns = slides.read_chapter(sample, Outputs(sample.with_suffix(".ipynb")))
    assert title == "A <em>small</em> chapter"
    opening, first, second = columns
    assert [re.findall("<h[12]>.*</h[12]>", slide)[0] for slide in opening] == [
        "<h1>A <em>small</em> chapter</h1>",
        "<h2>Before you start</h2>",
    ]
    headings = [re.findall("<h2>(.*)</h2>", slide)[0] for slide in first]
    assert list(dict.fromkeys(headings)) == [
        "First section",
        "Exercise: Try <em>it</em>",
        "A subsection",  # what follows an exercise is not part of it
    ]
    assert len(second) == 1


def test_what_a_slide_shows_is_text_and_no_markup(sample: Path) -> None:
    html = html_of(sample, Outputs(sample.with_suffix(".ipynb")))
    text = words(html)
    assert "An engine and host; inside, outside ." in text
    assert html.count("<a ") == 1
    assert "secret" not in text
    assert "hidden input" not in text
    for markup in ("{", "```", ":::", ":label:", "alt:", "(a-target)", "ipython3", "$"):
        assert markup not in text
    assert '<ol start="2">' in html  # each item of a list may go to the next slide
    assert r'<span class="math">\(x^2\)</span>' in html
    assert re.search(r'class="box"><p><strong>Note</strong></p><p>In a box', html)
    assert "<strong>A &amp; <em>b</em></strong>" in html


def test_pictures_have_their_alternative_text_and_their_caption(sample: Path) -> None:
    html = html_of(sample, Outputs(sample.with_suffix(".ipynb")))
    assert re.findall(r'alt="(.*?)"', html) == ["A red square", "The ring"]
    assert "data:image/svg+xml;base64," in html
    assert "<figcaption><p>The caption.</p>" in html


def test_outputs_are_those_of_the_built_book(sample: Path, executed: Path) -> None:
    outputs = Outputs(executed)
    html = html_of(sample, outputs)
    assert '<pre class="output">True &amp; more</pre>' in html
    assert '<pre class="output">red</pre>' in html
    assert 'alt="A plot"' in html
    assert "secret" not in html
    assert outputs.remark() == ", without some outputs: 1 cells have changed since `make book`"
    assert "run `make book` first" in Outputs(executed.with_name("none.ipynb")).remark()


def test_an_unknown_directive_is_named(sample: Path) -> None:
    sample.write_text("# Title\n\n```{surprise} x\n```\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"sample\.md, directive \{surprise\} near line 3"):
        Reader(sample, Outputs(sample.with_suffix(".ipynb"))).blocks()


def test_what_does_not_fit_goes_down_and_a_lead_goes_with_what_it_leads_to() -> None:
    text, lead = Block(html="t", height=300), Block(html="l", height=40, leads=True)
    code = Block(html="c", height=250, is_code=True)
    assert slides.pack([text, lead, code]) == [[text], [lead, code]]
    assert slides.pack([code, code]) == [[code], [code]]
    assert slides.pack([lead, lead]) == [[lead, lead]]
    huge = Block(html="h", height=10 * slides.ROOM)
    assert slides.pack([lead, huge]) == [[lead], [huge]]
    assert slides.pack([]) == []


def test_no_line_stays_alone_if_it_can_be_with_what_is_beside_it() -> None:
    line, text = Block(html="l", height=40), Block(html="t", height=320)
    code = Block(html="c", height=100, is_code=True)
    output = Block(html="o", height=90, follows=True)
    # What the code gave stays with it, and both go to the line.
    assert slides.pack([text, code, output, line]) == [[text], [code, output, line]]
    # Into the room that is spare; there is none for two.
    full = Block(html="f", height=slides.ROOM + slides.SPARE - 40 - 2 * 16)
    assert slides.pack([full, line]) == [[full, line]]
    assert slides.pack([line, full]) == [[line, full]]
    assert slides.pack([full, line, line]) == [[full], [line, line]]
    # A line is not left alone for another, nor taken from an exercise.
    assert slides.pack([line, text, replace(text, height=150), line]) == [
        [line, text],
        [replace(text, height=150), line],
    ]
    exercise = replace(line, heading="Exercise", starts_slide=True)
    assert slides.pack([text, exercise]) == [[text], [exercise]]


def test_what_is_said_of_answers_is_not_on_slides_which_have_none(sample: Path) -> None:
    (said,) = slideblocks._ONLY_ON_PAGES
    assert all(said in source(name) for name in CHAPTERS if name != CAPSTONE)
    sample.write_text(f"# Title\n\n## Check\n\n{said}\n\nA question.\n", encoding="utf-8")
    html = html_of(sample, Outputs(sample.with_suffix(".ipynb")))
    assert "A question." in html
    assert said not in html


def test_long_code_is_cut_at_an_empty_line_and_loses_none(sample: Path) -> None:
    lines = [f"x{n} = {n}" if n % 9 else "" for n in range(1, 51)]
    sample.write_text("```python\n" + "\n".join(lines) + "\n```\n", encoding="utf-8")
    blocks = Reader(sample, Outputs(sample.with_suffix(".ipynb"))).blocks()
    assert len(blocks) == 3
    assert words(" ".join(block.html for block in blocks)) == words(" ".join(lines))


# -- the chapters --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides") / "slides"
    chapters = [str(BOOK / f"{name}.md") for name in CHAPTERS]
    assert slides.main([*chapters, "--folder", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_markup_of_a_chapter_shows(made: Path, name: str) -> None:
    html = (made / f"{name}.html").read_text(encoding="utf-8")
    code = r'<pre.*?</pre>|<code.*?</code>|<script.*?</script>|<span class="math">.*?</span>'
    prose = words(re.sub(code, " ", html, flags=re.DOTALL))
    assert not re.findall(r"\{[a-z-]+\}|`|:::|:label:|\(#|\.md\)|\[\]", prose)
    assert not re.findall(r"```\{|\{code-cell\}|solution-(?:start|end)", html)
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"https?:", html)
    n_exercises = (BOOK / f"{name}.md").read_text(encoding="utf-8").count("```{exercise}")
    assert len(set(re.findall("<h2>Exercise: .*</h2>", html))) == n_exercises > 0


@pytest.mark.parametrize("name", CHAPTERS)
def test_slides_fit_and_keys_move_and_nothing_is_fetched(
    made: Path, browser: Any, name: str
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: (
            said.append(request.url) if not request.url.startswith(("file:", "data:")) else None
        ),
    )
    page.goto((made / f"{name}.html").as_uri())
    page.wait_for_function("Reveal.isReady()")
    page.evaluate("document.fonts.ready")

    def position() -> tuple[int, int]:
        indices = page.evaluate("Reveal.getIndices()")
        return indices["h"], indices.get("v", 0)

    moves = [("ArrowDown", (0, 1)), ("ArrowUp", (0, 0)), ("ArrowRight", (1, 0))]
    for key, expected in [*moves, ("ArrowLeft", (0, 0)), ("Space", (0, 1))]:
        page.keyboard.press(key)
        assert position() == expected, key

    # Nothing is lower than the slide, nor further to the right.
    ends = page.evaluate(
        """() => [...document.querySelectorAll(".slides section:not(.stack)")].map((slide) => {
          const { h, v } = Reveal.getIndices(slide);
          Reveal.slide(h, v);
          const parts = [...slide.querySelectorAll("*")];
          const boxes = parts.map((part) => part.getBoundingClientRect());
          return [h + 1, v + 1, Math.max(...boxes.map((box) => box.bottom)),
                  Math.max(...boxes.map((box) => box.right))];
        })"""
    )
    assert [end for end in ends if end[2] > 720 or end[3] > 1280] == []
    assert 15 <= len(ends) <= 120
    assert said == []
    page.close()


def test_the_contents_lead_to_the_slides(made: Path) -> None:
    html = (made / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]+\.html)"', html)
    assert links == [f"{name}.html" for name in CHAPTERS]
    assert all((made / link).exists() for link in links)


def test_slides_of_one_chapter_remove_nothing_else(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "talk"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    first = BOOK / f"{CHAPTERS[0]}.md"
    for chapter in (first, sample):
        assert slides.main(["--folder", str(folder), str(chapter)]) == 0
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]+\.html)"', html) == [f"{CHAPTERS[0]}.html", "sample.html"]
    assert "A *small* chapter" in html
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"

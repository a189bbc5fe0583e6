"""Make slides of the chapters: what `make slides` calls.

::

    chapter.md ──Markdown──→ blocks, each with its height ──packed──→ slides ──→ chapter.html
                               ↑
    outputs of the last `make book`, where the cells are still the same

The text, the code and the figures are those of the chapters; what a solution or a dropdown hides is
left out. A section is a column of slides. They go to ``book/_build/slides``, open from the disk,
and need no network: reveal.js comes from the installed package ``sphinx-revealjs``.

    python book/slides.py                      # all chapters
    python book/slides.py book/01-primer.md    # one of them
"""

from __future__ import annotations

import argparse
import shutil
import sys
from html import escape
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

from pygments.formatters import HtmlFormatter
from slideblocks import Block, Outputs, Reader, height_of

BOOK = Path(__file__).resolve().parent
EXECUTED = BOOK / "_build" / "jupyter_execute"
SLIDES = BOOK / "_build" / "slides"
CHAPTERS = "[0-9][0-9]-*.md"
COURSE = "Distributed Model Selection and Assessment"

# Of the 720 px that a slide is high, what its heading and the borders leave.
ROOM = 570

# Heights are estimates. So much of the room is spare, and is used for a line that would be alone:
# two lines of text at the most.
SPARE = 30
LEAST = 92

_REVEAL = (
    "dist/reset.css",
    "dist/reveal.css",
    "dist/reveal.js",
    "plugin/notes/notes.js",
    "LICENSE",
)
_FONTS = "dist/theme/fonts/source-sans-pro"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
{styles}
</head>
<body>
{body}
</body>
</html>
"""
_DECK = """<div class="reveal"><div class="slides">
{columns}
</div></div>
<script src="reveal/reveal.js"></script>
<script src="reveal/notes.js"></script>
<script>
Reveal.initialize({{
  width: 1280, height: 720, margin: 0.02, center: false, hash: true,
  slideNumber: "h.v", transition: "none", plugins: [RevealNotes],
}});
</script>{mathjax}"""
_MATHJAX = "tex-svg-full.js"


def main(arguments: list[str] | None = None) -> int:
    """Make the slides and return the exit status."""
    parser = argparse.ArgumentParser(description="Make slides of the chapters.")
    parser.add_argument("chapters", nargs="*", type=Path, help="the chapters' files; all if none")
    parser.add_argument("--folder", type=Path, default=SLIDES, help="where the slides go")
    options = parser.parse_args(arguments)
    chapters = [each.resolve() for each in options.chapters] or sorted(BOOK.glob(CHAPTERS))
    copy_reveal(options.folder)
    for chapter in chapters:
        outputs = Outputs(EXECUTED / f"{chapter.stem}.ipynb")
        title, columns = read_chapter(chapter, outputs)
        page = deck(title, columns)
        (options.folder / f"{chapter.stem}.html").write_text(page, encoding="utf-8")
        n_slides = sum(len(column) for column in columns)
        _say(f"  {n_slides:3} slides  {chapter.stem}{outputs.remark()}")
    write_contents(options.folder, chapters)
    _say(f"\nThe slides are made. Open {options.folder / 'index.html'}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def read_chapter(chapter: Path, outputs: Outputs) -> tuple[str, list[list[str]]]:
    """Give the title of a chapter, and its columns: the slides of each section, as HTML."""
    blocks = Reader(chapter, outputs).blocks()
    title, section, heading = chapter.stem, "", ""
    columns: list[list[str]] = []
    waiting: list[Block] = []

    def finish() -> None:
        columns[-1].extend(slide(section, heading, each) for each in pack(waiting))
        waiting.clear()

    for block in blocks:
        if block.level == 0:
            waiting.append(block)
            continue
        if columns:
            finish()
        if block.level == 1:
            title = section = heading = block.html
            columns.append([f'<section class="title"><p>{COURSE}</p><h1>{title}</h1></section>'])
        elif block.level == 2:
            section = heading = block.html
            columns.append([])
        else:
            heading = block.html
    finish()
    return title, [column for column in columns if column]


def pack(blocks: list[Block]) -> list[list[Block]]:
    """Distribute blocks over slides, in their order: what fits, and one code cell at most.

    A line that leads to what follows, with a colon, goes with it if there is room. No line stays
    alone if what is beside it can be with it.
    """
    slides: list[list[Block]] = [[]]
    for block in blocks:
        if not block.html:  # the end of an exercise
            slides.append([])
            continue
        current = slides[-1]
        has_code = block.is_code and any(each.is_code for each in current)
        too_high = height_of([*current, block]) > ROOM
        if current and (has_code or too_high or block.starts_slide):
            leads = len(current) > 1 and current[-1].leads and not block.starts_slide
            fits = height_of([current[-1], block]) <= ROOM
            slides.append([current.pop(), block] if leads and fits else [block])
        else:
            current.append(block)
    return _in_company([each for each in slides if each])


def _in_company(slides: list[list[Block]]) -> list[list[Block]]:
    """Join a line that would be alone with the slide beside it, or with the end of that."""
    for before, after in pairwise(slides):
        if before[0].heading != after[0].heading:
            continue
        together = [*before, *after]
        if (_is_alone(before) or _is_alone(after)) and height_of(together) <= ROOM + SPARE:
            before[:], after[:] = [], together
        elif _is_alone(after):
            n = _n_that_stay(before, after)
            before[:], after[:] = together[:n], together[n:]
    return [each for each in slides if each]


def _is_alone(blocks: list[Block]) -> bool:
    return height_of(blocks) <= LEAST and not any(block.is_code for block in blocks)


def _n_that_stay(before: list[Block], alone: list[Block]) -> int:
    """Say how many blocks of a slide stay where they are, and do not go to a line that is alone."""
    for n in range(len(before) - 1, 0, -1):
        stays, goes = before[:n], before[n:]
        is_cut_well = not goes[0].follows and not stays[-1].leads
        if is_cut_well and height_of(stays) > LEAST and height_of([*goes, *alone]) <= ROOM:
            return n
    return len(before)


def slide(section: str, heading: str, blocks: list[Block]) -> str:
    """Write one slide; above its heading stands the section, if that is another one."""
    kicker, heading = section, blocks[0].heading or heading
    above = f'<p class="kicker">{kicker}</p>' if kicker != heading else ""
    body = "\n".join(block.html for block in blocks)
    return f"<section>{above}<h2>{heading}</h2>\n{body}\n</section>"


def deck(title: str, columns: list[list[str]]) -> str:
    """Write the page of a chapter."""
    sections = "\n".join(f"<section>\n{''.join(column)}\n</section>" for column in columns)
    has_math = 'class="math"' in sections
    mathjax = f'\n<script src="reveal/{_MATHJAX}"></script>' if has_math else ""
    body = _DECK.format(columns=sections, mathjax=mathjax)
    styles = ("reveal/reset.css", "reveal/reveal.css", "slides.css")
    return _page(f"{title} | {COURSE}", body, *styles)


def _page(title: str, body: str, *styles: str) -> str:
    links = "\n".join(f'<link rel="stylesheet" href="{style}">' for style in styles)
    return _PAGE.format(title=title, body=body, styles=links)


def write_contents(folder: Path, chapters: list[Path]) -> None:
    """Write the first page, with a link to each chapter here that has slides."""
    # Those of the course that were made earlier are still there.
    course = [each for each in sorted(BOOK.glob(CHAPTERS)) if each not in chapters]
    links = [
        f'<li><a href="{chapter.stem}.html">{escape(_title(chapter))}</a></li>'
        for chapter in sorted([*chapters, *course], key=lambda chapter: chapter.stem)
        if (folder / f"{chapter.stem}.html").exists()
    ]
    contents = f'<main><h1>{COURSE}</h1><ol class="contents">{"".join(links)}</ol></main>'
    index = _page(COURSE, contents, "slides.css")
    (folder / "index.html").write_text(index, encoding="utf-8")


def _title(chapter: Path) -> str:
    lines = chapter.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ")), chapter.stem)


def copy_reveal(folder: Path) -> None:
    """Put what the slides load beside them."""
    target = folder / "reveal"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    package = distribution("sphinx-revealjs")
    source = Path(str(package.locate_file("sphinx_revealjs/_static/revealjs")))
    for name in _REVEAL:
        shutil.copy(source / name, target)
    unused = shutil.ignore_patterns("*.eot", "*.ttf")
    shutil.copytree(source / _FONTS, target / "fonts", ignore=unused)
    package = distribution("sphinx-mathjax-offline")
    path = f"sphinx-mathjax-offline/static/mathjax/{_MATHJAX}"
    shutil.copy(Path(str(package.locate_file(path))), target)
    colours = HtmlFormatter(style="default").get_style_defs("pre.code")
    style = (BOOK / "slides.css").read_text(encoding="utf-8")
    (folder / "slides.css").write_text(f"{style}\n{colours}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

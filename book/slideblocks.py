"""Read a chapter as a row of blocks for slides: paragraphs, list items, code cells, figures.

Each block has its HTML and how high it will be, estimated, in pixels of a slide of 1280 by 720.
"""

from __future__ import annotations

import base64
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import nbformat
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

# As in slides.css: what fits into a line, how high a line is, and the space below a block.
_TEXT = (86, 38)
_CELL = (96, 32)
_CODE = (91, 27)
_GAP = 16
_MOST_CODE_LINES = 20
_MOST_OUTPUT_LINES = 16

# Of pictures, in pixels.
_WIDEST, _HIGHEST = 1100, 420

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_BOXES = ("admonition", "note", "tip", "warning", "important", "caution", "seealso", "hint")
_HIDDEN = ("dropdown",)

# What the pages say of answers that one opens, which slides do not have.
_ONLY_ON_PAGES = ("Answer first, then open.",)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a slide; of a heading, `level` tells which, and `html` has its words.

    One without HTML ends a slide. One that `leads` says what comes next; one that `follows` is
    what the code before it gave.
    """

    html: str
    height: float = 0
    level: int = 0
    is_code: bool = False
    leads: bool = False
    follows: bool = False
    starts_slide: bool = False
    heading: str = ""


def height_of(blocks: Iterable[Block]) -> float:
    """Add up heights, with the space below each."""
    return sum(block.height + _GAP for block in blocks)


class Outputs:
    """What the cells of a chapter printed when the book was built last."""

    def __init__(self, executed: Path) -> None:
        self._exists = executed.exists()
        self._n_changed = 0
        self._of: dict[str, list[list[Any]]] = defaultdict(list)
        if self._exists:
            for cell in nbformat.read(executed, as_version=4).cells:
                if cell.cell_type == "code":
                    self._of[cell.source.strip()].append(cell.outputs)

    def take(self, source: str) -> list[Any]:
        """Give the outputs of the next cell with this source; none if there is no such cell."""
        waiting = self._of[source.strip()]
        self._n_changed += not waiting
        return waiting.pop(0) if waiting else []

    def remark(self) -> str:
        """Say which outputs are missing."""
        if not self._exists:
            return ", without outputs: run `make book` first"
        changed = f"{self._n_changed} cells have changed since `make book`"
        return f", without some outputs: {changed}" if self._n_changed else ""


class Reader:
    """Reads one chapter."""

    def __init__(self, chapter: Path, outputs: Outputs) -> None:
        self._chapter = chapter
        self._outputs = outputs
        self._markdown = MarkdownIt("commonmark").enable("table")
        self._markdown.use(deflist_plugin).use(myst_role_plugin).use(myst_block_plugin)
        self._markdown.use(dollarmath_plugin, renderer=_math)
        self._markdown.add_render_rule("myst_role", _words_of_role)
        for name in ("myst_target", "myst_line_comment", "myst_block_break"):
            self._markdown.add_render_rule(name, lambda *_: "")

    def blocks(self) -> list[Block]:
        """Give all blocks, without the solutions."""
        text = self._chapter.read_text(encoding="utf-8")
        return list(self._read(re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)))

    def _read(self, text: str) -> Iterator[Block]:
        tokens = iter(self._markdown.parse(text))
        in_solution = False
        for token in tokens:
            name = _directive(token)[0]
            if name in ("solution-start", "solution-end"):
                in_solution = name == "solution-start"
            group = [token]
            while sum(each.nesting for each in group):
                group.append(next(tokens))
            if in_solution or name in ("solution-start", "solution-end"):
                if name == "code-cell":  # it has outputs that belong to no other cell
                    self._outputs.take(_split_options(token.content)[1])
            elif name:
                yield from self._from_directive(token)
            else:
                yield from self._from_markdown(group)

    def _from_markdown(self, group: list[Token]) -> Iterator[Block]:
        kind = group[0].type
        if kind == "heading_open":
            level = min(int(group[0].tag[1]), 3)
            yield Block(html=self._html(group[1:-1]), level=level)
        elif kind == "fence":
            yield from _code(group[0].content, group[0].info.split(" ")[0] or "text")
        elif kind in ("bullet_list_open", "ordered_list_open", "dl_open"):
            for item in _parts(group[1:-1]):
                html = self._html([group[0], *item, group[-1]])
                yield Block(html=html, height=_height_of_text(html, indent=6))
                if kind == "ordered_list_open":
                    group[0] = _copy_with_start(group[0])
        elif any(each.content in _ONLY_ON_PAGES for each in group):
            return
        elif html := self._html(group):
            height = _height_of_table(html) if kind == "table_open" else _height_of_text(html)
            yield Block(html=html, height=height, leads=html.endswith(":</p>\n"))

    def _from_directive(self, token: Token) -> Iterator[Block]:
        name, argument = _directive(token)
        options, body = _split_options(token.content)
        if name == "code-cell":
            yield from self._from_cell(body, options)
        elif name in ("figure", "explorable"):
            path = f"explorables/{argument}.svg" if name == "explorable" else argument
            picture = self._chapter.parent / path
            image = _image(picture.read_bytes(), picture.suffix, str(options["alt"]))
            caption = list(self._read(body))
            words = "".join(block.html for block in caption)
            html = f"<figure>{image.html}<figcaption>{words}</figcaption></figure>"
            yield Block(html=html, height=height_of([image, *caption]))
        elif name == "exercise" or "chapter-opening" in str(options.get("class")):
            heading = ("Exercise: " if name == "exercise" else "") + self._inline(argument)
            for number, block in enumerate(self._read(body)):
                yield replace(block, heading=heading, starts_slide=number == 0)
            yield Block(html="")  # what follows is not part of it
        elif name in _BOXES:
            title = self._inline(argument) if argument else name.capitalize()
            blocks = list(self._read(body))
            html = "".join(block.html for block in blocks)
            box = f'<div class="box"><p><strong>{title}</strong></p>{html}</div>'
            yield Block(html=box, height=height_of(blocks) + 2 * _TEXT[1])
        elif name not in _HIDDEN:
            line = token.map[0] + 1 if token.map else "?"
            raise ValueError(
                f"{self._chapter.name}, directive {{{name}}} near line {line} of its text: slides "
                "do not know it. Say in book/slideblocks.py what becomes of it."
            )

    def _from_cell(self, source: str, options: dict[str, Any]) -> Iterator[Block]:
        outputs = self._outputs.take(source)
        tags = options.get("tags", [])
        if {"hide-cell", "remove-cell"} & {*tags}:
            return
        shows_input = not {"hide-input", "remove-input"} & {*tags}
        if shows_input:
            yield from _code(source, "ipython3")
        if not {"hide-output", "remove-output"} & {*tags}:
            alt = options.get("mystnb", {}).get("image", {}).get("alt", "The picture of this cell.")
            for number, block in enumerate(_printed(outputs, alt)):
                yield replace(block, follows=shows_input or number > 0)

    def _inline(self, text: str) -> str:
        return self._html(self._markdown.parse(text)[1:-1])

    def _html(self, tokens: list[Token]) -> str:
        for token in tokens:
            token.children = token.children and list(_without_inner_links(token.children))
        return str(self._markdown.renderer.render(tokens, self._markdown.options, {}))


def _directive(token: Token) -> tuple[str, str]:
    """Give the name and the argument of a directive; two empty words for anything else."""
    found = re.match(r"\{([a-z-]+)\}\s*(.*)", token.info) if token.type == "fence" else None
    return (found[1], found[2].strip()) if found else ("", "")


def _split_options(content: str) -> tuple[dict[str, Any], str]:
    """Split what is in a directive into its options and its body."""
    if found := re.match(r"---\n(.*?)\n---\n?(.*)", content, re.DOTALL):
        return yaml.safe_load(found[1]) or {}, found[2].strip("\n")
    found = re.match(r"((?::[\w-]+:[^\n]*\n)*)(.*)", content, re.DOTALL)
    assert found
    lines = [line[1:].partition(":") for line in found[1].splitlines()]
    return {name: yaml.safe_load(value) for name, _, value in lines}, found[2].strip("\n")


def _parts(tokens: list[Token]) -> Iterator[list[Token]]:
    """Give the items of a list one by one: a term comes with what follows it."""
    part: list[Token] = []
    depth = 0
    for token in tokens:
        begins = depth == 0 and token.type in ("list_item_open", "dt_open")
        if begins and part:
            yield part
            part = []
        part.append(token)
        depth += token.nesting
    yield part


def _copy_with_start(token: Token) -> Token:
    """Give the opening of an ordered list that goes on with the next number."""
    copy = token.copy()
    copy.attrs = {**token.attrs, "start": int(token.attrs.get("start", 1)) + 1}
    return copy


def _words_of_role(_: Any, tokens: list[Token], index: int, *__: Any) -> str:
    return escape(re.sub(r"\s*<[^>]*>$", "", tokens[index].content))


def _math(content: str, options: dict[str, Any]) -> str:
    left, right = (r"\[", r"\]") if options["display_mode"] else (r"\(", r"\)")
    return f'<span class="math">{left}{escape(content)}{right}</span>'


def _without_inner_links(children: list[Token]) -> Iterator[Token]:
    """Keep the words of a link to another page of the book, and the links to elsewhere."""
    inside = False
    for child in children:
        if child.type == "link_open":
            inside = "://" not in str(child.attrs["href"])
        if not (inside and child.type in ("link_open", "link_close")):
            yield child


def _height_of_text(html: str, *, indent: int = 0) -> float:
    per_line, line_px = _TEXT
    words = unescape(re.sub(r"<[^>]+>", "", html)).strip()
    lines = re.split(r"\n(?=\n)|(?<=</dt>)\n", words) if "<p>" in html else [words]
    return sum(math.ceil(len(line) / (per_line - indent)) * line_px for line in lines if line)


def _height_of_table(html: str) -> float:
    per_line, line_px = _CELL
    height = 0.0
    for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL):
        cells = [unescape(re.sub(r"<[^>]+>", "", each)) for each in re.split(r"</t[dh]>", row)]
        longest = max(len(each.strip()) for each in cells)
        height += math.ceil(longest / (per_line / (len(cells) - 1))) * line_px + 8
    return height


def _code(source: str, language: str) -> Iterator[Block]:
    """Give one block, or several if the code is long: cut at empty lines where there are any."""
    lines = source.rstrip("\n").split("\n")
    while lines:
        end = len(lines)
        if end > _MOST_CODE_LINES:
            gaps = [n for n in range(5, _MOST_CODE_LINES + 1) if not lines[n].strip()]
            end = gaps[-1] if gaps else _MOST_CODE_LINES
        part = "\n".join(lines[:end]).strip("\n")
        lexer = get_lexer_by_name(language, stripnl=False)
        coloured = highlight(part, lexer, HtmlFormatter(nowrap=True))
        html = f'<pre class="code"><code>{coloured}</code></pre>'
        yield Block(html=html, height=_height_of_code(part) + 16, is_code=True)
        lines = lines[end:]


def _height_of_code(text: str) -> float:
    per_line, line_px = _CODE
    return sum(max(1, math.ceil(len(line) / per_line)) for line in text.split("\n")) * line_px


def _printed(outputs: list[Any], alt: str) -> Iterator[Block]:
    for output in outputs:
        data = output.get("data", {})
        if output.output_type == "stream":
            yield _text_output(output.text)
        elif output.output_type == "error":
            yield _text_output(f"{output.ename}: {output.evalue}")
        elif "image/svg+xml" in data:
            yield _image(data["image/svg+xml"].encode(), ".svg", alt)
        elif "image/png" in data:
            yield _image(base64.b64decode(data["image/png"]), ".png", alt)
        elif "text/html" in data:
            html = re.sub(r"<(style|script).*?</\1>", "", data["text/html"], flags=re.DOTALL)
            height = _height_of_table(html) + 30 * html.count("<div>")
            yield Block(html=f'<div class="output">{html}</div>', height=height)
        elif "text/plain" in data:
            yield _text_output(data["text/plain"])


def _text_output(text: str) -> Block:
    lines = _ANSI.sub("", text).rstrip("\n").split("\n")
    shown = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines[:_MOST_OUTPUT_LINES])
    shown += "\n…" if len(lines) > _MOST_OUTPUT_LINES else ""
    return Block(html=f'<pre class="output">{escape(shown)}</pre>', height=_height_of_code(shown))


def _image(content: bytes, suffix: str, alt: str) -> Block:
    """Put a picture into the page itself, as large as there is room for."""
    kind = "svg+xml" if suffix == ".svg" else suffix[1:]
    width, height = _size_px(content, suffix)
    scale = min(_WIDEST / width, _HIGHEST / height, 1.6)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    size = f'width="{scale * width:.0f}" height="{scale * height:.0f}"'
    html = f'<img src="{source}" {size} alt="{escape(alt)}">'
    return Block(html=html, height=scale * height)


def _size_px(content: bytes, suffix: str) -> tuple[float, float]:
    if suffix == ".png":
        return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    opening = re.search(rb"<svg.*?>", content, re.DOTALL)
    found = opening and re.search(rb'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', opening[0])
    if not found:
        raise ValueError("An SVG picture has no viewBox, so that its size is not known.")
    return float(found[1]), float(found[2])

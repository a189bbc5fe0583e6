"""Draw the book's figures that are not computed: run ``python book/figures/draw.py``.

Each figure is a function that returns the text of an SVG file. They are drawn for a column 480
units wide, so that their words are still read on a telephone. The colours are Okabe and Ito's,
which colour-blind readers tell apart (https://jfly.uni-koeln.de/color/), and each colour also has
a word in it: nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

FOLDER = Path(__file__).resolve().parent

BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
PALE_BLUE, PALE_GREEN, PALE_GREY = "#d6e9f5", "#d5efe7", "#f1f1f1"
INK, GREY = "#1b1b1b", "#5c5c5c"
WIDTH = 480

N_SPLITS = 3
PARAMETERS = {"gamma": ["0.0001", "0.001", "0.01"], "C": ["0.1", "1", "10"]}


def figure(height: int, title: str, parts: list[str]) -> str:
    """Put the parts into one SVG document on a white sheet."""
    body = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="Helvetica, Arial, sans-serif">\n'
        f"  <title>{escape(title)}</title>\n"
        f'  <rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        f"{body}\n</svg>\n"
    )


def box(
    x: float, y: float, width: float, height: float, *, fill: str, line: str = INK, radius: int = 4
) -> str:
    """Draw a rectangle with rounded corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
        f'fill="{fill}" stroke="{line}" stroke-width="1.5"/>'
    )


def words(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 15,
    fill: str = INK,
    anchor: str = "middle",
    bold: bool = False,
) -> str:
    """Write one line, its middle at ``y``."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
        f'dominant-baseline="central"{weight}>{escape(text)}</text>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a line; in these figures messages go both ways, so it has no head."""
    return f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" stroke="{GREY}" stroke-width="2" fill="none"/>'


def parameter_grid() -> str:
    """Nine settings of two parameters, and in each of them its evaluations, one per split."""
    left, top, cell, gap = 108, 52, 112, 8
    parts = [
        words(left + 1.5 * cell + gap, 16, "gamma", size=17, bold=True),
        words(36, top + 1.5 * cell + gap, "C", size=17, bold=True),
    ]
    for column, gamma in enumerate(PARAMETERS["gamma"]):
        parts.append(words(left + column * (cell + gap) + cell / 2, top - 13, gamma))
    for row, c in enumerate(PARAMETERS["C"]):
        y = top + row * (cell + gap)
        parts.append(words(left - 14, y + cell / 2, c, anchor="end"))
        for column in range(len(PARAMETERS["gamma"])):
            x = left + column * (cell + gap)
            parts.append(box(x, y, cell, cell, fill=PALE_BLUE, line=BLUE))
            parts.append(words(x + cell / 2, y + 28, f"candidate {3 * row + column + 1}", size=15))
            for split in range(N_SPLITS):
                middle = x + cell / 2 + (split - 1) * 32
                parts.append(box(middle - 13, y + 58, 26, 30, fill="#ffffff", line=BLUE, radius=3))
                parts.append(words(middle, y + 73.5, str(split + 1), size=15))
    height = top + 3 * cell + 2 * gap + 10
    return figure(height, "A grid of nine candidates, each with three evaluations", parts)


def cv_splits() -> str:
    """Three splits of the rows: each row is in the test set of exactly one split."""
    left, top, row_height, gap, fold = 92, 48, 46, 14, 124
    parts = [words(left + 1.5 * fold, 16, "the rows of the dataset", size=17, bold=True)]
    for split in range(N_SPLITS):
        y = top + split * (row_height + gap)
        parts.append(words(left - 14, y + row_height / 2, f"split {split + 1}", anchor="end"))
        for part in range(N_SPLITS):
            test = part == split
            parts.append(
                box(
                    left + part * fold,
                    y,
                    fold,
                    row_height,
                    fill=ORANGE if test else PALE_BLUE,
                    line=INK if test else BLUE,
                    radius=0,
                )
            )
            label = "test" if test else "train"
            parts.append(words(left + (part + 0.5) * fold, y + row_height / 2, label, bold=test))
    y = top + N_SPLITS * (row_height + gap) + 8
    for part in range(N_SPLITS):
        parts.append(words(left + (part + 0.5) * fold, y, f"fold {part + 1}", fill=GREY))
    return figure(y + 20, "Three splits of the same rows into train and test sets", parts)


def cluster() -> str:
    """A client, a controller, and engines on two hosts."""
    parts = [
        box(14, 96, 104, 64, fill=PALE_GREY),
        words(66, 119, "client", bold=True),
        words(66, 141, "your notebook", size=13),
        box(150, 96, 126, 64, fill=PALE_BLUE, line=BLUE),
        words(213, 119, "controller", bold=True),
        words(213, 141, "passes messages", size=13),
        arrow(118, 128, 150, 128),
    ]
    for host in range(2):
        y = 10 + host * 122
        parts.append(box(330, y, 138, 112, fill="#ffffff", line=GREEN, radius=8))
        parts.append(words(399, y + 17, f"host {'ab'[host]}", fill=GREY))
        for place in range(2):
            engine = 2 * host + place
            top = y + 32 + place * 38
            parts.append(box(346, top, 106, 32, fill=PALE_GREEN, line=GREEN))
            parts.append(words(399, top + 16, f"engine {engine}"))
            parts.append(arrow(276, 128, 346, top + 16))
    return figure(254, "A client, a controller and four engines on two hosts", parts)


def nodes() -> str:
    """Draw what runs where: a laptop, one ssh connection, a master and two nodes."""
    parts = [
        box(14, 10, 452, 72, fill=PALE_GREY),
        words(240, 28, "your laptop", bold=True),
        box(30, 42, 132, 30, fill="#ffffff"),
        words(96, 57, "client"),
        box(174, 42, 132, 30, fill="#ffffff"),
        words(240, 57, "journal"),
        box(318, 42, 132, 30, fill="#ffffff"),
        words(384, 57, "splits"),
        arrow(96, 72, 96, 152),
        words(108, 108, "one ssh connection, port 22", anchor="start", fill=GREY),
        # Lines first: what they lead to lies over them.
        arrow(96, 167, 240, 168),
        *(arrow(96, 167, x, 262) for x in (178, 424)),
        box(14, 128, 452, 66, fill="none", line=GREEN, radius=8),
        box(30, 152, 132, 30, fill=PALE_BLUE, line=BLUE),
        words(96, 167, "controller"),
        words(240, 139, "master", bold=True),
        box(178, 152, 84, 30, fill=PALE_GREY),
        words(220, 167, "agent"),
    ]
    for place in range(2):
        x = 276 + place * 92
        parts += [box(x, 152, 82, 30, fill=PALE_GREEN, line=GREEN), words(x + 41, 167, "engine")]
    for number in range(2):
        left = 14 + number * 234
        parts += [
            box(left, 228, 218, 104, fill="#ffffff", line=GREEN, radius=8),
            words(left + 109, 243, f"node00{number + 1}", bold=True),
            box(left + 14, 258, 190, 28, fill=PALE_GREY),
            words(left + 109, 272, "agent"),
        ]
        for place in range(2):
            x = left + 14 + place * 100
            parts += [
                box(x, 294, 90, 28, fill=PALE_GREEN, line=GREEN),
                words(x + 45, 308, "engine"),
            ]
    return figure(342, "A laptop, a master with the controller, and two nodes", parts)


def logo() -> str:
    """Draw the grid of parameters with one bright cell, the best."""
    parts = []
    for row in range(3):
        for column in range(3):
            best = (row, column) == (1, 1)
            fill = ORANGE if best else BLUE
            parts.append(
                f'<rect x="{8 + column * 18}" y="{4 + row * 18}" width="14" height="14" rx="3" '
                f'fill="{fill}"/>'
            )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 66 60" role="img">\n'
        "  <title>Distributed Model Selection and Assessment</title>\n"
        + "\n".join(f"  {part}" for part in parts)
        + "\n</svg>\n"
    )


FIGURES: dict[Path, Callable[[], str]] = {
    FOLDER / "parameter-grid.svg": parameter_grid,
    FOLDER / "cv-splits.svg": cv_splits,
    FOLDER / "cluster.svg": cluster,
    FOLDER / "cluster-nodes.svg": nodes,
    FOLDER.parent / "_static" / "logo.svg": logo,
}


def main() -> None:
    """Write every figure."""
    for path, draw in FIGURES.items():
        path.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()

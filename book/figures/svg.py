"""What the book's drawn figures have in common: their colours, their sheet, and parts of SVG.

Figures are drawn for a column 480 units wide, so that their words are still read on a telephone.
The colours are Okabe and Ito's, which colour-blind readers tell apart
(https://jfly.uni-koeln.de/color/), and each colour also has a word in it: nothing is said by colour
alone.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
PALE_BLUE, PALE_GREEN, PALE_GREY = "#d6e9f5", "#d5efe7", "#f1f1f1"
INK, GREY = "#1b1b1b", "#5c5c5c"
WIDTH = 480


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
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str,
    line: str = INK,
    radius: int = 4,
    dashed: bool = False,
) -> str:
    """Draw a rectangle with rounded corners."""
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
        f'fill="{fill}" stroke="{line}" stroke-width="1.5"{dashes}/>'
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


def link(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a line without a head, for messages that go both ways."""
    return f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" stroke="{GREY}" stroke-width="2" fill="none"/>'


def pointer(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a line with a head, for what goes one way only; upright or level."""
    dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    left = x2 - 9 * dx + 5 * dy, y2 - 9 * dy + 5 * dx
    right = x2 - 9 * dx - 5 * dy, y2 - 9 * dy - 5 * dx
    return (
        link(x1, y1, x2 - 8 * dx, y2 - 8 * dy)
        + f'<path d="M{x2:g} {y2:g} L{left[0]:g} {left[1]:g} L{right[0]:g} {right[1]:g} Z" '
        f'fill="{GREY}"/>'
    )

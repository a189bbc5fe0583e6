"""Draw the book's figures that are not computed: run ``python book/figures/draw.py``.

Each figure is a function that returns the text of an SVG file, made of the parts in ``svg.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from svg import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_GREY,
    box,
    figure,
    link,
    pointer,
    words,
)

FOLDER = Path(__file__).resolve().parent

N_SPLITS = 3
PARAMETERS = {"gamma": ["0.0001", "0.001", "0.01"], "C": ["0.1", "1", "10"]}


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
        link(118, 128, 150, 128),
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
            parts.append(link(276, 128, 346, top + 16))
    return figure(254, "A client, a controller and four engines on two hosts", parts)


def memory_map() -> str:
    """Three engines of a host, the page cache that they share, and the file on the disk."""
    parts = [
        box(170, 10, 140, 38, fill=PALE_GREY),
        words(240, 29, "client", bold=True),
        words(322, 66, "only the path of the file", anchor="start", size=13, fill=GREY),
        *(link(240, 48, x, 122) for x in (95, 240, 385)),
        box(14, 90, 452, 270, fill="none", line=GREEN, radius=8),
        words(30, 106, "host", anchor="start", fill=GREY),
    ]
    for engine in range(3):
        x = 34 + 145 * engine
        parts += [
            box(x, 122, 122, 56, fill=PALE_GREEN, line=GREEN),
            words(x + 61, 141, f"engine {engine}"),
            words(x + 61, 162, "own: the model", size=13),
            pointer(x + 61, 222, x + 61, 178),
        ]
    parts += [
        words(105, 200, "maps", anchor="start", size=13, fill=GREY),
        box(34, 222, 412, 54, fill=PALE_BLUE, line=BLUE),
        words(240, 240, "page cache", bold=True),
        words(240, 261, "the data, once, however many engines", size=13),
        pointer(240, 316, 240, 276),
        words(252, 297, "each page is read once", anchor="start", size=13, fill=GREY),
        box(34, 316, 412, 34, fill=PALE_GREY),
        words(240, 333, "disk: the file with the data"),
    ]
    return figure(370, "Engines of one host map one file, which the page cache holds once", parts)


def search() -> str:
    """Draw what a search sends, what comes back, and where the data lie."""
    parts = [
        box(14, 10, 452, 92, fill=PALE_GREY),
        words(240, 27, "client", bold=True),
        box(30, 44, 262, 46, fill="#ffffff"),
        words(43, 67, "queue", anchor="start"),
        *(box(98 + 24 * n, 56, 16, 22, fill=PALE_BLUE, line=BLUE, radius=2) for n in range(8)),
        box(312, 44, 138, 46, fill="#ffffff"),
        words(381, 67, "results"),
        pointer(190, 102, 190, 160),
        words(178, 122, "paths and", anchor="end", size=13, fill=GREY),
        words(178, 140, "parameters", anchor="end", size=13, fill=GREY),
        pointer(290, 160, 290, 102),
        words(302, 122, "scores and times:", anchor="start", size=13, fill=GREY),
        words(302, 140, "small records", anchor="start", size=13, fill=GREY),
        *(link(240, 180, x, 248) for x in (95, 240, 385)),
        box(150, 160, 180, 36, fill=PALE_BLUE, line=BLUE),
        words(240, 178, "controller"),
        box(14, 218, 452, 140, fill="none", line=GREEN, radius=8),
        words(30, 234, "host", anchor="start", fill=GREY),
    ]
    for engine in range(3):
        x = 34 + 145 * engine
        parts += [
            box(x, 248, 122, 34, fill=PALE_GREEN, line=GREEN),
            words(x + 61, 265, f"engine {engine}"),
            pointer(x + 61, 314, x + 61, 282),
        ]
    parts += [
        words(105, 300, "maps", anchor="start", size=13, fill=GREY),
        box(34, 314, 412, 34, fill=PALE_BLUE, line=BLUE),
        words(240, 331, "the splits, once for all engines of the host"),
    ]
    return figure(
        368, "A client with a queue, a controller, and engines that map the splits", parts
    )


def prefixes() -> str:
    """Six evaluations of a learning curve: which rows each of them reads, and which engine."""
    left, fold, row = 108, 62, 40
    parts = [
        words(left + 2 * fold, 16, "the file, which every engine maps", bold=True),
        words(left - 14, 52, "folds", anchor="end"),
    ]
    for place, number in enumerate([0, 1, 2, 0]):
        again = place == N_SPLITS
        x = left + place * fold
        parts.append(box(x, 34, fold, 36, fill=PALE_GREY if again else "#ffffff", radius=0))
        parts.append(words(x + fold / 2, 52, str(number)))
    engines = iter([0, 1, 1, 1, 0, 0])
    y = 92
    for split in range(2):
        test, train = left + split * fold, left + (split + 1) * fold
        for part, label in ((1.0, "all"), (0.25, "first 1/4"), (0.5, "first 1/2")):
            name = f"split {split}: {label}" if part == 1 else label
            parts.append(words(left - 14, y + 14, name, anchor="end"))
            parts.append(box(train, y, 2 * fold, 28, fill="#ffffff", line=BLUE, radius=0))
            parts.append(box(train, y, part * 2 * fold, 28, fill=BLUE, line=BLUE, radius=0))
            if part == 1:
                parts.append(words(train + fold, y + 14, "train", fill="#ffffff"))
            parts.append(box(test, y, fold, 28, fill=ORANGE, radius=0))
            parts.append(words(test + fold / 2, y + 14, "test", bold=True))
            parts.append(box(376, y, 90, 28, fill=PALE_GREEN, line=GREEN))
            parts.append(words(421, y + 14, f"engine {next(engines)}"))
            y += row
        y += 10
    return figure(y, "Which rows the evaluations of a learning curve read, and where", parts)


def what_may_die() -> str:
    """Draw the processes of a search, what lies on the disk, and what is left of a loss."""
    left = 172
    parts = [
        box(14, 10, 140, 108, fill=PALE_GREY, dashed=True),
        words(84, 40, "client", bold=True),
        words(84, 64, "the queue,", size=13),
        words(84, 82, "in its memory", size=13),
        pointer(154, 32, 330, 32),
        words(242, 18, "each result", size=13, fill=GREY),
        box(330, 10, 136, 44, fill=PALE_GREY),
        words(398, 32, "journal"),
        link(84, 118, 84, 150),
        box(14, 150, 140, 50, fill=PALE_BLUE, line=BLUE, dashed=True),
        words(84, 175, "controller", bold=True),
    ]
    for engine in range(2):
        x = 14 + 74 * engine
        parts += [
            link(84, 200, x + 33, 232),
            box(x, 232, 66, 50, fill=PALE_GREEN, line=GREEN, dashed=True),
            words(x + 33, 257, f"engine {engine}", size=13),
            pointer(x + 33, 316, x + 33, 282),
        ]
    parts += [box(14, 316, 140, 44, fill=PALE_GREY), words(84, 338, "splits")]
    for y, what, *lines in (
        (70, "It dies:", "launch the search again; the", "journal has what is done."),
        (157, "It dies:", "start another cluster for the", "rest. What is done is kept."),
        (239, "One dies:", "what it had goes back to", "the queue, and elsewhere."),
        (320, "Damaged:", "the checksums tell.", "They can be written again."),
    ):
        parts.append(words(left, y, what, anchor="start", bold=True, size=13))
        for number, line in enumerate(lines):
            parts.append(words(left + 84, y + 20 * number, line, anchor="start", size=13))
    parts += [
        box(14, 382, 26, 20, fill="#ffffff", dashed=True),
        words(50, 392, "a process, which may die", anchor="start", size=14),
        box(250, 382, 26, 20, fill=PALE_GREY),
        words(286, 392, "on the disk, and is left", anchor="start", size=14),
    ]
    return figure(414, "The processes of a search, and what is left when one of them dies", parts)


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
        link(96, 72, 96, 152),
        words(108, 108, "one ssh connection, port 22", anchor="start", fill=GREY),
        # Lines first: what they lead to lies over them.
        link(96, 167, 240, 168),
        *(link(96, 167, x, 262) for x in (178, 424)),
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


def capstone() -> str:
    """A year of days: ten months that belong to three folds, and two that are locked away."""
    left, top, width, height, n_days = 14, 54, 452, 54, 73
    day = width / n_days
    n_past = round(n_days * 10 / 12)
    tones = [(PALE_BLUE, BLUE), ("#ffffff", GREY), (PALE_GREEN, GREEN)]
    folds = random.Random(2).choices(range(3), k=n_past)
    parts = [
        words(left, 22, "January to October: to choose with", size=15, anchor="start", bold=True),
        words(left + width, 22, "the rest", size=15, anchor="end", bold=True),
    ]
    for i, fold in enumerate(folds):
        fill, _ = tones[fold]
        parts.append(box(left + i * day, top, day, height, fill=fill, line=GREY, radius=0))
    x = left + n_past * day
    locked = width - n_past * day
    parts.append(box(x, top, locked, height, fill=PALE_GREY, line=INK, radius=0, dashed=True))
    parts.append(words(x + locked / 2, top + height / 2, "locked", size=15))
    for fold, (fill, line) in enumerate(tones):
        at = left + fold * 150
        parts.append(box(at, 130, 18, 18, fill=fill, line=line, radius=2))
        parts.append(words(at + 26, 139.5, f"days of fold {fold}", size=15, anchor="start"))
    return figure(164, "Days of the year that belong to folds, and two months locked away", parts)


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
    FOLDER / "memory-map.svg": memory_map,
    FOLDER / "search.svg": search,
    FOLDER / "prefixes.svg": prefixes,
    FOLDER / "what-may-die.svg": what_may_die,
    FOLDER / "cluster-nodes.svg": nodes,
    FOLDER / "capstone.svg": capstone,
    FOLDER.parent / "_static" / "logo.svg": logo,
}


def main() -> None:
    """Write every figure."""
    for path, draw in FIGURES.items():
        path.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()

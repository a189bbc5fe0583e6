"""Draw the still pictures of the explorables: run ``python book/explorables/stills.py``.

They are what is printed, and what a browser without JavaScript shows. Each is one setting of its
explorable, with the numbers of `tables.py`, in the hand of ``book/figures/svg.py``.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(__file__).resolve().parent

svg: Any = SimpleNamespace(**runpy.run_path(str(FOLDER.parent / "figures" / "svg.py")))
tables: Any = SimpleNamespace(**runpy.run_path(str(FOLDER / "tables.py")))

LOST = "#d55e00"
THERE = "#e3e3e3"

N_FOLDS, SPLIT, PERCENT = 5, 2, 30
N_WORKERS, DATA_MB = 32, 1000
DEATH_S, JOIN_S = 4.0, 6.0


def plain(x: float, y: float, width: float, height: float, fill: str, line: str = "none") -> str:
    """Draw a rectangle with a thin line, or none."""
    return (
        f'<rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{height:g}" fill="{fill}" '
        f'stroke="{line}"/>'
    )


def ring() -> str:
    """Draw the file of five folds, and in it one split with a prefix of its train set."""
    table = tables.ring_table(N_FOLDS)
    left, top = 66, 44
    scale = (svg.WIDTH - left - 14) / table["nStored"]
    each = table["nStored"] / len(table["folds"])
    parts = [svg.words(left - 10, top + 18, "file", anchor="end", bold=True)]
    for place, fold in enumerate(table["folds"]):
        fill = "#ffffff" if place < N_FOLDS else svg.PALE_GREY
        x = left + place * each * scale
        parts.append(svg.box(x, top, each * scale, 36, fill=fill, radius=0))
        parts.append(svg.words(x + each * scale / 2, top + 18, str(fold), size=17))
    again = left + N_FOLDS * each * scale
    parts.append(svg.words(left, top - 14, f"the {N_FOLDS} folds", anchor="start", fill=svg.GREY))
    parts.append(
        svg.words(again, top - 14, f"{N_FOLDS - 2} of them again", anchor="start", fill=svg.GREY)
    )
    train_start, train_stop, test_start, test_stop = table["splits"][SPLIT]
    n_train = table["nTrain"][list(tables.PERCENT).index(PERCENT)]
    y = top + 56
    for start, stop, fill, text, bold in (
        (train_start, train_stop, svg.PALE_BLUE, "train", False),
        (test_start, test_stop, svg.ORANGE, "test", True),
        (train_start, train_start + n_train, svg.BLUE, "", False),
    ):
        x, width = left + start * scale, (stop - start) * scale
        parts.append(svg.box(x, y, width, 36, fill=fill, line=svg.BLUE, radius=0))
        parts.append(
            svg.words(x + width / 2 + (20 if text == "train" else 0), y + 18, text, bold=bold)
        )
    parts.append(svg.words(left - 10, y + 18, f"split {SPLIT}", anchor="end", bold=True))
    middle = left + (train_start + n_train / 2) * scale
    parts.append(svg.words(middle, y + 18, "read", fill="#ffffff"))
    copies = table["nStored"] / tables.N_SAMPLES
    parts.append(
        svg.words(
            left,
            y + 58,
            f"size: 2 \N{MINUS SIGN} 2/{N_FOLDS} = {copies:g} copies of the data",
            anchor="start",
        )
    )
    return svg.figure(y + 76, "Where the rows of one split lie in the ring of five folds", parts)


def copies() -> str:
    """Draw how many copies of the data 32 workers of one host hold, in four ways."""
    held = tables.copies(N_WORKERS, 1, N_FOLDS)
    scale = (svg.WIDTH - 28) / max(each.shared + each.private for each in held.values())
    parts = []
    for row, (name, label) in enumerate(tables.STRATEGIES.items()):
        y, each = 18 + 66 * row, held[name]
        parts.append(svg.words(14, y, label, anchor="start", bold=True))
        parts.append(plain(14, y + 12, each.shared * scale, 20, svg.BLUE))
        parts.append(plain(14 + each.shared * scale, y + 12, each.private * scale, 20, svg.ORANGE))
        n_copies = each.shared + each.private
        what = f"{n_copies:g} copies, {n_copies * DATA_MB / 1000:g} GB"
        parts.append(svg.words(14, y + 44, what, anchor="start", size=14))
    y = 18 + 66 * len(tables.STRATEGIES)
    parts += [
        plain(14, y - 6, 14, 12, svg.BLUE),
        svg.words(36, y, "shared by all of a host", anchor="start", size=14),
        plain(220, y - 6, 14, 12, svg.ORANGE),
        svg.words(242, y, "each worker's own", anchor="start", size=14),
    ]
    return svg.figure(y + 18, "Copies of the data that 32 workers hold", parts)


def scheduler() -> str:
    """Draw a search in which an engine dies and another one joins, and a static split."""
    durations_s = tables.scenarios()["uneven"]
    actions = [tables.Action(DEATH_S, "kill", 1), tables.Action(JOIN_S, "add")]
    queue = tables.replay(durations_s, tables.N_ENGINES, actions)
    split = tables.static_split(durations_s, tables.N_ENGINES, actions)
    joins_s = [*[0.0] * tables.N_ENGINES, JOIN_S]
    most_s = max(queue.finish_s, split.finish_s)
    left, row = 84, 24
    scale = (svg.WIDTH - left - 14) / most_s
    parts = []
    y = 18
    for title, run, finish_s, result in (
        ("mscourse: a queue", queue, queue.finish_s, f"{queue.n_ended} done"),
        (
            "shared out beforehand",
            split,
            split.finish_s,
            f"{len(durations_s) - split.n_done} never done",
        ),
    ):
        parts.append(svg.words(14, y, title, anchor="start", bold=True))
        parts.append(
            svg.words(svg.WIDTH - 14, y, f"{result}, {finish_s:.1f} s", anchor="end", size=14)
        )
        y += 16
        for engine, joined_s in enumerate(joins_s):
            middle = y + row * engine + 9
            parts.append(svg.words(left - 10, middle, f"engine {engine}", anchor="end", size=14))
            ended_s = DEATH_S if engine == 1 else finish_s
            x = left + joined_s * scale
            parts.append(plain(x, middle - 9, (ended_s - joined_s) * scale, 18, THERE))
        seen: set[int] = set()
        for bar in run.bars:
            again = bar.first in seen
            seen.update(range(bar.first, bar.first + bar.n))
            if bar.end_s <= bar.start_s:  # its engine died before it began
                continue
            fill, line = ("#4d9fd1", "#ffffff") if not again else (svg.GREEN, svg.INK)
            if bar.died:
                fill, line = "#ffffff", LOST
            x, top = left + bar.start_s * scale, y + row * bar.engine
            parts.append(plain(x, top, (bar.end_s - bar.start_s) * scale, 18, fill, line))
        x, top = left + DEATH_S * scale, y + row
        parts.append(
            f'<path d="M{x - 6:.2f} {top + 3} l12 12 m0 -12 l-12 12" stroke="{LOST}" '
            'stroke-width="3" fill="none"/>'
        )
        y += row * len(joins_s) + 18
    parts += [
        plain(14, y - 6, 14, 12, "#4d9fd1"),
        svg.words(34, y, "evaluations", anchor="start", size=14),
        plain(128, y - 6, 14, 12, "#ffffff", LOST),
        svg.words(148, y, "lost", anchor="start", size=14),
        plain(200, y - 6, 14, 12, svg.GREEN, svg.INK),
        svg.words(220, y, "done again", anchor="start", size=14),
        plain(316, y - 6, 14, 12, THERE),
        svg.words(336, y, "idle", anchor="start", size=14),
    ]
    return svg.figure(y + 18, "Who does what when an engine dies and another one joins", parts)


STILLS: dict[Path, Callable[[], str]] = {
    FOLDER / "ring.svg": ring,
    FOLDER / "copies.svg": copies,
    FOLDER / "scheduler.svg": scheduler,
}


def main() -> None:
    """Write every still picture."""
    for path, still in STILLS.items():
        path.write_text(still(), encoding="utf-8")


if __name__ == "__main__":
    main()

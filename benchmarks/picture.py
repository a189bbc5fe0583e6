"""Draw the README's picture; ``python benchmarks/picture.py``, after ``make bench``.

On the left a search on the digits, run for the picture. On the right what results.json says of the
memory of 8 workers.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
from findings import OURS, PEER, Results
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from workloads import workloads

import mscourse

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "book" / "figures" / "readme-result.png"

# From the palette of Okabe and Ito, whose colours keep apart for colour-blind readers.
_BLUE, _GREY = "#0072B2", "#B0B0B0"

_N_WORKERS = 8
_SYSTEMS = (OURS, PEER, "dask-ml")


def main() -> None:
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10})
    figure, axes = plt.subplots(
        1, 3, figsize=(9, 2.9), layout="constrained", width_ratios=[1, 1, 1.5]
    )
    axes[1].sharey(axes[0])
    _draw_search(axes[0], axes[1])
    _draw_memory(axes[2])
    figure.get_layout_engine().set(wspace=0.06)
    figure.savefig(PICTURE, dpi=170, metadata={"Software": None})
    print(f"Wrote {PICTURE.relative_to(ROOT)}.")


def _draw_search(left: Axes, right: Axes) -> None:
    X, y = load_digits(return_X_y=True)
    params = {"C": [0.1, 1, 10], "gamma": [1e-4, 5e-4, 2e-3]}
    with mscourse.persist_cv_splits(X, y, folder=None, name="digits", cv=5) as splits:
        search = mscourse.grid_search(SVC(), params, splits)
        search.wait()
        search.plot_parameters(axes=[left, right])
    left.set_title("45 evaluations on the digits", loc="left")
    right.tick_params(labelleft=False)


def _draw_memory(ax: Axes) -> None:
    results = Results(json.loads((ROOT / "benchmarks/results.json").read_text())["measurements"])
    bars = {"the data, once": workloads(quick=False)["large"].data_bytes / 1e6}
    for system in _SYSTEMS:
        growth = results.growth_mb("large", _N_WORKERS, system)
        assert growth is not None
        bars[system] = growth.median
    colours = [_BLUE if name == OURS else _GREY for name in bars]
    drawn = ax.barh(list(bars), list(bars.values()), color=colours)
    ax.bar_label(drawn, [f"{megabytes:,.0f} MB" for megabytes in bars.values()], padding=4)
    ax.invert_yaxis()
    ax.set_xlim(right=1.25 * max(bars.values()))  # room for the longest bar's label
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.tick_params(left=False)
    ax.set_title(f"What {_N_WORKERS} workers add to memory", loc="left")


if __name__ == "__main__":
    main()

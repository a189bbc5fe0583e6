"""The explorables: their numbers are the package's, and they work in a browser, or do without one.

What is computed in JavaScript runs in Node.js if there is one, and else in a browser. Without
either the tests skip, and fail instead when the environment says ``CI=true``.
"""

from __future__ import annotations

import json
import random
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bookpages import BOOK, chromium
from sklearn.model_selection import KFold

import mscourse

SOURCES = BOOK / "explorables"
NAMES = ["copies", "ring", "scheduler"]

tables: Any = SimpleNamespace(**runpy.run_path(str(SOURCES / "tables.py")))

RUN_S = 120

PAGE = """
# Explorables

```{{toctree}}
other
```

See {{numref}}`fig-{0[0]}`.

""" + "\n".join(
    f"""
```{{{{explorable}}}} {{0[{place}]}}
---
alt: >-
  The still picture of {{0[{place}]}}.
name: fig-{{0[{place}]}}
---
The caption of *{{0[{place}]}}*.
```
"""
    for place in range(len(NAMES))
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def javascript(request: pytest.FixtureRequest) -> Callable[[str, list[Any]], list[Any]]:
    """Call a function of the explorables, once with each list of arguments."""
    code = tables.script() + (SOURCES / "arithmetic.js").read_text(encoding="utf-8")
    node = shutil.which("node")
    browser = None if node else request.getfixturevalue("browser")

    def call_in_node(name: str, calls: list[Any]) -> list[Any]:
        assert node
        end = (
            'const calls = JSON.parse(require("fs").readFileSync(0, "utf8"));'
            f"const results = calls.map((each) => globalThis.explorables.{name}(...each));"
            "console.log(JSON.stringify(results));"
        )
        done = subprocess.run(
            [node, "--eval", f"{code}\n{end}"],
            input=json.dumps(calls),
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results: list[Any] = json.loads(done.stdout)
        return results

    def call_in_browser(name: str, calls: list[Any]) -> list[Any]:
        assert browser
        page = browser.new_page()
        page.add_script_tag(content=code)
        results: list[Any] = page.evaluate(
            f"calls => calls.map((each) => globalThis.explorables.{name}(...each))", calls
        )
        page.close()
        return results

    return call_in_node if node else call_in_browser


# --- the numbers -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def persisted(tmp_path_factory: pytest.TempPathFactory) -> dict[int, mscourse.Splits]:
    """The splits that the package really writes."""
    X = np.random.default_rng(0).random((tables.N_SAMPLES, 2))
    folder = tmp_path_factory.mktemp("splits")
    return {
        k: mscourse.persist_cv_splits(
            X, folder=folder, name=f"folds-{k}", cv=KFold(k, shuffle=True, random_state=0)
        )
        for k in tables.FOLDS
    }


def test_the_ring_is_what_the_package_writes(javascript: Any, persisted: Any) -> None:
    calls = [
        [k, split, percent]
        for k in tables.FOLDS
        for split in range(k)
        for percent in tables.PERCENT
    ]
    for (k, split, percent), ring in zip(calls, javascript("ring", calls), strict=True):
        written = persisted[k][split]
        assert written.splits.layout == "ring"
        where = [ring[f"{name}{end}"] for name in ("train", "test") for end in ("Start", "Stop")]
        assert where == list(written.range)
        assert ring["copies"] == pytest.approx(2 - 2 / k)
        assert ring["nTrain"] == percent * written.n_train // 100
        assert ring["folds"] == [*range(k), *range(k - 2)]
        assert ring["trainFolds"] == [(split + 1 + n) % k for n in range(k - 1)]


def test_the_ring_reads_what_the_package_loads(javascript: Any, persisted: Any) -> None:
    for k, split, percent in ([2, 0, 10], [5, 2, 30], [10, 9, 100]):
        (ring,) = javascript("ring", [[k, split, percent]])
        written = persisted[k][split]
        X_train, _, X_test, _ = written.load(n_train=ring["nTrain"])
        stored = X_train.base
        assert stored is not None
        assert len(stored) == ring["nStored"]
        start = ring["trainStart"]
        np.testing.assert_array_equal(X_train, stored[start : start + ring["nTrain"]])
        np.testing.assert_array_equal(X_test, stored[ring["testStart"] : ring["testStop"]])


def test_copies_are_counted_as_the_chapters_do(javascript: Any, persisted: Any) -> None:
    calls = [[w, h, k] for w in (1, 2, 7, 32, 64) for h in (1, 2, 8) for k in tables.FOLDS]
    for (n_workers, n_hosts, k), counted in zip(calls, javascript("copies", calls), strict=True):
        expected = tables.copies(n_workers, n_hosts, k)
        for name, held in expected.items():
            assert counted[name] == pytest.approx(vars(held)), (n_workers, n_hosts, k, name)
        # Chapter 3: the data, and what each worker grows by; chapter 2: the ring, once per host.
        loky, ring = counted["loky"], counted["ring"]
        assert loky["shared"] + loky["private"] == n_hosts * (1 + n_workers)
        n_stored = len(persisted[k][0].load()[0].base)
        assert ring == pytest.approx(
            {"shared": n_hosts * n_stored / tables.N_SAMPLES, "private": 0, "sent": 0}
        )


def scenarios(n: int) -> list[tuple[list[float], int, list[Any]]]:
    """Searches in which engines join and die at random; one of them always lives."""
    rng = random.Random(0)
    made = []
    for _ in range(n):
        durations_s = rng.choice(list(tables.scenarios().values()))
        durations_s = durations_s[: rng.choice([1, 5, 30, len(durations_s)])]
        n_engines = rng.randint(1, 6)
        alive, n_joined, at_s, actions = list(range(n_engines)), n_engines, 0.0, []
        for _ in range(rng.randint(0, 8)):
            at_s += rng.uniform(0.0, sum(durations_s) / n_engines / 4)
            if len(alive) > 1 and rng.random() < 0.5:
                engine = alive.pop(rng.randrange(len(alive)))
                actions.append(tables.Action(round(at_s, 2), "kill", engine))
            else:
                actions.append(tables.Action(round(at_s, 2), "add"))
                alive.append(n_joined)
                n_joined += 1
        made.append((durations_s, n_engines, actions))
    # The same evaluation loses three engines, and is given up.
    fatal = [
        action
        for n in range(3)
        for action in (
            tables.Action(1.0 + 5 * n, "kill", n),
            tables.Action(2.0 + 5 * n, "add"),
        )
    ]
    return [*made, ([30.0, 0.1, 0.1], 1, fatal), ([30.0] * 8, 2, fatal)]


def as_call(durations_s: list[float], n_engines: int, actions: list[Any]) -> list[Any]:
    return [
        durations_s,
        n_engines,
        [{"atS": each.at_s, "kind": each.kind, "engine": each.engine} for each in actions],
    ]


def bars_of(run: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("engine", "first", "n", "startS", "endS", "died")
    return [tuple(bar[name] for name in names) for bar in run["bars"]]


def test_the_browser_decides_as_the_scheduler_does(javascript: Any) -> None:
    cases = scenarios(150)
    runs = javascript("simulate", [as_call(*case) for case in cases])
    for case, run in zip(cases, runs, strict=True):
        real = tables.replay(*case)
        expected = [tuple(vars(bar).values()) for bar in real.bars]
        assert bars_of(run) == expected, case
        assert len(run["bars"]) == real.n_messages
        assert run["overS"] == pytest.approx(real.finish_s)
        assert (run["nEnded"], run["nRerun"], run["nGivenUp"]) == (
            real.n_ended,
            real.n_rerun,
            real.n_given_up,
        )
    # These searches are not all alike.
    assert max(run["nGivenUp"] for run in runs) == 1
    assert sum(run["nRerun"] for run in runs) > 100
    assert max(bar["n"] for run in runs for bar in run["bars"]) > 3


def test_idle_time_is_what_the_picture_leaves_empty(javascript: Any) -> None:
    cases = scenarios(30)
    runs = javascript("simulate", [as_call(*case) for case in cases])
    calls = [[run["bars"], run["lives"], run["overS"]] for run in runs]
    for case, idle in zip(cases, javascript("idlePart", calls), strict=True):
        real = tables.replay(*case)
        busy_s = sum(max(0.0, bar.end_s - bar.start_s) for bar in real.bars)
        assert idle == pytest.approx(1 - busy_s / real.engine_s, abs=1e-6)
        if not any(each.kind == "kill" for each in case[2]):
            assert idle == pytest.approx(1 - real.busy_fraction, abs=1e-3)


def test_a_search_without_engines_waits_for_others(javascript: Any) -> None:
    durations_s = tables.scenarios()["alike"]
    deaths = [tables.Action(3.0, "kill", engine) for engine in range(4)]
    again = [*deaths, tables.Action(7.0, "add")]
    waits, goes_on = javascript(
        "simulate", [as_call(durations_s, 4, deaths), as_call(durations_s, 4, again)]
    )
    assert waits["overS"] is None
    assert waits["stalledS"] == 3.0
    assert 0 < waits["nEnded"] < len(durations_s)
    assert bars_of(goes_on) == [
        tuple(vars(bar).values()) for bar in tables.replay(durations_s, 4, again).bars
    ]
    assert goes_on["nEnded"] == len(durations_s)


def test_shared_out_beforehand_what_a_dead_engine_had_is_never_done(javascript: Any) -> None:
    cases = scenarios(60)
    for case, run in zip(
        cases, javascript("staticSplit", [as_call(*case) for case in cases]), strict=True
    ):
        expected = tables.static_split(*case)
        assert bars_of(run) == [tuple(vars(bar).values()) for bar in expected.bars]
        assert (run["nEnded"], run["overS"]) == (expected.n_done, expected.finish_s)


# --- the pictures ------------------------------------------------------------------------------


def test_the_still_pictures_are_what_their_code_draws() -> None:
    stills = runpy.run_path(str(SOURCES / "stills.py"))["STILLS"]
    assert sorted(path.stem for path in stills) == NAMES
    for path, draw in stills.items():
        assert path.read_text(encoding="utf-8") == draw(), (
            f"run book/explorables/stills.py for {path}"
        )


def test_no_script_names_anything_elsewhere() -> None:
    for path in SOURCES.iterdir():
        if path.suffix in {".js", ".css"}:
            assert "//" not in re.sub(
                r"/\*.*?\*/|^ *//.*$|// .*$", "", path.read_text(), flags=re.M | re.S
            )


# --- the directive -----------------------------------------------------------------------------


def build(folder: Path, text: str, builder: str = "html") -> subprocess.CompletedProcess[str]:
    """Build a small site that is nothing but a page with explorables, and one without."""
    if not folder.exists():
        folder.mkdir()
        shutil.copytree(SOURCES, folder / "explorables")
        (folder / "other.md").write_text("# Another page\n", encoding="utf-8")
        (folder / "conf.py").write_text(
            f"import sys\nsys.path.insert(0, {str(BOOK / '_ext')!r})\n"
            'project = "small"\n'
            'extensions = ["myst_parser", "explorable"]\n'
            'html_theme = "sphinx_book_theme"\n'
            'html_context = {"default_mode": "light"}\n'
            f"html_static_path = [{str(BOOK / '_static')!r}]\n"
            'html_css_files = ["custom.css"]\n'
            "numfig = True\n",
            encoding="utf-8",
        )
    (folder / "index.md").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-b", builder, folder, folder / builder],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "source"
    done = build(folder, PAGE.format(NAMES))
    assert done.returncode == 0, done.stderr
    return folder


def test_only_a_page_with_explorables_loads_scripts_of_theirs(site: Path) -> None:
    page = (site / "html" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r'<script[^>]* src="_static/explorables/(\w+)\.js', page)
    assert scripts == ["tables", "arithmetic", "panel", *NAMES]
    assert "explorables" not in (site / "html" / "other.html").read_text(encoding="utf-8")


def test_a_page_loads_only_what_it_shows(site: Path, tmp_path: Path) -> None:
    text = PAGE.format(NAMES).split("```{explorable} ring")[0]
    folder = tmp_path / "source"
    assert build(folder, text).returncode == 0
    page = (folder / "html" / "index.html").read_text(encoding="utf-8")
    assert "explorables/copies.js" in page
    assert "explorables/ring.js" not in page


def test_other_formats_get_the_still_picture(site: Path) -> None:
    done = build(site, PAGE.format(NAMES), "xml")
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f'uri="explorables/{name}.svg"' in (site / "xml" / "index.xml").read_text()
    done = build(site, PAGE.format(NAMES), "text")
    assert done.returncode == 0, done.stderr
    assert "The still picture of ring." in (site / "text" / "index.txt").read_text()
    assert not (site / "text" / "_static").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("```{explorable} ring\nA caption.\n```", "needs :alt:"),
        ("```{explorable} wheel\n:alt: Words.\n\nA caption.\n```", "wheel"),
    ],
)
def test_an_explorable_that_is_wrong_is_told(tmp_path: Path, wrong: str, said: str) -> None:
    done = build(tmp_path / "source", f"# Page\n\n```{{toctree}}\nother\n```\n\n{wrong}\n")
    assert done.returncode != 0
    assert said in done.stderr


# --- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
    page.goto((site / "html" / "index.html").as_uri(), wait_until="load")
    yield page
    page.close()
    assert complaints == []


def panel_of(page: Any, name: str) -> Any:
    return page.locator(f"figure.explorable-{name} .explorable-panel")


def move(page: Any, name: str, label: str, value: float) -> None:
    """Move a slider with the keys of the keyboard."""
    slider = panel_of(page, name).get_by_label(label, exact=True)
    slider.focus()
    page.keyboard.press("Home")
    step = float(slider.get_attribute("step"))
    for _ in range(round((value - float(slider.get_attribute("min"))) / step)):
        page.keyboard.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(value)


def numbers_of(page: Any, name: str) -> list[str]:
    text = panel_of(page, name).locator(".explorable-summary").inner_text()
    return re.findall(r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?", text)


def test_the_ring_by_keyboard(page: Any) -> None:
    for k, split, percent in [(5, 2, 30), (2, 1, 50), (10, 9, 10), (3, 0, 100)]:
        move(page, "ring", "folds, k", k)
        radios = panel_of(page, "ring").get_by_role("radio")
        assert radios.count() == k
        panel_of(page, "ring").locator("input:checked").focus()
        while panel_of(page, "ring").locator("input:checked").input_value() != str(split):
            page.keyboard.press("ArrowRight")
        move(page, "ring", "rows of the train set", percent)
        table = tables.ring_table(k)
        train_start, train_stop, test_start, test_stop = table["splits"][split]
        n_train = table["nTrain"][percent // 10 - 1]
        expected = [k, 2, 2, k, f"{2 - 2 / k:.2f}", table["nStored"], tables.N_SAMPLES, split]
        expected += [test_start, test_stop - 1, train_start, train_stop - 1]
        expected += [(split + 1 + n) % k for n in range(k - 1)]
        if percent == 100:
            expected += [n_train]
        else:
            expected += [percent, n_train, train_stop - train_start]
            expected += [train_start, train_start + n_train - 1]
        assert numbers_of(page, "ring") == [
            each if isinstance(each, str) else f"{each:,}" for each in expected
        ]


def test_the_copies_by_keyboard(page: Any) -> None:
    for n_workers, n_hosts, k in [(32, 1, 5), (1, 1, 2), (8, 4, 10), (64, 8, 3)]:
        move(page, "copies", "workers on each host", n_workers)
        move(page, "copies", "hosts", n_hosts)
        move(page, "copies", "folds", k)
        held = tables.copies(n_workers, n_hosts, k)
        told = numbers_of(page, "copies")
        told = told[2:] if n_hosts > 1 else told[1:]
        expected = [held[name].shared + held[name].private for name in tables.STRATEGIES]
        assert [float(each.replace(",", "")) for each in told] == pytest.approx(
            [*expected, tables.N_CANDIDATES, held["task"].sent, held["push"].sent], abs=0.005
        )
    move(page, "copies", "the data", 0)
    assert "10 MB" in panel_of(page, "copies").inner_text()
    assert "does not fit" not in panel_of(page, "copies").inner_text()


def cells_of(page: Any) -> dict[str, list[str]]:
    rows = panel_of(page, "scheduler").locator("tr").all_inner_texts()
    return {name: cells for name, *cells in (row.split("\t") for row in rows)}


def check_the_scheduler(page: Any, scenario: str, actions: list[Any]) -> None:
    durations_s = tables.scenarios()[scenario]
    real = tables.replay(durations_s, tables.N_ENGINES, actions)
    split = tables.static_split(durations_s, tables.N_ENGINES, actions)
    cells = cells_of(page)
    n = len(durations_s)
    assert cells["done"] == [f"{real.n_ended} of {n}", f"{split.n_done} of {n}"]
    assert cells["lost and done again"] == [str(real.n_rerun), "0"]
    assert cells["never done"] == ["0", str(n - split.n_done)]
    assert cells["over after"] == [f"{real.finish_s:.1f} s", f"{split.finish_s:.1f} s"]
    busy_s = sum(max(0.0, bar.end_s - bar.start_s) for bar in real.bars)
    idle = 100 * (1 - busy_s / real.engine_s)
    assert float(cells["engines idle"][0].split()[0]) == pytest.approx(idle, abs=0.5)
    bars = panel_of(page, "scheduler").locator("svg rect:is(.work, .again, .lost)").count()
    drawn = [bar for bar in (*real.bars, *split.bars) if bar.end_s > bar.start_s]
    assert bars == len(drawn) + 3  # and in the legend


def test_engines_are_added_and_killed_by_keyboard(page: Any) -> None:
    panel = panel_of(page, "scheduler")

    def press(name: str) -> None:
        panel.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press("Enter")

    check_the_scheduler(page, "uneven", [])
    move(page, "scheduler", "moment", 4.0)
    press("Kill engine 1")
    move(page, "scheduler", "moment", 6.0)
    press("Add an engine")
    actions = [tables.Action(4.0, "kill", 1), tables.Action(6.0, "add")]
    check_the_scheduler(page, "uneven", actions)
    # Who is dead cannot die again.
    press("Kill engine 1")
    check_the_scheduler(page, "uneven", actions)
    move(page, "scheduler", "moment", 8.5)
    press("Kill engine 4")
    check_the_scheduler(page, "uneven", [*actions, tables.Action(8.5, "kill", 4)])
    press("Take back")
    check_the_scheduler(page, "uneven", actions)
    # What is done at an earlier moment takes back what was done later.
    move(page, "scheduler", "moment", 5.0)
    press("Kill engine 2")
    check_the_scheduler(page, "uneven", [actions[0], tables.Action(5.0, "kill", 2)])

    panel.locator("input:checked").focus()
    for scenario in ("alike", "short"):
        page.keyboard.press("ArrowRight")
        check_the_scheduler(page, scenario, [])
    move(page, "scheduler", "moment", 1.0)
    for engine in range(4):
        press(f"Kill engine {engine}")
    assert "Nobody is left" in panel.locator(".explorable-summary").inner_text()
    move(page, "scheduler", "moment", 2.0)
    press("Add an engine")
    deaths = [tables.Action(1.0, "kill", engine) for engine in range(4)]
    check_the_scheduler(page, "short", [*deaths, tables.Action(2.0, "add")])
    press("Start over")
    check_the_scheduler(page, "short", [])


def test_a_search_is_played_to_its_end(page: Any) -> None:
    panel = panel_of(page, "scheduler")
    moment = panel.get_by_label("moment", exact=True)
    before = float(moment.input_value())
    panel.get_by_role("button", name="Play", exact=True).press("Enter")
    page.wait_for_timeout(700)
    assert panel.get_by_role("button", name="Pause", exact=True).count() == 1
    assert float(moment.input_value()) > before
    moment.press("End")  # it may be moved meanwhile
    panel.get_by_role("button", name="Play", exact=True).wait_for(timeout=5000)
    told = panel.locator(".explorable-summary").inner_text()
    assert "100 of 100 evaluations are done with the queue" in told
    assert panel.locator(".explorable-summary").get_attribute("aria-live") == "polite"
    # From its end it is played once more, from the beginning.
    panel.get_by_role("button", name="Play", exact=True).press("Enter")
    page.wait_for_timeout(700)
    assert 0 < float(moment.input_value()) < float(moment.get_attribute("max"))


@pytest.mark.parametrize("name", NAMES)
def test_every_control_has_a_name_and_is_reached_by_tab(page: Any, name: str) -> None:
    panel = panel_of(page, name)
    controls = panel.locator("input:not([type=radio]), input:checked, button:visible")
    n_controls = controls.count()
    controls.first.focus()
    reached = 1
    for _ in range(n_controls + 3):
        page.keyboard.press("Tab")
        reached += page.evaluate(
            "name => !!document.activeElement.closest(`.explorable-${name} .explorable-panel`)",
            name,
        )
    assert reached == n_controls
    for control in panel.locator("input, button:visible").all():
        assert control.evaluate("c => (c.labels?.[0] ?? c).textContent.trim()")
    controls.first.focus()
    page.keyboard.press("ArrowRight")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


@pytest.mark.parametrize("name", NAMES)
def test_the_still_picture_is_there_on_paper_and_without_scripts(
    browser: Any, site: Path, page: Any, name: str
) -> None:
    still = page.locator(f"figure.explorable-{name} img")
    panel = panel_of(page, name)
    assert panel.is_visible()
    assert not still.is_visible()
    page.emulate_media(media="print")
    assert still.is_visible()
    assert not panel.is_visible()

    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / "html" / "index.html").as_uri(), wait_until="load")
    assert plain.locator(f"figure.explorable-{name} img").is_visible()
    assert plain.locator(".explorable-panel").count() == 0
    context.close()


def test_nothing_is_wider_than_a_small_telephone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    move(page, "ring", "folds, k", 10)
    move(page, "copies", "hosts", 8)
    move(page, "copies", "workers on each host", 64)
    move(page, "copies", "the data", 10)
    panel = panel_of(page, "scheduler")
    for _ in range(4):
        panel.get_by_role("button", name="Add an engine", exact=True).press("Enter")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    cut_off = page.evaluate(
        """() => [...document.querySelectorAll(".explorable-picture svg")].flatMap((svg) =>
            [...svg.querySelectorAll("text, rect")].filter((part) => {
                const box = part.getBBox();
                return box.x < -1 || box.x + box.width > svg.viewBox.baseVal.width + 1;
            }).map((part) => part.textContent || part.getAttribute("class")))"""
    )
    assert cut_off == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_the_sheet(page: Any, theme: str) -> None:
    """At least 4.5 to 1, as the Web Content Accessibility Guidelines ask for."""
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    page.wait_for_timeout(100)

    def luminance(color: str) -> float:
        parts = [int(each) / 255 for each in re.findall(r"\d+", color)[:3]]
        red, green, blue = (
            each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for name in NAMES:
        panel = panel_of(page, name)
        sheet = luminance(panel.evaluate("p => getComputedStyle(p).backgroundColor"))
        inks = [
            panel.locator(".explorable-summary").evaluate("p => getComputedStyle(p).color"),
            panel.locator("svg text").first.evaluate("t => getComputedStyle(t).fill"),
        ]
        for ink in map(luminance, inks):
            light, dark = max(ink, sheet), min(ink, sheet)
            assert (light + 0.05) / (dark + 0.05) >= 4.5

"""`make lab` opens JupyterLab with the labs, and with ipyparallel's panel of clusters."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bookpages import chromium
from helpers import require_system, wait_until

ROOT = Path(__file__).resolve().parent.parent
JUPYTER = ROOT / ".venv" / "bin" / "jupyter"

#: JupyterLab starts in 3 s on an idle machine.
START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """JupyterLab as `make lab` starts it, but without a browser, and with settings of its own."""
    tmp_path = tmp_path_factory.mktemp("jupyterlab")
    require_system(None if JUPYTER.exists() else f"there is no {JUPYTER}: run `make setup`")
    folders = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    more = ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(tmp_path / name) for name in (*folders, *more)}
    make = subprocess.run(
        ["make", "--no-print-directory", "-n", "lab"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    command = make.stdout.splitlines()[-1]
    assert "jupyter lab --notebook-dir labs" in command
    options = "--no-browser --allow-root --ServerApp.port=0"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            # The shell becomes JupyterLab, so that ending it ends that.
            ["bash", "-c", f"{command.replace(' .venv/', ' exec .venv/')} {options}"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        running: list[Path] = []

        def is_up() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
            running[:] = (tmp_path / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json")
            return bool(running) and bool(running[0].read_text(encoding="utf-8"))

        assert wait_until(is_up, START_TIMEOUT_S), (tmp_path / "log").read_text(encoding="utf-8")
        yield json.loads(running[0].read_text(encoding="utf-8"))
    finally:
        process.terminate()
        process.wait(60)


def test_jupyterlab_opens_with_the_labs_and_the_panel_of_clusters(server: dict[str, Any]) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * START_TIMEOUT_S)
        page.goto(f"{server['url']}lab?token={server['token']}")
        page.locator(".jp-DirListing-item", has_text="01-primer.ipynb").wait_for()
        page.locator('.jp-SideBar [data-id="ipp-cluster-launcher"]').click()
        panel = page.locator("#ipp-cluster-launcher")
        panel.wait_for()
        shown = panel.inner_text().upper()
        assert "CLUSTERS" in shown
        assert "NEW" in shown, "the button that starts one"
        page.close()


def test_jupyterlab_asks_nobody_whether_it_may_fetch_news(server: dict[str, Any]) -> None:
    setting = "lab/api/settings/@jupyterlab/apputils-extension:notification"
    with urllib.request.urlopen(f"{server['url']}{setting}?token={server['token']}") as answer:
        properties = json.load(answer)["schema"]["properties"]
    assert properties["fetchNews"]["default"] == "false"
    assert not properties["checkForUpdates"]["default"]

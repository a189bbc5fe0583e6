"""What the files around the package say agrees: versions, commands, links, licences, numbers."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from mutants import MUTANTS, Mutant
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mscourse import doctor

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]

# Brackets, so that this file does not name them itself.
FORBIDDEN = re.compile(
    r"(?<![\w.~-])/(?:wo[r]k|roo[t])/"
    r"|py[p]i\.org|python[h]osted\.org|registry\.npm[j]s\.org|deb\.deb[i]an\.org"
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["project"]
    return table


def direct_dependencies() -> list[Requirement]:
    extras = project()["optional-dependencies"].values()
    lines = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    return [each for each in map(Requirement, lines) if each.name != "mscourse"]


def pins() -> dict[str, Version]:
    lines = read("constraints.txt").splitlines()
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def code_of(document: str) -> list[str]:
    """Code of a Markdown text: its fenced blocks line by line, and its spans."""
    fence = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    lines = [line for block in fence.findall(document) for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", fence.sub("", document))
    return [*(line.partition(" #")[0].strip() for line in lines), *spans]


def listed() -> list[str]:
    """Which files belong to the repository, and are there; new ones too."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        reason = "This is not a clone: git cannot tell which files belong to the repository."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return [name for name in listing.stdout.split("\0") if (ROOT / name).is_file()]


def make_targets(code: list[str]) -> set[str]:
    words = [found for line in code for found in re.findall(r"\bmake((?: [a-z-]+)+)\b", line)]
    return {target for each in words for target in each.split()}


# -- versions ------------------------------------------------------------------------------------


def test_every_direct_dependency_is_pinned_inside_its_range() -> None:
    pinned = pins()
    requirements = {canonicalize_name(each.name): each for each in direct_dependencies()}
    wrong = [
        f"{requirement}, but the pin is {pinned.get(name)}"
        for name, requirement in requirements.items()
        if name not in pinned or pinned[name] not in requirement.specifier
    ]
    assert not wrong
    assert len(requirements) > 20


def test_constraints_are_pins_each_package_once_in_the_order_of_the_alphabet() -> None:
    lines = read("constraints.txt").splitlines()
    assert lines == sorted(lines, key=str.upper)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.!+]*", line) for line in lines)
    assert len(pins()) == len(lines)


def test_conda_is_given_the_same_environment() -> None:
    environment = yaml.safe_load(read("environment.yml"))
    python, pip, from_pip = environment["dependencies"]
    assert python == f"python{project()['requires-python']}"
    assert pip == "pip"
    assert environment["channels"] == ["conda-forge"]
    # The same installation as in the Makefile.
    constraint, editable = from_pip["pip"]
    assert (ROOT / constraint.removeprefix("--constraint ")).is_file()
    assert constraint in read("Makefile")
    assert editable.replace(".[", "'.[") + "'" in read("Makefile")


def test_binder_is_given_what_the_labs_need() -> None:
    lines = [line for line in read("binder/requirements.txt").splitlines() if line[:1] != "#"]
    constraint, editable = lines
    named = ROOT / "binder" / constraint.removeprefix("--constraint ")
    assert named.samefile(ROOT / "constraints.txt")
    (extra,) = re.fullmatch(r"--editable \.\[(\w+)\]", editable).groups()
    assert extra in project()["optional-dependencies"]
    # `postBuild` ends with a doctor, and what that misses ends the build.
    assert "mscourse doctor" in read("binder/postBuild")
    own = project()["optional-dependencies"][extra]
    brought = {
        name for each in map(Requirement, own) if each.name == "mscourse" for name in each.extras
    }
    assert set(doctor._EXTRAS_OF_THE_COURSE) <= {extra, *brought}
    version = read("binder/runtime.txt").strip().removeprefix("python-")
    assert Version(version) in SpecifierSet(project()["requires-python"])
    assert os.access(ROOT / "binder" / "postBuild", os.X_OK)


def test_the_version_is_the_same_everywhere() -> None:
    version = project()["version"]
    assert metadata.version("mscourse") == version, "run `make setup` again"
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    releases = re.findall(r"^## \[([^]]+)\] - (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert releases[0][0] == version
    assert all(re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", date) for _, date in releases)


# -- licences ------------------------------------------------------------------------------------


def test_the_licences_are_the_same_everywhere() -> None:
    licences = project()["license"].split(" AND ")
    assert yaml.safe_load(read("CITATION.cff"))["license"] == licences
    assert re.findall(r"^SPDX-License-Identifier: (.+)$", read("LICENSE"), re.M) == licences
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in read("LICENSE")


def test_the_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["type"] in ("software", "dataset")
    assert all(author["name"] for author in citation["authors"])


# -- documents -----------------------------------------------------------------------------------


def test_the_example_of_the_readme_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", read("README.md"), re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", read("README.md"), re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown.endswith("...\n")
    assert done.stdout.startswith(shown.removesuffix("...\n"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_of_the_repository(document: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", read(document))
    assert links
    headings = re.findall(r"^#+ (.+)$", read(document), re.MULTILINE)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    inside = [link for link in links if "://" not in link]
    missing = [link for link in inside if link not in anchors and not (ROOT / link).exists()]
    assert not missing


def test_documented_commands_are_targets_of_make_and_all_targets_are_documented() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    documented = {target for name in DOCUMENTS for target in make_targets(code_of(read(name)))}
    assert documented <= targets
    assert targets - {"help"} <= documented  # `make` alone gives the help


def test_the_numbers_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report, workloads = import_module("report"), import_module("workloads")
    measured = json.loads(read("benchmarks/results.json")), workloads.workloads(quick=False)
    assert read("benchmarks/results.md") == report.as_markdown(*measured)
    assert f"by make bench -->\n{report.as_summary(*measured)}<!-- end -->" in read("README.md")


# -- the map -------------------------------------------------------------------------------------


def maps() -> list[str]:
    """The two maps of CONTRIBUTING.md: the folders, and the modules by layer, the highest first."""
    section = read("CONTRIBUTING.md").partition("## Where things are\n")[2].partition("\n## ")[0]
    folders, layers = re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [folders, layers]


def layers() -> dict[str, int]:
    """The layer of each module and each subpackage; foundations are 0."""
    rows = re.split(r"\n(?=\S)", maps()[1].rstrip())
    names = [re.split(r"\s{2,}", row)[1:] for row in rows]
    return {name.rstrip("/"): number for number, row in enumerate(reversed(names)) for name in row}


def test_the_map_names_every_folder_and_every_module() -> None:
    parts = {Path(name).parts for name in listed()}
    folders = {part[0] for part in parts if len(part) > 1} - {".github"}
    assert set(re.findall(r"^(\S+)/ ", maps()[0], re.MULTILINE)) == folders
    below_book = {part[1] for part in parts if part[0] == "book" and len(part) > 2}
    assert set(re.findall(r"^    (\S+)/ ", maps()[0], re.MULTILINE)) == below_book
    modules = {Path(part[1]).stem for part in parts if part[0] == "mscourse" and len(part) > 1}
    assert set(layers()) == modules - {"__init__", "py"}


def test_the_arrows_between_the_layers_of_the_map_point_down() -> None:
    layer, up = layers(), []
    for path in sorted((ROOT / "mscourse").rglob("*.py")):
        own = path.relative_to(ROOT / "mscourse").parts[0].removesuffix(".py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # not those in functions
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("mscourse"):
                continue
            _, _, below = str(node.module).partition(".")
            names = [below.partition(".")[0]] if below else [alias.name for alias in node.names]
            up += [
                f"{path.name}, line {node.lineno}: {name}"
                for name in names
                if layer.get(name, 0) > layer.get(own, 99)
            ]
    assert not up
    assert layer["cli"] > layer["search"] > layer["scheduler"] > layer["errors"] == 0


# -- automation ----------------------------------------------------------------------------------


def test_continuous_integration_runs_the_commands_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    (block,) = re.findall(r"^Two commands.*?```console\n(.*?)^```$", read("README.md"), re.M | re.S)
    commands = [line.removeprefix("$ ").partition("#")[0].strip() for line in block.splitlines()]
    steps = re.findall(r"^step (make .*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(commands) <= set(steps)
    assert steps[-1] == "make test"  # whoever reads the log finds its closing line at the end


def test_what_a_change_does_not_run_is_run_at_night() -> None:
    jobs = [(ROOT / ".ci" / name).read_text(encoding="utf-8") for name in ("run", "nightly")]
    marks = [re.findall(r"""PYTEST_ADDOPTS="-m '?([a-z ]+)""", job) for job in jobs]
    assert marks == [["not long"], ["long"]]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.says.replace(" ", "-"))
def test_each_mutant_breaks_a_line_that_is_there(mutant: Mutant) -> None:
    text = read(f"mscourse/{mutant.module}.py")
    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))


def test_hooks_are_local_and_their_tools_are_installed() -> None:
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        tool = Path(hook["entry"].split()[0])
        assert tool.parent == Path(".venv/bin")
        assert (Path(sys.executable).parent / tool.name).exists()


def test_no_file_names_a_machine_or_a_registry() -> None:
    names = listed()
    assert "README.md" in names
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in names
        for number, line in enumerate((ROOT / name).read_bytes().splitlines(), start=1)
        for line in [line.decode(errors="replace")]
        if FORBIDDEN.search(line)
    ]
    assert not found

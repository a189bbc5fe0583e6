"""Build the pages with the newest plain Sphinx, without Jupyter Book and without running a cell.

::

    make plain-sphinx

Jupyter Book 1 keeps the book on an old Sphinx. This shows that the sources do not need it: should
it be given up one day, they are built by what it is made of. Run by hand, and before a new version
of Jupyter Book is taken: the environment that it needs takes a minute or two to make.

What is installed is the newest that there is, on purpose. The pages go to a temporary folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
FOLDER = ROOT / ".venv" / "plain-sphinx"

PACKAGES = [
    "sphinx>=9",
    "myst-nb",
    "numpydoc",
    "sphinx-book-theme",
    "sphinx-copybutton",
    "sphinx-design",
    "sphinx-exercise",
    "sphinx-external-toc",
    "sphinx-mathjax-offline==0.0.2",
    "sphinx-multitoc-numbering",
    "sphinx-togglebutton",
    # For the reference, which imports the package.
    "--editable",
    f"{ROOT}[cluster,data,notebook]",
]

OF_JUPYTER_BOOK = {"jupyter_book", "sphinx_comments", "sphinx_jupyterbook_latex", "sphinx_thebe"}


def main() -> int:
    """Make the environment if need be, build, and return the exit status."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / ".installed").exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--no-compile", "--quiet"]
        pip += ["--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        (FOLDER / ".installed").touch()
    with tempfile.TemporaryDirectory(prefix="mscourse-plain-") as folder:
        lines = [f"{name} = {value!r}" for name, value in settings().items()]
        lines = ["import sys", f"sys.path.append({str(BOOK / '_ext')!r})", *lines]
        (Path(folder) / "conf.py").write_text("\n".join(lines), encoding="utf-8")
        command = [python, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-c", folder, BOOK]
        status = subprocess.run([*command, Path(folder) / "built" / "html"], check=False).returncode
        n_pages = len(list((Path(folder) / "built" / "html").glob("**/*.html")))
    sys.stdout.write(f"Plain Sphinx wrote {n_pages} pages; its exit status is {status}.\n")
    return status


def settings() -> dict[str, Any]:
    """Give what Jupyter Book makes of _config.yml for Sphinx, less what is its own."""
    from jupyter_book.config import get_final_config

    config, _ = get_final_config(
        user_yaml=BOOK / "_config.yml", cli_config={"latex_individualpages": False}, sourcedir=BOOK
    )
    config["extensions"] = [each for each in config["extensions"] if each not in OF_JUPYTER_BOOK]
    for name in ("html_logo", "html_favicon"):
        config[name] = str(BOOK / config[name])
    config["html_static_path"] = [str(BOOK / each) for each in config["html_static_path"]]
    config["nb_execution_mode"] = "off"
    # The kernel, when it runs, says that it is IPython's Python, which has `!` and `%`.
    config["suppress_warnings"] = [*config["suppress_warnings"], "misc.highlighting_failure"]
    for name in ("use_jupyterbook_latex", "use_multitoc_numbering", "comments_config"):
        config.pop(name, None)
    return config


if __name__ == "__main__":
    sys.exit(main())
